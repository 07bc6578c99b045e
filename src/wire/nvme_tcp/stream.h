/* NVMe/TCP framing, the same for both roles: `nvme_tcp_rx` cuts a byte stream into PDUs and moves payloads to their places,
 * `nvme_tcp_tx` lists queued PDUs for a gathering write. The role machines (target.h, host.h) are built on it and are what others
 * use.
 *
 * Sans I/O: nothing here reads, writes, waits or allocates. It checks everything that a header says by itself; what a PDU means
 * is the role's business. One owner at a time. */
#pragma once

#include "base/list.h"
#include "base/slice.h"
#include "wire/nvme_tcp/pdu.h"

/* Why a connection must end. */
struct nvme_tcp_fault {
    enum nvme_tcp_fes fes; /* 0 = none */
    uint32_t fei;
    const char *text; /* static */
};

/* ---- receiving ---- */

enum nvme_tcp_rx_phase {
    NVME_TCP_RX_HEADER,  /* collecting a header in the staging area */
    NVME_TCP_RX_HELD,    /* header told, its payload has no place yet: nothing is read */
    NVME_TCP_RX_PAYLOAD, /* moving the payload to its place */
    NVME_TCP_RX_TRAILER, /* collecting the data digest */
    NVME_TCP_RX_FAULT
};

struct nvme_tcp_rx {
    /* staging area: the owner's memory; bytes [begin, end) are received and not yet used */
    uint8_t *staging;
    uint32_t capacity, begin, end;

    bool to_target; /* which PDU types may come */
    bool header_digest, data_digest;
    uint8_t alignment;      /* of payloads sent to us, bytes */
    uint32_t payload_limit; /* of any PDU; the role checks closer */

    enum nvme_tcp_rx_phase phase;
    struct nvme_tcp_fault fault;

    /* the PDU under way */
    struct nvme_tcp_common common;
    uint32_t payload_length, payload_done;
    bool payload_digest, digest_failed, discard;
    const struct slice *place; /* rest of the payload's place */
    uint32_t place_count;
    size_t place_skip; /* bytes of place[0] already used */
    uint32_t crc;
    uint32_t last_payload; /* length of the payload before: large ones are likely followed by large ones */
};

enum nvme_tcp_rx_step {
    NVME_TCP_RX_MORE,     /* all used: read again */
    NVME_TCP_RX_TOLD,     /* a header, see nvme_tcp_rx_header(); if it has a payload, place or discard it */
    NVME_TCP_RX_COMPLETE, /* the payload is in its place (or thrown away), `digest_failed` says whether it is what was sent */
    NVME_TCP_RX_IS_HELD,  /* waits for place or discard */
    NVME_TCP_RX_HAS_FAULT /* see fault; the connection must end */
};

/* `staging` of at least NVME_TCP_STAGING_MIN bytes stays the caller's and lent. */
#define NVME_TCP_STAGING_MIN 1024
void nvme_tcp_rx_init(struct nvme_tcp_rx *rx, bool to_target, void *staging, uint32_t capacity);
/* Where the next bytes go: the rest of a payload in its place, then the staging area. Returns how many slices were filled, 0 when
 * held or at fault. Capacity at least 2. Headers told before become invalid. */
uint32_t nvme_tcp_rx_want(struct nvme_tcp_rx *rx, struct slice *to, uint32_t capacity);
/* `count` bytes were stored where the last nvme_tcp_rx_want() said. Then step until it says MORE, IS_HELD or HAS_FAULT. */
void nvme_tcp_rx_got(struct nvme_tcp_rx *rx, size_t count);
enum nvme_tcp_rx_step nvme_tcp_rx_step(struct nvme_tcp_rx *rx);
/* The header told by the last step, checked in itself; valid until the next want() or step(). */
static inline const void *nvme_tcp_rx_header(const struct nvme_tcp_rx *rx);
/* The payload of the header told goes to byte `skip` and on of these slices (lent until COMPLETE; there is room), or nowhere. */
void nvme_tcp_rx_place(struct nvme_tcp_rx *rx, const struct slice *slices, uint32_t count, size_t skip);
void nvme_tcp_rx_discard(struct nvme_tcp_rx *rx);
/* Ends the connection for this reason, unless it has one already. */
void nvme_tcp_rx_fail(struct nvme_tcp_rx *rx, enum nvme_tcp_fes fes, uint32_t fei, const char *text);

/* ---- sending ---- */

/* Room for a header that is padded to the largest alignment; a data digest, a response and its digest. */
enum { NVME_TCP_OUT_HEADER_SIZE = 128, NVME_TCP_OUT_TRAILER_SIZE = 32 };

/* A PDU (or two that belong together) on its way; embedded in the owner's command, so that queueing cannot fail. */
struct nvme_tcp_out {
    struct queue_node node;
    bool queued;   /* in a tx, its payload is lent */
    bool internal; /* of the role machine itself: not told to its owner */
    uint8_t header_length, trailer_length;
    uint32_t payload_length; /* bytes of the slices that go out */
    const struct slice *payload;
    uint32_t payload_count;
    size_t payload_skip; /* from this byte of the slices on */
    uint8_t header[NVME_TCP_OUT_HEADER_SIZE];
    uint8_t trailer[NVME_TCP_OUT_TRAILER_SIZE]; /* data digest, and what follows it */
};

struct nvme_tcp_tx {
    struct queue waiting, sent;
    uint64_t first_done; /* bytes of the first waiting one that are out */
    uint64_t waiting_bytes;
    bool header_digest, data_digest;
    uint8_t alignment; /* of payloads, bytes */
};

void nvme_tcp_tx_init(struct nvme_tcp_tx *tx);
/* Readies an out for a PDU with this header (common.length, data_offset and digest flags are filled in here) and payload; digests
 * are computed now, so the payload must be ready. `count` 0 and `length` 0: none. */
void nvme_tcp_out_prepare(const struct nvme_tcp_tx *tx, struct nvme_tcp_out *out, const void *header, const struct slice *slices,
                          uint32_t count, size_t skip, uint32_t length);
/* Adds a second PDU without payload behind it (a response behind its last data). */
void nvme_tcp_out_append(const struct nvme_tcp_tx *tx, struct nvme_tcp_out *out, const void *header);
/* Queues it; it and its payload stay lent until nvme_tcp_tx_take_sent() gives it back. */
void nvme_tcp_tx_push(struct nvme_tcp_tx *tx, struct nvme_tcp_out *out);
static inline bool nvme_tcp_tx_empty(const struct nvme_tcp_tx *tx) { return queue_empty(&tx->waiting); }
/* Lists the bytes to send, in order; returns how many slices were filled. */
uint32_t nvme_tcp_tx_out(const struct nvme_tcp_tx *tx, struct slice *to, uint32_t capacity);
/* The first `count` of these bytes are out: their memory is free again. */
void nvme_tcp_tx_sent(struct nvme_tcp_tx *tx, size_t count);
/* The next PDU that is out whole, NULL if there is none. */
struct nvme_tcp_out *nvme_tcp_tx_take_sent(struct nvme_tcp_tx *tx);
/* The connection is gone: the next PDU that will never go out, NULL at the end. */
struct nvme_tcp_out *nvme_tcp_tx_take_unsent(struct nvme_tcp_tx *tx);

/* Writes a termination request for `fault` about the PDU under way in `rx` to `to`; returns its length. */
#define NVME_TCP_TERM_SIZE (sizeof(struct nvme_tcp_term) + NVME_TCP_TERM_DATA_MAX)
uint32_t nvme_tcp_term_write(uint8_t type, const struct nvme_tcp_rx *rx, uint8_t to[NVME_TCP_TERM_SIZE]);

static inline const void *nvme_tcp_rx_header(const struct nvme_tcp_rx *rx) { return rx->staging + rx->begin; }
