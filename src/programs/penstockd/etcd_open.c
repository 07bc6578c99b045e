#include "programs/penstockd/etcd_open.h"

#include <stdio.h>

#include "control/store/etcd/etcd.h"
#include "programs/penstockd/credentials.h"
#include "programs/penstockd/place.h"

enum { NAME_SIZE = 48 };

static const char *option_of(const char *group, const char *rest, char to[NAME_SIZE]) {
    snprintf(to, NAME_SIZE, "%s-%s", group, rest);
    return to;
}

/* Of a setting that has no meaning without another. */
static bool check(const char *group, const struct daemon_etcd *etcd, struct error *error) {
    static const char *const names[] = {"ca", "certificate", "key", "name", "user", "password-file"};
    const char *values[] = {etcd->ca, etcd->certificate, etcd->key, etcd->name, etcd->user, etcd->password_file};
    char option[NAME_SIZE];
    for (unsigned i = 0; i < array_count(names); i++)
        if (values[i] != NULL && etcd->endpoints.count == 0)
            return error_invalid(error, option_of(group, names[i], option), values[i], "the option %s beside it", group);
    if ((etcd->user == NULL) != (etcd->password_file == NULL))
        return error_invalid(error, option_of(group, "user", option), etcd->user == NULL ? "nothing" : etcd->user,
                             "%s-user and %s-password-file go together", group, group);
    return etcd->endpoints.count <= STORE_ETCD_ENDPOINTS_MAX ||
           error_invalid(error, group, etcd->endpoints.items[STORE_ETCD_ENDPOINTS_MAX], "at most %d of them",
                         STORE_ETCD_ENDPOINTS_MAX);
}

static bool read_password(const char *group, const struct daemon_etcd *etcd, char **ret_password, struct error *error) {
    char option[NAME_SIZE];
    if (etcd->password_file == NULL)
        return true;
    char *password = credentials_read_file(option_of(group, "password-file", option), etcd->password_file, error);
    if (password != NULL)
        password[strcspn(password, "\r\n")] = '\0';
    *ret_password = password;
    return password != NULL;
}

bool etcd_open(const char *group, const struct daemon_etcd *etcd, const struct store_options *store, struct store **ret_store,
               struct error *error) {
    char certificate[NAME_SIZE], key[NAME_SIZE], ca[NAME_SIZE];
    const char *const names[] = {option_of(group, "certificate", certificate), option_of(group, "key", key),
                                 option_of(group, "ca", ca)};
    const char *const paths[] = {etcd->certificate, etcd->key, etcd->ca};
    char *texts[array_count(paths)] = {0}, *password = NULL;
    struct host_address endpoints[STORE_ETCD_ENDPOINTS_MAX];
    *ret_store = NULL;
    if (!check(group, etcd, error))
        return false;
    if (etcd->endpoints.count == 0)
        return true;
    bool ok = true;
    for (unsigned i = 0; ok && i < etcd->endpoints.count; i++)
        ok = place_parse(group, etcd->endpoints.items[i], &endpoints[i], error);
    ok = ok && credentials_read(names, paths, texts, error) && read_password(group, etcd, &password, error);
    struct store_etcd_options options = {.store = *store,
                                         .endpoints = endpoints,
                                         .endpoint_count = etcd->endpoints.count,
                                         .certificate_pem = texts[0],
                                         .key_pem = texts[1],
                                         .ca_pem = texts[2],
                                         .peer_name = etcd->name,
                                         .user = etcd->user,
                                         .password = password};
    ok = ok && store_etcd_create(&options, ret_store, error);
    if (!ok)
        *ret_store = NULL;
    for (unsigned i = 0; i < array_count(texts); i++)
        credentials_forget(texts[i]);
    credentials_forget(password);
    return ok;
}
