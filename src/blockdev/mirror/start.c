/* How an engine begins: every leg is looked at, then it is decided, then they are claimed, then it is decided again over what
 * they say under the claim, then the first epoch is stored, and what may be unequal among the members is found out. Only then is
 * I/O served. docs/mirror.md, "Starting". */
#include "blockdev/mirror/mirror_internal.h"

#include <stdio.h>

enum start_phase {
    START_STANDBY, /* until it is promoted */
    START_LOOK,    /* until all legs were seen, or L is over */
    START_DECIDE,  /* without claims */
    START_CLAIM,
    START_AGAIN, /* under the claims */
    START_WAIT,  /* L after the last claim, where a member was left out */
    START_EPOCH,
    START_SIZE, /* the members' is the mirror's */
    START_MARKS,
    START_SERVE,
    START_REFUSED, /* until something changes */
    START_PHASES
};
#define M(phase) TASK_MOVE(START_##phase)
static const uint64_t moves[START_PHASES] = {
    [START_STANDBY] = M(LOOK),
    [START_LOOK] = M(DECIDE) | M(STANDBY),
    [START_DECIDE] = M(CLAIM) | M(LOOK) | M(REFUSED) | M(SERVE) | M(STANDBY),
    [START_CLAIM] = M(AGAIN) | M(LOOK) | M(REFUSED),
    [START_AGAIN] = M(WAIT) | M(LOOK) | M(REFUSED),
    [START_WAIT] = M(EPOCH) | M(LOOK),
    [START_EPOCH] = M(SIZE) | M(LOOK),
    [START_SIZE] = M(MARKS) | M(LOOK),
    [START_MARKS] = M(SERVE) | M(LOOK),
    [START_SERVE] = M(LOOK) | M(STANDBY),
    [START_REFUSED] = M(LOOK) | M(STANDBY),
};
static const char *const names[START_PHASES] = {"standby", "look", "decide", "claim", "decide again", "wait",
                                                "epoch",   "size", "marks",  "serve", "refused"};

static void arm(struct mirror *mirror, uint64_t after_ns) {
    reactor_timer_start(mirror->home, &mirror->start_timer, reactor_now_ns(mirror->home) + after_ns);
}

static bool is_late(const struct mirror *mirror) { return !reactor_timer_armed(&mirror->start_timer); }

bool mirror_leg_is_seen(const struct mirror_leg *leg) {
    return leg->seen && (leg->task.state == LEG_SEEN || leg->task.state == LEG_CLAIM || leg->task.state == LEG_RELOOK ||
                         leg->task.state == LEG_CLAIMED);
}

static void forget_all(struct mirror *mirror) {
    mirror->regions_known = false;
    mirror->start_members = 0;
    mirror->standing = 0;
    mirror_epoch_forget(mirror);
    mirror_masks_update(mirror);
    mirror_io_forget_all(mirror);
    mirror_commands_cancel(mirror, ERROR_CANCELLED, "the mirror starts anew");
    mirror_lease_cancel(mirror, ERROR_CANCELLED, "its legs were lost");
    mirror_for_each_leg(mirror, leg) if (leg->foreign && leg->task.state != LEG_CLAIMED)
        mirror_leg_lose(leg, "the mirror starts anew");
    mirror_for_each_leg(mirror, leg) leg->relook = true; /* where it is still unclaimed */
    mirror_legs_wake(mirror);
}

static void look_again(struct mirror *mirror) {
    mirror->state = MIRROR_CONFIGURING;
    forget_all(mirror);
    arm(mirror, mirror->stall_ns / 4);
    mirror->patient = true;
    if (mirror->start_task.state != START_LOOK)
        task_move(&mirror->start_task, START_LOOK);
}

/* The claims were given back, or are given up here with their associations. */
static void stand_by(struct mirror *mirror) {
    mirror->stand_by = mirror->releasing = mirror->promoting = false;
    mirror->state = MIRROR_STANDBY;
    mirror->members = 0;
    mirror_for_each_leg(mirror, leg) {
        mirror_leg_let_go(leg);
        mirror_leg_retry(leg);
    }
    forget_all(mirror);
    arm(mirror, NS_PER_S);
    task_move(&mirror->start_task, START_STANDBY);
    mirror_away_end(mirror);
    mirror_io_look(mirror);
    mirror_commands_look(mirror);
}

/* A standby looks at its legs now and then, so that who may promote it knows whose they are. */
static void look_about(struct mirror *mirror) {
    if (!is_late(mirror))
        return;
    mirror_for_each_leg(mirror, leg) leg->relook = true;
    mirror_legs_wake(mirror);
    arm(mirror, NS_PER_S);
}

static void refuse(struct mirror *mirror, const struct error *error) {
    mirror->state = MIRROR_REFUSED;
    mirror->error = *error;
    mirror->decided++;
    task_move(&mirror->start_task, START_REFUSED);
    mirror_commands_look(mirror);
}

/* ---- deciding ---- */

static bool is_named(const struct replica_record *record, unsigned at, const char *name) {
    struct uuid id;
    return replica_leg_is_named(&record->legs[at], name) || strcmp(record->legs[at].name, name) == 0 ||
           (uuid_parse(name, &id) && uuid_equal(&id, &record->legs[at].id));
}

/* Over the legs that keep records; `places`: whose slot each is. The result is by slots. */
static void decide_by_slots(struct mirror *mirror, const struct decide_input *input, const unsigned *places) {
    struct decide_result *decision = &mirror->decision, of_legs;
    decide(input, decision);
    of_legs = *decision;
    memset(decision->verdicts, 0, sizeof(decision->verdicts));
    decision->missing = decision->newest == NULL ? 0 : of_legs.missing; /* else it is of the record's legs */
    for (unsigned i = 0; i < input->leg_count; i++) {
        decision->verdicts[places[i]] = of_legs.verdicts[i];
        decision->bases[places[i]] = of_legs.bases[i];
        decision->from_depths[places[i]] = of_legs.from_depths[i];
        if (decision->newest == NULL)
            decision->missing |= (of_legs.missing >> i & 1) << places[i];
    }
    if (of_legs.newest == &of_legs.made)
        decision->newest = &decision->made;
}

/* Whose content counts where others' is given up: the first leg that has any, else the first. No tie-breaker. */
static const struct mirror_leg *overwriting(const struct mirror *mirror) {
    const struct mirror_leg *first = NULL;
    mirror_for_each_leg(mirror, leg) {
        if (leg->foreign || leg->tie_breaker)
            continue;
        if (mirror_leg_is_seen(leg) && (leg->status.flags & REPLICA_UNTOUCHED) == 0)
            return leg;
        first = first == NULL ? leg : first;
    }
    return first;
}

static void run_decide(struct mirror *mirror) {
    struct decide_input input = {.mirror = mirror->options.uuid, .assume_equal = mirror->options.assume_equal};
    const struct mirror_options *options = &mirror->options;
    const struct mirror_leg *first = options->overwrite && !options->source_set ? overwriting(mirror) : NULL;
    unsigned places[MIRROR_LEGS_MAX];
    mirror_for_each_leg(mirror, leg) {
        if (leg->foreign)
            continue;
        if (options->source_set ? leg->index == options->source : leg == first) {
            input.source_set = true;
            input.source = input.leg_count;
        }
        places[input.leg_count] = leg->index;
        input.legs[input.leg_count].overwrite = leg->overwrite;
        input.legs[input.leg_count].name = leg->told.name;
        input.legs[input.leg_count].status = mirror_leg_is_seen(leg) && leg->configured && !leg->forget ? &leg->status : NULL;
        input.legs[input.leg_count++].tie_breaker = leg->tie_breaker;
    }
    decide_by_slots(mirror, &input, places);
    mirror->decided++;
    const struct replica_record *newest = mirror->decision.newest;
    for (unsigned i = 0; newest != NULL && i < mirror->accept_count; i++)
        for (unsigned at = 0; at < newest->leg_count; at++)
            if (is_named(newest, at, mirror->accept[i]))
                input.accept_absent |= 1u << at;
    if (input.accept_absent != 0)
        decide_by_slots(mirror, &input, places);
    mirror_commands_look(mirror);
}

static bool may_claim(const struct mirror *mirror, const struct mirror_leg *leg) {
    bool has = (leg->status.flags & REPLICA_HAS_RECORD) != 0;
    enum decide_verdict verdict = mirror->decision.verdicts[leg->index];
    return mirror_leg_is_seen(leg) && verdict != DECIDE_DIVERGED && verdict != DECIDE_STRANGER && leg->configured &&
           !leg->forget && (leg->config.flags & REPLICA_LEG_BLANK) == 0 &&
           (!has || uuid_equal(&leg->status.record.leg, &leg->config.id)) && (leg->config.flags & REPLICA_LEG_EXCLUDED) == 0;
}

void mirror_put_names(const struct mirror *mirror, mirror_mask legs, struct error *error) {
    const char *between = ": ";
    mirror_for_each_leg(mirror, leg) {
        size_t length = strlen(error->text);
        if ((legs >> leg->index & 1) == 0)
            continue;
        snprintf(error->text + length, sizeof(error->text) - length, "%s%s", between, leg->told.name);
        between = ", ";
    }
}

static void refuse_by_records(struct mirror *mirror) {
    struct error *error = &mirror->decision.error;
    mirror_put_names(mirror, (mirror_mask)mirror->decision.refused, error);
    if (mirror->decision.unasked)
        error_hint(error, "make it again, and say whose content counts: penstock block mirror create %s … --source LEG",
                   mirror->device.name);
    else if (error->code == ERROR_DAMAGED)
        error_hint(error, "start it over one of them alone, then discard what only the other has");
    refuse(mirror, error);
}

/* New legs must be as large as those that the mirror starts from: at a first start it is refused, later they are left out. */
static bool sizes_agree(struct mirror *mirror) {
    struct decide_result *decision = &mirror->decision;
    const struct mirror_leg *source = NULL;
    mirror_for_each_leg(
        mirror, leg) if (mirror_leg_is_seen(leg) && decision->verdicts[leg->index] == DECIDE_SOURCE && !leg->tie_breaker &&
                         (source == NULL || leg->status.tree_sequence > source->status.tree_sequence)) source = leg;
    mirror_for_each_leg(mirror, leg) {
        if (source == NULL || !mirror_leg_is_seen(leg) || !mirror_leg_misfits(leg, source->status.size))
            continue;
        if (decision->newest == NULL) {
            struct error error;
            error_set(&error, ERROR_INVALID, "%s is not as large as %s", leg->told.name, source->told.name);
            refuse(mirror, &error);
            return false;
        }
        decision->verdicts[leg->index] = DECIDE_DIVERGED; /* not claimed; told when the mirror runs */
    }
    return true;
}

/* Whom people may do without: by id, since the slot that looks for it may have another name. */
static void note_awaited(struct mirror *mirror) {
    const struct replica_record *newest = mirror->decision.newest;
    static_assert(sizeof(mirror->waits_for[0].name) == sizeof(newest->legs[0].name), "as in the record");
    mirror->waits_for_count = 0;
    for (unsigned at = 0; newest != NULL && at < newest->leg_count; at++) {
        struct mirror_awaited *awaited = &mirror->waits_for[mirror->waits_for_count];
        if ((mirror->decision.missing >> at & 1) == 0)
            continue;
        awaited->id = newest->legs[at].id;
        snprintf(awaited->name, sizeof(awaited->name), "%.27s", newest->legs[at].name);
        mirror->waits_for_count++;
    }
}

static void hint_awaited(struct mirror *mirror) {
    char absent[160] = "";
    size_t length = 0;
    for (unsigned i = 0; i < mirror->waits_for_count && length < sizeof(absent); i++)
        length +=
            (size_t)snprintf(absent + length, sizeof(absent) - length, "%s%s", i == 0 ? "" : ",", mirror->waits_for[i].name);
    bool one = mirror->waits_for_count == 1;
    error_hint(&mirror->error, "bring %s back; to give up what only %s: penstock block mirror %s %s --accept-absent %s",
               one ? "it" : "them", one ? "it has" : "they have", mirror->promoting ? "promote" : "start", mirror->device.name,
               absent);
}

/* False: it was refused or has to wait. */
static bool decide_now(struct mirror *mirror) {
    run_decide(mirror);
    switch (mirror->decision.outcome) {
    case DECIDE_START:
    case DECIDE_FIRST_START: return sizes_agree(mirror);
    case DECIDE_WAIT:
        mirror->error = mirror->decision.error;
        note_awaited(mirror);
        if (mirror->decision.newest == NULL)
            mirror_put_names(mirror, (mirror_mask)mirror->decision.missing, &mirror->error);
        else if (mirror->waits_for_count > 0)
            hint_awaited(mirror);
        look_again(mirror);
        return false;
    case DECIDE_REFUSE: refuse_by_records(mirror); return false;
    }
    return false;
}

static bool is_own(const struct mirror *mirror, const struct uuid *engine) {
    bool own = uuid_is_nil(engine) || uuid_equal(engine, &mirror->engine);
    for (unsigned i = 0; i < mirror->options.resume_count; i++)
        own = own || uuid_equal(engine, &mirror->options.resume[i]);
    return own;
}

/* Under `majority` whoever served had two of three: a promise to another engine that is older than one of our own was taken from
 * him since, and this leg was away then. Where each goes on alone that says nothing. */
static uint64_t newest_own_term(const struct mirror *mirror) {
    uint64_t newest = 0;
    mirror_for_each_leg(mirror, leg) {
        const struct replica_record *record = &leg->status.record;
        if (mirror_leg_is_seen(leg) && (leg->status.flags & REPLICA_HAS_RECORD) != 0 && record->policy == REPLICA_MAJORITY &&
            !uuid_is_nil(&record->promised_engine) && is_own(mirror, &record->promised_engine))
            newest = max_u64(newest, record->promised_term);
    }
    return newest;
}

/* One that resumes takes nothing from an engine that came after it. Looked at before the first claim, since that would already
 * take a leg away. */
static bool is_superseded(struct mirror *mirror) {
    if (mirror->options.resume_count == 0)
        return false;
    uint64_t own_term = newest_own_term(mirror);
    mirror_for_each_leg(mirror, leg) {
        const struct replica_record *record = &leg->status.record;
        char engine[UUID_TEXT_SIZE];
        struct error error;
        if (!mirror_leg_is_seen(leg) || (leg->status.flags & REPLICA_HAS_RECORD) == 0 ||
            is_own(mirror, &record->promised_engine) || record->promised_term < own_term)
            continue;
        uuid_format(&record->promised_engine, engine);
        error_set(&error, ERROR_PERMISSION, "superseded by engine %s: %s is promised to it, with term %llu", engine,
                  leg->told.name, (unsigned long long)record->promised_term);
        refuse(mirror, &error);
        return true;
    }
    return false;
}

/* Claims are an association's, and go with it: one that is there for L belongs to an engine that is alive (or whose node has
 * fallen silent a moment ago). True: it yields, or looks again first. */
static bool yields(struct mirror *mirror) {
    const struct mirror_leg *held = NULL;
    char engine[UUID_TEXT_SIZE];
    uint64_t now = reactor_now_ns(mirror->home);
    if (!mirror->options.yield)
        return false;
    mirror_for_each_leg(mirror, leg) if (mirror_leg_is_seen(leg) && leg->told.held) held = leg;
    if (held == NULL) {
        mirror->held_since_ns = 0;
        return false;
    }
    if (mirror->held_since_ns == 0)
        mirror->held_since_ns = now;
    if (now - mirror->held_since_ns < mirror->stall_ns) {
        look_again(mirror);
        return true;
    }
    mirror->options.yield = false;
    mirror->state = MIRROR_STANDBY;
    uuid_format(&held->told.promised, engine);
    error_set(&mirror->error, ERROR_BUSY, "engine %s has %s", engine, held->told.name);
    mirror->decided++;
    arm(mirror, NS_PER_S);
    task_move(&mirror->start_task, START_STANDBY);
    mirror_path_look(mirror);
    mirror_commands_look(mirror);
    return true;
}

static void begin_claims(struct mirror *mirror) {
    uint64_t promised = 0;
    mirror_slots_configure(mirror);
    mirror_for_each_leg(mirror, leg) {
        const struct replica_record *record = &leg->status.record;
        if (mirror_leg_is_seen(leg)) /* of an earlier attempt of this engine's it may be the same */
            promised = max_u64(promised, record->promised_term + !uuid_equal(&record->promised_engine, &mirror->engine));
    }
    if (mirror->term == 0)
        mirror->term = mirror->options.term != 0 ? mirror->options.term : max_u64(promised, 1);
    mirror->state = MIRROR_STARTING;
    mirror_for_each_leg(mirror, leg) {
        leg->claim_status = IO_OK;
        leg->allowed = may_claim(mirror, leg);
    }
    mirror_legs_wake(mirror);
    arm(mirror, mirror->stall_ns);
    task_move(&mirror->start_task, START_CLAIM);
}

/* ---- the first epoch ---- */

static void begin_epoch(struct mirror *mirror) {
    struct decide_result *decision = &mirror->decision;
    mirror_mask same = 0, sources = 0;
    mirror_slots_configure(mirror);
    mirror_for_each_leg(mirror, leg) {
        if (leg->task.state == LEG_STUCK)
            continue; /* it is not looked at anew */
        leg->verdict = decision->verdicts[leg->index];
        leg->doubted = mirror_leg_is_doubtful(leg);
        leg->base = decision->bases[leg->index];
        leg->from_depth = decision->from_depths[leg->index];
        leg->joined = 0;
        mirror_cursor_find(leg);
        leg->allowed = mirror_leg_is_up(leg) && may_claim(mirror, leg);
        if (!leg->allowed || leg->verdict != DECIDE_SOURCE || leg->tie_breaker)
            continue;
        sources |= leg->bit;
        if (decision->newest == NULL)
            continue;
        unsigned at = replica_record_leg(decision->newest, &leg->config.id);
        if (decision->newest->legs[at].incarnation == leg->status.incarnation ||
            MIRROR_CANARY == MIRROR_CANARY_INCARNATION_IGNORED)
            same |= leg->bit;
    }
    /* Who was not opened anew has forgotten nothing; who was, beside it, comes back like one that was away; of an epoch in which
     * the members were not equal yet it may lack what is older, too. */
    uint64_t depth = decision->newest != NULL && decision->newest->settled ? decision->epoch.depth : 0;
    mirror_for_each_leg(mirror, leg) {
        if (same == 0 || (sources & ~same & leg->bit) == 0)
            continue;
        leg->verdict = DECIDE_RETURNING;
        leg->base = decision->epoch;
        leg->from_depth = depth;
    }
    mirror->start_members = same != 0 ? same : sources;
    /* Of those the ones whose tree has come furthest: a change of it that others missed was not acknowledged, or was. */
    uint64_t furthest = 0;
    mirror_for_each_leg(mirror, leg) if ((mirror->start_members & leg->bit) != 0) furthest =
        max_u64(furthest, leg->status.tree_sequence);
    mirror_for_each_leg(mirror, leg) if ((mirror->start_members & leg->bit) != 0 && leg->status.tree_sequence < furthest) {
        leg->verdict = decision->newest != NULL ? DECIDE_RETURNING : DECIDE_FULL;
        leg->base = decision->epoch;
        leg->from_depth = depth;
        mirror->start_members &= (mirror_mask)~leg->bit;
    }
    if (mirror->start_members == 0) {
        look_again(mirror);
        return;
    }
    mirror->starting = true;
    mirror->accept_sent = mirror->accept_sent || mirror->accept_count > 0;
    task_move(&mirror->start_task, START_EPOCH);
    mirror_epoch_wake(mirror);
}

void mirror_start_complete(struct mirror *mirror) { task_wake(&mirror->start_task); }

/* ---- marks ---- */

static void marks_called(struct mirror_call *call) { task_wake(&call->leg->mirror->start_task); }

/* Reads all marks of all members, one after the other; true when that is done. */
static bool read_marks(struct mirror *mirror) {
    if (mirror->plain)
        return true;
    bool one = (mirror->members & (mirror->members - 1)) == 0;
    mirror_for_each_leg(mirror, leg) one = one && !((mirror->members & leg->bit) != 0 && leg->doubted);
    mirror_for_each_leg(mirror, leg) {
        if ((mirror->standing & leg->bit) == 0)
            continue;
        if (leg->call.busy)
            return false;
        if (leg->piece > 0) { /* an answer is there */
            if (leg->call.status != IO_OK) {
                if (!mirror_leg_judge(leg, leg->call.status))
                    mirror_leg_refused(leg, leg->call.status, "it does not tell its marks");
                return false;
            }
            uint64_t first = leg->piece - leg->call.slice.length * 8;
            const uint64_t *bits = leg->call_document;
            regions_add_marks(&mirror->regions, first, bits, leg->call.slice.length * 8);
            for (uint64_t bit = 0;
                 !one && (bit = bitmap_find_set(bits, leg->call.slice.length * 8, bit)) < leg->call.slice.length * 8; bit++)
                if (first + bit < mirror->regions.count)
                    regions_unequal_add(&mirror->regions, first + bit, first + bit);
            leg->call.slice.length = 0;
        }
        uint64_t words = bitmap_words(mirror->regions.count);
        if (leg->piece >= words * 64)
            continue;
        size_t length = (size_t)min_u64(MIRROR_MARKS_PIECE, words * 8 - leg->piece / 8);
        uint64_t at = leg->piece / 8;
        leg->piece += length * 8;
        mirror_call_send(leg, &leg->call, BLOCK_REPLICA_GET, replica_argument(REPLICA_MARKS, 0, 0), at, leg->call_document,
                         length, marks_called);
        return false;
    }
    return true;
}

/* ---- steps ---- */

static bool all_looked_at(const struct mirror *mirror) {
    mirror_for_each_leg(mirror, leg) if ((!mirror_leg_is_seen(leg) || (leg->relook && leg->task.state == LEG_SEEN)) &&
                                         leg->channel != NULL && leg->configured) return false;
    return true;
}

static void claims(struct mirror *mirror) {
    bool all = true;
    mirror_for_each_leg(mirror, leg) {
        if (leg->claim_status == IO_FENCED) {
            struct error error;
            error_set(&error, ERROR_PERMISSION, "%s is promised to an engine of term %llu or later", leg->told.name,
                      (unsigned long long)max_u64(leg->status.record.promised_term, mirror->term));
            error_hint(&error, "start it with a higher term if that engine is gone");
            refuse(mirror, &error);
            return;
        }
        all = all && (!leg->allowed || leg->task.state == LEG_CLAIMED);
    }
    if (all || is_late(mirror))
        task_move(&mirror->start_task, START_AGAIN);
}

/* Under the claims only those count that were claimed, and are there. */
static bool decide_under_claims(struct mirror *mirror) {
    mirror_for_each_leg(mirror, leg) if (!mirror_leg_is_up(leg)) leg->seen =
        leg->seen && leg->task.state == LEG_SEEN && !may_claim(mirror, leg);
    return decide_now(mirror);
}

static void again(struct mirror *mirror) {
    if (!decide_under_claims(mirror))
        return;
    bool left_out = false;
    const struct replica_record *newest = mirror->decision.newest;
    if (newest != NULL)
        for (unsigned at = 0; at < newest->leg_count; at++) {
            bool there = false;
            mirror_for_each_leg(mirror, leg) there =
                there || (mirror_leg_is_up(leg) && uuid_equal(&leg->config.id, &newest->legs[at].id));
            left_out = left_out || (!there && (newest->legs[at].flags & REPLICA_LEG_MEMBER) != 0);
        }
    if (left_out)
        arm(mirror, mirror->stall_ns);
    else
        reactor_timer_stop(mirror->home, &mirror->start_timer);
    task_move(&mirror->start_task, START_WAIT);
}

/* All legs were lost, and nobody can go on with what it has: from the beginning, or the end. */
static void serving(struct mirror *mirror) {
    if (mirror->state != MIRROR_HOLDING || mirror->standing != 0)
        return;
    mirror_for_each_leg(mirror,
                        leg) if ((mirror->members & leg->bit) != 0 &&
                                 (!mirror_leg_is_up(leg) || leg->status.incarnation == mirror->incarnations[leg->index])) return;
    if (mirror->acknowledged > mirror->flushed) {
        mirror_end(mirror, ERROR_IO, "all legs were opened anew: acknowledged writes that were not flushed may be gone");
        return;
    }
    mirror_for_each_leg(mirror, leg) mirror_leg_lose(leg, "the mirror starts anew");
    look_again(mirror);
}

/* Too few records have the first epoch: who was lost meanwhile and is back may store it, too. */
static void admit(struct mirror *mirror) {
    mirror_for_each_leg(mirror, leg) {
        if (leg->task.state != LEG_SEEN || leg->allowed || !may_claim(mirror, leg))
            continue;
        leg->relook = false;
        leg->allowed = true;
        task_wake(&leg->task);
    }
}

/* No leg keeps a record: whose content counts is what the caller says, every time. */
static void start_plain(struct mirror *mirror) {
    const struct mirror_options *options = &mirror->options;
    const struct mirror_leg *source = &mirror->legs[options->source];
    bool equal = options->assume_equal || options->plain_equal;
    struct error error;
    if (!equal && !options->source_set) {
        error_set(&error, ERROR_UNSUPPORTED, "the legs of %s keep no record: which is newest cannot be told", options->name);
        error_hint(&error, "say that they are equal, or from which one the others are copied, or use volumes");
        refuse(mirror, &error);
        return;
    }
    if (!equal && !mirror_leg_is_up(source)) {
        error_set(&mirror->error, ERROR_BUSY, "%s is not there, from which the others are copied", source->told.name);
        look_again(mirror);
        return;
    }
    mirror->id = mirror->device.uuid;
    mirror->policy = REPLICA_ANY;
    mirror->state = MIRROR_STARTING;
    mirror_for_each_leg(mirror, leg) {
        bool counts = equal || leg == source;
        leg->allowed = true;
        leg->verdict = counts ? DECIDE_SOURCE : DECIDE_FULL;
        leg->config.id = mirror_random_id(mirror);
        leg->counted = false;
        mirror->start_members |= counts ? leg->bit : 0;
    }
    mirror->starting = true;
    error_clear(&mirror->error);
    mirror_epoch_wake(mirror);
    task_move(&mirror->start_task, START_SERVE);
}

static void serves(struct mirror *mirror) {
    mirror->state = MIRROR_SERVING;
    mirror->promoting = false;
    mirror_path_look(mirror);
    mirror_short_look(mirror);
}

static void step(struct task *task) {
    struct mirror *mirror = container_of(task, struct mirror, start_task);
    if (mirror->state == MIRROR_ENDED || mirror->closing)
        return;
    if (mirror->restart && (task->state == START_STANDBY || task->state == START_LOOK || task->state == START_REFUSED)) {
        mirror->restart = false;
        look_again(mirror);
        mirror->patient = false;
        arm(mirror, mirror->stall_ns);
        return;
    }
    if (mirror->stand_by && task->state != START_SERVE) { /* a promotion that failed */
        stand_by(mirror);
        return;
    }
    MIRROR_AT(mirror, NULL, MIRROR_POINT_START + task->state);
    switch ((enum start_phase)task->state) {
    case START_STANDBY: look_about(mirror); break;
    case START_LOOK:
        if (!is_late(mirror) && (mirror->patient || !all_looked_at(mirror)))
            return;
        task_move(task, START_DECIDE);
        break;
    case START_DECIDE:
        if (mirror->plain) {
            start_plain(mirror);
            return;
        }
        if (!yields(mirror) && !is_superseded(mirror) && decide_now(mirror))
            begin_claims(mirror);
        break;
    case START_CLAIM: claims(mirror); break;
    case START_AGAIN: again(mirror); break;
    case START_WAIT:
        if (!is_late(mirror))
            return;
        /* Who was lost meanwhile may be the only one that forgot nothing: the others are not to begin without it. */
        if (decide_under_claims(mirror))
            begin_epoch(mirror);
        break;
    case START_EPOCH:
        if (mirror->starting) {
            if ((mirror->start_members & mirror_up(mirror)) == 0)
                look_again(mirror);
            else if (mirror->epoch_task.state == EPOCH_SHORT)
                admit(mirror);
            return;
        }
        mirror_for_each_leg(mirror, leg) leg->piece = 0;
        regions_forget(&mirror->regions);
        task_move(task, START_SIZE);
        break;
    case START_SIZE: {
        if (mirror->standing == 0) {
            look_again(mirror);
            return;
        }
        uint64_t size = mirror->legs[__builtin_ctz(mirror->standing)].status.size;
        if (!mirror->plain && mirror->size != size) { /* until now it was that of any leg */
            if (!mirror_resize(mirror, size)) {
                mirror_end(mirror, ERROR_NO_MEMORY, "no memory for the regions of a mirror of this size");
                return;
            }
            mirror_tell_size(mirror);
        }
        if (mirror->telling_size)
            return;
        task_move(task, START_MARKS);
        break;
    }
    case START_MARKS:
        if (mirror->standing == 0) {
            look_again(mirror);
            return;
        }
        if (!read_marks(mirror))
            return;
        task_move(task, START_SERVE);
        mirror->regions_known = true;
        serves(mirror);
        error_clear(&mirror->error);
        mirror->accept_count = 0;
        mirror->accept_sent = false;
        mirror_masks_update(mirror);
        mirror_legs_wake(mirror);
        mirror_epoch_wake(mirror);
        mirror_copy_wake(mirror);
        mirror_io_look(mirror);
        mirror_retire_begin(mirror);
        mirror_commands_look(mirror);
        break;
    case START_SERVE:
        if (mirror->plain && !mirror->starting && mirror->state == MIRROR_STARTING) {
            mirror->regions_known = true;
            serves(mirror);
            mirror_masks_update(mirror);
            mirror_io_look(mirror);
            mirror_legs_wake(mirror);
        }
        serving(mirror);
        if (mirror->stand_by && task->state == START_SERVE)
            stand_by(mirror);
        break;
    case START_REFUSED: break;
    case START_PHASES: assert(!"no phase");
    }
}

static void step_and_tell(struct task *task) {
    step(task);
    mirror_watch_look(container_of(task, struct mirror, start_task));
}

static const struct task_type type = {
    .name = "mirror start", .state_names = names, .state_count = START_PHASES, .moves = moves, .step = step_and_tell};

static void late(struct reactor_timer *timer) {
    struct mirror *mirror = container_of(timer, struct mirror, start_timer);
    task_wake(&mirror->start_task);
}

void mirror_start_begin(struct mirror *mirror) {
    mirror->start_timer = (struct reactor_timer){.run = late};
    mirror->state = mirror->options.standby ? MIRROR_STANDBY : MIRROR_CONFIGURING;
    task_start(&mirror->start_task, &type, mirror->home, mirror->options.standby ? START_STANDBY : START_LOOK, UINT64_MAX);
    arm(mirror, mirror->stall_ns);
    mirror_path_look(mirror);
    mirror_give_up_begin(mirror);
}

void mirror_start_wake(struct mirror *mirror) {
    if (mirror->start_task.type != NULL)
        task_wake(&mirror->start_task);
}
