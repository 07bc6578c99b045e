/* The contract of host/host.h as test cases that every implementation must pass: the same source runs on host/sim over many seeds
 * and on host/linux. A fixture says how to wait; an actor is a loop with a minimal turn on which a test runs its calls. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/list.h"
#include "host/host.h"

struct fixture {
    struct host *host;
    char directory[96]; /* where files and Unix sockets go; names in it are free at the start of each case */
    bool no_ipv6;       /* the machine has none */
    /* Lets the host run until condition(arg), looked at again and again; false if that takes too long. */
    bool (*wait)(struct fixture *fixture, bool (*condition)(void *arg), void *arg);
    void *world;
};

struct actor {
    struct fixture *fixture;
    struct host_loop *loop;
    void (*call)(struct actor *actor, void *arg);
    void *arg;
    _Atomic unsigned asked, done; /* calls */
    _Atomic uint64_t turns;
    uint64_t deadline_ns; /* of the next turn, set by a call; 0 = none */
};

void actor_init(struct actor *actor, struct fixture *fixture);
/* Runs call(actor, arg) on the loop and waits for its return. */
void actor_do(struct actor *actor, void (*call)(struct actor *actor, void *arg), void *arg);
/* Waits for a condition of the test's; fails the test with `what` if it does not come. */
void actor_wait(struct actor *actor, bool (*condition)(void *arg), void *arg, const char *what);
void actor_fini(struct actor *actor);

/* Opens a file on the actor's loop and waits. */
struct host_file *actor_open(struct actor *actor, const char *name, struct host_file_options options,
                             struct host_file_open *ret_open);
/* One request, waited for; returns its result. READ and WRITE move `length` bytes at `data`. */
int64_t actor_io(struct actor *actor, struct host_file *file, enum host_file_op op, void *data, uint64_t offset, uint64_t length);

/* As above with the caller's request; `complete` is set here. */
int64_t actor_request(struct actor *actor, struct host_file_request *request);

/* A socket with what it has got and what it still has to send. Bytes sent and received are kept. */
struct peer {
    struct host_socket *socket;
    uint8_t *in, *out;
    size_t in_capacity, out_length;
    _Atomic size_t in_length, out_sent; /* atomic: a test's thread looks at them while the loop runs */
    _Atomic bool connected, closed;     /* closed: end of the stream or an error */
    _Atomic int error;                  /* -errno of read or write */
    bool stopped;                       /* does not read (a slow reader) */
    bool hung_up;                       /* HOST_CLOSED was told */
    bool waits_for_go, going;           /* it sends from peer_go() on until all is sent, and not at any event */
    unsigned reads;                     /* every other time it stops at a short read, as the contract allows */
};

void peer_init(struct peer *peer, size_t capacity);
void peer_fini(struct peer *peer);
void peer_event(void *arg, unsigned events);
/* Reads and writes what goes, on the loop. */
void peer_go(struct peer *peer);

/* A listener that accepts into an array. */
struct door {
    struct host_socket *socket;
    struct host_loop *loop;
    struct host_address address;
    struct peer *peers[64];
    struct host_address from[64];
    _Atomic unsigned count;
    unsigned capacity;  /* accepts no more */
    struct error error; /* of listening */
};
void door_event(void *arg, unsigned events);
void door_open(struct actor *actor, struct door *door, enum host_family family, const char *text, uint16_t port);
void peer_connect(struct actor *actor, struct peer *peer, const struct host_address *to);

/* The cases; each takes *state = a struct fixture with a fresh host, which the caller's setup makes and its teardown ends. */
extern const struct CMUnitTest contract_cases[];
extern const size_t contract_case_count;
