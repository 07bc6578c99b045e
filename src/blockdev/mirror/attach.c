/* Legs' devices come and go: found by name, opened, given to the home reactor, and taken back when they are removed. What is in
 * struct mirror_attach is the control reactor's; the home learns of it by messages, and has leg->channel. The device may be there
 * when the mirror is made, or appear at any time later, again and again. Must not know what a leg holds. */
#include "blockdev/mirror/mirror_internal.h"

#include <stdio.h>

#define LOOK_AGAIN_NS NS_PER_S     /* at a device that is there and was not taken */
#define GIVEN_UP_NS (NS_PER_S / 2) /* a path that was only given up is back sooner */

static void look(struct mirror *mirror) { reactor_timer_start(mirror->control, &mirror->attach_timer, 0); }

/* ---- on the home reactor ---- */

static void come(struct reactor_message *message) {
    struct mirror_leg *leg = container_of(message, struct mirror_leg, attach.come);
    mirror_attach_here(leg);
    task_wake(&leg->task);
    mirror_start_wake(leg->mirror);
}

static void size_told(struct reactor_message *message) {
    struct mirror *mirror = container_of(message, struct mirror, sized);
    mirror->telling_size = false;
    if (mirror->told_size != mirror->size)
        mirror_tell_size(mirror);
    mirror_start_wake(mirror);
    mirror_tree_commands_wake(mirror);
}

/* Control: the home has room for what the size promises. */
static void take_size(struct reactor_message *message) {
    struct mirror *mirror = container_of(message, struct mirror, sized);
    mirror->geometry_size = mirror->told_size;
    if (!mirror->destroyed)
        block_device_set_size(&mirror->device, mirror->told_size / mirror->device.block_size);
    mirror->sized.run = size_told;
    reactor_post(mirror->home, &mirror->sized);
}

void mirror_tell_size(struct mirror *mirror) {
    if (mirror->telling_size)
        return; /* and again, when that has come back */
    mirror->telling_size = true;
    mirror->told_size = mirror->size;
    mirror->sized.run = take_size;
    reactor_post(mirror->control, &mirror->sized);
}

void mirror_attach_here(struct mirror_leg *leg) {
    struct mirror *mirror = leg->mirror;
    const struct block_device *device = leg->handle.device;
    leg->channel = block_channel_open(&leg->handle);
    assert(leg->channel != NULL);
    leg->replica = block_device_is_replica(device);
    leg->copies = !block_device_is_prompt(device);
    leg->trims = device->trim_reads_zero;
    leg->size = block_device_size(device);
    leg->told.why[0] = '\0';
    leg->losses_in_row = 0;
    leg->refused = false;
    leg->refusals = 0;
    leg->path_down_ns = 0;
    reactor_timer_stop(mirror->home, &leg->retry);
    leg->retry.deadline_ns = 0;
    if (mirror->size > 0 || leg->tie_breaker)
        return;
    if (!mirror_resize(mirror, leg->size)) {
        mirror_leg_detach(leg, "there is no memory for its size");
        return;
    }
    mirror->plain = !leg->replica;
    mirror_tell_size(mirror);
}

static void go(struct reactor_message *message) {
    struct mirror_leg *leg = container_of(message, struct mirror_leg, attach.go);
    mirror_leg_detach(leg, "its device was removed");
}

/* Control: nothing of the leg uses the handle any more. */
static void left(struct reactor_message *message) {
    struct mirror_leg *leg = container_of(message, struct mirror_leg, attach.left);
    struct mirror *mirror = leg->mirror;
    block_handle_close(&leg->handle);
    leg->attach.state = leg->attach.dropped ? ATTACH_FREE : ATTACH_AWAY;
    leg->attach.dropped = false;
    if (!mirror->destroyed)
        look(mirror);
}

void mirror_attach_leave(struct mirror_leg *leg) {
    struct mirror *mirror = leg->mirror;
    leg->leaving = leg->seen = false;
    block_channel_close(leg->channel);
    leg->channel = NULL;
    if (leg->told.why[0] == '\0')
        snprintf(leg->told.why, sizeof(leg->told.why), "its device was removed");
    leg->attach.left.run = left;
    reactor_post(mirror->control, &leg->attach.left);
}

/* Back at home: the control reactor sends no device any more. */
static void dropped(struct reactor_message *message) {
    struct mirror_leg *leg = container_of(message, struct mirror_leg, attach.drop);
    leg->dropping = false;
    leg->dropped = true;
    task_wake(&leg->task);
}

static void drop(struct reactor_message *message) {
    struct mirror_leg *leg = container_of(message, struct mirror_leg, attach.drop);
    if (leg->attach.state == ATTACH_AWAY)
        leg->attach.state = ATTACH_FREE;
    else if (leg->attach.state == ATTACH_THERE)
        leg->attach.state = ATTACH_LEAVING;
    leg->attach.dropped = leg->attach.state == ATTACH_LEAVING;
    leg->attach.drop.run = dropped;
    reactor_post(leg->mirror->home, &leg->attach.drop);
}

void mirror_attach_drop(struct mirror_leg *leg) {
    if (leg->dropping || leg->dropped)
        return;
    leg->dropping = true;
    leg->attach.drop.run = drop;
    reactor_post(leg->mirror->control, &leg->attach.drop);
}

/* Its connection is back, or dead: an engine without requests would not find out. One that was given up because the leg failed
 * something, or a leg that shares it, is back at once, and the leg is no better for it. */
static void path_changed(struct reactor_message *message) {
    struct mirror_leg *leg = container_of(message, struct mirror_leg, attach.hint);
    atomic_store(&leg->attach.hinted, false);
    if (leg->channel == NULL)
        return;
    uint64_t now = reactor_now_ns(leg->mirror->home), since = leg->path_down_ns;
    bool up = block_device_path_is_up(leg->handle.device);
    leg->path_down_ns = up ? 0 : since != 0 ? since : now;
    if (!up)
        mirror_leg_lose(leg, io_status_words(IO_PATH_LOST));
    else if (!leg->refused || (since != 0 && now - since >= GIVEN_UP_NS))
        mirror_leg_retry(leg);
}

static void refused(struct reactor_message *message) {
    struct mirror_leg *leg = container_of(message, struct mirror_leg, attach.refused);
    if (leg->channel == NULL)
        snprintf(leg->told.why, sizeof(leg->told.why), "%.95s", leg->attach.refusal);
    atomic_store(&leg->attach.refusing, false);
}

/* ---- on the control reactor ---- */

static void leg_event(struct block_handle *handle, enum block_event event) {
    struct mirror_leg *leg = container_of(handle, struct mirror_leg, handle);
    struct mirror *mirror = leg->mirror;
    if (mirror->destroyed || leg->attach.state != ATTACH_THERE)
        return;
    if (event == BLOCK_EVENT_REMOVE) {
        leg->attach.state = ATTACH_LEAVING;
        leg->attach.go.run = go;
        reactor_post(mirror->home, &leg->attach.go);
    } else if (event == BLOCK_EVENT_PATH && !atomic_exchange(&leg->attach.hinted, true)) {
        leg->attach.hint.run = path_changed;
        reactor_post(mirror->home, &leg->attach.hint);
    }
}

/* The first one gives the mirror its size and its blocks; the others must agree. */
static bool check_geometry(struct mirror *mirror, const struct mirror_leg *leg, const struct block_device *device,
                           struct error *error) {
    struct block_device *own = &mirror->device;
    const char *name = leg->attach.name, *other = own->name;
    uint64_t size = block_device_size(device);
    for (unsigned i = MIRROR_LEGS_MAX; i-- > 0;)
        if (&mirror->legs[i] != leg && mirror->legs[i].handle.device != NULL && !mirror->legs[i].attach.tie_breaker)
            other = mirror->legs[i].attach.name;
    bool foreign = leg->attach.foreign;
    if (foreign && block_device_is_replica(device))
        return error_set(error, ERROR_INVALID, "%s keeps a record: it is no foreign leg", name);
    if (foreign && mirror->geometry_size == 0)
        return error_set(error, ERROR_BUSY, "%s waits for a leg with a record, which says how large it has to be", name);
    if (mirror->geometry_size > 0 && block_device_is_replica(device) == mirror->geometry_plain && !foreign) {
        error_set(error, ERROR_UNSUPPORTED, "%s and %s: one keeps a record, and the other does not", other, name);
        return error_hint(error, "say that the one without is a foreign leg");
    }
    if (foreign && mirror->geometry_plain)
        return error_set(error, ERROR_UNSUPPORTED, "%s: no leg keeps a record, so that none is foreign", name);
    if (leg->attach.tie_breaker)
        return true;
    bool open = mirror->geometry_size > 0 || (own->graph != NULL && !list_empty(&own->handles));
    if (open && device->block_size != own->block_size)
        return error_set(error, ERROR_INVALID, "%s has blocks of another size than %s: %u bytes", name, other,
                         device->block_size);
    /* Of a leg with a record the head's size is part of its tree: the home judges it, which knows the record. */
    if (mirror->geometry_size > 0 && size != mirror->geometry_size && !block_device_is_replica(device))
        return error_set(error, ERROR_INVALID, "%s is not as large as %s", name, other);
    if (size % REPLICA_BLOCK_BYTES != 0)
        return error_set(error, ERROR_INVALID, "the size of %s is no multiple of 4 KiB", name);
    return true;
}

static void take_geometry(struct mirror *mirror, const struct mirror_leg *leg, const struct block_device *device) {
    struct block_device *own = &mirror->device;
    own->volatile_cache = own->volatile_cache || device->volatile_cache;
    if (mirror->geometry_size > 0 || leg->attach.tie_breaker || leg->attach.foreign)
        return;
    mirror->geometry_size = block_device_size(device);
    mirror->geometry_plain = !block_device_is_replica(device);
    own->block_size = device->block_size;
    own->physical_block_size = device->physical_block_size;
    own->optimal_io_bytes = device->optimal_io_bytes;
    own->memory_alignment = device->memory_alignment;
}

bool mirror_attach_open(struct mirror_leg *leg, struct block_device *device, struct error *error) {
    struct mirror *mirror = leg->mirror;
    for (unsigned i = 0; i < MIRROR_LEGS_MAX; i++)
        if (&mirror->legs[i] != leg && mirror->legs[i].handle.device == device)
            return error_set(error, ERROR_EXISTS, "%s is named as a leg twice", leg->attach.name);
    if (device == &mirror->device)
        return error_set(error, ERROR_INVALID, "%s cannot be a leg of itself", leg->attach.name);
    leg->handle = (struct block_handle){.owner = mirror->device.name, .event = leg_event};
    if (!block_handle_open(&leg->handle, device, BLOCK_MODE_CLAIM, error)) {
        leg->handle.device = NULL;
        return false;
    }
    if (!check_geometry(mirror, leg, device, error)) {
        block_handle_close(&leg->handle);
        return false;
    }
    take_geometry(mirror, leg, device);
    leg->attach.uuid = device->uuid;
    leg->attach.state = ATTACH_THERE;
    return true;
}

void mirror_attach_send(struct mirror_leg *leg) {
    leg->attach.come.run = come;
    reactor_post(leg->mirror->home, &leg->attach.come);
}

/* Takes what is there now under the legs' names. */
static void attach_all(struct reactor_timer *timer) {
    struct mirror *mirror = container_of(timer, struct mirror, attach_timer);
    bool again = false;
    for (unsigned i = 0; i < MIRROR_LEGS_MAX; i++) {
        struct mirror_leg *leg = &mirror->legs[i];
        struct error error = {0};
        if (leg->attach.state != ATTACH_AWAY)
            continue;
        struct block_device *device = block_graph_find(mirror->graph, leg->attach.name);
        if (device == NULL)
            continue;
        if (mirror_attach_open(leg, device, &error)) {
            mirror_attach_send(leg);
            continue;
        }
        again = true;
        if (atomic_exchange(&leg->attach.refusing, true))
            continue;
        snprintf(leg->attach.refusal, sizeof(leg->attach.refusal), "%.95s", error.text);
        leg->attach.refused.run = refused;
        reactor_post(mirror->home, &leg->attach.refused);
    }
    if (again)
        reactor_timer_start(mirror->control, timer, reactor_now_ns(mirror->control) + LOOK_AGAIN_NS);
}

static bool lacks_leg(const struct mirror *mirror) {
    for (unsigned i = 0; i < MIRROR_LEGS_MAX; i++)
        if (mirror->legs[i].attach.state == ATTACH_AWAY)
            return true;
    return false;
}

static void told(struct block_watcher *watcher, const char *what, const struct block_device *device) {
    struct mirror *mirror = container_of(watcher, struct mirror, watcher);
    if (device != &mirror->device && strcmp(what, "bdev_register") == 0 && lacks_leg(mirror))
        look(mirror);
}

void mirror_attach_begin(struct mirror *mirror) {
    mirror->attach_timer = (struct reactor_timer){.run = attach_all};
    mirror->watcher.told = told;
    block_graph_watch(mirror->graph, &mirror->watcher);
    look(mirror);
}

void mirror_attach_end(struct mirror *mirror) {
    mirror->destroyed = true;
    if (list_linked(&mirror->watcher.node))
        block_graph_unwatch(&mirror->watcher);
    reactor_timer_stop(mirror->control, &mirror->attach_timer);
}
