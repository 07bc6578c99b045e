/* A store's metadata without its data: fills a store that was just formatted with volumes whose clusters are all there, as if
 * they had been written one after another, in seconds and in a sparse file. What is written is what docs/volume-format.md says,
 * by code of its own; penstock-fsck has to find it clean.
 *
 * The first block of each layer's first cluster says whose it is ("vN" or "sN", its name), so that a read can be told right. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/bitmap.h"
#include "blockdev/volume/format.h"
#include "store/bench.h"

struct image {
    int fd;
    struct superblock super;
    uint64_t next; /* cluster to be given out; all below are in use */
    uint64_t map_pages, data;
    uint32_t layers, first; /* first: of the layer's clusters */
    uint64_t table_reference[16 * PAGE_WORDS];
};

static void image_write(const struct image *image, const void *bytes, uint64_t block) {
    if (pwrite(image->fd, bytes, BLOCK_BYTES, (off_t)(block * BLOCK_BYTES)) != BLOCK_BYTES)
        bench_die("the image cannot be written (is there space?)");
}

static void image_read(const struct image *image, void *bytes, uint64_t block) {
    if (pread(image->fd, bytes, BLOCK_BYTES, (off_t)(block * BLOCK_BYTES)) != BLOCK_BYTES)
        bench_die("the image cannot be read");
}

/* `page`: a header's room and the words. */
static void page_write(const struct image *image, uint8_t *page, uint32_t space, uint32_t index, uint64_t place,
                       uint64_t generation) {
    struct page_header header = {.magic = PAGE_MAGIC,
                                 .kind = SPACE_KIND(space),
                                 .owner = SPACE_OWNER(space),
                                 .index = index,
                                 .store_id = image->super.store_id,
                                 .place = place,
                                 .generation = generation};
    memcpy(page, &header, sizeof(header));
    put_le32(page + PAGE_CRC_FIELD, format_crc(page, BLOCK_BYTES, PAGE_CRC_FIELD));
    image_write(image, page, place);
}

static uint64_t *page_words(uint8_t *page) { return (uint64_t *)(void *)(page + PAGE_HEADER_BYTES); }

static uint32_t cluster_take(struct image *image) {
    if (image->next % ALLOC_NODE_CLUSTERS == 0)
        image->next++;
    if (image->next + image->super.reserve_clusters >= image->super.total_clusters)
        bench_die("the disk is too small for the image");
    return (uint32_t)image->next++;
}

/* A map node with the next `count` clusters' words, and their clusters: its reference. */
static uint64_t map_node_write(struct image *image, uint32_t layer, uint32_t node, uint64_t count) {
    uint64_t reference = cluster_take(image), first = (uint64_t)node * NODE_PAGES;
    _Alignas(8) uint8_t page[BLOCK_BYTES];
    for (uint32_t p = 0; p < NODE_PAGES && count > 0; p++) {
        memset(page, 0, sizeof(page));
        for (uint32_t w = 0; w < PAGE_WORDS && count > 0; w++, count--, image->data++) {
            uint32_t cluster = cluster_take(image);
            if (first + p + w == 0)
                image->first = cluster;
            page_words(page)[w] = map_word(cluster, block_mask(0, CLUSTER_BLOCKS), 0);
        }
        page_write(image, page, SPACE(PAGE_MAP, layer), (uint32_t)first + p, node_place((uint32_t)reference, p, 0), 0);
        reference = reference_written(reference, p, 0);
        image->map_pages++;
    }
    return reference;
}

/* A directory node that holds the map nodes from `node` on: its reference. */
static uint64_t dir_node_write(struct image *image, uint32_t layer, uint32_t node, uint64_t *count, uint64_t *ret_nodes) {
    uint64_t reference = cluster_take(image);
    _Alignas(8) uint8_t page[BLOCK_BYTES];
    for (uint32_t p = 0; p<NODE_PAGES && * count> 0; p++) {
        memset(page, 0, sizeof(page));
        uint32_t index = node / PAGE_WORDS;
        for (uint32_t w = 0; w<PAGE_WORDS && * count> 0; w++, node++) {
            uint64_t here = min_u64(*count, NODE_WORDS);
            page_words(page)[w] = map_node_write(image, layer, node, here);
            *count -= here;
            ++*ret_nodes;
        }
        page_write(image, page, SPACE(PAGE_DIR, layer), index, node_place((uint32_t)reference, p, 0), 0);
        reference = reference_written(reference, p, 0);
    }
    ++*ret_nodes;
    return reference;
}

static void identity_add(uint8_t *identity, uint64_t *size, uint16_t type, const void *bytes, size_t length) {
    put_le16(identity + *size, type);
    put_le16(identity + *size + 2, (uint16_t)length);
    memcpy(identity + *size + 4, bytes, length);
    *size += 4 + round_up(length, 4);
}

static void name_of(char name[16], bool snapshot, uint32_t id) { snprintf(name, 16, "%s%u", snapshot ? "s" : "v", id); }

static void layer_write(struct image *image, uint32_t id, uint32_t parent, bool snapshot, uint64_t clusters, uint64_t blocks) {
    _Alignas(8) uint8_t page[BLOCK_BYTES] = {0}, stamp[BLOCK_BYTES] = {0};
    uint64_t *words = page_words(page), nodes = 0, left = clusters, size = 0;
    uint8_t uuid[16] = {0x50, 0x45};
    char name[16];
    words[LAYER_STATE] = LAYER_LIVE | (snapshot ? LAYER_SNAPSHOT | LAYER_READ_ONLY : 0);
    words[LAYER_PARENT] = parent;
    words[LAYER_SIZE] = words[LAYER_TAIL] = blocks;
    words[LAYER_LIMIT] = parent != 0 ? blocks : 0;
    words[LAYER_USED] = clusters;
    words[LAYER_CREATED] = image->super.created_ns + id;
    put_le32(uuid + 12, id);
    name_of(name, snapshot, id);
    identity_add((uint8_t *)&words[LAYER_IDENTITY_WORDS], &size, IDENTITY_UUID, uuid, sizeof(uuid));
    identity_add((uint8_t *)&words[LAYER_IDENTITY_WORDS], &size, IDENTITY_NAME, name, strlen(name));
    words[LAYER_IDENTITY] = size;
    for (uint32_t root = 0; left > 0; root++) {
        if (root == LAYER_ROOT_COUNT)
            bench_die("more is mapped than a volume can have");
        words[LAYER_ROOTS + root] = dir_node_write(image, id, root * NODE_WORDS, &left, &nodes);
    }
    words[LAYER_NODES] = nodes;
    memcpy(stamp, name, sizeof(name));
    if (clusters > 0)
        image_write(image, stamp, (uint64_t)image->first * CLUSTER_BLOCKS);
    uint64_t *reference = &image->table_reference[id / NODE_PAGES];
    if (*reference == 0)
        *reference = cluster_take(image);
    page_write(image, page, SPACE(PAGE_TABLE, 0), id, node_place((uint32_t)*reference, id % NODE_PAGES, 0), 0);
    *reference = reference_written(*reference, id % NODE_PAGES, 0);
}

/* The allocation pages and both indexes, and the store's own page. */
static void space_write(struct image *image) {
    const struct superblock *super = &image->super;
    uint64_t place = (uint64_t)super->index_cluster[super->generation & 1] * CLUSTER_BLOCKS;
    _Alignas(8) uint8_t page[BLOCK_BYTES], index[BLOCK_BYTES];
    uint32_t own = (uint32_t)image->table_reference[0];
    image_read(image, page, node_place(own, 0, 0));
    page_words(page)[STORE_NEXT_LAYER] = image->layers + 1;
    page_write(image, page, SPACE(PAGE_TABLE, 0), 0, node_place(own, 0, 0), 0);
    for (uint32_t i = 0; i < super->table_index_pages; i++) {
        memset(index, 0, sizeof(index));
        memcpy(page_words(index), &image->table_reference[i * PAGE_WORDS], PAGE_WORDS * sizeof(uint64_t));
        page_write(image, index, SPACE(PAGE_TABLE_INDEX, 0), i, place + i, super->generation);
    }
    for (uint32_t i = 0; i < super->alloc_index_pages; i++) {
        memset(index, 0, sizeof(index));
        for (uint32_t w = 0; w < PAGE_WORDS; w++) {
            uint64_t a = (uint64_t)i * PAGE_WORDS + w, first = a * ALLOC_PAGE_CLUSTERS, used = 0;
            if (first >= super->total_clusters)
                break;
            memset(page, 0, sizeof(page));
            for (uint64_t c = first; c < first + ALLOC_PAGE_CLUSTERS && c < super->total_clusters; c++)
                if (c < image->next || c % ALLOC_NODE_CLUSTERS == 0) {
                    bitmap_set(page_words(page), c - first);
                    used++;
                }
            page_words(index)[w] = used;
            if (first < image->next) { /* else it was never written */
                page_write(image, page, SPACE(PAGE_ALLOC, 0), (uint32_t)a,
                           node_place(alloc_node_cluster((uint32_t)(a / NODE_PAGES)), a % NODE_PAGES, 0), 0);
                page_words(index)[w] = reference_written(used, 0, 0);
            }
        }
        page_write(image, index, SPACE(PAGE_ALLOC_INDEX, 0), i, place + super->table_index_pages + i, super->generation);
    }
}

/* VOLUMES in all, of which CHAINS × DEPTH are snapshots and heads of chains and LARGE, the last ones, share half of what is
 * MAPPED. Volumes are SIZE-PER-MAPPED times as large as what is mapped in them. */
void figure_image(struct bench *bench) {
    static struct image image;
    uint64_t start = bench_now(bench);
    uint64_t volumes = bench_word(bench, "how many volumes?"), chains = bench_word(bench, "how many chains?");
    uint64_t depth = bench_word(bench, "how deep?"), large = bench_word(bench, "how many large ones?");
    uint64_t mapped = bench_word(bench, "how much is mapped?"), factor = bench_word(bench, "how large?");
    if (bench->path == NULL || (image.fd = open(bench->path, O_RDWR | O_CLOEXEC)) < 0)
        bench_die("an image needs a file");
    if (volumes <= large || chains * depth + large > volumes || volumes >= LAYERS_MAX || depth == 0)
        bench_die("these numbers of volumes do not go together");
    image_read(&image, &image.super, CLUSTER_BLOCKS);
    if (memcmp(image.super.magic, VOLUME_MAGIC, 8) != 0 || image.super.generation != 1)
        bench_die("there is no new store");
    image.next = (uint64_t)image.super.journal_cluster + image.super.journal_clusters;
    image.table_reference[0] = reference_written(cluster_take(&image), 0, 0);
    uint64_t small_bytes = large == 0 ? mapped : mapped / 2;
    uint64_t clusters[2] = {divide_up(small_bytes, CLUSTER_BYTES * (volumes - large)),
                            large == 0 ? 0 : divide_up(mapped - small_bytes, CLUSTER_BYTES * large)};
    uint32_t parent = 0;
    for (uint32_t id = 1; id <= volumes; id++) {
        bool chained = id <= chains * depth, head = !chained || id % depth == 0;
        uint64_t own = clusters[id > volumes - large];
        image.layers = id;
        layer_write(&image, id, parent, !head, own, round_up(own * CLUSTER_BYTES * factor, MIB(1)) / BLOCK_BYTES);
        parent = head ? 0 : id;
    }
    space_write(&image);
    if (fsync(image.fd) != 0 || close(image.fd) != 0)
        bench_die("the image cannot be written");
    printf("{\"figure\": \"image\", \"volumes\": %u, \"mapped_clusters\": %llu, \"map_pages\": %llu, \"seconds\": %.2f}\n",
           image.layers, (unsigned long long)image.data, (unsigned long long)image.map_pages,
           (double)(bench_now(bench) - start) / 1e9);
}
