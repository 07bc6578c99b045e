/* Namespaces and their block devices. */
#include <stdio.h>
#include <stdlib.h>

#include "block/replica.h"
#include "blockdev/nvme_tcp/internal.h"

/* ---- the device ---- */

static struct initiator_namespace *of(const struct block_device *device) {
    return container_of(device, struct initiator_namespace, device);
}

static void submit(struct block_channel *channel, struct block_request *request) {
    struct initiator_queue **queue = block_channel_private(channel);
    initiator_queue_submit(*queue, request);
}

static bool abort_request(struct block_channel *channel, struct block_request *request) {
    struct initiator_queue **queue = block_channel_private(channel);
    return initiator_queue_abort(*queue, request);
}

static void recall(struct block_channel *channel) {
    struct initiator_queue **queue = block_channel_private(channel);
    initiator_queue_recall(*queue);
}

/* The first channel of any of the controller's devices on a reactor makes that reactor's queue; it stays with the controller. */
static bool channel_open(struct block_channel *channel) {
    struct nvme_initiator_controller *controller = of(block_channel_device(channel))->controller;
    struct initiator_queue **own = block_channel_private(channel);
    unsigned index = block_channel_reactor(channel)->index;
    assert(index < controller->queue_slots);
    struct initiator_queue *queue = atomic_load(&controller->queues[index]);
    if (queue == NULL) {
        queue = initiator_queue_create(controller);
        if (queue == NULL)
            return false;
        atomic_store(&controller->queues[index], queue);
        initiator_look_post(&queue->to_control, controller->initiator->control);
    }
    *own = queue;
    return true;
}

static void destroy(struct block_device *device) {
    struct initiator_namespace *namespace = of(device);
    struct nvme_initiator_controller *controller = namespace->controller;
    list_remove(&namespace->node);
    free(namespace);
    controller->namespace_count--;
    task_wake(&controller->task);
}

const struct block_device_ops initiator_namespace_ops = {
    .kind = "nvme_tcp",
    .product_name = "NVMe disk",
    .submit = submit,
    .abort = abort_request,
    .recall = recall,
    .channel_private_size = sizeof(struct initiator_queue *),
    .channel_open = channel_open,
    .destroy = destroy,
};

bool nvme_initiator_device_is(const struct block_device *device) { return device->ops == &initiator_namespace_ops; }

uint32_t nvme_initiator_device_nsid(const struct block_device *device) {
    assert(nvme_initiator_device_is(device));
    return of(device)->facts.nsid;
}

bool nvme_initiator_device_can_share(const struct block_device *device) {
    assert(nvme_initiator_device_is(device));
    return of(device)->facts.can_share;
}

const char *nvme_initiator_device_ana_state(const struct block_device *device) {
    assert(nvme_initiator_device_is(device));
    if (!of(device)->controller->association.facts.ana)
        return NULL;
    switch (atomic_load(&of(device)->ana_state)) {
    case NVME_ANA_OPTIMIZED: return "optimized";
    case NVME_ANA_NON_OPTIMIZED: return "non_optimized";
    case NVME_ANA_LOST_STATE: return "persistent_loss";
    case NVME_ANA_CHANGE: return "change";
    default: return "inaccessible";
    }
}

struct nvme_initiator_controller *nvme_initiator_device_controller(const struct block_device *device) {
    assert(nvme_initiator_device_is(device));
    return of(device)->controller;
}

struct block_device *nvme_initiator_device_next(struct nvme_initiator_controller *controller, const struct block_device *after) {
    struct list_node *end = &controller->namespaces.head, *node = after == NULL ? end->next : of(after)->node.next;
    while (node != end && atomic_load(&list_entry(node, struct initiator_namespace, node)->gone))
        node = node->next;
    return node == end ? NULL : &list_entry(node, struct initiator_namespace, node)->device;
}

/* ---- agreeing with the controller ---- */

static void remove_one(struct initiator_namespace *namespace) {
    struct nvme_initiator_controller *controller = namespace->controller;
    if (atomic_exchange(&namespace->gone, true))
        return;
    atomic_fetch_add(&controller->gone_count, 1);
    for (unsigned i = 0; i < controller->queue_slots; i++) {
        struct initiator_queue *queue = atomic_load(&controller->queues[i]);
        if (queue != NULL)
            initiator_queue_tell(queue);
    }
    (void)block_device_remove(&namespace->device, NULL, NULL, NULL); /* fails only if somebody else has begun it */
}

static void add_one(struct nvme_initiator_controller *controller, const struct initiator_namespace_facts *facts) {
    struct initiator_namespace *namespace = calloc(1, sizeof(*namespace));
    if (namespace == NULL)
        return; /* the next look at the list tries again */
    const struct initiator_controller_facts *abilities = &controller->association.facts;
    struct block_device *device = &namespace->device;
    namespace->controller = controller;
    namespace->facts = *facts;
    atomic_store(&namespace->ana_state, (uint8_t)facts->ana_state);
    device->ops = &initiator_namespace_ops;
    snprintf(device->name, sizeof(device->name), "%sn%u", controller->name, facts->nsid);
    device->uuid = facts->uuid;
    device->block_size = facts->block_size;
    device->physical_block_size = facts->physical_block_size;
    device->optimal_io_bytes = facts->optimal_io_bytes;
    device->native_ops = BLOCK_BIT(BLOCK_READ) | BLOCK_BIT(BLOCK_WRITE);
    if (abilities->volatile_cache)
        device->native_ops |= BLOCK_BIT(BLOCK_FLUSH);
    if (abilities->trim_max_blocks > 0)
        device->native_ops |= BLOCK_BIT(BLOCK_TRIM);
    if (abilities->zeroes_max > 0)
        device->native_ops |= BLOCK_BIT(BLOCK_WRITE_ZEROES);
    if (abilities->compare)
        device->native_ops |= BLOCK_BIT(BLOCK_COMPARE);
    if (facts->replica && abilities->transfer_max >= REPLICA_DOCUMENT_MAX) {
        device->native_ops |= BLOCK_BIT(BLOCK_REPLICA_PUT) | BLOCK_BIT(BLOCK_REPLICA_GET);
        atomic_store(&controller->slots_reserved, 1);
    }
    device->native_fua = true;
    device->prompt = true;
    atomic_store(&device->path_down, true); /* until its association is ready */
    device->volatile_cache = abilities->volatile_cache;
    device->trim_reads_zero = facts->trim_reads_zero;
    atomic_store(&device->read_only, facts->read_only);
    atomic_store(&device->block_count, facts->block_count);
    struct block_graph *graph = controller->initiator->graph;
    bool ok = block_device_register(graph, device, NULL);
    if (!ok && !uuid_is_nil(&facts->uuid)) { /* the same disk is here under another name: only the name must be ours */
        device->uuid = (struct uuid){{0}};
        ok = block_device_register(graph, device, NULL);
    }
    if (!ok) {
        free(namespace);
        return;
    }
    controller->namespace_count++;
    struct list_node *at = controller->namespaces.head.prev;
    while (at != &controller->namespaces.head && list_entry(at, struct initiator_namespace, node)->facts.nsid > facts->nsid)
        at = at->prev;
    list_insert_after(at, &namespace->node);
}

static const struct initiator_namespace_facts *found(const struct nvme_initiator_controller *controller, uint32_t nsid) {
    for (unsigned i = 0; i < controller->found_count; i++)
        if (controller->found[i].nsid == nsid && controller->found[i].usable)
            return &controller->found[i];
    return NULL;
}

static bool is_known(const struct nvme_initiator_controller *controller, uint32_t nsid) {
    list_for_each (&controller->namespaces, struct initiator_namespace, namespace, node)
        if (namespace->facts.nsid == nsid && !atomic_load(&namespace->gone))
            return true;
    return false;
}

/* Another disk under an old number: its identity says so. */
static bool is_same(const struct initiator_namespace_facts *a, const struct initiator_namespace_facts *b) {
    return a->block_size == b->block_size && uuid_equal(&a->uuid, &b->uuid);
}

void initiator_namespaces_publish(struct nvme_initiator_controller *controller) {
    list_for_each_safe (&controller->namespaces, struct initiator_namespace, namespace, node) {
        if (atomic_load(&namespace->gone))
            continue;
        const struct initiator_namespace_facts *now = found(controller, namespace->facts.nsid);
        if (now == NULL || !is_same(now, &namespace->facts)) {
            remove_one(namespace);
            continue;
        }
        bool resized = now->block_count != namespace->facts.block_count;
        namespace->facts.block_count = now->block_count; /* the rest is the same, and read on other reactors */
        atomic_store(&namespace->device.read_only, now->read_only);
        atomic_store(&namespace->ana_state, (uint8_t)now->ana_state);
        if (resized)
            block_device_set_size(&namespace->device, now->block_count);
    }
    for (unsigned i = 0; i < controller->found_count; i++)
        if (controller->found[i].usable && !is_known(controller, controller->found[i].nsid))
            add_one(controller, &controller->found[i]);
}

static bool is_accessible(const struct initiator_namespace *namespace) {
    unsigned state = atomic_load(&namespace->ana_state);
    return state == NVME_ANA_OPTIMIZED || state == NVME_ANA_NON_OPTIMIZED;
}

void initiator_namespaces_set_path(struct nvme_initiator_controller *controller, bool up) {
    list_for_each_safe (&controller->namespaces, struct initiator_namespace, namespace, node)
        if (!atomic_load(&namespace->gone))
            block_device_set_path(&namespace->device, up && is_accessible(namespace));
}

void initiator_namespaces_remove(struct nvme_initiator_controller *controller) {
    list_for_each_safe (&controller->namespaces, struct initiator_namespace, namespace, node)
        remove_one(namespace);
}
