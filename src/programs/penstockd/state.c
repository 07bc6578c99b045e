#include "programs/penstockd/state.h"

#include "control/store/sqlite/sqlite.h"
#include "programs/penstockd/etcd_open.h"

bool state_open(const struct daemon_options *options, struct reactor *reactor, const char *path, struct store **ret_store,
                struct error *error) {
    if (!etcd_open("state-etcd", &options->state_etcd, &(struct store_options){.reactor = reactor}, ret_store, error))
        return false;
    if (*ret_store == NULL)
        *ret_store = store_sqlite_create(&(struct store_sqlite_options){.store = {.reactor = reactor}, .path = path});
    return *ret_store != NULL || error_set(error, ERROR_NO_MEMORY, "no memory for the state");
}
