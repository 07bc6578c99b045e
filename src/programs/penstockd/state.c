#include "programs/penstockd/state.h"

#include <errno.h>
#include <stdio.h>

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

static bool read_id(const char *path, struct uuid *ret_id) {
    char text[UUID_TEXT_SIZE] = "";
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    size_t length = fread(text, 1, sizeof(text) - 1, file);
    fclose(file);
    return length == sizeof(text) - 1 && uuid_parse(text, ret_id);
}

/* Torn or lost it is made anew, which costs a wait for the lease of the one before. */
bool state_owner_id(const char *path, struct host *host, char ret_id[UUID_TEXT_SIZE], struct error *error) {
    struct uuid id;
    if (read_id(path, &id)) {
        uuid_format(&id, ret_id);
        return true;
    }
    uint8_t random[16];
    host_random(host, random, sizeof(random));
    uuid_from_random(random, &id);
    uuid_format(&id, ret_id);
    FILE *file = fopen(path, "we");
    bool written = file != NULL && fputs(ret_id, file) >= 0;
    written = file != NULL && fclose(file) == 0 && written;
    return written || error_set(error, ERROR_IO, "%s cannot be written: %s", path, strerrordesc_np(errno));
}
