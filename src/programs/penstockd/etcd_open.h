/* A store on the etcd that a group of options names: `--state-etcd`, `--state-etcd-ca` and so on. */
#pragma once

#include "control/store/store.h"
#include "programs/penstockd/options.h"

/* `option`: the group's first, without dashes ("state-etcd"). It has no endpoint: nothing is made, NULL, but what is given for
 * one is an error. False: error, which names the option. The store waits for etcd from the loop. */
bool etcd_open(const char *option, const struct daemon_etcd *etcd, const struct store_options *store, struct store **ret_store,
               struct error *error);
