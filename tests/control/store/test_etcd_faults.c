/* The state store in a real etcd that is killed, frozen, another one, behind TLS, or asks for a password. */
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api/proto/etcd/etcd.pb-c.h"
#include "contract.h"
#include "control/store/etcd/etcd.h"
#include "etcd_admin.pb-c.h"
#include "grpc/channel.h"
#include "members.h"
#include "tests/support/certificates.h"

/* What the next store is opened with. */
struct opening {
    struct host_address endpoints[2 * MEMBERS_MAX];
    unsigned endpoint_count;
    uint64_t cluster_id;
    const char *user, *password, *peer_name;
    const struct certificate *authority, *own;
};

static struct opening *opening;

static void *begin(void) { return opening; }

static struct store *open_given(void *kept, const struct store_options *options) {
    const struct opening *given = kept;
    struct store *store;
    struct error error;
    struct store_etcd_options etcd = {.store = *options,
                                      .endpoints = given->endpoints,
                                      .endpoint_count = given->endpoint_count,
                                      .cluster_id = given->cluster_id,
                                      .user = given->user,
                                      .password = given->password,
                                      .peer_name = given->peer_name};
    if (given->authority != NULL) {
        etcd.ca_pem = given->authority->certificate_pem;
        etcd.certificate_pem = given->own->certificate_pem;
        etcd.key_pem = given->own->key_pem;
    }
    return store_etcd_create(&etcd, &store, &error) ? store : NULL;
}

static const struct store_kind kind = {.name = "etcd", .begin = begin, .open = open_given, .shared = true};

static void add_endpoints(const struct members *members) {
    for (unsigned i = 0; i < members->count; i++)
        opening->endpoints[opening->endpoint_count++] = member_address(members, i);
}

static bool is_unreachable(void *arg) { return ((struct rig *)arg)->status.state == STORE_UNREACHABLE; }
static bool is_ready(void *arg) { return ((struct rig *)arg)->status.state == STORE_READY; }

static unsigned member_in_use(const struct rig *rig, const struct members *members) {
    for (unsigned i = 0; i < members->count; i++) {
        char port[16];
        snprintf(port, sizeof(port), ":%u", members->client_ports[i]);
        if (strstr(rig->status.where, port) != NULL)
            return i;
    }
    fail_msg("%s is none of ours", rig->status.where);
    return 0;
}

/* ---- members die ---- */

#define WRITERS 8
#define NUMBERS 480

/* Makes key after key, each once, as docs/state-store.md tells owners to. */
struct writer {
    struct store_request request;
    struct store_compare compare;
    struct store_op put;
    struct load *load;
    unsigned number;
    bool was_unknown;
};

struct load {
    struct rig *rig;
    struct writer writers[WRITERS];
    unsigned next, done, until, unknown, not_done, found;
    int64_t revisions[NUMBERS];
};

static void writer_next(struct writer *writer) {
    struct load *load = writer->load;
    char name[16];
    if (load->next == NUMBERS)
        return;
    writer->number = load->next++;
    writer->was_unknown = false;
    snprintf(name, sizeof(name), "n/%u", writer->number);
    const char *key = rig_key(load->rig, name);
    writer->compare = (struct store_compare){.key = key, .target = STORE_CREATE_REVISION, .relation = STORE_EQUAL};
    writer->put = (struct store_op){.kind = STORE_PUT, .key = key, .value = "x", .value_length = 1};
    store_submit(load->rig->store, &writer->request);
}

static void on_written(struct store_request *request) {
    struct writer *writer = request->arg;
    struct load *load = writer->load;
    if (request->outcome != STORE_DONE) {
        load->unknown += request->outcome == STORE_UNKNOWN;
        load->not_done += request->outcome == STORE_NOT_DONE;
        writer->was_unknown = writer->was_unknown || request->outcome == STORE_UNKNOWN;
        store_submit(load->rig->store, request);
        return;
    }
    /* The key is there already only if an answer was lost. */
    if (!request->succeeded && !writer->was_unknown)
        fail_msg("number %u was written twice", writer->number);
    load->found += !request->succeeded;
    load->revisions[writer->number] = request->succeeded ? request->now_revision : 0;
    load->done++;
    writer_next(writer);
    rig_poke(load->rig);
}

static bool has_come_far(void *arg) {
    const struct load *load = arg;
    return load->done >= load->until;
}

static void load_until(struct load *load, unsigned done) {
    load->until = done;
    rig_wait(load->rig, has_come_far, load);
}

static void a_killed_member_loses_and_doubles_nothing(void **state) {
    (void)state;
    struct members *members = members_start(3, NULL);
    static struct load load;
    struct watcher watcher;
    memset(opening, 0, sizeof(*opening));
    add_endpoints(members);
    struct rig *rig = load.rig = rig_create(&kind);
    watcher_start(&watcher, rig, "n/", true, rig_revision(rig) + 1);
    reactor_enter(rig->reactor);
    for (unsigned i = 0; i < WRITERS; i++) {
        struct writer *writer = &load.writers[i];
        writer->load = &load;
        writer->request = (struct store_request){.verb = STORE_TRANSACT,
                                                 .compares = &writer->compare,
                                                 .compare_count = 1,
                                                 .then_ops = &writer->put,
                                                 .then_count = 1,
                                                 .arg = writer,
                                                 .done = on_written};
        writer_next(writer);
    }
    reactor_enter(NULL);
    const char *budget = getenv("PENSTOCK_TEST_BUDGET");
    unsigned kills = budget != NULL && strcmp(budget, "long") == 0 ? 3 : 1;
    for (unsigned round = 0; round < kills; round++) {
        load_until(&load, 60 + round * 140);
        rig->status = *store_get_status(rig->store);
        unsigned victim = member_in_use(rig, members);
        member_kill(members, victim);
        load_until(&load, 120 + round * 140);
        member_start(members, victim);
    }
    load_until(&load, NUMBERS);
    watcher_await(&watcher, NUMBERS);
    struct answer *answer = rig_list(rig, "n/", 0);
    assert_int_equal(answer->results[0].count, NUMBERS);
    for (uint32_t i = 0; i < NUMBERS; i++) {
        const struct store_entry *entry = &answer->results[0].entries[i];
        int64_t told = load.revisions[atoi(entry->key + 2)];
        assert_int_equal(entry->create_revision, entry->modify_revision);
        if (told != 0)
            assert_int_equal(entry->create_revision, told);
    }
    answer_free(answer);
    printf("note: %u members in use killed, %u transactions, %u answers lost, %u of them effective, %u not done\n", kills,
           NUMBERS, load.unknown, load.found, load.not_done);
    watcher_stop(&watcher);
    rig_destroy(rig);
    members_stop(members);
}

/* ---- one member, away and back ---- */

struct holder {
    struct rig *rig;
    struct store_lease lease;
    bool granted, lost;
};

static void on_granted(struct store_lease *lease, const struct error *error) {
    struct holder *holder = lease->arg;
    assert_null(error);
    holder->granted = true;
    rig_poke(holder->rig);
}

static void on_lost(struct store_lease *lease) {
    struct holder *holder = lease->arg;
    holder->lost = true;
    rig_poke(holder->rig);
}

static bool is_granted(void *arg) { return ((struct holder *)arg)->granted; }
static bool is_lost(void *arg) { return ((struct holder *)arg)->lost; }

static struct answer *put_in_time(struct rig *rig, const char *name, int64_t lease, uint32_t timeout_ms) {
    struct store_op op = {.kind = STORE_PUT, .key = rig_key(rig, name), .value = "v", .value_length = 1, .lease = lease};
    return rig_ask(rig,
                   &(struct store_request){.verb = STORE_TRANSACT, .then_ops = &op, .then_count = 1, .timeout_ms = timeout_ms});
}

static void an_etcd_that_is_away_is_waited_for(void **state) {
    struct members *members = *state;
    struct rig *rig = rig_create(&kind);
    struct watcher watcher;
    int64_t revision = rig_put(rig, "a", "1");
    watcher_start(&watcher, rig, "", true, revision);
    watcher_await(&watcher, 1);
    member_kill(members, 0);
    rig_wait(rig, is_unreachable, rig);
    assert_true(rig->status.error.code == ERROR_IO);
    struct answer *answer = put_in_time(rig, "b", 0, 500);
    assert_int_equal(answer->outcome, STORE_NOT_DONE);
    assert_int_equal(answer->error.code, ERROR_TIMED_OUT);
    answer_free(answer);
    member_start(members, 0);
    rig_wait(rig, is_ready, rig);
    assert_value(rig, "a", "1");
    assert_value(rig, "b", NULL);
    rig_put(rig, "a", "2");
    watcher_await(&watcher, 2); /* neither gap nor repetition */
    watcher_stop(&watcher);
    rig_destroy(rig);
}

/* False: the machine was slower than the lease, which shows nothing. */
static bool lose_a_lease(struct members *members, uint32_t ttl_s) {
    struct rig *rig = rig_create(&kind);
    struct holder holder = {.rig = rig};
    struct watcher watcher;
    holder.lease = (struct store_lease){.ttl_s = ttl_s, .arg = &holder, .granted = on_granted, .lost = on_lost};
    reactor_enter(rig->reactor);
    store_lease_grant(rig->store, &holder.lease);
    reactor_enter(NULL);
    rig_wait(rig, is_granted, &holder);
    struct answer *answer = put_in_time(rig, "a", holder.lease.id, 0);
    bool in_time = answer->outcome == STORE_DONE;
    watcher_start(&watcher, rig, "", true, answer->revision + 1);
    answer_free(answer);
    rig_pause(rig, ttl_s * 1250 * NS_PER_MS); /* longer than its time: it is renewed */
    if (in_time && !holder.lost && watcher.events == 0) {
        member_freeze(members, 0, true);
        rig_wait(rig, is_lost, &holder);
        /* Meanwhile a transaction that was sent has no answer. */
        answer = put_in_time(rig, "b", 0, 300);
        assert_int_not_equal(answer->outcome, STORE_DONE);
        answer_free(answer);
        assert_null(strstr(watcher.text, "-a@")); /* it cannot have told us */
        member_freeze(members, 0, false);
        watcher_await_gone(&watcher, "a");
        assert_value(rig, "a", NULL);
    } else {
        in_time = false;
    }
    watcher_stop(&watcher);
    rig_destroy(rig);
    return in_time;
}

static void a_lease_is_lost_before_it_runs_out(void **state) {
    uint32_t ttl_s = 2;
    while (!lose_a_lease(*state, ttl_s)) {
        ttl_s *= 2;
        assert_in_range(ttl_s, 2, 16);
    }
}

static void another_cluster_is_not_touched(void **state) {
    struct members *members = *state, *other = members_start(1, NULL);
    struct rig *rig = rig_create(&kind);
    uint64_t cluster = store_get_status(rig->store)->identity;
    assert_true(cluster != 0);
    rig_put(rig, "a", "1");
    rig_destroy(rig);
    /* The other one first: passed over. */
    opening->endpoint_count = 0;
    opening->cluster_id = cluster;
    add_endpoints(other);
    add_endpoints(members);
    rig = rig_create(&kind);
    rig_put(rig, "a", "2");
    assert_int_equal(store_get_status(rig->store)->identity, cluster);
    rig_destroy(rig);
    /* The other one in its place: refused. */
    opening->endpoint_count = 1;
    opening->cluster_id = 0;
    struct rig *stranger = rig_create(&kind);
    int64_t before = rig_revision(stranger);
    rig_close(stranger);
    opening->cluster_id = cluster;
    rig_begin_open(stranger);
    rig_wait(stranger, is_unreachable, stranger);
    assert_int_equal(stranger->status.error.code, ERROR_FOREIGN);
    struct answer *answer = put_in_time(stranger, "a", 0, 300);
    assert_int_equal(answer->outcome, STORE_NOT_DONE);
    answer_free(answer);
    rig_close(stranger);
    opening->cluster_id = 0;
    rig_open(stranger);
    assert_int_equal(rig_revision(stranger), before);
    rig_destroy(stranger);
    members_stop(other);
    opening->endpoint_count = 0;
    add_endpoints(members);
}

/* ---- TLS ---- */

static struct certificate authority, server, client, stranger_authority, stranger;

static void write_text(const char *folder, const char *name, const char *text) {
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void write_certificates(const char *folder) {
    write_text(folder, "ca.pem", authority.certificate_pem);
    write_text(folder, "server.pem", server.certificate_pem);
    write_text(folder, "server-key.pem", server.key_pem);
}

static void only_who_is_certified_is_spoken_to(void **state) {
    (void)state;
    int64_t from = 1577836800, until = 4102444800; /* 2020 … 2100 */
    certificate_make(&authority, "authority", NULL, from, until);
    certificate_make(&server, "etcd.test", &authority, from, until);
    certificate_make(&client, "penstock", &authority, from, until);
    certificate_make(&stranger_authority, "other", NULL, from, until);
    certificate_make(&stranger, "penstock", &stranger_authority, from, until);
    struct members *members = members_start(1, write_certificates);
    memset(opening, 0, sizeof(*opening));
    add_endpoints(members);
    opening->authority = &authority;
    opening->own = &client;
    opening->peer_name = "etcd.test";
    struct rig *rig = rig_create(&kind);
    rig_put(rig, "a", "1");
    assert_value(rig, "a", "1");
    rig_close(rig);
    const struct {
        const struct certificate *authority, *own;
        const char *peer_name;
    } wrong[] = {{&authority, &client, "other.test"},
                 {&authority, &client, NULL}, /* the address, which its certificate does not hold */
                 {&authority, &stranger, "etcd.test"},
                 {&stranger_authority, &stranger, "etcd.test"},
                 {NULL, NULL, NULL}};
    for (unsigned i = 0; i < 5; i++) {
        opening->authority = wrong[i].authority;
        opening->own = wrong[i].own;
        opening->peer_name = wrong[i].peer_name;
        rig_begin_open(rig);
        rig_wait(rig, is_unreachable, rig);
        struct answer *answer = put_in_time(rig, "a", 0, 200);
        assert_int_equal(answer->outcome, STORE_NOT_DONE);
        answer_free(answer);
        rig_close(rig);
    }
    rig_destroy(rig);
    members_stop(members);
    certificate_free(&authority);
    certificate_free(&server);
    certificate_free(&client);
    certificate_free(&stranger_authority);
    certificate_free(&stranger);
}

/* ---- users ---- */

struct admin {
    struct grpc_channel_call call;
    struct rig *rig;
    bool done;
    enum grpc_status status;
};

static void on_admin(struct grpc_call *call) {
    struct admin *admin = call->arg;
    admin->done = true;
    admin->status = call->status;
    if (call->status != GRPC_OK)
        print_message("%s\n", call->text);
    rig_poke(admin->rig);
}

static void on_admin_message(struct grpc_call *call, const ProtobufCMessage *got) {
    (void)call;
    (void)got;
}

static bool admin_is_done(void *arg) { return ((struct admin *)arg)->done; }

static void administer(struct rig *rig, struct grpc_channel *channel, const char *path, const ProtobufCMessage *message) {
    struct admin admin = {.rig = rig};
    reactor_enter(rig->reactor);
    grpc_channel_prepare(channel, &admin.call, GRPC_UNARY, path, &etcdserverpb__admin_response__descriptor, RIG_TIMEOUT_MS);
    admin.call.call.arg = &admin;
    admin.call.call.message = on_admin_message;
    admin.call.call.done = on_admin;
    (void)grpc_call_send(&admin.call.call, message);
    grpc_channel_start(channel, &admin.call);
    reactor_enter(NULL);
    rig_wait(rig, admin_is_done, &admin);
    assert_int_equal(admin.status, GRPC_OK);
}

#define WORD(text) ((char *)(uintptr_t)(text))

/* root may all; penstock may all below "/p/". */
static void enable_users(struct rig *rig, const struct members *members) {
    struct grpc_channel_options options = {.reactor = rig->reactor, .address = member_address(members, 0)};
    struct grpc_channel *channel = grpc_channel_create(&options);
    Etcdserverpb__AuthUserAddRequest user = ETCDSERVERPB__AUTH_USER_ADD_REQUEST__INIT;
    Etcdserverpb__AuthRoleAddRequest role = ETCDSERVERPB__AUTH_ROLE_ADD_REQUEST__INIT;
    Etcdserverpb__AuthUserGrantRoleRequest grant = ETCDSERVERPB__AUTH_USER_GRANT_ROLE_REQUEST__INIT;
    Etcdserverpb__AuthRoleGrantPermissionRequest allow = ETCDSERVERPB__AUTH_ROLE_GRANT_PERMISSION_REQUEST__INIT;
    Etcdserverpb__Permission permission = ETCDSERVERPB__PERMISSION__INIT;
    Etcdserverpb__AuthEnableRequest enable = ETCDSERVERPB__AUTH_ENABLE_REQUEST__INIT;
    static const char *const users[] = {"root", "penstock"};
    for (unsigned i = 0; i < 2; i++) {
        user.name = role.name = grant.user = grant.role = WORD(users[i]);
        user.password = WORD("secret");
        administer(rig, channel, "/etcdserverpb.Auth/UserAdd", &user.base);
        administer(rig, channel, "/etcdserverpb.Auth/RoleAdd", &role.base);
        administer(rig, channel, "/etcdserverpb.Auth/UserGrantRole", &grant.base);
    }
    permission.perm_type = 2; /* read and write */
    permission.key = (ProtobufCBinaryData){.len = 3, .data = (uint8_t *)WORD("/p/")};
    permission.range_end = (ProtobufCBinaryData){.len = 3, .data = (uint8_t *)WORD("/p0")};
    allow.name = WORD("penstock");
    allow.perm = &permission;
    administer(rig, channel, "/etcdserverpb.Auth/RoleGrantPermission", &allow.base);
    administer(rig, channel, "/etcdserverpb.Auth/AuthEnable", &enable.base);
    reactor_enter(rig->reactor);
    grpc_channel_destroy(channel);
    reactor_enter(NULL);
}

static void a_user_may_what_his_role_may(void **state) {
    struct members *members = *state;
    struct rig *rig = rig_create(&kind);
    struct watcher allowed, forbidden;
    enable_users(rig, members);
    /* Without a user, who was served before is refused. */
    struct answer *answer = put_in_time(rig, "a", 0, 0);
    assert_int_equal(answer->outcome, STORE_NOT_DONE);
    assert_int_equal(answer->error.code, ERROR_PERMISSION);
    answer_free(answer);
    rig_close(rig);
    opening->user = "penstock";
    opening->password = "wrong";
    rig_begin_open(rig);
    rig_wait(rig, is_unreachable, rig);
    assert_int_equal(rig->status.error.code, ERROR_PERMISSION);
    rig_close(rig);
    opening->password = "secret";
    rig_open(rig);
    snprintf(rig->root, sizeof(rig->root), "/p/");
    int64_t revision = rig_put(rig, "a", "1");
    watcher_start(&allowed, rig, "", true, revision);
    watcher_await(&allowed, 1);
    snprintf(rig->root, sizeof(rig->root), "/q/");
    answer = put_in_time(rig, "a", 0, 0);
    assert_int_equal(answer->outcome, STORE_NOT_DONE);
    assert_int_equal(answer->error.code, ERROR_PERMISSION);
    answer_free(answer);
    watcher_start(&forbidden, rig, "", true, revision);
    watcher_await_end(&forbidden);
    assert_int_equal(forbidden.error.code, ERROR_PERMISSION);
    watcher_stop(&forbidden);
    /* Started anew, etcd knows its tokens no more. */
    snprintf(rig->root, sizeof(rig->root), "/p/");
    member_kill(members, 0);
    member_start(members, 0);
    rig_put(rig, "a", "2");
    assert_value(rig, "a", "2");
    watcher_await(&allowed, 2);
    watcher_stop(&allowed);
    rig_destroy(rig);
}

static int one_member(void **state) {
    struct members *members = members_start(1, NULL);
    memset(opening, 0, sizeof(*opening));
    add_endpoints(members);
    *state = members;
    return 0;
}

static int no_member(void **state) {
    members_stop(*state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_killed_member_loses_and_doubles_nothing),
        cmocka_unit_test_setup_teardown(an_etcd_that_is_away_is_waited_for, one_member, no_member),
        cmocka_unit_test_setup_teardown(a_lease_is_lost_before_it_runs_out, one_member, no_member),
        cmocka_unit_test_setup_teardown(another_cluster_is_not_touched, one_member, no_member),
        cmocka_unit_test(only_who_is_certified_is_spoken_to),
        cmocka_unit_test_setup_teardown(a_user_may_what_his_role_may, one_member, no_member),
    };
    static struct opening given;
    opening = &given;
    if (!members_possible()) {
        printf("no etcd here (Debian: etcd-server)\n");
        return 77;
    }
    return cmocka_run_group_tests_name("etcd: faults", tests, NULL, NULL);
}
