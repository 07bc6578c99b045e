/* A simulated machine with a process and an actor on it: what most tests of host/sim start from. */
#pragma once

#include "contract.h"

#include "host/sim/sim_disk.h"

struct rig {
    struct fixture fixture;
    struct sim *sim;
    struct sim_node *node;
    struct host *host;
    struct actor actor;
};

/* A world with one machine "one" at 10.0.0.1. Says the seed, so that a failure shows it. */
void rig_init(struct rig *rig, uint64_t seed);
void rig_init_options(struct rig *rig, const struct sim_options *options);
/* Another machine in the same world. */
void rig_join(struct rig *rig, struct rig *other, const char *name, const char *address);
/* A new process (and actor) on the rig's machine, after a kill. */
void rig_restart(struct rig *rig);
/* Closes the actor and ends the process in order. */
void rig_exit(struct rig *rig);
void rig_fini(struct rig *rig);

/* A request that a test does not wait for at once; kept until rig_io_free(). */
struct rig_io {
    struct host_file_request request;
    struct slice slice;
    bool done;
    uint8_t *data;
};
struct rig_io *rig_io_create(struct host_file *file, enum host_file_op op, uint64_t offset, uint64_t length);
void rig_io_submit(struct rig *rig, struct rig_io *io);
/* Without waiting for the loop to have taken it: where it kills the process. */
void rig_io_submit_unawaited(struct rig *rig, struct rig_io *io);
/* Both; a write's data is all `fill`. */
struct rig_io *rig_io_start(struct rig *rig, struct host_file *file, enum host_file_op op, uint64_t offset, uint64_t length,
                            uint8_t fill);
void rig_io_wait(struct rig *rig, struct rig_io *io);
void rig_io_free(struct rig_io *io);
/* Opens the disk at a path, which must work. */
struct host_file *rig_open(struct rig *rig, const char *name, bool hold);
