/* How a command runs on the home reactor: one at a time up to the change in RAM, which is made in one turn; answered when its
 * record is durable. A command's function is run again from its start whenever what it waited for has come. What the commands do:
 * tree.c, identity.c, info.c. */
#include "blockdev/volume/internal.h"

struct command_end {
    struct waiter waiter;
    void (*after)(struct volume_command *command); /* control reactor; NULL = command->done */
};
static_assert(sizeof(struct command_end) <= sizeof(((struct volume_command *)0)->private), "fits the command");

static struct command_end *end_of(struct volume_command *command) { return (struct command_end *)(void *)command->private; }

static void report(struct reactor_message *message) {
    struct volume_command *command = container_of(message, struct volume_command, message);
    void (*after)(struct volume_command *) = end_of(command)->after;
    if (command->ok && after != NULL)
        after(command);
    else
        command->done(command);
}

static void answer(struct volume_store *store, struct volume_command *command) {
    command->message.run = report;
    reactor_post(store->control, &command->message);
}

static void held_since(struct volume_store *store, uint64_t start) {
    store->hold_ticks = max_u64(store->hold_ticks, host_ticks(store->home->host) - start);
}

static void commands_run(struct reactor_job *job) {
    struct volume_store *store = container_of(job, struct volume_store, command_job);
    store->commands_queued = false;
    while (store->command != NULL || !list_empty(&store->commands)) {
        if (store->command != NULL && list_linked(&store->command_waiter.node))
            return;
        if (store->command == NULL)
            store->command = list_entry(list_pop_front(&store->commands), struct volume_command, node);
        struct volume_command *command = store->command;
        uint64_t start = host_ticks(store->home->host);
        command->run(command);
        held_since(store, start);
        if (store->command == command)
            return; /* it waits */
    }
}

void commands_step(struct volume_store *store) {
    if (store->commands_queued)
        return;
    store->commands_queued = true;
    store->command_job.run = commands_run;
    reactor_defer(store->home, &store->command_job);
}

static void command_wake(struct waiter *waiter, enum io_status status) {
    struct volume_store *store = container_of(waiter, struct volume_store, command_waiter);
    struct volume_command *command = store->command;
    if (status != IO_OK && command != NULL) {
        error_set(&command->error, status == IO_NO_SPACE ? ERROR_NO_SPACE : ERROR_IO, "%s: %s", store->name,
                  io_status_words(status));
        command_fail(store, command);
    }
    commands_step(store);
}

void command_leave(struct volume_store *store, struct volume_command *command) {
    if (store->command == command) {
        if (store->gate != NULL)
            held_since(store, store->gate_ticks);
        store->command = NULL;
        store->gate = NULL;
        waiters_wake(&store->gate_waiters, IO_OK);
    }
    commands_step(store);
}

void command_fail(struct volume_store *store, struct volume_command *command) {
    command->ok = false;
    command_leave(store, command);
    answer(store, command);
}

void command_finish(struct volume_command *command, bool ok, void (*after)(struct volume_command *command)) {
    struct volume_store *store = command->store;
    command->ok = ok;
    end_of(command)->after = after;
    command_leave(store, command);
    answer(store, command);
}

static void committed(struct waiter *waiter, enum io_status status) {
    struct volume_command *command = container_of((void *(*)[4])(void *)waiter, struct volume_command, private);
    command->ok = status == IO_OK || error_set(&command->error, ERROR_IO, "%s", command->store->reason);
    answer(command->store, command);
}

void command_subject(struct volume_command *command, struct volume *volume) {
    command->subject = volume;
    command->subject_blocks = layer_size(volume->layer);
}

void command_commit(struct volume_store *store, struct volume_command *command, void (*after)(struct volume_command *command)) {
    struct command_end *end = end_of(command);
    *end = (struct command_end){.waiter.wake = committed, .after = after};
    command_leave(store, command);
    commit_join(store, &end->waiter);
}

static void command_arrived(struct reactor_message *message) {
    struct volume_command *command = container_of(message, struct volume_command, message);
    struct volume_store *store = command->store;
    store->command_waiter.wake = command_wake;
    list_push_back(&store->commands, &command->node);
    commands_step(store);
}

void command_resume(struct volume_command *command, void (*run)(struct volume_command *command)) {
    command->run = run;
    command->message.run = command_arrived;
    reactor_post(command->store->home, &command->message);
}

void command_start(struct volume_command *command, void (*run)(struct volume_command *command)) {
    error_clear(&command->error);
    command->ok = false;
    command->ret_text = NULL;
    command->ret_infos = NULL;
    command->ret_count = 0;
    memset(command->private, 0, sizeof(command->private));
    command->subject = NULL;
    command->subject_blocks = 0;
    command_resume(command, run);
}

void command_fail_status(struct volume_command *command, enum io_status status) {
    struct volume_store *store = command->store;
    enum error_code code = status == IO_NO_SPACE    ? ERROR_NO_SPACE
                           : status == IO_NO_MEMORY ? ERROR_NO_MEMORY
                           : status == IO_DAMAGED   ? ERROR_DAMAGED
                                                    : ERROR_IO;
    error_set(&command->error, code, "%s: %s", store->name, io_status_words(status));
    command_fail(store, command);
}

bool command_may_change(struct volume_command *command) {
    struct volume_store *store = command->store;
    if (store->failed)
        error_set(&command->error, ERROR_IO, "%s", store->reason);
    else if (store->read_only)
        error_set(&command->error, ERROR_READ_ONLY, "%s is read-only: %s", store->name, store->reason);
    else if (store->closing)
        error_set(&command->error, ERROR_NO_DEVICE, "%s is being closed", store->name);
    else
        return true;
    command_fail(store, command);
    return false;
}

struct volume *command_target(struct volume_command *command) {
    struct volume_store *store = command->store;
    if (!command_may_change(command))
        return NULL;
    struct volume *volume = volume_find(store, &command->volume);
    if (volume == NULL || volume->deleting != NULL) {
        command_no_such(command);
        command_fail(store, command);
        return NULL;
    }
    if (volume->layer->damaged) {
        error_set(&command->error, ERROR_DAMAGED, "%s is damaged", volume->name);
        command_fail(store, command);
        return NULL;
    }
    if (volume->state != VOLUME_IDLE) {
        list_push_back(&volume->waiting, &command->node);
        command_leave(store, command);
        return NULL;
    }
    return volume;
}

void volume_set_idle(struct volume_store *store, struct volume *volume) {
    volume->state = VOLUME_IDLE;
    volume->progress_percent = 0;
    list_splice_back(&store->commands, &volume->waiting);
    background_kick(store);
    commands_step(store);
}

bool command_no_such(struct volume_command *command) {
    char text[UUID_TEXT_SIZE];
    uuid_format(&command->volume, text);
    return error_set(&command->error, ERROR_NO_DEVICE, "there is no volume %s in %s", text, command->store->name);
}
