#include "programs/penstockd/options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "packet/cores.h"

/* What may be said of an option, on the command line and in the file. */
struct described {
    const char *name, *value, *help; /* help: further lines behind newlines */
    size_t text_at;                  /* of a text: where it goes in the options; else 0 */
    size_t list_at;                  /* of one that may be repeated: the list; else 0 */
    bool (*set)(struct daemon_options *options, const char *value, struct error *error);
};

static bool set_port(struct daemon_options *options, const char *value, struct error *error) {
    uint64_t port;
    if (!text_parse_u64(value, UINT16_MAX, &port))
        return error_invalid(error, "port", value, "0 to 65535");
    options->port = (uint16_t)port;
    return true;
}

static bool set_node(struct daemon_options *options, const char *value, struct error *error) {
    options->node = value;
    return text_is_name(value, 63) ||
           error_invalid(error, "node-name", value, "1 to 63 printable characters without blanks and /");
}

static bool set_u32(const char *name, const char *value, uint32_t min, uint32_t max, uint32_t *to, struct error *error) {
    uint64_t number;
    if (!text_parse_u64(value, max, &number) || number < min)
        return error_invalid(error, name, value, "%u to %u", min, max);
    *to = (uint32_t)number;
    return true;
}

static bool set_connections(struct daemon_options *options, const char *value, struct error *error) {
    return set_u32("connections", value, 16, DAEMON_CONNECTIONS_MAX, &options->connections, error);
}

static bool set_agent_lease(struct daemon_options *options, const char *value, struct error *error) {
    return set_u32("agent-lease", value, 2, 3600, &options->agent_lease_s, error);
}

static bool set_agent_retry(struct daemon_options *options, const char *value, struct error *error) {
    return set_u32("agent-retry-ms", value, 10, 3600000, &options->agent_retry_ms, error);
}

static bool set_agent_reclaim(struct daemon_options *options, const char *value, struct error *error) {
    return set_u32("agent-reclaim-ms", value, 100, 3600000, &options->agent_reclaim_ms, error);
}

static bool set_agent_hairpin(struct daemon_options *options, const char *value, struct error *error) {
    options->agent_hairpin = strcmp(value, "on") == 0;
    return options->agent_hairpin || strcmp(value, "off") == 0 || error_invalid(error, "agent-hairpin", value, "on or off");
}

static bool set_spp_answer(struct daemon_options *options, const char *value, struct error *error) {
    return set_u32("spp-answer-ms", value, 10, 3600000, &options->spp_answer_ms, error);
}

static bool set_cpu_map(struct daemon_options *options, const char *value, struct error *error) {
    struct cores_map map;
    options->cpu_map = value;
    return cores_parse_map(value, &map) ||
           error_invalid(error, "cpu-map", value, "cores (0 to 63) and their processors, such as 1=0,2-7=0,8-15=1, none twice");
}

static bool set_log_format(struct daemon_options *options, const char *value, struct error *error) {
    return host_linux_log_format_parse(value, &options->log_format) ||
           error_invalid(error, "log-format", value, "auto, text, json or journal");
}

static bool set_leg_return(struct daemon_options *options, const char *value, struct error *error) {
    return (text_parse_u64(value, 86400, &options->leg_return_s) && options->leg_return_s > 0) ||
           error_invalid(error, "leg-return-window", value, "1 to 86400 seconds");
}

#define TEXT(member) .text_at = offsetof(struct daemon_options, member)
#define LIST(member) .list_at = offsetof(struct daemon_options, member)
static const struct described table[] = {
    {"state-dir", "DIR", "state, lock, sockets and the plane's log; made (0700) if it is absent", TEXT(state_dir)},
    {"node-address", "IP", "where gRPC and replicas are offered (default 127.0.0.1)", TEXT(address)},
    {"node-name", "NAME", "the node's part of the state (default: the address)", .set = set_node},
    {"port", "PORT", "of gRPC (default 8504, where peers look; 0: any free one, which the log tells)", .set = set_port},
    {"connections", "COUNT",
     "of gRPC clients at once, on TCP, and as many on the socket (default: an eighth of the files that\nit may open, 256 to "
     "1024)",
     .set = set_connections},
    {"tls-certificate", "FILE", "gRPC on TCP under TLS, to clients with a certificate of tls-ca's authority; all are PEM",
     TEXT(tls_certificate)},
    {"tls-key", "FILE", "the key of that certificate", TEXT(tls_key)},
    {"tls-ca", "FILE", "the authority of the clients", TEXT(tls_ca)},
    {"tls-client-name", "NAME", "only clients whose certificate holds this name", TEXT(tls_client_name)},
    {"tls-node-name", "NAME", "what the certificates of nodes hold that are asked (default: each its address)",
     TEXT(tls_node_name)},
    {"socket", "PATH", "Unix socket of gRPC (default: penstockd.sock in the state's folder)", TEXT(socket)},
    {"http", "IP:PORT", "serve /metrics (Prometheus) and /healthz there, on loopback (default: not at all)", TEXT(http)},
    {"plane", "PROGRAM", "the storage plane (default: penstock-block beside this program, else in $PATH)", TEXT(plane)},
    {"plane-argument", "ARG", "one more argument for it; may be repeated", LIST(plane_arguments)},
    {"blockdev", "PROGRAM", "who has a frontend's block device (default: penstock-blockdev beside this program, else in $PATH)",
     TEXT(blockdev)},
    {"plane-socket", "PATH", "the storage plane is somebody else's (systemd's): look for it there, never start one",
     TEXT(plane_socket)},
    {"spp-rest", "IP:PORT",
     "rule a packet plane, and serve Soft Patch Panel's REST there; its clients look at 127.0.0.1:7777\n"
     "(default: neither). It knows no authentication",
     TEXT(spp_rest)},
    {"spp-controller", "IP",
     "let an spp-ctl there rule the packet plane, as its processes: connect to its ports 5555 and 6666 (default: not)",
     TEXT(spp_controller)},
    {"spp-listen", "IP",
     "be the spp-ctl of Soft Patch Panel's own processes: listen on its ports 5555 and 6666 there (default: not)",
     TEXT(spp_listen)},
    {"spp-answer-ms", "MS", "a process of those that does not answer so long is let go (default 10000)", .set = set_spp_answer},
    {"packet-plane", "PROGRAM", "the packet plane (default: penstock-packet beside this program, else in $PATH)",
     TEXT(packet_plane)},
    {"packet-argument", "ARG", "one more argument for it; may be repeated", LIST(packet_arguments)},
    {"packet-processes", "DIR", "the packet plane as several processes, which share frames in huge pages of the hugetlbfs DIR",
     TEXT(packet_huge_dir)},
    {"packet-socket", "PATH", "the packet plane is somebody else's: look for it there, never start one", TEXT(packet_socket)},
    {"cpu-map", "MAP", "processors that stand for cores in processes' masks, such as 1=0,2-7=0,8-15=1 (default: the same number)",
     .set = set_cpu_map},
    {"interface", "KIND:NAME", "what phy:0 is, then phy:1, …: af_packet:eth1, pci:0000:03:00.0, tap:tap0, null; may be repeated",
     LIST(interfaces)},
    {"vhost-folder", "DIR", "where sockets of vhost-user ports are: DIR/sockN (default /tmp)", TEXT(vhost_folder)},
    {"etcd", "IP:PORT", "be the agent of networking-spp: with the keys of this etcd; may be repeated (default: not)",
     LIST(etcd.endpoints)},
    {"etcd-ca", "FILE", "it is under mutual TLS: the authority of its servers", TEXT(etcd.ca)},
    {"etcd-certificate", "FILE", "what is shown to them", TEXT(etcd.certificate)},
    {"etcd-key", "FILE", "the key of that certificate", TEXT(etcd.key)},
    {"etcd-name", "NAME", "what its certificates must hold (default: the endpoint's address)", TEXT(etcd.name)},
    {"etcd-user", "NAME", "whoever may read and write the keys of networking-spp there", TEXT(etcd.user)},
    {"etcd-password-file", "FILE", "that user's password", TEXT(etcd.password_file)},
    {"agent-host", "NAME", "the host's name in those keys (default: the node's)", TEXT(agent_host)},
    {"agent-lease", "SECONDS",
     "keep /spp/openstack/agent/NAME there as long as it lives, and so much longer (default: no such key)",
     .set = set_agent_lease},
    {"agent-hairpin", "on|off", "whether machines of one NIC meet without the switch outside (default off)",
     .set = set_agent_hairpin},
    {"agent-retry-ms", "MS", "what failed is tried again after so long (default 5000)", .set = set_agent_retry},
    {"agent-reclaim-ms", "MS",
     "a vhost that was taken for a port that nobody plugs is free again after that, or twice that\n(default 60000)",
     .set = set_agent_reclaim},
    {"leg-return-window", "SECONDS", "how long a replica may be away before it counts as lost for good (default 300)",
     .set = set_leg_return},
    {"state-etcd", "IP:PORT", "keep the state in this etcd instead of a file; may be repeated, for each of its members",
     LIST(state_etcd.endpoints)},
    {"state-etcd-ca", "FILE", "it is under mutual TLS: the authority of its servers", TEXT(state_etcd.ca)},
    {"state-etcd-certificate", "FILE", "what is shown to them", TEXT(state_etcd.certificate)},
    {"state-etcd-key", "FILE", "the key of that certificate", TEXT(state_etcd.key)},
    {"state-etcd-name", "NAME", "what its certificates must hold (default: the endpoint's address)", TEXT(state_etcd.name)},
    {"state-etcd-user", "NAME", "whoever may write the node's keys there", TEXT(state_etcd.user)},
    {"state-etcd-password-file", "FILE", "that user's password", TEXT(state_etcd.password_file)},
    {"log-format", "FORMAT",
     "text, json (an object a line), journal (systemd's), or auto (default): journal\nif standard error is it, else text",
     .set = set_log_format},
};

static const struct described *find(const char *name) {
    for (size_t i = 0; i < array_count(table); i++)
        if (strcmp(table[i].name, name) == 0)
            return &table[i];
    return NULL;
}

bool daemon_option_is_list(const char *name) {
    const struct described *option = find(name);
    return option != NULL && option->list_at != 0;
}

static struct daemon_list *list_of(struct daemon_options *options, const struct described *option) {
    return (struct daemon_list *)(void *)((char *)options + option->list_at);
}

bool daemon_option_set(struct daemon_options *options, const char *name, const char *value, struct error *error) {
    const struct described *option = find(name);
    if (option == NULL)
        return error_set(error, ERROR_NOT_FOUND, "there is no option %s", name);
    if (value[0] == '\0')
        return error_invalid(error, name, value, "%s", option->value);
    if (option->set != NULL)
        return option->set(options, value, error);
    if (option->list_at != 0) {
        struct daemon_list *list = list_of(options, option);
        if (list->count == DAEMON_LIST_MAX)
            return error_invalid(error, name, value, "at most %d of them", DAEMON_LIST_MAX);
        list->items[list->count++] = value;
        return true;
    }
    *(const char **)(void *)((char *)options + option->text_at) = value;
    return true;
}

/* ---- the command line ---- */

static void print_option(const char *name, const char *value, const char *help) {
    char left[64];
    snprintf(left, sizeof(left), "--%s%s%s", name, value != NULL ? " " : "", value != NULL ? value : "");
    printf("      %-24s ", left);
    for (; *help != '\0'; help++) {
        putchar(*help);
        if (*help == '\n')
            printf("%31s", "");
    }
    putchar('\n');
}

static void print_help(void) {
    printf(
        "Usage: penstockd --state-dir DIR [OPTION]…\n"
        "The control daemon of a node: keeps its disks and replicas in a storage plane that it starts and watches, and answers\n"
        "Longhorn's storage engine service over gRPC.\n"
        "\n");
    for (size_t i = 0; i < array_count(table); i++)
        print_option(table[i].name, table[i].value, table[i].help);
    printf("\n");
    print_option("config", "FILE", "take these options from a file too (YAML: NAME: VALUE a line); what is said here counts");
    print_option("check", NULL, "only look whether the options are right");
    print_option("help", NULL, "this text");
    print_option("version", NULL, "the version");
    printf("\nSIGTERM ends it; the storage plane goes on, and is found again. Manual: penstockd(8).\n");
}

static void fail(struct daemon_options *options, const char *before, const struct error *error) {
    if (error->code == ERROR_INVALID && error->field[0] != '\0')
        fprintf(stderr, "penstockd: %s%s %s: expected %s\n", before, error->field, error->value, error->expected);
    else
        fprintf(stderr, "penstockd: %s\n", error->text);
    options->exit_now = true;
    options->exit_status = 64;
}

enum { OPTION_CONFIG = 256, OPTION_CHECK, OPTION_VERSION, OPTION_FIRST };

static void parse_one(struct daemon_options *options, int c) {
    struct error error;
    switch (c) {
    case OPTION_CONFIG: break; /* it was read before */
    case OPTION_CHECK: options->check_only = true; break;
    case OPTION_VERSION:
        printf("penstockd %s\n", PENSTOCK_VERSION);
        options->exit_now = true;
        break;
    case 'h':
        print_help();
        options->exit_now = true;
        break;
    case '?':
        fputs("Try penstockd --help\n", stderr);
        options->exit_now = true;
        options->exit_status = 64;
        break;
    default:
        if (!daemon_option_set(options, table[c - OPTION_FIRST].name, optarg, &error))
            fail(options, "--", &error);
    }
}

/* Twice: what the file says must be there before the rest, which counts more. */
static void read_config(struct daemon_options *options, int argc, char **argv, const struct option *long_options) {
    struct error error;
    int c;
    opterr = 0;
    while ((c = getopt_long(argc, argv, "h", long_options, NULL)) != -1)
        if (c == OPTION_CONFIG)
            options->config = optarg;
    opterr = optind = 1;
    if (options->config != NULL && !daemon_config_read(options, options->config, &error))
        fail(options, "", &error);
}

void daemon_options_parse(struct daemon_options *options, int argc, char **argv) {
    struct option long_options[array_count(table) + 5] = {{"config", required_argument, NULL, OPTION_CONFIG},
                                                          {"check", no_argument, NULL, OPTION_CHECK},
                                                          {"version", no_argument, NULL, OPTION_VERSION},
                                                          {"help", no_argument, NULL, 'h'}};
    bool given[array_count(table)] = {0};
    struct error error;
    int c;
    for (size_t i = 0; i < array_count(table); i++)
        long_options[4 + i] = (struct option){table[i].name, required_argument, NULL, OPTION_FIRST + (int)i};
    *options = (struct daemon_options){.address = "127.0.0.1", .port = DAEMON_PORT, .vhost_folder = "/tmp"};
    read_config(options, argc, argv, long_options);
    while (!options->exit_now && (c = getopt_long(argc, argv, "h", long_options, NULL)) != -1) {
        if (c >= OPTION_FIRST && table[c - OPTION_FIRST].list_at != 0 && !given[c - OPTION_FIRST]) {
            given[c - OPTION_FIRST] = true;
            list_of(options, &table[c - OPTION_FIRST])->count = 0; /* a list that is given here is all of it */
        }
        parse_one(options, c);
    }
    if (options->exit_now)
        return;
    if (optind < argc) {
        error_invalid(&error, "argument", argv[optind], "options only");
        fail(options, "", &error);
    } else if (options->state_dir == NULL) {
        error_invalid(&error, "state-dir", "is not given", "a folder for the state");
        fail(options, "--", &error);
    }
    if (options->node == NULL)
        options->node = options->address;
}
