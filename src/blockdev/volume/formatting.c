/* Writing an empty store, and judging superblocks. The order: old superblocks away, flush, everything else, flush, the
 * superblock, flush; so a disk that was cut off meanwhile holds no store rather than half of one. */
#include "blockdev/volume/internal.h"

#include "base/bitmap.h"
#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>

#define ZERO_BYTES MIB(1)
#define JOURNAL_MIN MIB(1)
#define JOURNAL_MAX MIB(32)

const char *superblock_verify(const struct superblock *super, uint64_t base_bytes) {
    uint64_t total = super->total_clusters;
    if (super->cluster_bytes != CLUSTER_BYTES || super->block_bytes != BLOCK_BYTES)
        return "has a cluster size that this version does not know";
    if (total > CLUSTERS_MAX || total << CLUSTER_SHIFT > base_bytes)
        return "describes a larger disk than this one";
    uint64_t index = divide_up((uint64_t)super->table_index_pages + super->alloc_index_pages, CLUSTER_BLOCKS);
    if (super->table_index_pages == 0 || super->table_index_pages > 16 || super->alloc_index_pages == 0 ||
        super->alloc_index_pages > 512 || super->journal_clusters < JOURNAL_MIN >> CLUSTER_SHIFT ||
        super->journal_clusters > JOURNAL_MAX >> CLUSTER_SHIFT || super->index_cluster[0] != INDEX_FIRST ||
        super->index_cluster[1] != INDEX_FIRST + index || super->journal_cluster != INDEX_FIRST + 2 * index ||
        (uint64_t)super->journal_cluster + super->journal_clusters >= total ||
        super->journal_block >= super->journal_clusters * CLUSTER_BLOCKS ||
        divide_up(divide_up(total, ALLOC_PAGE_CLUSTERS), PAGE_WORDS) > super->alloc_index_pages)
        return "has numbers that cannot be";
    if ((super->sector_bytes != 512 && super->sector_bytes != 4096) || !is_power_of_two(super->unit_bytes) ||
        super->unit_bytes < BLOCK_BYTES || super->unit_bytes > GIB(1) || super->reserve_clusters > total)
        return "has sizes that cannot be";
    return NULL;
}

bool superblock_choose(const struct superblock images[2], uint64_t base_bytes, struct superblock *ret_super,
                       struct error *error) {
    const struct superblock *best = NULL;
    bool ours = false;
    for (unsigned i = 0; i < 2; i++) {
        const struct superblock *super = &images[i];
        if (memcmp(super->magic, VOLUME_MAGIC, sizeof(super->magic)) != 0)
            continue;
        ours = true;
        if (format_crc(super, sizeof(*super), SUPERBLOCK_CRC_FIELD) == super->crc && (super->generation & 1) == i &&
            (best == NULL || super->generation > best->generation))
            best = super;
    }
    if (!ours)
        return error_set(error, ERROR_FOREIGN, "there is no volume store on this disk");
    if (best == NULL)
        return error_set(error, ERROR_DAMAGED, "both superblocks are damaged");
    if (best->version != VOLUME_VERSION || (best->features_refuse & ~VOLUME_KNOWN_REFUSE) != 0)
        return error_set(error, ERROR_UNSUPPORTED, "the store was made by a newer version (format %u, features 0x%llx)",
                         best->version, (unsigned long long)best->features_refuse);
    const char *wrong = superblock_verify(best, base_bytes);
    if (wrong != NULL)
        return error_set(error, ERROR_DAMAGED, "the superblock %s", wrong);
    *ret_super = *best;
    return true;
}

/* ---- creating ---- */

struct formatting {
    struct volume_store_format *format;
    struct volume_store *store; /* a shell, for its io */
    struct bulk bulk;
    struct store_io io;
    uint8_t *zero;           /* ZERO_BYTES */
    struct superblock *head; /* both places, read */
    uint8_t *pages;          /* what is not zero: store page, allocation page 0, index */
    uint32_t page_count, piece_count;
    void (*next)(struct formatting *formatting);
};

static void report(struct reactor_message *message) {
    struct volume_store_format *format = container_of(message, struct volume_store_format, message);
    struct formatting *formatting = format->private;
    if (formatting != NULL && formatting->store != NULL) {
        if (formatting->store->base_handle.device != NULL)
            block_handle_close(&formatting->store->base_handle);
        store_free(formatting->store);
    }
    if (formatting != NULL) {
        free(formatting->zero);
        free(formatting->head);
        free(formatting->pages);
        free(formatting);
    }
    format->done(format);
}

static void end(struct formatting *formatting, bool ok) {
    struct volume_store *store = formatting->store;
    formatting->format->ok = ok;
    if (store->base != NULL)
        block_channel_close(store->base);
    store->base = NULL;
    formatting->format->message.run = report;
    reactor_post(store->control, &formatting->format->message);
}

static void fail_io(struct formatting *formatting, enum io_status status) {
    error_set(&formatting->format->error, status == IO_NO_SPACE ? ERROR_NO_SPACE : ERROR_IO, "%s: %s",
              formatting->format->base->name, io_status_words(status));
    end(formatting, false);
}

static void step_done(struct store_io *io) {
    struct formatting *formatting = io->owner;
    if (io->request.op == BLOCK_FLUSH)
        io->store->flushing--;
    if (io->request.status != IO_OK && io->request.op != BLOCK_TRIM)
        fail_io(formatting, (enum io_status)io->request.status);
    else
        formatting->next(formatting);
}

static void flush_then(struct formatting *formatting, void (*next)(struct formatting *formatting)) {
    formatting->next = next;
    io_use(&formatting->io, formatting->store, step_done, formatting);
    io_flush(&formatting->io);
}

static void bulk_done(struct bulk *bulk) {
    struct formatting *formatting = bulk->owner;
    if (bulk->status != IO_OK)
        fail_io(formatting, bulk->status);
    else
        formatting->next(formatting);
}

static void bulk_then(struct formatting *formatting, uint32_t count,
                      bool (*describe)(struct bulk *bulk, uint32_t i, uint64_t *ret_offset, void **ret_buffer,
                                       size_t *ret_length),
                      void (*next)(struct formatting *formatting)) {
    formatting->next = next;
    formatting->bulk.store = formatting->store;
    formatting->bulk.op = BLOCK_WRITE;
    formatting->bulk.count = count;
    formatting->bulk.describe = describe;
    formatting->bulk.done = bulk_done;
    formatting->bulk.owner = formatting;
    bulk_start(&formatting->bulk);
}

static void all_done(struct formatting *formatting) { end(formatting, true); }

static void super_written(struct formatting *formatting) { flush_then(formatting, all_done); }

static void write_super(struct formatting *formatting) {
    struct superblock *super = &formatting->store->super;
    superblock_seal(super);
    formatting->next = super_written;
    io_use(&formatting->io, formatting->store, step_done, formatting);
    memcpy(formatting->zero, super, sizeof(*super));
    io_buffer(&formatting->io, BLOCK_WRITE, (uint64_t)SUPERBLOCK_CLUSTER(super->generation) << CLUSTER_SHIFT, formatting->zero,
              BLOCK_BYTES);
}

static void pages_written(struct formatting *formatting) { flush_then(formatting, write_super); }

static bool describe_page(struct bulk *bulk, uint32_t i, uint64_t *ret_offset, void **ret_buffer, size_t *ret_length) {
    struct formatting *formatting = bulk->owner;
    *ret_buffer = formatting->pages + (size_t)i * BLOCK_BYTES;
    *ret_offset = get_le64((uint8_t *)*ret_buffer + offsetof(struct page_header, place)) * BLOCK_BYTES;
    *ret_length = BLOCK_BYTES;
    return true;
}

/* What is not zero: the store's page, allocation page 0, and the index of generation 1. */
static void compose_pages(struct formatting *formatting) {
    struct volume_store *store = formatting->store;
    struct superblock *super = &store->super;
    uint32_t table_node = super->journal_cluster + super->journal_clusters;
    uint64_t *words[512 + 16 + 2] = {0};
    assert(formatting->page_count > 2 + super->table_index_pages && formatting->page_count <= array_count(words));
    for (uint32_t i = 0; i < formatting->page_count; i++)
        words[i] = (uint64_t *)(void *)(formatting->pages + (size_t)i * BLOCK_BYTES + PAGE_HEADER_BYTES);
    uint64_t *own = words[0], *alloc = words[1], *table_index = words[2], *alloc_index = words[2 + super->table_index_pages];
    uint8_t identity[IDENTITY_BYTES];
    uint32_t size = 0;
    identity_append(identity, &size, IDENTITY_UUID, &store->uuid, sizeof(store->uuid));
    identity_append(identity, &size, IDENTITY_NAME, store->name, strlen(store->name));
    own[LAYER_STATE] = LAYER_STORE;
    own[STORE_TOTAL] = super->total_clusters;
    own[STORE_NEXT_LAYER] = 1;
    own[LAYER_CREATED] = super->created_ns;
    own[LAYER_IDENTITY] = size;
    memcpy(&own[LAYER_IDENTITY_WORDS], identity, size);
    page_seal(store, formatting->pages, SPACE(PAGE_TABLE, 0), 0, 0, node_place(table_node, 0, 0), 0);
    alloc_page_init(super, 0, alloc);
    bitmap_set(alloc, table_node);
    page_seal(store, formatting->pages + BLOCK_BYTES, SPACE(PAGE_ALLOC, 0), 0, 0, node_place(ALLOC_NODE_0, 0, 0), 0);
    table_index[0] = reference_written(table_node, 0, 0);
    alloc_index[0] = reference_written(table_node + 1, 0, 0);
    for (uint32_t page = NODE_PAGES; page < alloc_pages(store); page += NODE_PAGES)
        alloc_index[page / PAGE_WORDS * (BLOCK_BYTES / 8) + page % PAGE_WORDS] = 1; /* its node's own cluster */
    uint64_t place = (uint64_t)super->index_cluster[super->generation & 1] * CLUSTER_BLOCKS;
    for (uint32_t i = 0; i < super->table_index_pages + super->alloc_index_pages; i++) {
        bool table = i < super->table_index_pages;
        page_seal(store, formatting->pages + (size_t)(2 + i) * BLOCK_BYTES, SPACE(table ? PAGE_TABLE_INDEX : PAGE_ALLOC_INDEX, 0),
                  table ? i : i - super->table_index_pages, 0, place + i, super->generation);
    }
}

static void zeroes_written(struct formatting *formatting) {
    compose_pages(formatting);
    bulk_then(formatting, formatting->page_count, describe_page, pages_written);
}

/* Allocation nodes, then everything from the first fixed cluster to behind the first table node, in pieces. */
static bool describe_zero(struct bulk *bulk, uint32_t i, uint64_t *ret_offset, void **ret_buffer, size_t *ret_length) {
    struct formatting *formatting = bulk->owner;
    struct superblock *super = &formatting->store->super;
    *ret_buffer = formatting->zero;
    if (i >= formatting->piece_count) {
        *ret_offset = (uint64_t)alloc_node_cluster(i - formatting->piece_count + 1) << CLUSTER_SHIFT;
        *ret_length = CLUSTER_BYTES;
        return true;
    }
    uint64_t first = (uint64_t)ALLOC_NODE_0 << CLUSTER_SHIFT;
    uint64_t until = ((uint64_t)super->journal_cluster + super->journal_clusters + 1) << CLUSTER_SHIFT;
    *ret_offset = first + i * ZERO_BYTES;
    *ret_length = min_u64(ZERO_BYTES, until - *ret_offset);
    return true;
}

static void write_zeroes(struct formatting *formatting) {
    struct superblock *super = &formatting->store->super;
    uint64_t bytes = ((uint64_t)super->journal_cluster + super->journal_clusters + 1 - ALLOC_NODE_0) << CLUSTER_SHIFT;
    formatting->piece_count = (uint32_t)divide_up(bytes, ZERO_BYTES);
    uint32_t nodes = (uint32_t)divide_up(super->total_clusters, ALLOC_NODE_CLUSTERS) - 1;
    bulk_then(formatting, formatting->piece_count + nodes, describe_zero, zeroes_written);
}

static void old_gone(struct formatting *formatting) {
    if (!formatting->format->discard || (formatting->format->base->native_ops & BLOCK_BIT(BLOCK_TRIM)) == 0) {
        write_zeroes(formatting);
        return;
    }
    formatting->next = write_zeroes;
    io_use(&formatting->io, formatting->store, step_done, formatting);
    io_buffer(&formatting->io, BLOCK_TRIM, 0, NULL, (uint64_t)formatting->store->total_clusters << CLUSTER_SHIFT);
}

static void old_zeroed(struct formatting *formatting) { flush_then(formatting, old_gone); }

static bool describe_old(struct bulk *bulk, uint32_t i, uint64_t *ret_offset, void **ret_buffer, size_t *ret_length) {
    struct formatting *formatting = bulk->owner;
    *ret_offset = (uint64_t)i << CLUSTER_SHIFT;
    *ret_buffer = formatting->zero;
    *ret_length = BLOCK_BYTES;
    return true;
}

static void head_read(struct formatting *formatting) {
    struct volume_store_format *format = formatting->format;
    const uint8_t *bytes = (const uint8_t *)formatting->head;
    bool blank = true, ours = memcmp(bytes, VOLUME_MAGIC, 8) == 0 || memcmp(bytes + CLUSTER_BYTES, VOLUME_MAGIC, 8) == 0;
    for (size_t i = 0; i < 2 * (size_t)CLUSTER_BYTES && blank; i++)
        blank = bytes[i] == 0;
    if (!blank && !format->force) {
        if (ours)
            error_set(&format->error, ERROR_EXISTS, "%s holds a volume store already", format->base->name);
        else
            error_set(&format->error, ERROR_FOREIGN, "%s holds something that is not ours", format->base->name);
        error_hint(&format->error, "overwrite it by force, or take another disk");
        end(formatting, false);
        return;
    }
    bulk_then(formatting, 2, describe_old, old_zeroed);
}

static void begin(struct reactor_message *message) {
    struct volume_store_format *format = container_of(message, struct volume_store_format, message);
    struct formatting *formatting = format->private;
    struct volume_store *store = formatting->store;
    store->base = block_channel_open(&store->base_handle);
    if (store->base == NULL) {
        error_set(&formatting->format->error, ERROR_NO_MEMORY, "no memory to open %s", formatting->format->base->name);
        end(formatting, false);
        return;
    }
    formatting->next = head_read;
    io_use(&formatting->io, store, step_done, formatting);
    io_buffer(&formatting->io, BLOCK_READ, 0, formatting->head, 2 * (size_t)CLUSTER_BYTES);
}

static bool layout(struct volume_store_format *format, struct superblock *super) {
    uint64_t bytes = block_device_size(format->base), total = min_u64(bytes >> CLUSTER_SHIFT, CLUSTERS_MAX);
    uint64_t journal =
        format->journal_bytes != 0 ? round_up(format->journal_bytes, CLUSTER_BYTES) : round_down(bytes / 64, CLUSTER_BYTES);
    uint32_t unit = format->unit_bytes != 0 ? format->unit_bytes : (uint32_t)MIB(1);
    if (!is_power_of_two(unit) || unit < BLOCK_BYTES || unit > GIB(1)) {
        char number[16];
        snprintf(number, sizeof(number), "%u", unit);
        return error_invalid(&format->error, "cluster_sz", number, "a power of two from 4096 to 1073741824");
    }
    if (!text_is_name(format->name, VOLUME_NAME_SIZE - 1))
        return error_invalid(&format->error, "lvs_name", format->name, "1 to %d printable characters without '/'",
                             VOLUME_NAME_SIZE - 1);
    if (format->base->block_size != 512 && format->base->block_size != 4096)
        return error_set(&format->error, ERROR_UNSUPPORTED, "%s has blocks of %u bytes: 512 or 4096 are possible",
                         format->base->name, format->base->block_size);
    journal = max_u64(JOURNAL_MIN, min_u64(JOURNAL_MAX, journal));
    memcpy(super->magic, VOLUME_MAGIC, sizeof(super->magic));
    super->version = VOLUME_VERSION;
    super->generation = 1;
    super->cluster_bytes = CLUSTER_BYTES;
    super->block_bytes = BLOCK_BYTES;
    super->sector_bytes = format->base->block_size;
    super->unit_bytes = unit;
    super->total_clusters = (uint32_t)total;
    super->table_index_pages = 16;
    /* room for growth to eight times the size: 992 GiB at least */
    super->alloc_index_pages = (uint32_t)min_u64(512, divide_up(total * 8, (uint64_t)PAGE_WORDS * ALLOC_PAGE_CLUSTERS));
    if (super->alloc_index_pages == 0)
        super->alloc_index_pages = 1;
    uint32_t index = (uint32_t)divide_up(super->table_index_pages + super->alloc_index_pages, CLUSTER_BLOCKS);
    super->index_cluster[0] = INDEX_FIRST;
    super->index_cluster[1] = INDEX_FIRST + index;
    super->journal_cluster = INDEX_FIRST + 2 * index;
    super->journal_clusters = (uint32_t)(journal >> CLUSTER_SHIFT);
    super->reserve_clusters = (uint32_t)max_u64(4, min_u64(1024, total / 512));
    if (total < (uint64_t)super->journal_cluster + super->journal_clusters + 1 + super->reserve_clusters + 8)
        return error_set(&format->error, ERROR_NO_SPACE, "%s is too small for a volume store", format->base->name);
    return true;
}

void volume_store_format(struct volume_store_format *format) {
    struct reactor *control = reactor_current();
    struct formatting *formatting = calloc(1, sizeof(*formatting));
    format->private = formatting;
    error_clear(&format->error);
    format->ok = false;
    struct superblock super = {.created_ns = host_wall_ns(control->host)};
    bool ok = formatting != NULL || error_set(&format->error, ERROR_NO_MEMORY, "no memory to format %s", format->base->name);
    if (ok)
        formatting->format = format;
    ok = ok && layout(format, &super) &&
         store_alloc(format->base, format->home, control, VOLUME_CACHE_MIN, &formatting->store, &format->error);
    if (ok) {
        struct volume_store *store = formatting->store;
        uint8_t random[16];
        host_random(control->host, random, sizeof(random));
        uuid_from_random(random, &super.store_id);
        host_random(control->host, random, sizeof(random));
        uuid_from_random(random, &store->uuid);
        if (!uuid_is_nil(&format->uuid))
            store->uuid = format->uuid;
        snprintf(store->name, sizeof(store->name), "%s", format->name);
        store->super = super;
        store->store_id = super.store_id;
        store->total_clusters = super.total_clusters;
        formatting->page_count = 2 + super.table_index_pages + super.alloc_index_pages;
        formatting->zero = aligned_alloc(BLOCK_BYTES, ZERO_BYTES);
        formatting->head = aligned_alloc(BLOCK_BYTES, 2 * (size_t)CLUSTER_BYTES);
        formatting->pages = aligned_alloc(BLOCK_BYTES, (size_t)formatting->page_count * BLOCK_BYTES);
        ok = formatting->zero != NULL && formatting->head != NULL && formatting->pages != NULL;
        if (!ok)
            error_set(&format->error, ERROR_NO_MEMORY, "no memory to format %s", format->base->name);
        store->base_handle.owner = "a volume store being made";
        ok = ok && block_handle_open(&store->base_handle, format->base, BLOCK_MODE_CLAIM, &format->error);
        if (ok) {
            memset(formatting->zero, 0, ZERO_BYTES);
            memset(formatting->pages, 0, (size_t)formatting->page_count * BLOCK_BYTES);
        }
    }
    format->message.run = ok ? begin : report;
    reactor_post(ok ? format->home : control, &format->message);
}
