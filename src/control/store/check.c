#include "control/store/check.h"

#include <stdio.h>

bool store_is_key(const void *key, size_t length) {
    const uint8_t *bytes = key;
    if (length == 0 || length > STORE_KEY_MAX)
        return false;
    for (size_t i = 0; i < length; i++)
        if (bytes[i] <= ' ' || bytes[i] > '~')
            return false;
    return true;
}

static bool key_wrong(const char *key, struct error *error) {
    return error_invalid(error, "key", key, "1 to %u printable ASCII characters without blanks", STORE_KEY_MAX);
}

bool store_check_range(const char *key, bool prefix, struct error *error) {
    if (key == NULL)
        return key_wrong("", error);
    if ((prefix && key[0] == '\0') || store_is_key(key, strnlen(key, STORE_KEY_MAX + 1)))
        return true;
    return key_wrong(key, error);
}

static bool check_op(const struct store_op *op, size_t *total, unsigned *gets, struct error *error) {
    bool deletes_many = op->kind == STORE_DELETE && op->prefix;
    if (!store_check_range(op->key, deletes_many, error))
        return false;
    *total += strlen(op->key);
    if (op->kind == STORE_GET && ++*gets > STORE_GETS_MAX)
        return error_set(error, ERROR_INVALID, "a branch of a transaction reads more than %u keys", STORE_GETS_MAX);
    if (op->kind != STORE_PUT)
        return true;
    *total += op->value_length;
    if (op->value_length > STORE_VALUE_MAX)
        return error_set(error, ERROR_INVALID, "the value of %.150s has %zu bytes, %u are the limit", op->key, op->value_length,
                         STORE_VALUE_MAX);
    if (op->lease < 0)
        return error_set(error, ERROR_INVALID, "no lease has the id %lld", (long long)op->lease);
    return true;
}

/* Two operations that touch one key, of which at least one puts it: their order would be all that tells what it is. */
static bool collide(const struct store_op *a, const struct store_op *b) {
    if (a->kind == STORE_GET || b->kind == STORE_GET || (a->kind == STORE_DELETE && b->kind == STORE_DELETE))
        return false;
    const struct store_op *wide = a->kind == STORE_DELETE && a->prefix ? a : b->kind == STORE_DELETE && b->prefix ? b : NULL;
    if (wide == NULL)
        return strcmp(a->key, b->key) == 0;
    return strncmp(wide->key, wide == a ? b->key : a->key, strlen(wide->key)) == 0;
}

static bool check_branch(const struct store_op *ops, uint32_t count, size_t *total, struct error *error) {
    unsigned gets = 0;
    if (count > STORE_OPS_MAX)
        return error_set(error, ERROR_INVALID, "a branch of a transaction has %u operations, %u are the limit", count,
                         STORE_OPS_MAX);
    for (uint32_t i = 0; i < count; i++)
        if (!check_op(&ops[i], total, &gets, error))
            return false;
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t j = i + 1; j < count; j++)
            if (collide(&ops[i], &ops[j]))
                return error_set(error, ERROR_INVALID, "a transaction writes %.180s twice", ops[i].key);
    return true;
}

static bool check_transaction(const struct store_request *request, struct error *error) {
    size_t total = 0;
    if (request->compare_count > STORE_COMPARES_MAX)
        return error_set(error, ERROR_INVALID, "a transaction has %u compares, %u are the limit", request->compare_count,
                         STORE_COMPARES_MAX);
    for (uint32_t i = 0; i < request->compare_count; i++) {
        const struct store_compare *compare = &request->compares[i];
        if (!store_check_range(compare->key, false, error))
            return false;
        if (compare->target != STORE_VALUE && compare->revision < 0)
            return error_set(error, ERROR_INVALID, "no revision is %lld", (long long)compare->revision);
        total += strlen(compare->key) + (compare->target == STORE_VALUE ? compare->value_length : 0);
    }
    if (!check_branch(request->then_ops, request->then_count, &total, error) ||
        !check_branch(request->else_ops, request->else_count, &total, error))
        return false;
    if (total > STORE_TRANSACTION_MAX)
        return error_set(error, ERROR_INVALID, "a transaction has %zu bytes, %u are the limit", total, STORE_TRANSACTION_MAX);
    return true;
}

bool store_check_request(const struct store_request *request, struct error *error) {
    if (request->verb == STORE_TRANSACT)
        return check_transaction(request, error);
    if (request->revision < 0 || (request->verb == STORE_COMPACT && request->revision == 0))
        return error_set(error, ERROR_INVALID, "no revision is %lld", (long long)request->revision);
    if (request->verb != STORE_RANGE)
        return true;
    if (request->limit > STORE_RANGE_MAX)
        return error_set(error, ERROR_INVALID, "a range of %u entries is asked for, %u are the limit", request->limit,
                         STORE_RANGE_MAX);
    return store_check_range(request->key, request->prefix, error) &&
           (request->after == NULL || store_check_range(request->after, true, error));
}
