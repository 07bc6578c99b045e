/* The packet plane's side of the daemon: its keeper, Soft Patch Panel's REST over HTTP, and the agent on etcd. There if
 * --spp-rest or --etcd asks for it.
 *
 * Calling context: the control loop, but for the first two. */
#pragma once

#include "agent/agent.h"
#include "control/packet/packet_control.h"
#include "gateway/spp/rest.h"
#include "gateway/spp/seats.h"
#include "programs/penstockd/plane_program.h"

struct host_linux_http;

struct packet_part {
    const struct daemon_options *options;
    struct reactor *reactor;
    struct log *log;
    char socket_path[512], log_path[512], program_path[512];
    struct packet_program {
        struct plane_program program;
        char name[32], vf[16], core_mask[24];
    } programs[PACKET_PROCESSES_MAX]; /* by place; the first is the plane itself */
    struct packet_control *control;
    struct spp_rest *rest;
    struct spp_seats *seats;   /* NULL = there is no controller to meet */
    struct spp_guests *guests; /* NULL = no process of others is met */
    struct host_linux_http *http;
    struct packet_change interfaces;
    struct store *etcd; /* NULL = no agent */
    struct agent *agent;
    void (*stopped)(void *arg);
    void *stopped_arg;
    void (*ready)(void *arg, const struct error *error);
    void *arg;
};

/* Paths and the plane's command. `self`: argv[0]. False: error names an option. */
bool packet_part_init(struct packet_part *part, const struct daemon_options *options, const char *self, struct error *error);
static inline bool packet_part_wanted(const struct packet_part *part) {
    return part->options->spp_rest != NULL || part->options->spp_controller != NULL || part->options->spp_listen != NULL ||
           part->options->etcd.endpoints.count > 0;
}
/* `ready` comes once, from the loop, when REST is served; not if it is stopped before. */
void packet_part_start(struct packet_part *part, struct reactor *reactor, struct log *log, struct store *store, const char *node,
                       void (*ready)(void *arg, const struct error *error), void *arg);
/* All that was asked is answered; the plane goes on. `stopped` comes once, inside or later. Also of one that was never started.
 */
void packet_part_stop(struct packet_part *part, void (*stopped)(void *arg), void *arg);
/* After the store is closed. */
void packet_part_fini(struct packet_part *part);
