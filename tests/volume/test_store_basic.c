/* The store on a simulated disk against plain arrays: every command and request one after the other and many at once, reopened
 * now and then, cleanly and not. What a power cut leaves is the crash tests' business. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "blockdev/volume/check.h"
#include "blockdev/volume/volume.h"
#include "disk.h"
#include "world.h"

#define DISK_BYTES MIB(32)
#define VOLUME_MAX_BYTES MIB(3)
#define MODELS_MAX 12

struct fixture {
    struct world world;
    struct block_graph graph;
    struct disk *disk;
    struct disk_image image;
    struct volume_store *store;
    struct random random;
    uint64_t seed, starts;
    uint32_t block_size;
    bool done;
};

static bool is_done(void *arg) { return *(bool *)arg; }

static void wait_done(struct fixture *f) {
    if (!world_run_until(&f->world, is_done, &f->done, 2000000))
        fail_msg("seed %llu: nothing happens any more", (unsigned long long)f->seed);
    f->done = false;
}

struct command {
    struct volume_command command;
    struct fixture *fixture;
};
static void command_done(struct volume_command *command) { container_of(command, struct command, command)->fixture->done = true; }
static struct command run(struct fixture *f, struct volume_command arguments, void (*call)(struct volume_command *)) {
    static struct command c; /* one at a time; it must not move */
    c = (struct command){.command = arguments, .fixture = f};
    c.command.store = f->store;
    c.command.done = command_done;
    call(&c.command);
    wait_done(f);
    return c;
}

static struct fixture *opening_fixture;
static void format_done(struct volume_store_format *format) {
    (void)format;
    opening_fixture->done = true;
}
static void open_done(struct volume_store_open *open) {
    (void)open;
    opening_fixture->done = true;
}

static void store_open(struct fixture *f) {
    struct volume_store_open open = {.base = &f->disk->device,
                                     .home = f->world.reactor,
                                     .cache_bytes = VOLUME_CACHE_MIN,
                                     .checkpoint_bytes = KIB(64),
                                     .done = open_done};
    opening_fixture = f;
    volume_store_open(&open);
    wait_done(f);
    if (!open.ok)
        fail_msg("seed %llu: %s", (unsigned long long)f->seed, open.error.text);
    f->store = open.store;
}

static void world_up(struct fixture *f) {
    world_init(&f->world, f->seed + 1000000 * f->starts++);
    block_graph_init(&f->graph, &f->world.host, 1);
    struct disk_options options = {
        .power_fail_unit = 512, .block_size = f->block_size, .read_ns = 20000, .write_ns = 20000, .flush_ns = 50000};
    f->disk = disk_create(&f->world, &f->graph, &options, &f->image, f->seed, false);
}

static void setup(struct fixture *f, uint64_t seed, uint32_t block_size) {
    *f = (struct fixture){.seed = seed, .block_size = block_size};
    random_init(&f->random, seed);
    disk_image_init(&f->image, DISK_BYTES);
    world_up(f);
    struct volume_store_format format = {
        .base = &f->disk->device, .home = f->world.reactor, .name = "lvs", .unit_bytes = KIB(64), .done = format_done};
    opening_fixture = f;
    volume_store_format(&format);
    wait_done(f);
    if (!format.ok)
        fail_msg("%s", format.error.text);
    store_open(f);
}

static bool image_read(void *arg, uint64_t offset, void *to, size_t length) {
    disk_image_read(arg, offset, to, length);
    return true;
}

static void check(struct fixture *f, const char *when) {
    struct volume_check check = {.read = image_read, .arg = &f->disk->now, .size = DISK_BYTES, .limit = 20};
    struct error error;
    if (!volume_check_run(&check, &error))
        fail_msg("seed %llu: %s: %s", (unsigned long long)f->seed, when, error.text);
    if (check.problems != 0)
        fail_msg("seed %llu: %s: %u problems:\n%s", (unsigned long long)f->seed, when, check.problems, check.report.bytes);
    text_fini(&check.report);
}

static void store_close(struct fixture *f) {
    struct command c = run(f, (struct volume_command){0}, volume_store_close);
    if (!c.command.ok)
        fail_msg("seed %llu: close: %s", (unsigned long long)f->seed, c.command.error.text);
    f->store = NULL;
    check(f, "closed");
}

/* The process dies, the disk keeps what it has been told. */
static void restart(struct fixture *f) {
    struct disk_image now;
    world_leave(&f->world);
    disk_image_clone(&now, &f->disk->now);
    world_crash(&f->world);
    disk_destroy(f->disk);
    disk_image_fini(&f->image);
    f->image = now;
    world_up(f);
    check(f, "killed");
    store_open(f);
}

static void teardown(struct fixture *f) {
    world_crash(&f->world);
    disk_destroy(f->disk);
    disk_image_fini(&f->image);
}

/* ---- requests ---- */

struct io {
    struct block_request request;
    struct slice slice;
    struct fixture *fixture;
};
static void io_done(struct block_request *request) { container_of(request, struct io, request)->fixture->done = true; }

struct model {
    bool used, snapshot, read_only;
    struct uuid uuid;
    char name[32];
    uint64_t size;
    uint8_t *bytes; /* VOLUME_MAX_BYTES; beyond size: zeros */
    int parent;     /* index, -1 = none */
};
struct models {
    struct model m[MODELS_MAX];
    unsigned names;
};

static enum io_status do_io(struct fixture *f, const struct model *model, enum block_op op, uint8_t flags, uint64_t offset,
                            uint64_t length, void *buffer) {
    char name[64];
    snprintf(name, sizeof(name), "lvs/%s", model->name);
    struct block_device *device = block_graph_find(&f->graph, name);
    assert_non_null(device);
    struct block_handle handle = {.owner = "test"};
    struct error error;
    bool read_only = atomic_load(&device->read_only);
    assert_true(block_handle_open(&handle, device, read_only ? BLOCK_MODE_READ : BLOCK_MODE_WRITE, &error));
    struct block_channel *channel = block_channel_open(&handle);
    struct io io = {.fixture = f, .slice = {buffer, length}};
    io.request = (struct block_request){.op = (uint8_t)op,
                                        .flags = flags,
                                        .slices = &io.slice,
                                        .slice_count = buffer != NULL,
                                        .offset = offset,
                                        .length = length,
                                        .complete = io_done};
    block_submit(channel, &io.request);
    wait_done(f);
    block_channel_close(channel);
    block_handle_close(&handle);
    return (enum io_status)io.request.status;
}

static void verify(struct fixture *f, const struct models *models) {
    uint8_t *buffer = malloc(VOLUME_MAX_BYTES);
    for (int i = 0; i < MODELS_MAX; i++) {
        const struct model *model = &models->m[i];
        if (!model->used)
            continue;
        for (uint64_t at = 0; at < model->size;) {
            uint64_t n = min_u64(model->size - at, KIB(64) * (1 + random_below(&f->random, 8)));
            assert_int_equal(do_io(f, model, BLOCK_READ, 0, at, n, buffer), IO_OK);
            for (uint64_t b = 0; b < n; b++)
                if (buffer[b] != model->bytes[at + b])
                    fail_msg("seed %llu: %s differs at byte %llu (block %llu): %02x, should be %02x", (unsigned long long)f->seed,
                             model->name, (unsigned long long)(at + b), (unsigned long long)((at + b) / 4096), buffer[b],
                             model->bytes[at + b]);
            at += n;
        }
    }
    free(buffer);
}

static int pick(struct fixture *f, const struct models *models, bool writable) {
    int start = (int)random_below(&f->random, MODELS_MAX);
    for (int n = 0; n < MODELS_MAX; n++) {
        int i = (start + n) % MODELS_MAX;
        if (models->m[i].used && (!writable || !models->m[i].read_only))
            return i;
    }
    return -1;
}
static int vacant(const struct models *models) {
    for (int i = 0; i < MODELS_MAX; i++)
        if (!models->m[i].used)
            return i;
    return -1;
}
static unsigned children(const struct models *models, int of) {
    unsigned count = 0;
    for (int i = 0; i < MODELS_MAX; i++)
        count += models->m[i].used && models->m[i].parent == of;
    return count;
}

static void must(struct fixture *f, const struct command *c, const char *what) {
    if (!c->command.ok)
        fail_msg("seed %llu: %s: %s", (unsigned long long)f->seed, what, c->command.error.text);
}

static int new_model(struct models *models, uint64_t size, int parent) {
    int i = vacant(models);
    struct model *m = &models->m[i];
    uint8_t *bytes = m->bytes != NULL ? m->bytes : plain_alloc(VOLUME_MAX_BYTES);
    *m = (struct model){.used = true, .size = size, .bytes = bytes, .parent = parent};
    memset(bytes, 0, VOLUME_MAX_BYTES);
    snprintf(m->name, sizeof(m->name), "v%u", models->names++);
    return i;
}

/* A block of a writable volume gets new bytes. */
static void one_block(struct fixture *f, struct models *models) {
    uint8_t buffer[4096];
    int i = pick(f, models, true);
    if (i < 0)
        return;
    uint64_t offset = random_below(&f->random, models->m[i].size / 4096) * 4096;
    random_fill(&f->random, buffer, sizeof(buffer));
    enum io_status status = do_io(f, &models->m[i], BLOCK_WRITE, 0, offset, sizeof(buffer), buffer);
    if (status == IO_OK)
        memcpy(models->m[i].bytes + offset, buffer, sizeof(buffer));
    else
        assert_int_equal(status, IO_NO_SPACE);
}

static void one_io(struct fixture *f, struct models *models) {
    int i = pick(f, models, true);
    if (i < 0)
        return;
    struct model *m = &models->m[i];
    uint64_t sectors = m->size / f->block_size;
    uint64_t first = random_below(&f->random, sectors),
             count = 1 + random_below(&f->random, random_chance(&f->random, 1, 4) ? 600 : 20);
    if (random_chance(&f->random, 1, 2)) {
        first = round_down(first, 4096 / f->block_size);
        count = round_up(count, 4096 / f->block_size);
    }
    count = min_u64(count, sectors - first);
    uint64_t offset = first * f->block_size, length = count * f->block_size;
    uint8_t flags = random_chance(&f->random, 1, 8) ? BLOCK_FUA : 0;
    uint64_t what = random_below(&f->random, 10);
    enum io_status status;
    if (what < 7) {
        uint8_t *buffer = malloc(length);
        random_fill(&f->random, buffer, length);
        status = do_io(f, m, BLOCK_WRITE, flags, offset, length, buffer);
        if (status == IO_OK)
            memcpy(m->bytes + offset, buffer, length);
        free(buffer);
    } else if (what < 9) {
        status = do_io(f, m, BLOCK_WRITE_ZEROES, flags, offset, length, NULL);
        if (status == IO_OK)
            memset(m->bytes + offset, 0, length);
    } else {
        status = do_io(f, m, BLOCK_TRIM, flags, offset, length, NULL);
        uint64_t from = round_up(offset, 4096), to = round_down(offset + length, 4096);
        if (status == IO_OK && to > from)
            memset(m->bytes + from, 0, to - from);
    }
    if (status != IO_OK && status != IO_NO_SPACE)
        fail_msg("seed %llu: request failed: %s", (unsigned long long)f->seed, io_status_name(status));
}

enum what { CREATE, SNAPSHOT, SNAPSHOT_TOO, CLONE, DELETE, DELETE_TOO, RESIZE, REVERT, DECOUPLE, INFLATE, WHATS };
static void one_command(struct fixture *f, struct models *models, enum what what) {
    int i = pick(f, models, true), free_slot = vacant(models);
    uint64_t size = round_up(1 + random_below(&f->random, VOLUME_MAX_BYTES), KIB(64));
    struct command c;
    switch (what) {
    case CREATE:
        if (free_slot < 0)
            return;
        i = new_model(models, size, -1);
        c = run(f, (struct volume_command){.name = models->m[i].name, .size_bytes = size}, volume_create);
        must(f, &c, "create");
        models->m[i].uuid = c.command.ret_uuid;
        return;
    case SNAPSHOT:
    case SNAPSHOT_TOO:
        if (i < 0 || free_slot < 0)
            return;
        {
            struct model *m = &models->m[i];
            int s = new_model(models, m->size, m->parent);
            c = run(f, (struct volume_command){.volume = m->uuid, .name = models->m[s].name}, volume_snapshot_create);
            must(f, &c, "snapshot");
            models->m[s].uuid = c.command.ret_uuid;
            models->m[s].snapshot = models->m[s].read_only = true;
            memcpy(models->m[s].bytes, m->bytes, VOLUME_MAX_BYTES);
            m->parent = s;
        }
        return;
    case CLONE:
        i = pick(f, models, false);
        if (i < 0 || free_slot < 0 || !models->m[i].snapshot)
            return;
        {
            int k = new_model(models, models->m[i].size, i);
            c = run(f, (struct volume_command){.volume = models->m[i].uuid, .name = models->m[k].name}, volume_clone);
            must(f, &c, "clone");
            models->m[k].uuid = c.command.ret_uuid;
            memcpy(models->m[k].bytes, models->m[i].bytes, VOLUME_MAX_BYTES);
        }
        return;
    case DELETE:
    case DELETE_TOO:
        i = pick(f, models, false);
        if (i < 0)
            return;
        c = run(f, (struct volume_command){.volume = models->m[i].uuid}, volume_delete);
        if (children(models, i) > 1) {
            assert_false(c.command.ok);
            assert_int_equal(c.command.error.code, ERROR_PERMISSION);
            return;
        }
        must(f, &c, "delete");
        models->m[i].used = false;
        for (int k = 0; k < MODELS_MAX; k++)
            if (models->m[k].used && models->m[k].parent == i)
                models->m[k].parent = models->m[i].parent;
        return;
    case RESIZE:
        if (i < 0)
            return;
        c = run(f, (struct volume_command){.volume = models->m[i].uuid, .size_bytes = size}, volume_resize);
        must(f, &c, "resize");
        if (size < models->m[i].size)
            memset(models->m[i].bytes + size, 0, VOLUME_MAX_BYTES - size);
        models->m[i].size = size;
        return;
    case REVERT:
        if (i < 0 || models->m[i].parent < 0)
            return;
        {
            int s = models->m[i].parent;
            c = run(f, (struct volume_command){.volume = models->m[i].uuid, .snapshot = models->m[s].uuid}, volume_revert);
            must(f, &c, "revert");
            memcpy(models->m[i].bytes, models->m[s].bytes, VOLUME_MAX_BYTES);
            models->m[i].size = models->m[s].size;
        }
        return;
    case DECOUPLE:
        if (i < 0 || models->m[i].parent < 0)
            return;
        c = run(f, (struct volume_command){.volume = models->m[i].uuid}, volume_decouple);
        if (!c.command.ok && c.command.error.code == ERROR_NO_SPACE)
            return;
        must(f, &c, "decouple");
        models->m[i].parent = models->m[models->m[i].parent].parent;
        return;
    default:
        if (i < 0)
            return;
        c = run(f, (struct volume_command){.volume = models->m[i].uuid}, volume_inflate);
        if (!c.command.ok && c.command.error.code == ERROR_NO_SPACE)
            return;
        must(f, &c, "inflate");
        models->m[i].parent = -1;
        return;
    }
}

static void random_end(struct fixture *f, struct models *models) {
    store_close(f);
    /* a store that was closed leaves nothing behind */
    assert_true(block_device_remove(&f->disk->device, NULL, NULL, NULL));
    block_graph_fini(&f->graph);
    world_exit(&f->world);
    disk_destroy(f->disk);
    disk_image_fini(&f->image);
    for (int i = 0; i < MODELS_MAX; i++) {
        plain_free(models->m[i].bytes);
        models->m[i] = (struct model){0};
    }
}

static void random_sequence(uint64_t seed, uint32_t block_size) {
    struct fixture f;
    static struct models models;
    setup(&f, seed, block_size);
    models.names = 0;
    for (unsigned n = 0; n < 500; n++) {
        uint64_t what = random_below(&f.random, 100);
        if (what < 75) {
            one_io(&f, &models);
        } else if (what < 96) {
            one_command(&f, &models, (enum what)random_below(&f.random, WHATS));
        } else if (what < 97) {
            store_close(&f);
            store_open(&f);
        } else if (what < 98) {
            int i = pick(&f, &models, true);
            if (i >= 0) {
                assert_int_equal(do_io(&f, &models.m[i], BLOCK_FLUSH, 0, 0, 0, NULL), IO_OK);
                restart(&f);
            }
        } else if (what < 99) {
            verify(&f, &models);
        } else {
            world_run_for(&f.world, 2 * NS_PER_S); /* the background comes to its end */
        }
    }
    verify(&f, &models);
    random_end(&f, &models);
}

/* Chains of up to ten layers, everything read again and again while they change: what readers remember of who owns a block. */
static void deep_chain(uint64_t seed) {
    struct fixture f;
    static struct models models;
    setup(&f, seed, 4096);
    models.names = 0;
    one_command(&f, &models, CREATE);
    for (unsigned n = 0; n < 600; n++) {
        unsigned used = 0;
        for (int i = 0; i < MODELS_MAX; i++)
            used += models.m[i].used;
        if (used == 0)
            one_command(&f, &models, CREATE);
        else if (used < 10 && random_chance(&f.random, 1, 4))
            one_command(&f, &models, SNAPSHOT);
        else if (used >= 8 && random_chance(&f.random, 1, 4))
            one_command(&f, &models, DELETE);
        else if (random_chance(&f.random, 1, 20))
            one_command(&f, &models, (enum what)random_below(&f.random, WHATS));
        else if (random_chance(&f.random, 1, 10))
            one_io(&f, &models);
        else
            one_block(&f, &models);
        if (random_chance(&f.random, 1, 12))
            verify(&f, &models);
    }
    verify(&f, &models);
    random_end(&f, &models);
}

static void deep_chains_read_right_whatever_moves(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++)
        deep_chain(seed);
}

static void random_sequences_agree_with_arrays(void **state) {
    (void)state;
    uint64_t first = 1, count = 12;
    const char *seed_asked = getenv("SEED"), *count_asked = getenv("COUNT");
    if (seed_asked != NULL) {
        first = strtoull(seed_asked, NULL, 10);
        count = count_asked != NULL ? strtoull(count_asked, NULL, 10) : 1;
    }
    for (uint64_t seed = first; seed < first + count; seed++)
        random_sequence(seed, seed % 2 == 0 ? 4096 : 512);
}

/* ---- faults: whatever fails, nothing hangs, nothing is inconsistent, and the store opens again ---- */

/* Runs a command of which nobody knows whether it succeeds. */
static bool try_command(struct fixture *f, struct volume_command arguments, void (*call)(struct volume_command *),
                        struct uuid *ret_uuid) {
    struct command c = run(f, arguments, call);
    if (c.command.ok && ret_uuid != NULL)
        *ret_uuid = c.command.ret_uuid;
    return c.command.ok;
}

static void try_io(struct fixture *f, const char *name, enum block_op op, uint8_t flags, uint64_t offset, uint64_t length,
                   uint8_t *buffer) {
    char alias[64];
    snprintf(alias, sizeof(alias), "lvs/%s", name);
    if (block_graph_find(&f->graph, alias) == NULL)
        return;
    struct model model = {0};
    snprintf(model.name, sizeof(model.name), "%s", name);
    do_io(f, &model, op, flags, offset, length, buffer);
}

/* A short life: maps of two nodes, a snapshot, a clone, a merge, a shrink, everything once. */
static void life(struct fixture *f, uint8_t *buffer) {
    struct uuid a = {0}, s = {0}, c = {0};
    memset(buffer, 0x5a, KIB(256));
    try_command(f, (struct volume_command){.name = "a", .size_bytes = MIB(2)}, volume_create, &a);
    try_io(f, "a", BLOCK_WRITE, 0, 0, KIB(256), buffer);
    try_io(f, "a", BLOCK_FLUSH, 0, 0, 0, NULL);
    try_command(f, (struct volume_command){.volume = a, .name = "s"}, volume_snapshot_create, &s);
    try_io(f, "a", BLOCK_WRITE, BLOCK_FUA, KIB(16) + 512, KIB(64), buffer);
    try_io(f, "a", BLOCK_TRIM, BLOCK_FUA, 0, KIB(64), NULL);
    try_command(f, (struct volume_command){.volume = s, .name = "c"}, volume_clone, &c);
    try_io(f, "c", BLOCK_WRITE_ZEROES, 0, 512, KIB(100), NULL);
    try_io(f, "c", BLOCK_FLUSH, 0, 0, 0, NULL);
    try_io(f, "a", BLOCK_READ, 0, 0, KIB(256), buffer);
    try_command(f, (struct volume_command){.volume = c}, volume_delete, NULL);
    try_command(f, (struct volume_command){.volume = s}, volume_delete, NULL);
    try_command(f, (struct volume_command){.volume = a, .size_bytes = KIB(128)}, volume_resize, NULL);
    world_run_for(&f->world, 3 * NS_PER_S);
    try_io(f, "a", BLOCK_READ, 0, 0, KIB(64), buffer);
    try_io(f, "a", BLOCK_FLUSH, 0, 0, 0, NULL);
}

static void each_request_fails_once(void **state) {
    (void)state;
    for (unsigned kind = 0; kind < DISK_FAULT_COUNT; kind++) {
        uint64_t step = 1, most = 1;
        for (uint64_t n = 1; n <= most; n += step) {
            struct fixture f;
            setup(&f, 7, 512);
            uint8_t *buffer = plain_alloc(KIB(256));
            uint64_t before = f.disk->requests[kind];
            f.disk->fail_at[kind] = before + n;
            f.disk->fail_count[kind] = 1;
            f.disk->fail_status = kind == DISK_FAULT_READ ? IO_MEDIUM_READ : IO_MEDIUM_WRITE;
            life(&f, buffer);
            most = max_u64(most, f.disk->requests[kind] - before);
            step = 1 + most / 60;
            assert_true(f.disk->failed[kind] == 1 || n > f.disk->requests[kind] - before);
            f.disk->fail_at[kind] = 0;
            restart(&f);
            world_run_for(&f.world, 3 * NS_PER_S);
            store_close(&f);
            plain_free(buffer);
            teardown(&f);
        }
    }
}

static void each_allocation_fails_once(void **state) {
    (void)state;
    uint64_t most = 1, step = 1;
    for (uint64_t n = 1; n <= most; n += step) {
        struct fixture f;
        setup(&f, 7, 4096);
        uint8_t *buffer = plain_alloc(KIB(256));
        uint64_t before = f.world.heap.allocations;
        f.world.heap.fail_at = before + n;
        life(&f, buffer);
        most = max_u64(most, f.world.heap.allocations - before);
        step = 1 + most / 100;
        assert_true(f.world.heap.failed == 1 || n > f.world.heap.allocations - before);
        f.world.heap.fail_at = 0;
        restart(&f);
        world_run_for(&f.world, 3 * NS_PER_S);
        store_close(&f);
        plain_free(buffer);
        teardown(&f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_sequences_agree_with_arrays),
        cmocka_unit_test(deep_chains_read_right_whatever_moves),
        cmocka_unit_test(each_request_fails_once),
        cmocka_unit_test(each_allocation_fails_once),
    };
    return cmocka_run_group_tests_name("volume store", tests, NULL, NULL);
}
