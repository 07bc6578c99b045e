/* A connection to a plane's JSON-RPC socket and the calls on it. Any number of calls may be under way; answers come in any order.
 *
 * Calling context: the reactor given at creation. A call is its caller's memory and stays untouched until `done`. */
#pragma once

#include <jansson.h>

#include "base/error.h"
#include "reactor/reactor.h"

#define PLANE_CLIENT_SOCKET_DEFAULT "/var/tmp/spdk.sock" /* where clients of the storage dialect look */
#define PLANE_CLIENT_ANSWER_MAX MIB(32)                  /* what the storage dialect allows */

struct plane_client;

struct plane_call {
    const char *method;
    json_t *params;      /* an object, borrowed until done; NULL = none */
    uint64_t timeout_ms; /* 0 = for ever */
    void (*done)(struct plane_call *call);
    void *arg; /* the caller's */

    bool ok;
    json_t *result;     /* if ok; the caller's */
    int64_t code;       /* the answer's error code; 0 if it was none of the plane's */
    struct error error; /* if not: the plane's own words; what was wrong with which parameter, and what to do */

    /* the client's */
    struct list_node node;
    uint64_t id;
    struct plane_client *client;
    struct reactor_timer timer;
};

/* Begins to connect; calls may be made at once, they fail if nobody answers. False: error names the path. */
bool plane_client_create(struct reactor *reactor, const char *socket_path, struct plane_client **ret_client, struct error *error);
/* `lost` comes once, from the loop, when the connection is of no more use, after the calls under way have ended. The client may
 * be destroyed inside. */
void plane_client_watch(struct plane_client *client, void (*lost)(void *arg, const struct error *why), void *arg);
/* Calls under way end with ERROR_CANCELLED, before this returns. */
void plane_client_destroy(struct plane_client *client);
/* Sends a call. `done` is never called from inside. A call whose time is over ends with ERROR_TIMED_OUT; the plane may still
 * carry it out. */
void plane_client_call(struct plane_client *client, struct plane_call *call);
