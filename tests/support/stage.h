/* What a part of the control daemon stands on in a test: a host in steps, a reactor, a log, and a store in memory whose content
 * outlives them. Not for I/O of blocks. The stage stays where it is while it is in use. */
#pragma once

#include "base/log.h"
#include "control/store/memory/memory.h"
#include "reactor/reactor.h"
#include "support/step_host.h"

struct stage {
    struct host *host;
    struct reactor *reactor;
    struct log log;
    struct store_memory_data *data;
    struct store *store;
    unsigned records; /* that were logged */
    bool closed;
    enum store_memory_fault (*fault)(void *arg, const struct store_request *request);
    void *fault_arg;
};

/* Everything, started and empty. `fault` is the store's; NULL = nothing goes wrong. Not on the reactor, as all the others. */
void stage_begin(struct stage *stage, enum store_memory_fault (*fault)(void *arg, const struct store_request *request),
                 void *fault_arg);
/* Closes the store: what is under way in it is never heard of again. */
void stage_close_store(struct stage *stage);
/* Another reactor, and another store on the same content; the store is closed. */
void stage_reopen(struct stage *stage);
/* All that stood on it has ended, but the store may be open. */
void stage_end(struct stage *stage);
