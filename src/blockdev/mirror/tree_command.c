/* Changes of the tree that people ask for: a snapshot, a deletion, a revert, another size, a beginning as a clone. One at a time:
 * all members are asked whether they would, requests are held, all members do it. docs/mirror.md, "Trees". */
#include "blockdev/mirror/mirror_internal.h"

#include <stdio.h>
#include <stdlib.h>

#define M(phase) TASK_MOVE(COMMAND_##phase)
static const uint64_t moves[COMMAND_PHASES] = {
    [COMMAND_REST] = M(LIST),
    [COMMAND_LIST] = M(LIST) | M(CHECK) | M(REST),
    [COMMAND_CHECK] = M(SETTLE) | M(REST),
    [COMMAND_SETTLE] = M(HOLD) | M(SEND) | M(REST),
    [COMMAND_HOLD] = M(SEND) | M(SETTLE) | M(REST),
    [COMMAND_SEND] = M(SIZES) | M(CHANGE) | M(REST),
    [COMMAND_SIZES] = M(TOLD) | M(REST),
    [COMMAND_TOLD] = M(CHANGE) | M(REST),
    [COMMAND_CHANGE] = M(REST),
};
static const char *const names[COMMAND_PHASES] = {"rest", "list", "check", "settle", "hold", "send", "sizes", "told", "change"};

struct mirror_tree_commands {
    struct mirror *mirror;
    struct task task;
    struct list queue; /* struct mirror_tree_command */
    struct mirror_tree_command *command;
    struct mirror_fetch fetch;
    bool asked; /* in this phase */
    struct mirror_call calls[MIRROR_LEGS_MAX];
    uint32_t generations[MIRROR_LEGS_MAX];
    mirror_mask sent, did, refused; /* legs that were sent the document, and their answers */
    enum io_status refusal[MIRROR_LEGS_MAX];
    struct mirror_hold hold;
    struct reactor_timer timer;
    uint64_t waits_until_ns, size;
    struct replica_tree *document; /* REPLICA_DOCUMENT_MAX */
};

/* ---- holding all requests ---- */

static void hold_granted(struct range *range) {
    struct mirror_hold *hold = container_of(range, struct mirror_hold, range);
    hold->held = true;
    hold->granted(hold);
}

void mirror_hold_begin(struct mirror *mirror, struct mirror_hold *hold, void (*granted)(struct mirror_hold *hold)) {
    assert(!hold->waits && !hold->held);
    hold->mirror = mirror;
    hold->granted = granted;
    hold->range.granted = hold_granted;
    hold->waits = true;
    if (ranges_enter(&mirror->ranges, &hold->range, 0, mirror->size))
        hold->held = true;
}

void mirror_hold_end(struct mirror_hold *hold) {
    assert(hold->held);
    hold->waits = hold->held = false;
    ranges_leave(&hold->mirror->ranges, &hold->range);
}

/* ---- the end ---- */

static void done(struct reactor_message *message) {
    struct mirror_tree_command *command = container_of(message, struct mirror_tree_command, message);
    command->done(command);
}

static void give_back(struct mirror_tree_command *command) {
    command->message.run = done;
    reactor_post(command->control, &command->message);
}

/* The command is answered, with its error if that is set. */
static void finish(struct mirror_tree_commands *commands) {
    struct mirror_tree_command *command = commands->command;
    if (commands->hold.held)
        mirror_hold_end(&commands->hold);
    reactor_timer_stop(commands->mirror->home, &commands->timer);
    command->ok = command->error.code == ERROR_NONE;
    commands->command = NULL;
    give_back(command);
    mirror_copy_wake(commands->mirror);
    mirror_legs_wake(commands->mirror);
    task_move(&commands->task, COMMAND_REST);
}

static bool is_under_way(const struct mirror_tree_commands *commands) {
    bool busy = commands->fetch.busy || (commands->hold.waits && !commands->hold.held);
    for (unsigned i = 0; i < MIRROR_LEGS_MAX; i++)
        busy = busy || commands->calls[i].busy;
    return busy;
}

/* False: the command has its answer, or will have it when nothing is under way any more. */
static bool may_go_on(struct mirror_tree_commands *commands) {
    struct mirror *mirror = commands->mirror;
    if ((mirror->state == MIRROR_SERVING || mirror->state == MIRROR_HOLDING) && !mirror->closing)
        return true;
    if (is_under_way(commands))
        return false;
    struct error *error = &commands->command->error;
    if (commands->sent != 0)
        error_set(error, ERROR_IO, "%s stopped while its legs were at it: look whether it was done", mirror->device.name);
    else if (mirror->closing)
        error_set(error, ERROR_NO_DEVICE, "%s is being removed", mirror->device.name);
    else
        error_set(error, ERROR_BUSY, "%s does not serve now", mirror->device.name);
    finish(commands);
    return false;
}

/* ---- the document ---- */

static bool add_text(char **at, const char *end, const char *text) {
    size_t length = strlen(text) + 1;
    if (length > (size_t)(end - *at))
        return false;
    memcpy(*at, text, length);
    *at += length;
    return true;
}

static bool compose_pairs(const struct mirror_tree_command *command, struct replica_tree *tree) {
    char *at = tree->pairs, *end = (char *)tree + REPLICA_DOCUMENT_MAX;
    bool fits = command->pair_count <= REPLICA_PAIRS_MAX;
    for (unsigned i = 0; i < 2 * command->pair_count && fits; i++)
        fits = add_text(&at, end, command->pairs[i]);
    tree->pair_bytes = (uint32_t)(at - tree->pairs);
    return fits;
}

/* From what was asked and the tree as it is; false: the error is set. */
static bool compose(struct mirror_tree_commands *commands) {
    struct mirror *mirror = commands->mirror;
    struct mirror_tree_command *command = commands->command;
    struct error *error = &command->error;
    struct replica_tree *tree = commands->document;
    const struct replica_layers *layers = commands->fetch.tree;
    const char *name = command->snapshot == NULL ? "" : command->snapshot;
    *tree = (struct replica_tree){.sequence = max_u64(mirror->tree_highest, layers->sequence) + 1, .what = command->what};
    do
        tree->change = random_u64(&mirror->random);
    while (tree->change == 0 || tree_find(layers, tree->change) != NULL);
    const struct replica_layer *layer = tree_find_name(layers, name);
    bool empties = command->what == REPLICA_REVERT && command->snapshot == NULL;
    if (empties && layers->count > 0)
        return error_set(error, ERROR_PERMISSION, "%s has snapshots: only one without any is emptied", mirror->device.name);
    if ((command->what == REPLICA_DELETE || command->what == REPLICA_REVERT) && layer == NULL && !empties)
        return error_set(error, ERROR_NOT_FOUND, "%s has no snapshot %s", mirror->device.name, name);
    switch (command->what) {
    case REPLICA_SNAPSHOT:
        if (layer != NULL)
            return error_set(error, ERROR_EXISTS, "%s has a snapshot %s already", mirror->device.name, name);
        if (name[0] == '\0' || strlen(name) >= sizeof(tree->name))
            return error_invalid(error, "snapshot", name, "1 to %zu characters", sizeof(tree->name) - 1);
        if (!compose_pairs(command, tree))
            return error_set(error, ERROR_NO_SPACE, "the attributes of %s are too long", name);
        memcpy(tree->name, name, strlen(name));
        tree->layer = tree->change;
        tree->created_ns = host_wall_ns(mirror->host);
        command->ret_layer = tree->layer;
        return true;
    case REPLICA_DELETE:
    case REPLICA_REVERT:
        tree->layer = layer == NULL ? 0 : layer->id;
        commands->size = layer != NULL && command->what == REPLICA_REVERT ? layer->size : 0;
        return true;
    case REPLICA_RESIZE:
        if (command->size_bytes == 0 || command->size_bytes % REPLICA_BLOCK_BYTES != 0) {
            char value[24];
            snprintf(value, sizeof(value), "%llu", (unsigned long long)command->size_bytes);
            return error_invalid(error, "size", value, "a multiple of 4 KiB");
        }
        tree->size = commands->size = command->size_bytes;
        return true;
    case REPLICA_UPON:
        if (layers->count > 0)
            return error_set(error, ERROR_PERMISSION, "%s has snapshots: only an empty one can become a clone",
                             mirror->device.name);
        return (command->pair_count > 0 && compose_pairs(command, tree)) ||
               error_set(error, ERROR_INVALID, "what the legs of %s are to stand upon is missing, or too long",
                         mirror->device.name);
    default: return error_set(error, ERROR_UNSUPPORTED, "a mirror has no such change");
    }
}

/* ---- asking all members ---- */

static void answered(struct mirror_call *call) {
    struct mirror_leg *leg = call->leg;
    struct mirror_tree_commands *commands = leg->mirror->tree_commands;
    if (call->generation == leg->generation) {
        commands->did |= call->status == IO_OK ? leg->bit : 0;
        commands->refused |= call->status != IO_OK ? leg->bit : 0;
        commands->refusal[leg->index] = call->status;
    }
    task_wake(&commands->task);
}

static void send_all(struct mirror_tree_commands *commands, uint32_t flags) {
    struct mirror *mirror = commands->mirror;
    struct replica_tree *tree = commands->document;
    tree->flags = flags;
    commands->sent = commands->did = commands->refused = 0;
    mirror_for_each_leg(mirror, leg) if ((mirror->standing & leg->bit) != 0) {
        commands->sent |= leg->bit;
        commands->generations[leg->index] = leg->generation;
        mirror_call_send(leg, &commands->calls[leg->index], BLOCK_REPLICA_PUT, replica_argument(REPLICA_TREE, 0, 0), 0, tree,
                         sizeof(*tree) + tree->pair_bytes, answered);
    }
}

/* Those who were asked and have neither answered nor been lost. */
static mirror_mask missing(const struct mirror_tree_commands *commands) {
    mirror_mask mask = 0;
    for (const struct mirror_leg *leg = commands->mirror->legs; leg < commands->mirror->legs + commands->mirror->leg_count; leg++)
        if ((commands->sent & ~(commands->did | commands->refused) & leg->bit) != 0 && mirror_leg_is_up(leg) &&
            commands->generations[leg->index] == leg->generation)
            mask |= leg->bit;
    return mask;
}

static void say_refusal(struct mirror_tree_commands *commands) {
    struct mirror *mirror = commands->mirror;
    struct error *error = &commands->command->error;
    unsigned index = (unsigned)__builtin_ctz(commands->refused);
    const char *leg = mirror->legs[index].told.name;
    enum io_status status = commands->refusal[index];
    switch (status) {
    case IO_DEVICE_GONE: error_set(error, ERROR_NOT_FOUND, "%s has no such snapshot", leg); break;
    case IO_ABORTED:
        if (commands->document->what == REPLICA_UPON) {
            error_set(error, ERROR_PERMISSION, "%s holds something: only an empty one can become a clone", leg);
            break;
        }
        error_set(error, ERROR_PERMISSION, "the snapshot has several children on %s", leg);
        error_hint(error, "delete the other snapshots, or the clones that were made of it there, first");
        break;
    case IO_INVALID:
        error_set(error, ERROR_INVALID, "%s cannot take that name, size or attributes", leg);
        error_hint(error, "a volume of that name may be there already");
        break;
    case IO_NOT_READY: error_set(error, ERROR_BUSY, "%s is still at work on an earlier change: try again", leg); break;
    case IO_NO_SPACE: error_set(error, ERROR_NO_SPACE, "%s has no room for it", leg); break;
    default: error_set(error, ERROR_IO, "%s: %s", leg, io_status_words(status)); break;
    }
}

/* ---- steps ---- */

static void listed(struct mirror_fetch *fetch) { task_wake(&fetch->call.leg->mirror->tree_commands->task); }

static void list(struct mirror_tree_commands *commands) {
    struct mirror *mirror = commands->mirror;
    struct mirror_fetch *fetch = &commands->fetch;
    if (fetch->busy || mirror->standing == 0)
        return;
    if (!commands->asked) {
        commands->asked = true;
        if (mirror_fetch_begin(fetch, &mirror->legs[__builtin_ctz(mirror->standing)], listed))
            return;
        error_set(&commands->command->error, ERROR_NO_MEMORY, "no memory for a list of snapshots");
        finish(commands);
        return;
    }
    commands->asked = false;
    if (fetch->status != IO_OK) {
        struct mirror_leg *of = fetch->call.leg;
        if (fetch->call.generation == of->generation && !mirror_leg_judge(of, fetch->status))
            mirror_leg_lose(of, fetch->wrong);
        task_move(&commands->task, COMMAND_LIST); /* of another */
        return;
    }
    struct mirror_tree_command *command = commands->command;
    if (command->what == 0) { /* that was all */
        size_t bytes = tree_bytes(fetch->tree->count);
        command->ret_layers = malloc(bytes);
        if (command->ret_layers != NULL)
            memcpy(command->ret_layers, fetch->tree, bytes);
        else
            error_set(&command->error, ERROR_NO_MEMORY, "no memory for a list of snapshots");
        finish(commands);
        return;
    }
    if (!compose(commands))
        finish(commands);
    else
        task_move(&commands->task, COMMAND_CHECK);
}

static void check(struct mirror_tree_commands *commands) {
    if (!commands->asked) {
        commands->asked = true;
        send_all(commands, REPLICA_TREE_CHECK);
    }
    if (missing(commands) != 0)
        return;
    commands->asked = false;
    commands->sent = 0;
    if (commands->refused != 0) {
        say_refusal(commands);
        finish(commands);
        return;
    }
    task_move(&commands->task, COMMAND_SETTLE);
}

static bool are_equal(const struct mirror *mirror) {
    return mirror->state == MIRROR_SERVING && mirror->regions_known && !mirror->changing && mirror->standing != 0 &&
           mirror->regions.unequal_count == 0;
}

/* All of the head may be another by that. */
static bool replaces(const struct replica_tree *tree) { return tree->what == REPLICA_REVERT || tree->what == REPLICA_UPON; }

static bool grows(const struct mirror_tree_commands *commands) {
    return commands->command->what == REPLICA_RESIZE && commands->size >= commands->mirror->size;
}

static void again(struct mirror_tree_commands *commands) {
    reactor_timer_start(commands->mirror->home, &commands->timer, reactor_now_ns(commands->mirror->home) + 5 * NS_PER_MS);
}

static void timed(struct reactor_timer *timer) { task_wake(&container_of(timer, struct mirror_tree_commands, timer)->task); }

static void held(struct mirror_hold *hold) { task_wake(&container_of(hold, struct mirror_tree_commands, hold)->task); }

/* Legs that are on their way begin anew with the new tree. */
static void send_back_others(struct mirror *mirror) {
    mirror_for_each_leg(mirror, leg) if (mirror_leg_is_up(leg) && (mirror->named & leg->bit) == 0 && !leg->tie_breaker)
        mirror_leg_lose(leg, "the mirror's snapshots change");
}

static void hold(struct mirror_tree_commands *commands) {
    struct mirror *mirror = commands->mirror;
    if (!commands->hold.waits)
        mirror_hold_begin(mirror, &commands->hold, held);
    if (!commands->hold.held)
        return;
    if (!are_equal(mirror)) { /* who makes them equal must not be held */
        mirror_hold_end(&commands->hold);
        mirror_copy_wake(mirror);
        task_move(&commands->task, COMMAND_SETTLE);
        return;
    }
    /* Not before they are over: under `majority` a read may wait for a leg that is on its way, sent back again and again. */
    if ((commands->command->what != REPLICA_SNAPSHOT && mirror_io_reads(mirror)) || mirror_retire_is_busy(mirror) ||
        mirror_copy_is_busy(mirror)) {
        again(commands);
        return;
    }
    send_back_others(mirror);
    task_move(&commands->task, COMMAND_SEND);
}

/* Late is who has not done it a while after another has. */
static bool lose_late(struct mirror_tree_commands *commands, mirror_mask late) {
    struct mirror *mirror = commands->mirror;
    uint64_t now = reactor_now_ns(mirror->home);
    if (commands->did == 0)
        return false;
    if (commands->waits_until_ns == 0) {
        commands->waits_until_ns = now + mirror->stall_ns / 4;
        reactor_timer_start(mirror->home, &commands->timer, commands->waits_until_ns);
    }
    if (now < commands->waits_until_ns)
        return false;
    mirror_for_each_leg(mirror, leg) if ((late & leg->bit) != 0) mirror_leg_lose(leg, "it did not change its snapshots in time");
    return true;
}

/* They have no tree to be looked at, and are copied as they come. */
static void lose_foreign(struct mirror *mirror) {
    mirror_for_each_leg(mirror, leg) if (leg->foreign) mirror_leg_lose(leg, "the mirror was reverted, or resized");
}

static void done_by(struct mirror_tree_commands *commands) {
    struct mirror *mirror = commands->mirror;
    const struct replica_tree *tree = commands->document;
    bool shrinks = tree->what == REPLICA_RESIZE && !grows(commands);
    mirror->tree_sequence = mirror->tree_highest = tree->sequence;
    mirror->tree_change = tree->change;
    mirror_for_each_leg(mirror, leg) if ((commands->did & leg->bit) != 0) {
        leg->status.tree_sequence = tree->sequence;
        leg->status.tree_change = tree->change;
        leg->status.flags |= replaces(tree) || shrinks ? REPLICA_HAS_FLOOR : 0u;
    }
    mirror_for_each_leg(mirror, leg) if ((commands->refused & leg->bit) != 0 && mirror_leg_is_up(leg) &&
                                         !mirror_leg_judge(leg, commands->refusal[leg->index]))
        mirror_leg_refused(leg, commands->refusal[leg->index], "it did not change its snapshots as another leg did");
    if (replaces(tree)) {
        mirror_for_each_leg(mirror, leg) mirror_missed_end(leg);
    }
    if (replaces(tree) || tree->what == REPLICA_RESIZE)
        lose_foreign(mirror);
    send_back_others(mirror); /* who came while it was sent */
}

static void send(struct mirror_tree_commands *commands) {
    if (!commands->asked) {
        commands->asked = true;
        commands->waits_until_ns = 0;
        send_back_others(commands->mirror); /* nobody becomes a member who was not asked */
        send_all(commands, 0);
    }
    mirror_mask late = missing(commands);
    if (late != 0 && !lose_late(commands, late))
        return;
    for (unsigned i = 0; i < MIRROR_LEGS_MAX; i++)
        if (commands->calls[i].busy && (commands->did | commands->refused) == 0)
            return; /* all were lost: what they did is heard when they are back */
    commands->asked = false;
    commands->waits_until_ns = 0;
    if (commands->did == 0) {
        if (commands->refused != 0)
            say_refusal(commands);
        else
            error_set(&commands->command->error, ERROR_IO, "every leg was lost meanwhile: look whether it was done");
        finish(commands);
        return;
    }
    done_by(commands);
    task_move(&commands->task, commands->size != 0 ? COMMAND_SIZES : COMMAND_CHANGE);
}

/* A leg's device shows a growth a little later than the leg does it. */
static void sizes(struct mirror_tree_commands *commands) {
    struct mirror *mirror = commands->mirror;
    uint64_t now = reactor_now_ns(mirror->home);
    if (reactor_timer_armed(&commands->timer))
        return;
    if (commands->waits_until_ns == 0)
        commands->waits_until_ns = now + mirror->stall_ns;
    mirror_for_each_leg(mirror,
                        leg) if ((mirror->standing & leg->bit) != 0 && block_device_size(leg->handle.device) < commands->size) {
        if (now < commands->waits_until_ns) {
            again(commands);
            return;
        }
        mirror_leg_lose(leg, "its size does not change as it was told");
    }
    if (!mirror_resize(mirror, commands->size)) {
        mirror_end(mirror, ERROR_NO_MEMORY, "no memory for the regions of a larger mirror");
        return;
    }
    mirror_tell_size(mirror);
    lose_foreign(mirror); /* who came since it was done has the regions of the size before */
    task_move(&commands->task, COMMAND_TOLD);
    mirror_legs_wake(mirror);
}

static void rest(struct mirror_tree_commands *commands) {
    if (list_empty(&commands->queue))
        return;
    commands->command = list_entry(list_pop_front(&commands->queue), struct mirror_tree_command, node);
    commands->asked = false;
    commands->sent = 0;
    commands->size = commands->waits_until_ns = 0;
    task_move(&commands->task, COMMAND_LIST);
}

static void step(struct task *task) {
    struct mirror_tree_commands *commands = container_of(task, struct mirror_tree_commands, task);
    struct mirror *mirror = commands->mirror;
    if (task->state != COMMAND_REST && !may_go_on(commands))
        return;
    MIRROR_AT(mirror, NULL, MIRROR_POINT_COMMAND + task->state);
    switch ((enum command_phase)task->state) {
    case COMMAND_REST: rest(commands); break;
    case COMMAND_LIST: list(commands); break;
    case COMMAND_CHECK: check(commands); break;
    case COMMAND_SETTLE:
        if (!are_equal(mirror))
            mirror->watched = true; /* and woken when that is over */
        else
            task_move(task, grows(commands) ? COMMAND_SEND : COMMAND_HOLD);
        break;
    case COMMAND_HOLD: hold(commands); break;
    case COMMAND_SEND: send(commands); break;
    case COMMAND_SIZES: sizes(commands); break;
    case COMMAND_TOLD:
        if (!mirror->telling_size)
            task_move(task, COMMAND_CHANGE);
        break;
    case COMMAND_CHANGE:
        if (!mirror->changing)
            finish(commands);
        break;
    case COMMAND_PHASES: assert(!"no phase");
    }
}

static const struct task_type type = {
    .name = "mirror tree command", .state_names = names, .state_count = COMMAND_PHASES, .moves = moves, .step = step};

void mirror_tree_commands_wake(struct mirror *mirror) {
    if (mirror->tree_commands != NULL && mirror->tree_commands->task.type != NULL)
        task_wake(&mirror->tree_commands->task);
}

void mirror_tree_commands_begin(struct mirror *mirror) {
    task_start(&mirror->tree_commands->task, &type, mirror->home, COMMAND_REST, UINT64_MAX);
}

bool mirror_tree_commands_init(struct mirror *mirror) {
    struct mirror_tree_commands *commands = mirror->tree_commands = calloc(1, sizeof(*commands));
    if (commands == NULL)
        return false;
    commands->mirror = mirror;
    commands->timer.run = timed;
    list_init(&commands->queue);
    commands->document = calloc(1, REPLICA_DOCUMENT_MAX);
    return commands->document != NULL;
}

bool mirror_tree_is_changing(const struct mirror *mirror) {
    const struct mirror_tree_command *command = mirror->tree_commands->command;
    return command != NULL && command->what != 0;
}

bool mirror_tree_is_sent(const struct mirror *mirror) {
    unsigned phase = mirror->tree_commands->task.state;
    return phase == COMMAND_SEND || phase == COMMAND_SIZES;
}

bool mirror_tree_commands_are_busy(const struct mirror *mirror) {
    return mirror->tree_commands->command != NULL || !list_empty(&mirror->tree_commands->queue);
}

bool mirror_tree_commands_hold(const struct mirror *mirror) { return mirror->tree_commands->hold.waits; }

void mirror_tree_commands_fini(struct mirror *mirror) {
    struct mirror_tree_commands *commands = mirror->tree_commands;
    if (commands == NULL)
        return;
    mirror_fetch_fini(&commands->fetch);
    free(commands->document);
    free(commands);
    mirror->tree_commands = NULL;
}

/* ---- from outside ---- */

static void arrived(struct reactor_message *message) {
    struct mirror_tree_command *command = container_of(message, struct mirror_tree_command, message);
    struct mirror *mirror = mirror_of(command->device);
    if (mirror->plain) {
        error_set(&command->error, ERROR_UNSUPPORTED, "%s has legs without records: they know no snapshots", mirror->device.name);
        command->ok = false;
        give_back(command);
        return;
    }
    list_push_back(&mirror->tree_commands->queue, &command->node);
    mirror_tree_commands_wake(mirror);
}

void mirror_tree_command(struct mirror_tree_command *command) {
    assert(mirror_is(command->device));
    command->ok = false;
    command->ret_layers = NULL;
    command->ret_layer = 0;
    error_clear(&command->error);
    command->message.run = arrived;
    reactor_post(command->device->home, &command->message);
}
