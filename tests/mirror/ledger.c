#include "ledger.h"

#include "heap.h"

static struct ledger_version *find(struct ledger *ledger, unsigned block, uint32_t id) {
    struct ledger_block *b = &ledger->blocks[block];
    for (unsigned i = b->count; i-- > 0;)
        if (b->versions[i].id == id)
            return &b->versions[i];
    return NULL;
}

void ledger_cut(struct ledger *ledger, unsigned first) {
    for (unsigned i = first; i < ledger->block_count; i++) {
        ledger->blocks[i].count = 1;
        ledger->blocks[i].versions[0] =
            (struct ledger_version){.zero = true, .answered = true, .dead = LEDGER_NEVER, .doubt = LEDGER_NEVER};
    }
}

void ledger_init(struct ledger *ledger, unsigned block_count) {
    *ledger = (struct ledger){.block_count = block_count, .clock = 1};
    ledger->blocks = plain_alloc(block_count * sizeof(ledger->blocks[0]));
    ledger_cut(ledger, 0);
}

void ledger_fini(struct ledger *ledger) { plain_free(ledger->blocks); }

void ledger_copy(const struct ledger *ledger, struct ledger *ret_copy) {
    *ret_copy = *ledger;
    ret_copy->blocks = plain_alloc(ledger->block_count * sizeof(ledger->blocks[0]));
    memcpy(ret_copy->blocks, ledger->blocks, ledger->block_count * sizeof(ledger->blocks[0]));
}

void ledger_revert(struct ledger *ledger, const struct ledger *copy) {
    memcpy(ledger->blocks, copy->blocks, ledger->block_count * sizeof(ledger->blocks[0]));
    for (unsigned i = 0; i < ledger->block_count; i++)
        for (unsigned j = 0; j < ledger->blocks[i].count; j++) /* what a snapshot shows is durable */
            ledger->blocks[i].versions[j].gone |= ledger->blocks[i].versions[j].dead != LEDGER_NEVER;
}

uint32_t ledger_write_begin(struct ledger *ledger, unsigned block, uint32_t writer, bool zero, uint64_t begin) {
    struct ledger_block *b = &ledger->blocks[block];
    assert(b->count < LEDGER_VERSIONS);
    b->versions[b->count++] = (struct ledger_version){.id = ++ledger->last_id,
                                                      .writer = writer,
                                                      .zero = zero,
                                                      .begin = begin,
                                                      .end = LEDGER_NEVER,
                                                      .dead = LEDGER_NEVER,
                                                      .doubt = LEDGER_NEVER};
    return ledger->last_id;
}

/* Whoever ended before `moment` is over, from `now` on: something else was current at `moment` or later. */
static void bury(struct ledger_block *b, uint64_t moment, uint64_t now, const struct ledger_version *but, bool but_zeros) {
    for (unsigned i = 0; i < b->count; i++) {
        struct ledger_version *version = &b->versions[i];
        if (version != but && !(but_zeros && version->zero) && version->end < moment)
            version->dead = min_u64(version->dead, now);
    }
}

void ledger_write_end(struct ledger *ledger, unsigned block, uint32_t id, bool ok, bool maybe_later) {
    struct ledger_version *version = find(ledger, block, id);
    uint64_t now = ledger_now(ledger);
    if (version == NULL)
        return; /* it was gone before its answer came */
    struct ledger_block *b = &ledger->blocks[block];
    if (!maybe_later)
        version->end = min_u64(version->end, now);
    for (unsigned i = 0; maybe_later && i < b->count; i++) /* seed 80707: the leg that showed it may be gone */
        if (b->versions[i].doubt != LEDGER_NEVER && b->versions[i].doubted_by == id)
            b->versions[i].doubt = LEDGER_NEVER;
    if (!ok)
        return;
    version->answered = true;
    for (unsigned i = 0; i < b->count; i++)
        if (b->versions[i].doubt != LEDGER_NEVER && b->versions[i].doubted_by == id) {
            b->versions[i].dead = min_u64(b->versions[i].dead, b->versions[i].doubt);
            b->versions[i].doubt = LEDGER_NEVER;
        }
    if (version->begin > ledger->lost_at)
        bury(b, version->begin, now, version, false);
}

/* As bury(), by a write that is not answered yet. */
static void doubt(struct ledger_block *b, uint64_t moment, uint64_t now, const struct ledger_version *by) {
    for (unsigned i = 0; i < b->count; i++) {
        struct ledger_version *version = &b->versions[i];
        if (version == by || (by->zero && version->zero) || version->end >= moment)
            continue;
        version->doubt = min_u64(version->doubt, now);
        version->doubted_by = by->id;
    }
}

const char *ledger_read(struct ledger *ledger, unsigned block, uint32_t id, uint64_t begin) {
    struct ledger_block *b = &ledger->blocks[block];
    uint64_t now = ledger_now(ledger);
    /* what it may be: many, where it shows zeros */
    const struct ledger_version *shown = NULL, *loose = NULL; /* `loose`: neither answered, nor over when this was asked */
    unsigned loose_count = 0;
    uint64_t first = LEDGER_NEVER; /* the earliest of their beginnings */
    for (unsigned i = 0; i < b->count; i++) {
        const struct ledger_version *version = &b->versions[i];
        if ((id == 0 ? !version->zero : version->id != id) || version->dead <= begin || version->doubt <= begin)
            continue;
        shown = version;
        first = min_u64(first, version->begin);
        if (!version->answered && version->end > begin) {
            loose = version;
            loose_count++;
        }
    }
    if (shown == NULL)
        return id == 0                           ? "zeros that were overwritten"
               : find(ledger, block, id) == NULL ? "what is gone"
                                                 : "what was overwritten";
    if (begin <= ledger->lost_at)
        return NULL;
    /* If one of them may be taken back, then so may what this read says of the others: seed 73132. Of two that may, the answer of
     * one says nothing if it was the other. */
    if (loose_count == 0)
        bury(b, max_u64(begin, first), now, shown, id == 0);
    else if (loose_count == 1 && loose->writer >= ledger->over)
        doubt(b, max_u64(begin, first), now, loose);
    return NULL;
}

void ledger_flush(struct ledger *ledger, uint64_t begin, uint64_t oldest) {
    if (begin <= ledger->lost_at)
        return;
    for (unsigned block = 0; block < ledger->block_count; block++) {
        struct ledger_block *b = &ledger->blocks[block];
        unsigned kept = 0;
        for (unsigned i = 0; i < b->count; i++) {
            struct ledger_version *version = &b->versions[i];
            version->gone = version->gone || version->dead <= begin;
            if (!version->gone || version->dead >= oldest)
                b->versions[kept++] = *version;
        }
        b->count = kept;
        assert(kept > 0);
    }
}

void ledger_loss(struct ledger *ledger) {
    ledger->lost_at = ledger_now(ledger);
    for (unsigned block = 0; block < ledger->block_count; block++) {
        struct ledger_block *b = &ledger->blocks[block];
        for (unsigned i = 0; i < b->count; i++)
            if (!b->versions[i].gone)
                b->versions[i].dead = b->versions[i].doubt = LEDGER_NEVER;
    }
}

void ledger_writers_over(struct ledger *ledger, uint32_t before) {
    uint64_t now = ledger_now(ledger);
    ledger->over = max_u32(ledger->over, before);
    for (unsigned block = 0; block < ledger->block_count; block++) {
        struct ledger_block *b = &ledger->blocks[block];
        for (unsigned i = 0; i < b->count; i++) {
            const struct ledger_version *by =
                b->versions[i].doubt == LEDGER_NEVER ? NULL : find(ledger, block, b->versions[i].doubted_by);
            if (by != NULL && by->writer < before)
                b->versions[i].doubt = LEDGER_NEVER;
            if (b->versions[i].writer < before)
                b->versions[i].end = min_u64(b->versions[i].end, now);
        }
    }
}
