/* What DPDK's memif driver (22.11) does not see to. The linker leads all drivers' calls about interrupt handles to here (--wrap
 * in meson.build).
 *
 * It leaves something behind of a closed port, which nobody could reach afterwards: the handle of its transmit queue; a listening
 * socket's descriptor and callback, which would be called with memory that was freed. What a driver does free is never freed
 * again here.
 *
 * When a peer goes, it takes the connection down on DPDK's interrupt thread, while a worker may be in the middle of a burst: the
 * descriptors that the worker kicks are closed, and may be another's by then; the rings that it reads are unmapped. Before that
 * it says that there is no connection, which whoever begins a burst looks at first, and asks for its queues' descriptors. There
 * the thread waits until no worker is in a burst any more. Must not know: frames. */
#define ALLOW_EXPERIMENTAL_API /* what they are made by */
#include "packet/dpdk/internal.h"

#include <rte_interrupts.h>

/* By the linker's names. */
struct rte_intr_handle *wrap_alloc(uint32_t flags) __asm__("__wrap_rte_intr_instance_alloc");
struct rte_intr_handle *real_alloc(uint32_t flags) __asm__("__real_rte_intr_instance_alloc");
void wrap_free(struct rte_intr_handle *handle) __asm__("__wrap_rte_intr_instance_free");
void real_free(struct rte_intr_handle *handle) __asm__("__real_rte_intr_instance_free");
int wrap_register(const struct rte_intr_handle *handle, rte_intr_callback_fn call,
                  void *arg) __asm__("__wrap_rte_intr_callback_register");
int real_register(const struct rte_intr_handle *handle, rte_intr_callback_fn call,
                  void *arg) __asm__("__real_rte_intr_callback_register");
int wrap_fd_get(const struct rte_intr_handle *handle) __asm__("__wrap_rte_intr_fd_get");
int real_fd_get(const struct rte_intr_handle *handle) __asm__("__real_rte_intr_fd_get");

/* Drivers' calls come without an argument of ours: whose this thread is in, if they are to be looked at. */
static _Thread_local struct dpdk_watch {
    struct dpdk_port *port;
    enum dpdk_stage stage;
} watched;

void dpdk_remains_watch(struct dpdk_port *port, enum dpdk_stage stage) {
    bool looks = stage != DPDK_STAGE_NONE && port->kind == PACKET_PORT_MEMIF; /* it may be gone after the last stage */
    watched = (struct dpdk_watch){looks ? port : NULL, stage};
}

static struct dpdk_listener *find_listener(struct dpdk_backend *backend, const struct rte_intr_handle *handle) {
    for (unsigned i = 0; i < array_count(backend->listeners); i++)
        if (backend->listeners[i].handle == handle)
            return &backend->listeners[i];
    return NULL;
}

/* Ports of kind memif that have queues: the thread that takes their connections down knows nothing of ours but handles. */
static struct memif_list {
    struct dpdk_lock lock;
    struct list ports;
} memif_list = {.ports = {{&memif_list.ports.head, &memif_list.ports.head}}};

static void list_memif(struct dpdk_memif *memif, bool listed) {
    dpdk_lock(&memif_list.lock);
    if (listed && !memif->listed)
        list_push_back(&memif_list.ports, &memif->node);
    else if (!listed && memif->listed)
        list_remove(&memif->node);
    memif->listed = listed;
    dpdk_unlock(&memif_list.lock);
}

void dpdk_remains_drop(struct dpdk_port *port) {
    list_memif(&port->memif, false);
    if (port->memif.send_handle != NULL)
        real_free(port->memif.send_handle);
    port->memif.send_handle = NULL;
}

static void wait_for_bursts(const struct rte_intr_handle *handle) {
    atomic_thread_fence(memory_order_seq_cst); /* "no connection" is seen by who begins a burst, or we see that he does */
    dpdk_lock(&memif_list.lock);               /* no port of the list goes meanwhile */
    list_for_each (&memif_list.ports, struct dpdk_memif, memif, node)
        if (memif->receive_handle == handle || memif->send_handle == handle)
            while (atomic_load(&memif->receiving) || atomic_load(&memif->sending))
                rte_pause();
    dpdk_unlock(&memif_list.lock);
}

int wrap_fd_get(const struct rte_intr_handle *handle) {
    if (unlikely(rte_thread_is_intr()))
        wait_for_bursts(handle);
    return real_fd_get(handle);
}

struct rte_intr_handle *wrap_alloc(uint32_t flags) {
    struct rte_intr_handle *handle = real_alloc(flags);
    struct rte_intr_handle **noted = watched.port == NULL                        ? NULL
                                     : watched.stage == DPDK_STAGE_RECEIVE_QUEUE ? &watched.port->memif.receive_handle
                                     : watched.stage == DPDK_STAGE_SEND_QUEUE    ? &watched.port->memif.send_handle
                                                                                 : NULL;
    if (noted != NULL) {
        *noted = handle;
        list_memif(&watched.port->memif, true);
    }
    return handle;
}

int wrap_register(const struct rte_intr_handle *handle, rte_intr_callback_fn call, void *arg) {
    int result = real_register(handle, call, arg);
    if (result == 0 && watched.port != NULL && watched.stage == DPDK_STAGE_DEVICE) {
        struct dpdk_listener *listener = find_listener(watched.port->backend, NULL);
        if (listener != NULL)
            *listener = (struct dpdk_listener){handle, call, arg};
    }
    return result;
}

void wrap_free(struct rte_intr_handle *handle) {
    if (watched.port != NULL && handle != NULL) {
        /* Sockets are several ports', and of the one that is closed last. */
        struct dpdk_listener *listener = find_listener(watched.port->backend, handle);
        if (listener != NULL) {
            rte_intr_callback_unregister_sync(handle, listener->call, listener->arg);
            host_linux_close(rte_intr_fd_get(handle));
            *listener = (struct dpdk_listener){0};
        }
        if (watched.port->memif.receive_handle == handle)
            watched.port->memif.receive_handle = NULL;
        if (watched.port->memif.send_handle == handle)
            watched.port->memif.send_handle = NULL;
    }
    real_free(handle);
}
