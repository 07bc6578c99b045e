/* mirror:SIZE, a mirror of two RAM disks: what the engine itself costs. */
#include <stdio.h>

#include "blockdev/memory/memory.h"
#include "blockdev/mirror/mirror.h"
#include "programs/penstock-bench/target.h"

bool target_open_mirror(struct target *target, uint64_t blocks, struct error *error) {
    static const char *const names[TARGET_LEGS] = {"leg0", "leg1"};
    struct mirror_options options = {
        .name = "bench", .leg_count = TARGET_LEGS, .policy = REPLICA_ANY, .assume_equal = true, .home = target->data};
    for (unsigned i = 0; i < TARGET_LEGS; i++) {
        struct memory_device_options leg = {.name = names[i], .block_size = target->block_size, .block_count = blocks};
        if (!memory_device_create(target->graph, &leg, &target->legs[i], error))
            return false;
        options.legs[i].device = names[i];
    }
    return mirror_create(target->graph, target->control, &options, &target->device, error);
}

static void leg_removed(struct block_device *device, void *arg) {
    struct target *target = arg;
    (void)device;
    if (--target->legs_left == 0)
        target->closed(target);
}

/* The legs are gone when the mirror has let go of them. */
void target_close_mirror(struct target *target) {
    if (target->device != NULL)
        block_device_remove(target->device, NULL, NULL, NULL);
    target->device = NULL;
    target->legs_left = 1;
    for (unsigned i = 0; i < TARGET_LEGS; i++)
        if (target->legs[i] != NULL) {
            target->legs_left++;
            block_device_remove(target->legs[i], leg_removed, target, NULL);
        }
    leg_removed(NULL, target);
}
