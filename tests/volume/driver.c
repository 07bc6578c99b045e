/* The driver: its loop, its life, the preparation of what it works on. */
#include "driver_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

const char *action_name(enum action action) {
    static const char *const names[ACTION_COUNT] = {
        [ACTION_WRITE] = "write",
        [ACTION_SUBWRITE] = "subwrite",
        [ACTION_BIGWRITE] = "bigwrite",
        [ACTION_READ] = "read",
        [ACTION_ZERO] = "zero",
        [ACTION_TRIM] = "trim",
        [ACTION_FLUSH] = "flush",
        [ACTION_IDLE] = "idle",
        [ACTION_SNAPSHOT] = "snapshot",
        [ACTION_CLONE] = "clone",
        [ACTION_REVERT] = "revert",
        [ACTION_DELETE_SNAPSHOT] = "delete-snapshot",
        [ACTION_DELETE_VOLUME] = "delete-volume",
        [ACTION_CREATE] = "create",
        [ACTION_RESIZE] = "resize",
        [ACTION_RENAME] = "rename",
        [ACTION_ATTRIBUTE] = "attribute",
        [ACTION_INFLATE] = "inflate",
        [ACTION_DECOUPLE] = "decouple",
        [ACTION_GROW] = "grow",
    };
    return names[action];
}

void driver_fail(struct driver *driver, const char *format, ...) {
    if (driver->failure[0] != '\0')
        return; /* the first one counts */
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(driver->failure, sizeof(driver->failure), format, arguments);
    va_end(arguments);
}

/* ---- the loop ---- */

static void timer_run(struct reactor_timer *timer) { container_of(timer, struct driver, timer)->idle = false; }

static enum action choose(struct driver *driver) {
    unsigned total = 0;
    for (unsigned i = 0; i < ACTION_COUNT; i++)
        total += driver->workload->weights[i];
    uint64_t at = driver_draw(driver, total);
    enum action action = 0;
    while (at >= driver->workload->weights[action])
        at -= driver->workload->weights[action++];
    return action;
}

static bool begin_one(struct driver *driver) {
    enum action action = choose(driver);
    if (action == ACTION_IDLE) {
        driver->idle = true;
        driver->timer.run = timer_run;
        reactor_timer_start(driver->session->world.reactor, &driver->timer,
                            driver->session->world.now_ns + NS_PER_MS * (1 + driver_draw(driver, 2000)));
        return true;
    }
    if (action >= ACTION_COMMANDS) {
        for (unsigned i = 0; i < driver->workload->controls; i++)
            if (driver->controls[i].state == CONTROL_IDLE)
                return driver_control_begin(driver, &driver->controls[i], action);
        return false;
    }
    for (unsigned i = 0; i < driver->workload->depth; i++)
        if (!driver->slots[i].busy)
            return driver_request_begin(driver, &driver->slots[i], action);
    return false;
}

static void drain(struct driver *driver) {
    for (unsigned i = 0; i < DRIVER_CONTROLS; i++)
        if (driver->controls[i].state == CONTROL_DRAINING)
            driver_control_drain(&driver->controls[i]);
}

/* Begins what can be begun; true at the end. */
static bool pump(void *arg) {
    struct driver *driver = arg;
    drain(driver);
    if (driver->failure[0] != '\0')
        return true;
    for (unsigned tries = 0; tries < 8 && driver->left > 0 && !driver->idle; tries++)
        if (begin_one(driver))
            driver->left--;
    while (driver->busy == 0 && driver->left > 0 && !driver->idle) { /* what was drawn could not be done */
        begin_one(driver);
        driver->left--;
    }
    drain(driver);
    return driver->left == 0 && driver->busy == 0 && !driver->idle;
}

bool driver_init(struct driver *driver, const struct workload *workload, struct session *session, struct model *model,
                 uint64_t seed, unsigned operations) {
    memset(driver, 0, sizeof(*driver));
    driver->workload = workload;
    driver->session = session;
    driver->model = model;
    driver->left = operations;
    random_init(&driver->random, seed);
    if (model->capacity == NULL) {
        struct volume_store_info info;
        volume_store_info(session->store, &info);
        model_fact(model, &model->capacity, 0, info.total_bytes);
        model_fact_done(model, &model->capacity, 0, true);
    }
    for (unsigned i = 0; i < workload->depth; i++) {
        driver->slots[i].driver = driver;
        driver->slots[i].buffer = plain_alloc(DRIVER_BUFFER);
    }
    for (unsigned i = 0; i < DRIVER_CONTROLS; i++) {
        driver->controls[i].driver = driver;
        driver->controls[i].buffer = plain_alloc(DRIVER_BUFFER);
    }
    for (uint32_t i = 0; i < model->node_count; i++) { /* no name or UUID of an earlier life again */
        const struct model_node *node = &model->nodes[i];
        uint64_t highest = max_u64(node->name->value, get_be32(node->uuid.bytes + 12));
        driver->next_number = max_u64(driver->next_number, max_u64(1000, highest));
    }
    for (uint32_t i = 0; i < model->node_count; i++) {
        const struct model_node *node = &model->nodes[i];
        driver->targets[i] = (struct target){.snapshot = node->snapshot,
                                             .bytes = node->size->value,
                                             .filler = node->uuid.bytes[0] == SESSION_UUID_FILLER,
                                             .parent = NO_NODE};
        if (!driver_target_open(driver, i))
            return false;
    }
    return true;
}

bool driver_run(struct driver *driver) {
    if (!world_run_until(&driver->session->world, pump, driver, TURNS_MAX)) {
        unsigned commands = 0;
        for (unsigned i = 0; i < DRIVER_CONTROLS; i++)
            commands += driver->controls[i].state != CONTROL_IDLE;
        driver_fail(driver, "it hangs: %u under way, %u of them commands, %u to begin", driver->busy, commands, driver->left);
    }
    return driver->failure[0] == '\0';
}

void driver_close(struct driver *driver) {
    for (uint32_t i = 0; i < MODEL_NODES_MAX; i++) {
        port_close(&driver->targets[i].port);
        driver->targets[i].open = false;
    }
}

void driver_free(struct driver *driver) {
    for (unsigned i = 0; i < DRIVER_DEPTH_MAX; i++) {
        plain_free(driver->slots[i].completed);
        plain_free(driver->slots[i].buffer);
    }
    for (unsigned i = 0; i < DRIVER_CONTROLS; i++) {
        if (driver->controls[i].state == CONTROL_LEARNING)
            plain_free(driver->controls[i].content);
        plain_free(driver->controls[i].buffer);
    }
    plain_free(driver);
}

bool driver_prepare(const struct workload *workload, struct session *session, struct model *model) {
    for (unsigned i = 0; i < workload->volumes; i++) {
        char name[MODEL_NAME_SIZE];
        session_name(i + 1, name);
        struct volume_command create = {.name = name, .size_bytes = workload->clusters * KIB(64)};
        session_uuid(i + 1, &create.new_uuid);
        uint32_t node = model_create(model, 0, &create.new_uuid, false, create.size_bytes, i + 1, NULL, 0);
        if (!session_command(session, volume_create, &create))
            return false;
        model_created(model, node, 0, true);
    }
    struct volume_store_info info;
    volume_store_info(session->store, &info);
    model->overhead = workload->store.disk_bytes - info.total_bytes;
    for (unsigned i = 1; i <= workload->warm; i++) {
        char value[MODEL_NAME_SIZE];
        session_name(i, value);
        struct volume_command set = {.name = "key", .value = value};
        session_uuid(1, &set.volume);
        if (!session_command(session, volume_attribute_set, &set))
            return false;
        model->nodes[0].attribute->value = i;
    }
    if (workload->filler_free == 0)
        return true;
    volume_store_info(session->store, &info);
    struct volume_command create = {.name = "v999", .thick = true};
    create.size_bytes = info.free_bytes - (workload->filler_free + 4) * (uint64_t)info.cluster_bytes;
    session_uuid(999, &create.new_uuid);
    create.new_uuid.bytes[0] = SESSION_UUID_FILLER;
    uint32_t node = model_create(model, 0, &create.new_uuid, false, create.size_bytes, 999, NULL, 0);
    if (!session_command(session, volume_create, &create))
        return false;
    model_created(model, node, 0, true);
    return true;
}
