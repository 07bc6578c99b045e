/* What a mirror may show: for each block the versions that were written and from when on each of them can no longer be seen, by
 * the promises of docs/mirror.md. Requests may overlap in every way. Pure; time is a counter of its own, so that no two events
 * are simultaneous.
 *
 * A version is *dead* at the moment from which no read that begins later may show it: a write that began after it had ended was
 * answered, or a read that began after it had ended showed another one. It is *gone* when a flush that began later was answered:
 * not even a loss of everything brings it back. Where a read showed a write that was under way when it began, or zeros that may
 * be of such a one, it is only in doubt: it is back if the engine dies before that write is answered, or gives it back because no
 * leg is there. */
#pragma once

#include "base/bytes.h"

#define LEDGER_VERSIONS 2048
#define LEDGER_NEVER UINT64_MAX

struct ledger_version {
    uint32_t id;     /* 0 = as new */
    uint32_t writer; /* engine */
    bool zero;       /* what it shows are zeros */
    bool gone;
    uint64_t begin, end; /* of the write; end: it takes effect no later, LEDGER_NEVER = it still may */
    uint64_t dead;
    uint64_t doubt; /* as `dead`, while the write `doubted_by` is under way */
    uint32_t doubted_by;
    bool answered;
};

struct ledger_block {
    struct ledger_version versions[LEDGER_VERSIONS];
    unsigned count;
};

struct ledger {
    struct ledger_block *blocks;
    unsigned block_count;
    uint64_t clock;
    uint64_t lost_at; /* of the last loss of what was not flushed: answers to what began before say little */
    uint32_t last_id;
    uint32_t over; /* nothing of what writers before this one sent takes effect any more */
};

void ledger_init(struct ledger *ledger, unsigned block_count);
void ledger_fini(struct ledger *ledger);
static inline uint64_t ledger_now(struct ledger *ledger) { return ++ledger->clock; }

/* A write of a new version begins at `begin`; returns its id. */
uint32_t ledger_write_begin(struct ledger *ledger, unsigned block, uint32_t writer, bool zero, uint64_t begin);
/* Its answer. `maybe_later`: it was given back, as no leg was there: whether it still takes effect is open. */
void ledger_write_end(struct ledger *ledger, unsigned block, uint32_t id, bool ok, bool maybe_later);
/* A read that began at `begin` is answered with that version, or with zeros (id 0). NULL, or what is wrong with it. */
const char *ledger_read(struct ledger *ledger, unsigned block, uint32_t id, uint64_t begin);
/* A flush that began at `begin` was answered with success; no request that is under way began before `oldest`. */
void ledger_flush(struct ledger *ledger, uint64_t begin, uint64_t oldest);
/* Nobody has what was not flushed: each block is as it was flushed, or anything newer. */
void ledger_loss(struct ledger *ledger);
/* What the blocks are now, and later again: a snapshot and a revert, while no request is under way. The copy ends with
 * ledger_fini(). */
void ledger_copy(const struct ledger *ledger, struct ledger *ret_copy);
void ledger_revert(struct ledger *ledger, const struct ledger *copy);
/* What was in these blocks is gone for good, while no request is under way: they read as zeros. */
void ledger_cut(struct ledger *ledger, unsigned first);
/* Nothing of what writers before this one sent takes effect any more. */
void ledger_writers_over(struct ledger *ledger, uint32_t before);
