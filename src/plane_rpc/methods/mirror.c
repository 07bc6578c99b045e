/* Methods of mirrors. Those of the dialect: raid.c. What is printed: mirror_object.c. */
#include <stdio.h>
#include <stdlib.h>

#include "plane_rpc/methods/bdev_object.h"
#include "plane_rpc/methods/methods.h"
#include "plane_rpc/methods/mirror_object.h"
#include "plane_rpc/rpc_methods.h"

/* The mirror of that name, or the call is answered and NULL returned. */
static struct plane_mirror *find(struct rpc_call *call, const char *name) {
    struct plane_mirror *mirror = plane_mirror_find(plane_of(call), name);
    struct error error;
    if (mirror != NULL)
        return mirror;
    error_invalid(&error, "name", name, "a mirror of mirror_get");
    error.code = ERROR_NO_DEVICE;
    rpc_call_fail(call, &error);
    return NULL;
}

static void created(void *arg, struct plane_mirror *mirror, const struct error *error) {
    if (mirror != NULL)
        rpc_call_result_string(arg, mirror->name);
    else
        rpc_call_fail(arg, error);
}

static bool set_legs(const struct params_mirror_create *params, struct mirror_options *options, struct error *error) {
    const char *const *names = params->legs.items;
    bool found = params->tie_breaker[0] == '\0';
    options->leg_count = params->legs.count;
    for (unsigned i = 0; i < params->legs.count; i++) {
        bool is = strcmp(names[i], params->tie_breaker) == 0;
        options->legs[i] = (struct mirror_leg_options){.device = names[i], .tie_breaker = is};
        found = found || is;
    }
    return found || error_invalid(error, "tie_breaker", params->tie_breaker, "one of the legs");
}

void method_mirror_create(struct rpc_call *call, const struct params_mirror_create *params) {
    static_assert((int)RPC_MIRROR_POLICY_ANY + 1 == REPLICA_ANY && (int)RPC_MIRROR_POLICY_MAJORITY + 1 == REPLICA_MAJORITY,
                  "one order");
    struct error error;
    struct mirror_options options = {.name = params->name,
                                     .uuid = params->uuid,
                                     .policy = (enum replica_policy)(params->policy + 1),
                                     .term = params->term,
                                     .assume_equal = params->assume_equal,
                                     .longest_stall_ms = params->longest_stall_ms,
                                     .hold_ms = params->hold_ms};
    if (bdev_check_name(plane_of(call), params->name, &error) && set_legs(params, &options, &error))
        plane_mirror_create(plane_of(call), &options, !params->wait, created, call);
    else
        rpc_call_fail(call, &error);
}

static void deleted(void *arg) { rpc_call_result_true(arg); }

void method_mirror_delete(struct rpc_call *call, const struct params_mirror_delete *params) {
    struct plane_mirror *mirror = find(call, params->name);
    struct error error;
    if (mirror != NULL && !plane_mirror_delete(mirror, deleted, call, &error))
        rpc_call_fail(call, &error);
}

/* ---- listing ---- */

struct listing {
    struct rpc_call *call;
    const char *name; /* in the call's document; NULL = all */
};

static void put_mirrors(void *arg) {
    struct listing *listing = arg;
    struct rpc_call *call = listing->call;
    const struct plane_mirror *only = listing->name == NULL ? NULL : find(call, listing->name);
    bool answered = listing->name != NULL && only == NULL;
    free(listing);
    if (answered)
        return;
    struct json_writer *writer = rpc_call_result(call);
    json_begin_array(writer, RPC_RESULT);
    list_for_each (&plane_of(call)->mirrors, struct plane_mirror, mirror, node)
        if (only == NULL || mirror == only)
            mirror_put_object(writer, mirror);
    json_end(writer);
    rpc_call_end(call);
}

void method_mirror_get(struct rpc_call *call, const struct params_mirror_get *params) {
    if (params->name != NULL && find(call, params->name) == NULL)
        return;
    struct listing *listing = calloc(1, sizeof(*listing));
    struct error error;
    if (listing == NULL) {
        error_set(&error, ERROR_NO_MEMORY, "no memory for the list");
        rpc_call_fail(call, &error);
        return;
    }
    *listing = (struct listing){.call = call, .name = params->name};
    plane_mirrors_look(plane_of(call), put_mirrors, listing);
}
