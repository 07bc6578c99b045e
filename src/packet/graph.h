/* What a worker does with frames: its plan, an immutable list of components with their ports, and the run through it.
 * docs/packet.md, "The graph". Pure over arrays of frames. Must not know: drivers, threads, the API. */
#pragma once

#include "packet/drop.h"
#include "packet/port.h"
#include "packet/table.h"

#define PACKET_OUTPUTS_MAX 64 /* of a component; inputs likewise */

enum component_type { COMPONENT_FORWARD, COMPONENT_MERGE, COMPONENT_CLASSIFIER, COMPONENT_MIRROR, COMPONENT_TYPE_COUNT };

/* What a component counts. Outlives plans; written by its worker, read by any thread, relaxed. */
struct component_counters {
    _Atomic uint64_t packets; /* that came in */
    _Atomic uint64_t copies;  /* made for group addresses and mirrors */
    _Atomic uint64_t unknown; /* taken by a default port */
    _Atomic uint64_t drops[PACKET_DROP_COUNT];
};

/* Where a plan's component and a port meet. */
struct plan_end {
    struct packet_port *port;
    struct vlan_operation vlan;
    bool hairpin;                /* what a merge turns round goes out by it, and comes into a classifier */
    const struct policy *policy; /* of the port; NULL = none. The model's */
    struct capture *capture;     /* NULL = frames are not looked at. The model's */
};

struct plan_component {
    enum component_type type;
    struct component_counters *counters;
    struct table *table; /* of a classifier, or of the one that a merge turns frames round to; the plan owns it */
    struct plan_end *inputs, *outputs;
    unsigned input_count, output_count;
    unsigned hairpin_output; /* of a merge with a table */
    unsigned main_output;    /* of a merge: the other one */
};

struct plan {
    struct plan_component *components; /* those that run: complete ones */
    unsigned component_count;
};

/* The frames of one burst on their way out. A worker's own. */
struct plan_scratch {
    struct packet_memory *memory;
    uint64_t now_ns; /* the time; set before each run */
    uint16_t counts[PACKET_OUTPUTS_MAX];
    struct packet *packets[PACKET_OUTPUTS_MAX][PACKET_BURST];
};

/* One burst from each input of each component. Returns how many frames came in. */
unsigned plan_run(const struct plan *plan, struct plan_scratch *scratch);

/* Passes frames (at most PACKET_BURST, each with a whole Ethernet header) that came by `input` through a component into
 * scratch->packets; those that end here are counted and freed. The scratch's counts are zero before. */
void component_run(const struct plan_component *component, const struct plan_end *input, struct plan_scratch *scratch,
                   struct packet **packets, unsigned count);
