/* DPDK's environment: alone, or as one of the processes that share frames. docs/packet-processes.md. */
#include "packet/dpdk/internal.h"

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <stdio.h>
#include <stdlib.h>

#define BUFFER_CACHE 256 /* of each worker */
/* Of the environment besides buffers: queues of 32 devices, tables of the drivers. */
#define MEMORY_BASE_MIB 96
#define POOL_NAME "frames"

/* A primary's lcores have numbers that no mask can name, since two processes must never run workers of the same number: what a
 * lcore keeps of free frames is found by it. */
#define PRIMARY_LCORE_FIRST CORES_MAX
#define PRIMARY_LCORE_MAIN (RTE_MAX_LCORE - 1)

struct arguments {
    const char *list[32 + 2 * DPDK_DRIVERS_MAX + 2 * DPDK_PCI_MAX];
    int count;
};

static void add(struct arguments *arguments, const char *argument) {
    assert(arguments->count + 1 < (int)array_count(arguments->list));
    arguments->list[arguments->count++] = argument;
    arguments->list[arguments->count] = NULL;
}

/* "0@(0-1)": our main thread keeps the cores that it may use, and runs no worker. Then those of the workers. */
static void list_lcores(const struct dpdk_options *options, char *to, size_t size) {
    char all[1024];
    host_linux_cpus(all, sizeof(all));
    unsigned first = options->role == DPDK_PRIMARY     ? PRIMARY_LCORE_MAIN
                     : options->role == DPDK_SECONDARY ? (unsigned)__builtin_ctzll(options->cores)
                                                       : 0;
    size_t at = (size_t)snprintf(to, size, "--lcores=%u@(%s)", first, all);
    for (unsigned i = 0; options->role == DPDK_PRIMARY && i < options->cpu_count && at < size; i++)
        at += (size_t)(options->cpus[i] < 0 ? snprintf(to + at, size - at, ",%u@(%s)", PRIMARY_LCORE_FIRST + i, all)
                                            : snprintf(to + at, size - at, ",%u@%d", PRIMARY_LCORE_FIRST + i, options->cpus[i]));
    for (unsigned core = first + 1; options->role == DPDK_SECONDARY && core < CORES_MAX && at < size; core++)
        if ((options->cores >> core & 1) != 0)
            at += (size_t)snprintf(to + at, size - at, ",%u@%d", core, cores_cpu(options->map, core));
}

/* A secondary asks the primary at its start for its devices, to open them all as well: taps and sockets of others, of which some
 * cannot be, and others let it wait. There are none for it. */
static int tell_no_devices(const struct rte_mp_msg *request, const void *peer) {
    struct rte_mp_msg none = {.len_param = request->len_param};
    memcpy(none.name, request->name, sizeof(none.name));
    return rte_mp_reply(&none, peer);
}

static bool keep_devices(struct error *error) {
    static const char action[] = "bus_vdev_mp";
    rte_mp_action_unregister(action);
    return rte_mp_action_register(action, tell_no_devices) == 0 ||
           error_set_errno(error, rte_errno, "DPDK's devices cannot be kept to this process");
}

bool dpdk_environment_start(const struct dpdk_options *options, struct error *error) {
    char name[64], memory[32], lcores[8192], main_lcore[32];
    struct arguments arguments = {.count = 0};
    snprintf(name, sizeof(name), "%s", options->program);
    snprintf(memory, sizeof(memory), "%llu",
             (unsigned long long)(MEMORY_BASE_MIB +
                                  divide_up((uint64_t)options->buffers * (RTE_MBUF_DEFAULT_BUF_SIZE + 320), MIB(1))));
    list_lcores(options, lcores, sizeof(lcores));
    static const char *const always[] = {"--no-telemetry", "--log-level=warning", "--log-level=pmd.net.memif:error"};
    add(&arguments, name);
    add(&arguments, lcores);
    for (size_t i = 0; i < array_count(always); i++)
        add(&arguments, always[i]);
    if (options->role == DPDK_ALONE) {
        add(&arguments, "--no-shconf");
        add(&arguments, options->huge_dir == NULL ? "--no-huge" : "--in-memory"); /* nobody shares it, so none is left behind */
    } else {
        snprintf(main_lcore, sizeof(main_lcore), "--main-lcore=%u", PRIMARY_LCORE_MAIN);
        if (options->role == DPDK_PRIMARY) {
            add(&arguments, main_lcore);
            /* Shared memory lies at one address in all processes: where nothing is in any, nor a sanitizer's shadow. */
            add(&arguments, "--base-virtaddr=0x200000000000");
        }
        add(&arguments, options->role == DPDK_PRIMARY ? "--proc-type=primary" : "--proc-type=secondary");
        add(&arguments, "--file-prefix");
        add(&arguments, options->group);
    }
    if (options->role != DPDK_SECONDARY) {
        add(&arguments, "-m");
        add(&arguments, memory);
    }
    if (options->pci_count == 0 || options->role == DPDK_SECONDARY) /* which reaches them by the primary's rings */
        add(&arguments, "--no-pci");
    for (unsigned i = 0; i < options->pci_count && options->role != DPDK_SECONDARY; i++) {
        add(&arguments, "-a");
        add(&arguments, options->pci[i]);
    }
    if (options->huge_dir != NULL) { /* physical addresses are not ours to look up */
        add(&arguments, "--iova-mode=va");
        add(&arguments, "--huge-dir");
        add(&arguments, options->huge_dir);
    }
    for (unsigned i = 0; i < options->driver_count; i++) {
        add(&arguments, "-d");
        add(&arguments, options->drivers[i]);
    }
    if (rte_eal_init(arguments.count, (char **)(uintptr_t)arguments.list) < 0)
        return error_set_errno(error, rte_errno, "DPDK does not start");
    if (options->role == DPDK_PRIMARY && !keep_devices(error))
        return false;
    int result = host_linux_guard_mappings();
    return result == 0 || error_set_errno(error, result, "no protection against guests that take their memory away");
}

bool dpdk_environment_open_pool(struct dpdk_backend *backend, const struct dpdk_options *options, struct error *error) {
    if (options->role == DPDK_SECONDARY) {
        backend->pool = rte_mempool_lookup(POOL_NAME);
        return backend->pool != NULL || error_set_errno(error, rte_errno, "the primary has no frames");
    }
    backend->pool =
        rte_pktmbuf_pool_create(POOL_NAME, options->buffers, BUFFER_CACHE, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
    return backend->pool != NULL || error_set_errno(error, rte_errno, "no memory for %u buffers", options->buffers);
}

/* ---- workers on lcores ---- */

static int lcore_main(void *arg) {
    struct dpdk_lcore *lcore = arg;
    lcore->main(lcore->arg);
    return 0;
}

static int launch(struct host_launcher *launcher, void *(*main)(void *arg), void *arg) {
    struct dpdk_lcore *lcore = container_of(launcher, struct dpdk_lcore, launcher);
    lcore->main = main;
    lcore->arg = arg;
    return rte_eal_remote_launch(lcore_main, lcore, lcore->lcore);
}

static void wait_for(struct host_launcher *launcher) {
    rte_eal_wait_lcore(container_of(launcher, struct dpdk_lcore, launcher)->lcore);
}

unsigned dpdk_wake_count(const struct dpdk_options *primary) { return PRIMARY_LCORE_FIRST + primary->cpu_count; }

bool dpdk_environment_open_lcores(struct dpdk_backend *backend, const struct dpdk_options *options, struct error *error) {
    backend->lcores = calloc(RTE_MAX_LCORE, sizeof(*backend->lcores));
    for (unsigned i = 0; backend->lcores != NULL && i < RTE_MAX_LCORE; i++)
        backend->lcores[i] = (struct dpdk_lcore){
            .launcher = {launch, wait_for}, .lcore = i, .wake_fd = i < options->wake_count ? options->wakes[i] : -1};
    return backend->lcores != NULL || error_set(error, ERROR_NO_MEMORY, "no memory");
}

struct host_launcher *dpdk_environment_launcher(struct packet_backend *base, unsigned worker, unsigned core) {
    struct dpdk_backend *backend = container_of(base, struct dpdk_backend, backend);
    unsigned lcore = backend->role == DPDK_PRIMARY ? PRIMARY_LCORE_FIRST + worker : core;
    assert(rte_lcore_is_enabled(lcore) && lcore != rte_get_main_lcore());
    return &backend->lcores[lcore].launcher;
}
