#include "programs/penstockd/options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"

enum {
    OPTION_STATE_DIR = 256,
    OPTION_ADDRESS,
    OPTION_NODE,
    OPTION_PORT,
    OPTION_TLS_CERTIFICATE,
    OPTION_TLS_KEY,
    OPTION_TLS_CA,
    OPTION_TLS_CLIENT_NAME,
    OPTION_PLANE,
    OPTION_PLANE_ARGUMENT,
    OPTION_VERSION
};

static const struct option long_options[] = {
    {"state-dir", required_argument, NULL, OPTION_STATE_DIR},
    {"node-address", required_argument, NULL, OPTION_ADDRESS},
    {"node-name", required_argument, NULL, OPTION_NODE},
    {"port", required_argument, NULL, OPTION_PORT},
    {"tls-certificate", required_argument, NULL, OPTION_TLS_CERTIFICATE},
    {"tls-key", required_argument, NULL, OPTION_TLS_KEY},
    {"tls-ca", required_argument, NULL, OPTION_TLS_CA},
    {"tls-client-name", required_argument, NULL, OPTION_TLS_CLIENT_NAME},
    {"plane", required_argument, NULL, OPTION_PLANE},
    {"plane-argument", required_argument, NULL, OPTION_PLANE_ARGUMENT},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, OPTION_VERSION},
    {NULL, 0, NULL, 0},
};

static const char help[] =
    "Usage: penstockd --state-dir DIR [OPTION]…\n"
    "The control daemon of a node: keeps its disks and replicas in a storage plane that it starts and watches, and answers\n"
    "Longhorn's storage engine service over gRPC.\n"
    "\n"
    "      --state-dir DIR        state, lock, sockets and the plane's log; made (0700) if it is absent\n"
    "      --node-address IP      where gRPC and replicas are offered (default 127.0.0.1)\n"
    "      --node-name NAME       the node's part of the state (default: the address)\n"
    "      --port PORT            of gRPC (default 8504, where peers look; 0: any free one, which the log tells)\n"
    "      --tls-certificate FILE, --tls-key FILE, --tls-ca FILE\n"
    "                             gRPC on TCP under TLS, to clients with a certificate of this authority (all PEM)\n"
    "      --tls-client-name NAME and only to those whose certificate holds this name\n"
    "      --plane PROGRAM        the storage plane (default: penstock-block beside this program, else in $PATH)\n"
    "      --plane-argument ARG   one more argument for it; may be repeated\n"
    "  -h, --help                 this text\n"
    "      --version              the version\n"
    "\n"
    "SIGTERM ends it; the storage plane goes on, and is found again. Manual: penstockd(8).\n";

static void wrong(struct daemon_options *options, const char *option, const char *value, const char *expected) {
    fprintf(stderr, "penstockd: %s %s: expected %s\n", option, value, expected);
    options->exit_now = true;
    options->exit_status = 64;
}

static void parse_port(struct daemon_options *options, const char *text) {
    uint64_t port;
    if (text_parse_u64(text, UINT16_MAX, &port))
        options->port = (uint16_t)port;
    else
        wrong(options, "--port", text, "0 to 65535");
}

static void parse_one(struct daemon_options *options, int c) {
    switch (c) {
    case OPTION_STATE_DIR: options->state_dir = optarg; break;
    case OPTION_ADDRESS: options->address = optarg; break;
    case OPTION_NODE:
        options->node = optarg;
        if (!text_is_name(optarg, 63))
            wrong(options, "--node-name", optarg, "1 to 63 printable characters without blanks and /");
        break;
    case OPTION_PORT: parse_port(options, optarg); break;
    case OPTION_TLS_CERTIFICATE: options->tls_certificate = optarg; break;
    case OPTION_TLS_KEY: options->tls_key = optarg; break;
    case OPTION_TLS_CA: options->tls_ca = optarg; break;
    case OPTION_TLS_CLIENT_NAME: options->tls_client_name = optarg; break;
    case OPTION_PLANE: options->plane = optarg; break;
    case OPTION_PLANE_ARGUMENT:
        if (options->plane_argument_count < DAEMON_PLANE_ARGUMENTS_MAX)
            options->plane_arguments[options->plane_argument_count++] = optarg;
        else
            wrong(options, "--plane-argument", optarg, "at most 64 of them");
        break;
    case OPTION_VERSION:
        printf("penstockd %s\n", PENSTOCK_VERSION);
        options->exit_now = true;
        break;
    case 'h':
        fputs(help, stdout);
        options->exit_now = true;
        break;
    default:
        fputs("Try penstockd --help\n", stderr);
        options->exit_now = true;
        options->exit_status = 64;
    }
}

void daemon_options_parse(struct daemon_options *options, int argc, char **argv) {
    *options = (struct daemon_options){.address = "127.0.0.1", .port = DAEMON_PORT};
    int c;
    while (!options->exit_now && (c = getopt_long(argc, argv, "h", long_options, NULL)) != -1)
        parse_one(options, c);
    if (options->exit_now)
        return;
    if (optind < argc)
        wrong(options, "argument", argv[optind], "options only");
    else if (options->state_dir == NULL)
        wrong(options, "--state-dir", "is not given", "a folder for the state");
    if (options->node == NULL)
        options->node = options->address;
}
