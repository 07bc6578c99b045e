/* Replays what blklogwrites recorded: at every flush of the log the disk is what a power cut would have left at worst, and the
 * store on it must open and hold what plan.h promises. Usage: blklog_checker LOG. The format: dm-log-writes of the Linux kernel.
 */
#include <stdio.h>
#include <stdlib.h>

#include "plan.h"
#include "volume/session.h"

#define LOG_MAGIC UINT64_C(0x6a736677736872)
#define ENTRY_BYTES_MAX MIB(16)
enum { LOG_FLUSH = 1, LOG_FUA = 2, LOG_DISCARD = 4 };

static const struct store_options options = {
    .disk = {.power_fail_unit = 512, .block_size = 512, .read_ns = 100, .write_ns = 100, .flush_ns = 100},
    .disk_bytes = PLAN_DISK_BYTES,
    .journal_bytes = MIB(1),
    .cache_bytes = MIB(4),
};

/* Which batch wrote each block last; 0 = zeros. */
struct content {
    uint32_t blocks[PLAN_VOLUMES][PLAN_BLOCKS];
};
static struct content history[PLAN_BATCHES + 1];

static void make_history(void) {
    for (uint32_t number = 1; number <= PLAN_BATCHES; number++) {
        struct plan_batch batch;
        plan_batch(number, &batch);
        history[number] = history[number - 1];
        for (unsigned i = 0; i < PLAN_REGIONS; i++)
            for (uint32_t b = 0; b < batch.operations[i].count; b++)
                history[number].blocks[batch.operations[i].volume][batch.operations[i].block + b] =
                    batch.operations[i].trim ? 0 : number;
    }
}

struct reading {
    struct block_request request;
    struct slice slice;
    bool done;
};
static void read_done(struct block_request *request) { container_of(request, struct reading, request)->done = true; }
static bool is_read(void *arg) { return ((struct reading *)arg)->done; }

/* All blocks of a volume, as numbers of batches; false if it is not there. Anything foreign ends the program. */
static bool volume_read(struct session *session, unsigned number, unsigned origin, uint32_t blocks, uint32_t *to) {
    static uint8_t bytes[PLAN_BLOCKS * 4096], wanted[4096];
    struct uuid uuid;
    struct port port;
    plan_uuid(number, &uuid);
    if (!port_open(session, &port, &uuid, true))
        return false;
    struct reading reading = {.slice = {bytes, (size_t)blocks * 4096}};
    reading.request = (struct block_request){
        .op = BLOCK_READ, .length = (uint64_t)blocks * 4096, .slices = &reading.slice, .slice_count = 1, .complete = read_done};
    block_submit(port.channel, &reading.request);
    bool ended = world_run_until(&session->world, is_read, &reading, 100000);
    assert(ended && reading.request.status == IO_OK);
    port_close(&port);
    for (uint32_t i = 0; i < blocks; i++) {
        to[i] = get_le32(bytes + (size_t)i * 4096 + 12);
        memset(wanted, 0, sizeof(wanted));
        if (to[i] != 0)
            plan_fill(wanted, origin, i, to[i]);
        if (memcmp(wanted, bytes + (size_t)i * 4096, 4096) != 0) {
            printf("not ok: volume %u, block %u holds something foreign\n", number, i);
            exit(1);
        }
    }
    return true;
}

static bool complain(uint64_t entry, uint32_t marker, const char *what, unsigned a, unsigned b) {
    printf("not ok: at entry %llu, marker %u: %s (%u, %u)\n", (unsigned long long)entry, marker, what, a, b);
    return false;
}

static bool snapshots_ok(struct session *session, uint64_t entry, uint32_t marker) {
    static uint32_t blocks[PLAN_BLOCKS];
    bool dropped[PLAN_BATCHES + 2] = {false}, dropping[PLAN_BATCHES + 2] = {false};
    for (uint32_t number = 1; number <= marker + 1 && number <= PLAN_BATCHES; number++) {
        struct plan_batch batch;
        plan_batch(number, &batch);
        if (batch.drop)
            (number <= marker ? dropped : dropping)[batch.dropped_batch] = true;
    }
    for (uint32_t number = 1; number <= marker + 1 && number <= PLAN_BATCHES; number++) {
        struct plan_batch batch;
        plan_batch(number, &batch);
        if (!batch.snapshot)
            continue;
        if (!volume_read(session, 100 + number, batch.volume, PLAN_BLOCKS, blocks)) {
            if (number <= marker && !dropped[number] && !dropping[number])
                return complain(entry, marker, "a snapshot is gone", number, 0);
            continue;
        }
        if (dropped[number])
            return complain(entry, marker, "a deleted snapshot is there", number, 0);
        for (uint32_t b = 0; b < PLAN_BLOCKS; b++)
            if (blocks[b] != history[number].blocks[batch.volume][b])
                return complain(entry, marker, "a snapshot has changed", b, blocks[b]);
    }
    return true;
}

static bool check(const struct disk_image *image, uint64_t entry, uint32_t *marker) {
    static uint32_t blocks[PLAN_BLOCKS];
    struct session session;
    session_start(&session, &options, image, entry + 1, false);
    bool ok = session_open(&session) && session_check(&session);
    if (!ok)
        printf("not ok: at entry %llu: %s\n", (unsigned long long)entry, session.error.text);
    uint32_t now = 0;
    if (ok && volume_read(&session, PLAN_MARKER, PLAN_MARKER, 1, blocks))
        now = blocks[0];
    if (ok && now < *marker)
        ok = complain(entry, now, "the marker goes backward from", *marker, 0);
    *marker = now;
    const struct content *old = &history[now], *new = &history[min_u32(now + 1, PLAN_BATCHES)];
    for (unsigned v = 0; v < PLAN_VOLUMES && ok; v++) {
        if (!volume_read(&session, v, v, PLAN_BLOCKS, blocks)) {
            ok = now == 0 || complain(entry, now, "a volume is gone", v, 0);
            continue;
        }
        for (uint32_t b = 0; b < PLAN_BLOCKS && ok; b++)
            if (blocks[b] != old->blocks[v][b] && blocks[b] != new->blocks[v][b])
                ok = complain(entry, now, "a block is neither old nor new: block, content", b, blocks[b]);
    }
    ok = ok && snapshots_ok(&session, entry, now);
    session_crash(&session);
    disk_destroy(session.disk);
    return ok;
}

static bool has_store(const struct disk_image *image) {
    char magic[8];
    for (unsigned i = 0; i < 2; i++) {
        disk_image_read(image, i * 65536, magic, sizeof(magic));
        if (memcmp(magic, "PENSTOCK", 8) == 0)
            return true;
    }
    return false;
}

int main(int argc, char **argv) {
    static uint8_t data[ENTRY_BYTES_MAX];
    FILE *log = argc == 2 ? fopen(argv[1], "rb") : NULL;
    uint8_t head[512];
    if (log == NULL || fread(head, 1, sizeof(head), log) != sizeof(head) || get_le64(head) != LOG_MAGIC) {
        fprintf(stderr, "usage: blklog_checker LOG, which blklogwrites wrote\n");
        return 2;
    }
    uint64_t entries = get_le64(head + 16), flushes = 0, checked = 0;
    uint32_t sector = get_le32(head + 24), marker = 0;
    struct disk_image image;
    bool ok = sector >= 512 && sector <= 4096;
    make_history();
    disk_image_init(&image, PLAN_DISK_BYTES);
    fseek(log, sector, SEEK_SET);
    for (uint64_t i = 0; i < entries && ok; i++) {
        ok = fread(data, 1, sector, log) == sector;
        uint64_t offset = get_le64(data) * sector, length = get_le64(data + 8) * sector, flags = get_le64(data + 16);
        if (!ok || !range_inside(offset, length, PLAN_DISK_BYTES) || length > ENTRY_BYTES_MAX) {
            printf("not ok: entry %llu of the log makes no sense\n", (unsigned long long)i);
            return 1;
        }
        if ((flags & LOG_DISCARD) != 0) {
            memset(data, DISK_POISON, length); /* what a discarded block reads as is not known */
            disk_image_write(&image, offset, data, length);
        } else if (length > 0) {
            ok = fread(data, 1, length, log) == length;
            disk_image_write(&image, offset, data, length);
        }
        if ((flags & (LOG_FLUSH | LOG_FUA)) == 0)
            continue;
        flushes++;
        if (ok && has_store(&image)) {
            ok = check(&image, i, &marker);
            checked++;
        }
    }
    disk_image_fini(&image);
    fclose(log);
    if (ok && marker != PLAN_BATCHES)
        ok = complain(entries, marker, "the last marker is not the last batch", 0, 0);
    printf("%s: %llu entries, %llu flushes, %llu of them checked, marker %u\n", ok ? "ok" : "not ok", (unsigned long long)entries,
           (unsigned long long)flushes, (unsigned long long)checked, marker);
    return !ok;
}
