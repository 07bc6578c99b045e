/* Namespaces: opened on the control reactor, used on the subsystem's home. Each step between them is one message. */
#include <stdio.h>
#include <stdlib.h>

#include "frontend/nvme/internal.h"

static void on_attach(struct reactor_message *message);
static void on_detach(struct reactor_message *message);
static void on_detached(struct reactor_message *message);
static void on_resized(struct reactor_message *message);
static void on_path(struct reactor_message *message);

struct nvme_namespace *nvme_subsystem_find_namespace(struct nvme_subsystem *subsystem, uint32_t nsid) {
    list_for_each (&subsystem->namespaces, struct nvme_namespace, ns, node)
        if (ns->nsid == nsid)
            return ns;
    return NULL;
}

/* ---- the device tells ---- */

static void on_device_event(struct block_handle *handle, enum block_event event) {
    struct nvme_namespace *ns = container_of(handle, struct nvme_namespace, handle);
    if (event == BLOCK_EVENT_REMOVE && !ns->removing)
        nvme_namespace_remove(ns);
    if (event == BLOCK_EVENT_RESIZED && !ns->removing && !atomic_exchange(&ns->resize_posted, true)) {
        ns->resize_message.run = on_resized;
        reactor_post(ns->subsystem->home, &ns->resize_message);
    }
    if (event == BLOCK_EVENT_PATH && !ns->removing && !atomic_exchange(&ns->path_posted, true)) {
        ns->path_message.run = on_path;
        reactor_post(ns->subsystem->home, &ns->path_message);
    }
}

static void on_path(struct reactor_message *message) {
    struct nvme_namespace *ns = container_of(message, struct nvme_namespace, path_message);
    atomic_store(&ns->path_posted, false);
    nvme_namespace_look_away(ns);
}

static void attributes_changed(const struct nvme_namespace *ns) {
    list_for_each (&ns->subsystem->live, struct nvme_controller, controller, live_node)
        nvme_controller_namespace_event(controller, ns->nsid);
}

static void on_resized(struct reactor_message *message) {
    struct nvme_namespace *ns = container_of(message, struct nvme_namespace, resize_message);
    atomic_store(&ns->resize_posted, false);
    if (!ns->detaching)
        attributes_changed(ns);
}

/* ---- adding ---- */

static bool nsid_choose(struct nvme_subsystem *subsystem, uint32_t wanted, uint32_t *ret, struct error *error) {
    char number[16];
    snprintf(number, sizeof(number), "%u", wanted);
    if (wanted > subsystem->max_namespaces)
        return error_invalid(error, "nsid", number, "1 to %u", subsystem->max_namespaces);
    if (wanted != 0) {
        if (nvme_subsystem_find_namespace(subsystem, wanted) != NULL)
            return error_invalid(error, "nsid", number, "an id that is free");
        *ret = wanted;
        return true;
    }
    uint32_t nsid = 1; /* the list is in order of nsid */
    list_for_each (&subsystem->namespaces, struct nvme_namespace, ns, node)
        if (ns->nsid == nsid)
            nsid++;
    if (nsid > subsystem->max_namespaces)
        return error_invalid(error, "nsid", number, "a free id: all %u are taken", subsystem->max_namespaces);
    *ret = nsid;
    return true;
}

static void list_in_order(struct nvme_subsystem *subsystem, struct nvme_namespace *ns) {
    struct list_node *at = &subsystem->namespaces.head;
    list_for_each (&subsystem->namespaces, struct nvme_namespace, other, node)
        if (other->nsid < ns->nsid)
            at = &other->node;
    list_insert_after(at, &ns->node);
    subsystem->namespace_count++;
}

static bool device_open(struct nvme_namespace *ns, struct block_device *device, struct error *error) {
    ns->handle.owner = ns->subsystem->nqn;
    ns->handle.event = on_device_event;
    enum block_mode mode = atomic_load(&device->read_only) ? BLOCK_MODE_READ : BLOCK_MODE_WRITE;
    return block_handle_open(&ns->handle, device, mode, error);
}

bool nvme_subsystem_add_namespace(struct nvme_subsystem *subsystem, const struct nvme_namespace_options *options,
                                  uint32_t *ret_nsid, struct error *error) {
    struct block_device *device = block_graph_find(subsystem->target->graph, options->device);
    if (device == NULL)
        return error_set(error, ERROR_NO_DEVICE, "no block device %s", options->device);
    list_for_each (&subsystem->namespaces, struct nvme_namespace, other, node)
        if (other->device == device)
            return error_invalid(error, "bdev_name", options->device, "a device that %s has not yet", subsystem->nqn);
    if (device->block_size > 4096) {
        char number[16];
        snprintf(number, sizeof(number), "%u", device->block_size);
        return error_invalid(error, "bdev_name", number, "a device with blocks of 512 to 4096 bytes");
    }
    uint32_t nsid = 0;
    if (subsystem->discovery)
        return error_set(error, ERROR_PERMISSION, "the discovery subsystem has no namespaces");
    if (!nsid_choose(subsystem, options->nsid, &nsid, error))
        return false;
    if (options->anagrpid > subsystem->max_namespaces) {
        char number[16];
        snprintf(number, sizeof(number), "%u", options->anagrpid);
        return error_invalid(error, "anagrpid", number, "1 to %u, or 0 for its nsid", subsystem->max_namespaces);
    }
    struct nvme_namespace *ns = calloc(1, sizeof(*ns));
    if (ns == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory for a namespace");
    ns->subsystem = subsystem;
    ns->nsid = nsid;
    ns->anagrpid = options->anagrpid != 0 ? options->anagrpid : nsid;
    ns->device = device;
    ns->block_shift = log2_u64(device->block_size);
    ns->uuid = options->uuid != NULL ? *options->uuid : device->uuid;
    memcpy(ns->nguid, options->nguid != NULL ? options->nguid : ns->uuid.bytes, sizeof(ns->nguid));
    if (options->eui64 != NULL)
        memcpy(ns->eui64, options->eui64, sizeof(ns->eui64));
    if (!device_open(ns, device, error)) {
        free(ns);
        return false;
    }
    nvme_subsystem_settle_home(subsystem, device->home);
    list_in_order(subsystem, ns);
    ns->message.run = on_attach;
    reactor_post(subsystem->home, &ns->message);
    *ret_nsid = nsid;
    return true;
}

static void on_attach(struct reactor_message *message) {
    struct nvme_namespace *ns = container_of(message, struct nvme_namespace, message);
    struct nvme_subsystem *subsystem = ns->subsystem;
    ns->serial = ++subsystem->attach_count;
    ns->channel = block_channel_open(&ns->handle);
    if (ns->channel == NULL) /* no memory: it stays listed and inactive; removing it works */
        return;
    ns->away = !block_device_path_is_up(ns->device);
    subsystem->by_id[ns->nsid] = ns;
    attributes_changed(ns);
}

/* ---- removing ---- */

bool nvme_subsystem_remove_namespace(struct nvme_subsystem *subsystem, uint32_t nsid, nvme_done done, void *arg,
                                     struct error *error) {
    struct nvme_namespace *ns = nvme_subsystem_find_namespace(subsystem, nsid);
    if (ns == NULL)
        return error_set(error, ERROR_NOT_FOUND, "%s has no namespace %u", subsystem->nqn, nsid);
    if (ns->removing)
        return error_set(error, ERROR_BUSY, "namespace %u of %s is being removed", nsid, subsystem->nqn);
    ns->done = done;
    ns->done_arg = arg;
    nvme_namespace_remove(ns);
    return true;
}

void nvme_namespace_remove(struct nvme_namespace *ns) {
    ns->removing = true;
    ns->detach_message.run = on_detach;
    reactor_post(ns->subsystem->home, &ns->detach_message);
}

static void on_idle(struct reactor_job *job) {
    struct nvme_namespace *ns = container_of(job, struct nvme_namespace, detach_job);
    if (ns->channel != NULL)
        block_channel_close(ns->channel);
    ns->channel = NULL;
    ns->message.run = on_detached;
    reactor_post(ns->subsystem->target->control, &ns->message);
}

/* Later: the completion of its last request may still be on the stack, inside of the channel. */
void nvme_namespace_idle(struct nvme_namespace *ns) {
    if (ns->outstanding > 0)
        return;
    ns->detach_job.run = on_idle;
    reactor_defer(ns->subsystem->home, &ns->detach_job);
}

static void on_detach(struct reactor_message *message) {
    struct nvme_namespace *ns = container_of(message, struct nvme_namespace, detach_message);
    ns->detaching = true;
    if (ns->subsystem->by_id[ns->nsid] == ns) {
        ns->subsystem->by_id[ns->nsid] = NULL;
        attributes_changed(ns);
    }
    nvme_namespace_idle(ns);
}

static void on_detached(struct reactor_message *message) {
    struct nvme_namespace *ns = container_of(message, struct nvme_namespace, message);
    struct nvme_subsystem *subsystem = ns->subsystem;
    nvme_done done = ns->done;
    void *arg = ns->done_arg;
    list_remove(&ns->node);
    subsystem->namespace_count--;
    block_handle_close(&ns->handle);
    free(ns);
    if (done != NULL)
        done(arg);
    nvme_subsystem_try_finish(subsystem);
}
