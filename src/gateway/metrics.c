/* Figures of a node as Prometheus' text (format 0.0.4): figures and not judgements, which are the watcher's. Counters of devices
 * and legs of mirrors come from the plane, in two calls a scrape; nothing is counted or asked while nobody scrapes. */
#include <inttypes.h>
#include <stdlib.h>

#include "gateway/internal.h"
#include "gateway/metrics.h"

enum { PLANE_MS = 3000, TEXT_MAX = MIB(16) };

struct writing {
    struct gateway *gateway;
    struct plane_call call;
    struct text text;
    void (*done)(void *arg, const char *text, size_t length);
    void *arg;
};

/* ---- writing ---- */

static void head(struct text *to, const char *name, const char *type, const char *help) {
    text_appendf(to, "# HELP penstock_%s %s\n# TYPE penstock_%s %s\n", name, help, name, type);
}

/* A label's value: what would end it is escaped. */
static void label(struct text *to, char before, const char *name, const char *value) {
    text_appendf(to, "%c%s=\"", before, name);
    for (; *value != '\0'; value++) {
        if (*value == '"' || *value == '\\')
            text_append_char(to, '\\');
        if (*value == '\n')
            text_append_string(to, "\\n");
        else
            text_append_char(to, *value);
    }
    text_append_char(to, '"');
}

static void plain(struct text *to, const char *name, const char *type, const char *help, uint64_t value) {
    head(to, name, type, help);
    text_appendf(to, "penstock_%s %" PRIu64 "\n", name, value);
}

/* ---- the node ---- */

static void put_node(struct text *to, const struct gateway *gateway) {
    const struct control *control = gateway->options.control;
    const struct control_plane *plane = &control->plane;
    struct grpc_server_stats stats;
    head(to, "node_info", "gauge", "What runs here; always 1.");
    text_append_string(to, "penstock_node_info");
    label(to, '{', "node", control->options.node);
    label(to, ',', "address", gateway->options.address);
    label(to, ',', "version", gateway->options.version);
    text_append_string(to, "} 1\n");
    plain(to, "up_seconds", "gauge", "Since the daemon was started.",
          (reactor_now_ns(control->options.reactor) - gateway->began_ns) / NS_PER_S);
    plain(to, "goals", "gauge", "Calls and own work under way.", control->goal_count);
    plain(to, "plane_ready", "gauge", "1 if the storage plane answers.", control_plane_ready(plane));
    plain(to, "plane_wanted", "gauge", "1 if something needs the storage plane.", plane->wanted);
    plain(to, "plane_gone_seconds", "gauge", "How long it has been wanted in vain.", control_plane_gone_ns(plane) / NS_PER_S);
    plain(to, "plane_failures", "gauge", "Starts or connections that failed in a row.", plane->failures);
    grpc_server_stats(gateway->options.server, &stats);
    plain(to, "grpc_connections", "gauge", "Open connections of gRPC.", stats.connections);
    plain(to, "grpc_connections_total", "counter", "Connections of gRPC that were accepted.", stats.accepted);
    plain(to, "grpc_connections_refused_total", "counter", "Connections of gRPC that found no place.", stats.refused);
    plain(to, "grpc_calls", "gauge", "Calls of gRPC under way.", stats.calls_now);
    plain(to, "grpc_calls_total", "counter", "Calls of gRPC that were begun.", stats.calls);
    plain(to, "grpc_memory_bytes", "gauge", "What calls of gRPC hold.", stats.memory_bytes);
}

static void put_state(struct text *to, const char *kind, const char *name, const char *disk, const char *state) {
    text_appendf(to, "penstock_%s_state", kind);
    label(to, '{', kind, name);
    if (disk != NULL)
        label(to, ',', "disk", disk);
    label(to, ',', "state", state);
    text_append_string(to, "} 1\n");
}

static void put_u64(struct text *to, const char *name, const char *kind, const char *object, uint64_t value) {
    text_appendf(to, "penstock_%s", name);
    label(to, '{', kind, object);
    text_appendf(to, "} %" PRIu64 "\n", value);
}

static const struct observed_store *store_of(const struct control *control, const struct control_disk *disk) {
    const struct observation *seen = control_seen(control);
    return disk->state == CONTROL_READY && seen != NULL ? observed_store(seen, disk->record.uuid) : NULL;
}

static void put_disks(struct text *to, const struct control *control) {
    head(to, "disk_state", "gauge", "The state a disk is in; always 1.");
    list_for_each (&control->objects[CONTROL_DISKS], struct control_object, object, node) {
        const struct control_disk *disk = container_of(object, struct control_disk, object);
        put_state(to, "disk", disk->record.name, NULL, control_state_name(disk->state));
    }
    head(to, "disk_size_bytes", "gauge", "Room for data on a disk.");
    list_for_each (&control->objects[CONTROL_DISKS], struct control_object, object, node) {
        const struct control_disk *disk = container_of(object, struct control_disk, object);
        if (store_of(control, disk) != NULL)
            put_u64(to, "disk_size_bytes", "disk", disk->record.name, store_of(control, disk)->total_bytes);
    }
    head(to, "disk_free_bytes", "gauge", "Free room on a disk.");
    list_for_each (&control->objects[CONTROL_DISKS], struct control_object, object, node) {
        const struct control_disk *disk = container_of(object, struct control_disk, object);
        if (store_of(control, disk) != NULL)
            put_u64(to, "disk_free_bytes", "disk", disk->record.name, store_of(control, disk)->free_bytes);
    }
}

static void put_replicas(struct text *to, const struct control *control) {
    head(to, "replica_state", "gauge", "The state a replica is in; always 1.");
    list_for_each (&control->objects[CONTROL_REPLICAS], struct control_object, object, node) {
        const struct control_replica *replica = container_of(object, struct control_replica, object);
        put_state(to, "replica", replica->record.name, replica->record.disk, control_state_name(replica->state));
    }
    head(to, "replica_size_bytes", "gauge", "Size of a replica.");
    list_for_each (&control->objects[CONTROL_REPLICAS], struct control_object, object, node) {
        const struct control_replica *replica = container_of(object, struct control_replica, object);
        put_u64(to, "replica_size_bytes", "replica", replica->record.name, replica->record.bytes);
    }
}

static void put_engines(struct text *to, const struct control *control) {
    head(to, "engine_state", "gauge", "The state an engine is in; always 1.");
    list_for_each (&control->objects[CONTROL_ENGINES], struct control_object, object, node) {
        const struct control_engine *engine = container_of(object, struct control_engine, object);
        put_state(to, "engine", engine->record.name, NULL, control_state_name(engine->state));
    }
    head(to, "frontend_state", "gauge", "The state an engine frontend is in; always 1.");
    list_for_each (&control->objects[CONTROL_FRONTENDS], struct control_object, object, node) {
        const struct control_frontend *frontend = container_of(object, struct control_frontend, object);
        put_state(to, "frontend", frontend->record.name, NULL, control_state_name(frontend->state));
    }
}

/* ---- what the plane counts ---- */

static const struct {
    const char *name, *key, *help;
    bool ticks; /* of the plane's clock: told in seconds */
} counters[] = {
    {"device_read_bytes_total", "bytes_read", "Bytes read from a device.", false},
    {"device_written_bytes_total", "bytes_written", "Bytes written to a device.", false},
    {"device_trimmed_bytes_total", "bytes_unmapped", "Bytes trimmed on a device.", false},
    {"device_reads_total", "num_read_ops", "Reads of a device.", false},
    {"device_writes_total", "num_write_ops", "Writes to a device.", false},
    {"device_flushes_total", "num_flush_ops", "Flushes of a device.", false},
    {"device_read_seconds_total", "read_latency_ticks", "Time that reads of a device took, added up.", true},
    {"device_write_seconds_total", "write_latency_ticks", "Time that writes to a device took, added up.", true},
};

/* "DISK/VOLUME" instead of a volume's UUID. */
static const char *device_name(const struct control *control, const char *name, char *to, size_t size) {
    const struct observation *seen = control_seen(control);
    for (size_t i = 0; seen != NULL && i < seen->volume_count; i++)
        if (strcmp(seen->volumes[i].uuid, name) == 0) {
            const struct observed_store *store = observed_store(seen, seen->volumes[i].store);
            snprintf(to, size, "%s/%s", store != NULL ? store->name : "", seen->volumes[i].name);
            return to;
        }
    return name;
}

static void put_device(struct text *to, const struct control *control, const json_t *device, unsigned counter, double tick_rate) {
    char named[256];
    const char *name = json_string_value(json_object_get(device, "name"));
    const json_t *value = json_object_get(device, counters[counter].key);
    if (name == NULL || !json_is_integer(value))
        return;
    text_appendf(to, "penstock_%s", counters[counter].name);
    label(to, '{', "device", device_name(control, name, named, sizeof(named)));
    if (counters[counter].ticks)
        text_appendf(to, "} %.9g\n", (double)json_integer_value(value) / tick_rate);
    else
        text_appendf(to, "} %" JSON_INTEGER_FORMAT "\n", json_integer_value(value));
}

static void put_devices(struct text *to, const struct control *control, const json_t *iostat) {
    double tick_rate = (double)json_integer_value(json_object_get(iostat, "tick_rate"));
    json_t *devices = json_object_get(iostat, "bdevs"), *device, *count;
    const char *status;
    size_t i;
    for (unsigned c = 0; c < array_count(counters) && tick_rate > 0; c++) {
        head(to, counters[c].name, "counter", counters[c].help);
        json_array_foreach(devices, i, device) put_device(to, control, device, c, tick_rate);
    }
    head(to, "device_errors_total", "counter", "Requests of a device that failed.");
    json_array_foreach(devices, i, device) {
        char named[256];
        const char *name = json_string_value(json_object_get(device, "name"));
        json_object_foreach(json_object_get(device, "io_error"), status, count) {
            text_append_string(to, "penstock_device_errors_total");
            label(to, '{', "device", device_name(control, name != NULL ? name : "", named, sizeof(named)));
            label(to, ',', "status", status);
            text_appendf(to, "} %" JSON_INTEGER_FORMAT "\n", json_integer_value(count));
        }
    }
}

static void put_mirrors(struct text *to, const json_t *mirrors) {
    json_t *mirror, *leg;
    size_t i, l;
    head(to, "mirror_state", "gauge", "The state a mirror is in; always 1.");
    json_array_foreach(mirrors, i, mirror) if (json_is_string(json_object_get(mirror, "name")))
        put_state(to, "mirror", json_string_value(json_object_get(mirror, "name")), NULL,
                  json_is_string(json_object_get(mirror, "state")) ? json_string_value(json_object_get(mirror, "state")) : "");
    head(to, "mirror_leg_state", "gauge", "The state a leg of a mirror is in; always 1.");
    json_array_foreach(mirrors, i, mirror) {
        json_array_foreach(json_object_get(mirror, "legs"), l, leg) {
            const char *name = json_string_value(json_object_get(mirror, "name"));
            const char *device = json_string_value(json_object_get(leg, "name"));
            const char *state = json_string_value(json_object_get(leg, "state"));
            if (name == NULL || device == NULL || state == NULL)
                continue;
            text_append_string(to, "penstock_mirror_leg_state");
            label(to, '{', "mirror", name);
            label(to, ',', "leg", device);
            label(to, ',', "state", state);
            text_append_string(to, "} 1\n");
        }
    }
}

/* ---- one scrape ---- */

static void finish(struct writing *writing) {
    if (writing->text.failed)
        writing->done(writing->arg, "", 0);
    else
        writing->done(writing->arg, writing->text.bytes, writing->text.length);
    text_fini(&writing->text);
    free(writing);
}

static void ask(struct writing *writing, const char *method, void (*told)(struct plane_call *call)) {
    struct control_plane *plane = &writing->gateway->options.control->plane;
    if (!control_plane_can(plane, method)) {
        finish(writing);
        return;
    }
    writing->call = (struct plane_call){.method = method, .timeout_ms = PLANE_MS, .done = told, .arg = writing};
    control_plane_call(plane, &writing->call);
}

static void mirrors_told(struct plane_call *call) {
    struct writing *writing = call->arg;
    if (call->ok) {
        put_mirrors(&writing->text, call->result);
        json_decref(call->result);
    }
    finish(writing);
}

static void iostat_told(struct plane_call *call) {
    struct writing *writing = call->arg;
    if (!call->ok) {
        finish(writing);
        return;
    }
    put_devices(&writing->text, writing->gateway->options.control, call->result);
    json_decref(call->result);
    ask(writing, "mirror_get", mirrors_told);
}

void gateway_metrics_write(struct gateway *gateway, void (*done)(void *arg, const char *text, size_t length), void *arg) {
    struct writing *writing = calloc(1, sizeof(*writing));
    if (writing == NULL) {
        done(arg, "", 0);
        return;
    }
    writing->gateway = gateway;
    writing->done = done;
    writing->arg = arg;
    text_init(&writing->text, TEXT_MAX);
    put_node(&writing->text, gateway);
    put_disks(&writing->text, gateway->options.control);
    put_replicas(&writing->text, gateway->options.control);
    put_engines(&writing->text, gateway->options.control);
    ask(writing, "bdev_get_iostat", iostat_told);
}

bool gateway_is_healthy(const struct gateway *gateway, char *to, size_t size) {
    const struct control_plane *plane = &gateway->options.control->plane;
    bool healthy = !plane->wanted || control_plane_ready(plane);
    if (healthy)
        snprintf(to, size, "ok\n");
    else
        snprintf(to, size, "the storage plane is not there: %s\n", plane->error.text);
    return healthy;
}
