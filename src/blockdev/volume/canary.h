/* Planted faults, one at a time, that the crash checker must find: the tests compile the store once more with
 * -DVOLUME_CANARY_RUNTIME and choose by a variable; the product is compiled with none, and the compiler drops every hook. A hook
 * is `if (VOLUME_CANARY == VOLUME_CANARY_X)` and nothing else. The list is in docs/volume-store.md. */
#pragma once

enum volume_canary {
    VOLUME_CANARY_NONE,
    VOLUME_CANARY_BIT_BEFORE_FLUSH,         /* a commit's data flush is left out */
    VOLUME_CANARY_FLUSH_JOINS_LATE,         /* FLUSH joins the commit whose data flush was issued */
    VOLUME_CANARY_FUA_ON_PENDING,           /* FUA on a pending bit answers after the disk's own FUA */
    VOLUME_CANARY_FUA_ZERO_ON_PENDING,      /* trim and write-zeroes with FUA answer before the record */
    VOLUME_CANARY_SNAPSHOT_BEFORE_DATA,     /* batches close without draining the frozen layer */
    VOLUME_CANARY_SNAPSHOT_WITHOUT_PENDING, /* the record of a snapshot lacks the frozen layer's changes */
    VOLUME_CANARY_NEW_HEAD_FLUSH_EARLY,     /* FLUSH is answered while a snapshot drains */
    VOLUME_CANARY_REUSE_BEFORE_FREE,        /* clusters are given out before their free is durable */
    VOLUME_CANARY_REUSE_UNDER_READER,       /* … or while a request that resolved to them runs */
    VOLUME_CANARY_DISCARD_BEFORE_FREE,      /* the discard is sent at once */
    VOLUME_CANARY_STALE_RECORD,             /* replay takes any record with a valid checksum */
    VOLUME_CANARY_CHECKPOINT_AHEAD,         /* page images are written before their records are durable */
    VOLUME_CANARY_CHECKPOINT_NO_FLUSH,      /* no flush between pages and superblock */
    VOLUME_CANARY_JOURNAL_REUSED_EARLY,     /* ring space is free before the superblock is flushed */
    VOLUME_CANARY_PAGE_SAYS_TOO_MUCH,       /* a page names a later record than those it holds */
    VOLUME_CANARY_REPLAY_KEEPS_DROPPED,     /* replay leaves a dropped node's changes for the node that comes in its place */
    VOLUME_CANARY_FLUSH_RETRIED,            /* a failed flush is forgotten */
    VOLUME_CANARY_OPEN_WITHOUT_FLUSH,       /* opening believes the disk at once */
    VOLUME_CANARY_MERGE_OVER_OWN,           /* a merge takes blocks that the child has itself */
    VOLUME_CANARY_MERGE_FREES_EARLY,        /* a merge's frees do not wait */
    VOLUME_CANARY_SHRINK_KEEPS_LIMIT,       /* shrinking leaves the limit where it was */
    VOLUME_CANARY_RMW_RACES,                /* fills take no block lock */
    VOLUME_CANARY_NO_SPACE_HALF,            /* a write begins before it has space for all of its range */
    VOLUME_CANARY_CLONE_SHARES,             /* the first write to an inherited block goes to the parent's cluster */
    VOLUME_CANARY_DAMAGE_AS_TAIL,           /* a damaged record in the middle of the journal is taken for its end */
    VOLUME_CANARIES
};

#ifdef VOLUME_CANARY_RUNTIME
extern int volume_canary_planted; /* defined by the test */
#define VOLUME_CANARY volume_canary_planted
#else
#define VOLUME_CANARY VOLUME_CANARY_NONE
#endif

/* The same for a volume that is a leg, which the mirror's tests must find. */
enum replica_canary {
    REPLICA_CANARY_NONE,
    REPLICA_CANARY_FENCE_BY_NUMBER, /* whoever comes is let in, as long as somebody has the claim */
    REPLICA_CANARY_MARKS_RESET,     /* a new epoch begins without marks */
    REPLICA_CANARY_MARK_AFTER_DATA, /* a write does not wait for its mark */
    REPLICA_CANARY_REVERT_UNMARKED, /* what a revert changes has no mark */
    REPLICA_CANARY_FLUSH_AHEAD,     /* a flush does not wait for writes that were answered before their mark */
    REPLICA_CANARY_TRAIL_FORGOTTEN  /* what a killed process had not flushed is not written anew */
};
#ifdef REPLICA_CANARY_RUNTIME
extern int replica_canary_planted; /* defined by the test */
#define REPLICA_CANARY replica_canary_planted
#else
#define REPLICA_CANARY REPLICA_CANARY_NONE
#endif

/* Moments of a leg's documents and marks, before and after each durable step: tests that compile the store with
 * -DVOLUME_POINTS_RUNTIME are told, on the home reactor, and may end the process there. */
enum volume_point {
    VOLUME_POINT_CLAIM, /* what comes in is fenced, the promise is not written yet */
    VOLUME_POINT_CLAIM_DURABLE,
    VOLUME_POINT_STORE,
    VOLUME_POINT_STORE_DURABLE,
    VOLUME_POINT_MARK, /* before a write, and by MARK */
    VOLUME_POINT_MARK_DURABLE,
    VOLUME_POINT_CLEAR,
    VOLUME_POINT_CLEAR_DURABLE,
    VOLUME_POINT_TREE, /* a change of the tree that the mirror makes */
    VOLUME_POINT_TREE_DURABLE,
    VOLUME_POINTS
};
#ifdef VOLUME_POINTS_RUNTIME
struct volume;
void volume_point(struct volume *volume, enum volume_point point); /* defined by the test */
#define VOLUME_AT(volume, point) volume_point(volume, VOLUME_POINT_##point)
#else
#define VOLUME_AT(volume, point) ((void)0)
#endif
