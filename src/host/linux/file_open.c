/* Opening a file or block device: what it is, whether it can be accessed directly and how aligned, and holding it so that no
 * other process writes to it. All of it may sleep: runs in a helper thread. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "host/linux/internal.h"

enum { HOLD_RETRY_NS = 2000000, PROBE_BYTES = 4096 };
#define HOLD_OF_DEAD_NS (30 * NS_PER_S)

/* ---- who holds it ---- */

/* The process with a flock on this inode, from /proc/locks; 0 if it cannot be had. */
static int lock_owner(const struct stat *stat) {
    FILE *locks = fopen("/proc/locks", "re");
    if (locks == NULL)
        return 0;
    char line[256];
    int owner = 0;
    while (owner <= 0 && fgets(line, sizeof(line), locks) != NULL) {
        int pid;
        unsigned major_number, minor_number;
        unsigned long long inode;
        if (sscanf(line, "%*d: FLOCK %*s %*s %d %x:%x:%llu", &pid, &major_number, &minor_number, &inode) == 4 &&
            makedev(major_number, minor_number) == stat->st_dev && inode == stat->st_ino)
            owner = pid;
    }
    fclose(locks);
    return owner;
}

/* Where a block device is mounted, "" if it is not or cannot be had. */
static void mount_point(dev_t device, char *to, size_t size) {
    to[0] = '\0';
    FILE *mounts = fopen("/proc/self/mountinfo", "re");
    if (mounts == NULL)
        return;
    char line[4096], point[256];
    unsigned major_number, minor_number;
    while (to[0] == '\0' && fgets(line, sizeof(line), mounts) != NULL)
        if (sscanf(line, "%*d %*d %u:%u %*s %255s", &major_number, &minor_number, point) == 3 &&
            makedev(major_number, minor_number) == device)
            snprintf(to, size, "%s", point);
    fclose(mounts);
}

static bool held_error(struct host_file_open *open, const struct stat *stat) {
    char comm[32] = "?", path[64], point[256];
    int owner = lock_owner(stat);
    if (owner > 0) {
        snprintf(path, sizeof(path), "/proc/%d/comm", owner);
        FILE *file = fopen(path, "re");
        if (file != NULL) {
            if (fgets(comm, sizeof(comm), file) != NULL)
                comm[strcspn(comm, "\n")] = '\0';
            fclose(file);
        }
        error_set(&open->error, ERROR_BUSY, "%s is held by process %d (%s)%s", open->path, owner, comm,
                  owner == (int)getpid() ? ", which is this one" : "");
        return error_hint(&open->error, "end that process, or name another disk");
    }
    mount_point(S_ISBLK(stat->st_mode) ? stat->st_rdev : 0, point, sizeof(point));
    if (point[0] != '\0') {
        error_set(&open->error, ERROR_BUSY, "%s is mounted on %s", open->path, point);
        return error_hint(&open->error, "unmount it first");
    }
    error_set(&open->error, ERROR_BUSY, "%s is held by another process", open->path);
    return error_hint(&open->error, "find it with fuser or lsblk and end it, or name another disk");
}

/* ---- facts ---- */

/* A number of the block device's queue; a partition's is its disk's. UINT64_MAX if it is unknown (or no block device). */
static uint64_t queue_number(dev_t device, const char *name) {
    static const char *const roots[] = {"queue", "../queue"};
    for (size_t i = 0; i < array_count(roots); i++) {
        char path[128];
        snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s/%s", major(device), minor(device), roots[i], name);
        FILE *file = fopen(path, "re");
        unsigned long long n;
        if (file == NULL)
            continue;
        bool ok = fscanf(file, "%llu", &n) == 1;
        fclose(file);
        if (ok)
            return n;
    }
    return UINT64_MAX;
}

static bool can_read_directly(int fd, uint32_t alignment) {
    void *buffer = aligned_alloc(PROBE_BYTES, PROBE_BYTES);
    bool ok = buffer != NULL && pread(fd, buffer, alignment, 0) >= 0;
    free(buffer);
    return ok;
}

/* The alignments of direct access: what the kernel says, else what works. False: there is no direct access. */
static bool direct_alignments(int fd, const struct stat *stat, struct host_file_facts *facts) {
    uint32_t offset_alignment = 0, memory_alignment = 0;
#ifdef STATX_DIOALIGN
    struct statx facts_x;
    if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &facts_x) == 0 && (facts_x.stx_mask & STATX_DIOALIGN) != 0) {
        if (facts_x.stx_dio_offset_align == 0)
            return false;
        offset_alignment = facts_x.stx_dio_offset_align;
        memory_alignment = facts_x.stx_dio_mem_align;
    }
#endif
    int sector;
    if (offset_alignment == 0 && S_ISBLK(stat->st_mode) && ioctl(fd, BLKSSZGET, &sector) == 0)
        offset_alignment = memory_alignment = (uint32_t)sector;
    if (offset_alignment == 0) /* an empty file would take any: be careful then */
        offset_alignment = memory_alignment = stat->st_size != 0 && can_read_directly(fd, 512) ? 512 : PROBE_BYTES;
    if (offset_alignment > PROBE_BYTES || !can_read_directly(fd, offset_alignment))
        return false;
    facts->logical_block = offset_alignment;
    facts->memory_alignment = max_u32(memory_alignment, 1);
    return true;
}

static int read_size(int fd, bool block_device, uint64_t *ret_bytes) {
    struct stat stat;
    if (block_device)
        return ioctl(fd, BLKGETSIZE64, ret_bytes) == 0 ? 0 : -errno;
    if (fstat(fd, &stat) != 0)
        return -errno;
    *ret_bytes = (uint64_t)stat.st_size;
    return 0;
}

/* Fills the facts and sets O_DIRECT if it is asked for and possible. */
static bool find_facts(struct host_file_open *open, int fd, const struct stat *stat) {
    struct host_file_facts *facts = &open->facts;
    *facts = (struct host_file_facts){.logical_block = 1, .memory_alignment = 1, .physical_block = 512};
    facts->block_device = S_ISBLK(stat->st_mode);
    facts->device = facts->block_device ? stat->st_rdev : stat->st_dev;
    facts->inode = facts->block_device ? 0 : stat->st_ino;
    int result = read_size(fd, facts->block_device, &facts->size);
    if (result != 0)
        return error_set_errno(&open->error, result, "cannot read the size of %s", open->path);
    struct statfs fs;
    if (!facts->block_device && fstatfs(fd, &fs) == 0)
        facts->in_memory = fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC;

    uint64_t physical = queue_number(facts->device, "physical_block_size");
    if (is_power_of_two(physical) && physical <= MIB(1))
        facts->physical_block = (uint32_t)physical;
    if (facts->block_device) {
        uint64_t discard = queue_number(facts->device, "discard_max_bytes");
        facts->can_punch = discard != 0 && discard != UINT64_MAX;
        facts->can_zero = true;            /* the kernel writes them if the device cannot */
    } else if (!open->options.read_only) { /* behind the end: changes nothing */
        facts->can_punch = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, stat->st_size, PROBE_BYTES) == 0;
        facts->can_zero = facts->can_punch;
    }

    int access = open->options.read_only ? O_RDONLY : O_RDWR;
    facts->direct = open->options.direct && !facts->in_memory && fcntl(fd, F_SETFL, access | O_DIRECT) == 0 &&
                    direct_alignments(fd, stat, facts);
    /* O_NONBLOCK was for opening only: io_uring would answer -EAGAIN. */
    if (!facts->direct && fcntl(fd, F_SETFL, access) != 0)
        return error_set_errno(&open->error, errno, "cannot set up %s", open->path);
    return true;
}

/* ---- opening ---- */

/* A file made here is durable by name before anyone relies on it. */
static bool make_durable(struct host_file_open *open, int fd) {
    char copy[PATH_MAX];
    snprintf(copy, sizeof(copy), "%s", open->path);
    int folder = -1;
    bool ok = fsync(fd) == 0 && (folder = openat(AT_FDCWD, dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) >= 0 &&
              fsync(folder) == 0;
    int number = errno;
    if (folder >= 0)
        close(folder);
    return ok || error_set_errno(&open->error, number, "cannot make %s durable", open->path);
}

static int create_file(struct host_file_open *open) {
    int fd = openat(AT_FDCWD, open->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        if (errno != EEXIST) /* made by someone meanwhile: the caller looks again */
            error_set_errno(&open->error, errno, "cannot create %s", open->path);
        return -1;
    }
    bool ok = open->options.create_size <= INT64_MAX && ftruncate(fd, (off_t)open->options.create_size) == 0;
    if (!ok)
        error_set_errno(&open->error, open->options.create_size <= INT64_MAX ? errno : EFBIG, "cannot size %s", open->path);
    if (!ok || !make_durable(open, fd)) {
        unlink(open->path);
        close(fd);
        return -1;
    }
    return fd;
}

/* Opens, creates where asked. A block device that is to be held is opened with O_EXCL: -1 with *ret_held if someone has it. */
static int open_or_create(struct host_file_open *open, struct stat *stat, bool *ret_held) {
    *ret_held = false;
    for (int tries = 0; tries < 8; tries++) {
        if (fstatat(AT_FDCWD, open->path, stat, 0) != 0) {
            if (errno == ENOENT && open->options.create) {
                int fd = create_file(open);
                if (fd >= 0 && fstat(fd, stat) == 0)
                    return fd;
                if (fd >= 0)
                    close(fd);
                if (open->error.code != ERROR_NONE)
                    return -1;
                continue;
            }
            error_set_errno(&open->error, errno, "cannot open %s", open->path);
            return -1;
        }
        if (!S_ISREG(stat->st_mode) && !S_ISBLK(stat->st_mode)) {
            error_set(&open->error, ERROR_INVALID, "%s is neither a regular file nor a block device", open->path);
            return -1;
        }
        bool exclusive = S_ISBLK(stat->st_mode) && open->options.hold && !open->options.read_only;
        /* O_NONBLOCK: if it became a FIFO meanwhile, opening must not hang. */
        int flags = (open->options.read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK | (exclusive ? O_EXCL : 0);
        int fd = openat(AT_FDCWD, open->path, flags);
        if (fd < 0 && exclusive && errno == EBUSY) {
            *ret_held = true;
            return -1;
        }
        if (fd < 0 && errno == ENOENT)
            continue;
        if (fd < 0) {
            error_set_errno(&open->error, errno, "cannot open %s", open->path);
            return -1;
        }
        mode_t seen = stat->st_mode;
        if (fstat(fd, stat) == 0 && (stat->st_mode & S_IFMT) == (seen & S_IFMT))
            return fd;
        close(fd);
    }
    error_set(&open->error, ERROR_BUSY, "%s keeps changing while it is opened", open->path);
    return -1;
}

/* Who has the lock has ended, but for its last requests: a slow disk may take seconds for them. */
static bool held_by_dead(const struct stat *stat) {
    int owner = lock_owner(stat);
    return owner > 0 && kill(owner, 0) != 0 && errno == ESRCH;
}

/* The lock lies on the description that carries the I/O: requests of a killed process still hold it, so having it means that its
 * last write has landed. */
static int open_and_hold(struct host_file_open *open, struct stat *stat) {
    struct host *host = ((struct thread_pool_work *)(void *)open->host_private)->loop->base.host;
    uint64_t begin_ns = host_now_ns(host), give_up_ns = begin_ns + open->options.hold_timeout_ms * NS_PER_MS;
    for (;;) {
        bool held;
        int fd = open_or_create(open, stat, &held);
        if (fd < 0 && !held)
            return -1;
        if (fd >= 0) {
            if (!open->options.hold || flock(fd, (open->options.read_only ? LOCK_SH : LOCK_EX) | LOCK_NB) == 0)
                return fd;
            int number = errno;
            close(fd);
            if (number != EWOULDBLOCK && number != EINTR) {
                error_set_errno(&open->error, number, "cannot lock %s", open->path);
                return -1;
            }
        }
        uint64_t now = host_now_ns(host);
        if (now >= give_up_ns && !(now < begin_ns + HOLD_OF_DEAD_NS && open->options.hold_timeout_ms > 0 && held_by_dead(stat))) {
            held_error(open, stat);
            return -1;
        }
        struct timespec pause = {.tv_nsec = HOLD_RETRY_NS};
        nanosleep(&pause, NULL);
    }
}

static struct host_file_open *open_of(struct thread_pool_work *work) {
    return container_of((void **)(void *)work, struct host_file_open, host_private[0]);
}

static void open_run(struct thread_pool_work *work) {
    struct host_file_open *open = open_of(work);
    struct stat stat;
    int fd = open_and_hold(open, &stat);
    struct linux_file *file = NULL;
    if (fd < 0)
        return;
    if (find_facts(open, fd, &stat)) {
        file = calloc(1, sizeof(*file));
        if (file == NULL)
            error_set(&open->error, ERROR_NO_MEMORY, "no memory to open %s", open->path);
    }
    if (file == NULL) {
        close(fd);
        return;
    }
    *file = (struct linux_file){.fd = fd, .synchronous = open->facts.in_memory, .block_device = open->facts.block_device};
    file->base.host = work->loop->base.host;
    open->file = &file->base;
    open->ok = true;
}

static void open_done(struct thread_pool_work *work) { open_of(work)->done(open_of(work)); }

void linux_file_open_submit(struct host_loop *base, struct host_file_open *open) {
    struct linux_loop *loop = (struct linux_loop *)base;
    static_assert(sizeof(struct thread_pool_work) <= sizeof(open->host_private), "fits the request");
    struct thread_pool_work *work = (struct thread_pool_work *)(void *)open->host_private;
    *work = (struct thread_pool_work){.loop = loop, .run = open_run, .done = open_done};
    open->ok = false;
    open->file = NULL;
    error_clear(&open->error);
    thread_pool_submit(&loop->host->jobs, work);
}

void linux_file_close(struct host_file *base) {
    struct linux_file *file = (struct linux_file *)base;
    close(file->fd);
    free(file);
}

int linux_file_size(struct host_file *base, uint64_t *ret_bytes) {
    struct linux_file *file = (struct linux_file *)base;
    return read_size(file->fd, file->block_device, ret_bytes);
}

int linux_file_truncate(struct host_file *base, uint64_t bytes) {
    struct linux_file *file = (struct linux_file *)base;
    if (bytes > INT64_MAX)
        return -EFBIG;
    return ftruncate(file->fd, (off_t)bytes) == 0 ? 0 : -errno;
}
