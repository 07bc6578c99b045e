#include "base/error.h"

#include "wire/jsonrpc/jsonrpc.h"

const char *jsonrpc_code_message(int code) {
    switch (code) {
    case JSONRPC_PARSE_ERROR: return "Parse error";
    case JSONRPC_INVALID_REQUEST: return "Invalid request";
    case JSONRPC_METHOD_NOT_FOUND: return "Method not found";
    case JSONRPC_INVALID_PARAMS: return "Invalid parameters";
    case JSONRPC_INTERNAL_ERROR: return "Internal error";
    default: return NULL;
    }
}

static const char *const kind_names[] = {
    [JSON_KIND_NULL] = "null",       [JSON_KIND_FALSE] = "false",     [JSON_KIND_TRUE] = "true",
    [JSON_KIND_NUMBER] = "a number", [JSON_KIND_STRING] = "a string", [JSON_KIND_ARRAY] = "an array",
    [JSON_KIND_OBJECT] = "an object"};

static bool member_check(const struct json_document *document, const char *name, const struct json_node *value,
                         struct error *error) {
    uint32_t kind = value->kind;
    if (strcmp(name, "jsonrpc") == 0)
        return json_node_is_text(document, value, "2.0") || error_invalid(error, name, kind_names[kind], "the string \"2.0\"");
    if (strcmp(name, "method") == 0)
        return kind == JSON_KIND_STRING || error_invalid(error, name, kind_names[kind], "a string");
    if (strcmp(name, "params") == 0)
        return kind == JSON_KIND_OBJECT || kind == JSON_KIND_ARRAY || kind == JSON_KIND_NULL ||
               error_invalid(error, name, kind_names[kind], "an object");
    return kind == JSON_KIND_STRING || kind == JSON_KIND_NUMBER || kind == JSON_KIND_NULL ||
           error_invalid(error, name, kind_names[kind], "a string, a number or null");
}

bool jsonrpc_request_parse(const struct json_document *document, const struct json_node *node,
                           struct jsonrpc_request *ret_request, struct error *error) {
    static const char *const names[] = {"jsonrpc", "method", "params", "id"};
    const struct json_node *values[array_count(names)] = {NULL};
    if (node->kind != JSON_KIND_OBJECT)
        return error_invalid(error, "request", kind_names[node->kind], "an object");
    for (const struct json_node *key = json_node_child(document, node), *value; key != NULL;
         key = json_node_after(document, node, value)) {
        value = json_node_after(document, node, key);
        size_t i = 0;
        while (i < array_count(names) && !json_node_is_text(document, key, names[i]))
            i++;
        if (i == array_count(names))
            return error_invalid(error, json_node_text(document, key), "an unknown member", "jsonrpc, method, params or id");
        if (values[i] != NULL)
            return error_invalid(error, names[i], "given twice", "it once");
        values[i] = value;
        if (!member_check(document, names[i], value, error))
            return false;
    }
    if (values[1] == NULL)
        return error_invalid(error, "method", "absent", "the name of a method");
    ret_request->method = values[1];
    ret_request->params = values[2] != NULL && values[2]->kind != JSON_KIND_NULL ? values[2] : NULL;
    ret_request->id = values[3] != NULL && values[3]->kind != JSON_KIND_NULL ? values[3] : NULL;
    return true;
}

void jsonrpc_response_begin(struct json_writer *writer, const struct json_document *document, const struct json_node *id) {
    json_begin_object(writer, NULL);
    json_put_string(writer, "jsonrpc", "2.0");
    if (id == NULL)
        json_put_null(writer, "id");
    else
        json_put_node(writer, "id", document, id);
}

bool jsonrpc_response_parse(const struct json_document *document, const struct json_node *node,
                            struct jsonrpc_response *ret_response, struct error *error) {
    struct jsonrpc_response response = {.message = ""};
    const struct json_node *id = json_node_member(document, node, "id");
    const struct json_node *problem = json_node_member(document, node, "error");
    response.id = id != NULL && id->kind != JSON_KIND_NULL ? id : NULL;
    response.result = json_node_member(document, node, "result");
    if ((response.result == NULL) == (problem == NULL))
        return error_set(error, ERROR_IO, "the answer has neither result nor error");
    if (problem != NULL) {
        const struct json_node *code = json_node_member(document, problem, "code");
        const struct json_node *message = json_node_member(document, problem, "message");
        response.data = json_node_member(document, problem, "data");
        if (code == NULL || code->kind != JSON_KIND_NUMBER || !json_number_i64(json_node_text(document, code), &response.code))
            return error_set(error, ERROR_IO, "the answer's error has no integer as code");
        if (message != NULL && message->kind == JSON_KIND_STRING)
            response.message = json_node_text(document, message);
    }
    *ret_response = response;
    return true;
}
