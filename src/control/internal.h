/* What the files of control share. Nobody outside this folder includes it. */
#pragma once

#include "control/control.h"
#include "control/names.h"
#include "control/plan.h"
#include "control/records.h"

/* ---- goal.c: the engine ---- */

/* The first of its object's goals, or of no object: goes on. */
void goal_begin(struct control_goal *goal);
/* A goal of the daemon itself, for an object without goals. */
void goal_start_own(struct control *control, struct control_object *object, enum control_verb verb);
/* Its helper is ready, or is so no more. */
void goal_helper_changed(struct control_goal *goal);
/* Ends all with ERROR_CANCELLED. */
void goals_cancel(struct control *control);

/* ---- verbs.c: what each verb checks, records and leaves ---- */

enum verb_next {
    VERB_OBSERVE, /* nothing to write */
    VERB_RECORD,  /* the object's record is to be written (or, no more recorded, deleted) */
    VERB_END      /* the goal is over; goal->error tells how */
};

/* Arguments, and the object (made if need be). False: goal->error; or (code NONE) there is nothing to do. */
bool verb_accept(struct control_goal *goal);
/* It is the first in turn: looks at the object's state, changes its record. */
enum verb_next verb_begin(struct control_goal *goal);
/* Reached, or not (goal->error): changes the record. RECORD or END. */
enum verb_next verb_settle(struct control_goal *goal);
/* A command was refused. True: something was changed, and recorded so is to be planned again. */
bool verb_refused(struct control_goal *goal, const struct plane_call *call);
uint64_t verb_seconds(enum control_verb verb);
/* There is nothing to observe for it, nor to plan. */
bool verb_is_of_state(enum control_verb verb);
/* It is planned again when the plane is back after it died. */
bool verb_outlives_plane(const struct control_goal *goal);

/* ---- control.c ---- */

/* One less. */
void control_goal_ended(struct control *control);
/* Callers are served from now on. */
void control_become_ready(struct control *control);
/* An object of the kind, its name unlike all others': `size` bytes, of which it is the beginning. NULL: no memory. */
void *control_object_add(struct control *control, enum control_kind kind, const char *name, size_t size);
void control_object_remove(struct control *control, struct control_object *take_object);
void control_remove_disk(struct control *control, struct control_disk *take_disk);
struct control_disk *control_add_disk(struct control *control, const char *name);
struct control_replica *control_add_replica(struct control *control, const char *name);
static inline struct control_disk *disk_of(struct control_object *object) {
    return container_of(object, struct control_disk, object);
}
static inline struct control_replica *replica_of(struct control_object *object) {
    return container_of(object, struct control_replica, object);
}
static inline struct control_engine *engine_of(struct control_object *object) {
    return container_of(object, struct control_engine, object);
}
const char *control_object_name(struct control_object *object);
/* Its record, of the kind's type. */
void *control_object_record(struct control_object *object);
size_t control_object_record_size(enum control_kind kind);
struct control_ports {
    uint16_t *first, *count; /* in the record; NULL: its kind has none */
};
struct control_ports control_object_ports(struct control_object *object);
/* All is looked at and judged anew then, at the latest. */
void control_look_by(struct control *control, uint64_t at_ns);
/* ---- judge.c ---- */

/* States, own goals, watchers, of all objects, from what is known now. */
void control_judge(struct control *control);
/* The state of this one (NULL = none) at once, of whatever is not at rest at the end of the turn. */
void control_judge_soon(struct control *control, struct control_object *object);
/* Frontends that are not at rest. */
void control_judge_frontends(struct control *control);
/* The observer has something new: see there. */
void control_observed(void *control, bool all);
/* What it does by itself may be begun now. */
bool control_may_try(const struct control *control, const struct control_object *object);
/* The plane is away, and not for a moment. */
bool control_is_gone(const struct control *control);
void control_set_state(enum control_state *state, char *reason, size_t size, enum control_state new_state, const char *format,
                       ...) __attribute__((format(printf, 5, 6)));

/* ---- engine.c ---- */

struct control_engine *engine_add(struct control *control, const char *name);
void engine_judge(struct control *control, struct control_engine *engine);
/* It runs, and all of its replicas are whole. */
bool engine_is_at_rest(const struct control_engine *engine);
/* Begins what it needs, if it may. */
void engine_care(struct control *control, struct control_engine *engine);
uint64_t engine_fingerprint(const struct control *control, const struct control_engine *engine);
bool engine_accept(struct control_goal *goal);
enum verb_next engine_begin(struct control_goal *goal);
enum verb_next engine_settle(struct control_goal *goal);

/* The snapshot, of a replica that is there, with its attributes. NULL: error; `replica` may be NULL. */
const struct observed_volume *control_check_snapshot(struct control *control, const struct control_replica *replica,
                                                     const char *name, const char *snapshot, struct error *error);

/* ---- copy.c ---- */

static inline bool verb_is_of_copy(enum control_verb verb) { return verb >= CONTROL_EXPOSE && verb <= CONTROL_CLONE_LINK; }
bool copy_accept(struct control_goal *goal);
enum verb_next copy_begin(struct control_goal *goal);
enum verb_next copy_settle(struct control_goal *goal);
/* Begins what a replica needs to be rid of what was left. True: something was begun. */
bool copy_care(struct control *control, struct control_replica *replica);
/* The plane's calls have ended. */
void copies_forget(struct control *control);

/* ---- hash.c ---- */

/* The plane's calls have ended. */
void hashes_forget(struct control *control);

/* ---- frontend.c ---- */

static inline struct control_frontend *frontend_of(struct control_object *object) {
    return container_of(object, struct control_frontend, object);
}
struct control_frontend *frontend_add(struct control *control, const char *name);
void frontend_remove(struct control *control, struct control_frontend *frontend);
void frontend_judge(struct control *control, struct control_frontend *frontend);
uint64_t frontend_fingerprint(const struct control_frontend *frontend);
bool frontend_accept(struct control_goal *goal);
enum verb_next frontend_begin(struct control_goal *goal);
enum verb_next frontend_settle(struct control_goal *goal);

/* Its block device, if it is one and has none that stands. */
void frontend_helper_changed(struct control *control, struct control_frontend *frontend);

/* ---- blockdev.c: frontends that are block devices ---- */

bool blockdev_is(const struct control_frontend_record *record);
/* It is carried out by the frontend's helper, and not by the plane. */
bool verb_is_of_helper(const struct control_goal *goal);
/* NULL: there is none. */
struct control_plane *blockdev_plane(struct control_goal *goal);
void plan_blockdev(const struct control_goal *goal, struct plan *ret_plan);
void blockdev_judge(const struct control *control, struct control_frontend *frontend);
/* Attaches it, if it may and must. */
void blockdev_care(struct control *control, struct control_frontend *frontend);
enum verb_next blockdev_begin_attach(struct control_goal *goal);
enum verb_next blockdev_settle_attach(struct control_goal *goal);

/* ---- verbs.c, for the others ---- */

/* What an object tried by itself has failed, is tried again later and later; or has succeeded. */
void verb_own_failed(struct control_goal *goal);
void verb_own_succeeded(struct control_goal *goal);
bool verb_check_size(struct control_goal *goal);
bool verb_check_snapshot(struct control_goal *goal);
/* `count` ports for the object, unless it has them. False: goal->error. */
bool verb_take_ports(struct control_goal *goal, unsigned count);
void verb_release_ports(struct control *control, struct control_object *object);

/* ---- ports.c ---- */

/* `count` ports in a row, above `after` first. 0: there are none. */
uint16_t ports_take(struct control *control, uint16_t after, unsigned count);
void ports_mark(struct control *control, uint16_t port, unsigned count);
void ports_release(struct control *control, uint16_t port, unsigned count);
