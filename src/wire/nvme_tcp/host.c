#include "wire/nvme_tcp/host.h"

static void control_push(struct nvme_tcp_host *host, uint32_t length) {
    host->control_slice = (struct slice){host->control_bytes, length};
    host->control.header_length = host->control.trailer_length = 0;
    host->control.payload = &host->control_slice;
    host->control.payload_count = 1;
    host->control.payload_length = length;
    host->control.internal = true;
    nvme_tcp_tx_push(&host->tx, &host->control);
}

void nvme_tcp_host_init(struct nvme_tcp_host *host, const struct nvme_tcp_host_options *options, void *staging,
                        uint32_t staging_size) {
    *host = (struct nvme_tcp_host){.options = *options};
    nvme_tcp_rx_init(&host->rx, false, staging, staging_size);
    nvme_tcp_tx_init(&host->tx);
    queue_init(&host->done);
    struct nvme_tcp_icreq request = {
        .common = {.type = NVME_TCP_ICREQ, .header_length = sizeof(request), .length = sizeof(request)},
        .digests =
            (uint8_t)((options->header_digest ? NVME_TCP_DIGEST_HEADER : 0) | (options->data_digest ? NVME_TCP_DIGEST_DATA : 0)),
    };
    memcpy(host->control_bytes, &request, sizeof(request));
    control_push(host, sizeof(request));
}

void nvme_tcp_host_set_requests(struct nvme_tcp_host *host, struct nvme_tcp_request **table, uint16_t count) {
    host->requests = table;
    host->request_count = count;
}

/* ---- what we say ---- */

void nvme_tcp_host_submit(struct nvme_tcp_host *host, const struct nvme_sqe *sqe, enum nvme_direction direction,
                          const struct slice *slices, uint32_t slice_count, uint32_t length, bool in_capsule) {
    assert(host->connected && sqe->cid < host->request_count);
    assert(!in_capsule || direction == NVME_HOST_TO_CONTROLLER);
    struct nvme_tcp_request *request = host->requests[sqe->cid];
    assert(request->state == NVME_TCP_REQUEST_FREE && !request->out.queued);
    request->state = NVME_TCP_REQUEST_ACTIVE;
    request->cid = sqe->cid;
    request->slices = slices;
    request->slice_count = slice_count;
    request->length = length;
    request->direction = length > 0 ? direction : NVME_NO_DATA;
    request->received = request->r2t_next = request->r2t_end = 0;
    request->requested = in_capsule ? length : 0;
    request->digest_error = false;

    struct nvme_tcp_command command = {.common = {.type = NVME_TCP_COMMAND, .header_length = sizeof(command)}, .sqe = *sqe};
    command.sqe.flags = (uint8_t)((command.sqe.flags & ~NVME_FLAG_PSDT_MASK) | NVME_FLAG_PSDT_SGL);
    command.sqe.sgl =
        (struct nvme_sgl){.length = length, .type = in_capsule || length == 0 ? NVME_SGL_OFFSET : NVME_SGL_TRANSPORT};
    if (length == 0 && sqe->opcode != NVME_OPCODE_FABRICS)
        command.sqe.sgl.type = NVME_SGL_TRANSPORT;
    if (in_capsule)
        nvme_tcp_out_prepare(&host->tx, &request->out, &command, slices, slice_count, request->skip, length);
    else
        nvme_tcp_out_prepare(&host->tx, &request->out, &command, NULL, 0, 0, 0);
    nvme_tcp_tx_push(&host->tx, &request->out);
}

/* Queues the next H2CData of what the controller asked for. */
static void h2c_data_push(struct nvme_tcp_host *host, struct nvme_tcp_request *request) {
    uint32_t length = min_u32(request->r2t_end - request->r2t_next, host->h2c_data_limit);
    bool last = request->r2t_next + length == request->r2t_end;
    struct nvme_tcp_data data = {
        .common = {.type = NVME_TCP_H2C_DATA, .flags = last ? NVME_TCP_FLAG_LAST : 0, .header_length = sizeof(data)},
        .cid = request->cid,
        .tag = request->tag,
        .offset = request->r2t_next,
        .length = length,
    };
    nvme_tcp_out_prepare(&host->tx, &request->out, &data, request->slices, request->slice_count,
                         request->skip + request->r2t_next, length);
    request->r2t_next += length;
    nvme_tcp_tx_push(&host->tx, &request->out);
}

void nvme_tcp_host_sent(struct nvme_tcp_host *host, size_t count) {
    nvme_tcp_tx_sent(&host->tx, count);
    for (struct nvme_tcp_out *out; (out = nvme_tcp_tx_take_sent(&host->tx)) != NULL;) {
        if (out->internal)
            continue;
        struct nvme_tcp_request *request = container_of(out, struct nvme_tcp_request, out);
        if (request->state == NVME_TCP_REQUEST_DONE)
            queue_push(&host->done, &request->done_node);
        else if (request->r2t_next < request->r2t_end)
            h2c_data_push(host, request);
    }
}

/* ---- what the controller says ---- */

/* The request that a PDU names: known and sent, else a fault. */
static struct nvme_tcp_request *request_find(struct nvme_tcp_host *host, uint16_t cid, size_t field) {
    struct nvme_tcp_request *request = cid < host->request_count ? host->requests[cid] : NULL;
    if (request != NULL && request->state == NVME_TCP_REQUEST_ACTIVE)
        return request;
    nvme_tcp_rx_fail(&host->rx, NVME_TCP_FES_INVALID_HEADER, (uint32_t)field, "no such command is under way");
    return NULL;
}

/* True if the request's capsule is out: before, the controller cannot know of it. */
static bool request_is_out(struct nvme_tcp_host *host, struct nvme_tcp_request *request) {
    const struct nvme_tcp_common *common = (const struct nvme_tcp_common *)request->out.header;
    if (!request->out.queued || common->type != NVME_TCP_COMMAND)
        return true;
    nvme_tcp_rx_fail(&host->rx, NVME_TCP_FES_SEQUENCE, 0, "an answer to a command that is not sent yet");
    return false;
}

/* The command is done; told when its last data have left too. */
static void request_done(struct nvme_tcp_host *host, struct nvme_tcp_request *request) {
    request->state = NVME_TCP_REQUEST_DONE;
    if (!request->out.queued)
        queue_push(&host->done, &request->done_node);
}

static void icresp_receive(struct nvme_tcp_host *host) {
    struct nvme_tcp_rx *rx = &host->rx;
    const struct nvme_tcp_icresp *response = nvme_tcp_rx_header(rx);
    uint8_t asked = (uint8_t)((host->options.header_digest ? NVME_TCP_DIGEST_HEADER : 0) |
                              (host->options.data_digest ? NVME_TCP_DIGEST_DATA : 0));
    if (response->version != 0)
        nvme_tcp_rx_fail(rx, NVME_TCP_FES_UNSUPPORTED, offsetof(struct nvme_tcp_icresp, version), "PDU format version");
    else if (response->alignment > 31)
        nvme_tcp_rx_fail(rx, NVME_TCP_FES_INVALID_HEADER, offsetof(struct nvme_tcp_icresp, alignment), "payload alignment");
    else if ((response->digests & ~asked) != 0)
        nvme_tcp_rx_fail(rx, NVME_TCP_FES_INVALID_HEADER, offsetof(struct nvme_tcp_icresp, digests), "digests nobody asked for");
    else if (response->h2c_data_limit < NVME_TCP_H2C_DATA_LIMIT_MIN || response->h2c_data_limit % 4 != 0)
        nvme_tcp_rx_fail(rx, NVME_TCP_FES_INVALID_HEADER, offsetof(struct nvme_tcp_icresp, h2c_data_limit), "data limit");
    else {
        host->h2c_data_limit = response->h2c_data_limit;
        host->tx.alignment = (uint8_t)((response->alignment + 1) * 4);
        host->rx.header_digest = host->tx.header_digest = response->digests & NVME_TCP_DIGEST_HEADER;
        host->rx.data_digest = host->tx.data_digest = response->digests & NVME_TCP_DIGEST_DATA;
        host->connected = true;
    }
}

static void response_receive(struct nvme_tcp_host *host) {
    const struct nvme_tcp_response *response = nvme_tcp_rx_header(&host->rx);
    struct nvme_tcp_request *request =
        request_find(host, response->cqe.cid, offsetof(struct nvme_tcp_response, cqe) + offsetof(struct nvme_cqe, cid));
    if (request == NULL || !request_is_out(host, request))
        return;
    request->cqe = response->cqe;
    request->r2t_end = request->r2t_next; /* what was asked for and has not left is not wanted any more */
    request_done(host, request);
}

static void r2t_receive(struct nvme_tcp_host *host) {
    struct nvme_tcp_rx *rx = &host->rx;
    const struct nvme_tcp_r2t *r2t = nvme_tcp_rx_header(rx);
    struct nvme_tcp_request *request = request_find(host, r2t->cid, offsetof(struct nvme_tcp_r2t, cid));
    if (request == NULL || !request_is_out(host, request))
        return;
    if (request->direction != NVME_HOST_TO_CONTROLLER)
        nvme_tcp_rx_fail(rx, NVME_TCP_FES_SEQUENCE, 0, "R2T for a command that sends no data");
    else if (request->out.queued || request->r2t_next < request->r2t_end)
        nvme_tcp_rx_fail(rx, NVME_TCP_FES_LIMIT, 0, "more R2Ts at once than agreed");
    else if (r2t->length == 0 || !range_inside(r2t->offset, r2t->length, request->length))
        nvme_tcp_rx_fail(rx, NVME_TCP_FES_OUT_OF_RANGE, offsetof(struct nvme_tcp_r2t, offset), "R2T out of range");
    else if (r2t->offset != request->requested)
        nvme_tcp_rx_fail(rx, NVME_TCP_FES_INVALID_HEADER, offsetof(struct nvme_tcp_r2t, offset), "R2T out of order");
    else {
        request->tag = r2t->tag;
        request->r2t_next = r2t->offset;
        request->requested = request->r2t_end = r2t->offset + r2t->length;
        h2c_data_push(host, request);
    }
}

static void c2h_data_receive(struct nvme_tcp_host *host) {
    struct nvme_tcp_rx *rx = &host->rx;
    const struct nvme_tcp_data *data = nvme_tcp_rx_header(rx);
    struct nvme_tcp_request *request = request_find(host, data->cid, offsetof(struct nvme_tcp_data, cid));
    if (request == NULL || !request_is_out(host, request))
        return;
    bool last = data->common.flags & NVME_TCP_FLAG_LAST, success = data->common.flags & NVME_TCP_FLAG_SUCCESS;
    if (request->direction != NVME_CONTROLLER_TO_HOST)
        nvme_tcp_rx_fail(rx, NVME_TCP_FES_SEQUENCE, 0, "data for a command that receives none");
    else if (data->length != rx->payload_length || data->length == 0)
        nvme_tcp_rx_fail(rx, NVME_TCP_FES_INVALID_HEADER, offsetof(struct nvme_tcp_data, length), "data length");
    else if (!range_inside(data->offset, data->length, request->length))
        nvme_tcp_rx_fail(rx, NVME_TCP_FES_OUT_OF_RANGE, offsetof(struct nvme_tcp_data, offset), "data out of range");
    else if (data->offset != request->received)
        nvme_tcp_rx_fail(rx, NVME_TCP_FES_INVALID_HEADER, offsetof(struct nvme_tcp_data, offset), "data out of order");
    else if (success && (!last || !host->options.success_flag))
        nvme_tcp_rx_fail(rx, NVME_TCP_FES_INVALID_HEADER, offsetof(struct nvme_tcp_common, flags), "wrong success flag");
    else {
        host->receiving = request;
        host->receiving_last = last;
        host->receiving_success = success;
        nvme_tcp_rx_place(rx, request->slices, request->slice_count, request->skip + request->received);
    }
}

/* Understands a header. True if *ret is an event to tell now. */
static bool header_receive(struct nvme_tcp_host *host, struct nvme_tcp_host_event *ret) {
    struct nvme_tcp_rx *rx = &host->rx;
    if (rx->common.type == NVME_TCP_C2H_TERM) {
        host->controller_fes = ((const struct nvme_tcp_term *)nvme_tcp_rx_header(rx))->fes;
        host->terminated = true;
        ret->type = NVME_TCP_HOST_TERMINATED;
        return true;
    }
    if ((rx->common.type == NVME_TCP_ICRESP) == host->connected || (!host->connected && host->control.queued)) {
        nvme_tcp_rx_fail(rx, NVME_TCP_FES_SEQUENCE, 0, host->connected ? "a second ICResp" : "a PDU before ICResp");
        return false;
    }
    switch (rx->common.type) {
    case NVME_TCP_ICRESP:
        icresp_receive(host);
        ret->type = NVME_TCP_HOST_CONNECTED;
        return host->connected;
    case NVME_TCP_RESPONSE: response_receive(host); break;
    case NVME_TCP_R2T: r2t_receive(host); break;
    case NVME_TCP_C2H_DATA: c2h_data_receive(host); break;
    default: assert(false); /* the framing has checked the type */
    }
    return false;
}

static void payload_receive(struct nvme_tcp_host *host) {
    struct nvme_tcp_request *request = host->receiving;
    host->receiving = NULL;
    request->received += host->rx.payload_length;
    request->digest_error |= host->rx.digest_failed;
    if (host->receiving_success) {
        request->cqe = (struct nvme_cqe){.cid = request->cid};
        request_done(host, request);
    }
}

static bool done_tell(struct nvme_tcp_host *host, struct nvme_tcp_host_event *ret) {
    struct queue_node *node = queue_pop(&host->done);
    if (node == NULL)
        return false;
    ret->type = NVME_TCP_HOST_COMPLETION;
    ret->request = container_of(node, struct nvme_tcp_request, done_node);
    ret->request->state = NVME_TCP_REQUEST_FREE;
    return true;
}

void nvme_tcp_host_next(struct nvme_tcp_host *host, struct nvme_tcp_host_event *ret) {
    *ret = (struct nvme_tcp_host_event){0};
    while (!done_tell(host, ret)) {
        if (host->terminated) {
            ret->type = NVME_TCP_HOST_TERMINATED;
            return;
        }
        switch (nvme_tcp_rx_step(&host->rx)) {
        case NVME_TCP_RX_IS_HELD: /* every payload is placed at once */
        case NVME_TCP_RX_MORE: ret->type = NVME_TCP_HOST_IDLE; return;
        case NVME_TCP_RX_TOLD:
            if (header_receive(host, ret))
                return;
            break;
        case NVME_TCP_RX_COMPLETE: payload_receive(host); break;
        case NVME_TCP_RX_HAS_FAULT:
            ret->type = NVME_TCP_HOST_FAULT;
            if (!host->fault_told && !host->control.queued)
                control_push(host, nvme_tcp_term_write(NVME_TCP_H2C_TERM, &host->rx, host->control_bytes));
            host->fault_told = true;
            return;
        }
    }
}

void nvme_tcp_host_fail(struct nvme_tcp_host *host, enum nvme_tcp_fes fes, uint32_t fei, const char *text) {
    nvme_tcp_rx_fail(&host->rx, fes, fei, text);
}
