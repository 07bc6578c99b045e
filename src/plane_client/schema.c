#include "plane_client/schema.h"

const struct rpc_schema_method *rpc_schema_find(const struct rpc_schema *schema, const char *name) {
    size_t low = 0, high = schema->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(name, schema->methods[middle].name);
        if (order == 0)
            return &schema->methods[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

const struct rpc_schema_param *rpc_schema_param_find(const struct rpc_schema_param *params, size_t count, const char *name) {
    for (size_t i = 0; i < count; i++) {
        if (strcmp(params[i].name, name) == 0)
            return &params[i];
        for (const char *const *alias = params[i].aliases; alias != NULL && *alias != NULL; alias++)
            if (strcmp(*alias, name) == 0)
                return &params[i];
    }
    return NULL;
}
