/* penstock-fsck: checks a volume store that nobody has open. It takes a shared lock on the disk and never writes. */
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blockdev/volume/check.h"
#include "host/linux/linux.h"
#include "reactor/reactor.h"

#define WINDOW_BYTES 65536u /* read at once: pages of a node lie together */
#define LIMIT_DEFAULT 20

enum { EXIT_CLEAN = 0, EXIT_PROBLEMS = 4, EXIT_FAILED = 8 }; /* as fsck(8) has them */

struct fsck {
    const char *path;
    unsigned limit;
    bool quiet;
    uint64_t wait_ms;
    struct host *host;
    struct reactor *reactor;
    struct host_file_open open;
    struct host_file_request request;
    struct slice slice;
    uint8_t *window;
    uint64_t window_at, window_length;
};

const char *argp_program_version = "penstock-fsck " PENSTOCK_VERSION;

static const struct argp_option option_table[] = {
    {"limit", 'l', "N", 0, "Describe at most N problems (default 20); all are counted", 0},
    {"quiet", 'q', NULL, 0, "Say nothing, only the exit status", 0},
    {"wait", 'w', "MS", 0, "Wait so long for whoever holds the disk (default 0)", 0},
    {0},
};

static error_t parse(int key, char *value, struct argp_state *state) {
    struct fsck *fsck = state->input;
    uint64_t number;
    switch (key) {
    case 'l':
    case 'w':
        if (!text_parse_u64(value, UINT32_MAX, &number))
            argp_error(state, "%s is not a number", value);
        if (key == 'l')
            fsck->limit = (unsigned)number;
        else
            fsck->wait_ms = number;
        return 0;
    case 'q': fsck->quiet = true; return 0;
    case ARGP_KEY_ARG:
        if (fsck->path != NULL)
            argp_error(state, "one disk at a time");
        fsck->path = value;
        return 0;
    case ARGP_KEY_NO_ARGS: argp_error(state, "which disk?"); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static void opened(struct host_file_open *open) { host_loop_stop(container_of(open, struct fsck, open)->reactor->loop); }
static void read_done(struct host_file_request *request) {
    host_loop_stop(container_of(request, struct fsck, request)->reactor->loop);
}

/* The loop turns on this thread until the one request is done. */
static bool read_window(struct fsck *fsck, uint64_t offset, uint64_t length) {
    fsck->window_length = 0;
    fsck->slice = (struct slice){fsck->window, length};
    fsck->request = (struct host_file_request){.file = fsck->open.file,
                                               .op = HOST_FILE_READ,
                                               .slices = &fsck->slice,
                                               .slice_count = 1,
                                               .offset = offset,
                                               .length = length,
                                               .complete = read_done};
    host_file_submit(fsck->reactor->loop, &fsck->request);
    host_linux_loop_run(fsck->reactor->loop);
    if (fsck->request.result != (int64_t)length)
        return false;
    fsck->window_at = offset;
    fsck->window_length = length;
    return true;
}

static bool read_disk(void *arg, uint64_t offset, void *to, size_t length) {
    struct fsck *fsck = arg;
    for (size_t done = 0; done < length;) {
        uint64_t at = offset + done;
        if (at < fsck->window_at || at >= fsck->window_at + fsck->window_length) {
            uint64_t first = round_down(at, WINDOW_BYTES);
            /* a window with a bad sector in it still gives its good ones */
            if (!read_window(fsck, first, min_u64(WINDOW_BYTES, fsck->open.facts.size - first)) &&
                !read_window(fsck, at, min_u64(4096, length - done)))
                return false;
        }
        size_t n = (size_t)min_u64(length - done, fsck->window_at + fsck->window_length - at);
        memcpy((uint8_t *)to + done, fsck->window + (at - fsck->window_at), n);
        done += n;
    }
    return true;
}

static int report(const struct fsck *fsck, const struct volume_check *check) {
    if (fsck->quiet)
        return check->problems == 0 ? EXIT_CLEAN : EXIT_PROBLEMS;
    if (check->report.bytes != NULL)
        fputs(check->report.bytes, stdout);
    char data[24], nodes[24], free_space[24];
    text_format_size(check->data_clusters * 65536, data, sizeof(data));
    text_format_size(check->node_clusters * 65536, nodes, sizeof(nodes));
    text_format_size(check->free_clusters * 65536, free_space, sizeof(free_space));
    printf("%s: %s: %llu volumes and snapshots, %s of data, %s of maps, %s free; %s, %llu records replayed\n", fsck->path,
           check->name, (unsigned long long)check->volumes, data, nodes, free_space,
           check->clean_close ? "closed cleanly" : "not closed", (unsigned long long)check->records);
    printf("%s: %s (%u problems)\n", fsck->path, check->problems == 0 ? "clean" : "DAMAGED", check->problems);
    return check->problems == 0 ? EXIT_CLEAN : EXIT_PROBLEMS;
}

static int run(struct fsck *fsck) {
    fsck->open = (struct host_file_open){
        .path = fsck->path, .options = {.read_only = true, .hold = true, .hold_timeout_ms = fsck->wait_ms}, .done = opened};
    host_file_open_submit(fsck->reactor->loop, &fsck->open);
    host_linux_loop_run(fsck->reactor->loop);
    if (!fsck->open.ok) {
        fprintf(stderr, "penstock-fsck: %s\n", fsck->open.error.text);
        return EXIT_FAILED;
    }
    struct volume_check check = {.read = read_disk, .arg = fsck, .size = fsck->open.facts.size, .limit = fsck->limit};
    struct error error;
    int status = EXIT_FAILED;
    if (volume_check_run(&check, &error))
        status = report(fsck, &check);
    else
        fprintf(stderr, "penstock-fsck: %s: %s\n", fsck->path, error.text);
    text_fini(&check.report);
    host_file_close(fsck->open.file);
    return status;
}

int main(int argc, char **argv) {
    struct fsck fsck = {.limit = LIMIT_DEFAULT};
    const struct argp argp = {.options = option_table,
                              .parser = parse,
                              .args_doc = "DISK",
                              .doc = "Checks a volume store on a file or block device that nobody has open. Reads only.\v"
                                     "Exit status: 0 clean, 4 problems were found, 8 it could not be checked."};
    argp_parse(&argp, argc, argv, 0, NULL, &fsck);
    struct host_linux_options options = {.log = NULL};
    if (host_linux_create(&options, &fsck.host) != 0)
        return EXIT_FAILED;
    struct reactor_options reactor = {.name = "fsck", .cpu = -1, .poll_mode = HOST_POLL_NEVER};
    int status = EXIT_FAILED;
    fsck.window = aligned_alloc(4096, WINDOW_BYTES);
    if (fsck.window != NULL && reactor_create(fsck.host, &reactor, &fsck.reactor) == 0) {
        status = run(&fsck);
        reactor_destroy(fsck.reactor);
    }
    free(fsck.window);
    host_linux_destroy(fsck.host);
    return status;
}
