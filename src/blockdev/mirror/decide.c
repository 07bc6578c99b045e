#include "blockdev/mirror/decide.h"

#include <stdio.h>
#include <string.h>

#define UNCOUNTED (REPLICA_LEG_EXCLUDED | REPLICA_LEG_BLANK) /* legs whose record is asked for nothing */

/* What is known of one leg while deciding: its record's epochs as a list, newest first, and from which on they count. */
struct evidence {
    const struct replica_record *record; /* NULL = gives none */
    unsigned from;                       /* 0 = its epoch counts, n = history[n - 1] is the newest that does */
};

struct decision {
    const struct decide_input *input;
    struct decide_result *result;
    struct evidence evidence[REPLICA_LEGS_MAX];
};

static const struct replica_epoch *epoch_at(const struct replica_record *record, unsigned index) {
    return index == 0 ? &record->epoch : &record->history[index - 1];
}

static bool has_record(const struct decide_leg *leg) {
    return leg->status != NULL && (leg->status->flags & REPLICA_HAS_RECORD) != 0;
}

static bool has_epoch(const struct decide_leg *leg) { return has_record(leg) && leg->status->record.epoch.depth != 0; }

/* True if a first start got no further than some of its legs: a member of the first epoch is there and has none. */
static bool is_first_undone(const struct decide_input *input) {
    for (unsigned i = 0; i < input->leg_count; i++) {
        if (!has_epoch(&input->legs[i]))
            continue;
        const struct replica_record *record = &input->legs[i].status->record;
        bool undone = false;
        for (unsigned j = 0; j < input->leg_count && record->history_count == 0; j++) {
            if (!has_record(&input->legs[j]) || has_epoch(&input->legs[j]))
                continue;
            unsigned leg = replica_record_leg(record, &input->legs[j].status->record.leg);
            undone = undone || (leg < record->leg_count && (record->legs[leg].flags & REPLICA_LEG_MEMBER) != 0);
        }
        if (!undone)
            return false;
    }
    return true;
}

/* Its position among the record's epochs, newest first; UINT_MAX if it is not there. */
static unsigned position(const struct replica_record *record, const struct replica_epoch *epoch) {
    for (unsigned i = 0; i <= record->history_count; i++)
        if (replica_epoch_equal(epoch_at(record, i), epoch))
            return i;
    return UINT32_MAX;
}

static bool excludes(const struct replica_record *record, const struct uuid *leg) {
    unsigned index = replica_record_leg(record, leg);
    return index < record->leg_count && (record->legs[index].flags & REPLICA_LEG_EXCLUDED) != 0;
}

/* True if the record would list the epoch if it had been part of its history: the list is not cut off above it. */
static bool would_list(const struct replica_record *record, const struct replica_epoch *epoch) {
    return record->history_count < REPLICA_HISTORY_MAX || record->history[record->history_count - 1].depth <= epoch->depth;
}

/* ---- evidence ---- */

static bool refuse(struct decision *d, enum error_code code, const char *text, unsigned a, unsigned b) {
    d->result->outcome = DECIDE_REFUSE;
    d->result->refused = 1u << a | 1u << b;
    return error_set(&d->result->error, code, "%s", text);
}

/* One mirror, no leg twice. */
static bool identities(struct decision *d) {
    const struct uuid *mirror = uuid_is_nil(&d->input->mirror) ? NULL : &d->input->mirror;
    unsigned first = REPLICA_LEGS_MAX;
    for (unsigned i = 0; i < d->input->leg_count; i++) {
        if (!has_record(&d->input->legs[i]))
            continue;
        const struct replica_record *record = &d->input->legs[i].status->record;
        if (mirror == NULL) {
            mirror = &record->mirror;
            first = i;
        }
        if (!uuid_equal(mirror, &record->mirror))
            return refuse(d, ERROR_FOREIGN, "a leg is of another mirror", first == REPLICA_LEGS_MAX ? i : first, i);
        for (unsigned j = 0; j < i; j++)
            if (has_record(&d->input->legs[j]) && uuid_equal(&d->input->legs[j].status->record.leg, &record->leg))
                return refuse(d, ERROR_EXISTS, "one leg is offered twice", j, i);
    }
    return true;
}

static bool lacks(const struct replica_record *record, const struct replica_epoch *epoch) {
    return position(record, epoch) == UINT32_MAX && would_list(record, epoch);
}

/* True if too few are left that might have stored the epoch: of those who counted for a majority as the record has it. */
static bool no_majority(const struct decision *d, const struct replica_record *record, const struct replica_epoch *epoch) {
    unsigned configured = 0, lacking = 0;
    bool tie_breaker = false;
    for (unsigned leg = 0; leg < record->leg_count; leg++) {
        configured += (record->legs[leg].flags & UNCOUNTED) == 0;
        tie_breaker = tie_breaker || (record->legs[leg].flags & REPLICA_LEG_TIE_BREAKER) != 0;
    }
    for (unsigned i = 0; i < d->input->leg_count; i++) {
        const struct replica_record *other = d->evidence[i].record;
        unsigned leg = other == NULL ? record->leg_count : replica_record_leg(record, &other->leg);
        if (leg == record->leg_count || (record->legs[leg].flags & UNCOUNTED) != 0 || !lacks(other, epoch))
            continue;
        lacking++;
        tie_breaker = tie_breaker && (record->legs[leg].flags & REPLICA_LEG_TIE_BREAKER) == 0;
    }
    unsigned might = 2 * (configured - lacking);
    return might < configured || (might == configured && !tie_breaker);
}

/* True if a leg that the record has one of these flags for is there and knows nothing of the epoch. */
static bool is_lacked(const struct decision *d, const struct replica_record *record, uint32_t flags,
                      const struct replica_epoch *epoch) {
    for (unsigned i = 0; i < d->input->leg_count; i++) {
        const struct replica_record *other = d->evidence[i].record;
        unsigned leg = other == NULL ? record->leg_count : replica_record_leg(record, &other->leg);
        if (leg < record->leg_count && (record->legs[leg].flags & flags) != 0 && lacks(other, epoch))
            return true;
    }
    return false;
}

/* The newest of the record's epochs before its own that was no attempt which came to nothing: legs[].flags tell its members. */
static unsigned before(const struct replica_record *record) {
    unsigned at = 1;
    while (at <= record->history_count && (record->came_to_nothing >> (at - 1) & 1) != 0)
        at++;
    return at;
}

/* Whether the record, which has the epoch at this position, together with all others shows that nothing was acknowledged in it.
 */
static bool shows_void(const struct decision *d, const struct replica_record *record, unsigned at,
                       const struct replica_epoch *epoch) {
    if (at > 0 && (record->came_to_nothing >> (at - 1) & 1) != 0)
        return true;
    uint32_t members = REPLICA_LEG_MEMBER | (at == before(record) ? (uint32_t)REPLICA_LEG_BEFORE : 0);
    if (is_lacked(d, record, members, epoch))
        return true;
    uint32_t since = record->reconfigured & ((1u << at) - 1);
    return record->policy == REPLICA_MAJORITY && since == 0 && no_majority(d, record, epoch);
}

static bool is_void(const struct decision *d, const struct replica_epoch *epoch) {
    for (unsigned i = 0; i < d->input->leg_count; i++) {
        const struct replica_record *record = d->evidence[i].record;
        unsigned at = record == NULL ? UINT32_MAX : position(record, epoch);
        if (at != UINT32_MAX && shows_void(d, record, at, epoch))
            return true;
    }
    return false;
}

/* Each counts as of its newest epoch that is not void. */
static void take_void_out(struct decision *d) {
    for (unsigned i = 0; i < d->input->leg_count; i++) {
        const struct replica_record *own = d->evidence[i].record;
        d->evidence[i].from = 0;
        for (unsigned from = 0; own != NULL && from <= own->history_count; from++)
            if (!is_void(d, epoch_at(own, from))) {
                d->evidence[i].from = from;
                break;
            }
    }
}

/* ---- who was left out by an operator ---- */

/* True if the leg was a member of the newest epoch that counts of those that the record has, or of a void one since, and left out
 * later, by one that is void then as well: nothing was acknowledged without it. */
static bool in_vain(const struct decision *d, unsigned holder, unsigned leg) {
    const struct replica_record *record = d->evidence[holder].record;
    unsigned from = d->evidence[holder].from;
    if (from == 0)
        return false;
    return (from >= before(record) && (record->legs[leg].flags & REPLICA_LEG_BEFORE) != 0) ||
           position(record, &record->legs[leg].last) <= from;
}

/* True if the holder's record excludes the leg, and nobody shows that it never came to that, or that this is over: a member of
 * the record's epoch that has stored a deeper one since, which does not. Who is away for long enough is in no history any more.
 */
static bool still_excludes(const struct decision *d, unsigned holder, const struct uuid *leg) {
    const struct replica_record *record = d->evidence[holder].record;
    if (!excludes(record, leg) || in_vain(d, holder, replica_record_leg(record, leg)))
        return false;
    for (unsigned i = 0; i < d->input->leg_count; i++) {
        const struct replica_record *later = d->evidence[i].record;
        unsigned at = later == NULL ? record->leg_count : replica_record_leg(record, &later->leg);
        if (at < record->leg_count && (record->legs[at].flags & REPLICA_LEG_MEMBER) != 0 &&
            later->epoch.depth > record->epoch.depth && later->term >= record->term && !excludes(later, leg))
            return false;
    }
    return true;
}

/* True if that leg is excluded by somebody who has all of its history, and went on without it: nobody asks whom it excludes. */
static bool is_left_behind(const struct decision *d, unsigned leg) {
    const struct replica_record *own = d->evidence[leg].record;
    for (unsigned j = 0; j < d->input->leg_count; j++) {
        const struct replica_record *other = d->evidence[j].record;
        if (j != leg && other != NULL && replica_record_knows(other, &own->epoch) && !replica_record_knows(own, &other->epoch) &&
            still_excludes(d, j, &own->leg))
            return true;
    }
    return false;
}

/* A leg that a newer record excludes is not asked; if two exclude each other, nobody knows better. */
static bool exclusions(struct decision *d) {
    uint32_t excluded = 0, behind = 0;
    for (unsigned i = 0; i < d->input->leg_count; i++)
        d->evidence[i].record = has_epoch(&d->input->legs[i]) ? &d->input->legs[i].status->record : NULL;
    take_void_out(d);
    for (unsigned i = 0; i < d->input->leg_count; i++)
        behind |= d->evidence[i].record != NULL && is_left_behind(d, i) ? 1u << i : 0;
    for (unsigned i = 0; i < d->input->leg_count; i++)
        for (unsigned j = 0; j < d->input->leg_count; j++) {
            const struct replica_record *own = d->evidence[i].record, *other = d->evidence[j].record;
            if (j == i || own == NULL || other == NULL || ((behind >> i | behind >> j) & 1) != 0 ||
                !still_excludes(d, j, &own->leg) || replica_record_knows(own, &other->epoch))
                continue;
            if (still_excludes(d, i, &other->leg))
                return refuse(d, ERROR_DAMAGED, "they diverged: each was started without the other", i, j);
            excluded |= 1u << i;
        }
    excluded |= behind;
    for (unsigned i = 0; i < d->input->leg_count; i++)
        if ((excluded >> i & 1) != 0) {
            d->evidence[i].record = NULL;
            d->result->verdicts[i] = DECIDE_DIVERGED;
        }
    return true;
}

static bool superseded(const struct decision *d, const struct replica_epoch *epoch) {
    for (unsigned i = 0; i < d->input->leg_count; i++) {
        const struct replica_record *record = d->evidence[i].record;
        if (record == NULL)
            continue;
        unsigned at = position(record, epoch);
        if (at == UINT32_MAX ? !would_list(record, epoch) : at > d->evidence[i].from)
            return true; /* it follows, or the epoch fell off its list */
    }
    return false;
}

/* Everybody who held the epoch has stored an attempt since that came to nothing: the record as it was then. If it is the epoch
 * that the attempt grew out of, its members are told; else they were those of the attempt, and those whose last epoch it is, or a
 * void one since; of a leg for which that is not known it is taken for granted. */
static void remember(struct decision *d, const struct evidence *holder) {
    struct replica_record *made = &d->result->made;
    bool told = holder->from == before(holder->record);
    *made = *holder->record;
    made->epoch = *epoch_at(holder->record, holder->from);
    made->history_count = (uint8_t)(holder->record->history_count - holder->from);
    memmove(&made->history[0], &made->history[holder->from], made->history_count * sizeof(made->history[0]));
    made->came_to_nothing = (uint16_t)(made->came_to_nothing >> holder->from);
    made->reconfigured = (uint16_t)(made->reconfigured >> holder->from);
    for (unsigned i = 0; i < made->leg_count; i++) {
        struct replica_leg *leg = &made->legs[i];
        bool member = (leg->flags & REPLICA_LEG_MEMBER) != 0, was = (leg->flags & REPLICA_LEG_BEFORE) != 0;
        leg->flags &= ~(uint32_t)(REPLICA_LEG_MEMBER | REPLICA_LEG_BEFORE);
        if ((leg->flags & REPLICA_LEG_EXCLUDED) != 0 && in_vain(d, (unsigned)(holder - d->evidence), i))
            leg->flags &= ~(uint32_t)REPLICA_LEG_EXCLUDED;
        if ((leg->flags & (UNCOUNTED | REPLICA_LEG_TIE_BREAKER)) != 0)
            continue;
        if (told ? was : member || leg->last.depth == 0 || position(holder->record, &leg->last) <= holder->from)
            leg->flags |= REPLICA_LEG_MEMBER;
        if (!told && !member)
            leg->incarnation = 0;
    }
    made->settled = 0;
    d->result->newest = made;
}

/* Sets result->newest and epoch; false if there are several. */
static bool find_newest(struct decision *d) {
    const struct replica_epoch *newest = NULL;
    unsigned holder = 0;
    for (unsigned i = 0; i < d->input->leg_count; i++) {
        if (d->evidence[i].record == NULL)
            continue;
        const struct replica_epoch *epoch = epoch_at(d->evidence[i].record, d->evidence[i].from);
        if (superseded(d, epoch))
            continue;
        if (newest != NULL && !replica_epoch_equal(newest, epoch))
            return refuse(d, ERROR_DAMAGED, "they diverged: neither has the other's history", holder, i);
        if (newest == NULL || (d->evidence[i].from == 0 && d->evidence[holder].from != 0))
            holder = i;
        newest = epoch;
    }
    if (newest == NULL)
        return refuse(d, ERROR_DAMAGED, "each supersedes the other", 0, 0);
    /* who else holds it: its members are told by a record of that very epoch */
    for (unsigned i = 0; i < d->input->leg_count; i++)
        if (d->evidence[i].record != NULL && replica_epoch_equal(&d->evidence[i].record->epoch, newest))
            holder = i;
    d->result->epoch = *newest;
    if (!replica_epoch_equal(&d->evidence[holder].record->epoch, newest)) {
        remember(d, &d->evidence[holder]);
        return true;
    }
    d->result->newest = d->evidence[holder].record;
    return true;
}

/* ---- verdicts ---- */

/* `counts`: the newest epoch of the leg that counts. */
static enum decide_verdict verdict_of(const struct replica_record *newest, const struct replica_record *own,
                                      const struct replica_epoch *counts, struct replica_epoch *ret_base,
                                      uint64_t *ret_from_depth) {
    unsigned leg = replica_record_leg(newest, &own->leg);
    *ret_base = (struct replica_epoch){0};
    *ret_from_depth = 0;
    if (leg == newest->leg_count || own->epoch.depth == 0)
        return DECIDE_FULL; /* never part of this history, as far as it is configured now */
    const struct replica_leg *configured = &newest->legs[leg];
    if ((configured->flags & REPLICA_LEG_TIE_BREAKER) != 0)
        return DECIDE_WITNESS;
    if ((configured->flags & REPLICA_LEG_EXCLUDED) != 0)
        return DECIDE_DIVERGED;
    bool member = (configured->flags & REPLICA_LEG_MEMBER) != 0;
    /* Who was left out by an attempt that came to nothing has everything, too, if it took nothing since. */
    bool all =
        own->state == REPLICA_WHOLE || (own->state == REPLICA_SYNCING && own->joined == 0 &&
                                        replica_epoch_equal(counts, &own->base) && !replica_epoch_equal(counts, &own->epoch));
    if (all && member && replica_epoch_equal(counts, &newest->epoch))
        return DECIDE_SOURCE;
    /* What it returned from may have been void as well. */
    bool from_base = own->state != REPLICA_WHOLE && own->base.depth <= counts->depth;
    struct replica_epoch base = from_base ? own->base : *counts;
    if (base.depth == 0)
        return DECIDE_FULL;
    if (!replica_record_knows(newest, &base) && (member || !replica_epoch_equal(&configured->last, &base))) {
        if ((member && all) || would_list(newest, &base))
            return DECIDE_DIVERGED;
        /* Too old for the list: what the mirror remembers of this leg counts. Of one that was being made a member it remembers
         * nothing, and what that had of its own was overwritten when its copy began. */
        if (member || configured->last.depth == 0)
            return DECIDE_FULL;
        base = configured->last;
    }
    *ret_base = base;
    *ret_from_depth = member ? base.depth : min_u64(base.depth, configured->last.depth);
    return DECIDE_RETURNING;
}

enum decide_verdict decide_leg(const struct replica_record *newest, const struct replica_status *status,
                               struct replica_epoch *ret_base, uint64_t *ret_from_depth) {
    *ret_base = (struct replica_epoch){0};
    *ret_from_depth = 0;
    if ((status->flags & REPLICA_HAS_RECORD) == 0)
        return DECIDE_FULL;
    const struct replica_record *own = &status->record;
    if (!uuid_equal(&own->mirror, &newest->mirror))
        return DECIDE_DIVERGED;
    /* An epoch of which a member of now, or a majority, knows nothing is void. */
    const struct replica_epoch *counts = &own->epoch;
    if (lacks(newest, counts)) {
        bool is_void = newest->policy == REPLICA_MAJORITY;
        for (unsigned i = 0; i < own->leg_count; i++) {
            unsigned leg = replica_record_leg(newest, &own->legs[i].id);
            is_void =
                is_void || ((own->legs[i].flags & REPLICA_LEG_MEMBER) != 0 && leg < newest->leg_count &&
                            !uuid_equal(&own->legs[i].id, &own->leg) && (newest->legs[leg].flags & REPLICA_LEG_MEMBER) != 0);
        }
        for (unsigned i = 1; is_void && i <= own->history_count; i++)
            if (replica_record_knows(newest, epoch_at(own, i))) {
                counts = epoch_at(own, i);
                break;
            }
    }
    enum decide_verdict verdict = verdict_of(newest, own, counts, ret_base, ret_from_depth);
    if (verdict == DECIDE_SOURCE) {
        *ret_base = *counts;
        *ret_from_depth = counts->depth;
    }
    return verdict;
}

enum decide_verdict decide_discarded(const struct replica_record *newest, const struct replica_record *own,
                                     struct replica_epoch *ret_base, uint64_t *ret_from_depth) {
    unsigned leg = replica_record_leg(newest, &own->leg);
    *ret_base = (struct replica_epoch){0};
    *ret_from_depth = 0;
    if (leg == newest->leg_count || own->epoch.depth == 0)
        return DECIDE_FULL;
    const struct replica_epoch *common_one = own->state == REPLICA_WHOLE ? NULL : &own->base;
    for (unsigned i = 0; common_one == NULL && i <= own->history_count; i++)
        if (replica_record_knows(newest, epoch_at(own, i)))
            common_one = epoch_at(own, i);
    if (common_one == NULL || common_one->depth == 0 || !replica_record_knows(newest, common_one))
        return DECIDE_FULL;
    *ret_base = *common_one;
    *ret_from_depth = min_u64(common_one->depth, newest->legs[leg].last.depth);
    return DECIDE_RETURNING;
}

bool decide_is_given_up(const struct replica_leg *configured, const char *name) {
    return (configured->flags & REPLICA_LEG_BLANK) != 0 && replica_leg_is_named(configured, name);
}

/* It holds data of which no record tells, and nobody gave that up. Who added a leg, or had it copied anew, did: until it has a
 * record the others' have it as blank, by its name. */
static bool is_strange(const struct replica_record *newest, const struct decide_leg *leg) {
    if ((leg->status->flags & (REPLICA_HAS_RECORD | REPLICA_UNTOUCHED)) != 0 || leg->tie_breaker || leg->overwrite)
        return false;
    for (unsigned i = 0; i < newest->leg_count && leg->name != NULL; i++)
        if (decide_is_given_up(&newest->legs[i], leg->name))
            return false;
    return true;
}

static void verdicts(struct decision *d) {
    struct decide_result *result = d->result;
    for (unsigned i = 0; i < d->input->leg_count; i++) {
        const struct decide_leg *leg = &d->input->legs[i];
        if (leg->status == NULL || result->verdicts[i] == DECIDE_DIVERGED)
            continue;
        if (d->evidence[i].record == NULL)
            result->verdicts[i] = is_strange(result->newest, leg) ? DECIDE_STRANGER : DECIDE_FULL;
        else
            result->verdicts[i] =
                verdict_of(result->newest, d->evidence[i].record, epoch_at(d->evidence[i].record, d->evidence[i].from),
                           &result->bases[i], &result->from_depths[i]);
    }
}

/* ---- may it start? ---- */

static void wait_for(struct decision *d, uint32_t missing, const char *why) {
    struct decide_result *result = d->result;
    char names[160] = "";
    size_t length = 0;
    for (unsigned i = 0; i < result->newest->leg_count && length < sizeof(names); i++)
        if ((missing >> i & 1) != 0)
            length += (size_t)snprintf(names + length, sizeof(names) - length, "%s%s", length > 0 ? ", " : "",
                                       result->newest->legs[i].name);
    result->outcome = DECIDE_WAIT;
    error_set(&result->error, ERROR_BUSY, "%s: %s", why, names);
}

/* True if those of the legs that are there are enough to know that nobody went on without them. */
static bool is_majority(uint32_t there, uint32_t legs, bool tie_breaker) {
    int twice = 2 * __builtin_popcount(there & legs), all = __builtin_popcount(legs);
    return twice > all || (twice == all && tie_breaker);
}

static void may_start(struct decision *d) {
    struct decide_result *result = d->result;
    const struct replica_record *newest = result->newest;
    uint32_t seen = 0, members = 0, excluded = 0, blank = 0, witnesses = 0;
    bool source = false;
    for (unsigned i = 0; i < d->input->leg_count; i++) {
        source = source || result->verdicts[i] == DECIDE_SOURCE;
        if (d->evidence[i].record == NULL || result->verdicts[i] == DECIDE_DIVERGED)
            continue;
        unsigned leg = replica_record_leg(newest, &d->evidence[i].record->leg);
        if (leg < newest->leg_count)
            seen |= 1u << leg;
    }
    for (unsigned leg = 0; leg < newest->leg_count; leg++) {
        uint32_t flags = newest->legs[leg].flags, bit = 1u << leg;
        members |= (flags & REPLICA_LEG_MEMBER) != 0 ? bit : 0;
        excluded |= (flags & REPLICA_LEG_EXCLUDED) != 0 ? bit : 0;
        blank |= (flags & REPLICA_LEG_BLANK) != 0 ? bit : 0;
        witnesses |= (flags & REPLICA_LEG_TIE_BREAKER) != 0 ? bit : 0;
    }
    bool tie_breaker = (witnesses & seen) != 0;
    uint32_t all = ((1u << newest->leg_count) - 1) & ~excluded, accepted = d->input->accept_absent & ~seen;
    uint32_t missing = members & all & ~seen;
    if (newest->policy == REPLICA_MAJORITY)
        missing = is_majority(seen, all & ~blank, tie_breaker) ? 0 : all & ~blank & ~seen;
    /* Who is given up may have gone on, and made any other leg that is not there a member since. */
    result->missing = missing == 0 ? 0 : missing | (all & ~seen & ~witnesses);
    result->excluded = excluded | accepted;
    uint32_t unnamed = missing & ~accepted;
    if (newest->policy == REPLICA_MAJORITY && is_majority(seen, all & ~blank & ~accepted, tie_breaker))
        unnamed = 0;
    if (!source)
        wait_for(d, result->missing = members, "no whole copy of the newest history is there; any of these has it");
    else if (unnamed != 0)
        wait_for(d, unnamed, "one of these may have newer data");
    else if ((result->missing & ~accepted) != 0)
        wait_for(d, result->missing & ~accepted, "whoever is given up may have gone on with one of these");
    else
        result->outcome = DECIDE_START;
}

/* Nobody's content is newer than another's: whose counts is said, or all are equal, or only the first one holds any. */
static void first_start(struct decision *d) {
    const struct decide_input *input = d->input;
    struct decide_result *result = d->result;
    unsigned source = input->source_set ? input->source : 0;
    uint32_t holding = 0;
    for (unsigned i = 0; i < input->leg_count; i++)
        result->missing |= input->legs[i].status == NULL ? 1u << i : 0;
    if (result->missing != 0) {
        result->outcome = DECIDE_WAIT;
        error_set(&result->error, ERROR_BUSY, "a mirror starts for the first time only when all its legs are there");
        return;
    }
    while (!input->source_set && source + 1 < input->leg_count && input->legs[source].tie_breaker)
        source++;
    for (unsigned i = 0; i < input->leg_count; i++)
        if (!input->legs[i].tie_breaker && (input->legs[i].status->flags & REPLICA_UNTOUCHED) == 0)
            holding |= 1u << i;
    bool equal = holding == 0 || input->assume_equal;
    if (!equal && !input->source_set && (holding & ~(1u << source)) != 0) {
        result->outcome = DECIDE_REFUSE;
        result->refused = holding & ~(1u << source);
        result->unasked = true;
        error_set(&result->error, ERROR_FOREIGN,
                  "what they hold would be overwritten, and they keep no record that says whose it is");
        return;
    }
    for (unsigned i = 0; i < input->leg_count; i++)
        result->verdicts[i] = input->legs[i].tie_breaker ? DECIDE_WITNESS : (equal || i == source ? DECIDE_SOURCE : DECIDE_FULL);
    result->outcome = DECIDE_FIRST_START;
}

void decide(const struct decide_input *input, struct decide_result *ret_result) {
    struct decision d = {.input = input, .result = ret_result};
    *ret_result = (struct decide_result){.outcome = DECIDE_WAIT};
    assert(input->leg_count > 0 && input->leg_count <= REPLICA_LEGS_MAX);
    bool any = false;
    for (unsigned i = 0; i < input->leg_count; i++)
        any = any || has_epoch(&input->legs[i]);
    if (!identities(&d))
        return;
    if (!any || is_first_undone(input)) {
        first_start(&d);
        return;
    }
    if (!exclusions(&d))
        return;
    take_void_out(&d);
    if (!find_newest(&d))
        return;
    verdicts(&d);
    may_start(&d);
}
