/* What the files of this folder share. */
#pragma once

#include "host/linux/linux.h"
#include "packet/dpdk/dpdk.h"

#include <rte_ethdev.h>
#include <rte_interrupts.h>
#include <rte_mbuf.h>
#include <rte_pause.h>
#include <rte_spinlock.h>

/* What a thread did with a frame before it gave it back is over when another gets it out of the pool. The thread sanitizer does
 * not see what DPDK does in between: it is told. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define DPDK_TELLS_SANITIZER 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define DPDK_TELLS_SANITIZER 1
#endif
#if defined(DPDK_TELLS_SANITIZER)
#include <sanitizer/tsan_interface.h>
static inline void dpdk_frames_come(void *const *frames, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        __tsan_acquire(frames[i]);
}
static inline void dpdk_frames_go(void *const *frames, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        __tsan_release(frames[i]);
}
#else
static inline void dpdk_frames_come(void *const *frames, unsigned count) { (void)frames, (void)count; }
static inline void dpdk_frames_go(void *const *frames, unsigned count) { (void)frames, (void)count; }
#endif

/* Of threads of one process, for a few instructions. DPDK's own is in assembler, which the thread sanitizer does not see. */
struct dpdk_lock {
    _Atomic bool taken;
};
static inline void dpdk_lock(struct dpdk_lock *lock) {
    while (atomic_exchange_explicit(&lock->taken, true, memory_order_acquire))
        rte_pause();
}
static inline void dpdk_unlock(struct dpdk_lock *lock) { atomic_store_explicit(&lock->taken, false, memory_order_release); }

struct dpdk_lcore {
    struct host_launcher launcher;
    unsigned lcore;                 /* DPDK's number */
    int wake_fd;                    /* signalled by other processes, too; -1 = nothing wakes it */
    struct host_linux_waker *waker; /* of this process's workers: what listens to that; NULL = nothing does */
    void *(*main)(void *arg);
    void *arg;
};

struct dpdk_backend {
    struct packet_backend backend;
    enum dpdk_role role;
    struct dpdk_shared *shared; /* of processes; NULL = there is one */
    struct dpdk_lcore *lcores;  /* likewise; of RTE_MAX_LCORE */
    struct packet_memory memory;
    struct rte_mempool *pool;
    bool xdp;
    uint32_t next_device; /* number in the next device's name */
    struct dpdk_kept {
        _Atomic bool taken; /* a port's */
        bool configured;
        int socket_fd;        /* of af_xdp */
    } kept[RTE_MAX_ETHPORTS]; /* devices that outlive their port, by the number that DPDK gives them */
    struct dpdk_listener {
        const struct rte_intr_handle *handle; /* NULL = the place is free */
        rte_intr_callback_fn call;
        void *arg;
    } listeners[RTE_MAX_ETHPORTS]; /* memif's listening sockets */
};

#define DPDK_REGIONS_MAX 64
#define DPDK_SEGMENTS_MAX 128 /* of one train: 64 KiB in pieces of 512 bytes */

/* What a virtual machine told of itself. Written by DPDK's thread that speaks to it. */
struct dpdk_guest {
    struct list_node node; /* in the library's list */
    char path[108];
    bool registered;
    _Atomic int peer;                /* who speaks to us, by the library's number; -1 = nobody */
    _Atomic int device;              /* the same; -1 = its rings are not set up */
    _Atomic bool receiving, sending; /* a worker is in the library: the device stays until it is not */
    _Atomic unsigned kicks_changed;  /* how often rings, or descriptors of their kicks, may have changed */
    unsigned kicks_seen;             /* the reading worker's */
    _Atomic bool here;               /* its rings are set up */
    _Atomic bool takes_sums;         /* frames with unfinished checksums */
    _Atomic bool takes_big_v4;       /* TCP in pieces larger than frames, over IPv4 */
    _Atomic bool takes_big_v6;
    _Atomic uint32_t takes_queues; /* bit by bit, the queues it wants frames in */
    _Atomic uint32_t sends_queues; /* and those it sends by */
    _Atomic bool lost;             /* its memory went away: left alone until it connects again */
    _Atomic unsigned lost_seen;    /* how many lost mappings were looked at */
    struct dpdk_lock lock;         /* of what follows, and of lost_seen with it */
    int kicks[PACKET_QUEUES_MAX];  /* descriptors that are in wake_fd; -1 = none */
    unsigned mapped_from;          /* how many mappings were lost when the regions' mapping began */
    unsigned region_count;
    struct {
        const void *start;
        size_t size;
    } regions[DPDK_REGIONS_MAX];
};

/* Of a port of kind memif. */
struct dpdk_memif {
    struct list_node node; /* among those whose handles are known */
    bool listed;
    struct rte_intr_handle *receive_handle, *send_handle; /* of its queues */
    _Atomic bool receiving, sending;                      /* a worker is in the driver */
};

enum { DPDK_IS_UP, DPDK_GOES_DOWN, DPDK_IS_DOWN };

struct dpdk_port {
    struct packet_port port;
    struct dpdk_backend *backend;
    enum packet_port_kind kind;
    char device[32]; /* "net_tap3" */
    uint16_t id;
    uint16_t queue_count;
    uint16_t next_queue; /* to be read first: the reading worker's */
    bool listens;        /* its interrupt is in wake_fd */
    bool has_device, started;
    _Atomic int down;                      /* of memif: DPDK_IS_DOWN once its device is closed */
    int wake_fd;                           /* readable when frames have come and it is armed; -1 = none */
    int socket_fd;                         /* af_xdp: the driver's; -1 = none */
    struct host_linux_frame_watch *frames; /* af_packet: the same by other means */
    struct host_linux_waker *waker;        /* the reading worker's */
    bool is_null;                          /* never a frame: nothing to wake up for */
    struct dpdk_memif memif;
    _Atomic(struct reactor *) reader;
    struct dpdk_guest guest; /* of vhost_user */
};

static inline struct dpdk_port *dpdk_port_of(struct packet_port *port) { return container_of(port, struct dpdk_port, port); }

bool dpdk_port_open(struct packet_backend *backend, const struct packet_port_options *options, struct packet_port **ret_port,
                    struct error *error);

/* ---- remains.c: what memif's driver does not see to: what a closed port leaves behind, and who is at a connection that it
 * takes down; in a helper thread, one at a time ---- */

enum dpdk_stage { DPDK_STAGE_NONE, DPDK_STAGE_DEVICE, DPDK_STAGE_RECEIVE_QUEUE, DPDK_STAGE_SEND_QUEUE, DPDK_STAGE_CLOSE };
/* What the driver makes and frees from now on in this thread is the port's, which it does that to. */
void dpdk_remains_watch(struct dpdk_port *port, enum dpdk_stage stage);
/* The port is closed: what is left of it is freed. */
void dpdk_remains_drop(struct dpdk_port *port);

/* ---- traffic.c: the port's receive and send ---- */

unsigned dpdk_port_receive(struct packet_port *port, struct packet **ret_packets, unsigned capacity);
unsigned dpdk_port_send(struct packet_port *port, struct packet **packets, unsigned count);

/* ---- guest.c: what stands behind a vhost_user port, by DPDK's vhost library without a device ---- */

/* Opens the socket: its peer is looked for, or waited for. */
bool dpdk_guest_open(struct dpdk_port *port, const struct packet_port_options *options, struct error *error);
/* Nobody reads or writes the port any more. */
void dpdk_guest_close(struct dpdk_port *port);
/* Has kicks wake the reading worker from now on; false: they cannot. */
bool dpdk_guest_arm(struct dpdk_port *port);
void dpdk_guest_disarm(struct dpdk_port *port, bool for_good);
unsigned dpdk_guest_receive(struct dpdk_port *port, struct rte_mbuf **ret_frames, unsigned capacity);
/* The frames that went are freed. */
unsigned dpdk_guest_send(struct dpdk_port *port, uint16_t queue, struct rte_mbuf **frames, unsigned count);
/* A mapping was lost since the last look: whose was it? */
void dpdk_guest_look(struct dpdk_port *port);

/* The guest's memory is there, as far as is known. Before each burst, by the workers. */
static inline bool dpdk_guest_is_sound(struct dpdk_port *port) {
    if (unlikely(host_linux_lost_mappings() != atomic_load_explicit(&port->guest.lost_seen, memory_order_relaxed)))
        dpdk_guest_look(port);
    return likely(!atomic_load_explicit(&port->guest.lost, memory_order_relaxed));
}

/* ---- environment.c: DPDK itself, alone or as one of several processes ---- */

bool dpdk_environment_start(const struct dpdk_options *options, struct error *error);
/* Frames' buffers: made, or those of the primary. */
bool dpdk_environment_open_pool(struct dpdk_backend *backend, const struct dpdk_options *options, struct error *error);
/* The backend's lcores, and who runs a worker on one. */
bool dpdk_environment_open_lcores(struct dpdk_backend *backend, const struct dpdk_options *options, struct error *error);
struct host_launcher *dpdk_environment_launcher(struct packet_backend *backend, unsigned worker, unsigned core);

/* ---- shared_ring.c: rings between processes ---- */

/* A worker begins and ends; on it: whether it can be woken by those who write to its rings. */
void dpdk_shared_thread(struct packet_backend *backend, bool begins);
/* What processes share besides frames. */
bool dpdk_shared_open(struct dpdk_backend *backend, struct error *error);
bool dpdk_shared_ring_open(struct dpdk_backend *backend, const struct packet_port_options *options, struct packet_port **ret_port,
                           struct error *error);

/* ---- offload.c: work on frames that guests leave to us, and we to the next one ---- */

/* What stays with a frame inside the plane: its checksum is unfinished; it is a train of TCP segments. */
#define DPDK_FRAME_STATES (RTE_MBUF_F_RX_L4_CKSUM_MASK | RTE_MBUF_F_RX_LRO)

/* What the taker of a frame does by itself. */
struct dpdk_taker {
    bool sums, big_v4, big_v6;
};

/* True if somebody has to do something before the frame goes out. */
static inline bool dpdk_frame_is_unfinished(const struct rte_mbuf *frame) { return (frame->ol_flags & DPDK_FRAME_STATES) != 0; }

/* Makes what goes to a taker of a frame: itself with the driver's notes, or its segments with checksums. Into `out`, `capacity`
 * of them at most; returns how many. 0: it is malformed or there is no memory, and is still the caller's; else it is not. */
unsigned dpdk_offload(struct rte_mempool *pool, struct rte_mbuf *frame, const struct dpdk_taker *taker, struct rte_mbuf **out,
                      unsigned capacity);
