/* What stands behind a vhost_user port: a virtual machine's rings, by DPDK's vhost library itself. Not by its Ethernet device
 * net_vhost, which a secondary process cannot close. What the machine told of itself, whether its memory is still there, and
 * what wakes its reader. docs/packet.md, "Guests". */
#include "packet/dpdk/internal.h"
#include "reactor/reactor.h"

#include <rte_vhost.h>
#include <stdio.h>
#include <stdlib.h>

/* virtio 1.2, 5.1.3 */
enum { GUEST_CSUM = 1, GUEST_TSO4 = 7, GUEST_TSO6 = 8 };

/* A queue's two rings, as the library counts them. */
static uint16_t ring_to_guest(unsigned queue) { return (uint16_t)(queue * 2); }
static uint16_t ring_from_guest(unsigned queue) { return (uint16_t)(queue * 2 + 1); }

static bool has(uint64_t features, unsigned bit) { return (features >> bit & 1) != 0; }

/* ---- whose device it is ---- */

/* The library calls without an argument of ours: what it calls about is found by the socket's path. All other state hangs on
 * ports. */
static struct guest_list {
    struct dpdk_lock lock;
    struct list guests;
} guest_list = {.guests = {{&guest_list.guests.head, &guest_list.guests.head}}};

/* NULL: it is being closed. */
static struct dpdk_port *port_of(int device) {
    char path[sizeof(((struct dpdk_guest *)0)->path)];
    struct dpdk_port *found = NULL;
    if (rte_vhost_get_ifname(device, path, sizeof(path)) != 0)
        return NULL;
    dpdk_lock(&guest_list.lock);
    list_for_each (&guest_list.guests, struct dpdk_guest, guest, node)
        if (strcmp(guest->path, path) == 0)
            found = container_of(guest, struct dpdk_port, guest);
    dpdk_unlock(&guest_list.lock);
    return found;
}

static void list_add(struct dpdk_guest *guest) {
    dpdk_lock(&guest_list.lock);
    list_push_back(&guest_list.guests, &guest->node);
    dpdk_unlock(&guest_list.lock);
}

static void list_drop(struct dpdk_guest *guest) {
    dpdk_lock(&guest_list.lock);
    list_remove(&guest->node);
    dpdk_unlock(&guest_list.lock);
}

static bool is_listed(const char *path) {
    bool found = false;
    dpdk_lock(&guest_list.lock);
    list_for_each (&guest_list.guests, struct dpdk_guest, guest, node)
        found |= strcmp(guest->path, path) == 0;
    dpdk_unlock(&guest_list.lock);
    return found;
}

/* ---- what the library tells; in its thread ---- */

/* A port has one peer at a time, the first that says something: a server's socket lets others in as well, but nothing of theirs
 * may count for it. */
static bool is_peer(const struct dpdk_port *port, int device) { return port != NULL && atomic_load(&port->guest.peer) == device; }

static void forget_memory(struct dpdk_guest *guest) {
    dpdk_lock(&guest->lock);
    guest->region_count = 0;
    guest->mapped_from = host_linux_lost_mappings();
    dpdk_unlock(&guest->lock);
}

/* What was lost since it was mapped counts, whoever has looked meanwhile. */
static void note_memory(struct dpdk_guest *guest, int device) {
    struct rte_vhost_memory *memory = NULL;
    if (rte_vhost_get_mem_table(device, &memory) != 0)
        return;
    dpdk_lock(&guest->lock);
    guest->region_count = min_u32(memory->nregions, DPDK_REGIONS_MAX);
    for (unsigned i = 0; i < guest->region_count; i++) {
        guest->regions[i].start = memory->regions[i].mmap_addr;
        guest->regions[i].size = memory->regions[i].mmap_size;
    }
    atomic_store(&guest->lost_seen, guest->mapped_from);
    dpdk_unlock(&guest->lock);
    free(memory);
}

static void peer_came(struct dpdk_guest *guest, int device) {
    forget_memory(guest);
    atomic_store(&guest->lost, false);
    atomic_store(&guest->takes_queues, 0);
    atomic_store(&guest->sends_queues, 0);
    atomic_store(&guest->peer, device);
}

/* Every vhost-user message begins with what it asks for. A new table of memory, which comes while the rings run too, takes the
 * mappings of the last one away, and the library tells it in no other way. */
enum { MESSAGE_SET_MEM_TABLE = 5 };
static bool is_new_memory(const void *message) { return *(const uint32_t *)message == MESSAGE_SET_MEM_TABLE; }

static enum rte_vhost_msg_result before_message(int device, void *message) {
    struct dpdk_port *port = port_of(device);
    if (is_new_memory(message) && is_peer(port, device))
        forget_memory(&port->guest);
    return RTE_VHOST_MSG_RESULT_NOT_HANDLED;
}

/* An error ends the connection. Only now: the library has let go of the message's descriptors. */
static enum rte_vhost_msg_result after_message(int device, void *message) {
    struct dpdk_port *port = port_of(device);
    if (port == NULL)
        return RTE_VHOST_MSG_RESULT_NOT_HANDLED;
    if (atomic_load(&port->guest.peer) < 0)
        peer_came(&port->guest, device);
    if (!is_peer(port, device))
        return RTE_VHOST_MSG_RESULT_ERR;
    if (is_new_memory(message))
        note_memory(&port->guest, device);
    return RTE_VHOST_MSG_RESULT_NOT_HANDLED;
}

/* The library serves all peers in one thread, by calls that wait. One that falls silent in the middle of a message, or does not
 * read its answers, has hung up after so long: the thread is needed by others, and by who closes the port. Its peers' messages
 * are written as one, so who has begun one has sent it. */
enum { PEER_WAITS_MS = 250 };

/* The library does not look at whether an answer went. By the linker's names (--wrap in meson.build). */
int wrap_send(char *path, int socket, char *message, int length, int *files, int file_count) __asm__("__wrap_send_fd_message");
int real_send(char *path, int socket, char *message, int length, int *files, int file_count) __asm__("__real_send_fd_message");

int wrap_send(char *path, int socket, char *message, int length, int *files, int file_count) {
    int result = real_send(path, socket, message, length, files, file_count);
    if (result < 0)
        host_linux_hang_up(socket); /* what it asked before that is answered without a wait, and then the library sees the end */
    return result;
}

static int peer_connects(int device) {
    static const struct rte_vhost_user_extern_ops messages = {.pre_msg_handle = before_message, .post_msg_handle = after_message};
    host_linux_bound_streams(PEER_WAITS_MS); /* which of them is this one's, nobody tells */
    return rte_vhost_extern_callback_register(device, &messages, NULL);
}

/* Its memory is unmapped once this returns. */
static void peer_went(int device) {
    struct dpdk_port *port = port_of(device);
    if (!is_peer(port, device))
        return;
    forget_memory(&port->guest);
    atomic_store(&port->guest.peer, -1);
}

static void note_features(struct dpdk_guest *guest, uint64_t features) {
    atomic_store(&guest->takes_sums, has(features, GUEST_CSUM));
    atomic_store(&guest->takes_big_v4, has(features, GUEST_TSO4));
    atomic_store(&guest->takes_big_v6, has(features, GUEST_TSO6));
}

/* Nobody waits for that kick any more. The lock is held. */
static void forget_kick(struct dpdk_port *port, unsigned queue) {
    if (port->guest.kicks[queue] >= 0)
        host_linux_epoll_drop(port->wake_fd, port->guest.kicks[queue]);
    port->guest.kicks[queue] = -1;
}

static void forget_kicks(struct dpdk_port *port) {
    dpdk_lock(&port->guest.lock);
    for (unsigned queue = 0; queue < port->queue_count; queue++)
        forget_kick(port, queue);
    dpdk_unlock(&port->guest.lock);
}

static void wake_reader(struct dpdk_port *port) {
    struct reactor *reader = atomic_load(&port->reader);
    if (reader != NULL)
        host_loop_wake(reader->loop);
}

/* The rings are set up. */
static int device_came(int device) {
    struct dpdk_port *port = port_of(device);
    uint64_t features = 0;
    if (!is_peer(port, device))
        return -1;
    struct dpdk_guest *guest = &port->guest;
    rte_vhost_get_negotiated_features(device, &features);
    note_features(guest, features);
    atomic_fetch_add(&guest->kicks_changed, 1);
    atomic_store(&guest->device, device);
    atomic_store(&guest->here, true);
    wake_reader(port);
    return 0;
}

/* They are not any more, once this returns: nobody may be in the library with them. */
static void device_went(int device) {
    struct dpdk_port *port = port_of(device);
    if (!is_peer(port, device))
        return;
    struct dpdk_guest *guest = &port->guest;
    atomic_store(&guest->here, false);
    atomic_store(&guest->device, -1); /* seq_cst: a worker says that it is in before it reads this */
    while (atomic_load(&guest->receiving) || atomic_load(&guest->sending))
        rte_pause();
    forget_kicks(port); /* the library closes them, and the machine may keep what they stand for */
    note_features(guest, 0);
    atomic_fetch_add(&guest->kicks_changed, 1);
    wake_reader(port);
}

static int ring_changed(int device, uint16_t ring, int enabled) {
    struct dpdk_port *port = port_of(device);
    if (!is_peer(port, device) || ring / 2 >= PACKET_QUEUES_MAX)
        return 0;
    uint32_t bit = 1u << ring / 2;
    _Atomic uint32_t *queues = ring % 2 == 0 ? &port->guest.takes_queues : &port->guest.sends_queues;
    if (enabled)
        atomic_fetch_or(queues, bit);
    else
        atomic_fetch_and(queues, ~bit);
    if (ring % 2 != 0 && ring / 2 < port->queue_count) { /* the library may be about to close its kick */
        dpdk_lock(&port->guest.lock);
        forget_kick(port, ring / 2);
        dpdk_unlock(&port->guest.lock);
    }
    atomic_fetch_add(&port->guest.kicks_changed, 1);
    wake_reader(port);
    return 0;
}

static const struct rte_vhost_device_ops told = {.new_device = device_came,
                                                 .destroy_device = device_went,
                                                 .vring_state_changed = ring_changed,
                                                 .new_connection = peer_connects,
                                                 .destroy_connection = peer_went};

void dpdk_guest_look(struct dpdk_port *port) {
    struct dpdk_guest *guest = &port->guest;
    dpdk_lock(&guest->lock);
    unsigned from = atomic_load(&guest->lost_seen), now = host_linux_lost_mappings();
    for (unsigned i = 0; i < guest->region_count; i++)
        if (host_linux_lost_mapping(from, guest->regions[i].start, guest->regions[i].size))
            atomic_store(&guest->lost, true);
    atomic_store(&guest->lost_seen, now);
    dpdk_unlock(&guest->lock);
}

/* ---- life; in a helper thread, one at a time ---- */

bool dpdk_guest_open(struct dpdk_port *port, const struct packet_port_options *options, struct error *error) {
    struct dpdk_guest *guest = &port->guest;
    /* Frames' states as DPDK documents them now, not as this library once had them. */
    uint64_t flags = RTE_VHOST_USER_NET_COMPLIANT_OL_FLAGS | (options->client ? RTE_VHOST_USER_CLIENT : 0);
    atomic_store(&guest->device, -1);
    atomic_store(&guest->peer, -1);
    atomic_store(&guest->lost_seen, host_linux_lost_mappings());
    for (unsigned queue = 0; queue < PACKET_QUEUES_MAX; queue++)
        guest->kicks[queue] = -1;
    snprintf(guest->path, sizeof(guest->path), "%s", options->socket);
    if (is_listed(guest->path))
        return error_set(error, ERROR_EXISTS, "port %s: another port has the socket %s", options->name, guest->path);
    if (rte_vhost_driver_register(guest->path, flags) != 0)
        return error_set(error, ERROR_IO, "port %s cannot be opened at %s", options->name, guest->path);
    guest->registered = true;
    list_add(guest);
    if (rte_vhost_driver_callback_register(guest->path, &told) != 0 || rte_vhost_driver_start(guest->path) != 0)
        return error_set(error, ERROR_IO, "port %s does not start at %s", options->name, guest->path);
    return true;
}

void dpdk_guest_close(struct dpdk_port *port) {
    struct dpdk_guest *guest = &port->guest;
    if (!guest->registered)
        return;
    rte_vhost_driver_unregister(guest->path);
    list_drop(guest);
}

/* ---- waking; the reading worker ---- */

/* False: it has no descriptor. */
static bool listen_to(struct dpdk_port *port, int device, unsigned queue) {
    struct dpdk_guest *guest = &port->guest;
    struct rte_vhost_vring ring;
    /* The library holds its queues' locks when it calls us: none of them is asked for with ours held. */
    dpdk_lock(&guest->lock);
    if (guest->kicks[queue] < 0 && rte_vhost_get_vhost_vring(device, ring_from_guest(queue), &ring) == 0 && ring.kickfd >= 0 &&
        host_linux_epoll_add(port->wake_fd, ring.kickfd) == 0)
        guest->kicks[queue] = ring.kickfd;
    bool listens = guest->kicks[queue] >= 0;
    dpdk_unlock(&guest->lock);
    return listens;
}

/* In the library from now on, unless it is -1. */
static int enter(struct dpdk_guest *guest, _Atomic bool *in) {
    atomic_store(in, true); /* seq_cst: before the look at the device */
    int device = atomic_load(&guest->device);
    if (unlikely(device < 0))
        atomic_store_explicit(in, false, memory_order_release);
    return device;
}

static void leave(_Atomic bool *in) { atomic_store_explicit(in, false, memory_order_release); }

/* Rings are new, or their descriptors. No kicks, then: each is a system call of the guest's or leaves its machine. Not of
 * frames, for which arm() asks, nor of buffers to receive in, which nobody waits for. */
static __attribute__((noinline)) void see_rings(struct dpdk_port *port, int device, unsigned changed) {
    forget_kicks(port);
    for (unsigned queue = 0; queue < port->queue_count; queue++) {
        rte_vhost_enable_guest_notification(device, ring_from_guest(queue), 0);
        rte_vhost_enable_guest_notification(device, ring_to_guest(queue), 0);
    }
    port->guest.kicks_seen = changed;
}

/* In the library, with rings as they are now: not in a callback of its, which holds their locks. -1: they are not there. */
static int enter_to_read(struct dpdk_port *port) {
    struct dpdk_guest *guest = &port->guest;
    int device = enter(guest, &guest->receiving);
    unsigned changed = atomic_load_explicit(&guest->kicks_changed, memory_order_acquire);
    if (unlikely(changed != guest->kicks_seen) && device >= 0)
        see_rings(port, device, changed);
    return device;
}

bool dpdk_guest_arm(struct dpdk_port *port) {
    struct dpdk_guest *guest = &port->guest;
    bool listens = false;
    int device = enter_to_read(port);
    if (device < 0)
        return true; /* its coming wakes */
    for (unsigned queue = 0; queue < port->queue_count; queue++)
        /* Queues that the guest does not use have nothing to wake us with, nor a need to. */
        if (listen_to(port, device, queue)) {
            rte_vhost_enable_guest_notification(device, ring_from_guest(queue), 1);
            listens = listens || queue == 0;
        }
    leave(&guest->receiving);
    host_linux_epoll_forget(port->wake_fd); /* what came while we were awake */
    return listens;
}

void dpdk_guest_disarm(struct dpdk_port *port, bool for_good) {
    struct dpdk_guest *guest = &port->guest;
    int device = enter(guest, &guest->receiving);
    if (device >= 0) {
        for (unsigned queue = 0; queue < port->queue_count; queue++)
            rte_vhost_enable_guest_notification(device, ring_from_guest(queue), 0);
        leave(&guest->receiving);
    }
    if (for_good)
        forget_kicks(port);
}

/* ---- frames ---- */

unsigned dpdk_guest_receive(struct dpdk_port *port, struct rte_mbuf **ret_frames, unsigned capacity) {
    struct dpdk_guest *guest = &port->guest;
    struct rte_mempool *pool = port->backend->pool;
    int device = enter_to_read(port);
    if (device < 0)
        return 0;
    /* The library complains of every look at a ring that the peer does not have. */
    uint32_t queues = port->queue_count == 1 ? 1 : atomic_load_explicit(&guest->sends_queues, memory_order_relaxed);
    unsigned count = 0;
    for (unsigned i = 0; i < port->queue_count && count < capacity; i++) {
        unsigned queue = (port->next_queue + i) % port->queue_count;
        if (unlikely((queues >> queue & 1) == 0))
            continue;
        count += rte_vhost_dequeue_burst(device, ring_from_guest(queue), pool, ret_frames + count, (uint16_t)(capacity - count));
    }
    leave(&guest->receiving);
    if (port->queue_count > 1)
        port->next_queue = (uint16_t)((port->next_queue + 1) % port->queue_count);
    return count;
}

unsigned dpdk_guest_send(struct dpdk_port *port, uint16_t queue, struct rte_mbuf **frames, unsigned count) {
    struct dpdk_guest *guest = &port->guest;
    int device = enter(guest, &guest->sending);
    if (device < 0)
        return 0;
    unsigned sent = rte_vhost_enqueue_burst(device, ring_to_guest(queue), frames, (uint16_t)count);
    leave(&guest->sending);
    rte_pktmbuf_free_bulk(frames, sent); /* they were copied */
    return sent;
}
