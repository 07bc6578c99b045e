#include "packet/dpdk/internal.h"

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <stdio.h>
#include <stdlib.h>

#define BUFFER_CACHE 256 /* of each worker */
/* Of the environment besides buffers: queues of 32 devices, tables of the drivers. */
#define MEMORY_BASE_MIB 96

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
    return (struct packet *)rte_pktmbuf_copy((const struct rte_mbuf *)packet, backend->pool, 0, UINT32_MAX);
}

static void memory_free(struct packet_memory *memory, struct packet *const *packets, unsigned count) {
    (void)memory;
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

/* ---- the environment ---- */

static bool start_environment(const struct dpdk_options *options, struct error *error) {
    char name[64], memory[32], list[1024], cpus[1100];
    const char *arguments[24 + 2 * DPDK_DRIVERS_MAX];
    int count = 0;
    snprintf(name, sizeof(name), "%s", options->program);
    snprintf(memory, sizeof(memory), "%llu",
             (unsigned long long)(MEMORY_BASE_MIB +
                                  divide_up((uint64_t)options->buffers * (RTE_MBUF_DEFAULT_BUF_SIZE + 320), MIB(1))));
    /* Our main thread is its lcore 0, and keeps the cores that it may use. */
    host_linux_cpus(list, sizeof(list));
    snprintf(cpus, sizeof(cpus), "--lcores=0@(%s)", list);
    const char *always[] = {name, "--no-shconf", "--no-pci", "--no-telemetry", "-m", memory, cpus, "--log-level=warning"};
    for (size_t i = 0; i < array_count(always); i++)
        arguments[count++] = always[i];
    if (options->huge_dir == NULL) {
        arguments[count++] = "--no-huge";
    } else {
        /* Nobody shares them, so none is left behind; physical addresses are not ours to look up. */
        arguments[count++] = "--in-memory";
        arguments[count++] = "--iova-mode=va";
        arguments[count++] = "--huge-dir";
        arguments[count++] = options->huge_dir;
    }
    for (unsigned i = 0; i < options->driver_count; i++) {
        arguments[count++] = "-d";
        arguments[count++] = options->drivers[i];
    }
    arguments[count] = NULL;
    if (rte_eal_init(count, (char **)(uintptr_t)arguments) < 0)
        return error_set_errno(error, rte_errno, "DPDK does not start");
    int result = host_linux_guard_mappings();
    return result == 0 || error_set_errno(error, result, "no protection against guests that take their memory away");
}

bool dpdk_backend_create(const struct dpdk_options *options, struct packet_backend **ret_backend, struct error *error) {
    struct dpdk_backend *backend = calloc(1, sizeof(*backend));
    if (backend == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory");
    if (!start_environment(options, error)) {
        free(backend);
        return false;
    }
    backend->pool =
        rte_pktmbuf_pool_create("frames", options->buffers, BUFFER_CACHE, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
    if (backend->pool == NULL) {
        error_set_errno(error, rte_errno, "no memory for %u buffers", options->buffers);
        rte_eal_cleanup();
        free(backend);
        return false;
    }
    backend->memory = (struct packet_memory){.copy = memory_copy, .free = memory_free};
    backend->backend =
        (struct packet_backend){.memory = &backend->memory, .open = dpdk_port_open, .thread = thread, .open_sink = open_sink};
    *ret_backend = &backend->backend;
    return true;
}

void dpdk_backend_destroy(struct packet_backend *base) {
    struct dpdk_backend *backend = container_of(base, struct dpdk_backend, backend);
    rte_mempool_free(backend->pool);
    rte_eal_cleanup();
    free(backend);
}

void dpdk_backend_buffers(struct packet_backend *base, uint64_t *ret_count, uint64_t *ret_free) {
    struct dpdk_backend *backend = container_of(base, struct dpdk_backend, backend);
    *ret_count = backend->pool->size;
    *ret_free = rte_mempool_avail_count(backend->pool);
}
