/* MetricsGet: rates of one device, from two looks at its counters. The last look is kept, so that who asks now and then is
 * answered at once; who asks for the first time waits a second. */
#include <stdlib.h>

#include "api/proto/spdkrpc/node.pb-c.h"
#include "gateway/internal.h"

enum {
    NAME_MAX_BYTES = 200,
    LOOKS_MAX = 256,      /* devices whose last look is kept */
    RATE_MS = 1000,       /* between two looks at least */
    RATE_OLD_MS = 120000, /* a rate over more than that says nothing of now */
    PLANE_MS = 5000,
};

enum { READ_BYTES, WRITE_BYTES, READS, WRITES, READ_TICKS, WRITE_TICKS, COUNTERS };
static const char *const keys[COUNTERS] = {"bytes_read",    "bytes_written",      "num_read_ops",
                                           "num_write_ops", "read_latency_ticks", "write_latency_ticks"};

/* What was counted at some time, and the rates told then. */
struct gateway_look {
    struct list_node node; /* newest first */
    char device[NAME_MAX_BYTES];
    uint64_t at_ns, counted[COUNTERS];
    uint64_t per_s[COUNTERS]; /* of the ticks: nanoseconds a request */
    bool has_rates;
};

struct rate_call {
    struct list_node node; /* of the gateway's */
    struct grpc_call *call;
    struct gateway *gateway;
    struct plane_call plane_call;
    struct reactor_timer timer;
    char device[NAME_MAX_BYTES], other[NAME_MAX_BYTES]; /* other: to be tried if there is no such device; "" = none */
};

static void look(struct rate_call *rate);

static void end(struct rate_call *take_rate, enum grpc_status status, const char *text) {
    list_remove(&take_rate->node);
    reactor_timer_stop(take_rate->gateway->options.control->options.reactor, &take_rate->timer);
    json_decref(take_rate->plane_call.params);
    grpc_call_end(take_rate->call, status, text);
    free(take_rate);
}

static void answer(struct rate_call *take_rate, const struct gateway_look *from) {
    Spdkrpc__Metrics metrics = SPDKRPC__METRICS__INIT;
    metrics.readthroughput = from->per_s[READ_BYTES];
    metrics.writethroughput = from->per_s[WRITE_BYTES];
    metrics.readiops = from->per_s[READS];
    metrics.writeiops = from->per_s[WRITES];
    metrics.readlatency = from->per_s[READ_TICKS];
    metrics.writelatency = from->per_s[WRITE_TICKS];
    list_remove(&take_rate->node);
    json_decref(take_rate->plane_call.params);
    grpc_call_reply(take_rate->call, &metrics.base);
    free(take_rate);
}

/* The device's, made if there is none: in the place of the one asked for longest ago when there are many. */
static struct gateway_look *find_look(struct gateway *gateway, const char *device) {
    unsigned count = 0;
    struct gateway_look *found = NULL;
    list_for_each (&gateway->looks, struct gateway_look, kept, node) {
        count++;
        if (found == NULL && strcmp(kept->device, device) == 0)
            found = kept;
    }
    if (found == NULL && count >= LOOKS_MAX) {
        found = list_entry(list_last(&gateway->looks), struct gateway_look, node);
        list_remove(&found->node);
        *found = (struct gateway_look){0};
    } else if (found == NULL) {
        found = calloc(1, sizeof(*found));
        if (found == NULL)
            return NULL;
    } else {
        list_remove(&found->node);
    }
    memcpy(found->device, device, strlen(device) + 1);
    list_push_front(&gateway->looks, &found->node);
    return found;
}

static uint64_t divide(uint64_t value, uint64_t by) { return by == 0 ? 0 : value / by; }

static void set_rates(struct gateway_look *kept, const uint64_t counted[COUNTERS], uint64_t now_ns, uint64_t ticks_per_s) {
    uint64_t grown[COUNTERS], ms = max_u64((now_ns - kept->at_ns) / NS_PER_MS, 1);
    for (unsigned i = 0; i < COUNTERS; i++) /* counters begin anew with the plane */
        grown[i] = counted[i] >= kept->counted[i] ? counted[i] - kept->counted[i] : counted[i];
    for (unsigned i = 0; i < READ_TICKS; i++)
        kept->per_s[i] = grown[i] * 1000 / ms;
    kept->per_s[READ_TICKS] = (uint64_t)((double)divide(grown[READ_TICKS], grown[READS]) * 1e9 / (double)ticks_per_s);
    kept->per_s[WRITE_TICKS] = (uint64_t)((double)divide(grown[WRITE_TICKS], grown[WRITES]) * 1e9 / (double)ticks_per_s);
    kept->has_rates = true;
}

static void on_timer(struct reactor_timer *timer) { look(container_of(timer, struct rate_call, timer)); }

static void counted(struct rate_call *rate, const json_t *iostat) {
    struct reactor *reactor = rate->gateway->options.control->options.reactor;
    const json_t *device = json_array_get(json_object_get(iostat, "bdevs"), 0);
    json_int_t ticks_per_s = json_integer_value(json_object_get(iostat, "tick_rate"));
    struct gateway_look *kept = find_look(rate->gateway, rate->device);
    uint64_t now_ns = reactor_now_ns(reactor), values[COUNTERS];
    if (kept == NULL || device == NULL || ticks_per_s <= 0) {
        end(rate, GRPC_INTERNAL, "the storage plane tells no figures of it");
        return;
    }
    for (unsigned i = 0; i < COUNTERS; i++)
        values[i] = (uint64_t)json_integer_value(json_object_get(device, keys[i]));
    uint64_t age_ms = (now_ns - kept->at_ns) / NS_PER_MS;
    bool first = kept->at_ns == 0 || age_ms > RATE_OLD_MS;
    if (!first && age_ms >= RATE_MS)
        set_rates(kept, values, now_ns, (uint64_t)ticks_per_s);
    else if (!first && kept->has_rates) { /* of less than a second ago: still good */
        answer(rate, kept);
        return;
    }
    if (first || age_ms >= RATE_MS) {
        kept->at_ns = now_ns;
        memcpy(kept->counted, values, sizeof(values));
        kept->has_rates = !first;
    }
    if (kept->has_rates)
        answer(rate, kept);
    else
        reactor_timer_start(reactor, &rate->timer, kept->at_ns + (uint64_t)RATE_MS * NS_PER_MS);
}

static void told(struct plane_call *call) {
    struct rate_call *rate = call->arg;
    if (call->ok) {
        json_t *iostat = call->result;
        counted(rate, iostat);
        json_decref(iostat);
    } else if (call->code != 0 && rate->other[0] != '\0') { /* a replica's name, not a device's */
        memcpy(rate->device, rate->other, sizeof(rate->device));
        rate->other[0] = '\0';
        look(rate);
    } else if (call->code != 0) {
        end(rate, GRPC_NOT_FOUND, call->error.text);
    } else {
        end(rate, GRPC_UNAVAILABLE, call->error.text);
    }
}

static void look(struct rate_call *rate) {
    struct control_plane *plane = &rate->gateway->options.control->plane;
    json_decref(rate->plane_call.params);
    rate->plane_call = (struct plane_call){.method = "bdev_get_iostat", .timeout_ms = PLANE_MS, .done = told, .arg = rate};
    if (!control_plane_ready(plane)) {
        end(rate, GRPC_UNAVAILABLE, plane->error.text);
        return;
    }
    rate->plane_call.params = json_pack("{s:s}", "name", rate->device);
    if (!control_plane_can(plane, "bdev_get_iostat"))
        end(rate, GRPC_UNIMPLEMENTED, "MetricsGet: this storage plane has no bdev_get_iostat");
    else
        control_plane_call(plane, &rate->plane_call);
}

void gateway_metrics_get(struct grpc_call *call, const ProtobufCMessage *message) {
    struct gateway *gateway = gateway_of(call);
    const char *name = ((const Spdkrpc__MetricsRequest *)message)->name;
    const struct control_replica *replica = control_find_replica(gateway->options.control, name);
    if (name[0] == '\0' || strlen(name) >= NAME_MAX_BYTES) {
        grpc_call_endf(call, GRPC_INVALID_ARGUMENT, "name is '%.*s': expected a device's", NAME_MAX_BYTES, name);
        return;
    }
    struct rate_call *rate = calloc(1, sizeof(*rate));
    if (rate == NULL) {
        grpc_call_end(call, GRPC_RESOURCE_EXHAUSTED, "no memory");
        return;
    }
    *rate = (struct rate_call){.call = call, .gateway = gateway, .timer.run = on_timer};
    memcpy(rate->device, name, strlen(name) + 1);
    if (replica != NULL)
        snprintf(rate->other, sizeof(rate->other), "%s/%s", replica->record.disk, replica->record.name);
    list_push_back(&gateway->rate_calls, &rate->node);
    look(rate);
}

void gateway_rates_end(struct gateway *gateway) {
    list_for_each_safe (&gateway->rate_calls, struct rate_call, rate, node)
        if (rate->timer.run != NULL && reactor_timer_armed(&rate->timer)) /* the others end with the plane's connection */
            end(rate, GRPC_UNAVAILABLE, "the daemon is ending");
}

void gateway_rates_fini(struct gateway *gateway) {
    assert(list_empty(&gateway->rate_calls));
    while (!list_empty(&gateway->looks))
        free(list_entry(list_pop_front(&gateway->looks), struct gateway_look, node));
}
