#include "damage.h"

#include <stdio.h>

#include "blockdev/volume/format.h"
#include "life.h"

/* No checkpoint after the first, so that the journal is long. */
static const struct workload journaled = {
    .name = "journaled",
    .seed = 41,
    .operations = 150,
    .depth = 6,
    .controls = 1,
    .volumes = 3,
    .clusters = 4,
    .fua_percent = 30,
    .hot_percent = 20,
    .weights = {[ACTION_WRITE] = 40, [ACTION_TRIM] = 10, [ACTION_FLUSH] = 30},
    .store = {.disk = {.power_fail_unit = 512, .block_size = 512, .read_ns = 80000, .write_ns = 80000, .flush_ns = 100000},
              .disk_bytes = MIB(32),
              .journal_bytes = MIB(1),
              .cache_bytes = MIB(4)},
};

static void newest_superblock(const struct disk_image *image, struct superblock *ret_super) {
    struct superblock one;
    memset(ret_super, 0, sizeof(*ret_super));
    for (unsigned i = 0; i < 2; i++) {
        disk_image_read(image, i * (uint64_t)CLUSTER_BYTES, &one, sizeof(one));
        if (memcmp(one.magic, VOLUME_MAGIC, 8) == 0 && one.generation >= ret_super->generation)
            *ret_super = one;
    }
}

bool damage_in_the_journal_is_told(char *text, size_t size) {
    struct life life;
    bool ok = life_begin(&life, &journaled, 9) && life_go_on(&life, 10, journaled.operations, LIFE_CUT);
    if (!ok) {
        snprintf(text, size, "%s", life.failure);
        life_fini(&life);
        return false;
    }
    struct superblock super;
    newest_superblock(&life.image, &super);
    unsigned damaged = 0;
    uint64_t ring = (uint64_t)super.journal_cluster * CLUSTER_BYTES, blocks = (uint64_t)super.journal_clusters * CLUSTER_BLOCKS;
    uint64_t highest = 0;
    struct record_header record;
    for (uint64_t b = 0; b < blocks; b++) {
        disk_image_read(&life.image, ring + b * BLOCK_BYTES, &record, sizeof(record));
        if (record.magic == RECORD_MAGIC && uuid_equal(&record.store_id, &super.store_id) && record.sequence > highest)
            highest = record.sequence;
    }
    for (uint64_t b = 0; b < blocks && ok; b++) {
        disk_image_read(&life.image, ring + b * BLOCK_BYTES, &record, sizeof(record));
        if (record.magic != RECORD_MAGIC || record.sequence <= super.journal_sequence || record.sequence >= highest)
            continue;
        struct disk_image image;
        struct session session;
        uint8_t byte;
        uint64_t at = ring + b * BLOCK_BYTES + (record.sequence * 37) % 80;
        disk_image_copy(&image, &life.image);
        disk_image_read(&image, at, &byte, 1);
        byte ^= (uint8_t)(1u << (record.sequence % 8));
        disk_image_write(&image, at, &byte, 1);
        session_start(&session, &journaled.store, &image, 11, false);
        if (session_open(&session)) {
            struct volume_store_info info;
            volume_store_info(session.store, &info);
            ok = info.read_only && info.reason[0] != '\0';
            if (!ok)
                snprintf(text, size, "record %llu of %llu is damaged, and the store opens as if nothing was",
                         (unsigned long long)record.sequence, (unsigned long long)highest);
            struct volume_command create = {.name = "new", .size_bytes = MIB(1)};
            if (ok && session_command(&session, volume_create, &create)) {
                ok = false;
                snprintf(text, size, "a damaged store makes a volume");
            }
        } else if (session.error.code != ERROR_DAMAGED) {
            ok = false;
            snprintf(text, size, "opening gives: %s", session.error.text);
        }
        damaged++;
        session_crash(&session);
        disk_destroy(session.disk);
        disk_image_fini(&image);
    }
    if (ok && damaged < 5) {
        ok = false;
        snprintf(text, size, "only %u records could be damaged", damaged);
    }
    life_fini(&life);
    return ok;
}

/* ---- flips anywhere in the metadata ---- */

static bool is_metadata(const struct disk_image *image, uint64_t offset, const struct superblock *super) {
    uint8_t block[16];
    disk_image_read(image, offset, block, sizeof(block));
    uint32_t magic = get_le32(block);
    uint64_t ring = (uint64_t)super->journal_cluster * CLUSTER_BYTES;
    bool in_ring = offset >= ring && offset < ring + (uint64_t)super->journal_clusters * CLUSTER_BYTES;
    return memcmp(block, VOLUME_MAGIC, 8) == 0 || magic == PAGE_MAGIC || (in_ring && magic == RECORD_MAGIC);
}

/* Where the newest record lies. */
static uint64_t last_record(const struct disk_image *image, const struct superblock *super) {
    uint64_t ring = (uint64_t)super->journal_cluster * CLUSTER_BYTES, at = 0, highest = 0;
    struct record_header record;
    for (uint64_t b = 0; b < (uint64_t)super->journal_clusters * CLUSTER_BLOCKS; b++) {
        disk_image_read(image, ring + b * BLOCK_BYTES, &record, sizeof(record));
        if (record.magic == RECORD_MAGIC && record.sequence > highest) {
            highest = record.sequence;
            at = ring + b * BLOCK_BYTES;
        }
    }
    return at;
}

/* What is read is what was written, or the one who asks is told. */
static bool flip(const struct life *life, const struct disk_image *image, char *text, size_t size) {
    struct session session;
    struct model_found *found;
    uint32_t count;
    bool ok = true;
    session_start(&session, &journaled.store, image, 12, false);
    if (!session_open(&session)) {
        ok =
            session.error.code == ERROR_DAMAGED || session.error.code == ERROR_FOREIGN || session.error.code == ERROR_UNSUPPORTED;
        if (!ok)
            snprintf(text, size, "it gives: %s", session.error.text);
    } else {
        struct volume_store_info info;
        volume_store_info(session.store, &info);
        if (!info.read_only && session_find(&session, &life->model, true, &found, &count)) {
            ok = model_check(&life->model, &life->view, found, count, text, size);
            session_found_free(found, count);
        } /* else: it was told */
    }
    session_crash(&session);
    disk_destroy(session.disk);
    return ok;
}

bool no_flip_goes_unnoticed(char *text, size_t size) {
    struct life life;
    char why[300] = "";
    bool ok = life_begin(&life, &journaled, 19) && life_go_on(&life, 20, journaled.operations, LIFE_CLOSE) &&
              life_go_on(&life, 21, 40, LIFE_CUT);
    if (!ok)
        snprintf(text, size, "%s", life.failure);
    struct superblock super;
    struct random random;
    unsigned flips = 0;
    random_init(&random, 1);
    if (ok)
        newest_superblock(&life.image, &super);
    uint64_t last = ok ? last_record(&life.image, &super) : 0; /* damaged, it looks like one that was torn */
    for (uint64_t offset = 0; ok && offset < journaled.store.disk_bytes; offset += BLOCK_BYTES) {
        if (!is_metadata(&life.image, offset, &super) || offset == last)
            continue;
        for (unsigned i = 0; i < 2 && ok; i++, flips++) {
            struct disk_image image;
            uint8_t byte;
            uint64_t at = offset + random_below(&random, i == 0 ? 160 : BLOCK_BYTES);
            unsigned bit = (unsigned)random_below(&random, 8);
            disk_image_copy(&image, &life.image);
            disk_image_read(&image, at, &byte, 1);
            byte ^= (uint8_t)(1u << bit);
            disk_image_write(&image, at, &byte, 1);
            ok = flip(&life, &image, why, sizeof(why));
            if (!ok)
                snprintf(text, size, "byte %llu, bit %u is flipped: %s", (unsigned long long)at, bit, why);
            disk_image_fini(&image);
        }
    }
    if (ok && flips < 100) {
        ok = false;
        snprintf(text, size, "only %u flips", flips);
    }
    life_fini(&life);
    return ok;
}
