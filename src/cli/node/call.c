/* Daemons: their addresses, a channel to each, calls and streams on them. What fails is told with what to do next. */
#include <stdlib.h>
#include <string.h>

#include "api/proto/penstock/v1/node.pb-c.h"
#include "api/proto/penstock/v1/volume.pb-c.h"
#include "api/proto/spdkrpc/spdk.pb-c.h"
#include "base/text.h"
#include "cli/node/node.h"
#include "grpc/channel.h"

enum { NODES_MAX = 16, PORT_DEFAULT = 8504, TIMEOUT_MS = 90000 /* a goal's time, and some */ };

struct daemon {
    char text[128];
    struct host_address address;
    struct grpc_channel *channel;
    struct tls_context *tls;
};

struct nodes {
    struct daemon daemons[NODES_MAX + 1]; /* the last one: that of another node, which nobody named */
    unsigned count;
    struct grpc_limits limits;
};

/* ---- services ---- */

const ProtobufCServiceDescriptor *cli_node_service(unsigned i) {
    static const ProtobufCServiceDescriptor *const services[] = {
        &spdkrpc__spdkservice__descriptor, &penstock__v1__node_service__descriptor, &penstock__v1__volume_service__descriptor};
    return i < array_count(services) ? services[i] : NULL;
}

const ProtobufCMethodDescriptor *cli_node_method(const char *name, const ProtobufCServiceDescriptor **ret_service) {
    for (unsigned i = 0; (*ret_service = cli_node_service(i)) != NULL; i++) {
        const ProtobufCMethodDescriptor *method = protobuf_c_service_descriptor_get_method_by_name(*ret_service, name);
        if (method != NULL)
            return method;
    }
    return NULL;
}

bool cli_node_is_stream(const char *method) {
    size_t length = strlen(method);
    return (length > 5 && strcmp(method + length - 5, "Watch") == 0) || strncmp(method, "Watch", 5) == 0;
}

/* ---- addresses ---- */

static bool parse_address(const char *text, struct host_address *ret) {
    char part[128];
    uint64_t port = PORT_DEFAULT;
    snprintf(part, sizeof(part), "%s", text);
    if (strncmp(part, "unix:", 5) == 0) {
        ret->family = HOST_UNIX;
        return snprintf(ret->text, sizeof(ret->text), "%s", part + 5) < (int)sizeof(ret->text) && ret->text[0] != '\0';
    }
    char *host = part, *colon = strrchr(part, ':'), *bracket = strrchr(part, ']');
    if (part[0] == '[') { /* [IPv6]:PORT */
        if (bracket == NULL || (bracket[1] != '\0' && bracket[1] != ':'))
            return false;
        host++;
        colon = bracket[1] == ':' ? bracket + 1 : NULL;
        *bracket = '\0';
    } else if (colon != NULL && strchr(part, ':') != colon) {
        colon = NULL; /* IPv6 without a port */
    }
    if (colon != NULL) {
        *colon = '\0';
        if (!text_parse_u64(colon + 1, UINT16_MAX, &port) || port == 0)
            return false;
    }
    ret->family = strchr(host, ':') != NULL ? HOST_IPV6 : HOST_IPV4;
    ret->port = (uint16_t)port;
    return strspn(host, "0123456789abcdefABCDEF.:") == strlen(host) && host[0] != '\0' &&
           snprintf(ret->text, sizeof(ret->text), "%s", host) < (int)sizeof(ret->text);
}

static bool get_nodes(struct cli *cli, struct nodes **ret) {
    struct nodes *nodes = cli->extension_state;
    *ret = nodes;
    if (nodes != NULL)
        return true;
    nodes = calloc(1, sizeof(*nodes));
    if (nodes == NULL)
        return error_set(&cli->error, ERROR_NO_MEMORY, "no memory");
    nodes->limits = grpc_limits_default;
    nodes->limits.message_bytes = MIB(64); /* a listing of all that a node has */
    nodes->limits.connection_bytes = MIB(96);
    cli->extension_state = *ret = nodes;
    for (const char *at = cli->nodes; *at != '\0';) {
        size_t length = strcspn(at, ",");
        struct daemon *daemon = &nodes->daemons[nodes->count];
        if (nodes->count == NODES_MAX)
            return error_set(&cli->error, ERROR_INVALID, "more than %d nodes", NODES_MAX);
        snprintf(daemon->text, sizeof(daemon->text), "%.*s", (int)length, at);
        if (!parse_address(daemon->text, &daemon->address))
            return error_invalid(&cli->error, "node", daemon->text, "IP, IP:PORT, [IPv6]:PORT or unix:PATH");
        nodes->count++;
        at += length + (at[length] == ',');
    }
    return nodes->count > 0 || error_invalid(&cli->error, "node", "", "an address");
}

bool cli_node_count(struct cli *cli, unsigned *ret_count) {
    struct nodes *nodes;
    if (!get_nodes(cli, &nodes))
        return false;
    *ret_count = nodes->count;
    return true;
}

const char *cli_node_address(const struct cli *cli, unsigned at) {
    return ((const struct nodes *)cli->extension_state)->daemons[at].text;
}

const char *cli_node_ip(const struct cli *cli, unsigned at) {
    const struct host_address *address = &((const struct nodes *)cli->extension_state)->daemons[at].address;
    return address->family == HOST_UNIX ? NULL : address->text;
}

/* ---- TLS ---- */

static bool make_tls(struct cli *cli, struct daemon *daemon) {
    char *ca = NULL, *certificate = NULL, *key = NULL;
    if (cli->tls_ca == NULL && cli->tls_certificate == NULL && cli->tls_key == NULL)
        return true;
    bool ok = (cli->tls_ca != NULL && cli->tls_certificate != NULL && cli->tls_key != NULL) ||
              error_set(&cli->error, ERROR_INVALID, "TLS wants all of --tls-ca, --tls-cert and --tls-key");
    ok = ok && cli_read_text(cli, cli->tls_ca, &ca) && cli_read_text(cli, cli->tls_certificate, &certificate) &&
         cli_read_text(cli, cli->tls_key, &key);
    struct tls_options options = {.ca_pem = ca,
                                  .certificate_pem = certificate,
                                  .key_pem = key,
                                  .peer_name = cli->tls_name != NULL                 ? cli->tls_name
                                               : daemon->address.family == HOST_UNIX ? NULL
                                                                                     : daemon->address.text};
    ok = ok && tls_context_create(&options, &daemon->tls, &cli->error);
    cli_forget_text(key);
    cli_forget_text(certificate);
    cli_forget_text(ca);
    return ok;
}

/* ---- calls ---- */

struct cli_node_watch {
    struct cli *cli;
    struct daemon *daemon;
    const char *method;
    char path[128];
    const ProtobufCMessageDescriptor *receives;
    const ProtobufCMessage *request;
    enum grpc_kind kind;
    struct reactor_message begin;
    struct reactor_timer timer;
    struct grpc_channel_call call;
    json_t *answers; /* that nobody has taken */
    bool begun, over, timed_out;
};

static void on_message(struct grpc_call *call, const ProtobufCMessage *got) {
    struct cli_node_watch *watch = call->arg;
    if (watch->answers == NULL)
        watch->answers = json_array();
    json_array_append_new(watch->answers, cli_message_to_json(got));
    if (watch->kind == GRPC_SERVER_STREAM)
        host_loop_stop(watch->cli->reactor->loop);
}

static void on_done(struct grpc_call *call) {
    struct cli_node_watch *watch = call->arg;
    watch->over = true;
    host_loop_stop(watch->cli->reactor->loop);
}

/* On the loop, whose clock is right. */
static void begin(struct reactor_message *message) {
    struct cli_node_watch *watch = container_of(message, struct cli_node_watch, begin);
    const struct nodes *nodes = watch->cli->extension_state;
    struct grpc_channel_options options = {
        .reactor = watch->cli->reactor, .address = watch->daemon->address, .tls = watch->daemon->tls, .limits = &nodes->limits};
    if (watch->daemon->channel == NULL)
        watch->daemon->channel = grpc_channel_create(&options);
    if (watch->daemon->channel == NULL)
        abort(); /* a command line without memory */
    grpc_channel_prepare(watch->daemon->channel, &watch->call, watch->kind, watch->path, watch->receives,
                         watch->kind == GRPC_UNARY ? TIMEOUT_MS : 0);
    watch->call.call.arg = watch;
    watch->call.call.message = on_message;
    watch->call.call.done = on_done;
    watch->begun = true;
    (void)grpc_call_send(&watch->call.call, watch->request);
    grpc_channel_start(watch->daemon->channel, &watch->call);
}

static bool unavailable(struct cli *cli, const struct daemon *daemon, const char *text) {
    error_set(&cli->error, ERROR_BUSY, "no answer from the control daemon at %s: %s", daemon->text, text);
    return error_hint(&cli->error, "is penstockd running there? Name it by --node ADDRESS or $PENSTOCK_NODE");
}

/* What a status means here, and what to do about it. */
static bool fail(const struct cli_node_watch *watch) {
    static const struct {
        enum grpc_status status;
        enum error_code code;
        const char *hint;
    } table[] = {
        {GRPC_INVALID_ARGUMENT, ERROR_INVALID, NULL},
        {GRPC_NOT_FOUND, ERROR_NOT_FOUND, "`penstock node show`, `disk list` and `replica list` say what there is"},
        {GRPC_ALREADY_EXISTS, ERROR_EXISTS, NULL},
        {GRPC_FAILED_PRECONDITION, ERROR_PERMISSION, NULL},
        {GRPC_UNIMPLEMENTED, ERROR_UNSUPPORTED, NULL},
        {GRPC_DEADLINE_EXCEEDED, ERROR_TIMED_OUT, "it may still be done: look again, and at `penstock status`"},
        {GRPC_RESOURCE_EXHAUSTED, ERROR_NO_SPACE, NULL},
        {GRPC_UNAUTHENTICATED, ERROR_PERMISSION, "the daemon wants TLS: --tls-ca, --tls-cert, --tls-key"},
        {GRPC_INTERNAL, ERROR_INTERNAL, NULL},
    };
    struct cli *cli = watch->cli;
    const struct grpc_call *call = &watch->call.call;
    if (call->status == GRPC_UNAVAILABLE && call->unprocessed)
        return unavailable(cli, watch->daemon, call->text);
    if (call->status == GRPC_UNAVAILABLE) {
        error_set(&cli->error, ERROR_BUSY, "%s: %s", watch->method, call->text);
        return error_hint(&cli->error, "it may pass: `penstock status` says what is the matter");
    }
    for (size_t i = 0; i < array_count(table); i++)
        if (table[i].status == call->status) {
            error_set(&cli->error, table[i].code, "%s", call->text);
            return table[i].hint == NULL ? false : error_hint(&cli->error, "%s", table[i].hint);
        }
    return error_set(&cli->error, ERROR_IO, "%s", call->text[0] != '\0' ? call->text : grpc_status_name(call->status));
}

/* Posts the beginning of a call; the caller runs the loop. The message's memory stays the caller's until the call is over. */
static bool start(struct cli *cli, unsigned at, const char *method, const json_t *request, struct cli_message_memory *memory,
                  struct cli_node_watch *watch) {
    struct nodes *nodes;
    const ProtobufCServiceDescriptor *service;
    const ProtobufCMethodDescriptor *described = cli_node_method(method, &service);
    ProtobufCMessage *message;
    assert(described != NULL);
    if (!get_nodes(cli, &nodes))
        return false;
    struct daemon *daemon = &nodes->daemons[at];
    if (!cli_message_from_json(described->input, request, memory, &message, &cli->error) ||
        (daemon->tls == NULL && !make_tls(cli, daemon)))
        return false;
    *watch = (struct cli_node_watch){.cli = cli,
                                     .daemon = daemon,
                                     .method = method,
                                     .receives = described->output,
                                     .request = message,
                                     .kind = cli_node_is_stream(method) ? GRPC_SERVER_STREAM : GRPC_UNARY,
                                     .begin.run = begin};
    snprintf(watch->path, sizeof(watch->path), "/%s/%s", service->name, method);
    reactor_post(cli->reactor, &watch->begin);
    return true;
}

/* The oldest; NULL: there is none. */
static json_t *take_answer(struct cli_node_watch *watch) {
    json_t *answer = json_incref(json_array_get(watch->answers, 0));
    if (answer != NULL)
        json_array_remove(watch->answers, 0);
    return answer;
}

bool cli_node_call_at(struct cli *cli, unsigned at, const char *method, json_t *take_request, json_t **ret_answer) {
    struct cli_node_watch watch;
    struct cli_message_memory memory = {0};
    bool ok = start(cli, at, method, take_request, &memory, &watch);
    if (ok) {
        while (!watch.over)
            cli->run(cli->reactor->loop);
        json_t *answer = take_answer(&watch);
        ok = watch.call.call.status == GRPC_OK && answer != NULL;
        if (ok)
            *ret_answer = answer;
        else
            fail(&watch);
        if (!ok)
            json_decref(answer);
        json_decref(watch.answers);
    }
    cli_message_free(&memory);
    json_decref(take_request);
    return ok;
}

static bool is_single(struct cli *cli) {
    unsigned count;
    if (!cli_node_count(cli, &count))
        return false;
    return count == 1 ||
           error_set(&cli->error, ERROR_INVALID, "this is for one node, and %u are named: say --node ADDRESS", count);
}

bool cli_node_call(struct cli *cli, const char *method, json_t *take_request, json_t **ret_answer) {
    if (is_single(cli))
        return cli_node_call_at(cli, 0, method, take_request, ret_answer);
    json_decref(take_request);
    return false;
}

bool cli_node_call_beside(struct cli *cli, const char *ip, const char *method, json_t *take_request, json_t **ret_answer) {
    struct nodes *nodes;
    if (!get_nodes(cli, &nodes)) {
        json_decref(take_request);
        return false;
    }
    struct daemon *daemon = &nodes->daemons[NODES_MAX];
    assert(daemon->channel == NULL); /* one is enough */
    snprintf(daemon->text, sizeof(daemon->text), "%s", ip);
    if (parse_address(daemon->text, &daemon->address))
        return cli_node_call_at(cli, NODES_MAX, method, take_request, ret_answer);
    json_decref(take_request);
    return error_invalid(&cli->error, "address", ip, "a numeric address");
}

bool cli_node_do(struct cli *cli, const char *method, json_t *take_request) {
    json_t *answer;
    if (!cli_node_call(cli, method, take_request, &answer))
        return false;
    if (cli_wants_data(cli))
        cli_print(cli, answer);
    json_decref(answer);
    return true;
}

/* ---- streams ---- */

bool cli_node_watch_open(struct cli *cli, const char *method, struct cli_node_watch **ret_watch) {
    return is_single(cli) && cli_node_watch_open_at(cli, 0, method, NULL, ret_watch);
}

bool cli_node_watch_open_at(struct cli *cli, unsigned at, const char *method, json_t *take_request,
                            struct cli_node_watch **ret_watch) {
    struct cli_message_memory memory = {0};
    struct cli_node_watch *watch = calloc(1, sizeof(*watch));
    bool ok = watch != NULL || error_set(&cli->error, ERROR_NO_MEMORY, "no memory");
    ok = ok && start(cli, at, method, take_request, &memory, watch);
    while (ok && !watch->begun) /* the request is packed there, and not needed after that */
        cli_sleep(cli, 0);
    cli_message_free(&memory);
    json_decref(take_request);
    if (!ok) {
        free(watch);
        return false;
    }
    *ret_watch = watch;
    return true;
}

static void too_late(struct reactor_timer *timer) {
    struct cli_node_watch *watch = container_of(timer, struct cli_node_watch, timer);
    watch->timed_out = true;
    host_loop_stop(watch->cli->reactor->loop);
}

bool cli_node_watch_next(struct cli_node_watch *watch, uint64_t timeout_ms, json_t **ret_message) {
    struct reactor *reactor = watch->cli->reactor;
    watch->timed_out = false;
    watch->timer.run = too_late;
    if (timeout_ms != 0) {
        reactor_enter(reactor);
        reactor_timer_start(reactor, &watch->timer, host_now_ns(reactor->host) + timeout_ms * NS_PER_MS);
        reactor_enter(NULL);
    }
    while (json_array_size(watch->answers) == 0 && !watch->over && !watch->timed_out)
        watch->cli->run(reactor->loop);
    reactor_enter(reactor);
    reactor_timer_stop(reactor, &watch->timer);
    reactor_enter(NULL);
    *ret_message = take_answer(watch);
    return *ret_message != NULL || !watch->over ? true : fail(watch);
}

void cli_node_watch_close(struct cli_node_watch *take_watch) {
    if (!take_watch->over) {
        reactor_enter(take_watch->cli->reactor);
        grpc_channel_cancel(&take_watch->call);
        reactor_enter(NULL);
    }
    json_decref(take_watch->answers);
    free(take_watch);
}

void cli_node_fini(struct cli *cli) {
    struct nodes *nodes = cli->extension_state;
    bool any = false;
    if (nodes == NULL)
        return;
    for (unsigned i = 0; i < array_count(nodes->daemons); i++)
        if (nodes->daemons[i].channel != NULL) {
            reactor_enter(cli->reactor);
            grpc_channel_destroy(nodes->daemons[i].channel);
            reactor_enter(NULL);
            any = true;
        }
    if (any)
        cli_sleep(cli, 1); /* what they gave up goes with the loop's next turn */
    for (unsigned i = 0; i < array_count(nodes->daemons); i++)
        tls_context_destroy(nodes->daemons[i].tls);
    free(nodes);
}
