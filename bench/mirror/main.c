/* Figures of the mirror's engine in one process. One line of JSON each.
 *
 *     mirror FIGURE [WORD…]
 *
 * Legs are texts as ground.h has them. */
#include "mirror/ground.h"

static const struct {
    const char *name;
    void (*run)(struct ground *ground);
    const char *words;
} figures[] = {
    {"load", figure_load, "LEGS LEG randread|randwrite DEPTH SECONDS REGION MARKED   (LEGS 0: the device without a mirror)"},
    {"marks", figure_marks, "LEGS LEG DEPTH SECONDS REGION MARKED ROUNDS   (MARKED 0: as by default)"},
    {"rebuild", figure_rebuild, "LEG FILLED LOAD-MS   (0: idle)"},
    {"outage", figure_outage, "LEG WRITTEN seq|random|nothing"},
    {"verify", figure_verify, "LEGS LEG FILLED"},
};

int main(int argc, char **argv) {
    static struct ground ground;
    struct host_linux_options options = {0};
    struct reactor_options reactor = {.name = "mirror", .cpu = -1, .poll_mode = HOST_POLL_ADAPTIVE};
    size_t i = 0;
    while (argc >= 2 && i < array_count(figures) && strcmp(figures[i].name, argv[1]) != 0)
        i++;
    if (argc < 2 || i == array_count(figures)) {
        fprintf(stderr, "usage: mirror FIGURE, of\n");
        for (i = 0; i < array_count(figures); i++)
            fprintf(stderr, "  %s %s\n", figures[i].name, figures[i].words);
        return EXIT_FAILURE;
    }
    if (host_linux_create(&options, &ground.host) != 0 || reactor_create(ground.host, &reactor, &ground.reactor) != 0)
        ground_die("no host");
    reactor_enter(ground.reactor);
    block_graph_init(&ground.graph, ground.host, 1);
    ground.words = argv + 2;
    figures[i].run(&ground);
    fflush(stdout);
    _Exit(0); /* everything is left as a killed process leaves it */
}
