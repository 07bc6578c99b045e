/* What the figures of the volume store stand on: one reactor on this thread, a disk, a store, commands that are waited for, and
 * loads. Everything dies at the first error, with a word. Used by the files of this folder only. */
#pragma once

#include <stdio.h>
#include <stdlib.h>

#include "base/random.h"
#include "base/text.h"
#include "blockdev/file/file.h"
#include "blockdev/volume/volume.h"
#include "host/linux/linux.h"
#include "load/load.h"

#define DEPTH_MAX 128

struct bench {
    struct host *host;
    struct reactor *reactor;
    struct block_graph graph;
    struct block_device *base;
    struct volume_store *store;
    struct volume_command command;
    struct volume_store_format format;
    struct volume_store_open open;
    struct file_device_create file;
    struct random random;
    struct block_handle handle;
    struct block_channel *channel;
    uint64_t checkpoint_bytes; /* of journal in use when a checkpoint begins; 0 = as usual */
    char **words;              /* of the command line, after the figure's name; NULL at the end */
    const char *path;          /* of the disk's file; NULL = it is none */
    /* the bare load: one block a cluster, zeros, a flush after each */
    struct flight {
        struct bench *bench;
        struct block_request request;
        struct slice slice;
        uint8_t *buffer;
        bool flushing;
    } flights[DEPTH_MAX];
    unsigned depth, under_way;
    bool flush_each, sequential, stopping;
    uint64_t origin, region, next; /* bytes: from where to where it writes at random */
    uint64_t write_limit;          /* how many writes, at least depth; 0 = until the time is over */
    uint64_t cluster;              /* bytes: the store's */
    uint64_t done, until_ns, last_ns, longest_ns;
    uint64_t *per_second, seconds;
    uint64_t started_ns;
    void (*sent)(struct bench *bench, uint64_t offset); /* told of each write; may be NULL */
};

_Noreturn void bench_die(const char *what);
static inline void bench_go_on(struct bench *bench) { host_loop_stop(bench->reactor->loop); }
/* Turns the loop until somebody calls bench_go_on(). */
void bench_wait(struct bench *bench);
static inline uint64_t bench_now(const struct bench *bench) { return host_now_ns(bench->host); }
/* The next word of the command line as a size or number. */
uint64_t bench_word(struct bench *bench, const char *what);

/* Makes bench->base: "sparse:SIZE" keeps only what is not zero, so that a store of 600 GiB fits in memory (its data are zeros,
 * its metadata are not); "memory:SIZE" is the product's; else a file. */
void bench_disk(struct bench *bench, const char *spec);
void bench_format(struct bench *bench);
void bench_open(struct bench *bench);
void bench_close(struct bench *bench);
struct uuid bench_command(struct bench *bench, struct volume_command arguments, void (*call)(struct volume_command *));
/* Of all volumes: the caller frees them. */
struct volume_info *bench_list(struct bench *bench, size_t *ret_count);
struct uuid bench_volume(struct bench *bench, const char *name, uint64_t size);
void bench_snapshot(struct bench *bench, const struct uuid *volume, const char *name);
/* bench->channel is the volume's from here to bench_leave(). */
void bench_use(struct bench *bench, const char *name);
void bench_leave(struct bench *bench);

/* The bare load on bench->channel: random blocks of [bench->origin, bench->region), or (`sequential`) the first block of each
 * cluster once. */
void bench_load_start(struct bench *bench, unsigned depth, uint64_t for_ns);
/* The same, waited for: requests a second. */
double bench_load_run(struct bench *bench, unsigned depth, uint64_t for_ns);
/* One block of each cluster of [0, region), so that all of it is mapped. */
void bench_map_all(struct bench *bench, uint64_t region);

/* A load of src/load on bench->channel, waited for. */
struct measured {
    double iops, p50_us, p99_us, p99_9_us, cpu_us; /* cpu_us: of this process, a request */
    double seconds;
};
struct measured bench_measure(struct bench *bench, const struct load_options *options);
struct measured bench_result(struct bench *bench, const struct load_result *result, uint64_t cpu_ns);
/* "name": {…} */
void bench_print(const char *name, const struct measured *measured);
uint64_t bench_cpu_ns(void);                      /* of this process so far */
int bench_by_value(const void *a, const void *b); /* qsort() of uint64_t */

/* ---- the figures; each prints one line of JSON ---- */
void figure_create(struct bench *bench);
void figure_snapshot(struct bench *bench);
void figure_flood(struct bench *bench);
void figure_flush(struct bench *bench);
void figure_after(struct bench *bench);
void figure_fill(struct bench *bench);
void figure_reopen(struct bench *bench);
void figure_image(struct bench *bench);
void figure_chain(struct bench *bench);
void figure_space(struct bench *bench);
void figure_trim(struct bench *bench);
