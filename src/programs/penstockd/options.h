/* Options of penstockd. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"

enum { DAEMON_PORT = 8504, DAEMON_PLANE_ARGUMENTS_MAX = 64 };

struct daemon_options {
    const char *state_dir, *address, *node;
    uint16_t port; /* 0 = any free one */
    bool no_tcp;
    const char *tls_certificate, *tls_key, *tls_ca;          /* files; NULL = not given: all or none */
    const char *tls_client_name;                             /* what a client's certificate must hold; NULL = any of the CA's */
    const char *plane;                                       /* program; NULL = penstock-block beside this one, or in $PATH */
    const char *plane_arguments[DAEMON_PLANE_ARGUMENTS_MAX]; /* beside -r SOCKET */
    unsigned plane_argument_count;
    bool exit_now;
    int exit_status;
};

/* Complains to standard error. */
void daemon_options_parse(struct daemon_options *options, int argc, char **argv);
