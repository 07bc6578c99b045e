/* What a mirror makes of its leg's tree: snapshots, deletions, reverts and sizes, each with the tree's number in one record. */
#include "leg.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/bitmap.h"

#define LAYERS_BYTES (sizeof(struct replica_layers) + 8 * sizeof(struct replica_layer))

/* One that has what the caller does not care about. */
static struct replica_tree change(enum replica_change what, uint64_t sequence, uint64_t layer) {
    struct replica_tree tree = {.sequence = sequence, .change = 1000 + sequence, .layer = layer, .what = what};
    if (what == REPLICA_SNAPSHOT)
        snprintf(tree.name, sizeof(tree.name), "s%u", (unsigned)layer);
    return tree;
}

static enum io_status tree(struct fixture *f, const struct port *port, enum replica_change what, uint64_t sequence,
                           uint64_t layer) {
    struct replica_tree document = change(what, sequence, layer);
    return put(f, port, REPLICA_TREE, &document, sizeof(document));
}

static enum io_status checked(struct fixture *f, const struct port *port, enum replica_change what, uint64_t layer) {
    struct replica_tree document = change(what, 99, layer);
    document.flags = REPLICA_TREE_CHECK;
    return put(f, port, REPLICA_TREE, &document, sizeof(document));
}

static enum io_status resize(struct fixture *f, const struct port *port, uint64_t sequence, uint64_t bytes) {
    struct replica_tree document = change(REPLICA_RESIZE, sequence, 0);
    document.size = bytes;
    return put(f, port, REPLICA_TREE, &document, sizeof(document));
}

static struct replica_layers *layers(struct fixture *f, const struct port *port) {
    static uint8_t document[LAYERS_BYTES] __attribute__((aligned(8)));
    assert_int_equal(io_run(f, port, BLOCK_REPLICA_GET, replica_argument(REPLICA_LAYERS, 0, 0), 0, LAYERS_BYTES, document),
                     IO_OK);
    return (struct replica_layers *)(void *)document;
}

static const struct replica_layer *layer(const struct replica_layers *layers, uint64_t id) {
    for (uint32_t i = 0; i < layers->count; i++)
        if (layers->layers[i].id == id)
            return &layers->layers[i];
    return NULL;
}

static uint8_t read_at(struct fixture *f, const struct port *port, uint64_t offset) {
    static uint8_t buffer[4096];
    assert_int_equal(io_run(f, port, BLOCK_READ, 0, offset, sizeof(buffer), buffer), IO_OK);
    return buffer[17];
}

/* Of a layer that is not the head. */
static uint8_t read_layer(struct fixture *f, const struct port *port, uint32_t number, uint64_t offset) {
    static uint8_t buffer[4096] __attribute__((aligned(4096)));
    assert_int_equal(
        io_run(f, port, BLOCK_REPLICA_GET, replica_argument(REPLICA_READ, 0, number), offset, sizeof(buffer), buffer), IO_OK);
    return buffer[17];
}

static uint16_t owned(struct fixture *f, const struct port *port, uint32_t number) {
    uint8_t bits[2];
    assert_int_equal(io_run(f, port, BLOCK_REPLICA_GET, replica_argument(REPLICA_OWNED, 0, number), 0, sizeof(bits), bits),
                     IO_OK);
    return get_le16(bits);
}

static void begin_leg(struct fixture *f, struct port *port) {
    begin(f);
    way(f, port);
    assert_int_equal(claim(f, port, 2, 1, 1), IO_OK);
    assert_int_equal(store(f, port, 1, 0, 0), IO_OK);
}

/* Attributes of a layer, with the room that is asked for. */
static enum io_status pairs_of(struct fixture *f, const struct port *port, uint32_t number, size_t room,
                               struct replica_pairs *ret) {
    return io_run(f, port, BLOCK_REPLICA_GET, replica_argument(REPLICA_PAIRS, 0, number), 0, room, ret);
}

/* What people gave it is told, what says something of this copy alone is not. */
static void tells_attributes(struct fixture *f, const struct port *port, const struct replica_layer *one,
                             const struct replica_layer *two) {
    uint8_t room[REPLICA_PAIRS_BYTES] __attribute__((aligned(8)));
    struct replica_pairs *pairs = (void *)room;
    struct volume_command command = {.volume = one->uuid, .name = VOLUME_CHECKSUM_ATTRIBUTE, .value = "4711"};
    assert_true(session_command(&f->session, volume_attribute_set, &command));
    command = (struct volume_command){.volume = one->uuid, .name = "when", .value = ""};
    assert_true(session_command(&f->session, volume_attribute_set, &command));
    assert_int_equal(pairs_of(f, port, one->layer, sizeof(room), pairs), IO_OK);
    assert_int_equal(pairs->pair_bytes, 15);
    assert_memory_equal(pairs->pairs, "user\0yes\0when\0\0", 15);
    assert_null(replica_pairs_check(pairs, sizeof(room)));
    assert_int_equal(pairs_of(f, port, two->layer, 64, pairs), IO_OK);
    assert_int_equal(pairs->pair_bytes, 0);
    assert_int_equal(pairs_of(f, port, one->layer, sizeof(*pairs) + 14, pairs), IO_INVALID); /* no room */
    assert_int_equal(pairs_of(f, port, one->layer, 4, pairs), IO_INVALID);
    assert_int_equal(pairs_of(f, port, one->layer, sizeof(room) + 4, pairs), IO_INVALID);
    assert_int_equal(io_run(f, port, BLOCK_REPLICA_GET, replica_argument(REPLICA_PAIRS, 0, one->layer), 8, 64, pairs),
                     IO_INVALID);
    assert_int_equal(pairs_of(f, port, 4000, 64, pairs), IO_DEVICE_GONE);
    /* and with all that there can be */
    char value[2900];
    memset(value, 'v', sizeof(value));
    value[sizeof(value) - 1] = '\0';
    command = (struct volume_command){.volume = one->uuid, .name = "long", .value = value};
    assert_true(session_command(&f->session, volume_attribute_set, &command));
    assert_int_equal(pairs_of(f, port, one->layer, sizeof(room), pairs), IO_OK);
    assert_int_equal(pairs->pair_bytes, 15 + 5 + sizeof(value));
    for (unsigned i = 0; i < REPLICA_PAIRS_MAX; i++) {
        char name[8];
        snprintf(name, sizeof(name), "%u", i);
        command = (struct volume_command){.volume = two->uuid, .name = name, .value = "1"};
        assert_true(session_command(&f->session, volume_attribute_set, &command));
    }
    command = (struct volume_command){.volume = two->uuid, .name = "more", .value = "1"};
    assert_true(session_command(&f->session, volume_attribute_set, &command));
    assert_int_equal(pairs_of(f, port, two->layer, sizeof(room), pairs), IO_OK);
    assert_null(replica_pairs_check(pairs, sizeof(room))); /* a document holds no more of them */
}

static void snapshots_make_a_tree_with_the_mirrors_names(void **state) {
    (void)state;
    struct fixture f;
    struct port a;
    begin_leg(&f, &a);
    assert_int_equal(status_of(&f, &a).tree_sequence, 0);
    assert_int_equal(write_at(&f, &a, 0, 1), IO_OK);
    union {
        struct replica_tree tree;
        uint8_t bytes[sizeof(struct replica_tree) + 16];
    } first = {.tree = change(REPLICA_SNAPSHOT, 1, 71)};
    memcpy(first.tree.pairs, "user\0yes\0", 9);
    first.tree.pair_bytes = 9;
    first.tree.created_ns = 123456789;
    assert_int_equal(put(&f, &a, REPLICA_TREE, &first, sizeof(first.tree) + 9), IO_OK);
    assert_int_equal(write_at(&f, &a, MIB(1), 2), IO_OK);
    assert_int_equal(tree(&f, &a, REPLICA_SNAPSHOT, 2, 72), IO_OK);
    assert_int_equal(tree(&f, &a, REPLICA_SNAPSHOT, 2, 72), IO_OK); /* it is there already */
    assert_int_equal(write_at(&f, &a, MIB(2), 3), IO_OK);
    const struct replica_layers *now = layers(&f, &a);
    assert_int_equal(now->count, 2);
    assert_int_equal(now->sequence, 2);
    assert_int_equal(now->change, 1002);
    assert_int_equal(now->head_parent, 72);
    assert_int_equal(now->head_size, VOLUME_BYTES);
    const struct replica_layer *one = layer(now, 71), *two = layer(now, 72);
    assert_int_equal(one->parent, 0);
    assert_int_equal(one->created_ns, 123456789);
    assert_int_equal(one->children, 1);
    assert_int_equal(one->size, VOLUME_BYTES);
    assert_int_equal(one->used, KIB(64));
    assert_string_equal(one->name, "s71");
    assert_int_equal(two->parent, 71);
    assert_int_equal(read_layer(&f, &a, one->layer, 0), 1);
    assert_int_equal(read_layer(&f, &a, one->layer, MIB(1)), 0);
    assert_int_equal(read_layer(&f, &a, two->layer, MIB(1)), 2);
    assert_int_equal(owned(&f, &a, one->layer), 1u << 0);
    assert_int_equal(owned(&f, &a, two->layer), 1u << 1);
    assert_int_equal(owned(&f, &a, REPLICA_LAYER_HEAD), 1u << 2);
    struct volume_command command = {.volume = one->uuid, .name = "user"};
    assert_true(session_command(&f.session, volume_attribute_get, &command));
    assert_string_equal(command.ret_text, "yes");
    free(command.ret_text);
    tells_attributes(&f, &a, one, two);
    command = (struct volume_command){.volume = one->uuid};
    assert_false(session_command(&f.session, volume_delete, &command)); /* the mirror does that */
    assert_int_equal(command.error.code, ERROR_PERMISSION);
    assert_int_equal(marks(&f, &a, 1), 7); /* they stay with the volume */
    port_close(&a);
    again(&f, true);
    way(&f, &a);
    assert_int_equal(status_of(&f, &a).tree_sequence, 2);
    assert_int_equal(status_of(&f, &a).tree_change, 1002);
    assert_int_equal(claim(&f, &a, 2, 1, 2), IO_OK);
    assert_int_equal(layers(&f, &a)->count, 2);
    assert_int_equal(layers(&f, &a)->head_parent, 72);
    /* in pieces it reads the same */
    uint8_t whole[LAYERS_BYTES], pieces[LAYERS_BYTES + 64];
    memcpy(whole, layers(&f, &a), LAYERS_BYTES);
    for (uint64_t at = 0; at < LAYERS_BYTES; at += 64)
        assert_int_equal(io_run(&f, &a, BLOCK_REPLICA_GET, replica_argument(REPLICA_LAYERS, 0, 0), at, 64, pieces + at), IO_OK);
    assert_memory_equal(pieces, whole, LAYERS_BYTES);
    port_close(&a);
    end(&f);
}

static void two_legs_of_a_store_keep_their_snapshots_apart(void **state) {
    (void)state;
    struct fixture f;
    struct port a, b;
    begin_leg(&f, &a);
    assert_int_equal(tree(&f, &a, REPLICA_SNAPSHOT, 1, 71), IO_OK);
    struct volume_command create = {.name = "twin", .size_bytes = VOLUME_BYTES};
    assert_true(session_command(&f.session, volume_create, &create));
    assert_true(port_open(&f.session, &b, &create.ret_uuid, false));
    assert_int_equal(claim(&f, &b, 2, 1, 1), IO_OK);
    assert_int_equal(store(&f, &b, 1, 0, 0), IO_OK);
    assert_int_equal(layers(&f, &b)->count, 0);
    uint32_t number = layers(&f, &a)->layers[0].layer;
    uint8_t buffer[512];
    assert_int_equal(io_run(&f, &b, BLOCK_REPLICA_GET, replica_argument(REPLICA_READ, 0, number), 0, sizeof(buffer), buffer),
                     IO_DEVICE_GONE);
    assert_int_equal(tree(&f, &b, REPLICA_DELETE, 1, 71), IO_DEVICE_GONE);
    assert_int_equal(layers(&f, &a)->count, 1);
    port_close(&a);
    port_close(&b);
    end(&f);
}

static void a_revert_marks_everything_and_keeps_the_branch(void **state) {
    (void)state;
    struct fixture f;
    struct port a;
    begin_leg(&f, &a);
    assert_int_equal(write_at(&f, &a, 0, 1), IO_OK);
    assert_int_equal(tree(&f, &a, REPLICA_SNAPSHOT, 1, 71), IO_OK);
    assert_int_equal(write_at(&f, &a, 0, 2), IO_OK);
    assert_int_equal(tree(&f, &a, REPLICA_SNAPSHOT, 2, 72), IO_OK);
    assert_int_equal(write_at(&f, &a, MIB(2), 3), IO_OK);
    union ranges all = {.head.flags = REPLICA_ALL_REGIONS};
    assert_int_equal(put(&f, &a, REPLICA_CLEAR, &all, sizeof(all.head)), IO_OK);
    assert_int_equal(checked(&f, &a, REPLICA_REVERT, 70), IO_DEVICE_GONE);
    assert_int_equal(checked(&f, &a, REPLICA_REVERT, 71), IO_OK);
    assert_int_equal(read_at(&f, &a, 0), 2); /* nothing was done */
    assert_int_equal(status_of(&f, &a).flags & REPLICA_HAS_FLOOR, 0);
    assert_int_equal(tree(&f, &a, REPLICA_REVERT, 3, 71), IO_OK);
    assert_int_equal(read_at(&f, &a, 0), 1);
    assert_int_equal(read_at(&f, &a, MIB(2)), 0);
    assert_int_equal(marks(&f, &a, 1), (1u << REGIONS) - 1);
    assert_int_equal(status_of(&f, &a).flags & REPLICA_HAS_FLOOR, REPLICA_HAS_FLOOR);
    const struct replica_layers *now = layers(&f, &a);
    assert_int_equal(now->head_parent, 71);
    assert_int_equal(layer(now, 72)->parent, 71);
    assert_int_equal(layer(now, 71)->children, 2);
    assert_int_equal(read_layer(&f, &a, layer(now, 72)->layer, 0), 2); /* beside the head's own way down */
    assert_int_equal(checked(&f, &a, REPLICA_DELETE, 71), IO_ABORTED);
    assert_int_equal(tree(&f, &a, REPLICA_REVERT, 4, 72), IO_OK); /* and forward again */
    assert_int_equal(read_at(&f, &a, 0), 2);
    assert_int_equal(tree(&f, &a, REPLICA_REVERT, 5, 0), IO_OK); /* below all of them */
    assert_int_equal(read_at(&f, &a, 0), 0);
    assert_int_equal(layers(&f, &a)->head_parent, 0);
    assert_int_equal(tree(&f, &a, REPLICA_DELETE, 6, 72), IO_OK);
    assert_int_equal(tree(&f, &a, REPLICA_DELETE, 7, 72), IO_DEVICE_GONE);
    assert_int_equal(tree(&f, &a, REPLICA_DELETE, 7, 71), IO_OK);
    assert_int_equal(layers(&f, &a)->count, 0);
    assert_int_equal(status_of(&f, &a).tree_sequence, 7);
    assert_int_equal(put(&f, &a, REPLICA_CLEAR, &all, sizeof(all.head)), IO_OK);
    assert_int_equal(status_of(&f, &a).flags & REPLICA_HAS_FLOOR, 0);
    world_run_for(&f.session.world, 5 * NS_PER_S);
    port_close(&a);
    again(&f, true);
    way(&f, &a);
    assert_int_equal(status_of(&f, &a).tree_sequence, 7);
    port_close(&a);
    end(&f);
}

/* UPON of one leg. */
static enum io_status upon(struct fixture *f, const struct port *port, uint32_t flags, const char *leg, const char *snapshot) {
    static uint8_t document[REPLICA_DOCUMENT_MAX] __attribute__((aligned(8)));
    struct replica_tree *tree = (void *)document;
    *tree = change(REPLICA_UPON, 1, 0);
    tree->flags = flags;
    tree->pair_bytes = (uint32_t)(strlen(leg) + strlen(snapshot) + 2);
    memcpy(tree->pairs, leg, strlen(leg) + 1);
    memcpy(tree->pairs + strlen(leg) + 1, snapshot, strlen(snapshot) + 1);
    return put(f, port, REPLICA_TREE, tree, sizeof(*tree) + tree->pair_bytes);
}

static void an_empty_head_comes_to_stand_upon_a_snapshot_beside_it(void **state) {
    (void)state;
    struct fixture f;
    struct port a, b;
    begin_leg(&f, &a);
    struct volume_command other = {.name = "other", .size_bytes = VOLUME_BYTES};
    assert_true(session_command(&f.session, volume_create, &other));
    assert_true(port_open(&f.session, &b, &other.ret_uuid, false));
    assert_int_equal(write_at(&f, &b, MIB(1), 9), IO_OK);
    port_close(&b);
    struct volume_command kept = {.volume = other.ret_uuid, .name = "other-snap-x"};
    assert_true(session_command(&f.session, volume_snapshot_create, &kept));
    struct volume_command large = {.name = "large", .size_bytes = 2 * VOLUME_BYTES};
    assert_true(session_command(&f.session, volume_create, &large));
    struct volume_command large_kept = {.volume = large.ret_uuid, .name = "large-snap-x"};
    assert_true(session_command(&f.session, volume_snapshot_create, &large_kept));
    union ranges all = {.head.flags = REPLICA_ALL_REGIONS};
    assert_int_equal(put(&f, &a, REPLICA_CLEAR, &all, sizeof(all.head)), IO_OK);
    assert_int_equal(upon(&f, &a, 0, "leg", "none"), IO_DEVICE_GONE);
    assert_int_equal(upon(&f, &a, 0, "leg", "other"), IO_DEVICE_GONE); /* it may change */
    assert_int_equal(upon(&f, &a, 0, "another", "other-snap-x"), IO_DEVICE_GONE);
    assert_int_equal(upon(&f, &a, 0, "leg", "large-snap-x"), IO_INVALID);
    assert_int_equal(upon(&f, &a, REPLICA_TREE_CHECK, "leg", "other-snap-x"), IO_OK);
    assert_int_equal(read_at(&f, &a, MIB(1)), 0); /* nothing was done */
    assert_int_equal(status_of(&f, &a).tree_sequence, 0);
    assert_int_equal(marks(&f, &a, 1), 0);
    assert_int_equal(upon(&f, &a, 0, "leg", "other-snap-x"), IO_OK);
    assert_int_equal(read_at(&f, &a, MIB(1)), 9);
    assert_int_equal(marks(&f, &a, 1), (1u << REGIONS) - 1); /* whoever missed it compares all */
    assert_int_equal(status_of(&f, &a).tree_sequence, 1);
    assert_int_equal(layers(&f, &a)->head_parent, 0); /* it is none of the mirror's */
    assert_int_equal(owned(&f, &a, REPLICA_LAYER_HEAD) & 2, 2);
    assert_int_equal(upon(&f, &a, 0, "leg", "other-snap-x"), IO_OK); /* it does already */
    assert_int_equal(write_at(&f, &a, 0, 5), IO_OK);
    assert_int_equal(upon(&f, &a, 0, "leg", "large-snap-x"), IO_ABORTED);
    port_close(&a);
    again(&f, true);
    way(&f, &a);
    assert_int_equal(status_of(&f, &a).tree_sequence, 1);
    assert_int_equal(claim(&f, &a, 2, 1, 2), IO_OK);
    assert_int_equal(read_at(&f, &a, MIB(1)), 9);
    assert_int_equal(write_at(&f, &a, MIB(4), 1), IO_OK);
    assert_int_equal(tree(&f, &a, REPLICA_SNAPSHOT, 2, 71), IO_OK);
    assert_int_equal(tree(&f, &a, REPLICA_REVERT, 3, 71), IO_OK);
    assert_int_equal(read_at(&f, &a, MIB(1)), 9); /* also below its own snapshots */
    port_close(&a);
    end(&f);
}

static void sizes_change_and_a_shrink_marks(void **state) {
    (void)state;
    struct fixture f;
    struct port a;
    begin_leg(&f, &a);
    assert_int_equal(write_at(&f, &a, MIB(9), 1), IO_OK);
    assert_int_equal(resize(&f, &a, 1, MIB(5) + 512), IO_INVALID); /* no multiple of the unit */
    assert_int_equal(resize(&f, &a, 1, MIB(16)), IO_OK);
    assert_int_equal(status_of(&f, &a).size, MIB(16));
    assert_int_equal(block_device_size(block_channel_device(a.channel)), MIB(16));
    assert_int_equal(marks(&f, &a, 1), 1u << 9); /* what is new reads as zeros on every leg */
    assert_int_equal(resize(&f, &a, 2, MIB(4)), IO_OK);
    assert_int_equal(marks(&f, &a, 1), 0xf);
    world_run_for(&f.session.world, NS_PER_S); /* until what was cut off is cleared */
    assert_int_equal(resize(&f, &a, 3, VOLUME_BYTES), IO_OK);
    assert_int_equal(read_at(&f, &a, MIB(9)), 0);
    assert_int_equal(marks(&f, &a, 1), (1u << REGIONS) - 1);
    port_close(&a);
    again(&f, true);
    way(&f, &a);
    assert_int_equal(status_of(&f, &a).size, VOLUME_BYTES);
    assert_int_equal(status_of(&f, &a).tree_sequence, 3);
    port_close(&a);
    end(&f);
}

static void a_kept_copy_is_hidden_and_goes_by_merging(void **state) {
    (void)state;
    struct fixture f;
    struct port a;
    begin_leg(&f, &a);
    assert_int_equal(write_at(&f, &a, 0, 1), IO_OK);
    assert_int_equal(tree(&f, &a, REPLICA_SNAPSHOT, 1, 71), IO_OK);
    assert_int_equal(write_at(&f, &a, MIB(1), 2), IO_OK);
    assert_int_equal(tree(&f, &a, REPLICA_KEEP, 1, 0), IO_OK);
    assert_int_equal(write_at(&f, &a, MIB(1), 3), IO_OK);
    assert_int_equal(write_at(&f, &a, MIB(4), 3), IO_OK);
    assert_int_equal(tree(&f, &a, REPLICA_KEEP, 1, 0), IO_OK); /* the first stays */
    assert_int_equal(layers(&f, &a)->count, 1);
    assert_int_equal(layers(&f, &a)->head_parent, 71);
    assert_int_equal(owned(&f, &a, REPLICA_LAYER_HEAD), 1u << 1 | 1u << 4);
    assert_int_equal(tree(&f, &a, REPLICA_SNAPSHOT, 2, 72), IO_OK);
    assert_int_equal(layer(layers(&f, &a), 72)->parent, 71);
    assert_int_equal(owned(&f, &a, layer(layers(&f, &a), 72)->layer), 1u << 1 | 1u << 4);
    struct volume_command list = {0};
    assert_true(session_command(&f.session, volume_list, &list));
    assert_int_equal(list.ret_count, 4);
    bool kept = false;
    for (size_t i = 0; i < list.ret_count; i++)
        kept = kept || strcmp(list.ret_infos[i].name, "leg-before-sync") == 0;
    assert_true(kept);
    free(list.ret_infos);
    assert_int_equal(tree(&f, &a, REPLICA_DROP, 2, 0), IO_OK);
    assert_int_equal(tree(&f, &a, REPLICA_DROP, 2, 0), IO_OK);
    world_run_for(&f.session.world, 5 * NS_PER_S);
    assert_int_equal(read_layer(&f, &a, layer(layers(&f, &a), 72)->layer, MIB(1)), 3);
    assert_int_equal(read_at(&f, &a, 0), 1);
    assert_int_equal(status_of(&f, &a).tree_sequence, 2);
    port_close(&a);
    end(&f);
}

/* Nobody makes it whole any more. */
static void a_kept_copy_goes_with_the_record(void **state) {
    (void)state;
    struct fixture f;
    struct port a;
    struct uuid mirror = id(1);
    begin_leg(&f, &a);
    assert_int_equal(write_at(&f, &a, 0, 1), IO_OK);
    assert_int_equal(tree(&f, &a, REPLICA_KEEP, 1, 0), IO_OK);
    assert_int_equal(write_at(&f, &a, MIB(1), 3), IO_OK);
    struct volume_command list = {0};
    assert_true(session_command(&f.session, volume_list, &list));
    assert_int_equal(list.ret_count, 2);
    free(list.ret_infos);
    assert_int_equal(put(&f, &a, REPLICA_FORGET, &mirror, sizeof(mirror)), IO_OK);
    world_run_for(&f.session.world, 5 * NS_PER_S);
    list = (struct volume_command){0};
    assert_true(session_command(&f.session, volume_list, &list));
    assert_int_equal(list.ret_count, 1);
    free(list.ret_infos);
    assert_int_equal(read_at(&f, &a, 0), 1);
    assert_int_equal(read_at(&f, &a, MIB(1)), 3);
    port_close(&a);
    end(&f);
}

static void documents_that_make_no_sense_change_nothing(void **state) {
    (void)state;
    struct fixture f;
    struct port a, b;
    begin_leg(&f, &a);
    way(&f, &b);
    assert_int_equal(tree(&f, &b, REPLICA_SNAPSHOT, 1, 71), IO_NOT_READY); /* not the holder */
#define WRONG(what, edit)                                                                                                        \
    do {                                                                                                                         \
        struct replica_tree wrong = change(what, 1, 71);                                                                         \
        size_t length = sizeof(wrong);                                                                                           \
        edit;                                                                                                                    \
        assert_int_equal(put(&f, &a, REPLICA_TREE, &wrong, length), IO_INVALID);                                                 \
    } while (0)
    WRONG(REPLICA_SNAPSHOT, length -= 8);
    WRONG(REPLICA_SNAPSHOT, wrong.pair_bytes = 1);
    WRONG(REPLICA_SNAPSHOT, wrong.name[0] = '\0');
    WRONG(REPLICA_SNAPSHOT, wrong.name[50] = 'x');
    WRONG(REPLICA_SNAPSHOT, memset(wrong.name, 'x', sizeof(wrong.name)));
    WRONG(REPLICA_SNAPSHOT, wrong.name[0] = '/');
    WRONG(REPLICA_SNAPSHOT, wrong.layer = 0);
    WRONG(REPLICA_SNAPSHOT, wrong.what = 9);
    WRONG(REPLICA_SNAPSHOT, wrong.flags = 2);
    WRONG(REPLICA_DELETE, wrong.layer = 0);
    WRONG(REPLICA_REVERT, wrong.name[0] = 'x');
    WRONG(REPLICA_RESIZE, wrong.size = 0);
    WRONG(REPLICA_UPON, (void)wrong);
    WRONG(REPLICA_UPON, wrong.name[0] = 'x');
#undef WRONG
    assert_int_equal(tree(&f, &a, REPLICA_SNAPSHOT, 1, 71), IO_OK);
    struct replica_tree same = change(REPLICA_SNAPSHOT, 2, 72);
    snprintf(same.name, sizeof(same.name), "s71");
    assert_int_equal(put(&f, &a, REPLICA_TREE, &same, sizeof(same)), IO_INVALID); /* the name is taken */
    same.flags = REPLICA_TREE_CHECK;
    assert_int_equal(put(&f, &a, REPLICA_TREE, &same, sizeof(same)), IO_INVALID);
    snprintf(same.name, sizeof(same.name), "a/b");
    assert_int_equal(put(&f, &a, REPLICA_TREE, &same, sizeof(same)), IO_INVALID);
    assert_int_equal(layers(&f, &a)->count, 1);
    assert_int_equal(status_of(&f, &a).tree_sequence, 1);
    port_close(&a);
    port_close(&b);
    end(&f);
}

/* Whatever a cut leaves: number, tree and content belong together. */
static void a_change_is_there_whole_or_not_at_all(void **state) {
    (void)state;
    struct fixture f;
    struct port a;
    begin_leg(&f, &a);
    assert_int_equal(write_at(&f, &a, 0, 1), IO_OK);
    assert_int_equal(tree(&f, &a, REPLICA_SNAPSHOT, 1, 71), IO_OK);
    assert_int_equal(write_at(&f, &a, 0, 2), IO_OK);
    assert_int_equal(flush(&f, &a), IO_OK);
    uint32_t from = disk_mark(f.session.disk);
    assert_int_equal(tree(&f, &a, REPLICA_SNAPSHOT, 2, 72), IO_OK);
    assert_int_equal(tree(&f, &a, REPLICA_REVERT, 3, 71), IO_OK);
    assert_int_equal(tree(&f, &a, REPLICA_DELETE, 4, 72), IO_OK);
    port_close(&a);
    world_run_for(&f.session.world, NS_PER_S);
    session_crash(&f.session);
    struct disk_cursor cursor;
    disk_cursor_init(&cursor, f.session.disk);
    unsigned seen[5] = {0};
    while (disk_cursor_next(&cursor)) {
        if (cursor.position < from || !cursor.changed)
            continue;
        for (unsigned newest = 0; newest < 2; newest++) {
            struct disk_keep keep[DISK_OUTSTANDING_MAX] = {0};
            for (uint32_t i = 0; i < cursor.outstanding_count; i++)
                keep[i].kind = newest == 1 ? DISK_KEPT : DISK_LOST;
            struct fixture cut = {.volume = f.volume};
            disk_cursor_image(&cursor, keep, &cut.image);
            session_start(&cut.session, &leg_options, &cut.image, 9, false);
            assert_true(session_open(&cut.session));
            if (!session_check(&cut.session))
                fail_msg("cut %u: %s", cursor.position, cut.session.error.text);
            struct port port;
            way(&cut, &port);
            assert_int_equal(claim(&cut, &port, 2, 1, 2), IO_OK);
            const struct replica_layers *now = layers(&cut, &port);
            assert_in_range(now->sequence, 1, 4);
            assert_int_equal(now->change, 1000 + now->sequence);
            assert_int_equal(now->count, now->sequence == 1 || now->sequence == 4 ? 1 : 2);
            assert_int_equal(now->head_parent, now->sequence == 2 ? 72 : 71);
            assert_int_equal(marks(&cut, &port, 1), now->sequence >= 3 ? (1u << REGIONS) - 1 : 1);
            seen[now->sequence]++;
            if (now->sequence == 4) { /* what was let go is deleted by the opening */
                world_run_for(&cut.session.world, NS_PER_S);
                struct volume_command list = {0};
                assert_true(session_command(&cut.session, volume_list, &list));
                assert_int_equal(list.ret_count, 2);
                free(list.ret_infos);
                now = layers(&cut, &port);
            }
            assert_int_equal(read_at(&cut, &port, 0), seen[3] + seen[4] > 0 && now->sequence >= 3 ? 1 : 2);
            port_close(&port);
            session_crash(&cut.session);
            session_end(&cut.session);
            disk_image_fini(&cut.image);
        }
    }
    disk_cursor_fini(&cursor);
    for (unsigned i = 1; i <= 4; i++)
        assert_int_not_equal(seen[i], 0);
    session_end(&f.session);
    disk_image_fini(&f.image);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(snapshots_make_a_tree_with_the_mirrors_names),
        cmocka_unit_test(two_legs_of_a_store_keep_their_snapshots_apart),
        cmocka_unit_test(a_revert_marks_everything_and_keeps_the_branch),
        cmocka_unit_test(an_empty_head_comes_to_stand_upon_a_snapshot_beside_it),
        cmocka_unit_test(sizes_change_and_a_shrink_marks),
        cmocka_unit_test(a_kept_copy_is_hidden_and_goes_by_merging),
        cmocka_unit_test(a_kept_copy_goes_with_the_record),
        cmocka_unit_test(documents_that_make_no_sense_change_nothing),
        cmocka_unit_test(a_change_is_there_whole_or_not_at_all),
    };
    return cmocka_run_group_tests_name("volume replica tree", tests, NULL, NULL);
}
