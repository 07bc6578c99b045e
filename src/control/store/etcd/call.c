/* One call to an endpoint, and what its end means. */
#include <stdio.h>
#include <stdlib.h>

#include "control/store/check.h"
#include "control/store/etcd/internal.h"

/* Each answer begins with a header. */
static_assert(offsetof(Etcdserverpb__RangeResponse, header) == offsetof(Etcdserverpb__CompactionResponse, header), "header");
static_assert(offsetof(Etcdserverpb__TxnResponse, header) == offsetof(Etcdserverpb__CompactionResponse, header), "header");
static_assert(offsetof(Etcdserverpb__WatchResponse, header) == offsetof(Etcdserverpb__CompactionResponse, header), "header");
static_assert(offsetof(Etcdserverpb__LeaseGrantResponse, header) == offsetof(Etcdserverpb__CompactionResponse, header), "header");
static_assert(offsetof(Etcdserverpb__LeaseRevokeResponse, header) == offsetof(Etcdserverpb__CompactionResponse, header),
              "header");
static_assert(offsetof(Etcdserverpb__LeaseKeepAliveResponse, header) == offsetof(Etcdserverpb__CompactionResponse, header),
              "header");
static_assert(offsetof(Etcdserverpb__StatusResponse, header) == offsetof(Etcdserverpb__CompactionResponse, header), "header");
static_assert(offsetof(Etcdserverpb__AuthenticateResponse, header) == offsetof(Etcdserverpb__CompactionResponse, header),
              "header");

static struct etcd_call *of(struct grpc_call *call) { return call->arg; }

static void on_message(struct grpc_call *grpc, const ProtobufCMessage *got) {
    struct etcd_call *call = of(grpc);
    const Etcdserverpb__ResponseHeader *header = ((const Etcdserverpb__CompactionResponse *)(const void *)got)->header;
    if (header == NULL || call->foreign)
        return; /* not etcd's: the call ends without an answer */
    if (call->etcd->cluster_id != 0 && header->cluster_id != call->etcd->cluster_id) {
        call->foreign = true;
        return;
    }
    call->got = true;
    call->message(call, got);
}

static void release(struct etcd_call *call) {
    list_remove(&call->node);
    etcd_token_unref(call->token);
    call->token = NULL;
}

static void on_done(struct grpc_call *grpc) {
    struct etcd_call *call = of(grpc);
    struct arena arena;
    call->old_token = call->token != call->etcd->token;
    release(call);
    /* The owner may free the call, or start it anew, and still look at what a message left. */
    arena = call->arena;
    arena_init(&call->arena);
    call->done(call);
    arena_fini(&arena);
}

static void prepare(struct etcd_call *call, struct etcd_store *etcd, unsigned endpoint, enum grpc_kind kind, const char *path,
                    const ProtobufCMessageDescriptor *receives, const ProtobufCMessage *message, uint64_t timeout_ms) {
    call->etcd = etcd;
    call->endpoint = endpoint;
    call->foreign = call->got = false;
    arena_init(&call->arena);
    grpc_channel_prepare(etcd->endpoints[endpoint].channel, &call->call, kind, path, receives, timeout_ms);
    call->call.call.arg = call;
    call->call.call.message = on_message;
    call->call.call.done = on_done;
    /* A member that has lost its leader says so at once, and ends streams. */
    call->metadata[0] = (struct grpc_metadata){.name = "hasleader", .value = "true"};
    call->call.metadata = call->metadata;
    call->call.metadata_count = 1;
    call->token = etcd->token;
    if (call->token != NULL) {
        call->token->references++;
        call->metadata[1] = (struct grpc_metadata){.name = "token", .value = call->token->text};
        call->call.metadata_count = 2;
    }
    list_push_back(&etcd->calls, &call->node);
    (void)grpc_call_send(&call->call.call, message);
}

bool etcd_call_start(struct etcd_call *call, struct etcd_store *etcd, enum grpc_kind kind, const char *path,
                     const ProtobufCMessageDescriptor *receives, const ProtobufCMessage *message, uint64_t timeout_ms) {
    if (!etcd_is_usable(etcd))
        return false;
    struct etcd_endpoint *endpoint = &etcd->endpoints[etcd->current];
    prepare(call, etcd, etcd->current, kind, path, receives, message, timeout_ms);
    grpc_channel_start(endpoint->channel, &call->call);
    if (!grpc_channel_call_waits(&call->call))
        return true;
    /* The connection takes no more calls; the next one must be verified first. */
    etcd_call_cancel(call);
    endpoint->verified = 0;
    return etcd_is_usable(etcd);
}

void etcd_call_start_at(struct etcd_call *call, struct etcd_store *etcd, unsigned endpoint, const char *path,
                        const ProtobufCMessageDescriptor *receives, const ProtobufCMessage *message, uint64_t timeout_ms) {
    prepare(call, etcd, endpoint, GRPC_UNARY, path, receives, message, timeout_ms);
    grpc_channel_start(etcd->endpoints[endpoint].channel, &call->call);
}

void etcd_call_cancel(struct etcd_call *call) {
    if (!list_linked(&call->node))
        return;
    grpc_channel_cancel(&call->call);
    release(call);
    arena_fini(&call->arena);
}

/* ---- what it means ---- */

static bool says(const struct etcd_call *call, const char *words) { return strstr(call->call.call.text, words) != NULL; }

static enum etcd_verdict refuse(struct error *error, enum error_code code, const char *text) {
    error_set(error, code, "%s", text);
    return ETCD_REFUSED;
}

static enum etcd_verdict token_refused(struct etcd_call *call, struct error *error) {
    if (call->etcd->user == NULL)
        return refuse(error, ERROR_PERMISSION, call->call.call.text);
    if (!call->old_token)
        etcd_token_lost(call->etcd);
    return ETCD_ELSEWHERE;
}

/* The server's own words, which begin so; others are ours, or a stranger's. */
static enum etcd_verdict verdict_of_server(struct etcd_call *call, struct error *error) {
    const char *text = call->call.call.text;
    switch (call->call.call.status) {
    case GRPC_NOT_FOUND: return refuse(error, ERROR_NOT_FOUND, text);
    case GRPC_PERMISSION_DENIED: return refuse(error, ERROR_PERMISSION, text);
    case GRPC_FAILED_PRECONDITION: return refuse(error, ERROR_EXISTS, text);
    case GRPC_OUT_OF_RANGE: return refuse(error, says(call, "compacted") ? ERROR_NOT_FOUND : ERROR_INVALID, text);
    case GRPC_RESOURCE_EXHAUSTED: return refuse(error, says(call, "space exceeded") ? ERROR_NO_SPACE : ERROR_BUSY, text);
    case GRPC_UNAUTHENTICATED: return token_refused(call, error);
    case GRPC_INVALID_ARGUMENT:
        if (call->etcd->user != NULL && (says(call, "revision of auth store is old") || says(call, "user name is empty")))
            return token_refused(call, error);
        return refuse(error, says(call, "user name is empty") ? ERROR_PERMISSION : ERROR_INVALID, text);
    default:
        etcd_endpoint_lost(call->etcd, call->endpoint, ERROR_IO, text);
        /* Said before anything is proposed. */
        if (says(call, "no leader"))
            return ETCD_ELSEWHERE;
        error_set(error, ERROR_IO, "%s", text);
        return ETCD_UNKNOWN;
    }
}

enum etcd_verdict etcd_call_verdict(struct etcd_call *call, struct error *error) {
    const struct grpc_call *grpc = &call->call.call;
    if (call->foreign) {
        etcd_endpoint_lost(call->etcd, call->endpoint, ERROR_FOREIGN, "an etcd of another cluster answers");
        return refuse(error, ERROR_FOREIGN, "an etcd of another cluster answers");
    }
    if (grpc->status == GRPC_OK && call->got)
        return ETCD_ANSWERED;
    if (strncmp(grpc->text, "etcdserver:", 11) == 0 || strncmp(grpc->text, "auth:", 5) == 0)
        return verdict_of_server(call, error);
    etcd_endpoint_lost(call->etcd, call->endpoint, grpc->status == GRPC_DEADLINE_EXCEEDED ? ERROR_TIMED_OUT : ERROR_IO,
                       grpc->status == GRPC_OK ? "the answer is not etcd's" : grpc->text);
    if (grpc->unprocessed)
        return ETCD_ELSEWHERE;
    error_set(error, grpc->status == GRPC_DEADLINE_EXCEEDED ? ERROR_TIMED_OUT : ERROR_IO, "etcd's answer was lost: %s",
              grpc->status == GRPC_OK ? "it is not etcd's" : grpc->text);
    return ETCD_UNKNOWN;
}

/* ---- keys and entries ---- */

void etcd_key_range(const char *key, bool prefix, char *low, char *high, ProtobufCBinaryData *ret_key,
                    ProtobufCBinaryData *ret_end) {
    size_t length = strlen(key);
    memcpy(low, key, length + 1);
    memcpy(high, key, length + 1);
    *ret_key = (ProtobufCBinaryData){.len = length, .data = (uint8_t *)low};
    *ret_end = (ProtobufCBinaryData){.len = 0, .data = NULL};
    if (!prefix)
        return;
    /* Keys consist of ' ' + 1 … '~', so that the last byte can be counted up. Two zero bytes mean all keys. */
    ret_end->data = (uint8_t *)high;
    ret_end->len = length > 0 ? length : 1;
    if (length > 0)
        high[length - 1]++;
    else
        ret_key->len = 1;
}

bool etcd_read_entry(struct arena *arena, const Etcdserverpb__KeyValue *from, struct store_entry *entry) {
    *entry = (struct store_entry){
        .create_revision = from->create_revision, .modify_revision = from->mod_revision, .lease = from->lease};
    if (!store_is_key(from->key.data, from->key.len))
        return true;
    entry->key = arena_copy(arena, from->key.data, from->key.len);
    entry->value = arena_copy(arena, from->value.data, from->value.len);
    entry->value_length = from->value.len;
    return entry->key != NULL && entry->value != NULL;
}
