/* How far the copying of a whole leg got, in its record: a return that is broken off, by a crash of either side, goes on there.
 * docs/mirror.md, "Returning". What lies before the cursor is on the leg, durably, as of the depth at which it had joined. Must
 * not know how regions are copied: resync.c. */
#include "blockdev/mirror/mirror_internal.h"

enum { CURSOR_REST, CURSOR_FLUSH, CURSOR_STORE };

/* All that was written to the leg was written in epochs that the mirror knows: an epoch that is in no history of its may have
 * left content there of which nobody else has a mark. */
static bool is_known(const struct mirror *mirror, const struct replica_epoch *epoch) {
    if (replica_epoch_equal(&mirror->epoch, epoch))
        return true;
    for (unsigned i = 0; i < mirror->history_count; i++)
        if (replica_epoch_equal(&mirror->history[i], epoch))
            return true;
    return false;
}

void mirror_cursor_find(struct mirror_leg *leg) {
    const struct replica_record *record = &leg->status.record;
    bool has = (leg->status.flags & REPLICA_HAS_RECORD) != 0;
    leg->cursor = leg->cursor_layer = leg->cursor_joined = 0;
    leg->cursor_step = CURSOR_REST;
    leg->cursor_stored = has ? record->cursor_offset : 0;
    if (!has || leg->verdict != DECIDE_FULL || leg->discard || record->state != REPLICA_SYNCING || record->base.depth != 0 ||
        (leg->config.flags & (REPLICA_LEG_EXCLUDED | REPLICA_LEG_BLANK)) != 0 || !is_known(leg->mirror, &record->epoch))
        return;
    leg->cursor = record->cursor_offset;
    leg->cursor_layer = record->cursor_change;
    leg->cursor_joined = record->joined;
}

void mirror_cursor_compose(const struct mirror_leg *leg, struct replica_record *record) {
    if (leg->cursor == 0)
        return;
    record->cursor_offset = leg->cursor;
    record->cursor_change = leg->cursor_layer;
    record->joined = leg->cursor_joined;
}

/* Its record is stored until it says so. */
static bool is_stored(struct mirror_leg *leg) {
    const struct mirror *mirror = leg->mirror;
    if (leg->store.busy || mirror->changing || mirror->state != MIRROR_SERVING)
        return false; /* woken when the change is complete */
    if (leg->cursor_stored == leg->cursor)
        return true;
    mirror_store_send(leg, false);
    return false;
}

bool mirror_cursor_forget(struct mirror_leg *leg) {
    leg->cursor = 0;
    return leg->cursor_stored == 0 || is_stored(leg);
}

bool mirror_cursor_begin(struct mirror_leg *leg, uint64_t layer) {
    if (leg->cursor != 0 && leg->cursor_layer != layer)
        leg->cursor = 0;
    leg->cursor_left = UINT64_MAX;
    if (leg->cursor == 0)
        return leg->cursor_stored == 0 || is_stored(leg);
    bitmap_clear_range(leg->work, 0, min_u64(leg->cursor / REGION_BYTES, leg->work_count));
    return true;
}

bool mirror_cursor_step(struct mirror_leg *leg, uint64_t layer) {
    uint64_t every = leg->mirror->options.cursor_regions == 0 ? 256 : leg->mirror->options.cursor_regions, region;
    if (leg->cursor_left == UINT64_MAX)
        leg->cursor_left = leg->work_left;
    if (!leg->replica)
        return true;
    switch (leg->cursor_step) {
    case CURSOR_REST:
        if (leg->verdict != DECIDE_FULL || leg->work_left == 0 || leg->cursor_left - leg->work_left < every)
            return true;
        region = bitmap_find_set(leg->work, leg->work_count, 0);
        if (region * REGION_BYTES <= leg->cursor)
            return true;
        leg->cursor_next = region * REGION_BYTES;
        leg->cursor_left = leg->work_left;
        leg->cursor_step = CURSOR_FLUSH;
        mirror_call_send(leg, &leg->call, BLOCK_FLUSH, 0, 0, NULL, 0, mirror_leg_called);
        return false;
    case CURSOR_FLUSH:
        if (leg->call.busy || !mirror_leg_went_well(leg, "it does not flush"))
            return false;
        leg->cursor = leg->cursor_next;
        leg->cursor_layer = layer;
        leg->cursor_joined = leg->joined;
        leg->cursor_step = CURSOR_STORE;
        return mirror_cursor_step(leg, layer);
    default:
        if (!is_stored(leg))
            return false;
        leg->cursor_step = CURSOR_REST;
        return true;
    }
}
