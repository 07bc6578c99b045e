/* I/O is held for a while, for somebody who promised to be done by then, or since no leg is there; and what hosts are told of the
 * path meanwhile. docs/mirror.md, "For who runs it". */
#include "blockdev/mirror/mirror_internal.h"

#define LEASE_MAX_MS (10 * 60 * 1000)

/* ---- pause and resume ---- */

static void pause_ends(struct mirror *mirror) {
    mirror->paused = false;
    mirror->lease = 0;
    reactor_timer_stop(mirror->home, &mirror->lease_end);
    mirror_io_look(mirror);
}

static void pause_answer(struct mirror *mirror) {
    struct mirror_command *command = mirror->pausing;
    mirror->pausing = NULL;
    mirror_command_answer(command);
}

static void lease_is_over(struct reactor_timer *timer) {
    struct mirror *mirror = container_of(timer, struct mirror, lease_end);
    pause_ends(mirror);
    if (mirror->pausing == NULL)
        return;
    error_set(&mirror->pausing->error, ERROR_TIMED_OUT, "%s: what was under way did not end in time", mirror->device.name);
    pause_answer(mirror);
}

void mirror_lease_look(struct mirror *mirror) {
    if (mirror->pausing == NULL)
        return;
    if (!list_empty(&mirror->under_way) || mirror->for_room > 0) {
        mirror->watched = true;
        return;
    }
    mirror->pausing->lease = mirror->lease;
    pause_answer(mirror);
}

void mirror_pause(struct mirror *mirror, struct mirror_command *command) {
    if (command->lease_ms == 0 || command->lease_ms > LEASE_MAX_MS) {
        error_invalid(&command->error, "lease_ms", "", "1 to %u", LEASE_MAX_MS);
    } else if (mirror->paused || mirror->releasing) {
        error_set(&command->error, ERROR_BUSY, "%s is paused already", mirror->device.name);
    } else if (mirror->state != MIRROR_SERVING) {
        error_set(&command->error, ERROR_BUSY, "%s does not serve now", mirror->device.name);
    } else {
        mirror->paused = true;
        mirror->lease = random_u64(&mirror->random) >> 11 | 1; /* readers of JSON numbers stop at 53 bits */
        mirror->pausing = command;
        mirror->lease_end.run = lease_is_over;
        reactor_timer_start(mirror->home, &mirror->lease_end, reactor_now_ns(mirror->home) + command->lease_ms * NS_PER_MS);
        mirror_lease_look(mirror);
        return;
    }
    mirror_command_answer(command);
}

void mirror_resume(struct mirror *mirror, struct mirror_command *command) {
    if (!mirror->paused || command->lease == 0 || command->lease != mirror->lease || mirror->pausing != NULL)
        error_set(&command->error, ERROR_TIMED_OUT, "the lease is over: requests to %s have gone on since", mirror->device.name);
    else
        pause_ends(mirror);
    mirror_command_answer(command);
}

void mirror_lease_cancel(struct mirror *mirror, enum error_code code, const char *why) {
    if (mirror->paused)
        pause_ends(mirror);
    if (mirror->pausing == NULL)
        return;
    error_set(&mirror->pausing->error, code, "%s: %s", mirror->device.name, why);
    pause_answer(mirror);
}

/* ---- no leg is there ---- */

static void hold_is_over(struct reactor_timer *timer) {
    struct mirror *mirror = container_of(timer, struct mirror, hold_end);
    mirror->hold_over = true;
    mirror_path_look(mirror);
    mirror_io_look(mirror);
}

void mirror_away_begin(struct mirror *mirror) {
    mirror->hold_over = false;
    mirror->hold_end.run = hold_is_over;
    if (mirror->hold_ns != UINT64_MAX)
        reactor_timer_start(mirror->home, &mirror->hold_end, reactor_now_ns(mirror->home) + mirror->hold_ns);
    mirror_path_look(mirror);
}

void mirror_away_end(struct mirror *mirror) {
    reactor_timer_stop(mirror->home, &mirror->hold_end);
    mirror->hold_over = false;
    mirror_path_look(mirror);
}

/* Under `majority` a copy that is there is not enough: nothing is acknowledged, or read, before others are, too. */
void mirror_short_look(struct mirror *mirror) {
    bool is_short = mirror->state == MIRROR_SERVING && !mirror_majority_is_there(mirror, NULL);
    if (is_short == mirror->is_short)
        return;
    mirror->is_short = is_short;
    mirror_watch_look(mirror);
}

enum mirror_state mirror_state_told(const struct mirror *mirror, struct error *ret_error) {
    mirror_mask away = 0;
    unsigned count = 0;
    *ret_error = mirror->error;
    if (!mirror->is_short || mirror->state != MIRROR_SERVING)
        return mirror->state;
    mirror_for_each_leg(mirror, leg) {
        if (!mirror_leg_counts(leg))
            continue;
        count++;
        away |= mirror_leg_is_up(leg) && leg->recorded ? 0 : leg->bit;
    }
    error_set(ret_error, ERROR_BUSY, "too few legs are there for the policy majority; away");
    mirror_put_names(mirror, away, ret_error);
    if (count == 2)
        error_hint(ret_error,
                   "bring it back; one goes on without the other if a third keeps the record at least: penstock block mirror "
                   "add %s LEG --tie-breaker, when it serves again",
                   mirror->device.name);
    else
        error_hint(ret_error, "bring some of them back: it takes more than half of its legs");
    return MIRROR_HOLDING;
}

/* ---- the path ---- */

static void path_told(struct reactor_message *message) {
    struct mirror *mirror = container_of(message, struct mirror, path_message);
    mirror->path_busy = false;
    mirror_path_look(mirror);
}

static void path_tell(struct reactor_message *message) {
    struct mirror *mirror = container_of(message, struct mirror, path_message);
    if (!mirror->destroyed)
        block_device_set_path(&mirror->device, !mirror->path_down);
    message->run = path_told;
    reactor_post(mirror->home, message);
}

void mirror_path_look(struct mirror *mirror) {
    bool down = mirror->state == MIRROR_ENDED || mirror->state == MIRROR_STANDBY || mirror->hold_over || mirror->promoting;
    if (mirror->path_busy || down == mirror->path_down)
        return;
    mirror->path_busy = true;
    mirror->path_down = down;
    mirror->path_message.run = path_tell;
    reactor_post(mirror->control, &mirror->path_message);
}
