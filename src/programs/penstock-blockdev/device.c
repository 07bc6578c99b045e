#include "programs/penstock-blockdev/device.h"

#include <stdio.h>

enum { LOOK_MS = 50 };

#define K(device, what, ...) ((device)->kernel->what((device)->kernel_arg, __VA_ARGS__))

static void make_path(const struct device *device, const char *volume, char to[DEVICE_PATH_SIZE]) {
    snprintf(to, DEVICE_PATH_SIZE, "%s/%s", device->folder, volume);
}

bool device_look(struct device *device, const char *volume, const char *nqn, struct device_status *ret_status,
                 struct error *error) {
    *ret_status = (struct device_status){0};
    if (!K(device, look, nqn, &ret_status->disk, error) || !K(device, mapping, volume, &ret_status->mapping, error))
        return false;
    if (ret_status->mapping.there)
        make_path(device, volume, ret_status->path);
    return true;
}

/* ---- attaching ---- */

static const struct kernel_path *find_path(const struct kernel_disk *disk, const struct device_target *target) {
    for (unsigned i = 0; i < disk->path_count; i++)
        if (strcmp(disk->paths[i].address, target->address) == 0 && strcmp(disk->paths[i].port, target->port) == 0)
            return &disk->paths[i];
    return NULL;
}

/* False: not one of them is there. */
static bool connect_all(struct device *device, const char *nqn, const struct device_target *targets, unsigned count,
                        struct error *error) {
    struct kernel_disk disk;
    unsigned there = 0;
    if (!K(device, look, nqn, &disk, error))
        return false;
    for (unsigned i = 0; i < count; i++) {
        const struct kernel_connect to = {nqn, targets[i].address, targets[i].port, device->host_nqn, device->host_id};
        there += find_path(&disk, &targets[i]) != NULL || K(device, connect, &to, error);
    }
    return there > 0;
}

static bool is_wanted(const struct kernel_path *path, const struct device_target *targets, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        if (strcmp(path->address, targets[i].address) == 0 && strcmp(path->port, targets[i].port) == 0)
            return true;
    return false;
}

/* Only when the disk has another path that is alive: nothing may be lost by it. */
static bool disconnect_others(struct device *device, const struct kernel_disk *disk, const struct device_target *targets,
                              unsigned count, struct error *error) {
    unsigned live = 0;
    for (unsigned i = 0; i < disk->path_count; i++)
        live += is_wanted(&disk->paths[i], targets, count) && strcmp(disk->paths[i].state, "live") == 0;
    for (unsigned i = 0; live > 0 && i < disk->path_count; i++)
        if (!is_wanted(&disk->paths[i], targets, count) && !K(device, disconnect, disk->paths[i].controller, error))
            return false;
    return true;
}

/* The device as it should be over the disk: made, or its table replaced under whoever has it open. */
static bool map(struct device *device, const char *volume, const struct kernel_disk *disk, struct error *error) {
    struct kernel_mapping mapping;
    char path[DEVICE_PATH_SIZE];
    if (!K(device, mapping, volume, &mapping, error))
        return false;
    bool stands = mapping.loaded && strcmp(mapping.below, disk->number) == 0 && mapping.bytes == disk->bytes;
    if (mapping.loaded && mapping.bytes > disk->bytes)
        return error_set(error, ERROR_INVALID, "the disk %s has %llu bytes, the device %s %llu: it is not made smaller",
                         disk->name, (unsigned long long)disk->bytes, volume, (unsigned long long)mapping.bytes);
    if (!stands && !K(device, load, volume, disk->number, disk->bytes, error))
        return false;
    /* What was sent to a disk that is gone waits in it for ever: so not with everything done. */
    if (!stands && mapping.loaded && !mapping.suspended && !K(device, suspend, volume, false, 0, error))
        return false;
    bool held = device->suspended_until_ms != 0;
    if (!held && (!stands || mapping.suspended) && !K(device, resume, volume, error))
        return false;
    if (!K(device, mapping, volume, &mapping, error))
        return false;
    make_path(device, volume, path);
    return K(device, node, path, mapping.number, error);
}

bool device_attach(struct device *device, const char *volume, const char *nqn, const struct device_target *targets,
                   unsigned count, bool only, uint64_t bytes, uint64_t timeout_ms, struct device_status *ret_status,
                   struct error *error) {
    uint64_t until = device->kernel->now_ms(device->kernel_arg) + timeout_ms;
    struct error last;
    error_clear(&last);
    for (;;) {
        struct kernel_disk disk;
        bool connected = connect_all(device, nqn, targets, count, &last);
        if (!K(device, look, nqn, &disk, error))
            return false;
        if (connected && disk.name[0] != '\0' && disk.bytes != 0 && disk.bytes >= bytes) {
            if (!map(device, volume, &disk, error) || (only && !disconnect_others(device, &disk, targets, count, error)))
                return false;
            return device_look(device, volume, nqn, ret_status, error);
        }
        if (device->kernel->now_ms(device->kernel_arg) >= until) {
            if (!connected)
                return error_set(error, ERROR_TIMED_OUT, "%s", last.text);
            return error_set(error, ERROR_TIMED_OUT, "the kernel shows %s%s behind %s within %llu ms",
                             disk.name[0] == '\0' ? "no disk" : "a smaller disk, ", disk.name, nqn,
                             (unsigned long long)timeout_ms);
        }
        device->kernel->sleep(device->kernel_arg, LOOK_MS);
    }
}

bool device_detach(struct device *device, const char *volume, const char *nqn, struct error *error) {
    struct kernel_mapping mapping;
    struct kernel_disk disk;
    char path[DEVICE_PATH_SIZE];
    if (!K(device, mapping, volume, &mapping, error))
        return false;
    if (mapping.there && mapping.opens > 0)
        return error_set(error, ERROR_BUSY, "the device of volume %s is open", volume);
    if (mapping.suspended && !K(device, resume, volume, error)) /* what waits in it ends first */
        return false;
    device->suspended_until_ms = 0;
    if (mapping.there && !K(device, remove, volume, error))
        return false;
    make_path(device, volume, path);
    if (!K(device, node, path, NULL, error) || !K(device, look, nqn, &disk, error))
        return false;
    for (unsigned i = 0; i < disk.path_count; i++)
        if (!K(device, disconnect, disk.paths[i].controller, error))
            return false;
    return true;
}

/* ---- suspension ---- */

bool device_suspend(struct device *device, const char *volume, uint64_t lease_ms, uint64_t *ret_lease, struct error *error) {
    struct kernel_mapping mapping;
    uint64_t until = device->kernel->now_ms(device->kernel_arg) + lease_ms;
    if (device->suspended_until_ms != 0)
        return error_set(error, ERROR_BUSY, "the device of volume %s is suspended", volume);
    if (!K(device, mapping, volume, &mapping, error))
        return false;
    if (!mapping.loaded)
        return error_set(error, ERROR_BUSY, "there is no device of volume %s", volume);
    device->suspended_until_ms = until; /* from before it is: a helper that dies in it leaves it to the next one's attach */
    device->expired = false;
    *ret_lease = ++device->lease;
    if (K(device, suspend, volume, true, lease_ms, error) && device->kernel->now_ms(device->kernel_arg) < until)
        return true;
    struct error ignored;
    K(device, resume, volume, &ignored);
    device->suspended_until_ms = 0;
    return error->code == ERROR_NONE
               ? error_set(error, ERROR_TIMED_OUT, "what was under way did not end within %llu ms", (unsigned long long)lease_ms)
               : false;
}

bool device_resume(struct device *device, const char *volume, uint64_t lease, struct error *error) {
    device_guard(device, volume, false);
    if (device->suspended_until_ms == 0 || lease != device->lease)
        return error_set(error, ERROR_TIMED_OUT, "the suspension had ended by itself: the device went on");
    if (!K(device, resume, volume, error))
        return false;
    device->suspended_until_ms = 0;
    return true;
}

uint64_t device_guard(struct device *device, const char *volume, bool owner_is_gone) {
    uint64_t now = device->kernel->now_ms(device->kernel_arg);
    struct error error;
    if (device->suspended_until_ms == 0)
        return UINT64_MAX;
    if (!owner_is_gone && now < device->suspended_until_ms)
        return device->suspended_until_ms - now;
    if (!K(device, resume, volume, &error)) /* it must go on: tried until it does */
        return LOOK_MS;
    device->suspended_until_ms = 0;
    device->expired = true;
    return UINT64_MAX;
}
