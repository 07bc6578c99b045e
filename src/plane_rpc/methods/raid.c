/* The dialect's methods of RAID, for mirrors: its names, codes and messages. */
#include <stdio.h>
#include <stdlib.h>

#include "plane_rpc/methods/bdev_object.h"
#include "plane_rpc/methods/methods.h"
#include "plane_rpc/methods/mirror_object.h"
#include "plane_rpc/rpc_methods.h"

#define MESSAGE_SIZE (BLOCK_NAME_SIZE + 128)

static const char *const level_names[] = {"raid0", "raid0", "raid1", "raid1", "raid5f", "raid5f", "concat"};

/* -errno, "WHAT NAME: errno's text". */
static void fail_create(struct rpc_call *call, const char *name, const struct error *error) {
    const struct error_code_facts *facts = error_facts(error->code);
    char message[MESSAGE_SIZE];
    snprintf(message, sizeof(message), "Failed to create RAID bdev %.*s: %s", BLOCK_NAME_SIZE - 1, name, facts->errno_text);
    rpc_call_error(call, facts->negative_errno, message, error);
}

/* The mirror of that name; else the call is answered with -19 and "BEFORE NAME AFTER". */
static struct plane_mirror *find(struct rpc_call *call, const char *field, const char *name, const char *message_format) {
    struct plane_mirror *mirror = plane_mirror_find(plane_of(call), name);
    struct error error;
    char message[MESSAGE_SIZE];
    if (mirror != NULL)
        return mirror;
    error_invalid(&error, field, name, "a mirror of bdev_raid_get_bdevs");
    error.code = ERROR_NO_DEVICE;
    snprintf(message, sizeof(message), "raid bdev %.*s %s", BLOCK_NAME_SIZE - 1, name, message_format);
    rpc_call_error(call, error_facts(ERROR_NO_DEVICE)->negative_errno, message, &error);
    return NULL;
}

/* ---- making, ending ---- */

static bool set_legs(const struct params_bdev_raid_create *params, struct plane *plane, struct mirror_options *options,
                     struct error *error) {
    const char *const *names = params->base_bdevs.items;
    char value[24];
    if (params->base_bdevs.count == 0 || params->base_bdevs.count > MIRROR_LEGS_MAX)
        return error_invalid(error, "base_bdevs", methods_number(params->base_bdevs.count, value), "one to %d devices",
                             MIRROR_LEGS_MAX);
    options->leg_count = params->base_bdevs.count;
    options->plain_equal = true; /* they cannot tell: as with any array of this dialect they are taken to be */
    for (unsigned i = 0; i < params->base_bdevs.count; i++) {
        const struct block_device *device = block_graph_find(&plane->graph, names[i]);
        options->legs[i].device = names[i];
        /* What this dialect has as options, records and marks give always, and devices without them never. */
        bool foreign = device != NULL && !block_device_is_replica(device);
        if (foreign && (params->superblock || params->delta_bitmap))
            return error_invalid(error, params->superblock ? "superblock" : "delta_bitmap", "true",
                                 "false: %s keeps no record of a mirror", names[i]);
    }
    return true;
}

static bool check_level(const struct params_bdev_raid_create *params, struct error *error) {
    char value[24];
    if (params->raid_level != RPC_RAID_LEVEL_RAID1 && params->raid_level != RPC_RAID_LEVEL_1) {
        error_invalid(error, "raid_level", level_names[params->raid_level], "raid1: there is no other level");
        error->code = ERROR_UNSUPPORTED;
        return false;
    }
    return params->strip_size_kb == 0 ||
           error_invalid(error, "strip_size_kb", methods_number(params->strip_size_kb, value), "0: a mirror has no strips");
}

struct creation {
    struct rpc_call *call;
    char name[BLOCK_NAME_SIZE];
};

static void created(void *arg, struct plane_mirror *mirror, const struct error *error) {
    struct creation *creation = arg;
    if (mirror != NULL)
        rpc_call_result_true(creation->call);
    else
        fail_create(creation->call, creation->name, error);
    free(creation);
}

void method_bdev_raid_create(struct rpc_call *call, const struct params_bdev_raid_create *params) {
    struct plane *plane = plane_of(call);
    struct error error;
    struct mirror_options options = {.name = params->name,
                                     .uuid = params->uuid,
                                     .policy = REPLICA_ANY,
                                     .overwrite = true, /* an array of this dialect takes what it is given */
                                     .longest_stall_ms = 900,
                                     .hold_ms = 30000,
                                     .rates.bytes_per_s = plane->mirror_bytes_per_s};
    struct creation *creation = calloc(1, sizeof(*creation));
    bool ok = creation != NULL || error_set(&error, ERROR_NO_MEMORY, "no memory");
    ok = ok && check_level(params, &error) && bdev_check_name(plane, params->name, &error) &&
         set_legs(params, plane, &options, &error);
    if (!ok) {
        free(creation);
        fail_create(call, params->name, &error);
        return;
    }
    creation->call = call;
    snprintf(creation->name, sizeof(creation->name), "%s", params->name);
    plane_mirror_create(plane, &options, false, created, creation);
}

static void deleted(void *arg) { rpc_call_result_true(arg); }

void method_bdev_raid_delete(struct rpc_call *call, const struct params_bdev_raid_delete *params) {
    struct plane_mirror *mirror = find(call, "name", params->name, "not found");
    struct error error;
    if (mirror != NULL && !plane_mirror_delete(mirror, deleted, call, &error))
        rpc_call_fail_late(call, &error);
}

/* ---- legs ---- */

void method_bdev_raid_add_base_bdev(struct rpc_call *call, const struct params_bdev_raid_add_base_bdev *params) {
    struct plane_mirror *mirror = find(call, "raid_bdev", params->raid_bdev, "is not found in config");
    if (mirror != NULL)
        mirror_change_leg(call, mirror, MIRROR_ADD_LEG, params->base_bdev, false, false);
}

void method_bdev_raid_grow_base_bdev(struct rpc_call *call, const struct params_bdev_raid_grow_base_bdev *params) {
    struct plane_mirror *mirror = find(call, "raid_name", params->raid_name, "not found");
    struct error error;
    char message[MESSAGE_SIZE];
    if (mirror == NULL)
        return;
    if (block_graph_find(&plane_of(call)->graph, params->base_name) != NULL) {
        mirror_change_leg(call, mirror, MIRROR_ADD_LEG, params->base_name, false, false);
        return;
    }
    error_invalid(&error, "base_name", params->base_name, "a device of bdev_get_bdevs");
    snprintf(message, sizeof(message), "base bdev %.*s not found", BLOCK_NAME_SIZE - 1, params->base_name);
    rpc_call_error(call, error_facts(ERROR_NO_DEVICE)->negative_errno, message, &error);
}

void method_bdev_raid_remove_base_bdev(struct rpc_call *call, const struct params_bdev_raid_remove_base_bdev *params) {
    struct plane_mirror *mirror = plane_mirror_with_leg(plane_of(call), params->name);
    struct error error;
    if (mirror != NULL) {
        mirror_change_leg(call, mirror, MIRROR_REMOVE_LEG, params->name, false, false);
        return;
    }
    error_invalid(&error, "name", params->name, "a leg of a mirror, as it was named there");
    rpc_call_error(call, error_facts(ERROR_NO_DEVICE)->negative_errno, "Failed to remove base bdev from raid bdev", &error);
}

/* ---- what a leg has missed, for clients that copy by themselves ---- */

struct stopping {
    struct mirror_missed_look look;
    struct rpc_call *call;
};

static void fail_leg(struct rpc_call *call, int code, const char *leg, const char *expected) {
    struct error error;
    char message[MESSAGE_SIZE];
    error_invalid(&error, "base_bdev_name", leg, "%s", expected);
    snprintf(message, sizeof(message), "base bdev %.*s is not %.80s", BLOCK_NAME_SIZE - 1, leg, expected);
    rpc_call_error(call, code, message, &error);
}

static void stopped(struct mirror_missed_look *look) {
    struct stopping *stopping = container_of(look, struct stopping, look);
    struct rpc_call *call = stopping->call;
    struct plane_mirror *mirror = plane_mirror_with_leg(plane_of(call), look->leg);
    struct error error;
    if (look->error.code != ERROR_NONE || mirror == NULL) {
        free(look->ret_bitmap);
        fail_leg(call, error_facts(ERROR_NO_DEVICE)->negative_errno, look->leg, "a leg that is away");
    } else if (!plane_mirror_keep_delta(mirror, look->leg, look->ret_bitmap, look->ret_regions, &error)) {
        rpc_call_fail(call, &error);
    } else {
        rpc_call_result_true(call);
    }
    free(stopping);
}

void method_bdev_raid_stop_base_bdev_delta_bitmap(struct rpc_call *call,
                                                  const struct params_bdev_raid_stop_base_bdev_delta_bitmap *params) {
    struct plane_mirror *mirror = plane_mirror_with_leg(plane_of(call), params->base_bdev_name);
    struct stopping *stopping = mirror == NULL || mirror->deleting ? NULL : calloc(1, sizeof(*stopping));
    if (stopping == NULL) {
        fail_leg(call, error_facts(ERROR_NO_DEVICE)->negative_errno, params->base_bdev_name, "a leg that is away");
        return;
    }
    *stopping =
        (struct stopping){.call = call, .look = {.device = mirror->device, .control = plane_of(call)->control, .done = stopped}};
    snprintf(stopping->look.leg, sizeof(stopping->look.leg), "%s", params->base_bdev_name);
    mirror_missed_look(&stopping->look);
}

/* -32602, as the dialect answers before it was stopped. */
static struct plane_mirror_delta *kept(struct rpc_call *call, const char *leg) {
    struct plane_mirror_delta *delta = plane_mirror_delta_of(plane_of(call), leg);
    if (delta == NULL)
        fail_leg(call, JSONRPC_INVALID_PARAMS, leg, "a leg whose delta bitmap was stopped, ten minutes ago at most");
    return delta;
}

void method_bdev_raid_get_base_bdev_delta_bitmap(struct rpc_call *call,
                                                 const struct params_bdev_raid_get_base_bdev_delta_bitmap *params) {
    const struct plane_mirror_delta *delta = kept(call, params->base_bdev_name);
    size_t bytes = delta == NULL ? 0 : (size_t)divide_up(delta->regions, 8);
    struct text encoded;
    if (delta == NULL)
        return;
    text_init(&encoded, bytes * 2 + 8);
    text_append_base64(&encoded, delta->bitmap, bytes);
    if (encoded.failed) {
        struct error error;
        error_set(&error, ERROR_NO_MEMORY, "no memory for the bitmap");
        rpc_call_fail(call, &error);
    } else {
        struct json_writer *writer = rpc_call_result(call);
        json_begin_object(writer, RPC_RESULT);
        json_put_u64(writer, "region_size", REPLICA_REGION_BYTES);
        json_put_bytes(writer, "delta_bitmap", encoded.bytes, encoded.length);
        json_end(writer);
        rpc_call_end(call);
    }
    text_fini(&encoded);
}

void method_bdev_raid_clear_base_bdev_faulty_state(struct rpc_call *call,
                                                   const struct params_bdev_raid_clear_base_bdev_faulty_state *params) {
    struct plane_mirror_delta *delta = kept(call, params->base_bdev_name);
    if (delta == NULL)
        return;
    plane_mirror_forget_delta(delta);
    rpc_call_result_true(call);
}

/* ---- options ---- */

/* Nobody waits for it: a mirror that goes away meanwhile needs no rates. */
static void rates_set(struct mirror_set *set) { free(set); }

void method_bdev_raid_set_options(struct rpc_call *call, const struct params_bdev_raid_set_options *params) {
    struct plane *plane = plane_of(call);
    if (params->has_process_max_bandwidth_mb_sec) {
        plane->mirror_bytes_per_s = MIB((uint64_t)params->process_max_bandwidth_mb_sec);
        list_for_each (&plane->mirrors, struct plane_mirror, mirror, node) {
            mirror->options.rates.bytes_per_s = plane->mirror_bytes_per_s;
            struct mirror_set *set = mirror->deleting ? NULL : calloc(1, sizeof(*set));
            if (set == NULL)
                continue;
            *set = (struct mirror_set){.device = mirror->device,
                                       .control = plane->control,
                                       .what = MIRROR_SET_RATES,
                                       .rates = mirror->options.rates,
                                       .done = rates_set};
            mirror_set(set);
        }
    }
    rpc_call_result_true(call);
}

/* ---- listing ---- */

struct listing {
    struct rpc_call *call;
    uint32_t category;
};

static bool is_in(enum mirror_state state, uint32_t category) {
    switch ((enum rpc_raid_category)category) {
    case RPC_RAID_CATEGORY_ALL: return true;
    case RPC_RAID_CATEGORY_ONLINE: return state == MIRROR_SERVING;
    case RPC_RAID_CATEGORY_CONFIGURING: return state == MIRROR_CONFIGURING || state == MIRROR_STARTING;
    case RPC_RAID_CATEGORY_OFFLINE: return state == MIRROR_HOLDING || state == MIRROR_REFUSED || state == MIRROR_ENDED;
    }
    return false;
}

static void put_mirrors(void *arg) {
    struct listing *listing = arg;
    struct rpc_call *call = listing->call;
    struct json_writer *writer = rpc_call_result(call);
    json_begin_array(writer, RPC_RESULT);
    list_for_each (&plane_of(call)->mirrors, struct plane_mirror, mirror, node) {
        if (!is_in(mirror->status.state, listing->category))
            continue;
        json_begin_object(writer, NULL);
        json_put_string(writer, "name", mirror->name);
        mirror_put_raid_members(writer, mirror);
        json_end(writer);
    }
    json_end(writer);
    free(listing);
    rpc_call_end(call);
}

void method_bdev_raid_get_bdevs(struct rpc_call *call, const struct params_bdev_raid_get_bdevs *params) {
    struct listing *listing = calloc(1, sizeof(*listing));
    struct error error;
    if (listing == NULL) {
        error_set(&error, ERROR_NO_MEMORY, "no memory for the list");
        rpc_call_fail(call, &error);
        return;
    }
    *listing = (struct listing){.call = call, .category = params->category};
    plane_mirrors_look(plane_of(call), NULL, put_mirrors, listing);
}
