/* A real loop whose turn does what the test's thread asks: tests of host/linux act on the loop and wait for what comes of it. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "host/linux/internal.h"

struct loop_fixture {
    struct host *host;
    struct host_loop *loop;
    pthread_t thread; /* the loop's, once something ran on it */
    _Atomic(void (*)(void *)) ask;
    void *ask_arg;
    sem_t answered;
    _Atomic unsigned polled; /* completions and events so far */
    _Atomic uint64_t deadline_ns;
};

/* Makes the loop on an existing host and starts it. `cpu` as in host_loop_options. */
void loop_fixture_start(struct loop_fixture *fixture, struct host *host, enum host_poll_mode mode, int cpu);
void loop_fixture_stop(struct loop_fixture *fixture);
/* Runs `act` on the loop, inside a turn, and waits for it. */
void loop_fixture_run(struct loop_fixture *fixture, void (*act)(void *arg), void *arg);

/* Waits for a semaphore; fails the test after 20 s. */
void wait_for(sem_t *semaphore);

struct host *make_host(bool no_io_uring);

/* A fresh directory: on tmpfs (/dev/shm) or on disk (the build directory, which must not be tmpfs for that to mean anything). */
const char *make_folder(bool in_memory, char *to, size_t size);
/* Removes it with all files in it. */
void remove_folder(const char *path);
