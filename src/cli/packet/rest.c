/* HTTP as far as it is needed here: one request a connection, an answer of known length or up to the end. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "cli/packet/packet.h"

#define REST_DEFAULT "127.0.0.1:7777"

enum { ANSWER_MAX = 16 * 1024 * 1024, TIMEOUT_S = 60 };

struct exchange {
    struct cli *cli;
    struct host_socket *socket;
    struct reactor_timer timer;
    struct text request, answer;
    size_t sent;
    bool over;
    struct error error; /* code NONE = all is read */
};

bool cli_packet_place(struct cli *cli, const char *option, const char *text, struct host_address *ret) {
    const char *colon = strrchr(text, ':'), *begin = text, *end = colon;
    uint64_t port;
    bool bracketed = text[0] == '[';
    if (colon != NULL && bracketed) {
        begin++;
        end--;
    }
    if (colon == NULL || end < begin || (bracketed && *end != ']') || !text_parse_u64(colon + 1, UINT16_MAX, &port) ||
        end - begin >= (int)sizeof(ret->text))
        return error_invalid(&cli->error, option, text, "IP:PORT");
    *ret = (struct host_address){.family = bracketed ? HOST_IPV6 : HOST_IPV4, .port = (uint16_t)port};
    memcpy(ret->text, begin, (size_t)(end - begin));
    return true;
}

static void finish(struct exchange *exchange) {
    if (exchange->over)
        return;
    exchange->over = true;
    host_loop_stop(exchange->cli->reactor->loop);
}

static void send_rest(struct exchange *exchange) {
    while (exchange->sent < exchange->request.length) {
        struct slice slice = {exchange->request.bytes + exchange->sent, exchange->request.length - exchange->sent};
        int64_t count = host_socket_write(exchange->socket, &slice, 1);
        if (count <= 0)
            return; /* later, or reading tells why not */
        exchange->sent += (size_t)count;
    }
}

static void read_all(struct exchange *exchange) {
    char bytes[16384];
    for (;;) {
        struct slice slice = {bytes, sizeof(bytes)};
        int64_t count = host_socket_read(exchange->socket, &slice, 1);
        if (count == -EAGAIN)
            return;
        if (count < 0)
            error_set_errno(&exchange->error, (int)count, "the connection to the daemon's REST");
        if (count <= 0)
            break;
        text_append(&exchange->answer, bytes, (size_t)count);
    }
    finish(exchange);
}

static void event(void *arg, unsigned events) {
    struct exchange *exchange = arg;
    (void)events;
    int result = host_socket_error(exchange->socket);
    if (result != 0) {
        error_set_errno(&exchange->error, result, "cannot connect to the daemon's REST");
        error_hint(&exchange->error, "is penstockd there, with --spp-rest? --rest says where");
        finish(exchange);
        return;
    }
    send_rest(exchange);
    read_all(exchange);
}

static void timed_out(struct reactor_timer *timer) {
    struct exchange *exchange = container_of(timer, struct exchange, timer);
    error_set(&exchange->error, ERROR_TIMED_OUT, "no answer within %d s", TIMEOUT_S);
    finish(exchange);
}

/* Sends the request, and reads until the other side closes. */
static bool run(struct exchange *exchange, const struct host_address *address) {
    struct cli *cli = exchange->cli;
    struct error error;
    exchange->timer.run = timed_out;
    reactor_enter(cli->reactor);
    exchange->socket = host_connect(cli->reactor->loop, address, NULL, event, exchange, &error);
    if (exchange->socket != NULL)
        reactor_timer_start(cli->reactor, &exchange->timer, host_now_ns(cli->reactor->host) + TIMEOUT_S * NS_PER_S);
    reactor_enter(NULL);
    if (exchange->socket == NULL) {
        cli->error = error;
        return false;
    }
    while (!exchange->over)
        cli->run(cli->reactor->loop);
    reactor_enter(cli->reactor);
    reactor_timer_stop(cli->reactor, &exchange->timer);
    host_socket_close(exchange->socket);
    reactor_enter(NULL);
    if (exchange->error.code != ERROR_NONE)
        cli->error = exchange->error;
    return exchange->error.code == ERROR_NONE;
}

/* "HTTP/1.1 204 No Content\r\n…\r\n\r\nBODY" */
static bool read_answer(struct cli *cli, const struct text *answer, json_t **ret_answer) {
    const char *body = answer->bytes == NULL ? NULL : strstr(answer->bytes, "\r\n\r\n");
    char digits[4] = "";
    uint64_t status = 0;
    if (body != NULL && strncmp(answer->bytes, "HTTP/1.", 7) == 0)
        memcpy(digits, answer->bytes + 9, 3);
    if (answer->failed || !text_parse_u64(digits, 999, &status))
        return error_set(&cli->error, ERROR_DAMAGED, "what answered is no HTTP server, or says too much");
    body += 4;
    *ret_answer = status == 200 ? json_loads(body, 0, NULL) : NULL;
    if (status == 204 || *ret_answer != NULL)
        return true;
    return error_set(&cli->error,
                     status == 404   ? ERROR_NO_DEVICE
                     : status == 400 ? ERROR_INVALID
                                     : ERROR_IO,
                     "%.200s", status == 200 ? "the answer is not JSON" : body);
}

bool cli_rest(struct cli *cli, const char *method, const char *path, json_t *take_body, json_t **ret_answer) {
    struct exchange exchange = {.cli = cli};
    struct host_address address;
    const char *place = cli_option(cli, "--rest");
    char *body = take_body != NULL ? json_dumps(take_body, JSON_COMPACT) : NULL;
    json_decref(take_body);
    text_init(&exchange.request, KIB(128));
    text_init(&exchange.answer, ANSWER_MAX);
    text_appendf(&exchange.request, "%s %s HTTP/1.1\r\nHost: penstockd\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s",
                 method, path, body != NULL ? strlen(body) : 0, body != NULL ? body : "");
    free(body);
    *ret_answer = NULL;
    bool ok = cli_packet_place(cli, "--rest", place != NULL ? place : REST_DEFAULT, &address) && run(&exchange, &address) &&
              read_answer(cli, &exchange.answer, ret_answer);
    text_fini(&exchange.request);
    text_fini(&exchange.answer);
    return ok;
}

bool cli_rest_do(struct cli *cli, const char *method, const char *path, json_t *take_body) {
    json_t *answer;
    if (!cli_rest(cli, method, path, take_body, &answer))
        return false;
    json_decref(answer);
    return true;
}
