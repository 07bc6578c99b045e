#include "packet/dpdk/internal.h"

#include <rte_eal.h>
#include <rte_lcore.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>
#include <stdlib.h>

/* A frame is the first line of a driver's. */
#define SAME(member, driver_member)                                                                                              \
    static_assert(offsetof(struct packet, member) == offsetof(struct rte_mbuf, driver_member) &&                                 \
                      sizeof(((struct packet *)0)->member) == sizeof(((struct rte_mbuf *)0)->driver_member),                     \
                  "one layout")
SAME(buffer, buf_addr);
SAME(data_offset, data_off);
SAME(driver_1, refcnt);
SAME(segments, nb_segs);
SAME(driver_3, ol_flags);
SAME(length, pkt_len);
SAME(first_length, data_len);
SAME(buffer_size, buf_len);
SAME(pool, pool);

static struct packet *memory_copy(struct packet_memory *memory, const struct packet *packet) {
    struct dpdk_backend *backend = container_of(memory, struct dpdk_backend, memory);
    void *copy = rte_pktmbuf_copy((const struct rte_mbuf *)packet, backend->pool, 0, UINT32_MAX);
    dpdk_frames_come(&copy, copy != NULL ? 1 : 0);
    return copy;
}

static void memory_free(struct packet_memory *memory, struct packet *const *packets, unsigned count) {
    (void)memory;
    dpdk_frames_go((void *const *)packets, count);
    /* It takes the array as its own to write in, and does not. */
    rte_pktmbuf_free_bulk((struct rte_mbuf **)(uintptr_t)packets, count);
}

static void thread(struct packet_backend *backend, bool begins) {
    (void)backend;
    /* Without a number of its own (128 threads have one) a thread works, only without a cache of buffers. */
    if (begins)
        rte_thread_register();
    else
        rte_thread_unregister();
}

/* ---- where captures go ---- */

struct dpdk_sink {
    struct packet_sink sink;
    struct host_linux_sink *file;
};

static int64_t sink_write(struct packet_sink *sink, const void *bytes, size_t size) {
    return host_linux_sink_write(container_of(sink, struct dpdk_sink, sink)->file, bytes, size);
}

static void sink_close(struct packet_sink *base) {
    struct dpdk_sink *sink = container_of(base, struct dpdk_sink, sink);
    host_linux_sink_close(sink->file);
    free(sink);
}

static bool open_sink(const char *path, struct packet_sink **ret_sink, struct error *error) {
    struct dpdk_sink *sink = calloc(1, sizeof(*sink));
    if (sink == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory for a file");
    int result = host_linux_sink_open(path, &sink->file);
    if (result != 0) {
        free(sink);
        return error_set_errno(error, result, "%s", path);
    }
    sink->sink = (struct packet_sink){.write = sink_write, .close = sink_close};
    *ret_sink = &sink->sink;
    return true;
}

/* ---- what is taken ---- */

static void backend_usage(struct packet_backend *base, struct packet_usage *ret_usage) {
    struct dpdk_backend *backend = container_of(base, struct dpdk_backend, backend);
    *ret_usage = (struct packet_usage){.buffers = backend->pool->size, .buffers_free = rte_mempool_avail_count(backend->pool)};
    for (unsigned i = 0; i < rte_socket_count(); i++) {
        struct rte_malloc_socket_stats stats;
        if (rte_malloc_get_socket_stats(rte_socket_id_by_idx(i), &stats) != 0)
            continue;
        ret_usage->heap_bytes += stats.heap_totalsz_bytes;
        ret_usage->heap_free_bytes += stats.heap_freesz_bytes;
        if (stats.greatest_free_size > ret_usage->heap_largest_free_bytes)
            ret_usage->heap_largest_free_bytes = stats.greatest_free_size;
    }
}

/* ---- life ---- */

bool dpdk_backend_create(const struct dpdk_options *options, struct packet_backend **ret_backend, struct error *error) {
    struct dpdk_backend *backend = calloc(1, sizeof(*backend));
    if (backend == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory");
    backend->role = options->role;
    bool up = dpdk_environment_start(options, error);
    if (!up || !dpdk_environment_open_pool(backend, options, error) ||
        (options->role != DPDK_ALONE &&
         (!dpdk_shared_open(backend, error) || !dpdk_environment_open_lcores(backend, options, error)))) {
        if (up)
            rte_eal_cleanup();
        free(backend);
        return false;
    }
    backend->xdp = options->xdp;
    backend->memory = (struct packet_memory){.copy = memory_copy, .free = memory_free};
    backend->backend = (struct packet_backend){
        .memory = &backend->memory, .open = dpdk_port_open, .thread = thread, .open_sink = open_sink, .usage = backend_usage};
    if (options->role != DPDK_ALONE) {
        backend->backend.opens_rings = true;
        backend->backend.thread = dpdk_shared_thread;
        backend->backend.launcher = dpdk_environment_launcher;
    }
    *ret_backend = &backend->backend;
    return true;
}

void dpdk_backend_destroy(struct packet_backend *base) {
    struct dpdk_backend *backend = container_of(base, struct dpdk_backend, backend);
    if (backend->role == DPDK_ALONE)
        rte_mempool_free(backend->pool); /* else others may have frames of it */
    rte_eal_cleanup();
    free(backend->lcores);
    free(backend);
}
