/* The smallest deterministic host: one reactor on a virtual clock, no files, no sockets. Made for speed: a crash test builds one
 * for each of 10^5 cuts a minute, which the whole simulated cluster (host/sim) is too rich for. All of a world's memory is one
 * heap, so a crash is heap_drop(). Time passes only through timers; the disk (disk.h) is nothing else. */
#pragma once

#include "base/random.h"
#include "heap.h"
#include "reactor/reactor.h"

struct world {
    struct host host;
    struct host_loop loop;
    struct heap heap;
    struct reactor *reactor;
    struct random random; /* what host_random() gives */
    uint64_t now_ns;
    struct host_turn (*turn)(void *arg);
    void *turn_arg;
    struct host_job *jobs; /* asked for, not yet run */
    uint64_t turns;
};

/* A world with a running reactor; its heap is entered. */
void world_init(struct world *world, uint64_t seed);
/* Makes room for many timers, so that an allocation that fails later does not hit the reactor's own. */
void world_reserve_timers(struct world *world);
/* The process dies: all its memory is gone. Its heap is left. */
void world_crash(struct world *world);
/* The end of a process that has closed everything: asserts that nothing leaked. */
void world_exit(struct world *world);
/* Turns until condition(arg), looked at before each turn. False when nothing is left to happen, or after max_turns. */
bool world_run_until(struct world *world, bool (*condition)(void *arg), void *arg, uint64_t max_turns);
/* Lets that much virtual time pass. */
void world_run_for(struct world *world, uint64_t for_ns);
/* Inside: the test acts as code on the reactor. */
void world_enter(struct world *world);
void world_leave(struct world *world);
