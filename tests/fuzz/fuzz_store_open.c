/* Fuzzes the opening of a store: hostile metadata with right checksums. The input is a list of changes to a good disk – a small
 * store with volumes, snapshots, clones and a journal – each to a superblock, a page or a record, whose checksum is made right
 * again (else nothing but crc32c is tested). The store must open or refuse, and then read, write, snapshot and delete without a
 * crash, a hang or unbounded memory; the checker must end too. */
#include <stdlib.h>

#include "blockdev/volume/format.h"
#include "volume/session.h"

#define DISK_BYTES MIB(32)
#define CHANGES_MAX 24
#define STRUCTURES_MAX 4096
#define TURNS_MAX 400000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct store_options options = {
    .disk = {.power_fail_unit = 512, .block_size = 512, .read_ns = 100, .write_ns = 100, .flush_ns = 100},
    .disk_bytes = DISK_BYTES,
    .journal_bytes = MIB(1),
    .cache_bytes = MIB(4),
};

/* A thing with a checksum. */
struct structure {
    uint64_t offset;
    uint32_t length, crc_field;
};

/* The good disk, made once a process. */
static struct base {
    bool made;
    struct disk_image image;
    struct structure structures[STRUCTURES_MAX];
    uint32_t count;
} base;

struct piece {
    struct block_request request;
    struct slice slice;
    bool done;
};
static void piece_done(struct block_request *request) { container_of(request, struct piece, request)->done = true; }
static bool piece_ended(void *arg) { return ((struct piece *)arg)->done; }

static void request(struct session *session, struct port *port, enum block_op op, uint64_t offset, uint64_t length,
                    void *buffer) {
    struct piece piece = {.slice = {buffer, length}};
    piece.request = (struct block_request){.op = (uint8_t)op,
                                           .offset = offset,
                                           .length = length,
                                           .slices = &piece.slice,
                                           .slice_count = op == BLOCK_READ || op == BLOCK_WRITE ? 1 : 0,
                                           .complete = piece_done};
    block_submit(port->channel, &piece.request);
    bool ended = world_run_until(&session->world, piece_ended, &piece, TURNS_MAX);
    assert(ended);
}

static void command(struct session *session, void (*call)(struct volume_command *), struct volume_command command) {
    session_command(session, call, &command);
}

static void note(uint64_t offset, uint32_t length, uint32_t crc_field) {
    if (base.count < STRUCTURES_MAX)
        base.structures[base.count++] = (struct structure){offset, length, crc_field};
}

static void find_structures(void) {
    static uint8_t block[BLOCK_BYTES];
    for (uint64_t offset = 0; offset < DISK_BYTES; offset += BLOCK_BYTES) {
        disk_image_read(&base.image, offset, block, sizeof(block));
        uint32_t magic = get_le32(block);
        if (memcmp(block, VOLUME_MAGIC, 8) == 0)
            note(offset, BLOCK_BYTES, SUPERBLOCK_CRC_FIELD);
        else if (magic == PAGE_MAGIC)
            note(offset, BLOCK_BYTES, PAGE_CRC_FIELD);
        else if (magic == RECORD_MAGIC)
            note(offset, min_u32(get_le32(block + 8), 16) * BLOCK_BYTES, RECORD_CRC_FIELD);
    }
}

static void make_base(void) {
    struct disk_image empty;
    struct session session;
    struct uuid uuid[3];
    static uint8_t buffer[KIB(64)];
    disk_image_init(&empty, DISK_BYTES);
    session_start(&session, &options, &empty, 1, false);
    bool ok = session_format(&session) && session_open(&session);
    assert(ok);
    for (uint32_t i = 0; i < 3; i++) {
        struct port port;
        char name[MODEL_NAME_SIZE];
        session_name(i, name);
        session_uuid(i + 1, &uuid[i]);
        command(&session, volume_create, (struct volume_command){.name = name, .size_bytes = MIB(1), .new_uuid = uuid[i]});
        ok = port_open(&session, &port, &uuid[i], false);
        assert(ok);
        memset(buffer, (int)i + 1, sizeof(buffer));
        for (uint64_t at = 0; at < MIB(1); at += KIB(192))
            request(&session, &port, BLOCK_WRITE, at, KIB(48), buffer);
        command(&session, volume_snapshot_create,
                (struct volume_command){.volume = uuid[i],
                                        .name = i == 0   ? "a"
                                                : i == 1 ? "b"
                                                         : "c"});
        request(&session, &port, BLOCK_WRITE, KIB(16), KIB(64), buffer);
        request(&session, &port, BLOCK_TRIM, KIB(400), KIB(64), NULL);
        request(&session, &port, BLOCK_FLUSH, 0, 0, NULL);
        port_close(&port);
    }
    command(&session, volume_attribute_set, (struct volume_command){.volume = uuid[0], .name = "key", .value = "value"});
    ok = session_close_store(&session) && session_open(&session); /* a checkpoint; then a journal behind it */
    assert(ok);
    struct port port;
    ok = port_open(&session, &port, &uuid[1], false);
    assert(ok);
    for (uint64_t i = 0; i < 12; i++) {
        request(&session, &port, i % 4 == 3 ? BLOCK_TRIM : BLOCK_WRITE, i * KIB(60), KIB(8), buffer);
        request(&session, &port, BLOCK_FLUSH, 0, 0, NULL);
    }
    command(&session, volume_rename, (struct volume_command){.volume = uuid[2], .name = "other"});
    disk_image_clone(&base.image, &session.disk->now);
    session_crash(&session);
    disk_destroy(session.disk);
    disk_image_fini(&empty);
    find_structures();
    base.made = true;
}

/* A change: which structure (2 bytes), where (2), how (1), by what (8). */
#define CHANGE_BYTES 13
static void change(struct disk_image *image, const uint8_t *bytes) {
    static uint8_t whole[16 * BLOCK_BYTES];
    const struct structure *s = &base.structures[get_le16(bytes) % base.count];
    uint32_t words = s->length / 8, word = get_le16(bytes + 2) % words;
    if ((bytes[4] & 0x10) != 0) /* where things are dense: headers and the first words */
        word %= 96;
    disk_image_read(image, s->offset, whole, s->length);
    uint64_t value = get_le64(whole + word * 8), by = get_le64(bytes + 5);
    switch (bytes[4] & 7) {
    case 0: value = by; break;
    case 1: value ^= UINT64_C(1) << (by & 63); break;
    case 2: value += by & 0xff; break;
    case 3: value -= by & 0xff; break;
    case 4: value = 0; break;
    case 5: value = UINT64_MAX; break;
    case 6: value = (value & ~UINT64_C(0xffffffff)) | (by & 0x3ff); break; /* another cluster */
    default: memcpy(&value, whole + by % words * 8, 8);
    }
    put_le64(whole + word * 8, value);
    if ((bytes[4] & 8) == 0)
        put_le32(whole + s->crc_field, format_crc(whole, s->length, s->crc_field));
    disk_image_write(image, s->offset, whole, s->length);
}

static void use(struct session *session) {
    struct volume_command list = {0};
    if (!session_command(session, volume_list, &list))
        return;
    static uint8_t buffer[KIB(64)];
    for (size_t i = 0; i < list.ret_count && i < 8; i++) {
        const struct volume_info *info = &list.ret_infos[i];
        struct port port;
        if (port_open(session, &port, &info->uuid, true)) {
            uint64_t bytes = min_u64(info->size_bytes, MIB(2));
            for (uint64_t at = 0; at < bytes; at += sizeof(buffer))
                request(session, &port, BLOCK_READ, at, min_u64(sizeof(buffer), bytes - at), buffer);
            if (info->size_bytes > sizeof(buffer))
                request(session, &port, BLOCK_READ, info->size_bytes - sizeof(buffer), sizeof(buffer), buffer);
            port_close(&port);
        }
        if (!info->snapshot && port_open(session, &port, &info->uuid, false)) {
            request(session, &port, BLOCK_WRITE, 0, min_u64(info->size_bytes, KIB(20)), buffer);
            request(session, &port, BLOCK_WRITE, info->size_bytes - 512, 512, buffer);
            request(session, &port, BLOCK_TRIM, 0, min_u64(info->size_bytes, KIB(40)), NULL);
            request(session, &port, BLOCK_FLUSH, 0, 0, NULL);
            port_close(&port);
        }
    }
    if (list.ret_count > 0) {
        struct uuid first = list.ret_infos[0].uuid, last = list.ret_infos[list.ret_count - 1].uuid;
        command(session, volume_snapshot_create, (struct volume_command){.volume = first, .name = "new"});
        command(session, volume_delete, (struct volume_command){.volume = last});
        command(session, volume_create, (struct volume_command){.name = "created", .size_bytes = KIB(64)});
    }
    free(list.ret_infos);
    world_run_for(&session->world, 3 * NS_PER_S); /* what goes on in the background */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!base.made)
        make_base();
    struct disk_image image;
    struct session session;
    disk_image_copy(&image, &base.image);
    for (size_t i = 0; i < CHANGES_MAX && (i + 1) * CHANGE_BYTES <= size; i++)
        change(&image, data + i * CHANGE_BYTES);
    session_start(&session, &options, &image, 2, false);
    session_check(&session);
    if (session_open(&session))
        use(&session);
    assert(session.world.heap.peak_bytes < MIB(64));
    session_crash(&session);
    disk_destroy(session.disk);
    disk_image_fini(&image);
    return 0;
}
