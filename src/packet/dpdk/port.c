/* Ports as virtual devices of DPDK: made, watched while their worker sleeps, taken down. */
#include "packet/dpdk/internal.h"

#include <rte_alarm.h>
#include <rte_bus_vdev.h>
#include <rte_interrupts.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "reactor/reactor.h"

enum {
    DESCRIPTORS = 512,
    XDP_SOCKETS_MAX = RTE_MAX_ETHPORTS,
    XDP_TRIES = 40,
    XDP_TRY_NS = 50 * 1000 * 1000,
    CLOSE_LOOK_NS = 100 * 1000
};

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
static bool arm_interrupt(struct dpdk_port *port) {
    struct rte_epoll_event event;
    if (!port->listens)
        port->listens = rte_eth_dev_rx_intr_ctl_q(port->id, 0, port->wake_fd, RTE_INTR_EVENT_ADD, NULL) == 0;
    if (!port->listens)
        return !port_is_up(&port->port); /* a change of the link wakes */
    int result = rte_eth_dev_rx_intr_enable(port->id, 0);
    while (rte_epoll_wait(port->wake_fd, &event, 1, 0) == 1) /* what came while we were awake */
        ;
    return result == 0 || result == -ENOTSUP || !port_is_up(&port->port);
}

static void disarm_interrupt(struct dpdk_port *port, bool for_good) {
    if (port->listens && for_good)
        rte_eth_dev_rx_intr_ctl_q(port->id, 0, port->wake_fd, RTE_INTR_EVENT_DEL, NULL);
    else if (port->listens)
        rte_eth_dev_rx_intr_disable(port->id, 0);
    port->listens = port->listens && !for_good;
}

static bool port_sleep(struct packet_port *base, bool asleep) {
    struct dpdk_port *port = dpdk_port_of(base);
    if (port->is_null)
        return true;
    if (port->frames != NULL) {
        if (asleep)
            host_linux_frame_watch_arm(port->frames);
        return port->waker != NULL;
    }
    if (port->socket_fd >= 0) /* readable as long as it has frames */
        return port->waker != NULL;
    if (port->wake_fd < 0 || port->waker == NULL)
        return false;
    if (port->kind == PACKET_PORT_VHOST_USER) {
        bool sound = dpdk_guest_is_sound(port);
        if (asleep && sound)
            return dpdk_guest_arm(port);
        dpdk_guest_disarm(port, !sound); /* it may kick, but nobody listens */
        return true;
    }
    if (asleep)
        return arm_interrupt(port);
    disarm_interrupt(port, false);
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
    int fd = port->frames != NULL   ? host_linux_frame_watch_fd(port->frames)
             : port->socket_fd >= 0 ? port->socket_fd
                                    : port->wake_fd;
    if (fd >= 0 && host_linux_waker_open(worker->loop, fd, false, &port->waker) != 0)
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

/* Cards were found at the start and cannot be found again; the driver of AF_XDP cannot let go of an interface. They stay with the
 * plane, stopped, for the next port of theirs. */
static bool is_kept(const struct dpdk_port *port) { return port->kind == PACKET_PORT_PCI || port->kind == PACKET_PORT_AF_XDP; }

static struct dpdk_kept *kept_of(struct dpdk_port *port) { return &port->backend->kept[port->id % RTE_MAX_ETHPORTS]; }

static void close_device(struct dpdk_port *port) {
    struct rte_eth_conf conf = {0};
    /* Its driver leaves its queues to whoever has fewer: none of one kind, then none of the other. */
    if (port->kind == PACKET_PORT_NULL && rte_eth_dev_configure(port->id, 1, 0, &conf) == 0)
        rte_eth_dev_configure(port->id, 0, 1, &conf);
    dpdk_remains_watch(port, DPDK_STAGE_CLOSE);
    rte_eth_dev_close(port->id);
    rte_vdev_uninit(port->device);
    dpdk_remains_watch(port, DPDK_STAGE_NONE);
    dpdk_remains_drop(port);
}

static void take_down(struct dpdk_port *port) {
    rte_eth_dev_callback_unregister(port->id, RTE_ETH_EVENT_INTR_LSC, link_changed, port);
    disarm_interrupt(port, true);
    if (port->started)
        rte_eth_dev_stop(port->id);
    bool stays = is_kept(port) && (port->kind == PACKET_PORT_PCI || kept_of(port)->configured);
    if (is_kept(port))
        kept_of(port)->taken = false;
    if (!stays)
        close_device(port);
}

static void take_down_there(void *arg) {
    struct dpdk_port *port = arg;
    assert(atomic_load(&port->down) == DPDK_GOES_DOWN);
    take_down(port);
    atomic_store(&port->down, DPDK_IS_DOWN);
}

/* When its peer goes, memif's driver takes the connection down by itself, on DPDK's interrupt thread, and frees it; nothing in
 * the driver keeps that from happening while it is closed as well. So it is closed on that thread. */
static void take_down_memif(struct dpdk_port *port) {
    atomic_store(&port->down, DPDK_GOES_DOWN); /* all that was done here before is done */
    if (rte_eal_alarm_set(1, take_down_there, port) != 0)
        take_down(port); /* no memory */
    else
        while (atomic_load(&port->down) != DPDK_IS_DOWN)
            host_linux_pause(CLOSE_LOOK_NS);
}

static void port_destroy(struct packet_port *base) {
    struct dpdk_port *port = dpdk_port_of(base);
    if (port->kind == PACKET_PORT_VHOST_USER)
        dpdk_guest_close(port);
    if (port->has_device && port->kind == PACKET_PORT_MEMIF)
        take_down_memif(port);
    else if (port->has_device)
        take_down(port);
    if (port->frames != NULL)
        host_linux_frame_watch_close(port->frames);
    host_linux_close(port->wake_fd);
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
#define PCI_ADDRESS_MAX 15
#define PATH_MAX_BYTES 107 /* of a Unix socket's address */

/* Which process opens what. */
static bool check_role(enum dpdk_role role, const struct packet_port_options *options, struct error *error) {
    const char *kind = packet_port_kind_name(options->kind);
    bool guest = options->kind == PACKET_PORT_VHOST_USER;
    if (role == DPDK_SECONDARY && !guest)
        return error_invalid(error, "kind", kind, "ring or vhost_user: other devices are the primary's, and reached by rings");
    if (role != DPDK_ALONE && guest && !options->client)
        return error_invalid(error, "client", "false", "true: processes are restarted, and so the peer has to listen");
    return true;
}

/* The kind's driver (NULL: it needs none) and the device's arguments. */
static bool describe(const struct packet_port_options *options, struct text *arguments, const char **ret_driver, char where[128],
                     struct error *error) {
    const char *what = "";
    bool ok = true;
    switch (options->kind) {
    case PACKET_PORT_AF_PACKET:
    case PACKET_PORT_AF_XDP:
    case PACKET_PORT_TAP:
        ok = check_text("interface", what = options->interface, INTERFACE_MAX, error);
        *ret_driver = options->kind == PACKET_PORT_TAP      ? "net_tap"
                      : options->kind == PACKET_PORT_AF_XDP ? "net_af_xdp"
                                                            : "net_af_packet";
        text_appendf(arguments, "iface=%s", ok ? what : "");
        break;
    case PACKET_PORT_PCI:
        what = options->device;
        ok = check_text("device", what, PCI_ADDRESS_MAX, error) &&
             (text_is_pci_address(what) || error_invalid(error, "device", what, "an address such as 0000:03:00.0"));
        break;
    case PACKET_PORT_VHOST_USER: ok = check_text("socket", what = options->socket, PATH_MAX_BYTES, error); break;
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

/* A driver's own socket, which says when there are frames, and which nobody tells us of. -1 = none came. */
static int find_new_socket(const int *before, size_t before_count) {
    int now[XDP_SOCKETS_MAX];
    size_t count = host_linux_xdp_sockets(now, array_count(now));
    for (size_t i = 0; i < count; i++) {
        bool old = false;
        for (size_t j = 0; j < before_count; j++)
            old = old || before[j] == now[i];
        if (!old)
            return now[i];
    }
    return -1;
}

static int set_up_queues(struct dpdk_port *port) {
    struct rte_eth_conf conf = {.intr_conf.rxq = port->wake_fd >= 0};
    uint16_t rx = DESCRIPTORS, tx = DESCRIPTORS;
    int sockets[XDP_SOCKETS_MAX];
    size_t socket_count = port->kind == PACKET_PORT_AF_XDP ? host_linux_xdp_sockets(sockets, array_count(sockets)) : 0;
    int result = rte_eth_dev_configure(port->id, 1, 1, &conf);
    if (result != 0 && port->kind == PACKET_PORT_PCI) { /* a card that has no interrupts for us is looked at now and then */
        conf.intr_conf.rxq = 0;
        result = rte_eth_dev_configure(port->id, 1, 1, &conf);
    }
    if (result == 0)
        result = rte_eth_dev_adjust_nb_rx_tx_desc(port->id, &rx, &tx);
    dpdk_remains_watch(port, DPDK_STAGE_RECEIVE_QUEUE);
    if (result == 0)
        result = rte_eth_rx_queue_setup(port->id, 0, rx, SOCKET_ID_ANY, NULL, port->backend->pool);
    /* The kernel takes its time to give up the socket of a plane that was killed. */
    for (unsigned tries = 0; result != 0 && port->kind == PACKET_PORT_AF_XDP && tries < XDP_TRIES; tries++) {
        host_linux_pause(XDP_TRY_NS);
        result = rte_eth_rx_queue_setup(port->id, 0, rx, SOCKET_ID_ANY, NULL, port->backend->pool);
    }
    dpdk_remains_watch(port, DPDK_STAGE_SEND_QUEUE);
    if (result == 0)
        result = rte_eth_tx_queue_setup(port->id, 0, tx, SOCKET_ID_ANY, NULL);
    dpdk_remains_watch(port, DPDK_STAGE_NONE);
    if (result == 0 && is_kept(port)) {
        kept_of(port)->configured = true;
        kept_of(port)->socket_fd = port->kind == PACKET_PORT_AF_XDP ? find_new_socket(sockets, socket_count) : -1;
    }
    return result;
}

/* Frames that came for the port before this one. */
static void drop_old_frames(struct dpdk_port *port) {
    struct rte_mbuf *frames[32];
    for (unsigned left = 4 * DESCRIPTORS / array_count(frames), count = 1; left > 0 && count > 0; left--) {
        count = rte_eth_rx_burst(port->id, 0, frames, array_count(frames));
        rte_pktmbuf_free_bulk(frames, count);
    }
}

static bool configure(struct dpdk_port *port, struct error *error) {
    bool used_before = is_kept(port) && kept_of(port)->configured;
    int result = used_before ? 0 : set_up_queues(port);
    if (result == 0 && is_kept(port))
        port->socket_fd = kept_of(port)->socket_fd;
    rte_eth_dev_callback_register(port->id, RTE_ETH_EVENT_INTR_LSC, link_changed, port);
    if (result == 0)
        result = rte_eth_dev_start(port->id);
    if (result != 0)
        return error_set_errno(error, result, "port %s does not start", port->port.name);
    port->started = true;
    if (used_before)
        drop_old_frames(port);
    rte_eth_promiscuous_enable(port->id); /* where there is such a thing */
    return true;
}

static bool may_open(const struct dpdk_backend *backend, const struct packet_port_options *options, struct error *error) {
    if (options->kind != PACKET_PORT_AF_XDP || backend->xdp)
        return true;
    error_set(error, ERROR_PERMISSION, "kind: the plane has given up the rights that af_xdp needs");
    return error_hint(error, "start penstock-packet with --xdp");
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
        /* Older than the driver's socket, so the kernel serves it later: a frame that wakes us is in the driver's ring. */
        int result = host_linux_frame_watch_open(options->interface, &port->frames);
        return result == 0 || error_set_errno(error, result, "interface %s cannot be watched", options->interface);
    }
    case PACKET_PORT_VHOST_USER:
    case PACKET_PORT_TAP:
    case PACKET_PORT_PCI:
        port->wake_fd = host_linux_epoll_open();
        return port->wake_fd >= 0 || error_set_errno(error, port->wake_fd, "no descriptor for port %s", options->name);
    default:
        port->is_null =
            options->kind == PACKET_PORT_NULL && !options->generate; /* generators are looked at: buffers may be short */
        return true;
    }
}

static bool take_kept(struct dpdk_port *port, const char *where, struct error *error) {
    if (atomic_exchange(&kept_of(port)->taken, true))
        return error_set(error, ERROR_BUSY, "%s is another port's", where);
    return port->has_device = true;
}

static bool find_card(struct dpdk_port *port, const struct packet_port_options *options, struct error *error) {
    snprintf(port->device, sizeof(port->device), "%s", options->device);
    if (rte_eth_dev_get_port_by_name(port->device, &port->id) == 0)
        return take_kept(port, options->device, error);
    error_set(error, ERROR_NO_DEVICE, "device: there is no network card %s", options->device);
    return error_hint(error, "bind it to vfio-pci, and start penstock-packet with --pci %s", options->device);
}

/* As a virtual device; in this process, whatever others there are. */
static bool make_device(struct dpdk_port *port, const struct packet_port_options *options, const char *driver,
                        const char *arguments, struct error *error) {
    if (options->kind == PACKET_PORT_AF_XDP) {
        snprintf(port->device, sizeof(port->device), "%s_%.15s", driver, options->interface);
        if (rte_eth_dev_get_port_by_name(port->device, &port->id) == 0)
            return take_kept(port, options->interface, error);
    } else {
        snprintf(port->device, sizeof(port->device), "%s%u", driver, port->backend->next_device++);
    }
    dpdk_remains_watch(port, DPDK_STAGE_DEVICE);
    int result = rte_vdev_init(port->device, arguments);
    dpdk_remains_watch(port, DPDK_STAGE_NONE);
    if (result == 0)
        result = rte_eth_dev_get_port_by_name(port->device, &port->id);
    if (result == 0)
        return is_kept(port) ? take_kept(port, options->interface, error) : (port->has_device = true);
    return error_set_errno(error, result, "port %s (%s) cannot be opened", options->name, arguments);
}

bool dpdk_port_open(struct packet_backend *base, const struct packet_port_options *options, struct packet_port **ret_port,
                    struct error *error) {
    struct dpdk_backend *backend = container_of(base, struct dpdk_backend, backend);
    struct text arguments;
    const char *driver = NULL;
    if (options->kind == PACKET_PORT_RING)
        return dpdk_shared_ring_open(backend, options, ret_port, error);
    if (!check_role(backend->role, options, error))
        return false;
    struct dpdk_port *port = aligned_alloc(64, round_up(sizeof(*port), 64));
    if (port == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory for a port");
    memset(port, 0, sizeof(*port));
    port->backend = backend;
    port->wake_fd = port->socket_fd = -1;
    port->kind = options->kind;
    port->queue_count = options->kind == PACKET_PORT_VHOST_USER ? (uint16_t)options->queues : 1;
    port->port.ops = &port_ops;
    port->port.kind = packet_port_kind_name(options->kind);
    snprintf(port->port.name, sizeof(port->port.name), "%s", options->name);
    text_init(&arguments, 1024);
    assert(port->queue_count >= 1 && port->queue_count <= PACKET_QUEUES_MAX);
    bool ok = describe(options, &arguments, &driver, port->port.where, error) && may_open(backend, options, error) &&
              free_path(options, error) && set_up_waking(port, options, error);
    if (ok && options->kind == PACKET_PORT_VHOST_USER)
        ok = dpdk_guest_open(port, options, error);
    else if (ok)
        ok = (options->kind == PACKET_PORT_PCI ? find_card(port, options, error)
                                               : make_device(port, options, driver, arguments.bytes, error)) &&
             configure(port, error);
    text_fini(&arguments);
    if (!ok) {
        port_destroy(&port->port);
        return false;
    }
    *ret_port = &port->port;
    return true;
}
