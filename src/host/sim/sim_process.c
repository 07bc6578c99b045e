/* Machines, processes, loops and jobs: who runs when, and how they die. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "host/sim/sim_disk_internal.h"
#include "host/sim/sim_net_internal.h"

/* ---- machines ---- */

void sim_node_add_address(struct sim_node *node, const char *address) {
    assert(node->address_count < SIM_NODE_ADDRESSES_MAX && strlen(address) < sizeof(node->addresses[0]));
    snprintf(node->addresses[node->address_count++], sizeof(node->addresses[0]), "%s", address);
}

struct sim_node *sim_node_create(struct sim *sim, const char *name, const char *address) {
    assert(sim->node_count < SIM_NODES_MAX);
    struct sim_node *node = sim_allocate(sim, sizeof(*node));
    *node = (struct sim_node){.sim = sim, .index = sim->node_count, .on = true, .next_port = 32768};
    snprintf(node->name, sizeof(node->name), "%s", name);
    node->clock_offset_ns = sim_draw(sim, 0, 1000 * NS_PER_S);
    list_init(&node->processes);
    list_init(&node->paths);
    list_init(&node->listeners);
    list_init(&node->kept);
    sim_node_add_address(node, address);
    sim->nodes[sim->node_count++] = node;
    for (uint32_t i = 0; i < sim->node_count; i++) {
        bool inside = i == node->index;
        const struct sim_link_options *options = inside ? &sim->options.local : &sim->options.remote;
        sim->links[node->index][i] = (struct sim_link){.sim = sim, .from = node, .to = sim->nodes[i], .options = *options};
        sim->links[i][node->index] = (struct sim_link){.sim = sim, .from = sim->nodes[i], .to = node, .options = *options};
    }
    return node;
}

/* Clocks that run at another rate do so from the start of the world. */
static uint64_t node_clock(const struct sim_node *node) {
    uint64_t now = node->sim->now_ns;
    if (likely(node->clock_ppm == 0))
        return now + node->clock_offset_ns;
    return (uint64_t)((unsigned __int128)now * (uint64_t)(INT64_C(1000000) + node->clock_ppm) / 1000000) + node->clock_offset_ns;
}

uint64_t sim_node_to_virtual(const struct sim_node *node, uint64_t clock_ns) {
    if (clock_ns == UINT64_MAX)
        return UINT64_MAX;
    uint64_t now = clock_ns - node->clock_offset_ns;
    if ((int64_t)now < 0)
        now = 0;
    if (likely(node->clock_ppm == 0))
        return now;
    uint64_t rate = (uint64_t)(INT64_C(1000000) + node->clock_ppm);
    return (uint64_t)(((unsigned __int128)now * 1000000 + rate - 1) / rate);
}

void sim_node_set_clock_rate(struct sim_node *node, int32_t ppm) {
    assert(ppm > -1000000);
    uint64_t before = node_clock(node);
    node->clock_ppm = ppm;
    node->clock_offset_ns += before - node_clock(node); /* it must not step; modulo 2^64 */
}

bool sim_node_is_on(const struct sim_node *node) { return node->on; }
uint64_t sim_node_kill_count(const struct sim_node *node) { return node->kill_count; }

/* ---- clock and random of a process ---- */

static struct sim_process *process_of(struct host *host) { return sim_process_of(host); }

static uint64_t host_now(struct host *host) { return node_clock(process_of(host)->node); }
/* 2026-01-01: logs look right, and no test depends on the real date. */
static uint64_t host_wall(struct host *host) { return process_of(host)->sim->now_ns + UINT64_C(1767225600) * NS_PER_S; }
static void host_fill_random(struct host *host, void *to, size_t length) {
    random_fill(&process_of(host)->sim->random, to, length);
}

/* ---- running a process's code ---- */

bool sim_process_run(struct sim_process *process, struct sim_loop *turning, void (*call)(void *arg), void *arg) {
    struct sim *sim = process->sim;
    assert(sim->inside == NULL);
    jmp_buf escape;
    sim->inside = process;
    sim->turning = turning;
    sim->escape = &escape;
    bool lives = _setjmp(escape) == 0;
    if (lives) {
        if (sim->switched != NULL)
            sim->switched(sim->switched_arg, process->owner);
        call(arg);
    }
    if (sim->switched != NULL)
        sim->switched(sim->switched_arg, NULL);
    sim->inside = NULL;
    sim->turning = NULL;
    sim->escape = NULL;
    return lives;
}

void sim_process_effect(struct sim_process *process) {
    process->effects++;
    if (likely(process->kill_at == 0 || process->effects < process->kill_at))
        return;
    if (process->kill_power)
        sim_node_power_off(process->node);
    else
        sim_process_kill(&process->host, process->kill_how);
}

/* ---- loops ---- */

static void turn_call(void *arg) {
    struct sim_loop *loop = arg;
    struct sim *sim = loop->process->sim;
    struct host_turn turn = loop->options.turn(loop->options.arg);
    uint64_t cost = sim_draw(sim, sim->options.turn_min_ns, sim->options.turn_max_ns);
    loop->stats.turns++;
    if (turn.worked)
        loop->stats.busy_ns += cost;
    loop->stats.cpu_ns += cost;
    if (loop->stopped)
        return;
    bool more = loop->again || !list_empty(&loop->told) || !list_empty(&loop->ready);
    loop->again = false;
    uint64_t next = sim->now_ns + cost;
    if (!turn.worked && !more && turn.deadline_ns != 0) {
        loop->stats.sleeps++;
        loop->stats.asleep = true;
        loop->slept_at_ns = next;
        if (turn.deadline_ns == UINT64_MAX)
            return;
        next = max_u64(next, sim_node_to_virtual(loop->process->node, turn.deadline_ns));
    }
    sim_event_at(sim, &loop->event, next);
}

static void loop_run(struct sim_event *event) {
    struct sim_loop *loop = container_of(event, struct sim_loop, event);
    struct sim_process *process = loop->process;
    if (process->paused) {
        loop->missed = true;
        return;
    }
    if (loop->stats.asleep)
        loop->stats.idle_ns += process->sim->now_ns - min_u64(process->sim->now_ns, loop->slept_at_ns);
    loop->stats.asleep = false;
    sim_note(process->sim, SIM_TRACE_TURN, loop->id, 0);
    sim_process_run(process, loop, turn_call, loop);
}

void sim_loop_kick(struct sim_loop *loop) {
    struct sim *sim = loop->process->sim;
    if (!loop->started || loop->stopped)
        return;
    if (sim->turning == loop) {
        loop->again = true;
        return;
    }
    uint64_t at = sim->now_ns + sim_draw(sim, sim->options.turn_min_ns, sim->options.turn_max_ns);
    if (!sim_event_armed(&loop->event) || sim_event_time(sim, &loop->event) > at)
        sim_event_at(sim, &loop->event, at);
}

void sim_loop_tell(struct sim_loop *loop, struct sim_told *told) {
    list_push_back(&loop->told, &told->node);
    sim_loop_kick(loop);
}

static int loop_create(struct host *host, const struct host_loop_options *options, struct host_loop **ret_loop) {
    struct sim_process *process = process_of(host);
    if (options->cpu >= 64)
        return -EINVAL;
    struct sim_loop *loop = sim_pool_take(&process->sim->loops);
    loop->loop.host = host;
    loop->process = process;
    loop->options = *options;
    loop->event.run = loop_run;
    loop->id = ++process->sim->next_id;
    list_init(&loop->told);
    list_init(&loop->ready);
    list_init(&loop->prepared);
    list_push_back(&process->loops, &loop->of_process);
    *ret_loop = &loop->loop;
    return 0;
}

static int loop_start(struct host_loop *host_loop) {
    struct sim_loop *loop = sim_loop_of(host_loop);
    assert(!loop->started);
    loop->started = true;
    sim_loop_kick(loop);
    return 0;
}

static void loop_stop(struct host_loop *host_loop) {
    struct sim_loop *loop = sim_loop_of(host_loop);
    loop->stopped = true;
    sim_event_cancel(loop->process->sim, &loop->event);
}

static void loop_free(struct sim_loop *loop) {
    struct sim *sim = loop->process->sim;
    sim_event_cancel(sim, &loop->event);
    list_remove(&loop->of_process);
    sim_pool_give(&sim->loops, loop);
}

static void loop_destroy(struct host_loop *host_loop) {
    struct sim_loop *loop = sim_loop_of(host_loop);
    assert(loop->process->sim->turning != loop && "destroyed from inside");
    assert(loop->request_count == 0 && "file requests under way");
    assert(loop->job_count == 0 && "jobs under way");
    assert(loop->socket_count == 0 && "sockets left open");
    loop_free(loop);
}

static unsigned loop_poll(struct host_loop *host_loop) {
    struct sim_loop *loop = sim_loop_of(host_loop);
    struct sim *sim = loop->process->sim;
    assert((!loop->started || sim->turning == loop) && "polled outside of its turn");
    bool sockets_first = sim_one_in(sim, 2);
    unsigned count = sockets_first ? sim_sockets_poll(loop) : 0;
    struct list told; /* what is told from inside waits for the next poll */
    list_init(&told);
    list_splice_back(&told, &loop->told);
    for (struct list_node *node; (node = list_pop_front(&told)) != NULL; count++) {
        struct sim_told *item = list_entry(node, struct sim_told, node);
        item->tell(item);
    }
    return count + (sockets_first ? 0 : sim_sockets_poll(loop));
}

static void loop_flush(struct host_loop *host_loop) {
    struct sim_loop *loop = sim_loop_of(host_loop);
    sim_assert_on(loop);
    sim_files_flush(loop);
}

static void loop_wake(struct host_loop *host_loop) { sim_loop_kick(sim_loop_of(host_loop)); }

static void loop_stats(struct host_loop *host_loop, struct host_loop_stats *ret_stats) {
    *ret_stats = sim_loop_of(host_loop)->stats;
}

/* ---- jobs ---- */

static void job_tell(struct sim_told *told) {
    struct sim_job *entry = container_of(told, struct sim_job, told);
    struct host_job *job = entry->job;
    list_remove(&entry->of_process);
    entry->loop->job_count--;
    sim_pool_give(&entry->loop->process->sim->jobs, entry);
    job->done(job);
}

static void job_call(void *arg) {
    struct host_job *job = arg;
    job->run(job);
}

static void job_run(struct sim_event *event) {
    struct sim_job *entry = container_of(event, struct sim_job, event);
    struct sim_process *process = entry->loop->process;
    struct sim *sim = process->sim;
    if (process->paused) { /* its threads stand still: looked at again after a while */
        sim_event_at(sim, event, sim->now_ns + NS_PER_MS);
        return;
    }
    sim_note(sim, SIM_TRACE_JOB, process->id, 0);
    if (!sim_process_run(process, NULL, job_call, entry->job))
        return;
    entry->told.tell = job_tell;
    sim_loop_tell(entry->loop, &entry->told);
}

void sim_host_job_submit(struct host_loop *host_loop, struct host_job *job) {
    struct sim_loop *loop = sim_loop_of(host_loop);
    struct sim *sim = loop->process->sim;
    sim_assert_on(loop);
    struct sim_job *entry = sim_pool_take(&sim->jobs);
    *entry = (struct sim_job){.event = {.run = job_run}, .loop = loop, .job = job};
    list_push_back(&loop->process->jobs, &entry->of_process);
    loop->job_count++;
    sim_event_at(sim, &entry->event, sim->now_ns + sim_draw(sim, sim->options.job_min_ns, sim->options.job_max_ns));
}

/* ---- processes ---- */

struct host *sim_process_start(struct sim_node *node) {
    assert(node->on && "the machine is off");
    struct sim *sim = node->sim;
    struct sim_process *process = sim_pool_take(&sim->processes);
    process->host = (struct host){.ops = &sim_host_ops, .ticks_per_second = NS_PER_S};
    process->sim = sim;
    process->node = node;
    process->id = ++sim->next_id;
    list_init(&process->loops);
    list_init(&process->files);
    list_init(&process->sockets);
    list_init(&process->ios);
    list_init(&process->jobs);
    list_init(&process->opens);
    list_push_back(&node->processes, &process->of_node);
    return &process->host;
}

struct sim_node *sim_process_node(struct host *host) {
    return process_of(host)->node;
}

void sim_process_set_owner(struct host *host, void *owner) { process_of(host)->owner = owner; }

void sim_process_end(struct sim_process *process, enum sim_kill how) {
    struct sim *sim = process->sim;
    sim_note(sim, SIM_TRACE_KILL, process->id, how);
    process->node->kill_count++;
    sim_sockets_abandon(process, how);
    sim_files_abandon(process);
    for (struct list_node *node; (node = list_pop_front(&process->jobs)) != NULL;) {
        struct sim_job *job = list_entry(node, struct sim_job, of_process);
        sim_event_cancel(sim, &job->event);
        if (list_linked(&job->told.node))
            list_remove(&job->told.node);
        sim_pool_give(&sim->jobs, job);
    }
    list_for_each_safe (&process->loops, struct sim_loop, loop, of_process)
        loop_free(loop);
    list_remove(&process->of_node);
    sim_pool_give(&sim->processes, process);
}

/* The code that runs belongs to a dead process: back to the scheduler. */
static void escape_if(struct sim *sim, bool dead) {
    if (dead)
        longjmp(*sim->escape, 1);
}

void sim_process_kill(struct host *host, enum sim_kill how) {
    struct sim_process *process = process_of(host);
    struct sim *sim = process->sim;
    bool inside = sim->inside == process;
    sim_process_end(process, how);
    escape_if(sim, inside);
}

void sim_process_exit(struct host *host) {
    struct sim_process *process = process_of(host);
    assert(list_empty(&process->loops) && "loops left");
    assert(list_empty(&process->files) && "files left open");
    assert(list_empty(&process->sockets) && "sockets left open");
    assert(list_empty(&process->ios) && list_empty(&process->jobs) && list_empty(&process->opens));
    list_remove(&process->of_node);
    sim_pool_give(&process->sim->processes, process);
}

void sim_process_pause(struct host *host) { process_of(host)->paused = true; }

void sim_process_resume(struct host *host) {
    struct sim_process *process = process_of(host);
    process->paused = false;
    list_for_each (&process->loops, struct sim_loop, loop, of_process)
        if (loop->missed) {
            loop->missed = false;
            sim_loop_kick(loop);
        }
}

void sim_process_kill_at(struct host *host, uint64_t effects, enum sim_kill how, bool power) {
    struct sim_process *process = process_of(host);
    process->kill_at = effects == 0 ? 0 : process->effects + effects;
    process->kill_how = how;
    process->kill_power = power;
}

uint64_t sim_process_effects(struct host *host) { return process_of(host)->effects; }
void sim_process_set_socket_limit(struct host *host, uint32_t limit) { process_of(host)->socket_limit = limit; }
uint64_t sim_process_requests(struct host *host) { return process_of(host)->request_count; }
uint32_t sim_process_sockets(struct host *host) { return process_of(host)->socket_count; }

void sim_node_power_off(struct sim_node *node) {
    struct sim *sim = node->sim;
    if (!node->on)
        return;
    bool inside = sim->inside != NULL && sim->inside->node == node;
    while (!list_empty(&node->processes))
        sim_process_end(list_entry(list_first(&node->processes), struct sim_process, of_node), SIM_KILL_VANISH);
    node->on = false;
    sim_kept_drop(node);
    sim_note(sim, SIM_TRACE_POWER, node->index, 0);
    sim_network_power(node);
    sim_disks_power_cut(node);
    escape_if(sim, inside);
}

void sim_node_power_on(struct sim_node *node) {
    if (node->on)
        return;
    node->on = true;
    sim_note(node->sim, SIM_TRACE_POWER, node->index, 1);
    sim_network_power(node);
}

static void *host_map(struct host *base, size_t bytes) {
    (void)base;
    return bytes == 0 ? NULL : calloc(1, bytes);
}

static void host_unmap(struct host *base, void *take_memory, size_t bytes) {
    (void)base;
    (void)bytes;
    free(take_memory);
}

/* ---- memory that is kept ---- */

struct kept {
    struct list_node node;
    char name[HOST_KEPT_NAME_SIZE];
    size_t bytes;
    void *memory;
};

static struct kept *kept_find(struct sim_node *node, const char *name) {
    list_for_each (&node->kept, struct kept, kept, node)
        if (strcmp(kept->name, name) == 0)
            return kept;
    return NULL;
}

static void kept_free(struct sim *sim, struct kept *kept) {
    list_remove(&kept->node);
    sim_release(sim, kept->memory);
    sim_release(sim, kept);
}

void sim_kept_drop(struct sim_node *node) {
    list_for_each_safe (&node->kept, struct kept, kept, node)
        kept_free(node->sim, kept);
}

static void *host_keep(struct host *host, const char *name, const char *of, size_t bytes, bool anew) {
    (void)of;
    struct sim_node *node = process_of(host)->node;
    struct kept *kept = kept_find(node, name);
    if (anew) {
        if (kept != NULL)
            kept_free(node->sim, kept);
        kept = sim_allocate(node->sim, sizeof(*kept));
        *kept = (struct kept){.bytes = bytes, .memory = memset(sim_allocate(node->sim, bytes), 0, bytes)};
        snprintf(kept->name, sizeof(kept->name), "%s", name);
        list_push_back(&node->kept, &kept->node);
    }
    return kept == NULL || kept->bytes != bytes ? NULL : kept->memory;
}

static void host_leave(struct host *host, const char *name, void *take_memory, size_t bytes, bool forget) {
    struct sim_node *node = process_of(host)->node;
    struct kept *kept = kept_find(node, name);
    (void)take_memory;
    (void)bytes;
    if (forget && kept != NULL)
        kept_free(node->sim, kept);
}

const struct host_ops sim_host_ops = {
    .now_ns = host_now,
    .ticks = host_now,
    .wall_ns = host_wall,
    .random = host_fill_random,
    .memory_map = host_map,
    .memory_unmap = host_unmap,
    .memory_keep = host_keep,
    .memory_leave = host_leave,
    .loop_create = loop_create,
    .loop_start = loop_start,
    .loop_stop = loop_stop,
    .loop_destroy = loop_destroy,
    .loop_poll = loop_poll,
    .loop_flush = loop_flush,
    .loop_wake = loop_wake,
    .loop_stats = loop_stats,
    .job_submit = sim_host_job_submit,
    .file_open_submit = sim_host_file_open_submit,
    .file_close = sim_host_file_close,
    .file_size = sim_host_file_size,
    .file_truncate = sim_host_file_truncate,
    .file_submit = sim_host_file_submit,
    .listen = sim_host_listen,
    .accept = sim_host_accept,
    .connect = sim_host_connect,
    .socket_error = sim_host_socket_error,
    .socket_local = sim_host_socket_local,
    .socket_read = sim_host_socket_read,
    .socket_write = sim_host_socket_write,
    .socket_detach = sim_host_socket_detach,
    .socket_attach = sim_host_socket_attach,
    .socket_close = sim_host_socket_close,
    .socket_reset = sim_host_socket_reset,
};
