/* What frames come in by and go out by. Kinds: packet/ring.h here, drivers in packet/dpdk, arrays in tests.
 * A port is the input of at most one component and the output of at most one: it has one reading worker and one writing worker,
 * which may differ. Must not know: components, DPDK. */
#pragma once

#include <stdatomic.h>

#include "packet/drop.h"
#include "packet/policy.h"

struct packet_port;
struct reactor;

#define PACKET_PORT_NAME_MAX 63

struct packet_port_ops {
    /* At most `capacity` frames, the caller's now. The reading worker. */
    unsigned (*receive)(struct packet_port *port, struct packet **ret_packets, unsigned capacity);
    /* Takes frames over; returns how many. Those not taken are the last in the array afterwards. The writing worker. */
    unsigned (*send)(struct packet_port *port, struct packet **packets, unsigned count);
    /* The reading worker is about to block, and looks at the port once more after this (true), or has woken (false). False:
     * nothing will wake it, so that it has to come back by itself. */
    bool (*sleep)(struct packet_port *port, bool asleep);
    /* A worker begins (true) or ends to read the port. On that worker. NULL = nothing to do. */
    void (*read_by)(struct packet_port *port, struct reactor *worker, bool begins);
    /* Is there a peer, or a carrier? Control reactor. */
    bool (*is_up)(struct packet_port *port);
    /* Why it is dead although it has a peer; NULL = it is not. Control reactor. NULL = never. */
    const char *(*fault)(struct packet_port *port);
    /* Gives all back; nobody reads or writes it any more. May sleep: in a helper thread. */
    void (*destroy)(struct packet_port *port);
};

/* One writer: its worker. Read by any thread, relaxed. */
struct packet_port_counters {
    _Atomic uint64_t packets, bytes;
    _Atomic uint64_t full;       /* frames that were not taken, dropped: by the other side, or by us for lack of room for a tag */
    _Atomic uint64_t unfinished; /* of these, those whose checksum or segments could not be finished: malformed, or no memory */
    _Atomic uint64_t drops[PORT_DROP_COUNT]; /* by the port's policy */
};

struct packet_port {
    const struct packet_port_ops *ops;
    char name[PACKET_PORT_NAME_MAX + 1];
    const char *kind; /* as the API spells it */
    char where[128];  /* interface, path: for people; "" = none */
    _Alignas(64) struct packet_port_counters received;
    struct policy_budget receive_budget; /* the reading worker's */
    _Alignas(64) struct packet_port_counters sent;
    struct policy_budget send_budget; /* the writing worker's */
};

/* One writer, so no locked instruction. */
static inline void packet_count(_Atomic uint64_t *counter, uint64_t n) {
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}
static inline uint64_t packet_counter(const _Atomic uint64_t *counter) {
    return atomic_load_explicit(counter, memory_order_relaxed);
}
