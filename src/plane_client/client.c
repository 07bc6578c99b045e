#include "plane_client/client.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"

#define READ_STEP KIB(64)
#define REQUEST_MAX MIB(1)

struct plane_client {
    struct reactor *reactor;
    struct host_socket *socket;
    char path[sizeof(((struct host_address *)0)->text)];
    struct list calls;   /* under way */
    struct list failing; /* to be ended from the loop */
    struct reactor_job fail_job;
    bool fail_queued, dead, destroyed, lost_told;
    void (*lost)(void *arg, const struct error *why);
    void *lost_arg;
    struct error why; /* it is dead */
    struct text out;  /* requests not yet sent */
    size_t sent;
    char *in; /* an answer is one line; [0, in_length) is received, [0, in_scanned) holds no line's end */
    size_t in_length, in_scanned, in_capacity;
    uint64_t next_id;
};

static void finish(struct plane_call *call, bool ok) {
    struct plane_client *client = call->client;
    list_remove(&call->node);
    reactor_timer_stop(client->reactor, &call->timer);
    call->ok = ok;
    call->done(call);
}

static void release(struct plane_client *client) {
    text_fini(&client->out);
    free(client->in);
    free(client);
}

static void end_failing(struct plane_client *client) {
    struct list batch;
    list_init(&batch);
    list_splice_back(&batch, &client->failing);
    while (!list_empty(&batch))
        finish(list_entry(list_first(&batch), struct plane_call, node), false);
}

static void run_failing(struct reactor_job *job) {
    struct plane_client *client = container_of(job, struct plane_client, fail_job);
    client->fail_queued = false;
    if (client->destroyed) {
        release(client);
        return;
    }
    end_failing(client);
    if (client->destroyed || !client->dead || client->lost_told || client->lost == NULL)
        return;
    client->lost_told = true;
    client->lost(client->lost_arg, &client->why);
}

/* Ends what has failed, and tells that the connection is lost, from the loop. */
static void fail_soon(struct plane_client *client) {
    if (!client->fail_queued) {
        client->fail_queued = true;
        reactor_defer(client->reactor, &client->fail_job);
    }
}

static void fail_later(struct plane_call *call, const struct error *why) {
    struct plane_client *client = call->client;
    call->error = *why;
    if (list_linked(&call->node))
        list_remove(&call->node);
    list_push_back(&client->failing, &call->node);
    fail_soon(client);
}

/* The connection is of no more use: every call ends. */
static void die(struct plane_client *client) {
    if (client->socket != NULL)
        host_socket_close(client->socket);
    client->socket = NULL;
    client->dead = true;
    while (!list_empty(&client->calls))
        fail_later(list_entry(list_first(&client->calls), struct plane_call, node), &client->why);
    if (client->lost != NULL)
        fail_soon(client);
}

static void die_with(struct plane_client *client, int number, const char *what) {
    error_set_errno(&client->why, number, "%s %s", what, client->path);
    die(client);
}

static void expired(struct reactor_timer *timer) {
    struct plane_call *call = container_of(timer, struct plane_call, timer);
    error_set(&call->error, ERROR_TIMED_OUT, "%s got no answer in %" PRIu64 " ms", call->method, call->timeout_ms);
    finish(call, false);
}

/* ---- answers ---- */

static void copy_text(char *to, size_t size, const json_t *value) {
    const char *text = json_string_value(value);
    snprintf(to, size, "%s", text != NULL ? text : "");
}

/* The dialect's codes that are not errno values; the text is what tells more. */
static enum error_code code_of(int64_t code, const char *message) {
    for (unsigned i = ERROR_INVALID; code < -32000 && message != NULL && i < ERROR_CODE_COUNT; i++)
        if (strcmp(error_facts((enum error_code)i)->errno_text, message) == 0)
            return (enum error_code)i; /* failures after the work has begun have one code for all */
    switch (code) {
    case -32700:
    case -32600:
    case -32602: return ERROR_INVALID;
    case -32601: return ERROR_UNSUPPORTED;
    case -32603: return ERROR_INTERNAL;
    default: return code < 0 && code > -4096 ? error_from_errno((int)code) : ERROR_INTERNAL;
    }
}

static void take_error(struct plane_call *call, const json_t *error) {
    const json_t *data = json_object_get(error, "data");
    const char *message = json_string_value(json_object_get(error, "message")),
               *text = json_string_value(json_object_get(data, "text"));
    call->code = json_integer_value(json_object_get(error, "code"));
    error_set(&call->error, code_of(call->code, message), "%s: %s%s%s", call->method,
              message != NULL ? message : "an error without a message", text != NULL ? ": " : "", text != NULL ? text : "");
    copy_text(call->error.field, sizeof(call->error.field), json_object_get(data, "field"));
    copy_text(call->error.value, sizeof(call->error.value), json_object_get(data, "value"));
    copy_text(call->error.expected, sizeof(call->error.expected), json_object_get(data, "expected"));
}

static void take_answer(struct plane_client *client, json_t *answer) {
    const json_t *id = json_object_get(answer, "id");
    list_for_each (&client->calls, struct plane_call, call, node) {
        if (!json_is_integer(id) || (uint64_t)json_integer_value(id) != call->id)
            continue;
        const json_t *error = json_object_get(answer, "error");
        call->result = json_incref(json_object_get(answer, "result"));
        if (error == NULL && call->result != NULL) {
            finish(call, true);
        } else {
            json_decref(call->result);
            call->result = NULL;
            take_error(call, error);
            finish(call, false);
        }
        return;
    }
    /* the answer to a call that timed out */
}

/* Numbers that only fit without a sign become the negative ones with the same bits, as json_int_t holds them. NULL: no memory. */
static char *fold_numbers(const char *text, size_t length, size_t *ret_length) {
    char *folded = malloc(length + length / 19 + 24);
    bool quoted = false;
    size_t to = 0;
    for (size_t at = 0; folded != NULL && at < length; at++) {
        size_t digits = 0;
        char number[24];
        uint64_t value;
        while (!quoted && at + digits < length && text[at + digits] >= '0' && text[at + digits] <= '9')
            digits++;
        if (digits > 0) {
            memcpy(number, text + at, min_u64(digits, sizeof(number) - 1));
            number[min_u64(digits, sizeof(number) - 1)] = '\0';
            bool folds = digits >= 19 && digits <= 20 && text_parse_u64(number, UINT64_MAX, &value) && value > INT64_MAX;
            if (folds)
                to += (size_t)snprintf(folded + to, sizeof(number), "%" PRId64, (int64_t)value);
            else
                memcpy(folded + to, text + at, digits);
            to += folds ? 0 : digits;
            at += digits - 1;
            continue;
        }
        if (text[at] == '\\' && quoted && at + 1 < length)
            folded[to++] = text[at++];
        else
            quoted ^= text[at] == '"';
        folded[to++] = text[at];
    }
    *ret_length = to;
    return folded;
}

static json_t *parse(const char *text, size_t length) {
    json_error_t error;
    json_t *json = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
    if (json != NULL || json_error_code(&error) != json_error_numeric_overflow)
        return json;
    char *folded = fold_numbers(text, length, &length);
    json = folded == NULL ? NULL : json_loadb(folded, length, JSON_REJECT_DUPLICATES, NULL);
    free(folded);
    return json;
}

/* Takes whole lines out of what was received. */
static void take_lines(struct plane_client *client) {
    size_t begin = 0;
    for (char *end; !client->dead && client->in_length > 0 &&
                    (end = memchr(client->in + client->in_scanned, '\n', client->in_length - client->in_scanned)) != NULL;) {
        size_t length = (size_t)(end - client->in) - begin;
        json_t *answer = parse(client->in + begin, length);
        begin = client->in_scanned = (size_t)(end - client->in) + 1;
        if (answer == NULL || !json_is_object(answer)) {
            json_decref(answer);
            error_set(&client->why, ERROR_IO, "%s sent something that is no answer", client->path);
            die(client);
            return;
        }
        take_answer(client, answer);
        json_decref(answer);
    }
    if (begin > 0)
        memmove(client->in, client->in + begin, client->in_length - begin);
    client->in_length -= begin;
    client->in_scanned = client->in_length;
}

static bool in_reserve(struct plane_client *client) {
    if (client->in_capacity - client->in_length >= READ_STEP)
        return true;
    size_t capacity = max_u64(client->in_capacity * 2, 2 * READ_STEP);
    if (capacity > 2 * PLANE_CLIENT_ANSWER_MAX)
        return false;
    char *in = realloc(client->in, capacity);
    if (in == NULL)
        return false;
    client->in = in;
    client->in_capacity = capacity;
    return true;
}

static void receive(struct plane_client *client) {
    while (!client->dead) {
        if (!in_reserve(client)) {
            error_set(&client->why, ERROR_NO_MEMORY, "an answer from %s is longer than %" PRIu64 " bytes", client->path,
                      PLANE_CLIENT_ANSWER_MAX);
            die(client);
            return;
        }
        struct slice place = {client->in + client->in_length, client->in_capacity - client->in_length};
        int64_t n = host_socket_read(client->socket, &place, 1);
        if (n == -EAGAIN)
            return;
        if (n <= 0) {
            die_with(client, n == 0 ? -ECONNRESET : (int)n, "reading from");
            return;
        }
        client->in_length += (size_t)n;
        take_lines(client);
    }
}

static void transmit(struct plane_client *client) {
    while (!client->dead && client->sent < client->out.length) {
        struct slice rest = {client->out.bytes + client->sent, client->out.length - client->sent};
        int64_t n = host_socket_write(client->socket, &rest, 1);
        if (n == -EAGAIN || n == -ENOTCONN)
            return;
        if (n < 0) {
            die_with(client, (int)n, "writing to");
            return;
        }
        client->sent += (size_t)n;
    }
    if (!client->dead) {
        text_reset(&client->out);
        client->sent = 0;
    }
}

static void on_event(void *arg, unsigned events) {
    struct plane_client *client = arg;
    int failed = host_socket_error(client->socket);
    if (failed != 0) {
        die_with(client, failed, "connecting to");
        return;
    }
    if ((events & HOST_WRITABLE) != 0)
        transmit(client);
    if (!client->dead && (events & (HOST_READABLE | HOST_CLOSED)) != 0)
        receive(client);
}

void plane_client_call(struct plane_client *client, struct plane_call *call) {
    call->client = client;
    call->id = client->next_id++;
    call->ok = false;
    call->result = NULL;
    call->code = 0;
    error_clear(&call->error);
    call->node = (struct list_node){0};
    call->timer = (struct reactor_timer){.run = expired};
    if (client->dead) {
        fail_later(call, &client->why);
        return;
    }
    char *params = call->params == NULL ? NULL : json_dumps(call->params, JSON_COMPACT);
    size_t before = client->out.length;
    text_appendf(&client->out, "{\"jsonrpc\":\"2.0\",\"id\":%" PRIu64 ",\"method\":\"%s\"%s", call->id, call->method,
                 params != NULL ? ",\"params\":" : "");
    if (params != NULL)
        text_append_string(&client->out, params);
    text_append_string(&client->out, "}\n");
    free(params);
    if (client->out.failed || (call->params != NULL && params == NULL)) {
        client->out.failed = false;
        client->out.length = before;
        struct error error;
        error_set(&error, ERROR_NO_MEMORY, "the request is longer than %" PRIu64 " bytes", REQUEST_MAX);
        fail_later(call, &error);
        return;
    }
    list_push_back(&client->calls, &call->node);
    if (call->timeout_ms != 0)
        reactor_timer_start(client->reactor, &call->timer, host_now_ns(client->reactor->host) + call->timeout_ms * NS_PER_MS);
    transmit(client);
}

bool plane_client_create(struct reactor *reactor, const char *socket_path, struct plane_client **ret_client,
                         struct error *error) {
    struct host_address address = {.family = HOST_UNIX};
    if (strlen(socket_path) >= sizeof(address.text))
        return error_invalid(error, "socket", socket_path, "a path of at most %zu bytes", sizeof(address.text) - 1);
    memcpy(address.text, socket_path, strlen(socket_path) + 1);
    struct plane_client *client = calloc(1, sizeof(*client));
    if (client == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory for a connection to %s", socket_path);
    client->reactor = reactor;
    memcpy(client->path, address.text, sizeof(client->path));
    client->fail_job.run = run_failing;
    client->next_id = 1;
    list_init(&client->calls);
    list_init(&client->failing);
    text_init(&client->out, 2 * REQUEST_MAX);
    client->socket = host_connect(reactor->loop, &address, NULL, on_event, client, error);
    if (client->socket == NULL) {
        if (error->code != ERROR_PERMISSION)
            error_hint(error, "is penstock-block running, and with -r %s?", socket_path);
        free(client);
        return false;
    }
    *ret_client = client;
    return true;
}

void plane_client_watch(struct plane_client *client, void (*lost)(void *arg, const struct error *why), void *arg) {
    client->lost = lost;
    client->lost_arg = arg;
}

void plane_client_destroy(struct plane_client *client) {
    client->lost = NULL;
    error_set(&client->why, ERROR_CANCELLED, "the connection to %s was closed", client->path);
    die(client);
    end_failing(client);
    client->destroyed = true;
    if (!client->fail_queued)
        release(client);
}
