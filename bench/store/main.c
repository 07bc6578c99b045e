/* Figures of the volume store that need more than one request at a time. One line of JSON each.
 *
 *     store DISK FIGURE [WORD…]
 *
 * DISK is a file, "memory:SIZE", or "sparse:SIZE": memory that keeps only what is not zero. What is there is overwritten, save by
 * those figures that go on with what another one left (`fill`, `reopen`). */
#include "store/bench.h"

#include <string.h>

enum start { ANEW, AGAIN, RAW };

static const struct {
    const char *name;
    enum start start; /* ANEW: a new store, open. AGAIN: the store that is there, not opened. RAW: formatted, not opened */
    void (*run)(struct bench *bench);
    const char *words;
} figures[] = {
    {"create", ANEW, figure_create, ""},
    {"snapshot", ANEW, figure_snapshot, ""},
    {"flood", RAW, figure_flood, "SECONDS CHECKPOINT"},
    {"flush", ANEW, figure_flush, ""},
    {"after", ANEW, figure_after, "SIZE"},
    {"chain", ANEW, figure_chain, "DEPTH REGION SECONDS ROUNDS"},
    {"space", ANEW, figure_space, "VOLUME WRITTEN"},
    {"trim", ANEW, figure_trim, "FRONT BACK"},
    {"image", RAW, figure_image, "VOLUMES CHAINS DEPTH LARGE MAPPED SIZE-PER-MAPPED"},
    {"fill", AGAIN, figure_fill, ""},
    {"reopen", AGAIN, figure_reopen, ""},
};

static void usage(void) {
    fprintf(stderr, "usage: store FILE|memory:SIZE|sparse:SIZE FIGURE, of\n");
    for (size_t i = 0; i < array_count(figures); i++)
        fprintf(stderr, "  %s %s\n", figures[i].name, figures[i].words);
    exit(EXIT_FAILURE);
}

int main(int argc, char **argv) {
    static struct bench bench;
    struct host_linux_options options = {0};
    struct reactor_options reactor = {.name = "store", .cpu = -1, .poll_mode = HOST_POLL_ADAPTIVE};
    size_t i = 0;
    while (argc >= 3 && i < array_count(figures) && strcmp(figures[i].name, argv[2]) != 0)
        i++;
    if (argc < 3 || i == array_count(figures))
        usage();
    if (host_linux_create(&options, &bench.host) != 0 || reactor_create(bench.host, &reactor, &bench.reactor) != 0)
        bench_die("no host");
    reactor_enter(bench.reactor);
    block_graph_init(&bench.graph, bench.host, 1);
    random_init(&bench.random, 1);
    for (unsigned f = 0; f < DEPTH_MAX; f++) {
        bench.flights[f].bench = &bench;
        bench.flights[f].buffer = aligned_alloc(4096, 4096);
        if (bench.flights[f].buffer == NULL)
            bench_die("no memory");
        memset(bench.flights[f].buffer, 0, 4096);
    }
    bench.words = argv + 3;
    bench_disk(&bench, argv[1]);
    if (figures[i].start != AGAIN)
        bench_format(&bench);
    if (figures[i].start == ANEW)
        bench_open(&bench);
    figures[i].run(&bench);
    fflush(stdout);
    _Exit(0); /* the store is left as a killed process leaves it */
}
