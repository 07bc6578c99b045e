/* Two engines for one mirror, of which one serves: a standby looks at its legs and claims nothing; promoted it claims, and the
 * other one is refused from then on. In order: the other one drains, flushes and gives its claims back first. Also the start that
 * an operator asks for. docs/mirror.md, "For who runs it". */
#include "blockdev/mirror/fan.h"

#include <stdio.h>

/* ---- a start that is asked for ---- */

enum { START_BEGIN, START_DECIDED, START_STAND_BY };

static void start_anew(struct mirror *mirror, struct mirror_command *command) {
    command->step = START_DECIDED;
    mirror->accept_sent = false;
    mirror->accept_count = min_u32(command->accept_absent_count, MIRROR_LEGS_MAX);
    for (unsigned i = 0; i < mirror->accept_count; i++)
        snprintf(mirror->accept[i], sizeof(mirror->accept[i]), "%s", command->accept_absent[i]);
    command->term_before = mirror->options.term;
    mirror->options.term = command->term;
    mirror->term = 0;
    mirror->restart = true;
    mirror->decided = 0;
    error_clear(&mirror->error);
    mirror_for_each_leg(mirror, leg) mirror_leg_retry(leg);
    mirror_start_wake(mirror);
}

static bool waits(const struct mirror *mirror) { return mirror->state == MIRROR_CONFIGURING || mirror->state == MIRROR_REFUSED; }

/* It ends when it is decided whether the mirror starts. */
static bool decided(struct mirror *mirror, struct mirror_command *command) {
    if (mirror->state == MIRROR_SERVING)
        return true;
    if (mirror->restart || mirror->decided == 0 || mirror->state == MIRROR_STARTING || mirror->error.code == ERROR_NONE)
        return false;
    command->error = mirror->error;
    if (mirror->accept_sent) {
        error_set(&command->error, ERROR_CANCELLED, "%.140s; legs were lost while it was started: those that are there tell %s",
                  mirror->error.text, "whether it did without those that were absent");
        snprintf(command->error.expected, sizeof(command->error.expected), "%s", mirror->error.expected);
    }
    /* What came to nothing is no word on a start that comes later. */
    mirror->accept_count = 0;
    mirror->options.term = command->term_before;
    return true;
}

bool mirror_start_command(struct mirror *mirror, struct mirror_command *command) {
    if (command->step > START_BEGIN)
        return decided(mirror, command);
    if (!waits(mirror)) {
        error_set(&command->error, mirror->state == MIRROR_SERVING ? ERROR_ALREADY : ERROR_BUSY, "%s %s", mirror->device.name,
                  mirror->state == MIRROR_SERVING ? "serves" : "does not wait for a start");
        return true;
    }
    start_anew(mirror, command);
    return false;
}

/* One that comes to nothing is a standby again: it does not begin by itself when a leg comes that it waited for. */
bool mirror_promote_command(struct mirror *mirror, struct mirror_command *command) {
    if (command->step == START_STAND_BY)
        return mirror->state == MIRROR_STANDBY;
    if (command->step == START_DECIDED) {
        if (!decided(mirror, command))
            return false;
        if (command->error.code == ERROR_NONE)
            return true;
        mirror->stand_by = true;
        mirror_start_wake(mirror);
        command->step = START_STAND_BY;
        return false;
    }
    if (mirror->state != MIRROR_STANDBY) {
        error_set(&command->error, ERROR_BUSY, "%s is no standby", mirror->device.name);
        return true;
    }
    mirror->engine = uuid_is_nil(&command->engine) ? mirror_random_id(mirror) : command->engine;
    mirror->options.yield = false; /* it is told to */
    mirror->options.resume_count = 0;
    mirror_for_each_leg(mirror, leg) leg->attempt = 0;
    mirror->state = MIRROR_CONFIGURING;
    mirror->promoting = true;
    mirror_away_begin(mirror);
    start_anew(mirror, command);
    return false;
}

/* ---- giving the claims back ---- */

enum { RELEASE_BEGIN, RELEASE_DRAIN, RELEASE_FLUSH, RELEASE_GIVE, RELEASE_DONE };

static void fanned(struct mirror_fan *fan) {
    fan->mirror->release_waits = false;
    mirror_commands_look(fan->mirror);
}

static bool release_fail(struct mirror *mirror, struct mirror_command *command, enum error_code code, const char *why) {
    mirror->releasing = false;
    mirror_io_look(mirror);
    return !error_set(&command->error, code, "%s: %s", mirror->device.name, why);
}

static void to_all(struct mirror *mirror, enum block_op op, uint64_t argument) {
    struct mirror_fan *fan = mirror->release_fan;
    mirror->release_waits = true;
    mirror_fan_begin(fan, mirror_up(mirror));
    mirror_fan_round(fan);
    mirror_for_each_leg(mirror, leg) if (mirror_leg_is_up(leg)) mirror_fan_send(fan, leg, op, argument, 0, NULL, 0);
    mirror_fan_wait(fan, fanned);
}

bool mirror_release_command(struct mirror *mirror, struct mirror_command *command) {
    if (command->step > RELEASE_BEGIN && command->step < RELEASE_GIVE && mirror->state != MIRROR_SERVING)
        return release_fail(mirror, command, ERROR_BUSY, "its legs were lost meanwhile");
    switch (command->step) {
    case RELEASE_BEGIN:
        if (mirror->state != MIRROR_SERVING || mirror->paused)
            return release_fail(mirror, command, ERROR_BUSY, "it does not serve now");
        mirror->releasing = true;
        command->step = RELEASE_DRAIN;
        return false;
    case RELEASE_DRAIN:
        if (!list_empty(&mirror->under_way) || mirror->for_room > 0 || mirror->changing || mirror_copy_is_busy(mirror) ||
            mirror_retire_is_busy(mirror)) {
            reactor_timer_start(mirror->home, &mirror->command_timer, reactor_now_ns(mirror->home) + NS_PER_MS);
            return false;
        }
        to_all(mirror, BLOCK_FLUSH, 0);
        command->step = RELEASE_FLUSH;
        return false;
    case RELEASE_FLUSH:
        if (mirror->release_waits)
            return false;
        if ((mirror_fan_there(mirror->release_fan) & mirror->members & ~mirror->release_fan->bad) != mirror->members)
            return release_fail(mirror, command, ERROR_IO, "a leg did not flush");
        to_all(mirror, BLOCK_REPLICA_PUT, replica_argument(REPLICA_RELEASE, 0, 0));
        command->step = RELEASE_GIVE;
        return false;
    case RELEASE_GIVE:
        if (mirror->release_waits)
            return false;
        mirror->acknowledged = mirror->flushed = 0;
        mirror->stand_by = true;
        mirror_start_wake(mirror);
        command->step = RELEASE_DONE;
        return false;
    default: return mirror->state == MIRROR_STANDBY;
    }
}
