/* A simulated cluster in one thread, from one seed: machines with disks and links, processes on them, each a `struct host`.
 * The real reactor, block and protocol code runs on these hosts unchanged; the same seed gives the same run and the same trace
 * hash. Disks: sim_disk.h. Must not know: reactors, blocks, protocols.
 *
 * The pieces: a node is a machine (addresses, disks, a clock); a process runs on it and dies by sim_process_kill(), by
 * sim_node_power_off() or by itself. Virtual time jumps from event to event; nothing spins. Everything that is left open by the
 * contract of host.h is drawn from the seed: latencies, the order of simultaneous events, splits of streams, when a buffer is
 * read, what survives a power cut.
 *
 * Calling context: all functions on the one thread. Functions of host.h that belong to a loop assert that they are called inside
 * that loop's turn, once it has been started. A callback of the simulator's (sim_at) runs outside of every loop. The simulator's
 * own lack of memory is an assertion. */
#pragma once

#include "host/host.h"

struct sim;
struct sim_node;
struct sim_disk;
struct sim_link;
struct sim_connection;

/* ---- the world ---- */

/* One direction between two nodes (or inside one), for the connections opened from then on as well as for those under way. */
struct sim_link_options {
    uint64_t latency_min_ns, latency_max_ns; /* drawn anew for each write */
    uint64_t bytes_per_second;               /* of each connection; 0 = unlimited */
    uint32_t window_bytes;   /* written and not yet read by the peer, at most; a power of two; fixed when a connection opens */
    uint32_t delivery_bytes; /* at most so many arrive at once (1 = byte by byte); 0 = no limit */
    uint32_t split_one_in;   /* one in n deliveries is split at a drawn place; 0 = never */
    uint32_t short_write_one_in; /* one in n writes takes less than there is room for; 0 = never */
    uint32_t late_one_in;        /* one in n writes comes late_ns later (lost on the way and sent again); 0 = never */
    uint64_t late_ns;
};

struct sim_options {
    uint64_t seed;
    struct sim_link_options remote;    /* between nodes */
    struct sim_link_options local;     /* inside a node: loopback and Unix sockets */
    uint64_t turn_min_ns, turn_max_ns; /* virtual time that a turn takes */
    uint64_t job_min_ns, job_max_ns;   /* until a job runs, and until its end is told; opens too */
    uint32_t backlog;                  /* of each listener: beyond it a connect is dropped and tried again */
    uint64_t connect_timeout_ns;       /* a connect that nobody answers fails with -ETIMEDOUT */
    uint64_t stream_timeout_ns;        /* so long no bytes got through (cut link, dead node): -ETIMEDOUT; 0 = never */
    uint32_t spurious_one_in; /* one in n arrivals is told although the last event was not answered by -EAGAIN; 0 = never */
    /* Memory of the simulator itself; NULL = malloc and free. For tests that make the product's allocations fail. */
    void *(*allocate)(size_t size);
    void (*release)(void *memory);
};

/* Defaults: a local network (20–60 µs, split one in 4), quick jobs, backlog 128, timeouts as Linux has them. */
void sim_options_init(struct sim_options *options, uint64_t seed);
struct sim *sim_create(const struct sim_options *options);
/* Frees everything, processes still running included (their own memory is the caller's affair). */
void sim_destroy(struct sim *sim);
/* Starts random and trace hash anew without building a new world: for loops over many seeds or cuts. */
void sim_reseed(struct sim *sim, uint64_t seed);

uint64_t sim_now_ns(const struct sim *sim);
/* Everything that happened so far, folded: equal for equal seeds. */
uint64_t sim_trace_hash(const struct sim *sim);
/* Events run so far. */
uint64_t sim_steps(const struct sim *sim);
/* The simulator's own random, e.g. for faults that belong to the run. */
struct random *sim_random(struct sim *sim);
/* Folds a value of the caller's into the trace hash, e.g. a checked result. */
void sim_trace(struct sim *sim, const char *what, uint64_t a, uint64_t b);
/* Is told each traced event: to look into a failing seed. NULL = nobody. */
void sim_set_tracer(struct sim *sim, void (*tracer)(void *arg, uint64_t at_ns, const char *what, uint64_t a, uint64_t b),
                    void *arg);
/* Runs `call` at that time (now, if it is past), outside of every loop. Simultaneous events have a drawn order. */
void sim_at(struct sim *sim, uint64_t at_ns, void (*call)(void *arg), void *arg);

enum sim_end {
    SIM_MET,     /* the condition holds */
    SIM_QUIET,   /* nothing is left to happen and the condition does not hold: a deadlock */
    SIM_TIMEOUT, /* virtual time is over */
    SIM_STEPS    /* the budget of events is spent: a livelock, or too small a budget */
};
/* Runs events until condition(arg) is true (looked at before the first and after each event; NULL = never), at most `for_ns` of
 * virtual time and `max_steps` events (0 = no limit for either). Not from inside a turn. */
enum sim_end sim_run_until(struct sim *sim, bool (*condition)(void *arg), void *arg, uint64_t for_ns, uint64_t max_steps);
/* Lets that much virtual time pass; returns the number of events. */
uint64_t sim_run_for(struct sim *sim, uint64_t for_ns);
const char *sim_end_name(enum sim_end end);

/* ---- machines and processes ---- */

#define SIM_NODES_MAX 32
#define SIM_NODE_ADDRESSES_MAX 4

/* A machine, switched on. `address` is numeric, "10.0.0.1" or "fd00::1"; more by sim_node_add_address(). "127.0.0.1" and "::1"
 * reach the machine itself. */
struct sim_node *sim_node_create(struct sim *sim, const char *name, const char *address);
void sim_node_add_address(struct sim_node *node, const char *address);
/* Monotonic clocks of nodes differ by a drawn offset; this also makes one run fast (> 0) or slow, in millionths. */
void sim_node_set_clock_rate(struct sim_node *node, int32_t ppm);
/* Gives a disk a path on this machine, replacing what was there (no file may be open on that). A disk may have several. */
void sim_node_attach(struct sim_node *node, const char *path, struct sim_disk *disk);
/* The disk at a path: also one that host_file_open_submit() made; NULL if there is none. */
struct sim_disk *sim_node_disk(struct sim_node *node, const char *path);
/* Power fails: all processes die, sockets vanish without a word, requests to the disks land or not, write caches are lost
 * (a drawn subset survives, torn). */
void sim_node_power_off(struct sim_node *node);
void sim_node_power_on(struct sim_node *node);
bool sim_node_is_on(const struct sim_node *node);

/* A new process; the node must be on. */
struct host *sim_process_start(struct sim_node *node);
struct sim_node *sim_process_node(struct host *host);
/* What a test keeps for this process, e.g. its heap. */
void sim_process_set_owner(struct host *host, void *owner);
/* Is told when a process's code begins to run (its owner) and when it no longer does (NULL; also when it was killed inside). */
void sim_set_switch_hook(struct sim *sim, void (*hook)(void *arg, void *owner), void *arg);
enum sim_kill {
    SIM_KILL_CLOSE, /* as the kernel does: sockets send FIN or RST; disk requests already handed over still land */
    SIM_KILL_VANISH /* as above, but the peers hear nothing */
};
/* The process is gone at once, its objects with it: nothing of it is called any more, and `host` is freed. From inside one of
 * its own turns this does not return (longjmp to the scheduler). Prepared requests that no host_loop_flush() handed over are
 * lost. */
void sim_process_kill(struct host *host, enum sim_kill how);
/* A clean end: everything must be closed and all loops destroyed, asserted. Frees `host`. */
void sim_process_exit(struct host *host);
/* SIGSTOP and SIGCONT: no turns, no jobs; kernel, disks and network go on, all queues stay. */
void sim_process_pause(struct host *host);
void sim_process_resume(struct host *host);
/* Kills the process at its n-th next effect (n ≥ 1): a file request handed over, bytes written to a socket, a connect, a close.
 * With `power` the machine loses power. 0 = never mind. Whether it has happened: sim_process_kill_count() of the node rises. */
void sim_process_kill_at(struct host *host, uint64_t effects, enum sim_kill how, bool power);
uint64_t sim_process_effects(struct host *host);
uint64_t sim_node_kill_count(const struct sim_node *node);
/* Sockets that this process may have (-EMFILE beyond); 0 = no limit. */
void sim_process_set_socket_limit(struct host *host, uint32_t limit);
/* File requests handed over, not yet completed. */
uint64_t sim_process_requests(struct host *host);
uint32_t sim_process_sockets(struct host *host);

/* ---- network faults ---- */

/* The direction from → to; from == to is the machine's inside. */
struct sim_link *sim_link(struct sim_node *from, struct sim_node *to);
void sim_link_set(struct sim_link *link, const struct sim_link_options *options);
void sim_link_get(const struct sim_link *link, struct sim_link_options *ret_options);
/* One-way partition: nothing gets through in this direction until it is healed, bytes under way wait (TCP sends them again). */
void sim_link_cut(struct sim_link *link, bool cut);
/* Both directions. */
void sim_cut(struct sim_node *a, struct sim_node *b, bool cut);

/* A connection lives until both ends are closed and all its bytes have arrived or were dropped: one that its client gave up may
 * still hold bytes on their way. */
enum sim_direction { SIM_TO_SERVER, SIM_TO_CLIENT };
/* Walks the living connections in the order of their connects: NULL starts, NULL ends. */
struct sim_connection *sim_connection_next(struct sim *sim, struct sim_connection *previous);
struct sim_connection_facts {
    uint64_t id; /* counts all connections of the world */
    struct sim_node *client, *server;
    uint16_t port;                              /* of the server; 0 = Unix socket */
    bool client_open, server_open;              /* not yet closed by its process */
    uint64_t written[2], delivered[2], read[2]; /* bytes so far, by direction */
};
void sim_connection_facts(const struct sim_connection *connection, struct sim_connection_facts *ret_facts);
/* Bytes (and the end of the stream) of this direction wait until released, even after the writer closed. */
void sim_connection_stall(struct sim_connection *connection, enum sim_direction direction, bool stall);
/* Adds to the latency of one direction of this connection: queues of one association delayed separately. */
void sim_connection_delay(struct sim_connection *connection, enum sim_direction direction, uint64_t extra_ns);
/* The delivery that would pass this byte of the direction (counted from 0, since the connect) ends just before it; the rest
 * follows later. At most SIM_SPLITS_MAX places wait at a time. */
#define SIM_SPLITS_MAX 64
void sim_connection_split_at(struct sim_connection *connection, enum sim_direction direction, uint64_t byte);
/* Both ends that are open get -ECONNRESET, bytes under way are dropped. The connection stays until the simulation goes on. */
void sim_connection_reset(struct sim_connection *connection);
/* Only the end that reads this direction is reset: the other one stays half open and hears nothing until it sends. */
void sim_connection_reset_one(struct sim_connection *connection, enum sim_direction direction);
/* Is told each connection when its server end is made; faults may be set from inside. NULL = nobody. */
void sim_set_connection_hook(struct sim *sim, void (*hook)(void *arg, struct sim_connection *connection), void *arg);
