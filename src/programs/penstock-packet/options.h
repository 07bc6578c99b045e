/* penstock-packet's options. */
#pragma once

#include "packet/dpdk/dpdk.h"

struct packet_options {
    const char *socket_path; /* of all processes, if there are several */
    int cpus[MODEL_WORKERS_MAX];
    unsigned cpu_count;
    struct cores_map cores;
    uint64_t buffers;
    struct dpdk_options dpdk; /* role and what goes with it, too */
    struct model_vf vf;       /* of a vf's process */
    char group[32], bond[32], join_path[108], vf_path[108];
    enum host_poll_mode poll_mode;
    bool exit_now;
    int exit_status;
};

/* Says what is wrong on stderr: exit_now then, as after --help. */
void packet_options_parse(struct packet_options *options, int argc, char **argv);
