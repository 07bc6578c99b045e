/* Which leg of the newest record each slot of the engine stands for: those that were seen say so themselves, for the others it is
 * found by name, or guessed until they come. docs/mirror.md, "Starting". It decides nothing: that is decide.c. */
#include "blockdev/mirror/mirror_internal.h"

#include <stdio.h>

/* A slot that is only guessed to be that leg says nothing of its own device: it goes by its name. */
static bool is_given_up(const struct mirror_leg *leg, const struct replica_leg *configured) {
    return decide_is_given_up(configured, leg->told.name);
}

/* The slot stands for this leg of the newest record. */
static void place(struct mirror_leg *leg, unsigned at) {
    struct mirror *mirror = leg->mirror;
    const struct replica_leg *configured = &mirror->decision.newest->legs[at];
    leg->config = *configured;
    leg->config.flags &= ~(uint32_t)(REPLICA_LEG_MEMBER | REPLICA_LEG_BEFORE);
    mirror->incarnations[leg->index] = configured->incarnation;
    if ((configured->flags & REPLICA_LEG_MEMBER) != 0)
        mirror->members |= leg->bit;
    if ((mirror->decision.excluded >> at & 1) != 0)
        leg->config.flags |= REPLICA_LEG_EXCLUDED;
    leg->tie_breaker = (configured->flags & REPLICA_LEG_TIE_BREAKER) != 0;
    leg->configured = true;
    leg->overwrite = leg->overwrite || is_given_up(leg, configured);
    leg->counted_id = configured->id;
    leg->counted = (configured->flags & (REPLICA_LEG_EXCLUDED | REPLICA_LEG_BLANK)) == 0;
}

static bool is_placed(const struct mirror *mirror, unsigned at) {
    mirror_for_each_leg(mirror, leg) {
        if (uuid_equal(&leg->config.id, &mirror->decision.newest->legs[at].id))
            return true;
    }
    return false;
}

/* A leg that the records have and that was not seen: the slot that has its name, whose device holds nothing then, or has to
 * forget what it was before it is claimed; else one that was not seen either, since nobody knows better (mirror_leg_trade() does,
 * later); else one without a device, which is made. */
static void place_unseen(struct mirror *mirror, unsigned at) {
    const struct replica_leg *configured = &mirror->decision.newest->legs[at];
    struct mirror_leg *found = NULL, *any = NULL;
    mirror_for_each_leg(mirror, leg) {
        if (!uuid_is_nil(&leg->config.id) || leg->removing || leg->foreign)
            continue;
        if (replica_leg_is_named(configured, leg->told.name))
            found = leg;
        else if (!mirror_leg_is_seen(leg) && (any == NULL || any->nameless))
            any = leg;
    }
    found = found != NULL ? found : any;
    for (unsigned i = 0; i < MIRROR_LEGS_MAX && found == NULL; i++) {
        struct mirror_leg *leg = &mirror->legs[i];
        if (!leg->vacant || leg == mirror->adding || !mirror_leg_init(leg))
            continue;
        leg->vacant = false;
        leg->nameless = true;
        mirror->leg_count = max_u32(mirror->leg_count, i + 1);
        mirror_leg_begin(leg);
        found = leg;
    }
    if (found == NULL)
        return;
    if (found->nameless) {
        snprintf(found->told.name, sizeof(found->told.name), "%s", configured->name);
        snprintf(found->told.why, sizeof(found->told.why), "no device was named for it");
    }
    place(found, at);
}

/* Whoever resumes goes on with what the records say: one that was named since it was being added then, or taken away, and that
 * they do not have, is no leg. */
static void let_go_unknown(struct mirror *mirror) {
    mirror_for_each_leg(mirror, leg) {
        if (!leg->recorded_only || !uuid_is_nil(&leg->config.id))
            continue;
        leg->configured = false;
        mirror_leg_depart(leg, "no record has it");
    }
}

void mirror_slots_configure(struct mirror *mirror) {
    const struct replica_record *newest = mirror->decision.newest;
    mirror->members = 0;
    if (newest == NULL) { /* a first start */
        mirror->id = mirror->device.uuid;
        mirror_for_each_leg(mirror, leg) /* an earlier first start may have got no further than claims */
            if (mirror_leg_is_seen(leg) && (leg->status.flags & REPLICA_HAS_RECORD) != 0) mirror->id = leg->status.record.mirror;
        mirror->policy = mirror->options.policy;
        mirror->epoch = mirror->complete = (struct replica_epoch){0};
        mirror->history_count = mirror->came_to_nothing = mirror->reconfigured = 0;
    } else {
        mirror_epoch_adopt(mirror, newest);
    }
    mirror_for_each_leg(mirror, leg) {
        leg->counted = false;
        leg->config.flags = leg->tie_breaker ? REPLICA_LEG_TIE_BREAKER : 0;
        leg->configured = leg->configured || (!mirror_leg_is_seen(leg) && !leg->nameless && !leg->removing && !leg->foreign);
        leg->overwrite = leg->overwrite || newest == NULL; /* that was decided on */
        if (newest == NULL)
            leg->config.id = (leg->status.flags & REPLICA_HAS_RECORD) != 0 && mirror_leg_is_seen(leg) ? leg->status.record.leg
                                                                                                      : leg->config.id;
        else
            leg->config = (struct replica_leg){.flags = leg->config.flags};
    }
    mirror_for_each_leg(mirror, leg) {
        bool has = newest != NULL && mirror_leg_is_seen(leg) && (leg->status.flags & REPLICA_HAS_RECORD) != 0;
        unsigned at = has ? replica_record_leg(newest, &leg->status.record.leg) : REPLICA_LEGS_MAX;
        if (has && at < newest->leg_count)
            place(leg, at);
        else if (has && leg->status.record.epoch.depth == 0 && uuid_equal(&leg->status.record.promised_engine, &mirror->engine))
            leg->config.id = leg->status.record.leg; /* new, and claimed by this start */
    }
    for (unsigned at = 0; newest != NULL && at < newest->leg_count; at++)
        if (!is_placed(mirror, at))
            place_unseen(mirror, at);
    if (newest != NULL)
        let_go_unknown(mirror);
    mirror_for_each_leg(mirror, leg) leg->configured = leg->configured && (!leg->nameless || !uuid_is_nil(&leg->config.id));
    /* A new depth is above every one that was ever seen. */
    mirror_for_each_leg(mirror, leg) {
        if (uuid_is_nil(&leg->config.id) && !leg->removing) { /* never seen so far: it becomes a new leg */
            leg->config.id = mirror_random_id(mirror);
            leg->config.flags |= newest == NULL ? 0 : REPLICA_LEG_BLANK;
        }
        if (leg->config.name[0] == '\0')
            replica_leg_name(leg->told.name, leg->config.name);
        if (!mirror_leg_is_seen(leg))
            continue;
        mirror->deepest = max_u64(mirror->deepest, leg->status.record.epoch.depth);
        if (newest == NULL && leg->status.record.epoch.depth > mirror->epoch.depth)
            mirror->epoch = leg->status.record.epoch; /* of a first start that was not finished */
    }
}

bool mirror_leg_trade(struct mirror_leg *leg) {
    struct mirror *mirror = leg->mirror;
    mirror_for_each_leg(mirror, other) {
        if (other == leg || !uuid_equal(&other->config.id, &leg->status.record.leg))
            continue;
        if (other->channel != NULL || other->removing)
            return false;
        struct replica_leg config = leg->config;
        bool tie_breaker = leg->tie_breaker, configured = leg->configured, counted = leg->counted;
        uint64_t incarnation = mirror->incarnations[leg->index];
        leg->config = other->config;
        leg->tie_breaker = other->tie_breaker;
        leg->configured = other->configured;
        leg->counted = other->counted;
        struct uuid counted_id = leg->counted_id;
        leg->counted_id = other->counted_id;
        other->counted_id = counted_id;
        mirror->incarnations[leg->index] = mirror->incarnations[other->index];
        other->config = config;
        other->tie_breaker = tie_breaker;
        other->configured = configured;
        other->counted = counted;
        mirror->incarnations[other->index] = incarnation;
        leg->overwrite = is_given_up(leg, &leg->config);
        other->overwrite = is_given_up(other, &other->config);
        mirror_mask *masks[] = {&mirror->members, &mirror->named, &mirror->chain, &mirror->sent_members};
        for (unsigned i = 0; i < array_count(masks); i++) {
            bool own = (*masks[i] & leg->bit) != 0, its = (*masks[i] & other->bit) != 0;
            *masks[i] &= (mirror_mask) ~(leg->bit | other->bit);
            *masks[i] |= (mirror_mask)((its ? leg->bit : 0) | (own ? other->bit : 0));
        }
        return true;
    }
    return true;
}
