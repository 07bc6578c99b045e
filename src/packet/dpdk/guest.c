/* What a virtual machine behind a vhost_user port told of itself, and whether its memory is still there. docs/packet.md,
 * "Guests". */
#include "packet/dpdk/internal.h"
#include "reactor/reactor.h"

#include <rte_eth_vhost.h>
#include <rte_vhost.h>
#include <stdlib.h>

/* virtio 1.2, 5.1.3 */
enum { GUEST_CSUM = 1, GUEST_TSO4 = 7, GUEST_TSO6 = 8 };

static bool has(uint64_t features, unsigned bit) { return (features >> bit & 1) != 0; }

static void note_memory(struct dpdk_guest *guest, int device) {
    struct rte_vhost_memory *memory = NULL;
    if (rte_vhost_get_mem_table(device, &memory) != 0)
        return;
    rte_spinlock_lock(&guest->lock);
    guest->region_count = min_u32(memory->nregions, DPDK_REGIONS_MAX);
    for (unsigned i = 0; i < guest->region_count; i++) {
        guest->regions[i].start = memory->regions[i].mmap_addr;
        guest->regions[i].size = memory->regions[i].mmap_size;
    }
    rte_spinlock_unlock(&guest->lock);
    free(memory);
}

/* The rings are set up, or not any more. */
static int link_changed(uint16_t id, enum rte_eth_event_type event, void *arg, void *unused) {
    (void)event, (void)unused;
    struct dpdk_port *port = arg;
    struct dpdk_guest *guest = &port->guest;
    struct rte_eth_link link;
    bool here = rte_eth_link_get_nowait(id, &link) == 0 && link.link_status == RTE_ETH_LINK_UP;
    int device = rte_eth_vhost_get_vid_from_port_id(id);
    uint64_t features = 0;
    if (here && device >= 0) {
        rte_vhost_get_negotiated_features(device, &features);
        note_memory(guest, device);
        /* What was lost in between may have been this one's: it is looked at before the first burst. */
        atomic_store(&guest->lost, false);
    } else {
        rte_spinlock_lock(&guest->lock);
        guest->region_count = 0;
        rte_spinlock_unlock(&guest->lock);
        atomic_store(&guest->takes_queues, 0);
        atomic_store(&guest->lost_seen, host_linux_lost_mappings());
    }
    atomic_store(&guest->takes_sums, has(features, GUEST_CSUM));
    atomic_store(&guest->takes_big_v4, has(features, GUEST_TSO4));
    atomic_store(&guest->takes_big_v6, has(features, GUEST_TSO6));
    atomic_store(&guest->here, here);
    struct reactor *reader = atomic_load(&port->reader);
    if (reader != NULL)
        host_loop_wake(reader->loop);
    return 0;
}

static int queue_changed(uint16_t id, enum rte_eth_event_type event, void *arg, void *unused) {
    (void)event, (void)unused;
    struct dpdk_guest *guest = &((struct dpdk_port *)arg)->guest;
    struct rte_eth_vhost_queue_event change;
    while (rte_eth_vhost_get_queue_event(id, &change) == 0) {
        if (change.rx || change.queue_id >= PACKET_QUEUES_MAX)
            continue; /* what it sends comes as it comes */
        uint32_t bit = 1u << change.queue_id;
        if (change.enable)
            atomic_fetch_or(&guest->takes_queues, bit);
        else
            atomic_fetch_and(&guest->takes_queues, ~bit);
    }
    return 0;
}

void dpdk_guest_look(struct dpdk_port *port) {
    struct dpdk_guest *guest = &port->guest;
    rte_spinlock_lock(&guest->lock);
    unsigned from = atomic_load(&guest->lost_seen), now = host_linux_lost_mappings();
    for (unsigned i = 0; i < guest->region_count; i++)
        if (host_linux_lost_mapping(from, guest->regions[i].start, guest->regions[i].size))
            atomic_store(&guest->lost, true);
    atomic_store(&guest->lost_seen, now);
    rte_spinlock_unlock(&guest->lock);
}

void dpdk_guest_watch(struct dpdk_port *port) {
    rte_spinlock_init(&port->guest.lock);
    atomic_store(&port->guest.lost_seen, host_linux_lost_mappings());
    rte_eth_dev_callback_register(port->id, RTE_ETH_EVENT_INTR_LSC, link_changed, port);
    rte_eth_dev_callback_register(port->id, RTE_ETH_EVENT_QUEUE_STATE, queue_changed, port);
}

void dpdk_guest_unwatch(struct dpdk_port *port) {
    rte_eth_dev_callback_unregister(port->id, RTE_ETH_EVENT_INTR_LSC, link_changed, port);
    rte_eth_dev_callback_unregister(port->id, RTE_ETH_EVENT_QUEUE_STATE, queue_changed, port);
}
