/* What may pass by a port, what a merge turns round, what a capture takes, and which cores a vf gets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "frames.h"
#include "packet/model.h"
#include "packet/ring.h"

#define A "fa:16:3e:00:00:0a"
#define B "fa:16:3e:00:00:0b"
#define C "fa:16:3e:00:00:0c"
#define ALL "ff:ff:ff:ff:ff:ff"
#define NO_VLAN ((struct vlan_operation){0})

static struct test_memory memory;
static struct error error;

static void set_source(struct packet *packet, const char *mac) {
    uint8_t bytes[8];
    unsigned parts[6];
    assert_int_equal(sscanf(mac, "%x:%x:%x:%x:%x:%x", &parts[0], &parts[1], &parts[2], &parts[3], &parts[4], &parts[5]), 6);
    for (unsigned i = 0; i < 6; i++)
        bytes[i] = (uint8_t)parts[i];
    memcpy(packet_data(packet) + 6, bytes, 6);
}

/* ---- policies ---- */

struct rig {
    struct model *model;
    struct test_port in, out;
    struct model_plans plans;
    struct plan_scratch scratch;
};

static struct rig *rig_create(const struct policy *in, const struct policy *out) {
    struct rig *rig = calloc(1, sizeof(*rig));
    assert_non_null(rig);
    test_memory_init(&memory);
    rig->model = model_create();
    test_port_init(&rig->in, "in", &memory);
    test_port_init(&rig->out, "out", &memory);
    assert_true(model_add_component(rig->model, "c", COMPONENT_FORWARD, 0, &error));
    assert_true(model_add_port(rig->model, &rig->in.port, &error) && model_add_port(rig->model, &rig->out.port, &error));
    assert_true(model_attach(rig->model, "c", "in", PORT_DIRECTION_RX, NO_VLAN, false, &error));
    assert_true(model_attach(rig->model, "c", "out", PORT_DIRECTION_TX, NO_VLAN, false, &error));
    const struct policy *given[] = {in, out};
    static const char *const names[] = {"in", "out"};
    for (unsigned i = 0; i < 2; i++) {
        if (given[i] == NULL)
            continue;
        struct policy *policy = malloc(sizeof(*policy));
        assert_non_null(policy);
        *policy = *given[i];
        policy->refs = 1;
        assert_true(model_set_policy(rig->model, names[i], policy, &error));
        policy_unref(policy);
    }
    assert_true(model_compile(rig->model, &rig->plans));
    rig->scratch.memory = &memory.memory;
    rig->scratch.now_ns = UINT64_C(1000000000000);
    return rig;
}

static void rig_destroy(struct rig *rig) {
    model_plans_fini(&rig->plans);
    model_destroy(rig->model);
    test_port_fini(&rig->in);
    test_port_fini(&rig->out);
    assert_int_equal(memory.held, 0);
    free(rig);
}

static void give(struct rig *rig, const char *source, int tag, unsigned length) {
    struct packet *packet = test_frame(&memory, C, tag, 1, length);
    set_source(packet, source);
    rig->in.to_receive[rig->in.receive_count++] = packet;
}

static unsigned run(struct rig *rig) {
    unsigned before = rig->out.sent_count;
    while (plan_run(&rig->plans.plans[0], &rig->scratch) > 0)
        ;
    return rig->out.sent_count - before;
}

static uint64_t drops(const struct packet_port_counters *counters, enum port_drop drop) {
    return packet_counter(&counters->drops[drop]);
}

static void test_only_own_source_addresses_come_in(void **state) {
    (void)state;
    struct policy policy = {.macs = {UINT64_C(0x0a00003e16fa), UINT64_C(0x0b00003e16fa)}, .mac_count = 2};
    struct rig *rig = rig_create(&policy, NULL);
    give(rig, A, -1, 60);
    give(rig, C, -1, 60);
    give(rig, B, 5, 60);
    give(rig, "fa:16:3e:00:01:0a", 5, 60);
    give(rig, "00:00:00:00:00:00", -1, 60);
    assert_int_equal(run(rig), 2);
    assert_int_equal(drops(&rig->in.port.received, PORT_DROP_SPOOFED_MAC), 3);
    assert_int_equal(packet_counter(&rig->in.port.received.packets), 5);
    rig_destroy(rig);
}

static void test_only_own_tags_come_in(void **state) {
    (void)state;
    struct policy policy = {.vlan_check = true};
    policy.vlans[100 / 64] |= UINT64_C(1) << 100 % 64;
    policy.vlans[4095 / 64] |= UINT64_C(1) << 4095 % 64;
    struct rig *rig = rig_create(&policy, NULL);
    static const int good[] = {-1, 0, 5 << 13, 100, 7 << 13 | 100, 4095}, bad[] = {1, 99, 101, 4094, 36};
    for (unsigned i = 0; i < array_count(good); i++)
        give(rig, A, good[i], 60);
    for (unsigned i = 0; i < array_count(bad); i++)
        give(rig, A, bad[i], 60);
    give(rig, A, 100, 15); /* a tag that is cut short */
    for (unsigned i = 0; i < 3; i++) {
        static const uint16_t types[] = {0x88a8, 0x9100, 0x9200};
        give(rig, A, 100, 60);
        put_be16(packet_data(rig->in.to_receive[rig->in.receive_count - 1]) + 12, types[i]);
    }
    assert_int_equal(run(rig), array_count(good));
    assert_int_equal(drops(&rig->in.port.received, PORT_DROP_SPOOFED_VLAN), array_count(bad) + 4);
    rig_destroy(rig);
}

/* Frames of `length` offered each µs for a second: how many pass. */
static unsigned passed_in_a_second(const struct policy *in, const struct policy *out, unsigned length) {
    struct rig *rig = rig_create(in, out);
    unsigned all = 0;
    for (unsigned i = 0; i < 100000; i++) {
        rig->scratch.now_ns += 10000;
        give(rig, A, -1, length);
        all += run(rig);
        memory.memory.free(&memory.memory, rig->out.sent, rig->out.sent_count);
        rig->out.sent_count = rig->in.receive_count = rig->in.receive_next = 0;
    }
    const struct packet_port_counters *counters = in != NULL ? &rig->in.port.received : &rig->out.port.sent;
    assert_int_equal(all + drops(counters, PORT_DROP_OVER_RATE), 100000);
    rig_destroy(rig);
    return all;
}

static void test_rates_are_kept_both_ways(void **state) {
    (void)state;
    struct policy packets = {.rx = {.packets_per_s = 5000}, .tx = {.packets_per_s = 5000}};
    struct policy bits = {.rx = {.bits_per_s = 8000000}, .tx = {.bits_per_s = 8000000}};
    struct policy slow = {.rx = {.packets_per_s = 1}};
    struct policy both = {.rx = {.packets_per_s = 5000, .bits_per_s = 8000000}};
    assert_in_range(passed_in_a_second(&packets, NULL, 60), 5000, 5051); /* and what a full bucket held */
    assert_in_range(passed_in_a_second(NULL, &packets, 60), 5000, 5051);
    assert_in_range(passed_in_a_second(&bits, NULL, 1000), 1000, 1012);
    assert_in_range(passed_in_a_second(NULL, &bits, 1000), 1000, 1012);
    assert_in_range(passed_in_a_second(&both, NULL, 1000), 1000, 1012);
    assert_in_range(passed_in_a_second(&both, NULL, 60), 5000, 5051);
    assert_in_range(passed_in_a_second(&slow, NULL, 60), 1, 2);
    assert_int_equal(passed_in_a_second(&(struct policy){.rx = {.bits_per_s = POLICY_BITS_MAX}}, NULL, 1500), 100000);
}

/* A frame larger than the bucket overdraws it, and that is paid back. */
static void test_budgets_are_exact(void **state) {
    (void)state;
    struct policy_rate rate = {.bits_per_s = 1000};
    struct policy_budget budget = {0};
    uint64_t now_ns = UINT64_C(5000000000);
    policy_refill(&rate, &budget, now_ns);
    assert_true(policy_take(&rate, &budget, 64000)); /* 512000 bits: 512 s */
    policy_refill(&rate, &budget, now_ns += UINT64_C(511980000000));
    assert_false(policy_take(&rate, &budget, 1));
    policy_refill(&rate, &budget, now_ns += UINT64_C(30000000));
    assert_true(policy_take(&rate, &budget, 1));
    rate.bits_per_s = POLICY_BITS_MAX;
    for (unsigned i = 0; i < 64; i++) { /* no overflow, however long the pause */
        policy_refill(&rate, &budget, now_ns += UINT64_C(1) << i % 60);
        assert_true(budget.bits > 0 && budget.bits <= (int64_t)(POLICY_BITS_MAX * 10000000));
    }
}

/* ---- turning round ---- */

/* vm a, vm b → merge → card; card → classifier → vm a, vm b; and between the two a ring. */
struct card {
    struct model *model;
    struct test_port card_in, card_out, from[2], to[2];
    struct packet_port *ring;
    struct model_plans plans;
    struct plan_scratch scratch;
};

static struct card *card_create(bool hairpin) {
    static const char *const macs[] = {A, B};
    struct card *card = calloc(1, sizeof(*card));
    assert_non_null(card);
    test_memory_init(&memory);
    struct model *model = card->model = model_create();
    assert_true(packet_ring_create("ring", 64, &memory.memory, &card->ring, &error));
    assert_true(model_add_component(model, "merge", COMPONENT_MERGE, 0, &error));
    assert_true(model_add_component(model, "classifier", COMPONENT_CLASSIFIER, 0, &error));
    const struct {
        struct test_port *port;
        const char *name, *component;
        enum port_direction direction;
    } ports[] = {
        {&card->card_in, "card_in", "classifier", PORT_DIRECTION_RX}, {&card->card_out, "card_out", "merge", PORT_DIRECTION_TX},
        {&card->from[0], "from_a", "merge", PORT_DIRECTION_RX},       {&card->from[1], "from_b", "merge", PORT_DIRECTION_RX},
        {&card->to[0], "to_a", "classifier", PORT_DIRECTION_TX},      {&card->to[1], "to_b", "classifier", PORT_DIRECTION_TX}};
    if (hairpin) { /* before the others, so that places are not taken for granted */
        assert_true(model_add_port(model, card->ring, &error));
        assert_true(model_attach(model, "merge", "ring", PORT_DIRECTION_TX, NO_VLAN, true, &error));
        assert_true(model_attach(model, "classifier", "ring", PORT_DIRECTION_RX, NO_VLAN, true, &error));
    }
    for (unsigned i = 0; i < array_count(ports); i++) {
        test_port_init(ports[i].port, ports[i].name, &memory);
        assert_true(model_add_port(model, &ports[i].port->port, &error));
        assert_true(model_attach(model, ports[i].component, ports[i].name, ports[i].direction, NO_VLAN, false, &error));
    }
    for (unsigned i = 0; i < 2; i++) {
        static const char *const names[] = {"to_a", "to_b"};
        assert_true(model_add_entry(model, "classifier", macs[i], 100, names[i], &error));
    }
    assert_true(model_add_entry(model, "classifier", "default", 300, "to_b", &error));
    assert_true(model_compile(model, &card->plans));
    card->scratch.memory = &memory.memory;
    return card;
}

static void card_destroy(struct card *card) {
    struct test_port *ports[] = {&card->card_in, &card->card_out, &card->from[0], &card->from[1], &card->to[0], &card->to[1]};
    model_plans_fini(&card->plans);
    model_destroy(card->model);
    card->ring->ops->destroy(card->ring);
    for (unsigned i = 0; i < array_count(ports); i++)
        test_port_fini(ports[i]);
    assert_int_equal(memory.held, 0);
    free(card);
}

/* From vm a: which of card, a, b hear it, as bits. */
static unsigned hear(struct card *card, const char *to, int tag) {
    struct test_port *ports[] = {&card->card_out, &card->to[0], &card->to[1]};
    struct packet *packet = test_frame(&memory, to, tag, 7, 60);
    unsigned before[3], bits = 0;
    for (unsigned i = 0; i < 3; i++)
        before[i] = ports[i]->sent_count;
    set_source(packet, A);
    card->from[0].to_receive[card->from[0].receive_count++] = packet;
    while (plan_run(&card->plans.plans[0], &card->scratch) > 0)
        ;
    for (unsigned i = 0; i < 3; i++) {
        assert_true(ports[i]->sent_count - before[i] <= 1);
        bits |= (ports[i]->sent_count - before[i]) << i;
    }
    return bits;
}

enum { CARD = 1, VM_A = 2, VM_B = 4 };

static void test_neighbours_meet_where_it_is_asked_for(void **state) {
    (void)state;
    struct card *card = card_create(true);
    assert_int_equal(hear(card, B, 100), VM_B);
    assert_int_equal(hear(card, ALL, 100), CARD | VM_B); /* and a does not hear itself */
    assert_int_equal(hear(card, A, 100), 0);
    assert_int_equal(hear(card, C, 100), CARD);
    assert_int_equal(hear(card, B, 200), CARD); /* another network */
    assert_int_equal(hear(card, B, -1), CARD);
    assert_int_equal(hear(card, ALL, 200), CARD);
    assert_int_equal(hear(card, C, 300), CARD); /* a default is for what comes from outside */
    assert_int_equal(hear(card, ALL, 300), CARD | VM_B);
    const struct model_component *classifier = model_find_component(card->model, "classifier");
    assert_int_equal(packet_counter(&classifier->state->counters.drops[PACKET_DROP_HAIRPIN]), 1);
    card_destroy(card);
}

static void test_neighbours_do_not_meet_otherwise(void **state) {
    (void)state;
    struct card *card = card_create(false);
    assert_int_equal(hear(card, B, 100), CARD);
    assert_int_equal(hear(card, ALL, 100), CARD);
    card_destroy(card);
}

static void test_what_may_turn_round(void **state) {
    (void)state;
    struct card *card = card_create(true);
    struct test_port more;
    test_port_init(&more, "more", &memory);
    assert_true(model_add_port(card->model, &more.port, &error));
    assert_false(model_attach(card->model, "merge", "more", PORT_DIRECTION_TX, NO_VLAN, true, &error));
    assert_int_equal(error.code, ERROR_BUSY);
    assert_false(model_attach(card->model, "merge", "more", PORT_DIRECTION_RX, NO_VLAN, true, &error));
    assert_int_equal(error.code, ERROR_INVALID);
    assert_false(model_attach(card->model, "classifier", "more", PORT_DIRECTION_TX, NO_VLAN, true, &error));
    assert_int_equal(error.code, ERROR_INVALID);
    assert_true(model_detach(card->model, "merge", "card_out", PORT_DIRECTION_TX, &error));
    assert_false(model_component_runs(model_find_component(card->model, "merge"))); /* the ring alone is no output */
    assert_true(model_attach(card->model, "merge", "card_out", PORT_DIRECTION_TX, NO_VLAN, false, &error));
    /* without the other half all goes to the card */
    assert_true(model_detach(card->model, "classifier", "ring", PORT_DIRECTION_RX, &error));
    model_plans_fini(&card->plans);
    assert_true(model_compile(card->model, &card->plans));
    assert_int_equal(hear(card, B, 100), CARD);
    test_port_fini(&more);
    card_destroy(card);
}

/* ---- captures ---- */

static struct packet *numbered(uint32_t number, unsigned length) { return test_frame(&memory, A, -1, number, length); }

static void take(struct capture *capture, enum capture_direction direction, uint64_t now_ns, struct packet *packet) {
    capture_frames(capture, direction, now_ns, &packet, 1);
    memory.memory.free(&memory.memory, &packet, 1);
}

static void test_a_capture_has_both_directions_by_time(void **state) {
    (void)state;
    uint8_t bytes[4096];
    test_memory_init(&memory);
    struct capture *capture = capture_create(true, true, 40, INT64_C(1700000000000000000), NULL);
    assert_non_null(capture);
    take(capture, CAPTURE_RX, 10, numbered(1, 60));
    take(capture, CAPTURE_RX, UINT64_C(3000000030), numbered(3, 30));
    take(capture, CAPTURE_TX, 20, numbered(2, 1500));
    assert_int_equal(capture_read(capture, bytes, 55), 0); /* whole records only */
    size_t size = capture_read(capture, bytes, sizeof(bytes));
    static const uint32_t lengths[] = {60, 1500, 30};
    size_t at = 0;
    for (unsigned i = 0; i < 3; i++) {
        uint32_t kept = min_u32(lengths[i], 40);
        assert_int_equal(get_le32(bytes + at), 1700000000 + (i == 2 ? 3 : 0));
        assert_int_equal(get_le32(bytes + at + 4), (i + 1) * 10);
        assert_int_equal(get_le32(bytes + at + 8), kept);
        assert_int_equal(get_le32(bytes + at + 12), lengths[i]);
        assert_int_equal(get_be32(bytes + at + CAPTURE_RECORD_SIZE + 14), i + 1);
        at += CAPTURE_RECORD_SIZE + kept;
    }
    assert_int_equal(size, at);
    capture_unref(capture);
    assert_int_equal(memory.held, 0);
}

static bool match_odd(const struct capture_filter *filter, const uint8_t *data, uint32_t length, uint32_t here) {
    (void)filter;
    assert_true(here <= length);
    return data[17] % 2 == 1;
}
static void filter_gone(struct capture_filter *filter) { filter->match = NULL; }

/* Filled and emptied over and over, at odd sizes: what fits comes out, what does not is counted. */
static void test_a_capture_that_is_too_slow_loses_whole_frames(void **state) {
    (void)state;
    static uint8_t bytes[1 << 16];
    struct capture_filter filter = {.match = match_odd, .destroy = filter_gone};
    test_memory_init(&memory);
    struct capture *capture = capture_create(false, true, CAPTURE_SNAP_MAX, 0, &filter);
    uint32_t number = 0;
    uint64_t read = 0, seen = 0;
    for (unsigned round = 0; round < 40; round++) {
        for (unsigned i = 0; i < 400; i++, number++) {
            take(capture, CAPTURE_TX, number, numbered(number, 1000 + number % 500));
            take(capture, CAPTURE_RX, number, numbered(number, 60)); /* not wanted */
        }
        size_t size;
        for (unsigned reads = 0; reads < 3 && (size = capture_read(capture, bytes, sizeof(bytes))) > 0; reads++)
            for (size_t at = 0; at < size; seen++) {
                assert_int_equal(get_be32(bytes + at + CAPTURE_RECORD_SIZE + 14),
                                 get_le32(bytes + at + 4)); /* its number is its time */
                assert_int_equal(get_le32(bytes + at + 4) % 2, 1);
                read += get_le32(bytes + at + 8) + CAPTURE_RECORD_SIZE;
                at += CAPTURE_RECORD_SIZE + get_le32(bytes + at + 8);
            }
    }
    const struct capture_ring *ring = &capture->rings[CAPTURE_TX];
    assert_true(ring->lost > 0);
    assert_int_equal(ring->taken + ring->lost, number / 2);
    assert_true(seen < ring->taken && read > 2 * CAPTURE_RING_SIZE);
    capture_unref(capture);
    assert_null(filter.match);
}

/* A plan has a port's capture in the directions that it wants. */
static void test_a_port_is_captured_in_its_plan(void **state) {
    (void)state;
    struct rig *rig = rig_create(NULL, NULL);
    struct capture *capture = capture_create(false, true, 100, 0, NULL);
    assert_true(model_set_capture(rig->model, "out", capture, &error));
    assert_false(model_set_capture(rig->model, "out", capture, &error));
    assert_int_equal(error.code, ERROR_EXISTS);
    assert_true(model_set_capture(rig->model, "in", capture, &error)); /* which never sends */
    model_plans_fini(&rig->plans);
    assert_true(model_compile(rig->model, &rig->plans));
    give(rig, A, -1, 60);
    assert_int_equal(run(rig), 1);
    assert_int_equal(capture->rings[CAPTURE_TX].taken, 1);
    assert_int_equal(capture->rings[CAPTURE_RX].taken, 0);
    assert_true(model_detach(rig->model, "c", "out", PORT_DIRECTION_TX, &error));
    assert_false(model_remove_port(rig->model, "out", &error));
    assert_int_equal(error.code, ERROR_BUSY);
    struct model *copy = model_clone(rig->model);
    assert_true(model_clear_capture(rig->model, "out", &error) && model_clear_capture(rig->model, "in", &error));
    assert_int_equal(capture->refs, 3);
    model_destroy(copy);
    capture_unref(capture);
    rig_destroy(rig);
}

/* ---- cores ---- */

static bool no_cpu_7(int cpu) { return cpu != 7; }

static bool add_vf(struct model *model, uint32_t id, uint64_t mask, uint32_t vhosts, bool share, const char *map_text) {
    struct cores_map map = {0};
    assert_true(map_text == NULL || cores_parse_map(map_text, &map));
    struct model *copy = model_clone(model);
    struct model_vf vf = {.id = id, .mask = mask, .vhosts = vhosts, .share = share};
    bool ok = model_add_vf(copy, &vf, &map, no_cpu_7, &error);
    if (ok)
        assert_true(model_add_vf(model, &vf, &map, no_cpu_7, &error));
    model_destroy(copy);
    return ok;
}

static unsigned worker_of(const struct model *model, uint32_t vf, uint32_t core) {
    unsigned worker = MODEL_WORKERS_MAX;
    assert_true(model_find_worker(model, vf, core, &worker, &error));
    return worker;
}

/* SPP_PRIMARY_CORE_MASK=0x2, DPDK_PORT_MAPPINGS=00:04.0#phys1#2#0xfe,00:05.0#phys2#2#0xfc02, on two processors. */
static void test_the_masks_of_the_example(void **state) {
    (void)state;
    static const char *const map = "1=0,2-7=0,10-15=1";
    struct model *model = model_create();
    assert_true(model_add_worker(model, -1, &error));
    assert_true(add_vf(model, 1, 0xfe, 2, false, map));
    assert_true(add_vf(model, 2, 0xfc02, 2, false, map));
    assert_int_equal(model_vf_master(model_find_vf(model, 1, NULL)), 1);
    assert_int_equal(model_vf_master(model_find_vf(model, 2, NULL)), 1);
    for (uint32_t core = 2; core <= 7; core++)
        assert_int_equal(model->workers[worker_of(model, 1, core)].cpu, 0);
    for (uint32_t core = 10; core <= 15; core++)
        assert_int_equal(model->workers[worker_of(model, 2, core)].cpu, 1);
    unsigned worker, count = 0;
    assert_false(model_find_worker(model, 1, 1, &worker, &error)); /* the master core */
    assert_string_equal(error.field, "core");
    assert_false(model_find_worker(model, 1, 10, &worker, &error));
    assert_false(model_find_worker(model, 3, 2, &worker, &error));
    assert_int_equal(error.code, ERROR_NO_DEVICE);
    for (unsigned i = 0; i < MODEL_WORKERS_MAX; i++)
        count += model->workers[i].exists;
    assert_int_equal(count, 13);
    assert_true(model_add_component(model, "c", COMPONENT_FORWARD, worker_of(model, 2, 12), &error));
    assert_false(model_remove_vf(model, 2, &error));
    assert_int_equal(error.code, ERROR_BUSY);
    assert_true(model_remove_vf(model, 1, &error));
    assert_true(add_vf(model, 7, 0xfe, 2, false, map)); /* their cores are free again */
    model_destroy(model);
}

static void test_masks_that_are_refused(void **state) {
    (void)state;
    struct model *model = model_create();
    assert_true(add_vf(model, 1, 0x7e, 2, false, NULL) == false); /* five beside the master: six are needed */
    assert_string_equal(error.field, "core_mask");
    assert_false(add_vf(model, 1, 0x1, 0, false, NULL));        /* the master alone */
    assert_false(add_vf(model, 1, 0x80 | 0x3, 0, false, NULL)); /* processor 7 is not here */
    assert_non_null(strstr(error.expected, "core 7"));
    assert_false(add_vf(model, 1, 0x3, 0, false, "0=0"));
    assert_true(add_vf(model, 1, 0x7f, 2, false, NULL));
    assert_false(add_vf(model, 2, 0xf00, 1, false, NULL)); /* three: four are needed */
    assert_int_equal(error.code, ERROR_INVALID);
    assert_false(add_vf(model, 1, 0x1f00, 1, false, NULL));
    assert_int_equal(error.code, ERROR_EXISTS);
    assert_false(add_vf(model, 2, 0x1f01 | 0x40, 1, false, NULL));
    assert_int_equal(error.code, ERROR_BUSY);
    assert_false(add_vf(model, 2, 0x41, 1, true, NULL)); /* the other one does not share */
    assert_true(add_vf(model, 2, 0x1f01, 1, true, NULL));
    assert_true(add_vf(model, 3, 0x301, 2, true, NULL)); /* fewer cores than machines */
    assert_true(worker_of(model, 2, 8) != worker_of(model, 3, 8));
    model_destroy(model);
}

static void test_masks_and_maps_are_read(void **state) {
    (void)state;
    static const char *const bad_masks[] = {"", "0x", "0", "0x0", "xfe", "0xfg", "-1", "0x1ffffffffffffffff", " 1", "1 "};
    static const char *const bad_maps[] = {"",       "1",       "1=",   "=1",     "1=0,",         ",1=0",
                                           "1-=0",   "2-1=0",   "64=0", "1-64=0", "1=0,1=1",      "1-3=0,2=1",
                                           "1=1024", "1=0;2=0", "1=0 ", "a=0",    "99999999999=0"};
    uint64_t mask;
    struct cores_map map;
    char text[CORES_TEXT_SIZE];
    assert_true(cores_parse_mask("m", "0xfc02", &mask, &error) && mask == 0xfc02);
    assert_true(cores_parse_mask("m", "FE", &mask, &error) && mask == 0xfe);
    assert_true(cores_parse_mask("m", "0x8000000000000000", &mask, &error) && mask == UINT64_C(1) << 63);
    assert_string_equal(cores_format(0xfc02, text), "1,10-15");
    assert_string_equal(cores_format(UINT64_MAX, text), "0-63");
    cores_format(UINT64_C(0x5555555555555555), text);
    for (unsigned i = 0; i < array_count(bad_masks); i++)
        assert_false(cores_parse_mask("m", bad_masks[i], &mask, &error));
    assert_true(cores_parse_map("1=0,2-7=0,10-15=1", &map));
    assert_int_equal(cores_cpu(&map, 0), -1);
    assert_int_equal(cores_cpu(&map, 7), 0);
    assert_int_equal(cores_cpu(&map, 15), 1);
    for (unsigned i = 0; i < array_count(bad_maps); i++)
        if (cores_parse_map(bad_maps[i], &map))
            fail_msg("'%s' was taken", bad_maps[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_own_source_addresses_come_in),
        cmocka_unit_test(test_only_own_tags_come_in),
        cmocka_unit_test(test_rates_are_kept_both_ways),
        cmocka_unit_test(test_budgets_are_exact),
        cmocka_unit_test(test_neighbours_meet_where_it_is_asked_for),
        cmocka_unit_test(test_neighbours_do_not_meet_otherwise),
        cmocka_unit_test(test_what_may_turn_round),
        cmocka_unit_test(test_a_capture_has_both_directions_by_time),
        cmocka_unit_test(test_a_capture_that_is_too_slow_loses_whole_frames),
        cmocka_unit_test(test_a_port_is_captured_in_its_plan),
        cmocka_unit_test(test_the_masks_of_the_example),
        cmocka_unit_test(test_masks_that_are_refused),
        cmocka_unit_test(test_masks_and_maps_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
