#include "blockdev/mirror/fan.h"

static void all_answered(struct reactor_job *job) {
    struct mirror_fan *fan = container_of(job, struct mirror_fan, job);
    fan->then(fan);
}

static void answered(struct block_request *request) {
    struct mirror_fan_request *own = container_of(request, struct mirror_fan_request, request);
    struct mirror_fan *fan = own->fan;
    struct mirror_leg *leg = &fan->mirror->legs[own - fan->requests];
    enum io_status status = (enum io_status)request->status;
    if (--leg->outstanding == 0 && leg->lost)
        task_wake(&leg->task);
    if (status != IO_OK && fan->generations[leg->index] == leg->generation && !mirror_leg_judge(leg, status)) {
        fan->bad |= leg->bit;
        fan->passing |= status == IO_NO_MEMORY ? leg->bit : 0;
    }
    if (--fan->waiting == 0)
        reactor_defer(fan->mirror->home, &fan->job);
}

void mirror_fan_init(struct mirror_fan *fan, struct mirror *mirror) {
    *fan = (struct mirror_fan){.mirror = mirror, .job.run = all_answered};
}

void mirror_fan_begin(struct mirror_fan *fan, mirror_mask legs) {
    fan->legs = legs;
    fan->bad = fan->passing = 0;
    mirror_for_each_leg(fan->mirror, leg) fan->generations[leg->index] = leg->generation;
}

mirror_mask mirror_fan_there(const struct mirror_fan *fan) {
    mirror_mask there = 0;
    mirror_for_each_leg(fan->mirror, leg) if ((fan->legs & leg->bit) != 0 && mirror_leg_is_up(leg) &&
                                              fan->generations[leg->index] == leg->generation) there |= leg->bit;
    return there;
}

void mirror_fan_round(struct mirror_fan *fan) {
    fan->bad = fan->passing = 0;
    fan->waiting = 1; /* until all are sent */
}

void mirror_fan_send(struct mirror_fan *fan, struct mirror_leg *leg, enum block_op op, uint64_t argument, uint64_t offset,
                     void *bytes, uint64_t length) {
    struct mirror_fan_request *own = &fan->requests[leg->index];
    bool sums = op == BLOCK_REPLICA_GET;
    own->fan = fan;
    own->slice = (struct slice){bytes, sums ? length / REPLICA_BLOCK_BYTES * 8 : length};
    own->request = (struct block_request){.op = (uint8_t)op,
                                          .flags = BLOCK_FAIL_FAST,
                                          .slices = &own->slice,
                                          .slice_count = 1,
                                          .offset = offset,
                                          .length = own->slice.length,
                                          .argument = argument,
                                          .association = leg->association,
                                          .complete = answered};
    fan->waiting++;
    leg->outstanding++;
    block_submit(leg->channel, &own->request);
}

void mirror_fan_wait(struct mirror_fan *fan, void (*then)(struct mirror_fan *fan)) {
    fan->then = then;
    if (--fan->waiting == 0)
        reactor_defer(fan->mirror->home, &fan->job);
}
