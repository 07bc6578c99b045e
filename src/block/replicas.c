/* Which legs of mirrors this process has, whoever's they are: stores on different reactors ask, so it is the one table here that
 * has a lock. Nobody waits for it longer than for a look-up: they come and go with volumes, and are asked for with records. */
#include "block/device.h"

static uint64_t hash_of(const struct uuid *leg) { return hash_bytes(leg->bytes, sizeof(leg->bytes), 0); }

static void lock(struct block_graph *graph) {
    while (atomic_flag_test_and_set_explicit(&graph->replicas_lock, memory_order_acquire)) {
    }
}

static void unlock(struct block_graph *graph) { atomic_flag_clear_explicit(&graph->replicas_lock, memory_order_release); }

bool block_replica_enter(struct block_graph *graph, struct block_replica *replica, const struct uuid *leg) {
    replica->leg = *leg;
    lock(graph);
    bool entered = hash_map_insert(&graph->replicas, &replica->node, hash_of(leg));
    unlock(graph);
    return entered;
}

void block_replica_leave(struct block_graph *graph, struct block_replica *replica) {
    lock(graph);
    hash_map_remove(&graph->replicas, &replica->node);
    unlock(graph);
}

bool block_replica_is_here(struct block_graph *graph, const struct uuid *leg) {
    lock(graph);
    struct hash_node *node = hash_map_first(&graph->replicas, hash_of(leg));
    while (node != NULL && !uuid_equal(&container_of(node, struct block_replica, node)->leg, leg))
        node = hash_map_next(node);
    unlock(graph);
    return node != NULL;
}
