#include "trees.h"

#include <stdio.h>

#include "blockdev/mirror/mirror_internal.h"

#define PATIENCE_NS (500 * NS_PER_MS) /* for requests to end */

void trees_init(struct trees *trees, struct fleet *fleet, unsigned one_in) {
    *trees = (struct trees){.fleet = fleet, .one_in = one_in};
}

static void forget(struct trees *trees) {
    if (trees->kept)
        ledger_fini(&trees->then);
    trees->kept = false;
}

void trees_fini(struct trees *trees) { forget(trees); }

static void answered(struct mirror_tree_command *command) { container_of(command, struct trees, command)->answered = true; }

static void submit(struct reactor_message *message) {
    struct trees *trees = container_of(message, struct trees, message);
    trees->command.device = trees->node->mirror;
    trees->command.control = trees->node->plane.control;
    mirror_tree_command(&trees->command);
}

static void ask(struct trees *trees, struct fleet_node *engine) {
    struct fleet *fleet = trees->fleet;
    enum replica_change what = REPLICA_SNAPSHOT;
    uint64_t draw = random_below(&fleet->random, 7);
    if (draw >= 5)
        what = REPLICA_RESIZE;
    else if (trees->kept && draw >= 2)
        what = draw == 2 ? REPLICA_DELETE : REPLICA_REVERT;
    trees->regions = 2 + (unsigned)random_below(&fleet->random, FLEET_REGIONS - 1);
    if (what == REPLICA_RESIZE)
        snprintf(trees->name, sizeof(trees->name), "%u", trees->regions);
    else if (what == REPLICA_SNAPSHOT)
        snprintf(trees->name, sizeof(trees->name), "t%u", ++trees->made);
    else
        snprintf(trees->name, sizeof(trees->name), "%s", trees->kept_name);
    trees->command = (struct mirror_tree_command){.what = what,
                                                  .snapshot = trees->name,
                                                  .size_bytes = trees->regions * REPLICA_REGION_BYTES,
                                                  .pairs = fleet_pairs,
                                                  .pair_count = what == REPLICA_SNAPSHOT ? FLEET_PAIRS : 0,
                                                  .done = answered};
    trees->answered = false;
    trees->node = engine;
    trees->writer = engine->writer;
    trees->sequence = mirror_of(engine->mirror)->tree_sequence;
    trees->phase = TREES_ASKED;
    fleet_log(fleet, "%s: tree change %d, of %s", engine->name, what, trees->name);
    trees->message = (struct reactor_message){.run = submit};
    reactor_post(engine->plane.control, &trees->message);
}

static void was_done(struct trees *trees) {
    struct fleet *fleet = trees->fleet;
    fleet_log(fleet, "tree change %d, of %s: done", trees->command.what, trees->name);
    trees->done[trees->command.what]++;
    switch (trees->command.what) {
    case REPLICA_SNAPSHOT:
        forget(trees);
        trees->kept = true;
        memcpy(trees->kept_name, trees->name, sizeof(trees->name));
        trees->kept_regions = fleet->regions;
        ledger_copy(&fleet->ledger, &trees->then);
        break;
    case REPLICA_DELETE: forget(trees); break;
    case REPLICA_REVERT:
        ledger_revert(&fleet->ledger, &trees->then);
        fleet->regions = trees->kept_regions;
        break;
    case REPLICA_RESIZE: /* what grows was cut before, or never there */
        fleet->regions = trees->regions;
        ledger_cut(&fleet->ledger, fleet->regions * FLEET_BLOCKS_A_REGION);
        break;
    default: break;
    }
    trees->phase = TREES_REST;
}

static void was_not_done(struct trees *trees) {
    fleet_log(trees->fleet, "tree change %d, of %s: not done: %s", trees->command.what, trees->name, trees->command.error.text);
    trees->phase = TREES_REST;
}

/* A snapshot that may be there is never used; of one that may be gone it is no use to know. */
static void is_unsure(struct trees *trees) {
    fleet_log(trees->fleet, "tree change %d, of %s: not known", trees->command.what, trees->name);
    bool matters = trees->command.what == REPLICA_REVERT || trees->command.what == REPLICA_RESIZE;
    trees->phase = matters ? TREES_UNSURE : TREES_REST;
    if (trees->command.what == REPLICA_DELETE)
        forget(trees);
}

static bool is_gone(const struct trees *trees) {
    return trees->node->state == FLEET_DOWN || trees->node->writer != trees->writer || trees->node->mirror == NULL;
}

bool trees_tend(struct trees *trees, bool may_begin) {
    struct fleet *fleet = trees->fleet;
    struct fleet_node *engine = fleet_engine(fleet);
    uint64_t now = sim_now_ns(fleet->cluster.sim);
    switch (trees->phase) {
    case TREES_REST:
        if (may_begin && engine != NULL && random_chance(&fleet->random, 1, trees->one_in)) {
            trees->phase = TREES_QUIET;
            trees->since_ns = now;
        }
        break;
    case TREES_QUIET:
        if (now > trees->since_ns + PATIENCE_NS)
            trees->phase = TREES_REST;
        else if (engine != NULL && !engine->paused && engine->served && fleet_is_idle(fleet))
            ask(trees, engine);
        break;
    case TREES_ASKED:
        if (!trees->answered) {
            if (is_gone(trees))
                is_unsure(trees);
        } else if (trees->command.ok) {
            was_done(trees);
        } else if (trees->command.error.code != ERROR_IO) {
            was_not_done(trees);
        } else {
            is_unsure(trees);
            if (!is_gone(trees)) { /* the next start finds out */
                fleet_node_die(trees->node, FLEET_CLOSE);
                trees->node->again_ns = now + NS_PER_MS;
            }
        }
        break;
    case TREES_UNSURE:
        if (engine == NULL || engine->writer <= trees->writer || engine->paused)
            break;
        if (mirror_of(engine->mirror)->tree_sequence > trees->sequence)
            was_done(trees);
        else
            was_not_done(trees);
        break;
    }
    return trees->phase != TREES_REST;
}
