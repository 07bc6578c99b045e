/* A leg whose tree is another than the mirror's gets the snapshots that it lacks and loses those that are gone, step by step,
 * before it takes part in anything. docs/mirror.md, "Trees", "Layers". Each step ends with a comparison from the start, so that
 * it may be broken off anywhere. */
#include "blockdev/mirror/mirror_internal.h"

#include <stdlib.h>

#define FETCH_BYTES KIB(16)
#define AGAIN_NS (10 * NS_PER_MS)

/* ---- fetching a tree ---- */

static void fetched(struct mirror_call *call);

static void fetch_more(struct mirror_fetch *fetch, struct mirror_leg *of) {
    size_t want = fetch->have < sizeof(*fetch->tree) ? FETCH_BYTES : tree_bytes(fetch->tree->count) - fetch->have;
    mirror_call_send(of, &fetch->call, BLOCK_REPLICA_GET, replica_argument(REPLICA_LAYERS, 0, 0), fetch->have,
                     (uint8_t *)fetch->tree + fetch->have, (size_t)min_u64(want, FETCH_BYTES), fetched);
}

static void fetch_end(struct mirror_fetch *fetch, enum io_status status, const char *wrong) {
    fetch->busy = false;
    fetch->status = status;
    fetch->wrong = wrong;
    fetch->done(fetch);
}

static void fetched(struct mirror_call *call) {
    struct mirror_fetch *fetch = container_of(call, struct mirror_fetch, call);
    if (call->status != IO_OK || call->generation != call->leg->generation) {
        fetch_end(fetch, call->status == IO_OK ? IO_PATH_LOST : call->status, "it does not tell its snapshots");
        return;
    }
    fetch->have += call->slice.length;
    if (fetch->tree->count > REPLICA_LAYERS_MAX) {
        fetch_end(fetch, IO_DAMAGED, "it says that it has more snapshots than there can be");
        return;
    }
    if (fetch->have < tree_bytes(fetch->tree->count)) {
        fetch_more(fetch, call->leg);
        return;
    }
    const char *wrong = tree_check(fetch->tree, tree_bytes(fetch->tree->count));
    fetch_end(fetch, wrong == NULL ? IO_OK : IO_DAMAGED, wrong);
}

bool mirror_fetch_begin(struct mirror_fetch *fetch, struct mirror_leg *of, void (*done)(struct mirror_fetch *fetch)) {
    assert(!fetch->busy);
    if (fetch->tree == NULL)
        fetch->tree = malloc(round_up(tree_bytes(REPLICA_LAYERS_MAX), FETCH_BYTES) + FETCH_BYTES);
    if (fetch->tree == NULL)
        return false;
    fetch->busy = true;
    fetch->have = 0;
    fetch->done = done;
    fetch_more(fetch, of);
    return true;
}

void mirror_fetch_fini(struct mirror_fetch *fetch) {
    assert(!fetch->busy);
    free(fetch->tree);
    fetch->tree = NULL;
}

/* ---- what a leg is at ---- */

struct mirror_layers {
    struct mirror_leg *leg, *source;
    uint32_t source_generation;
    struct mirror_fetch own, from; /* its tree, and the source's */
    struct tree_step step;
    enum { ASK_SOURCE, ASK_OWN, ASK_ABOVE, ASK_PAIRS, ASKED_ALL } query; /* LEG_FILL_LIST: which answer is next */
    const struct replica_layer *above; /* ASK_ABOVE: of the source's layers upon the one that is filled; NULL: its head */
    uint64_t piece;                    /* bytes of the answer that are there */
    struct mirror_call ask;
    uint64_t answer[REPLICA_MARKS_MAX / 8];
    uint64_t waits_until_ns;
    uint8_t change[sizeof(struct replica_tree) + REPLICA_PAIRS_BYTES] __attribute__((aligned(8))); /* sent last */
    uint8_t pairs[REPLICA_PAIRS_BYTES] __attribute__((aligned(8))); /* of the layer that is filled */
};

static struct replica_tree *change_of(struct mirror_layers *layers) { return (void *)layers->change; }

void mirror_layers_fini(struct mirror_leg *leg) {
    struct mirror_layers *layers = leg->layers;
    if (layers == NULL)
        return;
    assert(!layers->ask.busy);
    mirror_fetch_fini(&layers->own);
    mirror_fetch_fini(&layers->from);
    free(layers);
    leg->layers = NULL;
}

static bool source_stands(const struct mirror_layers *layers) {
    return (layers->leg->mirror->standing & layers->source->bit) != 0 && layers->source->generation == layers->source_generation;
}

/* Nothing that was asked before is still to be answered. */
static bool is_quiet(const struct mirror_layers *layers) {
    return layers == NULL || (!layers->ask.busy && !layers->own.busy && !layers->from.busy);
}

static void again(struct mirror_leg *leg) {
    reactor_timer_start(leg->mirror->home, &leg->retry, reactor_now_ns(leg->mirror->home) + AGAIN_NS);
}

static void send_tree(struct mirror_leg *leg, struct replica_tree *tree) {
    mirror_call_send(leg, &leg->call, BLOCK_REPLICA_PUT, replica_argument(REPLICA_TREE, 0, 0), 0, tree,
                     sizeof(*tree) + tree->pair_bytes, mirror_leg_called);
}

bool mirror_tree_is_equal(const struct mirror_leg *leg) {
    const struct mirror *mirror = leg->mirror;
    return leg->status.tree_sequence == mirror->tree_sequence && leg->status.tree_change == mirror->tree_change;
}

/* ---- the private copy ---- */

void mirror_layers_keep(struct mirror_leg *leg) {
    if (!leg->keeping) {
        leg->keeping = true;
        if ((leg->status.flags & REPLICA_UNTOUCHED) != 0) {
            leg->call.status = IO_OK;
        } else {
            *(struct replica_tree *)leg->call_document =
                (struct replica_tree){.what = mirror_leg_is_cramped(leg) ? REPLICA_DROP : REPLICA_KEEP};
            send_tree(leg, leg->call_document);
        }
    }
    if (leg->call.busy)
        return;
    leg->keeping = false;
    if (leg->call.status != IO_OK && mirror_leg_judge(leg, leg->call.status))
        return; /* else it has no room for one, or is no volume: not what counts */
    bool same = mirror_tree_is_equal(leg) && leg->status.size == leg->mirror->size;
    task_move(&leg->task, same ? LEG_LISTED : LEG_TREES);
}

static void dropped(struct mirror_call *call) { (void)call; } /* it has gone, or goes at the next return */

void mirror_layers_drop(struct mirror_leg *leg) {
    if (!leg->replica || leg->drop.busy)
        return;
    *(struct replica_tree *)(void *)leg->drop_document = (struct replica_tree){.what = REPLICA_DROP};
    mirror_call_send(leg, &leg->drop, BLOCK_REPLICA_PUT, replica_argument(REPLICA_TREE, 0, 0), 0, leg->drop_document,
                     sizeof(leg->drop_document), dropped);
}

/* ---- both trees ---- */

static void tree_there(struct mirror_fetch *fetch) {
    mirror_legs_wake(fetch->call.leg->mirror); /* the source's fetch is another leg's task */
}

void mirror_layers_begin(struct mirror_leg *leg) {
    struct mirror *mirror = leg->mirror;
    struct mirror_layers *layers = leg->layers;
    if (!is_quiet(layers) || mirror->standing == 0)
        return; /* woken by the answers, or when somebody stands */
    if (layers == NULL && (layers = leg->layers = calloc(1, sizeof(*layers))) == NULL) {
        mirror_leg_lose(leg, "no memory for its snapshots");
        return;
    }
    layers->leg = leg;
    layers->source = &mirror->legs[__builtin_ctz(mirror->standing)];
    layers->source_generation = layers->source->generation;
    if (!mirror_fetch_begin(&layers->own, leg, tree_there) || !mirror_fetch_begin(&layers->from, layers->source, tree_there)) {
        mirror_leg_lose(leg, "no memory for its snapshots");
        return;
    }
    task_move(&leg->task, LEG_TREE_STEP);
}

static void change_own(struct mirror_leg *leg, enum replica_change what, uint64_t layer, uint64_t size) {
    struct mirror_layers *layers = leg->layers;
    const struct replica_layers *numbers = what == REPLICA_NOTE ? layers->from.tree : layers->own.tree;
    *change_of(layers) = (struct replica_tree){
        .sequence = numbers->sequence, .change = numbers->change, .layer = layer, .size = size, .what = what};
    task_move(&leg->task, LEG_TREE_CHANGE);
}

void mirror_layers_step(struct mirror_leg *leg) {
    struct mirror_layers *layers = leg->layers;
    if (!is_quiet(layers))
        return;
    if (layers->own.status != IO_OK) {
        mirror_leg_lose(leg, layers->own.wrong);
        return;
    }
    if (layers->from.status != IO_OK) {
        if (!source_stands(layers) || mirror_leg_judge(layers->source, layers->from.status))
            task_move(&leg->task, LEG_TREES); /* of another */
        else
            mirror_leg_lose(leg, layers->from.wrong);
        return;
    }
    layers->step = tree_next_step(layers->own.tree, layers->from.tree);
    switch (layers->step.kind) {
    case TREE_EQUAL: change_own(leg, REPLICA_NOTE, 0, 0); break;
    case TREE_DELETE: change_own(leg, REPLICA_DELETE, layers->step.id, 0); break;
    case TREE_REVERT: change_own(leg, REPLICA_REVERT, layers->step.id, 0); break;
    case TREE_RESIZE: change_own(leg, REPLICA_RESIZE, 0, layers->step.size); break;
    case TREE_FILL:
        layers->query = ASK_SOURCE;
        layers->piece = 0;
        if (!mirror_work_begin(leg, divide_up(layers->step.size, REGION_BYTES))) {
            mirror_leg_lose(leg, "no memory for its work");
            return;
        }
        task_move(&leg->task, LEG_FILL_LIST);
        break;
    }
}

/* Its device tells the new size a little later than the leg does. */
static bool size_is_known(struct mirror_leg *leg) {
    struct mirror_layers *layers = leg->layers;
    const struct replica_tree *tree = change_of(layers);
    uint64_t now = reactor_now_ns(leg->mirror->home), size = tree->size;
    if (tree->what == REPLICA_REVERT) {
        const struct replica_layer *layer = tree_find(layers->own.tree, tree->layer);
        size = layer == NULL ? layers->own.tree->head_size : layer->size;
    }
    if (size == 0 || block_device_size(block_channel_device(leg->channel)) == size)
        return true;
    if (layers->waits_until_ns == 0)
        layers->waits_until_ns = now + leg->mirror->stall_ns;
    if (now > layers->waits_until_ns)
        mirror_leg_lose(leg, "its size does not change as it was told");
    else
        again(leg);
    return false;
}

/* Sends the change, and waits until it is made. */
void mirror_layers_change(struct mirror_leg *leg) {
    struct mirror_layers *layers = leg->layers;
    if (reactor_timer_armed(&leg->retry) || leg->call.busy)
        return;
    if (!leg->keeping) {
        if (!mirror_cursor_forget(leg))
            return;
        leg->keeping = true;
        layers->waits_until_ns = 0;
        send_tree(leg, change_of(layers));
        return;
    }
    if (leg->call.status == IO_NOT_READY && (leg->status.flags & REPLICA_CLAIM_YOURS) != 0) {
        leg->keeping = false; /* at work on the change before: a shrink, say */
        again(leg);
        return;
    }
    if (!mirror_leg_went_well(leg, "it does not change its snapshots"))
        return;
    if (!size_is_known(leg))
        return;
    leg->keeping = false;
    leg->retry.deadline_ns = 0;
    const struct replica_tree *made = change_of(layers);
    if (made->what == REPLICA_REVERT)
        leg->status.flags |= REPLICA_HAS_FLOOR;
    leg->status.tree_sequence = made->sequence;
    leg->status.tree_change = made->change;
    task_move(&leg->task, made->what == REPLICA_NOTE ? LEG_LISTED : LEG_TREES);
}

/* ---- filling the head with what a layer is to hold ---- */

/* What may differ: by marks where the leg's head is what it was when it was whole; else what one of both holds upon what they
 * both stand on. Marks tell what was written since; the layer may be older (the leg did a deletion that came to nothing), but
 * what was written between the two is held by what stands on it at the source, if its head does. */
static bool by_marks(const struct mirror_leg *leg) {
    const struct mirror_layers *layers = leg->layers;
    return leg->base.depth != 0 && (leg->status.flags & REPLICA_HAS_FLOOR) == 0 &&
           tree_is_under_head(layers->from.tree, layers->step.id);
}

static void asked(struct mirror_call *call) { mirror_legs_wake(call->leg->mirror); }

/* The next piece of a bitmap, of the source, of the leg itself, or of what stands on the layer; at last its attributes. */
static void ask(struct mirror_leg *leg) {
    struct mirror_layers *layers = leg->layers;
    bool own = layers->query == ASK_OWN, above = layers->query == ASK_ABOVE, marks = by_marks(leg) && !above;
    if (layers->query == ASK_PAIRS) {
        mirror_call_send(layers->source, &layers->ask, BLOCK_REPLICA_GET,
                         replica_argument(REPLICA_PAIRS, 0, layers->step.layer->layer), 0, layers->pairs, sizeof(layers->pairs),
                         asked);
        return;
    }
    const struct replica_layer *of = above ? layers->above : own ? NULL : layers->step.layer;
    uint32_t layer = of == NULL ? REPLICA_LAYER_HEAD : of->layer;
    uint64_t argument = marks ? replica_argument(REPLICA_MARKS, 0, own ? 0 : (uint32_t)leg->from_depth)
                              : replica_argument(REPLICA_OWNED, 0, layer);
    size_t most = marks ? REPLICA_MARKS_MAX : REPLICA_OWNED_MAX;
    mirror_call_send(own ? leg : layers->source, &layers->ask, BLOCK_REPLICA_GET, argument, layers->piece, layers->answer,
                     (size_t)min_u64(most, bitmap_words(leg->work_count) * 8 - layers->piece), asked);
}

/* A bitmap is there. */
static void ask_next(struct mirror_leg *leg) {
    struct mirror_layers *layers = leg->layers;
    const struct replica_layer *above = layers->above;
    uint64_t below;
    layers->piece = 0;
    switch (layers->query) {
    case ASK_OWN:
        layers->above = NULL;
        layers->query = by_marks(leg) ? ASK_ABOVE : ASK_PAIRS;
        break;
    case ASK_ABOVE:
        if (above != NULL && above->size / REGION_BYTES < leg->work_count) /* it ends where it hides the rest */
            bitmap_set_range(leg->work, above->size / REGION_BYTES, leg->work_count - above->size / REGION_BYTES);
        below = above == NULL ? layers->from.tree->head_parent : above->parent;
        if (below == layers->step.id)
            layers->query = ASK_PAIRS;
        else
            layers->above = tree_find(layers->from.tree, below);
        break;
    default: layers->query++; break;
    }
}

/* The answer, of a call that went well. */
static void take(struct mirror_leg *leg) {
    struct mirror_layers *layers = leg->layers;
    if (layers->query < ASK_PAIRS)
        for (size_t i = 0; i < layers->ask.slice.length / 8; i++) {
            leg->work[layers->piece / 8 + i] |= layers->answer[i];
            leg->doubtful[layers->piece / 8 + i] |= layers->query == ASK_OWN || !by_marks(leg) ? layers->answer[i] : 0;
        }
    layers->piece += layers->ask.slice.length;
    if (layers->query == ASK_PAIRS || layers->piece >= bitmap_words(leg->work_count) * 8)
        ask_next(leg);
}

/* About how much it is to get when this snapshot is there: the others that it lacks, and a head as large as these are. */
static uint64_t left_after(const struct mirror_layers *layers) {
    uint64_t bytes = 0, of_this = max_u64(layers->step.layer->used, REGION_BYTES);
    unsigned count = 1;
    for (uint32_t i = 0; i < layers->from.tree->count; i++) {
        const struct replica_layer *layer = &layers->from.tree->layers[i];
        if (layer->id == layers->step.layer->id || tree_find(layers->own.tree, layer->id) != NULL)
            continue;
        bytes += max_u64(min_u64(layer->used, layer->size), REGION_BYTES);
        count++;
    }
    return bytes + (bytes + of_this) / count;
}

void mirror_layers_list(struct mirror_leg *leg) {
    struct mirror_layers *layers = leg->layers;
    if (layers->ask.busy)
        return;
    if (!source_stands(layers)) {
        task_move(&leg->task, LEG_TREES);
        return;
    }
    if (layers->piece == 0 && layers->query == ASK_SOURCE && !leg->listing) {
        leg->listing = true;
        ask(leg);
        return;
    }
    if (layers->ask.status != IO_OK) {
        /* A source that cannot tell is not worse for that. */
        struct mirror_leg *of = layers->query == ASK_OWN ? leg : layers->source;
        leg->listing = false;
        if (!mirror_leg_judge(of, layers->ask.status))
            mirror_leg_refused(leg, of == leg ? layers->ask.status : IO_OK, "what it holds is not told");
        else if (of != leg)
            task_move(&leg->task, LEG_TREES);
        return;
    }
    if (layers->query < ASKED_ALL)
        take(leg);
    if (layers->query < ASKED_ALL) {
        ask(leg);
        return;
    }
    if (replica_pairs_check((const void *)layers->pairs, sizeof(layers->pairs)) != NULL) {
        leg->listing = false;
        mirror_leg_lose(leg, "its source tells attributes of a snapshot that cannot be");
        return;
    }
    if (!mirror_cursor_begin(leg, by_marks(leg) ? 0 : layers->step.layer->id))
        return;
    leg->listing = false;
    if (by_marks(leg)) { /* no marks are told of what lies beyond the volume's end of today */
        uint64_t known = layers->from.tree->head_size / REGION_BYTES;
        if (known < leg->work_count) {
            bitmap_set_range(leg->work, known, leg->work_count - known);
            bitmap_set_range(leg->doubtful, known, leg->work_count - known);
        }
    }
    leg->blank = false;
    leg->fill = layers->source;
    leg->fill_generation = layers->source_generation;
    leg->fill_layer = layers->step.layer->layer;
    leg->fill_size = layers->step.size;
    mirror_work_count(leg, left_after(layers));
    task_move(&leg->task, LEG_FILL);
    mirror_copy_wake(leg->mirror);
}

void mirror_layers_fill(struct mirror_leg *leg) {
    struct mirror_layers *layers = leg->layers;
    if (!mirror_cursor_step(leg, layers->step.layer->id) || leg->copying > 0)
        return; /* resync.c wakes */
    if (!source_stands(layers)) {
        task_move(&leg->task, LEG_TREES);
        return;
    }
    if (leg->work_left > 0)
        return;
    task_move(&leg->task, LEG_FILL_FLUSH);
    mirror_call_send(leg, &leg->call, BLOCK_FLUSH, 0, 0, NULL, 0, mirror_leg_called);
}

/* What it holds is the layer: it is frozen under the layer's id. */
void mirror_layers_freeze(struct mirror_leg *leg) {
    struct mirror_layers *layers = leg->layers;
    if (leg->call.busy || !mirror_leg_went_well(leg, "it does not flush"))
        return;
    const struct replica_layer *layer = layers->step.layer;
    const struct replica_pairs *pairs = (const void *)layers->pairs;
    change_own(leg, REPLICA_SNAPSHOT, layer->id, 0);
    struct replica_tree *tree = change_of(layers);
    tree->created_ns = layer->created_ns;
    memcpy(tree->name, layer->name, sizeof(tree->name));
    tree->pair_bytes = pairs->pair_bytes;
    memcpy(tree->pairs, pairs->pairs, pairs->pair_bytes);
}
