/* Volumes upon another device: cloned from it, set upon it, snapshotted, inflated, parted from it; the device comes and goes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "blockdev/memory/memory.h"
#include "leg.h"

#define BYTES MIB(4)

static const struct uuid source_uuid = {.bytes = {0x5e, 1, 2, 3}};

static uint8_t content(uint64_t block) { return (uint8_t)(1 + block % 251); }

static void source_create(struct fixture *f, uint64_t bytes) {
    struct error error;
    struct block_device *device;
    struct memory_device_options options = {.name = "source", .uuid = source_uuid, .block_size = 512, .block_count = bytes / 512};
    assert_true(memory_device_create(&f->session.graph, &options, &device, &error));
    struct port port = {.handle = {.owner = "test"}};
    assert_true(block_handle_open(&port.handle, device, BLOCK_MODE_WRITE, &error));
    port.channel = block_channel_open(&port.handle);
    uint8_t *buffer = aligned_alloc(4096, 4096);
    for (uint64_t block = 0; block < bytes / 4096; block++) {
        memset(buffer, content(block), 4096);
        assert_int_equal(io_run(f, &port, BLOCK_WRITE, 0, block * 4096, 4096, buffer), IO_OK);
    }
    free(buffer);
    block_channel_close(port.channel);
    block_handle_close(&port.handle);
}

static void source_remove(struct fixture *f) {
    struct error error;
    assert_true(block_device_remove(block_graph_find(&f->session.graph, "source"), NULL, NULL, &error));
    world_run_for(&f->session.world, NS_PER_MS);
    assert_null(block_graph_find(&f->session.graph, "source"));
}

static void finish(struct fixture *f) {
    assert_true(session_close_store(&f->session)); /* lets the device go */
    if (block_graph_find(&f->session.graph, "source") != NULL)
        source_remove(f);
    end(f);
}

static bool clone_device(struct fixture *f, const char *name, struct uuid *ret_uuid, enum error_code *ret_code) {
    struct volume_command command = {.device = block_graph_find(&f->session.graph, "source"), .name = name};
    bool ok = session_command(&f->session, volume_clone_device, &command);
    *ret_uuid = command.ret_uuid;
    *ret_code = ok ? ERROR_NONE : command.error.code;
    return ok;
}

static enum error_code run(struct fixture *f, void (*call)(struct volume_command *), struct volume_command command) {
    return session_command(&f->session, call, &command) ? ERROR_NONE : command.error.code;
}

static struct uuid snapshot(struct fixture *f, const struct uuid *of, const char *name) {
    struct volume_command command = {.volume = *of, .name = name};
    assert_true(session_command(&f->session, volume_snapshot_create, &command));
    return command.ret_uuid;
}

static struct volume_info info(struct fixture *f, const struct uuid *of) {
    struct volume_command command = {.volume = *of};
    assert_true(session_command(&f->session, volume_list, &command));
    struct volume_info info = command.ret_infos[0];
    free(command.ret_infos);
    return info;
}

static enum io_status io(struct fixture *f, const struct uuid *uuid, enum block_op op, uint64_t offset, uint64_t length,
                         uint8_t *buffer) {
    struct port port;
    assert_true(port_open(&f->session, &port, uuid, op == BLOCK_READ));
    enum io_status status = io_run(f, &port, op, 0, offset, length, buffer);
    port_close(&port);
    return status;
}

/* Expects the source's content but for the blocks below, which the tests change. */
#define WRITTEN 3u  /* whole: 0xee */
#define FILLED 7u   /* its first 512 bytes: 0xdd */
#define TRIMMED 20u /* zeros */
static void change(struct fixture *f, const struct uuid *uuid) {
    uint8_t *buffer = aligned_alloc(4096, 4096);
    memset(buffer, 0xee, 4096);
    assert_int_equal(io(f, uuid, BLOCK_WRITE, WRITTEN * 4096, 4096, buffer), IO_OK);
    memset(buffer, 0xdd, 512);
    assert_int_equal(io(f, uuid, BLOCK_WRITE, FILLED * 4096, 512, buffer), IO_OK);
    assert_int_equal(io(f, uuid, BLOCK_TRIM, TRIMMED * 4096, 4096, NULL), IO_OK);
    assert_int_equal(io(f, uuid, BLOCK_FLUSH, 0, 0, NULL), IO_OK);
    free(buffer);
}

static void expect(struct fixture *f, const struct uuid *uuid, bool changed, bool upon) {
    uint8_t *bytes = aligned_alloc(4096, BYTES);
    assert_int_equal(io(f, uuid, BLOCK_READ, 0, BYTES, bytes), IO_OK);
    for (uint64_t i = 0; i < BYTES; i++) {
        uint64_t block = i / 4096;
        uint8_t want = upon ? content(block) : 0;
        if (changed && block == WRITTEN)
            want = 0xee;
        if (changed && block == FILLED && i % 4096 < 512)
            want = 0xdd;
        else if (changed && block == FILLED)
            want = content(block);
        if (changed && block == TRIMMED)
            want = 0;
        if (bytes[i] != want)
            fail_msg("byte %llu (block %llu) is %02x, should be %02x", (unsigned long long)i, (unsigned long long)block, bytes[i],
                     want);
    }
    free(bytes);
}

static void a_clone_reads_the_device_and_keeps_its_own(void **state) {
    (void)state;
    struct fixture f;
    struct uuid clone;
    enum error_code code;
    begin(&f);
    source_create(&f, BYTES);
    assert_true(clone_device(&f, "clone", &clone, &code));
    struct volume_info told = info(&f, &clone);
    assert_true(uuid_equal(&told.source, &source_uuid));
    expect(&f, &clone, false, true);
    change(&f, &clone);
    expect(&f, &clone, true, true);
    struct uuid snap = snapshot(&f, &clone, "snap");
    expect(&f, &snap, true, true);
    told = info(&f, &clone);
    assert_true(uuid_is_nil(&told.source) && !told.source_absent);

    /* Deleting the snapshot merges it; its own child stands on the device then. */
    assert_int_equal(run(&f, volume_delete, (struct volume_command){.volume = snap}), ERROR_NONE);
    world_run_for(&f.session.world, NS_PER_S);
    expect(&f, &clone, true, true);
    told = info(&f, &clone);
    assert_true(uuid_equal(&told.source, &source_uuid));
    finish(&f);
}

static void the_device_comes_and_goes(void **state) {
    (void)state;
    struct fixture f;
    struct uuid clone;
    enum error_code code;
    uint8_t *buffer = aligned_alloc(4096, 4096);
    begin(&f);
    source_create(&f, BYTES);
    assert_true(clone_device(&f, "clone", &clone, &code));
    change(&f, &clone);
    source_remove(&f);
    assert_true(info(&f, &clone).source_absent);
    assert_int_equal(io(&f, &clone, BLOCK_READ, WRITTEN * 4096, 4096, buffer), IO_OK); /* its own */
    assert_int_equal(buffer[0], 0xee);
    assert_int_equal(io(&f, &clone, BLOCK_READ, 0, 4096, buffer), IO_NOT_READY);
    assert_int_equal(io(&f, &clone, BLOCK_WRITE, 512, 512, buffer), IO_NOT_READY); /* the rest of the block is not known */
    source_create(&f, BYTES / 2);                                                  /* not the one it was */
    world_run_for(&f.session.world, NS_PER_MS);
    assert_true(info(&f, &clone).source_absent);
    source_remove(&f);
    source_create(&f, BYTES);
    world_run_for(&f.session.world, NS_PER_MS);
    expect(&f, &clone, true, true);

    again(&f, true); /* the process is killed: the store is there before the device */
    assert_true(info(&f, &clone).source_absent);
    assert_int_equal(io(&f, &clone, BLOCK_READ, 0, 4096, buffer), IO_NOT_READY);
    source_create(&f, BYTES);
    world_run_for(&f.session.world, NS_PER_MS);
    expect(&f, &clone, true, true);
    free(buffer);
    finish(&f);
}

static void it_is_left_by_inflating_deleting_and_another_parent(void **state) {
    (void)state;
    struct fixture f;
    struct uuid clones[3];
    enum error_code code;
    begin(&f);
    source_create(&f, BYTES);
    const char *const names[] = {"inflated", "moved", "deleted"};
    for (unsigned i = 0; i < 3; i++) {
        assert_true(clone_device(&f, names[i], &clones[i], &code));
        change(&f, &clones[i]);
    }
    struct uuid other = snapshot(&f, &f.volume, "other"); /* 12 MiB of zeros: larger than the clones */
    assert_int_equal(run(&f, volume_parent_set, (struct volume_command){.volume = clones[1], .snapshot = other}), ERROR_INVALID);
    struct volume_command create = {.name = "zeros", .size_bytes = BYTES};
    assert_true(session_command(&f.session, volume_create, &create));
    struct uuid zeros = snapshot(&f, &create.ret_uuid, "zeros1");
    assert_int_equal(run(&f, volume_parent_detach, (struct volume_command){.volume = clones[1]}), ERROR_INVALID);
    assert_int_equal(run(&f, volume_inflate, (struct volume_command){.volume = clones[0]}), ERROR_NONE);
    assert_int_equal(run(&f, volume_parent_set, (struct volume_command){.volume = clones[1], .snapshot = zeros}), ERROR_NONE);
    assert_int_equal(run(&f, volume_delete, (struct volume_command){.volume = clones[2]}), ERROR_NONE);
    world_run_for(&f.session.world, NS_PER_S);
    source_remove(&f); /* nobody holds it any more */
    for (unsigned pass = 0; pass < 2; pass++) {
        expect(&f, &clones[0], true, true);
        expect(&f, &clones[1], true, false);
        again(&f, true);
    }

    /* Set upon it: what the volume holds stays. */
    source_create(&f, BYTES);
    struct block_device *source = block_graph_find(&f.session.graph, "source");
    struct volume_command set = {.volume = clones[1], .device = source};
    assert_int_equal(run(&f, volume_parent_set_device, set), ERROR_NONE);
    assert_int_equal(run(&f, volume_parent_set_device, set), ERROR_EXISTS);
    expect(&f, &clones[1], true, true);
    finish(&f);
}

static void what_does_not_fit_is_refused(void **state) {
    (void)state;
    struct fixture f;
    struct uuid clone;
    enum error_code code;
    struct port port;
    begin(&f);
    source_create(&f, BYTES + 4096); /* no multiple of the unit */
    assert_false(clone_device(&f, "clone", &clone, &code));
    assert_int_equal(code, ERROR_INVALID);
    source_remove(&f);
    source_create(&f, 2 * VOLUME_BYTES);
    struct block_device *source = block_graph_find(&f.session.graph, "source");
    assert_int_equal(run(&f, volume_parent_set_device, (struct volume_command){.volume = f.volume, .device = source}),
                     ERROR_INVALID); /* larger */
    assert_false(clone_device(&f, "leg", &clone, &code));
    assert_int_equal(code, ERROR_EXISTS);
    assert_true(clone_device(&f, "clone", &clone, &code));
    assert_true(port_open(&f.session, &port, &clone, false));
    assert_int_equal(claim(&f, &port, 1, 1, 1), IO_UNSUPPORTED); /* no leg of a mirror */
    port_close(&port);
    finish(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_clone_reads_the_device_and_keeps_its_own),
        cmocka_unit_test(the_device_comes_and_goes),
        cmocka_unit_test(it_is_left_by_inflating_deleting_and_another_parent),
        cmocka_unit_test(what_does_not_fit_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
