/* Frames through components: tags at both ends, copies, drops, what is full; and what a model refuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "frames.h"
#include "packet/model.h"
#include "packet/ring.h"

#define MAC "fa:16:3e:00:00:01"
#define NO_VLAN ((struct vlan_operation){0})
#define DEL ((struct vlan_operation){.action = VLAN_ACTION_DEL})
#define ADD(vid, priority) ((struct vlan_operation){.action = VLAN_ACTION_ADD, .tag = vlan_tag_make(vid, priority)})

static struct test_memory memory;

static const uint8_t *after_addresses(const struct packet *packet) { return packet_data(packet) + ETHERNET_ADDRESSES_SIZE; }

static void check_addresses(const struct packet *packet) {
    static const uint8_t addresses[] = {0xfa, 0x16, 0x3e, 0, 0, 1, 0xfa, 0x16, 0x3e, 0, 0, 1};
    assert_memory_equal(packet_data(packet), addresses, sizeof(addresses));
    assert_int_equal(test_frame_number(packet), 5);
}

static struct packet *apply(int tag, struct vlan_operation operation, unsigned *ret_length) {
    struct packet *packet = test_frame(&memory, MAC, tag, 5, 64);
    assert_true(packet_apply_vlan(packet, &operation));
    assert_int_equal(packet->length, packet->first_length);
    *ret_length = packet->length;
    check_addresses(packet);
    return packet;
}

static void free_frame(struct packet *packet) { memory.memory.free(&memory.memory, &packet, 1); }

static void test_tags_are_pushed_and_popped(void **state) {
    (void)state;
    unsigned length;
    struct packet *packet = apply(-1, ADD(100, 5), &length);
    assert_int_equal(length, 68);
    assert_true(packet_is_tagged(packet));
    assert_int_equal(packet_tag(packet), 5 << 13 | 100);
    free_frame(packet);

    packet = apply(7 << 13 | 300, ADD(100, 0), &length); /* its own stays, behind ours */
    assert_int_equal(length, 68);
    assert_int_equal(packet_tag(packet), 100);
    assert_int_equal(get_be16(after_addresses(packet) + 4), VLAN_TYPE);
    assert_int_equal(get_be16(after_addresses(packet) + 6), 7 << 13 | 300);
    packet_pop_tag(packet);
    assert_int_equal(packet_tag(packet), 7 << 13 | 300);
    check_addresses(packet);
    packet_pop_tag(packet);
    assert_false(packet_is_tagged(packet));
    assert_int_equal(packet->length, 60);
    check_addresses(packet);
    free_frame(packet);

    packet = apply(6 << 13, ADD(100, 1), &length); /* a priority tag becomes ours */
    assert_int_equal(length, 64);
    assert_int_equal(packet_tag(packet), 1 << 13 | 100);
    free_frame(packet);

    packet = apply(100, DEL, &length);
    assert_int_equal(length, 60);
    assert_false(packet_is_tagged(packet));
    free_frame(packet);

    packet = apply(-1, DEL, &length); /* nothing to take away */
    assert_int_equal(length, 64);
    free_frame(packet);
    assert_int_equal(memory.held, 0);
}

static void test_no_room_for_a_tag_changes_nothing(void **state) {
    (void)state;
    struct packet *packet = test_frame(&memory, MAC, -1, 5, 64), before;
    packet->data_offset = 3;
    memmove(packet->buffer + 3, packet->buffer + TEST_HEADROOM, 64);
    before = *packet;
    assert_false(packet_apply_vlan(packet, &ADD(1, 0)));
    assert_memory_equal(packet, &before, sizeof(before));
    check_addresses(packet);
    free_frame(packet);
}

static void test_a_cut_tag_is_no_tag(void **state) {
    (void)state;
    for (unsigned length = ETHERNET_HEADER_SIZE; length < ETHERNET_HEADER_SIZE + VLAN_TAG_SIZE; length++) {
        struct packet *packet = test_frame(&memory, MAC, 100, 5, length);
        assert_false(packet_is_tagged(packet));
        assert_true(packet_apply_vlan(packet, &DEL));
        assert_int_equal(packet->length, length);
        free_frame(packet);
    }
}

/* ---- components ---- */

struct rig {
    struct model *model;
    struct test_port ports[4]; /* in0, in1, out0, out1 */
    struct model_plans plans;
    struct plan_scratch scratch;
    struct error error;
};

static struct rig *rig_create(enum component_type type, unsigned inputs, unsigned outputs, struct vlan_operation in,
                              struct vlan_operation out) {
    static const char *const names[] = {"in0", "in1", "out0", "out1"};
    struct rig *rig = calloc(1, sizeof(*rig));
    assert_non_null(rig);
    test_memory_init(&memory);
    rig->model = model_create();
    assert_true(model_add_component(rig->model, "c", type, 0, &rig->error));
    for (unsigned i = 0; i < 4; i++) {
        test_port_init(&rig->ports[i], names[i], &memory);
        assert_true(model_add_port(rig->model, &rig->ports[i].port, &rig->error));
    }
    for (unsigned i = 0; i < inputs; i++)
        assert_true(model_attach(rig->model, "c", names[i], PORT_DIRECTION_RX, in, false, &rig->error));
    for (unsigned i = 0; i < outputs; i++)
        assert_true(model_attach(rig->model, "c", names[2 + i], PORT_DIRECTION_TX, out, false, &rig->error));
    assert_true(model_compile(rig->model, &rig->plans));
    rig->scratch.memory = &memory.memory;
    return rig;
}

static void rig_destroy(struct rig *rig) {
    model_plans_fini(&rig->plans);
    model_destroy(rig->model);
    for (unsigned i = 0; i < 4; i++)
        test_port_fini(&rig->ports[i]);
    assert_int_equal(memory.held, 0);
    free(rig);
}

static void give(struct rig *rig, unsigned port, int tag, uint32_t number, unsigned length) {
    rig->ports[port].to_receive[rig->ports[port].receive_count++] = test_frame(&memory, MAC, tag, number, length);
}

static uint64_t drops(const struct rig *rig, enum packet_drop drop) {
    return packet_counter(&rig->model->components[0]->state->counters.drops[drop]);
}

static unsigned run(struct rig *rig) {
    unsigned all = 0;
    for (unsigned came; (came = plan_run(&rig->plans.plans[0], &rig->scratch)) > 0; all += came)
        for (unsigned i = 0; i < PACKET_OUTPUTS_MAX; i++)
            assert_int_equal(rig->scratch.counts[i], 0);
    return all;
}

static void test_forward_keeps_order_and_applies_both_operations(void **state) {
    (void)state;
    struct rig *rig = rig_create(COMPONENT_FORWARD, 1, 1, DEL, ADD(42, 3));
    for (unsigned i = 0; i < 100; i++)
        give(rig, 0, i % 2 ? 100 : -1, i, 64);
    assert_int_equal(run(rig), 100);
    assert_int_equal(rig->ports[2].sent_count, 100);
    for (unsigned i = 0; i < 100; i++) {
        const struct packet *packet = rig->ports[2].sent[i];
        assert_int_equal(test_frame_number(packet), i);
        assert_int_equal(packet_tag(packet), 3 << 13 | 42);
        assert_int_equal(packet->length, i % 2 ? 64 : 68);
    }
    assert_int_equal(packet_counter(&rig->ports[0].port.received.packets), 100);
    assert_int_equal(packet_counter(&rig->ports[0].port.received.bytes), 6400);
    assert_int_equal(packet_counter(&rig->ports[2].port.sent.bytes), 50 * 64 + 50 * 68);
    rig_destroy(rig);
}

static void test_merge_takes_all_inputs_in_turn(void **state) {
    (void)state;
    struct rig *rig = rig_create(COMPONENT_MERGE, 2, 1, NO_VLAN, NO_VLAN);
    for (unsigned i = 0; i < 200; i++)
        give(rig, 0, -1, i, 60);
    for (unsigned i = 0; i < 10; i++)
        give(rig, 1, -1, 1000 + i, 60);
    assert_int_equal(plan_run(&rig->plans.plans[0], &rig->scratch), PACKET_BURST + 10); /* a busy input does not starve another */
    assert_int_equal(rig->ports[2].sent_count, PACKET_BURST + 10);
    assert_int_equal(run(rig), 200 - PACKET_BURST);
    assert_int_equal(rig->ports[2].sent_count, 210);
    rig_destroy(rig);
}

static void test_mirror_copies(void **state) {
    (void)state;
    struct rig *rig = rig_create(COMPONENT_MIRROR, 1, 2, NO_VLAN, NO_VLAN);
    for (unsigned i = 0; i < 40; i++)
        give(rig, 0, 9, i, 60);
    memory.copies_left = 35;
    assert_int_equal(run(rig), 40);
    assert_int_equal(rig->ports[2].sent_count, 40); /* the first goes on, whatever becomes of the copy */
    assert_int_equal(rig->ports[3].sent_count, 35);
    assert_int_equal(drops(rig, PACKET_DROP_NO_MEMORY), 5);
    packet_pop_tag(rig->ports[2].sent[0]);
    assert_int_equal(packet_tag(rig->ports[3].sent[0]), 9);
    rig_destroy(rig);
}

static void test_what_is_not_taken_is_counted_and_freed(void **state) {
    (void)state;
    struct rig *rig = rig_create(COMPONENT_FORWARD, 1, 1, NO_VLAN, NO_VLAN);
    rig->ports[2].room = 45;
    for (unsigned i = 0; i < 70; i++)
        give(rig, 0, -1, i, 60);
    run(rig);
    assert_int_equal(packet_counter(&rig->ports[2].port.sent.packets), 45);
    assert_int_equal(packet_counter(&rig->ports[2].port.sent.bytes), 45 * 60);
    assert_int_equal(packet_counter(&rig->ports[2].port.sent.full), 25);
    rig_destroy(rig);
}

static void test_short_frames_are_dropped_first(void **state) {
    (void)state;
    struct rig *rig = rig_create(COMPONENT_FORWARD, 1, 1, DEL, ADD(1, 0));
    for (unsigned length = 0; length < 30; length++)
        give(rig, 0, 100, length, length);
    run(rig);
    assert_int_equal(drops(rig, PACKET_DROP_SHORT), ETHERNET_HEADER_SIZE);
    assert_int_equal(rig->ports[2].sent_count, 30 - ETHERNET_HEADER_SIZE);
    rig_destroy(rig);
}

static void test_no_headroom_is_a_drop_at_either_end(void **state) {
    (void)state;
    struct rig *rig = rig_create(COMPONENT_FORWARD, 1, 1, ADD(1, 0), ADD(2, 0));
    give(rig, 0, -1, 0, 60);
    rig->ports[0].to_receive[0]->data_offset = 0; /* none for the first */
    give(rig, 0, -1, 1, 60);
    rig->ports[0].to_receive[1]->data_offset = 7; /* none for the second */
    give(rig, 0, -1, 2, 60);
    run(rig);
    assert_int_equal(drops(rig, PACKET_DROP_NO_HEADROOM), 2);
    assert_int_equal(rig->ports[2].sent_count, 1);
    rig_destroy(rig);
}

static void test_incomplete_components_read_nothing(void **state) {
    (void)state;
    static const struct {
        enum component_type type;
        unsigned inputs, outputs;
        bool runs;
    } cases[] = {{COMPONENT_FORWARD, 1, 0, false}, {COMPONENT_FORWARD, 0, 1, false},   {COMPONENT_FORWARD, 1, 1, true},
                 {COMPONENT_MERGE, 2, 0, false},   {COMPONENT_MERGE, 1, 1, true},      {COMPONENT_MIRROR, 1, 1, false},
                 {COMPONENT_MIRROR, 1, 2, true},   {COMPONENT_CLASSIFIER, 1, 2, false}};
    for (size_t i = 0; i < array_count(cases); i++) {
        struct rig *rig = rig_create(cases[i].type, cases[i].inputs, cases[i].outputs, NO_VLAN, NO_VLAN);
        give(rig, 0, -1, 1, 60);
        assert_int_equal(run(rig), cases[i].runs ? 1 : 0);
        assert_int_equal(model_component_runs(rig->model->components[0]), cases[i].runs);
        rig_destroy(rig);
    }
}

/* ---- the model ---- */

static void refused(bool ok, struct rig *rig, enum error_code code) {
    assert_false(ok);
    assert_int_equal(rig->error.code, code);
    assert_true(rig->error.text[0] != '\0');
}

static void test_a_port_has_one_reader_and_one_writer(void **state) {
    (void)state;
    struct rig *rig = rig_create(COMPONENT_FORWARD, 1, 1, NO_VLAN, NO_VLAN);
    struct model *model = rig->model;
    struct error *error = &rig->error;
    assert_true(model_add_component(model, "m", COMPONENT_MERGE, 1, error));
    refused(model_attach(model, "m", "in0", PORT_DIRECTION_RX, NO_VLAN, false, error), rig, ERROR_BUSY);
    refused(model_attach(model, "m", "out0", PORT_DIRECTION_TX, NO_VLAN, false, error), rig, ERROR_BUSY);
    refused(model_attach(model, "c", "in0", PORT_DIRECTION_RX, NO_VLAN, false, error), rig, ERROR_EXISTS);
    refused(model_attach(model, "c", "in1", PORT_DIRECTION_RX, NO_VLAN, false, error), rig,
            ERROR_BUSY); /* a forward has one input */
    refused(model_attach(model, "x", "in1", PORT_DIRECTION_RX, NO_VLAN, false, error), rig, ERROR_NO_DEVICE);
    refused(model_attach(model, "m", "x", PORT_DIRECTION_RX, NO_VLAN, false, error), rig, ERROR_NO_DEVICE);
    refused(model_detach(model, "m", "in0", PORT_DIRECTION_RX, error), rig, ERROR_NOT_FOUND);
    refused(model_remove_port(model, "in0", error), rig, ERROR_BUSY);
    refused(model_add_component(model, "m", COMPONENT_MERGE, 0, error), rig, ERROR_EXISTS);
    refused(model_add_component(model, "a/b", COMPONENT_MERGE, 0, error), rig, ERROR_INVALID);
    refused(model_add_component(model, "", COMPONENT_MERGE, 0, error), rig, ERROR_INVALID);
    refused(model_remove_component(model, "x", error), rig, ERROR_NO_DEVICE);
    /* both directions of one port, and free again when its component goes */
    assert_true(model_attach(model, "m", "in0", PORT_DIRECTION_TX, NO_VLAN, false, error));
    assert_true(model_remove_component(model, "c", error));
    assert_true(model_attach(model, "m", "in0", PORT_DIRECTION_RX, NO_VLAN, false, error));
    rig_destroy(rig);
}

static void test_a_copy_is_apart_from_its_original(void **state) {
    (void)state;
    struct rig *rig = rig_create(COMPONENT_CLASSIFIER, 1, 2, NO_VLAN, NO_VLAN);
    assert_true(model_add_entry(rig->model, "c", MAC, 5, "out0", &rig->error));
    struct model *copy = model_clone(rig->model);
    assert_non_null(copy);
    assert_true(model_remove_entry(copy, "c", MAC, 5, "out0", &rig->error));
    assert_true(model_detach(copy, "c", "in0", PORT_DIRECTION_RX, &rig->error));
    assert_true(model_component_runs(rig->model->components[0]));
    assert_false(model_component_runs(copy->components[0]));
    /* but they count together */
    assert_ptr_equal(copy->components[0]->state, rig->model->components[0]->state);
    model_destroy(copy);
    rig_destroy(rig);
}

static void test_a_ring_takes_what_it_has_room_for(void **state) {
    (void)state;
    struct packet_port *ring;
    struct error error;
    test_memory_init(&memory);
    assert_false(packet_ring_create("r", 3, &memory.memory, &ring, &error));
    assert_false(packet_ring_create("r", 0, &memory.memory, &ring, &error));
    assert_true(packet_ring_create("r", 8, &memory.memory, &ring, &error));
    struct packet *packets[8], *got[8];
    uint32_t sent = 0, received = 0;
    for (unsigned round = 0; round < 1000; round++) {
        unsigned count = 1 + round * 7 % 5, take = 1 + round * 3 % 6;
        for (unsigned i = 0; i < count; i++)
            packets[i] = test_frame(&memory, MAC, -1, sent + i, 60);
        unsigned taken = ring->ops->send(ring, packets, count);
        assert_int_equal(taken, min_u32(count, 8 - (sent - received)));
        memory.memory.free(&memory.memory, packets + taken, count - taken);
        sent += taken;
        unsigned came = ring->ops->receive(ring, got, take);
        assert_int_equal(came, min_u32(take, sent - received));
        for (unsigned i = 0; i < came; i++)
            assert_int_equal(test_frame_number(got[i]), received++);
        memory.memory.free(&memory.memory, got, came);
    }
    ring->ops->destroy(ring);
    assert_int_equal(memory.held, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tags_are_pushed_and_popped),
        cmocka_unit_test(test_no_room_for_a_tag_changes_nothing),
        cmocka_unit_test(test_a_cut_tag_is_no_tag),
        cmocka_unit_test(test_forward_keeps_order_and_applies_both_operations),
        cmocka_unit_test(test_merge_takes_all_inputs_in_turn),
        cmocka_unit_test(test_mirror_copies),
        cmocka_unit_test(test_what_is_not_taken_is_counted_and_freed),
        cmocka_unit_test(test_short_frames_are_dropped_first),
        cmocka_unit_test(test_no_headroom_is_a_drop_at_either_end),
        cmocka_unit_test(test_incomplete_components_read_nothing),
        cmocka_unit_test(test_a_port_has_one_reader_and_one_writer),
        cmocka_unit_test(test_a_copy_is_apart_from_its_original),
        cmocka_unit_test(test_a_ring_takes_what_it_has_room_for),
    };
    test_memory_init(&memory);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
