#include "wire/nvme_tcp/stream.h"

#include "base/crc32c.h"

/* After a payload of at least this the next one is expected to be as large: little is read ahead of it, since what is read ahead
 * must be copied. */
#define LARGE_PAYLOAD 16384
#define READ_AHEAD_OF_LARGE 4096

static const struct pdu_facts {
    uint8_t header_length; /* 0 = no such type */
    bool to_target, to_host;
    bool payload; /* may carry one */
    bool digests; /* digests apply, once negotiated */
} pdu_facts[NVME_TCP_TYPE_COUNT] = {
    [NVME_TCP_ICREQ] = {sizeof(struct nvme_tcp_icreq), .to_target = true},
    [NVME_TCP_ICRESP] = {sizeof(struct nvme_tcp_icresp), .to_host = true},
    [NVME_TCP_H2C_TERM] = {sizeof(struct nvme_tcp_term), .to_target = true, .payload = true},
    [NVME_TCP_C2H_TERM] = {sizeof(struct nvme_tcp_term), .to_host = true, .payload = true},
    [NVME_TCP_COMMAND] = {sizeof(struct nvme_tcp_command), .to_target = true, .payload = true, .digests = true},
    [NVME_TCP_RESPONSE] = {sizeof(struct nvme_tcp_response), .to_host = true, .digests = true},
    [NVME_TCP_H2C_DATA] = {sizeof(struct nvme_tcp_data), .to_target = true, .payload = true, .digests = true},
    [NVME_TCP_C2H_DATA] = {sizeof(struct nvme_tcp_data), .to_host = true, .payload = true, .digests = true},
    [NVME_TCP_R2T] = {sizeof(struct nvme_tcp_r2t), .to_host = true, .digests = true},
};

/* ---- receiving ---- */

void nvme_tcp_rx_init(struct nvme_tcp_rx *rx, bool to_target, void *staging, uint32_t capacity) {
    assert(capacity >= NVME_TCP_STAGING_MIN);
    *rx = (struct nvme_tcp_rx){
        .staging = staging, .capacity = capacity, .to_target = to_target, .alignment = 4, .payload_limit = UINT32_MAX};
}

void nvme_tcp_rx_fail(struct nvme_tcp_rx *rx, enum nvme_tcp_fes fes, uint32_t fei, const char *text) {
    if (rx->fault.fes == 0)
        rx->fault = (struct nvme_tcp_fault){fes, fei, text};
    rx->phase = NVME_TCP_RX_FAULT;
}

static bool invalid(struct nvme_tcp_rx *rx, size_t field, const char *text) {
    nvme_tcp_rx_fail(rx, NVME_TCP_FES_INVALID_HEADER, (uint32_t)field, text);
    return false;
}

/* Bytes before the payload (or of the whole PDU without one). Valid once common_check() passed. */
static uint32_t lead_length(const struct nvme_tcp_rx *rx) {
    const struct pdu_facts *facts = &pdu_facts[rx->common.type];
    uint32_t header = facts->header_length + (facts->digests && rx->header_digest ? NVME_TCP_DIGEST_SIZE : 0U);
    return facts->digests && rx->payload_length > 0 ? rx->common.data_offset : header;
}

/* Checks the first eight bytes, and finds the payload's length. */
static bool common_check(struct nvme_tcp_rx *rx) {
    const struct nvme_tcp_common *common = &rx->common;
    if (common->type >= NVME_TCP_TYPE_COUNT || pdu_facts[common->type].header_length == 0)
        return invalid(rx, offsetof(struct nvme_tcp_common, type), "unknown PDU type");
    const struct pdu_facts *facts = &pdu_facts[common->type];
    if (!(rx->to_target ? facts->to_target : facts->to_host))
        return invalid(rx, offsetof(struct nvme_tcp_common, type), "PDU type of the other direction");
    if (common->header_length != facts->header_length)
        return invalid(rx, offsetof(struct nvme_tcp_common, header_length), "wrong header length");
    uint32_t header = facts->header_length;
    if (facts->digests) {
        if (!!(common->flags & NVME_TCP_FLAG_HEADER_DIGEST) != rx->header_digest)
            return invalid(rx, offsetof(struct nvme_tcp_common, flags), "header digest flag is not as negotiated");
        header += rx->header_digest ? NVME_TCP_DIGEST_SIZE : 0;
    }
    if (common->length < header || (!facts->payload && common->length != header))
        return invalid(rx, offsetof(struct nvme_tcp_common, length), "wrong PDU length");
    rx->payload_done = 0;
    rx->payload_digest = false;
    rx->payload_length = common->length - header;
    if (rx->payload_length == 0)
        return true;
    if (!facts->digests) /* a termination request: what follows its header is the header at fault */
        return rx->payload_length <= NVME_TCP_TERM_DATA_MAX ||
               invalid(rx, offsetof(struct nvme_tcp_common, length), "termination request too long");
    if (common->data_offset < header || common->data_offset % rx->alignment != 0)
        return invalid(rx, offsetof(struct nvme_tcp_common, data_offset), "wrong data offset");
    if (!!(common->flags & NVME_TCP_FLAG_DATA_DIGEST) != rx->data_digest)
        return invalid(rx, offsetof(struct nvme_tcp_common, flags), "data digest flag is not as negotiated");
    uint32_t around = common->data_offset + (rx->data_digest ? NVME_TCP_DIGEST_SIZE : 0U);
    if (common->length <= around)
        return invalid(rx, offsetof(struct nvme_tcp_common, length), "PDU shorter than its parts");
    rx->payload_digest = rx->data_digest;
    rx->payload_length = common->length - around;
    if (rx->payload_length > rx->payload_limit) {
        nvme_tcp_rx_fail(rx, NVME_TCP_FES_LIMIT, offsetof(struct nvme_tcp_common, length), "payload above the limit");
        return false;
    }
    return true;
}

static bool header_digest_check(struct nvme_tcp_rx *rx, const uint8_t *header) {
    if (!rx->header_digest || !pdu_facts[rx->common.type].digests)
        return true;
    uint32_t sent = get_le32(header + rx->common.header_length);
    if (sent == crc32c(header, rx->common.header_length))
        return true;
    nvme_tcp_rx_fail(rx, NVME_TCP_FES_HEADER_DIGEST, sent, "header digest is wrong");
    return false;
}

/* The next `count` bytes of the payload are at `from` (or already in place if NULL). */
static void payload_advance(struct nvme_tcp_rx *rx, const uint8_t *from, size_t count) {
    rx->payload_done += (uint32_t)count;
    if (rx->discard) {
        if (rx->payload_digest && from != NULL)
            rx->crc = crc32c_continue(rx->crc, from, count);
        return;
    }
    while (count > 0) {
        assert(rx->place_count > 0);
        size_t n = min_u64(count, rx->place->length - rx->place_skip);
        uint8_t *to = (uint8_t *)rx->place->base + rx->place_skip;
        if (from != NULL) {
            memcpy(to, from, n);
            from += n;
        }
        if (rx->payload_digest)
            rx->crc = crc32c_continue(rx->crc, to, n);
        count -= n;
        rx->place_skip += n;
        if (rx->place_skip == rx->place->length) {
            rx->place++;
            rx->place_count--;
            rx->place_skip = 0;
        }
    }
}

/* Takes of the payload what is staged already. */
static void staged_take(struct nvme_tcp_rx *rx) {
    uint32_t n = min_u32(rx->end - rx->begin, rx->payload_length - rx->payload_done);
    payload_advance(rx, rx->staging + rx->begin, n);
    rx->begin += n;
}

/* The header is used; its payload begins. */
static void payload_begin(struct nvme_tcp_rx *rx, bool discard) {
    assert(rx->phase == NVME_TCP_RX_HELD);
    rx->discard = discard;
    rx->phase = NVME_TCP_RX_PAYLOAD;
    rx->begin += lead_length(rx);
    staged_take(rx);
}

void nvme_tcp_rx_place(struct nvme_tcp_rx *rx, const struct slice *slices, uint32_t count, size_t skip) {
    while (count > 0 && skip >= slices->length) {
        skip -= slices->length;
        slices++;
        count--;
    }
    rx->place = slices;
    rx->place_count = count;
    rx->place_skip = skip;
    payload_begin(rx, false);
}

void nvme_tcp_rx_discard(struct nvme_tcp_rx *rx) { payload_begin(rx, true); }

/* The header told had no payload: the next PDU begins. */
static void header_pass(struct nvme_tcp_rx *rx) {
    rx->begin += lead_length(rx);
    rx->phase = NVME_TCP_RX_HEADER;
}

uint32_t nvme_tcp_rx_want(struct nvme_tcp_rx *rx, struct slice *to, uint32_t capacity) {
    assert(capacity >= 2);
    if (rx->phase == NVME_TCP_RX_HELD && rx->payload_length == 0)
        header_pass(rx);
    if (rx->phase == NVME_TCP_RX_HELD || rx->phase == NVME_TCP_RX_FAULT)
        return 0;
    if (rx->begin > 0) {
        memmove(rx->staging, rx->staging + rx->begin, rx->end - rx->begin);
        rx->end -= rx->begin;
        rx->begin = 0;
    }
    uint32_t used = 0, room = rx->capacity - rx->end, left = rx->payload_length - rx->payload_done;
    if (rx->phase == NVME_TCP_RX_PAYLOAD && !rx->discard) {
        assert(left == 0 || rx->end == 0);
        const struct slice *place = rx->place;
        for (size_t skip = rx->place_skip; left > 0 && used < capacity - 1; skip = 0, place++, used++) {
            size_t n = min_u64(place->length - skip, left);
            to[used] = (struct slice){(uint8_t *)place->base + skip, n};
            left -= (uint32_t)n;
        }
        if (left > 0) /* more places than the caller takes: nothing may land behind them yet */
            return used;
    }
    if ((used > 0 ? rx->payload_length : rx->last_payload) >= LARGE_PAYLOAD)
        room = min_u32(room, READ_AHEAD_OF_LARGE);
    to[used++] = (struct slice){rx->staging + rx->end, room};
    return used;
}

void nvme_tcp_rx_got(struct nvme_tcp_rx *rx, size_t count) {
    if (rx->phase == NVME_TCP_RX_PAYLOAD && !rx->discard) {
        size_t direct = min_u64(count, rx->payload_length - rx->payload_done);
        payload_advance(rx, NULL, direct);
        count -= direct;
    }
    assert(count <= rx->capacity - rx->end);
    rx->end += (uint32_t)count;
}

static enum nvme_tcp_rx_step step_header(struct nvme_tcp_rx *rx) {
    uint32_t staged = rx->end - rx->begin;
    const uint8_t *header = rx->staging + rx->begin;
    if (staged < sizeof(rx->common))
        return NVME_TCP_RX_MORE;
    memcpy(&rx->common, header, sizeof(rx->common));
    if (!common_check(rx))
        return NVME_TCP_RX_HAS_FAULT;
    if (staged < lead_length(rx))
        return NVME_TCP_RX_MORE;
    if (!header_digest_check(rx, header))
        return NVME_TCP_RX_HAS_FAULT;
    rx->phase = NVME_TCP_RX_HELD;
    rx->crc = 0;
    rx->digest_failed = false;
    return NVME_TCP_RX_TOLD;
}

enum nvme_tcp_rx_step nvme_tcp_rx_step(struct nvme_tcp_rx *rx) {
    switch (rx->phase) {
    case NVME_TCP_RX_HELD:
        if (rx->payload_length > 0)
            return NVME_TCP_RX_IS_HELD;
        header_pass(rx);
        return step_header(rx);
    case NVME_TCP_RX_HEADER: return step_header(rx);
    case NVME_TCP_RX_PAYLOAD:
        staged_take(rx);
        if (rx->payload_done < rx->payload_length)
            return NVME_TCP_RX_MORE;
        rx->last_payload = rx->payload_length;
        rx->phase = NVME_TCP_RX_TRAILER;
        __attribute__((fallthrough));
    case NVME_TCP_RX_TRAILER:
        if (rx->payload_digest) {
            if (rx->end - rx->begin < NVME_TCP_DIGEST_SIZE)
                return NVME_TCP_RX_MORE;
            rx->digest_failed = get_le32(rx->staging + rx->begin) != rx->crc;
            rx->begin += NVME_TCP_DIGEST_SIZE;
        }
        rx->phase = NVME_TCP_RX_HEADER;
        return NVME_TCP_RX_COMPLETE;
    case NVME_TCP_RX_FAULT: return NVME_TCP_RX_HAS_FAULT;
    }
    assert(false);
    return NVME_TCP_RX_HAS_FAULT;
}

/* ---- sending ---- */

void nvme_tcp_tx_init(struct nvme_tcp_tx *tx) {
    *tx = (struct nvme_tcp_tx){.alignment = 4};
    queue_init(&tx->waiting);
    queue_init(&tx->sent);
}

/* Writes one header with its digest and padding (at most NVME_TCP_OUT_HEADER_SIZE); returns the bytes used. */
static uint32_t header_write(const struct nvme_tcp_tx *tx, uint8_t *to, const void *header, uint32_t payload_length) {
    struct nvme_tcp_common *common = (struct nvme_tcp_common *)to;
    const struct nvme_tcp_common *from = header;
    memcpy(to, header, from->header_length);
    uint32_t used = from->header_length, around = 0;
    bool digests = pdu_facts[from->type].digests;
    if (digests && tx->header_digest) {
        common->flags |= NVME_TCP_FLAG_HEADER_DIGEST;
        used += NVME_TCP_DIGEST_SIZE;
    }
    if (payload_length > 0) {
        around = (uint32_t)(divide_up(used, tx->alignment) * tx->alignment);
        common->data_offset = (uint8_t)around;
        if (digests && tx->data_digest)
            common->flags |= NVME_TCP_FLAG_DATA_DIGEST;
    }
    common->length = max_u32(used, around) + payload_length +
                     (payload_length > 0 && digests && tx->data_digest ? (uint32_t)NVME_TCP_DIGEST_SIZE : 0);
    if (digests && tx->header_digest)
        put_le32(to + from->header_length, crc32c(to, from->header_length));
    if (around > used)
        memset(to + used, 0, around - used);
    return max_u32(used, around);
}

static uint32_t payload_crc(const struct slice *slices, size_t skip, uint32_t length) {
    uint32_t crc = 0;
    for (; length > 0; slices++) {
        if (skip >= slices->length) {
            skip -= slices->length;
            continue;
        }
        uint32_t n = (uint32_t)min_u64(slices->length - skip, length);
        crc = crc32c_continue(crc, (uint8_t *)slices->base + skip, n);
        length -= n;
        skip = 0;
    }
    return crc;
}

void nvme_tcp_out_prepare(const struct nvme_tcp_tx *tx, struct nvme_tcp_out *out, const void *header, const struct slice *slices,
                          uint32_t count, size_t skip, uint32_t length) {
    assert(!out->queued);
    out->header_length = (uint8_t)header_write(tx, out->header, header, length);
    out->trailer_length = 0;
    out->payload = slices;
    out->payload_count = count;
    out->payload_skip = skip;
    out->payload_length = length;
    if (length > 0 && tx->data_digest) {
        put_le32(out->trailer, payload_crc(slices, skip, length));
        out->trailer_length = NVME_TCP_DIGEST_SIZE;
    }
}

void nvme_tcp_out_append(const struct nvme_tcp_tx *tx, struct nvme_tcp_out *out, const void *header) {
    const struct nvme_tcp_common *common = header;
    assert((size_t)out->trailer_length + common->header_length + NVME_TCP_DIGEST_SIZE <= sizeof(out->trailer));
    out->trailer_length = (uint8_t)(out->trailer_length + header_write(tx, out->trailer + out->trailer_length, header, 0));
}

static uint64_t out_length(const struct nvme_tcp_out *out) {
    return (uint64_t)out->header_length + out->payload_length + out->trailer_length;
}

void nvme_tcp_tx_push(struct nvme_tcp_tx *tx, struct nvme_tcp_out *out) {
    assert(!out->queued);
    out->queued = true;
    tx->waiting_bytes += out_length(out);
    queue_push(&tx->waiting, &out->node);
}

/* Adds one part, of which `*done` bytes are out already, to the list. */
static bool part_list(struct slice *to, uint32_t capacity, uint32_t *used, uint64_t *done, const void *base, size_t length) {
    if (length <= *done) {
        *done -= length;
        return true;
    }
    if (*used == capacity)
        return false;
    to[(*used)++] = (struct slice){(uint8_t *)(uintptr_t)base + *done, length - *done};
    *done = 0;
    return true;
}

static bool out_list(const struct nvme_tcp_out *out, struct slice *to, uint32_t capacity, uint32_t *used, uint64_t *done) {
    if (!part_list(to, capacity, used, done, out->header, out->header_length))
        return false;
    const struct slice *at = out->payload;
    size_t skip = out->payload_skip;
    for (uint32_t left = out->payload_length; left > 0; at++) {
        if (skip >= at->length) {
            skip -= at->length;
            continue;
        }
        uint32_t n = (uint32_t)min_u64(at->length - skip, left);
        if (!part_list(to, capacity, used, done, (uint8_t *)at->base + skip, n))
            return false;
        left -= n;
        skip = 0;
    }
    return part_list(to, capacity, used, done, out->trailer, out->trailer_length);
}

uint32_t nvme_tcp_tx_out(const struct nvme_tcp_tx *tx, struct slice *to, uint32_t capacity) {
    uint32_t used = 0;
    uint64_t done = tx->first_done;
    for (struct queue_node *node = tx->waiting.first; node != NULL; node = node->next)
        if (!out_list(container_of(node, struct nvme_tcp_out, node), to, capacity, &used, &done))
            break;
    return used;
}

void nvme_tcp_tx_sent(struct nvme_tcp_tx *tx, size_t count) {
    assert(count <= tx->waiting_bytes);
    tx->waiting_bytes -= count;
    tx->first_done += count;
    while (!queue_empty(&tx->waiting)) {
        struct nvme_tcp_out *out = container_of(tx->waiting.first, struct nvme_tcp_out, node);
        if (tx->first_done < out_length(out))
            return;
        tx->first_done -= out_length(out);
        queue_pop(&tx->waiting);
        queue_push(&tx->sent, &out->node);
    }
}

static struct nvme_tcp_out *take(struct queue *queue) {
    struct queue_node *node = queue_pop(queue);
    if (node == NULL)
        return NULL;
    struct nvme_tcp_out *out = container_of(node, struct nvme_tcp_out, node);
    out->queued = false;
    return out;
}

struct nvme_tcp_out *nvme_tcp_tx_take_sent(struct nvme_tcp_tx *tx) {
    return take(&tx->sent);
}

struct nvme_tcp_out *nvme_tcp_tx_take_unsent(struct nvme_tcp_tx *tx) {
    tx->first_done = tx->waiting_bytes = 0;
    return take(&tx->waiting);
}

uint32_t nvme_tcp_term_write(uint8_t type, const struct nvme_tcp_rx *rx, uint8_t to[NVME_TCP_TERM_SIZE]) {
    uint32_t about = min_u32(min_u32(rx->end - rx->begin, rx->common.header_length), NVME_TCP_TERM_DATA_MAX);
    struct nvme_tcp_term term = {.common = {.type = type, .header_length = sizeof(term)}, .fes = (uint16_t)rx->fault.fes};
    term.common.length = (uint32_t)sizeof(term) + about;
    put_le32(term.fei, rx->fault.fei);
    memcpy(to, &term, sizeof(term));
    memcpy(to + sizeof(term), rx->staging + rx->begin, about);
    return term.common.length;
}
