/* The agent's own state, and what its parts ask of each other: agent.c (configuration, ports, the loop) and flow.c (taps). One
 * thing is under way at a time. */
#pragma once

#include "agent/agent.h"
#include "agent/tap.h"

#define ROOT "/spp/openstack/"

enum {
    PATIENCE_MS = 3000, /* with a process that does not start: other NICs' ports wait meanwhile */
    AGENT_FLOW_MIRRORS_MAX = 8,
    KEY_SIZE = 320,
    PREFIX_SIZE = 192,
    RECLAIM_MAX = CONFIGURATION_NICS_MAX * CONFIGURATION_VHOSTS_MAX
};

/* What actions are asked for: they are listed, and watched. */
enum agent_kind { AGENT_PORT, AGENT_FLOW, AGENT_KINDS };

/* A port, or a flow of tap-as-a-service, whose action is to be looked at. */
struct agent_item {
    struct list_node node;
    uint64_t not_before_ns;
    enum agent_kind kind;
    char id[AGENT_ID_MAX + 1];
};

/* A flow at hand: flow.c. */
struct agent_flow {
    char id[AGENT_ID_MAX + 1];
    char keys[3][KEY_SIZE]; /* tap_action, tap_info, tap_status */
    bool plug;
    bool for_port;     /* it goes because a port of it is unplugged */
    const char *guard; /* what has not changed when it is recorded: tap_action, or tap_info */
    int64_t guard_revision;
    unsigned mirrors[AGENT_FLOW_MIRRORS_MAX], mirror_count; /* whose keys hold the flow's id */
    char mirror_keys[AGENT_FLOW_MIRRORS_MAX][KEY_SIZE];
    char ports[2][AGENT_ID_MAX + 1]; /* source, service */
    unsigned vhosts[2];              /* theirs */
    unsigned at;
    int in, out; /* mirrors; -1 = that way is not copied */
    struct store_compare compares[1 + AGENT_FLOW_MIRRORS_MAX];
    struct store_op ops[3 + AGENT_FLOW_MIRRORS_MAX];
};

/* A vhost that is somebody's, of whom nothing else is known: seen so twice, it is given back. */
struct suspect {
    unsigned vhost;
    int64_t revision;
};

struct agent {
    struct agent_options options;
    enum agent_state state;
    struct error trouble;
    struct configuration configuration;
    struct store_request request;
    struct store_watch configuration_watch, action_watches[AGENT_KINDS];
    struct store_lease lease;
    struct packet_change change;
    struct reactor_job job;
    struct reactor_timer timer, reclaim_timer;
    struct list items, free_items;
    struct agent_item slots[AGENT_PORTS_MAX];
    bool busy, stopping, job_queued;
    bool reread, rebuild, relist[AGENT_KINDS], reclaim; /* what is to be done, in this order */
    enum agent_kind listed;                             /* being so */
    bool overflow;                                      /* more ports than there is room for: list them again */
    bool unleased;                                      /* there was no lease to be had: ask again */
    char configuration_key[PREFIX_SIZE], action_prefixes[AGENT_KINDS][PREFIX_SIZE], lease_key[PREFIX_SIZE];
    char mirror_prefix[PREFIX_SIZE], tap_info_prefix[PREFIX_SIZE];
    /* The port at hand, or the flow. */
    struct agent_item *item;
    struct agent_flow flow;
    char keys[4][KEY_SIZE]; /* action, bind_port, port_status, vhost */
    int64_t action_revision;
    bool plug;
    unsigned vhost;
    bool has_vhost;
    char mac[24];
    int vlan;
    struct store_compare compares[3];
    struct store_op ops[4];
    /* Reclaiming. */
    struct suspect suspects[RECLAIM_MAX], before[RECLAIM_MAX];
    unsigned suspect_count, before_count, suspect_at;
    char after[STORE_KEY_MAX + 1], vhost_prefix[PREFIX_SIZE], lease_value[128];
    char owners[RECLAIM_MAX][AGENT_ID_MAX + 1];
};

/* Asks the store; `done` begins with agent_answered(). */
void agent_submit(struct agent *agent, void (*done)(struct store_request *));
void agent_get(struct agent *agent, const char *key, void (*done)(struct store_request *));
struct agent *agent_answered(struct store_request *request);
bool agent_is_value(const struct store_entry *entry, const char *text);
/* {"vhost_id": N, "mac_address": MAC, "vlan_id"?: N}, into the agent. False: error; has_vhost says whether that much is right. */
bool agent_read_bind_port(struct agent *agent, const struct store_entry *entry, struct error *error);
/* The item at hand is done with; it is to be looked at again later, unless an event comes before; or at once. */
void agent_item_done(struct agent *agent);
void agent_item_later(struct agent *agent, const char *what);
void agent_item_again(struct agent *agent);

/* Carries out what is asked of a flow: the item at hand. */
void agent_flow_begin(struct agent *agent);
/* Ends all flows from or to the port at hand, in the plane and in the store; then agent_port_go_on() or agent_item_later(). */
void agent_flow_end_of_port(struct agent *agent);
/* The port at hand is plugged, or unplugged. */
void agent_port_go_on(struct agent *agent);
