/* Layers of shared pages, and writes that apply to them. See sim_content.h. */
#include "host/sim/sim_content.h"

#include "base/hash_map.h"

#define TABLE_KEPT_MAX 65536 /* slots of a layer that is kept for reuse */

static const uint8_t zeros[SIM_PAGE_SIZE];

/* ---- pages ---- */

static struct sim_page *page_create(struct sim *sim) {
    struct sim_page *page = sim_pool_take_raw(&sim->pages);
    page->references = 1;
    return page;
}

static void page_unref(struct sim *sim, struct sim_page *page) {
    if (page != NULL && --page->references == 0)
        sim_pool_give(&sim->pages, page);
}

/* ---- layers ---- */

static struct sim_layer_entry *layer_find(const struct sim_layer *layer, uint64_t number) {
    if (layer->entry_count == 0)
        return NULL;
    for (uint32_t slot = (uint32_t)hash_u64(number);; slot++) {
        uint32_t index = layer->table[slot & (layer->table_size - 1)];
        if (index == 0)
            return NULL;
        if (layer->entries[index - 1].number == number)
            return &layer->entries[index - 1];
    }
}

static void layer_index(struct sim_layer *layer, uint32_t index) {
    uint32_t slot = (uint32_t)hash_u64(layer->entries[index].number);
    while (layer->table[slot & (layer->table_size - 1)] != 0)
        slot++;
    layer->entries[index].slot = slot & (layer->table_size - 1);
    layer->table[layer->entries[index].slot] = index + 1;
}

/* The entry of a page, made if it is absent (then with page NULL and *ret_new true). */
static struct sim_layer_entry *layer_entry(struct sim_layer *layer, uint64_t number, bool *ret_new) {
    struct sim_layer_entry *entry = layer_find(layer, number);
    *ret_new = entry == NULL;
    if (entry != NULL)
        return entry;
    struct sim *sim = layer->sim;
    if ((layer->entry_count + 1) * 2 > layer->table_size) {
        uint32_t size = max_u32(64, layer->table_size * 2);
        if (layer->table != NULL)
            sim_release(sim, layer->table);
        layer->table = sim_allocate(sim, size * sizeof(*layer->table));
        memset(layer->table, 0, size * sizeof(*layer->table));
        layer->table_size = size;
        for (uint32_t i = 0; i < layer->entry_count; i++)
            layer_index(layer, i);
    }
    layer->entries = sim_grow(sim, layer->entries, sizeof(*layer->entries), layer->entry_count, &layer->entry_capacity,
                              layer->entry_count + 1);
    layer->entries[layer->entry_count] = (struct sim_layer_entry){.number = number};
    layer_index(layer, layer->entry_count);
    return &layer->entries[layer->entry_count++];
}

/* Replaces a page; takes the reference. */
static void layer_set(struct sim_layer *layer, uint64_t number, struct sim_page *take_page) {
    assert(layer->above == 0);
    bool is_new;
    struct sim_layer_entry *entry = layer_entry(layer, number, &is_new);
    page_unref(layer->sim, entry->page);
    entry->page = take_page;
}

static const struct sim_layer_entry *layer_lookup(const struct sim_layer *layer, uint64_t number) {
    for (; layer != NULL; layer = layer->below) {
        const struct sim_layer_entry *entry = layer_find(layer, number);
        if (entry != NULL)
            return entry;
    }
    return NULL;
}

const uint8_t *sim_layer_page(const struct sim_layer *layer, uint64_t number, bool *ret_present) {
    const struct sim_layer_entry *entry = layer_lookup(layer, number);
    bool present = entry != NULL && entry->page != NULL;
    if (ret_present != NULL)
        *ret_present = present;
    return present ? entry->page->bytes : zeros;
}

/* A page that may be written in place, with the content seen so far. */
static uint8_t *layer_own(struct sim_layer *layer, uint64_t number) {
    assert(layer->above == 0);
    struct sim_layer_entry *own = layer_find(layer, number);
    if (own != NULL && own->page != NULL && own->page->references == 1)
        return own->page->bytes;
    struct sim_page *page = page_create(layer->sim);
    memcpy(page->bytes, sim_layer_page(layer, number, NULL), SIM_PAGE_SIZE);
    layer_set(layer, number, page);
    return page->bytes;
}

struct sim_layer *sim_layer_create(struct sim *sim, struct sim_layer *below, uint64_t size) {
    struct sim_layer *layer = sim->spare_layers;
    if (layer != NULL)
        sim->spare_layers = layer->below;
    else
        layer = sim_pool_take(&sim->layers);
    layer->sim = sim;
    layer->below = below == NULL ? NULL : sim_layer_ref(below);
    if (below != NULL)
        below->above++;
    layer->references = 1;
    layer->size = size;
    return layer;
}

struct sim_layer *sim_layer_ref(struct sim_layer *layer) {
    layer->references++;
    return layer;
}

static void layer_clear(struct sim_layer *layer) {
    for (uint32_t i = 0; i < layer->entry_count; i++) {
        page_unref(layer->sim, layer->entries[i].page);
        layer->table[layer->entries[i].slot] = 0;
    }
    layer->entry_count = 0;
}

static void layer_release_arrays(struct sim_layer *layer) {
    if (layer->table != NULL)
        sim_release(layer->sim, layer->table);
    if (layer->entries != NULL)
        sim_release(layer->sim, layer->entries);
    layer->table = NULL;
    layer->entries = NULL;
    layer->table_size = layer->entry_capacity = 0;
}

void sim_layer_unref(struct sim_layer *layer) {
    while (layer != NULL && --layer->references == 0) {
        assert(layer->above == 0);
        layer_clear(layer);
        if (layer->table_size > TABLE_KEPT_MAX)
            layer_release_arrays(layer);
        struct sim_layer *below = layer->below;
        layer->below = layer->sim->spare_layers;
        layer->sim->spare_layers = layer;
        if (below != NULL)
            below->above--;
        layer = below;
    }
}

void sim_layers_fini(struct sim *sim) {
    for (struct sim_layer *layer = sim->spare_layers; layer != NULL; layer = layer->below)
        layer_release_arrays(layer);
}

void sim_layer_copy_page(struct sim_layer *layer, const struct sim_layer *from, uint64_t number) {
    const struct sim_layer_entry *entry = layer_lookup(from, number);
    struct sim_page *page = entry == NULL ? NULL : entry->page;
    if (page != NULL)
        page->references++;
    layer_set(layer, number, page);
}

void sim_layer_copy(struct sim_layer *layer, const struct sim_layer *from) {
    assert(layer->below == from->below);
    layer_clear(layer);
    for (uint32_t i = 0; i < from->entry_count; i++)
        sim_layer_copy_page(layer, from, from->entries[i].number);
    layer->size = from->size;
}

void sim_layer_read(const struct sim_layer *layer, uint64_t offset, void *to, size_t length) {
    for (size_t done = 0; done < length;) {
        size_t start = (size_t)((offset + done) % SIM_PAGE_SIZE), part = (size_t)min_u64(SIM_PAGE_SIZE - start, length - done);
        memcpy((char *)to + done, sim_layer_page(layer, (offset + done) / SIM_PAGE_SIZE, NULL) + start, part);
        done += part;
    }
}

void sim_layer_write(struct sim_layer *layer, uint64_t offset, const void *from, size_t length) {
    for (size_t done = 0; done < length;) {
        size_t start = (size_t)((offset + done) % SIM_PAGE_SIZE), part = (size_t)min_u64(SIM_PAGE_SIZE - start, length - done);
        memcpy(layer_own(layer, (offset + done) / SIM_PAGE_SIZE) + start, (const char *)from + done, part);
        done += part;
    }
    layer->size = max_u64(layer->size, offset + length);
}

static void zero_page(struct sim_layer *layer, uint64_t number, uint64_t offset, uint64_t length, uint64_t keep) {
    uint64_t first = max_u64(number * SIM_PAGE_SIZE, offset), end = min_u64((number + 1) * SIM_PAGE_SIZE, offset + length);
    bool present;
    sim_layer_page(layer, number, &present);
    if (!present || first >= end || (keep != 0 && (hash_u64(keep ^ number) & 1) != 0))
        return;
    if (end - first == SIM_PAGE_SIZE)
        layer_set(layer, number, NULL);
    else
        memset(layer_own(layer, number) + first % SIM_PAGE_SIZE, 0, (size_t)(end - first));
}

void sim_layer_zero(struct sim_layer *layer, uint64_t offset, uint64_t length, uint64_t keep_one_in_two) {
    if (length == 0)
        return;
    uint64_t first = offset / SIM_PAGE_SIZE, end = divide_up(offset + length, SIM_PAGE_SIZE), entries = 0;
    for (const struct sim_layer *l = layer; l != NULL; l = l->below)
        entries += l->entry_count;
    if (end - first <= entries) {
        for (uint64_t number = first; number < end; number++)
            zero_page(layer, number, offset, length, keep_one_in_two);
        return;
    }
    /* fewer pages exist than the range names: go through those. The layer's own come first, since the others are added to it. */
    for (const struct sim_layer *l = layer; l != NULL; l = l->below)
        for (uint32_t i = 0, count = l->entry_count; i < count; i++)
            if (l->entries[i].number >= first && l->entries[i].number < end)
                zero_page(layer, l->entries[i].number, offset, length, keep_one_in_two);
}

/* Calls for each page that is present, each once: `layer` hides what is below. */
static uint64_t layer_sum(const struct sim_layer *layer, uint64_t (*of)(uint64_t number, const uint8_t *bytes)) {
    uint64_t sum = 0;
    for (const struct sim_layer *l = layer; l != NULL; l = l->below)
        for (uint32_t i = 0; i < l->entry_count; i++)
            if (l->entries[i].page != NULL && layer_lookup(layer, l->entries[i].number) == &l->entries[i])
                sum += of(l->entries[i].number, l->entries[i].page->bytes);
    return sum;
}

static uint64_t one(uint64_t number, const uint8_t *bytes) {
    (void)number;
    (void)bytes;
    return 1;
}

static uint64_t page_hash(uint64_t number, const uint8_t *bytes) {
    return memcmp(bytes, zeros, SIM_PAGE_SIZE) == 0 ? 0 : hash_bytes(bytes, SIM_PAGE_SIZE, number);
}

uint64_t sim_layer_allocated(const struct sim_layer *layer) { return layer_sum(layer, one) * SIM_PAGE_SIZE; }
/* A sum, so that the order of changes does not matter. */
uint64_t sim_layer_hash(const struct sim_layer *layer) { return hash_u64(layer->size) + layer_sum(layer, page_hash); }

/* ---- writes ---- */

struct sim_write *sim_write_create(struct sim *sim, enum host_file_op op, uint64_t offset, uint64_t length) {
    struct sim_write *write = sim_pool_take(&sim->writes);
    write->sim = sim;
    write->references = 1;
    write->op = op;
    write->offset = offset;
    write->length = length;
    write->filled = op != HOST_FILE_WRITE;
    return write;
}

void sim_write_fill(struct sim_write *write, const struct slice *slices, uint32_t slice_count, uint64_t length) {
    assert(!write->filled && length <= write->length);
    write->filled = true;
    write->length = length;
    struct sim_piece **last = &write->pieces;
    for (uint64_t done = 0; done < length;) {
        struct sim_piece *piece = sim_pool_take_raw(&write->sim->pieces);
        uint64_t at = write->offset + done;
        uint32_t start = (uint32_t)(at % SIM_PAGE_SIZE);
        *piece = (struct sim_piece){.page = page_create(write->sim),
                                    .number = at / SIM_PAGE_SIZE,
                                    .start = start,
                                    .length = (uint32_t)min_u64(SIM_PAGE_SIZE - start, length - done)};
        slice_copy_out(slices, slice_count, (size_t)done, piece->page->bytes + start, piece->length);
        done += piece->length;
        *last = piece;
        last = &piece->next;
    }
}

struct sim_write *sim_write_ref(struct sim_write *write) {
    write->references++;
    return write;
}

void sim_write_unref(struct sim_write *write) {
    if (--write->references > 0)
        return;
    for (struct sim_piece *piece = write->pieces, *next; piece != NULL; piece = next) {
        next = piece->next;
        page_unref(write->sim, piece->page);
        sim_pool_give(&write->sim->pieces, piece);
    }
    sim_pool_give(&write->sim->writes, write);
}

uint32_t sim_write_units(const struct sim_write *write, uint32_t unit) {
    return (uint32_t)(divide_up(write->offset + write->length, unit) - write->offset / unit);
}

/* Whether unit n of `units` survives. */
static bool unit_survives(struct sim_survival survival, uint64_t n, uint64_t units) {
    switch (survival.kind) {
    case SIM_LOST: return false;
    case SIM_KEPT: return true;
    case SIM_TORN_PREFIX: return n < survival.value;
    case SIM_TORN_SUFFIX: return n + survival.value >= units;
    case SIM_TORN_SEEDED: return (hash_u64(survival.value * UINT64_C(0x9e3779b97f4a7c15) + n) >> 17 & 1) != 0;
    case SIM_TORN_MASK: return (survival.value >> (n % 64) & 1) != 0;
    }
    return false;
}

static void apply_piece(const struct sim_write *write, const struct sim_piece *piece, struct sim_layer *layer,
                        struct sim_survival survival, uint32_t unit, uint64_t units) {
    if (survival.kind == SIM_KEPT && piece->length == SIM_PAGE_SIZE) {
        piece->page->references++;
        layer_set(layer, piece->number, piece->page);
        return;
    }
    uint64_t first_unit = write->offset / unit, page_at = piece->number * SIM_PAGE_SIZE;
    for (uint32_t at = piece->start, end = piece->start + piece->length, next; at < end; at = next) {
        next = survival.kind == SIM_KEPT ? end : min_u32(end, (uint32_t)round_down(at, unit) + unit);
        if (!unit_survives(survival, (page_at + at) / unit - first_unit, units))
            continue;
        memcpy(layer_own(layer, piece->number) + at, piece->page->bytes + at, next - at);
        layer->size = max_u64(layer->size, page_at + next);
    }
}

void sim_write_apply(const struct sim_write *write, struct sim_layer *layer, struct sim_survival survival, uint32_t unit) {
    if (survival.kind == SIM_LOST)
        return;
    if (write->truncate) { /* metadata of a file system: there or not */
        if (!write->grow)
            sim_layer_zero(layer, write->offset, write->length, 0);
        layer->size = write->grow ? max_u64(layer->size, write->offset + write->length) : min_u64(layer->size, write->offset);
        return;
    }
    uint64_t units = sim_write_units(write, unit);
    if (write->op == HOST_FILE_WRITE) {
        if (survival.kind == SIM_KEPT)
            layer->size = max_u64(layer->size, write->offset + write->length);
        for (const struct sim_piece *piece = write->pieces; piece != NULL; piece = piece->next)
            apply_piece(write, piece, layer, survival, unit, units);
        return;
    }
    uint64_t part = min_u64(write->length, survival.value * unit);
    switch (survival.kind) {
    case SIM_LOST: break;
    case SIM_KEPT: sim_layer_zero(layer, write->offset, write->length, write->punch); break;
    case SIM_TORN_PREFIX: sim_layer_zero(layer, write->offset, part, write->punch); break;
    case SIM_TORN_SUFFIX: sim_layer_zero(layer, write->offset + write->length - part, part, write->punch); break;
    case SIM_TORN_SEEDED:
    case SIM_TORN_MASK: /* by page: a range may be huge */
        sim_layer_zero(layer, write->offset, write->length, hash_u64(survival.value) | 1);
        break;
    }
}

/* ---- outstanding writes ---- */

void sim_outstanding_push(struct sim_outstanding *outstanding, struct sim *sim, struct sim_write *take_write) {
    outstanding->writes = sim_grow(sim, outstanding->writes, sizeof(*outstanding->writes), outstanding->count,
                                   &outstanding->capacity, outstanding->count + 1);
    outstanding->writes[outstanding->count++] = take_write;
}

void sim_outstanding_sync(struct sim_outstanding *outstanding, struct sim_layer *layer, uint64_t mark) {
    struct sim_write **writes = outstanding->writes;
    /* A write that is not covered but lies under a covered one in the cache goes with it: afterwards it could not reappear. */
    uint32_t end = outstanding->count;
    while (end > 0 && (writes[end - 1]->completed == 0 || writes[end - 1]->completed > mark))
        end--;
    if (end == 0)
        return;
    for (uint32_t i = end; i-- > 0;) {
        struct sim_write *write = writes[i];
        write->taken = write->completed != 0 && write->completed <= mark;
        for (uint32_t j = i + 1; !write->taken && j < end; j++)
            write->taken = writes[j]->taken && sim_write_overlaps(write, writes[j]);
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < outstanding->count; i++) {
        if (i < end && writes[i]->taken) {
            sim_write_apply(writes[i], layer, (struct sim_survival){.kind = SIM_KEPT}, SIM_PAGE_SIZE);
            sim_write_unref(writes[i]);
        } else {
            writes[kept++] = writes[i];
        }
    }
    outstanding->count = kept;
}

void sim_outstanding_clear(struct sim_outstanding *outstanding) {
    for (uint32_t i = 0; i < outstanding->count; i++)
        sim_write_unref(outstanding->writes[i]);
    outstanding->count = 0;
}

void sim_outstanding_fini(struct sim_outstanding *outstanding, struct sim *sim) {
    sim_outstanding_clear(outstanding);
    if (outstanding->writes != NULL)
        sim_release(sim, outstanding->writes);
    *outstanding = (struct sim_outstanding){0};
}
