/* Where penstockd keeps its state, as its options say: a file, or etcd. */
#pragma once

#include "base/uuid.h"
#include "control/store/store.h"
#include "programs/penstockd/options.h"

/* `path`: of the file. False: error, which names the option that is wrong. The store opens, or waits for etcd, from the loop. */
bool state_open(const struct daemon_options *options, struct reactor *reactor, const char *path, struct store **ret_store,
                struct error *error);
/* What tells this state directory's daemon from all others: read from the file, or made and written there. */
bool state_owner_id(const char *path, struct host *host, char ret_id[UUID_TEXT_SIZE], struct error *error);
