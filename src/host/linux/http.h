/* A small HTTP server on loopback, for what watches over a process: each GET is one text. On libmicrohttpd, which brings its own
 * epoll set: that set is watched by the loop, so there is no thread and no cost while nobody asks. Only src/programs includes it.
 *
 * Calling context: the loop. */
#pragma once

#include "host/host.h"

struct host_linux_http;
struct host_linux_http_request;

struct host_linux_http_options {
    struct host_loop *loop;
    struct host_address address; /* of loopback: there is neither encryption nor authentication; port 0 = any free one */
    /* A GET of `path`, which stays until the answer: host_linux_http_answer() is called once, inside or later. */
    void (*get)(void *arg, struct host_linux_http_request *request, const char *path);
    void *arg;
};

/* False: error names the address and why. */
bool host_linux_http_start(const struct host_linux_http_options *options, struct host_linux_http **ret_http, uint16_t *ret_port,
                           struct error *error);
/* The text is copied. type: "text/plain; charset=utf-8". */
void host_linux_http_answer(struct host_linux_http_request *request, unsigned status, const char *type, const char *text,
                            size_t length);
/* All requests have been answered. */
void host_linux_http_stop(struct host_linux_http *http);
