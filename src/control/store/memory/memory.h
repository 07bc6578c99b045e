/* The state store in memory: for tests and the simulator, where it is also the place for the faults that the others cannot be
 * made to have on demand. Durable as long as its data. Must not know: the other implementations.
 *
 * Calling context: one reactor. */
#pragma once

#include "control/store/store.h"

/* What is kept; survives the store, as a disk would. One store at a time. */
struct store_memory_data;

/* NULL: no memory. */
struct store_memory_data *store_memory_data_create(void);
void store_memory_data_destroy(struct store_memory_data *data);

/* Whoever had it was killed, with all memory of the store but this data's. */
void store_memory_data_abandon(struct store_memory_data *data);

enum store_memory_fault {
    STORE_MEMORY_FINE,
    STORE_MEMORY_REFUSE,     /* NOT_DONE, ERROR_IO */
    STORE_MEMORY_LOSE,       /* a transaction: not effective, and UNKNOWN */
    STORE_MEMORY_LOSE_ANSWER /* a transaction: effective, and UNKNOWN */
};

struct store_memory_options {
    struct store_options store;
    struct store_memory_data *data; /* stays until the store is closed */
    uint64_t shuffle_seed;          /* what is under way together takes effect in an order drawn from it; 0 = of submission */
    /* What is to happen to a request; NULL = nothing. */
    enum store_memory_fault (*fault)(void *arg, const struct store_request *request);
    void *fault_arg;
};

/* NULL: no memory. READY from the first turn on. */
struct store *store_memory_create(const struct store_memory_options *options);
