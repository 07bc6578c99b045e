/* Read repair: what a member could not read, and another one has answered, is written to it anew and read again. A leg is lost
 * only when that fails several times. Reads that find no free slot here repair nothing: the next one does. docs/mirror.md,
 * "Errors of a disk". */
#include <stdlib.h>

#include "blockdev/mirror/fan.h"

#define SLOTS 4
#define FAILURES_MAX 3 /* repairs in a row after which the leg could still not be read */

struct repair {
    struct mirror_fan fan;
    bool busy;
    struct range range;
    uint64_t offset, length;
    mirror_mask bad;
    void *buffer;
    struct mirror_leg *source;
};

struct mirror_repair {
    struct repair slots[SLOTS];
};

static struct repair *of(struct mirror_fan *fan) { return container_of(fan, struct repair, fan); }

static void end(struct repair *repair) {
    struct mirror *mirror = repair->fan.mirror;
    buffer_give(&mirror->home->buffers, repair->buffer, repair->length);
    repair->busy = false;
    ranges_leave(&mirror->ranges, &repair->range);
}

/* What was written is read again: by then the disk has put it elsewhere, or it is no good. */
static void checked(struct mirror_fan *fan) {
    struct repair *repair = of(fan);
    mirror_mask there = mirror_fan_there(fan) & repair->bad;
    mirror_for_each_leg(fan->mirror, leg) if ((there & leg->bit) != 0) {
        bool good = (fan->bad & leg->bit) == 0;
        leg->repair_failures = good ? 0 : leg->repair_failures + 1;
        leg->told.blocks_repaired += good ? divide_up(repair->length, REPLICA_BLOCK_BYTES) : 0;
        if (leg->repair_failures >= FAILURES_MAX && (fan->mirror->standing & ~leg->bit) != 0) {
            leg->repair_failures = 0;
            mirror_leg_fault(leg, IO_MEDIUM_READ, "it does not read what was written to it");
        }
    }
    end(repair);
}

static void written(struct mirror_fan *fan) {
    struct repair *repair = of(fan);
    struct mirror *mirror = fan->mirror;
    mirror_mask there = mirror_fan_there(fan) & repair->bad;
    mirror_for_each_leg(mirror,
                        leg) if ((there & fan->bad & ~fan->passing & leg->bit) != 0 && (mirror->standing & ~leg->bit) != 0)
        mirror_leg_fault(leg, IO_MEDIUM_WRITE, "it failed a repair");
    there &= (mirror_mask)~fan->bad;
    mirror_fan_round(fan);
    mirror_for_each_leg(mirror, leg) if ((there & leg->bit) != 0)
        mirror_fan_send(fan, leg, BLOCK_READ, 0, repair->offset, repair->buffer, repair->length);
    repair->bad = there;
    regions_touch(&mirror->regions, repair->offset, repair->length); /* who was written has it marked */
    mirror_fan_wait(fan, checked);
}

static void fetched(struct mirror_fan *fan) {
    struct repair *repair = of(fan);
    struct mirror *mirror = fan->mirror;
    mirror_mask there = mirror_fan_there(fan);
    if (fan->bad != 0 || (there & repair->source->bit) == 0 || mirror->changing || mirror->state != MIRROR_SERVING) {
        end(repair);
        return;
    }
    mirror_fan_round(fan);
    mirror_for_each_leg(mirror, leg) if ((there & repair->bad & leg->bit) != 0)
        mirror_fan_send(fan, leg, BLOCK_WRITE, 0, repair->offset, repair->buffer, repair->length);
    mirror_fan_wait(fan, written);
}

static void held(struct mirror_fan *fan) {
    struct repair *repair = of(fan);
    struct mirror *mirror = fan->mirror;
    mirror_mask there = mirror_fan_there(fan) & mirror->standing;
    if ((there & ~repair->bad) == 0 || (there & repair->bad) == 0 || mirror->changing ||
        regions_unequal_in(&mirror->regions, repair->offset, repair->length) != UINT64_MAX) {
        end(repair); /* the next read finds it, or copying does */
        return;
    }
    repair->source = mirror_leg_cheapest(mirror, there & (mirror_mask)~repair->bad, repair->offset);
    mirror_fan_round(fan);
    mirror_fan_send(fan, repair->source, BLOCK_READ, 0, repair->offset, repair->buffer, repair->length);
    mirror_fan_wait(fan, fetched);
}

static void granted(struct range *range) {
    struct repair *repair = container_of(range, struct repair, range);
    mirror_fan_round(&repair->fan);
    mirror_fan_wait(&repair->fan, held); /* from the loop */
}

void mirror_repair_begin(struct mirror *mirror, uint64_t offset, uint64_t length, mirror_mask bad) {
    uint64_t end = round_up(offset + length, REPLICA_BLOCK_BYTES);
    offset = round_down(offset, REPLICA_BLOCK_BYTES);
    bad &= mirror->standing;
    if (mirror->repair == NULL || mirror->closing || bad == 0 || end - offset > BUFFER_SIZE_MAX)
        return;
    struct repair *repair = NULL;
    for (unsigned i = 0; i < SLOTS && repair == NULL; i++)
        if (!mirror->repair->slots[i].busy)
            repair = &mirror->repair->slots[i];
    if (repair == NULL)
        return;
    repair->buffer = buffer_take(&mirror->home->buffers, end - offset);
    if (repair->buffer == NULL)
        return;
    repair->busy = true;
    /* one at a time is mended: each is read again into the same buffer */
    repair->bad = bad & (mirror_mask)-bad;
    repair->offset = offset;
    repair->length = end - offset;
    repair->range.granted = granted;
    mirror_fan_begin(&repair->fan, mirror->standing);
    if (ranges_enter(&mirror->ranges, &repair->range, repair->offset, repair->length))
        granted(&repair->range);
}

bool mirror_repair_is_busy(const struct mirror *mirror) {
    for (unsigned i = 0; mirror->repair != NULL && i < SLOTS; i++)
        if (mirror->repair->slots[i].busy)
            return true;
    return false;
}

bool mirror_repair_init(struct mirror *mirror) {
    mirror->repair = calloc(1, sizeof(*mirror->repair));
    for (unsigned i = 0; mirror->repair != NULL && i < SLOTS; i++)
        mirror_fan_init(&mirror->repair->slots[i].fan, mirror);
    return mirror->repair != NULL;
}

void mirror_repair_fini(struct mirror *mirror) {
    assert(!mirror_repair_is_busy(mirror));
    free(mirror->repair);
    mirror->repair = NULL;
}
