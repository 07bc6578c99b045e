/* A store with one volume that is a leg, and ways to it, for the tests of replicas. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "block/replica.h"
#include "context.h"
#include "session.h"

#define DISK_BYTES MIB(48)
#define VOLUME_BYTES MIB(12)
#define REGIONS (VOLUME_BYTES / REPLICA_REGION_BYTES)

extern const struct store_options leg_options;

struct fixture {
    struct session session;
    struct disk_image image;
    struct uuid volume;
};

struct io {
    struct block_request request;
    struct slice slice;
    bool done;
};

/* A document of up to two ranges. */
union ranges {
    struct replica_ranges head;
    uint8_t bytes[sizeof(struct replica_ranges) + 2 * sizeof(struct replica_range)];
};

static inline struct uuid id(uint8_t n) { return (struct uuid){.bytes = {n}}; }

void begin(struct fixture *f);
/* On another disk than leg_options'. */
void begin_on(struct fixture *f, const struct store_options *options);
/* Closes the store and checks the disk. */
void end(struct fixture *f);
/* Opened anew on what the disk has been told (`durable`: on what surely is on the medium). */
void again(struct fixture *f, bool durable);
void way(struct fixture *f, struct port *port);

void io_start(const struct port *port, struct io *io, enum block_op op, uint64_t argument, uint64_t offset, uint64_t length,
              void *buffer);
/* The end of a request that a test put together itself. */
void io_done(struct block_request *request);
enum io_status io_end(struct fixture *f, struct io *io);
enum io_status io_run(struct fixture *f, const struct port *port, enum block_op op, uint64_t argument, uint64_t offset,
                      uint64_t length, void *buffer);
enum io_status put(struct fixture *f, const struct port *port, enum replica_put verb, void *document, size_t length);
/* For mirror 1, as its leg 11. */
enum io_status claim(struct fixture *f, const struct port *port, uint8_t engine, uint64_t term, uint64_t attempt);
struct replica_status status_of(struct fixture *f, const struct port *port);
/* Stores the next epoch, with marks for one range (count 0: none). */
enum io_status store(struct fixture *f, const struct port *port, uint64_t depth, uint64_t first, uint64_t count);
/* A bit for each region that is marked at or above the depth. */
uint16_t marks(struct fixture *f, const struct port *port, uint32_t depth);
/* 4 KiB of one byte. */
enum io_status write_at(struct fixture *f, const struct port *port, uint64_t offset, uint8_t fill);
enum io_status flush(struct fixture *f, const struct port *port);
