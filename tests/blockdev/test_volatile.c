/* The volatile device over a memory device, on a stepped host: what is read, what a loss of power leaves, errors of the base. A
 * loss of power is the device's deletion: the memory device then shows what had reached the disk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/random.h"
#include "block/block.h"
#include "blockdev/delay/delay.h"
#include "blockdev/error/error_device.h"
#include "blockdev/memory/memory.h"
#include "blockdev/volatile/volatile_device.h"
#include "support/step_host.h"

#define BLOCK 512u
#define BLOCKS 8192u

struct fixture {
    struct host *host;
    struct reactor *reactor;
    struct block_graph graph;
    struct block_device *memory, *base, *device;
    struct block_handle handle;
    struct block_channel *channel;
};

struct io {
    struct block_request request;
    struct slice slice;
    bool done;
};

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof(*f));
    f->host = step_host_create(&(struct step_host_options){.seed = 1});
    assert_int_equal(reactor_create(f->host, &(struct reactor_options){.name = "r0", .cpu = -1}, &f->reactor), 0);
    reactor_enter(f->reactor);
    block_graph_init(&f->graph, f->host, 1);
    struct memory_device_options options = {.name = "m0", .block_size = BLOCK, .block_count = BLOCKS};
    assert_true(memory_device_create(&f->graph, &options, &f->memory, NULL));
    assert_int_equal(reactor_start(f->reactor), 0);
    *state = f;
    return 0;
}

static void open_device(struct fixture *f, struct block_device *device) {
    reactor_enter(f->reactor);
    f->handle = (struct block_handle){.owner = "test"};
    assert_true(block_handle_open(&f->handle, device, BLOCK_MODE_WRITE, NULL));
    f->channel = block_channel_open(&f->handle);
    assert_non_null(f->channel);
    reactor_enter(NULL);
}

static void close_device(struct fixture *f) {
    reactor_enter(f->reactor);
    block_channel_close(f->channel);
    block_handle_close(&f->handle);
    f->channel = NULL;
    reactor_enter(NULL);
}

static int teardown(void **state) {
    struct fixture *f = *state;
    if (f->channel != NULL)
        close_device(f);
    reactor_enter(f->reactor);
    while (f->graph.device_count > 0)
        (void)block_device_remove(block_graph_next(&f->graph, NULL), NULL, NULL, NULL);
    block_graph_fini(&f->graph);
    reactor_enter(NULL);
    reactor_destroy(f->reactor);
    step_host_destroy(f->host);
    free(f);
    return 0;
}

static void make(struct fixture *f, const char *base, unsigned early_percent, uint64_t seed) {
    reactor_enter(f->reactor);
    struct volatile_device_options options = {
        .name = "v0", .base_name = base, .cache_bytes = 64 * BLOCK, .early_percent = early_percent, .seed = seed};
    assert_true(volatile_device_create(&f->graph, &options, &f->device, NULL));
    reactor_enter(NULL);
    open_device(f, f->device);
}

static bool is_true(void *arg) { return *(bool *)arg; }

static void completed(struct block_request *request) { container_of(request, struct io, request)->done = true; }

static void start(struct fixture *f, struct io *io, enum block_op op, uint64_t block, void *bytes, uint64_t blocks) {
    *io = (struct io){.slice = {bytes, blocks * BLOCK}};
    io->request =
        (struct block_request){.op = (uint8_t)op, .offset = block * BLOCK, .length = blocks * BLOCK, .complete = completed};
    if (bytes != NULL) {
        io->request.slices = &io->slice;
        io->request.slice_count = 1;
    }
    reactor_enter(f->reactor);
    block_submit(f->channel, &io->request);
    assert_false(io->done);
    reactor_enter(NULL);
}

static enum io_status finish(struct fixture *f, struct io *io) {
    assert_true(step_host_run(f->host, is_true, &io->done, 100 * NS_PER_S));
    return (enum io_status)io->request.status;
}

static enum io_status execute(struct fixture *f, enum block_op op, uint64_t block, void *bytes, uint64_t blocks) {
    struct io io;
    start(f, &io, op, block, bytes, blocks);
    return finish(f, &io);
}

static void removed(struct block_device *device, void *arg) {
    (void)device;
    *(bool *)arg = true;
}

/* Loses the power; what is read afterwards is what the base holds. */
static void cut(struct fixture *f) {
    bool gone = false;
    close_device(f);
    reactor_enter(f->reactor);
    assert_true(volatile_device_delete(f->device, removed, &gone, NULL));
    reactor_enter(NULL);
    assert_true(step_host_run(f->host, is_true, &gone, 100 * NS_PER_S));
    open_device(f, f->base != NULL ? f->base : f->memory);
}

static void write_number(struct fixture *f, uint64_t block, uint64_t blocks, uint32_t number) {
    uint32_t *bytes = malloc(blocks * BLOCK);
    for (size_t i = 0; i < blocks * BLOCK / sizeof(*bytes); i++)
        bytes[i] = number;
    assert_int_equal(execute(f, BLOCK_WRITE, block, bytes, blocks), IO_OK);
    free(bytes);
}

/* What a block holds; it holds one number all over. */
static uint32_t number_of(struct fixture *f, uint64_t block) {
    uint32_t bytes[BLOCK / sizeof(uint32_t)] = {0};
    assert_int_equal(execute(f, BLOCK_READ, block, bytes, 1), IO_OK);
    for (size_t i = 1; i < array_count(bytes); i++)
        assert_int_equal(bytes[i], bytes[0]);
    return bytes[0];
}

static void flush(struct fixture *f) { assert_int_equal(execute(f, BLOCK_FLUSH, 0, NULL, 0), IO_OK); }

static void test_what_is_flushed_stays(void **state) {
    struct fixture *f = *state;
    make(f, "m0", 0, 7);
    assert_true(f->device->volatile_cache);
    write_number(f, 3, 4, 1);
    assert_int_equal(number_of(f, 5), 1);
    flush(f);
    write_number(f, 4, 2, 2);
    write_number(f, 20, 1, 3);
    struct volatile_device_facts facts;
    volatile_device_facts(f->device, &facts);
    assert_int_equal(facts.unflushed_bytes, 3 * BLOCK);
    assert_int_equal(number_of(f, 3), 1);
    assert_int_equal(number_of(f, 4), 2);
    assert_int_equal(number_of(f, 20), 3);
    cut(f);
    for (uint64_t block = 3; block < 7; block++)
        assert_int_equal(number_of(f, block), 1);
    assert_int_equal(number_of(f, 20), 0);
}

static void test_forced_writes_stay(void **state) {
    struct fixture *f = *state;
    make(f, "m0", 0, 7);
    uint32_t bytes[BLOCK / sizeof(uint32_t)];
    for (size_t i = 0; i < array_count(bytes); i++)
        bytes[i] = 9;
    struct io io;
    start(f, &io, BLOCK_READ, 0, bytes, 1);
    assert_int_equal(finish(f, &io), IO_OK);
    for (size_t i = 0; i < array_count(bytes); i++)
        bytes[i] = 9;
    io = (struct io){.slice = {bytes, BLOCK}};
    io.request = (struct block_request){.op = BLOCK_WRITE,
                                        .flags = BLOCK_FUA,
                                        .offset = BLOCK,
                                        .length = BLOCK,
                                        .slices = &io.slice,
                                        .slice_count = 1,
                                        .complete = completed};
    reactor_enter(f->reactor);
    block_submit(f->channel, &io.request);
    reactor_enter(NULL);
    assert_int_equal(finish(f, &io), IO_OK);
    cut(f);
    assert_int_equal(number_of(f, 1), 9);
}

/* A cache that is full sends its oldest blocks to the base, and a request may be larger than all of it. */
static void test_a_full_cache(void **state) {
    struct fixture *f = *state;
    make(f, "m0", 0, 7);
    write_number(f, 0, 1000, 5);
    for (uint64_t block = 0; block < 1000; block++)
        assert_int_equal(number_of(f, block), 5);
    cut(f);
    unsigned there = 0;
    for (uint64_t block = 0; block < 1000; block++)
        there += number_of(f, block) == 5;
    assert_in_range(there, 1000 - 64, 999);
}

/* Trims and zeroing, and what was written before and after them. */
static void test_erasing(void **state) {
    struct fixture *f = *state;
    make(f, "m0", 50, 7);
    write_number(f, 0, 8, 1);
    flush(f);
    write_number(f, 2, 8, 2);
    assert_int_equal(execute(f, BLOCK_TRIM, 4, NULL, 2), IO_OK);
    assert_int_equal(execute(f, BLOCK_WRITE_ZEROES, 7, NULL, 1), IO_OK);
    write_number(f, 5, 1, 3);
    static const uint32_t wanted[] = {1, 1, 2, 2, 0, 3, 2, 0, 2, 2};
    for (uint64_t block = 0; block < array_count(wanted); block++)
        assert_int_equal(number_of(f, block), wanted[block]);
    flush(f);
    cut(f);
    for (uint64_t block = 0; block < array_count(wanted); block++)
        assert_int_equal(number_of(f, block), wanted[block]);
}

/* A base that cannot write: who flushes hears it each time, nothing is lost while the device is there. */
static void test_the_base_fails(void **state) {
    struct fixture *f = *state;
    reactor_enter(f->reactor);
    struct uuid none = {0};
    assert_true(error_device_create(&f->graph, "m0", &none, &f->base, NULL));
    struct error_device_rule rule = {.ops = ERROR_DEVICE_OP(ERROR_DEVICE_WRITE), .effect = ERROR_DEVICE_FAIL, .count = 2};
    assert_true(error_device_inject(f->base, &rule, NULL));
    reactor_enter(NULL);
    make(f, f->base->name, 0, 7);
    write_number(f, 1, 1, 4);
    assert_int_equal(execute(f, BLOCK_FLUSH, 0, NULL, 0), IO_MEDIUM_WRITE);
    assert_int_equal(number_of(f, 1), 4);
    write_number(f, 1, 1, 5);
    assert_int_equal(execute(f, BLOCK_FLUSH, 0, NULL, 0), IO_MEDIUM_WRITE);
    flush(f);
    assert_int_equal(number_of(f, 1), 5);
    rule.ops = ERROR_DEVICE_OP(ERROR_DEVICE_FLUSH);
    rule.count = 1;
    assert_true(error_device_inject(f->base, &rule, NULL));
    assert_int_equal(execute(f, BLOCK_FLUSH, 0, NULL, 0), IO_MEDIUM_WRITE);
    flush(f);
    /* A full cache: the write that finds no room hears it. */
    rule = (struct error_device_rule){.ops = ERROR_DEVICE_OP(ERROR_DEVICE_WRITE), .effect = ERROR_DEVICE_FAIL};
    assert_true(error_device_inject(f->base, &rule, NULL));
    char bytes[100 * BLOCK] = "x";
    assert_int_equal(execute(f, BLOCK_WRITE, 0, bytes, 100), IO_MEDIUM_WRITE);
    error_device_clear(f->base);
    write_number(f, 0, 100, 6);
    flush(f);
    for (uint64_t block = 0; block < 100; block++)
        assert_int_equal(number_of(f, block), 6);
}

static void test_refused(void **state) {
    struct fixture *f = *state;
    struct error error;
    struct block_device *device;
    struct volatile_device_options options = {.name = "v0", .base_name = "m0", .cache_bytes = 63 * BLOCK};
    reactor_enter(f->reactor);
    assert_false(volatile_device_create(&f->graph, &options, &device, &error));
    assert_int_equal(error.code, ERROR_INVALID);
    options.cache_bytes = VOLATILE_DEVICE_CACHE_MAX + 1;
    assert_false(volatile_device_create(&f->graph, &options, &device, &error));
    assert_int_equal(error.code, ERROR_INVALID);
    options.cache_bytes = 0;
    options.early_percent = 101;
    assert_false(volatile_device_create(&f->graph, &options, &device, &error));
    assert_int_equal(error.code, ERROR_INVALID);
    options.early_percent = 100;
    options.name = "m0";
    assert_false(volatile_device_create(&f->graph, &options, &device, &error));
    assert_int_equal(error.code, ERROR_EXISTS);
    options.base_name = "m1";
    assert_false(volatile_device_create(&f->graph, &options, &device, &error));
    assert_int_equal(error.code, ERROR_NO_DEVICE);
    atomic_store(&f->memory->read_only, true);
    options = (struct volatile_device_options){.name = "v0", .base_name = "m0"};
    assert_false(volatile_device_create(&f->graph, &options, &device, &error));
    assert_int_equal(error.code, ERROR_READ_ONLY);
    atomic_store(&f->memory->read_only, false);
    options.base_name = "m0";
    assert_true(volatile_device_create(&f->graph, &options, &device, &error));
    reactor_enter(NULL);
}

/* ---- lives ---- */

#define PLACES 96u
#define AT_ONCE 8u

/* What a block may show: now (one of the versions since the last write that surely came after all others), and after a cut. */
struct place {
    uint32_t versions[64]; /* written, in order of submission */
    unsigned count;
    unsigned flushed; /* versions before this one are not seen after a cut */
    bool busy, writing;
};

struct life {
    struct fixture *f;
    struct random random;
    struct place places[PLACES];
    struct life_io {
        struct io io;
        uint32_t bytes[8 * BLOCK / sizeof(uint32_t)];
        unsigned counts[PLACES]; /* FLUSH: of each place, when it was submitted */
        bool used;
    } ios[AT_ONCE];
    uint32_t next;
    uint64_t seed;
};

#define HOLDS(life_, condition)                                                                                                  \
    do {                                                                                                                         \
        if (!(condition))                                                                                                        \
            fail_msg("seed %llu: %s", (unsigned long long)(life_)->seed, #condition);                                            \
    } while (0)

static void check_read(struct life *life, const struct life_io *io) {
    uint64_t first = io->io.request.offset / BLOCK, blocks = io->io.request.length / BLOCK;
    for (uint64_t i = 0; i < blocks; i++) {
        const struct place *place = &life->places[first + i];
        for (unsigned word = 0; word < BLOCK / 4; word++)
            HOLDS(life, io->bytes[i * BLOCK / 4 + word] == place->versions[place->count - 1]);
    }
}

static void take_back(struct life *life, struct life_io *io) {
    const struct block_request *request = &io->io.request;
    HOLDS(life, request->status == IO_OK);
    if (request->op == BLOCK_READ)
        check_read(life, io);
    for (unsigned i = 0; request->op == BLOCK_FLUSH && i < PLACES; i++) {
        struct place *place = &life->places[i];
        place->flushed = max_u32(place->flushed, io->counts[i] - 1);
    }
    for (uint64_t i = 0; i < request->length / BLOCK; i++)
        life->places[request->offset / BLOCK + i].busy = life->places[request->offset / BLOCK + i].writing = false;
    io->used = false;
}

/* A request over places that no other one is at, so that it is known what it must find. */
static void begin_one(struct life *life, struct life_io *io) {
    static const enum block_op ops[] = {BLOCK_READ, BLOCK_READ, BLOCK_WRITE, BLOCK_WRITE, BLOCK_WRITE, BLOCK_FLUSH, BLOCK_TRIM};
    enum block_op op = ops[random_below(&life->random, array_count(ops))];
    if (op == BLOCK_TRIM && random_chance(&life->random, 1, 2))
        op = BLOCK_WRITE_ZEROES;
    uint64_t blocks = 1 + random_below(&life->random, 8), first = random_below(&life->random, PLACES - blocks + 1);
    if (op == BLOCK_FLUSH) {
        for (unsigned i = 0; i < PLACES; i++) /* writes that are under way are not covered */
            io->counts[i] = life->places[i].count - life->places[i].writing;
        start(life->f, &io->io, op, 0, NULL, 0);
        io->used = true;
        return;
    }
    for (uint64_t i = first; i < first + blocks; i++)
        if (life->places[i].busy || (op != BLOCK_READ && life->places[i].count == array_count(life->places[i].versions)))
            return;
    uint32_t version = op == BLOCK_WRITE ? ++life->next : 0;
    for (uint64_t i = 0; i < blocks; i++) {
        struct place *place = &life->places[first + i];
        place->busy = true;
        place->writing = op != BLOCK_READ;
        if (op != BLOCK_READ)
            place->versions[place->count++] = version;
        for (unsigned word = 0; word < BLOCK / 4; word++)
            io->bytes[i * BLOCK / 4 + word] = version;
    }
    start(life->f, &io->io, op, first, op == BLOCK_READ || op == BLOCK_WRITE ? io->bytes : NULL, blocks);
    io->used = true;
}

static bool some_done(void *arg) {
    const struct life *life = arg;
    for (unsigned i = 0; i < AT_ONCE; i++)
        if (life->ios[i].used && life->ios[i].io.done)
            return true;
    return false;
}

static void step(struct life *life) {
    unsigned used = 0;
    for (unsigned i = 0; i < AT_ONCE; i++) {
        if (life->ios[i].used && life->ios[i].io.done)
            take_back(life, &life->ios[i]);
        if (!life->ios[i].used)
            begin_one(life, &life->ios[i]);
        used += life->ios[i].used;
    }
    if (used > 0)
        HOLDS(life, step_host_run(life->f->host, some_done, life, 100 * NS_PER_S));
}

/* After a cut each block shows one of its versions since the last that a flush covered; afterwards that one is what it holds. */
static void check_cut(struct life *life, unsigned *lost, unsigned *older) {
    for (unsigned i = 0; i < PLACES; i++) {
        struct place *place = &life->places[i];
        uint32_t seen = number_of(life->f, i);
        unsigned at = place->count;
        while (at > place->flushed && place->versions[at - 1] != seen)
            at--;
        HOLDS(life, at > place->flushed);
        *lost += at < place->count;
        *older += at < place->count && at - 1 > place->flushed;
        place->versions[0] = seen;
        place->count = 1;
        place->flushed = 0;
    }
}

static void live(struct fixture *f, uint64_t seed, unsigned *lost, unsigned *kept, unsigned *older) {
    struct life *life = calloc(1, sizeof(*life));
    *life = (struct life){.f = f, .seed = seed};
    random_init(&life->random, seed);
    open_device(f, f->base);
    for (unsigned i = 0; i < PLACES; i++) { /* what the life before has left */
        life->places[i].versions[0] = number_of(f, i);
        life->places[i].count = 1;
    }
    close_device(f);
    for (unsigned round = 0; round < 4; round++) {
        make(f, "d0", 50, seed * 4 + round + 1);
        for (unsigned i = 0; i < 150; i++)
            step(life);
        for (unsigned i = 0; i < AT_ONCE; i++) { /* a device is deleted when nobody has it open */
            if (!life->ios[i].used)
                continue;
            (void)finish(f, &life->ios[i].io);
            take_back(life, &life->ios[i]);
        }
        unsigned unflushed = 0, lost_before = *lost;
        for (unsigned i = 0; i < PLACES; i++)
            unflushed += life->places[i].count - 1 > life->places[i].flushed;
        cut(f);
        check_cut(life, lost, older);
        *kept += unflushed - (*lost - lost_before);
        close_device(f);
    }
    free(life);
}

/* Random requests over a base that is slow, so that they overtake each other, and a cut after each round. */
static void test_lives(void **state) {
    struct fixture *f = *state;
    reactor_enter(f->reactor);
    struct delay_device_options slow = {.name = "d0", .base_name = "m0", .latency_us = {50, 400, 80, 900}, .seed = 3};
    assert_true(delay_device_create(&f->graph, &slow, &f->base, NULL));
    reactor_enter(NULL);
    unsigned lost = 0, kept = 0, older = 0;
    for (uint64_t seed = 1; seed <= 60; seed++)
        live(f, seed, &lost, &kept, &older);
    /* The draw has something to say: much is lost, much is kept, and of some blocks an older version. */
    assert_true(lost > 1000 && kept > 1000 && older > 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_is_flushed_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(test_forced_writes_stay, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_full_cache, setup, teardown),
        cmocka_unit_test_setup_teardown(test_erasing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_base_fails, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lives, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
