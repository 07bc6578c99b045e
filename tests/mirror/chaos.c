#include "chaos.h"

#include "blockdev/mirror/mirror_internal.h"
#include "blockdev/volume/internal.h"

static const char *const kinds[CHAOS_KINDS] = {
    "store dies",   "stores die",    "all die",      "engine dies", "switch-over", "same term",
    "store paused", "engine paused", "cut",          "cut one way", "slow link",   "slow disk",
    "hung disk",    "failed flush",  "failed write", "full disk",   "held bytes",  "delayed connection",
    "reset",        "standby",       "left behind",  "half change", "point"};
const char *chaos_kind_name(enum chaos_kind kind) { return kinds[kind]; }

/* Every durable step of the protocol, before and after. */
static const char *const points[CHAOS_POINTS] = {
    [VOLUME_POINT_CLAIM] = "claim, before it is durable",
    [VOLUME_POINT_CLAIM_DURABLE] = "claim, durable",
    [VOLUME_POINT_STORE] = "record, before it is durable",
    [VOLUME_POINT_STORE_DURABLE] = "record, durable",
    [VOLUME_POINT_MARK] = "mark, before it is durable",
    [VOLUME_POINT_MARK_DURABLE] = "mark, durable",
    [VOLUME_POINT_CLEAR] = "clear, before it is durable",
    [VOLUME_POINT_CLEAR_DURABLE] = "clear, durable",
    [VOLUME_POINT_TREE] = "change of a tree, before it is durable",
    [VOLUME_POINT_TREE_DURABLE] = "change of a tree, durable",
#define LEG(phase) [VOLUME_POINTS + MIRROR_POINT_LEG + LEG_##phase]
    LEG(CLAIM) = "leg: claim sent",
    LEG(RELOOK) = "leg: claim answered",
    LEG(CLAIMED) = "leg: claimed",
    LEG(ADOPT) = "leg: to be stored as syncing",
    LEG(KEEP) = "leg: its head is kept",
    LEG(TREES) = "leg: both trees are asked for",
    LEG(TREE_STEP) = "leg: trees compared",
    LEG(TREE_CHANGE) = "leg: one change of its tree",
    LEG(FILL_LIST) = "leg: what a snapshot needs is listed",
    LEG(FILL) = "leg: a snapshot is filled",
    LEG(FILL_FLUSH) = "leg: filled, flush sent",
    LEG(LISTED) = "leg: its tree is the mirror's",
    LEG(OWN_MARKS) = "leg: stored as syncing",
    LEG(JOIN) = "leg: joins",
    LEG(BARRIER) = "leg: has joined",
    LEG(SOURCE_MARKS) = "leg: the source's marks are asked for",
    LEG(MARK) = "leg: they are marked on it",
    LEG(COPY) = "leg: copying",
    LEG(FLUSH) = "leg: copied, flush sent",
    LEG(RAISE) = "leg: flushed",
    LEG(MEMBER) = "leg: a member",
#define EPOCH(phase) [VOLUME_POINTS + MIRROR_POINT_EPOCH + EPOCH_##phase]
    EPOCH(ATTEMPT) = "change: begins",
    EPOCH(STORED) = "change: sent",
    EPOCH(RAISED) = "change: sent to who becomes whole",
    EPOCH(SHORT) = "change: stored",
    [VOLUME_POINTS + MIRROR_POINT_COMPLETE] = "change: complete",
#define COMMAND(phase) [VOLUME_POINTS + MIRROR_POINT_COMMAND + COMMAND_##phase]
    COMMAND(CHECK) = "tree: members are asked whether they would",
    COMMAND(HOLD) = "tree: requests are held",
    COMMAND(SEND) = "tree: sent",
    COMMAND(SIZES) = "tree: another size",
    COMMAND(TOLD) = "tree: another size is told",
    COMMAND(CHANGE) = "tree: done by all who stand",
};
const char *chaos_point_name(unsigned point) { return points[point]; }

static unsigned next_pair(unsigned pair) {
    do
        pair = (pair + 1) % (CHAOS_POINTS * CHAOS_ACTIONS);
    while (points[pair / CHAOS_ACTIONS] == NULL);
    return pair;
}

static uint64_t now(const struct chaos *chaos) { return sim_now_ns(chaos->fleet->cluster.sim); }
static uint64_t draw(const struct chaos *chaos, uint64_t below) { return random_below(chaos->random, below); }

/* Mostly a blink, sometimes beyond every deadline. */
static uint64_t any_duration(const struct chaos *chaos) {
    static const uint64_t longest[] = {NS_PER_MS, 10 * NS_PER_MS, 60 * NS_PER_MS, 400 * NS_PER_MS, 3 * NS_PER_S};
    return 1 + draw(chaos, longest[draw(chaos, array_count(longest))]);
}

static struct chaos_undo *undo_add(struct chaos *chaos, enum chaos_kind kind) {
    assert(chaos->undo_count < CHAOS_UNDOS);
    struct chaos_undo *undo = &chaos->undos[chaos->undo_count++];
    *undo = (struct chaos_undo){.at_ns = now(chaos) + any_duration(chaos), .kind = kind};
    return undo;
}

static struct sim_connection *connection_by_id(struct sim *sim, uint64_t id) {
    for (struct sim_connection *connection = NULL; (connection = sim_connection_next(sim, connection)) != NULL;) {
        struct sim_connection_facts facts;
        sim_connection_facts(connection, &facts);
        if (facts.id == id)
            return connection;
    }
    return NULL;
}

static struct sim_connection *any_connection(struct chaos *chaos) {
    struct sim *sim = chaos->fleet->cluster.sim;
    unsigned count = 0;
    for (struct sim_connection *c = NULL; (c = sim_connection_next(sim, c)) != NULL;)
        count++;
    if (count == 0)
        return NULL;
    struct sim_connection *connection = NULL;
    for (uint64_t skip = draw(chaos, count) + 1; skip > 0; skip--)
        connection = sim_connection_next(sim, connection);
    return connection;
}

static enum fleet_death any_death(struct chaos *chaos) { return (enum fleet_death)draw(chaos, 3); }

static void kill_node(struct chaos *chaos, struct fleet_node *node, enum fleet_death death) {
    node->again_ns = now(chaos) + any_duration(chaos) / 4 + 1;
    fleet_node_die(node, death);
}

static void undo_run(struct chaos *chaos, const struct chaos_undo *undo) {
    struct fleet_node *node = undo->node;
    switch (undo->kind) {
    case CHAOS_PAUSE_STORE:
    case CHAOS_PAUSE_ENGINE:
        if (node->state != FLEET_DOWN && node->boots == undo->boots)
            fleet_node_pause(node, false);
        break;
    case CHAOS_CUT_ONE_WAY: sim_link_cut(undo->link, false); break;
    case CHAOS_SLOW_LINK: sim_link_set(undo->link, &undo->options); break;
    case CHAOS_SLOW_DISK:
    case CHAOS_HUNG_DISK:
    case CHAOS_FAILED_FLUSH:
    case CHAOS_FAILED_WRITE:
        sim_disk_faults_clear(node->disk);
        sim_disk_release(node->disk);
        break;
    case CHAOS_FULL_DISK: sim_disk_set_full(node->disk, false); break;
    case CHAOS_HALF_CHANGE:
        if (node->state != FLEET_DOWN && node->boots == undo->boots)
            kill_node(chaos, node, FLEET_POWER);
        break;
    case CHAOS_HELD_BYTES: {
        struct sim_connection *connection = connection_by_id(chaos->fleet->cluster.sim, undo->connection);
        if (connection != NULL)
            sim_connection_stall(connection, undo->direction, false);
        break;
    }
    default: assert(!"nothing to undo");
    }
}

/* ---- who ---- */

static struct fleet_node *any_node(struct chaos *chaos, bool with_store, bool with_engine) {
    struct fleet_node *found[FLEET_NODES];
    unsigned count = 0;
    for (unsigned i = 0; i < chaos->fleet->node_count; i++) {
        struct fleet_node *node = &chaos->fleet->nodes[i];
        if (node->state != FLEET_DOWN && (!with_store || node->disk != NULL) && (!with_engine || node->engine))
            found[count++] = node;
    }
    return count == 0 ? NULL : found[draw(chaos, count)];
}

/* The engine's machine that has none now; NULL if there is none. */
static struct fleet_node *spare(struct chaos *chaos) {
    for (unsigned i = 0; i < chaos->fleet->node_count; i++) {
        struct fleet_node *node = &chaos->fleet->nodes[i];
        if (!node->exported && node->disk == NULL && node->state == FLEET_DOWN && node->again_ns == 0)
            return node;
    }
    return NULL;
}

static bool is_highest(const struct chaos *chaos, const struct fleet_node *node) {
    for (unsigned i = 0; i < chaos->fleet->node_count; i++) {
        const struct fleet_node *other = &chaos->fleet->nodes[i];
        if (other != node && other->engine && (other->state != FLEET_DOWN || other->again_ns != 0) &&
            (other->term > node->term || (other->term == node->term && other->index < node->index)))
            return false;
    }
    return true;
}

/* An engine that is over is started anew, with the next term; unless another one is newer. */
static void engine_anew(struct chaos *chaos, struct fleet_node *node) {
    bool again = is_highest(chaos, node);
    fleet_log(chaos->fleet, "%s: its engine is over: %s", node->name, mirror_of(node->mirror)->error.text);
    fleet_node_die(node, FLEET_CLOSE);
    node->again_ns = again || node->disk != NULL ? now(chaos) + 1 + draw(chaos, 20 * NS_PER_MS) : 0;
    node->engine = again || node->disk != NULL;
}

/* ---- faults ---- */

static void cut(struct chaos *chaos, struct fleet_node *from, struct fleet_node *to) {
    struct sim_link *link = sim_link(from->plane.node, to->plane.node);
    struct chaos_undo *undo = undo_add(chaos, CHAOS_CUT_ONE_WAY);
    undo->link = link;
    sim_link_cut(link, true);
}

static void slow_link(struct chaos *chaos, struct fleet_node *from, struct fleet_node *to) {
    struct chaos_undo *undo = undo_add(chaos, CHAOS_SLOW_LINK);
    undo->link = sim_link(from->plane.node, to->plane.node);
    for (unsigned i = 0; i + 1 < chaos->undo_count; i++)
        if (chaos->undos[i].kind == CHAOS_SLOW_LINK && chaos->undos[i].link == undo->link) {
            chaos->undo_count--;
            return;
        }
    sim_link_get(undo->link, &undo->options);
    struct sim_link_options slow = undo->options;
    slow.latency_min_ns = draw(chaos, 2 * NS_PER_MS);
    slow.latency_max_ns = slow.latency_min_ns + draw(chaos, 30 * NS_PER_MS);
    sim_link_set(undo->link, &slow);
}

static void disk_fault(struct chaos *chaos, enum chaos_kind kind, struct fleet_node *node) {
    struct sim_disk_fault fault = {.ops = SIM_OP_ALL};
    if (node->state != FLEET_UP)
        return;
    switch (kind) {
    case CHAOS_SLOW_DISK:
        fault.action = SIM_FAULT_DELAY;
        fault.delay_ns = 1 + draw(chaos, 80 * NS_PER_MS);
        fault.one_in = 1 + (uint32_t)draw(chaos, 4);
        break;
    case CHAOS_HUNG_DISK:
        fault.action = SIM_FAULT_HANG;
        fault.one_in = 1 + (uint32_t)draw(chaos, 3);
        break;
    case CHAOS_FAILED_FLUSH:
        fault.ops = SIM_OP(HOST_FILE_SYNC);
        fault.count = 1;
        break;
    default:
        fault.ops = SIM_OP(HOST_FILE_WRITE);
        fault.count = 1;
        break;
    }
    undo_add(chaos, kind)->node = node;
    sim_disk_fault_add(node->disk, &fault);
}

static void arm(struct chaos *chaos) {
    for (unsigned i = 0; i < CHAOS_ARMS; i++) {
        struct chaos_arm *arm = &chaos->arms[i];
        if (arm->point != CHAOS_POINTS)
            continue;
        arm->point = chaos->next / CHAOS_ACTIONS;
        arm->action = (enum chaos_action)(chaos->next % CHAOS_ACTIONS);
        arm->skip = draw(chaos, 2) == 0 ? 0 : (unsigned)draw(chaos, 6);
        chaos->next = next_pair(chaos->next);
        return;
    }
}

static void disarm(struct chaos *chaos) {
    for (unsigned i = 0; i < CHAOS_ARMS; i++)
        chaos->arms[i].point = CHAOS_POINTS;
}

/* Of those that are armed there and then; NULL = none, or it passes. */
static struct chaos_arm *armed_at(struct chaos *chaos, unsigned point) {
    for (unsigned i = 0; i < CHAOS_ARMS; i++) {
        struct chaos_arm *arm = &chaos->arms[i];
        if (arm->point == point && arm->skip-- == 0)
            return arm;
    }
    return NULL;
}

/* The first one has stored the change: who has not, and is a member of it, does nothing more, and dies a little later with the
 * engine. */
static void half_change(struct chaos *chaos, const struct fleet_node *first) {
    struct fleet *fleet = chaos->fleet;
    const struct replica_record *record = fleet_record(first);
    if (record == NULL || first->stored_depth <= chaos->half_depth || now(chaos) > chaos->half_over_ns)
        return;
    chaos->half_over_ns = 0;
    uint64_t at_ns = now(chaos) + draw(chaos, 12 * NS_PER_MS);
    for (unsigned i = 0; i < fleet->node_count; i++) {
        struct fleet_node *node = &fleet->nodes[i];
        const struct replica_record *own = fleet_record(node);
        bool engine = node->engine && node->state != FLEET_DOWN;
        bool lacks = node != first && own != NULL && own->state == REPLICA_WHOLE && node->stored_depth < first->stored_depth;
        unsigned leg = own == NULL ? record->leg_count : replica_record_leg(record, &own->leg);
        lacks = lacks && leg < record->leg_count && (record->legs[leg].flags & REPLICA_LEG_MEMBER) != 0;
        if (!engine && !lacks)
            continue;
        if (lacks && !engine)
            fleet_node_pause(node, true);
        struct chaos_undo *undo = undo_add(chaos, CHAOS_HALF_CHANGE);
        undo->node = node;
        undo->boots = node->boots;
        undo->at_ns = at_ns;
    }
}

/* At a moment of the protocol, inside of the node's turn. */
static void at_point(struct fleet *fleet, struct fleet_node *node, unsigned leg, unsigned point) {
    struct chaos *chaos = fleet->at_point_arg;
    if (point >= VOLUME_POINTS) { /* a task that is woken in the state in which it was is at no new moment */
        unsigned slot = point < VOLUME_POINTS + MIRROR_POINT_EPOCH ? leg : MIRROR_LEGS_MAX;
        if (node->seen_points[slot] == point)
            return;
        node->seen_points[slot] = point;
    }
    if (chaos->undo_count + FLEET_NODES * 2 > CHAOS_UNDOS)
        return;
    if (point == VOLUME_POINT_STORE_DURABLE && chaos->half_over_ns != 0)
        half_change(chaos, node);
    struct chaos_arm *arm = armed_at(chaos, point);
    if (arm == NULL)
        return;
    enum chaos_action action = arm->action;
    arm->point = CHAOS_POINTS;
    chaos->hits[point][action]++;
    fleet->faults++;
    fleet_log(fleet, "%s, at \"%s\": %s", node->name, points[point],
              action == CHAOS_CRASH  ? "crash"
              : action == CHAOS_STOP ? "pause"
                                     : "cut");
    struct chaos_undo *undo;
    switch (action) {
    case CHAOS_CRASH: kill_node(chaos, node, any_death(chaos)); break; /* does not return */
    case CHAOS_STOP:
        undo = undo_add(chaos, CHAOS_PAUSE_STORE);
        undo->node = node;
        undo->boots = node->boots;
        fleet_node_pause(node, true);
        break;
    case CHAOS_DISCONNECT:
        for (unsigned i = 0; i < fleet->node_count; i++)
            if (&fleet->nodes[i] != node) {
                cut(chaos, node, &fleet->nodes[i]);
                cut(chaos, &fleet->nodes[i], node);
            }
        break;
    case CHAOS_ACTIONS: break;
    }
}

static void connection_fault(struct chaos *chaos, enum chaos_kind kind) {
    struct sim_connection *connection = any_connection(chaos);
    if (connection == NULL)
        return;
    enum sim_direction direction = draw(chaos, 2) == 0 ? SIM_TO_SERVER : SIM_TO_CLIENT;
    if (kind == CHAOS_RESET) {
        sim_connection_reset(connection);
    } else if (kind == CHAOS_DELAYED_CONNECTION) {
        sim_connection_delay(connection, direction, 1 + draw(chaos, 20 * NS_PER_MS));
    } else {
        struct sim_connection_facts facts;
        struct chaos_undo *undo = undo_add(chaos, kind);
        sim_connection_facts(connection, &facts);
        undo->connection = facts.id;
        undo->direction = direction;
        sim_connection_stall(connection, direction, true);
    }
}

static void engine_fault(struct chaos *chaos, enum chaos_kind kind) {
    struct fleet_node *node = any_node(chaos, false, true), *other = spare(chaos);
    if (node == NULL)
        return;
    if (kind == CHAOS_ENGINE_DIES) {
        kill_node(chaos, node, any_death(chaos));
    } else if (other != NULL) {
        fleet_engine_up(other, kind == CHAOS_SAME_TERM ? node->term : ++chaos->fleet->terms);
    }
}

static void pause_node(struct chaos *chaos, enum chaos_kind kind) {
    struct fleet_node *node = any_node(chaos, kind == CHAOS_PAUSE_STORE, kind == CHAOS_PAUSE_ENGINE);
    if (node == NULL || node->paused)
        return;
    struct chaos_undo *undo = undo_add(chaos, kind);
    undo->node = node;
    undo->boots = node->boots;
    fleet_node_pause(node, true);
}

/* For long, so that somebody may go on without it. */
static void leave_behind(struct chaos *chaos, struct fleet_node *store) {
    struct fleet_node *engine = fleet_engine(chaos->fleet);
    if (store == NULL || engine == NULL || store == engine)
        return;
    kill_node(chaos, store, any_death(chaos));
    store->again_ns = now(chaos) + NS_PER_S + draw(chaos, 5 * NS_PER_S);
    fleet_node_die(engine, any_death(chaos));
    engine->again_ns = now(chaos) + 1 + draw(chaos, 20 * NS_PER_MS);
}

/* The engine has to go on without it by a change, of which half is stored. */
static void cut_off(struct chaos *chaos, struct fleet_node *store) {
    struct fleet_node *engine = fleet_engine(chaos->fleet);
    if (store == NULL || engine == NULL || store == engine || now(chaos) < chaos->half_over_ns)
        return;
    cut(chaos, engine, store);
    cut(chaos, store, engine);
    for (unsigned i = 1; i <= 2; i++)
        chaos->undos[chaos->undo_count - i].at_ns = now(chaos) + 300 * NS_PER_MS;
    chaos->half_depth = chaos->fleet->newest.depth;
    chaos->half_over_ns = now(chaos) + 300 * NS_PER_MS;
}

void chaos_strike(struct chaos *chaos) {
    static const uint8_t weights[CHAOS_KINDS] = {4, 2, 1, 3, 2, 1, 3, 2, 3, 3, 2, 2, 1, 2, 1, 1, 3, 2, 3, 2, 2, 3, 8};
    struct fleet *fleet = chaos->fleet;
    unsigned sum = 0, kind = 0;
    for (unsigned i = 0; i < CHAOS_KINDS; i++)
        sum += weights[i];
    for (uint64_t left = draw(chaos, sum); left >= weights[kind]; kind++)
        left -= weights[kind];
    if (chaos->often != CHAOS_POINT && draw(chaos, 2) == 0)
        kind = chaos->often;
    struct fleet_node *store = any_node(chaos, true, false), *one = &fleet->nodes[draw(chaos, fleet->node_count)];
    struct fleet_node *another = &fleet->nodes[draw(chaos, fleet->node_count)];
    if (chaos->undo_count + FLEET_NODES * 2 > CHAOS_UNDOS)
        return;
    if (kind != CHAOS_POINT) {
        fleet->faults++;
        fleet_log(fleet, "-- %s", kinds[kind]);
    }
    chaos->done[kind]++;
    switch ((enum chaos_kind)kind) {
    case CHAOS_STORE_DIES:
        if (store != NULL)
            kill_node(chaos, store, any_death(chaos));
        break;
    case CHAOS_STORES_DIE:
    case CHAOS_ALL_DIE:
        for (unsigned i = 0; i < fleet->node_count; i++)
            if (fleet->nodes[i].state != FLEET_DOWN && (kind == CHAOS_ALL_DIE || draw(chaos, 2) == 0))
                kill_node(chaos, &fleet->nodes[i], kind == CHAOS_ALL_DIE ? FLEET_POWER : any_death(chaos));
        break;
    case CHAOS_ENGINE_DIES:
    case CHAOS_SWITCH_OVER:
    case CHAOS_SAME_TERM: engine_fault(chaos, (enum chaos_kind)kind); break;
    case CHAOS_PAUSE_STORE:
    case CHAOS_PAUSE_ENGINE: pause_node(chaos, (enum chaos_kind)kind); break;
    case CHAOS_CUT:
    case CHAOS_CUT_ONE_WAY:
        cut(chaos, one, another);
        if (kind == CHAOS_CUT)
            cut(chaos, another, one); /* for a time of its own */
        break;
    case CHAOS_SLOW_LINK: slow_link(chaos, one, another); break;
    case CHAOS_SLOW_DISK:
    case CHAOS_HUNG_DISK:
    case CHAOS_FAILED_FLUSH:
    case CHAOS_FAILED_WRITE:
        if (store != NULL)
            disk_fault(chaos, (enum chaos_kind)kind, store);
        break;
    case CHAOS_FULL_DISK:
        if (store != NULL) {
            undo_add(chaos, CHAOS_FULL_DISK)->node = store;
            sim_disk_set_full(store->disk, true);
        }
        break;
    case CHAOS_HELD_BYTES:
    case CHAOS_DELAYED_CONNECTION:
    case CHAOS_RESET: connection_fault(chaos, (enum chaos_kind)kind); break;
    case CHAOS_STANDBY:
        if (spare(chaos) != NULL)
            fleet_standby_up(spare(chaos));
        break;
    case CHAOS_LEFT_BEHIND: leave_behind(chaos, store); break;
    case CHAOS_HALF_CHANGE: cut_off(chaos, store); break;
    case CHAOS_POINT: arm(chaos); break;
    case CHAOS_KINDS: break;
    }
}

/* ---- help ---- */

void chaos_tend(struct chaos *chaos) {
    struct fleet *fleet = chaos->fleet;
    for (unsigned i = 0; i < chaos->undo_count;)
        if (chaos->undos[i].at_ns <= now(chaos)) {
            struct chaos_undo undo = chaos->undos[i];
            chaos->undos[i] = chaos->undos[--chaos->undo_count];
            undo_run(chaos, &undo);
        } else {
            i++;
        }
    for (unsigned i = 0; i < fleet->node_count; i++) {
        struct fleet_node *node = &fleet->nodes[i];
        if (node->paused || node->state == FLEET_DOWN)
            continue;
        if (node->state == FLEET_FAILED || (node->store != NULL && node->store->failed && draw(chaos, 4) == 0)) {
            kill_node(chaos, node, FLEET_CLOSE);
            continue;
        }
        if (node->mirror == NULL)
            continue;
        enum mirror_state state = mirror_of(node->mirror)->state;
        if ((state == MIRROR_ENDED || state == MIRROR_REFUSED) && draw(chaos, 3) == 0)
            engine_anew(chaos, node);
    }
    bool any = false;
    for (unsigned i = 0; i < fleet->node_count; i++)
        any = any || (fleet->nodes[i].engine && (fleet->nodes[i].state != FLEET_DOWN || fleet->nodes[i].again_ns != 0));
    if (!any)
        fleet_engine_up(spare(chaos), ++fleet->terms);
}

void chaos_end(struct chaos *chaos) {
    struct fleet *fleet = chaos->fleet;
    fleet_log(fleet, "-- the faults are over");
    disarm(chaos);
    chaos->half_over_ns = 0;
    while (chaos->undo_count > 0) {
        struct chaos_undo undo = chaos->undos[--chaos->undo_count];
        undo_run(chaos, &undo);
    }
    struct sim *sim = fleet->cluster.sim;
    for (struct sim_connection *c = NULL; (c = sim_connection_next(sim, c)) != NULL;)
        for (unsigned direction = 0; direction < 2; direction++)
            sim_connection_delay(c, (enum sim_direction)direction, 0);
    for (unsigned i = 0; i < fleet->node_count; i++) {
        struct fleet_node *node = &fleet->nodes[i];
        if (node->engine && node->state != FLEET_DOWN && node->disk == NULL && !is_highest(chaos, node)) {
            fleet_node_die(node, FLEET_CLOSE);
            node->engine = false;
        } else if (node->engine && node->state == FLEET_DOWN && node->disk == NULL && !is_highest(chaos, node)) {
            node->engine = false;
            node->again_ns = 0;
        }
    }
}

void chaos_init(struct chaos *chaos, struct fleet *fleet, unsigned number, uint64_t (*hits)[CHAOS_ACTIONS]) {
    *chaos = (struct chaos){.fleet = fleet, .random = &fleet->random, .hits = hits, .often = CHAOS_POINT};
    disarm(chaos);
    chaos->next = next_pair(CHAOS_POINTS * CHAOS_ACTIONS - 1);
    for (unsigned i = 0; i < number * CHAOS_ARMS % (CHAOS_POINTS * CHAOS_ACTIONS); i++)
        chaos->next = next_pair(chaos->next);
    for (unsigned i = 0; i < CHAOS_ARMS; i++)
        arm(chaos);
    fleet->at_point = at_point;
    fleet->at_point_arg = chaos;
}
