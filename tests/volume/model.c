#include "model.h"

#include <stdio.h>

struct stamp {
    uint32_t store, node, sector, operation;
};
static_assert(sizeof(struct stamp) == 16 && MODEL_SECTOR % sizeof(struct stamp) == 0, "stamps fill a sector");

static uint32_t *numbers(uint32_t count) {
    uint32_t *array = plain_alloc(count * sizeof(uint32_t));
    memset(array, 0, count * sizeof(uint32_t));
    return array;
}

static struct model_write *write_of(const struct model *model, uint32_t operation) {
    return operation < model->first_write || operation - model->first_write >= model->write_count
               ? NULL
               : &model->writes[operation - model->first_write];
}

void model_init(struct model *model, uint32_t store, uint32_t first_write) {
    assert(first_write > 0);
    memset(model, 0, sizeof(*model));
    model->store = store;
    model->first_write = first_write;
    model_view_init(&model->live);
}

static void facts_free(struct model_fact *fact) {
    while (fact != NULL) {
        struct model_fact *older = fact->older;
        plain_free(fact);
        fact = older;
    }
}

void model_fini(struct model *model) {
    for (uint32_t i = 0; i < model->node_count; i++) {
        struct model_node *node = &model->nodes[i];
        while (node->base != NULL) {
            struct model_base *older = node->base->older;
            plain_free(node->base->content);
            plain_free(node->base);
            node->base = older;
        }
        facts_free(node->size);
        facts_free(node->name);
        facts_free(node->attribute);
        plain_free(node->exact);
    }
    facts_free(model->capacity);
    plain_free(model->writes);
    plain_free(model->events);
    model_view_fini(&model->live);
}

static void event(struct model *model, enum model_event_kind kind, uint32_t at, uint32_t node, uint32_t index) {
    if (model->event_count == model->event_capacity) {
        model->event_capacity = model->event_capacity == 0 ? 512 : model->event_capacity * 2;
        model->events = plain_grow(model->events, model->event_capacity * sizeof(struct model_event));
    }
    assert(model->event_count == 0 || model->events[model->event_count - 1].position <= at);
    model->events[model->event_count++] = (struct model_event){.kind = kind, .position = at, .node = node, .index = index};
    model_view_advance(model, &model->live, at + 1);
}

/* ---- what the test does ---- */

static void base_add(struct model_node *node, uint32_t at, const uint32_t *content, uint32_t count) {
    struct model_base *base = plain_alloc(sizeof(*base));
    *base = (struct model_base){.start = at, .done = MODEL_NEVER, .content = numbers(count), .count = count, .older = node->base};
    if (content != NULL)
        memcpy(base->content, content, count * sizeof(uint32_t));
    node->base = base;
}

uint32_t model_create(struct model *model, uint32_t at, const struct uuid *uuid, bool snapshot, uint64_t bytes, uint64_t name,
                      const uint32_t *content, uint32_t content_count) {
    assert(model->node_count < MODEL_NODES_MAX);
    uint32_t index = model->node_count++;
    struct model_node *node = &model->nodes[index];
    *node = (struct model_node){.uuid = *uuid,
                                .snapshot = snapshot,
                                .created_start = at,
                                .created_done = MODEL_NEVER,
                                .deleted_start = MODEL_NEVER,
                                .deleted_done = MODEL_NEVER,
                                .count = (uint32_t)(bytes / MODEL_SECTOR)};
    base_add(node, at, content, content_count);
    model_fact(model, &node->size, at, bytes);
    model_fact(model, &node->name, at, name);
    model_fact(model, &node->attribute, at, 0);
    event(model, MODEL_BEGUN, at, index, 0);
    return index;
}

void model_created(struct model *model, uint32_t index, uint32_t at, bool ok) {
    struct model_node *node = &model->nodes[index];
    if (ok)
        node->created_done = at;
    else
        node->deleted_start = node->deleted_done = node->created_start; /* never there, not even for a moment */
    node->base->done = at;
    model_fact_done(model, &node->size, at, true);
    model_fact_done(model, &node->name, at, true);
    model_fact_done(model, &node->attribute, at, true);
    event(model, MODEL_ANSWERED, at, index, 0);
}

void model_delete(struct model *model, uint32_t node, uint32_t at) {
    model->nodes[node].deleted_start = at;
    event(model, MODEL_BEGUN, at, node, 0);
}

void model_deleted(struct model *model, uint32_t node, uint32_t at, bool ok) {
    if (ok)
        model->nodes[node].deleted_done = at;
    else
        model->nodes[node].deleted_start = MODEL_NEVER;
    event(model, MODEL_ANSWERED, at, node, 0);
}

void model_learn(struct model *model, uint32_t index, const uint32_t *content, uint32_t count) {
    struct model_node *node = &model->nodes[index];
    assert(node->snapshot && node->exact == NULL);
    node->exact = numbers(count);
    node->exact_count = count;
    memcpy(node->exact, content, count * sizeof(uint32_t));
}

uint32_t model_write(struct model *model, uint32_t at, uint32_t node, enum model_kind kind, bool fua, uint32_t first,
                     uint32_t count) {
    if (model->write_count == model->write_capacity) {
        model->write_capacity = model->write_capacity == 0 ? 512 : model->write_capacity * 2;
        model->writes = plain_grow(model->writes, model->write_capacity * sizeof(struct model_write));
    }
    model->writes[model->write_count] = (struct model_write){
        .kind = kind, .fua = fua, .node = node, .first = first, .count = count, .start = at, .done = MODEL_NEVER};
    event(model, MODEL_BEGUN, at, node, 0);
    return model->first_write + model->write_count++;
}

void model_written(struct model *model, uint32_t operation, uint32_t at, enum model_result result) {
    struct model_write *write = write_of(model, operation);
    write->done = at;
    write->failed = result == MODEL_FAILED;
    write->undone = result == MODEL_UNDONE;
    event(model, MODEL_WRITE_DONE, at, write->node, operation);
}

uint32_t model_flush(struct model *model, uint32_t at, uint32_t node) {
    event(model, MODEL_FLUSH_START, at, node, model->flush_count);
    return model->flush_count++;
}

void model_flushed(struct model *model, uint32_t node, uint32_t flush, uint32_t at, bool ok) {
    if (ok)
        event(model, MODEL_FLUSH_DONE, at, node, flush);
}

void model_fact(struct model *model, struct model_fact **list, uint32_t at, uint64_t value) {
    struct model_fact *fact = plain_alloc(sizeof(*fact));
    *fact = (struct model_fact){.start = at, .done = MODEL_NEVER, .value = value, .older = *list};
    *list = fact;
    event(model, MODEL_BEGUN, at, MODEL_NODES_MAX, 0);
}

void model_fact_done(struct model *model, struct model_fact **list, uint32_t at, bool ok) {
    struct model_fact *fact = *list;
    if (ok) {
        fact->done = at;
    } else {
        *list = fact->older;
        plain_free(fact);
    }
    event(model, MODEL_ANSWERED, at, MODEL_NODES_MAX, 0);
}

void model_revert(struct model *model, uint32_t node, uint32_t at, const uint32_t *content, uint32_t count) {
    base_add(&model->nodes[node], at, content, count);
    event(model, MODEL_BEGUN, at, node, 0);
}

void model_reverted(struct model *model, uint32_t index, uint32_t at, bool ok) {
    struct model_node *node = &model->nodes[index];
    if (ok) {
        node->base->done = at;
        event(model, MODEL_ALL_DURABLE, at, index, node->base->start);
        return;
    }
    struct model_base *base = node->base;
    node->base = base->older;
    plain_free(base->content);
    plain_free(base);
}

uint32_t model_cut(struct model *model, uint32_t at, uint32_t node, uint32_t first) {
    return model_write(model, at, node, MODEL_ZERO, true, first, model->nodes[node].count - first);
}

/* ---- stamps ---- */

void model_stamp(const struct model *model, uint32_t node, uint32_t operation, uint32_t first_sector, void *to, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        struct stamp stamp = {model->store, node, first_sector + i, operation};
        for (uint32_t at = 0; at < MODEL_SECTOR; at += sizeof(stamp))
            memcpy((uint8_t *)to + i * MODEL_SECTOR + at, &stamp, sizeof(stamp));
    }
}

void model_unstamp(const struct model *model, const void *from, uint32_t first_sector, uint32_t count, bool whole, uint32_t *to) {
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *sector = (const uint8_t *)from + i * MODEL_SECTOR;
        struct stamp stamp;
        memcpy(&stamp, sector, sizeof(stamp));
        bool equal = whole ? memcmp(sector, sector + sizeof(stamp), MODEL_SECTOR - sizeof(stamp)) == 0
                           : memcmp(sector, sector + MODEL_SECTOR - sizeof(stamp), sizeof(stamp)) == 0;
        if (equal && (stamp.store | stamp.node | stamp.sector | stamp.operation) == 0)
            to[i] = 0;
        else if (equal && stamp.store == model->store && stamp.sector == first_sector + i && stamp.operation > 0)
            to[i] = stamp.operation; /* whose it is, the operation's number says: checked by who looks it up */
        else
            to[i] = MODEL_FOREIGN;
    }
}

/* ---- what is allowed ---- */

static bool covers(const struct model_write *write, uint32_t sector) {
    return sector >= write->first && sector - write->first < write->count;
}

/* Of two overlapping writes that were under way together the disk may have kept the bytes of the one and the store the end of the
 * other: then the bytes of `write` may come to light until that other one is done. No user can tell them apart. */
static bool lingers(const struct model *model, const struct model_write *write, uint32_t sector, uint32_t floor) {
    for (uint32_t i = 0; i < model->write_count; i++) {
        const struct model_write *other = &model->writes[i];
        if (other->node == write->node && other->kind == MODEL_WRITE && other->done >= floor && other->start < write->done &&
            write->start < other->done && covers(other, sector))
            return true;
    }
    return false;
}

/* May the sector hold this, at a time before `until`, when everything that began after `floor` … has surely replaced what ended
 * before it? */
static bool allowed(const struct model *model, uint32_t index, uint32_t sector, uint32_t content, uint32_t floor,
                    uint32_t until) {
    const struct model_node *node = &model->nodes[index];
    for (const struct model_base *base = node->base; base != NULL; base = base->older) {
        uint32_t value = sector < base->count ? base->content[sector] : 0;
        if (value == content && base->start < until && base->done >= floor)
            return true;
    }
    if (content != 0) {
        const struct model_write *write = write_of(model, content);
        return write != NULL && write->kind == MODEL_WRITE && !write->undone && write->node == index && covers(write, sector) &&
               write->start < until && (write->done >= floor || lingers(model, write, sector, floor));
    }
    for (uint32_t i = model->write_count; i-- > 0;) {
        const struct model_write *write = &model->writes[i];
        if (write->node == index && write->kind != MODEL_WRITE && !write->undone && covers(write, sector) &&
            write->start < until && write->done >= floor)
            return true;
    }
    return false;
}

bool model_read_ok(const struct model *model, uint32_t node, uint32_t first, uint32_t count, const uint32_t *completed,
                   uint32_t until, const uint32_t *content, uint32_t *ret_bad) {
    const struct model_node *n = &model->nodes[node];
    for (uint32_t i = 0; i < count; i++) {
        bool ok = n->exact != NULL ? first + i < n->exact_count && n->exact[first + i] == content[i]
                                   : allowed(model, node, first + i, content[i], completed[i], until);
        if (!ok) {
            *ret_bad = first + i;
            return false;
        }
    }
    return true;
}

void model_view_init(struct model_view *view) { memset(view, 0, sizeof(*view)); }

void model_view_fini(struct model_view *view) {
    for (uint32_t i = 0; i < MODEL_NODES_MAX; i++) {
        plain_free(view->nodes[i].completed);
        plain_free(view->nodes[i].durable);
    }
    for (uint32_t i = 0; i < view->flush_count; i++)
        plain_free(view->flushes[i]);
    plain_free(view->flushes);
    model_view_init(view);
}

static void raise_to(uint32_t *floor, uint32_t first, uint32_t count, uint32_t start) {
    for (uint32_t s = first; s < first + count; s++)
        floor[s] = max_u32(floor[s], start);
}

static void view_node(const struct model *model, struct model_view *view, uint32_t index) {
    uint32_t count = model->nodes[index].count, had = view->nodes[index].count;
    if (had >= count)
        return;
    view->nodes[index].completed = plain_grow(view->nodes[index].completed, count * sizeof(uint32_t));
    view->nodes[index].durable = plain_grow(view->nodes[index].durable, count * sizeof(uint32_t));
    memset(view->nodes[index].completed + had, 0, (count - had) * sizeof(uint32_t));
    memset(view->nodes[index].durable + had, 0, (count - had) * sizeof(uint32_t));
    view->nodes[index].count = count;
}

static void view_event(const struct model *model, struct model_view *view, const struct model_event *e) {
    if (e->node == MODEL_NODES_MAX)
        return;
    view_node(model, view, e->node);
    uint32_t *completed = view->nodes[e->node].completed, *durable = view->nodes[e->node].durable;
    uint32_t count = view->nodes[e->node].count;
    switch (e->kind) {
    case MODEL_WRITE_DONE: {
        const struct model_write *write = write_of(model, e->index);
        if (write->failed || write->undone || write->kind == MODEL_MAYBE_ZERO)
            return;
        raise_to(completed, write->first, write->count, write->start);
        if (write->fua)
            raise_to(durable, write->first, write->count, write->start);
        return;
    }
    case MODEL_FLUSH_START:
        assert(e->index == view->flush_count);
        view->flushes = plain_grow(view->flushes, (view->flush_count + 1) * sizeof(uint32_t *));
        view->flushes[view->flush_count] = numbers(1 + count);
        view->flushes[view->flush_count][0] = count;
        memcpy(view->flushes[view->flush_count++] + 1, completed, count * sizeof(uint32_t));
        return;
    case MODEL_FLUSH_DONE:
        for (uint32_t s = 0; s < view->flushes[e->index][0]; s++)
            durable[s] = max_u32(durable[s], view->flushes[e->index][1 + s]);
        return;
    case MODEL_ALL_DURABLE:
        raise_to(completed, 0, count, e->index);
        raise_to(durable, 0, count, e->index);
        return;
    case MODEL_BEGUN:
    case MODEL_ANSWERED: return;
    }
}

bool model_view_advance(const struct model *model, struct model_view *view, uint32_t position) {
    bool more = false;
    for (; view->next_event < model->event_count && model->events[view->next_event].position < position; view->next_event++) {
        const struct model_event *e = &model->events[view->next_event];
        view_event(model, view, e);
        more = more || e->kind == MODEL_FLUSH_DONE || e->kind == MODEL_ALL_DURABLE || e->kind == MODEL_ANSWERED ||
               (e->kind == MODEL_WRITE_DONE && write_of(model, e->index)->fua);
    }
    view->position = position;
    return more;
}

bool model_begins(const struct model *model, const struct model_view *view, uint32_t position) {
    for (uint32_t i = view->next_event; i < model->event_count && model->events[i].position <= position; i++)
        if (model->events[i].kind == MODEL_BEGUN)
            return true;
    return false;
}

/* One of the values that were asked for and not surely replaced. */
static bool fact_ok(const struct model_fact *fact, uint64_t value, uint32_t at) {
    for (; fact != NULL; fact = fact->older) {
        if (fact->start < at && fact->value == value)
            return true;
        if (fact->done < at)
            return false;
    }
    return false;
}

static const struct model_found *find(const struct model_found *found, uint32_t count, const struct uuid *uuid) {
    for (uint32_t i = 0; i < count; i++)
        if (uuid_equal(&found[i].uuid, uuid))
            return &found[i];
    return NULL;
}

static bool complain(char *text, size_t size, const struct model *model, uint32_t node, uint32_t at, const char *what, uint64_t a,
                     uint64_t b) {
    (void)model;
    snprintf(text, size, "node %u at %u: %s (%llu, %llu)", node, at, what, (unsigned long long)a, (unsigned long long)b);
    return false;
}

/* What an operation is, for people. */
static const char *describe(const struct model *model, uint32_t content, char *text, size_t size) {
    static const char *const kinds[] = {"write", "zeroing", "trim's edge"};
    const struct model_write *write = write_of(model, content);
    if (content == 0)
        snprintf(text, size, "zeros");
    else if (content == MODEL_FOREIGN)
        snprintf(text, size, "foreign bytes");
    else if (write == NULL)
        snprintf(text, size, "%u of an earlier life", content);
    else
        snprintf(text, size, "%s %u%s of node %u (%u … %u%s)", kinds[write->kind], content, write->fua ? " FUA" : "", write->node,
                 write->start, write->done,
                 write->undone   ? ", refused"
                 : write->failed ? ", failed"
                                 : "");
    return text;
}

/* Bytes that the disk refused and showed all the same are nobody's promise: not in a snapshot, nor in what was made of it. */
static bool is_refused(const struct model *model, uint32_t sector, uint32_t content) {
    const struct model_write *write = write_of(model, content);
    if (content != 0)
        return write != NULL && write->failed;
    for (uint32_t i = 0; i < model->write_count; i++) /* whose zeros they are, they do not say */
        if (model->writes[i].failed && model->writes[i].kind != MODEL_WRITE && covers(&model->writes[i], sector))
            return true;
    return false;
}

static bool stands_on_refused(const struct model *model, const struct model_node *node, uint32_t sector) {
    for (const struct model_base *base = node->base; base != NULL; base = base->older)
        if (sector < base->count && is_refused(model, sector, base->content[sector]))
            return true;
    return false;
}

static bool content_ok(const struct model *model, const struct model_view *view, uint32_t index, const struct model_found *f,
                       char *text, size_t size) {
    const struct model_node *node = &model->nodes[index];
    uint32_t at = view->position;
    for (uint32_t s = 0; s < f->count; s++) {
        uint32_t content = f->content[s];
        if (node->exact != NULL) {
            if (s < node->exact_count && (node->exact[s] == content || is_refused(model, s, node->exact[s])))
                continue;
            char found[96], wanted[96];
            snprintf(text, size, "snapshot %u (asked for at %u, answered at %u) has changed at %u: sector %u holds %s, not %s",
                     index, node->created_start, node->created_done, at, s, describe(model, content, found, sizeof(found)),
                     describe(model, s < node->exact_count ? node->exact[s] : MODEL_FOREIGN, wanted, sizeof(wanted)));
            return false;
        }
        if (node->snapshot)
            continue; /* never read by the test: only what others say of it */
        if (s >= node->count)
            return complain(text, size, model, index, at, "larger than it ever was: sector", s, 0);
        uint32_t floor = s < view->nodes[index].count ? view->nodes[index].durable[s] : 0;
        if (!allowed(model, index, s, content, floor, at) && !stands_on_refused(model, node, s)) {
            char found[96], wanted[96] = "nothing";
            for (uint32_t i = 0; i < model->write_count && floor != 0; i++)
                if (model->writes[i].node == index && model->writes[i].start == floor)
                    describe(model, model->first_write + i, wanted, sizeof(wanted));
            snprintf(text, size, "node %u at %u: sector %u holds %s, although durable is %s (since %u)", index, at, s,
                     describe(model, content, found, sizeof(found)), wanted, floor);
            return false;
        }
    }
    return true;
}

bool model_check(const struct model *model, const struct model_view *view, const struct model_found *found, uint32_t found_count,
                 char *text, size_t size) {
    uint32_t at = view->position, known = 0;
    for (uint32_t i = 0; i < model->node_count; i++) {
        const struct model_node *node = &model->nodes[i];
        const struct model_found *f = find(found, found_count, &node->uuid);
        if (f == NULL) {
            if (node->created_done < at && node->deleted_start >= at)
                return complain(text, size, model, i, at, "it is gone", 0, 0);
            continue;
        }
        known++;
        if (node->created_start >= at || node->deleted_done < at)
            return complain(text, size, model, i, at, "it should not be there", node->created_start, node->deleted_done);
        if (node->snapshot != f->snapshot)
            return complain(text, size, model, i, at, "snapshot or not", f->snapshot, 0);
        if (!fact_ok(node->size, f->bytes, at))
            return complain(text, size, model, i, at, "its size: found", f->bytes, 0);
        if (!fact_ok(node->name, f->name, at))
            return complain(text, size, model, i, at, "its name: found", f->name, 0);
        if (!fact_ok(node->attribute, f->attribute, at))
            return complain(text, size, model, i, at, "its attribute: found", f->attribute, 0);
        if (!content_ok(model, view, i, f, text, size))
            return false;
    }
    if (known != found_count)
        return complain(text, size, model, 0, at, "nodes that nobody made: known, found", known, found_count);
    return true;
}

bool model_capacity_ok(const struct model *model, const struct model_view *view, uint64_t bytes, char *text, size_t size) {
    if (model->capacity == NULL || fact_ok(model->capacity, bytes, view->position))
        return true;
    snprintf(text, size, "at %u: the store has %llu bytes, last asked for were %llu", view->position, (unsigned long long)bytes,
             (unsigned long long)model->capacity->value);
    return false;
}

void model_from_found(struct model *model, const struct model *origin, const struct model_found *found, uint32_t found_count) {
    model_init(model, origin->store, origin->first_write + origin->write_count);
    model->overhead = origin->overhead;
    for (uint32_t i = 0; i < found_count; i++) {
        const struct model_found *f = &found[i];
        uint32_t index = model_create(model, 0, &f->uuid, f->snapshot, f->bytes, f->name, f->content, f->count);
        struct model_node *node = &model->nodes[index];
        node->attribute->value = f->attribute;
        if (f->snapshot)
            model_learn(model, index, f->content, f->count);
        model_created(model, index, 0, true);
    }
}
