/* The store when something runs out or runs away: buffers all lent, no memory for a checkpoint, a range that is cut off while it
 * is being trimmed. It waits, goes on, and tells the truth. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "context.h"
#include "session.h"

static const struct store_options options = {
    .disk = {.power_fail_unit = 512, .block_size = 512, .read_ns = 50000, .write_ns = 50000, .flush_ns = 100000},
    .disk_bytes = MIB(64),
    .journal_bytes = MIB(1),
    .checkpoint_bytes = KIB(48),
    .cache_bytes = MIB(4),
};

static void begin(struct session *session, const struct disk_image *image) {
    session_start(session, &options, image, 1, false);
    world_reserve_timers(&session->world);
}

static void make(struct session *session) {
    struct disk_image empty;
    disk_image_init(&empty, options.disk_bytes);
    begin(session, &empty);
    disk_image_fini(&empty);
    assert_true(session_format(session) && session_open(session));
}

static void finish(struct session *session) {
    if (!session_close_store(session) || !session_check(session))
        fail_msg("closing: %s", session->error.text);
    session_end(session);
}

static void must(struct session *session, void (*call)(struct volume_command *), struct volume_command command) {
    if (!session_command(session, call, &command))
        fail_msg("a command: %s", session->error.text);
}

static void make_volume(struct session *session, uint32_t number, uint64_t bytes, struct uuid *ret_uuid) {
    char name[MODEL_NAME_SIZE];
    session_name(number, name);
    session_uuid(number, ret_uuid);
    must(session, volume_create, (struct volume_command){.name = name, .size_bytes = bytes, .new_uuid = *ret_uuid});
}

/* ---- requests ---- */

struct io {
    struct block_request request;
    struct slice slice;
    unsigned *running;
    enum io_status status;
};
static void io_done(struct block_request *request) {
    struct io *io = container_of(request, struct io, request);
    io->status = (enum io_status)request->status;
    --*io->running;
}
static bool none_running(void *arg) { return *(unsigned *)arg == 0; }

static void submit(struct port *port, struct io *io, unsigned *running, enum block_op op, uint64_t offset, uint64_t length,
                   void *bytes) {
    *io = (struct io){.slice = {bytes, length}, .running = running};
    io->request = (struct block_request){.op = (uint8_t)op,
                                         .offset = offset,
                                         .length = length,
                                         .slices = &io->slice,
                                         .slice_count = op == BLOCK_READ || op == BLOCK_WRITE,
                                         .complete = io_done};
    ++*running;
    block_submit(port->channel, &io->request);
}

static void wait_all(struct session *session, unsigned *running) {
    if (!world_run_until(&session->world, none_running, running, 2000000))
        fail_msg("%u requests are never answered", *running);
}

static enum io_status one(struct session *session, struct port *port, enum block_op op, uint64_t offset, uint64_t length,
                          void *bytes) {
    struct io io;
    unsigned running = 0;
    submit(port, &io, &running, op, offset, length, bytes);
    wait_all(session, &running);
    return io.status;
}

static void expect_bytes(struct session *session, struct port *port, uint64_t offset, uint64_t length, int byte) {
    uint8_t *bytes = plain_alloc(length);
    assert_int_equal(one(session, port, BLOCK_READ, offset, length, bytes), IO_OK);
    for (uint64_t i = 0; i < length; i++)
        if (bytes[i] != byte)
            fail_msg("byte %llu is %d, not %d", (unsigned long long)(offset + i), bytes[i], byte);
    plain_free(bytes);
}

/* ---- buffers ---- */

#define WRITES 60
#define BUFFERS_MAX 4096

/* Writes of one block each that lie across two, next to each other: two fills each, every block wanted by two of them. */
static void fill_with(unsigned buffers) {
    struct session session;
    struct uuid uuid;
    struct port port;
    static uint8_t bytes[WRITES][4096], old[KIB(256)];
    static struct io ios[WRITES];
    static void *taken[BUFFERS_MAX];
    unsigned running = 0, count = 0;
    context_set("%u buffers are left", buffers);
    make(&session);
    make_volume(&session, 1, MIB(1), &uuid);
    assert_true(port_open(&session, &port, &uuid, false));
    memset(old, 0xee, sizeof(old));
    assert_int_equal(one(&session, &port, BLOCK_WRITE, 0, sizeof(old), old), IO_OK);
    must(&session, volume_snapshot_create, (struct volume_command){.volume = uuid, .name = "s"});
    struct buffer_pool *pool = &session.world.reactor->buffers;
    pool->limit = MIB(1);
    while (count < BUFFERS_MAX && (taken[count] = buffer_take(pool, 4096)) != NULL)
        count++;
    assert_in_range(count, buffers + 1, BUFFERS_MAX - 1);
    for (unsigned i = 0; i < buffers; i++)
        buffer_give(pool, taken[--count], 4096);
    for (unsigned i = 0; i < WRITES; i++) {
        memset(bytes[i], (int)i + 1, sizeof(bytes[i]));
        submit(&port, &ios[i], &running, BLOCK_WRITE, (uint64_t)i * 4096 + 2048, 4096, bytes[i]);
    }
    wait_all(&session, &running);
    for (unsigned i = 0; i < WRITES; i++)
        assert_int_equal(ios[i].status, IO_OK);
    expect_bytes(&session, &port, 0, 2048, 0xee);
    for (unsigned i = 0; i < WRITES; i++)
        expect_bytes(&session, &port, (uint64_t)i * 4096 + 2048, 4096, (int)i + 1);
    expect_bytes(&session, &port, WRITES * 4096 + 2048, 2048, 0xee);
    while (count > 0)
        buffer_give(pool, taken[--count], 4096);
    port_close(&port);
    finish(&session);
}

static void fills_go_on_when_all_buffers_are_lent(void **state) {
    (void)state;
    for (unsigned buffers = 0; buffers <= 4; buffers++)
        fill_with(buffers);
}

/* ---- memory ---- */

#define VOLUMES 60

static uint64_t checkpoints(const struct session *session) {
    struct volume_store_info info;
    volume_store_info(session->store, &info);
    if (info.failed || info.read_only)
        fail_msg("the store takes no more changes: %s", info.reason);
    return info.checkpoints;
}

/* Opened anew, the journal has changes of many pages that are not read yet: a checkpoint needs memory for each of them. */
static void a_checkpoint_waits_for_memory(void **state) {
    (void)state;
    struct session session;
    struct uuid uuid[VOLUMES];
    struct port port;
    struct disk_image image;
    static uint8_t bytes[4096];
    memset(bytes, 7, sizeof(bytes));
    make(&session);
    for (uint32_t i = 0; i < VOLUMES; i++)
        make_volume(&session, i, MIB(1), &uuid[i]);
    uint64_t before = checkpoints(&session);
    uint32_t written = 0;
    for (; written < VOLUMES && checkpoints(&session) == before; written++) {
        assert_true(port_open(&session, &port, &uuid[written], false));
        assert_int_equal(one(&session, &port, BLOCK_WRITE, 0, 4096, bytes), IO_OK);
        port_close(&port);
    }
    assert_true(port_open(&session, &port, &uuid[0], false));
    assert_int_equal(one(&session, &port, BLOCK_FLUSH, 0, 0, NULL), IO_OK);
    port_close(&port);
    assert_int_equal(written, VOLUMES); /* all of it is in the journal only */
    disk_image_clone(&image, &session.disk->now);
    session_crash(&session);
    disk_destroy(session.disk);

    begin(&session, &image);
    assert_true(session_open(&session));
    assert_true(port_open(&session, &port, &uuid[0], false));
    expect_bytes(&session, &port, 0, 4096, 7);
    before = checkpoints(&session);
    session.world.heap.dry = true;
    for (unsigned i = 1; i < 16; i++) { /* until it is due */
        assert_int_equal(one(&session, &port, BLOCK_WRITE, i * 4096, 4096, bytes), IO_OK);
        assert_int_equal(one(&session, &port, BLOCK_FLUSH, 0, 0, NULL), IO_OK);
    }
    world_run_for(&session.world, NS_PER_S);
    assert_int_equal(checkpoints(&session), before);
    assert_true(session.world.heap.failed > 10); /* it has tried again and again */
    session.world.heap.dry = false;
    world_run_for(&session.world, NS_PER_S);
    assert_true(checkpoints(&session) > before);
    port_close(&port);
    finish(&session);
    disk_image_fini(&image);
}

/* ---- a range that goes away ---- */

struct resize {
    struct volume_command command;
    unsigned *running;
};
static void resized(struct volume_command *command) { --*container_of(command, struct resize, command)->running; }

/* A trim of several turns, and the volume shrinks between them: what is left of the range is trimmed, and that is a success. */
static void a_trim_outlives_its_range(void **state) {
    (void)state;
    static uint8_t bytes[4096];
    memset(bytes, 9, sizeof(bytes));
    for (unsigned gone = 0; gone < 2; gone++) { /* a part of the range; all of it */
        struct session session;
        struct uuid uuid;
        struct port port;
        struct io trim;
        unsigned running = 0;
        make(&session);
        make_volume(&session, 1, MIB(400), &uuid);
        assert_true(port_open(&session, &port, &uuid, false));
        const uint64_t at[] = {0, MIB(50), MIB(90), MIB(200), MIB(399)};
        for (unsigned i = 0; i < array_count(at); i++)
            assert_int_equal(one(&session, &port, BLOCK_WRITE, at[i], 4096, bytes), IO_OK);
        uint64_t from = gone == 0 ? MIB(40) : MIB(110), size = MIB(100);
        submit(&port, &trim, &running, BLOCK_TRIM, from, MIB(400) - from, NULL);
        struct resize resize = {.command = {.store = session.store, .volume = uuid, .size_bytes = size, .done = resized},
                                .running = &running};
        running++;
        volume_resize(&resize.command);
        wait_all(&session, &running);
        assert_int_equal(trim.status, IO_OK);
        assert_true(resize.command.ok);
        expect_bytes(&session, &port, 0, 4096, 9);
        expect_bytes(&session, &port, MIB(50), 4096, gone == 0 ? 0 : 9);
        expect_bytes(&session, &port, MIB(90), 4096, gone == 0 ? 0 : 9);
        must(&session, volume_resize, (struct volume_command){.volume = uuid, .size_bytes = MIB(400)});
        expect_bytes(&session, &port, MIB(200), 4096, 0);
        expect_bytes(&session, &port, MIB(399), 4096, 0);
        port_close(&port);
        finish(&session);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fills_go_on_when_all_buffers_are_lent),
        cmocka_unit_test(a_checkpoint_waits_for_memory),
        cmocka_unit_test(a_trim_outlives_its_range),
    };
    return cmocka_run_group_tests_name("volume scarce", tests, NULL, NULL);
}
