/* What the files of the simulator share: events, pools, processes, loops. Not for users: sim.h and sim_disk.h are. */
#pragma once

#include <setjmp.h>

#include "base/list.h"
#include "base/random.h"
#include "host/sim/sim.h"

/* ---- memory: pools that only grow, so that no event allocates once the run is warm ---- */

struct sim_pool {
    struct sim *sim;
    void *free;  /* freed elements, linked through their first word */
    size_t size; /* of an element, bytes */
};

void sim_pool_init(struct sim_pool *pool, struct sim *sim, size_t size);
/* Zeroed, but for sim_pool_take_raw(). */
void *sim_pool_take(struct sim_pool *pool);
void *sim_pool_take_raw(struct sim_pool *pool);
void sim_pool_give(struct sim_pool *pool, void *element);

/* Never NULL. */
void *sim_allocate(struct sim *sim, size_t size);
void sim_release(struct sim *sim, void *memory);
/* realloc() of an array of `*capacity` elements so that `needed` fit; the new part is not cleared. */
void *sim_grow(struct sim *sim, void *array, size_t element, uint32_t used, uint32_t *capacity, uint32_t needed);

/* ---- events ---- */

struct sim_event {
    void (*run)(struct sim_event *event);
    uint32_t place; /* in the heap, from 1; 0 = not queued */
};

struct sim_heap_entry {
    uint64_t at_ns, order; /* order: drawn, so that simultaneous events come in any order */
    struct sim_event *event;
};

/* Arms or moves; a time that is past means now. */
void sim_event_at(struct sim *sim, struct sim_event *event, uint64_t at_ns);
void sim_event_cancel(struct sim *sim, struct sim_event *event);
static inline bool sim_event_armed(const struct sim_event *event) { return event->place != 0; }
uint64_t sim_event_time(const struct sim *sim, const struct sim_event *event);

enum sim_trace_kind {
    SIM_TRACE_USER,
    SIM_TRACE_TURN,
    SIM_TRACE_JOB,
    SIM_TRACE_OPEN,
    SIM_TRACE_SUBMIT,
    SIM_TRACE_LAND,
    SIM_TRACE_COMPLETE,
    SIM_TRACE_FAULT,
    SIM_TRACE_CONNECT,
    SIM_TRACE_WRITE,
    SIM_TRACE_DELIVER,
    SIM_TRACE_READ,
    SIM_TRACE_CLOSE,
    SIM_TRACE_RESET,
    SIM_TRACE_KILL,
    SIM_TRACE_POWER,
    SIM_TRACE_LINK,
    SIM_TRACE_COUNT
};
void sim_note(struct sim *sim, enum sim_trace_kind kind, uint64_t a, uint64_t b);

struct sim_link {
    struct sim *sim;
    struct sim_node *from, *to;
    struct sim_link_options options;
    bool cut;
};

struct sim {
    struct sim_options options;
    struct random random;
    uint64_t now_ns, steps, trace_hash;
    struct sim_heap_entry *heap; /* a 4-ary heap from index 0 */
    uint32_t heap_count, heap_capacity;
    struct sim_pool processes, loops, jobs, opens, calls, files, ios, writes, pieces, pages, disks, layers, sockets, connections;
    struct sim_layer *spare_layers; /* kept with their arrays, linked by `below` */
    struct sim_chunk *chunks;       /* all memory of the pools */
    struct sim_pool rings;          /* stream buffers of the default window */
    struct sim_node *nodes[SIM_NODES_MAX];
    uint32_t node_count;
    struct sim_link links[SIM_NODES_MAX][SIM_NODES_MAX];
    struct list disk_list, connection_list, record_list;
    uint64_t next_id, next_connection; /* of processes, disks, sockets; of connections */
    struct sim_loop *turning;          /* whose turn runs */
    struct sim_process *inside;        /* whose code runs: a turn or a job */
    jmp_buf *escape;                   /* out of the code that `inside` runs */
    void (*tracer)(void *arg, uint64_t at_ns, const char *what, uint64_t a, uint64_t b);
    void *tracer_arg;
    void (*hook)(void *arg, struct sim_connection *connection);
    void *hook_arg;
    void (*switched)(void *arg, void *owner);
    void *switched_arg;
};

/* Uniform in [from, to]. */
static inline uint64_t sim_draw(struct sim *sim, uint64_t from, uint64_t to) {
    return from >= to ? from : from + random_below(&sim->random, to - from + 1);
}
/* One in n; never for 0. */
static inline bool sim_one_in(struct sim *sim, uint32_t n) { return n != 0 && random_below(&sim->random, n) == 0; }

/* ---- machines, processes, loops ---- */

struct sim_path {
    struct list_node node;
    struct sim_disk *disk;
    char path[256];
};

struct sim_node {
    struct sim *sim;
    uint32_t index;
    bool on;
    char name[32];
    char addresses[SIM_NODE_ADDRESSES_MAX][48];
    uint32_t address_count;
    uint64_t clock_offset_ns; /* of the monotonic clock */
    int32_t clock_ppm;
    uint16_t next_port;
    uint64_t kill_count;
    struct list processes, paths, listeners;
    struct list kept; /* memory that outlives processes, not the power */
};

struct sim_process {
    struct host host;
    struct sim *sim;
    struct sim_node *node;
    void *owner; /* the test's */
    struct list_node of_node;
    struct list loops, files, sockets, ios, jobs, opens;
    uint64_t id, effects, kill_at; /* kill_at: the value of `effects` at which it dies, 0 = never */
    enum sim_kill kill_how;
    bool kill_power, paused;
    uint32_t socket_count, socket_limit;
    uint64_t request_count;
};

/* Something that host_loop_poll() tells. */
struct sim_told {
    struct list_node node;
    void (*tell)(struct sim_told *told);
};

struct sim_job {
    struct sim_event event;
    struct sim_told told;
    struct list_node of_process;
    struct sim_loop *loop;
    struct host_job *job;
};

struct sim_loop {
    struct host_loop loop;
    struct sim_process *process;
    struct host_loop_options options;
    struct sim_event event; /* the next turn */
    struct list_node of_process;
    struct list told;     /* struct sim_told */
    struct list ready;    /* struct sim_socket with events to tell */
    struct list prepared; /* struct sim_io not yet handed over */
    uint64_t id, request_count, socket_count, job_count, slept_at_ns;
    struct host_loop_stats stats;
    bool started, stopped, missed /* a turn was due while paused */, again /* woken inside its own turn */;
};

static inline struct sim_process *sim_process_of(struct host *host) { return container_of(host, struct sim_process, host); }
static inline struct sim_loop *sim_loop_of(struct host_loop *loop) { return container_of(loop, struct sim_loop, loop); }
/* The calling context of host.h: inside the loop's turn, or before it was started. */
static inline void sim_assert_on(const struct sim_loop *loop) {
    assert((!loop->started || loop->process->sim->turning == loop) && "not on this loop");
}

/* Calls a turn soon: there is something to tell. */
void sim_loop_kick(struct sim_loop *loop);
/* Queues something for the next host_loop_poll(). */
void sim_loop_tell(struct sim_loop *loop, struct sim_told *told);
/* Runs the process's own code: kills from inside it end up here. False if it was killed. */
bool sim_process_run(struct sim_process *process, struct sim_loop *turning, void (*call)(void *arg), void *arg);
/* About to do something that others can see; may not return (sim_process_kill_at). */
void sim_process_effect(struct sim_process *process);
/* Virtual time at which the node's clock shows `clock_ns`, rounded up; UINT64_MAX stays. */
uint64_t sim_node_to_virtual(const struct sim_node *node, uint64_t clock_ns);
void sim_process_end(struct sim_process *process, enum sim_kill how);

extern const struct host_ops sim_host_ops;

/* ---- other files' parts of a process's end, and of sim_destroy() ---- */

void sim_files_abandon(struct sim_process *process);
void sim_sockets_abandon(struct sim_process *process, enum sim_kill how);
void sim_disks_power_cut(struct sim_node *node);
void sim_kept_drop(struct sim_node *node);
void sim_disks_destroy(struct sim *sim);
void sim_network_power(struct sim_node *node);
void sim_network_destroy(struct sim *sim);

/* ---- host.h's functions, by file ---- */

void sim_host_job_submit(struct host_loop *loop, struct host_job *job);
void sim_host_file_open_submit(struct host_loop *loop, struct host_file_open *open);
void sim_host_file_close(struct host_file *file);
int sim_host_file_size(struct host_file *file, uint64_t *ret_bytes);
int sim_host_file_truncate(struct host_file *file, uint64_t bytes);
void sim_host_file_submit(struct host_loop *loop, struct host_file_request *request);
/* Hands the loop's prepared requests to their disks. */
void sim_files_flush(struct sim_loop *loop);
/* Tells the loop's sockets their events; returns how many. */
unsigned sim_sockets_poll(struct sim_loop *loop);
struct host_socket *sim_host_listen(struct host_loop *loop, const struct host_address *address, host_socket_event event,
                                    void *arg, struct error *error);
struct host_socket *sim_host_accept(struct host_socket *listener, struct host_address *ret_peer, int *ret_errno);
struct host_socket *sim_host_connect(struct host_loop *loop, const struct host_address *to, const struct host_address *from,
                                     host_socket_event event, void *arg, struct error *error);
int sim_host_socket_error(struct host_socket *socket);
void sim_host_socket_local(struct host_socket *socket, struct host_address *ret_address);
int64_t sim_host_socket_read(struct host_socket *socket, const struct slice *slices, uint32_t count);
int64_t sim_host_socket_write(struct host_socket *socket, const struct slice *slices, uint32_t count);
void sim_host_socket_detach(struct host_socket *socket);
int sim_host_socket_attach(struct host_socket *socket, struct host_loop *loop, host_socket_event event, void *arg);
void sim_host_socket_close(struct host_socket *socket);
void sim_host_socket_reset(struct host_socket *socket);
