#include "gateway/spp/seats.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "gateway/spp/command.h"

enum { RETRY_MS = 1000, ANSWER_MAX = 4 * 1024 * 1024 };

/* One process's connection. */
struct seat {
    struct list_node node;
    struct spp_seats *seats;
    struct host_socket *socket; /* NULL: not connected, tried again when the timer fires */
    struct reactor_timer retry;
    struct command command;
    char key[24], type[12];
    unsigned id;
    bool connected, busy, gone; /* busy: a command is under way; gone: the process is no more */
    char *answer;               /* what is not yet sent */
    size_t answer_length, answer_sent;
};

struct spp_seats {
    struct spp_seats_options options;
    struct list list;
    struct packet_watcher watcher;
    struct reactor_job refresh;
    bool refresh_queued, stopping;
};

static void connect_seat(struct seat *seat);
static void read_commands(struct seat *seat);

static void close_socket(struct seat *seat) {
    if (seat->socket != NULL)
        host_socket_close(seat->socket);
    seat->socket = NULL;
    seat->connected = false;
    free(seat->answer);
    seat->answer = NULL;
}

static void drop(struct seat *seat) {
    close_socket(seat);
    reactor_timer_stop(seat->seats->options.reactor, &seat->retry);
    list_remove(&seat->node);
    command_fini(&seat->command);
    free(seat);
}

static void try_later(struct seat *seat) {
    struct reactor *reactor = seat->seats->options.reactor;
    close_socket(seat);
    if (!seat->busy && seat->gone)
        drop(seat);
    else
        reactor_timer_start(reactor, &seat->retry, host_now_ns(reactor->host) + RETRY_MS * NS_PER_MS);
}

/* ---- answers ---- */

/* False: the connection is lost, and with it perhaps the seat. */
static bool send_answer(struct seat *seat) {
    while (seat->answer != NULL) {
        struct slice slice = {seat->answer + seat->answer_sent, seat->answer_length - seat->answer_sent};
        int64_t count = host_socket_write(seat->socket, &slice, 1);
        if (count == -EAGAIN)
            return true;
        if (count < 0) {
            try_later(seat);
            return false;
        }
        seat->answer_sent += (size_t)count;
        if (seat->answer_sent == seat->answer_length) {
            free(seat->answer);
            seat->answer = NULL;
        }
    }
    return true;
}

/* False: as send_answer(). */
static bool reply(struct seat *seat, json_t *take_answer) {
    char *text = take_answer != NULL ? json_dumps(take_answer, JSON_COMPACT) : NULL;
    json_decref(take_answer);
    if (text == NULL || strlen(text) > ANSWER_MAX) {
        free(text);
        try_later(seat);
        return false;
    }
    seat->answer = text;
    seat->answer_length = strlen(text);
    seat->answer_sent = 0;
    return send_answer(seat);
}

/* ---- commands ---- */

static void done(void *arg, unsigned status, const char *type, const char *text, size_t length) {
    struct seat *seat = arg;
    (void)type;
    (void)length;
    seat->busy = false;
    json_t *answer = command_answer(seat->type, seat->id, &seat->command,
                                    wiring_process(packet_control_wiring(seat->seats->options.control), seat->key), status, text);
    command_fini(&seat->command);
    if (seat->socket == NULL || seat->seats->stopping) { /* nobody hears it */
        json_decref(answer);
        if (seat->gone || seat->seats->stopping)
            drop(seat);
        return;
    }
    bool gone = seat->gone;
    if (!reply(seat, answer))
        return;
    if (gone)
        drop(seat); /* it was told to exit, and says so */
    else
        read_commands(seat);
}

/* False: the seat may be gone. */
static bool serve(struct seat *seat, const char *text) {
    struct error error;
    if (!command_parse(seat->type, seat->id, text, &seat->command, &error)) {
        command_fini(&seat->command);
        return reply(seat, command_refusal(seat->type, error.text));
    }
    if (seat->command.kind == COMMAND_CLIENT_ID || seat->command.kind == COMMAND_NOTHING)
        return reply(seat, command_answer(seat->type, seat->id, &seat->command, NULL, 204, NULL));
    char *body = seat->command.body != NULL ? json_dumps(seat->command.body, JSON_COMPACT) : NULL;
    struct spp_rest_request request = {.method = seat->command.method,
                                       .path = seat->command.path,
                                       .body = body,
                                       .length = body != NULL ? strlen(body) : 0,
                                       .answer = done,
                                       .arg = seat};
    seat->busy = true;
    spp_rest_serve(seat->seats->options.rest, &request); /* which may have answered, and the seat be gone */
    free(body);
    return false;
}

/* A command a read, as spp-ctl writes them; the next one when that is answered. */
static void read_commands(struct seat *seat) {
    char bytes[COMMAND_BYTES_MAX + 1];
    while (!seat->busy && seat->answer == NULL && seat->socket != NULL) {
        struct slice slice = {bytes, COMMAND_BYTES_MAX};
        int64_t count = host_socket_read(seat->socket, &slice, 1);
        if (count == -EAGAIN)
            return;
        if (count <= 0) {
            try_later(seat);
            return;
        }
        bytes[count] = '\0';
        if (!serve(seat, bytes))
            return;
    }
}

static void event(void *arg, unsigned events) {
    struct seat *seat = arg;
    if (host_socket_error(seat->socket) != 0) {
        try_later(seat);
        return;
    }
    if (!seat->connected && (events & HOST_WRITABLE) != 0) {
        seat->connected = true;
        log_notice(seat->seats->options.log, LOG_AREA_APP, "%s has met its controller", seat->key);
    }
    if (seat->connected && send_answer(seat))
        read_commands(seat);
}

static void connect_seat(struct seat *seat) {
    struct spp_seats *seats = seat->seats;
    struct error error;
    const struct host_address *to = strcmp(seat->type, "primary") == 0 ? &seats->options.primary : &seats->options.secondary;
    seat->socket = host_connect(seats->options.reactor->loop, to, NULL, event, seat, &error);
    if (seat->socket == NULL)
        try_later(seat);
}

static void retry(struct reactor_timer *timer) {
    struct seat *seat = container_of(timer, struct seat, retry);
    if (seat->socket == NULL)
        connect_seat(seat);
}

/* ---- who there is ---- */

static struct seat *find(struct spp_seats *seats, const char *key) {
    list_for_each (&seats->list, struct seat, seat, node)
        if (strcmp(seat->key, key) == 0)
            return seat;
    return NULL;
}

static void add(struct spp_seats *seats, const char *key, const char *type, unsigned id) {
    struct seat *seat = find(seats, key);
    if (seat != NULL) {
        seat->gone = false;
        return;
    }
    seat = calloc(1, sizeof(*seat));
    if (seat == NULL)
        return; /* looked at again with the next change */
    seat->seats = seats;
    seat->id = id;
    seat->retry.run = retry;
    snprintf(seat->key, sizeof(seat->key), "%s", key);
    snprintf(seat->type, sizeof(seat->type), "%s", type);
    list_push_back(&seats->list, &seat->node);
    connect_seat(seat);
}

static void refresh(struct reactor_job *job) {
    struct spp_seats *seats = container_of(job, struct spp_seats, refresh);
    const char *key;
    json_t *process;
    seats->refresh_queued = false;
    if (seats->stopping)
        return;
    list_for_each (&seats->list, struct seat, seat, node)
        seat->gone = true;
    add(seats, "primary:0", "primary", 0);
    json_object_foreach(json_object_get(packet_control_wiring(seats->options.control), "processes"), key, process) {
        const char *type = json_string_value(json_object_get(process, "type"));
        add(seats, key, type, (unsigned)json_integer_value(json_object_get(process, "id")));
    }
    list_for_each_safe (&seats->list, struct seat, seat, node)
        if (seat->gone && !seat->busy)
            drop(seat);
}

static void wiring_changed(struct packet_watcher *watcher) {
    struct spp_seats *seats = container_of(watcher, struct spp_seats, watcher);
    if (!seats->refresh_queued && !seats->stopping) {
        seats->refresh_queued = true;
        reactor_defer(seats->options.reactor, &seats->refresh);
    }
}

struct spp_seats *spp_seats_create(const struct spp_seats_options *options) {
    struct spp_seats *seats = calloc(1, sizeof(*seats));
    if (seats == NULL)
        return NULL;
    seats->options = *options;
    list_init(&seats->list);
    seats->refresh.run = refresh;
    seats->watcher.changed = wiring_changed;
    packet_control_watch(options->control, &seats->watcher);
    wiring_changed(&seats->watcher);
    return seats;
}

void spp_seats_stop(struct spp_seats *seats) {
    seats->stopping = true;
    list_remove(&seats->watcher.node);
    list_for_each_safe (&seats->list, struct seat, seat, node) {
        if (seat->busy) {
            close_socket(seat);
            reactor_timer_stop(seats->options.reactor, &seat->retry);
        } else {
            drop(seat);
        }
    }
}

void spp_seats_destroy(struct spp_seats *seats) {
    assert(list_empty(&seats->list));
    free(seats);
}
