#include "control/switch.h"

#include <string.h>

#include "base/bytes.h"

static const char *const step_names[] = {[SWITCH_NONE] = "none",
                                         [SWITCH_PREPARED] = "prepared",
                                         [SWITCH_MOVING] = "moving",
                                         [SWITCH_DRAINED] = "drained",
                                         [SWITCH_UNDOING] = "undoing"};

const char *switch_step_name(enum switch_step step) { return step_names[step]; }

bool switch_step_parse(const char *text, enum switch_step *ret_step) {
    for (unsigned i = 0; i < array_count(step_names); i++)
        if (strcmp(text, step_names[i]) == 0) {
            *ret_step = (enum switch_step)i;
            return true;
        }
    return false;
}

static struct switch_move ask(enum switch_step step, enum switch_ask what) {
    return (struct switch_move){.step = step, .ask = what, .end = SWITCH_GOES_ON};
}

static struct switch_move end(enum switch_step step, enum switch_end how) {
    return (struct switch_move){.step = step, .ask = SWITCH_ASK_NOTHING, .end = how};
}

static struct switch_move begin(enum switch_step step, enum switch_phase phase) {
    switch (step) {
    case SWITCH_MOVING: return ask(SWITCH_UNDOING, SWITCH_ASK_NEXT); /* the daemon has died in it */
    case SWITCH_UNDOING: return ask(SWITCH_UNDOING, SWITCH_ASK_NEXT);
    case SWITCH_DRAINED:
        return phase == SWITCH_ALL ? ask(SWITCH_MOVING, SWITCH_ASK_PROMOTE) : end(SWITCH_DRAINED, SWITCH_REACHED);
    default: return ask(step, SWITCH_ASK_NEXT);
    }
}

/* The next engine was looked at. */
static struct switch_move found(enum switch_step step, enum switch_answer answer) {
    bool there = answer == SWITCH_STANDS_BY || answer == SWITCH_SERVES;
    if (step == SWITCH_UNDOING && answer == SWITCH_SERVES)
        return end(SWITCH_NONE, SWITCH_MOVED);
    if (step == SWITCH_UNDOING)
        return ask(SWITCH_UNDOING, answer == SWITCH_SILENT ? SWITCH_ASK_RESTORE_BLIND : SWITCH_ASK_RESTORE);
    if (!there)
        return end(step, SWITCH_FAILED);
    return ask(SWITCH_PREPARED, SWITCH_ASK_CONNECT);
}

static struct switch_move connected(enum switch_phase phase, enum switch_answer answer) {
    if (answer != SWITCH_SERVES)
        return end(SWITCH_NONE, SWITCH_FAILED);
    if (phase == SWITCH_PREPARE)
        return end(SWITCH_PREPARED, SWITCH_REACHED);
    return ask(SWITCH_MOVING, SWITCH_ASK_OLD); /* one that is dead is not waited for as long as one that drains */
}

static struct switch_move drained(enum switch_phase phase) {
    return phase == SWITCH_DRAIN ? end(SWITCH_DRAINED, SWITCH_REACHED) : ask(SWITCH_MOVING, SWITCH_ASK_PROMOTE);
}

struct switch_move switch_next(enum switch_step step, enum switch_phase phase, enum switch_ask asked, enum switch_answer answer) {
    switch (asked) {
    case SWITCH_ASK_NOTHING: return begin(step, phase);
    case SWITCH_ASK_NEXT: return found(step, answer);
    case SWITCH_ASK_CONNECT: return connected(phase, answer);
    case SWITCH_ASK_OLD: return answer == SWITCH_SERVES ? ask(SWITCH_MOVING, SWITCH_ASK_DRAIN) : drained(phase);
    case SWITCH_ASK_DRAIN: return drained(phase); /* done or not: what is still under way there will be fenced */
    case SWITCH_ASK_PROMOTE:
        return answer == SWITCH_SERVES ? end(SWITCH_NONE, SWITCH_MOVED) : ask(SWITCH_UNDOING, SWITCH_ASK_NEXT);
    case SWITCH_ASK_RESTORE: /* an old one that will not has lost its claims, or is dead: the next one may still come */
        return answer == SWITCH_SERVES ? end(SWITCH_NONE, SWITCH_FAILED) : end(SWITCH_UNDOING, SWITCH_LATER);
    case SWITCH_ASK_RESTORE_BLIND:
        break; /* harmless, should the next one have the claims: its hosts see no path through the old */
    }
    return end(SWITCH_UNDOING, SWITCH_LATER);
}
