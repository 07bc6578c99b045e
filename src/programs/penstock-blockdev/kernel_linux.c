/* The kernel itself: sysfs to look, libnvme to connect, libdevmapper for the device. Looking opens no device: one whose path is
 * gone would not answer. */
#include "programs/penstock-blockdev/kernel.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <libdevmapper.h>
#include <libnvme.h>

enum { SECTOR = 512, PATH_SIZE = 512 };

/* ---- sysfs ---- */

/* The first line of a file; "" if there is none. */
static void read_line(char *to, size_t size, const char *format, const char *a, const char *b) {
    char path[PATH_SIZE];
    to[0] = '\0';
    if (snprintf(path, sizeof(path), format, a, b) >= (int)sizeof(path))
        return;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t length = read(fd, to, size - 1);
    close(fd);
    to[length < 0 ? 0 : length] = '\0';
    to[strcspn(to, "\n")] = '\0';
}

/* "traddr=10.0.0.1,trsvcid=4420,src_addr=10.0.0.2" */
static void read_word(const char *line, const char *key, char *to, size_t size) {
    const char *at = strstr(line, key);
    to[0] = '\0';
    if (at == NULL)
        return;
    at += strlen(key);
    size_t length = strcspn(at, ",");
    snprintf(to, size, "%.*s", (int)(length < size ? length : size - 1), at);
}

/* The state of the path's namespace, which is a folder of the controller: nvme0c0n1 (with native multipath). */
static void read_ana(const char *controller, char *to, size_t size) {
    char path[PATH_SIZE], name[PATH_SIZE];
    to[0] = '\0';
    snprintf(path, sizeof(path), "/sys/class/nvme/%s", controller);
    DIR *folder = opendir(path);
    for (const struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;)
        if (strncmp(entry->d_name, "nvme", 4) == 0 && to[0] == '\0') {
            snprintf(name, sizeof(name), "%.64s/%.64s", controller, entry->d_name);
            read_line(to, size, "/sys/class/nvme/%s/%s", name, "ana_state");
        }
    if (folder != NULL)
        closedir(folder);
}

static void look_paths(const char *nqn, struct kernel_disk *disk) {
    DIR *folder = opendir("/sys/class/nvme");
    for (const struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;) {
        char its[KERNEL_NQN_SIZE + 1], line[256];
        if (strncmp(entry->d_name, "nvme", 4) != 0 || disk->path_count == KERNEL_PATHS_MAX ||
            strlen(entry->d_name) >= KERNEL_NAME_SIZE)
            continue;
        read_line(its, sizeof(its), "/sys/class/nvme/%s/%s", entry->d_name, "subsysnqn");
        if (strcmp(its, nqn) != 0)
            continue;
        struct kernel_path *path = &disk->paths[disk->path_count++];
        snprintf(path->controller, sizeof(path->controller), "%.31s", entry->d_name);
        read_line(line, sizeof(line), "/sys/class/nvme/%s/%s", entry->d_name, "address");
        read_word(line, "traddr=", path->address, sizeof(path->address));
        read_word(line, "trsvcid=", path->port, sizeof(path->port));
        read_line(path->state, sizeof(path->state), "/sys/class/nvme/%s/%s", entry->d_name, "state");
        read_ana(entry->d_name, path->ana, sizeof(path->ana));
    }
    if (folder != NULL)
        closedir(folder);
}

/* A disk, and not a path to one (nvme0c0n1). */
static bool is_disk(const char *name) { return strncmp(name, "nvme", 4) == 0 && strchr(name + 4, 'c') == NULL; }

static void look_disk(const char *nqn, struct kernel_disk *disk) {
    DIR *folder = opendir("/sys/block");
    for (const struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;) {
        char its[KERNEL_NQN_SIZE + 1], sectors[32];
        if (!is_disk(entry->d_name) || strlen(entry->d_name) >= KERNEL_NAME_SIZE)
            continue;
        read_line(its, sizeof(its), "/sys/block/%s/device/%s", entry->d_name, "subsysnqn");
        if (strcmp(its, nqn) != 0)
            continue;
        snprintf(disk->name, sizeof(disk->name), "%.31s", entry->d_name);
        read_line(disk->number, sizeof(disk->number), "/sys/block/%s/%s", entry->d_name, "dev");
        read_line(sectors, sizeof(sectors), "/sys/block/%s/%s", entry->d_name, "size");
        disk->bytes = strtoull(sectors, NULL, 10) * SECTOR;
    }
    if (folder != NULL)
        closedir(folder);
}

static bool look(void *arg, const char *nqn, struct kernel_disk *ret_disk, struct error *error) {
    (void)arg;
    (void)error;
    *ret_disk = (struct kernel_disk){0};
    look_paths(nqn, ret_disk);
    look_disk(nqn, ret_disk);
    return true;
}

/* ---- connections ---- */

/* A path that is lost is looked for as long as there is a device: whoever has it open waits, and gets no error. What is under way
 * on it goes to another path at once, if there is one. */
static bool connect_to(void *arg, const struct kernel_connect *to, struct error *error) {
    struct nvme_fabrics_config config;
    (void)arg;
    if (access("/dev/nvme-fabrics", F_OK) != 0)
        return error_set(error, ERROR_UNSUPPORTED,
                         "the kernel has no NVMe/TCP: there is no /dev/nvme-fabrics (modprobe nvme-tcp)");
    nvme_root_t root = nvme_create_root(NULL, -1);
    nvme_host_t host = root == NULL ? NULL : nvme_lookup_host(root, to->host_nqn, to->host_id);
    nvme_ctrl_t controller = host == NULL ? NULL : nvme_create_ctrl(root, to->nqn, "tcp", to->address, NULL, NULL, to->port);
    bool ok = false;
    if (controller == NULL) {
        error_set(error, ERROR_NO_MEMORY, "no memory for a connection");
    } else {
        nvmf_default_config(&config);
        config.ctrl_loss_tmo = -1;
        config.reconnect_delay = 1;
        config.keep_alive_tmo = 5;
        errno = 0;
        ok = nvmf_add_ctrl(host, controller, &config) == 0;
        if (!ok)
            error_set(error, ERROR_IO, "%s port %s: %s", to->address, to->port, nvme_errno_to_string(errno));
    }
    if (root != NULL)
        nvme_free_tree(root);
    return ok;
}

static bool disconnect(void *arg, const char *controller, struct error *error) {
    char path[PATH_SIZE];
    (void)arg;
    snprintf(path, sizeof(path), "/sys/class/nvme/%s/delete_controller", controller);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 ? write(fd, "1", 1) == 1 : errno == ENOENT; /* it is gone already */
    if (!ok)
        error_set_errno(error, -errno, "%s", path);
    if (fd >= 0)
        close(fd);
    return ok;
}

/* ---- the device ---- */

static struct dm_task *make_task(int what, const char *name, struct error *error) {
    struct dm_task *task = dm_task_create(what);
    if (task != NULL && dm_task_set_name(task, name))
        return task;
    if (task != NULL)
        dm_task_destroy(task);
    error_set(error, ERROR_UNSUPPORTED, "the kernel has no device mapper (modprobe dm-mod)");
    return NULL;
}

static bool run(struct dm_task *take_task, const char *what, const char *name, struct error *error) {
    if (take_task == NULL)
        return false;
    bool ok = dm_task_run(take_task) != 0;
    int reason = dm_task_get_errno(take_task);
    dm_task_destroy(take_task);
    if (!ok && reason == EINTR)
        return error_set(error, ERROR_TIMED_OUT, "%s of %s took too long", what, name);
    if (!ok)
        error_set_errno(error, reason != 0 ? -reason : -EIO, "%s of the device %s", what, name);
    return ok;
}

static bool simple(int what, const char *word, const char *name, struct error *error) {
    return run(make_task(what, name, error), word, name, error);
}

static void read_table(struct dm_task *task, struct kernel_mapping *mapping) {
    uint64_t start, length;
    char *type = NULL, *params = NULL;
    unsigned above, below;
    (void)dm_get_next_target(task, NULL, &start, &length, &type, &params);
    if (type == NULL || params == NULL || sscanf(params, "%u:%u", &above, &below) != 2)
        return;
    mapping->loaded = true;
    mapping->bytes = length * SECTOR;
    snprintf(mapping->below, sizeof(mapping->below), "%u:%u", above, below);
}

/* The task's answer about the device, which is the caller's to end; NULL: there is none, or error. */
static struct dm_task *ask(int what, const char *name, struct dm_info *ret_info, struct error *error) {
    struct dm_task *task = make_task(what, name, error);
    if (task == NULL)
        return NULL;
    if (dm_task_run(task) && dm_task_get_info(task, ret_info) && ret_info->exists)
        return task;
    int reason = dm_task_get_errno(task);
    dm_task_destroy(task);
    if (reason != 0 && reason != ENXIO)
        error_set_errno(error, reason, "the device %s", name);
    return NULL;
}

static bool mapping(void *arg, const char *name, struct kernel_mapping *ret_mapping, struct error *error) {
    struct dm_info info;
    (void)arg;
    *ret_mapping = (struct kernel_mapping){0};
    error_clear(error);
    struct dm_task *task = ask(DM_DEVICE_INFO, name, &info, error);
    if (task == NULL)
        return error->code == ERROR_NONE;
    dm_task_destroy(task);
    *ret_mapping = (struct kernel_mapping){.there = true, .suspended = info.suspended != 0, .opens = info.open_count};
    snprintf(ret_mapping->number, sizeof(ret_mapping->number), "%u:%u", info.major, info.minor);
    task = info.live_table ? ask(DM_DEVICE_TABLE, name, &info, error) : NULL;
    if (task == NULL)
        return error->code == ERROR_NONE;
    read_table(task, ret_mapping);
    dm_task_destroy(task);
    return true;
}

static bool load(void *arg, const char *name, const char *below, uint64_t bytes, struct error *error) {
    struct kernel_mapping now;
    char params[64];
    if (!mapping(arg, name, &now, error) || (!now.there && !simple(DM_DEVICE_CREATE, "creation", name, error)))
        return false;
    struct dm_task *task = make_task(DM_DEVICE_RELOAD, name, error);
    snprintf(params, sizeof(params), "%s 0", below);
    if (task != NULL && !dm_task_add_target(task, 0, bytes / SECTOR, "linear", params)) {
        dm_task_destroy(task);
        return error_set(error, ERROR_NO_MEMORY, "no memory for a table");
    }
    return run(task, "the table", name, error);
}

static void rung(int number) { (void)number; }

/* The kernel's wait for what is under way ends with a signal. */
static void alarm_in(uint64_t ms) {
    struct sigaction action = {.sa_handler = rung}; /* without SA_RESTART */
    struct itimerval timer = {.it_value = {.tv_sec = (time_t)(ms / 1000), .tv_usec = (suseconds_t)(ms % 1000 * 1000)},
                              .it_interval = {.tv_usec = ms == 0 ? 0 : 100000}};
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &timer, NULL);
}

static bool suspend(void *arg, const char *name, bool whole, uint64_t timeout_ms, struct error *error) {
    struct dm_task *task = make_task(DM_DEVICE_SUSPEND, name, error);
    (void)arg;
    if (task != NULL && !whole && (!dm_task_no_flush(task) || !dm_task_skip_lockfs(task))) {
        dm_task_destroy(task);
        return error_set(error, ERROR_INTERNAL, "the device mapper does not suspend without a flush");
    }
    if (whole)
        alarm_in(timeout_ms);
    bool ok = run(task, "suspension", name, error);
    if (whole)
        alarm_in(0);
    return ok;
}

static bool resume(void *arg, const char *name, struct error *error) {
    (void)arg;
    return simple(DM_DEVICE_RESUME, "resumption", name, error);
}

static bool remove_device(void *arg, const char *name, struct error *error) {
    (void)arg;
    return simple(DM_DEVICE_REMOVE, "removal", name, error);
}

static bool node(void *arg, const char *path, const char *number, struct error *error) {
    unsigned above, below;
    struct stat facts;
    char folder[PATH_SIZE];
    (void)arg;
    dev_t wanted = 0;
    if (number != NULL && sscanf(number, "%u:%u", &above, &below) == 2)
        wanted = makedev(above, below);
    bool there = lstat(path, &facts) == 0;
    if (wanted != 0 && there && S_ISBLK(facts.st_mode) && facts.st_rdev == wanted)
        return true;
    if (there && unlink(path) != 0)
        return error_set_errno(error, -errno, "%s", path);
    if (wanted == 0)
        return true;
    snprintf(folder, sizeof(folder), "%.*s", (int)(strrchr(path, '/') - path), path);
    if (mkdir(folder, 0755) != 0 && errno != EEXIST)
        return error_set_errno(error, -errno, "%s", folder);
    return mknod(path, S_IFBLK | 0660, wanted) == 0 || error_set_errno(error, -errno, "%s", path);
}

/* ---- time ---- */

static uint64_t now_ms(void *arg) {
    struct timespec now;
    (void)arg;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / NS_PER_MS;
}

static void sleep_ms(void *arg, uint64_t ms) {
    struct timespec time = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000 * NS_PER_MS)};
    (void)arg;
    nanosleep(&time, NULL);
}

const struct kernel_ops kernel_linux = {.look = look,
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
