/* Get Log Page (Base 5.16), the discovery log among them. */
#include <stdio.h>

#include "frontend/nvme/internal.h"

void nvme_window_put(struct nvme_window *window, const void *bytes, size_t size) {
    uint64_t begin = max_u64(window->at, window->offset);
    uint64_t end = min_u64(window->at + size, window->offset + window->length);
    if (begin < end)
        memcpy(window->to + (begin - window->offset), (const uint8_t *)bytes + (begin - window->at), end - begin);
    window->at += size;
}

static void supported_log(const struct nvme_controller *controller, struct nvme_window *window) {
    uint32_t page[256] = {0};
    const uint8_t io[] = {NVME_LOG_SUPPORTED,          NVME_LOG_ERROR,  NVME_LOG_SMART, NVME_LOG_FIRMWARE,
                          NVME_LOG_CHANGED_NAMESPACES, NVME_LOG_EFFECTS};
    const uint8_t discovery[] = {NVME_LOG_SUPPORTED, NVME_LOG_ERROR, NVME_LOG_DISCOVERY};
    const uint8_t *pages = controller->subsystem->discovery ? discovery : io;
    size_t count = controller->subsystem->discovery ? sizeof(discovery) : sizeof(io);
    for (size_t i = 0; i < count; i++)
        page[pages[i]] = 1;
    page[NVME_LOG_ANA] = controller->path != NULL;
    nvme_window_put(window, page, sizeof(page));
}

static void error_log(const struct nvme_controller *controller, struct nvme_window *window) {
    for (uint64_t i = 0; i < NVME_ERROR_LOG_ENTRIES; i++) { /* the newest first */
        static const struct nvme_error_entry none;
        bool there = i < controller->error_count;
        nvme_window_put(window, there ? &controller->errors[(controller->error_count - 1 - i) % NVME_ERROR_LOG_ENTRIES] : &none,
                        sizeof(none));
    }
}

static void smart_log(const struct nvme_controller *controller, struct nvme_window *window) {
    struct nvme_smart_log log = {
        .temperature_kelvin = 273 + 25,
        .spare_percent = 100,
        .spare_threshold_percent = 10,
        .data_units_read = {divide_up(controller->read_bytes, 512000)},
        .data_units_written = {divide_up(controller->written_bytes, 512000)},
        .host_reads = {controller->reads},
        .host_writes = {controller->writes},
        .power_cycles = {1},
        .power_on_hours = {(reactor_now_ns(controller->subsystem->home) - controller->created_ns) / (3600 * NS_PER_S)},
        .error_entries = {controller->error_count},
    };
    nvme_window_put(window, &log, sizeof(log));
}

static void firmware_log(struct nvme_window *window) {
    struct nvme_firmware_log log = {.active = 1};
    memcpy(log.revision[0], "0.1.0   ", 8);
    nvme_window_put(window, &log, sizeof(log));
}

static void changed_namespaces_log(struct nvme_controller *controller, struct nvme_window *window) {
    uint32_t page[NVME_CHANGED_NAMESPACES_MAX] = {0}, count = 0;
    for (uint32_t nsid = 1; nsid <= controller->subsystem->max_namespaces; nsid++) {
        if (!(controller->changed[nsid / 64] >> (nsid % 64) & 1))
            continue;
        if (count == NVME_CHANGED_NAMESPACES_MAX) {
            memset(page, 0, sizeof(page));
            page[0] = NVME_NSID_ALL;
            break;
        }
        page[count++] = nsid;
    }
    nvme_window_put(window, page, sizeof(page));
    memset(controller->changed, 0, sizeof(controller->changed));
}

static void effects_log(struct nvme_window *window) {
    struct nvme_effects_log log = {0};
    const uint8_t admin[] = {NVME_ADMIN_GET_LOG_PAGE, NVME_ADMIN_IDENTIFY,    NVME_ADMIN_ABORT,     NVME_ADMIN_SET_FEATURES,
                             NVME_ADMIN_GET_FEATURES, NVME_ADMIN_ASYNC_EVENT, NVME_ADMIN_KEEP_ALIVE};
    const uint8_t io[] = {NVME_IO_FLUSH, NVME_IO_READ, NVME_IO_COMPARE, NVME_IO_REPLICA_GET};
    const uint8_t io_content[] = {NVME_IO_WRITE, NVME_IO_WRITE_ZEROES, NVME_IO_DATASET_MANAGEMENT, NVME_IO_REPLICA_PUT};
    for (size_t i = 0; i < sizeof(admin); i++)
        log.admin[admin[i]] = NVME_EFFECT_SUPPORTED;
    for (size_t i = 0; i < sizeof(io); i++)
        log.io[io[i]] = NVME_EFFECT_SUPPORTED;
    for (size_t i = 0; i < sizeof(io_content); i++)
        log.io[io_content[i]] = NVME_EFFECT_SUPPORTED | NVME_EFFECT_CONTENT;
    nvme_window_put(window, &log, sizeof(log));
}

/* A listener on any address is where the asking host reached us. */
static bool any_address(const struct nvme_listen_address *address) {
    return strcmp(address->address, address->family == NVME_FAMILY_IPV4 ? "0.0.0.0" : "::") == 0;
}

static void discovery_entry_put(struct nvme_window *window, const struct nvme_subsystem *subsystem,
                                const struct nvme_listener *listener, const struct nvme_queue *queue) {
    const struct nvme_listen_address *address = &listener->address;
    struct nvme_discovery_entry entry = {
        .transport = (uint8_t)address->transport,
        .family = (uint8_t)address->family,
        .subsystem_type = NVME_SUBSYSTEM_NVM,
        .requirements = NVME_DISCOVERY_SECURE_NOT_REQUIRED | NVME_DISCOVERY_SQ_FLOW_DISABLE,
        .cntlid = NVME_CNTLID_DYNAMIC,
        .admin_queue_size = queue->transport->options.admin_queue_depth,
    };
    const char *reached = any_address(address) && queue->listen_address.family == address->family ? queue->listen_address.address
                                                                                                  : address->address;
    snprintf(entry.service, sizeof(entry.service), "%u", address->port);
    memset(entry.service + strlen(entry.service), 0, sizeof(entry.service) - strlen(entry.service));
    memcpy(entry.subnqn, subsystem->nqn, strlen(subsystem->nqn));
    memcpy(entry.address, reached, strlen(reached));
    nvme_window_put(window, &entry, sizeof(entry));
}

/* One entry for each listener of each subsystem that this host may connect to. On the control reactor, which owns them. */
static void discovery_log(const struct nvme_controller *controller, const struct nvme_queue *queue, struct nvme_window *window) {
    struct nvme_target *target = controller->target;
    struct nvme_discovery_header header = {.generation = target->discovery_generation};
    for (int pass = 0; pass < 2; pass++) {
        if (pass == 1)
            nvme_window_put(window, &header, sizeof(header));
        list_for_each (&target->subsystems, struct nvme_subsystem, subsystem, node) {
            if (subsystem->discovery || subsystem->deleting || !nvme_host_allowed(subsystem, controller->hostnqn))
                continue;
            if (pass == 0)
                header.record_count += subsystem->listener_count;
            else
                list_for_each (&subsystem->listeners, struct nvme_listener, listener, node)
                    discovery_entry_put(window, subsystem, listener, queue);
        }
    }
}

/* The host knows now: the event may be told again. What happened since it was told is in the page, if all of that was read. */
static void event_taken(struct nvme_controller *controller, uint8_t page, bool whole) {
    switch (page) {
    case NVME_LOG_CHANGED_NAMESPACES:
        controller->namespace_masked = false;
        controller->namespace_event &= !whole;
        break;
    case NVME_LOG_ANA:
        controller->ana_masked = false;
        controller->ana_event &= !whole;
        break;
    case NVME_LOG_DISCOVERY:
        controller->discovery_masked = false;
        controller->discovery_event &= !whole;
        break;
    default: return;
    }
    nvme_controller_events_tell(controller);
}

unsigned nvme_log_page(struct nvme_controller *controller, struct nvme_command *command) {
    const struct nvme_sqe *sqe = &command->sqe;
    bool discovery = controller->subsystem->discovery;
    uint64_t count = ((uint64_t)(sqe->cdw11 & 0xffff) << 16 | sqe->cdw10 >> 16) + 1;
    struct nvme_window window = {
        .to = command->data, .length = command->length, .offset = sqe->cdw12 | (uint64_t)sqe->cdw13 << 32};
    uint8_t page = sqe->cdw10 & 0xff;
    if (count * 4 != command->length)
        return NVME_SGL_INVALID_LENGTH | NVME_DO_NOT_RETRY;
    if (window.offset % 4 != 0 || window.offset > UINT64_MAX - window.length)
        return NVME_INVALID_FIELD | NVME_DO_NOT_RETRY;
    memset(command->data, 0, command->length);
    bool known = true;
    switch (page) {
    case NVME_LOG_SUPPORTED: supported_log(controller, &window); break;
    case NVME_LOG_ERROR: error_log(controller, &window); break;
    case NVME_LOG_DISCOVERY:
        if ((known = discovery))
            discovery_log(controller, command->queue, &window);
        break;
    default:
        if (!(known = !discovery))
            break;
        switch (page) {
        case NVME_LOG_SMART: smart_log(controller, &window); break;
        case NVME_LOG_FIRMWARE: firmware_log(&window); break;
        case NVME_LOG_CHANGED_NAMESPACES: changed_namespaces_log(controller, &window); break;
        case NVME_LOG_EFFECTS: effects_log(&window); break;
        case NVME_LOG_ANA:
            if ((known = controller->path != NULL))
                nvme_ana_log(controller, sqe->cdw10 & NVME_LOG_ANA_GROUPS_ONLY, &window);
            break;
        default: known = false;
        }
    }
    if (!known)
        return NVME_INVALID_LOG_PAGE | NVME_DO_NOT_RETRY;
    if (window.offset > window.at)
        return NVME_INVALID_FIELD | NVME_DO_NOT_RETRY;
    if (!(sqe->cdw10 & NVME_LOG_RETAIN_EVENT))
        event_taken(controller, page, window.offset == 0 && window.at <= window.length);
    return NVME_SUCCESS;
}
