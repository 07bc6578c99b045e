/* Rings between the processes that share frames: DPDK's, found by their ports' names. One that is open in several processes may
 * have several readers and writers, which costs an interlocked instruction a burst, and is sound whoever is attached. The
 * process that closes it last frees it. docs/packet-processes.md.
 *
 * A reader that is about to sleep leaves a mark at the ring and looks into it once more; a writer looks for marks once its frames
 * are seen, takes them away, and signals whose they are: each worker has a descriptor that all processes were given when they
 * joined. While the reader is awake there is no mark, and the writer reads a line of memory that nobody writes. */
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
    _Alignas(64) _Atomic uint64_t sleepers[RTE_MAX_LCORE / 64]; /* readers that are to be woken, bit by bit, by their lcore */
};

struct dpdk_shared {
    uint32_t layout;     /* DPDK_SHARED_LAYOUT */
    rte_spinlock_t lock; /* of all; who dies with it takes all processes along */
    struct shared_ring rings[SHARED_RINGS_MAX];
};

struct ring_port {
    struct packet_port port;
    struct dpdk_backend *backend;
    struct shared_ring *place;
    struct rte_ring *ring;
    struct dpdk_lcore *reader; /* in this process; its own */
};

static struct ring_port *ring_of(struct packet_port *port) { return container_of(port, struct ring_port, port); }

static unsigned ring_receive(struct packet_port *port, struct packet **ret_packets, unsigned capacity) {
    return rte_ring_dequeue_burst(ring_of(port)->ring, (void **)ret_packets, capacity, NULL);
}

static __attribute__((noinline)) void wake_sleepers(struct ring_port *ring, unsigned word) {
    uint64_t sleepers = atomic_exchange(&ring->place->sleepers[word], 0);
    for (; sleepers != 0; sleepers &= sleepers - 1)
        host_linux_event_signal(ring->backend->lcores[word * 64 + (unsigned)__builtin_ctzll(sleepers)].wake_fd);
}

static unsigned ring_send(struct packet_port *port, struct packet **packets, unsigned count) {
    struct ring_port *ring = ring_of(port);
    unsigned sent = rte_ring_enqueue_burst(ring->ring, (void *const *)packets, count, NULL);
    atomic_thread_fence(memory_order_seq_cst); /* the frames are seen before we look whether a reader sleeps */
    for (unsigned word = 0; sent > 0 && word < array_count(ring->place->sleepers); word++)
        if (unlikely(atomic_load_explicit(&ring->place->sleepers[word], memory_order_relaxed) != 0))
            wake_sleepers(ring, word);
    return sent;
}

static bool ring_sleep(struct packet_port *port, bool asleep) {
    struct ring_port *ring = ring_of(port);
    const struct dpdk_lcore *reader = ring->reader;
    if (reader->waker == NULL)
        return false;
    _Atomic uint64_t *sleepers = &ring->place->sleepers[reader->lcore / 64];
    uint64_t mark = UINT64_C(1) << reader->lcore % 64;
    if (asleep) {
        atomic_fetch_or(sleepers, mark);
        atomic_thread_fence(memory_order_seq_cst); /* the mark is seen before we look for the last time */
    } else {
        atomic_fetch_and(sleepers, ~mark);
    }
    return true;
}

static void ring_read_by(struct packet_port *port, struct reactor *worker, bool begins) {
    struct ring_port *ring = ring_of(port);
    (void)worker;
    if (begins)
        ring->reader = &ring->backend->lcores[rte_lcore_id()];
    else
        ring_sleep(port, false);
}

static bool ring_is_up(struct packet_port *port) { return (void)port, true; }

static void ring_destroy(struct packet_port *port) {
    struct ring_port *ring = ring_of(port);
    rte_spinlock_lock(&ring->backend->shared->lock);
    if (--ring->place->opened == 0) {
        void *frame;
        while (rte_ring_dequeue(ring->ring, &frame) == 0)
            rte_pktmbuf_free(frame);
        rte_ring_free(ring->ring);
    }
    rte_spinlock_unlock(&ring->backend->shared->lock);
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
    ring->backend = backend;
    ring->place = place;
    ring->ring = place->ring;
    *ret_port = &ring->port;
    return true;
}

void dpdk_shared_thread(struct packet_backend *base, bool begins) {
    struct dpdk_backend *backend = container_of(base, struct dpdk_backend, backend);
    struct dpdk_lcore *lcore = &backend->lcores[rte_lcore_id()];
    if (begins) {
        /* Once for each signal: one may come when the ring that it is about has gone, and nobody takes it back. */
        if (lcore->wake_fd >= 0 && host_linux_waker_open(reactor_current()->loop, lcore->wake_fd, true, &lcore->waker) != 0)
            lcore->waker = NULL; /* it looks into its rings now and then */
        return;
    }
    if (lcore->waker != NULL)
        host_linux_waker_close(lcore->waker);
    lcore->waker = NULL;
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
