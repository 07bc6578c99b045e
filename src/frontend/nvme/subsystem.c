/* The target's configuration: subsystems and transports; who may come to them, and where, is access.c. Control reactor. */
#include <stdio.h>
#include <stdlib.h>

#include "frontend/nvme/internal.h"

/* ---- what operators write ---- */

static bool text_equal_any_case(const char *a, const char *b) {
    for (; *a != '\0' && (*a | 0x20) == (*b | 0x20); a++, b++)
        ;
    return *a == '\0' && *b == '\0';
}

const char *nvme_address_family_name(enum nvme_address_family family) { return family == NVME_FAMILY_IPV6 ? "IPv6" : "IPv4"; }

static bool ipv4_check(const char *text) {
    for (int part = 0; part < 4; part++) {
        unsigned value = 0, digits = 0;
        for (; *text >= '0' && *text <= '9' && digits < 4; text++, digits++)
            value = value * 10 + (unsigned)(*text - '0');
        if (digits == 0 || digits > 3 || value > 255 || *text++ != (part < 3 ? '.' : '\0'))
            return false;
    }
    return true;
}

/* Loosely: the system's parser has the last word when it listens. */
static bool ipv6_check(const char *text) {
    size_t colons = 0, length = strlen(text), alphabet = strspn(text, "0123456789abcdefABCDEF:.%");
    for (const char *c = text; *c != '\0'; c++)
        colons += *c == ':';
    const char *scope = strchr(text, '%');
    return colons >= 2 && length < 46 + 16 && (alphabet == length || (scope != NULL && scope - text >= 2));
}

bool nvme_listen_address_parse(const char *trtype, const char *adrfam, const char *traddr, const char *trsvcid,
                               struct nvme_listen_address *ret, struct error *error) {
    struct nvme_listen_address address = {.transport = NVME_TRANSPORT_TCP, .port = 4420};
    if (!text_equal_any_case(trtype, "TCP"))
        return error_invalid(error, "trtype", trtype, "TCP");
    bool colon = strchr(traddr, ':') != NULL;
    address.family = colon ? NVME_FAMILY_IPV6 : NVME_FAMILY_IPV4;
    if (adrfam[0] != '\0') {
        bool four = text_equal_any_case(adrfam, "IPv4"), six = text_equal_any_case(adrfam, "IPv6");
        if (!four && !six)
            return error_invalid(error, "adrfam", adrfam, "IPv4 or IPv6");
        address.family = six ? NVME_FAMILY_IPV6 : NVME_FAMILY_IPV4;
    }
    bool ok = address.family == NVME_FAMILY_IPV4 ? ipv4_check(traddr) : ipv6_check(traddr);
    if (!ok || strlen(traddr) >= sizeof(address.address))
        return error_invalid(error, "traddr", traddr, "a numeric %s address", nvme_address_family_name(address.family));
    memcpy(address.address, traddr, strlen(traddr) + 1);
    if (trsvcid[0] != '\0') {
        unsigned port = 0;
        size_t digits = strspn(trsvcid, "0123456789");
        if (digits == 0 || digits > 5 || trsvcid[digits] != '\0' || (port = (unsigned)strtoul(trsvcid, NULL, 10)) > 65535)
            return error_invalid(error, "trsvcid", trsvcid, "a port from 0 to 65535");
        address.port = (uint16_t)port;
    }
    *ret = address;
    return true;
}

/* ---- the target ---- */

static struct nvme_subsystem *subsystem_new(struct nvme_target *target, const char *nqn, uint32_t max_namespaces) {
    struct nvme_subsystem *subsystem = calloc(1, sizeof(*subsystem));
    if (subsystem == NULL || (subsystem->by_id = calloc(max_namespaces + 1, sizeof(struct nvme_namespace *))) == NULL ||
        !hash_map_insert(&target->subsystem_names, &subsystem->by_name, hash_text(nqn))) {
        if (subsystem != NULL)
            free(subsystem->by_id);
        free(subsystem);
        return NULL;
    }
    subsystem->target = target;
    subsystem->max_namespaces = max_namespaces;
    memcpy(subsystem->nqn, nqn, strlen(nqn) + 1);
    subsystem->min_cntlid = subsystem->next_cntlid = 1;
    subsystem->max_cntlid = NVME_CNTLID_MAX;
    list_init(&subsystem->hosts);
    list_init(&subsystem->listeners);
    list_init(&subsystem->namespaces);
    list_init(&subsystem->controllers);
    list_init(&subsystem->queues);
    list_init(&subsystem->live);
    list_push_back(&target->subsystems, &subsystem->node);
    target->subsystem_count++;
    return subsystem;
}

static void subsystem_free(struct nvme_subsystem *subsystem) {
    list_remove(&subsystem->node);
    subsystem->target->subsystem_count--;
    for (struct list_node *node; (node = list_pop_front(&subsystem->hosts)) != NULL;)
        free(list_entry(node, struct nvme_host, node));
    free(subsystem->by_id);
    free(subsystem);
}

struct nvme_target *nvme_target_create(const struct nvme_target_options *options, struct error *error) {
    assert(options->data_count > 0);
    struct nvme_target *target = calloc(1, sizeof(*target));
    size_t size = (options->data_count + 1) * sizeof(struct nvme_reactor_counters);
    struct nvme_reactor_counters *counters = target == NULL ? NULL : aligned_alloc(64, size);
    if (counters == NULL) {
        free(target);
        error_set(error, ERROR_NO_MEMORY, "no memory for the NVMe target");
        return NULL;
    }
    memset(counters, 0, size);
    target->graph = options->graph;
    target->control = options->control;
    target->counters = counters;
    target->data_count = options->data_count;
    for (unsigned i = 0; i <= options->data_count; i++)
        counters[i].reactor = i < options->data_count ? options->data[i] : options->control;
    list_init(&target->transports);
    list_init(&target->subsystems);
    hash_map_init(&target->sockets);
    hash_map_init(&target->subsystem_names);
    target->discovery_generation = 1;
    target->discovery = subsystem_new(target, NVME_DISCOVERY_NQN, 1);
    if (target->discovery == NULL) {
        hash_map_fini(&target->subsystem_names);
        free(counters);
        free(target);
        error_set(error, ERROR_NO_MEMORY, "no memory for the NVMe target");
        return NULL;
    }
    target->discovery->discovery = target->discovery->allow_any_host = true;
    target->discovery->home = options->control;
    memcpy(target->discovery->serial, "00000000000000000000", 21);
    memcpy(target->discovery->model, "Penstock discovery", 19);
    return target;
}

static void target_finish(struct reactor_job *job) {
    struct nvme_target *target = container_of(job, struct nvme_target, finish_job);
    nvme_done done = target->done;
    void *arg = target->done_arg;
    hash_map_fini(&target->sockets);
    hash_map_fini(&target->subsystem_names);
    free(target->counters);
    free(target);
    if (done != NULL)
        done(arg);
}

void nvme_target_try_finish(struct nvme_target *target) {
    if (!target->destroying || target->subsystem_count > 0)
        return;
    if (!list_empty(&target->transports)) {
        struct nvme_transport *transport = list_entry(list_first(&target->transports), struct nvme_transport, node);
        transport->ops->stop(transport); /* once for each; nvme_transport_gone() goes on */
        return;
    }
    /* Later: the last transport is still on the stack. */
    target->finish_job.run = target_finish;
    reactor_defer(target->control, &target->finish_job);
}

void nvme_target_destroy(struct nvme_target *target, nvme_done done, void *arg) {
    target->destroying = true;
    target->done = done;
    target->done_arg = arg;
    list_for_each_safe (&target->subsystems, struct nvme_subsystem, subsystem, node)
        if (!subsystem->deleting)
            nvme_subsystem_delete(subsystem, NULL, NULL);
}

struct nvme_reactor_counters *nvme_counters_of(struct nvme_target *target, const struct reactor *reactor) {
    for (unsigned i = 0; i <= target->data_count; i++)
        if (target->counters[i].reactor == reactor)
            return &target->counters[i];
    assert(false);
    return NULL;
}

bool nvme_target_get_stats(struct nvme_target *target, unsigned index, struct nvme_reactor_stats *ret) {
    if (index > target->data_count)
        return false;
    const struct nvme_reactor_counters *counters = &target->counters[index];
    *ret = (struct nvme_reactor_stats){
        .reactor = counters->reactor->name,
        .admin_queues = counter_get(&counters->admin_queues),
        .io_queues = counter_get(&counters->io_queues),
        .current_admin_queues = counter_get(&counters->current_admin),
        .current_io_queues = counter_get(&counters->current_io),
        .current_unassociated_queues = index == target->data_count ? target->strangers : 0,
        .pending_io = counter_get(&counters->pending),
        .completed_io = counter_get(&counters->completed),
    };
    return true;
}

void nvme_discovery_changed(struct nvme_target *target) {
    target->discovery_generation++;
    list_for_each (&target->discovery->live, struct nvme_controller, controller, live_node)
        nvme_controller_discovery_event(controller);
}

/* ---- transports ---- */

bool nvme_transport_options_complete(struct nvme_transport_options *options, struct error *error) {
    char number[24];
#define CHECK(member, name, fallback, low, high)                                                                                 \
    do {                                                                                                                         \
        if (options->member == 0)                                                                                                \
            options->member = fallback;                                                                                          \
        if (options->member < (low) || options->member > (high)) {                                                               \
            snprintf(number, sizeof(number), "%u", (unsigned)options->member);                                                   \
            return error_invalid(error, name, number, "%u to %u", (unsigned)(low), (unsigned)(high));                            \
        }                                                                                                                        \
    } while (0)
    CHECK(queue_depth, "max_queue_depth", NVME_DEFAULT_QUEUE_DEPTH, NVME_MIN_QUEUE_DEPTH, NVME_LIMIT_QUEUE_DEPTH);
    CHECK(admin_queue_depth, "max_aq_depth", NVME_DEFAULT_ADMIN_DEPTH, 8, NVME_LIMIT_ADMIN_DEPTH);
    CHECK(io_queues, "max_io_qpairs_per_ctrlr", NVME_DEFAULT_IO_QUEUES, 1, NVME_LIMIT_IO_QUEUES);
    CHECK(max_io_bytes, "max_io_size", NVME_DEFAULT_MAX_IO_BYTES, NVME_MIN_MAX_IO_BYTES, NVME_LIMIT_MAX_IO_BYTES);
    CHECK(min_kato_ms, "min_kato", NVME_KATO_DEFAULT_MIN_MS, 1, 3600000);
    CHECK(connections, "connections", NVME_TCP_LIMIT_CONNECTIONS, 1, 65536);
#undef CHECK
    if (options->in_capsule_bytes == 0 && !options->in_capsule_given)
        options->in_capsule_bytes = NVME_TCP_DEFAULT_IN_CAPSULE_BYTES;
    if (options->in_capsule_bytes > NVME_TCP_LIMIT_IN_CAPSULE_BYTES || options->in_capsule_bytes % 16 != 0) {
        snprintf(number, sizeof(number), "%u", options->in_capsule_bytes);
        return error_invalid(error, "in_capsule_data_size", number, "a multiple of 16 up to %u", NVME_TCP_LIMIT_IN_CAPSULE_BYTES);
    }
    if (!is_power_of_two(options->max_io_bytes)) {
        snprintf(number, sizeof(number), "%u", options->max_io_bytes);
        return error_invalid(error, "max_io_size", number, "a power of two");
    }
    return true;
}

struct nvme_transport *nvme_target_find_transport(struct nvme_target *target, enum nvme_transport_type type) {
    list_for_each (&target->transports, struct nvme_transport, transport, node)
        if (transport->ops->type == type)
            return transport;
    return NULL;
}

struct nvme_transport *nvme_target_next_transport(struct nvme_target *target, struct nvme_transport *after) {
    struct list_node *node = after == NULL ? target->transports.head.next : after->node.next;
    return node == &target->transports.head ? NULL : list_entry(node, struct nvme_transport, node);
}

bool nvme_target_add_transport(struct nvme_target *target, struct nvme_transport *transport, struct error *error) {
    if (nvme_target_find_transport(target, transport->ops->type) != NULL)
        return error_set(error, ERROR_EXISTS, "Transport type '%s' already exists", transport->ops->name);
    transport->target = target;
    list_push_back(&target->transports, &transport->node);
    return true;
}

void nvme_transport_gone(struct nvme_transport *transport) {
    list_remove(&transport->node);
    nvme_target_try_finish(transport->target);
}

/* ---- subsystems ---- */

static bool printable(const char *text, size_t max) {
    size_t length = strlen(text);
    for (size_t i = 0; i < length; i++)
        if (text[i] < ' ' || text[i] > '~')
            return false;
    return length > 0 && length <= max;
}

bool nvme_subsystem_create(struct nvme_target *target, const struct nvme_subsystem_options *options,
                           struct nvme_subsystem **ret_subsystem, struct error *error) {
    const char *serial = options->serial != NULL ? options->serial : "00000000000000000000";
    const char *model = options->model != NULL ? options->model : "SPDK bdev Controller";
    uint32_t max_namespaces = options->max_namespaces != 0 ? options->max_namespaces : NVME_DEFAULT_NAMESPACES;
    char number[32];
    if (!nvme_nqn_check(options->nqn))
        return error_invalid(error, "nqn", options->nqn, "nqn.YYYY-MM.DOMAIN:NAME, at most %u characters", NVME_NQN_LENGTH_MAX);
    if (!printable(serial, 20))
        return error_invalid(error, "serial_number", serial, "1 to 20 printable ASCII characters");
    if (!printable(model, 40))
        return error_invalid(error, "model_number", model, "1 to 40 printable ASCII characters");
    if (max_namespaces > NVME_LIMIT_NAMESPACES) {
        snprintf(number, sizeof(number), "%u", max_namespaces);
        return error_invalid(error, "max_namespaces", number, "at most %u", NVME_LIMIT_NAMESPACES);
    }
    uint16_t low = options->min_cntlid, high = options->max_cntlid;
    if (low == 0 && high == 0) {
        low = 1;
        high = NVME_CNTLID_MAX;
    }
    if (low == 0 || low > high || high > NVME_CNTLID_MAX) {
        snprintf(number, sizeof(number), "%u-%u", low, high);
        return error_invalid(error, "min_cntlid", number, "1 to %u, in order", NVME_CNTLID_MAX);
    }
    if (nvme_target_find_subsystem(target, options->nqn) != NULL)
        return error_set(error, ERROR_EXISTS, "subsystem %s exists", options->nqn);
    if (target->subsystem_count > NVME_LIMIT_SUBSYSTEMS)
        return error_set(error, ERROR_NO_MEMORY, "the limit of %u subsystems is reached", NVME_LIMIT_SUBSYSTEMS);
    struct nvme_subsystem *subsystem = subsystem_new(target, options->nqn, max_namespaces);
    if (subsystem == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory for subsystem %s", options->nqn);
    memcpy(subsystem->serial, serial, strlen(serial) + 1);
    memcpy(subsystem->model, model, strlen(model) + 1);
    subsystem->allow_any_host = options->allow_any_host;
    subsystem->min_cntlid = subsystem->next_cntlid = low;
    subsystem->max_cntlid = high;
    subsystem->ana = options->ana;
    *ret_subsystem = subsystem;
    return true;
}

struct nvme_subsystem *nvme_target_find_subsystem(struct nvme_target *target, const char *nqn) {
    for (struct hash_node *n = hash_map_first(&target->subsystem_names, hash_text(nqn)); n != NULL; n = hash_map_next(n)) {
        struct nvme_subsystem *subsystem = container_of(n, struct nvme_subsystem, by_name);
        if (strcmp(subsystem->nqn, nqn) == 0)
            return subsystem;
    }
    return NULL;
}

struct nvme_subsystem *nvme_target_next_subsystem(struct nvme_target *target, struct nvme_subsystem *after) {
    struct list_node *node = after == NULL ? target->subsystems.head.next : after->node.next;
    for (; node != &target->subsystems.head; node = node->next) {
        struct nvme_subsystem *subsystem = list_entry(node, struct nvme_subsystem, node);
        if (!subsystem->deleting)
            return subsystem;
    }
    return NULL;
}

bool nvme_subsystem_settle_home(struct nvme_subsystem *subsystem, struct reactor *preferred) {
    struct nvme_target *target = subsystem->target;
    if (subsystem->home != NULL)
        return true;
    if (preferred == NULL) {
        struct nvme_reactor_counters *least = &target->counters[0];
        for (unsigned i = 1; i < target->data_count; i++)
            if (target->counters[i].load < least->load)
                least = &target->counters[i];
        preferred = least->reactor;
    }
    subsystem->home = preferred;
    return true;
}

/* ---- deletion: connections first, then namespaces, then memory ---- */

static void on_stopped(struct reactor_message *message) {
    struct nvme_subsystem *subsystem = container_of(message, struct nvme_subsystem, stop_message);
    subsystem->stopped = true;
    nvme_subsystem_try_finish(subsystem);
}

static void on_stop(struct reactor_message *message) {
    struct nvme_subsystem *subsystem = container_of(message, struct nvme_subsystem, stop_message);
    list_for_each_safe (&subsystem->live, struct nvme_controller, controller, live_node)
        nvme_controller_lose(controller);
    subsystem->stop_message.run = on_stopped;
    reactor_post(subsystem->target->control, &subsystem->stop_message);
}

void nvme_subsystem_delete(struct nvme_subsystem *subsystem, nvme_done done, void *arg) {
    assert(!subsystem->deleting && (!subsystem->discovery || subsystem->target->destroying));
    subsystem->deleting = true;
    hash_map_remove(&subsystem->target->subsystem_names, &subsystem->by_name);
    subsystem->done = done;
    subsystem->done_arg = arg;
    while (!list_empty(&subsystem->listeners))
        nvme_listener_drop(list_entry(list_first(&subsystem->listeners), struct nvme_listener, node));
    if (!subsystem->discovery)
        nvme_discovery_changed(subsystem->target);
    if (subsystem->home != NULL) {
        subsystem->stop_message.run = on_stop;
        reactor_post(subsystem->home, &subsystem->stop_message);
        return;
    }
    subsystem->stopped = true; /* nobody was ever connected */
    nvme_subsystem_try_finish(subsystem);
}

void nvme_subsystem_try_finish(struct nvme_subsystem *subsystem) {
    if (!subsystem->stopped || subsystem->path_changes > 0 || !list_empty(&subsystem->controllers) ||
        !list_empty(&subsystem->queues))
        return;
    bool left = false;
    list_for_each_safe (&subsystem->namespaces, struct nvme_namespace, ns, node) {
        left = true;
        if (!ns->removing)
            nvme_namespace_remove(ns);
    }
    if (left)
        return;
    struct nvme_target *target = subsystem->target;
    nvme_done done = subsystem->done;
    void *arg = subsystem->done_arg;
    subsystem_free(subsystem);
    if (done != NULL)
        done(arg);
    nvme_target_try_finish(target);
}

/* ---- what can be seen ---- */

struct nvme_controller *nvme_subsystem_next_controller(struct nvme_subsystem *subsystem, struct nvme_controller *after) {
    struct list_node *node = after == NULL ? subsystem->controllers.head.next : after->node.next;
    return node == &subsystem->controllers.head ? NULL : list_entry(node, struct nvme_controller, node);
}

void nvme_controller_get_facts(const struct nvme_controller *controller, struct nvme_controller_facts *ret) {
    *ret = (struct nvme_controller_facts){
        .cntlid = controller->cntlid,
        .discovery = controller->subsystem->discovery,
        .hostnqn = controller->hostnqn,
        .hostid = controller->hostid,
        .io_queues = atomic_load_explicit(&controller->io_queue_count, memory_order_relaxed),
        .kato_ms = atomic_load_explicit(&controller->kato_ms, memory_order_relaxed),
    };
}

struct nvme_queue *nvme_subsystem_next_queue(struct nvme_subsystem *subsystem, struct nvme_queue *after) {
    struct list_node *node = after == NULL ? subsystem->queues.head.next : after->node.next;
    return node == &subsystem->queues.head ? NULL : list_entry(node, struct nvme_queue, node);
}

void nvme_queue_get_facts(const struct nvme_queue *queue, struct nvme_queue_facts *ret) {
    *ret = (struct nvme_queue_facts){
        .cntlid = queue->cntlid,
        .qid = queue->qid,
        .reactor = queue->reactor->name,
        .hostnqn = queue->controller->hostnqn,
        .listen_address = &queue->listen_address,
        .peer_address = &queue->peer_address,
    };
}
