#include "frames.h"

#include <stdio.h>
#include <stdlib.h>

#include "packet/mac.h"

static struct packet *frame_new(struct test_memory *memory, unsigned length) {
    struct packet *packet = calloc(1, sizeof(*packet));
    uint8_t *buffer = calloc(1, TEST_HEADROOM + max_u32(length, 32));
    assert(packet != NULL && buffer != NULL);
    packet->buffer = buffer;
    packet->data_offset = TEST_HEADROOM;
    packet->segments = 1;
    packet->length = length;
    packet->first_length = (uint16_t)length;
    packet->buffer_size = (uint16_t)(TEST_HEADROOM + max_u32(length, 32));
    packet->pool = memory;
    atomic_fetch_add(&memory->held, 1);
    return packet;
}

static struct packet *memory_copy(struct packet_memory *base, const struct packet *from) {
    struct test_memory *memory = container_of(base, struct test_memory, memory);
    if (memory->copies_left == 0)
        return NULL;
    if (memory->copies_left > 0)
        memory->copies_left--;
    struct packet *packet = frame_new(memory, from->length);
    memcpy(packet_data(packet), packet_data(from), from->first_length);
    return packet;
}

static void memory_free(struct packet_memory *base, struct packet *const *packets, unsigned count) {
    struct test_memory *memory = container_of(base, struct test_memory, memory);
    for (unsigned i = 0; i < count; i++) {
        free(packets[i]->buffer);
        free(packets[i]);
        atomic_fetch_sub(&memory->held, 1);
    }
}

void test_memory_init(struct test_memory *memory) {
    *memory = (struct test_memory){.memory = {.copy = memory_copy, .free = memory_free}, .copies_left = -1};
}

struct packet *test_frame(struct test_memory *memory, const char *mac, int tag, uint32_t number, unsigned length) {
    uint64_t address;
    if (!mac_parse(mac, &address))
        assert(!"an address");
    uint8_t bytes[32] = {0};
    put_le64(bytes, address);
    put_le64(bytes + 6, UINT64_C(0x0100003e16fa)); /* from fa:16:3e:00:00:01 */
    uint8_t *next = bytes + ETHERNET_ADDRESSES_SIZE;
    if (tag >= 0) {
        put_be16(next, VLAN_TYPE);
        put_be16(next + 2, (uint16_t)tag);
        next += VLAN_TAG_SIZE;
    }
    put_be16(next, 0x88b5); /* for experiments */
    put_be32(next + 2, number);
    struct packet *packet = frame_new(memory, length);
    memcpy(packet_data(packet), bytes, min_u32(length, sizeof(bytes)));
    return packet;
}

struct packet *test_frame_of(struct test_memory *memory, const void *bytes, unsigned length) {
    struct packet *packet = frame_new(memory, length);
    memcpy(packet_data(packet), bytes, length);
    return packet;
}

uint32_t test_frame_number(const struct packet *packet) {
    const uint8_t *next = packet_data(packet) + ETHERNET_ADDRESSES_SIZE;
    while (get_be16(next) == VLAN_TYPE)
        next += VLAN_TAG_SIZE;
    return get_be32(next + 2);
}

static struct test_port *port_of(struct packet_port *port) { return container_of(port, struct test_port, port); }

static unsigned port_receive(struct packet_port *base, struct packet **ret_packets, unsigned capacity) {
    struct test_port *port = port_of(base);
    unsigned count = min_u32(capacity, port->receive_count - port->receive_next);
    for (unsigned i = 0; i < count; i++)
        ret_packets[i] = port->to_receive[port->receive_next++];
    return count;
}

static unsigned port_send(struct packet_port *base, struct packet **packets, unsigned count) {
    struct test_port *port = port_of(base);
    count = min_u32(count, min_u32(port->room, TEST_PORT_FRAMES - port->sent_count));
    for (unsigned i = 0; i < count; i++)
        port->sent[port->sent_count++] = packets[i];
    port->room -= count;
    return count;
}

static bool port_sleep(struct packet_port *port, bool asleep) { return (void)port, (void)asleep, true; }
static bool port_is_up(struct packet_port *port) { return (void)port, true; }
static void port_destroy(struct packet_port *port) { port_of(port)->destroyed = true; }

void test_port_init(struct test_port *port, const char *name, struct test_memory *memory) {
    static const struct packet_port_ops ops = {
        .receive = port_receive, .send = port_send, .sleep = port_sleep, .is_up = port_is_up, .destroy = port_destroy};
    memset(port, 0, sizeof(*port));
    port->port.ops = &ops;
    port->port.kind = "test";
    snprintf(port->port.name, sizeof(port->port.name), "%s", name);
    port->memory = memory;
    port->room = UINT32_MAX;
}

void test_port_fini(struct test_port *port) {
    struct packet_memory *memory = &port->memory->memory;
    memory->free(memory, port->to_receive + port->receive_next, port->receive_count - port->receive_next);
    memory->free(memory, port->sent, port->sent_count);
}
