/* Ports as virtual devices of DPDK: made, watched while their worker sleeps, taken down. */
#include "packet/dpdk/internal.h"

#include <rte_dev.h>
#include <rte_interrupts.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "reactor/reactor.h"

enum { DESCRIPTORS = 512 };

/* ---- waking up ---- */

static bool port_is_up(struct packet_port *base) {
    struct rte_eth_link link;
    const struct dpdk_port *port = dpdk_port_of(base);
    if (port->kind == PACKET_PORT_VHOST_USER)
        return atomic_load(&port->guest.here) && !atomic_load(&port->guest.lost);
    return rte_eth_link_get_nowait(port->id, &link) == 0 && link.link_status == RTE_ETH_LINK_UP;
}

static const char *port_fault(struct packet_port *base) {
    const struct dpdk_port *port = dpdk_port_of(base);
    return atomic_load(&port->guest.here) && atomic_load(&port->guest.lost) ? "the guest's memory went away" : NULL;
}

/* The interrupt's descriptor may come with the peer: asked for until it is there. */
static bool arm_interrupt(struct dpdk_port *port, uint16_t queue) {
    uint32_t bit = 1u << queue;
    if ((port->interrupts & bit) == 0 && rte_eth_dev_rx_intr_ctl_q(port->id, queue, port->wake_fd, RTE_INTR_EVENT_ADD, NULL) == 0)
        port->interrupts |= bit;
    if ((port->interrupts & bit) == 0)
        return !port_is_up(&port->port); /* a change of the link wakes */
    int result = rte_eth_dev_rx_intr_enable(port->id, queue);
    return result == 0 || result == -ENOTSUP || !port_is_up(&port->port);
}

static bool arm_interrupts(struct dpdk_port *port) {
    struct rte_epoll_event event;
    bool ok = arm_interrupt(port, 0);
    /* Queues that the guest does not use have nothing to wake us with, nor a need to. */
    for (uint16_t queue = 1; queue < port->queue_count; queue++)
        arm_interrupt(port, queue);
    while (rte_epoll_wait(port->wake_fd, &event, 1, 0) == 1) /* what came while we were awake */
        ;
    return ok;
}

static void disarm_interrupts(struct dpdk_port *port, bool for_good) {
    for (uint16_t queue = 0; queue < port->queue_count; queue++) {
        if ((port->interrupts >> queue & 1) == 0)
            continue;
        if (for_good)
            rte_eth_dev_rx_intr_ctl_q(port->id, queue, port->wake_fd, RTE_INTR_EVENT_DEL, NULL);
        else
            rte_eth_dev_rx_intr_disable(port->id, queue);
    }
    if (for_good)
        port->interrupts = 0;
}

static bool port_sleep(struct packet_port *base, bool asleep) {
    struct dpdk_port *port = dpdk_port_of(base);
    if (port->is_null)
        return true;
    if (port->frames != NULL) {
        host_linux_frame_watch_arm(port->frames, asleep);
        return port->waker != NULL;
    }
    if (port->wake_fd < 0 || port->waker == NULL)
        return false;
    if (port->kind == PACKET_PORT_VHOST_USER && !dpdk_guest_is_sound(port)) {
        disarm_interrupts(port, true); /* it may kick, but nobody listens */
        return true;
    }
    if (asleep)
        return arm_interrupts(port);
    disarm_interrupts(port, false);
    return true;
}

static void port_read_by(struct packet_port *base, struct reactor *worker, bool begins) {
    struct dpdk_port *port = dpdk_port_of(base);
    atomic_store(&port->reader, begins ? worker : NULL);
    if (!begins) {
        port_sleep(base, false);
        if (port->waker != NULL)
            host_linux_waker_close(port->waker);
        port->waker = NULL;
        return;
    }
    int fd = port->frames != NULL ? host_linux_frame_watch_fd(port->frames) : port->wake_fd;
    if (fd >= 0 && host_linux_waker_open(worker->loop, fd, &port->waker) != 0)
        port->waker = NULL; /* looked at now and then instead */
}

/* A peer has come or gone. A thread of DPDK's. */
static int link_changed(uint16_t id, enum rte_eth_event_type event, void *arg, void *unused) {
    (void)id, (void)event, (void)unused;
    struct dpdk_port *port = arg;
    struct reactor *reader = atomic_load(&port->reader);
    if (reader != NULL)
        host_loop_wake(reader->loop);
    return 0;
}

/* ---- life ---- */

static void port_destroy(struct packet_port *base) {
    struct dpdk_port *port = dpdk_port_of(base);
    if (port->has_device) {
        if (port->kind == PACKET_PORT_VHOST_USER)
            dpdk_guest_unwatch(port);
        else
            rte_eth_dev_callback_unregister(port->id, RTE_ETH_EVENT_INTR_LSC, link_changed, port);
        disarm_interrupts(port, true);
        if (port->started)
            rte_eth_dev_stop(port->id);
        rte_eth_dev_close(port->id);
        rte_eal_hotplug_remove("vdev", port->device);
    }
    if (port->frames != NULL)
        host_linux_frame_watch_close(port->frames);
    host_linux_epoll_close(port->wake_fd);
    free(port);
}

static const struct packet_port_ops port_ops = {.receive = dpdk_port_receive,
                                                .send = dpdk_port_send,
                                                .sleep = port_sleep,
                                                .read_by = port_read_by,
                                                .is_up = port_is_up,
                                                .fault = port_fault,
                                                .destroy = port_destroy};

/* What goes into a device's arguments must not end one and begin another. */
static bool check_text(const char *field, const char *value, size_t max, struct error *error) {
    size_t length = value == NULL ? 0 : strlen(value);
    if (length == 0)
        return error_invalid(error, field, "absent", "given, for this kind of port");
    if (length > max)
        return error_invalid(error, field, value, "at most %zu bytes", max);
    for (const char *c = value; *c != '\0'; c++)
        if (*c <= ' ' || *c > '~' || strchr(",=[]\"'", *c) != NULL)
            return error_invalid(error, field, value, "printable characters without blanks, quotes and , = [ ]");
    return true;
}

#define INTERFACE_MAX 15
#define PATH_MAX_BYTES 107 /* of a Unix socket's address */

/* The kind's driver and the device's arguments. */
static bool describe(const struct packet_port_options *options, struct text *arguments, const char **ret_driver, char where[128],
                     struct error *error) {
    const char *what = "";
    bool ok = true;
    switch (options->kind) {
    case PACKET_PORT_AF_PACKET:
    case PACKET_PORT_TAP:
        ok = check_text("interface", what = options->interface, INTERFACE_MAX, error);
        *ret_driver = options->kind == PACKET_PORT_TAP ? "net_tap" : "net_af_packet";
        text_appendf(arguments, "iface=%s", ok ? what : "");
        break;
    case PACKET_PORT_VHOST_USER:
        ok = check_text("socket", what = options->socket, PATH_MAX_BYTES, error);
        *ret_driver = "net_vhost";
        text_appendf(arguments, "iface=%s,queues=%u,client=%d,tso=1", ok ? what : "", options->queues, options->client);
        break;
    case PACKET_PORT_MEMIF:
        ok = check_text("socket", what = options->socket, PATH_MAX_BYTES, error);
        *ret_driver = "net_memif";
        text_appendf(arguments, "role=%s,id=%u,socket=%s,socket-abstract=no", options->server ? "server" : "client", options->id,
                     ok ? what : "");
        break;
    case PACKET_PORT_NULL:
        *ret_driver = "net_null";
        text_append_string(arguments, options->generate ? "size=64,copy=1" : "no-rx=1");
        break;
    case PACKET_PORT_PCAP:
        *ret_driver = "net_pcap";
        if (options->rx_file == NULL && options->tx_file == NULL)
            return error_invalid(error, "rx_file", "absent", "a file for frames to come from, or tx_file, or both");
        if (options->rx_file != NULL) {
            ok = check_text("rx_file", what = options->rx_file, PATH_MAX_BYTES, error);
            text_appendf(arguments, "rx_pcap=%s%s", ok ? what : "", options->tx_file != NULL ? "," : "");
        }
        if (ok && options->tx_file != NULL) {
            ok = check_text("tx_file", what = options->tx_file, PATH_MAX_BYTES, error);
            text_appendf(arguments, "tx_pcap=%s", ok ? what : "");
        }
        break;
    default: return error_set(error, ERROR_INTERNAL, "no kind of DPDK's");
    }
    snprintf(where, 128, "%s", ok && what != NULL ? what : "");
    return ok;
}

static bool configure(struct dpdk_port *port, struct error *error) {
    struct rte_eth_conf conf = {.intr_conf.rxq = port->wake_fd >= 0};
    uint16_t rx = DESCRIPTORS, tx = DESCRIPTORS, queues = port->queue_count;
    bool guest = port->kind == PACKET_PORT_VHOST_USER;
    if (guest) /* so that the driver leaves unfinished checksums to us: the taker may do with them */
        conf.rxmode.offloads = RTE_ETH_RX_OFFLOAD_TCP_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM;
    int result = rte_eth_dev_configure(port->id, queues, queues, &conf);
    if (result == 0)
        result = rte_eth_dev_adjust_nb_rx_tx_desc(port->id, &rx, &tx);
    for (uint16_t queue = 0; result == 0 && queue < queues; queue++) {
        result = rte_eth_rx_queue_setup(port->id, queue, rx, SOCKET_ID_ANY, NULL, port->backend->pool);
        if (result == 0)
            result = rte_eth_tx_queue_setup(port->id, queue, tx, SOCKET_ID_ANY, NULL);
    }
    if (guest)
        dpdk_guest_watch(port);
    else
        rte_eth_dev_callback_register(port->id, RTE_ETH_EVENT_INTR_LSC, link_changed, port);
    if (result == 0)
        result = rte_eth_dev_start(port->id);
    if (result != 0)
        return error_set_errno(error, result, "port %s does not start", port->port.name);
    port->started = true;
    rte_eth_promiscuous_enable(port->id); /* where there is such a thing */
    return true;
}

/* What the plane left there when it was killed. */
static bool free_path(const struct packet_port_options *options, struct error *error) {
    if (options->kind != PACKET_PORT_VHOST_USER || options->client)
        return true;
    int result = host_linux_remove_stale_socket(options->socket);
    return result == 0 || error_set_errno(error, result, "port %s cannot listen at %s", options->name, options->socket);
}

static bool set_up_waking(struct dpdk_port *port, const struct packet_port_options *options, struct error *error) {
    switch (options->kind) {
    case PACKET_PORT_AF_PACKET: {
        int result = host_linux_frame_watch_open(options->interface, &port->frames);
        return result == 0 || error_set_errno(error, result, "interface %s cannot be watched", options->interface);
    }
    case PACKET_PORT_VHOST_USER:
    case PACKET_PORT_TAP:
    case PACKET_PORT_MEMIF:
        port->wake_fd = host_linux_epoll_open();
        return port->wake_fd >= 0 || error_set_errno(error, port->wake_fd, "no descriptor for port %s", options->name);
    default:
        port->is_null =
            options->kind == PACKET_PORT_NULL && !options->generate; /* generators are looked at: buffers may be short */
        return true;
    }
}

bool dpdk_port_open(struct packet_backend *base, const struct packet_port_options *options, struct packet_port **ret_port,
                    struct error *error) {
    struct dpdk_backend *backend = container_of(base, struct dpdk_backend, backend);
    struct text arguments;
    const char *driver = NULL;
    struct dpdk_port *port = aligned_alloc(64, round_up(sizeof(*port), 64));
    if (port == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory for a port");
    memset(port, 0, sizeof(*port));
    port->backend = backend;
    port->wake_fd = -1;
    port->kind = options->kind;
    port->queue_count = options->kind == PACKET_PORT_VHOST_USER ? (uint16_t)options->queues : 1;
    port->port.ops = &port_ops;
    port->port.kind = packet_port_kind_name(options->kind);
    snprintf(port->port.name, sizeof(port->port.name), "%s", options->name);
    text_init(&arguments, 1024);
    assert(port->queue_count >= 1 && port->queue_count <= PACKET_QUEUES_MAX);
    bool ok = describe(options, &arguments, &driver, port->port.where, error) && free_path(options, error) &&
              set_up_waking(port, options, error);
    if (ok) {
        snprintf(port->device, sizeof(port->device), "%s%u", driver, backend->next_device++);
        int result = rte_eal_hotplug_add("vdev", port->device, arguments.bytes);
        if (result == 0) {
            result = rte_eth_dev_get_port_by_name(port->device, &port->id);
            port->has_device = result == 0;
        }
        ok = result == 0 || error_set_errno(error, result, "port %s (%s) cannot be opened", options->name, arguments.bytes);
    }
    text_fini(&arguments);
    if (!ok || !configure(port, error)) {
        port_destroy(&port->port);
        return false;
    }
    *ret_port = &port->port;
    return true;
}
