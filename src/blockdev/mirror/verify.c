/* Verify: the whole legs are compared by checksums, region by region, while hosts work. What looks different is believed only
 * when it still is with writes to the region kept away; then the blocks are counted, and written anew where that was asked for:
 * from the majority, else from the leg that is trusted. docs/mirror.md, "Verify". */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/block_sum.h"
#include "blockdev/mirror/fan.h"

#define BLOCKS (REGION_BYTES / REPLICA_BLOCK_BYTES)
#define CHUNK_BLOCKS 64 /* read and written at a time */
#define JOBS 2
#define AGAIN_NS NS_PER_MS        /* for lack of memory */
#define WAIT_NS (100 * NS_PER_MS) /* while there is nothing to compare */

struct verify_job {
    struct mirror_verify *verify;
    struct mirror_fan fan;
    bool busy;
    bool held;     /* the region is kept from writers: what differs now does differ */
    bool repaired; /* it was written: what differs now was not mended */
    struct range range;
    uint64_t region, offset, length;
    uint64_t sums[MIRROR_LEGS_MAX][BLOCKS];
    uint8_t right[BLOCKS];     /* leg by index whose content counts */
    mirror_mask wrong[BLOCKS]; /* legs that differ from it */
    uint64_t at;               /* first block not yet mended */
    mirror_mask writing;
    void *buffer;
    uint32_t seed;
    void *read[MIRROR_LEGS_MAX]; /* the region as a leg has it that tells no checksums */
};

struct mirror_verify {
    struct mirror *mirror;
    struct mirror_verify_options options;
    struct mirror_verify_status status;
    uint64_t next; /* region */
    bool stopping;
    struct reactor_timer timer;
    struct verify_job jobs[JOBS];
};

static void look(struct mirror_verify *verify);
static void ask(struct verify_job *job);
static void mend(struct verify_job *job);

static struct verify_job *job_of(struct mirror_fan *fan) { return container_of(fan, struct verify_job, fan); }
static mirror_mask comparable(const struct mirror *mirror) { return mirror->standing | mirror->foreign; }
static bool one_or_none(mirror_mask legs) { return (legs & (legs - 1)) == 0; }

/* ---- one region ---- */

static void end(struct verify_job *job, bool compared) {
    struct mirror_verify *verify = job->verify;
    struct mirror *mirror = verify->mirror;
    verify->status.skipped += !compared;
    verify->status.done += job->length;
    if (job->buffer != NULL)
        buffer_give(&mirror->home->buffers, job->buffer, CHUNK_BLOCKS * REPLICA_BLOCK_BYTES);
    job->buffer = NULL;
    for (unsigned i = 0; i < MIRROR_LEGS_MAX; i++) {
        if (job->read[i] != NULL)
            buffer_give(&mirror->home->buffers, job->read[i], REGION_BYTES);
        job->read[i] = NULL;
    }
    job->busy = false;
    if (job->repaired)
        regions_touch(&mirror->regions, job->offset, job->length); /* who was written has it marked */
    if (job->held)
        ranges_leave(&mirror->ranges, &job->range);
    job->held = false;
    mirror_throttle_end(mirror);
}

static void tell(struct verify_job *job, uint64_t block, unsigned agree, bool undecided) {
    struct mirror_verify_status *status = &job->verify->status;
    struct mirror *mirror = job->verify->mirror;
    int at = 0;
    char wrong[MIRROR_LEGS_MAX * 3 + 1] = "";
    mirror_for_each_leg(mirror, leg) if ((job->wrong[block] & leg->bit) != 0) at +=
        snprintf(wrong + at, sizeof(wrong) - (size_t)at, "%s%u", at > 0 ? ", " : "", leg->index);
    status->last_offset = job->offset + block * REPLICA_BLOCK_BYTES;
    snprintf(status->last, sizeof(status->last), "leg %s differs; leg %u counts, %s", wrong, job->right[block],
             undecided    ? (job->verify->options.trusted_set ? "since it is trusted: no majority agrees"
                                                              : "as the first: no majority agrees")
             : agree == 2 ? "as two agree"
                          : "as most agree");
}

/* Whose content counts: that of more than half, else the trusted leg's. */
static void judge_block(struct verify_job *job, uint64_t block, mirror_mask there) {
    struct mirror_verify *verify = job->verify;
    unsigned count = 0, most = 0, right = (unsigned)__builtin_ctz(there);
    for (mirror_mask left = there; left != 0; left &= (mirror_mask)(left - 1), count++) {
        unsigned leg = (unsigned)__builtin_ctz(left), agree = 0;
        if ((job->fan.bad >> leg & 1) != 0)
            continue; /* it cannot read it: that differs from everybody */
        for (mirror_mask other = there & (mirror_mask)~job->fan.bad; other != 0; other &= (mirror_mask)(other - 1))
            agree += job->sums[__builtin_ctz(other)][block] == job->sums[leg][block];
        if (agree > most) {
            most = agree;
            right = leg;
        }
    }
    bool undecided = 2 * most <= count;
    if (undecided && verify->options.trusted_set && (there & ~job->fan.bad) >> verify->options.trusted & 1)
        right = verify->options.trusted;
    job->right[block] = (uint8_t)right;
    job->wrong[block] = 0;
    mirror_for_each_leg(verify->mirror,
                        leg) if ((there & leg->bit) != 0 &&
                                 ((job->fan.bad & leg->bit) != 0 || job->sums[leg->index][block] != job->sums[right][block])) {
        job->wrong[block] |= leg->bit;
        verify->status.leg_mismatches[leg->index]++;
    }
    if (job->wrong[block] == 0)
        return;
    verify->status.mismatches++;
    verify->status.undecided += undecided;
    tell(job, block, most, undecided);
}

static bool differ(const struct verify_job *job, mirror_mask there) {
    uint64_t bytes = job->length / REPLICA_BLOCK_BYTES * 8;
    const uint64_t *first = job->sums[__builtin_ctz(there)];
    if (job->fan.bad != 0)
        return true;
    for (mirror_mask left = there; left != 0; left &= (mirror_mask)(left - 1))
        if (memcmp(job->sums[__builtin_ctz(left)], first, bytes) != 0)
            return true;
    return false;
}

/* After the mending: all blocks that were wrong are right, or the region is said to differ still. */
static void count_repaired(struct verify_job *job, bool mended) {
    for (uint64_t i = 0; mended && i < job->length / REPLICA_BLOCK_BYTES; i++)
        job->verify->status.repaired += job->wrong[i] != 0;
    if (!mended)
        snprintf(job->verify->status.last, sizeof(job->verify->status.last), "what was written anew differs still");
}

static void held_again(struct mirror_fan *fan) { ask(job_of(fan)); }

static void granted(struct range *range) {
    struct verify_job *job = container_of(range, struct verify_job, range);
    mirror_fan_round(&job->fan);
    mirror_fan_wait(&job->fan, held_again); /* from the loop */
}

/* Of what was read from legs that tell none. */
static void sum_up(struct verify_job *job) {
    for (unsigned i = 0; i < MIRROR_LEGS_MAX; i++)
        for (uint64_t block = 0; job->read[i] != NULL && block < job->length / REPLICA_BLOCK_BYTES; block++)
            job->sums[i][block] = block_sum((const uint8_t *)job->read[i] + block * REPLICA_BLOCK_BYTES, REPLICA_BLOCK_BYTES,
                                            job->offset / REPLICA_BLOCK_BYTES + block, job->seed);
}

static void compared(struct mirror_fan *fan) {
    struct verify_job *job = job_of(fan);
    struct mirror *mirror = job->verify->mirror;
    mirror_mask there = mirror_fan_there(fan) & comparable(mirror);
    sum_up(job);
    if (one_or_none(there) || there != mirror_fan_there(fan) || fan->passing != 0) {
        end(job, false);
        return;
    }
    if (!differ(job, there)) {
        if (job->repaired)
            count_repaired(job, true);
        end(job, true);
        return;
    }
    if (job->repaired) {
        count_repaired(job, false);
        end(job, true);
        return;
    }
    if (!job->held) { /* a write may have come between */
        job->held = true;
        job->range.granted = granted;
        if (ranges_enter(&mirror->ranges, &job->range, job->offset, job->length))
            granted(&job->range);
        return;
    }
    for (uint64_t i = 0; i < job->length / REPLICA_BLOCK_BYTES; i++)
        judge_block(job, i, there);
    job->at = 0;
    if (job->verify->options.repair)
        mend(job);
    else
        end(job, true);
}

/* Room for what legs without checksums hold; false: there is none now. */
static bool has_room(struct verify_job *job, mirror_mask there) {
    struct mirror *mirror = job->verify->mirror;
    mirror_for_each_leg(mirror, leg) {
        if ((there & leg->bit) == 0 || leg->replica || job->read[leg->index] != NULL)
            continue;
        job->read[leg->index] = buffer_take(&mirror->home->buffers, REGION_BYTES);
        if (job->read[leg->index] == NULL)
            return false;
    }
    return true;
}

static void ask(struct verify_job *job) {
    struct mirror *mirror = job->verify->mirror;
    mirror_mask there = mirror_fan_there(&job->fan);
    if (!has_room(job, there)) {
        end(job, false);
        return;
    }
    job->seed = (uint32_t)random_u64(&mirror->random) & 0xffffff;
    mirror_fan_round(&job->fan);
    mirror_for_each_leg(mirror, leg) {
        if ((there & leg->bit) == 0)
            continue;
        if (leg->replica)
            mirror_fan_send(&job->fan, leg, BLOCK_REPLICA_GET, replica_argument(REPLICA_SUMS, job->seed, REPLICA_LAYER_HEAD),
                            job->offset, job->sums[leg->index], job->length);
        else
            mirror_fan_send(&job->fan, leg, BLOCK_READ, 0, job->offset, job->read[leg->index], job->length);
    }
    mirror_fan_wait(&job->fan, compared);
}

/* ---- mending ---- */

static void written(struct mirror_fan *fan) {
    struct verify_job *job = job_of(fan);
    if (fan->bad != 0)
        end(job, false);
    else
        mend(job);
}

static void fetched(struct mirror_fan *fan) {
    struct verify_job *job = job_of(fan);
    struct mirror *mirror = job->verify->mirror;
    struct mirror_fan_request *from = &fan->requests[job->right[job->at]];
    uint64_t offset = from->request.offset, length = from->request.length;
    mirror_mask there = mirror_fan_there(fan);
    if (fan->bad != 0 || (there >> job->right[job->at] & 1) == 0 || mirror->changing || mirror->state != MIRROR_SERVING) {
        end(job, false);
        return;
    }
    job->at += length / REPLICA_BLOCK_BYTES;
    job->repaired = true;
    mirror_fan_round(fan);
    mirror_for_each_leg(mirror, leg) if ((job->writing & there & leg->bit) != 0)
        mirror_fan_send(fan, leg, BLOCK_WRITE, 0, offset, job->buffer, length);
    mirror_fan_wait(fan, written);
}

/* The next blocks that are wrong in the same way. */
static void mend(struct verify_job *job) {
    struct mirror *mirror = job->verify->mirror;
    uint64_t blocks = job->length / REPLICA_BLOCK_BYTES, first = job->at;
    if (job->buffer == NULL)
        job->buffer = buffer_take(&mirror->home->buffers, CHUNK_BLOCKS * REPLICA_BLOCK_BYTES);
    if (job->buffer == NULL) {
        end(job, false);
        return;
    }
    while (first < blocks && job->wrong[first] == 0)
        first++;
    if (first == blocks) {
        ask(job); /* once more: it must be right now */
        return;
    }
    job->at = first;
    job->writing = job->wrong[first];
    uint64_t last = first + 1;
    while (last < blocks && last - first < CHUNK_BLOCKS && job->wrong[last] == job->wrong[first] &&
           job->right[last] == job->right[first])
        last++;
    if ((mirror_fan_there(&job->fan) >> job->right[first] & 1) == 0) {
        end(job, false);
        return;
    }
    mirror_fan_round(&job->fan);
    mirror_fan_send(&job->fan, &mirror->legs[job->right[first]], BLOCK_READ, 0, job->offset + first * REPLICA_BLOCK_BYTES,
                    job->buffer, (last - first) * REPLICA_BLOCK_BYTES);
    mirror_fan_wait(&job->fan, fetched);
}

/* ---- which one next ---- */

static void begin_region(struct verify_job *job) {
    struct mirror_verify *verify = job->verify;
    struct mirror *mirror = verify->mirror;
    job->busy = true;
    job->held = job->repaired = false;
    job->region = verify->next++;
    job->offset = job->region * REGION_BYTES;
    job->length = min_u64(REGION_BYTES, mirror->size - job->offset);
    mirror_fan_begin(&job->fan, comparable(mirror));
    mirror_throttle_begin(mirror, MIRROR_CHORE_VERIFY, job->length);
    ask(job);
}

static bool may_compare(const struct mirror *mirror) {
    return mirror->state == MIRROR_SERVING && mirror->regions_known && !mirror->changing && !one_or_none(comparable(mirror));
}

static void finish(struct mirror_verify *verify) {
    verify->status.state = verify->stopping ? MIRROR_VERIFY_STOPPED : MIRROR_VERIFY_DONE;
    verify->status.ended_ns = reactor_now_ns(verify->mirror->home);
    reactor_timer_stop(verify->mirror->home, &verify->timer);
    mirror_watch_look(verify->mirror);
}

static void look(struct mirror_verify *verify) {
    struct mirror *mirror = verify->mirror;
    uint64_t count = divide_up(mirror->size, REGION_BYTES), now = reactor_now_ns(mirror->home), until_ns;
    if (verify->status.state != MIRROR_VERIFY_RUNNING)
        return;
    verify->stopping = verify->stopping || mirror->closing || mirror->state == MIRROR_ENDED;
    for (unsigned i = 0; i < JOBS; i++) {
        struct verify_job *job = &verify->jobs[i];
        if (job->busy)
            continue;
        /* regions that are being made equal need no comparing */
        for (; !verify->stopping && verify->next < count && bitmap_test(mirror->regions.unequal, verify->next); verify->next++) {
            verify->status.skipped++;
            verify->status.done += min_u64(REGION_BYTES, mirror->size - verify->next * REGION_BYTES);
        }
        if (verify->stopping || verify->next >= count) {
            if (!mirror_verify_is_busy(mirror))
                finish(verify);
            return;
        }
        verify->status.waits = !may_compare(mirror);
        if (verify->status.waits) {
            reactor_timer_start(mirror->home, &verify->timer, now + WAIT_NS);
            return;
        }
        if (!mirror_throttle_admits(mirror, MIRROR_CHORE_VERIFY, &until_ns)) {
            reactor_timer_start(mirror->home, &verify->timer, until_ns);
            return;
        }
        begin_region(job);
    }
}

static void timed(struct reactor_timer *timer) { look(container_of(timer, struct mirror_verify, timer)); }

void mirror_verify_wake(struct mirror *mirror) {
    if (mirror->verify != NULL && mirror->verify->status.state == MIRROR_VERIFY_RUNNING)
        reactor_timer_start(mirror->home, &mirror->verify->timer, 0);
}

/* ---- from outside ---- */

bool mirror_verify_begin(struct mirror *mirror, const struct mirror_verify_options *options, struct error *error) {
    struct mirror_verify *verify = mirror->verify;
    if (options->trusted_set && (options->trusted >= mirror->leg_count || mirror->legs[options->trusted].tie_breaker))
        return error_set(error, ERROR_INVALID, "%s has no leg %u with data", mirror->device.name, options->trusted);
    if (verify != NULL && verify->status.state == MIRROR_VERIFY_RUNNING)
        return error_set(error, ERROR_BUSY, "%s is being verified", mirror->device.name);
    if (options->resume && (verify == NULL || verify->status.state != MIRROR_VERIFY_STOPPED))
        return error_set(error, ERROR_INVALID, "no verify of %s was stopped", mirror->device.name);
    if (verify == NULL && (verify = calloc(1, sizeof(*verify))) == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory to verify %s", mirror->device.name);
    mirror->verify = verify;
    struct mirror_verify_status before = verify->status;
    verify->mirror = mirror;
    verify->options = *options;
    verify->stopping = false;
    verify->timer.run = timed;
    for (unsigned i = 0; i < JOBS; i++) {
        verify->jobs[i].verify = verify;
        mirror_fan_init(&verify->jobs[i].fan, mirror);
    }
    if (!options->resume) {
        verify->next = 0;
        before = (struct mirror_verify_status){.started_ns = reactor_now_ns(mirror->home), .last_offset = UINT64_MAX};
    }
    verify->status = before;
    verify->status.state = MIRROR_VERIFY_RUNNING;
    verify->status.repair = options->repair;
    verify->status.ended_ns = 0;
    verify->status.total = mirror->size;
    mirror_verify_wake(mirror);
    mirror_watch_look(mirror);
    return true;
}

bool mirror_verify_end(struct mirror *mirror) {
    if (mirror->verify == NULL || mirror->verify->status.state != MIRROR_VERIFY_RUNNING)
        return false;
    mirror->verify->stopping = true;
    mirror_verify_wake(mirror);
    return true;
}

void mirror_verify_status_get(const struct mirror *mirror, struct mirror_verify_status *ret_status) {
    if (mirror->verify != NULL)
        *ret_status = mirror->verify->status;
    else
        *ret_status = (struct mirror_verify_status){.last_offset = UINT64_MAX};
}

bool mirror_verify_is_busy(const struct mirror *mirror) {
    for (unsigned i = 0; mirror->verify != NULL && i < JOBS; i++)
        if (mirror->verify->jobs[i].busy)
            return true;
    return false;
}

void mirror_verify_fini(struct mirror *mirror) {
    if (mirror->verify == NULL)
        return;
    assert(!mirror_verify_is_busy(mirror));
    reactor_timer_stop(mirror->home, &mirror->verify->timer);
    free(mirror->verify);
    mirror->verify = NULL;
}
