/* A small HTTP server: for what watches over a process, and for a REST API; each request is answered by one text. On
 * libmicrohttpd, which brings its own epoll set: that set is watched by the loop, so there is no thread and no cost while nobody
 * asks. Only src/programs includes it.
 *
 * Calling context: the loop. */
#pragma once

#include "host/host.h"

struct host_linux_http;
struct host_linux_http_request;

/* What is asked for. It stays until the answer. */
struct host_linux_http_asked {
    const char *method; /* a HEAD is told as GET */
    const char *path;   /* decoded, without the query */
    const char *body;   /* `length` bytes */
    size_t length;
};

struct host_linux_http_options {
    struct host_loop *loop;
    struct host_address address; /* there is neither encryption nor authentication; port 0 = any free one */
    bool anywhere;               /* an address that is not of loopback will do */
    size_t body_max;             /* bytes; 0 = GET only, and bodies are not looked at */
    /* host_linux_http_answer() is called once, inside or later. */
    void (*serve)(void *arg, struct host_linux_http_request *request, const struct host_linux_http_asked *asked);
    void *arg;
};

/* False: error names the address and why. */
bool host_linux_http_start(const struct host_linux_http_options *options, struct host_linux_http **ret_http, uint16_t *ret_port,
                           struct error *error);
/* The text is copied. type: "text/plain; charset=utf-8"; NULL = there is no text. */
void host_linux_http_answer(struct host_linux_http_request *request, unsigned status, const char *type, const char *text,
                            size_t length);
/* All requests have been answered. */
void host_linux_http_stop(struct host_linux_http *http);
