#include "leg.h"

#include <stdlib.h>

const struct store_options leg_options = {
    .disk = {.power_fail_unit = 512, .block_size = 512, .read_ns = 20000, .write_ns = 80000, .flush_ns = 100000},
    .disk_bytes = DISK_BYTES,
    .journal_bytes = MIB(1),
    .cache_bytes = MIB(4),
    .unit_bytes = MIB(1)};

void begin(struct fixture *f) { begin_on(f, &leg_options); }

void begin_on(struct fixture *f, const struct store_options *options) {
    *f = (struct fixture){0};
    disk_image_init(&f->image, DISK_BYTES);
    session_start(&f->session, options, &f->image, 7, true);
    assert_true(session_format(&f->session));
    assert_true(session_open(&f->session));
    session_uuid(1, &f->volume);
    struct volume_command create = {.name = "leg", .size_bytes = VOLUME_BYTES, .new_uuid = f->volume};
    assert_true(session_command(&f->session, volume_create, &create));
}

void end(struct fixture *f) {
    if (f->session.store != NULL)
        assert_true(session_close_store(&f->session));
    if (!session_check(&f->session))
        fail_msg("%s", f->session.error.text);
    session_end(&f->session);
    disk_image_fini(&f->image);
}

void again(struct fixture *f, bool durable) {
    struct disk_image image;
    session_crash(&f->session);
    if (durable) {
        struct disk_cursor cursor;
        struct disk_image cut;
        disk_cursor_init(&cursor, f->session.disk);
        while (disk_cursor_next(&cursor))
            ;
        disk_cursor_image(&cursor, NULL, &cut);
        disk_image_clone(&image, &cut);
        disk_image_fini(&cut);
        disk_cursor_fini(&cursor);
    } else {
        disk_image_clone(&image, &f->session.disk->now);
    }
    session_end(&f->session);
    disk_image_fini(&f->image);
    f->image = image;
    session_start(&f->session, &leg_options, &f->image, 8, true);
    assert_true(session_open(&f->session));
    if (!session_check(&f->session))
        fail_msg("%s", f->session.error.text);
}

void way(struct fixture *f, struct port *port) { assert_true(port_open(&f->session, port, &f->volume, false)); }

void io_done(struct block_request *request) { container_of(request, struct io, request)->done = true; }
static bool io_is_done(void *arg) { return ((struct io *)arg)->done; }

void io_start(const struct port *port, struct io *io, enum block_op op, uint64_t argument, uint64_t offset, uint64_t length,
              void *buffer) {
    *io = (struct io){.slice = {buffer, length}};
    io->request = (struct block_request){.op = (uint8_t)op,
                                         .argument = argument,
                                         .slices = &io->slice,
                                         .slice_count = buffer != NULL,
                                         .offset = offset,
                                         .length = length,
                                         .complete = io_done};
    block_submit(port->channel, &io->request);
}

enum io_status io_end(struct fixture *f, struct io *io) {
    assert_true(world_run_until(&f->session.world, io_is_done, io, 1000000));
    return (enum io_status)io->request.status;
}

enum io_status io_run(struct fixture *f, const struct port *port, enum block_op op, uint64_t argument, uint64_t offset,
                      uint64_t length, void *buffer) {
    struct io io;
    io_start(port, &io, op, argument, offset, length, buffer);
    return io_end(f, &io);
}

enum io_status put(struct fixture *f, const struct port *port, enum replica_put verb, void *document, size_t length) {
    return io_run(f, port, BLOCK_REPLICA_PUT, replica_argument(verb, 0, 0), 0, length, document);
}

enum io_status claim(struct fixture *f, const struct port *port, uint8_t engine, uint64_t term, uint64_t attempt) {
    struct replica_claim document = {.mirror = id(1), .engine = id(engine), .term = term, .attempt = attempt, .leg = id(11)};
    return put(f, port, REPLICA_CLAIM, &document, sizeof(document));
}

struct replica_status status_of(struct fixture *f, const struct port *port) {
    struct replica_status status;
    assert_int_equal(io_run(f, port, BLOCK_REPLICA_GET, replica_argument(REPLICA_STATUS, 0, 0), 0, sizeof(status), &status),
                     IO_OK);
    return status;
}

enum io_status store(struct fixture *f, const struct port *port, uint64_t depth, uint64_t first, uint64_t count) {
    union {
        struct replica_store store;
        uint8_t bytes[sizeof(struct replica_store) + sizeof(struct replica_range)];
    } document = {.store = {.record = status_of(f, port).record, .marks.count = count > 0}};
    document.store.record.epoch = (struct replica_epoch){depth, id((uint8_t)(100 + depth))};
    document.store.record.state = REPLICA_WHOLE;
    document.store.marks.ranges[0] = (struct replica_range){first, count};
    return put(f, port, REPLICA_STORE, &document, sizeof(document.store) + (count > 0) * sizeof(struct replica_range));
}

uint16_t marks(struct fixture *f, const struct port *port, uint32_t depth) {
    uint8_t bits[2];
    assert_int_equal(io_run(f, port, BLOCK_REPLICA_GET, replica_argument(REPLICA_MARKS, 0, depth), 0, sizeof(bits), bits), IO_OK);
    return get_le16(bits);
}

enum io_status write_at(struct fixture *f, const struct port *port, uint64_t offset, uint8_t fill) {
    static uint8_t buffer[4096];
    memset(buffer, fill, sizeof(buffer));
    return io_run(f, port, BLOCK_WRITE, 0, offset, sizeof(buffer), buffer);
}

enum io_status flush(struct fixture *f, const struct port *port) { return io_run(f, port, BLOCK_FLUSH, 0, 0, 0, NULL); }
