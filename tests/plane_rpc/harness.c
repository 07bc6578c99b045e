#include "harness.h"

#include <stdio.h>
#include <stdlib.h>

#include "rpc_test.h"

static struct harness *harness_of(struct rpc_call *call) { return call->server->owner; }

static void put_address(struct json_writer *writer, const char *key, const struct rpc_address *address) {
    json_begin_object(writer, key);
    json_put_string(writer, "trtype", address->trtype);
    json_put_u64(writer, "port", address->port);
    json_end(writer);
}

static void put_arrays(struct json_writer *writer, const struct params_test_echo *params) {
    json_begin_array(writer, "names");
    for (uint32_t i = 0; i < params->names.count; i++)
        json_put_string(writer, NULL, ((const char **)params->names.items)[i]);
    json_end(writer);
    json_begin_array(writer, "numbers");
    for (uint32_t i = 0; i < params->numbers.count; i++)
        json_put_u64(writer, NULL, ((uint32_t *)params->numbers.items)[i]);
    json_end(writer);
    json_begin_array(writer, "addresses");
    for (uint32_t i = 0; i < params->addresses.count; i++)
        put_address(writer, NULL, &((struct rpc_address *)params->addresses.items)[i]);
    json_end(writer);
    json_begin_object(writer, "map");
    for (uint32_t i = 0; i < params->map.count; i++) {
        const struct rpc_pair *pair = &((struct rpc_pair *)params->map.items)[i];
        json_put_string(writer, pair->key, pair->value);
    }
    json_end(writer);
}

void method_test_echo(struct rpc_call *call, const struct params_test_echo *params) {
    harness_of(call)->echo_count++;
    struct json_writer *writer = rpc_call_result(call);
    json_begin_object(writer, RPC_RESULT);
    json_put_bool(writer, "flag", params->flag);
    if (params->has_u8)
        json_put_u64(writer, "u8", params->u8);
    json_put_u64(writer, "u16", params->u16);
    json_put_u64(writer, "u32", params->u32);
    if (params->has_u64)
        json_put_u64(writer, "u64", params->u64);
    if (params->has_i32)
        json_put_i64(writer, "i32", params->i32);
    if (params->string != NULL)
        json_put_string(writer, "string", params->string);
    if (!uuid_is_nil(&params->uuid))
        json_put_uuid(writer, "uuid", &params->uuid);
    json_put_u64(writer, "colour", params->colour);
    if (params->has_any)
        json_put_u64(writer, "any", params->any);
    if (params->has_mask)
        json_put_u64(writer, "mask", params->mask);
    if (params->has_address)
        put_address(writer, "address", &params->address);
    put_arrays(writer, params);
    json_end(writer);
    rpc_call_end(call);
}

void method_test_needs(struct rpc_call *call, const struct params_test_needs *params) {
    (void)params;
    rpc_call_result_true(call);
}
void method_test_relaxed(struct rpc_call *call, const struct params_test_relaxed *params) {
    rpc_call_result_string(call, params->name != NULL ? params->name : "none");
}
void method_test_none(struct rpc_call *call) { rpc_call_result_true(call); }
void method_test_startup(struct rpc_call *call) { rpc_call_result_true(call); }
void method_test_runtime(struct rpc_call *call) { rpc_call_result_true(call); }

void method_test_wait(struct rpc_call *call) {
    struct harness *harness = harness_of(call);
    assert(harness->waiting_count < HARNESS_WAITING_MAX);
    harness->waiting[harness->waiting_count++] = call;
}

void method_test_fail(struct rpc_call *call, const struct params_test_fail *params) {
    struct error error;
    error_set(&error, (enum error_code)params->errno_code, "it failed");
    if (params->late)
        rpc_call_fail_late(call, &error);
    else
        rpc_call_fail(call, &error);
}

void method_test_big(struct rpc_call *call, const struct params_test_big *params) {
    char *big = malloc((size_t)params->size + 1);
    assert(big != NULL);
    memset(big, 'x', params->size);
    big[params->size] = '\0';
    rpc_call_result_string(call, big);
    free(big);
}

static void ready(void *arg) { ((struct harness *)arg)->ready_count++; }

void harness_init(struct harness *harness, const struct rpc_limits *limits) {
    memset(harness, 0, sizeof(*harness));
    rpc_server_init(&harness->server, &rpc_table_test, harness, NULL, limits);
    harness->server.state = RPC_STATE_RUNTIME;
    rpc_connection_open(&harness->connection, &harness->server, ready, harness);
    harness->open = true;
    text_init(&harness->received, MIB(64));
}

void harness_answer(struct harness *harness, unsigned index) {
    assert(index < harness->waiting_count && harness->waiting[index] != NULL);
    struct rpc_call *call = harness->waiting[index];
    harness->waiting[index] = NULL;
    rpc_call_result_true(call);
}

void harness_fini(struct harness *harness) {
    if (harness->open)
        rpc_connection_close(&harness->connection);
    for (unsigned i = 0; i < harness->waiting_count; i++)
        if (harness->waiting[i] != NULL)
            harness_answer(harness, i);
    rpc_server_fini(&harness->server);
    text_fini(&harness->received);
}

void harness_drain(struct harness *harness) {
    struct slice slices[3];
    uint32_t count;
    while (harness->open && (count = rpc_connection_output(&harness->connection, slices, 3)) > 0) {
        size_t length = slice_total(slices, count), n = length > 7 ? length - 3 : length; /* short writes happen */
        for (size_t i = 0, rest = n; i < count && rest > 0; i++) {
            size_t part = min_u64(rest, slices[i].length);
            text_append(&harness->received, slices[i].base, part);
            rest -= part;
        }
        rpc_connection_sent(&harness->connection, n);
    }
}

const char *harness_say(struct harness *harness, const char *bytes, size_t length, size_t piece) {
    for (size_t at = 0; at < length && harness->open;) {
        size_t n = min_u64(piece, length - at);
        char *copy = malloc(n);
        assert(copy != NULL);
        memcpy(copy, bytes + at, n);
        size_t used = rpc_connection_input(&harness->connection, copy, n);
        free(copy);
        at += used;
        harness_drain(harness);
        if (harness->connection.closing) {
            rpc_connection_close(&harness->connection);
            harness->open = false;
        } else if (used < n && !rpc_connection_reads(&harness->connection)) {
            break;
        }
    }
    return harness->received.bytes != NULL ? harness->received.bytes : "";
}

const char *harness_ask(struct harness *harness, const char *text) {
    text_reset(&harness->received);
    return harness_say(harness, text, strlen(text), strlen(text));
}
