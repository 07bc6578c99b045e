/* What DPDK's memif driver (22.11) leaves behind of a closed port, and nobody could reach afterwards: the interrupt handle of its
 * transmit queue; a listening socket's descriptor and callback, which would be called with memory that was freed. The linker
 * leads all drivers' calls about handles to here (--wrap in meson.build), so what a driver does free is never freed again. Must
 * not know: frames. */
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

void dpdk_remains_drop(struct dpdk_port *port) {
    if (port->send_handle != NULL)
        real_free(port->send_handle);
    port->send_handle = NULL;
}

struct rte_intr_handle *wrap_alloc(uint32_t flags) {
    struct rte_intr_handle *handle = real_alloc(flags);
    if (watched.port != NULL && watched.stage == DPDK_STAGE_SEND_QUEUE)
        watched.port->send_handle = handle;
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
        if (watched.port->send_handle == handle)
            watched.port->send_handle = NULL;
    }
    real_free(handle);
}
