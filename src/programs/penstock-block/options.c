#include "programs/penstock-block/options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "host/linux/linux.h"

enum {
    OPTION_WAIT_FOR_RPC = 256,
    OPTION_POLL,
    OPTION_LOG_FILE,
    OPTION_LOG_FORMAT,
    OPTION_VERSION,
    OPTION_NO_EFFECT,
    OPTION_NO_EFFECT_VALUE
};

static const struct option long_options[] = {
    {"rpc-socket", required_argument, NULL, 'r'},
    {"cpumask", required_argument, NULL, 'm'},
    {"mem-size", required_argument, NULL, 's'},
    {"config", required_argument, NULL, 'c'},
    {"json", required_argument, NULL, 'c'},
    {"wait-for-rpc", no_argument, NULL, OPTION_WAIT_FOR_RPC},
    {"logflag", required_argument, NULL, 'L'},
    {"poll", required_argument, NULL, OPTION_POLL},
    {"log-file", required_argument, NULL, OPTION_LOG_FILE},
    {"log-format", required_argument, NULL, OPTION_LOG_FORMAT},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, OPTION_VERSION},
    /* the peer's, about huge pages, PCI and its own threads */
    {"no-huge", no_argument, NULL, OPTION_NO_EFFECT},
    {"no-pci", no_argument, NULL, OPTION_NO_EFFECT},
    {"single-file-segments", no_argument, NULL, OPTION_NO_EFFECT},
    {"huge-unlink", no_argument, NULL, OPTION_NO_EFFECT},
    {"limit-coredump", no_argument, NULL, OPTION_NO_EFFECT},
    {"silence-noticelog", no_argument, NULL, OPTION_NO_EFFECT},
    {"interrupt-mode", no_argument, NULL, OPTION_NO_EFFECT},
    {"disable-cpumask-locks", no_argument, NULL, OPTION_NO_EFFECT},
    {"main-core", required_argument, NULL, OPTION_NO_EFFECT_VALUE},
    {"shm-id", required_argument, NULL, OPTION_NO_EFFECT_VALUE},
    {"mem-channels", required_argument, NULL, OPTION_NO_EFFECT_VALUE},
    {"tpoint-group", required_argument, NULL, OPTION_NO_EFFECT_VALUE},
    {"huge-dir", required_argument, NULL, OPTION_NO_EFFECT_VALUE},
    {"iova-mode", required_argument, NULL, OPTION_NO_EFFECT_VALUE},
    {"base-virtaddr", required_argument, NULL, OPTION_NO_EFFECT_VALUE},
    {"env-context", required_argument, NULL, OPTION_NO_EFFECT_VALUE},
    {NULL, 0, NULL, 0},
};

static const char help[] =
    "Usage: penstock-block [OPTION]…\n"
    "The storage plane: thin, snapshotted volumes, served over NVMe/TCP, ruled by JSON-RPC on a Unix socket.\n"
    "\n"
    "  -r, --rpc-socket PATH   socket of JSON-RPC, mode 0600 (default " SOCKET_PATH_DEFAULT ")\n"
    "  -m, --cpumask MASK      cores of the data reactors, 0x5 or [0,2-3]; each is pinned to its core\n"
    "                          (default: one data reactor, not pinned)\n"
    "  -c, --json FILE         make the calls of a configuration file first (penstock rpc framework_get_config)\n"
    "      --wait-for-rpc      begin service with the call framework_start_init\n"
    "  -L, --logflag FLAG      set a log flag, or all: its messages of level INFO and DEBUG appear\n"
    "      --log-file FILE     write the log to FILE too, a JSON object a line\n"
    "      --log-format FORMAT text, json, journal (systemd's), or auto (default): the journal if standard error is it\n"
    "      --poll MODE         always: data reactors never sleep; never: they never spin; adaptive (default)\n"
    "  -s, --mem-size MB       understood, no effect: memory is taken as it is used\n"
    "  -h, --help              this text\n"
    "      --version           the version\n"
    "\n"
    "Options of the SPDK target about huge pages, PCI and shared memory are understood and have no effect.\n"
    "Try: penstock rpc rpc_get_methods. Manual: penstock-block(8), penstock-rpc(7).\n";

/* "7" or "2-5" up to a comma or the end; NULL if it is neither. */
static const char *parse_range(const char *text, unsigned *ret_first, unsigned *ret_last) {
    unsigned values[2] = {0, 0}, n = 0;
    for (;; text++) {
        if (*text < '0' || *text > '9')
            return NULL;
        while (*text >= '0' && *text <= '9' && values[n] < 100000)
            values[n] = values[n] * 10 + (unsigned)(*text++ - '0');
        if (*text != '-' || n == 1)
            break;
        n++;
    }
    *ret_first = values[0];
    *ret_last = n == 1 ? values[1] : values[0];
    return text;
}

static bool add_cpu(unsigned cpu, int cpus[PLANE_REACTORS_MAX], unsigned *count) {
    for (unsigned i = 0; i < *count; i++)
        if (cpus[i] == (int)cpu)
            return true;
    if (*count == PLANE_REACTORS_MAX)
        return false;
    cpus[(*count)++] = (int)cpu;
    return true;
}

static bool parse_list(const char *text, int cpus[PLANE_REACTORS_MAX], unsigned *count) {
    unsigned first, last;
    do {
        text = parse_range(text + 1, &first, &last);
        if (text == NULL || last < first || last >= 100000)
            return false;
        for (unsigned cpu = first; cpu <= last; cpu++)
            if (!add_cpu(cpu, cpus, count))
                return false;
    } while (*text == ',');
    return text[0] == ']' && text[1] == '\0';
}

/* Hexadecimal, with or without 0x, of any length. */
static bool parse_mask(const char *text, int cpus[PLANE_REACTORS_MAX], unsigned *count) {
    static const char digits[] = "0123456789abcdef";
    if (text[0] == '0' && (text[1] | 32) == 'x')
        text += 2;
    size_t length = strlen(text);
    if (length > 256)
        return false;
    for (size_t i = length; i-- > 0;) {
        const char *digit = strchr(digits, text[i] >= 'A' ? text[i] | 32 : text[i]);
        if (digit == NULL)
            return false;
        for (unsigned bit = 0; bit < 4; bit++)
            if (((unsigned)(digit - digits) >> bit & 1) != 0 && !add_cpu((unsigned)(length - 1 - i) * 4 + bit, cpus, count))
                return false;
    }
    return true;
}

bool block_options_parse_cpus(const char *text, int cpus[PLANE_REACTORS_MAX], unsigned *ret_count) {
    unsigned count = 0;
    if (!(text[0] == '[' ? parse_list : parse_mask)(text, cpus, &count) || count == 0)
        return false;
    *ret_count = count;
    return true;
}

static void wrong(struct block_options *options, const char *option, const char *value, const char *expected) {
    fprintf(stderr, "penstock-block: %s %s: expected %s\n", option, value, expected);
    options->exit_now = true;
    options->exit_status = 64;
}

static void no_effect(struct block_options *options, const char *name) {
    if (options->without_effect_count < array_count(options->without_effect))
        options->without_effect[options->without_effect_count++] = name;
}

static void parse_one(struct block_options *options, int c, int long_index) {
    switch (c) {
    case 'r': options->socket_path = optarg; break;
    case 'c': options->config_path = optarg; break;
    case 'm':
        if (!block_options_parse_cpus(optarg, options->cpus, &options->cpu_count))
            wrong(options, "-m", optarg, "a mask of cores (0x5) or a list of them ([0,2-3]), at most 64");
        break;
    case 's': no_effect(options, "--mem-size"); break;
    case 'L':
        if (options->flag_count < array_count(options->flags))
            options->flags[options->flag_count++] = optarg;
        break;
    case OPTION_WAIT_FOR_RPC: options->wait_for_rpc = true; break;
    case OPTION_POLL:
        if (!host_linux_poll_mode_parse(optarg, &options->poll_mode))
            wrong(options, "--poll", optarg, "adaptive, always or never");
        break;
    case OPTION_LOG_FILE: options->log_path = optarg; break;
    case OPTION_LOG_FORMAT:
        if (!host_linux_log_format_parse(optarg, &options->log_format))
            wrong(options, "--log-format", optarg, "auto, text, json or journal");
        break;
    case OPTION_VERSION:
        printf("penstock-block %s\n", PENSTOCK_VERSION);
        options->exit_now = true;
        break;
    case 'h':
        fputs(help, stdout);
        options->exit_now = true;
        break;
    case OPTION_NO_EFFECT:
    case OPTION_NO_EFFECT_VALUE: no_effect(options, long_options[long_index].name); break;
    case '?':
    case ':':
        fputs("Try penstock-block --help\n", stderr);
        options->exit_now = true;
        options->exit_status = 64;
        break;
    default: { /* the peer's short options of the same sort */
        static const char names[][3] = {"-d", "-e", "-g", "-i", "-n", "-p", "-q", "-R", "-u", "-v"};
        for (size_t i = 0; i < array_count(names); i++)
            if (names[i][1] == c)
                no_effect(options, names[i]);
    }
    }
}

void block_options_parse(struct block_options *options, int argc, char **argv) {
    *options = (struct block_options){.socket_path = SOCKET_PATH_DEFAULT, .cpus = {-1}, .cpu_count = 1};
    int c, long_index = 0;
    while (!options->exit_now && (c = getopt_long(argc, argv, "r:m:s:c:L:hde:gi:n:p:qRuv:", long_options, &long_index)) != -1)
        parse_one(options, c, long_index);
    if (!options->exit_now && optind < argc)
        wrong(options, "argument", argv[optind], "options only");
}
