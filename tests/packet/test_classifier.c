/* The classifier's semantics as tables: entries, a frame, where it must go. And what a table must be at any size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/random.h"
#include "frames.h"
#include "packet/mac.h"
#include "packet/model.h"

#define M1 "fa:16:3e:00:00:01"
#define M2 "fa:16:3e:00:00:02"
#define M3 "fa:16:3e:00:00:03"
#define BROADCAST "ff:ff:ff:ff:ff:ff"
#define MULTICAST "01:00:5e:00:00:01"
#define UNTAGGED TABLE_UNTAGGED
#define PORTS 4 /* outputs p0 … p3 */

struct entry {
    const char *mac;
    unsigned vlan;
    unsigned port;
};
struct sample {
    const char *what;
    struct entry entries[6];
    unsigned entry_count;
    const char *mac;
    int tag;               /* -1 = none */
    const char *outputs;   /* "02": p0 and p2 */
    enum packet_drop drop; /* if there are none */
};

#define ENTRIES(...) .entries = {__VA_ARGS__}, .entry_count = sizeof((struct entry[]){__VA_ARGS__}) / sizeof(struct entry)

static const struct sample samples[] = {
    {"a known address goes to its port", ENTRIES({M1, UNTAGGED, 1}, {M2, UNTAGGED, 2}), M2, -1, "2", 0},
    {"a known address in a VLAN", ENTRIES({M1, 100, 1}, {M1, 200, 2}), M1, 200, "2", 0},
    {"priority bits are no part of the VLAN", ENTRIES({M1, 100, 1}), M1, 7 << 13 | 100, "1", 0},
    {"an address is known in its VLAN only", ENTRIES({M1, 100, 1}, {M2, 200, 2}), M1, 200, "", PACKET_DROP_NO_ENTRY},
    {"tagged is not untagged", ENTRIES({M1, UNTAGGED, 1}), M1, 100, "", PACKET_DROP_NO_VLAN},
    {"untagged is not tagged", ENTRIES({M1, 100, 1}), M1, -1, "", PACKET_DROP_NO_VLAN},
    {"VLAN 4095 is not the untagged one", ENTRIES({M1, 4095, 1}), M1, -1, "", PACKET_DROP_NO_VLAN},
    {"VLAN 4095 is one like others", ENTRIES({M1, 4095, 1}, {M1, UNTAGGED, 2}), M1, 4095, "1", 0},
    {"several addresses of one port, first", ENTRIES({M1, UNTAGGED, 1}, {M2, UNTAGGED, 1}), M1, -1, "1", 0},
    {"several addresses of one port, second", ENTRIES({M1, UNTAGGED, 1}, {M2, UNTAGGED, 1}), M2, -1, "1", 0},
    {"one port in two VLANs", ENTRIES({M1, 100, 1}, {M1, 200, 1}), M1, 200, "1", 0},

    {"unknown goes to its VLAN's default", ENTRIES({M1, 100, 1}, {"default", 100, 2}, {"default", UNTAGGED, 3}), M3, 100, "2", 0},
    {"else to the untagged default", ENTRIES({M1, 100, 1}, {"default", UNTAGGED, 3}), M3, 100, "3", 0},
    {"a VLAN without entries goes to the untagged default", ENTRIES({"default", UNTAGGED, 3}), M3, 7, "3", 0},
    {"unknown, untagged", ENTRIES({M1, UNTAGGED, 1}, {"default", UNTAGGED, 3}), M3, -1, "3", 0},
    {"a tagged default is nothing to the untagged", ENTRIES({"default", 100, 3}), M3, -1, "", PACKET_DROP_NO_VLAN},
    {"a known address is not the default's", ENTRIES({M1, UNTAGGED, 1}, {"default", UNTAGGED, 3}), M1, -1, "1", 0},
    {"no address is the mark of the default", ENTRIES({"00:00:00:00:00:01", UNTAGGED, 1}), M3, -1, "", PACKET_DROP_NO_ENTRY},
    {"the all-zero address is one like others", ENTRIES({"00:00:00:00:00:00", UNTAGGED, 1}, {"default", UNTAGGED, 2}),
     "00:00:00:00:00:00", -1, "1", 0},

    {"broadcast reaches the VLAN", ENTRIES({M1, 100, 0}, {M2, 100, 1}, {M3, 200, 2}), BROADCAST, 100, "01", 0},
    {"broadcast, untagged", ENTRIES({M1, UNTAGGED, 0}, {M2, UNTAGGED, 1}, {M3, 200, 2}), BROADCAST, -1, "01", 0},
    {"multicast is broadcast", ENTRIES({M1, 100, 0}, {M2, 100, 1}), MULTICAST, 100, "01", 0},
    {"a port with two addresses hears it once", ENTRIES({M1, 100, 0}, {M2, 100, 0}, {M3, 100, 1}), BROADCAST, 100, "01", 0},
    {"the VLAN's default hears it", ENTRIES({M1, 100, 0}, {"default", 100, 2}), BROADCAST, 100, "02", 0},
    {"the untagged default hears tagged ones", ENTRIES({M1, 100, 0}, {"default", UNTAGGED, 3}), BROADCAST, 100, "03", 0},
    {"and once, though it is a member as well", ENTRIES({M1, 100, 3}, {"default", UNTAGGED, 3}), BROADCAST, 100, "3", 0},
    {"a VLAN without entries: the untagged default alone", ENTRIES({M1, 100, 0}, {"default", UNTAGGED, 3}), BROADCAST, 9, "3", 0},
    {"nobody to hear it", ENTRIES({M1, 100, 0}), BROADCAST, 9, "", PACKET_DROP_NO_MEMBER},
    {"a group with an entry goes there alone", ENTRIES({MULTICAST, 100, 2}, {M1, 100, 0}), MULTICAST, 100, "2", 0},
    {"broadcast with an entry goes there alone", ENTRIES({BROADCAST, UNTAGGED, 2}, {M1, UNTAGGED, 0}), BROADCAST, -1, "2", 0},

    {"a priority tag is none", ENTRIES({M1, UNTAGGED, 1}), M1, 5 << 13, "1", 0},
    {"a priority tag is none for groups", ENTRIES({M1, UNTAGGED, 1}, {"default", UNTAGGED, 3}), BROADCAST, 5 << 13, "13", 0},
    {"unless VLAN 0 has entries", ENTRIES({M1, UNTAGGED, 1}, {M1, 0, 2}), M1, 5 << 13, "2", 0},
};

struct rig {
    struct test_memory memory;
    struct model *model;
    struct test_port input, outputs[PORTS];
    struct model_plans plans;
    struct plan_scratch scratch;
};

static void rig_init(struct rig *rig) {
    struct error error;
    test_memory_init(&rig->memory);
    rig->model = model_create();
    assert_non_null(rig->model);
    assert_true(model_add_component(rig->model, "c", COMPONENT_CLASSIFIER, 0, &error));
    test_port_init(&rig->input, "in", &rig->memory);
    assert_true(model_add_port(rig->model, &rig->input.port, &error));
    assert_true(model_attach(rig->model, "c", "in", PORT_DIRECTION_RX, (struct vlan_operation){0}, false, &error));
    for (unsigned i = 0; i < PORTS; i++) {
        char name[8];
        snprintf(name, sizeof(name), "p%u", i);
        test_port_init(&rig->outputs[i], name, &rig->memory);
        assert_true(model_add_port(rig->model, &rig->outputs[i].port, &error));
        assert_true(model_attach(rig->model, "c", name, PORT_DIRECTION_TX, (struct vlan_operation){0}, false, &error));
    }
    memset(&rig->scratch, 0, sizeof(rig->scratch));
    rig->scratch.memory = &rig->memory.memory;
}

static void rig_fini(struct rig *rig) {
    test_port_fini(&rig->input);
    for (unsigned i = 0; i < PORTS; i++)
        test_port_fini(&rig->outputs[i]);
    assert_int_equal(rig->memory.held, 0);
    model_destroy(rig->model);
}

static struct component_counters *rig_counters(struct rig *rig) { return &rig->model->components[0]->state->counters; }

static void check_sample(const struct sample *sample) {
    struct rig *rig = malloc(sizeof(*rig));
    struct error error;
    rig_init(rig);
    for (unsigned i = 0; i < sample->entry_count; i++) {
        char port[8];
        snprintf(port, sizeof(port), "p%u", sample->entries[i].port);
        if (!model_add_entry(rig->model, "c", sample->entries[i].mac, sample->entries[i].vlan, port, &error))
            fail_msg("%s: %s", sample->what, error.text);
    }
    assert_true(model_compile(rig->model, &rig->plans));
    rig->input.to_receive[rig->input.receive_count++] = test_frame(&rig->memory, sample->mac, sample->tag, 77, 60);
    assert_int_equal(plan_run(&rig->plans.plans[0], &rig->scratch), 1);

    char outputs[PORTS + 1] = "";
    for (unsigned i = 0, n = 0; i < PORTS; i++) {
        struct test_port *port = &rig->outputs[i];
        assert_true(port->sent_count <= 1);
        if (port->sent_count == 1) {
            outputs[n++] = (char)('0' + i);
            assert_int_equal(test_frame_number(port->sent[0]), 77);
            assert_int_equal(port->sent[0]->length, 60);
            assert_int_equal(packet_counter(&port->port.sent.packets), 1);
            assert_int_equal(packet_counter(&port->port.sent.bytes), 60);
        }
    }
    if (strcmp(outputs, sample->outputs) != 0)
        fail_msg("%s: went to \"%s\" and not to \"%s\"", sample->what, outputs, sample->outputs);
    for (unsigned i = 0; i < PACKET_DROP_COUNT; i++) {
        uint64_t want = sample->outputs[0] == '\0' && i == (unsigned)sample->drop;
        if (packet_counter(&rig_counters(rig)->drops[i]) != want)
            fail_msg("%s: drops %s", sample->what, packet_drop_name((enum packet_drop)i));
    }
    assert_int_equal(packet_counter(&rig_counters(rig)->copies), strlen(outputs) == 0 ? 0 : strlen(outputs) - 1);
    model_plans_fini(&rig->plans);
    rig_fini(rig);
    free(rig);
}

static void test_samples(void **state) {
    (void)state;
    for (size_t i = 0; i < array_count(samples); i++)
        check_sample(&samples[i]);
}

static void add(struct rig *rig, const char *mac, unsigned vlan, const char *port) {
    struct error error;
    if (!model_add_entry(rig->model, "c", mac, vlan, port, &error))
        fail_msg("%s", error.text);
}

static void test_entry_of_detached_port_does_not_fall_to_default(void **state) {
    (void)state;
    struct rig *rig = malloc(sizeof(*rig));
    struct error error;
    rig_init(rig);
    add(rig, M1, 100, "p1");
    add(rig, "default", 100, "p2");
    add(rig, "default", 200, "p1");
    assert_true(model_detach(rig->model, "c", "p1", PORT_DIRECTION_TX, &error));
    assert_true(model_compile(rig->model, &rig->plans));
    rig->input.to_receive[rig->input.receive_count++] = test_frame(&rig->memory, M1, 100, 1, 60);
    rig->input.to_receive[rig->input.receive_count++] = test_frame(&rig->memory, M3, 200, 2, 60);
    rig->input.to_receive[rig->input.receive_count++] = test_frame(&rig->memory, BROADCAST, 100, 3, 60);
    assert_int_equal(plan_run(&rig->plans.plans[0], &rig->scratch), 3);
    assert_int_equal(packet_counter(&rig_counters(rig)->drops[PACKET_DROP_DETACHED]), 2);
    assert_int_equal(rig->outputs[1].sent_count, 0);
    assert_int_equal(rig->outputs[2].sent_count, 1); /* the broadcast */
    model_plans_fini(&rig->plans);
    rig_fini(rig);
    free(rig);
}

static void refused(bool ok, const struct error *error, enum error_code code) {
    assert_false(ok);
    assert_int_equal(error->code, code);
    assert_true(error->text[0] != '\0');
}

static void test_entries_are_checked(void **state) {
    (void)state;
    struct rig *rig = malloc(sizeof(*rig));
    struct model *model;
    struct error error;
    rig_init(rig);
    model = rig->model;
    add(rig, M1, 100, "p1");
    add(rig, "default", 100, "p1");
    refused(model_add_entry(model, "c", M1, 100, "p2", &error), &error, ERROR_EXISTS);
    refused(model_add_entry(model, "c", "FA-16-3E-00-00-01", 100, "p1", &error), &error, ERROR_EXISTS);
    refused(model_add_entry(model, "c", "default", 100, "p2", &error), &error, ERROR_EXISTS);
    refused(model_add_entry(model, "c", "fa:16:3e:00:00", 100, "p1", &error), &error, ERROR_INVALID);
    refused(model_add_entry(model, "c", M2, 100, "nowhere", &error), &error, ERROR_NO_DEVICE);
    refused(model_add_entry(model, "x", M2, 100, "p1", &error), &error, ERROR_NO_DEVICE);
    refused(model_add_entry(model, "c", M2, 100, "in", &error), &error, ERROR_INVALID); /* no output */
    refused(model_remove_entry(model, "c", M2, 100, "p1", &error), &error, ERROR_NOT_FOUND);
    refused(model_remove_entry(model, "c", M1, 100, "p2", &error), &error, ERROR_NOT_FOUND);
    refused(model_remove_entry(model, "c", M1, UNTAGGED, "p1", &error), &error, ERROR_NOT_FOUND);
    refused(model_remove_port(model, "p1", &error), &error, ERROR_BUSY);
    assert_true(model_detach(model, "c", "p1", PORT_DIRECTION_TX, &error));
    refused(model_remove_port(model, "p1", &error), &error, ERROR_BUSY); /* still in the table */
    assert_true(model_remove_entry(model, "c", M1, 100, "p1", &error));
    assert_true(model_remove_entry(model, "c", "default", 100, "p1", &error));
    assert_true(model_remove_port(model, "p1", &error));
    rig_fini(rig);
    free(rig);
}

/* Against a list that is searched from front to back. */
static void test_random_tables(void **state) {
    (void)state;
    enum { ENTRIES_MAX = 5000 };
    static struct table_entry entries[ENTRIES_MAX];
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct random random;
        random_init(&random, seed);
        uint32_t wanted = (uint32_t)random_below(&random, seed % 4 == 0 ? ENTRIES_MAX : 50), count = 0;
        unsigned vlans = 1 + (unsigned)random_below(&random, 5);
        for (uint32_t i = 0; i < wanted; i++) {
            /* close addresses, as an operator gives them, or any */
            struct table_entry entry = {
                .address = UINT64_C(0x0000003e16fa) | (random_u64(&random) & (seed % 2 ? 0xff : 0xffffff)) << 24,
                .vlan = (uint16_t)(random_below(&random, vlans) == 0 ? TABLE_UNTAGGED : random_below(&random, vlans)),
                .output = (uint16_t)random_below(&random, PACKET_OUTPUTS_MAX),
                .is_default = random_chance(&random, 1, 20)};
            bool there = false;
            for (uint32_t n = 0; n < count; n++)
                there = there || (entries[n].vlan == entry.vlan && entries[n].is_default == entry.is_default &&
                                  (entry.is_default || entries[n].address == entry.address));
            if (!there)
                entries[count++] = entry;
        }
        struct table *table = table_create(entries, count);
        assert_non_null(table);
        for (uint32_t i = 0; i < count; i++) {
            uint64_t key = table_key(entries[i].address, entries[i].vlan),
                     other = table_key(entries[i].address ^ 1, entries[i].vlan);
            if (!entries[i].is_default && table_find(table, key) != entries[i].output)
                fail_msg("seed %llu: entry %u is not found", (unsigned long long)seed, i);
            assert_int_equal(table_find(table, other), TABLE_NOWHERE);
            if (entries[i].is_default)
                assert_int_equal(table_find_default(table, entries[i].vlan), entries[i].output);
        }
        for (unsigned vlan = 0; vlan <= TABLE_UNTAGGED; vlan += vlan < 10 ? 1 : 1362) {
            uint64_t want = 0, got = 0;
            uint16_t outputs[PACKET_OUTPUTS_MAX];
            for (uint32_t i = 0; i < count; i++)
                if (entries[i].vlan == vlan || (entries[i].vlan == TABLE_UNTAGGED && entries[i].is_default))
                    want |= UINT64_C(1) << entries[i].output % PACKET_OUTPUTS_MAX;
            unsigned members = table_find_members(table, vlan, outputs, PACKET_OUTPUTS_MAX);
            for (unsigned i = 0; i < members; i++) {
                assert_true((got >> outputs[i] & 1) == 0);
                got |= UINT64_C(1) << outputs[i];
            }
            assert_true(got == want);
        }
        table_destroy(table);
    }
}

static void test_addresses_are_read_as_people_write_them(void **state) {
    (void)state;
    uint64_t address;
    char text[MAC_TEXT_SIZE];
    assert_true(mac_parse("Fa-16-3E-00-0a-01", &address));
    assert_string_equal(mac_format(address, text), "fa:16:3e:00:0a:01");
    static const char *const bad[] = {"",
                                      "fa",
                                      "fa:16:3e:00:0a",
                                      "fa:16:3e:00:0a:01:02",
                                      "fa:16-3e:00:0a:01",
                                      "fa163e000a01",
                                      "fa.16.3e.00.0a.01",
                                      "fa:16:3e:00:0a:0g",
                                      "fa:16:3e:00:0a:1",
                                      " fa:16:3e:00:0a:01",
                                      "fa:16:3e:00:0a:01 "};
    for (size_t i = 0; i < array_count(bad); i++)
        assert_false(mac_parse(bad[i], &address));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_samples),
        cmocka_unit_test(test_entry_of_detached_port_does_not_fall_to_default),
        cmocka_unit_test(test_entries_are_checked),
        cmocka_unit_test(test_random_tables),
        cmocka_unit_test(test_addresses_are_read_as_people_write_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
