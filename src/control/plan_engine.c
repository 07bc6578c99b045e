/* Plans of engines: ways to the replicas, the mirror over them, its target; snapshots and replicas of a running one. Pure. */
#include "control/plan.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/text.h"
#include "control/names.h"

enum { CONNECT_US = 3000000 }; /* for an answer of a replica's node, before it counts as away */

static const struct control_engine_record *record_of(const struct control_goal *goal) {
    return &container_of(goal->object, struct control_engine, object)->record;
}

const struct observed_leg *plan_find_leg(const struct control_engine_record *record, const struct control_leg_record *leg,
                                         const struct observed_mirror *mirror) {
    char name[NAMES_LEG_SIZE];
    names_make_leg(leg->name, record->name, name);
    for (unsigned i = 0; i < mirror->leg_count; i++)
        if (strcmp(mirror->legs[i].name, name) == 0)
            return &mirror->legs[i];
    return NULL;
}

/* ---- ways to replicas ---- */

struct way {
    char name[NAMES_LEG_SIZE], nqn[NAMES_NQN_SIZE], address[CONTROL_ADDRESS_SIZE];
    const char *port; /* in address */
};

static void find_way(const struct control_engine_record *record, const struct control_leg_record *leg, struct way *ret_way) {
    names_make_controller(leg->name, record->name, ret_way->name);
    names_make_nqn(leg->name, ret_way->nqn);
    snprintf(ret_way->address, sizeof(ret_way->address), "%s", leg->address[0] == '[' ? leg->address + 1 : leg->address);
    char *colon = strrchr(ret_way->address, ':');
    assert(colon != NULL); /* checked when it was given */
    *colon = '\0';
    if (colon > ret_way->address && colon[-1] == ']')
        colon[-1] = '\0';
    ret_way->port = colon + 1;
}

/* What is there under the way's name leads elsewhere. */
static bool is_astray(const struct observed_controller *controller, const struct way *way) {
    return strcmp(controller->address, way->address) != 0 || strcmp(controller->port, way->port) != 0 ||
           strcmp(controller->nqn, way->nqn) != 0;
}

static json_t *attach_params(const struct way *way) {
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:i}", "name", way->name, "trtype", "TCP", "adrfam",
                     strchr(way->address, ':') != NULL ? "IPv6" : "IPv4", "traddr", way->address, "trsvcid", way->port, "subnqn",
                     way->nqn, "hostnqn", NAMES_REPLICA_HOST, "multipath", "disable", "ctrlr_loss_timeout_sec", -1,
                     "reconnect_delay_sec", 1, "fast_io_fail_timeout_sec", 0, "fabrics_connect_timeout_us", CONNECT_US);
}

static void detach(const char *name, struct plan *plan) {
    plan_add(plan, "bdev_nvme_detach_controller", json_pack("{s:s}", "name", name));
}

static bool misses(const struct control_engine_record *record, const struct control_leg_record *leg,
                   const struct observation *seen) {
    struct way way;
    find_way(record, leg, &way);
    const struct observed_controller *controller = observed_controller(seen, way.name);
    return controller == NULL || is_astray(controller, &way);
}

/* One that is rebuilt call by call is reached when it is in the mirror, and not before. Of one that is in doubt the records say
 * what it is, so it is reached for a start, which may need it. */
static bool is_expected(const struct control_engine_record *record, const struct control_leg_record *leg,
                        const struct observation *seen) {
    const struct observed_mirror *mirror = observed_mirror(seen, record->name);
    if (leg->changing && plan_mirror_serves(mirror))
        return false;
    return !leg->filling || (mirror != NULL && plan_find_leg(record, leg, mirror) != NULL);
}

bool plan_engine_misses_way(const struct control_engine_record *record, const struct observation *seen) {
    for (unsigned i = 0; i < record->leg_count; i++)
        if (is_expected(record, &record->legs[i], seen) && misses(record, &record->legs[i], seen))
            return true;
    return false;
}

bool plan_leg_has_way(const struct control_engine_record *record, const struct control_leg_record *leg,
                      const struct observation *seen) {
    char name[NAMES_LEG_SIZE];
    names_make_controller(leg->name, record->name, name);
    return observed_controller(seen, name) != NULL;
}

static void plan_no_way(const struct control_engine_record *record, const struct control_leg_record *leg,
                        const struct observation *seen, struct plan *plan) {
    char name[NAMES_LEG_SIZE];
    names_make_controller(leg->name, record->name, name);
    if (plan_leg_has_way(record, leg, seen))
        detach(name, plan);
}

/* All that are missing, at the same time: one that does not answer must not keep the others waiting. */
static void plan_ways(const struct control_goal *goal, const struct control_engine_record *record, const struct observation *seen,
                      struct plan *plan) {
    struct way way;
    for (unsigned i = 0; i < record->leg_count && !goal->asides_done; i++) {
        find_way(record, &record->legs[i], &way);
        const struct observed_controller *controller = observed_controller(seen, way.name);
        if (controller != NULL && is_expected(record, &record->legs[i], seen) && is_astray(controller, &way))
            detach(way.name, plan);
    }
    for (unsigned i = 0; i < record->leg_count && !goal->asides_done; i++) {
        find_way(record, &record->legs[i], &way);
        if (is_expected(record, &record->legs[i], seen) && misses(record, &record->legs[i], seen))
            plan_add_aside(plan, "bdev_nvme_attach_controller", attach_params(&way));
    }
}

/* ---- the target ---- */

static bool wants_target(const struct control_engine_record *record) { return control_engine_is_offered(record); }

static const struct observed_export *target_of(const struct control_engine_record *record, const struct observation *seen) {
    char nqn[NAMES_NQN_SIZE];
    names_make_volume_nqn(record->volume, nqn);
    return observed_export(seen, nqn);
}

/* Another engine of the same volume may offer it here. */
static bool is_ours(const struct observed_export *target, const struct control_engine_record *record) {
    return target != NULL && (target->device == NULL || strcmp(target->device, record->name) == 0);
}

bool plan_target_stands(const struct control_engine_record *record, const struct observation *seen, const char *address) {
    const struct observed_export *target = target_of(record, seen);
    char port[8];
    snprintf(port, sizeof(port), "%u", (unsigned)record->port);
    if (!wants_target(record))
        return !is_ours(target, record);
    return target != NULL && target->namespaces == 1 && target->listeners == 1 && target->any_host &&
           strcmp(target->device, record->name) == 0 && strcmp(target->address, address) == 0 && strcmp(target->port, port) == 0;
}

bool plan_ana_stands(const struct control_engine_record *record, const struct observation *seen) {
    const struct observed_export *target = target_of(record, seen);
    return !wants_target(record) || !is_ours(target, record) || target->ana_state == NULL ||
           strcmp(target->ana_state, names_ana(record->ana)) == 0;
}

/* Towards inaccessible it is answered when nothing is under way there any more. */
static void plan_ana(const struct control_engine_record *record, const char *address, struct plan *plan) {
    char nqn[NAMES_NQN_SIZE], port[8];
    names_make_volume_nqn(record->volume, nqn);
    snprintf(port, sizeof(port), "%u", (unsigned)record->port);
    plan_add(plan, "nvmf_subsystem_listener_set_ana_state",
             json_pack("{s:s, s:{s:s, s:s, s:s, s:s}, s:s}", "nqn", nqn, "listen_address", "trtype", "TCP", "adrfam",
                       strchr(address, ':') != NULL ? "IPv6" : "IPv4", "traddr", address, "trsvcid", port, "ana_state",
                       names_ana(record->ana)));
}

static void plan_no_target(const struct control_engine_record *record, const struct observation *seen, struct plan *plan) {
    const struct observed_export *target = target_of(record, seen);
    if (is_ours(target, record))
        plan_add(plan, "nvmf_delete_subsystem", json_pack("{s:s}", "nqn", target->nqn));
}

/* The same subsystem and namespace wherever an engine of the volume runs; two of them are two paths of one disk. */
static void plan_target(const struct control_engine_record *record, const struct observation *seen, const char *address,
                        struct plan *plan) {
    char nqn[NAMES_NQN_SIZE];
    struct names_identity identity;
    uint16_t min, max;
    if (plan_target_stands(record, seen, address)) {
        if (!plan_ana_stands(record, seen))
            plan_ana(record, address, plan);
        return;
    }
    plan_no_target(record, seen, plan);
    if (!wants_target(record))
        return;
    if (target_of(record, seen) != NULL && !is_ours(target_of(record, seen), record)) {
        plan_refuse(plan, ERROR_EXISTS, "volume %s is offered by %s here", record->volume, target_of(record, seen)->device);
        return;
    }
    names_make_volume_nqn(record->volume, nqn);
    names_make_identity(record->volume, &identity);
    names_make_cntlids(record->name, &min, &max);
    if (!seen->has_tcp)
        plan_add(plan, "nvmf_create_transport", json_pack("{s:s}", "trtype", "TCP"));
    plan_add(plan, "nvmf_create_subsystem",
             json_pack("{s:s, s:b, s:b, s:s, s:i, s:i}", "nqn", nqn, "allow_any_host", 1, "ana_reporting", 1, "serial_number",
                       identity.serial, "min_cntlid", (int)min, "max_cntlid", (int)max));
    plan_add(plan, "nvmf_subsystem_add_ns",
             json_pack("{s:s, s:{s:s, s:s, s:s}}", "nqn", nqn, "namespace", "bdev_name", record->name, "nguid", identity.nguid,
                       "uuid", identity.uuid));
    plan_add_listener(plan, nqn, address, record->port, names_ana(record->ana));
}

/* ---- the mirror ---- */

bool plan_mirror_is_over(const struct observed_mirror *mirror) {
    return strcmp(mirror->state, "refused") == 0 || strcmp(mirror->state, "ended") == 0;
}

bool plan_mirror_is_superseded(const struct observed_mirror *mirror) {
    return mirror != NULL && plan_mirror_is_over(mirror) && mirror->error_code != NULL &&
           strcmp(mirror->error_code, "permission") == 0;
}

bool plan_mirror_serves(const struct observed_mirror *mirror) { return mirror != NULL && strcmp(mirror->state, "serving") == 0; }

bool plan_mirror_stands_by(const struct observed_mirror *mirror) {
    return mirror != NULL && strcmp(mirror->state, "standby") == 0;
}

static void plan_no_mirror(const struct control_engine_record *record, const struct observation *seen, struct plan *plan) {
    if (observed_mirror(seen, record->name) != NULL)
        plan_add(plan, "mirror_delete", json_pack("{s:s}", "name", record->name));
}

/* Three copies and more can tell by their majority which is newest, also when the node of one is away; two cannot, and go on
 * alone instead. The volume's name gives the id: copies of another volume are refused. */
static json_t *mirror_params(const struct control_engine_record *record) {
    char leg[NAMES_LEG_SIZE];
    struct names_identity identity;
    json_t *legs = json_array(), *foreign = json_array();
    for (unsigned i = 0; i < 2 * record->leg_count; i++) { /* those in doubt last: they get what place is left */
        const struct control_leg_record *of = &record->legs[i % record->leg_count];
        if (of->filling || of->changing != (i >= record->leg_count))
            continue;
        names_make_leg(of->name, record->name, leg);
        json_array_append_new(legs, json_string(leg));
        if (of->foreign)
            json_array_append_new(foreign, json_string(leg));
    }
    names_make_identity(record->volume, &identity);
    json_t *params = json_pack("{s:s, s:o, s:s, s:s}", "name", record->name, "legs", legs, "policy",
                               json_array_size(legs) - json_array_size(foreign) >= 3 ? "majority" : "any", "uuid", identity.uuid);
    /* Replicas without a record, and with data, are clones or were restored each by itself: they are the volume's by its name. */
    json_object_set_new(params, "overwrite", json_true());
    if (json_array_size(foreign) > 0)
        json_object_set(params, "foreign", foreign);
    json_decref(foreign);
    return params;
}

static void plan_mirror(const struct control_engine_record *record, const char *how, bool wait, struct plan *plan) {
    json_t *params = mirror_params(record);
    json_object_set_new(params, how, json_true());
    json_object_set_new(params, "wait", json_boolean(wait));
    plan_add(plan, "mirror_create", params);
}

/* Over replicas that only its own runs have had. */
static void plan_resume(const struct control_engine_record *record, struct plan *plan) {
    json_t *params = mirror_params(record), *runs = json_array();
    for (unsigned i = 0; i < record->run_count; i++)
        json_array_append_new(runs, json_string(record->runs[i]));
    json_object_set_new(params, "resume", runs);
    json_object_set_new(params, "engine", json_string(record->runs[record->run_count - 1]));
    json_object_set_new(params, "wait", json_false());
    plan_add(plan, "mirror_create", params);
}

static void refuse_mirror(const struct control_goal *goal, const struct observed_mirror *mirror, struct plan *plan) {
    const char *also = goal->aside_failure;
    enum error_code code = plan_mirror_is_superseded(mirror) ? ERROR_PERMISSION : ERROR_BUSY;
    plan_refuse(plan, code, "%s%s%s", mirror->error != NULL ? mirror->error : mirror->state, also[0] != '\0' ? "; " : "", also);
}

/* The legs that are not there may stay away, whatever they have. The records name them as another engine may have called them:
 * their ids count. */
static void plan_salvage(const struct observed_mirror *mirror, struct plan *plan) {
    json_t *absent = json_array();
    size_t i;
    const json_t *leg;
    json_array_foreach(mirror->awaited, i, leg) if (json_is_string(json_object_get(leg, "id")))
        json_array_append(absent, json_object_get(leg, "id"));
    plan_add(plan, "mirror_start", json_pack("{s:s, s:o}", "name", mirror->name, "accept_absent", absent));
}

/* On a busy machine a replica may say what it has later than the mirror waits for it. Those whose connection stands are asked
 * once more; of a salvage only if none has answered: else what is missing is given up. */
static bool is_worth_another_look(const struct control_goal *goal, const struct observed_mirror *mirror,
                                  const struct observation *seen) {
    const struct control_engine_record *record = record_of(goal);
    size_t awaited = json_array_size(mirror->awaited);
    bool connected = true;
    for (unsigned i = 0; i < record->leg_count; i++)
        connected = connected && plan_leg_has_way(record, &record->legs[i], seen);
    return !goal->looked_again && connected && awaited > 0 && (!goal->salvage || awaited == record->leg_count);
}

static void plan_create(const struct control_goal *goal, const struct observation *seen, const char *address, struct plan *plan) {
    const struct control_engine_record *record = record_of(goal);
    const struct observed_mirror *mirror = observed_mirror(seen, record->name);
    if (mirror == NULL || !goal->carried_out) { /* one that is there already was left by a creation that failed */
        plan_no_target(record, seen, plan);
        plan_no_mirror(record, seen, plan);
        plan_ways(goal, record, seen, plan);
        plan_mirror(record, "yield", true, plan); /* a standby, if another engine lives */
    } else if (strcmp(mirror->state, "configuring") == 0 && is_worth_another_look(goal, mirror, seen)) {
        plan_add(plan, "mirror_start", json_pack("{s:s}", "name", mirror->name));
        plan->looks_again = true;
    } else if (strcmp(mirror->state, "configuring") == 0 && goal->salvage && !goal->salvaged &&
               json_array_size(mirror->awaited) > 0) {
        plan_salvage(mirror, plan);
        plan->salvages = true;
    } else if (!plan_mirror_serves(mirror) && !plan_mirror_stands_by(mirror)) {
        refuse_mirror(goal, mirror, plan);
    } else if (mirror->bytes > record->bytes) {
        plan_refuse(plan, ERROR_INVALID, "its replicas have %" PRIu64 " bytes, more than its %" PRIu64, mirror->bytes,
                    record->bytes);
    } else {
        plan_target(record, seen, address, plan);
    }
}

/* ---- going ---- */

bool plan_engine_is_there(const struct control_engine_record *record, const struct observation *seen) {
    bool there = observed_mirror(seen, record->name) != NULL || is_ours(target_of(record, seen), record);
    for (unsigned i = 0; i < record->leg_count && !there; i++)
        there = plan_leg_has_way(record, &record->legs[i], seen);
    return there;
}

static void plan_no_clone(const struct control_engine_record *record, const struct observation *seen, struct plan *plan) {
    char name[NAMES_VOLUME_SIZE];
    if (names_make_tailed(record->name, NAMES_CLONING, name))
        plan_unexport(name, seen, plan);
}

static void plan_gone(const struct control_engine_record *record, const struct observation *seen, struct plan *plan) {
    plan_no_target(record, seen, plan);
    plan_no_clone(record, seen, plan);
    plan_no_mirror(record, seen, plan);
    for (unsigned i = 0; i < record->leg_count; i++)
        plan_no_way(record, &record->legs[i], seen, plan);
}

/* ---- standbys ---- */

static bool is_own_run(const struct control_engine_record *record, const char *engine) {
    for (unsigned i = 0; i < record->run_count; i++)
        if (strcasecmp(record->runs[i], engine) == 0)
            return true;
    return false;
}

enum plan_claims plan_claims_of(const struct control_engine_record *record, const struct observed_mirror *mirror,
                                const struct observation *seen) {
    static const char nil[] = "00000000-0000-0000-0000-000000000000";
    unsigned told = 0, reached = 0;
    for (unsigned i = 0; i < record->leg_count; i++) {
        const struct observed_leg *leg = plan_find_leg(record, &record->legs[i], mirror);
        const char *promised = leg == NULL || leg->promised == NULL ? nil : leg->promised;
        reached += !misses(record, &record->legs[i], seen);
        told += strcmp(promised, nil) != 0;
        if (is_own_run(record, promised))
            return PLAN_CLAIMS_SOME;
    }
    return told > 0 && told >= reached ? PLAN_CLAIMS_NONE : PLAN_CLAIMS_UNKNOWN;
}

static void plan_promotion(const struct control_engine_record *record, struct plan *plan) {
    plan_add(plan, "mirror_promote",
             json_pack("{s:s, s:s}", "name", record->name, "engine", record->runs[record->run_count - 1]));
}

/* It looks, and claims nothing. One whose promotion broke off is made anew first: what it has claimed until then does not change
 * any more, and is seen. */
static void plan_standby(const struct control_goal *goal, const struct observation *seen, const char *address,
                         struct plan *plan) {
    const struct control_engine_record *record = record_of(goal);
    const struct observed_mirror *mirror = observed_mirror(seen, record->name);
    bool stands_by = plan_mirror_stands_by(mirror);
    bool broke_off = mirror != NULL && !stands_by && !plan_mirror_serves(mirror) && strcmp(mirror->state, "starting") != 0;
    if (mirror == NULL || broke_off) {
        if (mirror != NULL && goal->carried_out) {
            refuse_mirror(goal, mirror, plan);
            return;
        }
        plan_no_target(record, seen, plan);
        plan_no_mirror(record, seen, plan);
        plan_ways(goal, record, seen, plan);
        plan_mirror(record, "standby", false, plan);
        return;
    }
    plan_ways(goal, record, seen, plan);
    if (mirror->bytes != 0) /* until a replica is reached there is nothing to offer */
        plan_target(record, seen, address, plan);
    if (stands_by && record->promoting && goal->resumes && !goal->carried_out)
        plan_promotion(record, plan);
}

/* ---- what is recorded, again ---- */

static void plan_tend(const struct control_goal *goal, const struct observation *seen, const char *address, struct plan *plan) {
    const struct control_engine_record *record = record_of(goal);
    const struct observed_mirror *mirror = observed_mirror(seen, record->name);
    bool over = mirror != NULL && plan_mirror_is_over(mirror);
    if (record->failure[0] != '\0') {
        plan_gone(record, seen, plan);
    } else if (record->standby) {
        plan_standby(goal, seen, address, plan);
    } else if (over && (!goal->resumes || goal->carried_out || plan_mirror_is_superseded(mirror))) {
        refuse_mirror(goal, mirror, plan);
    } else if (over || mirror == NULL) {
        if (!goal->resumes || goal->carried_out) { /* each run is recorded before it begins */
            plan_refuse(plan, ERROR_BUSY, "its mirror was lost meanwhile");
            return;
        }
        plan_no_target(record, seen, plan);
        plan_no_mirror(record, seen, plan);
        plan_ways(goal, record, seen, plan);
        plan_resume(record, plan);
    } else {
        plan_ways(goal, record, seen, plan);
        if (plan_mirror_serves(mirror))
            plan_target(record, seen, address, plan);
        for (unsigned i = 0; i < record->leg_count && plan_mirror_serves(mirror); i++)
            if (record->legs[i].changing && plan_find_leg(record, &record->legs[i], mirror) == NULL)
                plan_no_way(record, &record->legs[i], seen, plan);
    }
}

/* ---- a running one ---- */

/* NULL, and the plan refuses: it does not serve. */
static const struct observed_mirror *serving(const struct control_goal *goal, const struct observation *seen, struct plan *plan) {
    const struct observed_mirror *mirror = observed_mirror(seen, record_of(goal)->name);
    if (plan_mirror_serves(mirror))
        return mirror;
    plan_refuse(plan, ERROR_BUSY, "engine %s does not serve: %s", record_of(goal)->name,
                mirror == NULL                  ? "its mirror is not there"
                : plan_mirror_stands_by(mirror) ? "it is a standby"
                : mirror->error != NULL         ? mirror->error
                                                : mirror->state);
    return NULL;
}

static void plan_snapshot_create(const struct control_goal *goal, const struct observed_mirror *mirror, struct plan *plan) {
    const struct control_engine_record *record = record_of(goal);
    if (goal->verb == CONTROL_ENGINE_SNAPSHOT_CREATE && record->clone.state == CONTROL_CLONE_COPYING)
        plan_refuse(plan, ERROR_PERMISSION, "snapshot %s of %s is being cloned into engine %s", record->clone.snapshot,
                    record->clone.source, record->name);
    else if (observed_mirror_snapshot(mirror, goal->snapshot) != NULL)
        plan_refuse(plan, ERROR_EXISTS, "engine %s has a snapshot %s", record->name, goal->snapshot);
    else if (record->snapshot_max != 0 && json_array_size(mirror->tree) >= record->snapshot_max)
        plan_refuse(plan, ERROR_PERMISSION, "engine %s has %zu snapshots, and may have no more than %u", record->name,
                    json_array_size(mirror->tree), (unsigned)record->snapshot_max);
    else
        plan_add(plan, "mirror_snapshot_create",
                 json_pack("{s:s, s:s, s:{s:s, s:s, s:s}}", "name", record->name, "snapshot", goal->snapshot, "attributes",
                           "user_created", goal->user_created ? "true" : "false", "snapshot_timestamp", goal->timestamp,
                           "penstock_operation", goal->id));
}

static void plan_on_snapshot(const struct control_goal *goal, const char *method, struct plan *plan) {
    plan_add(plan, method, json_pack("{s:s, s:s}", "name", record_of(goal)->name, "snapshot", goal->snapshot));
}

static void plan_snapshot_delete(const struct control_goal *goal, const struct observed_mirror *mirror, struct plan *plan) {
    const json_t *snapshot = observed_mirror_snapshot(mirror, goal->snapshot);
    json_int_t children = json_integer_value(json_object_get(snapshot, "children"));
    if (snapshot == NULL)
        return;
    if (children > 1)
        plan_refuse(plan, ERROR_PERMISSION, "snapshot %s of engine %s has %d children", goal->snapshot, record_of(goal)->name,
                    (int)children);
    else
        plan_on_snapshot(goal, "mirror_snapshot_delete", plan);
}

static void plan_snapshot_revert(const struct control_goal *goal, const struct observed_mirror *mirror, struct plan *plan) {
    const struct control_engine_record *record = record_of(goal);
    if (record->frontend[0] != '\0')
        plan_refuse(plan, ERROR_PERMISSION, "engine %s has the frontend %s: only one without any is reverted", record->name,
                    record->frontend);
    else if (observed_mirror_snapshot(mirror, goal->snapshot) == NULL)
        plan_refuse(plan, ERROR_PERMISSION, "engine %s has no snapshot %s", record->name, goal->snapshot);
    else
        plan_on_snapshot(goal, "mirror_snapshot_revert", plan);
}

static void plan_expand(const struct control_goal *goal, const struct observed_mirror *mirror, struct plan *plan) {
    uint64_t mib = divide_up(goal->bytes, MIB(1));
    char given[24];
    snprintf(given, sizeof(given), "%" PRIu64, goal->bytes);
    if (mib * MIB(1) < mirror->bytes) {
        plan->outcome = PLAN_REFUSED;
        error_invalid(&plan->error, "size", given, "not less than the %" PRIu64 " bytes that it has", mirror->bytes);
    } else if (mib * MIB(1) > mirror->bytes) {
        plan_add(plan, "mirror_resize", json_pack("{s:s, s:I}", "name", record_of(goal)->name, "size_in_mib", (json_int_t)mib));
    }
}

/* The record has it already. `upon`: as mirror_add_leg has it; 0 = it keeps a record, or all of it is copied. */
static void plan_leg(const struct control_goal *goal, const struct control_leg_record *of, uint64_t upon,
                     const struct observation *seen, struct plan *plan) {
    const struct control_engine_record *record = record_of(goal);
    char leg[NAMES_LEG_SIZE];
    struct way way;
    names_make_leg(of->name, record->name, leg);
    find_way(record, of, &way);
    const struct observed_controller *controller = observed_controller(seen, way.name);
    bool anew = controller != NULL && (is_astray(controller, &way) || of->foreign); /* its head is another device by now */
    if (anew)
        detach(way.name, plan);
    if (controller == NULL || anew)
        plan_add(plan, "bdev_nvme_attach_controller", attach_params(&way));
    json_t *params = json_pack("{s:s, s:s}", "name", record->name, "leg", leg);
    if (of->foreign) {
        json_object_set_new(params, "foreign", json_true());
        json_object_set_new(params, "upon", json_integer((json_int_t)min_u64(upon, INT64_MAX)));
    }
    plan_add(plan, "mirror_add_leg", params);
}

static void plan_replica_add(const struct control_goal *goal, const struct observation *seen,
                             const struct observed_mirror *mirror, struct plan *plan) {
    if (plan_find_leg(record_of(goal), &goal->legs[0], mirror) == NULL)
        plan_leg(goal, &goal->legs[0], goal->legs[0].foreign ? goal->tree : 0, seen, plan);
}

/* Another run of the mirror does not have it any more: all of it is copied then. */
static void plan_filled(const struct control_goal *goal, const struct observation *seen, const struct observed_mirror *mirror,
                        struct plan *plan) {
    const struct control_engine_record *record = record_of(goal);
    char leg[NAMES_LEG_SIZE];
    names_make_leg(goal->legs[0].name, record->name, leg);
    if (plan_find_leg(record, &goal->legs[0], mirror) == NULL)
        plan_leg(goal, &goal->legs[0], 0, seen, plan);
    else if (!goal->carried_out)
        plan_add(plan, "mirror_leg_filled", json_pack("{s:s, s:s}", "name", record->name, "leg", leg));
}

/* Snapshots and size of one that keeps no record are its node's: it would lack what is done here. */
static bool has_foreign(const struct control_goal *goal, struct plan *plan) {
    const struct control_engine_record *record = record_of(goal);
    for (unsigned i = 0; i < record->leg_count && !goal->rebuilds; i++)
        if (record->legs[i].foreign) {
            plan_refuse(plan, ERROR_PERMISSION,
                        "replica %s of engine %s keeps no record, and would not take part: take it away first",
                        record->legs[i].name, record->name);
            return true;
        }
    return false;
}

static void plan_replica_delete(const struct control_goal *goal, const struct observation *seen,
                                const struct observed_mirror *mirror, struct plan *plan) {
    const struct control_engine_record *record = record_of(goal);
    char leg[NAMES_LEG_SIZE];
    names_make_leg(goal->legs[0].name, record->name, leg);
    if (plan_find_leg(record, &goal->legs[0], mirror) != NULL)
        plan_add(plan, "mirror_remove_leg", json_pack("{s:s, s:s}", "name", record->name, "leg", leg));
    plan_no_way(record, &goal->legs[0], seen, plan);
}

/* ---- pauses ---- */

/* Kept by the plane, so that it ends whoever dies. */
static void plan_pause(const char *name, bool pauses, uint64_t lease, struct plan *plan) {
    if (pauses)
        plan_add(plan, "mirror_pause", json_pack("{s:s, s:i}", "name", name, "lease_ms", (int)CONTROL_LEASE_MS));
    else
        plan_add(plan, "mirror_resume", json_pack("{s:s, s:I}", "name", name, "lease", (json_int_t)lease));
}

/* ---- it becomes a clone ---- */

/* What it is a clone of is written through the mirror, by the node that has it. */
static void plan_clone_begin(const struct control_goal *goal, const struct observation *seen, const char *address,
                             const struct observed_mirror *mirror, struct plan *plan) {
    const struct control_engine_record *record = record_of(goal);
    char name[NAMES_VOLUME_SIZE];
    if (!names_make_tailed(record->name, NAMES_CLONING, name)) {
        plan_refuse(plan, ERROR_INVALID, "the name %s is too long", record->name);
    } else if (json_array_size(mirror->tree) > 0) {
        plan_refuse(plan, ERROR_PERMISSION, "engine %s has snapshots: only an empty one can become a clone", record->name);
    } else if (goal->bytes > mirror->bytes) {
        plan_refuse(plan, ERROR_PERMISSION, "snapshot %s is larger than engine %s", goal->snapshot, record->name);
    } else if (!plan_is_exported(name, record->name, seen, address, record->port)) {
        plan_unexport(name, seen, plan);
        plan_export_as(name, record->name, seen, address, record->port, plan);
    }
}

/* Nobody else makes snapshots meanwhile: this one was made when all was copied, whether or not that was answered. */
bool plan_clone_is_whole(const struct control_engine_record *record, const struct observed_mirror *mirror) {
    return mirror != NULL && observed_mirror_snapshot(mirror, record->clone.snapshot) != NULL;
}

static void plan_clone_end(const struct control_goal *goal, const struct observation *seen, const struct observed_mirror *mirror,
                           struct plan *plan) {
    plan_no_clone(record_of(goal), seen, plan);
    if (plan_clone_is_whole(record_of(goal), mirror))
        return;
    if (goal->complete)
        plan_snapshot_create(goal, mirror, plan);
    else if (!goal->carried_out)
        plan_add(plan, "mirror_clear", json_pack("{s:s}", "name", record_of(goal)->name));
}

static void plan_clone_link(const struct control_goal *goal, struct plan *plan) {
    json_t *parents = json_object();
    for (size_t i = 0; i + 1 < goal->name_count; i += 2)
        json_object_set_new(parents, goal->names[i], json_string(goal->names[i + 1]));
    plan_add(plan, "mirror_set_parents", json_pack("{s:s, s:o}", "name", record_of(goal)->name, "parents", parents));
}

/* Commands on one that serves, each of which is one command of the mirror. */
static void plan_on_engine(const struct control_goal *goal, const struct observation *seen, const char *address,
                           struct plan *plan) {
    const struct observed_mirror *mirror = serving(goal, seen, plan);
    if (mirror == NULL)
        return;
    if (goal->verb == CONTROL_ENGINE_REPLICA_ADD)
        plan_replica_add(goal, seen, mirror, plan);
    else if (goal->verb == CONTROL_ENGINE_REPLICA_DELETE)
        plan_replica_delete(goal, seen, mirror, plan);
    else if (goal->verb == CONTROL_ENGINE_FILLED)
        plan_filled(goal, seen, mirror, plan);
    else if (goal->verb == CONTROL_ENGINE_CLONE_END)
        plan_clone_end(goal, seen, mirror, plan);
    else if (goal->carried_out)
        return;
    else if (goal->verb == CONTROL_ENGINE_PAUSE || goal->verb == CONTROL_ENGINE_UNPAUSE)
        plan_pause(record_of(goal)->name, goal->verb == CONTROL_ENGINE_PAUSE, goal->lease, plan);
    else if (goal->verb != CONTROL_ENGINE_LIMIT && has_foreign(goal, plan))
        return;
    else if (goal->verb == CONTROL_ENGINE_SNAPSHOT_CREATE)
        plan_snapshot_create(goal, mirror, plan);
    else if (goal->verb == CONTROL_ENGINE_SNAPSHOT_DELETE)
        plan_snapshot_delete(goal, mirror, plan);
    else if (goal->verb == CONTROL_ENGINE_SNAPSHOT_REVERT)
        plan_snapshot_revert(goal, mirror, plan);
    else if (goal->verb == CONTROL_ENGINE_EXPAND)
        plan_expand(goal, mirror, plan);
    else if (goal->verb == CONTROL_ENGINE_CLONE_BEGIN)
        plan_clone_begin(goal, seen, address, mirror, plan);
    else if (goal->verb == CONTROL_ENGINE_CLONE_LINK)
        plan_clone_link(goal, plan);
    else if (goal->verb == CONTROL_ENGINE_LIMIT)
        plan_add(plan, "mirror_set_options",
                 json_pack("{s:s, s:I}", "name", record_of(goal)->name, "bytes_per_s", (json_int_t)goal->bytes));
}

/* A standby that is to be optimized claims and serves first. */
static void plan_set_ana(const struct control_goal *goal, const struct observation *seen, const char *address,
                         struct plan *plan) {
    const struct control_engine_record *record = record_of(goal);
    const struct observed_mirror *mirror = observed_mirror(seen, record->name);
    if (mirror == NULL) {
        plan_refuse(plan, ERROR_BUSY, "its mirror is not there");
    } else if (record->promoting && !plan_mirror_serves(mirror)) {
        if (!goal->carried_out && plan_mirror_stands_by(mirror))
            plan_promotion(record, plan);
        else
            refuse_mirror(goal, mirror, plan);
    } else if (!plan_target_stands(record, seen, address)) {
        plan_target(record, seen, address, plan);
    } else if (wants_target(record) && (!plan_ana_stands(record, seen) || !goal->carried_out)) {
        plan_ana(record, address, plan); /* also where it is so already: what is under way may not have ended */
    }
}

void plan_engine(const struct control_goal *goal, const struct observation *seen, const char *address, struct plan *plan) {
    if (goal->verb == CONTROL_ENGINE_CREATE)
        plan_create(goal, seen, address, plan);
    else if (goal->verb == CONTROL_ENGINE_TEND)
        plan_tend(goal, seen, address, plan);
    else if (goal->verb == CONTROL_ENGINE_ANA)
        plan_set_ana(goal, seen, address, plan);
    else if (goal->verb == CONTROL_ENGINE_DELETE)
        plan_gone(record_of(goal), seen, plan);
    else
        plan_on_engine(goal, seen, address, plan);
}

/* ---- pauses of frontends ---- */

void plan_frontend(const struct control_goal *goal, const struct observation *seen, struct plan *plan) {
    const struct control_frontend *frontend = container_of(goal->object, struct control_frontend, object);
    const char *name = frontend->record.engine;
    const struct observed_mirror *mirror = observed_mirror(seen, name);
    if (goal->carried_out)
        return;
    if (goal->verb == CONTROL_FRONTEND_SUSPEND && !plan_mirror_serves(mirror))
        plan_refuse(plan, ERROR_PERMISSION, "engine %s does not serve", name);
    else if (goal->verb == CONTROL_FRONTEND_SUSPEND || mirror != NULL)
        plan_pause(name, goal->verb == CONTROL_FRONTEND_SUSPEND, frontend->lease, plan);
}
