/* penstock-packet: the packet plane. Parses options and assembles the parts; packet_rpc/packet_rpc.c is the plane. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "host/linux/linux.h"
#include "packet/dpdk/dpdk.h"
#include "packet/pcap/filter.h"
#include "packet_rpc/packet_rpc.h"

#define SOCKET_PATH_DEFAULT "/var/tmp/penstock-packet.sock"

static const char help[] =
    "Usage: penstock-packet [OPTION]…\n"
    "The packet plane: frames between network interfaces and virtual machines, ruled by JSON-RPC on a Unix socket.\n"
    "\n"
    "  -r, --rpc-socket PATH   socket of JSON-RPC, mode 0600 (default " SOCKET_PATH_DEFAULT ")\n"
    "  -w, --workers LIST      a worker for each core of the list (0,2), pinned to it; - is a worker that is not pinned\n"
    "                          (default: one, not pinned); none: only those of packet_vf_create\n"
    "      --cpu-map MAP       processors that stand for cores in masks, such as 1=0,2-7=0,8-15=1 (default: the same number)\n"
    "      --buffers COUNT     frames that can be on their way, 1024 to 1048576 (default 8192, 20 MiB)\n"
    "      --huge-dir DIR      memory of huge pages, of the hugetlbfs there (default: ordinary pages)\n"
    "  -d, --driver FILE       a driver of DPDK's, a shared object, to be loaded; may be given several times\n"
    "      --poll MODE         always: workers never sleep; never: they never spin; adaptive (default)\n"
    "  -h, --help              this text\n"
    "      --version           the version\n"
    "\n"
    "Try: penstock -s " SOCKET_PATH_DEFAULT " rpc packet_get_status. Manual: penstock-packet(8), penstock-rpc(7).\n";

struct options {
    const char *socket_path;
    int cpus[MODEL_WORKERS_MAX];
    unsigned cpu_count;
    struct cores_map cores;
    uint64_t buffers;
    struct dpdk_options dpdk;
    enum host_poll_mode poll_mode;
    bool exit_now;
    int exit_status;
};

static void wrong(struct options *options, const char *option, const char *value, const char *expected) {
    fprintf(stderr, "penstock-packet: %s %s: expected %s\n", option, value, expected);
    options->exit_now = true;
    options->exit_status = 64;
}

static bool parse_workers(const char *text, struct options *options) {
    unsigned count = 0;
    options->cpu_count = 0;
    if (strcmp(text, "none") == 0)
        return true;
    for (;; text++) {
        char word[8];
        size_t length = strcspn(text, ",");
        uint64_t cpu = 0;
        if (length == 0 || length >= sizeof(word) || count == MODEL_WORKERS_MAX)
            return false;
        snprintf(word, sizeof(word), "%.*s", (int)length, text);
        bool pinned = strcmp(word, "-") != 0;
        if (pinned && !text_parse_u64(word, 100000, &cpu))
            return false;
        options->cpus[count++] = pinned ? (int)cpu : -1;
        text += length;
        if (*text == '\0')
            break;
    }
    options->cpu_count = count;
    return true;
}

static void parse(struct options *options, int argc, char **argv) {
    enum { OPTION_POLL = 256, OPTION_BUFFERS, OPTION_CPU_MAP, OPTION_HUGE_DIR, OPTION_VERSION };
    static const struct option long_options[] = {
        {"rpc-socket", required_argument, NULL, 'r'},           {"workers", required_argument, NULL, 'w'},
        {"cpu-map", required_argument, NULL, OPTION_CPU_MAP},   {"buffers", required_argument, NULL, OPTION_BUFFERS},
        {"huge-dir", required_argument, NULL, OPTION_HUGE_DIR}, {"driver", required_argument, NULL, 'd'},
        {"poll", required_argument, NULL, OPTION_POLL},         {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, OPTION_VERSION},         {NULL, 0, NULL, 0}};
    *options =
        (struct options){.socket_path = SOCKET_PATH_DEFAULT, .cpus = {-1}, .cpu_count = 1, .buffers = DPDK_BUFFERS_DEFAULT};
    int c;
    while (!options->exit_now && (c = getopt_long(argc, argv, "r:w:d:h", long_options, NULL)) != -1) {
        switch (c) {
        case 'r': options->socket_path = optarg; break;
        case 'w':
            if (!parse_workers(optarg, options))
                wrong(options, "-w", optarg, "numbers of cores and -, with commas between them, at most 64; or none");
            break;
        case OPTION_CPU_MAP:
            if (!cores_parse_map(optarg, &options->cores))
                wrong(options, "--cpu-map", optarg, "cores (0 to 63) and their processors, such as 1=0,2-7=0,8-15=1, none twice");
            break;
        case OPTION_BUFFERS:
            if (!text_parse_u64(optarg, DPDK_BUFFERS_MAX, &options->buffers) || options->buffers < DPDK_BUFFERS_MIN)
                wrong(options, "--buffers", optarg, "1024 to 1048576");
            break;
        case OPTION_POLL:
            if (!host_linux_poll_mode_parse(optarg, &options->poll_mode))
                wrong(options, "--poll", optarg, "adaptive, always or never");
            break;
        case OPTION_HUGE_DIR: options->dpdk.huge_dir = optarg; break;
        case 'd':
            if (options->dpdk.driver_count == DPDK_DRIVERS_MAX)
                wrong(options, "-d", optarg, "at most 16 drivers");
            else
                options->dpdk.drivers[options->dpdk.driver_count++] = optarg;
            break;
        case 'h':
            fputs(help, stdout);
            options->exit_now = true;
            break;
        case OPTION_VERSION:
            printf("penstock-packet %s\n", PENSTOCK_VERSION);
            options->exit_now = true;
            break;
        default:
            fputs("Try penstock-packet --help\n", stderr);
            options->exit_now = true;
            options->exit_status = 64;
        }
    }
    if (!options->exit_now && optind < argc)
        wrong(options, "argument", argv[optind], "options only");
}

static void log_record(void *arg, const struct log_record *record) {
    (void)arg;
    char time[TEXT_TIME_SIZE];
    if (record->print)
        fprintf(stderr, "%s %s %s: %s\n", text_format_time(record->wall_ns, time, sizeof(time)), log_level_name(record->level),
                log_area_name(record->area), record->text);
}

static void signalled(void *arg, int number) {
    (void)number;
    packet_rpc_stop(arg);
}

static void prepare(void *arg, struct packet_rpc *rpc) {
    (void)arg;
    host_linux_watch_signals(rpc->control->loop, signalled, rpc);
}

static int run(struct host *host, struct packet_backend *backend, const struct options *options) {
    struct packet_rpc_options rpc_options = {.host = host,
                                             .socket_path = options->socket_path,
                                             .backend = backend,
                                             .buffers = dpdk_backend_buffers,
                                             .cpus = options->cpus,
                                             .cpu_count = options->cpu_count,
                                             .cores = &options->cores,
                                             .cpu_is_there = host_linux_has_cpu,
                                             .poll_mode = options->poll_mode,
                                             .version = PENSTOCK_VERSION,
                                             .pid = host_linux_process_id(),
                                             .log_write = log_record,
                                             .prepare = prepare};
    struct packet_rpc *rpc;
    struct error error;
    if (!packet_rpc_create(&rpc_options, &rpc, &error)) {
        fprintf(stderr, "penstock-packet: %s\n", error.text);
        return error_facts(error.code)->exit_status;
    }
    host_linux_notify("READY=1");
    host_linux_loop_wait(rpc->control->loop);
    packet_rpc_destroy(rpc);
    return 0;
}

int main(int argc, char **argv) {
    static const int signals[] = {SIGINT, SIGTERM, SIGQUIT, SIGHUP, 0};
    struct options options;
    struct packet_backend *backend;
    struct host *host;
    struct error error;
    parse(&options, argc, argv);
    if (options.exit_now)
        return options.exit_status;
    signal(SIGPIPE, SIG_IGN);
    int result = host_linux_create(&(struct host_linux_options){.signals = signals}, &host);
    if (result != 0) {
        fprintf(stderr, "penstock-packet: no host: %s\n", strerrordesc_np(-result));
        return 71;
    }
    result = host_linux_confine(true);
    if (result != 0)
        fprintf(stderr, "penstock-packet: goes on with more rights than it needs: %s\n", strerrordesc_np(-result));
    options.dpdk.program = "penstock-packet";
    options.dpdk.buffers = (uint32_t)options.buffers;
    if (!dpdk_backend_create(&options.dpdk, &backend, &error)) {
        fprintf(stderr, "penstock-packet: %s\n", error.text);
        return error_facts(error.code)->exit_status;
    }
    backend->compile_filter = pcap_capture_filter_create;
    int status = run(host, backend, &options);
    dpdk_backend_destroy(backend);
    host_linux_destroy(host);
    return status;
}
