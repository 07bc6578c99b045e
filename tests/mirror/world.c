#include "world.h"

#include "blockdev/mirror/mirror_internal.h"

#include <stdio.h>
#include <stdlib.h>

#define BYTES (WORLD_REGIONS * REPLICA_REGION_BYTES)

void world_log(struct world *world, const char *format, ...) {
    if (!world->trace)
        return;
    char text[200];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    printf("%10.3f ms  %s\n", (double)sim_now_ns(world->cluster.sim) / 1e6, text);
}

/* ---- versions ---- */

static bool may_be(const struct world_versions *versions, uint32_t version) {
    for (unsigned i = 0; i < versions->count; i++)
        if (versions->list[i] == version)
            return true;
    return false;
}

static void add(struct world_versions *versions, uint32_t version) {
    if (may_be(versions, version))
        return;
    assert_true(versions->count < WORLD_VERSIONS);
    versions->list[versions->count++] = version;
}

static void only(struct world_versions *versions, uint32_t version) {
    versions->count = 1;
    versions->list[0] = version;
}

static void fill(uint8_t *bytes, unsigned block, uint32_t version) {
    for (unsigned i = 0; i < WORLD_BLOCK; i += 8) {
        put_le32(bytes + i, version);
        put_le32(bytes + i + 4, version == 0 ? 0 : block);
    }
}

/* The version that bytes are of; fails the test if they are of none. */
static uint32_t version_of(struct world *world, const uint8_t *bytes, unsigned block, const char *where) {
    uint32_t version = get_le32(bytes);
    uint8_t expected[WORLD_BLOCK];
    fill(expected, block, version);
    if (memcmp(bytes, expected, sizeof(expected)) != 0)
        fail_msg("seed %llu: block %u in %s is torn or of another place", (unsigned long long)world->seed, block, where);
    return version;
}

static void check(struct world *world, const uint8_t *bytes, unsigned block, const char *where, bool settles) {
    struct world_block *b = &world->blocks[block];
    uint32_t version = version_of(world, bytes, block, where);
    if (!may_be(&b->now, version) && world->running)
        world_tell(world);
    if (!may_be(&b->now, version))
        fail_msg("seed %llu: block %u in %s shows version %u; of %u possible ones the last is %u",
                 (unsigned long long)world->seed, block, where, version, b->now.count, b->now.list[b->now.count - 1]);
    if (settles)
        only(&b->now, version);
}

/* ---- checked I/O ---- */

static void lose_unflushed(struct world *world);

static unsigned members_of(const struct world *world) {
    const struct mirror *mirror = mirror_of(world->mirror);
    unsigned members = 0;
    mirror_for_each_leg(mirror, leg) for (unsigned i = 0; (mirror->members & leg->bit) != 0 && i < world->disk_count; i++)
        members |= strcmp(leg->told.name, world->disks[i].name) == 0 ? 1u << i : 0;
    return members;
}

/* Something was answered by those who are members: they have it. Under `majority` an engine may begin with legs alone that were
 * opened anew, while one that was not is away. */
static void look_at_members(struct world *world) {
    unsigned members = members_of(world);
    if (!world->judged && (members & world->kept) == 0 && world->options.policy == REPLICA_MAJORITY)
        lose_unflushed(world);
    world->judged = true;
    world->kept = members;
}

static void op_done(struct block_request *request) {
    struct world_op *op = container_of(request, struct world_op, request);
    struct world *world = op->world;
    struct world_block *block = &world->blocks[op->block];
    bool ok = request->status == IO_OK;
    op->busy = false;
    world->failed += !ok;
    if (ok)
        look_at_members(world);
    switch (request->op) {
    case BLOCK_READ:
        block->busy = false;
        if (ok)
            check(world, op->payload, op->block, "a read", !op->doubtful);
        world_log(world, "read %u: %s, version %u", op->block, io_status_name((enum io_status)request->status),
                  get_le32(op->payload));
        break;
    case BLOCK_WRITE:
        block->busy = false;
        if (ok && !op->doubtful)
            only(&block->now, op->version);
        world_log(world, "write %u version %u: %s", op->block, op->version, io_status_name((enum io_status)request->status));
        break;
    default:
        world_log(world, "flush: %s", io_status_name((enum io_status)request->status));
        for (unsigned i = 0; ok && !op->doubtful && i < WORLD_BLOCKS; i++)
            if (op->writes[i] == world->blocks[i].writes)
                world->blocks[i].flushed = world->blocks[i].now;
        break;
    }
}

static void op_run(struct reactor_message *message) {
    struct world_op *op = container_of(message, struct world_op, message);
    block_submit(op->world->channel, &op->request);
}

static struct world_op *op_begin(struct world *world, enum block_op kind, unsigned block) {
    if (world->channel == NULL || (kind != BLOCK_FLUSH && world->blocks[block].busy))
        return NULL;
    for (unsigned i = 0; i < WORLD_OPS; i++) {
        struct world_op *op = &world->ops[i];
        if (op->busy)
            continue;
        op->busy = true;
        op->doubtful = false;
        op->block = block;
        op->world = world;
        op->message.run = op_run;
        op->slice = (struct slice){op->payload, WORLD_BLOCK};
        op->request = (struct block_request){.op = (uint8_t)kind, .complete = op_done};
        if (kind == BLOCK_FLUSH)
            return op;
        world->blocks[block].busy = true;
        op->request.slices = &op->slice;
        op->request.slice_count = 1;
        op->request.offset = world->blocks[block].offset;
        op->request.length = WORLD_BLOCK;
        return op;
    }
    return NULL;
}

bool world_begin_write(struct world *world, unsigned block) {
    struct world_op *op = op_begin(world, BLOCK_WRITE, block);
    if (op == NULL)
        return false;
    struct world_block *b = &world->blocks[block];
    op->version = ++world->version;
    fill(op->payload, block, op->version);
    add(&b->now, op->version);
    add(&b->flushed, op->version);
    b->writes++;
    world->writes++;
    world_log(world, "write %u version %u", block, op->version);
    reactor_post(world->plane.data[0], &op->message);
    return true;
}

bool world_begin_read(struct world *world, unsigned block) {
    struct world_op *op = op_begin(world, BLOCK_READ, block);
    if (op == NULL)
        return false;
    memset(op->payload, 0xee, WORLD_BLOCK);
    world->reads++;
    reactor_post(world->plane.data[0], &op->message);
    return true;
}

bool world_begin_flush(struct world *world) {
    struct world_op *op = op_begin(world, BLOCK_FLUSH, 0);
    if (op == NULL)
        return false;
    for (unsigned i = 0; i < WORLD_BLOCKS; i++)
        op->writes[i] = world->blocks[i].writes;
    for (unsigned i = 0; i < WORLD_OPS; i++)
        if (world->ops[i].busy && world->ops[i].request.op == BLOCK_WRITE)
            op->writes[world->ops[i].block] = UINT64_MAX;
    world->flushes++;
    reactor_post(world->plane.data[0], &op->message);
    return true;
}

void world_begin_any(struct world *world) {
    unsigned block = (unsigned)random_below(&world->random, WORLD_BLOCKS), what = (unsigned)random_below(&world->random, 16);
    if (what == 0)
        (void)world_begin_flush(world);
    else if (what < 8)
        (void)world_begin_read(world, block);
    else
        (void)world_begin_write(world, block);
}

/* ---- the engine ---- */

static void engine_create(struct plane *plane, void *arg) {
    struct world *world = arg;
    struct error error = {0};
    for (unsigned i = 0; i < world->disk_count; i++) {
        if ((world->absent >> i & 1) == 0)
            world->views[i] = replica_view_create(&world->disks[i], &plane->graph, plane->data[0]);
        world->options.legs[i].device = world->disks[i].name;
    }
    world->options.home = plane->data[0];
    world->options.term = world->engines; /* whoever starts engines counts them */
    world->options.seed = random_u64(&world->random) | 1;
    if (!mirror_create(&plane->graph, plane->control, &world->options, &world->mirror, &error))
        fail_msg("%s", error.text);
    world->handle = (struct block_handle){.owner = "the test"};
    if (!block_handle_open(&world->handle, world->mirror, BLOCK_MODE_WRITE, &error))
        fail_msg("%s", error.text);
}

static void channel_create(struct plane *plane, void *arg) {
    struct world *world = arg;
    (void)plane;
    world->channel = block_channel_open(&world->handle);
    assert_non_null(world->channel);
}

/* What was not flushed may be gone. */
static void lose_unflushed(struct world *world) {
    world->losses++;
    for (unsigned i = 0; i < WORLD_OPS; i++)
        world->ops[i].doubtful = true;
    for (unsigned i = 0; i < WORLD_BLOCKS; i++)
        for (unsigned j = 0; j < world->blocks[i].flushed.count; j++)
            add(&world->blocks[i].now, world->blocks[i].flushed.list[j]);
}

void world_engine_start(struct world *world) {
    world->judged = false;
    world->engines++;
    world_log(world, "an engine starts");
    plane_start(&world->plane, NULL);
    plane_do(&world->plane, engine_create, world);
    plane_do_on(&world->plane, world->plane.data[0], channel_create, world);
    world->running = true;
}

void world_engine_kill(struct world *world) {
    world_log(world, "the engine dies");
    plane_kill(&world->plane, SIM_KILL_CLOSE);
    for (unsigned i = 0; i < world->disk_count; i++) {
        replica_disk_forsake(&world->disks[i]);
        world->views[i] = NULL;
    }
    world->asked = false;
    world->channel = NULL;
    world->mirror = NULL;
    world->running = false;
    for (unsigned i = 0; i < WORLD_OPS; i++)
        world->ops[i].busy = false;
    for (unsigned i = 0; i < WORLD_BLOCKS; i++)
        world->blocks[i].busy = false;
}

/* A replica but this one that has everything: whole in the newest epoch, and not opened anew since. While there is one, nothing
 * that was acknowledged may be lost. */
static bool another_has_all(const struct world *world, unsigned but) {
    uint64_t depth = 0;
    for (unsigned i = 0; i < world->disk_count; i++)
        depth = max_u64(depth, world->disks[i].record.epoch.depth);
    for (unsigned i = 0; i < world->disk_count; i++) {
        const struct replica_disk *disk = &world->disks[i];
        unsigned leg = replica_record_leg(&disk->record, &disk->record.leg);
        if (i != but && disk->has_record && disk->record.state == REPLICA_WHOLE && disk->record.epoch.depth == depth &&
            leg < disk->record.leg_count && (disk->record.legs[leg].flags & REPLICA_LEG_MEMBER) != 0 &&
            disk->record.legs[leg].incarnation == disk->incarnation)
            return true;
    }
    return false;
}

void world_cut(struct world *world, unsigned disk, bool lose) {
    bool lost = !another_has_all(world, disk);
    world_log(world, "%s: %s%s", world->disks[disk].name, lose ? "power fails" : "process dies", lost ? ", the last one" : "");
    world->kept &= ~(1u << disk);
    replica_disk_cut(&world->disks[disk], lose);
    if (lost) /* what one of them kept, nobody can know */
        lose_unflushed(world);
}

static void vanish(struct plane *plane, void *arg) {
    (void)plane;
    struct error error = {0};
    if (!block_device_remove(replica_view_device(arg), NULL, NULL, &error))
        fail_msg("%s", error.text);
}

void world_vanish(struct world *world, unsigned disk) {
    world_log(world, "%s: its device goes", world->disks[disk].name);
    world->absent |= 1u << disk;
    if (world->views[disk] == NULL)
        return;
    replica_view_break(world->views[disk]);
    plane_do(&world->plane, vanish, world->views[disk]);
    world->views[disk] = NULL; /* freed when its last user lets go of it */
}

struct appearance {
    struct world *world;
    unsigned disk;
};

static void appear(struct plane *plane, void *arg) {
    struct appearance *a = arg;
    a->world->views[a->disk] = replica_view_create(&a->world->disks[a->disk], &plane->graph, plane->data[0]);
}

void world_appear(struct world *world, unsigned disk) {
    if ((world->absent >> disk & 1) == 0)
        return;
    world_log(world, "%s: its device comes", world->disks[disk].name);
    world->absent &= ~(1u << disk);
    if (world->running)
        plane_do(&world->plane, appear, &(struct appearance){world, disk});
}

static void command_done(struct mirror_command *command) { command->device = NULL; }

static void command_send(struct plane *plane, void *arg) {
    struct mirror_command *command = arg;
    command->control = plane->control;
    mirror_command(command);
}

enum error_code world_command(struct world *world, struct mirror_command *command) {
    command->device = world->mirror;
    command->done = command_done;
    plane_do(&world->plane, command_send, command);
    for (unsigned i = 0; command->device != NULL; i++) {
        if (i > 400000)
            fail_msg("seed %llu: a command does not end", (unsigned long long)world->seed);
        world_run(world, 20 * NS_PER_US, 20);
    }
    world_log(world, "command %d on %s: %s", command->verb, command->leg, command->error.text);
    return command->error.code;
}

static void asked_done(struct mirror_command *command) {
    struct world *world = container_of(command, struct world, command);
    world->asked = false;
    world_log(world, "command %d on %s: %s", command->verb, command->leg, command->error.text);
}

void world_ask(struct world *world, enum mirror_verb verb, unsigned disk) {
    if (world->asked || !world->running)
        return;
    world->asked = true;
    world->command = (struct mirror_command){.device = world->mirror, .verb = verb, .done = asked_done};
    snprintf(world->command.leg, sizeof(world->command.leg), "%s", world->disks[disk].name);
    world->command.accept_absent_count = verb == MIRROR_START;
    snprintf(world->command.accept_absent[0], sizeof(world->command.accept_absent[0]), "%s", world->disks[disk].name);
    world_log(world, "command %d on %s", verb, world->command.leg);
    plane_do(&world->plane, command_send, &world->command);
}

/* Who was removed comes back. */
static void ask_for_all(struct world *world) {
    struct mirror_status status;
    world_status(world, &status);
    for (unsigned disk = 0; disk < world->disk_count; disk++) {
        bool is_leg = (world->apart >> disk & 1) != 0;
        for (unsigned i = 0; i < status.leg_count; i++)
            is_leg = is_leg || strcmp(status.legs[i].name, world->disks[disk].name) == 0;
        if (!is_leg)
            world_ask(world, MIRROR_ADD_LEG, disk);
    }
}

void world_until(struct world *world, bool (*condition)(struct world *world), const char *what) {
    for (unsigned i = 0; !condition(world); i++) {
        if (i > 400000) {
            world_tell(world);
            fail_msg("seed %llu: %s", (unsigned long long)world->seed, what);
        }
        world_run(world, 50 * NS_PER_US, 20);
    }
}

void world_break(struct world *world, unsigned disk) {
    if (world->views[disk] == NULL)
        return;
    world_log(world, "%s: connection lost", world->disks[disk].name);
    replica_view_break(world->views[disk]);
}

void world_mend(struct world *world, unsigned disk) {
    if (world->views[disk] != NULL)
        replica_view_mend(world->views[disk]);
}

void world_init(struct world *world, uint64_t seed, unsigned disk_count, enum replica_policy policy) {
    *world = (struct world){.seed = seed, .disk_count = disk_count, .kept = UINT32_MAX, .trace = getenv("MIRROR_TRACE") != NULL};
    cluster_init(&world->cluster, seed);
    random_init(&world->random, seed);
    plane_init(&world->plane, &world->cluster, "engine", "10.0.0.1", 1);
    static const char *const names[WORLD_DISKS] = {"a", "b", "c", "d"};
    for (unsigned i = 0; i < disk_count; i++)
        replica_disk_init(&world->disks[i], names[i], BYTES, random_u64(&world->random));
    for (unsigned i = 0; i < WORLD_BLOCKS; i++) {
        world->blocks[i].offset = i % WORLD_REGIONS * REPLICA_REGION_BYTES + i / WORLD_REGIONS * WORLD_BLOCK * 3;
        only(&world->blocks[i].now, 0);
        only(&world->blocks[i].flushed, 0);
    }
    for (unsigned i = 0; i < WORLD_OPS; i++)
        world->ops[i].payload = plain_alloc(WORLD_BLOCK);
    world->options = (struct mirror_options){.name = "m",
                                             .block_size = 512,
                                             .leg_count = disk_count,
                                             .policy = policy,
                                             .longest_stall_ms = 40,
                                             .hold_ms = 400,
                                             .fault_returns = 1000,
                                             .cursor_regions = 1,
                                             .marked_max = 2,
                                             .marked_hard = true};
}

void world_fini(struct world *world) {
    if (world->running)
        world_engine_kill(world);
    for (unsigned i = 0; i < world->disk_count; i++)
        replica_disk_fini(&world->disks[i]);
    for (unsigned i = 0; i < WORLD_OPS; i++)
        plain_free(world->ops[i].payload);
    cluster_fini(&world->cluster);
}

void world_run(struct world *world, uint64_t ns, unsigned steps) {
    for (unsigned i = 0; i < steps; i++)
        (void)replica_disk_step(&world->disks[random_below(&world->random, world->disk_count)]);
    sim_run_for(world->cluster.sim, ns);
}

static bool is_idle(const struct world *world) {
    for (unsigned i = 0; i < WORLD_OPS; i++)
        if (world->ops[i].busy)
            return false;
    return true;
}

void world_drain(struct world *world, uint64_t for_ns) {
    uint64_t end = sim_now_ns(world->cluster.sim) + for_ns;
    while (!is_idle(world)) {
        if (sim_now_ns(world->cluster.sim) > end)
            fail_msg("seed %llu: requests do not end", (unsigned long long)world->seed);
        world_run(world, 20 * NS_PER_US, 20);
    }
}

void world_status(struct world *world, struct mirror_status *ret_status) { mirror_status_get(world->mirror, ret_status); }

static bool all_whole(struct world *world) {
    struct mirror_status status;
    world_status(world, &status);
    unsigned legs = 0;
    bool whole = status.state == MIRROR_SERVING && status.settled && status.unequal_regions == 0;
    for (unsigned i = 0; i < status.leg_count; i++) {
        legs += status.legs[i].name[0] != '\0';
        whole = whole && (status.legs[i].name[0] == '\0' || status.legs[i].state == MIRROR_LEG_WHOLE ||
                          status.legs[i].state == MIRROR_LEG_WITNESS);
    }
    whole = whole && legs == world->disk_count - (unsigned)__builtin_popcount(world->apart);
    return whole;
}

void world_tell(struct world *world) {
    struct mirror_status status;
    world_status(world, &status);
    printf("state %d (%s), unequal %llu, settled %d, epoch %llu\n", status.state, status.error.text,
           (unsigned long long)status.unequal_regions, status.settled, (unsigned long long)status.epoch.depth);
    const struct mirror *mirror = mirror_of(world->mirror);
    printf("changing %d, %s, %s; standing %x members %x named %x raise %x stored %x awaited %x\n", mirror->changing,
           task_state_name(&mirror->epoch_task), task_state_name(&mirror->start_task), mirror->standing, mirror->members,
           mirror->named, mirror->raise, mirror->stored, mirror->awaited);
    for (unsigned i = 0; i < status.leg_count; i++)
        printf("  %s: %s, %s; operations %u, outstanding %u, work %llu, copying %u\n", status.legs[i].name,
               task_state_name(&mirror->legs[i].task), status.legs[i].why, world->disks[i].operation_count,
               mirror->legs[i].outstanding, (unsigned long long)mirror->legs[i].work_left, mirror->legs[i].copying);
    for (unsigned i = 0; i < world->disk_count; i++) {
        const struct replica_record *r = &world->disks[i].record;
        printf(
            "  %s: epoch %llu-%02x, state %u, base %llu-%02x, joined %llu, settled %u, promised %llu, incarnation %04x, members",
            world->disks[i].name, (unsigned long long)r->epoch.depth, r->epoch.id.bytes[0], r->state,
            (unsigned long long)r->base.depth, r->base.id.bytes[0], (unsigned long long)r->joined, r->settled,
            (unsigned long long)r->promised_term, (unsigned)(world->disks[i].incarnation & 0xffff));
        for (unsigned j = 0; j < r->leg_count; j++)
            printf(" %s%s(%04x, last %llu-%02x)", r->legs[j].name, (r->legs[j].flags & REPLICA_LEG_MEMBER) != 0 ? "*" : "",
                   (unsigned)(r->legs[j].incarnation & 0xffff), (unsigned long long)r->legs[j].last.depth,
                   r->legs[j].last.id.bytes[0]);
        printf(", history");
        for (unsigned j = 0; j < r->history_count; j++)
            printf(" %llu-%02x", (unsigned long long)r->history[j].depth, r->history[j].id.bytes[0]);
        printf("\n");
    }
}

void world_settle(struct world *world) {
    struct mirror_status status;
    for (unsigned i = 0; i < world->disk_count; i++) {
        world->disks[i].hung = world->disks[i].full = world->disks[i].fail_flush = false;
        world_appear(world, i);
        if (world->running)
            world_mend(world, i);
    }
    if (!world->running)
        world_engine_start(world);
    for (unsigned i = 0; i < 100; i++) /* what broke is noticed first */
        world_run(world, 100 * NS_PER_US, 20);
    uint64_t end = sim_now_ns(world->cluster.sim) + 200 * NS_PER_S;
    while (!all_whole(world)) {
        world_status(world, &status);
        if (status.state == MIRROR_ENDED) { /* what was acknowledged and not flushed is gone */
            world_engine_kill(world);
            world_engine_start(world);
            continue;
        }
        if (sim_now_ns(world->cluster.sim) > end || status.state == MIRROR_REFUSED) {
            world_tell(world);
            fail_msg("seed %llu: the legs do not become whole", (unsigned long long)world->seed);
        }
        ask_for_all(world);
        /* An engine that died between having a leg forget what it was and claiming it anew leaves one that its operator is asked
         * about. */
        for (unsigned i = 0; i < status.leg_count; i++)
            if (status.state == MIRROR_SERVING && status.legs[i].recordless)
                (void)world_do(world, MIRROR_DISCARD, status.legs[i].name, &(struct mirror_command){0});
        unsigned busy = 0;
        for (unsigned i = 0; i < world->disk_count; i++)
            busy += world->disks[i].operation_count;
        world_run(world, busy > 0 ? 20 * NS_PER_US : 5 * NS_PER_MS, 30);
    }
    world_drain(world, 60 * NS_PER_S);
    for (unsigned i = 0; i < WORLD_BLOCKS; i++) {
        while (!world_begin_read(world, i))
            world_run(world, 20 * NS_PER_US, 20);
        world_drain(world, 60 * NS_PER_S);
        if (!all_whole(world)) {
            world_tell(world);
            fail_msg("seed %llu: a leg was lost while nothing was wrong", (unsigned long long)world->seed);
        }
        for (unsigned d = 0; d < world->disk_count; d++)
            if ((world->apart >> d & 1) == 0)
                check(world, world->disks[d].bytes + world->blocks[i].offset, i, world->disks[d].name, true);
    }
}

/* ---- short waits ---- */

static bool serves(struct world *world) {
    struct mirror_status status;
    world_status(world, &status);
    return status.state == MIRROR_SERVING;
}

void world_serve(struct world *world) { world_until(world, serves, "it does not serve"); }

void world_pass(struct world *world, uint64_t ms) {
    for (uint64_t i = 0; i < ms * 10; i++)
        world_run(world, 100 * NS_PER_US, 20);
}

void world_write_all(struct world *world) {
    for (unsigned i = 0; i < WORLD_BLOCKS; i++)
        while (!world_begin_write(world, i))
            world_run(world, 20 * NS_PER_US, 20);
    world_drain(world, 10 * NS_PER_S);
}

enum error_code world_do(struct world *world, enum mirror_verb verb, const char *leg, struct mirror_command *command) {
    command->verb = verb;
    snprintf(command->leg, sizeof(command->leg), "%s", leg);
    return world_command(world, command);
}

static void set_done(struct mirror_set *set) { set->device = NULL; }
static void set_run(struct plane *plane, void *arg) {
    (void)plane;
    mirror_set(arg);
}

enum error_code world_set(struct world *world, struct mirror_set *set) {
    set->device = world->mirror;
    set->control = world->plane.control;
    set->done = set_done;
    plane_do(&world->plane, set_run, set);
    while (set->device != NULL)
        world_run(world, 20 * NS_PER_US, 20);
    return set->error.code;
}
