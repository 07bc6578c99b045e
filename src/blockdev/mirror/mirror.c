/* The mirror's life: made and removed on the control reactor, run on its home. */
#include "blockdev/mirror/fan.h"

#include <stdio.h>
#include <stdlib.h>

#define DEFAULT_STALL_MS 900
#define DEFAULT_HOLD_MS 30000

static const struct block_device_ops ops;

bool mirror_is(const struct block_device *device) { return device->ops == &ops; }

void *mirror_event_arg(const struct block_device *device) {
    return container_of(device, struct mirror, device)->options.event_arg;
}

/* ---- on the home reactor ---- */

static void assemble(struct reactor_message *message) {
    struct mirror *mirror = container_of(message, struct mirror, opened);
    mirror_for_each_leg(mirror, leg) if (leg->first) mirror_attach_here(leg);
    mirror->assembled = true;
    mirror_away_begin(mirror);
    mirror_epoch_init(mirror);
    mirror_tree_commands_begin(mirror);
    mirror_for_each_leg(mirror, leg) mirror_leg_begin(leg);
    mirror_start_begin(mirror);
}

static void free_all(struct mirror *mirror) {
    for (struct mirror_leg *leg = mirror->legs; leg < mirror->legs + MIRROR_LEGS_MAX; leg++) {
        mirror_leg_fini(leg);
        if (leg->handle.device != NULL)
            block_handle_close(&leg->handle);
    }
    mirror_copy_fini(mirror);
    mirror_retire_fini(mirror);
    mirror_tree_commands_fini(mirror);
    free(mirror->release_fan);
    mirror_verify_fini(mirror);
    mirror_repair_fini(mirror);
    regions_fini(&mirror->regions);
    free(mirror);
}

static void freed(struct reactor_message *message) {
    struct mirror *mirror = container_of(message, struct mirror, closed);
    void (*gone)(void *arg) = mirror->options.gone;
    void *arg = mirror->options.event_arg;
    free_all(mirror);
    if (gone != NULL)
        gone(arg);
}

static bool is_quiet(const struct mirror *mirror) {
    mirror_for_each_leg(mirror, leg) if (leg->outstanding > 0) return false;
    return mirror->ios.lent == 0 && mirror->adding == NULL && !mirror->path_busy && !mirror->release_waits &&
           !mirror_copy_is_busy(mirror) && !mirror_retire_is_busy(mirror) && !mirror_verify_is_busy(mirror) &&
           !mirror_repair_is_busy(mirror) && !mirror_tree_commands_are_busy(mirror) && !mirror->telling_size &&
           !mirror->settle_queued && !mirror->watch.busy;
}

/* All that is under way comes back first: no request comes from above any more. */
static void wind_down(struct reactor_timer *timer) {
    struct mirror *mirror = container_of(timer, struct mirror, tick);
    if (!is_quiet(mirror)) {
        reactor_timer_start(mirror->home, &mirror->tick, reactor_now_ns(mirror->home) + NS_PER_MS);
        return;
    }
    reactor_timer_stop(mirror->home, &mirror->hold_end);
    reactor_timer_stop(mirror->home, &mirror->start_timer);
    reactor_timer_stop(mirror->home, &mirror->command_timer);
    reactor_timer_stop(mirror->home, &mirror->give_up_timer);
    reactor_timer_stop(mirror->home, &mirror->store_deadline);
    mirror_for_each_leg(mirror, leg) {
        reactor_timer_stop(mirror->home, &leg->retry);
        if (leg->channel != NULL)
            block_channel_close(leg->channel);
    }
    mirror_io_fini(mirror);
    mirror->closed.run = freed;
    reactor_post(mirror->control, &mirror->closed);
}

static void close_home(struct reactor_message *message) {
    struct mirror *mirror = container_of(message, struct mirror, closed);
    mirror->closing = true;
    mirror_commands_cancel(mirror, ERROR_CANCELLED, "the mirror is removed");
    mirror_lease_cancel(mirror, ERROR_CANCELLED, "it is removed");
    mirror_legs_wake(mirror);
    mirror_tree_commands_wake(mirror);
    reactor_timer_stop(mirror->home, &mirror->tick);
    mirror->tick.run = wind_down;
    reactor_timer_start(mirror->home, &mirror->tick, reactor_now_ns(mirror->home) + NS_PER_MS);
}

/* ---- the table ---- */

static void destroy(struct block_device *device) {
    struct mirror *mirror = mirror_of(device);
    mirror->watch.over = true;
    mirror_attach_end(mirror);
    mirror->closed.run = close_home;
    reactor_post(mirror->home, &mirror->closed);
}

static const struct block_device_ops ops = {
    .kind = "mirror", .product_name = "Raid Volume", .submit = mirror_submit, .destroy = destroy};

/* ---- on the control reactor ---- */

bool mirror_resize(struct mirror *mirror, uint64_t bytes) {
    if (!regions_resize(&mirror->regions, bytes))
        return false;
    mirror_for_each_leg(mirror, leg) mirror_missed_end(leg);
    mirror->size = bytes;
    return true;
}

/* Device and slots for the legs that are named. */
static bool open_legs(struct mirror *mirror, const struct mirror_options *options, struct error *error) {
    for (unsigned i = 0; i < MIRROR_LEGS_MAX; i++) {
        struct mirror_leg *leg = &mirror->legs[i];
        leg->index = i;
        leg->mirror = mirror;
        leg->bit = (mirror_mask)(1u << i);
        leg->vacant = i >= options->leg_count;
    }
    for (unsigned i = 0; i < options->leg_count; i++) {
        struct mirror_leg *leg = &mirror->legs[i];
        const char *name = options->legs[i].device;
        snprintf(leg->attach.name, sizeof(leg->attach.name), "%s", name);
        snprintf(leg->told.name, sizeof(leg->told.name), "%s", name);
        snprintf(leg->told.why, sizeof(leg->told.why), "there is no device of this name");
        leg->attach.state = ATTACH_AWAY;
        leg->attach.tie_breaker = leg->tie_breaker = options->legs[i].tie_breaker;
        leg->attach.foreign = leg->foreign = options->legs[i].foreign;
        leg->configured = !leg->foreign;
        for (unsigned j = 0; j < i; j++)
            if (strcmp(mirror->legs[j].attach.name, name) == 0)
                return error_set(error, ERROR_EXISTS, "%s is named as a leg twice", name);
        struct block_device *device = block_graph_find(mirror->graph, name);
        leg->first = device != NULL && !leg->foreign;
        if (device == NULL)
            mirror->device.volatile_cache = true; /* whatever it turns out to be */
        else if (!leg->foreign && !mirror_attach_open(leg, device, error))
            return false;
    }
    for (unsigned i = 0; i < options->leg_count && mirror->geometry_size > 0; i++) {
        struct mirror_leg *leg = &mirror->legs[i];
        struct block_device *device = leg->foreign ? block_graph_find(mirror->graph, leg->attach.name) : NULL;
        if (device == NULL)
            continue;
        /* It comes when the mirror is there; one that does not fit is told at once. */
        if (!mirror_attach_open(leg, device, error))
            return false;
        block_handle_close(&leg->handle);
        leg->handle.device = NULL;
        leg->attach.state = ATTACH_AWAY;
    }
    if (mirror->geometry_size > 0 && mirror->geometry_plain && !options->assume_equal && !options->plain_equal &&
        !options->source_set) {
        error_set(error, ERROR_UNSUPPORTED, "the legs of %s keep no record: which is newest cannot be told", mirror->device.name);
        return error_hint(
            error, "say that they are equal (assume_equal), or which one is copied to the others (source), or use volumes");
    }
    return true;
}

static bool check_options(const struct mirror_options *options, struct error *error) {
    if (options->leg_count == 0 || options->leg_count > MIRROR_LEGS_MAX) {
        char value[16];
        snprintf(value, sizeof(value), "%u", options->leg_count);
        return error_invalid(error, "base_bdevs", value, "one to %u legs", MIRROR_LEGS_MAX);
    }
    return true;
}

bool mirror_create(struct block_graph *graph, struct reactor *control, const struct mirror_options *options,
                   struct block_device **ret_device, struct error *error) {
    if (!check_options(options, error))
        return false;
    struct mirror *mirror = calloc(1, sizeof(*mirror));
    if (mirror == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory for %s", options->name);
    struct block_device *device = &mirror->device;
    device->ops = &ops;
    snprintf(device->name, sizeof(device->name), "%s", options->name);
    device->uuid = options->uuid;
    mirror->graph = graph;
    mirror->control = control;
    mirror->home = options->home;
    mirror->host = graph->host;
    mirror->options = *options;
    mirror->options.name = device->name;
    mirror->leg_count = options->leg_count;
    mirror->stall_ns = (options->longest_stall_ms == 0 ? DEFAULT_STALL_MS : options->longest_stall_ms) * NS_PER_MS;
    mirror->hold_ns =
        options->hold_ms == UINT64_MAX ? UINT64_MAX : (options->hold_ms == 0 ? DEFAULT_HOLD_MS : options->hold_ms) * NS_PER_MS;
    mirror->give_up_ns = options->give_up_ms * NS_PER_MS;
    mirror->term = options->term;
    mirror->throttle.rates = options->rates;
    uint64_t seed = options->seed;
    if (seed == 0)
        host_random(graph->host, &seed, sizeof(seed));
    random_init(&mirror->random, seed);
    mirror->engine = uuid_is_nil(&options->engine) ? mirror_random_id(mirror) : options->engine;
    mirror_commands_init(mirror);
    device->block_size = options->block_size == 0 ? REPLICA_BLOCK_BYTES : options->block_size;
    device->trim_reads_zero = true; /* where a leg does not promise it, zeroes are written */
    bool ok = open_legs(mirror, options, error);
    mirror->release_fan = calloc(1, sizeof(*mirror->release_fan));
    if (mirror->release_fan != NULL)
        mirror_fan_init(mirror->release_fan, mirror);
    for (unsigned i = 0; i < mirror->leg_count; i++)
        if ((options->accept_absent >> i & 1) != 0)
            snprintf(mirror->accept[mirror->accept_count++], BLOCK_NAME_SIZE, "%s", options->legs[i].device);
    if (ok && !(mirror->release_fan != NULL && regions_init(&mirror->regions, 0) && mirror_copy_init(mirror) &&
                mirror_retire_init(mirror) && mirror_repair_init(mirror) && mirror_tree_commands_init(mirror)))
        ok = error_set(error, ERROR_NO_MEMORY, "no memory for %s", options->name);
    for (unsigned i = 0; i < mirror->leg_count; i++)
        mirror->legs[i].recorded_only = options->resume_count > 0 && !mirror->legs[i].foreign;
    for (unsigned i = 0; i < mirror->leg_count && ok; i++)
        ok = mirror_leg_init(&mirror->legs[i]) || error_set(error, ERROR_NO_MEMORY, "no memory for %s", options->name);
    if (ok && mirror->geometry_size > 0) {
        ok = mirror_resize(mirror, mirror->geometry_size) || error_set(error, ERROR_NO_MEMORY, "no memory for %s", options->name);
        atomic_store(&device->block_count, mirror->geometry_size / device->block_size);
        mirror->plain = mirror->geometry_plain;
    }
    device->native_ops = BLOCK_BIT(BLOCK_READ) | BLOCK_BIT(BLOCK_WRITE) | BLOCK_BIT(BLOCK_FLUSH) | BLOCK_BIT(BLOCK_TRIM) |
                         BLOCK_BIT(BLOCK_WRITE_ZEROES);
    device->native_fua = true;
    device->home = options->home;
    if (ok) {
        mirror_io_init(mirror);
        ok = block_device_register(graph, device, error);
    }
    if (!ok) {
        free_all(mirror);
        return false;
    }
    mirror->opened.run = assemble;
    reactor_post(mirror->home, &mirror->opened);
    mirror_attach_begin(mirror);
    *ret_device = device;
    return true;
}

bool mirror_delete(struct block_device *device, void (*removed)(struct block_device *device, void *arg), void *arg,
                   struct error *error) {
    assert(mirror_is(device));
    return block_device_remove(device, removed, arg, error);
}

/* ---- looking ---- */

void mirror_status_get(const struct block_device *device, struct mirror_status *ret_status) {
    assert(mirror_is(device));
    const struct mirror *mirror = container_of(device, struct mirror, device);
    struct error error;
    *ret_status = (struct mirror_status){.state = mirror_state_told(mirror, &error),
                                         .error = error,
                                         .mirror = mirror->id,
                                         .engine = mirror->engine,
                                         .term = mirror->term,
                                         .policy = mirror->policy,
                                         .epoch = mirror->complete,
                                         .unequal_regions = mirror->regions.unequal_count,
                                         .marked_regions = mirror->regions.marked_count,
                                         .changes = mirror->changes,
                                         .longest_stall_ns = mirror->longest_stall_ns,
                                         .stall_before_ns = mirror->stall_before_ns,
                                         .reads_repeated = mirror->reads_repeated,
                                         .settled = mirror->settled,
                                         .paused = mirror->paused,
                                         .sync_paused = mirror->sync_paused,
                                         .rates = mirror->throttle.rates};
    mirror_verify_status_get(mirror, &ret_status->verify);
    memcpy(ret_status->stall_leg, mirror->stall_leg, sizeof(ret_status->stall_leg));
    ret_status->leg_count = mirror->leg_count;
    ret_status->tree = mirror->tree_sequence;
    ret_status->awaited_count = mirror->state == MIRROR_CONFIGURING ? mirror->waits_for_count : 0;
    memcpy(ret_status->awaited, mirror->waits_for, sizeof(ret_status->awaited));
    mirror_for_each_leg(mirror, leg) {
        struct mirror_leg_status *told = &ret_status->legs[leg->index];
        if (!leg->configured && (leg->nameless || (leg->removing && !leg->counted)))
            continue; /* nobody's, or on its way out: the records do not have it */
        *told = leg->told;
        told->foreign = leg->foreign;
        told->sync_percent = mirror_work_progress(leg) / 100;
        told->unnamed = leg->nameless;
        told->behind = mirror_missed_bytes(leg, &told->behind_exact);
    }
}

static void look_home(struct reactor_message *message);
static void look_done(struct reactor_message *message) {
    struct mirror_look *look = container_of(message, struct mirror_look, message);
    look->done(look);
}
static void look_home(struct reactor_message *message) {
    struct mirror_look *look = container_of(message, struct mirror_look, message);
    mirror_status_get(look->device, &look->status);
    look->message.run = look_done;
    reactor_post(look->control, &look->message);
}

void mirror_look(struct mirror_look *look) {
    look->message.run = look_home;
    reactor_post(look->device->home, &look->message);
}

/* ---- setting ---- */

static void set_done(struct reactor_message *message) {
    struct mirror_set *set = container_of(message, struct mirror_set, message);
    set->done(set);
}

static void set_home(struct reactor_message *message) {
    struct mirror_set *set = container_of(message, struct mirror_set, message);
    struct mirror *mirror = mirror_of(set->device);
    switch (set->what) {
    case MIRROR_SET_RATES:
        if (set->rates.share_percent > 100)
            error_set(&set->error, ERROR_INVALID, "a share of more than 100 %%");
        else
            mirror_throttle_set(mirror, &set->rates);
        break;
    case MIRROR_SYNC_PAUSE:
    case MIRROR_SYNC_RESUME:
        mirror->sync_paused = set->what == MIRROR_SYNC_PAUSE;
        mirror_copy_wake(mirror);
        break;
    case MIRROR_VERIFY_START: mirror_verify_begin(mirror, &set->verify, &set->error); break;
    case MIRROR_VERIFY_STOP:
        if (!mirror_verify_end(mirror))
            error_set(&set->error, ERROR_NOT_FOUND, "%s is not being verified", mirror->device.name);
        break;
    }
    set->message.run = set_done;
    reactor_post(set->control, &set->message);
}

void mirror_set(struct mirror_set *set) {
    assert(mirror_is(set->device));
    set->error = (struct error){0};
    set->message.run = set_home;
    reactor_post(set->device->home, &set->message);
}
