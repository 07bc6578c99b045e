/* What the figures of the mirror stand on: one reactor on this thread, legs made from texts, an engine over them, loads.
 * Everything dies at the first error, with a word. Used by the files of this folder only. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blockdev/file/file.h"
#include "blockdev/mirror/mirror.h"
#include "blockdev/nvme_tcp/nvme_tcp.h"
#include "blockdev/volume/volume.h"
#include "host/linux/linux.h"
#include "load/load.h"

struct ground {
    struct host *host;
    struct reactor *reactor;
    struct block_graph graph;
    struct nvme_initiator *initiator;
    struct block_device *mirror, *legs[MIRROR_LEGS_MAX];
    struct reactor_timer timer; /* of ground_until() */
    bool (*reached)(struct ground *ground);
    uint64_t marked_most; /* of what ground_until() and loads saw */
    struct block_handle handle;
    struct block_channel *channel;
    char **words; /* of the command line; NULL at the end */
};

_Noreturn void ground_die(const char *what);
static inline void ground_go_on(struct ground *ground) { host_loop_stop(ground->reactor->loop); }
/* Turns the loop until somebody calls ground_go_on(), or `reached` says so, asked every 100 µs. */
void ground_wait(struct ground *ground);
void ground_until(struct ground *ground, bool (*reached)(struct ground *ground));
/* The next word of the command line; as a size or number. */
const char *ground_word(struct ground *ground, const char *what);
uint64_t ground_number(struct ground *ground, const char *what);
uint64_t ground_cpu_ns(void); /* of this process so far */

/* A leg, by its index: memory:SIZE; volume:SIZE@DEVICE, a thin volume in a new store; delay:US:DEVICE; error:DEVICE;
 * file:PATH (made with 64 GiB of nothing if it is not there); nvme:PORT:NQN of this node, a # in it becomes the index.
 * A|B: the first is A, the second is B. */
struct block_device *ground_leg(struct ground *ground, const char *all, unsigned index);
/* The engine over legs; they are equal if they keep no record. Waits until it serves. */
void ground_mirror(struct ground *ground, struct block_device *const *legs, unsigned count, const struct mirror_options *options);
void ground_status(const struct ground *ground, struct mirror_status *ret_status);
bool ground_all_whole(struct ground *ground);
/* ground->channel is the device's from here to ground_leave(). */
void ground_use(struct ground *ground, struct block_device *device);
void ground_leave(struct ground *ground);

struct measured {
    double iops, avg_us, p50_us, p99_us, p99_9_us, cpu_us, seconds;
};
struct measured ground_load(struct ground *ground, const struct load_options *options);
void ground_print(const char *name, const struct measured *measured); /* "name": {…} */

void figure_load(struct ground *ground);
void figure_marks(struct ground *ground);
void figure_rebuild(struct ground *ground);
void figure_outage(struct ground *ground);
void figure_verify(struct ground *ground);
