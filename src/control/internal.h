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

/* ---- control.c ---- */

/* One less. */
void control_goal_ended(struct control *control);
/* States, own goals, watchers, from what is known now. */
void control_judge(struct control *control);
/* The state of this one (NULL = none) at once, all of the rest at the end of the turn. */
void control_judge_soon(struct control *control, struct control_object *object);
struct control_disk *control_add_disk(struct control *control, const char *name);
struct control_replica *control_add_replica(struct control *control, const char *name);
static inline struct control_disk *disk_of(struct control_object *object) {
    return container_of(object, struct control_disk, object);
}
static inline struct control_replica *replica_of(struct control_object *object) {
    return container_of(object, struct control_replica, object);
}
const char *control_object_name(struct control_object *object);

/* ---- ports.c ---- */

/* `count` ports in a row, above `after` first. 0: there are none. */
uint16_t ports_take(struct control *control, uint16_t after, unsigned count);
void ports_mark(struct control *control, uint16_t port, unsigned count);
void ports_release(struct control *control, uint16_t port, unsigned count);
