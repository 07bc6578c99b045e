#include "grpc/reflection.h"

#include <stdio.h>
#include <stdlib.h>

#include "api/proto/grpc/reflection/v1/reflection.pb-c.h"
#include "grpc/descriptors.h"

#define SERVICES_MAX 32
#define FILES_MAX 64 /* of one answer: a file and all that it imports */

extern const unsigned char grpc_descriptors[];
extern const size_t grpc_descriptors_size;

typedef Grpc__Reflection__V1__ServerReflectionRequest Request;
typedef Grpc__Reflection__V1__ServerReflectionResponse Response;
#define WHICH(name) GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_##name
#define ANSWER(name) GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_##name

struct grpc_reflection {
    struct descriptors descriptors;
    const char *services[SERVICES_MAX];
    size_t service_count;
};

/* ---- answers ---- */

static void answer(struct grpc_call *call, const Request *request, Response *response) {
    response->valid_host = request->host;
    response->original_request = (Request *)(uintptr_t)request;
    (void)grpc_call_send(call, &response->base);
}

static void answer_error(struct grpc_call *call, const Request *request, enum grpc_status status, const char *text) {
    Response response = GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__INIT;
    Grpc__Reflection__V1__ErrorResponse error = GRPC__REFLECTION__V1__ERROR_RESPONSE__INIT;
    error.error_code = (int32_t)status;
    error.error_message = (char *)(uintptr_t)text;
    response.message_response_case = ANSWER(ERROR_RESPONSE);
    response.error_response = &error;
    answer(call, request, &response);
}

/* The file, and what it imports, each once. */
static void answer_file(struct grpc_call *call, const Request *request, const struct descriptor_file *file) {
    const struct grpc_reflection *reflection = call->service_arg;
    const struct descriptor_file *chosen[FILES_MAX];
    ProtobufCBinaryData data[FILES_MAX];
    size_t count = 0;
    if (file == NULL) {
        answer_error(call, request, GRPC_NOT_FOUND, "no such file or symbol");
        return;
    }
    chosen[count++] = file;
    for (size_t i = 0; i < count; i++) {
        const char *name;
        size_t length;
        for (size_t index = 0; descriptors_import(chosen[i], index, &name, &length); index++) {
            const struct descriptor_file *import = descriptors_file(&reflection->descriptors, name, length);
            bool known = import == NULL || count == FILES_MAX;
            for (size_t j = 0; j < count && !known; j++)
                known = chosen[j] == import;
            if (!known)
                chosen[count++] = import;
        }
    }
    for (size_t i = 0; i < count; i++)
        data[i] = (ProtobufCBinaryData){chosen[i]->length, (uint8_t *)(uintptr_t)chosen[i]->bytes};
    Response response = GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__INIT;
    Grpc__Reflection__V1__FileDescriptorResponse files = GRPC__REFLECTION__V1__FILE_DESCRIPTOR_RESPONSE__INIT;
    files.n_file_descriptor_proto = count;
    files.file_descriptor_proto = data;
    response.message_response_case = ANSWER(FILE_DESCRIPTOR_RESPONSE);
    response.file_descriptor_response = &files;
    answer(call, request, &response);
}

static void answer_services(struct grpc_call *call, const Request *request) {
    const struct grpc_reflection *reflection = call->service_arg;
    Grpc__Reflection__V1__ServiceResponse services[SERVICES_MAX], *pointers[SERVICES_MAX];
    for (size_t i = 0; i < reflection->service_count; i++) {
        grpc__reflection__v1__service_response__init(&services[i]);
        services[i].name = (char *)(uintptr_t)reflection->services[i];
        pointers[i] = &services[i];
    }
    Response response = GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__INIT;
    Grpc__Reflection__V1__ListServiceResponse list = GRPC__REFLECTION__V1__LIST_SERVICE_RESPONSE__INIT;
    list.n_service = reflection->service_count;
    list.service = pointers;
    response.message_response_case = ANSWER(LIST_SERVICES_RESPONSE);
    response.list_services_response = &list;
    answer(call, request, &response);
}

static void answer_extensions(struct grpc_call *call, const Request *request) {
    const struct grpc_reflection *reflection = call->service_arg;
    if (descriptors_symbol(&reflection->descriptors, request->all_extension_numbers_of_type) == NULL) {
        answer_error(call, request, GRPC_NOT_FOUND, "no such type");
        return;
    }
    Response response = GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__INIT;
    Grpc__Reflection__V1__ExtensionNumberResponse numbers = GRPC__REFLECTION__V1__EXTENSION_NUMBER_RESPONSE__INIT;
    numbers.base_type_name = request->all_extension_numbers_of_type;
    response.message_response_case = ANSWER(ALL_EXTENSION_NUMBERS_RESPONSE);
    response.all_extension_numbers_response = &numbers;
    answer(call, request, &response);
}

/* ---- the service ---- */

static void on_message(struct grpc_call *call, const ProtobufCMessage *message) {
    const struct grpc_reflection *reflection = call->service_arg;
    const Request *request = (const Request *)message;
    switch (request->message_request_case) {
    case WHICH(FILE_BY_FILENAME):
        answer_file(call, request,
                    descriptors_file(&reflection->descriptors, request->file_by_filename, strlen(request->file_by_filename)));
        break;
    case WHICH(FILE_CONTAINING_SYMBOL):
        answer_file(call, request, descriptors_symbol(&reflection->descriptors, request->file_containing_symbol));
        break;
    case WHICH(LIST_SERVICES): answer_services(call, request); break;
    case WHICH(ALL_EXTENSION_NUMBERS_OF_TYPE): answer_extensions(call, request); break;
    case WHICH(FILE_CONTAINING_EXTENSION): answer_error(call, request, GRPC_NOT_FOUND, "there are no extensions"); break;
    default: answer_error(call, request, GRPC_INVALID_ARGUMENT, "nothing is asked for"); break;
    }
}

static void on_half_closed(struct grpc_call *call) { grpc_call_end(call, GRPC_OK, NULL); }
static void on_cancelled(struct grpc_call *call) { grpc_call_end(call, GRPC_CANCELLED, NULL); }

static void on_info(struct grpc_call *call, const ProtobufCMessage *message) {
    (void)message;
    call->message = on_message;
    call->half_closed = on_half_closed;
    call->cancelled = on_cancelled;
}

/* Both packages have the same messages by number, so that one set of structs does for both. */
static const struct grpc_method methods[] = {
    {"ServerReflectionInfo", GRPC_BIDIRECTIONAL, &grpc__reflection__v1__server_reflection_request__descriptor,
     &grpc__reflection__v1__server_reflection_response__descriptor, on_info},
};
static const struct grpc_service services[] = {
    {"grpc.reflection.v1.ServerReflection", methods, array_count(methods)},
    {"grpc.reflection.v1alpha.ServerReflection", methods, array_count(methods)},
};

struct grpc_reflection *grpc_reflection_create(struct grpc_server *server) {
    struct grpc_reflection *reflection = calloc(1, sizeof(*reflection));
    if (reflection == NULL)
        return NULL;
    descriptors_init(&reflection->descriptors);
    bool ok = grpc_reflection_add(reflection, "grpc.health.v1.Health", grpc_descriptors, grpc_descriptors_size);
    for (size_t i = 0; i < array_count(services) && ok; i++)
        ok = grpc_reflection_add(reflection, services[i].name, NULL, 0) && grpc_server_add(server, &services[i], reflection);
    if (ok)
        return reflection;
    grpc_reflection_destroy(reflection);
    return NULL;
}

bool grpc_reflection_add(struct grpc_reflection *reflection, const char *service, const void *set, size_t length) {
    assert(reflection->service_count < SERVICES_MAX);
    reflection->services[reflection->service_count++] = service;
    return length == 0 || descriptors_add(&reflection->descriptors, set, length);
}

void grpc_reflection_destroy(struct grpc_reflection *reflection) {
    descriptors_fini(&reflection->descriptors);
    free(reflection);
}
