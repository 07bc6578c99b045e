/* Trees compared: documents that make no sense are refused, and from any tree to any other the steps come to an end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "base/random.h"
#include "blockdev/mirror/tree.h"

#define LAYERS 8
union document {
    struct replica_layers tree;
    uint8_t room[sizeof(struct replica_layers) + LAYERS * sizeof(struct replica_layer)];
};

static struct replica_layers *make(union document *document, unsigned count) {
    memset(document, 0, sizeof(*document));
    document->tree = (struct replica_layers){.count = count, .head_size = MIB(8)};
    for (unsigned i = 0; i < count; i++) {
        document->tree.layers[i] = (struct replica_layer){.id = i + 1, .parent = i, .size = MIB(8), .layer = 10 + i};
        snprintf(document->tree.layers[i].name, sizeof(document->tree.layers[i].name), "s%u", i + 1);
    }
    document->tree.head_parent = count;
    return &document->tree;
}

static void nonsense_is_refused(void **state) {
    (void)state;
    union document d;
    assert_null(tree_check(make(&d, 3), tree_bytes(3)));
    assert_int_equal(tree_find(&d.tree, 2)->layer, 11);
    assert_int_equal(tree_find_name(&d.tree, "s3")->id, 3);
    assert_null(tree_find(&d.tree, 9));
    assert_null(tree_find_name(&d.tree, "s"));
    assert_non_null(tree_check(make(&d, 3), tree_bytes(2)));
    assert_non_null(tree_check(make(&d, 3), 8));
#define WRONG(change)                                                                                                            \
    do {                                                                                                                         \
        make(&d, 3);                                                                                                             \
        change;                                                                                                                  \
        assert_non_null(tree_check(&d.tree, tree_bytes(3)));                                                                     \
    } while (0)
    WRONG(d.tree.layers[1].id = 0);
    WRONG(d.tree.layers[1].id = 1);
    WRONG(d.tree.layers[1].parent = 9);
    WRONG(d.tree.layers[0].parent = 3);
    WRONG(d.tree.layers[1].parent = 2);
    WRONG(d.tree.layers[1].layer = 0);
    WRONG(d.tree.layers[1].size = 0);
    WRONG(d.tree.layers[1].size = 100);
    WRONG(d.tree.head_parent = 4);
#undef WRONG
}

/* A tree of some of `ids` layers, each on any that is there. */
static void grow(union document *document, struct random *random) {
    memset(document, 0, sizeof(*document));
    document->tree.head_size = MIB(1 + random_below(random, 3));
    unsigned count = (unsigned)random_below(random, LAYERS + 1);
    for (unsigned i = 0; i < count; i++) {
        uint64_t id = 1 + random_below(random, LAYERS);
        bool taken = false;
        for (unsigned j = 0; j < document->tree.count; j++)
            taken = taken || document->tree.layers[j].id == id;
        if (taken)
            continue;
        uint64_t below = random_below(random, document->tree.count + 1);
        document->tree.layers[document->tree.count++] =
            (struct replica_layer){.id = id,
                                   .parent = below == 0 ? 0 : document->tree.layers[below - 1].id,
                                   .size = MIB(id % 3 + 1),
                                   .layer = (uint32_t)id};
    }
    uint64_t below = random_below(random, document->tree.count + 1);
    document->tree.head_parent = below == 0 ? 0 : document->tree.layers[below - 1].id;
}

static struct replica_layer *find(union document *document, uint64_t id) {
    return (struct replica_layer *)(uintptr_t)tree_find(&document->tree, id);
}

/* What a leg does at a step. */
static void carry_out(union document *own, const struct tree_step *step) {
    switch (step->kind) {
    case TREE_DELETE: {
        struct replica_layer *gone = find(own, step->id);
        uint64_t below = gone->parent;
        for (unsigned i = 0; i < own->tree.count; i++)
            if (own->tree.layers[i].parent == step->id)
                own->tree.layers[i].parent = below;
        if (own->tree.head_parent == step->id)
            own->tree.head_parent = below;
        *gone = own->tree.layers[--own->tree.count];
        break;
    }
    case TREE_REVERT:
        assert_true(step->id == 0 || find(own, step->id) != NULL);
        own->tree.head_parent = step->id;
        if (step->id != 0)
            own->tree.head_size = find(own, step->id)->size;
        break;
    case TREE_RESIZE: own->tree.head_size = step->size; break;
    case TREE_FILL:
        assert_int_equal(step->layer->parent, own->tree.head_parent);
        assert_int_equal(step->size, own->tree.head_size);
        assert_true(own->tree.count < LAYERS && find(own, step->id) == NULL);
        own->tree.layers[own->tree.count] = *step->layer;
        own->tree.layers[own->tree.count++].parent = own->tree.head_parent;
        own->tree.head_parent = step->id;
        break;
    case TREE_EQUAL: break;
    }
}

static void every_tree_becomes_every_other(void **state) {
    (void)state;
    struct random random;
    random_init(&random, 5);
    unsigned fills = 0, steps = 0;
    for (unsigned round = 0; round < 20000; round++) {
        union document own, source;
        grow(&own, &random);
        grow(&source, &random);
        assert_null(tree_check(&source.tree, tree_bytes(source.tree.count)));
        struct tree_step step = {.kind = TREE_RESIZE};
        for (unsigned i = 0; step.kind != TREE_EQUAL; i++) {
            assert_null(tree_check(&own.tree, tree_bytes(own.tree.count)));
            if (i > 5 * LAYERS)
                fail_msg("round %u goes on for ever", round);
            step = tree_next_step(&own.tree, &source.tree);
            carry_out(&own, &step);
            fills += step.kind == TREE_FILL;
            steps++;
        }
        assert_int_equal(own.tree.count, source.tree.count);
        assert_int_equal(own.tree.head_parent, source.tree.head_parent);
        assert_int_equal(own.tree.head_size, source.tree.head_size);
        for (unsigned i = 0; i < own.tree.count; i++) { /* both sorted */
            assert_int_equal(own.tree.layers[i].id, source.tree.layers[i].id);
            assert_int_equal(own.tree.layers[i].parent, source.tree.layers[i].parent);
        }
    }
    assert_true(fills > 20000 && steps > 2 * fills);
}

/* A deletion alone is one step, and takes nothing back. */
static void a_missed_deletion_costs_no_copying(void **state) {
    (void)state;
    union document own, source;
    make(&own, 4);
    make(&source, 4);
    assert_null(tree_check(&own.tree, tree_bytes(4)));
    struct tree_step step = {.kind = TREE_DELETE, .id = 2};
    carry_out(&source, &step);
    assert_null(tree_check(&source.tree, tree_bytes(3)));
    step = tree_next_step(&own.tree, &source.tree);
    assert_int_equal(step.kind, TREE_DELETE);
    assert_int_equal(step.id, 2);
    carry_out(&own, &step);
    assert_null(tree_check(&own.tree, tree_bytes(3)));
    assert_int_equal(tree_next_step(&own.tree, &source.tree).kind, TREE_EQUAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(every_tree_becomes_every_other),
        cmocka_unit_test(a_missed_deletion_costs_no_copying),
    };
    return cmocka_run_group_tests_name("mirror tree", tests, NULL, NULL);
}
