#include "plane_rpc/config.h"

#include <stdio.h>
#include <stdlib.h>

#define READ_SIZE KIB(64)
#define FILE_LIMITS ((struct json_limits){.bytes_max = MIB(64), .values_max = 4 * 1024 * 1024, .depth_max = JSON_DEPTH_MAX})

struct plane_config {
    struct plane_config_options options;
    struct host_file_open open;
    struct host_file_request read;
    struct slice slice;
    char *buffer; /* aligned for any file */
    bool reading, cancelled;
    struct json_reader reader;
    struct json_document document;
    bool parsed;

    struct rpc_connection connection; /* to ourselves */
    bool connected;
    struct text request, answer;
    struct reactor_job job;
    bool queued;
    bool service;                             /* second pass: calls that need it */
    bool pending;                             /* a call is under way */
    const struct json_node *subsystem, *call; /* the next one */
    struct error error;
};

/* Areas of the peer's configuration that tune what does not exist here: their calls are skipped. */
static const char *const skipped[] = {"accel", "iobuf", "keyring", "scheduler", "sock",
                                      "vmd",   "fsdev", "nbd",     "ublk",      "vfio_user"};

static void config_free(struct plane_config *config) {
    if (config->connected)
        rpc_connection_close(&config->connection);
    if (config->open.file != NULL)
        host_file_close(config->open.file);
    json_reader_fini(&config->reader);
    json_document_fini(&config->document);
    text_fini(&config->request);
    text_fini(&config->answer);
    free(config->buffer);
    free(config);
}

static void finish(struct plane_config *config, const struct error *error) {
    if (!config->cancelled)
        config->options.done(config->options.arg, error);
    config_free(config);
}

static void fail(struct plane_config *config, const char *what) {
    error_set(&config->error, ERROR_INVALID, "%s: %s", config->options.path, what);
    finish(config, &config->error);
}

/* ---- the calls ---- */

/* Moves to the first call from `call` on; false at the end of the file. */
static bool find_call(struct plane_config *config) {
    const struct json_document *document = &config->document;
    const struct json_node *list = json_node_member(document, json_document_root(document), "subsystems");
    while (config->call == NULL) {
        const struct json_node *next =
            config->subsystem == NULL ? json_node_child(document, list) : json_node_after(document, list, config->subsystem);
        if (next == NULL)
            return false;
        config->subsystem = next;
        const struct json_node *calls = json_node_member(document, next, "config");
        if (calls != NULL && calls->kind == JSON_KIND_ARRAY)
            config->call = json_node_child(document, calls);
    }
    return true;
}

static void next_call(struct plane_config *config) {
    const struct json_document *document = &config->document;
    config->call = json_node_after(document, json_node_member(document, config->subsystem, "config"), config->call);
}

/* The call's method if it is to be made in this pass; else *ret_why says what is wrong, NULL if it is passed over. */
static const struct rpc_method *choose(struct plane_config *config, const char **ret_why) {
    const struct json_document *document = &config->document;
    const struct json_node *name = json_node_member(document, config->call, "method");
    const struct json_node *area = json_node_member(document, config->subsystem, "subsystem");
    *ret_why = NULL;
    if (name == NULL || name->kind != JSON_KIND_STRING) {
        *ret_why = "a call has no method";
        return NULL;
    }
    const struct rpc_method *method = rpc_table_find(config->options.server->table, json_node_text(document, name));
    if (method != NULL)
        return ((method->states & RPC_STATE_STARTUP) != 0) == !config->service ? method : NULL;
    for (size_t i = 0; area != NULL && i < array_count(skipped); i++)
        if (json_node_is_text(document, area, skipped[i])) {
            if (!config->service)
                log_notice(config->options.server->log, LOG_AREA_APP, "%s: %s has no effect here", config->options.path,
                           json_node_text(document, name));
            return NULL;
        }
    *ret_why = "there is no such method";
    return NULL;
}

static void make_call(struct plane_config *config, const struct rpc_method *method) {
    const struct json_node *params = json_node_member(&config->document, config->call, "params");
    struct json_writer writer;
    text_reset(&config->request);
    text_reset(&config->answer);
    json_writer_init(&writer, &config->request, false);
    json_begin_object(&writer, NULL);
    json_put_u64(&writer, "id", 1);
    json_put_string(&writer, "method", method->name);
    if (params != NULL)
        json_put_node(&writer, "params", &config->document, params);
    json_end(&writer);
    config->pending = true;
    rpc_connection_input(&config->connection, config->request.bytes, config->request.length);
}

static bool answer_is_good(struct plane_config *config) {
    struct json_document document;
    struct jsonrpc_response response = {.message = ""};
    const char *bad, *detail = "";
    if (!json_document_parse(&document, config->answer.bytes, config->answer.length, &FILE_LIMITS, &bad))
        return error_set(&config->error, ERROR_INTERNAL, "%s: %s", config->options.path, bad);
    jsonrpc_response_parse(&document, json_document_root(&document), &response, &config->error);
    const struct json_node *text = response.data == NULL ? NULL : json_node_member(&document, response.data, "text");
    if (text != NULL)
        detail = json_node_text(&document, text);
    bool good = response.result != NULL;
    if (!good)
        error_set(&config->error, ERROR_INVALID, "%s: %s: %s%s%s", config->options.path,
                  json_node_text(&config->document, json_node_member(&config->document, config->call, "method")),
                  response.message, detail[0] != '\0' ? ": " : "", detail);
    json_document_fini(&document);
    return good;
}

/* Takes the answer of the call under way, if it has come. False: the file has failed and is freed. */
static bool take_answer(struct plane_config *config) {
    struct slice slice;
    while (rpc_connection_output(&config->connection, &slice, 1) > 0) {
        text_append(&config->answer, slice.base, slice.length);
        rpc_connection_sent(&config->connection, slice.length);
    }
    if (config->connection.closing) {
        fail(config, "a call is larger than a request may be");
        return false;
    }
    if (config->answer.length == 0 || config->answer.bytes[config->answer.length - 1] != '\n')
        return true;
    if (!answer_is_good(config)) {
        finish(config, &config->error);
        return false;
    }
    config->pending = false;
    next_call(config);
    return true;
}

static void queue_step(void *arg) {
    struct plane_config *config = arg;
    if (config->queued)
        return;
    config->queued = true;
    reactor_defer(config->options.reactor, &config->job);
}

/* One call, or the step between the passes. */
static void step(struct reactor_job *job) {
    struct plane_config *config = container_of(job, struct plane_config, job);
    const char *why;
    config->queued = false;
    if (config->cancelled) {
        config_free(config);
        return;
    }
    if (config->pending && (!take_answer(config) || config->pending))
        return;
    if (!find_call(config)) {
        if (config->service) {
            finish(config, NULL);
            return;
        }
        config->service = true;
        config->subsystem = config->call = NULL;
        config->options.service(config->options.arg);
        queue_step(config);
        return;
    }
    const struct rpc_method *method = choose(config, &why);
    if (why != NULL) {
        const struct json_node *name = json_node_member(&config->document, config->call, "method");
        error_set(&config->error, ERROR_INVALID, "%s: %s: %s", config->options.path,
                  name != NULL && name->kind == JSON_KIND_STRING ? json_node_text(&config->document, name) : "config", why);
        finish(config, &config->error);
        return;
    }
    if (method != NULL)
        make_call(config, method);
    else
        next_call(config);
    queue_step(config);
}

/* ---- the file ---- */

static void parsed(struct plane_config *config) {
    json_reader_take(&config->reader, &config->document);
    const struct json_node *list = json_node_member(&config->document, json_document_root(&config->document), "subsystems");
    if (list == NULL || list->kind != JSON_KIND_ARRAY) {
        fail(config, "there is no array \"subsystems\"");
        return;
    }
    rpc_connection_open(&config->connection, config->options.server, queue_step, config);
    config->connection.is_file = true;
    config->connected = true;
    queue_step(config);
}

static void read_more(struct plane_config *config) {
    config->slice = (struct slice){.base = config->buffer, .length = READ_SIZE};
    config->read.length = READ_SIZE;
    config->reading = true;
    host_file_submit(config->options.reactor->loop, &config->read);
}

static void read_done(struct host_file_request *request) {
    struct plane_config *config = container_of(request, struct plane_config, read);
    size_t used = 0;
    config->reading = false;
    if (config->cancelled) {
        config_free(config);
        return;
    }
    if (request->result < 0) {
        error_set_errno(&config->error, (int)request->result, "%s cannot be read", config->options.path);
        finish(config, &config->error);
        return;
    }
    enum json_event event = request->result == 0
                                ? json_reader_finish(&config->reader)
                                : json_reader_feed(&config->reader, config->buffer, (size_t)request->result, &used);
    if (event == JSON_EVENT_DOCUMENT) {
        parsed(config);
    } else if (event == JSON_EVENT_BAD || request->result == 0) {
        fail(config, event == JSON_EVENT_BAD ? config->reader.bad : "it is empty");
    } else {
        request->offset += (uint64_t)request->result;
        read_more(config);
    }
}

static void open_done(struct host_file_open *open) {
    struct plane_config *config = container_of(open, struct plane_config, open);
    config->reading = false;
    if (config->cancelled || !open->ok) {
        if (!open->ok)
            open->file = NULL;
        finish(config, &open->error);
        return;
    }
    config->read = (struct host_file_request){
        .file = open->file, .op = HOST_FILE_READ, .slice_count = 1, .slices = &config->slice, .complete = read_done};
    read_more(config);
}

struct plane_config *plane_config_run(const struct plane_config_options *options) {
    struct plane_config *config = calloc(1, sizeof(*config));
    char *buffer = aligned_alloc(4096, READ_SIZE);
    if (config == NULL || buffer == NULL) {
        free(config);
        free(buffer);
        return NULL;
    }
    config->options = *options;
    config->buffer = buffer;
    config->job.run = step;
    json_reader_init(&config->reader, &FILE_LIMITS);
    text_init(&config->request, MIB(2));
    text_init(&config->answer, MIB(64));
    config->open.path = options->path;
    config->open.options = (struct host_file_options){.read_only = true};
    config->open.done = open_done;
    config->reading = true;
    host_file_open_submit(options->reactor->loop, &config->open);
    return config;
}

void plane_config_cancel(struct plane_config *config) {
    config->cancelled = true;
    if (!config->reading && !config->queued)
        config_free(config);
}
