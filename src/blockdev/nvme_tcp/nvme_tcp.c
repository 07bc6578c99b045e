/* The initiator's control interface: options, attach, detach, reset, looking. */
#include "blockdev/nvme_tcp/nvme_tcp.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/crc32c.h"
#include "base/text.h"
#include "blockdev/nvme_tcp/internal.h"

#define PORT_DEFAULT 4420
#define TIME_MAX_MS (UINT32_MAX / 2)

/* ---- options ---- */

void nvme_initiator_options_default(struct nvme_initiator_options *options) {
    *options = (struct nvme_initiator_options){.timeout_action = NVME_INITIATOR_TIMEOUT_ABORT,
                                               .timeout_us = 30 * 1000000,
                                               .keep_alive_timeout_ms = 10000,
                                               .retry_count = 3,
                                               .io_queue_entries = 256,
                                               .connect_timeout_ms = 10000};
}

static bool invalid_number(struct error *error, const char *field, int64_t value, const char *expected) {
    char text[24];
    snprintf(text, sizeof(text), "%lld", (long long)value);
    return error_invalid(error, field, text, "%s", expected);
}

static bool loss_check(const struct nvme_initiator_loss *loss, struct error *error) {
    int64_t lost = loss->ctrlr_loss_timeout_ms, delay = loss->reconnect_delay_ms, fast = loss->fast_io_fail_timeout_ms;
    if (lost < -1 || lost > TIME_MAX_MS)
        return invalid_number(error, "ctrlr_loss_timeout_sec", lost,
                              "-1, 0, or a time that is not shorter than reconnect_delay_sec");
    if (lost == 0) {
        if (delay != 0)
            return invalid_number(error, "reconnect_delay_sec", delay, "0 while ctrlr_loss_timeout_sec is 0");
        return fast == 0 || invalid_number(error, "fast_io_fail_timeout_sec", fast, "0 while ctrlr_loss_timeout_sec is 0");
    }
    if (delay == 0 || delay > TIME_MAX_MS)
        return invalid_number(error, "reconnect_delay_sec", delay, "at least 1 while ctrlr_loss_timeout_sec is not 0");
    if (lost > 0 && lost < delay)
        return invalid_number(error, "ctrlr_loss_timeout_sec", lost, "not shorter than reconnect_delay_sec");
    if (fast != 0 && fast < delay)
        return invalid_number(error, "fast_io_fail_timeout_sec", fast, "0, or not shorter than reconnect_delay_sec");
    if (fast != 0 && lost > 0 && fast > lost)
        return invalid_number(error, "fast_io_fail_timeout_sec", fast, "not longer than ctrlr_loss_timeout_sec");
    return true;
}

const struct nvme_initiator_options *nvme_initiator_options(const struct nvme_initiator *initiator) {
    return &initiator->options;
}

bool nvme_initiator_set_options(struct nvme_initiator *initiator, const struct nvme_initiator_options *options,
                                struct error *error) {
    if (initiator->controller_count > 0)
        return error_set(error, ERROR_PERMISSION, "RPC not permitted with nvme controllers already attached");
    if (options->timeout_action > NVME_INITIATOR_TIMEOUT_ABORT)
        return invalid_number(error, "action_on_timeout", options->timeout_action, "none, reset or abort");
    if (options->timeout_us == 0 && options->timeout_admin_us != 0)
        return invalid_number(error, "timeout_admin_us", (int64_t)options->timeout_admin_us, "0 while timeout_us is 0");
    if (options->timeout_us > TIME_MAX_MS * UINT64_C(1000) || options->timeout_admin_us > TIME_MAX_MS * UINT64_C(1000))
        return error_invalid(error, "timeout_us", "too long", "at most %u ms", TIME_MAX_MS);
    if (options->retry_count < -1)
        return invalid_number(error, "bdev_retry_count", options->retry_count, "-1 or more");
    if (options->io_queue_entries < 2 || options->io_queue_entries > 4096)
        return invalid_number(error, "io_queue_requests", options->io_queue_entries, "2 to 4096");
    if (options->connect_timeout_ms == 0 || options->connect_timeout_ms > TIME_MAX_MS)
        return invalid_number(error, "tcp_connect_timeout_ms", options->connect_timeout_ms, "at least 1");
    if (!loss_check(&options->loss, error))
        return false;
    initiator->options = *options;
    return true;
}

bool nvme_initiator_create(struct block_graph *graph, struct reactor *control_reactor, struct nvme_initiator **ret_initiator,
                           struct error *error) {
    struct nvme_initiator *initiator = calloc(1, sizeof(*initiator));
    if (initiator == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory for the NVMe/TCP initiator");
    initiator->graph = graph;
    initiator->control = control_reactor;
    list_init(&initiator->controllers);
    hash_map_init(&initiator->controller_names);
    nvme_initiator_options_default(&initiator->options);
    uint8_t bytes[16];
    struct uuid uuid;
    char text[UUID_TEXT_SIZE];
    host_random(graph->host, bytes, sizeof(bytes));
    uuid_from_random(bytes, &uuid);
    uuid_format(&uuid, text);
    snprintf(initiator->hostnqn, sizeof(initiator->hostnqn), "nqn.2014-08.org.nvmexpress:uuid:%s", text);
    *ret_initiator = initiator;
    return true;
}

void nvme_initiator_destroy(struct nvme_initiator *initiator) {
    assert(initiator->controller_count == 0);
    hash_map_fini(&initiator->controller_names);
    free(initiator);
}

/* ---- attach ---- */

static struct nvme_initiator_controller *find(struct nvme_initiator *initiator, const char *name) {
    for (struct hash_node *n = hash_map_first(&initiator->controller_names, hash_text(name)); n != NULL; n = hash_map_next(n)) {
        struct nvme_initiator_controller *c = container_of(n, struct nvme_initiator_controller, by_name);
        if (strcmp(c->name, name) == 0)
            return c;
    }
    return NULL;
}

static bool same_path(const struct nvme_initiator_controller *c, const struct nvme_initiator_attach *attach, uint16_t port,
                      const char *hostnqn) {
    return c->address.family == attach->address.family && c->address.port == port &&
           strcmp(c->address.text, attach->address.text) == 0 && strcmp(c->subnqn, attach->subnqn) == 0 &&
           strcmp(c->hostnqn, hostnqn) == 0;
}

static bool nqn_check(const char *nqn, const char *field, struct error *error) {
    size_t length = strnlen(nqn, NVME_INITIATOR_NQN_MAX + 1);
    if (length == 0 || length > NVME_INITIATOR_NQN_MAX)
        return error_invalid(error, field, nqn, "1 to %d characters", NVME_INITIATOR_NQN_MAX);
    return true;
}

static bool attach_check(struct nvme_initiator *initiator, const struct nvme_initiator_attach *attach, const char *hostnqn,
                         uint16_t port, struct error *error) {
    if (!text_is_name(attach->name, NVME_INITIATOR_NAME_MAX))
        return error_invalid(error, "name", attach->name, "1 to %d printable characters without blanks or '/'",
                             NVME_INITIATOR_NAME_MAX);
    if (!nqn_check(attach->subnqn, "subnqn", error) || !nqn_check(hostnqn, "hostnqn", error))
        return false;
    if (attach->address.family != HOST_IPV4 && attach->address.family != HOST_IPV6)
        return error_invalid(error, "adrfam", "other", "IPv4 or IPv6");
    if (attach->devices_max > NVME_INITIATOR_DEVICES_MAX)
        return invalid_number(error, "max_bdevs", attach->devices_max, "at most 1024");
    if (attach->loss_set && !loss_check(&attach->loss, error))
        return false;
    struct nvme_initiator_controller *c = find(initiator, attach->name);
    if (c != NULL) {
        if (strcmp(c->subnqn, attach->subnqn) != 0)
            return error_invalid(error, "subnqn", attach->subnqn, "%s, as the controller %s has it", c->subnqn, c->name);
        if (strcmp(c->hostnqn, hostnqn) != 0)
            return error_invalid(error, "hostnqn", hostnqn, "%s, as the controller %s has it", c->hostnqn, c->name);
        bool same = same_path(c, attach, port, hostnqn);
        return error_set(error, ERROR_ALREADY, "A controller named %s already exists %s", attach->name,
                         same ? "with the specified network path" : "and multipath is disabled");
    }
    list_for_each (&initiator->controllers, struct nvme_initiator_controller, other, node)
        if (same_path(other, attach, port, hostnqn))
            return error_set(error, ERROR_EXISTS, "this path is attached already, as %s", other->name);
    if (initiator->controller_count >= NVME_INITIATOR_CONTROLLERS_MAX)
        return error_set(error, ERROR_NO_MEMORY, "there are %d controllers already, the most there may be",
                         NVME_INITIATOR_CONTROLLERS_MAX);
    return true;
}

/* A host is known by NQN and id: the same NQN gives the same id, also after a restart. */
static void host_id_derive(const char *hostnqn, struct uuid *ret) {
    const char *uuid = strstr(hostnqn, ":uuid:");
    if (uuid != NULL && uuid_parse(uuid + strlen(":uuid:"), ret))
        return;
    uint8_t bytes[16];
    size_t length = strlen(hostnqn);
    put_le64(bytes, hash_bytes(hostnqn, length, UINT64_C(0x70656e73746f636b)));
    put_le64(bytes + 8, hash_bytes(hostnqn, length, UINT64_C(0x6e766d652f746370)));
    uuid_from_random(bytes, ret);
}

static void release(struct nvme_initiator_controller *c) {
    free(c->found);
    free(c->found_ids);
    free(c->page);
    free(c->queues);
    free(c->admin.staging);
    free(c);
}

static bool attach_start(struct nvme_initiator *initiator, struct nvme_initiator_attach *attach) {
    const char *hostnqn = attach->hostnqn != NULL && attach->hostnqn[0] != '\0' ? attach->hostnqn : initiator->hostnqn;
    uint16_t port = attach->address.port != 0 ? attach->address.port : PORT_DEFAULT;
    if (!attach_check(initiator, attach, hostnqn, port, &attach->error))
        return false;
    struct nvme_initiator_controller *c = calloc(1, sizeof(*c));
    if (c == NULL)
        return error_set(&attach->error, ERROR_NO_MEMORY, "no memory for %s", attach->name);
    c->initiator = initiator;
    c->attach = attach;
    snprintf(c->name, sizeof(c->name), "%s", attach->name);
    snprintf(c->subnqn, sizeof(c->subnqn), "%s", attach->subnqn);
    snprintf(c->hostnqn, sizeof(c->hostnqn), "%s", hostnqn);
    host_id_derive(c->hostnqn, &c->host_id);
    host_random(initiator->control->host, c->line.bytes, sizeof(c->line.bytes));
    c->address = attach->address;
    c->address.port = port;
    c->from = attach->from;
    c->tcp_options = (struct nvme_tcp_host_options){
        .header_digest = attach->header_digest, .data_digest = attach->data_digest, .success_flag = true};
    c->sq_flow_control = attach->sq_flow_control;
    c->options = initiator->options;
    if (attach->loss_set)
        c->options.loss = attach->loss;
    c->io_queues_max = attach->io_queues;
    c->devices_max = attach->devices_max != 0 ? attach->devices_max : NVME_INITIATOR_DEVICES_DEFAULT;
    c->connect_timeout_ns = attach->connect_timeout_us != 0
                                ? min_u64(attach->connect_timeout_us, TIME_MAX_MS * 1000ull) * NS_PER_US
                                : c->options.connect_timeout_ms * NS_PER_MS;
    c->queue_slots = initiator->graph->reactor_count;
    list_init(&c->namespaces);
    c->found = calloc(c->devices_max, sizeof(*c->found));
    c->found_ids = calloc(c->devices_max, sizeof(*c->found_ids));
    c->queues = calloc(c->queue_slots, sizeof(*c->queues));
    bool ok = c->found != NULL && c->found_ids != NULL && c->queues != NULL &&
              hash_map_insert(&initiator->controller_names, &c->by_name, hash_text(c->name));
    if (ok && !initiator_controller_start(c)) {
        hash_map_remove(&initiator->controller_names, &c->by_name);
        ok = false;
    }
    if (!ok) {
        release(c);
        return error_set(&attach->error, ERROR_NO_MEMORY, "no memory for %s", attach->name);
    }
    list_push_back(&initiator->controllers, &c->node);
    initiator->controller_count++;
    return true;
}

/* What failed at once is answered from the loop too. */
static void attach_refused(struct reactor_job *job) {
    struct nvme_initiator_attach *attach = container_of(job, struct nvme_initiator_attach, job);
    attach->done(attach);
}

void nvme_initiator_attach(struct nvme_initiator *initiator, struct nvme_initiator_attach *attach) {
    attach->ok = false;
    attach->controller = NULL;
    error_clear(&attach->error);
    if (attach_start(initiator, attach))
        return;
    attach->job.run = attach_refused;
    reactor_defer(initiator->control, &attach->job);
}

void initiator_controller_free(struct nvme_initiator_controller *c) {
    struct nvme_initiator_attach *attach = c->attach;
    void (*done)(void *) = c->detach_done;
    void *arg = c->detach_arg;
    if (attach != NULL)
        attach->error = c->error;
    if (attach != NULL && attach->error.code == ERROR_NONE)
        error_set(&attach->error, ERROR_CANCELLED, "%s was detached before it was attached", c->name);
    list_remove(&c->node);
    hash_map_remove(&c->initiator->controller_names, &c->by_name);
    c->initiator->controller_count--;
    initiator_connection_fini(&c->admin);
    release(c);
    if (attach != NULL)
        attach->done(attach);
    if (done != NULL)
        done(arg);
}

/* ---- detach and reset ---- */

static bool differs(const char *wanted, const char *is) { return wanted != NULL && wanted[0] != '\0' && strcmp(wanted, is) != 0; }

bool nvme_initiator_detach(struct nvme_initiator *initiator, const char *name, const struct nvme_initiator_path *path,
                           void (*done)(void *arg), void *arg, struct error *error) {
    struct nvme_initiator_controller *c = find(initiator, name);
    if (c == NULL)
        return error_set(error, ERROR_NO_DEVICE, "no controller is called %s", name);
    if (path != NULL && (differs(path->address, c->address.text) || differs(path->subnqn, c->subnqn) ||
                         differs(path->from, c->from.text) || (path->port != 0 && path->port != c->address.port)))
        return error_set(error, ERROR_NOT_FOUND, "%s has no such path", name);
    if (c->detach_wanted)
        return error_set(error, ERROR_BUSY, "%s is being detached", name);
    c->detach_wanted = true;
    c->detach_done = done;
    c->detach_arg = arg;
    task_wake(&c->task);
    return true;
}

bool nvme_initiator_reset(struct nvme_initiator *initiator, const char *name, void (*done)(bool ok, void *arg), void *arg,
                          struct error *error) {
    struct nvme_initiator_controller *c = find(initiator, name);
    if (c == NULL || c->attach != NULL)
        return error_set(error, ERROR_NO_DEVICE, "no controller is called %s", name);
    if (c->detach_wanted || c->reset_wanted || c->reset_under_way)
        return error_set(error, ERROR_BUSY, "%s is being %s", name, c->detach_wanted ? "detached" : "reset");
    c->reset_wanted = true;
    c->reset_done = done;
    c->reset_arg = arg;
    task_wake(&c->task);
    return true;
}

/* ---- looking ---- */

const char *nvme_initiator_state_name(enum nvme_initiator_state state) {
    static const char *const names[] = {[NVME_INITIATOR_ENABLED] = "enabled",
                                        [NVME_INITIATOR_RESETTING] = "resetting",
                                        [NVME_INITIATOR_RECONNECT_IS_DELAYED] = "reconnect_is_delayed",
                                        [NVME_INITIATOR_FAILED] = "failed",
                                        [NVME_INITIATOR_DELETING] = "deleting"};
    assert((unsigned)state < array_count(names));
    return names[state];
}

struct nvme_initiator_controller *nvme_initiator_find(struct nvme_initiator *initiator, const char *name) {
    struct nvme_initiator_controller *c = find(initiator, name);
    return c == NULL || c->attach != NULL ? NULL : c;
}

struct nvme_initiator_controller *nvme_initiator_next(struct nvme_initiator *initiator, struct nvme_initiator_controller *after) {
    struct list_node *end = &initiator->controllers.head, *node = after == NULL ? end->next : after->node.next;
    while (node != end && list_entry(node, struct nvme_initiator_controller, node)->attach != NULL)
        node = node->next;
    return node == end ? NULL : list_entry(node, struct nvme_initiator_controller, node);
}

void nvme_initiator_controller_info(const struct nvme_initiator_controller *c, struct nvme_initiator_controller_info *ret) {
    const struct initiator_controller_facts *facts = &c->association.facts;
    *ret = (struct nvme_initiator_controller_info){.name = c->name,
                                                   .state = initiator_controller_state(c),
                                                   .address = c->address,
                                                   .from = c->from,
                                                   .subnqn = c->subnqn,
                                                   .hostnqn = c->hostnqn,
                                                   .cntlid = c->association.cntlid,
                                                   .reconnects = c->reconnects,
                                                   .last_loss = c->error.text,
                                                   .vendor_id = facts->vendor_id,
                                                   .oacs = facts->oacs,
                                                   .version = facts->version,
                                                   .cmic = facts->cmic,
                                                   .header_digest = c->admin_ready && c->admin.tcp.rx.header_digest,
                                                   .data_digest = c->admin_ready && c->admin.tcp.rx.data_digest,
                                                   .header_digest_wanted = c->tcp_options.header_digest,
                                                   .data_digest_wanted = c->tcp_options.data_digest,
                                                   .loss = c->options.loss,
                                                   .io_queues_max = c->io_queues_max};
    memcpy(ret->serial, facts->serial, sizeof(ret->serial));
    memcpy(ret->model, facts->model, sizeof(ret->model));
    memcpy(ret->firmware, facts->firmware, sizeof(ret->firmware));
    list_for_each (&c->namespaces, struct initiator_namespace, namespace, node)
        ret->devices += !atomic_load(&namespace->gone);
    for (unsigned slot = 0; slot < c->queue_slots; slot++) {
        struct initiator_queue *queue = atomic_load(&c->queues[slot]);
        ret->io_queues += queue != NULL && atomic_load(&queue->up) && queue->qid != 0;
    }
}
