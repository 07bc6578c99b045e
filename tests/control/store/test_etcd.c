/* The state store in a real etcd: the contract, whose oracle it is. */
#include <unistd.h>

#include "contract.h"
#include "control/store/etcd/etcd.h"
#include "members.h"

static struct members *members;

static void *begin(void) { return members; }

static struct store *open_plain(void *kept, const struct store_options *options) {
    const struct members *them = kept;
    struct host_address endpoints[MEMBERS_MAX];
    struct store *store;
    struct error error;
    for (unsigned i = 0; i < them->count; i++)
        endpoints[i] = member_address(them, i);
    struct store_etcd_options etcd = {.store = *options, .endpoints = endpoints, .endpoint_count = them->count};
    return store_etcd_create(&etcd, &store, &error) ? store : NULL;
}

static const struct store_kind plain = {.name = "etcd", .begin = begin, .open = open_plain, .shared = true, .endures = true};

int main(void) {
    if (!members_possible()) {
        printf("no etcd here (Debian: etcd-server)\n");
        return 77;
    }
    members = members_start(1, NULL);
    int failures = contract_run(&plain) + contract_run_time(&plain);
    failures += model_run(&plain, 1, 3, 300);
    members_stop(members);
    return failures;
}
