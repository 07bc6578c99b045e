/* Target and initiator on two simulated machines, over seeds: verified load while connections are split, stalled, delayed and
 * reset, and ghosts: writes of a lost connection that land late. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "load/load.h"
#include "support/nvme_rig.h"

#define BLOCK 4096u
#define MS NS_PER_MS

static uint64_t seeds(uint64_t few) {
    const char *budget = getenv("PENSTOCK_TEST_BUDGET");
    return budget != NULL && strcmp(budget, "long") == 0 ? few * 50 : few;
}

static struct rig *rig_attached(uint64_t seed, struct random *random, struct sim_link_options *link) {
    struct rig_options options = {.seed = seed, .simulated = true, .link = link, .block_size = BLOCK};
    options.transport.queue_depth = (uint16_t)(random_chance(random, 1, 2) ? 0 : 2 + random_below(random, 30));
    options.transport.max_io_bytes = random_chance(random, 1, 2) ? 0 : 8192;
    options.transport.in_capsule_given = true;
    options.transport.in_capsule_bytes = random_chance(random, 1, 2) ? 4096 : 0;
    struct rig *rig = rig_create(&options);
    struct nvme_initiator_attach attach;
    rig_attach_options(&attach);
    attach.header_digest = random_chance(random, 1, 2);
    attach.data_digest = random_chance(random, 1, 2);
    attach.sq_flow_control = random_chance(random, 1, 3);
    attach.io_queues = random_chance(random, 1, 4);
    attach.loss_set = true;
    attach.loss = (struct nvme_initiator_loss){-1, 50, 0};
    if (!rig_attach(rig, &attach))
        fail_msg("seed %llu: attach: %s", (unsigned long long)seed, attach.error.text);
    return rig;
}

/* ---- verified load under faults ---- */

struct loader {
    struct rig_device device;
    struct load *load;
    struct load_options options;
    bool ended;
};
static void load_ended(struct load *load, void *arg) {
    (void)load;
    ((struct loader *)arg)->ended = true;
}
static void load_begin(void *arg) {
    struct loader *loader = arg;
    struct error error;
    if (!load_create(loader->device.channel, &loader->options, load_ended, loader, &loader->load, &error))
        fail_msg("load: %s", error.text);
    load_start(loader->load, &loader->options);
}
static void load_begin_read_back(void *arg) {
    struct loader *loader = arg;
    loader->ended = false;
    load_start_read_back(loader->load);
}
static void load_end(void *arg) { load_destroy(((struct loader *)arg)->load); }
static bool both_ended(void *arg) {
    struct loader *loaders = arg;
    return loaders[0].ended && loaders[1].ended;
}

/* One fault on one living connection, or on the link. */
static void fault(struct rig *rig, struct random *random) {
    struct sim_connection *connections[16], *connection = NULL;
    unsigned count = 0;
    while ((connection = sim_connection_next(rig->sim, connection)) != NULL && count < array_count(connections))
        connections[count++] = connection;
    if (count == 0)
        return;
    connection = connections[random_below(random, count)];
    enum sim_direction direction = random_chance(random, 1, 2) ? SIM_TO_SERVER : SIM_TO_CLIENT;
    switch (random_below(random, 6)) {
    case 0: sim_connection_reset(connection); break;
    case 1: sim_connection_reset_one(connection, direction); break;
    case 2: sim_connection_delay(connection, direction, random_below(random, 5 * MS)); break;
    case 3: { /* a stall, longer or shorter than the keep-alive */
        uint64_t for_ns = random_below(random, 4000 * MS);
        sim_connection_stall(connection, direction, true);
        struct sim_connection_facts facts;
        sim_connection_facts(connection, &facts);
        rig_run(rig, NULL, NULL, for_ns);
        for (connection = NULL; (connection = sim_connection_next(rig->sim, connection)) != NULL;) {
            struct sim_connection_facts other;
            sim_connection_facts(connection, &other);
            if (other.id == facts.id)
                sim_connection_stall(connection, direction, false);
        }
        break;
    }
    case 4: /* the network between them is cut for a while */
        sim_cut(rig->node, rig->target_node, true);
        rig_run(rig, NULL, NULL, random_below(random, 3000 * MS));
        sim_cut(rig->node, rig->target_node, false);
        break;
    default: {
        struct sim_connection_facts facts;
        sim_connection_facts(connection, &facts);
        sim_connection_split_at(connection, direction, facts.written[direction] + random_below(random, 20000));
        break;
    }
    }
}

static void short_keep_alive(void *arg) {
    struct rig *rig = arg;
    struct nvme_initiator_options options = *nvme_initiator_options(rig->initiator);
    options.keep_alive_timeout_ms = 1000;
    options.timeout_us = 2000000;
    options.retry_count = -1;
    options.connect_timeout_ms = 5000;
    struct error error;
    if (!nvme_initiator_set_options(rig->initiator, &options, &error))
        fail_msg("options: %s", error.text);
}

static struct rig *rig_for_faults(uint64_t seed, struct random *random) {
    struct rig_options options = {.seed = seed, .simulated = true, .block_size = BLOCK};
    options.transport.queue_depth = (uint16_t)(random_chance(random, 1, 2) ? 0 : 2 + random_below(random, 30));
    options.transport.max_io_bytes = random_chance(random, 1, 2) ? 0 : 8192;
    options.transport.in_capsule_given = true;
    options.transport.in_capsule_bytes = random_chance(random, 1, 2) ? 4096 : 0;
    struct rig *rig = rig_create(&options);
    rig_call(rig, rig->control, short_keep_alive, rig);
    struct nvme_initiator_attach attach;
    rig_attach_options(&attach);
    attach.header_digest = random_chance(random, 1, 2);
    attach.data_digest = random_chance(random, 1, 2);
    attach.sq_flow_control = random_chance(random, 1, 3);
    attach.io_queues = random_chance(random, 1, 4);
    attach.loss_set = true;
    attach.loss = (struct nvme_initiator_loss){-1, 50, 0};
    if (!rig_attach(rig, &attach))
        fail_msg("seed %llu: attach: %s", (unsigned long long)seed, attach.error.text);
    return rig;
}

static uint64_t load_under_faults(uint64_t seed) {
    struct random random;
    random_init(&random, seed);
    struct rig *rig = rig_for_faults(seed, &random);
    struct loader loaders[2] = {{.ended = false}};
    for (unsigned i = 0; i < 2; i++) {
        struct loader *loader = &loaders[i];
        rig_device_open(rig, &loader->device, "rn1", i);
        loader->options = (struct load_options){.random = true,
                                                .read_percent = (unsigned)random_below(&random, 80),
                                                .request_bytes = BLOCK << random_below(&random, 4),
                                                .depth = 1 + (unsigned)random_below(&random, 16),
                                                .region_offset = i * (RIG_DISK_BYTES / 2),
                                                .region_bytes = MIB(1) << random_below(&random, 2),
                                                .request_limit = 1500,
                                                .flush_every = (unsigned)random_below(&random, 20),
                                                .fua = random_chance(&random, 1, 2),
                                                .verify = true,
                                                .seed = seed * 2 + i};
        rig_call(rig, loader->device.reactor, load_begin, loader);
    }
    rig_disk_delay(rig, 0, random_below(&random, 300), random_below(&random, 2000));
    for (unsigned i = 0; i < 12 && !both_ended(loaders); i++) {
        rig_run(rig, both_ended, loaders, random_below(&random, 40 * MS));
        fault(rig, &random);
    }
    if (!rig_run(rig, both_ended, loaders, 300 * NS_PER_S)) {
        struct nvme_initiator_controller_info info;
        rig_info(rig, &info);
        fail_msg("seed %llu: the load does not end: %s, %s", (unsigned long long)seed, nvme_initiator_state_name(info.state),
                 info.last_loss);
    }
    for (unsigned i = 0; i < 2; i++)
        rig_call(rig, loaders[i].device.reactor, load_begin_read_back, &loaders[i]);
    assert_true(rig_run(rig, both_ended, loaders, 300 * NS_PER_S));
    struct nvme_initiator_controller_info info;
    rig_info(rig, &info);
    for (unsigned i = 0; i < 2; i++) {
        const struct load_result *result = load_result(loaders[i].load);
        if (result->errors > 0 || result->mismatches > 0)
            fail_msg("seed %llu: %llu errors (%s), %llu mismatches (%s)", (unsigned long long)seed,
                     (unsigned long long)result->errors, io_status_name(result->first_error),
                     (unsigned long long)result->mismatches, result->first_mismatch);
        rig_call(rig, loaders[i].device.reactor, load_end, &loaders[i]);
        rig_device_close(&loaders[i].device);
    }
    rig_destroy(rig);
    return info.reconnects;
}

static void test_load_under_faults(void **state) {
    (void)state;
    uint64_t count = seeds(25), reconnects = 0;
    const char *one = getenv("SEED"); /* to look into one */
    if (one != NULL) {
        load_under_faults(strtoull(one, NULL, 10));
        return;
    }
    for (uint64_t seed = 1; seed <= count; seed++)
        reconnects += load_under_faults(seed);
    print_message("%llu runs, %llu reconnects\n", (unsigned long long)count, (unsigned long long)reconnects);
    assert_true(reconnects > count);
}

/* ---- byte by byte ---- */

static void test_byte_by_byte(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct random random;
        random_init(&random, seed);
        struct sim_link_options link = {.latency_min_ns = 1000,
                                        .latency_max_ns = 9000,
                                        .window_bytes = 65536,
                                        .delivery_bytes = seed == 1 ? 1 : 13,
                                        .short_write_one_in = 2};
        struct rig *rig = rig_attached(seed, &random, &link);
        struct rig_device device;
        rig_device_open(rig, &device, "rn1", 0);
        static uint8_t data[16384], back[16384];
        random_fill(&random, data, sizeof(data));
        assert_int_equal(rig_do(&device, BLOCK_WRITE, 0, 0, data, sizeof(data)), IO_OK);
        assert_int_equal(rig_do(&device, BLOCK_READ, 0, 0, back, sizeof(back)), IO_OK);
        assert_memory_equal(data, back, sizeof(data));
        rig_device_close(&device);
        rig_destroy(rig);
    }
}

/* ---- ghosts ---- */

/* A write is on its way, or in the target's slow disk, when its connection is lost; it is sent again, done, and the block written
 * anew. However late the first copy comes, it must not show. */
static void ghost(uint64_t seed, bool in_network) {
    struct random random;
    random_init(&random, seed);
    struct rig *rig = rig_for_faults(seed, &random);
    struct rig_device device;
    struct rig_io first;
    static uint8_t old[BLOCK], newer[BLOCK], back[BLOCK];
    memset(old, 1, sizeof(old));
    memset(newer, 2, sizeof(newer));
    rig_device_open(rig, &device, "rn1", 0);
    assert_int_equal(rig_do(&device, BLOCK_READ, 0, 0, back, BLOCK), IO_OK);
    struct sim_connection *io = NULL, *each = NULL; /* the I/O connection is the youngest */
    struct sim_connection_facts facts;
    while ((each = sim_connection_next(rig->sim, each)) != NULL)
        io = each;
    sim_connection_facts(io, &facts);
    if (in_network)
        sim_connection_stall(io, SIM_TO_SERVER, true);
    else
        rig_disk_delay(rig, 0, 0, 1000000 + random_below(&random, 2000000));
    rig_start(&device, &first, BLOCK_WRITE, 0, 0, old, BLOCK);
    rig_run(rig, NULL, NULL, random_below(&random, 20 * MS));
    if (in_network) /* the host gives up, the bytes are still under way, and the target hears nothing */
        sim_connection_reset_one(io, SIM_TO_CLIENT);
    else
        sim_connection_reset(io);
    assert_true(rig_wait(&first, 200 * NS_PER_S));
    assert_int_equal(first.request.status, IO_OK);
    if (!in_network)
        rig_disk_delay(rig, 0, 0, 0);
    assert_int_equal(rig_do(&device, BLOCK_WRITE, 0, 0, newer, BLOCK), IO_OK);
    for (each = NULL; (each = sim_connection_next(rig->sim, each)) != NULL;) {
        struct sim_connection_facts other;
        sim_connection_facts(each, &other);
        if (other.id == facts.id)
            sim_connection_stall(each, SIM_TO_SERVER, false);
    }
    for (unsigned i = 0; i < 20; i++) {
        rig_run(rig, NULL, NULL, random_below(&random, 500 * MS));
        assert_int_equal(rig_do(&device, BLOCK_READ, 0, 0, back, BLOCK), IO_OK);
        if (memcmp(back, newer, BLOCK) != 0)
            fail_msg("seed %llu: a ghost", (unsigned long long)seed);
    }
    rig_device_close(&device);
    rig_destroy(rig);
}

static void test_ghost_in_the_disk(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= seeds(20); seed++)
        ghost(seed, false);
}

static void test_ghost_in_the_network(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= seeds(20); seed++)
        ghost(seed, true);
}

int main(int argc, char **argv) {
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_byte_by_byte),
        cmocka_unit_test(test_load_under_faults),
        cmocka_unit_test(test_ghost_in_the_disk),
        cmocka_unit_test(test_ghost_in_the_network),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
