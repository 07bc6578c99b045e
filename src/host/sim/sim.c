/* The world: virtual time, the event heap, pools, the trace hash. */
#include "host/sim/sim_internal.h"

#include <stdlib.h>

#include "base/hash_map.h"
#include "host/sim/sim_content.h"
#include "host/sim/sim_disk_internal.h"
#include "host/sim/sim_net_internal.h"

#define CHUNK_BYTES (64 * 1024)

struct sim_chunk {
    struct sim_chunk *next;
    max_align_t memory[];
};

struct sim_call {
    struct sim_event event;
    struct sim *sim;
    void (*call)(void *arg);
    void *arg;
};

/* ---- memory ---- */

void *sim_allocate(struct sim *sim, size_t size) {
    void *memory = sim->options.allocate(size);
    assert(memory != NULL && "the simulator itself has no memory left");
    return memory;
}

void sim_release(struct sim *sim, void *memory) { sim->options.release(memory); }

void *sim_grow(struct sim *sim, void *array, size_t element, uint32_t used, uint32_t *capacity, uint32_t needed) {
    if (needed <= *capacity)
        return array;
    uint32_t count = *capacity == 0 ? 16 : *capacity;
    while (count < needed)
        count *= 2;
    void *larger = sim_allocate(sim, count * element);
    if (used > 0)
        memcpy(larger, array, used * element);
    if (array != NULL)
        sim_release(sim, array);
    *capacity = count;
    return larger;
}

void sim_pool_init(struct sim_pool *pool, struct sim *sim, size_t size) {
    *pool = (struct sim_pool){.sim = sim, .size = (size_t)round_up(size, sizeof(max_align_t))};
}

static void pool_fill(struct sim_pool *pool) {
    size_t count = max_u64(1, CHUNK_BYTES / pool->size);
    struct sim_chunk *chunk = sim_allocate(pool->sim, sizeof(*chunk) + count * pool->size);
    chunk->next = pool->sim->chunks;
    pool->sim->chunks = chunk;
    /* from the end, so that elements are handed out in the order of their addresses */
    for (size_t i = count; i-- > 0;) {
        void **element = (void **)((char *)chunk->memory + i * pool->size);
        *element = pool->free;
        pool->free = element;
    }
}

void *sim_pool_take_raw(struct sim_pool *pool) {
    if (pool->free == NULL)
        pool_fill(pool);
    void **element = pool->free;
    pool->free = *element;
    return element;
}

void *sim_pool_take(struct sim_pool *pool) {
    void *element = sim_pool_take_raw(pool);
    memset(element, 0, pool->size);
    return element;
}

void sim_pool_give(struct sim_pool *pool, void *element) {
    *(void **)element = pool->free;
    pool->free = element;
}

/* ---- events: a 4-ary heap, keys beside the pointers so that sifting stays in few cache lines ---- */

static inline bool entry_before(const struct sim_heap_entry *a, const struct sim_heap_entry *b) {
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

static void heap_place(struct sim *sim, uint32_t index, struct sim_heap_entry entry) {
    sim->heap[index] = entry;
    entry.event->place = index + 1;
}

static void heap_up(struct sim *sim, uint32_t index, struct sim_heap_entry entry) {
    while (index > 0) {
        uint32_t parent = (index - 1) / 4;
        if (!entry_before(&entry, &sim->heap[parent]))
            break;
        heap_place(sim, index, sim->heap[parent]);
        index = parent;
    }
    heap_place(sim, index, entry);
}

static void heap_down(struct sim *sim, uint32_t index, struct sim_heap_entry entry) {
    for (;;) {
        uint32_t first = index * 4 + 1, best = first;
        if (first >= sim->heap_count)
            break;
        uint32_t end = min_u32(first + 4, sim->heap_count);
        for (uint32_t child = first + 1; child < end; child++)
            if (entry_before(&sim->heap[child], &sim->heap[best]))
                best = child;
        if (!entry_before(&sim->heap[best], &entry))
            break;
        heap_place(sim, index, sim->heap[best]);
        index = best;
    }
    heap_place(sim, index, entry);
}

static void heap_remove(struct sim *sim, uint32_t index) {
    sim->heap[index].event->place = 0;
    struct sim_heap_entry last = sim->heap[--sim->heap_count];
    if (index == sim->heap_count)
        return;
    if (index > 0 && entry_before(&last, &sim->heap[(index - 1) / 4]))
        heap_up(sim, index, last);
    else
        heap_down(sim, index, last);
}

void sim_event_at(struct sim *sim, struct sim_event *event, uint64_t at_ns) {
    if (event->place != 0)
        heap_remove(sim, event->place - 1);
    sim->heap = sim_grow(sim, sim->heap, sizeof(*sim->heap), sim->heap_count, &sim->heap_capacity, sim->heap_count + 1);
    struct sim_heap_entry entry = {max_u64(at_ns, sim->now_ns), random_u64(&sim->random), event};
    heap_up(sim, sim->heap_count++, entry);
}

void sim_event_cancel(struct sim *sim, struct sim_event *event) {
    if (event->place != 0)
        heap_remove(sim, event->place - 1);
}

uint64_t sim_event_time(const struct sim *sim, const struct sim_event *event) { return sim->heap[event->place - 1].at_ns; }

/* ---- trace ---- */

static const char *const trace_names[SIM_TRACE_COUNT] = {
    [SIM_TRACE_USER] = "user",       [SIM_TRACE_TURN] = "turn",   [SIM_TRACE_JOB] = "job",           [SIM_TRACE_OPEN] = "open",
    [SIM_TRACE_SUBMIT] = "submit",   [SIM_TRACE_LAND] = "land",   [SIM_TRACE_COMPLETE] = "complete", [SIM_TRACE_FAULT] = "fault",
    [SIM_TRACE_CONNECT] = "connect", [SIM_TRACE_WRITE] = "write", [SIM_TRACE_DELIVER] = "deliver",   [SIM_TRACE_READ] = "read",
    [SIM_TRACE_CLOSE] = "close",     [SIM_TRACE_RESET] = "reset", [SIM_TRACE_KILL] = "kill",         [SIM_TRACE_POWER] = "power",
    [SIM_TRACE_LINK] = "link",
};

static inline uint64_t fold(uint64_t hash, uint64_t value) {
    return (hash << 23 | hash >> 41) * UINT64_C(0x9fb21c651e98df25) ^ value * UINT64_C(0xd6e8feb86659fd93);
}

static void note(struct sim *sim, uint64_t kind, const char *what, uint64_t a, uint64_t b) {
    sim->trace_hash = fold(fold(fold(sim->trace_hash, sim->now_ns ^ kind << 56), a), b);
    if (unlikely(sim->tracer != NULL))
        sim->tracer(sim->tracer_arg, sim->now_ns, what, a, b);
}

void sim_note(struct sim *sim, enum sim_trace_kind kind, uint64_t a, uint64_t b) { note(sim, kind, trace_names[kind], a, b); }

void sim_trace(struct sim *sim, const char *what, uint64_t a, uint64_t b) { note(sim, hash_text(what) << 8 >> 8, what, a, b); }

void sim_set_tracer(struct sim *sim, void (*tracer)(void *arg, uint64_t at_ns, const char *what, uint64_t a, uint64_t b),
                    void *arg) {
    sim->tracer = tracer;
    sim->tracer_arg = arg;
}

uint64_t sim_now_ns(const struct sim *sim) { return sim->now_ns; }
uint64_t sim_trace_hash(const struct sim *sim) { return hash_u64(sim->trace_hash); }
uint64_t sim_steps(const struct sim *sim) { return sim->steps; }
struct random *sim_random(struct sim *sim) {
    return &sim->random;
}

void sim_set_connection_hook(struct sim *sim, void (*hook)(void *arg, struct sim_connection *connection), void *arg) {
    sim->hook = hook;
    sim->hook_arg = arg;
}

void sim_set_switch_hook(struct sim *sim, void (*hook)(void *arg, void *owner), void *arg) {
    sim->switched = hook;
    sim->switched_arg = arg;
}

static void run_call(struct sim_event *event) {
    struct sim_call *call = container_of(event, struct sim_call, event);
    struct sim_call copy = *call;
    sim_pool_give(&call->sim->calls, call);
    copy.call(copy.arg);
}

void sim_at(struct sim *sim, uint64_t at_ns, void (*function)(void *arg), void *arg) {
    struct sim_call *call = sim_pool_take(&sim->calls);
    *call = (struct sim_call){.event = {.run = run_call}, .sim = sim, .call = function, .arg = arg};
    sim_event_at(sim, &call->event, at_ns);
}

/* ---- running ---- */

enum sim_end sim_run_until(struct sim *sim, bool (*condition)(void *arg), void *arg, uint64_t for_ns, uint64_t max_steps) {
    assert(sim->inside == NULL && "a turn cannot run the world");
    uint64_t end_ns = for_ns == 0 ? UINT64_MAX : sim->now_ns + for_ns;
    for (uint64_t step = 0;; step++) {
        if (condition != NULL && condition(arg))
            return SIM_MET;
        if (sim->heap_count == 0)
            return SIM_QUIET;
        if (sim->heap[0].at_ns > end_ns) {
            sim->now_ns = end_ns;
            return SIM_TIMEOUT;
        }
        if (max_steps != 0 && step >= max_steps)
            return SIM_STEPS;
        sim->now_ns = sim->heap[0].at_ns;
        struct sim_event *event = sim->heap[0].event;
        heap_remove(sim, 0);
        sim->steps++;
        event->run(event);
    }
}

uint64_t sim_run_for(struct sim *sim, uint64_t for_ns) {
    uint64_t before = sim->steps, end_ns = sim->now_ns + for_ns;
    if (for_ns > 0)
        sim_run_until(sim, NULL, NULL, for_ns, 0);
    sim->now_ns = end_ns;
    return sim->steps - before;
}

const char *sim_end_name(enum sim_end end) {
    switch (end) {
    case SIM_MET: return "met";
    case SIM_QUIET: return "nothing left to happen";
    case SIM_TIMEOUT: return "virtual time is over";
    case SIM_STEPS: return "too many events";
    }
    return "?";
}

/* ---- life ---- */

void sim_options_init(struct sim_options *options, uint64_t seed) {
    *options = (struct sim_options){
        .seed = seed,
        .remote = {.latency_min_ns = 20 * NS_PER_US,
                   .latency_max_ns = 60 * NS_PER_US,
                   .bytes_per_second = GIB(1),
                   .window_bytes = 256 * 1024,
                   .split_one_in = 4,
                   .short_write_one_in = 8,
                   .late_one_in = 256,
                   .late_ns = 5 * NS_PER_MS},
        .local = {.latency_min_ns = 1 * NS_PER_US,
                  .latency_max_ns = 8 * NS_PER_US,
                  .window_bytes = 256 * 1024,
                  .split_one_in = 8,
                  .short_write_one_in = 8},
        .turn_min_ns = 200,
        .turn_max_ns = 3000,
        .job_min_ns = 5 * NS_PER_US,
        .job_max_ns = 200 * NS_PER_US,
        .backlog = 128,
        .connect_timeout_ns = 127 * NS_PER_S,
        .stream_timeout_ns = 900 * NS_PER_S,
        .spurious_one_in = 16,
    };
}

void sim_reseed(struct sim *sim, uint64_t seed) {
    random_init(&sim->random, seed);
    sim->options.seed = seed;
    sim->trace_hash = 0;
}

struct sim *sim_create(const struct sim_options *options) {
    struct sim_options copy = *options;
    assert((copy.allocate == NULL) == (copy.release == NULL));
    if (copy.allocate == NULL) {
        copy.allocate = malloc;
        copy.release = free;
    }
    struct sim *sim = copy.allocate(sizeof(*sim));
    assert(sim != NULL);
    memset(sim, 0, sizeof(*sim));
    sim->options = copy;
    sim->now_ns = NS_PER_S; /* 0 means "never" in many a program */
    sim_reseed(sim, copy.seed);
    list_init(&sim->disk_list);
    list_init(&sim->connection_list);
    list_init(&sim->record_list);
    const struct {
        struct sim_pool *pool;
        size_t size;
    } pools[] = {
        {&sim->processes, sizeof(struct sim_process)},
        {&sim->loops, sizeof(struct sim_loop)},
        {&sim->jobs, sizeof(struct sim_job)},
        {&sim->opens, sizeof(struct sim_open)},
        {&sim->calls, sizeof(struct sim_call)},
        {&sim->files, sizeof(struct sim_file)},
        {&sim->ios, sizeof(struct sim_io)},
        {&sim->writes, sizeof(struct sim_write)},
        {&sim->pieces, sizeof(struct sim_piece)},
        {&sim->pages, sizeof(struct sim_page)},
        {&sim->disks, sizeof(struct sim_disk)},
        {&sim->layers, sizeof(struct sim_layer)},
        {&sim->sockets, sizeof(struct sim_socket)},
        {&sim->connections, sizeof(struct sim_connection)},
        {&sim->rings, copy.remote.window_bytes},
    };
    for (size_t i = 0; i < array_count(pools); i++)
        sim_pool_init(pools[i].pool, sim, pools[i].size);
    return sim;
}

void sim_destroy(struct sim *sim) {
    assert(sim->inside == NULL);
    for (uint32_t i = 0; i < sim->node_count; i++) {
        struct sim_node *node = sim->nodes[i];
        while (!list_empty(&node->processes))
            sim_process_end(list_entry(list_first(&node->processes), struct sim_process, of_node), SIM_KILL_VANISH);
    }
    for (uint32_t i = 0; i < sim->node_count; i++)
        sim_kept_drop(sim->nodes[i]);
    sim_network_destroy(sim);
    sim_disks_destroy(sim);
    for (uint32_t i = 0; i < sim->node_count; i++) {
        for (struct list_node *path; (path = list_pop_front(&sim->nodes[i]->paths)) != NULL;)
            sim_release(sim, list_entry(path, struct sim_path, node));
        sim_release(sim, sim->nodes[i]);
    }
    if (sim->heap != NULL)
        sim_release(sim, sim->heap);
    for (struct sim_chunk *chunk = sim->chunks, *next; chunk != NULL; chunk = next) {
        next = chunk->next;
        sim_release(sim, chunk);
    }
    sim->options.release(sim);
}
