/* Fuzzes captures: frames of any lengths, in both directions, read out in pieces of any size, against a list of what was put in;
 * by a filter of libpcap's, whose text is fuzzed too. */
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#include "packet/capture.h"
#include "packet/pcap/filter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* libpcap looks up names of hosts; a target asks nobody. */
int getaddrinfo(const char *restrict name, const char *restrict service, const struct addrinfo *restrict hints,
                struct addrinfo **restrict result) {
    (void)name, (void)service, (void)hints, (void)result;
    return EAI_NONAME;
}

enum { FRAMES_MAX = 4096, STEPS_MAX = 2000, ROOM = 2048 };

/* What must come out of one direction. */
struct record {
    uint32_t kept, length;
    uint64_t when_ns;
    uint8_t first;
};
struct list {
    struct record records[FRAMES_MAX];
    unsigned count, next;
};

static bool take(struct list *list, const uint8_t *record, uint64_t when_ns) {
    if (list->next == list->count)
        return false;
    const struct record *want = &list->records[list->next];
    if (want->when_ns != when_ns || want->kept != get_le32(record + 8) || want->length != get_le32(record + 12) ||
        (want->kept > 0 && want->first != record[CAPTURE_RECORD_SIZE]))
        return false;
    list->next++;
    return true;
}

/* All records of a piece are whole, and each is the next one of a direction. */
static void check_piece(struct list *lists, const uint8_t *piece, size_t size) {
    for (size_t at = 0; at < size;) {
        assert(size - at >= CAPTURE_RECORD_SIZE);
        const uint8_t *record = piece + at;
        uint64_t when_ns = get_le32(record) * UINT64_C(1000000000) + get_le32(record + 4);
        bool known = take(&lists[CAPTURE_RX], record, when_ns) || take(&lists[CAPTURE_TX], record, when_ns);
        assert(known);
        at += CAPTURE_RECORD_SIZE + get_le32(record + 8);
        assert(at <= size);
    }
}

static void put(struct capture *capture, struct list *lists, unsigned direction, unsigned length, uint8_t first,
                uint64_t now_ns) {
    uint8_t bytes[ROOM];
    memset(bytes, first, sizeof(bytes));
    struct packet packet = {
        .buffer = bytes, .buffer_size = ROOM, .first_length = (uint16_t)min_u32(length, ROOM), .length = length};
    struct packet *packets[] = {&packet};
    struct list *list = &lists[direction];
    uint64_t before = atomic_load(&capture->rings[direction].taken);
    capture_frames(capture, direction, now_ns, packets, 1);
    uint64_t taken = atomic_load(&capture->rings[direction].taken) - before;
    assert(taken <= 1);
    if (taken == 1 && list->count < FRAMES_MAX)
        list->records[list->count++] = (struct record){
            .kept = min_u32(packet.first_length, capture->snap), .length = length, .when_ns = now_ns, .first = first};
}

static void play(struct capture *capture, const uint8_t *data, size_t size) {
    struct list *lists = calloc(CAPTURE_DIRECTION_COUNT, sizeof(*lists));
    uint8_t *piece = malloc(65536);
    uint64_t now_ns = 1;
    assert(lists != NULL && piece != NULL);
    for (unsigned step = 0; size >= 3 && step < STEPS_MAX; step++, data += 3, size -= 3) {
        unsigned number = (unsigned)data[1] << 8 | data[2];
        now_ns += data[0] >> 2;
        if ((data[0] & 2) == 0)
            put(capture, lists, data[0] & 1, number, data[2], now_ns);
        else
            check_piece(lists, piece, capture_read(capture, piece, number));
    }
    for (size_t got; (got = capture_read(capture, piece, 65536)) > 0;)
        check_piece(lists, piece, got);
    for (unsigned i = 0; i < CAPTURE_DIRECTION_COUNT; i++)
        assert(lists[i].next == lists[i].count);
    free(piece);
    free(lists);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct capture_filter *filter = NULL;
    struct error error;
    char text[256];
    if (size < 3 || size > STEPS_MAX * 3)
        return 0;
    size_t words = data[0] < size - 3 ? data[0] : size - 3;
    uint32_t snap = 1 + ((uint32_t)data[1] << 8 | data[2]) % CAPTURE_SNAP_MAX;
    memcpy(text, data + 3, words);
    text[words] = '\0';
    if (words > 0 && !pcap_capture_filter_create(text, &filter, &error)) {
        assert(error.text[0] != '\0' && filter == NULL);
        return 0;
    }
    struct capture *capture = capture_create(true, true, snap, 0, filter);
    assert(capture != NULL);
    play(capture, data + 3 + words, size - 3 - words);
    capture_unref(capture);
    return 0;
}
