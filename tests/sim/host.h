/* A host beside the machines: writes to volumes through the product's NVMe/TCP initiator, one block at a time, each time other
 * data, and knows afterwards what they may hold. What it checks by itself: after a write by way of a newer path to a volume was
 * answered, none by way of an older one that was begun later is. */
#pragma once

#include "blockdev/nvme_tcp/nvme_tcp.h"
#include "machine.h"

enum { BLOCKS = 8, BLOCK_BYTES = 4096, WRITERS_MAX = 48, WRITES_MAX = 1 << 16 };

/* A way to a volume. */
struct writer {
    struct sim_client *client;
    unsigned index, volume; /* volume: the caller's number for it, of one generation of it */
    struct nvme_initiator_attach attach;
    char name[16], subnqn[128], hostnqn[64]; /* each a host of its own: a path is attached once */
    uint64_t pause_ns;                       /* between writes */
    uint64_t read_begun_ns;
    bool stopped, idle, checked,
        read_done; /* idle: stopped, and no request is under way; checked: it is to be connected all the same */
    struct block_handle handle;
    struct block_channel *channel;
    struct block_request request;
    struct slice slice;
    uint8_t *buffer;
    uint32_t value;
    uint64_t answered, first_answered_ns;
    struct reactor_message begin;
    struct reactor_timer retry;
};

struct sim_client {
    struct ground *ground;
    struct sim_node *node;
    struct process *process;
    struct reactor *reactor;
    struct block_graph graph;
    struct nvme_initiator *initiator;
    struct writer writers[WRITERS_MAX];
    unsigned writer_count;
    struct write {
        uint32_t block, volume;
        bool answered;
        uint64_t begun_ns, answered_ns;
    } * writes;
    uint32_t write_count; /* 0 is none: zeros */
};

void sim_client_start(struct sim_client *client, struct ground *ground);
/* Before the ground's end, and after it. */
void sim_client_end(struct sim_client *client);
void sim_client_release(struct sim_client *client);
/* Connects to `subnqn` at the machine's address and writes there from now on; those to older ones go on trying. */
struct writer *sim_client_write(struct sim_client *client, unsigned volume, const char *subnqn, const struct machine *machine,
                                uint16_t port, uint64_t pause_ns);
/* Has it had an answer? `arg` is the writer. */
bool writer_has_written(void *arg);
/* Ends its writing; the one under way still counts when it is answered. */
void writer_stop(struct writer *writer);
/* When it was stopped: waits for its last write, reads all blocks of its volume, and fails unless each holds the last write that
 * was answered, or one begun later. */
void writer_check(struct writer *writer);
