/* A host for unit tests and fuzz targets: one thread, a clock that jumps, loops that are turned by step_host_run(), byte-stream
 * sockets in memory. No files. Smaller and quicker than host/sim, with no model of a network's timing: what is written is there
 * at the next turn. Events are told strictly edge-triggered, as host.h says. */
#pragma once

#include "base/random.h"
#include "host/host.h"

struct step_host;

struct step_host_options {
    uint64_t seed;
    uint32_t read_max, write_max; /* bytes a call moves at most; 0 = no limit */
    bool random_sizes;            /* each limit is drawn anew from 1 … max */
    uint32_t window_bytes;        /* written and not read, at most; 0 = 256 KiB */
    /* Is shown the bytes on their way, to change them: connection counts from 0 in order of connects. NULL = not. */
    void (*tap)(void *arg, unsigned connection, bool to_server, uint8_t *bytes, size_t length);
    void *tap_arg;
};

struct host *step_host_create(const struct step_host_options *options);
/* All sockets are closed and loops destroyed (asserted). */
void step_host_destroy(struct host *host);
uint64_t step_host_now_ns(struct host *host);
/* Turns all loops, moving the clock when none has work, until condition(arg) holds (true) or for_ns have passed or nothing is
 * left to happen (false). NULL = never holds. */
bool step_host_run(struct host *host, bool (*condition)(void *arg), void *arg, uint64_t for_ns);

/* How many connects succeeded so far. */
unsigned step_host_connections(struct host *host);
/* Both ends of a connection see a reset. Harmless if it is gone. */
void step_host_reset(struct host *host, unsigned connection);
/* Bytes of one direction wait until released. */
void step_host_stall(struct host *host, unsigned connection, bool to_server, bool stall);
/* Stalls both directions of every connection, also of those to come. */
void step_host_stall_all(struct host *host, bool stall);
/* Connects are refused (they are anyway where nobody listens), or (hang) never answered. */
void step_host_refuse(struct host *host, bool refuse, bool hang);
unsigned step_host_open_sockets(struct host *host);
