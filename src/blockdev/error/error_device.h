/* The error device, EE_<base>: stands on another device and spoils requests as told. Without an injection it hands everything
 * through.
 *
 * A rule a kind of operation. A request is looked at in the order of submission, over all reactors: the first `skip` pass, then
 * one in `one_in` (drawn from `seed` and the request's place, so that equal runs fail equally) is hit, until `count` are.
 * Compares and REPLICA_GET count as reads, zeroing and REPLICA_PUT as writes. */
#pragma once

#include "block/device.h"

enum error_device_op { ERROR_DEVICE_READ, ERROR_DEVICE_WRITE, ERROR_DEVICE_TRIM, ERROR_DEVICE_FLUSH, ERROR_DEVICE_OPS };
#define ERROR_DEVICE_OP(op) (1u << (op))
#define ERROR_DEVICE_OP_ALL ((1u << ERROR_DEVICE_OPS) - 1)

enum error_device_effect {
    ERROR_DEVICE_FAIL,      /* not done, IO_MEDIUM_READ or IO_MEDIUM_WRITE */
    ERROR_DEVICE_PENDING,   /* held until the rules are cleared, then done; IO_PATH_LOST when its channel is recalled,
                               IO_DEVICE_GONE when the device is deleted */
    ERROR_DEVICE_CORRUPT,   /* done, one byte of what is read or written is changed; reads and writes only */
    ERROR_DEVICE_NO_MEMORY, /* not done, IO_NO_MEMORY */
    ERROR_DEVICE_STATUS,    /* not done, `status` */
    ERROR_DEVICE_DROP       /* not done and reported as done: a disk that lies */
};

struct error_device_rule {
    unsigned ops; /* mask of ERROR_DEVICE_OP() */
    enum error_device_effect effect;
    enum io_status status;   /* of ERROR_DEVICE_STATUS */
    uint64_t count;          /* how many it hits; 0 = all from then on */
    uint64_t skip;           /* so many matching requests pass before */
    uint32_t one_in;         /* of the others one in so many is hit; 0 or 1 = each */
    uint64_t seed;           /* of that draw */
    uint64_t queue_depth;    /* only while at least so many requests of the channel are under way */
    uint64_t corrupt_offset; /* byte in the request; beyond its end nothing is changed */
    uint8_t corrupt_value;   /* the byte is XORed with it; 0 = 0xff */
};

#define ERROR_DEVICE_PREFIX "EE_"

/* Makes and registers EE_<base_name>; it claims its base, and goes with it. Control reactor, as all here. ERROR_NO_DEVICE,
 * ERROR_EXISTS, ERROR_PERMISSION. */
bool error_device_create(struct block_graph *graph, const char *base_name, const struct uuid *uuid,
                         struct block_device **ret_device, struct error *error);
/* As block_device_remove(); pending requests end at once. */
bool error_device_delete(struct block_device *device, void (*removed)(struct block_device *device, void *arg), void *arg,
                         struct error *error);
/* Replaces the rules of these operations. A request that another reactor submits in this instant may see the old rule or parts of
 * both. ERROR_INVALID names the argument. */
bool error_device_inject(struct block_device *device, const struct error_device_rule *rule, struct error *error);
/* Takes all rules away; what is pending goes on within a millisecond. */
void error_device_clear(struct block_device *device);
/* How many requests were hit since the device was made. Any thread. */
uint64_t error_device_hits(const struct block_device *device);
struct block_device *error_device_base(const struct block_device *device);
/* True for a device of this kind. */
bool error_device_is(const struct block_device *device);
