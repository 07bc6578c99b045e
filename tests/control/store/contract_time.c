/* Leases: the cases of the contract in which time passes. */
#include "contract.h"

/* Leases are of real time: a machine that stands still for longer than one lasts loses it, rightly. Then the attempt shows
   nothing, and the next one has twice the time. */
#define HELD_S 2
#define HELD_MAX_S 16

struct holder {
    struct rig *rig;
    struct store_lease lease;
    unsigned granted, lost;
    struct error error;
};

static void on_granted(struct store_lease *lease, const struct error *error) {
    struct holder *holder = lease->arg;
    holder->granted++;
    if (error != NULL) {
        holder->error = *error;
        assert_null(lease->store);
    } else {
        assert_true(lease->id > 0 && lease->ttl_s >= HELD_S);
    }
    rig_poke(holder->rig);
}

static void on_lost(struct store_lease *lease) {
    struct holder *holder = lease->arg;
    holder->lost++;
    assert_null(lease->store);
    rig_poke(holder->rig);
}

static bool is_granted(void *arg) { return ((struct holder *)arg)->granted > 0; }

static void begin_grant(struct holder *holder, struct rig *rig, uint32_t ttl_s) {
    *holder = (struct holder){.rig = rig};
    holder->lease = (struct store_lease){.ttl_s = ttl_s, .arg = holder, .granted = on_granted, .lost = on_lost};
    reactor_enter(rig->reactor);
    store_lease_grant(rig->store, &holder->lease);
    reactor_enter(NULL);
}

static void grant(struct holder *holder, struct rig *rig, uint32_t ttl_s) {
    begin_grant(holder, rig, ttl_s);
    rig_wait(rig, is_granted, holder);
    if (holder->error.code != ERROR_NONE)
        fail_msg("%s", holder->error.text);
}

static void let_go(struct holder *holder, bool revoke) {
    reactor_enter(holder->rig->reactor);
    store_lease_end(&holder->lease, revoke);
    reactor_enter(NULL);
}

/* 0: there is no such lease (any more). */
static int64_t put_with(struct rig *rig, const char *name, int64_t lease) {
    struct store_op op = {.kind = STORE_PUT, .key = rig_key(rig, name), .value = "v", .value_length = 1, .lease = lease};
    struct answer *answer = rig_ask(rig, &(struct store_request){.verb = STORE_TRANSACT, .then_ops = &op, .then_count = 1});
    int64_t revision = answer->outcome == STORE_DONE ? answer->revision : 0;
    if (revision == 0 && answer->error.code != ERROR_NOT_FOUND)
        fail_msg("%s", answer->error.text);
    answer_free(answer);
    return revision;
}

static bool has_value(struct rig *rig, const char *name) {
    char *value = rig_get(rig, name);
    free(value);
    return value != NULL;
}

static void a_revoked_lease_takes_its_keys(void **state) {
    struct rig *rig = *state;
    struct holder holder;
    struct watcher watcher;
    grant(&holder, rig, 60);
    int64_t first = put_with(rig, "l/1", holder.lease.id);
    put_with(rig, "l/2", holder.lease.id);
    put_with(rig, "l/freed", holder.lease.id);
    struct answer *answer = rig_list(rig, "l/1", 0);
    assert_int_equal(answer->results[0].entries[0].lease, holder.lease.id);
    answer_free(answer);
    rig_put(rig, "l/freed", "now without");
    int64_t last = rig_put(rig, "l/other", "");
    watcher_start(&watcher, rig, "l/", true, first);
    watcher_await(&watcher, 5);
    let_go(&holder, true);
    watcher_await(&watcher, 7);
    assert_int_equal(watcher.last_revision, last + 1); /* both in one */
    assert_value(rig, "l/1", NULL);
    assert_value(rig, "l/2", NULL);
    assert_value(rig, "l/freed", "now without");
    assert_int_equal(holder.lost, 0);
    watcher_stop(&watcher);
}

/* False: the machine was slower than the leases. */
static bool hold_one_and_leave_one(struct rig *rig, uint32_t ttl_s) {
    struct holder held, left;
    struct watcher watcher;
    grant(&held, rig, ttl_s);
    grant(&left, rig, ttl_s);
    int64_t first = put_with(rig, "held", held.lease.id), revision = put_with(rig, "left", left.lease.id);
    unsigned left_lost = left.lost;
    let_go(&left, false);
    bool in_time = first != 0 && revision != 0 && left_lost == 0 && has_value(rig, "left");
    if (in_time) {
        watcher_start(&watcher, rig, "", true, revision + 1);
        watcher_await_gone(&watcher, "left");
        assert_value(rig, "left", NULL);
        in_time = has_value(rig, "held") && held.lost == 0;
        assert_int_equal(left.lost, 0);
        watcher_stop(&watcher);
    }
    let_go(&held, true);
    return in_time;
}

static void a_lease_holds_while_it_is_held_and_not_longer(void **state) {
    uint32_t ttl_s = HELD_S;
    while (!hold_one_and_leave_one(*state, ttl_s)) {
        ttl_s *= 2;
        assert_in_range(ttl_s, HELD_S, HELD_MAX_S);
    }
}

static void a_lease_that_cannot_be_is_refused(void **state) {
    struct rig *rig = *state;
    struct holder holder;
    static const uint32_t times[] = {0, STORE_TTL_MIN_S - 1, STORE_TTL_MAX_S + 1};
    for (unsigned i = 0; i < 3; i++) {
        begin_grant(&holder, rig, times[i]);
        assert_int_equal(holder.granted, 0);
        rig_wait(rig, is_granted, &holder);
        assert_int_equal(holder.error.code, ERROR_INVALID);
    }
    static struct holder many[STORE_LEASES_MAX + 1];
    for (unsigned i = 0; i <= STORE_LEASES_MAX; i++)
        begin_grant(&many[i], rig, 60);
    for (unsigned i = 0; i <= STORE_LEASES_MAX; i++) {
        rig_wait(rig, is_granted, &many[i]);
        assert_int_equal(many[i].error.code, i < STORE_LEASES_MAX ? ERROR_NONE : ERROR_NO_MEMORY);
    }
    for (unsigned i = 0; i < STORE_LEASES_MAX; i++)
        let_go(&many[i], true);
    begin_grant(&holder, rig, 60); /* let go before it was granted */
    let_go(&holder, true);
    grant(&many[0], rig, 60);
    assert_int_equal(holder.granted + holder.lost, 0);
    let_go(&many[0], true);
}

static bool outlive(struct rig *rig, uint32_t ttl_s) {
    struct holder holder;
    struct watcher watcher;
    grant(&holder, rig, ttl_s);
    int64_t revision = put_with(rig, "a", holder.lease.id);
    unsigned lost = holder.lost;
    rig_close(rig);
    assert_null(holder.lease.store);
    rig_open(rig);
    if (revision == 0 || lost != 0 || !has_value(rig, "a"))
        return false;
    watcher_start(&watcher, rig, "", true, revision + 1);
    watcher_await_gone(&watcher, "a");
    assert_value(rig, "a", NULL);
    assert_int_equal(holder.lost, 0);
    watcher_stop(&watcher);
    return true;
}

static void a_lease_outlives_its_holder_by_its_time(void **state) {
    struct rig *rig = *state;
    uint32_t ttl_s = HELD_S;
    if (!rig->kind->endures)
        return;
    while (!outlive(rig, ttl_s)) {
        ttl_s *= 2;
        assert_in_range(ttl_s, HELD_S, HELD_MAX_S);
    }
}

static int set_up(void **state) {
    *state = rig_create(*(const struct store_kind **)state);
    return 0;
}

static int tear_down(void **state) {
    rig_destroy(*state);
    return 0;
}

int contract_run_time(const struct store_kind *kind) {
#define CASE(name)                                                                                                               \
    { #name, name, set_up, tear_down, (void *)(uintptr_t)kind }
    const struct CMUnitTest tests[] = {
        CASE(a_revoked_lease_takes_its_keys),
        CASE(a_lease_holds_while_it_is_held_and_not_longer),
        CASE(a_lease_that_cannot_be_is_refused),
        CASE(a_lease_outlives_its_holder_by_its_time),
    };
    return cmocka_run_group_tests_name(kind->name, tests, NULL, NULL);
}
