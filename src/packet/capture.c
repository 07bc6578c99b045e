#include "packet/capture.h"

#include <stdlib.h>

struct capture *capture_create(bool rx, bool tx, uint32_t snap, int64_t wall_offset_ns, struct capture_filter *take_filter) {
    struct capture *capture = aligned_alloc(64, round_up(sizeof(*capture), 64));
    assert(snap > 0 && snap <= CAPTURE_SNAP_MAX);
    if (capture == NULL) {
        if (take_filter != NULL)
            take_filter->destroy(take_filter);
        return NULL;
    }
    memset(capture, 0, sizeof(*capture));
    capture->refs = 1;
    capture->wanted[CAPTURE_RX] = rx;
    capture->wanted[CAPTURE_TX] = tx;
    capture->snap = snap;
    capture->wall_offset_ns = wall_offset_ns;
    capture->filter = take_filter;
    for (unsigned i = 0; i < CAPTURE_DIRECTION_COUNT; i++) {
        capture->rings[i].bytes = capture->wanted[i] ? malloc(CAPTURE_RING_SIZE) : NULL;
        if (capture->wanted[i] && capture->rings[i].bytes == NULL) {
            capture_unref(capture);
            return NULL;
        }
    }
    return capture;
}

void capture_unref(struct capture *capture) {
    if (capture == NULL || --capture->refs > 0)
        return;
    for (unsigned i = 0; i < CAPTURE_DIRECTION_COUNT; i++)
        free(capture->rings[i].bytes);
    if (capture->filter != NULL)
        capture->filter->destroy(capture->filter);
    free(capture);
}

/* ---- rings ---- */

static void ring_put(struct capture_ring *ring, uint64_t at, const void *bytes, size_t size) {
    size_t place = at & (CAPTURE_RING_SIZE - 1), first = size < CAPTURE_RING_SIZE - place ? size : CAPTURE_RING_SIZE - place;
    memcpy(ring->bytes + place, bytes, first);
    memcpy(ring->bytes, (const uint8_t *)bytes + first, size - first);
}

static void ring_get(const struct capture_ring *ring, uint64_t at, void *bytes, size_t size) {
    size_t place = at & (CAPTURE_RING_SIZE - 1), first = size < CAPTURE_RING_SIZE - place ? size : CAPTURE_RING_SIZE - place;
    memcpy(bytes, ring->bytes + place, first);
    memcpy((uint8_t *)bytes + first, ring->bytes, size - first);
}

static void count(_Atomic uint64_t *counter) {
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1, memory_order_relaxed);
}

void capture_frames(struct capture *capture, enum capture_direction direction, uint64_t now_ns, struct packet *const *packets,
                    unsigned packet_count) {
    struct capture_ring *ring = &capture->rings[direction];
    if (!capture->wanted[direction])
        return;
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_acquire);
    uint64_t wall_ns = now_ns + (uint64_t)capture->wall_offset_ns;
    for (unsigned i = 0; i < packet_count; i++) {
        const struct packet *packet = packets[i];
        if (capture->filter != NULL &&
            !capture->filter->match(capture->filter, packet_data(packet), packet->length, packet->first_length))
            continue;
        uint32_t kept = min_u32(packet->first_length, capture->snap);
        uint8_t record[CAPTURE_RECORD_SIZE];
        if (CAPTURE_RING_SIZE - (tail - head) < sizeof(record) + kept) {
            count(&ring->lost);
            continue;
        }
        put_le32(record, (uint32_t)(wall_ns / 1000000000));
        put_le32(record + 4, (uint32_t)(wall_ns % 1000000000));
        put_le32(record + 8, kept);
        put_le32(record + 12, packet->length);
        ring_put(ring, tail, record, sizeof(record));
        ring_put(ring, tail + sizeof(record), packet_data(packet), kept);
        tail += sizeof(record) + kept;
        count(&ring->taken);
    }
    atomic_store_explicit(&ring->tail, tail, memory_order_release);
}

/* ---- on the way to a file ---- */

void capture_file_header(uint8_t to[CAPTURE_FILE_HEADER_SIZE], uint32_t snap) {
    memset(to, 0, CAPTURE_FILE_HEADER_SIZE);
    put_le32(to, 0xa1b23c4d);
    put_le16(to + 4, 2);
    put_le16(to + 6, 4);
    put_le32(to + 16, snap);
    put_le32(to + 20, 1);
}

/* The next record's size, all of it, and its time; 0: there is none. */
static size_t peek(const struct capture_ring *ring, uint64_t *ret_time) {
    uint8_t record[CAPTURE_RECORD_SIZE];
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    if (ring->bytes == NULL || atomic_load_explicit(&ring->tail, memory_order_acquire) == head)
        return 0;
    ring_get(ring, head, record, sizeof(record));
    *ret_time = (uint64_t)get_le32(record) << 32 | get_le32(record + 4);
    return sizeof(record) + get_le32(record + 8);
}

size_t capture_read(struct capture *capture, uint8_t *to, size_t size) {
    size_t done = 0;
    for (;;) {
        uint64_t times[CAPTURE_DIRECTION_COUNT] = {0};
        size_t rx = peek(&capture->rings[CAPTURE_RX], &times[CAPTURE_RX]);
        size_t tx = peek(&capture->rings[CAPTURE_TX], &times[CAPTURE_TX]);
        bool first_rx = rx != 0 && (tx == 0 || times[CAPTURE_RX] <= times[CAPTURE_TX]);
        struct capture_ring *ring = &capture->rings[first_rx ? CAPTURE_RX : CAPTURE_TX];
        size_t next = first_rx ? rx : tx;
        if (next == 0 || next > size - done)
            return done;
        uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
        ring_get(ring, head, to + done, next);
        atomic_store_explicit(&ring->head, head + next, memory_order_release);
        done += next;
    }
}
