#include "programs/penstockd/options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"

/* What may be said of an option, on the command line and in the file. */
struct described {
    const char *name, *value, *help; /* help: further lines behind newlines */
    size_t text_at;                  /* of a text: where it goes in the options; else 0 */
    bool (*set)(struct daemon_options *options, const char *value, struct error *error);
    bool list;
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

static bool set_plane_argument(struct daemon_options *options, const char *value, struct error *error) {
    if (options->plane_argument_count == DAEMON_PLANE_ARGUMENTS_MAX)
        return error_invalid(error, "plane-argument", value, "at most %d of them", DAEMON_PLANE_ARGUMENTS_MAX);
    options->plane_arguments[options->plane_argument_count++] = value;
    return true;
}

static bool set_log_format(struct daemon_options *options, const char *value, struct error *error) {
    return host_linux_log_format_parse(value, &options->log_format) ||
           error_invalid(error, "log-format", value, "auto, text, json or journal");
}

#define TEXT(member) .text_at = offsetof(struct daemon_options, member)
static const struct described table[] = {
    {"state-dir", "DIR", "state, lock, sockets and the plane's log; made (0700) if it is absent", TEXT(state_dir)},
    {"node-address", "IP", "where gRPC and replicas are offered (default 127.0.0.1)", TEXT(address)},
    {"node-name", "NAME", "the node's part of the state (default: the address)", .set = set_node},
    {"port", "PORT", "of gRPC (default 8504, where peers look; 0: any free one, which the log tells)", .set = set_port},
    {"tls-certificate", "FILE", "gRPC on TCP under TLS, to clients with a certificate of tls-ca's authority; all are PEM",
     TEXT(tls_certificate)},
    {"tls-key", "FILE", "the key of that certificate", TEXT(tls_key)},
    {"tls-ca", "FILE", "the authority of the clients", TEXT(tls_ca)},
    {"tls-client-name", "NAME", "only clients whose certificate holds this name", TEXT(tls_client_name)},
    {"socket", "PATH", "Unix socket of gRPC (default: penstockd.sock in the state's folder)", TEXT(socket)},
    {"http", "IP:PORT", "serve /metrics (Prometheus) and /healthz there, on loopback (default: not at all)", TEXT(http)},
    {"plane", "PROGRAM", "the storage plane (default: penstock-block beside this program, else in $PATH)", TEXT(plane)},
    {"plane-argument", "ARG", "one more argument for it; may be repeated", .set = set_plane_argument, .list = true},
    {"plane-socket", "PATH", "the storage plane is somebody else's (systemd's): look for it there, never start one",
     TEXT(plane_socket)},
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
    return option != NULL && option->list;
}

bool daemon_option_set(struct daemon_options *options, const char *name, const char *value, struct error *error) {
    const struct described *option = find(name);
    if (option == NULL)
        return error_set(error, ERROR_NOT_FOUND, "there is no option %s", name);
    if (value[0] == '\0')
        return error_invalid(error, name, value, "%s", option->value);
    if (option->set != NULL)
        return option->set(options, value, error);
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
    *options = (struct daemon_options){.address = "127.0.0.1", .port = DAEMON_PORT};
    read_config(options, argc, argv, long_options);
    while (!options->exit_now && (c = getopt_long(argc, argv, "h", long_options, NULL)) != -1) {
        if (c >= OPTION_FIRST && table[c - OPTION_FIRST].list && !given[c - OPTION_FIRST]) {
            given[c - OPTION_FIRST] = true;
            options->plane_argument_count = 0; /* a list that is given here is all of it */
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
