/* The envelope of JSON-RPC 2.0 as the storage target's dialect has it: what is a request, a batch, a response. Works on documents
 * that json_reader.h made. Pure. Must not know: methods. */
#pragma once

#include "wire/jsonrpc/json_reader.h"
#include "wire/jsonrpc/json_writer.h"

/* The dialect's codes; beside them any negative errno. */
enum jsonrpc_code {
    JSONRPC_PARSE_ERROR = -32700,
    JSONRPC_INVALID_REQUEST = -32600,
    JSONRPC_METHOD_NOT_FOUND = -32601,
    JSONRPC_INVALID_PARAMS = -32602,
    JSONRPC_INTERNAL_ERROR = -32603,
    JSONRPC_INVALID_STATE = -1
};

/* The dialect's fixed message of a code below -32000; NULL for others. */
const char *jsonrpc_code_message(int code);

/* Nodes of the request's document. */
struct jsonrpc_request {
    const struct json_node *method; /* a string */
    const struct json_node *params; /* an object or array; NULL = absent or null */
    const struct json_node *id;     /* a string or number; NULL = a notification */
};

/* False: it is no request; error says which member and why, and the answer is JSONRPC_INVALID_REQUEST with id null. */
bool jsonrpc_request_parse(const struct json_document *document, const struct json_node *node,
                           struct jsonrpc_request *ret_request, struct error *error);

/* Writes {"jsonrpc":"2.0","id":…, and leaves the object open for result or error. id NULL = null. */
void jsonrpc_response_begin(struct json_writer *writer, const struct json_document *document, const struct json_node *id);

/* What a client reads. */
struct jsonrpc_response {
    const struct json_node *id;     /* NULL = null */
    const struct json_node *result; /* NULL if it is an error */
    int64_t code;
    const char *message;          /* of the error; never NULL */
    const struct json_node *data; /* of the error; NULL = none */
};

bool jsonrpc_response_parse(const struct json_document *document, const struct json_node *node,
                            struct jsonrpc_response *ret_response, struct error *error);
