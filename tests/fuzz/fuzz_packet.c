/* Fuzzes what looks at frames: any bytes as a frame through a classifier with tags added and taken away, against a slow reading
 * of the same rules. */
#include <stdlib.h>

#include "frames.h"
#include "packet/graph.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OUTPUTS = 3 };

static const struct table_entry entries[] = {
    {.address = UINT64_C(0x0100003e16fa), .vlan = 100, .output = 0},
    {.address = UINT64_C(0x0100003e16fa), .vlan = TABLE_UNTAGGED, .output = 1},
    {.address = UINT64_C(0x0200003e16fa), .vlan = 100, .output = 1},
    {.vlan = 200, .output = 2, .is_default = true},
    {.address = 0, .vlan = TABLE_UNTAGGED, .output = TABLE_DETACHED},
};

/* Outputs that a frame must reach, as bits. */
static unsigned judge(const uint8_t *frame, size_t size) {
    unsigned vlan = TABLE_UNTAGGED, reached = 0;
    if (size < ETHERNET_HEADER_SIZE)
        return 0;
    if (size >= 18 && frame[12] == 0x81 && frame[13] == 0)
        vlan = (frame[14] & 15U) << 8 | frame[15];
    if (vlan == 0)
        vlan = TABLE_UNTAGGED;
    for (size_t i = 0; i < array_count(entries); i++)
        if (!entries[i].is_default && entries[i].vlan == vlan && memcmp(frame, &entries[i].address, 6) == 0)
            return entries[i].output == TABLE_DETACHED ? 0 : 1U << entries[i].output;
    for (size_t i = 0; i < array_count(entries); i++)
        if (entries[i].vlan == vlan && entries[i].output != TABLE_DETACHED && (entries[i].is_default || (frame[0] & 1) != 0))
            reached |= 1U << entries[i].output;
    return reached;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2 || size > 2048)
        return 0;
    struct vlan_operation operation = {.action = (enum vlan_action)(data[0] % 3), .tag = (uint16_t)(data[1] << 8 | data[0])};
    data += 2;
    size -= 2;

    struct test_memory memory;
    struct component_counters counters = {0};
    struct table *table = table_create(entries, array_count(entries));
    struct test_port *ports = calloc(1 + OUTPUTS, sizeof(*ports));
    struct plan_scratch *scratch = calloc(1, sizeof(*scratch));
    assert(table != NULL && ports != NULL && scratch != NULL);
    test_memory_init(&memory);
    struct plan_end ends[1 + OUTPUTS];
    for (unsigned i = 0; i <= OUTPUTS; i++) {
        test_port_init(&ports[i], "p", &memory);
        ends[i] = (struct plan_end){.port = &ports[i].port, .vlan = i == 0 ? (struct vlan_operation){0} : operation};
    }
    struct plan_component component = {.type = COMPONENT_CLASSIFIER,
                                       .counters = &counters,
                                       .table = table,
                                       .inputs = ends,
                                       .outputs = ends + 1,
                                       .input_count = 1,
                                       .output_count = OUTPUTS};
    struct plan plan = {.components = &component, .component_count = 1};
    scratch->memory = &memory.memory;
    ports[0].to_receive[ports[0].receive_count++] = test_frame_of(&memory, data, (unsigned)size);
    unsigned came = plan_run(&plan, scratch);
    assert(came == 1);

    unsigned reached = 0;
    for (unsigned i = 0; i < OUTPUTS; i++) {
        if (ports[1 + i].sent_count == 0)
            continue;
        const struct packet *sent = ports[1 + i].sent[0];
        reached |= 1U << i;
        assert(sent->length == sent->first_length && sent->length + 4 >= size && sent->length <= size + 4);
        assert(memcmp(packet_data(sent), data, ETHERNET_ADDRESSES_SIZE) == 0);
        /* what lies behind tags is untouched */
        size_t rest = size >= 18 ? size - 18 : 0;
        assert(rest == 0 || memcmp(packet_data(sent) + sent->length - rest, data + 18, rest) == 0);
    }
    assert(reached == judge(data, size));
    uint64_t dropped = 0;
    for (unsigned i = 0; i < PACKET_DROP_COUNT; i++)
        dropped += packet_counter(&counters.drops[i]);
    assert(dropped == (reached == 0));
    for (unsigned i = 0; i <= OUTPUTS; i++)
        test_port_fini(&ports[i]);
    assert(memory.held == 0);
    table_destroy(table);
    free(ports);
    free(scratch);
    return 0;
}
