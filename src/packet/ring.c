#include "packet/ring.h"

#include <stdio.h>
#include <stdlib.h>

#include "reactor/reactor.h"

struct packet_ring {
    struct packet_port port;
    struct packet_memory *memory;
    uint32_t mask;
    struct packet **slots;
    _Alignas(64) _Atomic uint32_t tail;            /* where the writer goes on */
    uint32_t head_seen;                            /* the writer's copy */
    _Alignas(64) _Atomic uint32_t head;            /* where the reader goes on */
    uint32_t tail_seen;                            /* the reader's copy */
    _Alignas(64) _Atomic(struct reactor *) reader; /* to be woken; NULL = nobody reads */
};

static struct packet_ring *ring_of(struct packet_port *port) { return container_of(port, struct packet_ring, port); }

static unsigned ring_receive(struct packet_port *port, struct packet **ret_packets, unsigned capacity) {
    struct packet_ring *ring = ring_of(port);
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    if (ring->tail_seen - head < capacity)
        /* seq_cst: the last look before a sleep must see what was sent before the writer looked whether we sleep */
        ring->tail_seen = atomic_load(&ring->tail);
    unsigned count = min_u32(ring->tail_seen - head, capacity);
    for (unsigned i = 0; i < count; i++)
        ret_packets[i] = ring->slots[(head + i) & ring->mask];
    if (count > 0)
        atomic_store_explicit(&ring->head, head + count, memory_order_release); /* the slots were read before */
    return count;
}

static unsigned ring_send(struct packet_port *port, struct packet **packets, unsigned count) {
    struct packet_ring *ring = ring_of(port);
    uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    if (ring->mask + 1 - (tail - ring->head_seen) < count)
        ring->head_seen = atomic_load_explicit(&ring->head, memory_order_acquire);
    count = min_u32(count, ring->mask + 1 - (tail - ring->head_seen));
    if (count == 0)
        return 0;
    for (unsigned i = 0; i < count; i++)
        ring->slots[(tail + i) & ring->mask] = packets[i];
    atomic_store(&ring->tail, tail + count); /* seq_cst: before the look at "asleep" */
    struct reactor *reader = atomic_load_explicit(&ring->reader, memory_order_acquire);
    if (reader != NULL && reader != reactor_current())
        host_loop_wake(reader->loop);
    return count;
}

static bool ring_sleep(struct packet_port *port, bool asleep) {
    (void)port, (void)asleep;
    return true;
}

static void ring_read_by(struct packet_port *port, struct reactor *worker, bool begins) {
    atomic_store(&ring_of(port)->reader, begins ? worker : NULL);
}

static bool ring_is_up(struct packet_port *port) { return (void)port, true; }

static void ring_destroy(struct packet_port *port) {
    struct packet_ring *ring = ring_of(port);
    struct packet *packet;
    while (ring_receive(port, &packet, 1) == 1)
        ring->memory->free(ring->memory, &packet, 1);
    free(ring->slots);
    free(ring);
}

static const struct packet_port_ops ring_ops = {.receive = ring_receive,
                                                .send = ring_send,
                                                .sleep = ring_sleep,
                                                .read_by = ring_read_by,
                                                .is_up = ring_is_up,
                                                .destroy = ring_destroy};

bool packet_ring_create(const char *name, uint32_t size, struct packet_memory *memory, struct packet_port **ret_port,
                        struct error *error) {
    if (!is_power_of_two(size) || size > PACKET_RING_SIZE_MAX) {
        char value[16];
        snprintf(value, sizeof(value), "%u", size);
        return error_invalid(error, "size", value, "a power of two up to %u", PACKET_RING_SIZE_MAX);
    }
    struct packet_ring *ring = aligned_alloc(64, round_up(sizeof(*ring), 64));
    struct packet **slots = calloc(size, sizeof(*slots));
    if (ring == NULL || slots == NULL) {
        free(ring);
        free(slots);
        return error_set(error, ERROR_NO_MEMORY, "no memory for a ring of %u", size);
    }
    memset(ring, 0, sizeof(*ring));
    ring->port.ops = &ring_ops;
    ring->port.kind = "ring";
    snprintf(ring->port.name, sizeof(ring->port.name), "%s", name);
    ring->memory = memory;
    ring->mask = size - 1;
    ring->slots = slots;
    *ret_port = &ring->port;
    return true;
}
