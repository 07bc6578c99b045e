/* From a goal and an observation to the next commands. Pure: table-tested without a plane. */
#pragma once

#include "control/control.h"

enum plan_outcome { PLAN_CARRY_OUT, PLAN_REACHED, PLAN_REFUSED };

struct plan {
    enum plan_outcome outcome;
    struct error error; /* REFUSED */
    struct plan_command *commands;
    unsigned count, capacity;
    bool salvages;    /* what is missing is given up, once */
    bool looks_again; /* at what did not answer in time, once */
};

/* What brings the node nearer to the goal, whose object's record is as recorded. `address`: where replicas listen. */
void plan_make(const struct control_goal *goal, const struct observation *seen, const char *address, struct plan *ret_plan);
void plan_commands_free(struct plan_command *take_commands, unsigned count);
/* True if the replica is exported as it should be. */
bool plan_export_stands(const struct control_replica_record *record, const struct observed_volume *head,
                        const struct observation *seen, const char *address);
/* The engine's mirror is offered as it should be, or is not to be offered. */
bool plan_target_stands(const struct control_engine_record *record, const struct observation *seen, const char *address);
/* Hosts see the target in the state that the record has. */
bool plan_ana_stands(const struct control_engine_record *record, const struct observation *seen);
/* Something of it is in the plane. */
bool plan_engine_is_there(const struct control_engine_record *record, const struct observation *seen);
/* There is no way to one of its replicas, or to another place than the record says. */
bool plan_engine_misses_way(const struct control_engine_record *record, const struct observation *seen);
/* There is a way to this replica, wherever it leads. */
bool plan_leg_has_way(const struct control_engine_record *record, const struct control_leg_record *leg,
                      const struct observation *seen);
/* The mirror's leg that is this replica, NULL = none. */
const struct observed_leg *plan_find_leg(const struct control_engine_record *record, const struct control_leg_record *leg,
                                         const struct observed_mirror *mirror);
/* The mirror is over: superseded, refused, or its unflushed writes are gone. */
bool plan_mirror_is_over(const struct observed_mirror *mirror);
/* That, since its replicas are promised to another engine; NULL is fine, here and below. */
bool plan_mirror_is_superseded(const struct observed_mirror *mirror);
bool plan_mirror_serves(const struct observed_mirror *mirror);
bool plan_mirror_stands_by(const struct observed_mirror *mirror);
/* All that its record says is being cloned into it was copied: it has the snapshot. */
bool plan_clone_is_whole(const struct control_engine_record *record, const struct observed_mirror *mirror);
/* Of an engine that is being promoted: whether its mirror, which stands by, has found a replica promised to one of its runs. */
enum plan_claims { PLAN_CLAIMS_UNKNOWN, PLAN_CLAIMS_NONE, PLAN_CLAIMS_SOME };
enum plan_claims plan_claims_of(const struct control_engine_record *record, const struct observed_mirror *mirror,
                                const struct observation *seen);
/* plan_copy.c, for plan.c and others. */
void plan_copy(const struct control_goal *goal, const struct observation *seen, const char *address, struct plan *plan);
/* What copies from and to the replica have in the plane, apart from volumes. */
void plan_no_copies(const struct control_replica_record *record, const struct observation *seen, struct plan *plan);
/* The snapshot that is recorded as outgoing is exported as it should be. */
bool plan_exposed(const struct control_replica_record *record, const struct observation *seen, const char *address);
/* Its content is not its own, but that of a device elsewhere: it was not finished. */
bool plan_stands_outside(const struct observed_volume *volume, const struct observation *seen);
/* A replica's snapshot; NULL: it is not there. */
const struct observed_volume *plan_find_snapshot(const struct control_replica_record *replica, const char *snapshot,
                                                 const struct observation *seen);
/* NULL, and the plan refuses. */
const struct observed_volume *plan_find_head(const struct control_replica_record *replica, const struct observation *seen,
                                             struct plan *plan);
/* Volumes whose names begin with the replica's, from the first on. */
bool plan_is_of(const struct observed_volume *volume, const struct control_replica_record *replica,
                const struct observation *seen);
/* `device` as NQN_PREFIX`name`, to replicas' hosts. Nothing stands under that name. */
void plan_export_as(const char *name, const char *device, const struct observation *seen, const char *address, uint16_t port,
                    struct plan *plan);
bool plan_is_exported(const char *name, const char *device, const struct observation *seen, const char *address, uint16_t port);
void plan_unexport(const char *name, const struct observation *seen, struct plan *plan);
/* Deletes those for which `dooms` says so, leaves first. */
void plan_delete_volumes(const struct control_replica_record *replica, const struct observation *seen,
                         bool (*dooms)(const char *rest), struct plan *plan);
/* A volume of somebody else that stands upon one of the replica's snapshots (NULL: upon any): a linked clone. NULL: there is
 * none. */
const struct observed_volume *plan_find_linked(const struct control_replica_record *replica,
                                               const struct observed_volume *snapshot, const struct observation *seen);
/* The parameters of a connection to a subsystem at "IP:PORT", which was checked; it is given up when it was lost for so long. */
json_t *plan_attach_params(const char *controller, const char *nqn, const char *address, int loss_s);
/* plan_engine.c, for plan.c. */
void plan_engine(const struct control_goal *goal, const struct observation *seen, const char *address, struct plan *plan);
void plan_frontend(const struct control_goal *goal, const struct observation *seen, struct plan *plan);
void plan_add(struct plan *plan, const char *method, json_t *take_params);
void plan_add_aside(struct plan *plan, const char *method, json_t *take_params);
/* `ana`: the plane's name of the listener's state; NULL = optimized. */
void plan_add_listener(struct plan *plan, const char *nqn, const char *address, uint16_t port, const char *ana);
#define plan_refuse(plan, ...) ((plan)->outcome = PLAN_REFUSED, (void)error_set(&(plan)->error, __VA_ARGS__))
/* "2, ERROR" and such: the plane's name of a log level, NULL if it is none. Any case. */
const char *plan_log_level(const char *text);
