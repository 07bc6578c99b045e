/* The life of a controller as one task: associations are made, watched, given up and made again. docs/nvme-initiator.md. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "blockdev/nvme_tcp/internal.h"

#define READY_POLL_NS (10 * NS_PER_MS)
#define SHUTDOWN_NS NS_PER_S /* that a goodbye may take */
#define SOON_NS NS_PER_MS

enum state {
    CONNECTING,      /* the admin connection, and digests */
    FABRICS_CONNECT, /* a controller id */
    READ_CAP,
    ENABLE,
    AWAIT_READY,
    IDENTIFY,
    IDENTIFY_LIMITS,
    SET_QUEUES,
    SET_EVENTS,
    LIST, /* active namespaces; again after a notice */
    IDENTIFY_NAMESPACE,
    IDENTIFY_DESCRIPTORS,
    READ_ANA, /* asymmetric access */
    PUBLISH,
    CONNECT_QUEUES,
    READY,
    CLEAR_EVENT,
    /* downward */
    DRAIN, /* every queue is to be closed */
    DELAY,
    FAILED,
    REMOVE, /* the devices; their users take the time they need */
    SHUTDOWN,
    CLOSE,
    END_QUEUES,
    STATES
};

static const char *const state_names[STATES] = {"connecting",
                                                "fabrics connect",
                                                "read cap",
                                                "enable",
                                                "await ready",
                                                "identify",
                                                "identify limits",
                                                "set queues",
                                                "set events",
                                                "list",
                                                "identify namespace",
                                                "identify descriptors",
                                                "read ana",
                                                "publish",
                                                "connect queues",
                                                "ready",
                                                "clear event",
                                                "drain",
                                                "delay",
                                                "failed",
                                                "remove",
                                                "shutdown",
                                                "close",
                                                "end queues"};

#define M TASK_MOVE
#define UP(next) (M(next) | M(DRAIN))
static const uint64_t moves[STATES] = {
    [CONNECTING] = UP(FABRICS_CONNECT),
    [FABRICS_CONNECT] = UP(READ_CAP),
    [READ_CAP] = UP(ENABLE),
    [ENABLE] = UP(AWAIT_READY),
    [AWAIT_READY] = UP(IDENTIFY),
    [IDENTIFY] = UP(IDENTIFY_LIMITS) | M(SET_QUEUES),
    [IDENTIFY_LIMITS] = UP(SET_QUEUES),
    [SET_QUEUES] = UP(SET_EVENTS),
    [SET_EVENTS] = UP(LIST),
    [LIST] = UP(IDENTIFY_NAMESPACE) | M(LIST) | M(READ_ANA) | M(PUBLISH),
    [IDENTIFY_NAMESPACE] = UP(IDENTIFY_DESCRIPTORS) | M(IDENTIFY_NAMESPACE) | M(READ_ANA) | M(PUBLISH),
    [IDENTIFY_DESCRIPTORS] = UP(IDENTIFY_NAMESPACE) | M(READ_ANA) | M(PUBLISH),
    [READ_ANA] = UP(PUBLISH),
    [PUBLISH] = UP(CONNECT_QUEUES),
    [CONNECT_QUEUES] = UP(READY),
    [READY] = UP(CLEAR_EVENT) | M(REMOVE),
    [CLEAR_EVENT] = UP(LIST),
    [DRAIN] = M(CONNECTING) | M(DELAY) | M(FAILED) | M(REMOVE),
    [DELAY] = M(CONNECTING) | M(REMOVE),
    [FAILED] = M(CONNECTING) | M(REMOVE),
    [REMOVE] = M(SHUTDOWN) | M(CLOSE),
    [SHUTDOWN] = M(CLOSE),
    [CLOSE] = M(END_QUEUES),
    [END_QUEUES] = 0,
};

static struct nvme_initiator_controller *of(const struct task *task) {
    return container_of(task, struct nvme_initiator_controller, task);
}
static struct reactor *control(const struct nvme_initiator_controller *c) { return c->initiator->control; }
static uint64_t now_ns(const struct nvme_initiator_controller *c) { return reactor_now_ns(control(c)); }

static bool invariant(const struct task *task) {
    const struct nvme_initiator_controller *c = of(task);
    return (task->state != READY && task->state != CONNECT_QUEUES) || (c->admin_ready && c->association.number > 0);
}

static void move(struct nvme_initiator_controller *c, enum state state) {
    c->issued = false;
    reactor_timer_stop(control(c), &c->step_timer);
    task_move(&c->task, state);
}

static void wake(struct reactor_timer *timer) {
    task_wake(&container_of(timer, struct nvme_initiator_controller, step_timer)->task);
}

/* The step runs again then. */
static void look_again(struct nvme_initiator_controller *c, uint64_t in_ns) {
    reactor_timer_start(control(c), &c->step_timer, now_ns(c) + in_ns);
}

/* True once in a state: to begin what the state waits for. */
static bool first_time(struct nvme_initiator_controller *c) {
    bool first = !c->issued;
    c->issued = true;
    return first;
}

/* True when the task's command has been answered; *ret_code is its status. */
static bool answered(struct nvme_initiator_controller *c, unsigned *ret_code) {
    struct initiator_admin_command *command = &c->commands[ADMIN_TASK];
    if (!command->answered)
        return false;
    command->answered = false;
    *ret_code = nvme_status_code(&command->tcp.cqe);
    return true;
}
static const struct nvme_cqe *answer(const struct nvme_initiator_controller *c) { return &c->commands[ADMIN_TASK].tcp.cqe; }

/* A command that must succeed. */
static bool succeeded(struct nvme_initiator_controller *c, const char *what) {
    unsigned code;
    if (!answered(c, &code))
        return false;
    if (code == NVME_SUCCESS)
        return true;
    initiator_controller_end(c, ERROR_IO, "%s was refused with status 0x%03x", what, code);
    return false;
}

void initiator_controller_end(struct nvme_initiator_controller *c, enum error_code code, const char *format, ...) {
    bool can = c->task.state < DRAIN || c->task.state == REMOVE || c->task.state == SHUTDOWN;
    if (!can || c->ended)
        return;
    c->ended = true;
    char why[200], where[32] = "";
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, sizeof(why), format, arguments);
    va_end(arguments);
    if (c->task.state < READY)
        snprintf(where, sizeof(where), " (%s)", task_state_name(&c->task));
    error_set(&c->error, code, "%s%s", why, where);
    task_wake(&c->task);
}

/* ---- queues ---- */

#define FOR_EACH_QUEUE(c, queue, slot)                                                                                           \
    for (unsigned slot = 0; slot < (c)->queue_slots; slot++)                                                                     \
        for (struct initiator_queue *queue = atomic_load(&(c)->queues[slot]); queue != NULL; queue = NULL)

static void queues_down(struct nvme_initiator_controller *c) {
    FOR_EACH_QUEUE(c, queue, slot) {
        atomic_store(&queue->wanted, 0);
        initiator_queue_tell(queue);
    }
}

static bool queues_are_down(struct nvme_initiator_controller *c) {
    FOR_EACH_QUEUE(c, queue, slot)
    if (atomic_load(&queue->held) != 0)
        return false;
    return true;
}

static void queues_set_failing(struct nvme_initiator_controller *c, bool failing) {
    c->failing = failing;
    FOR_EACH_QUEUE(c, queue, slot) {
        atomic_store(&queue->failing, failing);
        if (failing)
            initiator_queue_tell(queue);
    }
}

/* Gives queues that have none a connection of this association, or the one that stands in. */
static void queues_assign(struct nvme_initiator_controller *c) {
    unsigned assigned = 0, owners[64];
    FOR_EACH_QUEUE(c, queue, slot)
    if (atomic_load(&queue->wanted) == c->association.number && queue->qid != 0 && assigned < array_count(owners))
        owners[assigned++] = slot;
    unsigned limit = min_u32(c->association.io_queues, array_count(owners));
    assert(limit > 0);
    FOR_EACH_QUEUE(c, queue, slot) {
        if (atomic_load(&queue->wanted) == c->association.number)
            continue;
        if (assigned < limit) {
            queue->qid = (uint16_t)(assigned + 1);
            owners[assigned++] = slot;
        } else {
            queue->qid = 0;
            queue->forward_to = owners[slot % assigned];
        }
        atomic_store(&queue->wanted, c->association.number);
        initiator_queue_tell(queue);
    }
}

static bool queues_are_up(struct nvme_initiator_controller *c) {
    FOR_EACH_QUEUE(c, queue, slot)
    if (atomic_load(&queue->held) != c->association.number || !atomic_load(&queue->up))
        return false;
    return true;
}

static void queue_lost_check(struct nvme_initiator_controller *c, struct initiator_queue *queue) {
    if (c->association.number == 0 || atomic_load(&queue->lost) != c->association.number)
        return;
    enum error_code code = queue->lost_error == 0 ? ERROR_IO : error_from_errno(queue->lost_error);
    initiator_controller_end(c, code == ERROR_TIMED_OUT ? code : ERROR_IO, "I/O queue %u: %s", queue->qid, queue->lost_why);
}

void initiator_controller_queue_looks(struct reactor_message *message) {
    struct initiator_queue *queue =
        container_of(container_of(message, struct initiator_look, message), struct initiator_queue, to_control);
    struct nvme_initiator_controller *c = queue->controller;
    initiator_look_taken(&queue->to_control);
    if (atomic_load(&queue->failing) != c->failing) { /* a new one */
        atomic_store(&queue->failing, c->failing);
        initiator_queue_tell(queue);
    }
    queue_lost_check(c, queue);
    initiator_admin_abort_next(c);
    task_wake(&c->task);
}

void initiator_controller_queue_gone(struct reactor_message *message) {
    struct initiator_queue *queue = container_of(message, struct initiator_queue, goodbye);
    struct nvme_initiator_controller *c = queue->controller;
    for (unsigned slot = 0; slot < c->queue_slots; slot++)
        if (atomic_load(&c->queues[slot]) == queue)
            atomic_store(&c->queues[slot], NULL);
    initiator_queue_free(queue);
    c->queues_ending--;
    task_wake(&c->task);
}

/* ---- the time without an association ---- */

static void outage_due(struct reactor_timer *timer) {
    task_wake(&container_of(timer, struct nvme_initiator_controller, outage)->task);
}

static void outage_check(struct nvme_initiator_controller *c) {
    const struct nvme_initiator_loss *loss = &c->options.loss;
    if (c->down_ns == 0 || c->attach != NULL || c->task.state >= REMOVE)
        return;
    uint64_t fast_ns = loss->fast_io_fail_timeout_ms * NS_PER_MS, now = now_ns(c), next = UINT64_MAX;
    if (fast_ns != 0 && !c->failing) {
        if (now >= c->down_ns + fast_ns)
            queues_set_failing(c, true);
        else
            next = c->down_ns + fast_ns;
    }
    if (loss->ctrlr_loss_timeout_ms > 0) {
        uint64_t lost_ns = c->down_ns + (uint64_t)loss->ctrlr_loss_timeout_ms * NS_PER_MS;
        if (now >= lost_ns)
            c->detach_wanted = true;
        else
            next = min_u64(next, lost_ns);
    }
    if (next != UINT64_MAX)
        reactor_timer_start(control(c), &c->outage, next);
}

static void reset_tell(struct nvme_initiator_controller *c, bool ok) {
    void (*done)(bool, void *) = c->reset_done;
    c->reset_under_way = false;
    c->reset_done = NULL;
    if (done != NULL)
        done(ok, c->reset_arg);
}

static void attach_answer(struct nvme_initiator_controller *c) {
    struct nvme_initiator_attach *attach = c->attach;
    c->attach = NULL;
    attach->ok = true;
    attach->controller = c;
    attach->done(attach);
}

/* Whoever waits for a first association need not: from here on it is one that was lost. */
static void patience_end(struct nvme_initiator_controller *c) {
    attach_answer(c);
    c->down_ns = max_u64(now_ns(c), 1);
    outage_check(c);
}

/* ---- steps upward ---- */

static void step_connecting(struct nvme_initiator_controller *c) {
    if (first_time(c)) {
        uint64_t number = c->association.number + 1;
        c->association = (struct initiator_association){.number = number, .sq_flow_control = c->sq_flow_control};
        c->attempts++;
        c->reconnects += number > 1;
        c->rescan = false;
        struct error error;
        if (!initiator_connection_open(&c->admin, &c->address, &c->from, &c->tcp_options, &error)) {
            initiator_controller_end(c, error.code, "%s", error.text);
            return;
        }
        look_again(c, c->connect_timeout_ns);
        return;
    }
    if (c->admin_ready)
        move(c, FABRICS_CONNECT);
    else if (!reactor_timer_armed(&c->step_timer))
        initiator_controller_end(c, ERROR_TIMED_OUT, "the controller did not answer in time");
}

static void step_fabrics_connect(struct nvme_initiator_controller *c) {
    unsigned code;
    if (first_time(c))
        initiator_admin_connect(c);
    if (!answered(c, &code))
        return;
    if (code == NVME_SUCCESS) {
        c->association.cntlid = (uint16_t)answer(c)->dw0;
        move(c, READ_CAP);
    } else if ((code == NVME_INVALID_FIELD || code == NVME_CONNECT_INVALID_PARAMETERS) && !c->association.sq_flow_control) {
        c->association.sq_flow_control = true; /* perhaps it cannot do without */
        initiator_admin_connect(c);
    } else {
        initiator_controller_end(c, ERROR_IO, "Connect to %s was refused with status 0x%03x", c->subnqn, code);
    }
}

static void step_read_cap(struct nvme_initiator_controller *c) {
    if (first_time(c))
        initiator_admin_property_get(c, NVME_PROPERTY_CAP, true);
    if (!succeeded(c, "reading CAP"))
        return;
    uint64_t cap = answer(c)->value;
    uint32_t entries = (uint32_t)(cap & 0xffff) + 1;
    if (entries < 2) {
        initiator_controller_end(c, ERROR_IO, "the controller's queues have room for one entry only");
        return;
    }
    c->association.entries = min_u32(entries, c->options.io_queue_entries);
    c->page_size = UINT32_C(4096) << ((cap >> 48) & 0xf);
    c->ready_deadline_ns = now_ns(c) + max_u64((cap >> 24) & 0xff, 1) * 500 * NS_PER_MS;
    move(c, ENABLE);
}

static void step_enable(struct nvme_initiator_controller *c) {
    unsigned page_shift = log2_u64(c->page_size) - 12;
    if (first_time(c))
        initiator_admin_property_set(c, NVME_PROPERTY_CC,
                                     NVME_CC_ENABLE | NVME_CC_IOSQES_64 | NVME_CC_IOCQES_16 | page_shift << 7);
    if (!succeeded(c, "enabling the controller"))
        return;
    initiator_admin_keep_alive_start(c);
    move(c, AWAIT_READY);
}

static void step_await_ready(struct nvme_initiator_controller *c) {
    struct initiator_admin_command *command = &c->commands[ADMIN_TASK];
    if (first_time(c) || (!command->busy && !command->answered && !reactor_timer_armed(&c->step_timer)))
        initiator_admin_property_get(c, NVME_PROPERTY_CSTS, false);
    if (!succeeded(c, "reading CSTS"))
        return;
    uint32_t csts = answer(c)->dw0;
    if ((csts & NVME_CSTS_FATAL) != 0)
        initiator_controller_end(c, ERROR_IO, "the controller reports a fatal error");
    else if ((csts & NVME_CSTS_READY) != 0)
        move(c, IDENTIFY);
    else if (now_ns(c) >= c->ready_deadline_ns)
        initiator_controller_end(c, ERROR_TIMED_OUT, "the controller did not become ready in the time it says it needs");
    else
        look_again(c, READY_POLL_NS);
}

static void step_identify(struct nvme_initiator_controller *c) {
    if (first_time(c))
        initiator_admin_identify(c, NVME_CNS_CONTROLLER, 0);
    if (!succeeded(c, "Identify Controller"))
        return;
    const char *why;
    struct initiator_controller_facts *facts = &c->association.facts;
    if (!initiator_parse_controller((const struct nvme_identify_controller *)c->page, c->page_size, facts, &why)) {
        initiator_controller_end(c, ERROR_UNSUPPORTED, "cannot use the controller: %s", why);
        return;
    }
    if (facts->discovery) {
        initiator_controller_end(c, ERROR_UNSUPPORTED, "%s is a discovery subsystem: it has no namespaces", c->subnqn);
        return;
    }
    if (facts->commands_max != 0)
        c->association.entries = max_u32(min_u32(c->association.entries, facts->commands_max + 1u), 2);
    move(c, facts->limits_page ? IDENTIFY_LIMITS : SET_QUEUES);
}

static void step_identify_limits(struct nvme_initiator_controller *c) {
    unsigned code;
    if (first_time(c))
        initiator_admin_identify(c, NVME_CNS_CONTROLLER_OF_CSI, 0);
    if (!answered(c, &code))
        return;
    if (code == NVME_SUCCESS) /* else it has no such page, and the limits stand */
        initiator_parse_controller_limits((const struct nvme_identify_controller_nvm *)c->page, c->page_size,
                                          &c->association.facts);
    move(c, SET_QUEUES);
}

static void step_set_queues(struct nvme_initiator_controller *c) {
    uint32_t wanted = c->io_queues_max != 0 ? min_u32(c->io_queues_max, c->queue_slots) : c->queue_slots;
    if (first_time(c))
        initiator_admin_set_feature(c, NVME_FEATURE_NUMBER_OF_QUEUES, (wanted - 1) | (wanted - 1) << 16);
    if (!succeeded(c, "asking for I/O queues"))
        return;
    uint32_t granted = min_u32(answer(c)->dw0 & 0xffff, answer(c)->dw0 >> 16) + 1;
    c->association.io_queues = (uint16_t)min_u32(wanted, granted);
    move(c, SET_EVENTS);
}

static void step_set_events(struct nvme_initiator_controller *c) {
    unsigned code;
    const struct initiator_controller_facts *facts = &c->association.facts;
    uint32_t events = (facts->namespace_events ? NVME_AEC_NAMESPACE : 0) | (facts->ana_events ? NVME_AEC_ANA : 0);
    if (events == 0) {
        move(c, LIST);
        return;
    }
    if (first_time(c))
        initiator_admin_set_feature(c, NVME_FEATURE_ASYNC_EVENT_CONFIG, events);
    if (!answered(c, &code))
        return;
    if (code == NVME_SUCCESS) /* else there are none: a rescan comes with each reconnect */
        initiator_admin_await_event(c);
    move(c, LIST);
}

/* The next namespace to identify, or on. */
static void namespace_next(struct nvme_initiator_controller *c) {
    move(c, c->found_next < c->found_count ? IDENTIFY_NAMESPACE : c->association.facts.ana ? READ_ANA : PUBLISH);
}

static void step_list(struct nvme_initiator_controller *c) {
    uint32_t after = c->listing ? c->found_ids[c->found_count - 1] : 0;
    if (first_time(c)) {
        if (!c->listing)
            c->found_count = 0;
        initiator_admin_identify(c, NVME_CNS_ACTIVE_NAMESPACES, after);
    }
    if (!succeeded(c, "listing the namespaces"))
        return;
    bool more;
    c->found_count +=
        initiator_parse_namespace_list(c->page, after, c->found_ids + c->found_count, c->devices_max - c->found_count, &more);
    c->listing = more && c->found_count < c->devices_max;
    if (c->listing) {
        move(c, LIST);
        return;
    }
    c->found_next = 0;
    namespace_next(c);
}

static void step_identify_namespace(struct nvme_initiator_controller *c) {
    struct initiator_namespace_facts *facts = &c->found[c->found_next];
    unsigned code;
    if (first_time(c))
        initiator_admin_identify(c, NVME_CNS_NAMESPACE, c->found_ids[c->found_next]);
    if (!answered(c, &code))
        return;
    *facts = (struct initiator_namespace_facts){.nsid = c->found_ids[c->found_next]};
    if (code == NVME_SUCCESS) /* else it went away meanwhile */
        initiator_parse_namespace((const struct nvme_identify_namespace *)c->page, facts->nsid, facts);
    if (facts->usable && c->association.facts.version >= NVME_VERSION(1, 3, 0)) {
        move(c, IDENTIFY_DESCRIPTORS);
        return;
    }
    c->found_next++;
    namespace_next(c);
}

static void step_identify_descriptors(struct nvme_initiator_controller *c) {
    unsigned code;
    if (first_time(c))
        initiator_admin_identify(c, NVME_CNS_NAMESPACE_DESCRIPTORS, c->found_ids[c->found_next]);
    if (!answered(c, &code))
        return;
    if (code == NVME_SUCCESS)
        initiator_parse_descriptors(c->page, &c->found[c->found_next]);
    c->found_next++;
    namespace_next(c);
}

static void step_read_ana(struct nvme_initiator_controller *c) {
    unsigned code;
    if (first_time(c))
        initiator_admin_read_ana(c);
    if (!answered(c, &code))
        return;
    if (code == NVME_SUCCESS) /* else requests will show */
        initiator_parse_ana(c->page, c->found, c->found_count);
    move(c, PUBLISH);
}

static void step_connect_queues(struct nvme_initiator_controller *c) {
    if (first_time(c))
        queues_assign(c);
    if (queues_are_up(c))
        move(c, READY);
}

static void step_ready(struct nvme_initiator_controller *c) {
    if (first_time(c)) {
        c->attempts = 0;
        c->down_ns = 0;
        atomic_store(&c->ready, c->association.number);
        reactor_timer_stop(control(c), &c->outage);
        if (c->failing)
            queues_set_failing(c, false);
        if (c->reset_under_way)
            reset_tell(c, true);
        if (c->attach != NULL)
            attach_answer(c);
        initiator_namespaces_set_path(c, true);
    }
    if (c->rescan) {
        c->rescan = false;
        move(c, CLEAR_EVENT);
        return;
    }
    queues_assign(c); /* those that came later */
}

static void step_clear_event(struct nvme_initiator_controller *c) {
    unsigned code;
    if (first_time(c))
        initiator_admin_clear_event(c);
    if (answered(c, &code)) /* one that cannot tell what changed is asked for everything all the same */
        move(c, LIST);
}

/* ---- steps downward ---- */

/* Another association is tried; what ended the last one is over. */
static void try_again(struct nvme_initiator_controller *c) {
    c->ended = false;
    move(c, CONNECTING);
}

static void step_drain(struct nvme_initiator_controller *c) {
    if (first_time(c)) {
        if (c->down_ns == 0)
            c->down_ns = max_u64(now_ns(c), 1);
        if (c->reset_wanted) {
            c->reset_wanted = false;
            c->reset_under_way = true;
            c->attempts = 0;
        }
        c->listing = false;
        atomic_store(&c->ready, 0);
        initiator_admin_close(c);
        queues_down(c);
        initiator_namespaces_set_path(c, false);
        outage_check(c);
    }
    if (!queues_are_down(c))
        return;
    FOR_EACH_QUEUE(c, queue, slot)
    atomic_store(&queue->abort, 0);
    if (c->attach != NULL && c->attach->patience_ns != 0 && !c->detach_wanted)
        patience_end(c);
    if (c->attach != NULL || c->detach_wanted) {
        move(c, REMOVE);
        return;
    }
    if (c->attempts == 0) {
        try_again(c);
        return;
    }
    if (c->reset_under_way)
        reset_tell(c, false);
    move(c, c->options.loss.reconnect_delay_ms != 0 ? DELAY : FAILED);
}

/* Between attempts: true if something ended the wait. */
static bool wait_ended(struct nvme_initiator_controller *c) {
    if (c->detach_wanted) {
        move(c, REMOVE);
        return true;
    }
    if (c->reset_wanted) {
        c->reset_wanted = false;
        c->reset_under_way = true;
        try_again(c);
        return true;
    }
    return false;
}

static void step_delay(struct nvme_initiator_controller *c) {
    if (wait_ended(c))
        return;
    if (first_time(c))
        look_again(c, c->options.loss.reconnect_delay_ms * NS_PER_MS);
    else if (!reactor_timer_armed(&c->step_timer))
        try_again(c);
}

static void step_failed(struct nvme_initiator_controller *c) {
    if (wait_ended(c))
        return;
    if (first_time(c))
        queues_set_failing(c, true);
}

static void step_remove(struct nvme_initiator_controller *c) {
    if (first_time(c)) {
        reactor_timer_stop(control(c), &c->outage);
        initiator_namespaces_remove(c);
    }
    if (c->ended) {
        initiator_admin_close(c);
        queues_down(c); /* what comes back finds its device gone */
    }
    if (c->namespace_count > 0)
        return;
    move(c, c->admin_ready && !c->ended ? SHUTDOWN : CLOSE);
}

static void step_shutdown(struct nvme_initiator_controller *c) {
    unsigned code;
    if (c->ended) {
        move(c, CLOSE);
        return;
    }
    if (first_time(c)) {
        if (c->commands[ADMIN_TASK].busy) { /* what was asked last is of no interest any more: just hang up */
            move(c, CLOSE);
            return;
        }
        initiator_admin_property_set(c, NVME_PROPERTY_CC,
                                     NVME_CC_ENABLE | NVME_CC_IOSQES_64 | NVME_CC_IOCQES_16 | (log2_u64(c->page_size) - 12) << 7 |
                                         NVME_CC_SHN_NORMAL);
        look_again(c, SHUTDOWN_NS);
    }
    if (answered(c, &code) || !reactor_timer_armed(&c->step_timer))
        move(c, CLOSE);
}

static void step_close(struct nvme_initiator_controller *c) {
    if (first_time(c)) {
        initiator_admin_close(c);
        queues_down(c);
    }
    if (queues_are_down(c))
        move(c, END_QUEUES);
}

static void step_end_queues(struct nvme_initiator_controller *c) {
    if (first_time(c)) {
        FOR_EACH_QUEUE(c, queue, slot) {
            c->queues_ending++;
            reactor_post(queue->reactor, &queue->end);
        }
    }
    if (c->queues_ending > 0)
        return;
    if (!initiator_connection_idle(&c->admin)) {
        look_again(c, SOON_NS);
        return;
    }
    task_end(&c->task);
}

static void step(struct task *task) {
    struct nvme_initiator_controller *c = of(task);
    if (c->attach != NULL && c->attach->patience_ns != 0 && !c->detach_wanted && now_ns(c) >= c->down_ns + c->attach->patience_ns)
        patience_end(c);
    outage_check(c);
    if (task->state < DRAIN) {
        if (!c->ended && !c->reset_wanted && c->detach_wanted && task->state == READY) {
            move(c, REMOVE);
            return;
        }
        bool fresh = task->state == CONNECTING && !c->issued; /* `ended` is still of the association before */
        if ((c->ended && !fresh) || c->reset_wanted ||
            (c->detach_wanted && c->down_ns != 0)) { /* one that is up finishes its rescan */
            move(c, DRAIN);
            return;
        }
    }
    switch ((enum state)task->state) {
    case CONNECTING: step_connecting(c); break;
    case FABRICS_CONNECT: step_fabrics_connect(c); break;
    case READ_CAP: step_read_cap(c); break;
    case ENABLE: step_enable(c); break;
    case AWAIT_READY: step_await_ready(c); break;
    case IDENTIFY: step_identify(c); break;
    case IDENTIFY_LIMITS: step_identify_limits(c); break;
    case SET_QUEUES: step_set_queues(c); break;
    case SET_EVENTS: step_set_events(c); break;
    case LIST: step_list(c); break;
    case IDENTIFY_NAMESPACE: step_identify_namespace(c); break;
    case IDENTIFY_DESCRIPTORS: step_identify_descriptors(c); break;
    case READ_ANA: step_read_ana(c); break;
    case PUBLISH:
        initiator_namespaces_publish(c);
        move(c, CONNECT_QUEUES);
        break;
    case CONNECT_QUEUES: step_connect_queues(c); break;
    case READY: step_ready(c); break;
    case CLEAR_EVENT: step_clear_event(c); break;
    case DRAIN: step_drain(c); break;
    case DELAY: step_delay(c); break;
    case FAILED: step_failed(c); break;
    case REMOVE: step_remove(c); break;
    case SHUTDOWN: step_shutdown(c); break;
    case CLOSE: step_close(c); break;
    case END_QUEUES: step_end_queues(c); break;
    case STATES: assert(false);
    }
}

static void ended(struct task *task) {
    struct nvme_initiator_controller *c = of(task);
    reactor_timer_stop(control(c), &c->step_timer);
    reactor_timer_stop(control(c), &c->outage);
    if (c->reset_under_way || c->reset_wanted)
        reset_tell(c, false);
    initiator_controller_free(c);
}

static const struct task_type type = {.name = "nvme initiator controller",
                                      .state_names = state_names,
                                      .state_count = STATES,
                                      .moves = moves,
                                      .step = step,
                                      .end = ended,
                                      .invariant = invariant};

bool initiator_controller_start(struct nvme_initiator_controller *c) {
    if (!initiator_admin_init(c))
        return false;
    c->step_timer.run = wake;
    c->outage.run = outage_due;
    c->down_ns = max_u64(now_ns(c), 1);
    if (c->attach->patience_ns != 0)
        reactor_timer_start(control(c), &c->outage, c->down_ns + c->attach->patience_ns);
    task_start(&c->task, &type, control(c), CONNECTING, UINT64_MAX);
    return true;
}

enum nvme_initiator_state initiator_controller_state(const struct nvme_initiator_controller *c) {
    switch ((enum state)c->task.state) {
    case DELAY: return NVME_INITIATOR_RECONNECT_IS_DELAYED;
    case FAILED: return NVME_INITIATOR_FAILED;
    case REMOVE:
    case SHUTDOWN:
    case CLOSE:
    case END_QUEUES: return NVME_INITIATOR_DELETING;
    default: break;
    }
    if (c->detach_wanted)
        return NVME_INITIATOR_DELETING;
    return c->down_ns == 0 && c->task.state != DRAIN ? NVME_INITIATOR_ENABLED : NVME_INITIATOR_RESETTING;
}
