/* Frames and ports for the tests of the packet plane, without DPDK: frames from malloc, counted; ports that are arrays. */
#pragma once

#include "packet/port.h"

struct test_memory {
    struct packet_memory memory;
    _Atomic int held;        /* frames made and not freed */
    _Atomic int copies_left; /* before copy() fails; -1 = never */
};
void test_memory_init(struct test_memory *memory);

#define TEST_HEADROOM 128

/* A frame: destination, tag (-1 = none), and a number to know it by behind the header; `length` bytes in all, at least 22 with a
 * tag, 18 without, else it is cut. */
struct packet *test_frame(struct test_memory *memory, const char *mac, int tag, uint32_t number, unsigned length);
/* A frame of any bytes, in memory that ends where they end. */
struct packet *test_frame_of(struct test_memory *memory, const void *bytes, unsigned length);
/* The number it was made with, wherever its header ends now. */
uint32_t test_frame_number(const struct packet *packet);

#define TEST_PORT_FRAMES 4096
struct test_port {
    struct packet_port port;
    struct test_memory *memory;
    struct packet *to_receive[TEST_PORT_FRAMES];
    unsigned receive_count, receive_next;
    struct packet *sent[TEST_PORT_FRAMES];
    unsigned sent_count;
    unsigned room; /* frames that it still takes */
    bool destroyed;
};
void test_port_init(struct test_port *port, const char *name, struct test_memory *memory);
/* Frees what was neither received nor looked at. */
void test_port_fini(struct test_port *port);
