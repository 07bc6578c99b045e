/* General methods: version, methods, start, reactors, configuration, notifications. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "plane_rpc/methods/methods.h"
#include "plane_rpc/rpc_methods.h"

enum { EVENT_WAIT_MS_MAX = 600000 };

void method_spdk_get_version(struct rpc_call *call) {
    const char *version = plane_of(call)->options.version, *dot = version;
    uint64_t numbers[3] = {0};
    struct json_writer *writer = rpc_call_result(call);
    json_begin_object(writer, RPC_RESULT);
    json_putf(writer, "version", "penstock v%s", version);
    json_begin_object(writer, "fields");
    for (unsigned i = 0; i < array_count(numbers) && dot != NULL; i++) {
        char digits[16];
        size_t length = strspn(dot, "0123456789");
        snprintf(digits, sizeof(digits), "%.*s", (int)length, dot);
        text_parse_u64(digits, UINT32_MAX, &numbers[i]);
        dot = dot[length] == '.' ? dot + length + 1 : NULL;
    }
    json_put_u64(writer, "major", numbers[0]);
    json_put_u64(writer, "minor", numbers[1]);
    json_put_u64(writer, "patch", numbers[2]);
    json_put_string(writer, "suffix", "");
    json_end(writer);
    json_end(writer);
    rpc_call_end(call);
}

void method_rpc_get_methods(struct rpc_call *call, const struct params_rpc_get_methods *params) {
    rpc_call_result_methods(call, params->current);
}

void method_spdk_kill_instance(struct rpc_call *call, const struct params_spdk_kill_instance *params) {
    static_assert(RPC_SIGNAL_SIGUSR1 == (int)PLANE_SIGNAL_USR1 && RPC_SIGNAL_SIGKILL == (int)PLANE_SIGNAL_KILL, "one order");
    struct plane *plane = plane_of(call);
    if (plane->options.kill != NULL)
        plane->options.kill(plane->options.arg, (enum plane_signal)params->sig_name);
    rpc_call_result_true(call);
}

/* ---- start ---- */

static void init_done(struct plane_waiter *waiter) {
    struct rpc_call *call = waiter->call;
    list_remove(&waiter->node);
    free(waiter);
    rpc_call_result_true(call);
}

static void wait_for_init(struct rpc_call *call) {
    struct plane *plane = plane_of(call);
    if (plane->started)
        rpc_call_result_true(call);
    else
        methods_wait(call, &plane->init_waiters, init_done);
}

void method_framework_wait_init(struct rpc_call *call) { wait_for_init(call); }

void method_framework_start_init(struct rpc_call *call) {
    struct error error;
    if (plane_start(plane_of(call), &error))
        wait_for_init(call);
    else
        rpc_call_fail(call, &error);
}

/* ---- reactors ---- */

static uint64_t cpu_bit(const struct plane *plane, unsigned index) {
    int cpu = index < plane->options.cpu_count ? plane->options.cpus[index] : -1;
    return UINT64_C(1) << (cpu >= 0 ? (unsigned)cpu : index) % 64;
}

static uint64_t cpu_number(const struct plane *plane, unsigned index) {
    int cpu = index < plane->options.cpu_count ? plane->options.cpus[index] : -1;
    return cpu >= 0 ? (uint64_t)cpu : index;
}

/* The n-th reactor, the control one last; NULL beyond. */
static struct reactor *reactor_at(const struct plane *plane, unsigned index) {
    return index < plane->reactor_count ? plane->reactors[index] : index == plane->reactor_count ? plane->control : NULL;
}

static void put_reactor(struct json_writer *writer, const struct plane *plane, struct reactor *reactor) {
    struct host_loop_stats stats;
    host_loop_stats(reactor->loop, &stats);
    json_begin_object(writer, NULL);
    json_put_u64(writer, "lcore", cpu_number(plane, reactor->index));
    json_put_string(writer, "name", reactor->name);
    json_put_u64(writer, "busy", plane_ticks(plane, stats.busy_ns));
    json_put_u64(writer, "idle", plane_ticks(plane, stats.idle_ns));
    json_put_bool(writer, "in_interrupt", stats.asleep);
    json_put_u64(writer, "irq", 0);
    json_put_u64(writer, "sys", 0);
    json_put_u64(writer, "usr", stats.cpu_ns / NS_PER_MS);
    json_put_u64(writer, "cpu_ns", stats.cpu_ns);
    json_put_u64(writer, "turns", stats.turns);
    json_put_u64(writer, "sleeps", stats.sleeps);
    json_put_u64(writer, "involuntary_switches", stats.involuntary_switches);
    json_begin_array(writer, "lw_threads");
    json_begin_object(writer, NULL);
    json_put_string(writer, "name", reactor->name);
    json_put_u64(writer, "id", reactor->index + 1);
    json_putf(writer, "cpumask", "%" PRIx64, cpu_bit(plane, reactor->index));
    json_put_u64(writer, "elapsed", plane_ticks(plane, stats.busy_ns + stats.idle_ns));
    json_end(writer);
    json_end(writer);
    json_end(writer);
}

void method_framework_get_reactors(struct rpc_call *call) {
    struct plane *plane = plane_of(call);
    struct json_writer *writer = rpc_call_result(call);
    json_begin_object(writer, RPC_RESULT);
    json_put_u64(writer, "tick_rate", plane->host->ticks_per_second);
    json_put_u64(writer, "pid", plane->options.pid);
    json_begin_array(writer, "reactors");
    for (unsigned i = 0; reactor_at(plane, i) != NULL; i++)
        put_reactor(writer, plane, reactor_at(plane, i));
    json_end(writer);
    json_end(writer);
    rpc_call_end(call);
}

void method_thread_get_stats(struct rpc_call *call) {
    struct plane *plane = plane_of(call);
    struct json_writer *writer = rpc_call_result(call);
    json_begin_object(writer, RPC_RESULT);
    json_put_u64(writer, "tick_rate", plane->host->ticks_per_second);
    json_begin_array(writer, "threads");
    for (unsigned i = 0; reactor_at(plane, i) != NULL; i++) {
        struct reactor *reactor = reactor_at(plane, i);
        struct host_loop_stats stats;
        host_loop_stats(reactor->loop, &stats);
        json_begin_object(writer, NULL);
        json_put_string(writer, "name", reactor->name);
        json_put_u64(writer, "id", reactor->index + 1);
        json_putf(writer, "cpumask", "%" PRIx64, cpu_bit(plane, reactor->index));
        json_put_u64(writer, "busy", plane_ticks(plane, stats.busy_ns));
        json_put_u64(writer, "idle", plane_ticks(plane, stats.idle_ns));
        json_put_u64(writer, "active_pollers_count", 1);
        json_put_u64(writer, "timed_pollers_count", 0);
        json_put_u64(writer, "paused_pollers_count", 0);
        json_end(writer);
    }
    json_end(writer);
    json_end(writer);
    rpc_call_end(call);
}

/* ---- configuration ---- */

void method_framework_get_subsystems(struct rpc_call *call) {
    struct json_writer *writer = rpc_call_result(call);
    json_begin_array(writer, RPC_RESULT);
    for (const struct methods_area *area = methods_areas; area->name != NULL; area++) {
        json_begin_object(writer, NULL);
        json_put_string(writer, "subsystem", area->name);
        json_begin_array(writer, "depends_on");
        for (const struct methods_area *before = methods_areas; before != area; before++)
            json_put_string(writer, NULL, before->name);
        json_end(writer);
        json_end(writer);
    }
    json_end(writer);
    rpc_call_end(call);
}

void method_framework_get_config(struct rpc_call *call, const struct params_framework_get_config *params) {
    const struct methods_area *area = methods_areas;
    while (area->name != NULL && strcmp(area->name, params->name) != 0)
        area++;
    if (area->name == NULL) {
        struct error error;
        error_invalid(&error, "name", params->name, "a name of framework_get_subsystems");
        rpc_call_error(call, JSONRPC_INVALID_PARAMS, NULL, &error);
        return;
    }
    struct json_writer *writer = rpc_call_result(call);
    json_begin_array(writer, RPC_RESULT);
    area->put_config(plane_of(call), writer);
    json_end(writer);
    rpc_call_end(call);
}

/* ---- notifications ---- */

void method_notify_get_types(struct rpc_call *call) {
    static const char *const types[] = {"bdev_register",        "bdev_unregister", "bdev_resize",
                                        "bdev_nvme_controller", "nvmf_subsystem",  "mirror_state",
                                        "mirror_leg",           "mirror_verify",   "mirror_sync"};
    struct json_writer *writer = rpc_call_result(call);
    json_begin_array(writer, RPC_RESULT);
    for (size_t i = 0; i < array_count(types); i++)
        json_put_string(writer, NULL, types[i]);
    json_end(writer);
    rpc_call_end(call);
}

static void answer_events(struct rpc_call *call, uint64_t id, uint64_t max) {
    struct json_writer *writer = rpc_call_result(call);
    const struct notify_event *event;
    uint64_t count = 0;
    json_begin_array(writer, RPC_RESULT);
    for (; count < max && (event = notify_ring_get(&plane_of(call)->notify, &id)) != NULL; count++, id++) {
        json_begin_object(writer, NULL);
        json_put_string(writer, "type", event->type);
        json_put_string(writer, "ctx", event->context);
        json_put_u64(writer, "id", id);
        json_end(writer);
    }
    json_end(writer);
    rpc_call_end(call);
}

void method_notify_get_notifications(struct rpc_call *call, const struct params_notify_get_notifications *params) {
    answer_events(call, params->id, params->max);
}

/* notify_wait. */
struct event_waiter {
    struct plane_waiter waiter;
    struct reactor_timer timer;
    uint64_t id, max;
};

static void event_waiter_end(struct event_waiter *waiter) {
    struct rpc_call *call = waiter->waiter.call;
    uint64_t id = waiter->id, max = waiter->max;
    reactor_timer_stop(plane_of(call)->control, &waiter->timer);
    list_remove(&waiter->waiter.node);
    free(waiter);
    answer_events(call, id, max);
}

static void event_waiter_run(struct plane_waiter *plane_waiter) {
    struct event_waiter *waiter = container_of(plane_waiter, struct event_waiter, waiter);
    if (plane_of(plane_waiter->call)->notify.next_id > waiter->id || plane_waiter->call->connection == NULL)
        event_waiter_end(waiter);
}

static void event_waiter_expire(struct reactor_timer *timer) {
    event_waiter_end(container_of(timer, struct event_waiter, timer));
}

static void event_waiter_cancel(struct plane_waiter *waiter) {
    event_waiter_end(container_of(waiter, struct event_waiter, waiter));
}

void method_notify_wait(struct rpc_call *call, const struct params_notify_wait *params) {
    struct plane *plane = plane_of(call);
    uint64_t wait_ms = min_u64(params->wait_ms, EVENT_WAIT_MS_MAX);
    struct event_waiter *waiter = plane->notify.next_id > params->id || wait_ms == 0 ? NULL : calloc(1, sizeof(*waiter));
    if (waiter == NULL) {
        answer_events(call, params->id, params->max);
        return;
    }
    *waiter = (struct event_waiter){.waiter = {.call = call, .run = event_waiter_run, .cancel = event_waiter_cancel},
                                    .timer = {.run = event_waiter_expire},
                                    .id = params->id,
                                    .max = params->max};
    plane_add_waiter(&plane->waiters, &waiter->waiter);
    reactor_timer_start(plane->control, &waiter->timer, reactor_now_ns(plane->control) + wait_ms * NS_PER_MS);
}
