/* The file device: a regular file or a block device of the host as a disk. Directly accessed (O_DIRECT) where the file system
 * can, else buffered. FLUSH is fdatasync; TRIM punches holes or discards; it holds its file so that no other process writes to
 * it.
 *
 * It is submitted to on any reactor. After a failed FLUSH no later FLUSH succeeds: the kernel has dropped what it could not
 * write, and asking again would prove nothing. Removing and creating the device anew ends that.
 *
 * Calling context: the control reactor. */
#pragma once

#include "block/device.h"

/* How long an opening waits for whoever holds the file, by default: a killed process's last writes land much sooner. */
#define FILE_DEVICE_HOLD_TIMEOUT_MS 5000

struct file_device_options {
    const char *name, *path; /* stay valid until `done` */
    struct uuid uuid;        /* nil = random */
    uint32_t block_size; /* bytes; 0 = a block device's logical block, 4096 on a file (512 if its size is no multiple of that) */
    bool read_only;      /* then the hold is shared with other readers */
    bool keep_space;     /* no TRIM, and zeroed ranges stay allocated */
    bool buffered;       /* no O_DIRECT */
    bool called_uring;   /* the storage dialect's other name for such a device: no difference but that */
    bool create;         /* make the file if it is absent, of create_size bytes */
    uint64_t create_size;
    uint64_t hold_timeout_ms; /* 0 = FILE_DEVICE_HOLD_TIMEOUT_MS */
};

/* Opening a file may sleep, so it goes on after submit. The caller's memory until `done`. */
struct file_device_create {
    struct file_device_options options;
    void (*done)(struct file_device_create *create); /* on the control reactor */
    bool ok;
    struct error error;
    struct block_device *device; /* registered */

    /* the device's */
    struct block_graph *graph;
    struct host_file_open open;
    struct reactor_job refused;
};

/* ERROR_EXISTS: the name is taken, or a device of this node has that path open. ERROR_NOT_FOUND: no such file. ERROR_BUSY:
 * another process holds it. ERROR_INVALID: the block size does not fit the file or its access. `done` is called later, never from
 * inside.
 */
void file_device_create_submit(struct block_graph *graph, struct reactor *control, struct file_device_create *create);

/* Reads the size anew (the file was grown, or the disk behind it) and tells who uses the device. ERROR_IO; ERROR_INVALID if it is
 * empty now or no multiple of the block size. */
bool file_device_rescan(struct block_device *device, struct error *error);

/* Makes a regular file longer or shorter, then the device. Shrinking is the caller's to have made sure of. The caller's memory
 * until `done`; the device must not be removed before. */
struct file_device_resize {
    struct block_device *device;
    uint64_t size; /* bytes; a multiple of the block size */
    void (*done)(struct file_device_resize *resize);
    bool ok;
    struct error error;

    /* the device's */
    struct host_job job;
    int result;
};
void file_device_resize_submit(struct reactor *control, struct file_device_resize *resize);

bool file_device_is(const struct block_device *device);

/* What bdev_get_bdevs tells. Valid while the device is registered. */
struct file_device_facts {
    const char *path;
    bool read_only, block_size_given, called_uring, keep_space, direct, in_memory, block_device;
    bool flush_failed;
};
void file_device_facts(const struct block_device *device, struct file_device_facts *ret_facts);

/* How an -errno of `op` (enum block_op) ends a request. Pure; for tests. */
enum io_status file_device_status(enum block_op op, int64_t result);
