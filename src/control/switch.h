/* A switch-over, step by step: the host side of a volume goes from the engine that serves it to another one, which stands by over
 * the same replicas. What to ask whom next, and what the answer means. docs/control.md, "Switching over".
 *
 * Pure. What makes it safe is not here: only one engine has the replicas' claims, whatever is asked of whom in which order, and
 * one that has lost them cannot write. What is here makes sure that hosts find the one that has them, also when the switch breaks
 * off anywhere. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* How far it got, as it is recorded. */
enum switch_step {
    SWITCH_NONE,
    SWITCH_PREPARED, /* the next engine is there and stands by; nothing has happened to the old one */
    SWITCH_MOVING,   /* the old one may have been told to drain, the next one to claim */
    SWITCH_DRAINED,  /* the old one is inaccessible, or does not answer; the next one was told nothing yet */
    SWITCH_UNDOING   /* broken off: who has the claims is found out, and made accessible */
};
const char *switch_step_name(enum switch_step step); /* "none" */
bool switch_step_parse(const char *text, enum switch_step *ret_step);

/* Up to where a caller wants it. */
enum switch_phase { SWITCH_PREPARE, SWITCH_DRAIN, SWITCH_ALL };

enum switch_ask {
    SWITCH_ASK_NOTHING,
    SWITCH_ASK_NEXT,         /* is it there, and does it stand by or serve? */
    SWITCH_ASK_CONNECT,      /* the frontend's device, if it is one, to have a path to the next one */
    SWITCH_ASK_OLD,          /* is it there? */
    SWITCH_ASK_DRAIN,        /* of the old one: let nothing be under way, and be inaccessible */
    SWITCH_ASK_PROMOTE,      /* of the next one: claim and serve */
    SWITCH_ASK_RESTORE,      /* of the old one: be accessible again */
    SWITCH_ASK_RESTORE_BLIND /* the same, while it is not known whether the next one has claimed anything */
};

enum switch_answer {
    SWITCH_BEGIN,     /* nothing was asked yet: a caller's, the daemon's after its restart, or another try */
    SWITCH_STANDS_BY, /* the next one; it has claimed nothing */
    SWITCH_SERVES,    /* the next one, or the old one; or what was asked for was done */
    SWITCH_REFUSED,   /* it is not there, in error, of another volume; or it will not */
    SWITCH_SILENT     /* it did not answer, or cannot tell: anything may be true */
};

enum switch_end {
    SWITCH_GOES_ON,
    SWITCH_REACHED, /* as far as the caller wanted */
    SWITCH_MOVED,   /* the next one is the frontend's engine now */
    SWITCH_FAILED,  /* nothing has changed: the old one is */
    SWITCH_LATER    /* it is not known: to be tried again */
};

struct switch_move {
    enum switch_step step; /* to be recorded, if it is another one, before anything is asked */
    enum switch_ask ask;
    enum switch_end end;
};

/* What follows on the answer to `asked`, in `step`. */
struct switch_move switch_next(enum switch_step step, enum switch_phase phase, enum switch_ask asked, enum switch_answer answer);
