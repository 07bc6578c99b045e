/* The block device of a volume over a kernel that is made here: attached whatever was there before, replaced while it is open,
 * suspended no longer than it may be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "programs/penstock-blockdev/device.h"

#define NQN "nqn.2023-01.io.longhorn.spdk:volume-v"

struct world {
    struct kernel_disk disk;
    struct kernel_mapping mapping;
    char loaded[16], node[16]; /* table to come; number of the node, "" = none */
    uint64_t loaded_bytes, now_ms;
    uint64_t disk_after_ms; /* the kernel shows it then */
    const char *dead;       /* port of a target that does not answer */
    unsigned connects, disconnects, suspends, resumes;
    bool stuck, cannot_resume; /* what is under way does not end */
    struct device device;
};

static bool look(void *arg, const char *nqn, struct kernel_disk *ret_disk, struct error *error) {
    struct world *world = arg;
    (void)error;
    assert_string_equal(nqn, NQN);
    *ret_disk = world->disk;
    if (world->now_ms < world->disk_after_ms)
        ret_disk->name[0] = '\0';
    return true;
}

static bool connect_to(void *arg, const struct kernel_connect *to, struct error *error) {
    struct world *world = arg;
    if (world->dead != NULL && strcmp(to->port, world->dead) == 0)
        return error_set(error, ERROR_IO, "port %s does not answer", to->port);
    struct kernel_path *path = &world->disk.paths[world->disk.path_count++];
    *path = (struct kernel_path){.state = "live"};
    snprintf(path->controller, sizeof(path->controller), "nvme%u", world->connects++);
    snprintf(path->address, sizeof(path->address), "%s", to->address);
    snprintf(path->port, sizeof(path->port), "%s", to->port);
    return true;
}

static bool disconnect(void *arg, const char *controller, struct error *error) {
    struct world *world = arg;
    struct kernel_disk *disk = &world->disk;
    (void)error;
    for (unsigned i = 0; i < disk->path_count; i++)
        if (strcmp(disk->paths[i].controller, controller) == 0) {
            disk->paths[i] = disk->paths[--disk->path_count];
            world->disconnects++;
        }
    return true;
}

static bool mapping(void *arg, const char *name, struct kernel_mapping *ret_mapping, struct error *error) {
    struct world *world = arg;
    assert_string_equal(name, "v");
    error_clear(error);
    *ret_mapping = world->mapping;
    return true;
}

static bool load(void *arg, const char *name, const char *below, uint64_t bytes, struct error *error) {
    struct world *world = arg;
    (void)name;
    (void)error;
    world->mapping.there = true;
    snprintf(world->mapping.number, sizeof(world->mapping.number), "253:0");
    snprintf(world->loaded, sizeof(world->loaded), "%s", below);
    world->loaded_bytes = bytes;
    return true;
}

static bool suspend(void *arg, const char *name, bool whole, uint64_t timeout_ms, struct error *error) {
    struct world *world = arg;
    (void)name;
    world->suspends++;
    if (whole && world->stuck) {
        world->now_ms += timeout_ms;
        return error_set(error, ERROR_TIMED_OUT, "it took too long");
    }
    world->mapping.suspended = true;
    return true;
}

static bool resume(void *arg, const char *name, struct error *error) {
    struct world *world = arg;
    (void)name;
    if (world->cannot_resume)
        return error_set(error, ERROR_IO, "it cannot");
    world->resumes++;
    world->mapping.suspended = false;
    if (world->loaded[0] != '\0') {
        memcpy(world->mapping.below, world->loaded, sizeof(world->loaded));
        world->mapping.bytes = world->loaded_bytes;
        world->mapping.loaded = true;
        world->loaded[0] = '\0';
    }
    return true;
}

static bool remove_device(void *arg, const char *name, struct error *error) {
    struct world *world = arg;
    (void)name;
    (void)error;
    world->mapping = (struct kernel_mapping){0};
    return true;
}

static bool node(void *arg, const char *path, const char *number, struct error *error) {
    struct world *world = arg;
    (void)error;
    assert_string_equal(path, "/dev/longhorn/v");
    snprintf(world->node, sizeof(world->node), "%s", number == NULL ? "" : number);
    return true;
}

static void sleep_ms(void *arg, uint64_t ms) { ((struct world *)arg)->now_ms += ms; }
static uint64_t now_ms(void *arg) { return ((struct world *)arg)->now_ms; }

static const struct kernel_ops kernel = {.look = look,
                                         .connect = connect_to,
                                         .disconnect = disconnect,
                                         .mapping = mapping,
                                         .load = load,
                                         .suspend = suspend,
                                         .resume = resume,
                                         .remove = remove_device,
                                         .node = node,
                                         .sleep = sleep_ms,
                                         .now_ms = now_ms};

static const struct device_target targets[] = {{"10.0.0.1", "20001"}, {"10.0.0.2", "20002"}};

static void begin(struct world *world) {
    *world = (struct world){.now_ms = 1000, .disk = {.name = "nvme0n1", .number = "259:0", .bytes = MIB(64)}};
    world->device =
        (struct device){.kernel = &kernel, .kernel_arg = world, .folder = "/dev/longhorn", .host_nqn = "h", .host_id = "i"};
}

static enum error_code attach(struct world *world, unsigned count, bool only, uint64_t bytes) {
    struct device_status status;
    struct error error;
    error_clear(&error);
    if (!device_attach(&world->device, "v", NQN, targets, count, only, bytes, 5000, &status, &error))
        return error.code;
    assert_string_equal(status.path, "/dev/longhorn/v");
    assert_int_equal(status.mapping.bytes, world->disk.bytes);
    assert_true(status.mapping.bytes >= bytes);
    return ERROR_NONE;
}

static void check(const struct world *world, unsigned paths) {
    assert_int_equal(world->disk.path_count, paths);
    assert_true(world->mapping.loaded && !world->mapping.suspended);
    assert_string_equal(world->mapping.below, world->disk.number);
    assert_string_equal(world->node, world->mapping.number);
}

static void test_attach(void **state) {
    struct world world;
    (void)state;
    begin(&world);
    world.disk_after_ms = 2500;
    assert_int_equal(attach(&world, 1, true, MIB(64)), ERROR_NONE);
    check(&world, 1);
    assert_true(world.now_ms >= 2500);
    assert_int_equal(attach(&world, 1, true, MIB(64)), ERROR_NONE);
    assert_int_equal(world.connects, 1); /* all is as it should be: nothing is done */
    assert_int_equal(world.resumes, 1);
    assert_int_equal(world.suspends, 0);
}

/* As in a switch-over: both paths, then the new one alone. */
static void test_paths(void **state) {
    struct world world;
    (void)state;
    begin(&world);
    assert_int_equal(attach(&world, 1, true, 0), ERROR_NONE);
    assert_int_equal(attach(&world, 2, false, 0), ERROR_NONE);
    check(&world, 2);
    struct device_status status;
    struct error error;
    assert_true(device_attach(&world.device, "v", NQN, &targets[1], 1, true, 0, 5000, &status, &error));
    check(&world, 1);
    assert_string_equal(world.disk.paths[0].port, "20002");
    assert_int_equal(world.suspends, 0);
}

/* The last path that lives is not given up, whatever is wanted. */
static void test_last_path(void **state) {
    struct world world;
    struct device_status status;
    struct error error;
    (void)state;
    begin(&world);
    assert_int_equal(attach(&world, 2, false, 0), ERROR_NONE);
    snprintf(world.disk.paths[1].state, sizeof(world.disk.paths[1].state), "connecting");
    assert_true(device_attach(&world.device, "v", NQN, &targets[1], 1, true, 0, 5000, &status, &error));
    check(&world, 2);
}

static void test_dead_targets(void **state) {
    struct world world;
    (void)state;
    begin(&world);
    world.dead = "20001";
    assert_int_equal(attach(&world, 2, true, 0), ERROR_NONE);
    check(&world, 1);
    begin(&world);
    world.dead = "20001";
    assert_int_equal(attach(&world, 1, true, 0), ERROR_TIMED_OUT);
    assert_false(world.mapping.there);
    begin(&world);
    assert_int_equal(attach(&world, 1, true, MIB(128)), ERROR_TIMED_OUT); /* it is smaller than it must be */
    assert_false(world.mapping.there);
}

/* Another disk below, or a larger one: under whoever has it open, without waiting for what the old one has. */
static void test_replacement(void **state) {
    struct world world;
    (void)state;
    begin(&world);
    assert_int_equal(attach(&world, 1, true, 0), ERROR_NONE);
    world.mapping.opens = 1;
    world.stuck = true;
    snprintf(world.disk.number, sizeof(world.disk.number), "259:7");
    assert_int_equal(attach(&world, 1, true, 0), ERROR_NONE);
    check(&world, 1);
    world.disk.bytes = MIB(96);
    assert_int_equal(attach(&world, 1, true, MIB(96)), ERROR_NONE);
    check(&world, 1);
    assert_int_equal(world.suspends, 2);
    world.disk.bytes = MIB(32);
    assert_int_equal(attach(&world, 1, true, 0), ERROR_INVALID); /* never smaller */
    assert_int_equal(world.mapping.bytes, MIB(96));
}

static void test_suspension(void **state) {
    struct world world;
    struct error error;
    uint64_t lease;
    (void)state;
    begin(&world);
    assert_false(device_suspend(&world.device, "v", 5000, &lease, &error));
    assert_int_equal(error.code, ERROR_BUSY);
    assert_int_equal(attach(&world, 1, true, 0), ERROR_NONE);
    assert_int_equal(device_guard(&world.device, "v", false), UINT64_MAX);
    assert_true(device_suspend(&world.device, "v", 5000, &lease, &error));
    assert_true(world.mapping.suspended);
    assert_false(device_suspend(&world.device, "v", 5000, &lease, &error));
    assert_int_equal(device_guard(&world.device, "v", false), 5000);
    assert_int_equal(attach(&world, 1, true, 0), ERROR_NONE); /* leaves it suspended */
    assert_true(world.mapping.suspended);
    assert_true(device_resume(&world.device, "v", lease, &error));
    assert_false(world.mapping.suspended);
    /* By time, by the owner's death, by another's resumption. */
    assert_true(device_suspend(&world.device, "v", 5000, &lease, &error));
    world.now_ms += 5000;
    assert_int_equal(device_guard(&world.device, "v", false), UINT64_MAX);
    assert_false(world.mapping.suspended);
    assert_false(device_resume(&world.device, "v", lease, &error));
    assert_int_equal(error.code, ERROR_TIMED_OUT);
    assert_true(device_suspend(&world.device, "v", 5000, &lease, &error));
    assert_false(device_resume(&world.device, "v", lease - 1, &error));
    assert_true(world.mapping.suspended);
    assert_int_equal(device_guard(&world.device, "v", true), UINT64_MAX);
    assert_false(world.mapping.suspended);
}

/* It goes on, come what may. */
static void test_guard(void **state) {
    struct world world;
    struct error error;
    uint64_t lease;
    (void)state;
    begin(&world);
    assert_int_equal(attach(&world, 1, true, 0), ERROR_NONE);
    world.stuck = true;
    assert_false(device_suspend(&world.device, "v", 3000, &lease, &error));
    assert_int_equal(error.code, ERROR_TIMED_OUT);
    assert_false(world.mapping.suspended);
    world.stuck = false;
    assert_true(device_suspend(&world.device, "v", 3000, &lease, &error));
    world.cannot_resume = true;
    assert_true(device_guard(&world.device, "v", true) < 1000); /* again, soon */
    world.cannot_resume = false;
    assert_int_equal(device_guard(&world.device, "v", true), UINT64_MAX);
    assert_false(world.mapping.suspended);
    /* A helper that died left it suspended: the next one's attach lets it go on. */
    world.mapping.suspended = true;
    assert_int_equal(attach(&world, 1, true, 0), ERROR_NONE);
    check(&world, 1);
}

static void test_detach(void **state) {
    struct world world;
    struct error error;
    uint64_t lease;
    (void)state;
    begin(&world);
    assert_true(device_detach(&world.device, "v", NQN, &error)); /* nothing there */
    assert_int_equal(attach(&world, 2, true, 0), ERROR_NONE);
    world.mapping.opens = 1;
    assert_false(device_detach(&world.device, "v", NQN, &error));
    assert_int_equal(error.code, ERROR_BUSY);
    check(&world, 2);
    world.mapping.opens = 0;
    assert_true(device_suspend(&world.device, "v", 3000, &lease, &error));
    assert_true(device_detach(&world.device, "v", NQN, &error));
    assert_true(!world.mapping.there && world.node[0] == '\0' && world.disk.path_count == 0);
    assert_int_equal(device_guard(&world.device, "v", false), UINT64_MAX);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_attach),      cmocka_unit_test(test_paths),
                                       cmocka_unit_test(test_last_path),   cmocka_unit_test(test_dead_targets),
                                       cmocka_unit_test(test_replacement), cmocka_unit_test(test_suspension),
                                       cmocka_unit_test(test_guard),       cmocka_unit_test(test_detach)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
