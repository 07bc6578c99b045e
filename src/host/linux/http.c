#include "host/linux/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/timerfd.h>

#include "host/linux/internal.h"

enum {
    CONNECTIONS_MAX = 64, /* at once; more wait */
    TIMEOUT_S = 10,       /* of a connection that does nothing, also one that is kept */
    MEMORY_MAX = 16384,   /* of a connection: request line and headers */
    PATIENCE = 16         /* a body of so many times the limit is not read to its end to say that it is too long */
};

struct host_linux_http {
    struct host_linux_http_options options;
    struct linux_loop *loop;
    struct MHD_Daemon *daemon;
    struct watch events, timer;
    unsigned open; /* requests without an answer */
};

struct host_linux_http_request {
    struct host_linux_http *http;
    struct MHD_Connection *connection;
    struct MHD_Response *response; /* what there is to answer */
    struct host_linux_http_asked what;
    char *body;
    size_t capacity, discarded;
    unsigned status;
    bool asked, suspended;
};

/* When libmicrohttpd wants to be called although nothing comes: to end idle connections. */
static void arm(struct host_linux_http *http) {
    MHD_UNSIGNED_LONG_LONG ms = 0;
    struct itimerspec at = {0};
    if (MHD_get_timeout(http->daemon, &ms) == MHD_YES) {
        at.it_value.tv_sec = (time_t)(ms / 1000);
        at.it_value.tv_nsec = (long)(ms % 1000) * 1000000 + 1; /* 0 would disarm it */
    }
    timerfd_settime(http->timer.fd, 0, &at, NULL);
}

static void run(struct host_linux_http *http) {
    MHD_run(http->daemon);
    arm(http);
}

static void on_events(struct watch *watch, uint32_t events) {
    (void)events;
    run(container_of(watch, struct host_linux_http, events));
}

static void on_timer(struct watch *watch, uint32_t events) {
    uint64_t ticks;
    (void)events;
    if (read(watch->fd, &ticks, sizeof(ticks)) == sizeof(ticks))
        run(container_of(watch, struct host_linux_http, timer));
}

/* ---- requests ---- */

static enum MHD_Result queue(struct MHD_Connection *connection, unsigned status, struct MHD_Response *take_response) {
    if (take_response == NULL)
        return MHD_NO; /* no memory: the connection is closed */
    enum MHD_Result result = MHD_queue_response(connection, status, take_response);
    MHD_destroy_response(take_response);
    return result;
}

static struct MHD_Response *make_text(const char *type, const char *text, size_t length) {
    struct MHD_Response *response = MHD_create_response_from_buffer(length, (void *)text, MHD_RESPMEM_MUST_COPY);
    if (response != NULL && type != NULL)
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    return response;
}

/* One more piece of the body. False: there is no place for it. */
static bool take_body(struct host_linux_http_request *request, const char *data, size_t length) {
    size_t max = request->http->options.body_max;
    if (length > max - request->what.length)
        return false;
    if (request->what.length + length > request->capacity) {
        size_t capacity = request->what.length + length > max / 2 ? max : (request->what.length + length) * 2;
        char *body = realloc(request->body, capacity);
        if (body == NULL)
            return false;
        request->body = body;
        request->capacity = capacity;
    }
    memcpy(request->body + request->what.length, data, length);
    request->what.length += length;
    request->what.body = request->body;
    return true;
}

static void ask(struct host_linux_http_request *request, const char *url, const char *method) {
    struct host_linux_http *http = request->http;
    request->asked = true;
    request->what.path = url;
    request->what.method = strcmp(method, MHD_HTTP_METHOD_HEAD) == 0 ? MHD_HTTP_METHOD_GET : method;
    http->open++;
    http->options.serve(http->options.arg, request, &request->what);
}

/* Called when the headers are there, again with parts of the body and its end, and when a suspended connection goes on. */
static enum MHD_Result handle(void *arg, struct MHD_Connection *connection, const char *url, const char *method,
                              const char *version, const char *data, size_t *data_size, void **state) {
    struct host_linux_http *http = arg;
    struct host_linux_http_request *request = *state;
    (void)version;
    if (http->options.body_max == 0 && strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0) {
        static const char text[] = "only GET is served\n";
        return queue(connection, MHD_HTTP_METHOD_NOT_ALLOWED, make_text("text/plain", text, sizeof(text) - 1));
    }
    if (request == NULL) {
        request = calloc(1, sizeof(*request));
        if (request == NULL)
            return MHD_NO;
        request->http = http;
        request->connection = connection;
        *state = request;
        return MHD_YES;
    }
    if (*data_size > 0) {
        if (http->options.body_max > 0 && (request->discarded > 0 || !take_body(request, data, *data_size)))
            request->discarded += *data_size;
        *data_size = 0;
        return request->discarded <= PATIENCE * http->options.body_max ? MHD_YES : MHD_NO;
    }
    if (request->discarded > 0) {
        static const char text[] = "the body is too long";
        return queue(connection, MHD_HTTP_CONTENT_TOO_LARGE, make_text("text/plain", text, sizeof(text) - 1));
    }
    if (!request->asked) {
        ask(request, url, method);
        if (request->response == NULL && request->status == 0) {
            request->suspended = true;
            MHD_suspend_connection(connection);
            return MHD_YES;
        }
    }
    struct MHD_Response *response = request->response;
    request->response = NULL;
    return queue(connection, request->status, response);
}

static void completed(void *arg, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode code) {
    struct host_linux_http_request *request = *state;
    (void)arg;
    (void)connection;
    (void)code;
    if (request != NULL && request->response != NULL)
        MHD_destroy_response(request->response);
    if (request != NULL)
        free(request->body);
    free(request); /* it has been answered: a suspended connection does not end */
    *state = NULL;
}

void host_linux_http_answer(struct host_linux_http_request *request, unsigned status, const char *type, const char *text,
                            size_t length) {
    assert(request->asked && request->status == 0);
    request->status = status;
    request->response = make_text(type, text, length);
    request->http->open--;
    if (request->suspended) {
        MHD_resume_connection(request->connection); /* which waits for the next MHD_run(), and wakes nobody */
        struct itimerspec now = {.it_value.tv_nsec = 1};
        timerfd_settime(request->http->timer.fd, 0, &now, NULL);
    }
}

/* ---- life ---- */

/* An address, and of loopback unless any will do. */
static bool is_fit(const struct host_address *address, bool anywhere, struct sockaddr_storage *ret) {
    struct sockaddr_in *v4 = (struct sockaddr_in *)ret;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ret;
    memset(ret, 0, sizeof(*ret));
    if (address->family == HOST_IPV4) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(address->port);
        return inet_pton(AF_INET, address->text, &v4->sin_addr) == 1 && (anywhere || ntohl(v4->sin_addr.s_addr) >> 24 == 127);
    }
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(address->port);
    return address->family == HOST_IPV6 && inet_pton(AF_INET6, address->text, &v6->sin6_addr) == 1 &&
           (anywhere || IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr));
}

static bool watch_all(struct host_linux_http *http, struct error *error) {
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    http->timer = (struct watch){.fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC), .fire = on_timer};
    int result = http->timer.fd < 0 ? -errno : linux_loop_watch(http->loop, &http->timer, EPOLLIN);
    if (result != 0)
        return error_set_errno(error, result, "no timer for HTTP");
    http->events = (struct watch){.fd = info->epoll_fd, .fire = on_events};
    result = linux_loop_watch(http->loop, &http->events, EPOLLIN);
    if (result != 0) {
        linux_loop_unwatch(http->loop, &http->timer);
        return error_set_errno(error, result, "cannot watch HTTP");
    }
    arm(http);
    return true;
}

bool host_linux_http_start(const struct host_linux_http_options *options, struct host_linux_http **ret_http, uint16_t *ret_port,
                           struct error *error) {
    struct sockaddr_storage address;
    if (!is_fit(&options->address, options->anywhere, &address))
        return error_invalid(error, "http", options->address.text, "%s",
                             options->anywhere ? "a numeric address" : "an address of loopback: HTTP has no authentication here");
    struct host_linux_http *http = calloc(1, sizeof(*http));
    if (http == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory for HTTP");
    http->options = *options;
    http->loop = (struct linux_loop *)options->loop;
    http->timer.fd = -1;
    unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME;
    if (options->address.family == HOST_IPV6)
        flags |= MHD_USE_IPv6;
    errno = 0;
    http->daemon = MHD_start_daemon(flags, options->address.port, NULL, NULL, handle, http, MHD_OPTION_SOCK_ADDR, &address,
                                    MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
                                    (unsigned)TIMEOUT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)MEMORY_MAX,
                                    MHD_OPTION_NOTIFY_COMPLETED, completed, NULL, MHD_OPTION_END);
    if (http->daemon == NULL) {
        error_set_errno(error, errno != 0 ? errno : EADDRINUSE, "cannot serve HTTP on %s port %u", options->address.text,
                        options->address.port);
        error_hint(error, "another process listens there: end it, or choose another port");
        free(http);
        return false;
    }
    if (!watch_all(http, error)) {
        if (http->timer.fd >= 0)
            close(http->timer.fd);
        MHD_stop_daemon(http->daemon);
        free(http);
        return false;
    }
    *ret_port = MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_BIND_PORT)->port;
    *ret_http = http;
    return true;
}

void host_linux_http_stop(struct host_linux_http *http) {
    assert(http->open == 0);
    linux_loop_unwatch(http->loop, &http->events);
    linux_loop_unwatch(http->loop, &http->timer);
    close(http->timer.fd);
    MHD_stop_daemon(http->daemon);
    free(http);
}
