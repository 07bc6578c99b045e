/* The command line of penstock-block. It understands what starts an SPDK target, so that the same scripts start this. */
#pragma once

#include "host/linux/log.h"
#include "plane_rpc/plane.h"

#define SOCKET_PATH_DEFAULT "/var/tmp/spdk.sock"

struct block_options {
    const char *socket_path;
    const char *config_path;
    const char *log_path; /* JSON lines; NULL = none */
    enum host_linux_log_format log_format;
    bool wait_for_rpc;
    enum host_poll_mode poll_mode;
    int cpus[PLANE_REACTORS_MAX];
    unsigned cpu_count;
    const char *flags[LOG_AREA_COUNT + 1]; /* of -L */
    unsigned flag_count;
    const char *without_effect[16]; /* options that mean nothing here, to be said once */
    unsigned without_effect_count;
    bool exit_now; /* --help or --version has been printed, or the line is wrong: end with exit_status */
    int exit_status;
};

/* Texts point into argv. */
void block_options_parse(struct block_options *options, int argc, char **argv);
/* Cores of a mask (0x5) or a list ([0,2-3]); false if it is neither, empty, or too large. */
bool block_options_parse_cpus(const char *text, int cpus[PLANE_REACTORS_MAX], unsigned *ret_count);
