/* Where penstockd keeps its state, as its options say: a file, or etcd. */
#pragma once

#include "control/store/store.h"
#include "programs/penstockd/options.h"

/* `path`: of the file. False: error, which names the option that is wrong. The store opens, or waits for etcd, from the loop. */
bool state_open(const struct daemon_options *options, struct reactor *reactor, const char *path, struct store **ret_store,
                struct error *error);
