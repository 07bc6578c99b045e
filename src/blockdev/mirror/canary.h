/* What the simulator's tests get of the engine's inside when they compile it once more: planted faults, one at a time, with
 * -DMIRROR_CANARY_RUNTIME, and the moments of its tasks, with -DMIRROR_POINTS_RUNTIME. The product is compiled with neither, and
 * the compiler drops every hook. */
#pragma once

enum mirror_canary {
    MIRROR_CANARY_NONE,
    MIRROR_CANARY_EPOCH_EARLY,         /* a change is complete when the first member has stored it */
    MIRROR_CANARY_INCARNATION_IGNORED, /* a leg that was opened anew is taken for one that was not */
    MIRROR_CANARY_SYNCING_LATE         /* a leg takes writes and copies before its record says that it is syncing */
};
#ifdef MIRROR_CANARY_RUNTIME
extern int mirror_canary_planted; /* defined by the test */
#define MIRROR_CANARY mirror_canary_planted
#else
#define MIRROR_CANARY MIRROR_CANARY_NONE
#endif

/* Moments, with the phase of the task added: every step that a task takes, before it does anything. */
enum mirror_point {
    MIRROR_POINT_LEG = 0,    /* + enum leg_phase */
    MIRROR_POINT_EPOCH = 32, /* + enum epoch_phase */
    MIRROR_POINT_START = 48, /* + phase of the start */
    MIRROR_POINT_COMPLETE = 64,
    MIRROR_POINT_COMMAND = 65, /* + phase of a tree command */
    MIRROR_POINTS = 80
};
#ifdef MIRROR_POINTS_RUNTIME
struct mirror;
struct mirror_leg;
void mirror_point(struct mirror *mirror, struct mirror_leg *leg, unsigned point); /* defined by the test */
#define MIRROR_AT(mirror, leg, point) mirror_point(mirror, leg, point)
#else
#define MIRROR_AT(mirror, leg, point) ((void)0)
#endif
