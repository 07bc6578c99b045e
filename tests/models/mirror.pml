/* The mirror's records, claims, epochs and marks (docs/mirror.md) for spin: two engines with two terms, three replicas, two blocks.
 * What is decided over records is decided by the program's own decide.c, which this is linked with (decide_glue.h); the rest is
 * modelled after start.c, epoch.c, leg.c, io.c, resync.c and retire.c, step by step, with requests that are under way.
 *
 * Everything happens in any order: so a pause, the death of an engine and a slow leg need no step of their own. What costs one of
 * failures_max: a leg that an engine loses (what was sent to it may still be carried out, until its next claim), a leg that is not
 * reached by a start, a replica that crashes (-DPOWER: with all that it did not flush, a block at a time; -DUNPROVEN: or its disk
 * drops what was to be flushed, its process dies, and the next one is shown it all the same, until the power goes; there hosts flush).
 *
 * Checked: a read answers every acknowledged write; whole legs of one epoch differ nowhere but where one of them is marked; nothing
 * of a superseded engine or of an association that was given up lands; nothing diverges by itself; a leg that is back can store;
 * where every leg is there, a start waits for nobody.
 *
 * Left out: trees, full copies with a cursor, errors of the medium, time (a majority's reads: see FRESH), and more than one leg that
 * is being brought up at a time. A region is a block. `fault` plants one of the faults below, each of which must be found. */
#define REPLICAS 3
#ifndef BLOCKS
#define BLOCKS 2
#endif
#define IDS 10 /* epochs there is room for */

/* What is searched: from the environment, see the end of decide_glue.inc. The same all the time, so no part of the state. */
hidden byte engines, failures_max, writes_max, ids_max /* epochs drawn, the first and number 0 among them */, majority, equal_terms, fault;
#define WRONG_FENCE 1             /* no fence */
#define WRONG_NUMBER 2            /* fence by number only: an engine's older association is let in */
#define WRONG_RAISED 3            /* who becomes whole is a member only when it said so: losing it costs no other epoch */
#define WRONG_MEMBERS_ONLY 4      /* epochs are stored on members only, under majority too */
#define WRONG_STATUS_IS_CLAIM 5   /* reads stay fresh by answers of replicas that another engine has claimed */
#define WRONG_ATTEMPTS 7          /* attempts are no history */
#define WRONG_IN_FLIGHT 9         /* STORE does not mark what is under way */
#define WRONG_EPOCH_EARLY 10      /* an epoch counts when the first has stored it */
#define WRONG_TOO_DEEP 11         /* who is back has a void epoch that is as deep, and can store nothing */
#define WRONG_WHOLE_EARLY 12      /* whole before it is copied */
#define WRONG_BARRIER 13          /* the work list is read while writes sent without the leg are under way */
#define WRONG_UNEQUAL 14          /* what is unequal when a leg joins is not on its work list */
#define WRONG_OWN_MARKS 15        /* nor what it has marked itself */
#define WRONG_SENT_IN_CHANGE 16   /* writes are sent during a change */
#define WRONG_ACK_IN_CHANGE 17    /* and acknowledged before it is complete */
#define WRONG_CLEAR 18            /* marks are cleared while a leg is away */
#define WRONG_MARK_AFTER_DATA 19
#define WRONG_NOT_EQUALISED 20    /* a start makes nothing equal */
#define WRONG_INCARNATION 21      /* a replica's crash is not noticed */
#define WRONG_VAIN 22             /* it is told of every epoch that it came to nothing */
#define WRONG_UNPROVEN 23         /* what a leg shows that was opened anew is compared, and not written to it */
#define IF(x) (fault == WRONG_##x)

#define ALL 7
#define NOBODY 3
#define BIT(n) (1 << (n))
#define LOWEST(m) (((m) & 1) -> 0 : (((m) & 2) -> 1 : 2))
#define COUNT(m) (((m) & 1) + (((m) >> 1) & 1) + (((m) >> 2) & 1))

c_decl {
\#include "decide_glue.h"
}

/* An epoch: what all records of it say, which never changes. same: members that were not opened anew since. vain: the parent came
 * to nothing. before: members of the newest one before it that did not. */
typedef epoch { unsigned members : 3; unsigned parent : 4; unsigned depth : 4; unsigned settled : 1; unsigned same : 3;
                unsigned vain : 1; unsigned before : 3;
                unsigned last0 : 4; unsigned last1 : 4; unsigned last2 : 4 };
epoch ep[IDS];
byte ids = 2;

/* promised: 1 + the engine of the highest claim. held: that claim stands. */
typedef replica { unsigned promised : 2; unsigned held : 1; unsigned id : 4; unsigned whole : 1; unsigned base : 4;
                  byte data[BLOCKS]; byte mark[BLOCKS];
#ifdef POWER
                  byte disk[BLOCKS];
#endif
#ifdef UNPROVEN
                  unsigned gone : 2; unsigned unproven : 1; /* shown, and no flush brings it to the disk; it says that it may be so */
#endif
};
replica r[REPLICAS];

/* A leg as an engine has it: what is under way to it (store: an epoch's record with marks; w: a block's value + 1; f: a flush), the
 * record it had when it was claimed, and its base. */
typedef leg { unsigned store : 4; unsigned marks : 2; unsigned f : 1; unsigned id : 4; unsigned whole : 1; unsigned was : 4;
              unsigned base : 4; byte w[BLOCKS];
              byte old[BLOCKS]; /* WRONG_NUMBER: writes of an association that was given up */
};
typedef write { unsigned value : 2; unsigned sent : 3; unsigned good : 3 };

#define OFF 0
#define CLAIMS 1
#define RUNS 2
#define OVER 3
/* The names are those of struct mirror; sm = start_members, sync = phase of the leg `joiner`: 1 adopted, 2 takes writes, 3 is
 * copied, 4 flushed. inc, minc: legs not opened anew since their claim; members since the epoch was complete. */
typedef machine {
    unsigned phase : 2; unsigned starting : 1; unsigned known : 1; unsigned attempt : 1; unsigned settled : 1;
    unsigned up : 3; unsigned members : 3; unsigned standing : 3; unsigned named : 3; unsigned chain : 3; unsigned stored : 3;
    unsigned awaited : 3; unsigned unsent : 3; unsigned fell : 3; unsigned raise : 3; unsigned sm : 3; unsigned recorded : 3;
    unsigned inc : 3; unsigned minc : 3; unsigned together : 1; unsigned deeper : 1;
    unsigned id : 4; unsigned comp : 4; unsigned deepest : 4;
    unsigned joiner : 2; unsigned sync : 3; unsigned work : 2; unsigned from : 4; unsigned before : 2 /* the joiner */;
    unsigned unequal : 2; unsigned copy : 2; unsigned equalise : 1; unsigned source : 2; unsigned clear : 2; unsigned clears : 3;
    leg l[REPLICAS];
    write wr[BLOCKS];
#ifdef POWER
    unsigned fsent : 3; unsigned fgood : 3; unsigned f0 : 2; unsigned f1 : 2; unsigned since : 1;
#endif
};
machine m[2];

byte written[BLOCKS], acked[BLOCKS], writes, failures;
#ifdef POWER
byte flushed[BLOCKS]; /* survive whatever happens */
byte keep[BLOCKS];    /* who still has what was acknowledged, and never went without power since */
#endif
byte x, y, z, t;
byte outcome; /* of what the glue was asked */

c_code {
\#include "decide_glue.inc"
}

#define e m[me]
#define HELD(i) (r[i].promised == me + 1 && r[i].held)
#define HIGHER(i) (r[i].promised == 1 && me == 1 && !equal_terms)
#define MAY_CLAIM(i) (r[i].promised == me + 1 || HIGHER(i))
#define ACCEPTS(i) (HELD(i) || IF(FENCE))

#define SERVING (e.phase == RUNS && e.known && e.standing != 0)
#define CHANGING (e.attempt || e.starting || (e.named & ~e.standing) != 0 || e.raise != 0)
#define WRITERS (e.standing | (e.sync >= 2 -> BIT(e.joiner) : 0))
#define UNRAISED (IF(RAISED) -> (e.raise & e.fell) : 0)
#define BROKEN (e.deeper || (((ep[e.id].members | (e.together -> e.awaited : 0)) & (e.fell | ~e.up)) & ALL & ~UNRAISED) != 0)
#define PENDING(b) ((e.up & e.wr[b].sent & 1) && e.l[0].w[b] || (e.up & e.wr[b].sent & 2) && e.l[1].w[b] || \
                    (e.up & e.wr[b].sent & 4) && e.l[2].w[b])
#define EXCLUDED(b) (e.copy == b + 1 || (e.clear == b + 1 && (e.clears & e.up)))
#define IN_FLIGHT ((e.wr[0].value != 0) | ((BLOCKS > 1 && e.wr[BLOCKS - 1].value != 0) << 1))
#define IDLE_ON(i) (!(e.l[i].w[0] && e.wr[0].value) && !(BLOCKS > 1 && e.l[i].w[BLOCKS - 1] && e.wr[BLOCKS - 1].value))
#define HAS_ALL (e.members & e.up & e.minc & ~(e.sync -> BIT(e.joiner) : 0))
#define WANTED (e.starting || (e.members != 0 && (e.named & ~e.standing) != 0) || \
                (SERVING && (e.deeper || e.raise != 0 || (!e.settled && e.unequal == 0))))
#define TOGETHER (HAS_ALL != 0 && (e.named & ~e.up) == 0 && !(e.sync && (e.named & BIT(e.joiner))))
#define FOUNDED (e.starting -> (e.sm & e.up) != 0 : (e.standing != 0 || (e.chain & HAS_ALL) != 0 || TOGETHER))
/* A change comes before everything that takes a round trip. */
#define CHANGE_DUE (e.phase == RUNS && (e.attempt -> BROKEN : (WANTED && (e.raise == 0 || IDLE_ON(LOWEST(e.raise))))) && FOUNDED)
#define ENOUGH (!majority || COUNT(e.stored) >= 2 || IF(MEMBERS_ONLY))
/* Under majority reads are answered while a majority of records answered something sent at most L ago, and a start that leaves
 * somebody out waits for L after its claims: so, untimed, until another engine goes on from its claims or a majority is still claimed. */
#define CLAIMED_BY_ME ((e.up & 1 && HELD(0)) | ((e.up & 2 && HELD(1)) << 1) | ((e.up & 4 && HELD(2)) << 2))
#define FRESH (!majority || m[1 - me].phase < RUNS || COUNT(CLAIMED_BY_ME) >= 2 || IF(STATUS_IS_CLAIM))

/* ---- replicas ---- */

/* Whole legs of one epoch differ only where one is marked. */
#define SAME(i, j, b) (r[i].data[b] == r[j].data[b] || r[i].mark[b] || r[j].mark[b])
#define ALIKE(i, j) (r[i].id != r[j].id || !r[i].whole || !r[j].whole || (SAME(i, j, 0) && SAME(i, j, BLOCKS - 1)))
byte legs_alike;
inline check_legs() { legs_alike = ALIKE(0, 1) && ALIKE(0, 2) && ALIKE(1, 2); assert(legs_alike) }

inline nothing_to(n, i) {
    m[n].l[i].store = 0; m[n].l[i].marks = 0; m[n].l[i].f = 0;
    m[n].clears = m[n].clears & ~BIT(i);
    if :: m[n].clears == 0 -> m[n].clear = 0 :: else fi;
    m[n].l[i].w[0] = 0; m[n].l[i].w[BLOCKS - 1] = 0
}

/* ---- an engine's state ---- */

inline lose(i) {
    e.up = e.up & ~BIT(i); e.standing = e.standing & ~BIT(i); e.sm = e.sm & ~BIT(i); e.recorded = e.recorded & ~BIT(i);
    e.unsent = e.unsent & ~BIT(i);
    if :: e.attempt -> e.fell = e.fell | BIT(i) :: else fi;
    if :: e.joiner == i -> e.joiner = NOBODY; e.sync = 0; e.work = 0; e.from = 0; e.before = 0 :: else fi;
    if :: e.copy != 0 && e.source == i -> e.source = NOBODY :: else fi;
    if :: e.sync == 0 && e.copy != 0 && !e.equalise -> e.copy = 0; e.source = 0 :: else fi;
    if :: !HELD(i) -> nothing_to(me, i) :: else fi
}

/* FENCED: nothing is sent any more; what was sent may still be carried out. */
inline over() {
    e.phase = OVER;
    e.starting = 0; e.known = 0; e.attempt = 0; e.settled = 0; e.up = 0; e.members = 0; e.standing = 0; e.named = 0; e.chain = 0;
    e.stored = 0; e.awaited = 0; e.unsent = 0; e.fell = 0; e.raise = 0; e.sm = 0; e.recorded = 0; e.inc = 0; e.minc = 0;
    e.together = 0; e.deeper = 0; e.id = 0; e.comp = 0; e.deepest = 0; e.joiner = NOBODY; e.sync = 0; e.work = 0; e.from = 0; e.before = 0; e.unequal = 0;
    e.copy = 0; e.equalise = 0; e.source = 0;
    for (x : 0 .. REPLICAS - 1) {
        e.l[x].id = 0; e.l[x].whole = 0; e.l[x].was = 0;
        if :: !HELD(x) -> nothing_to(me, x); e.l[x].base = 0 :: else fi
    }
    for (x : 0 .. BLOCKS - 1) { e.wr[x].value = 0; e.wr[x].sent = 0; e.wr[x].good = 0 }
#ifdef POWER
    e.fsent = 0; e.fgood = 0; e.f0 = 0; e.f1 = 0; e.since = 0;
#endif
    x = 0
}

/* A request was refused: FENCED ends the engine, NOT_READY costs the leg. */
inline refused(i) {
    nothing_to(me, i);
    if
    :: e.up & BIT(i) -> if :: r[i].promised != me + 1 -> over() :: else -> lose(i) fi
    :: else
    fi
}

inline claim(i) {
    r[i].promised = me + 1; r[i].held = 1;
    if :: IF(NUMBER) -> e.l[i].old[0] = e.l[i].w[0]; e.l[i].old[BLOCKS - 1] = e.l[i].w[BLOCKS - 1] :: else fi;
    nothing_to(me, i);
    if :: (m[1 - me].up & BIT(i)) == 0 -> nothing_to(1 - me, i) :: else fi;
    e.l[i].id = r[i].id; e.l[i].whole = r[i].whole; e.l[i].was = r[i].base; e.l[i].base = 0;
    e.inc = e.inc | BIT(i); e.up = e.up | BIT(i); e.recorded = e.recorded & ~BIT(i)
}

inline look_again() {
    e.phase = CLAIMS; e.known = 0; e.starting = 0; e.attempt = 0; e.sm = 0; e.named = 0; e.standing = 0; e.members = 0; e.chain = 0;
    e.stored = 0; e.awaited = 0; e.unsent = 0; e.fell = 0; e.raise = 0; e.together = 0; e.deeper = 0; e.joiner = NOBODY; e.sync = 0; e.work = 0;
    e.from = 0; e.before = 0; e.copy = 0; e.equalise = 0; e.source = 0; e.unequal = 0; e.minc = 0; e.id = 0; e.comp = 0; e.settled = 0;
    for (x : 0 .. BLOCKS - 1) { e.wr[x].value = 0; e.wr[x].sent = 0; e.wr[x].good = 0 }
    x = 0
}

/* attempt() of epoch.c */
inline draw() {
    /* x = foundation, y = members, z = regions are equal */
    e.together = 0;
    if
    :: e.starting -> x = e.sm & e.up
    :: !e.starting && e.standing != 0 -> x = e.standing
    :: else ->
        if
        :: (e.chain & HAS_ALL) != 0 -> x = BIT(LOWEST(e.chain & HAS_ALL))
        :: else -> x = BIT(LOWEST(HAS_ALL)); e.together = 1
        fi
    fi;
    if :: (e.raise & e.up) == 0 || e.standing == 0 -> e.raise = 0 :: else fi;
    y = x | e.raise;
    z = (e.unequal == 0 && e.known);
    ep[ids].members = y;
    ep[ids].parent = (IF(ATTEMPTS) -> e.comp : e.id);
    if :: e.deepest < ep[e.id].depth -> e.deepest = ep[e.id].depth :: else fi;
    e.deepest = e.deepest + 1; e.deeper = 0;
    ep[ids].depth = e.deepest;
    ep[ids].vain = (e.id != e.comp || IF(VAIN));
    ep[ids].before = e.members;
    ep[ids].settled = (!e.starting && z && (e.settled || SERVING));
    ep[ids].same = e.inc & y;
    t = ((e.settled && (z || e.starting)) -> e.comp : 0);
    ep[ids].last0 = ((y & 1) -> 0 : ((e.members & 1) -> t : ep[e.comp].last0));
    ep[ids].last1 = ((y & 2) -> 0 : ((e.members & 2) -> t : ep[e.comp].last1));
    ep[ids].last2 = ((y & 4) -> 0 : ((e.members & 4) -> t : ep[e.comp].last2));
    e.id = ids; ids++;
    e.named = e.named | y; e.chain = e.chain & y; e.stored = 0; e.fell = 0; e.attempt = 1;
    e.awaited = e.up & (y | e.recorded | (e.starting -> ALL : 0));
    if
    :: e.together ->
        for (t : 0 .. REPLICAS - 1) { if :: e.named & ~y & BIT(t) -> e.l[t].base = e.comp :: else fi };
        e.awaited = e.awaited | (e.named & ~y)
    :: else
    fi;
    e.awaited = e.awaited & ~e.raise;
    if :: IF(MEMBERS_ONLY) -> e.awaited = e.awaited & y :: else fi;
    e.unsent = e.awaited;
    x = 0; y = 0; z = 0; t = 0
}

inline send_store(i, with) {
    e.l[i].store = e.id; e.unsent = e.unsent & ~BIT(i);
    e.l[i].marks = ((with && !IF(IN_FLIGHT)) -> IN_FLIGHT : 0)
}

inline complete() {
    e.comp = e.id; e.members = ep[e.id].members & ~UNRAISED; e.named = e.members; e.chain = e.members; e.standing = e.members & e.up;
    e.settled = ep[e.id].settled; e.raise = 0; e.minc = e.inc & e.members; e.attempt = 0; e.starting = 0; e.fell = 0; e.sm = 0;
    e.awaited = 0; e.together = 0;
    assert(e.standing == e.members || IF(EPOCH_EARLY));
    if :: !IF(EPOCH_EARLY) -> e.unsent = 0 :: else fi;
    if :: e.joiner != NOBODY && (e.members & BIT(e.joiner)) -> e.joiner = NOBODY; e.sync = 0; e.work = 0; e.from = 0; e.before = 0 :: else fi;
    for (x : 0 .. REPLICAS - 1) {
        if :: e.members & BIT(x) -> e.l[x].base = 0; e.l[x].id = 0; e.l[x].whole = 0; e.l[x].was = 0 :: else fi
    };
    x = 0;
#ifdef POWER
    keep[0] = keep[0] & e.members; keep[BLOCKS - 1] = keep[BLOCKS - 1] & e.members;
    if :: e.known -> keep[0] = e.members & e.minc; keep[BLOCKS - 1] = e.members & e.minc :: else fi;
    for (x : 0 .. BLOCKS - 1) { if :: keep[x] == 0 -> acked[x] = flushed[x] :: else fi };
    x = 0
#endif
}

/* What is copied to a leg: nothing where it shows the same, unless that may be gone with the power. */
#ifdef UNPROVEN
#define FLUSHES(i, b) r[i].disk[b] = ((r[i].gone >> (b)) & 1 -> r[i].disk[b] : r[i].data[b])
#define WRITTEN(i, b) r[i].gone = r[i].gone & ~BIT(b)
#define DOUBTED(i) (r[i].unproven && !IF(UNPROVEN))
#define COPY(i, b, from) e.l[i].w[b] = ((r[i].data[b] != r[from].data[b] || DOUBTED(i)) -> r[from].data[b] + 1 : 0)
#define PROVEN(i) if :: r[i].whole && ep[r[i].id].settled -> r[i].unproven = 0 :: else fi;
#else
#define FLUSHES(i, b) r[i].disk[b] = r[i].data[b]
#define WRITTEN(i, b) skip
#define DOUBTED(i) 0
#define COPY(i, b, from) e.l[i].w[b] = r[from].data[b] + 1
#define PROVEN(i)
#endif

/* A leg's steps. `i` and `b` are constants. */
/* What may happen at any time. */
#define LEG_STEPS(i) \
    :: d_step { e.phase == CLAIMS && (e.up & ~(BIT(i) - 1)) == 0 -> if :: MAY_CLAIM(i) -> claim(i) :: else -> over() fi } \
    :: d_step { (e.up & BIT(i)) && !HELD(i) && e.phase != CLAIMS -> refused(i) } /* it asks something */ \
    :: d_step { (e.up & BIT(i)) && failures < failures_max && e.phase == RUNS -> failures++; lose(i) } \
    :: d_step { e.phase == RUNS && e.known && (e.up & BIT(i)) == 0 && !CHANGE_DUE -> if :: MAY_CLAIM(i) -> claim(i) :: else -> over() fi } \
    :: d_step { e.l[i].store != 0 && (ACCEPTS(i) || (e.up & BIT(i)) == 0) -> \
        if \
        :: ACCEPTS(i) -> \
            assert(HELD(i)); \
            assert(ep[e.l[i].store].depth > ep[r[i].id].depth || e.l[i].store == r[i].id); \
            r[i].id = e.l[i].store; r[i].whole = (ep[r[i].id].members >> i) & 1; \
            r[i].base = (r[i].whole -> 0 : e.l[i].base); PROVEN(i) \
            if :: e.l[i].marks & 1 -> r[i].mark[0] = ep[r[i].id].depth :: else fi; \
            if :: e.l[i].marks & 2 -> r[i].mark[BLOCKS - 1] = ep[r[i].id].depth :: else fi; \
            if \
            :: e.up & BIT(i) -> \
                e.recorded = e.recorded | BIT(i); \
                if :: e.l[i].store == e.id -> e.stored = e.stored | BIT(i) :: else fi \
            :: else \
            fi; \
            e.l[i].store = 0; e.l[i].marks = 0; check_legs() \
        :: else -> e.l[i].store = 0; e.l[i].marks = 0 \
        fi } \
    :: d_step { (e.clears & BIT(i)) && ACCEPTS(i) -> \
        e.clears = e.clears & ~BIT(i); r[i].mark[e.clear - 1] = 0; if :: e.clears == 0 -> e.clear = 0 :: else fi; check_legs() }

/* What an engine does at once: a round trip takes longer. */
#define LEG_REACTIONS(i) \
    :: d_step { (e.unsent & BIT(i)) && e.l[i].store == 0 -> send_store(i, 1) } \
    :: d_step { e.joiner == NOBODY && (e.up & BIT(i)) && (e.members & e.standing & BIT(i)) == 0 && ADOPTS(i) && !CHANGE_DUE && TOO_DEEP(i) -> \
        if :: e.deepest < ep[e.l[i].id].depth -> e.deepest = ep[e.l[i].id].depth :: else fi; e.deeper = 1 } \
    :: d_step { e.joiner == NOBODY && (e.up & BIT(i)) && (e.members & e.standing & BIT(i)) == 0 && ADOPTS(i) && !CHANGE_DUE && !TOO_DEEP(i) -> \
        c_code { glue_judge(((P0 *)_this)->me, i); }; assert(outcome != 0); \
        e.joiner = i; e.sync = 1; e.work = (outcome == 2 -> ALL & ((1 << BLOCKS) - 1) : 0); outcome = 0 } \
    :: d_step { e.joiner == i && e.sync == 1 && !(e.stored & BIT(i)) && e.l[i].store == 0 && (e.unsent & BIT(i)) == 0 -> send_store(i, 0) } \
    :: d_step { e.joiner == i && e.sync == 1 && (e.stored & BIT(i)) && !CHANGING && SERVING && HELD(i) -> OWN_MARKS(i); e.sync = 2; e.before = IN_FLIGHT } \
    :: d_step { e.joiner == i && e.sync == 2 && BARRIER && SERVING && HELD(i) && SOURCE_HELD -> \
        x = LOWEST(e.standing); UNEQUAL_TOO \
        for (y : 0 .. BLOCKS - 1) { \
            if :: r[x].mark[y] && r[x].mark[y] >= e.from -> e.work = e.work | BIT(y) :: else fi; \
            if :: r[x].mark[y] -> r[i].mark[y] = ep[r[i].id].depth :: else fi \
        }; \
        x = 0; y = 0; e.sync = 3 } \
    :: d_step { e.joiner == i && e.sync == 3 && COPIED && HELD(i) -> FLUSH_ALL(i) e.sync = 4 } \
    :: d_step { e.joiner == i && e.sync == 4 && SERVING && !CHANGING -> e.raise = BIT(i) } \
    :: d_step { e.attempt && e.raise == BIT(i) && (e.awaited & e.up & ~e.stored) == 0 && e.awaited != e.raise && !BROKEN && e.l[i].store == 0 -> \
        e.awaited = e.raise; e.together = 0; send_store(i, 1) }

#define TOO_DEEP(i) (!IF(TOO_DEEP) && ep[e.l[i].id].depth >= ep[e.id].depth && e.l[i].id != e.id)
#define SOURCE_HELD ((e.standing & 1) -> HELD(0) : ((e.standing & 2) -> HELD(1) : HELD(2)))
#define ADOPTS(i) (SERVING || (majority && e.phase == RUNS && e.known && e.attempt && (ep[e.id].members & BIT(i)) == 0))
#define COPIED ((e.work == 0 && e.copy == 0) || IF(WHOLE_EARLY))
#define BARRIER (e.before == 0 || IF(BARRIER))
/* A copy to those who were there before may be under way. */
#define UNEQUAL_TOO e.work = e.work | (IF(UNEQUAL) -> 0 : e.unequal);
#define OWN_MARKS(i) e.work = e.work | (IF(OWN_MARKS) -> 0 : ((r[i].mark[0] != 0) | ((BLOCKS > 1 && r[i].mark[BLOCKS - 1] != 0) << 1)))
#ifdef POWER
#define FLUSH_ALL(i) FLUSHES(i, 0); FLUSHES(i, BLOCKS - 1);
#else
#define FLUSH_ALL(i)
#endif

inline send_write(b) {
    e.wr[b].sent = WRITERS; e.wr[b].good = 0; e.before = e.before & ~BIT(b);
    for (x : 0 .. REPLICAS - 1) { if :: e.wr[b].sent & BIT(x) -> e.l[x].w[b] = e.wr[b].value + 1 :: else fi };
    x = 0
}

inline acknowledge(b) {
    if :: acked[b] < e.wr[b].value -> acked[b] = e.wr[b].value :: else fi;
#ifdef POWER
    keep[b] = e.members & e.minc;
    e.since = 1;
    if :: keep[b] == 0 -> acked[b] = flushed[b] :: else fi;
#endif
    e.wr[b].value = 0; e.wr[b].sent = 0; e.wr[b].good = 0; e.before = e.before & ~BIT(b)
}

#define WRITERS_HELD ((WRITERS & ~CLAIMED_BY_ME) == 0)
#define MAY_SEND (!CHANGING || IF(SENT_IN_CHANGE))
#define MAY_ACK(b) ((!CHANGING && (e.members & ~e.wr[b].good) == 0) || (IF(ACK_IN_CHANGE) && (e.standing & ~e.wr[b].good) == 0))
#define MAY_CLEAR (e.settled && !CHANGING && e.unequal == 0 && (e.standing == ALL || IF(CLEAR)))

#define BLOCK_STEPS(b) \
    :: d_step { SERVING && MAY_SEND && writes < writes_max && written[b] < 3 && e.wr[b].value == 0 && (e.unequal & BIT(b)) == 0 && \
                !EXCLUDED(b) && !CHANGE_DUE -> \
        writes++; written[b]++; e.wr[b].value = written[b]; send_write(b) } \
    :: d_step { SERVING && MAY_CLEAR && e.wr[b].value == 0 && !EXCLUDED(b) && e.clears == 0 && \
                (r[0].mark[b] || r[1].mark[b] || r[2].mark[b]) && (!(e.standing & 1) || HELD(0)) && (!(e.standing & 2) || HELD(1)) && \
                (!(e.standing & 4) || HELD(2)) -> \
        e.clear = b + 1; e.clears = e.standing; CLEAR_FLUSH(b) } \
    :: d_step { SERVING && (e.unequal & BIT(b)) && e.copy == 0 && !EXCLUDED(b) && SOURCE_HELD && !CHANGE_DUE -> \
        e.copy = b + 1; e.equalise = 1; e.source = LOWEST(e.standing); \
        for (x : 0 .. REPLICAS - 1) { \
            if :: WRITERS & BIT(x) && (x != e.source || DOUBTED(x)) -> COPY(x, b, e.source) :: else fi \
        }; \
        x = 0 } \
    :: d_step { SERVING && e.sync == 3 && (e.work & BIT(b)) && (e.unequal & BIT(b)) == 0 && e.wr[b].value == 0 && e.copy == 0 && \
                !EXCLUDED(b) && SOURCE_HELD && !CHANGE_DUE -> \
        e.copy = b + 1; e.source = LOWEST(e.standing); COPY(e.joiner, b, e.source) }

#define BLOCK_REACTIONS(b) \
    :: d_step { e.wr[b].value != 0 && !PENDING(b) && \
                (e.wr[b].good == e.wr[b].sent || (SERVING && MAY_ACK(b))) -> acknowledge(b) } \
    :: d_step { e.wr[b].value != 0 && !PENDING(b) && e.wr[b].good != e.wr[b].sent && SERVING && !CHANGING && \
                (e.members & ~e.wr[b].good) != 0 -> send_write(b) } \
    :: d_step { e.copy == b + 1 && !((e.up & 1) && e.l[0].w[b]) && !((e.up & 2) && e.l[1].w[b]) && !((e.up & 4) && e.l[2].w[b]) -> \
        if \
        :: e.source != NOBODY && e.equalise -> e.unequal = e.unequal & ~BIT(b) \
        :: e.source != NOBODY && !e.equalise -> e.work = e.work & ~BIT(b) \
        :: else \
        fi; \
        e.copy = 0; e.equalise = 0; e.source = 0 }

#ifdef POWER
#define CLEAR_FLUSH(b) FLUSHES(0, b); FLUSHES(1, b); FLUSHES(2, b)
#else
#define CLEAR_FLUSH(b) skip
#endif
#define MARK(i, b) \
    if \
    :: IF(MARK_AFTER_DATA) && failures < failures_max && r[i].mark[b] == 0 -> failures++; r[i].held = 0 /* it crashes between */ \
    :: else -> if :: r[i].mark[b] < ep[r[i].id].depth -> r[i].mark[b] = ep[r[i].id].depth :: else fi \
    fi
#define OLD_STEP(i, b) \
    :: d_step { e.l[i].old[b] != 0 && HELD(i) -> r[i].data[b] = e.l[i].old[b] - 1; MARK(i, b); e.l[i].old[b] = 0; check_legs() }
#define LEG_BLOCK_STEPS(i, b) OLD_STEP(i, b) \
    :: d_step { e.l[i].w[b] != 0 && (ACCEPTS(i) || (e.up & BIT(i)) == 0) -> \
        if \
        :: ACCEPTS(i) -> \
            assert(HELD(i)); \
            r[i].data[b] = e.l[i].w[b] - 1; WRITTEN(i, b); MARK(i, b); \
            if :: (e.up & BIT(i)) && e.wr[b].value != 0 -> e.wr[b].good = e.wr[b].good | BIT(i) :: else fi; \
            check_legs() \
        :: else \
        fi; \
        e.l[i].w[b] = 0 } \
    :: d_step { SERVING && (e.standing & BIT(i)) && HELD(i) && (e.unequal & BIT(b)) == 0 && e.wr[b].value == 0 && e.copy != b + 1 && \
                r[i].data[b] != acked[b] && FRESH -> \
        assert(r[i].data[b] > acked[b]); acked[b] = r[i].data[b]; READ_KEEP(b) }
#ifdef POWER
#define READ_KEEP(b) keep[b] = e.members & e.minc; e.since = 1
#else
#define READ_KEEP(b) skip
#endif

proctype engine(byte me) {
end:
    do
    :: atomic {
    if
    LEG_STEPS(0)
    LEG_STEPS(1)
    LEG_STEPS(2)
    BLOCK_STEPS(0)
    LEG_BLOCK_STEPS(0, 0)
    LEG_BLOCK_STEPS(1, 0)
    LEG_BLOCK_STEPS(2, 0)
#if BLOCKS > 1
    BLOCK_STEPS(1)
    LEG_BLOCK_STEPS(0, 1)
    LEG_BLOCK_STEPS(1, 1)
    LEG_BLOCK_STEPS(2, 1)
#endif
#ifdef UNPROVEN
    :: d_step { SERVING && !CHANGING && e.wr[0].value == 0 && e.wr[BLOCKS - 1].value == 0 && e.copy == 0 && WRITERS_HELD &&
                (acked[0] != flushed[0] || acked[BLOCKS - 1] != flushed[BLOCKS - 1]) ->
        for (x : 0 .. REPLICAS - 1) { if :: WRITERS & BIT(x) -> FLUSHES(x, 0); FLUSHES(x, BLOCKS - 1) :: else fi };
        for (x : 0 .. BLOCKS - 1) { flushed[x] = acked[x] };
        x = 0 }
#endif
    /* starting: over the records as they were when they were claimed; who was not reached costs a failure */
    :: d_step { e.phase == CLAIMS && failures + REPLICAS - COUNT(e.up) <= failures_max && e.up != 0 ->
        c_code { glue_decide(((P0 *)_this)->me); };
        assert(outcome != 0); /* diverged */
        assert(outcome == 2 || e.up != ALL); /* nobody is missing, and it would wait for ever */
        if :: outcome == 2 -> failures = failures + REPLICAS - COUNT(e.up); e.phase = RUNS; e.starting = 1 :: else fi;
        outcome = 0 }
    :: d_step { e.phase == RUNS && !e.starting && !e.attempt && !e.known && e.standing == e.members &&
                (!(e.standing & 1) || HELD(0)) && (!(e.standing & 2) || HELD(1)) && (!(e.standing & 4) || HELD(2)) ->
        if
        :: (COUNT(e.members) > 1 || DOUBTED(LOWEST(e.members))) && !IF(NOT_EQUALISED) ->
            for (x : 0 .. REPLICAS - 1) {
                if
                :: e.standing & BIT(x) ->
                    e.unequal = e.unequal | (r[x].mark[0] != 0) | ((BLOCKS > 1 && r[x].mark[BLOCKS - 1] != 0) << 1)
                :: else
                fi
            };
            x = 0
        :: else
        fi;
        e.known = 1 }
    fi;
    do
    LEG_REACTIONS(0)
    LEG_REACTIONS(1)
    LEG_REACTIONS(2)
    BLOCK_REACTIONS(0)
#if BLOCKS > 1
    BLOCK_REACTIONS(1)
#endif
    :: d_step { CHANGE_DUE && ids < ids_max -> draw() }
    :: d_step { e.attempt && !BROKEN && ENOUGH &&
                (((e.awaited & e.up & ~e.stored) == 0 && (e.raise == 0 || (e.raise & (e.stored | UNRAISED)))) ||
                 (IF(EPOCH_EARLY) && e.stored != 0))
                -> complete() }
    :: d_step { e.phase == RUNS && e.starting && !e.attempt && (e.sm & e.up) == 0 -> look_again() }
    :: d_step { e.phase == RUNS && e.starting && e.attempt && (e.sm & e.up) == 0 -> look_again() }
    :: d_step { e.phase == RUNS && !e.starting && !e.attempt && !e.known && e.standing == 0 -> look_again() }
    :: else -> break
    od }
    od
}

/* Replicas crash and are back: their claims are gone, and who was there before has no way to them any more. */
#ifdef POWER
#ifdef UNPROVEN
#define GONE(i, b) (r[i].gone >> (b) & 1)
#define OPENED_ANEW(i) r[i].gone = 0; r[i].unproven = 1;
#else
#define GONE(i, b) 0
#define OPENED_ANEW(i)
#endif
#define LOSES(i, b) if :: r[i].disk[b] != r[i].data[b] -> if :: r[i].data[b] = r[i].disk[b] :: !GONE(i, b) -> skip fi :: else fi; \
    r[i].disk[b] = r[i].data[b]; keep[b] = keep[b] & ~BIT(i); if :: keep[b] == 0 -> acked[b] = flushed[b] :: else fi;
#else
#define LOSES(i, b)
#endif
#define ANEW(i) \
    if \
    :: !IF(INCARNATION) -> \
        m[0].inc = m[0].inc & ~BIT(i); m[1].inc = m[1].inc & ~BIT(i); m[0].minc = m[0].minc & ~BIT(i); m[1].minc = m[1].minc & ~BIT(i); \
        x = 0; \
        do :: x < IDS -> ep[x].same = ep[x].same & ~BIT(i); x++ :: else -> break od; \
        x = 0 \
    :: else \
    fi
/* Its disk fails a flush and drops what it had in its cache, and its process dies: the next one is shown it all the same. */
#ifdef UNPROVEN
#define DROPS(i, b) if :: r[i].disk[b] != r[i].data[b] -> if :: r[i].gone = r[i].gone | BIT(b) :: skip fi :: else fi; \
    keep[b] = keep[b] & ~BIT(i); if :: keep[b] == 0 -> acked[b] = flushed[b] :: else fi;
#define DIES(i) \
    :: atomic { failures < failures_max && (r[i].disk[0] != r[i].data[0] || r[i].disk[BLOCKS - 1] != r[i].data[BLOCKS - 1]) -> \
        failures++; r[i].held = 0; DROPS(i, 0) DROPS(i, BLOCKS - 1) r[i].unproven = 1; ANEW(i); \
        if :: (m[0].up & BIT(i)) == 0 -> nothing_to(0, i) :: else fi; \
        if :: (m[1].up & BIT(i)) == 0 -> nothing_to(1, i) :: else fi }
#else
#define DIES(i)
#endif
#ifndef POWER
#define OPENED_ANEW(i)
#endif
#define CRASH(i) DIES(i) \
    :: atomic { failures < failures_max -> failures++; r[i].held = 0; LOSES(i, 0) LOSES(i, BLOCKS - 1) OPENED_ANEW(i) ANEW(i); \
        if :: (m[0].up & BIT(i)) == 0 -> nothing_to(0, i) :: else fi; \
        if :: (m[1].up & BIT(i)) == 0 -> nothing_to(1, i) :: else fi }
proctype world() {
end:
    do
    CRASH(0)
    CRASH(1)
    CRASH(2)
    od
}

init {
    atomic {
        c_code { glue_options(); };
        ep[1].members = ALL; ep[1].depth = 1; ep[1].settled = 1; ep[1].same = ALL;
        for (x : 0 .. REPLICAS - 1) { r[x].promised = 1; r[x].held = 1; r[x].id = 1; r[x].whole = 1 };
        x = 0;
        m[0].phase = RUNS; m[0].known = 1; m[0].settled = 1; m[0].up = ALL; m[0].members = ALL; m[0].standing = ALL;
        m[0].named = ALL; m[0].chain = ALL; m[0].inc = ALL; m[0].minc = ALL; m[0].recorded = ALL; m[0].id = 1; m[0].comp = 1;
        m[0].joiner = NOBODY; m[0].deepest = 1;
        m[1].joiner = NOBODY;
        run engine(0);
        if :: engines > 1 -> m[1].phase = CLAIMS; run engine(1) :: else fi;
        run world()
    }
}
