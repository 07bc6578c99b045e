/* Ranges, transactions, compaction, and leases' grant and end: each one call, sent again elsewhere as long as it certainly had no
 * effect, or may be repeated. */
#include <stdio.h>
#include <stdlib.h>

#include "control/store/etcd/internal.h"

struct etcd_request {
    struct etcd_call call;
    struct store_request *request;
    struct list_node node;
    struct store_result *results; /* in the call's arena */
    uint32_t result_count;
    bool no_memory, foreign; /* the answer could not be kept, or holds nothing of ours */
    uint64_t sent_ns;
};

static struct etcd_request *of(struct etcd_call *call) { return container_of(call, struct etcd_request, call); }

static bool may_repeat(const struct store_request *request) { return request->verb != STORE_TRANSACT; }

static uint32_t page_of(const struct store_request *request) {
    return request->page != 0 ? request->page : request->limit != 0 ? request->limit : STORE_RANGE_MAX;
}

/* ---- answers ---- */

static bool read_entries(struct etcd_request *sent, size_t count, Etcdserverpb__KeyValue *const *from, const char *above,
                         struct store_result *result) {
    *result = (struct store_result){.entries = arena_take(&sent->call.arena, (count + 1) * sizeof(*result->entries))};
    if (result->entries == NULL)
        return false;
    for (size_t i = 0; i < count; i++) {
        struct store_entry *entry = &result->entries[result->count];
        if (!etcd_read_entry(&sent->call.arena, from[i], entry))
            return false;
        if (entry->key != NULL && (above == NULL || strcmp(entry->key, above) > 0))
            result->count++;
    }
    return true;
}

static void on_range(struct etcd_call *call, const ProtobufCMessage *got) {
    const Etcdserverpb__RangeResponse *answer = (const void *)got;
    struct etcd_request *sent = of(call);
    struct store_request *request = sent->request;
    sent->results = arena_take(&call->arena, sizeof(*sent->results));
    sent->result_count = 1;
    if (sent->results == NULL || !read_entries(sent, answer->n_kvs, answer->kvs, request->after, sent->results)) {
        sent->no_memory = true;
        return;
    }
    request->more = answer->more;
    request->now_revision = answer->header->revision;
    /* There would be no key to go on from. */
    sent->foreign = answer->more && sent->results->count == 0;
}

static void on_transaction(struct etcd_call *call, const ProtobufCMessage *got) {
    const Etcdserverpb__TxnResponse *answer = (const void *)got;
    struct etcd_request *sent = of(call);
    sent->request->succeeded = answer->succeeded;
    sent->request->now_revision = answer->header->revision;
    sent->result_count = answer->succeeded ? sent->request->then_count : sent->request->else_count;
    sent->results = arena_take(&call->arena, (sent->result_count + 1) * sizeof(*sent->results));
    sent->no_memory = sent->results == NULL;
    if (answer->n_responses != sent->result_count) {
        call->got = false; /* no answer to what was asked */
        return;
    }
    for (uint32_t i = 0; i < sent->result_count && !sent->no_memory; i++) {
        const Etcdserverpb__ResponseOp *response = answer->responses[i];
        sent->results[i] = (struct store_result){0};
        if (response->response_case == ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_DELETE_RANGE)
            sent->results[i].deleted = (uint32_t)response->response_delete_range->deleted;
        else if (response->response_case == ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_RANGE)
            sent->no_memory =
                !read_entries(sent, response->response_range->n_kvs, response->response_range->kvs, NULL, &sent->results[i]);
    }
}

static void on_revision(struct etcd_call *call, const ProtobufCMessage *got) {
    const Etcdserverpb__CompactionResponse *answer = (const void *)got;
    of(call)->request->now_revision = answer->header->revision;
}

static void on_grant(struct etcd_call *call, const ProtobufCMessage *got) {
    const Etcdserverpb__LeaseGrantResponse *answer = (const void *)got;
    struct etcd_request *sent = of(call);
    if (answer->ttl > 0)
        sent->request->limit = (uint32_t)answer->ttl;
}

/* ---- ends ---- */

/* Refusals that say that it is done already. */
static bool is_done_already(const struct store_request *request, const struct error *error) {
    switch (request->verb) {
    case STORE_COMPACT: return error->code == ERROR_NOT_FOUND;      /* compacted */
    case STORE_LEASE_GRANT: return error->code == ERROR_EXISTS;     /* the id is a random one: an answer was lost */
    case STORE_LEASE_REVOKE: return error->code == ERROR_NOT_FOUND; /* it has run out */
    case STORE_RANGE:
    case STORE_TRANSACT: break;
    }
    return false;
}

static void answer(struct etcd_store *etcd, struct etcd_request *sent) {
    struct store_request *request = sent->request;
    if (request->verb == STORE_LEASE_GRANT)
        request->now_revision = (int64_t)sent->sent_ns;
    request->outcome = STORE_DONE;
    request->results = sent->results;
    request->result_count = sent->result_count;
    store_answer(&etcd->store, request);
}

static bool is_too_large(const struct etcd_request *sent) {
    return sent->call.call.call.status == GRPC_RESOURCE_EXHAUSTED && strncmp(sent->call.call.call.text, "etcdserver:", 11) != 0;
}

static void on_done(struct etcd_call *call) {
    struct etcd_request *sent = of(call);
    struct store_request *request = sent->request;
    struct etcd_store *etcd = call->etcd;
    struct error error;
    list_remove(&sent->node);
    if (request->verb == STORE_RANGE && is_too_large(sent) && request->page != 1) {
        /* Our own limit on a message: as many as fit. */
        request->page = (page_of(request) + 1) / 2;
        free(sent);
        store_give_back(&etcd->store, request);
        store_look_soon(&etcd->store);
        return;
    }
    enum etcd_verdict verdict = etcd_call_verdict(call, &error);
    if (verdict == ETCD_UNKNOWN && may_repeat(request))
        verdict = ETCD_ELSEWHERE;
    if (verdict == ETCD_REFUSED && is_done_already(request, &error))
        verdict = ETCD_ANSWERED;
    if (verdict == ETCD_ANSWERED && sent->no_memory) {
        error_set(&error, ERROR_NO_MEMORY, "no memory for an answer of etcd");
        verdict = may_repeat(request) ? ETCD_REFUSED : ETCD_UNKNOWN;
    } else if (verdict == ETCD_ANSWERED && sent->foreign) {
        error_set(&error, ERROR_FOREIGN, "a whole page of entries below %.150s is not penstock's", request->key);
        verdict = ETCD_REFUSED;
    }
    if (verdict == ETCD_ANSWERED) {
        answer(etcd, sent);
    } else if (verdict == ETCD_ELSEWHERE && !etcd->closing) {
        store_give_back(&etcd->store, request);
        store_look_soon(&etcd->store);
    } else {
        if (verdict == ETCD_ELSEWHERE)
            error_set(&error, ERROR_CANCELLED, "the state store is being closed");
        store_answer_error(&etcd->store, request, verdict == ETCD_UNKNOWN ? STORE_UNKNOWN : STORE_NOT_DONE, &error);
    }
    free(sent);
    if (etcd->closing)
        etcd_resume_soon(etcd);
}

void etcd_requests_cancel(struct etcd_store *etcd) {
    struct error error;
    error_set(&error, ERROR_CANCELLED, "the state store was closed before etcd answered");
    for (struct list_node *node; (node = list_pop_front(&etcd->requests)) != NULL;) {
        struct etcd_request *sent = container_of(node, struct etcd_request, node);
        struct store_request *request = sent->request;
        etcd_call_cancel(&sent->call);
        free(sent);
        store_answer_error(&etcd->store, request, may_repeat(request) ? STORE_NOT_DONE : STORE_UNKNOWN, &error);
    }
}

/* ---- questions ---- */

static bool start(struct etcd_store *etcd, struct etcd_request *sent, const char *path,
                  const ProtobufCMessageDescriptor *receives, const ProtobufCMessage *message) {
    uint64_t now_ns = reactor_now_ns(etcd->store.reactor), deadline_ns = sent->request->deadline_ns;
    uint64_t left_ms = deadline_ns > now_ns ? (deadline_ns - now_ns) / NS_PER_MS : 0;
    if (may_repeat(sent->request))
        left_ms = min_u64(left_ms, ETCD_READ_MS);
    sent->sent_ns = now_ns;
    sent->call.done = on_done;
    return etcd_call_start(&sent->call, etcd, GRPC_UNARY, path, receives, message, max_u64(left_ms, 1));
}

static bool start_range(struct etcd_store *etcd, struct etcd_request *sent) {
    const struct store_request *request = sent->request;
    char low[STORE_KEY_MAX + 2], high[STORE_KEY_MAX + 2], after[STORE_KEY_MAX + 2];
    Etcdserverpb__RangeRequest question = ETCDSERVERPB__RANGE_REQUEST__INIT;
    etcd_key_range(request->key, request->prefix, low, high, &question.key, &question.range_end);
    if (request->prefix && request->after != NULL && strcmp(request->after, request->key) >= 0) {
        /* The key that follows it: with a zero byte at its end. */
        memcpy(after, request->after, strlen(request->after) + 1);
        question.key = (ProtobufCBinaryData){.len = strlen(request->after) + 1, .data = (uint8_t *)after};
    }
    question.limit = page_of(request);
    question.revision = request->revision;
    sent->call.message = on_range;
    return start(etcd, sent, "/etcdserverpb.KV/Range", &etcdserverpb__range_response__descriptor, &question.base);
}

/* A transaction's message, whose parts lie beside each other. */
struct draft {
    Etcdserverpb__TxnRequest request;
    Etcdserverpb__Compare compares[STORE_COMPARES_MAX], *compare_list[STORE_COMPARES_MAX];
    struct draft_branch {
        Etcdserverpb__RequestOp ops[STORE_OPS_MAX], *list[STORE_OPS_MAX];
        union {
            Etcdserverpb__RangeRequest range;
            Etcdserverpb__PutRequest put;
            Etcdserverpb__DeleteRangeRequest delete_range;
        } parts[STORE_OPS_MAX];
        char high[STORE_OPS_MAX][STORE_KEY_MAX + 2], low[STORE_OPS_MAX][STORE_KEY_MAX + 2];
    } branches[2];
};

static ProtobufCBinaryData bytes_of(const void *data, size_t length) {
    return (ProtobufCBinaryData){.len = length, .data = (uint8_t *)(uintptr_t)data};
}

static void draft_compare(Etcdserverpb__Compare *to, const struct store_compare *from) {
    static const Etcdserverpb__Compare__CompareResult relations[] = {
        [STORE_EQUAL] = ETCDSERVERPB__COMPARE__COMPARE_RESULT__EQUAL,
        [STORE_NOT_EQUAL] = ETCDSERVERPB__COMPARE__COMPARE_RESULT__NOT_EQUAL,
        [STORE_LESS] = ETCDSERVERPB__COMPARE__COMPARE_RESULT__LESS,
        [STORE_GREATER] = ETCDSERVERPB__COMPARE__COMPARE_RESULT__GREATER,
    };
    etcdserverpb__compare__init(to);
    to->result = relations[from->relation];
    to->key = bytes_of(from->key, strlen(from->key));
    switch (from->target) {
    case STORE_CREATE_REVISION:
        to->target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__CREATE;
        to->target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_CREATE_REVISION;
        to->create_revision = from->revision;
        break;
    case STORE_MODIFY_REVISION:
        to->target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__MOD;
        to->target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_MOD_REVISION;
        to->mod_revision = from->revision;
        break;
    case STORE_VALUE:
        to->target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__VALUE;
        to->target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_VALUE;
        to->value = bytes_of(from->value, from->value_length);
        break;
    }
}

static void draft_op(struct draft_branch *branch, uint32_t i, const struct store_op *op) {
    Etcdserverpb__RequestOp *to = &branch->ops[i];
    etcdserverpb__request_op__init(to);
    switch (op->kind) {
    case STORE_PUT:
        to->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT;
        to->request_put = &branch->parts[i].put;
        etcdserverpb__put_request__init(to->request_put);
        to->request_put->key = bytes_of(op->key, strlen(op->key));
        to->request_put->value = bytes_of(op->value, op->value_length);
        to->request_put->lease = op->lease;
        break;
    case STORE_DELETE:
        to->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE;
        to->request_delete_range = &branch->parts[i].delete_range;
        etcdserverpb__delete_range_request__init(to->request_delete_range);
        etcd_key_range(op->key, op->prefix, branch->low[i], branch->high[i], &to->request_delete_range->key,
                       &to->request_delete_range->range_end);
        break;
    case STORE_GET:
        to->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_RANGE;
        to->request_range = &branch->parts[i].range;
        etcdserverpb__range_request__init(to->request_range);
        to->request_range->key = bytes_of(op->key, strlen(op->key));
        break;
    }
    branch->list[i] = to;
}

static bool start_transaction(struct etcd_store *etcd, struct etcd_request *sent) {
    const struct store_request *request = sent->request;
    struct draft *draft = malloc(sizeof(*draft));
    if (draft == NULL)
        return false;
    etcdserverpb__txn_request__init(&draft->request);
    for (uint32_t i = 0; i < request->compare_count; i++) {
        draft_compare(&draft->compares[i], &request->compares[i]);
        draft->compare_list[i] = &draft->compares[i];
    }
    for (uint32_t i = 0; i < request->then_count; i++)
        draft_op(&draft->branches[0], i, &request->then_ops[i]);
    for (uint32_t i = 0; i < request->else_count; i++)
        draft_op(&draft->branches[1], i, &request->else_ops[i]);
    draft->request.n_compare = request->compare_count;
    draft->request.compare = draft->compare_list;
    draft->request.n_success = request->then_count;
    draft->request.success = draft->branches[0].list;
    draft->request.n_failure = request->else_count;
    draft->request.failure = draft->branches[1].list;
    sent->call.message = on_transaction;
    bool started = start(etcd, sent, "/etcdserverpb.KV/Txn", &etcdserverpb__txn_response__descriptor, &draft->request.base);
    free(draft);
    return started;
}

static bool start_small(struct etcd_store *etcd, struct etcd_request *sent) {
    const struct store_request *request = sent->request;
    if (request->verb == STORE_COMPACT) {
        Etcdserverpb__CompactionRequest question = ETCDSERVERPB__COMPACTION_REQUEST__INIT;
        question.revision = request->revision;
        sent->call.message = on_revision;
        return start(etcd, sent, "/etcdserverpb.KV/Compact", &etcdserverpb__compaction_response__descriptor, &question.base);
    }
    if (request->verb == STORE_LEASE_REVOKE) {
        Etcdserverpb__LeaseRevokeRequest question = ETCDSERVERPB__LEASE_REVOKE_REQUEST__INIT;
        question.id = request->revision;
        sent->call.message = on_revision;
        return start(etcd, sent, "/etcdserverpb.Lease/LeaseRevoke", &etcdserverpb__lease_revoke_response__descriptor,
                     &question.base);
    }
    Etcdserverpb__LeaseGrantRequest question = ETCDSERVERPB__LEASE_GRANT_REQUEST__INIT;
    question.id = request->revision;
    question.ttl = request->limit;
    sent->call.message = on_grant;
    return start(etcd, sent, "/etcdserverpb.Lease/LeaseGrant", &etcdserverpb__lease_grant_response__descriptor, &question.base);
}

void etcd_work(struct store *store) {
    struct etcd_store *etcd = etcd_of(store);
    struct store_request *request;
    etcd_probe_start(etcd);
    while (etcd_is_usable(etcd) && (request = store_take(store)) != NULL) {
        struct etcd_request *sent = calloc(1, sizeof(*sent));
        struct error error;
        if (sent == NULL) {
            error_set(&error, ERROR_NO_MEMORY, "no memory for a request to etcd");
            store_answer_error(store, request, STORE_NOT_DONE, &error);
            continue;
        }
        sent->request = request;
        list_push_back(&etcd->requests, &sent->node);
        bool started = request->verb == STORE_RANGE      ? start_range(etcd, sent)
                       : request->verb == STORE_TRANSACT ? start_transaction(etcd, sent)
                                                         : start_small(etcd, sent);
        if (started)
            continue;
        list_remove(&sent->node);
        free(sent);
        store_give_back(store, request);
        break; /* goes on when an endpoint is usable, or by the request's deadline */
    }
}
