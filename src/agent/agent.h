/* The agent of networking-spp on a store of its keys (etcd): the host's configuration becomes the wiring of its NICs, and each
 * "plug" and "unplug" below action/HOST/ is carried out and answered. What is to be done for a port is read anew when it is its
 * turn, so that neither a lost watch nor a restart leaves anything behind. docs/spp.md.
 *
 * Calling context: the control loop. Must not know: which store it is. */
#pragma once

#include "agent/configuration.h"
#include "control/packet/packet_control.h"

enum {
    AGENT_PORTS_MAX = 1024, /* waiting to be looked at */
    AGENT_ID_MAX = 63,
    AGENT_RETRY_MS = 5000,
    AGENT_RECLAIM_MS = 60000
};

struct agent_options {
    struct reactor *reactor;
    struct log *log;
    struct store *store; /* of the keys */
    struct packet_control *control;
    const char *host;              /* of the keys; stays */
    uint32_t lease_s;              /* liveness: agent/HOST is there as long as this lives; 0 = no such key */
    uint32_t retry_ms, reclaim_ms; /* 0 = as above */
    bool hairpin;                  /* machines of one NIC meet without the switch outside */
};

enum agent_state {
    AGENT_STARTING,
    AGENT_UNCONFIGURED, /* there is no configuration, or a wrong one: `trouble` */
    AGENT_BUILDING,
    AGENT_RUNNING
};

struct agent;

struct agent *agent_create(const struct agent_options *options);
void agent_start(struct agent *agent);
/* No more is begun. Before packet_control_stop() and the end of its store. */
void agent_stop(struct agent *agent);
/* After both are stopped. */
void agent_destroy(struct agent *agent);
enum agent_state agent_get_state(const struct agent *agent, const char **ret_trouble);
