#include "plane_rpc/rpc.h"

#include <stdlib.h>

struct rpc_document {
    struct json_document json;
    uint32_t refs; /* calls that look into it, and whoever is dispatching it */
};

/* The answers of a batch, gathered until all its calls have ended. */
struct rpc_batch {
    struct text text;
    uint32_t pending; /* calls, and whoever is dispatching it */
};

/* Bytes to be sent, as one answer (or batch of them) made them. */
struct chunk {
    struct list_node node;
    struct text text;
    size_t sent;
};

void rpc_server_init(struct rpc_server *server, const struct rpc_table *table, void *owner, struct log *log,
                     const struct rpc_limits *limits) {
    *server = (struct rpc_server){.table = table, .owner = owner, .log = log, .limits = *limits, .state = RPC_STATE_STARTUP};
    list_init(&server->connections);
}

void rpc_server_fini(struct rpc_server *server) { assert(server->connection_count == 0 && server->call_count == 0); }

static void document_unref(struct rpc_document *document) {
    if (--document->refs > 0)
        return;
    json_document_fini(&document->json);
    free(document);
}

/* ---- output ---- */

static void tell_ready(struct rpc_connection *connection) {
    if (!connection->feeding)
        connection->ready(connection->arg);
}

/* Takes the text over. Without memory for the chunk the client could wait for ever: the connection is closed instead. */
static void output_push(struct rpc_connection *connection, struct text *text) {
    struct chunk *chunk = calloc(1, sizeof(*chunk));
    if (chunk == NULL || text->failed) {
        free(chunk);
        text_fini(text);
        connection->closing = true;
        return;
    }
    chunk->text = *text;
    text_init(text, text->limit);
    connection->output_bytes += chunk->text.length;
    list_push_back(&connection->output, &chunk->node);
}

uint32_t rpc_connection_output(const struct rpc_connection *connection, struct slice *slices, uint32_t capacity) {
    uint32_t count = 0;
    list_for_each (&connection->output, struct chunk, chunk, node) {
        if (count == capacity)
            break;
        slices[count++] = (struct slice){.base = chunk->text.bytes + chunk->sent, .length = chunk->text.length - chunk->sent};
    }
    return count;
}

void rpc_connection_sent(struct rpc_connection *connection, size_t length) {
    assert(length <= connection->output_bytes);
    connection->output_bytes -= length;
    while (length > 0) {
        struct chunk *chunk = list_entry(list_first(&connection->output), struct chunk, node);
        size_t n = min_u64(length, chunk->text.length - chunk->sent);
        length -= n;
        chunk->sent += n;
        if (chunk->sent < chunk->text.length)
            return;
        list_remove(&chunk->node);
        text_fini(&chunk->text);
        free(chunk);
    }
}

/* ---- answers ---- */

static void batch_unref(struct rpc_batch *batch, struct rpc_connection *connection) {
    if (--batch->pending > 0)
        return;
    if (connection != NULL && batch->text.length > 0) {
        text_append_string(&batch->text, "]\n");
        output_push(connection, &batch->text);
    }
    text_fini(&batch->text);
    free(batch);
}

/* Sends the answer that stands in call->text (none if empty) and frees the call. */
static void call_finish(struct rpc_call *call) {
    struct rpc_connection *connection = call->connection;
    if (connection != NULL && call->batch != NULL && call->text.length > 0) {
        text_append_char(&call->batch->text, call->batch->text.length == 0 ? '[' : ',');
        text_append(&call->batch->text, call->text.bytes, call->text.length);
    } else if (connection != NULL && call->text.length > 0) {
        text_append_char(&call->text, '\n');
        output_push(connection, &call->text);
    }
    if (connection != NULL) {
        list_remove(&call->node);
        connection->call_count--;
    }
    if (call->batch != NULL)
        batch_unref(call->batch, connection);
    call->server->call_count--;
    text_fini(&call->text);
    rpc_arena_fini(&call->arena);
    document_unref(call->document);
    free(call);
    if (connection != NULL)
        tell_ready(connection);
}

static void answer_begin(struct rpc_call *call) {
    text_reset(&call->text);
    json_writer_init(&call->writer, &call->text, false);
    jsonrpc_response_begin(&call->writer, &call->document->json, call->request.id);
}

struct json_writer *rpc_call_result(struct rpc_call *call) {
    assert(call->text.length == 0); /* answered once */
    answer_begin(call);
    return &call->writer;
}

void rpc_call_end(struct rpc_call *call) {
    assert(call->writer.depth == 1); /* the handler ended what it began */
    json_end(&call->writer);
    if (call->text.failed) {
        struct error error;
        error_set(&error, ERROR_NO_MEMORY, "the answer is larger than %zu bytes", call->server->limits.answer_max);
        rpc_call_error(call, JSONRPC_INTERNAL_ERROR, NULL, &error);
        return;
    }
    if (call->request.id == NULL)
        text_reset(&call->text); /* a notification: success is silent */
    call_finish(call);
}

void rpc_call_result_true(struct rpc_call *call) {
    json_put_bool(rpc_call_result(call), RPC_RESULT, true);
    rpc_call_end(call);
}

void rpc_call_result_string(struct rpc_call *call, const char *value) {
    json_put_string(rpc_call_result(call), RPC_RESULT, value);
    rpc_call_end(call);
}

void rpc_call_result_u64(struct rpc_call *call, uint64_t value) {
    json_put_u64(rpc_call_result(call), RPC_RESULT, value);
    rpc_call_end(call);
}

void rpc_call_result_methods(struct rpc_call *call, bool current) {
    const struct rpc_table *table = call->server->table;
    struct json_writer *writer = rpc_call_result(call);
    json_begin_array(writer, RPC_RESULT);
    for (uint32_t i = 0; i < table->count; i++)
        if (!current || (table->methods[i].states & call->server->state) != 0)
            json_put_string(writer, NULL, table->methods[i].name);
    json_end(writer);
    rpc_call_end(call);
}

static void put_data(struct json_writer *writer, const struct error *error) {
    json_begin_object(writer, "data");
    if (error->field[0] != '\0') {
        json_put_string(writer, "field", error->field);
        json_put_string(writer, "value", error->value);
    }
    if (error->expected[0] != '\0')
        json_put_string(writer, "expected", error->expected);
    json_put_string(writer, "text", error->text);
    json_end(writer);
}

void rpc_call_error(struct rpc_call *call, int code, const char *message, const struct error *error) {
    if (message == NULL)
        message = jsonrpc_code_message(code);
    assert(message != NULL);
    call->server->failures++;
    answer_begin(call);
    json_begin_object(&call->writer, "error");
    json_put_i64(&call->writer, "code", code);
    json_put_string(&call->writer, "message", message);
    if (error != NULL && error->code != ERROR_NONE)
        put_data(&call->writer, error);
    json_end(&call->writer);
    json_end(&call->writer);
    log_debug(call->server->log, LOG_AREA_RPC, "%s failed: %d %s%s%s", call->method != NULL ? call->method->name : "request",
              code, message, error != NULL ? ": " : "", error != NULL ? error->text : "");
    call_finish(call);
}

void rpc_call_fail(struct rpc_call *call, const struct error *error) {
    const struct error_code_facts *facts = error_facts(error->code);
    rpc_call_error(call, facts->negative_errno, facts->errno_text, error);
}

void rpc_call_fail_late(struct rpc_call *call, const struct error *error) {
    const struct error_code_facts *facts = error_facts(error->code);
    rpc_call_error(call, call->method->late_code != 0 ? call->method->late_code : facts->negative_errno, facts->errno_text,
                   error);
}

void rpc_call_fail_decode(struct rpc_call *call, const struct error *error) {
    rpc_call_error(call, call->method->decode_code, call->method->decode_message, error);
}

/* ---- requests ---- */

static void wrong_state(struct rpc_call *call) {
    bool wants_startup = (call->method->states & RPC_STATE_STARTUP) != 0;
    rpc_call_error(call, JSONRPC_INVALID_STATE,
                   wants_startup ? "Method may only be called before framework is initialized. Use --wait-for-rpc command line "
                                   "parameter and then issue this RPC before the framework_start_init RPC."
                                 : "Method may only be called after framework is initialized using framework_start_init RPC.",
                   NULL);
}

static void call_run(struct rpc_call *call) {
    const struct json_document *document = &call->document->json;
    const struct rpc_method *method = call->method;
    struct error error = {.code = ERROR_NONE};
    if ((method->states & call->server->state) == 0) {
        wrong_state(call);
        return;
    }
    if (method->params == NULL) {
        if (call->request.params != NULL) {
            error_invalid(&error, "params", "given", "no params at all");
            rpc_call_error(call, JSONRPC_INVALID_PARAMS, method->no_params_message, &error);
            return;
        }
        method->handle(call, NULL);
        return;
    }
    void *params = rpc_arena_take(&call->arena, method->params->size);
    if (params == NULL) {
        error_set(&error, ERROR_NO_MEMORY, "no memory for the parameters");
        rpc_call_fail(call, &error);
    } else if (rpc_decode(document, call->request.params, method->params, method->relaxed, &call->arena, params, &error)) {
        call->params = params;
        method->handle(call, params);
    } else if (error.code == ERROR_INVALID) {
        rpc_call_fail_decode(call, &error);
    } else {
        rpc_call_fail(call, &error); /* a feature that is not here, no memory */
    }
}

void rpc_call_again(struct rpc_call *call) { call->method->handle(call, call->params); }

static void dispatch(struct rpc_connection *connection, struct rpc_document *document, const struct json_node *node,
                     struct rpc_batch *batch) {
    struct rpc_server *server = connection->server;
    struct rpc_call *call = calloc(1, sizeof(*call));
    if (call == NULL) { /* nothing to answer with: the client sees the end of its connection */
        connection->closing = true;
        return;
    }
    call->server = server;
    call->connection = connection;
    call->document = document;
    call->batch = batch;
    text_init(&call->text, server->limits.answer_max);
    document->refs++;
    if (batch != NULL)
        batch->pending++;
    list_push_back(&connection->calls, &call->node);
    connection->call_count++;
    server->call_count++;
    server->requests++;
    struct error error;
    if (!jsonrpc_request_parse(&document->json, node, &call->request, &error)) {
        call->request = (struct jsonrpc_request){.id = NULL};
        rpc_call_error(call, JSONRPC_INVALID_REQUEST, NULL, &error);
        return;
    }
    const char *name = json_node_text(&document->json, call->request.method);
    if (strlen(name) == call->request.method->length)
        call->method = rpc_table_find(server->table, name);
    if (call->method == NULL) {
        error_invalid(&error, "method", name, "one of rpc_get_methods");
        rpc_call_error(call, JSONRPC_METHOD_NOT_FOUND, NULL, &error);
        return;
    }
    call_run(call);
}

/* One answer without a request of its own: to an empty or too large batch. */
static void dispatch_nothing(struct rpc_connection *connection, struct rpc_document *document) {
    dispatch(connection, document, json_document_root(&document->json), NULL); /* an array is no request */
}

static void dispatch_batch(struct rpc_connection *connection, struct rpc_document *document, const struct json_node *array) {
    struct rpc_batch *batch = calloc(1, sizeof(*batch));
    if (batch == NULL) {
        connection->closing = true;
        return;
    }
    batch->pending = 1;
    text_init(&batch->text, 2 * connection->server->limits.answer_max);
    for (const struct json_node *node = json_node_child(&document->json, array); node != NULL;
         node = json_node_after(&document->json, array, node))
        dispatch(connection, document, node, batch);
    batch_unref(batch, connection);
}

static void document_run(struct rpc_connection *connection) {
    struct rpc_document *document = calloc(1, sizeof(*document));
    if (document == NULL) {
        connection->closing = true;
        return;
    }
    document->refs = 1;
    json_reader_take(&connection->reader, &document->json);
    const struct json_node *root = json_document_root(&document->json);
    if (root->kind != JSON_KIND_ARRAY)
        dispatch(connection, document, root, NULL);
    else if (root->count == 0 || root->count > connection->server->limits.calls_max)
        dispatch_nothing(connection, document);
    else
        dispatch_batch(connection, document, root);
    document_unref(document);
}

/* ---- connections ---- */

void rpc_connection_open(struct rpc_connection *connection, struct rpc_server *server, void (*ready)(void *arg), void *arg) {
    *connection = (struct rpc_connection){.server = server, .ready = ready, .arg = arg};
    json_reader_init(&connection->reader, &server->limits.json);
    list_init(&connection->calls);
    list_init(&connection->output);
    list_push_back(&server->connections, &connection->node);
    server->connection_count++;
}

void rpc_connection_close(struct rpc_connection *connection) {
    assert(!connection->feeding);
    list_for_each_safe (&connection->calls, struct rpc_call, call, node) {
        list_remove(&call->node);
        call->connection = NULL;
    }
    rpc_connection_sent(connection, connection->output_bytes);
    json_reader_fini(&connection->reader);
    list_remove(&connection->node);
    connection->server->connection_count--;
}

bool rpc_connection_reads(const struct rpc_connection *connection) {
    const struct rpc_limits *limits = &connection->server->limits;
    return !connection->closing && connection->call_count < limits->calls_max && connection->output_bytes < limits->output_pause;
}

static void handle_event(struct rpc_connection *connection, enum json_event event) {
    if (event == JSON_EVENT_DOCUMENT) {
        document_run(connection);
    } else if (event == JSON_EVENT_BAD) {
        connection->closing = true;
        connection->server->closed++;
        log_info(connection->server->log, LOG_AREA_RPC, "connection closed: %s", connection->reader.bad);
    }
}

size_t rpc_connection_input(struct rpc_connection *connection, const char *bytes, size_t length) {
    size_t used = 0, more;
    connection->feeding = true;
    while (used < length && rpc_connection_reads(connection)) {
        enum json_event event = json_reader_feed(&connection->reader, bytes + used, length - used, &more);
        used += more;
        handle_event(connection, event);
    }
    connection->feeding = false;
    return used;
}

void rpc_connection_input_end(struct rpc_connection *connection) {
    if (connection->closing)
        return;
    connection->feeding = true;
    handle_event(connection, json_reader_finish(&connection->reader));
    connection->feeding = false;
}
