/* Memory that outlives the process: a file in the system's shared memory, which is the kernel's as the page cache is, and goes
 * with it. Whoever maps it holds a lock on it, which ends with the last mapping. Behind the memory the file has a note of what it
 * is about. Whoever makes such a file first takes away those that nobody will look for; see sweep(). */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "host/linux/internal.h"

#define KEPT_FOLDER "/dev/shm"
#define KEPT_PREFIX "penstock-"
#define NOTE_MAGIC UINT64_C(0x3165746f6e745350)
enum {
    LOCK_TRIES = 20,
    LOCK_RETRY_US = 1000,
    LEFT_MAX = 64,    /* files that nobody lives with: beyond that the oldest go */
    LOOKED_AT = 16384 /* files at a time */
};

struct note {
    uint64_t magic;
    uint64_t device, inode; /* of the regular file at `path`; 0 = it is something else, or nothing is known */
    char path[PATH_MAX];
};

static void path_of(const char *name, char path[HOST_KEPT_NAME_SIZE + 32]) {
    snprintf(path, HOST_KEPT_NAME_SIZE + 32, KEPT_FOLDER "/" KEPT_PREFIX "%s", name);
}

/* Ours, nobody else's, and in memory: a file of a disk would be there after a loss of power. */
static bool is_ours(int fd, struct stat *ret_stat) {
    struct statfs statfs;
    return fstat(fd, ret_stat) == 0 && S_ISREG(ret_stat->st_mode) && ret_stat->st_uid == geteuid() &&
           (ret_stat->st_mode & 077) == 0 && ret_stat->st_nlink == 1 && fstatfs(fd, &statfs) == 0 &&
           (unsigned long)statfs.f_type == TMPFS_MAGIC;
}

/* A process that was killed may let go of its disk a moment before it does of this, and a sweep looks for a moment. */
static bool lock_soon(int fd) {
    for (unsigned tries = 0; flock(fd, LOCK_EX | LOCK_NB) != 0; tries++) {
        if (tries == LOCK_TRIES)
            return false;
        usleep(LOCK_RETRY_US);
    }
    return true;
}

/* What is there and locked now, or -1. */
static int open_there(const char *path) {
    int fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0 && !lock_soon(fd)) {
        close(fd);
        errno = EBUSY;
        return -1;
    }
    return fd;
}

/* ---- what it is about ---- */

static void write_note(int fd, const char *of, size_t bytes) {
    struct note note = {.magic = NOTE_MAGIC};
    struct stat stat_of;
    if (of != NULL && realpath(of, note.path) != NULL && stat(note.path, &stat_of) == 0 && S_ISREG(stat_of.st_mode)) {
        note.device = stat_of.st_dev;
        note.inode = stat_of.st_ino;
    }
    ssize_t written = pwrite(fd, &note, sizeof(note), (off_t)bytes); /* it has its space; without a note it goes by age */
    (void)written;
    (void)futimens(fd, NULL); /* which counts from now */
}

/* A file that was deleted will not be opened again. A disk that is unplugged may be. */
static bool is_about_what_is_gone(int fd, off_t size) {
    struct note note;
    struct stat stat_of;
    if (size < (off_t)sizeof(note) || pread(fd, &note, sizeof(note), size - (off_t)sizeof(note)) != (ssize_t)sizeof(note) ||
        note.magic != NOTE_MAGIC || note.inode == 0 || note.path[0] != '/' || memchr(note.path, '\0', sizeof(note.path)) == NULL)
        return false;
    if (stat(note.path, &stat_of) != 0)
        return errno == ENOENT || errno == ENOTDIR;
    return stat_of.st_dev != note.device || stat_of.st_ino != note.inode;
}

/* ---- those that nobody will look for ---- */

struct left {
    struct timespec used;
    char name[HOST_KEPT_NAME_SIZE + 16];
};

static int newest_first(const void *a, const void *b) {
    const struct left *x = a, *y = b;
    if (x->used.tv_sec != y->used.tv_sec)
        return x->used.tv_sec > y->used.tv_sec ? -1 : 1;
    return x->used.tv_nsec > y->used.tv_nsec ? -1 : x->used.tv_nsec < y->used.tv_nsec;
}

/* Opened and locked, if nobody lives with it and it is ours; else -1. */
static int open_left(int folder, const char *name, struct stat *ret_stat) {
    int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || (flock(fd, LOCK_EX | LOCK_NB) == 0 && is_ours(fd, ret_stat)))
        return fd;
    close(fd);
    return -1;
}

static void remove_left(int folder, const char *name) {
    struct stat stat;
    int fd = open_left(folder, name, &stat); /* still left, and not taken up meanwhile */
    if (fd < 0)
        return;
    (void)unlinkat(folder, name, 0);
    close(fd);
}

/* Of the files of this name's sort (what is before its first dash) that no process lives with: those about a file that is gone,
 * and the oldest beyond LEFT_MAX. What is taken away from a store that is opened all the same costs it a comparison with its
 * mirror's other legs, no data. */
static void sweep(const char *name) {
    char sort[HOST_KEPT_NAME_SIZE + 16];
    int length = snprintf(sort, sizeof(sort), KEPT_PREFIX "%.*s-", (int)strcspn(name, "-"), name);
    DIR *folder = opendir(KEPT_FOLDER);
    struct left *left = folder != NULL ? malloc((LEFT_MAX + 1) * sizeof(*left)) : NULL;
    unsigned count = 0, seen = 0;
    for (const struct dirent *entry; left != NULL && seen < LOOKED_AT && (entry = readdir(folder)) != NULL;) {
        struct stat stat;
        if (strncmp(entry->d_name, sort, (size_t)length) != 0 || strlen(entry->d_name) >= sizeof(left->name))
            continue;
        seen++;
        int fd = open_left(dirfd(folder), entry->d_name, &stat);
        if (fd < 0)
            continue;
        if (is_about_what_is_gone(fd, stat.st_size)) {
            (void)unlinkat(dirfd(folder), entry->d_name, 0);
        } else {
            left[count].used = stat.st_mtim;
            snprintf(left[count++].name, sizeof(left->name), "%s", entry->d_name);
        }
        close(fd);
        if (count > LEFT_MAX) {
            qsort(left, count, sizeof(*left), newest_first);
            remove_left(dirfd(folder), left[--count].name);
        }
    }
    free(left);
    if (folder != NULL)
        closedir(folder);
}

/* ---- */

static int make(const char *name, const char *path, size_t bytes) {
    int fd = open_there(path);
    if (fd < 0 && errno != ENOENT)
        return -1; /* somebody lives with it, or it is not ours */
    if (fd >= 0) {
        unlink(path);
        close(fd);
    }
    sweep(name);
    fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd >= 0 && (!lock_soon(fd) || posix_fallocate(fd, 0, (off_t)(bytes + sizeof(struct note))) != 0)) {
        unlink(path); /* memory that cannot be had would be a signal when it is touched */
        close(fd);
        return -1;
    }
    return fd;
}

void *linux_memory_keep(struct host *host, const char *name, const char *of, size_t bytes, bool anew) {
    (void)host;
    char path[HOST_KEPT_NAME_SIZE + 32];
    path_of(name, path);
    int fd = anew ? make(name, path, bytes) : open_there(path);
    if (fd < 0)
        return NULL;
    struct stat stat;
    bool good = is_ours(fd, &stat) && (uint64_t)stat.st_size == bytes + sizeof(struct note);
    void *memory = good ? mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (memory != MAP_FAILED)
        write_note(fd, of, bytes);
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
