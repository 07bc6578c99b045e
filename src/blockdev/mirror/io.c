/* A request's life: excluded from overlapping ones, held while a change is under way or no leg is there, sent to the legs, judged
 * by their answers. No allocation: states come from a pool, copies from the reactor's buffers. */
#include "blockdev/mirror/mirror_internal.h"

static void go(struct mirror_io *io);
static void settle(struct mirror_io *io);

static bool is_read(const struct mirror_io *io) { return io->request->op == BLOCK_READ; }
static bool is_flush(const struct mirror_io *io) { return io->request->op == BLOCK_FLUSH; }
static bool is_write(const struct mirror_io *io) { return !is_read(io) && !is_flush(io); }

/* Works through held and parked requests from the loop, so that nothing recurses and nothing ends inside a submit. */
void mirror_io_look(struct mirror *mirror) {
    if (mirror->settle_queued)
        return;
    mirror->settle_queued = true;
    reactor_defer(mirror->home, &mirror->settle_job);
}

/* ---- the end ---- */

static void set_for_room(struct mirror_io *io, bool waits) {
    io->mirror->for_room += (uint32_t)waits - (uint32_t)io->for_room;
    io->for_room = waits;
}

/* Of legs whose child has come back. */
static void give_kept(struct mirror_io *io, mirror_mask of) {
    for (mirror_mask left = io->kept & of; left != 0; left &= (mirror_mask)(left - 1)) {
        const struct slice *slice = &io->child[__builtin_ctz(left)].slice;
        buffer_give(&io->mirror->home->buffers, slice->base, slice->length);
    }
    io->kept &= (mirror_mask)~of;
}

/* The request is over; children of lost legs, and what they have, may still come back. */
static void give(struct mirror_io *io) {
    struct mirror *mirror = io->mirror;
    io->answered = true;
    if (unlikely(io->out != 0))
        return;
    set_for_room(io, false);
    if (unlikely(io->kept != 0))
        give_kept(io, io->kept);
    if (io->buffer != NULL)
        buffer_give(&mirror->home->buffers, io->buffer, io->buffer_size);
    pool_give(&mirror->ios, io);
}

static void wake_watchers(struct mirror *mirror) {
    mirror->watched = false; /* who still waits says so again */
    mirror_legs_wake(mirror);
    mirror_epoch_wake(mirror);
    mirror_tree_commands_wake(mirror);
    mirror_lease_look(mirror);
}

/* A long request without payload is done piece by piece, so that it marks a few regions at a time. True: there is another one. */
static bool goes_on(struct mirror_io *io) {
    struct mirror *mirror = io->mirror;
    uint64_t done = io->offset + io->length, end = io->request->offset + io->request->length;
    if (likely(done == end || !is_write(io)))
        return false;
    assert(io->out == 0); /* nothing of a caller's is lent: every child has come back */
    list_remove(&io->node);
    regions_touch(&mirror->regions, io->offset, io->length);
    if (io->ranged)
        ranges_leave(&mirror->ranges, &io->range);
    io->ranged = io->under_way = false;
    io->offset = done;
    io->length = min_u64(end - done, mirror->piece_bytes);
    list_push_back(&mirror->held, &io->node);
    if (unlikely(mirror->watched))
        wake_watchers(mirror);
    mirror_io_look(mirror);
    return true;
}

static void answer(struct mirror_io *io, enum io_status status) {
    struct mirror *mirror = io->mirror;
    struct block_request *request = io->request;
    if (unlikely((io->out & ~io->buffered) != 0)) /* a lost leg has the caller's payload: its recall brings it back */
        return;
    if (status == IO_OK && goes_on(io))
        return;
    list_remove(&io->node);
    if (is_write(io)) {
        regions_touch(&mirror->regions, io->offset, io->length);
        if (io->ranged)
            ranges_leave(&mirror->ranges, &io->range);
        mirror->acknowledged += status == IO_OK && (request->flags & BLOCK_FUA) == 0;
    } else if (is_flush(io)) {
        if (status == IO_OK)
            mirror->flushed = max_u64(mirror->flushed, io->acknowledged);
    } else if (status == IO_OK && (io->good & io->buffered) != 0) {
        const struct mirror_child *child = &io->child[__builtin_ctz(io->good & io->buffered)];
        slice_copy_in(request->slices, request->slice_count, 0, child->slice.base, request->length);
    }
    give(io);
    if (unlikely(mirror->watched))
        wake_watchers(mirror);
    block_complete(request, status);
}

/* ---- sending ---- */

static void child_done(struct block_request *request) {
    struct mirror_child *child = container_of(request, struct mirror_child, request);
    struct mirror_io *io = child->io;
    unsigned index = (unsigned)(child - io->child);
    struct mirror_leg *leg = &io->mirror->legs[index];
    io->out &= (mirror_mask)~leg->bit;
    if (--leg->outstanding == 0 && unlikely(leg->lost))
        task_wake(&leg->task);
    if (unlikely(io->answered)) { /* of a leg that was lost meanwhile */
        give(io);
        return;
    }
    if (likely((io->pending & leg->bit) != 0)) {
        io->pending &= (mirror_mask)~leg->bit;
        if (likely(request->status == IO_OK)) {
            io->good |= leg->bit;
            mirror_leg_heard(leg, io->sent_ns);
            if (is_read(io))
                mirror_leg_read_took(leg, reactor_now_ns(io->mirror->home) - io->sent_ns);
        } else if (!mirror_leg_judge(leg, (enum io_status)request->status)) {
            io->bad |= leg->bit;
            io->status[index] = request->status;
        }
        if (unlikely(io->mirror->watched))
            wake_watchers(io->mirror);
    }
    if (likely(io->under_way))
        settle(io);
}

static void send_to(struct mirror_io *io, struct mirror_leg *leg, bool from_buffer) {
    struct mirror_child *child = &io->child[leg->index];
    const struct block_request *request = io->request;
    child->io = io;
    child->request.op = likely(request->op != BLOCK_TRIM || leg->trims) ? request->op : BLOCK_WRITE_ZEROES;
    child->request.flags = request->flags | BLOCK_FAIL_FAST;
    child->slice = (struct slice){io->buffer, io->length};
    child->request.slices = from_buffer ? &child->slice : request->slices;
    child->request.slice_count = from_buffer ? 1 : request->slice_count;
    child->request.offset = io->offset;
    child->request.length = io->length;
    child->request.association = leg->association;
    child->request.complete = child_done;
    io->sent |= leg->bit;
    io->pending |= leg->bit;
    io->out |= leg->bit;
    io->buffered = (mirror_mask)(from_buffer ? io->buffered | leg->bit : io->buffered & ~leg->bit);
    leg->outstanding++;
    block_submit(leg->channel, &child->request);
}

static void tick(struct reactor_timer *timer);

static void put_under_way(struct mirror_io *io) {
    struct mirror *mirror = io->mirror;
    io->sent = io->pending = io->good = io->bad = 0;
    set_for_room(io, false);
    io->sequence = ++mirror->sequence;
    io->born_ns = mirror->running_ns;
    io->sent_ns = reactor_now_ns(mirror->home);
    list_push_back(&mirror->under_way, &io->node);
    io->under_way = true;
    if (unlikely(!reactor_timer_armed(&mirror->tick))) {
        mirror->ticked_ns = reactor_now_ns(mirror->home);
        reactor_timer_start(mirror->home, &mirror->tick, mirror->ticked_ns + mirror->stall_ns / 8);
    }
}

static void buffer_ready(struct buffer_waiter *waiter, void *take_buffer) {
    struct mirror_io *io = container_of(waiter, struct mirror_io, buffer_waiter);
    io->buffer = take_buffer;
    list_push_back(&io->mirror->held, &io->node);
    mirror_io_look(io->mirror);
}

/* True if the request has its buffer; false: it waits for one, and goes on by itself. */
static bool has_buffer(struct mirror_io *io) {
    struct mirror *mirror = io->mirror;
    if (io->buffer != NULL)
        return true;
    io->buffer_size = io->length;
    io->buffer = buffer_take(&mirror->home->buffers, io->buffer_size);
    if (io->buffer == NULL) {
        io->buffer_waiter = (struct buffer_waiter){.size = io->buffer_size, .ready = buffer_ready};
        buffer_wait(&mirror->home->buffers, &io->buffer_waiter);
        return false;
    }
    return true;
}

/* Before a read is sent to one more leg: who has the buffer may write to it at any time, also a leg that was lost, and keeps it.
 */
static void leave_buffer(struct mirror_io *io) {
    mirror_mask with = io->out & io->buffered;
    if (likely((with | io->kept) == 0))
        return;
    give_kept(io, (mirror_mask)~with);
    if (with != io->kept)
        io->buffer = NULL;
    io->kept = with;
}

static bool wants_copy(const struct mirror_io *io, const struct mirror_leg *leg) {
    return leg->copies && io->request->slice_count > 0 && io->length <= BUFFER_SIZE_MAX;
}

static void send_write(struct mirror_io *io) {
    struct mirror *mirror = io->mirror;
    bool copied = false;
    for (mirror_mask left = mirror->writers; left != 0; left &= (mirror_mask)(left - 1))
        copied = copied || wants_copy(io, &mirror->legs[__builtin_ctz(left)]);
    if (unlikely(copied)) {
        if (!has_buffer(io))
            return;
        slice_copy_out(io->request->slices, io->request->slice_count, 0, io->buffer, io->length);
    }
    put_under_way(io);
    if (is_flush(io))
        io->acknowledged = mirror->acknowledged;
    else
        regions_touch(&mirror->regions, io->offset, io->length);
    if (unlikely((mirror->missing & ~mirror->writers) != 0) && !is_flush(io))
        mirror_missed_add(mirror, (mirror_mask)~mirror->writers, io->offset, io->length);
    for (mirror_mask left = mirror->writers; left != 0; left &= (mirror_mask)(left - 1)) {
        struct mirror_leg *leg = &mirror->legs[__builtin_ctz(left)];
        send_to(io, leg, copied && leg->copies);
    }
}

/* `bad`: legs that failed it before. */
static void send_read(struct mirror_io *io, mirror_mask bad) {
    struct mirror *mirror = io->mirror;
    struct mirror_leg *leg = mirror_leg_cheapest(mirror, mirror->readers & (mirror_mask)~bad, io->offset);
    bool copied = wants_copy(io, leg);
    leave_buffer(io);
    if (copied && !has_buffer(io))
        return;
    put_under_way(io);
    io->bad = bad;
    send_to(io, leg, copied);
}

/* ---- before it is sent ---- */

static void hold(struct mirror_io *io) {
    if (is_read(io))
        io->ranged = false; /* it looks anew when it goes on */
    list_push_back(&io->mirror->held, &io->node);
    if (io->mirror->hold_over || io->mirror->state == MIRROR_ENDED || io->mirror->state == MIRROR_STANDBY)
        mirror_io_look(io->mirror);
}

static void granted(struct range *range) { go(container_of(range, struct mirror_io, range)); }

static void leave_range(struct mirror_io *io) {
    if (io->ranged && is_write(io))
        ranges_leave(&io->mirror->ranges, &io->range);
    io->ranged = false;
}

/* Sends it, or lets it wait for what it must wait for. Called again when that may be over. */
static void go(struct mirror_io *io) {
    struct mirror *mirror = io->mirror;
    bool reads = is_read(io);
    if (!is_flush(io)) {
        if (unlikely(io->offset + io->length > mirror->size)) { /* it was shrunk while this waited */
            struct block_request *too_far = io->request;
            leave_range(io);
            give(io);
            block_complete_later(too_far, IO_OUT_OF_RANGE);
            return;
        }
    }
    /* Who waited for room before counts as under way. Who comes now keeps nothing that such a one may need. */
    if (unlikely(mirror->paused || mirror->releasing) && !io->for_room) {
        leave_range(io);
        hold(io);
        return;
    }
    if (!is_flush(io)) {
        if (unlikely(mirror->regions.unequal_count > 0) && mirror->readers != 0) {
            uint64_t region = regions_unequal_in(&mirror->regions, io->offset, io->length);
            if (region != UINT64_MAX) {
                list_push_back(&mirror->regions_wait, &io->node);
                mirror_copy_first(mirror, region);
                leave_range(io);
                return;
            }
        }
        if (!reads && unlikely(!mirror_marks_admit(mirror, io->offset, io->length))) {
            set_for_room(io, true);
            leave_range(io);
            hold(io);
            return;
        }
        if (!io->ranged && !(reads && ranges_empty(&mirror->ranges))) {
            io->ranged = true;
            io->range.granted = granted;
            if (unlikely(!(reads ? ranges_enter_shared : ranges_enter)(&mirror->ranges, &io->range, io->offset, io->length)))
                return;
        }
    }
    if (unlikely(mirror->readers == 0 || (mirror->changing && !reads) || mirror->state == MIRROR_ENDED))
        hold(io);
    else if (reads)
        send_read(io, 0);
    else
        send_write(io);
}

static void start_io(struct mirror_io *io, struct block_request *request) {
    struct mirror *mirror = mirror_of(block_channel_device(request->channel));
    io->request = request;
    io->mirror = mirror;
    io->offset = request->offset;
    io->length = request->length;
    if (unlikely(io->length > mirror->piece_bytes) && request->slice_count == 0 && is_write(io))
        io->length = mirror->piece_bytes;
    io->ranged = io->answered = io->under_way = io->for_room = false;
    io->out = io->pending = io->sent = io->buffered = io->kept = 0;
    io->buffer = NULL;
    list_node_init(&io->node);
    go(io);
}

struct io_waiter {
    struct pool_waiter waiter;
    struct block_request *request;
};
static_assert(sizeof(struct io_waiter) <= sizeof(((struct block_request *)0)->device_private), "fits the scratch");

static void io_ready(struct pool_waiter *waiter, void *take_object) {
    start_io(take_object, container_of(waiter, struct io_waiter, waiter)->request);
}

void mirror_submit(struct block_channel *channel, struct block_request *request) {
    struct mirror *mirror = mirror_of(block_channel_device(channel));
    if (unlikely(request->length == 0 && request->op != BLOCK_FLUSH)) {
        block_complete_later(request, IO_OK);
        return;
    }
    struct mirror_io *io = pool_take(&mirror->ios);
    if (likely(io != NULL)) {
        start_io(io, request);
        return;
    }
    if (mirror->ios.lent == 0) {
        block_complete_later(request, IO_NO_MEMORY);
        return;
    }
    struct io_waiter *waiter = (struct io_waiter *)(void *)request->device_private;
    *waiter = (struct io_waiter){.waiter.ready = io_ready, .request = request};
    pool_wait(&mirror->ios, &waiter->waiter);
}

/* ---- judging answers ---- */

static enum io_status first_bad(const struct mirror_io *io, mirror_mask among) {
    mirror_mask bad = io->bad & among;
    return (enum io_status)io->status[__builtin_ctz(bad != 0 ? bad : io->bad)];
}

/* A majority of records has answered something young enough: nobody else can have started. */
static bool is_fresh(const struct mirror *mirror) {
    if (mirror->policy != REPLICA_MAJORITY)
        return true;
    uint64_t now = reactor_now_ns(mirror->home);
    unsigned configured = 0, heard = 0;
    bool tie_breaker = false;
    mirror_for_each_leg(mirror, leg) {
        if (!mirror_leg_counts(leg))
            continue;
        bool young = mirror_leg_is_up(leg) && leg->heard_ns + mirror->stall_ns >= now;
        configured++;
        heard += young;
        tie_breaker = tie_breaker || (young && leg->tie_breaker);
    }
    return 2 * heard > configured || (2 * heard == configured && tie_breaker);
}

static void ping_done(struct mirror_call *call) {
    struct mirror_leg *leg = call->leg;
    if (call->generation != leg->generation)
        return;
    /* Anybody is told the record: whose claim stands is what counts. */
    if (call->status == IO_OK && (leg->ping_document.flags & REPLICA_CLAIM_YOURS) == 0)
        call->status = IO_NOT_READY;
    if (call->status != IO_OK) {
        (void)mirror_leg_judge(leg, call->status);
        return;
    }
    mirror_leg_heard(leg, call->sent_ns);
    mirror_io_look(leg->mirror);
}

/* Who was heard a moment ago has nothing to add: a leg that answers at once must not be asked without end. */
static void ping_all(struct mirror *mirror) {
    uint64_t now = reactor_now_ns(mirror->home);
    mirror_for_each_leg(mirror, leg) if (mirror_leg_is_up(leg) && !leg->ping.busy && leg->heard_ns + mirror->stall_ns / 8 < now)
        mirror_call_send(leg, &leg->ping, BLOCK_REPLICA_GET, replica_argument(REPLICA_STATUS, 0, 0), 0, &leg->ping_document,
                         sizeof(leg->ping_document), ping_done);
}

/* A leg that could not read what another one has. */
static void repair(struct mirror_io *io) {
    struct mirror *mirror = io->mirror;
    mirror_mask bad = 0;
    mirror_for_each_leg(mirror, leg) if ((io->bad & leg->bit) != 0 &&
                                         (io->status[leg->index] == IO_MEDIUM_READ || io->status[leg->index] == IO_DAMAGED)) {
        bad |= leg->bit;
        leg->told.read_errors++;
    }
    mirror_repair_begin(mirror, io->offset, io->length, bad);
}

static void settle_read(struct mirror_io *io) {
    struct mirror *mirror = io->mirror;
    if (io->good != 0) {
        if (likely(is_fresh(mirror))) {
            if (unlikely(io->bad != 0))
                repair(io);
            answer(io, IO_OK);
            return;
        }
        ping_all(mirror);
        return; /* stays under way; looked at again when somebody has answered */
    }
    if ((io->out & ~io->buffered) != 0)
        return; /* the payload is not back yet */
    mirror_mask others = mirror->readers & (mirror_mask)~io->bad;
    if (others == 0 && mirror->readers != 0) {
        answer(io, first_bad(io, mirror->readers));
        return;
    }
    list_remove(&io->node);
    io->under_way = false;
    if (others == 0) {
        hold(io);
        return;
    }
    mirror->reads_repeated++;
    send_read(io, io->bad);
}

/* Whose disk failed a write may show it, and lose it with the next power: what such a leg shows is written to it anew, also if it
 * is the only one, before others are given that. */
static void fail_write(struct mirror_io *io) {
    struct mirror *mirror = io->mirror;
    bool differ = (io->sent & (io->sent - 1)) != 0;
    mirror_for_each_leg(mirror, leg) {
        bool shows = (io->bad & leg->bit) != 0 && io->status[leg->index] != IO_NO_SPACE;
        leg->doubted = leg->doubted || shows;
        differ = differ || (shows && !mirror->plain);
    }
    if (is_write(io) && differ) {
        regions_unequal_add(&mirror->regions, region_first(io->offset), region_last(io->offset, io->length));
        mirror_copy_wake(mirror);
    }
    answer(io, first_bad(io, mirror->members));
}

static void settle_slowly(struct mirror_io *io) {
    struct mirror *mirror = io->mirror;
    if (io->bad != 0 && mirror->readers != 0) {
        /* What some member did and others could not costs the others; what no member could costs those who did. */
        mirror_mask wrong = (io->good & mirror->standing) != 0 ? io->bad : io->good;
        mirror_for_each_leg(mirror, leg) if ((wrong & leg->bit) != 0 && mirror_leg_is_up(leg)) mirror_leg_fault(
            leg, wrong == io->bad ? (enum io_status)io->status[leg->index] : IO_OK, "it failed what another leg did");
    }
    if (mirror->changing || mirror->readers == 0)
        return;                                           /* looked at again when the change is complete */
    if ((mirror->members & ~(io->good | io->bad)) != 0) { /* all legs were lost, and one is back */
        if (io->out != 0)
            return;
        list_remove(&io->node);
        io->under_way = false;
        go(io);
        return;
    }
    if ((io->good & mirror->members) != 0)
        answer(io, IO_OK);
    else
        fail_write(io);
}

/* Hosts get everything back. */
static bool is_dead(const struct mirror *mirror) {
    return mirror->state == MIRROR_ENDED || mirror->state == MIRROR_STANDBY || (mirror->hold_over && mirror->readers == 0);
}

/* Some legs may have done it, and others not. */
static void give_back(struct mirror_io *io) {
    if (is_write(io))
        regions_unequal_add(&io->mirror->regions, region_first(io->offset), region_last(io->offset, io->length));
    answer(io, IO_PATH_LOST);
}

static void settle(struct mirror_io *io) {
    if (io->pending != 0)
        return;
    if (unlikely(is_dead(io->mirror)))
        give_back(io);
    else if (is_read(io))
        settle_read(io);
    else if (likely(io->good == io->sent))
        answer(io, IO_OK);
    else
        settle_slowly(io);
}

/* ---- from the loop ---- */

static void settle_all(struct reactor_job *job) {
    struct mirror *mirror = container_of(job, struct mirror, settle_job);
    struct list list;
    unsigned count = 0;
    mirror->settle_queued = false;
    list_init(&list);
    list_for_each (&mirror->under_way, const struct mirror_io, io, node) {
        (void)io;
        count++;
    }
    /* in the list all the time: others look whether it is empty, and at whom a lost leg concerns */
    for (struct list_node *node; count > 0 && (node = list_pop_front(&mirror->under_way)) != NULL; count--) {
        list_push_back(&mirror->under_way, node);
        settle(list_entry(node, struct mirror_io, node));
    }
    bool dead = is_dead(mirror);
    list_splice_back(&list, &mirror->held);
    if (dead)
        list_splice_back(&list, &mirror->regions_wait);
    for (struct list_node *node; (node = list_pop_front(&list)) != NULL;) {
        struct mirror_io *io = list_entry(node, struct mirror_io, node);
        if (!dead) {
            go(io);
            continue;
        }
        struct block_request *request = io->request;
        leave_range(io);
        give(io);
        block_complete(request, IO_PATH_LOST);
    }
}

void mirror_io_region_equal(struct mirror *mirror) {
    list_splice_back(&mirror->held, &mirror->regions_wait);
    mirror_io_look(mirror);
}

void mirror_io_forget_leg(struct mirror *mirror, struct mirror_leg *leg) {
    list_for_each (&mirror->under_way, struct mirror_io, io, node)
        io->pending &= (mirror_mask)~leg->bit;
    mirror_io_look(mirror);
}

void mirror_io_forget_all(struct mirror *mirror) {
    list_for_each (&mirror->under_way, struct mirror_io, io, node)
        io->pending = io->good = io->bad = 0;
}

/* A read that takes long is asked of a second member too. */
static void ask_another(struct mirror_io *io) {
    struct mirror *mirror = io->mirror;
    mirror_mask others = mirror->readers & (mirror_mask) ~(io->sent | io->bad);
    if (others == 0 || (io->sent & (io->sent - 1)) != 0 || io->length > BUFFER_SIZE_MAX)
        return;
    leave_buffer(io);
    if (io->buffer == NULL) {
        io->buffer_size = io->length;
        io->buffer = buffer_take(&mirror->home->buffers, io->buffer_size);
    }
    if (io->buffer != NULL) /* else at the next tick */
        send_to(io, mirror_leg_cheapest(mirror, others, io->offset), true);
}

/* Deadlines. They count the time that this reactor ran: a gap in its running is at most two ticks long. */
static void tick(struct reactor_timer *timer) {
    struct mirror *mirror = container_of(timer, struct mirror, tick);
    uint64_t now = reactor_now_ns(mirror->home), step = mirror->stall_ns / 8;
    mirror->running_ns += min_u64(now - mirror->ticked_ns, 2 * step);
    mirror->ticked_ns = now;
    mirror_mask late = 0;
    list_for_each (&mirror->under_way, struct mirror_io, io, node) {
        if (io->pending == 0)
            continue;
        uint64_t age = mirror->running_ns - io->born_ns;
        if (age >= 3 * step && (io->good & mirror->standing) != 0)
            late |= io->pending;
        else if (age >= 2 * step && is_read(io))
            ask_another(io);
    }
    mirror_for_each_leg(mirror, leg) if ((late & leg->bit) != 0 && mirror_leg_is_up(leg))
        mirror_leg_lose(leg, "it did not answer in time");
    if (!is_fresh(mirror))
        ping_all(mirror);
    if (!list_empty(&mirror->under_way))
        reactor_timer_start(mirror->home, &mirror->tick, now + step);
}

uint32_t mirror_io_regions(struct mirror *mirror, struct replica_range *ranges) {
    uint32_t count = 0;
    list_for_each (&mirror->under_way, struct mirror_io, io, node) {
        if (!is_write(io))
            continue;
        uint64_t first = region_first(io->offset), last = region_last(io->offset, io->length);
        if (count > 0 && ranges[count - 1].first <= first && last < ranges[count - 1].first + ranges[count - 1].count)
            continue;
        assert(count < REPLICA_RANGES_MAX);
        ranges[count++] = (struct replica_range){.first = first, .count = last - first + 1};
    }
    return count;
}

void mirror_io_missed(struct mirror *mirror, struct mirror_leg *leg) {
    list_for_each (&mirror->under_way, struct mirror_io, io, node)
        if (is_write(io) && (io->good & leg->bit) == 0)
            mirror_missed_add(mirror, leg->bit, io->offset, io->length);
}

bool mirror_io_all_after(const struct mirror *mirror, uint64_t sequence) {
    list_for_each (&mirror->under_way, const struct mirror_io, io, node)
        if (!is_read(io) && io->sequence < sequence)
            return false;
    return true;
}

bool mirror_io_reads(const struct mirror *mirror) {
    list_for_each (&mirror->under_way, const struct mirror_io, io, node)
        if (is_read(io))
            return true;
    return false;
}

bool mirror_io_idle_on(const struct mirror *mirror, const struct mirror_leg *leg) {
    list_for_each (&mirror->under_way, const struct mirror_io, io, node)
        if (!is_read(io) && (io->pending & leg->bit) != 0)
            return false;
    return true;
}

void mirror_io_init(struct mirror *mirror) {
    pool_init(&mirror->ios, sizeof(struct mirror_io) + MIRROR_LEGS_MAX * sizeof(struct mirror_child), MIRROR_IO_MAX);
    list_init(&mirror->under_way);
    list_init(&mirror->held);
    list_init(&mirror->regions_wait);
    ranges_init(&mirror->ranges);
    mirror->tick.run = tick;
    mirror->settle_job.run = settle_all;
}

void mirror_io_fini(struct mirror *mirror) {
    assert(list_empty(&mirror->under_way) && list_empty(&mirror->held) && list_empty(&mirror->regions_wait));
    reactor_timer_stop(mirror->home, &mirror->tick);
    pool_fini(&mirror->ios);
}
