/* Memory that outlives the process: a file in the system's shared memory, which is the kernel's as the page cache is, and goes
 * with it. Whoever maps it holds a lock on it, which ends with the last mapping. */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "host/linux/internal.h"

#define KEPT_FOLDER "/dev/shm"
enum { LOCK_TRIES = 20, LOCK_RETRY_US = 1000 };

static void path_of(const char *name, char path[HOST_KEPT_NAME_SIZE + 32]) {
    snprintf(path, HOST_KEPT_NAME_SIZE + 32, KEPT_FOLDER "/penstock-%s", name);
}

/* Ours, nobody else's, and in memory: a file of a disk would be there after a loss of power. */
static bool is_good(int fd, size_t bytes) {
    struct stat stat;
    struct statfs statfs;
    return fstat(fd, &stat) == 0 && S_ISREG(stat.st_mode) && stat.st_uid == geteuid() && (stat.st_mode & 077) == 0 &&
           stat.st_nlink == 1 && (uint64_t)stat.st_size == bytes && fstatfs(fd, &statfs) == 0 &&
           (unsigned long)statfs.f_type == TMPFS_MAGIC;
}

/* What is there and locked now, or -1. A process that was killed may let go of its disk a moment before it does of this. */
static int open_there(const char *path) {
    int fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    for (unsigned tries = 0; fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0; tries++) {
        if (tries == LOCK_TRIES) {
            close(fd);
            errno = EBUSY;
            return -1;
        }
        usleep(LOCK_RETRY_US);
    }
    return fd;
}

static int make(const char *path, size_t bytes) {
    int fd = open_there(path);
    if (fd < 0 && errno != ENOENT)
        return -1; /* somebody lives with it, or it is not ours */
    if (fd >= 0) {
        unlink(path);
        close(fd);
    }
    fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd >= 0 && (flock(fd, LOCK_EX | LOCK_NB) != 0 || posix_fallocate(fd, 0, (off_t)bytes) != 0)) {
        unlink(path); /* memory that cannot be had would be a signal when it is touched */
        close(fd);
        return -1;
    }
    return fd;
}

void *linux_memory_keep(struct host *host, const char *name, size_t bytes, bool anew) {
    (void)host;
    char path[HOST_KEPT_NAME_SIZE + 32];
    path_of(name, path);
    int fd = anew ? make(path, bytes) : open_there(path);
    if (fd < 0)
        return NULL;
    void *memory = is_good(fd, bytes) ? mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
    close(fd); /* the mapping has the file and its lock */
    return memory == MAP_FAILED ? NULL : memory;
}

void linux_memory_leave(struct host *host, const char *name, void *take_memory, size_t bytes, bool forget) {
    (void)host;
    char path[HOST_KEPT_NAME_SIZE + 32];
    path_of(name, path);
    if (forget)
        unlink(path);
    munmap(take_memory, bytes);
}
