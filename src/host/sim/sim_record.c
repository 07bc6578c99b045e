/* The record of a disk's writes, and cursors that give the images of power cuts. See sim_disk.h. */
#include "host/sim/sim_disk_internal.h"

struct sim_record {
    struct sim *sim;
    struct list_node of_sim;
    struct sim_disk *disk; /* NULL once stopped */
    struct sim_disk_options options;
    struct sim_layer *base; /* content at the start */
    struct sim_record_event *events;
    uint32_t event_count, event_capacity;
    struct sim_write **writes;
    uint32_t write_count, write_capacity;
    uint64_t *marks; /* of each sync: the completions it covers */
    uint32_t sync_count, sync_capacity;
    uint32_t cursors;
};

struct cursor {
    struct sim_cursor cursor;
    struct sim_layer *stable;
    struct sim_outstanding outstanding; /* the first `landed` in order of landing, then those under way */
    uint32_t landed;
    uint32_t *indices;
    uint32_t indices_capacity;
};

/* ---- recording ---- */

struct sim_record *sim_record_start(struct sim_disk *disk) {
    struct sim *sim = disk->sim;
    assert(disk->record == NULL && disk->pending.count == 0 && disk->phantoms.count == 0 && list_empty(&disk->in_flight));
    struct sim_record *record = sim_allocate(sim, sizeof(*record));
    *record = (struct sim_record){.sim = sim, .disk = disk, .options = disk->options};
    list_push_back(&sim->record_list, &record->of_sim);
    /* the content so far becomes the layer below both the disk and the images */
    record->base = disk->stable;
    sim_layer_unref(disk->current);
    disk->stable = sim_layer_create(sim, record->base, record->base->size);
    disk->current = sim_layer_create(sim, record->base, record->base->size);
    disk->record = record;
    return record;
}

void sim_record_stop(struct sim_record *record) {
    if (record->disk != NULL)
        record->disk->record = NULL;
    record->disk = NULL;
}

void sim_record_destroy(struct sim_record *record) {
    struct sim *sim = record->sim;
    assert(record->cursors == 0);
    sim_record_stop(record);
    for (uint32_t i = 0; i < record->write_count; i++) {
        record->writes[i]->record = NULL;
        sim_write_unref(record->writes[i]);
    }
    sim_layer_unref(record->base);
    void *const arrays[] = {record->events, record->writes, record->marks};
    for (size_t i = 0; i < array_count(arrays); i++)
        if (arrays[i] != NULL)
            sim_release(sim, arrays[i]);
    list_remove(&record->of_sim);
    sim_release(sim, record);
}

void sim_records_destroy(struct sim *sim) {
    while (!list_empty(&sim->record_list))
        sim_record_destroy(list_entry(list_first(&sim->record_list), struct sim_record, of_sim));
}

static void event_push(struct sim_record *record, struct sim_record_event event) {
    record->events = sim_grow(record->sim, record->events, sizeof(*record->events), record->event_count, &record->event_capacity,
                              record->event_count + 1);
    record->events[record->event_count++] = event;
}

void sim_record_note(struct sim_record *record, enum sim_record_kind kind, uint32_t index) {
    event_push(record, (struct sim_record_event){.kind = kind, .index = index});
}

void sim_record_mark(struct sim_record *record, uint64_t value) {
    event_push(record, (struct sim_record_event){.kind = SIM_RECORD_MARK, .value = value});
}

void sim_record_write(struct sim_record *record, struct sim_write *write) {
    record->writes = sim_grow(record->sim, record->writes, sizeof(struct sim_write *), record->write_count,
                              &record->write_capacity, record->write_count + 1);
    write->record = record;
    write->index = record->write_count;
    record->writes[record->write_count++] = sim_write_ref(write);
    sim_record_note(record, SIM_RECORD_WRITE, write->index);
}

uint32_t sim_record_sync(struct sim_record *record, uint64_t mark) {
    record->marks = sim_grow(record->sim, record->marks, sizeof(*record->marks), record->sync_count, &record->sync_capacity,
                             record->sync_count + 1);
    record->marks[record->sync_count] = mark;
    sim_record_note(record, SIM_RECORD_SYNC, record->sync_count);
    return record->sync_count++;
}

size_t sim_record_event_count(const struct sim_record *record) { return record->event_count; }
const struct sim_record_event *sim_record_event(const struct sim_record *record, size_t position) {
    assert(position < record->event_count);
    return &record->events[position];
}
uint32_t sim_record_write_count(const struct sim_record *record) { return record->write_count; }

void sim_record_write_facts(const struct sim_record *record, uint32_t index, struct sim_write_facts *ret_facts) {
    assert(index < record->write_count);
    const struct sim_write *write = record->writes[index];
    *ret_facts = (struct sim_write_facts){.op = write->op,
                                          .offset = write->offset,
                                          .length = write->length,
                                          .units = sim_write_units(write, record->options.power_fail_unit),
                                          .completed = write->completed != 0};
}

/* ---- cursors ---- */

struct sim_cursor *sim_cursor_create(struct sim_record *record) {
    struct cursor *cursor = sim_allocate(record->sim, sizeof(*cursor));
    *cursor = (struct cursor){.cursor = {.record = record, .changed = true}};
    cursor->stable = sim_layer_create(record->sim, record->base, record->base->size);
    record->cursors++;
    return &cursor->cursor;
}

void sim_cursor_destroy(struct sim_cursor *public) {
    struct cursor *cursor = container_of(public, struct cursor, cursor);
    struct sim *sim = public->record->sim;
    sim_outstanding_fini(&cursor->outstanding, sim);
    sim_layer_unref(cursor->stable);
    if (cursor->indices != NULL)
        sim_release(sim, cursor->indices);
    public->record->cursors--;
    sim_release(sim, cursor);
}

/* A write under way has landed: it goes behind those that landed before it. */
static void cursor_landed(struct cursor *cursor, const struct sim_write *write) {
    struct sim_write **writes = cursor->outstanding.writes;
    uint32_t at = cursor->landed;
    while (writes[at] != write)
        at++;
    memmove(&writes[cursor->landed + 1], &writes[cursor->landed], (at - cursor->landed) * sizeof(struct sim_write *));
    writes[cursor->landed++] = (struct sim_write *)write;
}

static void cursor_synced(struct cursor *cursor, uint64_t mark) {
    uint32_t under_way = cursor->outstanding.count - cursor->landed;
    sim_outstanding_sync(&cursor->outstanding, cursor->stable, mark);
    cursor->landed = cursor->outstanding.count - under_way;
}

/* A disk without a volatile cache: what completed is durable. */
static void cursor_completed(struct cursor *cursor, const struct sim_write *write) {
    uint32_t at = 0;
    while (cursor->outstanding.writes[at] != write)
        at++;
    sim_write_apply(write, cursor->stable, (struct sim_survival){.kind = SIM_KEPT}, SIM_PAGE_SIZE);
    sim_write_unref(cursor->outstanding.writes[at]);
    memmove(&cursor->outstanding.writes[at], &cursor->outstanding.writes[at + 1],
            (--cursor->outstanding.count - at) * sizeof(struct sim_write *));
    cursor->landed--;
}

bool sim_cursor_next(struct sim_cursor *public) {
    struct cursor *cursor = container_of(public, struct cursor, cursor);
    struct sim_record *record = public->record;
    if (public->position >= record->event_count)
        return false;
    const struct sim_record_event *event = &record->events[public->position++];
    public->changed = false;
    switch (event->kind) {
    case SIM_RECORD_WRITE:
        sim_outstanding_push(&cursor->outstanding, record->sim, sim_write_ref(record->writes[event->index]));
        public->changed = true;
        break;
    case SIM_RECORD_LANDED: cursor_landed(cursor, record->writes[event->index]); break;
    case SIM_RECORD_SYNCED:
        cursor_synced(cursor, record->marks[event->index]);
        public->changed = true;
        break;
    case SIM_RECORD_COMPLETED:
        if (record->options.write_through) {
            cursor_completed(cursor, record->writes[event->index]);
            public->changed = true;
        }
        break;
    case SIM_RECORD_SYNC:
    case SIM_RECORD_MARK: break;
    }
    public->outstanding_count = cursor->outstanding.count;
    cursor->indices = sim_grow(record->sim, cursor->indices, sizeof(*cursor->indices), 0, &cursor->indices_capacity,
                               cursor->outstanding.count + 1);
    for (uint32_t i = 0; i < cursor->outstanding.count; i++)
        cursor->indices[i] = cursor->outstanding.writes[i]->index;
    public->outstanding = cursor->indices;
    return true;
}

struct sim_disk *sim_cursor_image(struct sim_cursor *public, const struct sim_survival *survivals) {
    struct cursor *cursor = container_of(public, struct cursor, cursor);
    const struct sim_disk_options *options = &public->record->options;
    struct sim_disk *disk = sim_disk_of_layer(public->record->sim, options, cursor->stable);
    for (uint32_t i = 0; survivals != NULL && i < cursor->outstanding.count; i++)
        sim_write_apply(cursor->outstanding.writes[i], disk->stable, survivals[i], options->power_fail_unit);
    sim_layer_copy(disk->current, disk->stable);
    return disk;
}
