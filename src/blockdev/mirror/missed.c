/* What a leg that is away has missed, block by block, for people: the marks say it by regions, and they are what decides. Known
 * from the moment in which a whole leg is lost until it is whole again, as long as nothing but writes happens meanwhile; then it
 * is not known exactly, and regions are told. */
#include <stdlib.h>

#include "blockdev/mirror/mirror_internal.h"

#define BLOCKS_OF_REGION (REGION_BYTES / REPLICA_BLOCK_BYTES)

/* Blocks [first, last] become missed or not. */
static void set(struct mirror_leg *leg, uint64_t first, uint64_t last, bool missed) {
    for (uint64_t block = first; block <= last; block++) {
        bool was = bitmap_test(leg->missed, block);
        if (was == missed)
            continue;
        leg->missed_count += missed ? 1 : -UINT64_C(1);
        (missed ? bitmap_set : bitmap_clear)(leg->missed, block);
    }
}

void mirror_missed_end(struct mirror_leg *leg) {
    free(leg->missed);
    leg->missed = NULL;
    leg->missed_count = 0;
    leg->mirror->missing &= (mirror_mask)~leg->bit;
}

void mirror_missed_begin(struct mirror_leg *leg) {
    struct mirror *mirror = leg->mirror;
    uint64_t blocks = mirror->size / REPLICA_BLOCK_BYTES;
    if (leg->missed != NULL || mirror->regions.unequal_count > 0 || blocks == 0)
        return;                                                       /* of a leg that is lost again it goes on */
    leg->missed = calloc(bitmap_words(blocks), sizeof(*leg->missed)); /* resident is only what is set */
    if (leg->missed == NULL)
        return;
    leg->missed_incarnation = leg->status.incarnation;
    mirror->missing |= leg->bit;
    mirror_io_missed(mirror, leg);
}

void mirror_missed_add(struct mirror *mirror, mirror_mask legs, uint64_t offset, uint64_t length) {
    uint64_t first = offset / REPLICA_BLOCK_BYTES, last = (offset + length - 1) / REPLICA_BLOCK_BYTES;
    for (legs &= mirror->missing; legs != 0; legs &= (mirror_mask)(legs - 1))
        set(&mirror->legs[__builtin_ctz(legs)], first, last, true);
}

void mirror_missed_copied(struct mirror_leg *leg, uint64_t region) {
    uint64_t blocks = leg->mirror->size / REPLICA_BLOCK_BYTES, first = region * BLOCKS_OF_REGION;
    if (leg->missed != NULL && first < blocks)
        set(leg, first, min_u64(first + BLOCKS_OF_REGION, blocks) - 1, false);
}

uint64_t mirror_missed_bytes(const struct mirror_leg *leg, bool *ret_exact) {
    *ret_exact = true;
    if (leg->missed != NULL)
        return leg->missed_count * REPLICA_BLOCK_BYTES;
    switch (leg->told.state) {
    case MIRROR_LEG_WHOLE:
    case MIRROR_LEG_WITNESS: return 0;
    case MIRROR_LEG_SYNCING: *ret_exact = false; return leg->told.sync_total - leg->told.sync_done;
    default: *ret_exact = false; return leg->mirror->regions.marked_count * REGION_BYTES;
    }
}

/* ---- by regions, for who copies by himself ---- */

/* Whether a block of the region was missed; where that is not known exactly: what is to be copied, else all. */
static bool region_missed(const struct mirror_leg *leg, uint64_t region) {
    uint64_t blocks = leg->mirror->size / REPLICA_BLOCK_BYTES, first = region * BLOCKS_OF_REGION;
    uint64_t end = min_u64(first + BLOCKS_OF_REGION, blocks);
    if (leg->missed == NULL && leg->told.state == MIRROR_LEG_SYNCING && region < leg->work_count)
        return bitmap_test(leg->work, region);
    if (leg->missed == NULL)
        return true;
    return first < end && bitmap_find_set(leg->missed, end, first) < end;
}

static bool copy_regions(struct mirror *mirror, struct mirror_missed_look *look) {
    const struct mirror_leg *leg = mirror_leg_named(mirror, look->leg);
    if (leg == NULL || leg->told.state == MIRROR_LEG_WHOLE || leg->told.state == MIRROR_LEG_WITNESS)
        return error_set(&look->error, ERROR_NOT_FOUND, "%s: %s", look->leg, leg == NULL ? "no such leg" : "has missed nothing");
    look->ret_regions = mirror->regions.count;
    look->ret_bitmap = calloc(bitmap_words(look->ret_regions) + 1, sizeof(*look->ret_bitmap));
    if (look->ret_bitmap == NULL)
        return error_set(&look->error, ERROR_NO_MEMORY, "no memory for %s", look->leg);
    for (uint64_t region = 0; region < look->ret_regions; region++)
        if (region_missed(leg, region))
            bitmap_set(look->ret_bitmap, region);
    return true;
}

static void missed_look_done(struct reactor_message *message) {
    struct mirror_missed_look *look = container_of(message, struct mirror_missed_look, message);
    look->done(look);
}

static void missed_look_home(struct reactor_message *message) {
    struct mirror_missed_look *look = container_of(message, struct mirror_missed_look, message);
    copy_regions(mirror_of(look->device), look);
    look->message.run = missed_look_done;
    reactor_post(look->control, &look->message);
}

void mirror_missed_look(struct mirror_missed_look *look) {
    error_clear(&look->error);
    look->ret_bitmap = NULL;
    look->message.run = missed_look_home;
    reactor_post(look->device->home, &look->message);
}
