/* A node of the product in the simulator: a machine with a disk and an address, on it the control daemon, and the storage plane
 * that the daemon starts itself. Either dies and comes back by itself, or with the machine. A daemon may serve, too: then it has
 * volumes over several nodes (fleet), and what nodes ask each other goes through its gRPC service on the simulated network. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/random.h"
#include "control/internal.h"
#include "control/store/memory/memory.h"
#include "gateway/gateway.h"
#include "heap.h"
#include "host/sim/sim.h"

enum { NODES = 3, HEAPS_MAX = 128 };
#define DISK_BYTES MIB(96)

/* A process of the product. Its memory stays until the world ends: what a daemon wrote to its state lies in it. */
struct process {
    struct heap heap;
    struct host *host;
};

struct machine {
    struct ground *ground;
    unsigned index;
    char address[16], name[8], socket_path[48];
    struct sim_node *node;
    struct process *daemon, *plane_process; /* NULL = not running */
    /* of the daemon */
    struct log log;
    struct reactor *reactor;
    struct store *store;
    struct control *control;
    struct store_memory_data *data;
    bool ready;
    struct fleet *fleet; /* these three where the ground serves */
    struct grpc_server *server;
    struct gateway *gateway;
    /* of the plane */
    struct plane *plane;
    uint64_t plane_number;
    bool plane_wanted; /* it was started, and runs in a moment */
    void (*ended)(void *arg, int status);
    void *ended_arg;
    struct reactor_message begin, ended_message;
    bool ended_posted;
};

/* What all machines stand on. */
struct ground {
    struct sim *sim;
    struct random luck;
    uint64_t seed;
    bool serves;
    bool faults;                                   /* of the state stores */
    void (*daemon_ended)(struct machine *machine); /* calls to it end without an answer */
    struct machine machines[NODES];
    struct process processes[HEAPS_MAX];
    unsigned process_count;
    uint64_t next_number;
    unsigned deaths;
};

/* The simulation, and machines n1 … at 10.0.0.1 …, whose daemons have begun. `serves`, `daemon_ended`: as in the ground. */
void ground_create(struct ground *ground, uint64_t seed, bool serves, void (*daemon_ended)(struct machine *machine));
/* Ends all there is. */
void ground_destroy(struct ground *ground);
uint64_t ground_draw(struct ground *ground, uint64_t below);
double ground_seconds(const struct ground *ground);
bool ground_traces(void); /* TRACE=1 */
/* When it is ready: each machine has its disk open, as "d". */
void ground_open_disks(struct ground *ground);
/* Fails unless it comes true within so long. */
void ground_wait(struct ground *ground, bool (*condition)(void *arg), void *arg, uint64_t for_ns, const char *what);
/* All daemons are ready; `arg` is the ground. */
bool ground_is_ready(void *arg);
/* Fails the test, with the seed. */
#define ground_fail(ground, format, ...)                                                                                         \
    fail_msg("seed %llu: " format, (unsigned long long)(ground)->seed __VA_OPT__(, ) __VA_ARGS__)

struct process *process_start(struct ground *ground, struct sim_node *node);
/* Allocations, and the current reactor, are this process's from here on; NULL = nobody's. */
void process_enter(struct process *process);

void machine_kill_daemon(struct machine *machine);
void machine_kill_plane(struct machine *machine);
void machine_power_off(struct machine *machine);
/* Of a struct machine; nothing where it is on, or runs: for sim_at(). */
void machine_power_on(void *machine);
void machine_start_daemon(void *machine);

/* For people: what its daemon thinks, and does. */
void machine_show(const struct machine *machine);

/* One of the misfortunes that a world of nodes has: a death, a link cut or mended. What died is started again in a while. */
void ground_strike(struct ground *ground);
/* Everything is on, runs and is connected, or will be. */
void ground_heal(struct ground *ground);
