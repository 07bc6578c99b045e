/* penstock-bench: measures a device in this process, or an NVMe/TCP target; copies files to and from devices.
 *
 * The main thread parses and waits. A control reactor makes the device and starts one job on each data reactor; when all have
 * ended it adds their figures and stops itself. */
#include <argp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "host/linux/linux.h"
#include "load/copy.h"
#include "programs/penstock-bench/report.h"
#include "programs/penstock-bench/target.h"

#define JOBS_MAX 64

enum {
    OPTION_TRIM = 256,
    OPTION_FUA,
    OPTION_FLUSH_EVERY,
    OPTION_VERIFY,
    OPTION_SEED,
    OPTION_OFFSET,
    OPTION_FROM,
    OPTION_TO,
    OPTION_POLL,
    OPTION_LENGTH,
    OPTION_SECTOR,
    OPTION_FILL
};

enum { TELL_CRASH, TELL_PART, TELL_HALT, TELLS }; /* what signals tell the jobs */

struct job {
    struct bench *bench;
    struct reactor *reactor;
    struct block_channel *channel;
    struct load *load;
    struct load_options options;
    struct load_copy_result copy_result;
    struct host_file_open open;
    struct reactor_message start, ended;
    struct {
        struct reactor_message message;
        atomic_bool posted; /* it is on its way, once */
    } tell[TELLS];
    bool failed;
    struct error error;
    struct host_loop_stats before, measured; /* around the part that is measured */
    bool filling, reading_back;
};

struct bench {
    /* from the command line */
    const char *spec, *pattern, *from, *to;
    struct load_options load;
    unsigned jobs, mixed_percent;
    bool mixed; /* the pattern reads and writes */
    int cpu;
    uint32_t sector;
    uint64_t length;
    enum host_poll_mode poll_mode;
    bool json, read_back, fill;
    /* while it runs */
    struct host *host;
    struct reactor *control;
    struct block_graph graph;
    struct target target;
    struct block_handle handle;
    struct job job[JOBS_MAX];
    unsigned running;
    bool failed;
    struct error error;
};

static const struct argp_option option_table[] = {
    {"pattern", 'p', "PATTERN", 0, "read, write, rw, randread, randwrite, randrw, trim, randtrim (default randread)", 1},
    {"read-percent", 'm', "N", 0, "Share of reads of rw and randrw (default 50)", 1},
    {"block-size", 'b', "BYTES", 0, "Bytes a request (default 4K)", 1},
    {"depth", 'd', "N", 0, "Requests under way, a job (default 32)", 1},
    {"jobs", 'j', "N", 0, "Reactors that submit (default 1)", 1},
    {"time", 't', "SECONDS", 0, "How long (default 3)", 1},
    {"requests", 'n', "N", 0, "Stop after so many, a job", 1},
    {"offset", OPTION_OFFSET, "BYTES", 0, "Where on the device the work, or the copy, begins", 1},
    {"length", OPTION_LENGTH, "BYTES", 0, "How much of the device is used; with --to: how much is read", 1},
    {"flush-every", OPTION_FLUSH_EVERY, "N", 0, "A flush after each N writes", 1},
    {"fua", OPTION_FUA, NULL, 0, "Each write is durable by itself", 1},
    {"fill", OPTION_FILL, NULL, 0, "Write all of it once first, unmeasured", 1},
    {"verify", OPTION_VERIFY, NULL, 0,
     "Write stamped blocks, check every read, and read all back at the end. After SIGUSR1 (the target was "
     "killed) unflushed writes may be missing. SIGUSR2 begins another part, whose stalls are told apart; SIGINT ends it early",
     2},
    {"seed", OPTION_SEED, "N", 0, "Of the random choices (default 1)", 2},
    {"from", OPTION_FROM, "FILE", 0, "Copy FILE to the device, and flush", 3},
    {"to", OPTION_TO, "FILE", 0, "Copy --length bytes of the device to FILE", 3},
    {"sector", OPTION_SECTOR, "BYTES", 0, "Block size of a device made here (default 512)", 4},
    {"poll", OPTION_POLL, "MODE", 0, "adaptive, always or never (default adaptive)", 4},
    {"cpu", 'c', "N", 0, "Pin the first job to core N, the next to N+1 …", 4},
    {"output", 'o', "FORMAT", 0, "text or json", 4},
    {0},
};

static uint64_t number(struct argp_state *state, const char *name, const char *arg, uint64_t min, uint64_t max) {
    uint64_t value;
    if (!text_parse_size(arg, &value) || value < min || value > max)
        argp_error(state, "%s is %s: expected a number from %llu to %llu", name, arg, (unsigned long long)min,
                   (unsigned long long)max);
    return value;
}

static void parse_pattern(struct argp_state *state, struct bench *bench, const char *arg) {
    static const struct {
        const char *name;
        bool random, trim;
        int read_percent; /* -1: as --read-percent says */
    } patterns[] = {{"read", false, false, 100},    {"write", false, false, 0},    {"rw", false, false, -1},
                    {"randread", true, false, 100}, {"randwrite", true, false, 0}, {"randrw", true, false, -1},
                    {"trim", false, true, 0},       {"randtrim", true, true, 0}};
    for (size_t i = 0; i < array_count(patterns); i++)
        if (strcmp(arg, patterns[i].name) == 0) {
            bench->pattern = patterns[i].name;
            bench->load.random = patterns[i].random;
            bench->load.trim = patterns[i].trim;
            bench->mixed = patterns[i].read_percent < 0;
            bench->load.read_percent = bench->mixed ? 0 : (unsigned)patterns[i].read_percent;
            return;
        }
    argp_error(state, "pattern is %s: expected read, write, rw, randread, randwrite, randrw, trim or randtrim", arg);
}

static error_t parse(int key, char *arg, struct argp_state *state) {
    struct bench *bench = state->input;
    char *end;
    double seconds;
    switch (key) {
    case 'p': parse_pattern(state, bench, arg); break;
    case 'm': bench->mixed_percent = (unsigned)number(state, "read-percent", arg, 0, 100); break;
    case 'b': bench->load.request_bytes = (uint32_t)number(state, "block-size", arg, 512, BUFFER_SIZE_MAX); break;
    case 'd': bench->load.depth = (unsigned)number(state, "depth", arg, 1, LOAD_DEPTH_MAX); break;
    case 'j': bench->jobs = (unsigned)number(state, "jobs", arg, 1, JOBS_MAX); break;
    case 't':
        seconds = strtod(arg, &end);
        if (end == arg || *end != '\0' || !(seconds > 0 && seconds < 1e6))
            argp_error(state, "time is %s: expected seconds above 0", arg);
        bench->load.duration_ns = (uint64_t)(seconds * 1e9);
        break;
    case 'n':
        bench->load.request_limit = number(state, "requests", arg, 1, UINT64_MAX);
        bench->load.duration_ns = 0;
        break;
    case 'c': bench->cpu = (int)number(state, "cpu", arg, 0, 4095); break;
    case 'o':
        if (strcmp(arg, "json") != 0 && strcmp(arg, "text") != 0)
            argp_error(state, "output is %s: expected text or json", arg);
        bench->json = strcmp(arg, "json") == 0;
        break;
    case OPTION_OFFSET: bench->load.region_offset = number(state, "offset", arg, 0, UINT64_MAX); break;
    case OPTION_LENGTH: bench->length = number(state, "length", arg, 1, UINT64_MAX); break;
    case OPTION_FLUSH_EVERY: bench->load.flush_every = (unsigned)number(state, "flush-every", arg, 1, UINT32_MAX); break;
    case OPTION_FUA: bench->load.fua = true; break;
    case OPTION_VERIFY: bench->load.verify = bench->read_back = true; break;
    case OPTION_FILL: bench->fill = true; break;
    case OPTION_SEED: bench->load.seed = number(state, "seed", arg, 0, UINT64_MAX); break;
    case OPTION_FROM: bench->from = arg; break;
    case OPTION_TO: bench->to = arg; break;
    case OPTION_SECTOR: bench->sector = (uint32_t)number(state, "sector", arg, 512, KIB(64)); break;
    case OPTION_POLL:
        if (!host_linux_poll_mode_parse(arg, &bench->poll_mode))
            argp_error(state, "poll is %s: expected adaptive, always or never", arg);
        break;
    case ARGP_KEY_ARG:
        if (bench->spec != NULL)
            argp_error(state, "one DEVICE only, got %s too", arg);
        bench->spec = arg;
        break;
    case ARGP_KEY_END:
        if (bench->spec == NULL)
            argp_error(state, "no DEVICE");
        if (bench->mixed)
            bench->load.read_percent = bench->mixed_percent;
        if (bench->from != NULL && bench->to != NULL)
            argp_error(state, "--from and --to exclude each other");
        if (bench->to != NULL && bench->length == 0)
            argp_error(state, "--to needs --length");
        if (bench->from == NULL && bench->to == NULL)
            bench->load.region_bytes = bench->length;
        break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* ---- on the control reactor ---- */

static void target_closed(struct target *target) {
    struct bench *bench = target->arg;
    host_loop_stop(bench->control->loop);
}

static void stop(struct bench *bench) {
    if (bench->handle.device != NULL)
        block_handle_close(&bench->handle);
    target_close(&bench->target, target_closed);
}

static void fail(struct bench *bench, const struct error *error) {
    if (!bench->failed)
        bench->error = *error;
    bench->failed = true;
}

static void job_ended(struct reactor_message *message) {
    struct job *job = container_of(message, struct job, ended);
    struct bench *bench = job->bench;
    if (job->failed)
        fail(bench, &job->error);
    if (--bench->running == 0)
        stop(bench);
}

/* ---- on a job's reactor ---- */

static void job_end(struct job *job) {
    if (!job->reading_back)
        host_loop_stats(job->reactor->loop, &job->measured);
    if (job->channel != NULL)
        block_channel_close(job->channel);
    job->channel = NULL;
    reactor_post(job->bench->control, &job->ended);
}

static void job_fail(struct job *job, const struct error *error) {
    job->failed = true;
    job->error = *error;
    job_end(job);
}

static void copy_done(void *arg, const struct load_copy_result *result) {
    struct job *job = arg;
    job->copy_result = *result;
    host_file_close(job->open.file);
    if (result->ok)
        job_end(job);
    else
        job_fail(job, &result->error);
}

static void copy_file_opened(struct host_file_open *open) {
    struct job *job = container_of(open, struct job, open);
    struct bench *bench = job->bench;
    if (!open->ok) {
        job_fail(job, &open->error);
        return;
    }
    uint64_t bytes =
        bench->from != NULL ? min_u64(open->facts.size, bench->length != 0 ? bench->length : UINT64_MAX) : bench->length;
    if (!load_copy_start(job->channel, open->file, bench->from != NULL, bench->load.region_offset, bytes, copy_done, job,
                         &job->error)) {
        host_file_close(open->file);
        job_fail(job, &job->error);
    }
}

static void load_done(struct load *load, void *arg) {
    struct job *job = arg;
    if (job->filling) {
        job->filling = false;
        host_loop_stats(job->reactor->loop, &job->before);
        load_start(load, &job->options);
        return;
    }
    if (job->bench->read_back && !job->reading_back) {
        job->reading_back = true;
        host_loop_stats(job->reactor->loop, &job->measured);
        load_start_read_back(load);
        return;
    }
    job_end(job);
}

static void job_start(struct reactor_message *message) {
    struct job *job = container_of(message, struct job, start);
    struct bench *bench = job->bench;
    struct error error;
    job->channel = block_channel_open(&bench->handle);
    if (job->channel == NULL) {
        error_set(&error, ERROR_NO_MEMORY, "no memory for a channel");
        job_fail(job, &error);
        return;
    }
    host_loop_stats(job->reactor->loop, &job->before);
    if (bench->from != NULL || bench->to != NULL) {
        job->open = (struct host_file_open){.path = bench->from != NULL ? bench->from : bench->to,
                                            .options = {.read_only = bench->from != NULL, .create = bench->to != NULL},
                                            .done = copy_file_opened};
        host_file_open_submit(job->reactor->loop, &job->open);
        return;
    }
    if (!load_create(job->channel, &job->options, load_done, job, &job->load, &error)) {
        job_fail(job, &error);
        return;
    }
    struct load_options options = job->options;
    job->filling = bench->fill;
    if (job->filling) {
        options.random = options.trim = false;
        options.read_percent = options.flush_every = 0;
        options.duration_ns = 0;
        options.request_limit = divide_up(
            options.region_bytes != 0 ? options.region_bytes : block_device_size(bench->target.device) - options.region_offset,
            options.request_bytes);
    }
    load_start(job->load, &options);
}

static void job_part(struct reactor_message *message) {
    struct job *job = container_of(message, struct job, tell[TELL_PART].message);
    atomic_store(&job->tell[TELL_PART].posted, false);
    if (job->load != NULL)
        load_begin_part(job->load);
}

static void job_crash(struct reactor_message *message) {
    struct job *job = container_of(message, struct job, tell[TELL_CRASH].message);
    atomic_store(&job->tell[TELL_CRASH].posted, false);
    if (job->load != NULL)
        load_expect_crash(job->load);
}

/* Never given back: who interrupts twice means it, be it that what was written is still read back. */
static void job_halt(struct reactor_message *message) {
    struct job *job = container_of(message, struct job, tell[TELL_HALT].message);
    if (job->load == NULL || job->filling)
        _Exit(128 + SIGINT);
    if (!job->reading_back)
        load_stop(job->load);
}

/* ---- assembling ---- */

static void target_opened(struct target *target, bool ok, const struct error *error) {
    struct bench *bench = target->arg;
    struct error own;
    if (!ok) {
        fail(bench, error);
        stop(bench);
        return;
    }
    bool writes = bench->fill || bench->from != NULL || (bench->to == NULL && bench->load.read_percent < 100);
    bench->handle = (struct block_handle){.owner = "penstock-bench"};
    if (!block_handle_open(&bench->handle, target->device, writes ? BLOCK_MODE_WRITE : BLOCK_MODE_READ, &own)) {
        bench->handle.device = NULL;
        fail(bench, &own);
        stop(bench);
        return;
    }
    uint64_t size = block_device_size(target->device), start = bench->load.region_offset;
    uint64_t length = bench->load.region_bytes != 0 ? bench->load.region_bytes : size > start ? size - start : 0;
    bench->running = bench->jobs;
    for (unsigned i = 0; i < bench->jobs; i++) {
        struct job *job = &bench->job[i];
        job->options = bench->load;
        if (bench->jobs > 1) { /* verified jobs share no block; the others gain nothing by sharing */
            uint64_t share = round_down(length / bench->jobs, bench->load.request_bytes > 0 ? KIB(4) : 1);
            job->options.region_offset = start + i * share;
            job->options.region_bytes = share;
        }
        job->options.seed = bench->load.seed + i * 1000;
        job->start.run = job_start;
        job->ended.run = job_ended;
        reactor_post(job->reactor, &job->start);
    }
}

static void signalled(void *arg, int signal_number) {
    static void (*const runs[TELLS])(struct reactor_message *) = {
        [TELL_CRASH] = job_crash, [TELL_PART] = job_part, [TELL_HALT] = job_halt};
    struct bench *bench = arg;
    unsigned what = signal_number == SIGUSR1 ? TELL_CRASH : signal_number == SIGUSR2 ? TELL_PART : TELL_HALT;
    if (signal_number == SIGTERM)
        _Exit(128 + signal_number);
    for (unsigned i = 0; i < bench->jobs; i++) {
        struct job *job = &bench->job[i];
        if (!atomic_exchange(&job->tell[what].posted, true)) {
            job->tell[what].message.run = runs[what];
            reactor_post(job->reactor, &job->tell[what].message);
        } else if (what == TELL_HALT) {
            _Exit(128 + signal_number);
        }
    }
}

static void host_log(void *arg, const char *text) {
    (void)arg;
    fprintf(stderr, "penstock-bench: %s\n", text);
}

static void die(int result, const char *what) {
    fprintf(stderr, "penstock-bench: %s: %s\n", what, error_facts(error_from_errno(result))->errno_text);
    exit(EXIT_FAILURE);
}

static void assemble(struct bench *bench) {
    static const int signals[] = {SIGUSR1, SIGUSR2, SIGINT, SIGTERM, 0};
    struct host_linux_options host_options = {.signals = signals, .log = host_log};
    int result = host_linux_create(&host_options, &bench->host);
    if (result != 0)
        die(result, "starting");
    for (unsigned i = 0; i <= bench->jobs; i++) {
        bool control = i == bench->jobs;
        struct reactor_options options = {.name = control ? "control" : "job",
                                          .cpu = control || bench->cpu < 0 ? -1 : bench->cpu + (int)i,
                                          .poll_mode = control ? HOST_POLL_NEVER : bench->poll_mode,
                                          .index = i};
        result = reactor_create(bench->host, &options, control ? &bench->control : &bench->job[i].reactor);
        if (result != 0)
            die(result, control ? "making the control loop" : "making a loop (is the core there?)");
        if (!control)
            bench->job[i].bench = bench;
    }
    block_graph_init(&bench->graph, bench->host, bench->jobs + 1);
    result = host_linux_watch_signals(bench->control->loop, signalled, bench);
    if (result != 0)
        die(result, "watching for signals");
    for (unsigned i = 0; i < bench->jobs; i++)
        if ((result = reactor_start(bench->job[i].reactor)) != 0)
            die(result, "starting a loop");
    bench->target = (struct target){.graph = &bench->graph,
                                    .control = bench->control,
                                    .block_size = bench->sector,
                                    .data = bench->job[0].reactor,
                                    .done = target_opened,
                                    .arg = bench};
    reactor_enter(bench->control);
    target_open(&bench->target, bench->spec);
    reactor_enter(NULL);
    if ((result = reactor_start(bench->control)) != 0)
        die(result, "starting the control loop");
}

static int report(struct bench *bench) {
    if (bench->failed) {
        fprintf(stderr, "penstock-bench: %s\n", bench->error.text);
        if (bench->error.expected[0] != '\0' && bench->error.field[0] == '\0')
            fprintf(stderr, "  %s\n", bench->error.expected);
        return EXIT_FAILURE;
    }
    if (bench->from != NULL || bench->to != NULL) {
        const struct load_copy_result *copy = &bench->job[0].copy_result;
        char size[24], rate[24];
        double seconds = (double)copy->elapsed_ns / 1e9;
        printf("copied %s in %.3f s, %s/s\n", text_format_size(copy->bytes, size, sizeof(size)), seconds,
               text_format_size((uint64_t)((double)copy->bytes / (seconds > 0 ? seconds : 1e-9)), rate, sizeof(rate)));
        return EXIT_SUCCESS;
    }
    static struct report sum; /* large: histograms */
    sum = (struct report){.device = bench->spec,
                          .pattern = bench->pattern,
                          .request_bytes = bench->load.request_bytes,
                          .depth = bench->load.depth,
                          .jobs = bench->jobs,
                          .ticks_per_second = (double)bench->host->ticks_per_second};
    for (unsigned i = 0; i < bench->jobs; i++) {
        report_add(&sum, load_result(bench->job[i].load));
        sum.cpu_seconds += (double)(bench->job[i].measured.cpu_ns - bench->job[i].before.cpu_ns) / 1e9;
    }
    report_print(&sum, bench->json, stdout);
    return sum.sum.errors + sum.sum.mismatches > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv) {
    static struct bench bench = {
        .pattern = "randread",
        .mixed_percent = 50,
        .jobs = 1,
        .cpu = -1,
        .sector = 512,
        .load = {
            .random = true, .read_percent = 100, .request_bytes = 4096, .depth = 32, .duration_ns = 3 * NS_PER_S, .seed = 1}};
    static const struct argp argp = {
        option_table,
        parse,
        "DEVICE",
        "Measures a block device.\v" TARGET_HELP
        "\nSizes take K, M, G, T. The exit status is 1 if a request failed or a block was not as written.",
        NULL,
        NULL,
        NULL};
    argp_program_version = "penstock-bench " PENSTOCK_VERSION;
    argp_parse(&argp, argc, argv, 0, NULL, &bench);
    assemble(&bench);
    host_linux_loop_wait(bench.control->loop);
    int status = report(&bench);
    for (unsigned i = 0; i < bench.jobs; i++) {
        reactor_destroy(bench.job[i].reactor);
        if (bench.job[i].load != NULL)
            load_destroy(bench.job[i].load);
    }
    reactor_destroy(bench.control);
    block_graph_fini(&bench.graph);
    host_linux_destroy(bench.host);
    return status;
}
