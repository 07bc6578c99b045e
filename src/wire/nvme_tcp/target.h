/* The controller's end of one NVMe/TCP connection, sans I/O: bytes in, events out; answers in, bytes out.
 *
 * The owner loops: want → read → got → next until IDLE or HELD; out → write → sent → take_sent. Commands come as events; their
 * data come with the capsule (nvme_tcp_target_place) or are asked for (nvme_tcp_target_request). It knows nothing of controllers,
 * queues or what a command means. TCP Transport specification 1.0, section 3. One owner at a time. */
#pragma once

#include "wire/nvme_tcp/stream.h"

struct nvme_tcp_target_options {
    uint32_t h2c_data_limit;   /* payload bytes that one H2CData may carry, ≥ NVME_TCP_H2C_DATA_LIMIT_MIN */
    uint32_t in_capsule_limit; /* payload bytes that a command capsule may carry */
    bool allow_header_digest, allow_data_digest;
};

/* Data that the host sends on request; embedded in the owner's command, zeroed once. */
struct nvme_tcp_transfer {
    struct nvme_tcp_out r2t;
    const struct slice *slices; /* where the data go */
    uint32_t slice_count;
    uint32_t length, received; /* bytes */
    uint16_t cid;
    bool active;       /* asked for and not all here: the slices are lent */
    bool digest_error; /* some of the data are not what was sent */
};

enum nvme_tcp_target_event_type {
    NVME_TCP_TARGET_IDLE,       /* nothing more until the next bytes */
    NVME_TCP_TARGET_HELD,       /* the last COMMAND's payload has no place: nothing is read until then */
    NVME_TCP_TARGET_CONNECTED,  /* versions and digests are agreed; the answer is queued */
    NVME_TCP_TARGET_COMMAND,    /* sqe, payload_length */
    NVME_TCP_TARGET_PAYLOAD,    /* the last COMMAND's payload is all here; digest_error */
    NVME_TCP_TARGET_TRANSFER,   /* a requested transfer is all here; transfer (its digest_error too) */
    NVME_TCP_TARGET_TERMINATED, /* the host ends the connection: close */
    NVME_TCP_TARGET_FAULT       /* the host broke the protocol: the termination request is queued; send it and close */
};

struct nvme_tcp_target_event {
    enum nvme_tcp_target_event_type type;
    const struct nvme_sqe *sqe; /* in the staging area: valid until the next call to want() */
    uint32_t payload_length;    /* in-capsule data; if > 0 place or discard it before going on */
    bool digest_error;
    struct nvme_tcp_transfer *transfer;
};

struct nvme_tcp_target {
    struct nvme_tcp_rx rx;
    struct nvme_tcp_tx tx;
    struct nvme_tcp_target_options options;
    bool connected, terminated, fault_told;
    uint16_t host_fes;  /* TERMINATED: what the host says went wrong */
    uint32_t r2t_limit; /* at once a command, as the host said; we use one */

    struct nvme_tcp_transfer **transfers; /* by tag; the owner's table */
    uint16_t transfer_count;

    struct nvme_tcp_transfer *receiving; /* whose H2CData payload is under way, NULL for in-capsule data */
    struct nvme_tcp_out control;         /* ICResp, later the termination request */
    struct slice control_slice;
    uint8_t control_bytes[NVME_TCP_TERM_SIZE];
};

/* `staging` stays the caller's and lent. */
void nvme_tcp_target_init(struct nvme_tcp_target *target, const struct nvme_tcp_target_options *options, void *staging,
                          uint32_t staging_size);
/* The table of transfers by tag (≤ 65535), all entries set by the owner; may be replaced while none is active. */
void nvme_tcp_target_set_transfers(struct nvme_tcp_target *target, struct nvme_tcp_transfer **table, uint16_t count);
/* In-capsule data a command may carry from the next one on (it differs between admin and I/O queues). */
void nvme_tcp_target_set_in_capsule_limit(struct nvme_tcp_target *target, uint32_t bytes);

static inline uint32_t nvme_tcp_target_want(struct nvme_tcp_target *target, struct slice *to, uint32_t capacity) {
    return nvme_tcp_rx_want(&target->rx, to, capacity);
}
static inline void nvme_tcp_target_got(struct nvme_tcp_target *target, size_t count) { nvme_tcp_rx_got(&target->rx, count); }
/* The next event. */
void nvme_tcp_target_next(struct nvme_tcp_target *target, struct nvme_tcp_target_event *ret);

/* Where the last COMMAND's in-capsule payload goes (room for all of it; slices and memory lent until PAYLOAD), or that it is
 * thrown away (PAYLOAD comes all the same). */
void nvme_tcp_target_place(struct nvme_tcp_target *target, const struct slice *slices, uint32_t count);
void nvme_tcp_target_discard(struct nvme_tcp_target *target);
/* Asks the host for `length` bytes of command `cid`, into the slices (lent until TRANSFER), under `tag`, whose table entry is
 * `transfer`. */
void nvme_tcp_target_request(struct nvme_tcp_target *target, uint16_t tag, uint16_t cid, const struct slice *slices,
                             uint32_t slice_count, uint32_t length);
/* Readies and queues a response capsule in `out`. */
void nvme_tcp_target_respond(struct nvme_tcp_target *target, struct nvme_tcp_out *out, const struct nvme_cqe *cqe);
/* Queues `length` bytes for the host, and the completion behind them: as a response capsule or, if `success_flag` (only for a
 * completion whose status and values are all zero, and a host that ignores SQ head), as a flag on the data. The payload is lent
 * until the out is taken back. */
void nvme_tcp_target_respond_with_data(struct nvme_tcp_target *target, struct nvme_tcp_out *out, const struct nvme_cqe *cqe,
                                       const struct slice *slices, uint32_t slice_count, uint32_t length, bool success_flag);
/* The next answer that is out whole: its memory and payload are the owner's again. NULL if there is none. To be called after each
 * nvme_tcp_tx_sent(), before more is read. */
struct nvme_tcp_out *nvme_tcp_target_take_sent(struct nvme_tcp_target *target);
/* The connection is gone: the next answer that will never go out, NULL at the end. */
struct nvme_tcp_out *nvme_tcp_target_take_unsent(struct nvme_tcp_target *target);
/* Ends the connection from our side, e.g. as more commands come than the queue has. FAULT is told next. */
void nvme_tcp_target_fail(struct nvme_tcp_target *target, enum nvme_tcp_fes fes, uint32_t fei, const char *text);
