#include "fleet.h"

#include <stdio.h>
#include <stdlib.h>

#include "blockdev/mirror/mirror_internal.h"
#include "blockdev/volume/replica.h"

#define DISK_BYTES MIB(24)
#define PATIENCE_NS (60 * NS_PER_MS) /* for a leg that cannot be attached at an engine's start */

void fleet_log(struct fleet *fleet, const char *format, ...) {
    if (!fleet->trace)
        return;
    char text[300];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    printf("%12.3f ms  %s\n", (double)sim_now_ns(fleet->cluster.sim) / 1e6, text);
}

void fleet_fail(struct fleet *fleet, const char *format, ...) {
    char text[300];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    fleet_tell(fleet);
    fail_msg("seed %llu: %s", (unsigned long long)fleet->options.seed, text);
    abort();
}

/* ---- what the legs are known to have ---- */

static struct fleet_node *node_of_store(struct fleet *fleet, const struct volume_store *store) {
    for (unsigned i = 0; i < fleet->node_count; i++)
        if (fleet->nodes[i].store == store)
            return &fleet->nodes[i];
    return NULL;
}

static struct fleet_node *node_of_mirror(struct fleet *fleet, const struct mirror *mirror) {
    for (unsigned i = 0; i < fleet->node_count; i++)
        if (fleet->nodes[i].mirror == &mirror->device)
            return &fleet->nodes[i];
    return NULL;
}

static struct volume *volume_of(const struct fleet_node *node) {
    list_for_each (&node->store->volumes, struct volume, volume, node)
        if (strcmp(volume->name, "v") == 0) /* the others are its snapshots */
            return volume;
    return NULL;
}

const struct replica_record *fleet_record(const struct fleet_node *node) {
    const struct volume *volume = node->store != NULL ? volume_of(node) : NULL;
    return volume == NULL || volume->replica == NULL ? NULL : &volume->replica->record;
}

static void lose_unflushed(struct fleet *fleet, const char *why) {
    fleet_log(fleet, "what was not flushed may be gone: %s", why);
    fleet->losses++;
    ledger_loss(&fleet->ledger);
}

/* A record is durable. The newest history is what its members have. */
static void record_stored(struct fleet *fleet, const struct replica_record *record) {
    if (record->epoch.depth < fleet->newest.depth)
        return;
    bool any = fleet->whole != 0;
    fleet->newest = record->epoch;
    fleet->whole = 0;
    for (unsigned i = 0; i < fleet->node_count; i++) {
        struct fleet_node *node = &fleet->nodes[i];
        const struct volume *volume = node->store != NULL ? volume_of(node) : NULL;
        if (volume == NULL || volume->replica == NULL || volume->replica->record.state != REPLICA_WHOLE)
            continue; /* who is about to become whole is not, until it has stored that itself */
        unsigned leg = replica_record_leg(record, &volume->replica->record.leg);
        if (leg < record->leg_count && (record->legs[leg].flags & REPLICA_LEG_MEMBER) != 0 &&
            record->legs[leg].incarnation == node->store->commit.opening_id)
            fleet->whole |= 1u << i;
    }
    if (any && fleet->whole == 0) /* seed 825: whoever it names died before it stored that */
        lose_unflushed(fleet, "the leg that is to go on alone is gone already");
}

/* An epoch is complete: what it left out does not have what is acknowledged from now on. */
static void epoch_complete(struct fleet *fleet, const struct mirror *mirror) {
    unsigned members = 0, kept = 0;
    for (unsigned i = 0; i < mirror->leg_count; i++) {
        const struct fleet_node *engine = node_of_mirror(fleet, mirror);
        struct fleet_node *node = engine->legs[i].node;
        if ((mirror->members >> i & 1) == 0)
            continue;
        members |= 1u << node->index;
        kept += node->kept;
    }
    if (kept == 0 && mirror->starting && mirror->policy == REPLICA_MAJORITY && fleet->newest.depth > 1)
        lose_unflushed(fleet, "a majority begins with legs that were opened anew");
    for (unsigned i = 0; i < fleet->node_count; i++)
        fleet->nodes[i].kept = (members >> i & 1) != 0;
    fleet_log(fleet, "epoch %llu is complete, nodes %x", (unsigned long long)mirror->complete.depth, members);
}

/* Before the first byte is copied to a leg, it says of itself that it is no whole copy. */
static void copied_to(struct fleet_node *engine, const struct mirror_leg *leg) {
    const struct replica_record *record = fleet_record(engine->legs[leg->index].node);
    if (record != NULL && uuid_equal(&record->promised_engine, &leg->mirror->engine) && record->state != REPLICA_SYNCING)
        fleet_fail(engine->fleet, "%s is copied to, and its record says that it is whole", engine->legs[leg->index].node->name);
}

static struct fleet *current; /* the hooks have no argument for it */

void volume_point(struct volume *volume, enum volume_point point) {
    struct fleet *fleet = current;
    struct fleet_node *node = node_of_store(fleet, volume->store);
    if (node == NULL)
        return;
    if (point == VOLUME_POINT_STORE_DURABLE) {
        node->stored_depth = volume->replica->record.epoch.depth;
        record_stored(fleet, &volume->replica->record);
    }
    if (fleet->at_point != NULL)
        fleet->at_point(fleet, node, 0, point);
}

void mirror_point(struct mirror *mirror, struct mirror_leg *leg, unsigned point) {
    struct fleet *fleet = current;
    struct fleet_node *node = node_of_mirror(fleet, mirror);
    if (node == NULL)
        return;
    if (point == MIRROR_POINT_COMPLETE)
        epoch_complete(fleet, mirror);
    if (point == MIRROR_POINT_LEG + LEG_COPY)
        copied_to(node, leg);
    if (fleet->at_point != NULL)
        fleet->at_point(fleet, node, leg == NULL ? 0 : leg->index, VOLUME_POINTS + point);
}

/* ---- a store comes up ---- */

static void engine_begin(struct fleet_node *node);

static void fail_boot(struct fleet_node *node, const char *what, const struct error *error) {
    snprintf(node->why, sizeof(node->why), "%s: %.150s", what, error->text);
    fleet_log(node->fleet, "%s: %s", node->name, node->why);
    node->state = FLEET_FAILED;
}

static void is_up(struct fleet_node *node) {
    node->state = FLEET_UP;
    node->formatted = true;
    const struct volume *volume = volume_of(node);
    uuid_format(&volume->uuid, node->device);
    if (node->exported)
        plane_serve_now(&node->plane, node->nqn, node->device);
    fleet_log(node->fleet, "%s is up", node->name);
    const struct replica_record *record = fleet_record(node);
    if (record != NULL && record->epoch.depth > node->fleet->newest.depth)
        record_stored(node->fleet, record); /* seed 74403: it died, or its flush failed, before it could tell */
    if (node->engine)
        engine_begin(node);
}

static void store_created(struct volume_command *command) {
    struct fleet_node *node = container_of(command, struct fleet_node, command);
    if (!command->ok)
        fail_boot(node, "no volume", &command->error);
    else
        is_up(node);
}

static void store_opened(struct volume_store_open *open) {
    struct fleet_node *node = container_of(open, struct fleet_node, open);
    if (!open->ok) {
        fail_boot(node, "the store does not open", &open->error);
        return;
    }
    if (open->store->read_only)
        fleet_fail(node->fleet, "the store of %s is damaged: %s", node->name, open->store->reason);
    node->store = open->store;
    if (node->formatted) {
        is_up(node);
        return;
    }
    node->command = (struct volume_command){.store = node->store,
                                            .name = "v",
                                            .size_bytes = FLEET_BYTES,
                                            .new_uuid = {{(uint8_t)(node->index + 1)}},
                                            .done = store_created};
    volume_create(&node->command);
}

static void store_open(struct fleet_node *node) {
    node->open = (struct volume_store_open){
        .base = node->file.device, .home = node->plane.data[0], .cache_bytes = VOLUME_CACHE_MIN, .done = store_opened};
    volume_store_open(&node->open);
}

static void store_formatted(struct volume_store_format *format) {
    struct fleet_node *node = container_of(format, struct fleet_node, format);
    if (!format->ok)
        fail_boot(node, "no store", &format->error);
    else
        store_open(node);
}

static void file_opened(struct file_device_create *create) {
    struct fleet_node *node = container_of(create, struct fleet_node, file);
    if (!create->ok) {
        fail_boot(node, "the disk does not open", &create->error);
        return;
    }
    if (node->formatted) {
        store_open(node);
        return;
    }
    node->format = (struct volume_store_format){.base = create->device,
                                                .home = node->plane.data[0],
                                                .name = "s",
                                                .unit_bytes = 4096,
                                                .journal_bytes = MIB(1),
                                                .force = true,
                                                .done = store_formatted};
    volume_store_format(&node->format);
}

static void boot(struct reactor_message *message) {
    struct fleet_node *node = container_of(message, struct fleet_node, opened);
    if (node->disk == NULL) {
        node->state = FLEET_UP;
        if (node->engine)
            engine_begin(node);
        return;
    }
    node->file = (struct file_device_create){
        .options = {.name = "disk", .path = "/disk", .uuid = {.bytes = {7}}, .block_size = FLEET_BLOCK, .hold_timeout_ms = 60000},
        .done = file_opened};
    file_device_create_submit(&node->plane.graph, node->plane.control, &node->file);
}

void fleet_node_up(struct fleet_node *node) {
    struct nvme_initiator_options options;
    assert(node->state == FLEET_DOWN);
    plane_initiator_options(&options);
    options.connect_timeout_ms = 100;
    options.loss.reconnect_delay_ms = 20;
    node->again_ns = 0;
    node->boots++;
    node->kept = false;
    node->state = FLEET_COMING;
    fleet_log(node->fleet, "%s starts", node->name);
    plane_start(&node->plane, &options);
    node->opened = (struct reactor_message){.run = boot};
    reactor_post(node->plane.control, &node->opened);
}

/* ---- an engine comes up ---- */

static void channel_opened(struct reactor_message *message) {
    struct fleet_node *node = container_of(message, struct fleet_node, opened);
    node->channel = block_channel_open(&node->handle);
    assert_non_null(node->channel);
}

static void engine_create(struct fleet_node *node) {
    struct error error = {0};
    if (node->mirror != NULL)
        return;
    reactor_timer_stop(node->plane.control, &node->patience);
    reactor_timer_stop(node->plane.control, &node->attach_again);
    node->options.home = node->plane.data[0];
    node->options.term = node->term;
    node->options.standby = node->standby;
    node->options.seed = random_u64(&node->fleet->random) | 1;
    for (unsigned i = 0; i < node->leg_count; i++)
        node->options.legs[i].device = node->legs[i].device;
    if (!mirror_create(&node->plane.graph, node->plane.control, &node->options, &node->mirror, &error)) {
        node->mirror = NULL;
        reactor_timer_start(node->plane.control, &node->attach_again, reactor_now_ns(node->plane.control) + 20 * NS_PER_MS);
        return;
    }
    node->handle = (struct block_handle){.owner = "the test"};
    if (!block_handle_open(&node->handle, node->mirror, BLOCK_MODE_WRITE, &error))
        fleet_fail(node->fleet, "%s", error.text);
    node->opened = (struct reactor_message){.run = channel_opened};
    reactor_post(node->plane.data[0], &node->opened);
}

static void attached(struct nvme_initiator_attach *attach) {
    struct fleet_leg *leg = container_of(attach, struct fleet_leg, attach);
    struct fleet_node *node = NULL;
    for (unsigned i = 0; i < current->node_count && node == NULL; i++)
        if (leg >= current->nodes[i].legs && leg < current->nodes[i].legs + FLEET_NODES)
            node = &current->nodes[i];
    assert(node != NULL);
    leg->attached = attach->ok;
    leg->asked = attach->ok;
    bool all = true;
    for (unsigned i = 0; i < node->leg_count; i++)
        all = all && node->legs[i].attached;
    if (all)
        engine_create(node);
    else if (!reactor_timer_armed(&node->attach_again))
        reactor_timer_start(node->plane.control, &node->attach_again, reactor_now_ns(node->plane.control) + 10 * NS_PER_MS);
}

static void attach_all(struct fleet_node *node) {
    for (unsigned i = 0; i < node->leg_count; i++) {
        struct fleet_leg *leg = &node->legs[i];
        if (leg->asked || leg->attached)
            continue;
        leg->asked = true;
        leg->attach = (struct nvme_initiator_attach){.name = leg->name,
                                                     .address = {.family = HOST_IPV4, .port = PLANE_PORT},
                                                     .subnqn = leg->node->nqn,
                                                     .hostnqn = "nqn.2026-01.org.penstock:host-of-the-simulation",
                                                     .done = attached};
        snprintf(leg->attach.address.text, sizeof(leg->attach.address.text), "%s", leg->node->plane.address);
        nvme_initiator_attach(node->plane.initiator, &leg->attach);
    }
}

static void try_again(struct reactor_timer *timer) {
    struct fleet_node *node = container_of(timer, struct fleet_node, attach_again);
    attach_all(node);
    if (!reactor_timer_armed(&node->patience))
        engine_create(node);
}

static void patience_over(struct reactor_timer *timer) {
    struct fleet_node *node = container_of(timer, struct fleet_node, patience);
    for (unsigned i = 0; i < node->leg_count; i++)
        if (node->legs[i].attached) {
            engine_create(node);
            return;
        }
    reactor_timer_start(node->plane.control, timer, reactor_now_ns(node->plane.control) + PATIENCE_NS);
}

static void engine_begin(struct fleet_node *node) {
    struct fleet *fleet = node->fleet;
    node->mirror = NULL;
    node->channel = NULL;
    node->served = false;
    node->failed = 0;
    node->leg_count = 0;
    node->attach_again = (struct reactor_timer){.run = try_again};
    node->patience = (struct reactor_timer){.run = patience_over};
    for (unsigned i = 0; i < fleet->node_count; i++) {
        struct fleet_node *other = &fleet->nodes[i];
        if (other->disk == NULL || (other != node && !other->exported))
            continue;
        struct fleet_leg *leg = &node->legs[node->leg_count++];
        *leg = (struct fleet_leg){.node = other, .attached = other == node};
        snprintf(leg->name, sizeof(leg->name), "r%u", i);
        if (other == node)
            snprintf(leg->device, sizeof(leg->device), "%s", node->device);
        else
            snprintf(leg->device, sizeof(leg->device), "r%un1", i);
    }
    node->options = (struct mirror_options){.name = "m",
                                            .fault_returns = 1000,
                                            .leg_count = node->leg_count,
                                            .policy = fleet->options.policy,
                                            .longest_stall_ms = fleet->options.longest_stall_ms,
                                            .cursor_regions = 1,
                                            .hold_ms = 400,
                                            .marked_max = 2,
                                            .marked_hard = true};
    reactor_timer_start(node->plane.control, &node->patience, reactor_now_ns(node->plane.control) + PATIENCE_NS);
    attach_all(node);
}

static void any_engine_up(struct fleet_node *node, uint64_t term, bool standby) {
    node->engine = true;
    node->standby = standby;
    node->term = term;
    node->writer = ++node->fleet->writers;
    fleet_node_up(node);
}

void fleet_engine_up(struct fleet_node *node, uint64_t term) {
    fleet_log(node->fleet, "%s: an engine of term %llu", node->name, (unsigned long long)term);
    any_engine_up(node, term, false);
}

void fleet_standby_up(struct fleet_node *node) {
    fleet_log(node->fleet, "%s: a standby", node->name);
    any_engine_up(node, 0, true);
}

/* ---- death ---- */

static void dead(struct fleet_node *node) {
    struct fleet *fleet = node->fleet;
    if (node->store != NULL) {
        node->store = NULL;
        node->kept = false;
        if ((fleet->whole >> node->index & 1) != 0) {
            fleet->whole &= ~(1u << node->index);
            if (fleet->whole == 0)
                lose_unflushed(fleet, "the last whole leg is gone");
        }
    }
    for (unsigned i = 0; i < FLEET_OPS; i++)
        node->ops[i].busy = false;
    node->mirror = NULL;
    node->channel = NULL;
    node->state = FLEET_DOWN;
    node->paused = false;
}

void fleet_node_die(struct fleet_node *node, enum fleet_death death) {
    static const char *const names[] = {"its process dies", "its process vanishes", "its power fails"};
    assert(node->state != FLEET_DOWN);
    fleet_log(node->fleet, "%s: %s", node->name, names[death]);
    dead(node);
    if (death == FLEET_POWER) {
        sim_node_power_off(node->plane.node); /* does not return from inside of a turn: plane_reap() then */
        sim_node_power_on(node->plane.node);
    } else {
        sim_process_kill(node->plane.host, death == FLEET_CLOSE ? SIM_KILL_CLOSE : SIM_KILL_VANISH);
    }
    bool reaped = plane_reap(&node->plane);
    assert(reaped);
}

void fleet_node_pause(struct fleet_node *node, bool pause) {
    assert(node->state != FLEET_DOWN);
    if (node->paused == pause)
        return;
    node->paused = pause;
    fleet_log(node->fleet, "%s %s", node->name, pause ? "stands still" : "goes on");
    if (pause)
        sim_process_pause(node->plane.host);
    else
        sim_process_resume(node->plane.host);
}

/* ---- time ---- */

/* Who died inside of a turn is cleared away, who is due comes up. */
static void look_after(struct fleet *fleet) {
    for (unsigned i = 0; i < fleet->node_count; i++) {
        struct fleet_node *node = &fleet->nodes[i];
        if (plane_reap(&node->plane) && !sim_node_is_on(node->plane.node))
            sim_node_power_on(node->plane.node);
        if (node->state == FLEET_DOWN && node->again_ns != 0 && node->again_ns <= sim_now_ns(fleet->cluster.sim)) {
            if (node->engine)
                fleet_engine_up(node, ++fleet->terms);
            else
                fleet_node_up(node);
        }
    }
}

void fleet_run(struct fleet *fleet, uint64_t ns) {
    sim_run_for(fleet->cluster.sim, ns);
    look_after(fleet);
}

void fleet_wait(struct fleet *fleet, bool (*condition)(struct fleet *fleet), uint64_t for_ns, const char *what) {
    uint64_t end = sim_now_ns(fleet->cluster.sim) + for_ns;
    while (!condition(fleet)) {
        if (sim_now_ns(fleet->cluster.sim) > end)
            fleet_fail(fleet, "waited in vain for %s", what);
        fleet_run(fleet, NS_PER_MS);
    }
}

/* ---- looking ---- */

void fleet_status(struct fleet_node *node, struct mirror_status *ret_status) { mirror_status_get(node->mirror, ret_status); }

struct fleet_node *fleet_engine(struct fleet *fleet) {
    struct fleet_node *best = NULL;
    for (unsigned i = 0; i < fleet->node_count; i++) {
        struct fleet_node *node = &fleet->nodes[i];
        if (node->mirror == NULL || node->channel == NULL || mirror_of(node->mirror)->state != MIRROR_SERVING)
            continue;
        if (best == NULL || node->term > best->term)
            best = node;
    }
    return best;
}

bool fleet_all_whole(struct fleet *fleet) {
    struct fleet_node *node = fleet_engine(fleet);
    struct mirror_status status;
    if (node == NULL)
        return false;
    fleet_status(node, &status);
    bool whole = status.settled && status.unequal_regions == 0;
    for (unsigned i = 0; i < status.leg_count; i++)
        whole = whole && status.legs[i].state == MIRROR_LEG_WHOLE;
    return whole;
}

void fleet_tell(struct fleet *fleet) {
    static const char *const states[] = {"down", "coming", "up", "failed"};
    for (unsigned i = 0; i < fleet->node_count; i++) {
        struct fleet_node *node = &fleet->nodes[i];
        printf("%s: %s%s %s\n", node->name, states[node->state], node->paused ? ", stands still" : "", node->why);
        const struct volume *volume = node->store != NULL ? volume_of(node) : NULL;
        if (volume != NULL && volume->replica != NULL) {
            const struct replica_record *r = &volume->replica->record;
            printf("  epoch %llu-%02x, state %u, base %llu-%02x, joined %llu, settled %u, promised %llu, incarnation %04x%s,",
                   (unsigned long long)r->epoch.depth, r->epoch.id.bytes[0], r->state, (unsigned long long)r->base.depth,
                   r->base.id.bytes[0], (unsigned long long)r->joined, r->settled, (unsigned long long)r->promised_term,
                   (unsigned)(node->store->commit.opening_id & 0xffff), node->store->failed ? ", FAILED" : "");
            printf(" history");
            for (unsigned j = 0; j < r->history_count; j++)
                printf(" %llu-%02x", (unsigned long long)r->history[j].depth, r->history[j].id.bytes[0]);
            printf(", legs");
            for (unsigned j = 0; j < r->leg_count; j++)
                printf(" %s%s(%04x, last %llu)", r->legs[j].name, (r->legs[j].flags & REPLICA_LEG_MEMBER) != 0 ? "*" : "",
                       (unsigned)(r->legs[j].incarnation & 0xffff), (unsigned long long)r->legs[j].last.depth);
            printf("\n");
        }
        if (node->mirror == NULL)
            continue;
        const struct mirror *mirror = mirror_of(node->mirror);
        printf("  engine of term %llu: state %d (%s), unequal %llu, settled %d, epoch %llu; changing %d, %s, %s; standing %x "
               "members %x named %x stored %x awaited %x, busy %u\n",
               (unsigned long long)mirror->term, mirror->state, mirror->error.text,
               (unsigned long long)mirror->regions.unequal_count, mirror->settled, (unsigned long long)mirror->epoch.depth,
               mirror->changing, task_state_name(&mirror->epoch_task), task_state_name(&mirror->start_task), mirror->standing,
               mirror->members, mirror->named, mirror->stored, mirror->awaited, fleet_busy(node));
        for (unsigned j = 0; j < mirror->leg_count; j++)
            printf("  %s (%s): %s, %s; outstanding %u, work %llu, copying %u\n", mirror->legs[j].told.name,
                   node->legs[j].node->name, task_state_name(&mirror->legs[j].task), mirror->legs[j].told.why,
                   mirror->legs[j].outstanding, (unsigned long long)mirror->legs[j].work_left, mirror->legs[j].copying);
    }
}

/* ---- the world ---- */

void fleet_init(struct fleet *fleet, const struct fleet_options *options) {
    *fleet = (struct fleet){.options = *options, .trace = getenv("MIRROR_TRACE") != NULL};
    current = fleet;
    if (fleet->options.longest_stall_ms == 0)
        fleet->options.longest_stall_ms = 100;
    cluster_init(&fleet->cluster, options->seed);
    random_init(&fleet->random, options->seed);
    ledger_init(&fleet->ledger, FLEET_BLOCKS);
    fleet->regions = FLEET_REGIONS;
    fleet->node_count = options->storages + options->engines;
    fleet->payloads = plain_alloc((size_t)fleet->node_count * FLEET_OPS * FLEET_OP_BLOCKS * FLEET_BLOCK);
    for (unsigned i = 0; i < fleet->node_count; i++) {
        struct fleet_node *node = &fleet->nodes[i];
        bool storage = i < options->storages;
        char address[16];
        node->fleet = fleet;
        node->index = i;
        snprintf(node->name, sizeof(node->name), "%c%u", storage ? 's' : 'e', storage ? i : i - options->storages);
        snprintf(node->nqn, sizeof(node->nqn), "nqn.2026-01.org.penstock:%s", node->name);
        snprintf(address, sizeof(address), "10.0.0.%u", i + 1);
        plane_init(&node->plane, &fleet->cluster, node->name, address, 1);
        node->exported = storage;
        for (unsigned j = 0; j < FLEET_OPS; j++) {
            node->ops[j].node = node;
            node->ops[j].payload = fleet->payloads + (size_t)(i * FLEET_OPS + j) * FLEET_OP_BLOCKS * FLEET_BLOCK;
        }
        if (!storage && !(options->local && i == options->storages))
            continue;
        struct sim_disk_options disk;
        sim_disk_options_init(&disk, DISK_BYTES);
        disk.logical_block = disk.power_fail_unit = FLEET_BLOCK; /* a power cut tears no block that is checked */
        node->disk = sim_disk_create(fleet->cluster.sim, &disk);
        sim_node_attach(node->plane.node, "/disk", node->disk);
    }
    for (unsigned i = 0; i < options->storages; i++)
        fleet_node_up(&fleet->nodes[i]);
}

void fleet_fini(struct fleet *fleet) {
    for (unsigned i = 0; i < fleet->node_count; i++)
        if (fleet->nodes[i].state != FLEET_DOWN)
            fleet_node_die(&fleet->nodes[i], FLEET_VANISH);
    cluster_fini(&fleet->cluster);
    ledger_fini(&fleet->ledger);
    plain_free(fleet->payloads);
    current = NULL;
}
