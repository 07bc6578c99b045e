/* volume:DEVICE: a thin volume in a store on the device; both are made if they are not there. */
#include <stdlib.h>

#include "blockdev/volume/volume.h"
#include "programs/penstock-bench/target.h"

struct volume_target {
    struct target *target;
    struct volume_store_format format;
    struct volume_store_open open;
    struct volume_command command;
};

static void end(struct volume_target *volume, bool ok, const struct error *error) {
    struct target *target = volume->target;
    struct error own = *error;
    free(volume);
    target->done(target, ok, &own);
}

static void created(struct volume_command *command) {
    struct volume_target *volume = container_of(command, struct volume_target, command);
    if (command->ok)
        volume->target->device = block_graph_find(volume->target->graph, "bench/bench");
    end(volume, command->ok, &command->error);
}

static void opened(struct volume_store_open *open) {
    struct volume_target *volume = container_of(open, struct volume_target, open);
    if (!open->ok) {
        end(volume, false, &open->error);
        return;
    }
    volume->target->store = open->store;
    volume->target->device = block_graph_find(volume->target->graph, "bench/bench");
    if (volume->target->device != NULL) {
        end(volume, true, &open->error);
        return;
    }
    volume->command = (struct volume_command){.store = open->store,
                                              .name = "bench",
                                              .size_bytes = round_down(block_device_size(volume->target->base) / 10 * 9, MIB(1)),
                                              .done = created};
    volume_create(&volume->command);
}

static void formatted(struct volume_store_format *format) {
    struct volume_target *volume = container_of(format, struct volume_target, format);
    if (!format->ok && format->error.code != ERROR_EXISTS) {
        end(volume, false, &format->error);
        return;
    }
    volume->open = (struct volume_store_open){.base = format->base, .home = format->home, .done = opened};
    volume_store_open(&volume->open);
}

void target_open_volume(struct target *target) {
    struct volume_target *volume = calloc(1, sizeof(*volume));
    struct error error;
    if (volume == NULL) {
        error_set(&error, ERROR_NO_MEMORY, "no memory for the volume");
        target->done(target, false, &error);
        return;
    }
    volume->target = target;
    volume->format = (struct volume_store_format){.base = target->base, .home = target->data, .name = "bench", .done = formatted};
    volume_store_format(&volume->format);
}

struct volume_close {
    struct volume_command command;
    struct target *target;
};

static void store_closed(struct volume_command *command) {
    struct volume_close *close = container_of(command, struct volume_close, command);
    struct target *target = close->target;
    free(close);
    target->store = NULL;
    target->device = NULL; /* went with its store */
    target_close_rest(target);
}

void target_close_volume(struct target *target) {
    struct volume_close *close = calloc(1, sizeof(*close));
    assert(close != NULL);
    close->target = target;
    close->command = (struct volume_command){.store = target->store, .done = store_closed};
    volume_store_close(&close->command);
}
