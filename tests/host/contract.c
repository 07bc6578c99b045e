/* Cases of the contract of host/host.h. Each runs alone on a fresh host. What a case checks is what users of host.h may rely on,
 * nothing more: no case knows which implementation it runs on. */
#include "contract.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/random.h"

/* ---- time, random, loops, jobs ---- */

static void clocks_go_forward(void **state) {
    struct fixture *fixture = *state;
    struct host *host = fixture->host;
    uint64_t now = host_now_ns(host), ticks = host_ticks(host), wall = host_wall_ns(host);
    assert_true(host->ticks_per_second > 0 && now > 0);
    assert_true(host_now_ns(host) >= now && host_ticks(host) >= ticks);
    assert_true(wall > UINT64_C(1700000000) * NS_PER_S);
    uint64_t random[4] = {0};
    host_random(host, random, sizeof(random));
    assert_true(random[0] != random[1] || random[2] != random[3]);
}

static void set_deadline(struct actor *actor, void *arg) {
    actor->deadline_ns = host_now_ns(actor->fixture->host) + *(uint64_t *)arg;
}

struct counted {
    struct actor *actor;
    uint64_t turns;
};

static bool has_turned(void *arg) {
    struct counted *counted = arg;
    return atomic_load(&counted->actor->turns) >= counted->turns;
}

static void a_loop_turns_at_its_deadline_and_when_woken(void **state) {
    struct actor actor;
    actor_init(&actor, *state);
    uint64_t in_ns = 2 * NS_PER_MS, before = host_now_ns(actor.fixture->host);
    actor_do(&actor, set_deadline, &in_ns);
    struct counted counted = {&actor, atomic_load(&actor.turns) + 3};
    actor_wait(&actor, has_turned, &counted, "turns at a deadline");
    assert_true(host_now_ns(actor.fixture->host) - before >= in_ns);
    in_ns = 3600 * NS_PER_S;
    actor_do(&actor, set_deadline, &in_ns);
    for (int i = 0; i < 50; i++) {
        counted.turns = atomic_load(&actor.turns) + 1;
        host_loop_wake(actor.loop);
        actor_wait(&actor, has_turned, &counted, "a turn after a wake");
    }
    struct host_loop_stats stats;
    host_loop_stats(actor.loop, &stats);
    assert_true(stats.turns >= 50);
    actor_fini(&actor);
}

static void a_processor_that_is_absent_is_an_error(void **state) {
    struct fixture *fixture = *state;
    struct host_loop *loop = NULL;
    struct host_loop_options options = {.name = "absent", .cpu = 1 << 20};
    assert_int_equal(host_loop_create(fixture->host, &options, &loop), -EINVAL);
    assert_null(loop);
}

struct jobs {
    _Atomic unsigned ran, done;
};

struct counted_job {
    struct host_job job;
    struct jobs *of;
};

static void counted_run(struct host_job *job) { atomic_fetch_add(&container_of(job, struct counted_job, job)->of->ran, 1); }
static void counted_done(struct host_job *job) {
    struct jobs *of = container_of(job, struct counted_job, job)->of;
    assert(atomic_load(&of->done) < atomic_load(&of->ran));
    atomic_fetch_add(&of->done, 1);
}

static void submit_jobs(struct actor *actor, void *arg) {
    struct counted_job *list = arg;
    for (int i = 0; i < 20; i++)
        host_job_submit(actor->loop, &list[i].job);
    assert(atomic_load(&list[0].of->done) == 0);
}

static bool all_jobs_done(void *arg) { return atomic_load(&((struct jobs *)arg)->done) == 20; }

static void jobs_run_then_tell_their_loop(void **state) {
    struct actor actor;
    actor_init(&actor, *state);
    struct jobs jobs = {0};
    struct counted_job list[20];
    for (int i = 0; i < 20; i++)
        list[i] = (struct counted_job){.job = {.run = counted_run, .done = counted_done}, .of = &jobs};
    actor_do(&actor, submit_jobs, list);
    actor_wait(&actor, all_jobs_done, &jobs, "20 jobs");
    assert_int_equal(atomic_load(&jobs.ran), 20);
    actor_fini(&actor);
}

/* ---- files ---- */

#define FILE_SIZE (256 * 1024)

static void *aligned(size_t length) {
    void *memory = aligned_alloc(4096, length);
    assert_non_null(memory);
    return memory;
}

static void close_call(struct actor *actor, void *arg) {
    (void)actor;
    host_file_close(arg);
}

static void close_file(struct actor *actor, struct host_file *file) { actor_do(actor, close_call, file); }

static void an_absent_file_is_not_found(void **state) {
    struct actor actor;
    actor_init(&actor, *state);
    struct host_file_open open;
    assert_null(actor_open(&actor, "absent", (struct host_file_options){0}, &open));
    assert_int_equal(open.error.code, ERROR_NOT_FOUND);
    assert_non_null(strstr(open.error.text, "absent"));
    actor_fini(&actor);
}

static void what_is_written_is_read(void **state) {
    for (int direct = 0; direct < 2; direct++) {
        struct actor actor;
        actor_init(&actor, *state);
        struct host_file_open open;
        struct host_file *file =
            actor_open(&actor, direct ? "direct" : "buffered",
                       (struct host_file_options){.create = true, .create_size = FILE_SIZE, .direct = direct != 0}, &open);
        assert_true(open.ok);
        assert_int_equal(open.facts.size, FILE_SIZE);
        assert_true(is_power_of_two(open.facts.logical_block) && open.facts.logical_block <= 4096);
        assert_true(open.facts.physical_block >= 512 && open.facts.memory_alignment <= 4096);
        assert_false(open.facts.block_device);
        if (!direct)
            assert_int_equal(open.facts.logical_block, 1);
        uint8_t *to = aligned(FILE_SIZE), *from = aligned(FILE_SIZE);
        memset(to, 1, FILE_SIZE);
        assert_int_equal(actor_io(&actor, file, HOST_FILE_READ, to, 0, FILE_SIZE), FILE_SIZE);
        for (size_t i = 0; i < FILE_SIZE; i++)
            assert_int_equal(to[i], 0);
        struct random random;
        random_init(&random, 7);
        random_fill(&random, from, FILE_SIZE);
        assert_int_equal(actor_io(&actor, file, HOST_FILE_WRITE, from, 8192, 65536), 65536);
        assert_int_equal(actor_io(&actor, file, HOST_FILE_SYNC, NULL, 0, 0), 0);
        assert_int_equal(actor_io(&actor, file, HOST_FILE_READ, to, 4096, 73728), 73728);
        for (size_t i = 0; i < 73728; i++)
            assert_int_equal(to[i], i >= 4096 && i < 4096 + 65536 ? from[i - 4096] : 0);
        /* what was written is there for another opening */
        close_file(&actor, file);
        file = actor_open(&actor, direct ? "direct" : "buffered", (struct host_file_options){.read_only = true}, &open);
        assert_true(open.ok);
        assert_int_equal(open.facts.size, FILE_SIZE);
        assert_int_equal(actor_io(&actor, file, HOST_FILE_READ, to, 8192, 65536), 65536);
        assert_memory_equal(to, from, 65536);
        assert_true(actor_io(&actor, file, HOST_FILE_WRITE, from, 0, 4096) < 0);
        close_file(&actor, file);
        free(to);
        free(from);
        actor_fini(&actor);
    }
}

static void a_file_ends_where_it_ends(void **state) {
    struct actor actor;
    actor_init(&actor, *state);
    struct host_file *file =
        actor_open(&actor, "end", (struct host_file_options){.create = true, .create_size = FILE_SIZE}, NULL);
    uint8_t *data = aligned(8192);
    memset(data, 0x5a, 8192);
    assert_int_equal(actor_io(&actor, file, HOST_FILE_READ, data, FILE_SIZE - 4096, 8192), 4096);
    assert_int_equal(actor_io(&actor, file, HOST_FILE_READ, data, FILE_SIZE, 4096), 0);
    assert_int_equal(actor_io(&actor, file, HOST_FILE_READ, data, FILE_SIZE * 2, 4096), 0);
    assert_int_equal(actor_io(&actor, file, HOST_FILE_WRITE, data, FILE_SIZE + 4096, 4096), 4096);
    uint64_t size = 0;
    assert_int_equal(host_file_size(file, &size), 0);
    assert_int_equal(size, FILE_SIZE + 8192);
    close_file(&actor, file);
    free(data);
    actor_fini(&actor);
}

struct truncating {
    struct host_job job;
    struct host_file *file;
    uint64_t bytes;
    int result;
    _Atomic bool done;
};

static void truncate_run(struct host_job *job) {
    struct truncating *truncating = container_of(job, struct truncating, job);
    truncating->result = host_file_truncate(truncating->file, truncating->bytes);
}
static void truncate_done(struct host_job *job) { atomic_store(&container_of(job, struct truncating, job)->done, true); }
static void truncate_submit(struct actor *actor, void *arg) { host_job_submit(actor->loop, &((struct truncating *)arg)->job); }
static bool truncate_is_done(void *arg) { return atomic_load(&((struct truncating *)arg)->done); }

static int truncate_to(struct actor *actor, struct host_file *file, uint64_t bytes) {
    struct truncating truncating = {.job = {.run = truncate_run, .done = truncate_done}, .file = file, .bytes = bytes};
    actor_do(actor, truncate_submit, &truncating);
    actor_wait(actor, truncate_is_done, &truncating, "a truncation");
    return truncating.result;
}

static void truncation_cuts_and_grows_with_zeros(void **state) {
    struct actor actor;
    actor_init(&actor, *state);
    struct host_file *file =
        actor_open(&actor, "cut", (struct host_file_options){.create = true, .create_size = FILE_SIZE}, NULL);
    uint8_t *data = aligned(16384);
    memset(data, 0x77, 16384);
    assert_int_equal(actor_io(&actor, file, HOST_FILE_WRITE, data, 0, 16384), 16384);
    assert_int_equal(truncate_to(&actor, file, 6000), 0);
    uint64_t size = 0;
    assert_int_equal(host_file_size(file, &size), 0);
    assert_int_equal(size, 6000);
    assert_int_equal(actor_io(&actor, file, HOST_FILE_READ, data, 0, 16384), 6000);
    assert_int_equal(truncate_to(&actor, file, 16384), 0);
    assert_int_equal(actor_io(&actor, file, HOST_FILE_READ, data, 0, 16384), 16384);
    for (size_t i = 0; i < 16384; i++)
        assert_int_equal(data[i], i < 6000 ? 0x77 : 0);
    close_file(&actor, file);
    free(data);
    actor_fini(&actor);
}

static void punched_and_zeroed_ranges_read_as_zero(void **state) {
    struct actor actor;
    actor_init(&actor, *state);
    struct host_file_open open;
    struct host_file *file =
        actor_open(&actor, "holes", (struct host_file_options){.create = true, .create_size = FILE_SIZE}, &open);
    uint8_t *data = aligned(65536);
    const enum host_file_op ops[] = {HOST_FILE_PUNCH, HOST_FILE_ZERO};
    for (int i = 0; i < 2; i++) {
        memset(data, 0x33, 65536);
        assert_int_equal(actor_io(&actor, file, HOST_FILE_WRITE, data, 0, 65536), 65536);
        bool can = i == 0 ? open.facts.can_punch : open.facts.can_zero;
        int64_t result = actor_io(&actor, file, ops[i], NULL, 4096, 32768);
        if (can)
            assert_int_equal(result, 0);
        else
            assert_true(result < 0);
        assert_int_equal(actor_io(&actor, file, HOST_FILE_READ, data, 0, 65536), 65536);
        for (size_t at = 0; at < 65536; at++)
            assert_int_equal(data[at], can && at >= 4096 && at < 4096 + 32768 ? 0 : 0x33);
    }
    uint64_t size = 0;
    assert_int_equal(host_file_size(file, &size), 0);
    assert_int_equal(size, FILE_SIZE);
    close_file(&actor, file);
    free(data);
    actor_fini(&actor);
}

static void scattered_slices_move_in_order(void **state) {
    struct actor actor;
    actor_init(&actor, *state);
    struct host_file *file =
        actor_open(&actor, "scattered", (struct host_file_options){.create = true, .create_size = FILE_SIZE}, NULL);
    uint8_t *data = aligned(65536), *copy = aligned(65536);
    struct random random;
    random_init(&random, 3);
    random_fill(&random, data, 65536);
    for (int write = 1; write >= 0; write--) {
        struct slice slices[HOST_FILE_SLICES_MAX];
        uint8_t *base = write ? data : copy;
        size_t at = 0;
        for (unsigned i = 0; i < HOST_FILE_SLICES_MAX; i++) {
            size_t length = i + 1 == HOST_FILE_SLICES_MAX ? 65536 - at : 1 + random_below(&random, 255);
            slices[i] = (struct slice){base + at, length};
            at += length;
        }
        struct host_file_request request = {.file = file,
                                            .op = write ? HOST_FILE_WRITE : HOST_FILE_READ,
                                            .slices = slices,
                                            .slice_count = HOST_FILE_SLICES_MAX,
                                            .offset = 100,
                                            .length = 65536};
        assert_int_equal(actor_request(&actor, &request), 65536);
    }
    assert_memory_equal(data, copy, 65536);
    close_file(&actor, file);
    free(data);
    free(copy);
    actor_fini(&actor);
}

/* Many requests at once, each of which must move its own bytes. */
#define DEPTH 64
struct crowd {
    struct crowd_io {
        struct host_file_request request;
        struct slice slice;
        struct crowd *crowd;
        bool done;
    } ios[DEPTH];
    _Atomic unsigned completed;
};

static void crowd_complete(struct host_file_request *request) {
    struct crowd_io *io = container_of(request, struct crowd_io, request);
    assert(!io->done);
    io->done = true;
    atomic_fetch_add(&io->crowd->completed, 1);
}
static void crowd_submit(struct actor *actor, void *arg) {
    struct crowd *crowd = arg;
    for (int i = 0; i < DEPTH; i++) {
        crowd->ios[i].done = false;
        host_file_submit(actor->loop, &crowd->ios[i].request);
    }
    assert(atomic_load(&crowd->completed) == 0);
}
static bool crowd_is_done(void *arg) { return atomic_load(&((struct crowd *)arg)->completed) == DEPTH; }

static void many_requests_at_once_each_move_their_own(void **state) {
    struct actor actor;
    actor_init(&actor, *state);
    struct host_file *file = actor_open(
        &actor, "crowd", (struct host_file_options){.create = true, .create_size = DEPTH * 4096, .direct = true}, NULL);
    uint8_t *data = aligned(DEPTH * 4096), *copy = aligned(DEPTH * 4096);
    struct random random;
    random_init(&random, 5);
    random_fill(&random, data, DEPTH * 4096);
    struct crowd *crowd = calloc(1, sizeof(*crowd));
    assert_non_null(crowd);
    for (int write = 1; write >= 0; write--) {
        atomic_store(&crowd->completed, 0);
        for (int i = 0; i < DEPTH; i++) {
            int place = (i * 37) % DEPTH;
            crowd->ios[i].crowd = crowd;
            crowd->ios[i].slice = (struct slice){(write ? data : copy) + place * 4096, 4096};
            crowd->ios[i].request = (struct host_file_request){.file = file,
                                                               .op = write ? HOST_FILE_WRITE : HOST_FILE_READ,
                                                               .slices = &crowd->ios[i].slice,
                                                               .slice_count = 1,
                                                               .offset = (uint64_t)place * 4096,
                                                               .length = 4096,
                                                               .complete = crowd_complete};
        }
        actor_do(&actor, crowd_submit, crowd);
        actor_wait(&actor, crowd_is_done, crowd, "64 requests");
        for (int i = 0; i < DEPTH; i++)
            assert_int_equal(crowd->ios[i].request.result, 4096);
    }
    assert_memory_equal(data, copy, DEPTH * 4096);
    close_file(&actor, file);
    free(crowd);
    free(data);
    free(copy);
    actor_fini(&actor);
}

static void a_held_file_has_one_holder(void **state) {
    struct actor actor;
    actor_init(&actor, *state);
    struct host_file_options hold = {.create = true, .create_size = FILE_SIZE, .hold = true, .hold_timeout_ms = 20};
    struct host_file_options shared = {.read_only = true, .hold = true, .hold_timeout_ms = 20};
    struct host_file_open open;
    struct host_file *first = actor_open(&actor, "held", hold, &open);
    assert_true(open.ok);
    uint64_t before = host_now_ns(actor.fixture->host);
    assert_null(actor_open(&actor, "held", hold, &open));
    assert_int_equal(open.error.code, ERROR_BUSY);
    assert_non_null(strstr(open.error.text, "held"));
    assert_true(host_now_ns(actor.fixture->host) - before >= 20 * NS_PER_MS);
    assert_null(actor_open(&actor, "held", shared, &open));
    assert_int_equal(open.error.code, ERROR_BUSY);
    struct host_file *looker = actor_open(&actor, "held", (struct host_file_options){.read_only = true}, &open);
    assert_true(open.ok); /* without `hold` nothing is asked */
    close_file(&actor, looker);
    close_file(&actor, first);
    first = actor_open(&actor, "held", shared, &open);
    assert_true(open.ok);
    struct host_file *second = actor_open(&actor, "held", shared, &open);
    assert_true(open.ok);
    assert_null(actor_open(&actor, "held", hold, &open));
    close_file(&actor, second);
    close_file(&actor, first);
    first = actor_open(&actor, "held", hold, &open);
    assert_true(open.ok);
    close_file(&actor, first);
    actor_fini(&actor);
}

static void the_same_file_is_known_again(void **state) {
    struct actor actor;
    actor_init(&actor, *state);
    struct host_file_open one, again, other;
    struct host_file_options options = {.create = true, .create_size = FILE_SIZE};
    struct host_file *a = actor_open(&actor, "one", options, &one), *b = actor_open(&actor, "one", options, &again),
                     *c = actor_open(&actor, "other", options, &other);
    assert_true(one.facts.device == again.facts.device && one.facts.inode == again.facts.inode);
    assert_true(one.facts.device != other.facts.device || one.facts.inode != other.facts.inode);
    close_file(&actor, a);
    close_file(&actor, b);
    close_file(&actor, c);
    actor_fini(&actor);
}

/* ---- sockets ---- */

struct pair {
    struct door door;
    struct peer client, server;
};

static void close_sockets(struct actor *actor, void *arg) {
    struct pair *pair = arg;
    (void)actor;
    struct host_socket **const sockets[] = {&pair->client.socket, &pair->server.socket, &pair->door.socket};
    for (size_t i = 0; i < array_count(sockets); i++) {
        if (*sockets[i] != NULL)
            host_socket_close(*sockets[i]);
        *sockets[i] = NULL;
    }
}

static bool pair_met(void *arg) {
    struct pair *pair = arg;
    return pair->client.connected && pair->door.count == 1;
}

static void pair_listen(struct actor *actor, struct pair *pair, enum host_family family, size_t capacity) {
    memset(pair, 0, sizeof(*pair));
    peer_init(&pair->client, capacity);
    peer_init(&pair->server, capacity);
    pair->client.waits_for_go = pair->server.waits_for_go = true;
    pair->door.peers[0] = &pair->server;
    pair->door.capacity = 1;
    char text[160];
    snprintf(text, sizeof(text), "%s/socket", actor->fixture->directory);
    door_open(actor, &pair->door, family, family == HOST_IPV4 ? "127.0.0.1" : family == HOST_IPV6 ? "::1" : text, 0);
}

static void pair_init(struct actor *actor, struct pair *pair, enum host_family family, size_t capacity) {
    pair_listen(actor, pair, family, capacity);
    peer_connect(actor, &pair->client, &pair->door.address);
    actor_wait(actor, pair_met, pair, "a connection");
    assert_false(pair->client.closed);
}

static void pair_fini(struct actor *actor, struct pair *pair) {
    actor_do(actor, close_sockets, pair);
    peer_fini(&pair->client);
    peer_fini(&pair->server);
}

static void pair_go(struct actor *actor, void *arg) {
    struct pair *pair = arg;
    (void)actor;
    peer_go(&pair->client);
    peer_go(&pair->server);
}

static bool all_moved(void *arg) {
    struct pair *pair = arg;
    return pair->client.in_length == pair->server.out_length && pair->server.in_length == pair->client.out_length;
}

#define AMOUNT (1024 * 1024)

static void bytes_arrive_in_order(void **state, enum host_family family) {
    if (family == HOST_IPV6 && ((struct fixture *)*state)->no_ipv6) {
        print_message("this machine has no IPv6\n");
        return;
    }
    struct actor actor;
    actor_init(&actor, *state);
    struct pair pair;
    pair_init(&actor, &pair, family, AMOUNT);
    assert_true(family == HOST_UNIX || pair.door.address.port != 0);
    assert_true(pair.door.from[0].family == family);
    struct random random;
    random_init(&random, 9);
    random_fill(&random, pair.client.out, AMOUNT);
    random_fill(&random, pair.server.out, AMOUNT);
    pair.client.out_length = pair.server.out_length = AMOUNT;
    actor_do(&actor, pair_go, &pair);
    actor_wait(&actor, all_moved, &pair, "a MiB in both directions");
    assert_memory_equal(pair.client.in, pair.server.out, AMOUNT);
    assert_memory_equal(pair.server.in, pair.client.out, AMOUNT);
    pair_fini(&actor, &pair);
    actor_fini(&actor);
}

static void bytes_arrive_in_order_over_ipv4(void **state) { bytes_arrive_in_order(state, HOST_IPV4); }
static void bytes_arrive_in_order_over_ipv6(void **state) { bytes_arrive_in_order(state, HOST_IPV6); }
static void bytes_arrive_in_order_over_unix(void **state) { bytes_arrive_in_order(state, HOST_UNIX); }

static void close_client(struct actor *actor, void *arg) {
    struct pair *pair = arg;
    (void)actor;
    host_socket_close(pair->client.socket);
    pair->client.socket = NULL;
}
static bool server_closed(void *arg) { return ((struct pair *)arg)->server.closed; }

static void the_end_of_a_stream_follows_its_bytes(void **state) {
    const enum host_family families[] = {HOST_IPV4, HOST_UNIX};
    for (size_t i = 0; i < array_count(families); i++) {
        struct actor actor;
        actor_init(&actor, *state);
        struct pair pair;
        pair_init(&actor, &pair, families[i], 65536);
        memset(pair.client.out, 0x42, 3000);
        pair.client.out_length = 3000;
        actor_do(&actor, pair_go, &pair);
        actor_do(&actor, close_client, &pair);
        actor_wait(&actor, server_closed, &pair, "the end of the stream");
        assert_int_equal(pair.server.error, 0);
        assert_int_equal(pair.server.in_length, 3000);
        pair_fini(&actor, &pair);
        actor_fini(&actor);
    }
}

static void write_more(struct actor *actor, void *arg) {
    struct pair *pair = arg;
    (void)actor;
    pair->server.closed = false;
    pair->server.stopped = true; /* else it finds the end of the stream again before it writes */
    pair->server.out_length = pair->server.out_sent + 1;
    peer_go(&pair->server);
}

static void writing_to_a_closed_peer_fails_in_the_end(void **state) {
    struct actor actor;
    actor_init(&actor, *state);
    struct pair pair;
    pair_init(&actor, &pair, HOST_IPV4, 65536);
    actor_do(&actor, close_client, &pair);
    actor_wait(&actor, server_closed, &pair, "the end of the stream");
    assert_int_equal(pair.server.error, 0);
    for (int i = 0; i < 1000 && pair.server.error == 0; i++)
        actor_do(&actor, write_more, &pair);
    assert_true(pair.server.error == -EPIPE || pair.server.error == -ECONNRESET);
    pair_fini(&actor, &pair);
    actor_fini(&actor);
}

static bool client_ended(void *arg) { return ((struct pair *)arg)->client.closed; }

static void nobody_listens(void **state) {
    struct actor actor;
    actor_init(&actor, *state);
    struct pair pair;
    pair_listen(&actor, &pair, HOST_IPV4, 4096);
    struct host_address address = pair.door.address;
    actor_do(&actor, close_sockets, &pair);
    address.port = 1; /* not the one that was given: a client may get that, and connect to itself */
    peer_connect(&actor, &pair.client, &address);
    actor_wait(&actor, client_ended, &pair, "a refusal");
    assert_int_equal(pair.client.error, -ECONNREFUSED);
    assert_false(pair.client.connected);
    pair_fini(&actor, &pair);
    actor_fini(&actor);
}

struct second_listen {
    const struct host_address *address;
    struct error error;
    struct host_socket *socket;
};

static void listen_again(struct actor *actor, void *arg) {
    struct second_listen *second = arg;
    second->socket = host_listen(actor->loop, second->address, door_event, NULL, &second->error);
}

static void an_address_has_one_listener(void **state) {
    const enum host_family families[] = {HOST_IPV4, HOST_UNIX};
    for (size_t i = 0; i < array_count(families); i++) {
        struct actor actor;
        actor_init(&actor, *state);
        struct pair pair;
        pair_listen(&actor, &pair, families[i], 4096);
        struct second_listen second = {.address = &pair.door.address};
        actor_do(&actor, listen_again, &second);
        assert_null(second.socket);
        assert_int_not_equal(second.error.code, ERROR_NONE);
        assert_true(second.error.text[0] != '\0');
        struct host_address address = pair.door.address;
        actor_do(&actor, close_sockets, &pair);
        /* a path that nobody answers at any more is taken over */
        door_open(&actor, &pair.door, address.family, address.text, address.port);
        peer_connect(&actor, &pair.client, &pair.door.address);
        actor_wait(&actor, pair_met, &pair, "a connection to the second listener");
        pair_fini(&actor, &pair);
        actor_fini(&actor);
    }
}

/* A slow reader: the writer gets -EAGAIN and, once there is room, exactly what the contract promises: an event. */
static void stop_server(struct actor *actor, void *arg) {
    (void)actor;
    ((struct pair *)arg)->server.stopped = true;
}
static void start_server(struct actor *actor, void *arg) {
    (void)actor;
    ((struct pair *)arg)->server.stopped = false;
    peer_go(&((struct pair *)arg)->server);
}

static void a_full_stream_tells_when_there_is_room(void **state) {
    const enum host_family families[] = {HOST_IPV4, HOST_UNIX};
    const size_t amount = 16 * 1024 * 1024;
    for (size_t i = 0; i < array_count(families); i++) {
        struct actor actor;
        actor_init(&actor, *state);
        struct pair pair;
        pair_init(&actor, &pair, families[i], amount);
        actor_do(&actor, stop_server, &pair);
        memset(pair.client.out, 0x66, amount);
        pair.client.out_length = amount;
        actor_do(&actor, pair_go, &pair);
        assert_true(pair.client.out_sent < amount);
        actor_do(&actor, start_server, &pair);
        actor_wait(&actor, all_moved, &pair, "16 MiB past a slow reader");
        pair_fini(&actor, &pair);
        actor_fini(&actor);
    }
}

static void reset_client(struct actor *actor, void *arg) {
    struct pair *pair = arg;
    (void)actor;
    host_socket_reset(pair->client.socket);
    pair->client.socket = NULL;
}

static void who_is_given_up_is_told_by_a_reset(void **state) {
    const size_t amount = 16 * 1024 * 1024;
    struct actor actor;
    actor_init(&actor, *state);
    struct pair pair;
    pair_init(&actor, &pair, HOST_IPV4, amount);
    actor_do(&actor, stop_server, &pair);
    memset(pair.client.out, 0x66, amount);
    pair.client.out_length = amount;
    actor_do(&actor, pair_go, &pair);
    assert_true(pair.client.out_sent < amount); /* the system holds some of it */
    actor_do(&actor, reset_client, &pair);
    actor_do(&actor, start_server, &pair);
    actor_wait(&actor, server_closed, &pair, "the end");
    assert_int_equal(pair.server.error, -ECONNRESET);
    pair_fini(&actor, &pair);
    actor_fini(&actor);
}

static void detach_server(struct actor *actor, void *arg) {
    (void)actor;
    host_socket_detach(((struct pair *)arg)->server.socket);
}
static void attach_server(struct actor *actor, void *arg) {
    struct pair *pair = arg;
    pair->server.stopped = false;
    pair->server.going = true;
    int result = host_socket_attach(pair->server.socket, actor->loop, peer_event, &pair->server);
    assert(result == 0);
}
static void close_server(struct actor *actor, void *arg) {
    struct pair *pair = arg;
    (void)actor;
    host_socket_close(pair->server.socket);
    pair->server.socket = NULL;
}
static void send_from_client(struct actor *actor, void *arg) {
    (void)actor;
    peer_go(&((struct pair *)arg)->client);
}

static void a_socket_moves_with_its_unread_bytes(void **state) {
    struct actor first, second;
    actor_init(&first, *state);
    actor_init(&second, *state);
    struct pair pair;
    pair_init(&first, &pair, HOST_IPV4, 65536);
    actor_do(&first, stop_server, &pair);
    memset(pair.client.out, 0x11, 2000);
    memset(pair.server.out, 0x22, 500);
    pair.client.out_length = 1000;
    actor_do(&first, send_from_client, &pair);
    actor_do(&first, detach_server, &pair);
    pair.server.out_length = 500;
    actor_do(&second, attach_server, &pair);
    actor_wait(&first, all_moved, &pair, "bytes that were sent before the move");
    pair.client.out_length = 2000;
    actor_do(&first, send_from_client, &pair);
    actor_wait(&first, all_moved, &pair, "bytes that were sent after the move");
    actor_do(&second, close_server, &pair);
    pair_fini(&first, &pair);
    actor_fini(&second);
    actor_fini(&first);
}

/* ---- memory ---- */

static void memory_begins_with_zeros(void **state) {
    struct fixture *fixture = *state;
    const size_t sizes[] = {1, 4096, MIB(2) - 1, MIB(2), MIB(5) + 1};
    for (size_t i = 0; i < array_count(sizes); i++) {
        uint8_t *memory = host_memory_map(fixture->host, sizes[i]);
        assert_non_null(memory);
        assert_true(memory[0] == 0 && memory[sizes[i] / 2] == 0 && memory[sizes[i] - 1] == 0);
        memset(memory, 0xff, sizes[i]);
        host_memory_unmap(fixture->host, memory, sizes[i]);
    }
    assert_null(host_memory_map(fixture->host, 0));
}

static void memory_is_kept_under_its_name(void **state) {
    struct fixture *fixture = *state;
    char name[HOST_KEPT_NAME_SIZE];
    uint64_t random;
    host_random(fixture->host, &random, sizeof(random));
    snprintf(name, sizeof(name), "contract-%016llx", (unsigned long long)random);
    assert_null(host_memory_keep(fixture->host, name, NULL, 8192, false));
    uint8_t *memory = host_memory_keep(fixture->host, name, NULL, 8192, true);
    if (memory == NULL)
        skip(); /* a system without shared memory */
    assert_true(memory[0] == 0 && memory[8191] == 0);
    memset(memory, 7, 8192);
    host_memory_leave(fixture->host, name, memory, 8192, false);
    assert_null(host_memory_keep(fixture->host, name, NULL, 4096, false)); /* of another size */
    memory = host_memory_keep(fixture->host, name, NULL, 8192, false);
    assert_non_null(memory);
    assert_true(memory[0] == 7 && memory[8191] == 7);
    host_memory_leave(fixture->host, name, memory, 8192, false);
    memory = host_memory_keep(fixture->host, name, NULL, 8192, true);
    assert_non_null(memory);
    assert_true(memory[0] == 0 && memory[8191] == 0);
    host_memory_leave(fixture->host, name, memory, 8192, true);
    assert_null(host_memory_keep(fixture->host, name, NULL, 8192, false));
}

/* ---- the list ---- */

const struct CMUnitTest contract_cases[] = {
#define CASE(name)                                                                                                               \
    { #name, name, NULL, NULL, NULL }
    CASE(clocks_go_forward),
    CASE(a_loop_turns_at_its_deadline_and_when_woken),
    CASE(a_processor_that_is_absent_is_an_error),
    CASE(memory_begins_with_zeros),
    CASE(memory_is_kept_under_its_name),
    CASE(jobs_run_then_tell_their_loop),
    CASE(an_absent_file_is_not_found),
    CASE(what_is_written_is_read),
    CASE(a_file_ends_where_it_ends),
    CASE(truncation_cuts_and_grows_with_zeros),
    CASE(punched_and_zeroed_ranges_read_as_zero),
    CASE(scattered_slices_move_in_order),
    CASE(many_requests_at_once_each_move_their_own),
    CASE(a_held_file_has_one_holder),
    CASE(the_same_file_is_known_again),
    CASE(bytes_arrive_in_order_over_ipv4),
    CASE(bytes_arrive_in_order_over_ipv6),
    CASE(bytes_arrive_in_order_over_unix),
    CASE(the_end_of_a_stream_follows_its_bytes),
    CASE(writing_to_a_closed_peer_fails_in_the_end),
    CASE(nobody_listens),
    CASE(an_address_has_one_listener),
    CASE(a_full_stream_tells_when_there_is_room),
    CASE(who_is_given_up_is_told_by_a_reset),
    CASE(a_socket_moves_with_its_unread_bytes),
#undef CASE
};
const size_t contract_case_count = array_count(contract_cases);
