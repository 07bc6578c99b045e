/* `penstock rpc METHOD KEY=VALUE …`: any method, as it is. */
#include <string.h>

#include "cli/cli.h"
#include "plane_client/schema.h"

/* A word that is one of the parameter's values: "null" may be a kind, "1" a level. */
static bool is_word_of(const struct rpc_schema_method *method, const char *key, size_t length, const char *text) {
    for (size_t i = 0; method != NULL && i < method->param_count; i++) {
        const struct rpc_schema_param *param = &method->params[i];
        if (strlen(param->name) != length || memcmp(param->name, key, length) != 0 || param->base != RPC_SCHEMA_ENUM ||
            param->is_array)
            continue;
        for (const char *const *value = param->values; *value != NULL; value++)
            if (strcmp(*value, text) == 0)
                return true;
    }
    return false;
}

/* JSON if it is JSON, else a string: 10, true, null, "x", [1], {"a":1} are; 10G, disk0 and tru are not. */
static json_t *value_parse(const char *text) {
    json_t *value = json_loads(text, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
    return value != NULL ? value : json_string(text);
}

/* Sets params.a.b for the key "a.b". */
static bool set(struct cli *cli, const struct rpc_schema_method *method, json_t *params, const char *word) {
    const char *equals = strchr(word, '=');
    if (equals == NULL || equals == word)
        return error_invalid(&cli->error, "argument", word, "KEY=VALUE");
    json_t *at = params;
    const char *key = word;
    for (const char *dot; (dot = memchr(key, '.', (size_t)(equals - key))) != NULL; key = dot + 1) {
        json_t *inner = json_object_getn(at, key, (size_t)(dot - key));
        if (inner == NULL) {
            inner = json_object();
            json_object_setn_new(at, key, (size_t)(dot - key), inner);
        }
        if (!json_is_object(inner))
            return error_invalid(&cli->error, "argument", word, "a key that is not already a value");
        at = inner;
    }
    bool is_word = at == params && is_word_of(method, key, (size_t)(equals - key), equals + 1);
    json_t *value = is_word ? json_string(equals + 1) : value_parse(equals + 1);
    if (value == NULL || json_object_setn_new(at, key, (size_t)(equals - key), value) != 0)
        return error_invalid(&cli->error, "argument", word, "UTF-8 text");
    return true;
}

bool cli_words(struct cli *cli, const struct rpc_schema_method *method, unsigned first, json_t **ret_object) {
    *ret_object = NULL;
    for (unsigned i = first; i < cli->argument_count; i++) {
        if (*ret_object == NULL)
            *ret_object = json_object();
        if (!set(cli, method, *ret_object, cli->arguments[i])) {
            json_decref(*ret_object);
            return false;
        }
    }
    return true;
}

bool cli_rpc(struct cli *cli) {
    json_t *params, *result;
    if (!cli_words(cli, rpc_schema_find(&rpc_schema, cli->arguments[0]), 1, &params) ||
        !cli_call(cli, cli->arguments[0], params, &result))
        return false;
    cli_print(cli, result);
    json_decref(result);
    return true;
}
