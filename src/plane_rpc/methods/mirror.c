/* Methods of mirrors. Those of the dialect: raid.c. What is printed: mirror_object.c. */
#include <stdio.h>
#include <stdlib.h>

#include "plane_rpc/methods/bdev_object.h"
#include "plane_rpc/methods/methods.h"
#include "plane_rpc/methods/mirror_object.h"
#include "plane_rpc/rpc_methods.h"

struct plane_mirror *mirror_find(struct rpc_call *call, const char *name) {
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
    const char *const *absent = params->accept_absent.items;
    options->leg_count = params->legs.count;
    for (unsigned i = 0; i < params->accept_absent.count; i++) {
        unsigned leg = 0;
        while (leg < params->legs.count && strcmp(names[leg], absent[i]) != 0)
            leg++;
        if (leg == params->legs.count)
            return error_invalid(error, "accept_absent", absent[i], "one of the legs");
        options->accept_absent |= UINT32_C(1) << leg;
    }
    for (unsigned i = 0; i < params->legs.count; i++) {
        bool is = strcmp(names[i], params->tie_breaker) == 0;
        options->legs[i] = (struct mirror_leg_options){.device = names[i], .tie_breaker = is};
        found = found || is;
        if (strcmp(names[i], params->source) == 0 && !is) {
            options->source_set = true;
            options->source = i;
        }
    }
    if (params->source[0] != '\0' && !options->source_set)
        return error_invalid(error, "source", params->source, "one of the legs, and no tie-breaker");
    const char *const *foreign = params->foreign.items;
    for (unsigned i = 0; i < params->foreign.count; i++) {
        unsigned leg = 0;
        while (leg < params->legs.count && strcmp(names[leg], foreign[i]) != 0)
            leg++;
        if (leg == params->legs.count || options->legs[leg].tie_breaker)
            return error_invalid(error, "foreign", foreign[i], "one of the legs, and no tie-breaker");
        options->legs[leg].foreign = true;
    }
    return found || error_invalid(error, "tie_breaker", params->tie_breaker, "one of the legs");
}

static bool set_resume(const struct params_mirror_create *params, struct mirror_options *options, struct error *error) {
    const char *const *ids = params->resume.items;
    options->resume_count = params->resume.count;
    for (unsigned i = 0; i < params->resume.count; i++)
        if (!uuid_parse(ids[i], &options->resume[i]))
            return error_invalid(error, "resume", ids[i], "UUIDs");
    return true;
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
                                     .overwrite = params->overwrite,
                                     .marked_hard = params->hard_bound,
                                     .longest_stall_ms = params->longest_stall_ms,
                                     .hold_ms = params->hold_ms,
                                     .give_up_ms = params->give_up_ms,
                                     .standby = params->standby,
                                     .yield = params->yield,
                                     .engine = params->engine,
                                     .rates = {.bytes_per_s = params->bytes_per_s, .share_percent = params->share_percent}};
    if (bdev_check_name(plane_of(call), params->name, &error) && set_legs(params, &options, &error) &&
        set_resume(params, &options, &error))
        plane_mirror_create(plane_of(call), &options, !params->wait, created, call);
    else
        rpc_call_fail(call, &error);
}

static void deleted(void *arg) { rpc_call_result_true(arg); }

void method_mirror_delete(struct rpc_call *call, const struct params_mirror_delete *params) {
    struct plane_mirror *mirror = mirror_find(call, params->name);
    struct error error;
    if (mirror != NULL && !plane_mirror_delete(mirror, deleted, call, &error))
        rpc_call_fail(call, &error);
}

/* ---- legs ---- */

/* What an operator asks of an engine, for a call. */
struct asking {
    struct mirror_command command;
    struct rpc_call *call;
};

/* Which legs it has: their states are told by the engine. */
static void tell_legs(struct rpc_call *call, const struct mirror_command *command) {
    const char *what = command->verb == MIRROR_ADD_LEG ? "added" : "removed";
    char text[NOTIFY_CONTEXT_SIZE];
    if (command->verb != MIRROR_ADD_LEG && command->verb != MIRROR_REMOVE_LEG)
        return;
    snprintf(text, sizeof(text), "%.100s %.100s %s", command->device->name, command->leg, what);
    notify_ring_add(&plane_of(call)->notify, "mirror_leg", text);
    log_notice(&plane_of(call)->log, LOG_AREA_MIRROR, "mirror %s: leg %s was %s", command->device->name, command->leg, what);
}

static void asked(struct mirror_command *command) {
    struct asking *asking = container_of(command, struct asking, command);
    if (command->error.code == ERROR_NONE)
        tell_legs(asking->call, command);
    if (command->error.code != ERROR_NONE)
        rpc_call_fail_late(asking->call, &command->error);
    else if (command->verb == MIRROR_PAUSE)
        rpc_call_result_u64(asking->call, command->lease);
    else
        rpc_call_result_true(asking->call);
    free(asking);
}

/* NULL, and the call is answered, if it cannot be asked. mirror NULL: it was answered already. */
static struct mirror_command *ask(struct rpc_call *call, struct plane_mirror *mirror, enum mirror_verb verb, const char *leg) {
    struct asking *asking = NULL;
    struct error error;
    if (mirror == NULL)
        return NULL;
    if (mirror->deleting)
        error_set(&error, ERROR_BUSY, "%s is being deleted", mirror->name);
    else if ((asking = calloc(1, sizeof(*asking))) == NULL)
        error_set(&error, ERROR_NO_MEMORY, "no memory");
    if (asking == NULL) {
        rpc_call_fail(call, &error);
        return NULL;
    }
    asking->call = call;
    asking->command =
        (struct mirror_command){.device = mirror->device, .control = plane_of(call)->control, .verb = verb, .done = asked};
    snprintf(asking->command.leg, sizeof(asking->command.leg), "%s", leg);
    return &asking->command;
}

void mirror_change_leg(struct rpc_call *call, struct plane_mirror *mirror, enum mirror_verb verb, const char *leg,
                       bool tie_breaker, bool foreign) {
    struct mirror_command *command = ask(call, mirror, verb, leg);
    if (command == NULL)
        return;
    command->tie_breaker = tie_breaker;
    command->foreign = foreign;
    mirror_command(command);
}

void method_mirror_add_leg(struct rpc_call *call, const struct params_mirror_add_leg *params) {
    struct mirror_command *command = ask(call, mirror_find(call, params->name), MIRROR_ADD_LEG, params->leg);
    if (command == NULL)
        return;
    command->tie_breaker = params->tie_breaker;
    command->foreign = params->foreign || params->upon != 0;
    command->upon = params->upon;
    mirror_command(command);
}

void method_mirror_leg_filled(struct rpc_call *call, const struct params_mirror_leg_filled *params) {
    mirror_change_leg(call, mirror_find(call, params->name), MIRROR_FILLED, params->leg, false, false);
}

void method_mirror_remove_leg(struct rpc_call *call, const struct params_mirror_remove_leg *params) {
    mirror_change_leg(call, mirror_find(call, params->name), MIRROR_REMOVE_LEG, params->leg, false, false);
}

void method_mirror_invalidate(struct rpc_call *call, const struct params_mirror_invalidate *params) {
    mirror_change_leg(call, mirror_find(call, params->name), MIRROR_INVALIDATE, params->leg, false, false);
}

void method_mirror_discard(struct rpc_call *call, const struct params_mirror_discard *params) {
    mirror_change_leg(call, mirror_find(call, params->name), MIRROR_DISCARD, params->leg, false, false);
}

/* ---- engines that come and go ---- */

static void accept(struct mirror_command *command, const char *const *absent, uint32_t count) {
    command->accept_absent_count = count;
    for (uint32_t i = 0; i < count; i++)
        snprintf(command->accept_absent[i], sizeof(command->accept_absent[i]), "%s", absent[i]);
}

void method_mirror_start(struct rpc_call *call, const struct params_mirror_start *params) {
    struct mirror_command *command = ask(call, mirror_find(call, params->name), MIRROR_START, "");
    if (command == NULL)
        return;
    command->term = params->term;
    accept(command, params->accept_absent.items, params->accept_absent.count);
    mirror_command(command);
}

void method_mirror_promote(struct rpc_call *call, const struct params_mirror_promote *params) {
    struct mirror_command *command = ask(call, mirror_find(call, params->name), MIRROR_PROMOTE, "");
    if (command == NULL)
        return;
    command->term = params->term;
    command->engine = params->engine;
    accept(command, params->accept_absent.items, params->accept_absent.count);
    mirror_command(command);
}

void method_mirror_release(struct rpc_call *call, const struct params_mirror_release *params) {
    struct mirror_command *command = ask(call, mirror_find(call, params->name), MIRROR_RELEASE, "");
    if (command != NULL)
        mirror_command(command);
}

void method_mirror_pause(struct rpc_call *call, const struct params_mirror_pause *params) {
    struct mirror_command *command = ask(call, mirror_find(call, params->name), MIRROR_PAUSE, "");
    if (command == NULL)
        return;
    command->lease_ms = params->lease_ms;
    mirror_command(command);
}

void method_mirror_resume(struct rpc_call *call, const struct params_mirror_resume *params) {
    struct mirror_command *command = ask(call, mirror_find(call, params->name), MIRROR_RESUME, "");
    if (command == NULL)
        return;
    command->lease = params->lease;
    mirror_command(command);
}

/* ---- copying and verifying ---- */

struct setting {
    struct mirror_set set;
    struct rpc_call *call;
};

static void setting_done(struct mirror_set *set) {
    struct setting *setting = container_of(set, struct setting, set);
    if (set->error.code == ERROR_NONE)
        rpc_call_result_true(setting->call);
    else
        rpc_call_fail(setting->call, &set->error);
    free(setting);
}

/* For the mirror of that name; NULL, and the call is answered, if there is none. */
static struct setting *setting_create(struct rpc_call *call, const char *name, struct plane_mirror **ret_mirror) {
    struct plane_mirror *mirror = mirror_find(call, name);
    struct error error;
    if (mirror == NULL)
        return NULL;
    struct setting *setting = NULL;
    if (mirror->deleting)
        error_set(&error, ERROR_BUSY, "%s is being deleted", mirror->name);
    else if ((setting = calloc(1, sizeof(*setting))) == NULL)
        error_set(&error, ERROR_NO_MEMORY, "no memory");
    if (setting == NULL) {
        rpc_call_fail(call, &error);
        return NULL;
    }
    setting->call = call;
    setting->set = (struct mirror_set){.device = mirror->device, .control = plane_of(call)->control, .done = setting_done};
    *ret_mirror = mirror;
    return setting;
}

/* Nothing of the engine's changes state by it: it is told here. */
static void set_sync(struct rpc_call *call, const char *name, bool pause) {
    struct plane_mirror *mirror;
    struct setting *setting = setting_create(call, name, &mirror);
    char text[NOTIFY_CONTEXT_SIZE];
    if (setting == NULL)
        return;
    snprintf(text, sizeof(text), "%.200s %s", mirror->name, pause ? "paused" : "resumed");
    plane_notify(plane_of(call), "mirror_sync", text);
    log_notice(&plane_of(call)->log, LOG_AREA_MIRROR, "mirror %s: copying to legs is %s", mirror->name,
               pause ? "paused" : "resumed");
    setting->set.what = pause ? MIRROR_SYNC_PAUSE : MIRROR_SYNC_RESUME;
    mirror_set(&setting->set);
}

void method_mirror_pause_sync(struct rpc_call *call, const struct params_mirror_pause_sync *params) {
    set_sync(call, params->name, true);
}

void method_mirror_resume_sync(struct rpc_call *call, const struct params_mirror_resume_sync *params) {
    set_sync(call, params->name, false);
}

void method_mirror_set_options(struct rpc_call *call, const struct params_mirror_set_options *params) {
    struct plane_mirror *mirror;
    struct setting *setting = setting_create(call, params->name, &mirror);
    if (setting == NULL)
        return;
    if (params->has_bytes_per_s)
        mirror->options.rates.bytes_per_s = params->bytes_per_s;
    if (params->has_share_percent)
        mirror->options.rates.share_percent = params->share_percent;
    setting->set.what = MIRROR_SET_RATES;
    setting->set.rates = mirror->options.rates;
    char text[NOTIFY_CONTEXT_SIZE];
    snprintf(text, sizeof(text), "%.120s bytes_per_s %llu, share_percent %u", mirror->name,
             (unsigned long long)mirror->options.rates.bytes_per_s, mirror->options.rates.share_percent);
    notify_ring_add(&plane_of(call)->notify, "mirror_options", text);
    log_notice(&plane_of(call)->log, LOG_AREA_MIRROR, "mirror %s", text);
    mirror_set(&setting->set);
}

void method_mirror_verify(struct rpc_call *call, const struct params_mirror_verify *params) {
    struct plane_mirror *mirror;
    struct setting *setting = setting_create(call, params->name, &mirror);
    struct error error;
    if (setting == NULL)
        return;
    struct mirror_verify_options *verify = &setting->set.verify;
    *verify = (struct mirror_verify_options){.repair = params->repair, .resume = params->resume};
    verify->trusted_set = params->trusted[0] != '\0';
    while (verify->trusted_set && verify->trusted < mirror->status.leg_count &&
           strcmp(mirror->status.legs[verify->trusted].name, params->trusted) != 0)
        verify->trusted++;
    if (verify->trusted >= mirror->status.leg_count) {
        free(setting);
        error_invalid(&error, "trusted", params->trusted, "a leg of the mirror");
        rpc_call_fail(call, &error);
        return;
    }
    setting->set.what = params->stop ? MIRROR_VERIFY_STOP : MIRROR_VERIFY_START;
    mirror_set(&setting->set);
}

/* ---- listing ---- */

struct listing {
    struct rpc_call *call;
    bool all;
    char name[BLOCK_NAME_SIZE]; /* else */
};

static void put_mirrors(void *arg) {
    struct listing *listing = arg;
    struct rpc_call *call = listing->call;
    struct plane_mirror *only = listing->all ? NULL : mirror_find(call, listing->name);
    bool answered = !listing->all && only == NULL;
    free(listing);
    if (answered)
        return;
    struct json_writer *writer = rpc_call_result(call);
    json_begin_array(writer, RPC_RESULT);
    if (only != NULL)
        mirror_put_object(writer, only);
    else
        list_for_each (&plane_of(call)->mirrors, struct plane_mirror, mirror, node)
            mirror_put_object(writer, mirror);
    json_end(writer);
    rpc_call_end(call);
}

void method_mirror_get(struct rpc_call *call, const struct params_mirror_get *params) {
    bool named = params->name != NULL;
    struct plane_mirror *only = named ? mirror_find(call, params->name) : NULL;
    if (named && only == NULL) /* answered, and gone with its parameters */
        return;
    struct listing *listing = calloc(1, sizeof(*listing));
    struct error error;
    if (listing == NULL) {
        error_set(&error, ERROR_NO_MEMORY, "no memory for the list");
        rpc_call_fail(call, &error);
        return;
    }
    *listing = (struct listing){.call = call, .all = only == NULL};
    if (only != NULL) /* what the call came with does not last until the mirror has been looked at */
        snprintf(listing->name, sizeof(listing->name), "%s", params->name);
    plane_mirrors_look(plane_of(call), only, put_mirrors, listing);
}
