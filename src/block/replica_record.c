#include "block/replica.h"

#include <stdio.h>

#include "base/crc32c.h"

static bool epoch_check(const struct replica_epoch *epoch) {
    return epoch->depth <= REPLICA_DEPTH_MAX && (epoch->depth != 0) == !uuid_is_nil(&epoch->id);
}

static bool name_check(const char name[28]) {
    bool ended = false;
    for (unsigned i = 0; i < 28; i++) {
        if (name[i] == '\0')
            ended = true;
        else if (ended || (unsigned char)name[i] < ' ' || name[i] == 127)
            return false;
    }
    return ended;
}

static const char *legs_check(const struct replica_record *record) {
    for (unsigned i = 0; i < record->leg_count; i++) {
        const struct replica_leg *leg = &record->legs[i];
        if (uuid_is_nil(&leg->id))
            return "a leg has no id";
        if (replica_record_leg(record, &leg->id) != i)
            return "two legs have one id";
        if ((leg->flags & ~(uint32_t)REPLICA_LEG_FLAGS) != 0)
            return "a leg has an unknown flag";
        if ((leg->flags & REPLICA_LEG_MEMBER) != 0 && (leg->flags & ~(uint32_t)(REPLICA_LEG_MEMBER | REPLICA_LEG_BEFORE)) != 0)
            return "a member is excluded or a tie-breaker";
        if (leg->last.depth > REPLICA_DEPTH_MAX || !name_check(leg->name))
            return "a leg's last epoch or name is none";
    }
    return NULL;
}

static const char *epochs_check(const struct replica_record *record) {
    if (!epoch_check(&record->epoch) || !epoch_check(&record->base))
        return "an epoch has a depth or an id only, or is too deep";
    uint64_t below = record->epoch.depth;
    for (unsigned i = 0; i < record->history_count; i++) {
        if (!epoch_check(&record->history[i]) || record->history[i].depth == 0 || record->history[i].depth >= below)
            return "the history does not fall";
        below = record->history[i].depth;
    }
    if (record->joined > record->epoch.depth || record->base.depth > record->epoch.depth)
        return "the leg knows more than its epoch";
    return NULL;
}

const char *replica_record_check(const struct replica_record *record) {
    if (record->magic != REPLICA_RECORD_MAGIC)
        return "it is no record";
    if (record->version != REPLICA_RECORD_VERSION)
        return "its version is unknown";
    if (record->leg_count > REPLICA_LEGS_MAX || record->history_count > REPLICA_HISTORY_MAX)
        return "it has too many legs or epochs";
    if (uuid_is_nil(&record->mirror) || uuid_is_nil(&record->leg))
        return "the mirror or the leg has no id";
    if (record->state < REPLICA_WHOLE || record->state > REPLICA_WITNESS)
        return "its state is unknown";
    if (record->policy < REPLICA_ANY || record->policy > REPLICA_MAJORITY || record->settled > 1 || record->reserved != 0)
        return "its policy or a flag is unknown";
    if ((record->came_to_nothing | record->reconfigured) >> record->history_count != 0)
        return "it tells of epochs that it does not have";
    const char *wrong = epochs_check(record);
    return wrong != NULL ? wrong : legs_check(record);
}

unsigned replica_record_leg(const struct replica_record *record, const struct uuid *id) {
    unsigned i = 0;
    while (i < record->leg_count && !uuid_equal(&record->legs[i].id, id))
        i++;
    return i;
}

void replica_leg_name(const char *name, char ret_name[sizeof((struct replica_leg){0}.name)]) {
    enum { SIZE = sizeof((struct replica_leg){0}.name), KEPT = SIZE - sizeof("~12345678") };
    size_t length = strlen(name);
    memset(ret_name, 0, SIZE);
    if (length < SIZE)
        memcpy(ret_name, name, length);
    else
        snprintf(ret_name, SIZE, "%.*s~%08x", (int)KEPT, name, (unsigned)crc32c(name, length));
}

bool replica_leg_is_named(const struct replica_leg *leg, const char *name) {
    char own[sizeof(leg->name)];
    replica_leg_name(name, own);
    return memcmp(leg->name, own, sizeof(own)) == 0;
}

bool replica_record_knows(const struct replica_record *record, const struct replica_epoch *epoch) {
    if (replica_epoch_equal(&record->epoch, epoch))
        return true;
    for (unsigned i = 0; i < record->history_count; i++)
        if (replica_epoch_equal(&record->history[i], epoch))
            return true;
    return false;
}

const char *replica_ranges_check(const struct replica_ranges *ranges, size_t length) {
    if (length < sizeof(*ranges))
        return "it is shorter than its head";
    if (ranges->count > REPLICA_RANGES_MAX || length != replica_ranges_bytes(ranges->count))
        return "its length and its count disagree, or there are too many";
    if ((ranges->flags & ~REPLICA_ALL_REGIONS) != 0)
        return "it has an unknown flag";
    return NULL;
}

/* ---- a change of the tree ---- */

/* Keys and values in turn, each ended by a zero. */
static bool pairs_check(const char *pairs, uint32_t bytes) {
    unsigned texts = 0;
    for (uint32_t i = 0; i < bytes; i++)
        texts += pairs[i] == '\0';
    return bytes == 0 || (pairs[bytes - 1] == '\0' && texts % 2 == 0 && texts <= 2 * REPLICA_PAIRS_MAX);
}

const char *replica_pairs_check(const struct replica_pairs *pairs, size_t length) {
    if (length < sizeof(*pairs) || pairs->pair_bytes > length - sizeof(*pairs))
        return "its length is another one";
    return pairs_check(pairs->pairs, pairs->pair_bytes) ? NULL : "its attributes cannot be";
}

const char *replica_tree_check(const struct replica_tree *tree, size_t length) {
    if (length < sizeof(*tree) || length - sizeof(*tree) != tree->pair_bytes)
        return "its length is another one";
    if (tree->what < REPLICA_SNAPSHOT || tree->what > REPLICA_UPON || (tree->flags & ~REPLICA_TREE_CHECK) != 0)
        return "its kind or a flag is unknown";
    size_t name = strnlen(tree->name, sizeof(tree->name));
    for (size_t i = name; i < sizeof(tree->name); i++)
        if (tree->name[i] != '\0')
            return "its name goes on behind its end";
    bool snapshot = tree->what == REPLICA_SNAPSHOT, upon = tree->what == REPLICA_UPON;
    if (name == sizeof(tree->name) || snapshot != (name > 0) || (!snapshot && upon != (tree->pair_bytes > 0)) ||
        !pairs_check(tree->pairs, tree->pair_bytes))
        return "its name or attributes cannot be";
    if (tree->layer == 0 && (snapshot || tree->what == REPLICA_DELETE))
        return "it names no layer";
    if ((tree->what == REPLICA_RESIZE) != (tree->size != 0))
        return "its size cannot be";
    return NULL;
}
