/* Files: opening with locks that outlive their process, submission. What a request does to the disk is sim_disk.c's. */
#include "host/sim/sim_disk_internal.h"

#include <errno.h>
#include <stdio.h>

static struct sim_file *file_of(struct host_file *file) { return container_of(file, struct sim_file, file); }

/* ---- paths ---- */

static struct sim_path *path_find(const struct sim_node *node, const char *path) {
    list_for_each (&node->paths, struct sim_path, candidate, node)
        if (strcmp(candidate->path, path) == 0)
            return candidate;
    return NULL;
}

void sim_node_attach(struct sim_node *node, const char *path, struct sim_disk *disk) {
    struct sim_path *entry = path_find(node, path);
    if (entry == NULL) {
        entry = sim_allocate(node->sim, sizeof(*entry));
        assert(strlen(path) < sizeof(entry->path));
        snprintf(entry->path, sizeof(entry->path), "%s", path);
        list_push_back(&node->paths, &entry->node);
    }
    entry->disk = disk;
}

struct sim_disk *sim_node_disk(struct sim_node *node, const char *path) {
    struct sim_path *entry = path_find(node, path);
    return entry == NULL ? NULL : entry->disk;
}

/* ---- locks ---- */

/* A file that is held exclusively admits no other holder; shared ones admit shared ones. */
static bool lock_free(const struct sim_disk *disk, bool shared) {
    list_for_each (&disk->files, struct sim_file, file, of_disk) {
        bool forgotten = file->process == NULL && disk->options.lock_forgets_requests;
        if (file->hold && !forgotten && !(shared && file->read_only))
            return false;
    }
    return true;
}

void sim_file_unlock(struct sim_disk *disk) {
    list_for_each (&disk->waiting, struct sim_open, waiter, waiting)
        sim_event_at(disk->sim, &waiter->event, disk->sim->now_ns + sim_draw(disk->sim, 0, 5 * NS_PER_MS));
}

void sim_file_free(struct sim_file *file) {
    struct sim_disk *disk = file->disk;
    list_remove(&file->of_disk);
    bool held = file->hold;
    sim_pool_give(&disk->sim->files, file);
    if (held)
        sim_file_unlock(disk);
}

/* ---- opening ---- */

static void open_tell(struct sim_told *told) {
    struct sim_open *open = container_of(told, struct sim_open, told);
    struct host_file_open *job = open->open;
    struct sim *sim = open->loop->process->sim;
    list_remove(&open->of_process);
    open->loop->job_count--;
    sim_pool_give(&sim->opens, open);
    job->done(job);
}

static void open_end(struct sim_open *open, struct sim_file *file) {
    open->open->ok = file != NULL;
    open->open->file = file == NULL ? NULL : &file->file;
    if (list_linked(&open->waiting))
        list_remove(&open->waiting);
    open->told.tell = open_tell;
    sim_loop_tell(open->loop, &open->told);
}

static struct sim_disk *open_resolve(struct sim_process *process, struct host_file_open *job) {
    struct sim_node *node = process->node;
    struct sim_disk *disk = sim_node_disk(node, job->path);
    if (disk != NULL)
        return disk;
    if (!job->options.create || job->options.read_only) {
        error_set_errno(&job->error, ENOENT, "opening %s", job->path);
        return NULL;
    }
    struct sim_disk_options options;
    sim_disk_options_init(&options, job->options.create_size);
    options.block_device = false;
    disk = sim_disk_create(process->sim, &options);
    sim_node_attach(node, job->path, disk);
    return disk;
}

static void facts_of(const struct sim_disk *disk, bool direct, struct host_file_facts *ret_facts) {
    const struct sim_disk_options *o = &disk->options;
    *ret_facts = (struct host_file_facts){
        .size = disk->current->size,
        .logical_block = direct ? o->logical_block : 1,
        .physical_block = o->power_fail_unit,
        .memory_alignment = direct ? o->logical_block : 1,
        .direct = direct,
        .block_device = o->block_device,
        .in_memory = o->in_memory,
        .can_punch = o->can_punch,
        .can_zero = o->can_zero,
        .device = o->block_device ? disk->id : 0x51,
        .inode = disk->id,
    };
}

static void open_run(struct sim_event *event) {
    struct sim_open *open = container_of(event, struct sim_open, event);
    struct sim_process *process = open->loop->process;
    struct sim *sim = process->sim;
    struct host_file_open *job = open->open;
    struct sim_disk *disk = open_resolve(process, job);
    sim_note(sim, SIM_TRACE_OPEN, process->id, disk == NULL ? 0 : disk->id);
    if (disk == NULL) {
        open_end(open, NULL);
        return;
    }
    if (job->options.hold && !lock_free(disk, job->options.read_only)) {
        if (!open->looked) {
            open->looked = true;
            open->deadline_ns = sim->now_ns + job->options.hold_timeout_ms * NS_PER_MS;
            list_push_back(&disk->waiting, &open->waiting);
        }
        if (sim->now_ns < open->deadline_ns) {
            sim_event_at(sim, event, open->deadline_ns);
            return;
        }
        error_set(&job->error, ERROR_BUSY, "%s is in use by another process", job->path);
        error_hint(&job->error, "end that process, or wait until its last writes have landed");
        open_end(open, NULL);
        return;
    }
    struct sim_file *file = sim_pool_take(&sim->files);
    file->file.host = &process->host;
    file->disk = disk;
    file->process = process;
    file->read_only = job->options.read_only;
    file->direct = job->options.direct && disk->options.can_direct;
    file->hold = job->options.hold;
    list_push_back(&process->files, &file->of_process);
    list_push_back(&disk->files, &file->of_disk);
    facts_of(disk, file->direct, &job->facts);
    open_end(open, file);
}

void sim_host_file_open_submit(struct host_loop *host_loop, struct host_file_open *job) {
    struct sim_loop *loop = sim_loop_of(host_loop);
    struct sim *sim = loop->process->sim;
    sim_assert_on(loop);
    struct sim_open *open = sim_pool_take(&sim->opens);
    *open = (struct sim_open){.event = {.run = open_run}, .loop = loop, .open = job};
    job->ok = false;
    job->file = NULL;
    error_clear(&job->error);
    list_push_back(&loop->process->opens, &open->of_process);
    loop->job_count++;
    sim_event_at(sim, &open->event, sim->now_ns + sim_draw(sim, sim->options.job_min_ns, sim->options.job_max_ns));
}

void sim_host_file_close(struct host_file *host_file) {
    struct sim_file *file = file_of(host_file);
    assert(file->in_flight == 0 && "closed with requests under way");
    list_remove(&file->of_process);
    sim_file_free(file);
}

int sim_host_file_size(struct host_file *file, uint64_t *ret_bytes) {
    *ret_bytes = sim_disk_size(file_of(file)->disk);
    return 0;
}

int sim_host_file_truncate(struct host_file *host_file, uint64_t bytes) {
    struct sim_file *file = file_of(host_file);
    assert(file->process->sim->turning == NULL && "may sleep: from a job's run only");
    sim_process_effect(file->process);
    return file->read_only ? -EINVAL : sim_disk_truncate(file->disk, bytes);
}

/* ---- requests ---- */

void sim_host_file_submit(struct host_loop *host_loop, struct host_file_request *request) {
    struct sim_loop *loop = sim_loop_of(host_loop);
    struct sim_file *file = file_of(request->file);
    struct sim_process *process = loop->process;
    sim_assert_on(loop);
    assert(file->process == process);
    if (request->op == HOST_FILE_READ || request->op == HOST_FILE_WRITE) {
        assert(request->slice_count <= HOST_FILE_SLICES_MAX);
        assert(slice_total(request->slices, request->slice_count) == request->length);
    }
    struct sim_io *io = sim_pool_take(&process->sim->ios);
    io->loop = loop;
    io->process = process;
    io->file = file;
    io->request = request;
    io->op = request->op;
    io->offset = request->op == HOST_FILE_SYNC ? 0 : request->offset;
    io->length = request->op == HOST_FILE_SYNC ? 0 : request->length;
    io->mark = file->disk->completions;
    io->sync_index = UINT32_MAX;
    file->in_flight++;
    process->request_count++;
    loop->request_count++;
    list_push_back(&process->ios, &io->of_process);
    list_push_back(&loop->prepared, &io->on_loop);
}

void sim_files_flush(struct sim_loop *loop) {
    struct list_node *node;
    while ((node = list_first(&loop->prepared)) != NULL) {
        struct sim_io *io = list_entry(node, struct sim_io, on_loop);
        sim_process_effect(loop->process);
        list_remove(&io->on_loop);
        sim_disk_start(io->file->disk, io);
    }
}

void sim_files_abandon(struct sim_process *process) {
    struct sim *sim = process->sim;
    for (struct list_node *node; (node = list_pop_front(&process->opens)) != NULL;) {
        struct sim_open *open = list_entry(node, struct sim_open, of_process);
        sim_event_cancel(sim, &open->event);
        if (list_linked(&open->waiting))
            list_remove(&open->waiting);
        if (list_linked(&open->told.node))
            list_remove(&open->told.node);
        sim_pool_give(&sim->opens, open);
    }
    list_for_each_safe (&process->ios, struct sim_io, io, of_process) {
        if (io->handed_over) {
            sim_io_orphan(io);
            continue;
        }
        list_remove(&io->of_process);
        list_remove(&io->on_loop);
        io->file->in_flight--;
        sim_pool_give(&sim->ios, io);
    }
    for (struct list_node *node; (node = list_pop_front(&process->files)) != NULL;) {
        struct sim_file *file = list_entry(node, struct sim_file, of_process);
        file->process = NULL;
        if (file->in_flight == 0)
            sim_file_free(file);
        else if (file->disk->options.lock_forgets_requests)
            sim_file_unlock(file->disk);
    }
}
