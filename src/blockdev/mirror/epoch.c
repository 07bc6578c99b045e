/* Changes of the epoch, one at a time: who is lost leaves it, who was brought up joins it, a start makes the first. Each attempt
 * has its own id and depth and goes into the history of the next. While a change is under way no write is sent; it is complete
 * when all its members have stored it, and under `majority` more than half of the records. docs/mirror.md, "Losing a leg". */
#include "base/hash_map.h"
#include "blockdev/mirror/mirror_internal.h"

#define M(phase) TASK_MOVE(EPOCH_##phase)
static const uint64_t moves[EPOCH_PHASES] = {
    [EPOCH_REST] = M(ATTEMPT),
    [EPOCH_ATTEMPT] = M(STORED) | M(REST),
    [EPOCH_STORED] = M(ATTEMPT) | M(RAISED) | M(SHORT) | M(REST),
    [EPOCH_RAISED] = M(ATTEMPT) | M(SHORT) | M(REST),
    [EPOCH_SHORT] = M(ATTEMPT) | M(REST),
};
static const char *const names[EPOCH_PHASES] = {"rest", "attempt", "stored", "raised", "short"};

struct uuid mirror_random_id(struct mirror *mirror) {
    uint8_t bytes[16];
    struct uuid id;
    random_fill(&mirror->random, bytes, sizeof(bytes));
    uuid_from_random(bytes, &id);
    return id;
}

void mirror_masks_update(struct mirror *mirror) {
    mirror->readers = mirror->regions_known && mirror->standing != 0 ? mirror->standing | mirror->foreign : 0;
    mirror->writers = mirror->readers;
    if (mirror->readers == 0)
        return;
    mirror_for_each_leg(mirror, leg) if (mirror_leg_is_up(leg) && leg->barrier != 0) mirror->writers |= leg->bit;
}

/* ---- records ---- */

void mirror_record_compose(const struct mirror *mirror, const struct mirror_leg *leg, struct replica_record *ret_record) {
    struct replica_record *r = ret_record;
    *r = (struct replica_record){.magic = REPLICA_RECORD_MAGIC, .version = REPLICA_RECORD_VERSION};
    r->mirror = mirror->id;
    r->leg = mirror_leg_is_up(leg) && !uuid_is_nil(&leg->own_id) ? leg->own_id : leg->config.id;
    r->term = r->promised_term = mirror->term;
    r->promised_engine = mirror->engine;
    r->promised_attempt = leg->attempt;
    r->epoch = mirror->epoch;
    r->policy = (uint8_t)mirror->policy;
    r->settled = mirror->sent_settled;
    r->history_count = (uint8_t)mirror->history_count;
    memcpy(r->history, mirror->history, mirror->history_count * sizeof(r->history[0]));
    r->came_to_nothing = mirror->came_to_nothing;
    r->reconfigured = mirror->reconfigured;
    mirror_for_each_leg(mirror, other) {
        if (!other->configured)
            continue;
        struct replica_leg *told = &r->legs[r->leg_count++];
        *told = other->config;
        told->flags &= ~(uint32_t)(REPLICA_LEG_MEMBER | REPLICA_LEG_BEFORE);
        told->incarnation = 0;
        if ((mirror->members & other->bit) != 0) {
            told->flags |= REPLICA_LEG_BEFORE;
            told->incarnation = mirror->incarnations[other->index];
        }
        if ((mirror->sent_members & other->bit) != 0) {
            told->flags |= REPLICA_LEG_MEMBER;
            told->incarnation = other->status.incarnation;
            told->last = (struct replica_epoch){0};
        }
    }
    if ((mirror->sent_members & leg->bit) != 0) {
        r->state = REPLICA_WHOLE;
    } else if (leg->tie_breaker) {
        r->state = REPLICA_WITNESS;
    } else {
        r->state = REPLICA_SYNCING;
        r->base = leg->base;
        r->joined = leg->joined;
        mirror_cursor_compose(leg, r);
    }
}

static uint64_t id_sum(const struct uuid *id) { return hash_bytes(id->bytes, sizeof(id->bytes), 0); }

/* Who counts for a majority, in short: equal sums, equal legs. */
static uint64_t config_sum(const struct mirror *mirror) {
    uint64_t sum = 0;
    mirror_for_each_leg(mirror, leg) sum += mirror_leg_counts(leg) ? id_sum(&leg->config.id) : 0;
    return sum;
}

void mirror_epoch_adopt(struct mirror *mirror, const struct replica_record *record) {
    mirror->id = record->mirror;
    mirror->policy = (enum replica_policy)record->policy;
    mirror->epoch = record->epoch;
    mirror->history_count = record->history_count;
    memcpy(mirror->history, record->history, sizeof(mirror->history));
    mirror->came_to_nothing = record->came_to_nothing;
    mirror->reconfigured = record->reconfigured;
    mirror->sent_config = 0;
    for (unsigned i = 0; i < record->leg_count; i++)
        if ((record->legs[i].flags & (REPLICA_LEG_EXCLUDED | REPLICA_LEG_BLANK)) == 0)
            mirror->sent_config += id_sum(&record->legs[i].id);
    mirror->complete = record->epoch;
    mirror->settled = record->settled != 0;
}

/* The epoch that was sent last becomes history, as one that counted or as an attempt that came to nothing; a new one is drawn. */
static void next_epoch(struct mirror *mirror) {
    uint64_t config = config_sum(mirror);
    if (!uuid_is_nil(&mirror->epoch.id)) {
        unsigned keep = min_u32(mirror->history_count, REPLICA_HISTORY_MAX - 1);
        memmove(&mirror->history[1], &mirror->history[0], keep * sizeof(mirror->history[0]));
        mirror->history[0] = mirror->epoch;
        mirror->history_count = keep + 1;
        unsigned nothing = !replica_epoch_equal(&mirror->epoch, &mirror->complete), other = config != mirror->sent_config;
        mirror->came_to_nothing = (uint16_t)(mirror->came_to_nothing << 1 | nothing);
        mirror->reconfigured = (uint16_t)(mirror->reconfigured << 1 | other);
    }
    mirror->sent_config = config;
    mirror->epoch.depth = mirror->deepest = max_u64(mirror->epoch.depth, mirror->deepest) + 1;
    mirror->epoch.id = mirror_random_id(mirror);
}

static void note_stored(struct mirror_leg *leg) {
    leg->mirror->stored |= leg->bit;
    leg->mirror->stored_last = leg;
}

static void store_done(struct mirror_call *call) {
    struct mirror_leg *leg = call->leg;
    struct mirror *mirror = leg->mirror;
    if (call->generation == leg->generation) {
        if (call->status == IO_OK) {
            leg->recorded = true;
            leg->cursor_stored = leg->cursor_sent;
            if (replica_epoch_equal(&leg->store_epoch, &mirror->epoch))
                note_stored(leg);
            mirror_short_look(mirror);
        } else if (!mirror_leg_judge(leg, call->status)) {
            mirror_leg_refused(leg, call->status, "it did not store the record");
        }
    }
    task_wake(&leg->task);
    mirror_epoch_wake(mirror);
}

void mirror_store_send(struct mirror_leg *leg, bool marks) {
    struct mirror *mirror = leg->mirror;
    struct replica_store *store = leg->store_document;
    assert(!leg->store.busy && mirror_leg_is_up(leg));
    if (!leg->replica) {
        leg->store_epoch = mirror->epoch;
        leg->recorded = true;
        note_stored(leg);
        mirror_epoch_wake(mirror);
        task_wake(&leg->task);
        return;
    }
    mirror_record_compose(mirror, leg, &store->record);
    assert(replica_record_check(&store->record) == NULL);
    store->marks = (struct replica_ranges){0};
    if (marks)
        store->marks.count = mirror_io_regions(mirror, store->marks.ranges);
    leg->store_epoch = mirror->epoch;
    leg->cursor_sent = store->record.cursor_offset;
    mirror_call_send(leg, &leg->store, BLOCK_REPLICA_PUT, replica_argument(REPLICA_STORE, 0, 0), 0, store,
                     sizeof(*store) + store->marks.count * sizeof(struct replica_range), store_done);
}

/* ---- the change ---- */

mirror_mask mirror_up(const struct mirror *mirror) {
    mirror_mask mask = 0;
    mirror_for_each_leg(mirror, leg) mask |= mirror_leg_is_up(leg) ? leg->bit : 0;
    return mask;
}

static bool has_all(const struct mirror *mirror, const struct mirror_leg *leg) {
    return (mirror->members & leg->bit) != 0 && mirror_leg_is_up(leg) && leg->task.state == LEG_CLAIMED &&
           (leg->status.incarnation == mirror->incarnations[leg->index] || MIRROR_CANARY == MIRROR_CANARY_INCARNATION_IGNORED);
}

/* All members are lost: one that is back with everything it had may go on; 0 if there is none (yet). A leg that an attempt left
 * out may not go on by itself: who stored that attempt would take itself for the newest copy. It may if all those store this one,
 * too. */
static mirror_mask survivor(const struct mirror *mirror, bool *ret_together) {
    bool all = true;
    *ret_together = false;
    mirror_for_each_leg(mirror, leg) {
        if ((mirror->chain & leg->bit) != 0 && has_all(mirror, leg))
            return leg->bit;
        if ((mirror->named & leg->bit) != 0)
            all = all && mirror_leg_is_up(leg) && leg->task.state == LEG_CLAIMED;
    }
    mirror_for_each_leg(mirror, leg) if (all && has_all(mirror, leg)) {
        *ret_together = true;
        return leg->bit;
    }
    return 0;
}

/* Every member is back, and each has forgotten what was not flushed. */
static bool all_forgot(const struct mirror *mirror) {
    mirror_for_each_leg(
        mirror, leg) if ((mirror->members & leg->bit) != 0 &&
                         (!mirror_leg_is_up(leg) || leg->status.incarnation == mirror->incarnations[leg->index])) return false;
    return true;
}

/* Who the next epoch stands on, 0 = nobody now. */
static mirror_mask foundation(struct mirror *mirror) {
    mirror->together = false;
    if (mirror->starting)
        return mirror->start_members & mirror_up(mirror);
    return mirror->standing != 0 ? mirror->standing : survivor(mirror, &mirror->together);
}

/* Nobody stands, and a leg that may be needed to go on was being brought up, for a change that came to nothing: it is claimed
 * anew, and then waits with the others. */
static void ask_anew(struct mirror *mirror) {
    mirror_for_each_leg(mirror, leg) if (!mirror->starting && (mirror->named & leg->bit) != 0 && mirror_leg_is_up(leg) &&
                                         leg->task.state != LEG_CLAIMED) mirror_leg_lose(leg, "all members were lost");
}

static mirror_mask raisable(struct mirror *mirror) {
    mirror_for_each_leg(mirror,
                        leg) if (leg->task.state == LEG_RAISE && mirror_leg_is_up(leg) &&
                                 (mirror->members & leg->bit) == 0 /* its task may not have heard of it yet */) return leg->bit;
    return 0;
}

static bool is_wanted(struct mirror *mirror) {
    if (mirror->starting || (mirror->members != 0 && (mirror->named & ~mirror->standing) != 0))
        return true;
    if (mirror->state != MIRROR_SERVING)
        return false;
    if (mirror->deeper || raisable(mirror) != 0)
        return true;
    if (mirror->config_done != mirror->config_wanted)
        return true;
    return !mirror->settled && mirror->regions_known && mirror->regions.unequal_count == 0;
}

uint64_t mirror_config_wish(struct mirror_leg *leg, unsigned wish) {
    leg->wishes |= (uint8_t)wish;
    mirror_epoch_wake(leg->mirror);
    return ++leg->mirror->config_wanted;
}

/* An attempt that is not complete tells another configuration than the epoch before it. */
static bool is_reconfiguring(const struct mirror *mirror) {
    mirror_for_each_leg(mirror, leg) {
        if (leg->counted != mirror_leg_counts(leg) || (leg->counted && !uuid_equal(&leg->counted_id, &leg->config.id)))
            return true;
    }
    return false;
}

/* Only between attempts, so that all records of an epoch tell one configuration, and one leg's at a time until that is complete:
 * then any two majorities by neighbouring ones meet. Who is a member, of an attempt at least, keeps its place until a complete
 * epoch has left it out: it may be the one that everything depends on. */
static void grant_wishes(struct mirror *mirror) {
    bool all = true, granted = !mirror->starting && is_reconfiguring(mirror);
    mirror_for_each_leg(mirror, leg) {
        bool member = ((mirror->members | mirror->named) & leg->bit) != 0;
        if (leg->wishes != 0 && (granted || (member && (leg->wishes & (WISH_OUT | WISH_RENEW)) != 0))) {
            all = false;
            continue;
        }
        granted = granted || leg->wishes != 0;
        if ((leg->wishes & WISH_IN) != 0)
            leg->configured = true;
        if ((leg->wishes & WISH_OUT) != 0)
            leg->configured = false;
        if ((leg->wishes & WISH_RENEW) != 0) {
            leg->config.id = mirror_random_id(mirror);
            leg->config.last = (struct replica_epoch){0};
            leg->config.flags = (leg->config.flags & REPLICA_LEG_TIE_BREAKER) | REPLICA_LEG_BLANK;
        }
        if ((leg->wishes & WISH_FILL) != 0)
            leg->config.flags &= ~(uint32_t)REPLICA_LEG_BLANK;
        if ((leg->wishes & WISH_INCLUDE) != 0)
            leg->config.flags &= ~(uint32_t)REPLICA_LEG_EXCLUDED;
        leg->wishes = 0;
    }
    if (all)
        mirror->config_sent = mirror->config_wanted;
}

/* Who leaves keeps the epoch in which it was whole last, if all that was unequal then is marked as new as that. */
static void set_lasts(struct mirror *mirror, mirror_mask members, bool equal) {
    mirror_for_each_leg(mirror, leg) {
        bool was = (mirror->members & leg->bit) != 0;
        if ((members & leg->bit) == 0 && was)
            leg->config.last = equal ? mirror->complete : (struct replica_epoch){0};
    }
}

/* Of the configuration that is sent, or (`before`) of the one before it. */
static bool majority_of(const struct mirror *mirror, bool before) {
    unsigned configured = 0, stored = 0;
    bool tie_breaker = false;
    mirror_for_each_leg(mirror, leg) {
        if (!(before ? leg->counted : mirror_leg_counts(leg)))
            continue;
        bool has = (mirror->stored & leg->bit) != 0;
        configured++;
        stored += has;
        tie_breaker = tie_breaker || (has && leg->tie_breaker);
    }
    return configured == 0 || 2 * stored > configured || (2 * stored == configured && tie_breaker);
}

bool mirror_majority_is_there(const struct mirror *mirror, const struct mirror_leg *leaving) {
    unsigned count = 0, there = 0;
    bool tie_breaker = false;
    if (mirror->policy != REPLICA_MAJORITY)
        return true;
    mirror_for_each_leg(mirror, leg) {
        if (leg == leaving || !mirror_leg_counts(leg))
            continue;
        bool stores = mirror_leg_is_up(leg) && leg->recorded;
        count++;
        there += stores;
        tie_breaker = tie_breaker || (stores && leg->tie_breaker);
    }
    return 2 * there > count || (2 * there == count && tie_breaker);
}

/* By both configurations, so that a start that knows only the older one meets this epoch. */
static bool majority(const struct mirror *mirror) {
    return mirror->policy != REPLICA_MAJORITY || (majority_of(mirror, false) && majority_of(mirror, true));
}

/* A long one is told with what was waited for: it is often the disk of a leg that stays. */
static void note_stall(struct mirror *mirror) {
    uint64_t stall_ns = reactor_now_ns(mirror->home) - mirror->change_began_ns;
    if (stall_ns < mirror->longest_stall_ns)
        return;
    mirror->longest_stall_ns = stall_ns;
    mirror->stall_before_ns = mirror->record_sent_ns - mirror->change_began_ns;
    if (mirror->stored_last != NULL)
        memcpy(mirror->stall_leg, mirror->stored_last->told.name, sizeof(mirror->stall_leg));
}

static void complete(struct mirror *mirror) {
    reactor_timer_stop(mirror->home, &mirror->store_deadline);
    mirror->complete = mirror->epoch;
    mirror->members = mirror->named = mirror->chain = mirror->sent_members;
    mirror->standing = mirror->members & mirror_up(mirror);
    assert(mirror->standing == mirror->members);
    mirror->settled = mirror->sent_settled;
    mirror->raise = 0;
    mirror->changes++;
    mirror->config_done = mirror->config_sent;
    mirror_for_each_leg(mirror, leg) {
        leg->counted = mirror_leg_counts(leg);
        leg->counted_id = leg->config.id;
    }
    mirror_for_each_leg(mirror, leg) {
        if ((mirror->members & leg->bit) == 0)
            continue;
        mirror->incarnations[leg->index] = leg->status.incarnation;
        leg->config.last = (struct replica_epoch){0};
        leg->base = (struct replica_epoch){0};
        leg->joined = leg->barrier = leg->cursor = 0;
        mirror->tree_sequence = leg->status.tree_sequence;
        mirror->tree_change = leg->status.tree_change;
    }
    bool started = mirror->starting;
    MIRROR_AT(mirror, NULL, MIRROR_POINT_COMPLETE);
    mirror->starting = mirror->changing = false;
    if (mirror->state == MIRROR_HOLDING)
        mirror->state = MIRROR_SERVING;
    mirror_away_end(mirror);
    note_stall(mirror);
    mirror_masks_update(mirror);
    if (started)
        mirror_start_complete(mirror);
    mirror_legs_wake(mirror);
    mirror_tree_commands_wake(mirror);
    mirror_io_look(mirror);
    mirror_copy_wake(mirror);
    mirror_short_look(mirror);
    mirror_watch_look(mirror);
    mirror_commands_look(mirror);
}

static void send_stores(struct mirror *mirror) {
    mirror_for_each_leg(mirror, leg) if ((mirror->unsent & leg->bit) != 0 && (!mirror_leg_is_up(leg) || !leg->store.busy)) {
        mirror->unsent &= (mirror_mask)~leg->bit;
        if (mirror_leg_is_up(leg))
            mirror_store_send(leg, true);
    }
}

/* A leg is late once another has stored it: what is slow for all costs nobody. */
static void store_late(struct reactor_timer *timer) {
    struct mirror *mirror = container_of(timer, struct mirror, store_deadline);
    mirror_for_each_leg(mirror, leg) if ((mirror->awaited & ~mirror->stored & leg->bit) != 0 && mirror_leg_is_up(leg))
        mirror_leg_lose(leg, "it did not store the record in time");
    mirror_epoch_wake(mirror);
}

static bool attempt(struct mirror *mirror) {
    mirror_mask base = foundation(mirror);
    if (base == 0)
        return false;
    if ((mirror->raise & mirror_up(mirror)) == 0 || mirror->standing == 0)
        mirror->raise = 0;
    mirror_mask members = base | mirror->raise;
    bool equal = mirror->regions.unequal_count == 0 && mirror->regions_known;
    grant_wishes(mirror);
    set_lasts(mirror, members, mirror->settled && (equal || mirror->starting));
    next_epoch(mirror);
    mirror->deeper = false;
    mirror->sent_members = members;
    mirror->named |= members;
    mirror->chain &= members;
    mirror->sent_settled = !mirror->starting && equal && (mirror->settled || mirror->state == MIRROR_SERVING);
    mirror->stored = mirror->fell = 0;
    mirror->awaited = 0;
    mirror_for_each_leg(mirror, leg) if (mirror_leg_is_up(leg) &&
                                         ((members & leg->bit) != 0 || leg->recorded || (mirror->starting && leg->allowed)))
        mirror->awaited |= leg->bit;
    mirror_for_each_leg(mirror, leg) {
        if (!mirror->together || (mirror->named & ~members & leg->bit) == 0)
            continue;
        mirror->awaited |= leg->bit;
        leg->base = mirror->complete;
        leg->joined = leg->cursor = 0;
    }
    mirror->awaited &= (mirror_mask)~mirror->raise;
    mirror->unsent = mirror->awaited;
    if (mirror->record_sent_ns == mirror->change_began_ns)
        mirror->record_sent_ns = reactor_now_ns(mirror->home);
    reactor_timer_stop(mirror->home, &mirror->store_deadline);
    send_stores(mirror);
    return true;
}

/* A member of the attempt was lost, and may be back since: it needs another one. */
static bool broken(const struct mirror *mirror) {
    mirror_mask needed = mirror->sent_members | (mirror->together ? mirror->awaited : 0);
    return mirror->deeper || (needed & (mirror->fell | (mirror_mask)~mirror_up(mirror))) != 0;
}

/* What a change was prepared for is not wanted any more, and nothing was sent: writes go on. */
static void give_up(struct mirror *mirror) {
    mirror->raise = 0;
    if (!mirror->changing)
        return;
    mirror->changing = false;
    mirror_legs_wake(mirror);
    mirror_io_look(mirror);
}

static void step(struct task *task) {
    struct mirror *mirror = container_of(task, struct mirror, epoch_task);
    if (mirror->state == MIRROR_ENDED || mirror->closing)
        return;
    if (mirror->change_over && task->state != EPOCH_REST) {
        task_move(task, EPOCH_REST);
        return;
    }
    mirror->change_over = false;
    MIRROR_AT(mirror, NULL, MIRROR_POINT_EPOCH + task->state);
    switch ((enum epoch_phase)task->state) {
    case EPOCH_REST: {
        if (!is_wanted(mirror)) {
            give_up(mirror);
            return;
        }
        if (!mirror->changing)
            mirror->change_began_ns = mirror->record_sent_ns = reactor_now_ns(mirror->home);
        mirror->changing = true;
        if (foundation(mirror) == 0) { /* woken when a leg is claimed */
            ask_anew(mirror);
            if (mirror->starting || all_forgot(mirror))
                mirror_start_wake(mirror);
            return;
        }
        if (mirror->standing != 0 && !mirror->starting && (mirror->named & ~mirror->standing) == 0) {
            mirror->raise = raisable(mirror);
            mirror->watched = true;
            mirror_for_each_leg(mirror,
                                leg) if ((mirror->raise & leg->bit) != 0 &&
                                         !mirror_io_idle_on(mirror, leg)) return; /* looked at again when a request ends */
        }
        task_move(task, EPOCH_ATTEMPT);
        break;
    }
    case EPOCH_ATTEMPT: task_move(task, attempt(mirror) ? EPOCH_STORED : EPOCH_REST); break;
    case EPOCH_STORED:
        send_stores(mirror);
        if (broken(mirror)) {
            task_move(task, EPOCH_ATTEMPT);
            break;
        }
        if ((mirror->awaited & mirror_up(mirror) & ~mirror->stored) != 0 &&
            !(MIRROR_CANARY == MIRROR_CANARY_EPOCH_EARLY && mirror->stored != 0)) {
            if ((mirror->stored & mirror->sent_members) != 0 && !reactor_timer_armed(&mirror->store_deadline))
                reactor_timer_start(mirror->home, &mirror->store_deadline, reactor_now_ns(mirror->home) + mirror->stall_ns / 4);
            return;
        }
        if (mirror->raise != 0) {
            mirror->awaited = mirror->unsent = mirror->raise;
            task_move(task, EPOCH_RAISED);
        } else {
            task_move(task, EPOCH_SHORT);
        }
        break;
    case EPOCH_RAISED:
        send_stores(mirror);
        if (broken(mirror)) {
            task_move(task, EPOCH_ATTEMPT);
            break;
        }
        if ((mirror->raise & ~mirror->stored) != 0) {
            if (!reactor_timer_armed(&mirror->store_deadline))
                reactor_timer_start(mirror->home, &mirror->store_deadline, reactor_now_ns(mirror->home) + mirror->stall_ns / 4);
            return;
        }
        task_move(task, EPOCH_SHORT);
        break;
    case EPOCH_SHORT:
        if (broken(mirror)) {
            task_move(task, EPOCH_ATTEMPT);
            break;
        }
        if (!majority(mirror)) {
            mirror_legs_wake(mirror); /* who is claimed now stores it too */
            if (mirror->starting)
                mirror_start_wake(mirror);
            return;
        }
        complete(mirror);
        task_move(task, EPOCH_REST);
        break;
    case EPOCH_PHASES: assert(!"no phase");
    }
}

static const struct task_type type = {
    .name = "mirror epoch", .state_names = names, .state_count = EPOCH_PHASES, .moves = moves, .step = step};

void mirror_epoch_forget(struct mirror *mirror) {
    mirror->changing = mirror->starting = mirror->deeper = false;
    mirror->named = mirror->sent_members = mirror->awaited = mirror->unsent = mirror->stored = mirror->raise = 0;
    reactor_timer_stop(mirror->home, &mirror->store_deadline);
    mirror->change_over = true;
    mirror_epoch_wake(mirror);
}

void mirror_epoch_init(struct mirror *mirror) {
    mirror->store_deadline.run = store_late;
    task_start(&mirror->epoch_task, &type, mirror->home, EPOCH_REST, UINT64_MAX);
}

void mirror_epoch_wake(struct mirror *mirror) {
    if (mirror->epoch_task.type != NULL)
        task_wake(&mirror->epoch_task);
}
