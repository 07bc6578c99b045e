#include "programs/penstockd/state.h"

#include "control/store/etcd/etcd.h"
#include "control/store/sqlite/sqlite.h"
#include "programs/penstockd/credentials.h"
#include "programs/penstockd/place.h"

/* Of a setting that has no meaning without another. */
static bool check(const struct daemon_options *options, struct error *error) {
    static const char *const names[] = {"state-etcd-ca", "state-etcd-name", "state-etcd-user", "state-etcd-password-file"};
    const char *values[] = {options->state_etcd_ca, options->state_etcd_name, options->state_etcd_user,
                            options->state_etcd_password_file};
    for (unsigned i = 0; i < array_count(names); i++)
        if (values[i] != NULL && options->state_etcd.count == 0)
            return error_invalid(error, names[i], values[i], "the option state-etcd beside it");
    if ((options->state_etcd_user == NULL) != (options->state_etcd_password_file == NULL))
        return error_invalid(error, "state-etcd-user", options->state_etcd_user == NULL ? "nothing" : options->state_etcd_user,
                             "state-etcd-user and state-etcd-password-file go together");
    return true;
}

static bool open_etcd(const struct daemon_options *options, struct reactor *reactor, struct store **ret_store,
                      struct error *error) {
    static const char *const names[] = {"state-etcd-certificate", "state-etcd-key", "state-etcd-ca"};
    const char *paths[] = {options->state_etcd_certificate, options->state_etcd_key, options->state_etcd_ca};
    char *texts[array_count(paths)] = {0}, *password = NULL;
    struct host_address endpoints[STORE_ETCD_ENDPOINTS_MAX];
    bool ok = options->state_etcd.count <= STORE_ETCD_ENDPOINTS_MAX ||
              error_invalid(error, "state-etcd", "more", "at most %d endpoints", STORE_ETCD_ENDPOINTS_MAX);
    for (unsigned i = 0; ok && i < options->state_etcd.count; i++)
        ok = place_parse("state-etcd", options->state_etcd.items[i], &endpoints[i], error);
    ok = ok && credentials_read(names, paths, texts, error);
    if (ok && options->state_etcd_password_file != NULL) {
        password = credentials_read_file("state-etcd-password-file", options->state_etcd_password_file, error);
        ok = password != NULL;
        if (ok)
            password[strcspn(password, "\r\n")] = '\0';
    }
    struct store_etcd_options etcd = {.store = {.reactor = reactor},
                                      .endpoints = endpoints,
                                      .endpoint_count = options->state_etcd.count,
                                      .certificate_pem = texts[0],
                                      .key_pem = texts[1],
                                      .ca_pem = texts[2],
                                      .peer_name = options->state_etcd_name,
                                      .user = options->state_etcd_user,
                                      .password = password};
    ok = ok && store_etcd_create(&etcd, ret_store, error);
    for (unsigned i = 0; i < array_count(texts); i++)
        credentials_forget(texts[i]);
    credentials_forget(password);
    return ok;
}

bool state_open(const struct daemon_options *options, struct reactor *reactor, const char *path, struct store **ret_store,
                struct error *error) {
    if (!check(options, error))
        return false;
    if (options->state_etcd.count > 0)
        return open_etcd(options, reactor, ret_store, error);
    *ret_store = store_sqlite_create(&(struct store_sqlite_options){.store = {.reactor = reactor}, .path = path});
    return *ret_store != NULL || error_set(error, ERROR_NO_MEMORY, "no memory for the state");
}
