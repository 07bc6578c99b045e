/* The host's end of one NVMe/TCP connection, sans I/O: commands in, completions out. The twin of target.h; the initiator, the
 * load generator and the tests are built on it.
 *
 * The owner loops: want → read → got → next until IDLE; out → write → sent → next (a completion may have waited for the last byte
 * of its command's data to leave). A request and its slices are lent from submit until its COMPLETION, or until the owner gives
 * the connection up. TCP Transport specification 1.0, section 3. One owner at a time. */
#pragma once

#include "wire/nvme_tcp/stream.h"

struct nvme_tcp_host_options {
    bool header_digest, data_digest; /* to ask for */
    bool success_flag; /* the controller may end a read by a flag on its data (it was told that SQ head is ignored) */
};

enum nvme_tcp_request_state { NVME_TCP_REQUEST_FREE, NVME_TCP_REQUEST_ACTIVE, NVME_TCP_REQUEST_DONE };

/* One command; embedded in the owner's, zeroed once. */
struct nvme_tcp_request {
    struct nvme_tcp_out out; /* the capsule, then one H2CData after the other */
    const struct slice *slices;
    uint32_t slice_count;
    size_t skip;     /* set by the owner before submit: the data begin at this byte of the slices */
    uint32_t length; /* of the data, bytes; 0 = none */
    enum nvme_direction direction;
    enum nvme_tcp_request_state state;
    uint16_t cid;
    bool digest_error;          /* some of the data received are not what was sent */
    uint32_t received;          /* bytes of data here (controller to host) */
    uint16_t tag;               /* of the R2T under way */
    uint32_t r2t_next, r2t_end; /* [next, end) is asked for and not queued yet (host to controller) */
    uint32_t requested;         /* bytes asked for so far, in-capsule ones included */
    struct nvme_cqe cqe;
    struct queue_node done_node;
};

enum nvme_tcp_host_event_type {
    NVME_TCP_HOST_IDLE,
    NVME_TCP_HOST_CONNECTED,  /* ICResp is here: commands may be submitted */
    NVME_TCP_HOST_COMPLETION, /* request (free again), its cqe, received and digest_error */
    NVME_TCP_HOST_TERMINATED, /* the controller ends the connection: host_fes says why; close */
    NVME_TCP_HOST_FAULT       /* the controller broke the protocol: the termination request is queued; send it and close */
};

struct nvme_tcp_host_event {
    enum nvme_tcp_host_event_type type;
    struct nvme_tcp_request *request;
};

struct nvme_tcp_host {
    struct nvme_tcp_rx rx;
    struct nvme_tcp_tx tx;
    struct nvme_tcp_host_options options;
    bool connected, terminated, fault_told;
    uint16_t controller_fes;
    uint32_t h2c_data_limit; /* payload bytes that the controller takes in one H2CData */

    struct nvme_tcp_request **requests; /* by command id; the owner's table */
    uint16_t request_count;

    struct nvme_tcp_request *receiving; /* whose C2HData payload is under way */
    bool receiving_last, receiving_success;
    struct queue done; /* completions to tell */
    struct nvme_tcp_out control;
    struct slice control_slice;
    uint8_t control_bytes[NVME_TCP_TERM_SIZE];
};

/* Queues the ICReq. `staging` stays the caller's and lent. */
void nvme_tcp_host_init(struct nvme_tcp_host *host, const struct nvme_tcp_host_options *options, void *staging,
                        uint32_t staging_size);
/* The table of requests by command id, all entries set by the owner; may be replaced while none is active. */
void nvme_tcp_host_set_requests(struct nvme_tcp_host *host, struct nvme_tcp_request **table, uint16_t count);

static inline uint32_t nvme_tcp_host_want(struct nvme_tcp_host *host, struct slice *to, uint32_t capacity) {
    return nvme_tcp_rx_want(&host->rx, to, capacity);
}
static inline void nvme_tcp_host_got(struct nvme_tcp_host *host, size_t count) { nvme_tcp_rx_got(&host->rx, count); }
/* The next event. */
void nvme_tcp_host_next(struct nvme_tcp_host *host, struct nvme_tcp_host_event *ret);

/* Submits requests[sqe->cid], which is free, after CONNECTED. The data pointer is filled in here: in the capsule if `in_capsule`
 * (host to controller only, within the controller's limit), else moved by the transport. `direction` and `length` describe the
 * data in the slices (the connection lends them until COMPLETION); with length 0 there are none. */
void nvme_tcp_host_submit(struct nvme_tcp_host *host, const struct nvme_sqe *sqe, enum nvme_direction direction,
                          const struct slice *slices, uint32_t slice_count, uint32_t length, bool in_capsule);
/* The first `count` bytes of out() are sent. */
void nvme_tcp_host_sent(struct nvme_tcp_host *host, size_t count);
/* Ends the connection from our side. FAULT is told next. */
void nvme_tcp_host_fail(struct nvme_tcp_host *host, enum nvme_tcp_fes fes, uint32_t fei, const char *text);
