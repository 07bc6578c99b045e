/* Rings between the processes that share frames: DPDK's, found by their ports' names. One that is open in several processes may
 * have several readers and writers, which costs an interlocked instruction a burst, and is sound whoever is attached. The
 * process that closes it last frees it. docs/packet-processes.md. */
#include "packet/dpdk/internal.h"

#include <rte_errno.h>
#include <rte_memzone.h>
#include <rte_ring.h>
#include <stdio.h>
#include <stdlib.h>

#include "packet/ring.h"
#include "reactor/reactor.h"

#define SHARED_NAME "penstock"
enum { SHARED_RINGS_MAX = 256 };

struct shared_ring {
    char name[PACKET_PORT_NAME_MAX + 1];
    uint32_t opened; /* in how many processes; 0 = the place is free */
    uint32_t size;
    struct rte_ring *ring;
};

struct dpdk_shared {
    uint32_t layout;     /* DPDK_SHARED_LAYOUT */
    rte_spinlock_t lock; /* of all; who dies with it takes all processes along */
    struct shared_ring rings[SHARED_RINGS_MAX];
};

struct ring_port {
    struct packet_port port;
    struct dpdk_shared *shared;
    struct shared_ring *place;
    struct rte_ring *ring;
    _Atomic(struct reactor *) reader; /* in this process; to be woken */
};

static struct ring_port *ring_of(struct packet_port *port) { return container_of(port, struct ring_port, port); }

static unsigned ring_receive(struct packet_port *port, struct packet **ret_packets, unsigned capacity) {
    return rte_ring_dequeue_burst(ring_of(port)->ring, (void **)ret_packets, capacity, NULL);
}

static unsigned ring_send(struct packet_port *port, struct packet **packets, unsigned count) {
    struct ring_port *ring = ring_of(port);
    unsigned sent = rte_ring_enqueue_burst(ring->ring, (void *const *)packets, count, NULL);
    atomic_thread_fence(memory_order_seq_cst); /* the frames are seen before we look whether the reader sleeps */
    struct reactor *reader = atomic_load_explicit(&ring->reader, memory_order_acquire);
    if (sent > 0 && reader != NULL && reader != reactor_current())
        host_loop_wake(reader->loop);
    return sent;
}

/* Another process has nothing to wake us with. */
static bool ring_sleep(struct packet_port *port, bool asleep) {
    (void)port, (void)asleep;
    return false;
}

static void ring_read_by(struct packet_port *port, struct reactor *worker, bool begins) {
    atomic_store(&ring_of(port)->reader, begins ? worker : NULL);
}

static bool ring_is_up(struct packet_port *port) { return (void)port, true; }

static void ring_destroy(struct packet_port *port) {
    struct ring_port *ring = ring_of(port);
    rte_spinlock_lock(&ring->shared->lock);
    if (--ring->place->opened == 0) {
        void *frame;
        while (rte_ring_dequeue(ring->ring, &frame) == 0)
            rte_pktmbuf_free(frame);
        rte_ring_free(ring->ring);
    }
    rte_spinlock_unlock(&ring->shared->lock);
    free(ring);
}

static const struct packet_port_ops ring_ops = {.receive = ring_receive,
                                                .send = ring_send,
                                                .sleep = ring_sleep,
                                                .read_by = ring_read_by,
                                                .is_up = ring_is_up,
                                                .destroy = ring_destroy};

/* The lock is held. NULL: error. */
static struct shared_ring *find_or_make(struct dpdk_shared *shared, const struct packet_port_options *options,
                                        struct error *error) {
    struct shared_ring *place = NULL;
    for (unsigned i = 0; i < SHARED_RINGS_MAX; i++) {
        if (shared->rings[i].opened > 0 && strcmp(shared->rings[i].name, options->name) == 0)
            return &shared->rings[i];
        if (shared->rings[i].opened == 0 && place == NULL)
            place = &shared->rings[i];
    }
    if (place == NULL) {
        error_set(error, ERROR_NO_MEMORY, "there are %d rings already: no more", SHARED_RINGS_MAX);
        return NULL;
    }
    char name[RTE_RING_NAMESIZE];
    snprintf(name, sizeof(name), "ring_%u", (unsigned)(place - shared->rings));
    place->ring = rte_ring_create(name, options->size, SOCKET_ID_ANY, RING_F_EXACT_SZ);
    if (place->ring == NULL) {
        error_set_errno(error, rte_errno, "no memory for a ring of %u", options->size);
        return NULL;
    }
    snprintf(place->name, sizeof(place->name), "%s", options->name);
    place->size = options->size;
    return place;
}

bool dpdk_shared_ring_open(struct dpdk_backend *backend, const struct packet_port_options *options, struct packet_port **ret_port,
                           struct error *error) {
    char value[16];
    snprintf(value, sizeof(value), "%u", options->size);
    if (!is_power_of_two(options->size) || options->size > PACKET_RING_SIZE_MAX)
        return error_invalid(error, "size", value, "a power of two up to %u", PACKET_RING_SIZE_MAX);
    struct ring_port *ring = aligned_alloc(64, round_up(sizeof(*ring), 64));
    if (ring == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory for a port");
    memset(ring, 0, sizeof(*ring));
    struct dpdk_shared *shared = backend->shared;
    rte_spinlock_lock(&shared->lock);
    struct shared_ring *place = find_or_make(shared, options, error);
    uint32_t size = place != NULL ? place->size : 0;
    if (size == options->size)
        place->opened++;
    rte_spinlock_unlock(&shared->lock);
    if (size != options->size) {
        free(ring);
        return place == NULL ? false : error_invalid(error, "size", value, "%u, as in the other processes", size);
    }
    ring->port.ops = &ring_ops;
    ring->port.kind = packet_port_kind_name(PACKET_PORT_RING);
    snprintf(ring->port.name, sizeof(ring->port.name), "%s", options->name);
    ring->shared = shared;
    ring->place = place;
    ring->ring = place->ring;
    *ret_port = &ring->port;
    return true;
}

bool dpdk_shared_open(struct dpdk_backend *backend, struct error *error) {
    const struct rte_memzone *zone = backend->role == DPDK_PRIMARY
                                         ? rte_memzone_reserve(SHARED_NAME, sizeof(*backend->shared), SOCKET_ID_ANY, 0)
                                         : rte_memzone_lookup(SHARED_NAME);
    if (zone == NULL)
        return error_set_errno(error, rte_errno, "nothing is shared with other processes");
    backend->shared = zone->addr;
    if (backend->role == DPDK_PRIMARY)
        *backend->shared = (struct dpdk_shared){.layout = DPDK_SHARED_LAYOUT};
    else if (zone->len < sizeof(*backend->shared) || backend->shared->layout != DPDK_SHARED_LAYOUT)
        return error_set(error, ERROR_UNSUPPORTED, "the primary is of another version: what is shared is not as it is here");
    return true;
}
