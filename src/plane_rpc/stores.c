#include "plane_rpc/stores.h"

#include <stdio.h>
#include <stdlib.h>

/* A store on its way in: formatted (perhaps), opened, described. */
struct opening {
    struct list_node node; /* in plane->openings */
    struct plane *plane;
    struct block_device *device;
    struct volume_store_format format;
    struct volume_store_open open;
    struct volume_command describe;
    struct volume_store_info info;
    char name[VOLUME_NAME_SIZE]; /* format.name points here */
    void (*done)(void *arg, struct plane_store *store, const struct error *error);
    void *arg;
};

/* A store on its way out. */
struct closing {
    struct volume_command command;
    struct plane_store *store;
    void (*done)(void *arg, bool ok, const struct error *error);
    void *arg;
};

static void opening_end(struct opening *opening, struct plane_store *store, const struct error *error) {
    list_remove(&opening->node);
    opening->done(opening->arg, store, error);
    plane_wake_waiters(opening->plane);
    free(opening);
}

static void described(struct volume_command *command) {
    struct opening *opening = container_of(command, struct opening, describe);
    struct plane *plane = opening->plane;
    struct plane_store *store = calloc(1, sizeof(*store));
    assert(store != NULL && command->ok); /* a store that is open cannot be forgotten */
    *store = (struct plane_store){.plane = plane,
                                  .store = opening->open.store,
                                  .base = opening->device,
                                  .home = opening->open.home,
                                  .uuid = opening->info.uuid};
    snprintf(store->name, sizeof(store->name), "%s", opening->info.name);
    list_push_back(&plane->stores, &store->node);
    if (opening->info.read_only)
        log_error(&plane->log, LOG_AREA_VOLUME, "store %s on %s is read-only: %s", store->name, store->base->name,
                  opening->info.reason);
    else
        log_notice(&plane->log, LOG_AREA_VOLUME, "store %s on %s is open: %u volumes", store->name, store->base->name,
                   opening->info.volume_count);
    opening_end(opening, store, NULL);
}

static void opened(struct volume_store_open *open) {
    struct opening *opening = container_of(open, struct opening, open);
    if (!open->ok) {
        opening_end(opening, NULL, &open->error);
        return;
    }
    opening->describe = (struct volume_command){.store = open->store, .store_info = &opening->info, .done = described};
    volume_store_describe(&opening->describe);
}

/* The data reactor with the fewest stores. */
static struct reactor *pick_home(const struct plane *plane) {
    unsigned best = 0, fewest = UINT32_MAX;
    for (unsigned i = 0; i < plane->reactor_count; i++) {
        unsigned count = 0;
        list_for_each (&plane->stores, struct plane_store, store, node)
            count += store->home == plane->reactors[i];
        if (count < fewest) {
            best = i;
            fewest = count;
        }
    }
    return plane->reactors[best];
}

static void begin_open(struct opening *opening) {
    opening->open = (struct volume_store_open){.base = opening->device, .home = pick_home(opening->plane), .done = opened};
    volume_store_open(&opening->open);
}

static void formatted(struct volume_store_format *format) {
    struct opening *opening = container_of(format, struct opening, format);
    if (format->ok)
        begin_open(opening);
    else
        opening_end(opening, NULL, &format->error);
}

static struct opening *opening_create(struct plane *plane, struct block_device *device,
                                      void (*done)(void *arg, struct plane_store *store, const struct error *error), void *arg) {
    struct opening *opening = calloc(1, sizeof(*opening));
    if (opening == NULL) {
        struct error error;
        error_set(&error, ERROR_NO_MEMORY, "no memory to open a store");
        done(arg, NULL, &error);
        return NULL;
    }
    opening->plane = plane;
    opening->device = device;
    opening->done = done;
    opening->arg = arg;
    list_push_back(&plane->openings, &opening->node);
    return opening;
}

void plane_store_open(struct plane *plane, struct block_device *device,
                      void (*done)(void *arg, struct plane_store *store, const struct error *error), void *arg) {
    struct opening *opening = opening_create(plane, device, done, arg);
    if (opening != NULL)
        begin_open(opening);
}

void plane_store_create(struct plane *plane, struct block_device *device, const struct volume_store_format *format,
                        void (*done)(void *arg, struct plane_store *store, const struct error *error), void *arg) {
    struct opening *opening = opening_create(plane, device, done, arg);
    if (opening == NULL)
        return;
    opening->format = *format;
    snprintf(opening->name, sizeof(opening->name), "%s", format->name);
    opening->format.name = opening->name;
    opening->format.base = device;
    opening->format.home = pick_home(plane);
    opening->format.done = formatted;
    volume_store_format(&opening->format);
}

static void closed(struct volume_command *command) {
    struct closing *closing = container_of(command, struct closing, command);
    struct plane_store *store = closing->store;
    struct plane *plane = store->plane;
    if (command->ok)
        log_notice(&plane->log, LOG_AREA_VOLUME, "store %s is closed", store->name);
    else
        log_error(&plane->log, LOG_AREA_VOLUME, "store %s is closed, not cleanly: %s", store->name, command->error.text);
    list_remove(&store->node);
    free(store);
    if (closing->done != NULL)
        closing->done(closing->arg, command->ok, &command->error);
    free(closing);
}

bool plane_store_close(struct plane_store *store, void (*done)(void *arg, bool ok, const struct error *error), void *arg,
                       struct error *error) {
    if (store->closing)
        return error_set(error, ERROR_BUSY, "store %s is being closed", store->name);
    struct closing *closing = calloc(1, sizeof(*closing));
    if (closing == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory to close store %s", store->name);
    store->closing = true;
    *closing = (struct closing){.store = store, .done = done, .arg = arg, .command = {.store = store->store, .done = closed}};
    volume_store_close(&closing->command);
    return true;
}

struct plane_store *plane_store_find(struct plane *plane, const char *name) {
    struct uuid uuid;
    bool by_uuid = uuid_parse(name, &uuid);
    list_for_each (&plane->stores, struct plane_store, store, node) {
        if (!store->closing && (strcmp(store->name, name) == 0 || (by_uuid && uuid_equal(&store->uuid, &uuid))))
            return store;
    }
    return NULL;
}

struct plane_store *plane_store_of(struct plane *plane, const struct volume_store *wanted) {
    list_for_each (&plane->stores, struct plane_store, store, node) {
        if (store->store == wanted)
            return store;
    }
    return NULL;
}

struct plane_store *plane_store_on(struct plane *plane, const struct block_device *base) {
    list_for_each (&plane->stores, struct plane_store, store, node) {
        if (store->base == base)
            return store;
    }
    return NULL;
}

bool plane_stores_close_all(struct plane *plane) {
    list_for_each_safe (&plane->stores, struct plane_store, store, node) {
        if (!store->closing)
            plane_store_close(store, NULL, NULL, NULL);
    }
    return list_empty(&plane->stores) && list_empty(&plane->openings);
}
