/* What tools/generate-rpc makes of api/rpc: tables that say what each method takes, and the one decoder that reads them.
 * Must not know: what methods do. */
#pragma once

#include "base/error.h"
#include "base/uuid.h"
#include "wire/jsonrpc/json_reader.h"

struct rpc_call;
struct rpc_arena;

enum rpc_kind {
    RPC_KIND_BOOL, /* bool */
    RPC_KIND_U8,   /* uint8_t … */
    RPC_KIND_U16,
    RPC_KIND_U32,
    RPC_KIND_U64,
    RPC_KIND_I32,    /* int32_t */
    RPC_KIND_STRING, /* const char *, NULL = absent; without NULs */
    RPC_KIND_UUID,   /* struct uuid, nil = absent */
    RPC_KIND_ENUM,   /* uint32_t, index of the value */
    RPC_KIND_MASK,   /* uint64_t, bit n = value n; an array of values in JSON */
    RPC_KIND_OBJECT, /* the object's struct */
    RPC_KIND_ARRAY,  /* struct rpc_array */
    RPC_KIND_MAP     /* struct rpc_array of struct rpc_pair: an object of strings */
};

struct rpc_array {
    void *items; /* in the call's arena; the type is the field's item kind */
    uint32_t count;
};
struct rpc_pair {
    const char *key, *value;
};

struct rpc_enum {
    const char *const *values;
    uint32_t count;
    bool any_case;
};

enum {
    RPC_FIELD_REQUIRED = 1,
    RPC_FIELD_ABSENT = 2,  /* a feature that is not here: refused unless it has its default value */
    RPC_FIELD_IGNORED = 4, /* checked, and without effect */
    RPC_FIELD_SINGLE = 8   /* an array that may be given as its one item */
};

#define RPC_NO_OFFSET UINT16_MAX

struct rpc_field {
    const char *name;
    const char *const *aliases; /* other spellings, ends with NULL; NULL = none */
    const char *note;           /* ABSENT: why */
    uint8_t kind, item_kind;    /* enum rpc_kind; item_kind of ARRAY */
    uint8_t flags;
    uint16_t offset, has_offset; /* in the struct; has_offset: a bool that says whether it was given */
    uint32_t item_size;          /* of an ARRAY, bytes */
    uint32_t max_count;          /* ARRAY and MAP: items */
    uint32_t max_length;         /* STRING: bytes */
    uint64_t min, max;           /* integers; of I32 as int64_t */
    uint64_t default_number;     /* BOOL, integers, ENUM */
    const char *default_text;    /* STRING */
    const struct rpc_enum *enumeration;
    const struct rpc_object *object;
};

struct rpc_object {
    const struct rpc_field *fields;
    uint32_t field_count; /* ≤ RPC_FIELDS_MAX */
    uint32_t size;        /* of the struct */
};
#define RPC_FIELDS_MAX 64

enum { RPC_STATE_STARTUP = 1, RPC_STATE_RUNTIME = 2 };

struct rpc_method {
    const char *name;
    void (*handle)(struct rpc_call *call, const void *params);
    const struct rpc_object *params; /* NULL = it takes none, not even {} */
    const char *decode_message;      /* the peer's fixed answer when parameters are wrong */
    const char *no_params_message;   /* the same for a method without parameters */
    int decode_code;
    int late_code; /* of failures after the work has begun; 0 = -errno as always */
    uint8_t states;
    bool relaxed; /* unknown members are tolerated */
};

/* Sorted by name. */
struct rpc_table {
    const struct rpc_method *methods;
    uint32_t count;
};

/* NULL if there is no such method. */
const struct rpc_method *rpc_table_find(const struct rpc_table *table, const char *name);

/* Memory of one call, freed with it. */
struct rpc_arena {
    struct rpc_chunk *chunks;
};
/* Zeroed; NULL if there is none left. */
void *rpc_arena_take(struct rpc_arena *arena, size_t size);
void rpc_arena_fini(struct rpc_arena *arena);

/* Fills *params (object->size bytes) from a JSON object; node NULL = absent, as an empty one. Texts point into the document.
 * False: error is ERROR_INVALID with field, value and expected, or ERROR_UNSUPPORTED for a feature that is not here. */
bool rpc_decode(const struct json_document *document, const struct json_node *node, const struct rpc_object *object, bool relaxed,
                struct rpc_arena *arena, void *params, struct error *error);
