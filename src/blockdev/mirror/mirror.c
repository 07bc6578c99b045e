/* The mirror's life: made and removed on the control reactor, run on its home. */
#include "blockdev/mirror/mirror_internal.h"

#include <stdio.h>
#include <stdlib.h>

#define DEFAULT_STALL_MS 900
#define DEFAULT_HOLD_MS 30000

static const struct block_device_ops ops;

bool mirror_is(const struct block_device *device) { return device->ops == &ops; }

/* ---- on the home reactor ---- */

static void hold_is_over(struct reactor_timer *timer) {
    struct mirror *mirror = container_of(timer, struct mirror, hold_end);
    mirror->hold_over = true;
    mirror_io_look(mirror);
}

static void assemble(struct reactor_message *message) {
    struct mirror *mirror = container_of(message, struct mirror, opened);
    mirror_for_each_leg(mirror, leg) if (leg->handle.device != NULL) {
        leg->channel = block_channel_open(&leg->handle);
        assert(leg->channel != NULL);
    }
    mirror->assembled = true;
    mirror->hold_end.run = hold_is_over;
    reactor_timer_start(mirror->home, &mirror->hold_end, reactor_now_ns(mirror->home) + mirror->hold_ns);
    mirror_epoch_init(mirror);
    mirror_for_each_leg(mirror, leg) mirror_leg_begin(leg);
    mirror_start_begin(mirror);
}

static void free_all(struct mirror *mirror) {
    mirror_for_each_leg(mirror, leg) {
        mirror_leg_fini(leg);
        if (leg->handle.device != NULL)
            block_handle_close(&leg->handle);
    }
    mirror_copy_fini(mirror);
    mirror_retire_fini(mirror);
    mirror_verify_fini(mirror);
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
    for (const struct mirror_leg *leg = mirror->legs; leg < mirror->legs + mirror->leg_count; leg++)
        if (leg->outstanding > 0)
            return false;
    return mirror->ios.lent == 0 && !mirror_copy_is_busy(mirror) && !mirror_retire_is_busy(mirror) &&
           !mirror_verify_is_busy(mirror) && !mirror->settle_queued && !mirror->watch.busy;
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
    mirror_legs_wake(mirror);
    reactor_timer_stop(mirror->home, &mirror->tick);
    mirror->tick.run = wind_down;
    reactor_timer_start(mirror->home, &mirror->tick, reactor_now_ns(mirror->home) + NS_PER_MS);
}

/* ---- the table ---- */

static void destroy(struct block_device *device) {
    struct mirror *mirror = mirror_of(device);
    mirror->watch.over = true;
    mirror->closed.run = close_home;
    reactor_post(mirror->home, &mirror->closed);
}

static const struct block_device_ops ops = {
    .kind = "mirror", .product_name = "Raid Volume", .submit = mirror_submit, .destroy = destroy};

/* ---- on the control reactor ---- */

static void leg_event(struct block_handle *handle, enum block_event event) {
    (void)handle;
    (void)event; /* what a leg answers tells the engine more than what its device says of itself */
}

static bool open_leg(struct mirror *mirror, struct mirror_leg *leg, const struct mirror_leg_options *options,
                     struct error *error) {
    struct block_device *device = block_graph_find(mirror->graph, options->device);
    leg->mirror = mirror;
    leg->bit = (mirror_mask)(1u << leg->index);
    leg->tie_breaker = options->tie_breaker;
    if (device == NULL)
        return true;
    for (unsigned i = 0; i < leg->index; i++)
        if (mirror->legs[i].handle.device == device)
            return error_set(error, ERROR_EXISTS, "%s is named as a leg twice", options->device);
    leg->handle = (struct block_handle){.owner = mirror->device.name, .event = leg_event};
    if (!block_handle_open(&leg->handle, device, BLOCK_MODE_CLAIM, error)) {
        leg->handle.device = NULL;
        return false;
    }
    leg->replica = block_device_is_replica(device);
    leg->copies = !block_device_is_prompt(device);
    return true;
}

/* Size, blocks and abilities are the legs', which must agree. */
static bool take_geometry(struct mirror *mirror, struct error *error) {
    struct block_device *device = &mirror->device;
    const struct mirror_leg *first = NULL;
    device->trim_reads_zero = true;
    mirror_for_each_leg(mirror, leg) {
        const struct block_device *other = leg->handle.device;
        if (other == NULL)
            continue;
        if (first == NULL) {
            first = leg;
            device->block_size = other->block_size;
            device->physical_block_size = other->physical_block_size;
            device->optimal_io_bytes = other->optimal_io_bytes;
            atomic_store(&device->block_count, atomic_load(&other->block_count));
            mirror->plain = !leg->replica;
        }
        if (other->block_size != device->block_size)
            return error_set(error, ERROR_INVALID, "%s has blocks of another size than %s", other->name,
                             first->handle.device->name);
        if (!leg->tie_breaker && block_device_size(other) != block_device_size(first->handle.device))
            return error_set(error, ERROR_INVALID, "%s is not as large as %s", other->name, first->handle.device->name);
        if (mirror->plain == leg->replica)
            return error_set(error, ERROR_UNSUPPORTED, "%s and %s: legs with and without a record are not served together",
                             first->handle.device->name, other->name);
        device->memory_alignment = max_u32(device->memory_alignment, other->memory_alignment);
        device->volatile_cache = device->volatile_cache || other->volatile_cache;
        device->trim_reads_zero = device->trim_reads_zero && other->trim_reads_zero;
    }
    if (first == NULL)
        return error_set(error, ERROR_NO_DEVICE, "no leg of %s is there", device->name);
    if (block_device_size(device) % REPLICA_BLOCK_BYTES != 0)
        return error_set(error, ERROR_INVALID, "the size of %s is no multiple of 4 KiB", first->handle.device->name);
    if (mirror->plain && !mirror->options.assume_equal) {
        error_set(error, ERROR_UNSUPPORTED, "the legs of %s keep no record: which is newest cannot be told", device->name);
        return error_hint(error, "say that they are equal (assume_equal), or use volumes");
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
    mirror->hold_ns = (options->hold_ms == 0 ? DEFAULT_HOLD_MS : options->hold_ms) * NS_PER_MS;
    mirror->term = options->term;
    mirror->throttle.rates = options->rates;
    uint64_t seed = options->seed;
    if (seed == 0)
        host_random(graph->host, &seed, sizeof(seed));
    random_init(&mirror->random, seed);
    mirror->engine = mirror_random_id(mirror);
    bool ok = true;
    for (unsigned i = 0; i < mirror->leg_count && ok; i++) {
        struct mirror_leg *leg = &mirror->legs[i];
        leg->index = i;
        ok = open_leg(mirror, leg, &options->legs[i], error);
        snprintf(leg->told.name, sizeof(leg->told.name), "%s", options->legs[i].device);
    }
    ok = ok && take_geometry(mirror, error);
    if (ok &&
        !(regions_init(&mirror->regions, block_device_size(device)) && mirror_copy_init(mirror) && mirror_retire_init(mirror)))
        ok = error_set(error, ERROR_NO_MEMORY, "no memory for %s", options->name);
    for (unsigned i = 0; i < mirror->leg_count && ok; i++)
        ok = mirror_leg_init(&mirror->legs[i]) || error_set(error, ERROR_NO_MEMORY, "no memory for %s", options->name);
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
    *ret_status = (struct mirror_status){.state = mirror->state,
                                         .error = mirror->error,
                                         .mirror = mirror->id,
                                         .engine = mirror->engine,
                                         .term = mirror->term,
                                         .policy = mirror->policy,
                                         .epoch = mirror->complete,
                                         .leg_count = mirror->leg_count,
                                         .unequal_regions = mirror->regions.unequal_count,
                                         .marked_regions = mirror->regions.marked_count,
                                         .changes = mirror->changes,
                                         .longest_stall_ns = mirror->longest_stall_ns,
                                         .reads_repeated = mirror->reads_repeated,
                                         .settled = mirror->settled,
                                         .rates = mirror->throttle.rates};
    mirror_verify_status_get(mirror, &ret_status->verify);
    for (unsigned i = 0; i < mirror->leg_count; i++)
        ret_status->legs[i] = mirror->legs[i].told;
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
    case MIRROR_VERIFY_START: mirror_verify_begin(mirror, &set->verify, &set->error); break;
    case MIRROR_VERIFY_STOP:
        if (mirror->verify == NULL)
            error_set(&set->error, ERROR_NOT_FOUND, "%s is not being verified", mirror->device.name);
        else
            mirror_verify_end(mirror);
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
