/* WatchVolumes: what is there, then each volume that changes, as a whole. A slow reader misses states in between, and never the
 * last one. */
#include <stdlib.h>

#include "api/proto/penstock/v1/volume.pb-c.h"
#include "gateway/internal.h"

enum { CALM_MS = 50, COPYING_MS = 500 };

/* What was told of a volume. */
struct told {
    struct hash_node by_name;
    struct list_node node;
    char name[CONTROL_NAME_MAX + 1];
    uint64_t print;
    bool there;
};

struct volume_watch {
    struct fleet_watcher watcher;
    struct list_node node; /* of the gateway's */
    struct grpc_call *call;
    const char *only; /* "" = all */
    struct reactor_timer timer;
    struct hash_map names;
    struct list told;
    uint64_t looked_ns;
    bool due; /* the timer will look */
};

static struct reactor *reactor_of(const struct volume_watch *watch) {
    return gateway_of(watch->call)->options.control->options.reactor;
}

static struct told *told_of(struct volume_watch *watch, const char *name) {
    for (struct hash_node *n = hash_map_first(&watch->names, hash_text(name)); n != NULL; n = hash_map_next(n)) {
        struct told *told = container_of(n, struct told, by_name);
        if (strcmp(told->name, name) == 0)
            return told;
    }
    struct told *told = calloc(1, sizeof(*told));
    if (told == NULL || !hash_map_insert(&watch->names, &told->by_name, hash_text(name))) {
        free(told);
        return NULL;
    }
    snprintf(told->name, sizeof(told->name), "%s", name);
    list_push_back(&watch->told, &told->node);
    return told;
}

static void forget(struct volume_watch *watch, struct told *told) {
    hash_map_remove(&watch->names, &told->by_name);
    list_remove(&told->node);
    free(told);
}

static uint64_t print_of(const Penstock__V1__Volume *volume, struct gateway_scratch *scratch) {
    size_t length = penstock__v1__volume__get_packed_size(volume);
    uint8_t *bytes = gateway_scratch_take(scratch, length + 1, 1);
    penstock__v1__volume__pack(volume, bytes);
    return hash_bytes(bytes, length, 1);
}

static bool is_copying(const Penstock__V1__Volume *volume) {
    for (size_t i = 0; i < volume->n_replicas; i++)
        if (strcmp(volume->replicas[i]->mode, "WO") == 0 && volume->replicas[i]->percent > 0)
            return true;
    return false;
}

/* Tells of it if it is not as it was told. False: the reader has enough for now. */
static bool tell(struct volume_watch *watch, const struct fleet_volume *volume, bool *copying) {
    Penstock__V1__WatchVolumesResponse message = PENSTOCK__V1__WATCH_VOLUMES_RESPONSE__INIT;
    struct gateway_scratch scratch = {0};
    struct told *told = told_of(watch, volume->record.name);
    bool more = true;
    if (told == NULL)
        return true; /* no memory: it is tried again at the next change */
    message.volume = gateway_put_volume(gateway_of(watch->call), volume, &scratch);
    uint64_t print = print_of(message.volume, &scratch);
    *copying = *copying || is_copying(message.volume);
    told->there = true;
    if (told->print != print) {
        told->print = print;
        more = grpc_call_send(watch->call, &message.base);
    }
    gateway_scratch_free(&scratch);
    return more;
}

static bool tell_deleted(struct volume_watch *watch, struct told *told) {
    Penstock__V1__WatchVolumesResponse message = PENSTOCK__V1__WATCH_VOLUMES_RESPONSE__INIT;
    Penstock__V1__Volume volume = PENSTOCK__V1__VOLUME__INIT;
    volume.name = told->name;
    message.volume = &volume;
    message.deleted = 1;
    bool more = grpc_call_send(watch->call, &message.base);
    forget(watch, told);
    return more;
}

static void look_after(struct volume_watch *watch, uint64_t ms) {
    watch->due = true;
    reactor_timer_start(reactor_of(watch), &watch->timer, watch->looked_ns + ms * NS_PER_MS);
}

static void look(struct volume_watch *watch) {
    const struct fleet *fleet = gateway_of(watch->call)->options.fleet;
    bool copying = false, more = true;
    watch->due = false;
    watch->looked_ns = reactor_now_ns(reactor_of(watch));
    list_for_each (&watch->told, struct told, told, node)
        told->there = false;
    list_for_each (&fleet->volumes, struct fleet_volume, volume, node) {
        if (!more)
            return; /* writable() goes on */
        if (volume->recorded && (watch->only[0] == '\0' || strcmp(watch->only, volume->record.name) == 0))
            more = tell(watch, volume, &copying);
    }
    list_for_each_safe (&watch->told, struct told, told, node) {
        if (!more)
            return;
        if (!told->there)
            more = tell_deleted(watch, told);
    }
    if (copying) /* its figures move by themselves */
        look_after(watch, COPYING_MS);
}

static void run_look(struct reactor_timer *timer) { look(container_of(timer, struct volume_watch, timer)); }

/* Many changes come together. */
static void changed(struct fleet_watcher *watcher) {
    struct volume_watch *watch = container_of(watcher, struct volume_watch, watcher);
    if (!watch->call->above_mark)
        look_after(watch, CALM_MS);
}

static void writable(struct grpc_call *call) { look_after(call->arg, 0); }

static void watch_end(struct volume_watch *watch, enum grpc_status status, const char *text) {
    reactor_timer_stop(reactor_of(watch), &watch->timer);
    fleet_unwatch(&watch->watcher);
    list_remove(&watch->node);
    list_for_each_safe (&watch->told, struct told, told, node)
        forget(watch, told);
    hash_map_fini(&watch->names);
    grpc_call_end(watch->call, status, text);
    free(watch);
}

static void cancelled(struct grpc_call *call) { watch_end(call->arg, GRPC_CANCELLED, NULL); }

void gateway_watch_volumes(struct grpc_call *call, const ProtobufCMessage *message) {
    struct gateway *gateway = gateway_of(call);
    struct volume_watch *watch = gateway->stopping ? NULL : calloc(1, sizeof(*watch));
    if (watch == NULL) {
        grpc_call_end(call, GRPC_UNAVAILABLE, "the daemon is ending, or has no memory");
        return;
    }
    watch->call = call;
    watch->only = ((const Penstock__V1__WatchVolumesRequest *)message)->name;
    watch->watcher.changed = changed;
    watch->timer.run = run_look;
    list_init(&watch->told);
    hash_map_init(&watch->names);
    call->arg = watch;
    call->cancelled = cancelled;
    call->writable = writable;
    fleet_watch(gateway->options.fleet, &watch->watcher);
    list_push_back(&gateway->volume_watches, &watch->node);
    look(watch);
}

void gateway_volume_watches_end(struct gateway *gateway) {
    while (!list_empty(&gateway->volume_watches))
        watch_end(list_entry(list_first(&gateway->volume_watches), struct volume_watch, node), GRPC_UNAVAILABLE,
                  "the daemon is ending");
}
