/* penstock-packet's options. */
#include "programs/penstock-packet/options.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hash_map.h"
#include "base/text.h"
#include "host/linux/linux.h"

enum { SOCKET_PATH_MAX = 90, PRIMARY_WORKERS_MAX = 60 };
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
    "      --pci ADDRESS           use the network card there, which is bound to vfio-pci; may be given several times\n"
    "      --xdp                   keep the right to load programs into the kernel, which ports of kind af_xdp need\n"
    "  -d, --driver FILE       a driver of DPDK's, a shared object, to be loaded; may be given several times\n"
    "      --poll MODE         always: workers never sleep; never: they never spin; adaptive (default)\n"
    "      --primary           the first of several processes, whose frames lie in the huge pages of --huge-dir\n"
    "      --vf ID             the process of one vf beside a primary, whose -r it is given; its own socket is PATH.vf-ID\n"
    "      --core-mask MASK    with --vf: its cores; the lowest is the master core, which may be anybody's\n"
    "      --vhosts COUNT      with --vf: how many machines it is to have, so that there are cores enough\n"
    "  -h, --help              this text\n"
    "      --version           the version\n"
    "\n"
    "Try: penstock -s " SOCKET_PATH_DEFAULT " rpc packet_get_status. Manual: penstock-packet(8), penstock-rpc(7).\n";

static void wrong(struct packet_options *options, const char *option, const char *value, const char *expected) {
    fprintf(stderr, "penstock-packet: %s %s: expected %s\n", option, value, expected);
    options->exit_now = true;
    options->exit_status = 64;
}

static bool parse_workers(const char *text, struct packet_options *options) {
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

static void parse_vf(struct packet_options *options, const char *text) {
    uint64_t id;
    options->dpdk.role = DPDK_SECONDARY;
    if (!text_parse_u64(text, 65535, &id) || id == 0)
        wrong(options, "--vf", text, "a number from 1 to 65535");
    options->vf.id = (uint32_t)id;
}

static uint64_t hash_on(uint64_t hash, const char *text) { return hash_bytes(text, strlen(text), hash); }

/* What processes that share frames are known by to each other, from the path that all are given; and what else DPDK finds its
 * primary by, and both must be alike in. */
static void name_group(struct packet_options *options) {
    uint64_t hash = hash_text(options->socket_path);
    const char *folder = getenv("RUNTIME_DIRECTORY");
    char layout[16];
    snprintf(layout, sizeof(layout), "%d", DPDK_SHARED_LAYOUT);
    uint64_t bond = hash_on(hash_on(hash_on(hash, folder != NULL ? folder : ""), PENSTOCK_VERSION), layout);
    for (unsigned i = 0; i < options->dpdk.driver_count; i++)
        bond = hash_on(bond, options->dpdk.drivers[i]);
    snprintf(options->bond, sizeof(options->bond), "%016" PRIx64, bond);
    snprintf(options->group, sizeof(options->group), "penstock-%016" PRIx64, hash);
    options->dpdk.group = options->group;
    snprintf(options->join_path, sizeof(options->join_path), "%s.join", options->socket_path);
    snprintf(options->vf_path, sizeof(options->vf_path), "%s.vf-%u", options->socket_path, options->vf.id);
}

static void check_role(struct packet_options *options) {
    bool secondary = options->dpdk.role == DPDK_SECONDARY;
    if (options->dpdk.role == DPDK_ALONE) {
        if (options->vf.mask != 0 || options->vf.vhosts != 0)
            wrong(options, "--core-mask, --vhosts", "given", "with --vf only");
        return;
    }
    if (strlen(options->socket_path) > SOCKET_PATH_MAX)
        wrong(options, "-r", options->socket_path, "a path of at most 90 bytes");
    else if (options->dpdk.huge_dir == NULL && !secondary)
        wrong(options, "--huge-dir", "absent", "given with --primary: only huge pages can be shared by processes");
    else if (secondary && options->vf.mask == 0)
        wrong(options, "--core-mask", "absent", "given with --vf");
    else if (options->cpu_count > PRIMARY_WORKERS_MAX || (options->cpu_count == 0 && !secondary))
        wrong(options, "-w", "none", "1 to 60 workers in a primary");
    for (unsigned core = 0; core < CORES_MAX && secondary && !options->exit_now; core++) {
        char text[16];
        snprintf(text, sizeof(text), "core %u", core);
        int cpu = cores_cpu(&options->cores, core);
        if ((options->vf.mask >> core & 1) != 0 && (cpu < 0 || !host_linux_has_cpu(cpu)))
            wrong(options, "--core-mask", text, "cores that are here");
    }
    name_group(options);
    if (secondary) {
        options->cpu_count = 0;
        options->dpdk.cores = options->vf.mask;
    }
    options->dpdk.map = &options->cores;
    options->dpdk.cpus = options->cpus;
    options->dpdk.cpu_count = options->cpu_count;
}

void packet_options_parse(struct packet_options *options, int argc, char **argv) {
    enum {
        OPTION_POLL = 256,
        OPTION_BUFFERS,
        OPTION_CPU_MAP,
        OPTION_HUGE_DIR,
        OPTION_PCI,
        OPTION_XDP,
        OPTION_VERSION,
        OPTION_PRIMARY,
        OPTION_VF,
        OPTION_CORE_MASK,
        OPTION_VHOSTS
    };
    static const struct option long_options[] = {{"rpc-socket", required_argument, NULL, 'r'},
                                                 {"workers", required_argument, NULL, 'w'},
                                                 {"cpu-map", required_argument, NULL, OPTION_CPU_MAP},
                                                 {"buffers", required_argument, NULL, OPTION_BUFFERS},
                                                 {"huge-dir", required_argument, NULL, OPTION_HUGE_DIR},
                                                 {"pci", required_argument, NULL, OPTION_PCI},
                                                 {"xdp", no_argument, NULL, OPTION_XDP},
                                                 {"driver", required_argument, NULL, 'd'},
                                                 {"poll", required_argument, NULL, OPTION_POLL},
                                                 {"help", no_argument, NULL, 'h'},
                                                 {"primary", no_argument, NULL, OPTION_PRIMARY},
                                                 {"vf", required_argument, NULL, OPTION_VF},
                                                 {"core-mask", required_argument, NULL, OPTION_CORE_MASK},
                                                 {"vhosts", required_argument, NULL, OPTION_VHOSTS},
                                                 {"version", no_argument, NULL, OPTION_VERSION},
                                                 {NULL, 0, NULL, 0}};
    *options = (struct packet_options){
        .socket_path = SOCKET_PATH_DEFAULT, .cpus = {-1}, .cpu_count = 1, .buffers = DPDK_BUFFERS_DEFAULT};
    struct error error;
    uint64_t number = 0;
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
        case OPTION_XDP: options->dpdk.xdp = true; break;
        case OPTION_PCI:
            if (options->dpdk.pci_count == DPDK_PCI_MAX || !text_is_pci_address(optarg))
                wrong(options, "--pci", optarg, "an address such as 0000:03:00.0, at most 32 of them");
            else
                options->dpdk.pci[options->dpdk.pci_count++] = optarg;
            break;
        case 'd':
            if (options->dpdk.driver_count == DPDK_DRIVERS_MAX)
                wrong(options, "-d", optarg, "at most 16 drivers");
            else
                options->dpdk.drivers[options->dpdk.driver_count++] = optarg;
            break;
        case OPTION_PRIMARY: options->dpdk.role = DPDK_PRIMARY; break;
        case OPTION_VF: parse_vf(options, optarg); break;
        case OPTION_CORE_MASK:
            if (!cores_parse_mask("core-mask", optarg, &options->vf.mask, &error))
                wrong(options, "--core-mask", optarg, error.expected);
            break;
        case OPTION_VHOSTS:
            if (!text_parse_u64(optarg, MODEL_PORTS_MAX, &number))
                wrong(options, "--vhosts", optarg, "0 to 256");
            options->vf.vhosts = (uint32_t)number;
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
    if (!options->exit_now)
        check_role(options);
}
