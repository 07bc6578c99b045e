#include "wire/nvme_tcp/target.h"

void nvme_tcp_target_init(struct nvme_tcp_target *target, const struct nvme_tcp_target_options *options, void *staging,
                          uint32_t staging_size) {
    assert(options->h2c_data_limit >= NVME_TCP_H2C_DATA_LIMIT_MIN);
    *target = (struct nvme_tcp_target){.options = *options};
    nvme_tcp_rx_init(&target->rx, true, staging, staging_size);
    nvme_tcp_tx_init(&target->tx);
    target->rx.payload_limit = max_u32(options->h2c_data_limit, options->in_capsule_limit);
}

void nvme_tcp_target_set_transfers(struct nvme_tcp_target *target, struct nvme_tcp_transfer **table, uint16_t count) {
    target->transfers = table;
    target->transfer_count = count;
}

void nvme_tcp_target_set_in_capsule_limit(struct nvme_tcp_target *target, uint32_t bytes) {
    target->options.in_capsule_limit = bytes;
    target->rx.payload_limit = max_u32(target->options.h2c_data_limit, bytes);
}

static void control_push(struct nvme_tcp_target *target, uint32_t length) {
    target->control_slice = (struct slice){target->control_bytes, length};
    target->control.header_length = target->control.trailer_length = 0;
    target->control.payload = &target->control_slice;
    target->control.payload_count = 1;
    target->control.internal = true;
    target->control.payload_length = length;
    nvme_tcp_tx_push(&target->tx, &target->control);
}

/* ---- what the host says ---- */

static bool icreq_receive(struct nvme_tcp_target *target) {
    struct nvme_tcp_rx *rx = &target->rx;
    const struct nvme_tcp_icreq *request = nvme_tcp_rx_header(rx);
    if (request->version != 0) {
        nvme_tcp_rx_fail(rx, NVME_TCP_FES_UNSUPPORTED, offsetof(struct nvme_tcp_icreq, version), "PDU format version");
        return false;
    }
    if (request->alignment > 31) {
        nvme_tcp_rx_fail(rx, NVME_TCP_FES_INVALID_HEADER, offsetof(struct nvme_tcp_icreq, alignment), "payload alignment");
        return false;
    }
    uint8_t digests = request->digests;
    digests &= (uint8_t)((target->options.allow_header_digest ? NVME_TCP_DIGEST_HEADER : 0) |
                         (target->options.allow_data_digest ? NVME_TCP_DIGEST_DATA : 0));
    target->r2t_limit = request->r2t_limit;
    target->tx.alignment = (uint8_t)((request->alignment + 1) * 4);
    struct nvme_tcp_icresp response = {
        .common = {.type = NVME_TCP_ICRESP, .header_length = sizeof(response), .length = sizeof(response)},
        .digests = digests,
        .h2c_data_limit = target->options.h2c_data_limit,
    };
    memcpy(target->control_bytes, &response, sizeof(response));
    control_push(target, sizeof(response));
    target->rx.header_digest = target->tx.header_digest = digests & NVME_TCP_DIGEST_HEADER;
    target->rx.data_digest = target->tx.data_digest = digests & NVME_TCP_DIGEST_DATA;
    target->connected = true;
    return true;
}

static bool command_receive(struct nvme_tcp_target *target, struct nvme_tcp_target_event *ret) {
    const struct nvme_tcp_command *command = nvme_tcp_rx_header(&target->rx);
    if (target->rx.payload_length > target->options.in_capsule_limit) {
        nvme_tcp_rx_fail(&target->rx, NVME_TCP_FES_LIMIT, offsetof(struct nvme_tcp_common, length),
                         "more in-capsule data than the queue takes");
        return false;
    }
    target->receiving = NULL;
    *ret = (struct nvme_tcp_target_event){
        .type = NVME_TCP_TARGET_COMMAND, .sqe = &command->sqe, .payload_length = target->rx.payload_length};
    return true;
}

static bool h2c_data_receive(struct nvme_tcp_target *target) {
    struct nvme_tcp_rx *rx = &target->rx;
    const struct nvme_tcp_data *data = nvme_tcp_rx_header(rx);
    struct nvme_tcp_transfer *transfer = data->tag < target->transfer_count ? target->transfers[data->tag] : NULL;
    /* Until the request is out the host cannot know of it: it guessed the tag. */
    if (transfer == NULL || !transfer->active || transfer->r2t.queued)
        nvme_tcp_rx_fail(rx, NVME_TCP_FES_INVALID_HEADER, offsetof(struct nvme_tcp_data, tag), "no such transfer tag");
    else if (data->cid != transfer->cid)
        nvme_tcp_rx_fail(rx, NVME_TCP_FES_INVALID_HEADER, offsetof(struct nvme_tcp_data, cid), "tag and command do not agree");
    else if (data->length != rx->payload_length)
        nvme_tcp_rx_fail(rx, NVME_TCP_FES_INVALID_HEADER, offsetof(struct nvme_tcp_data, length), "data length");
    else if (data->length > target->options.h2c_data_limit)
        nvme_tcp_rx_fail(rx, NVME_TCP_FES_LIMIT, offsetof(struct nvme_tcp_data, length), "more data in one PDU than agreed");
    else if (!range_inside(data->offset, data->length, transfer->length))
        nvme_tcp_rx_fail(rx, NVME_TCP_FES_OUT_OF_RANGE, offsetof(struct nvme_tcp_data, offset), "data out of range");
    else if (data->offset != transfer->received)
        nvme_tcp_rx_fail(rx, NVME_TCP_FES_INVALID_HEADER, offsetof(struct nvme_tcp_data, offset), "data out of order");
    else if (!!(data->common.flags & NVME_TCP_FLAG_LAST) != (data->offset + data->length == transfer->length))
        nvme_tcp_rx_fail(rx, NVME_TCP_FES_INVALID_HEADER, offsetof(struct nvme_tcp_common, flags), "wrong last-PDU flag");
    else {
        target->receiving = transfer;
        nvme_tcp_rx_place(rx, transfer->slices, transfer->slice_count, transfer->received);
        return true;
    }
    return false;
}

static void term_receive(struct nvme_tcp_target *target) {
    const struct nvme_tcp_term *term = nvme_tcp_rx_header(&target->rx);
    target->host_fes = term->fes;
    target->terminated = true;
}

/* Understands a header. True if *ret is an event to tell now. */
static bool header_receive(struct nvme_tcp_target *target, struct nvme_tcp_target_event *ret) {
    struct nvme_tcp_rx *rx = &target->rx;
    switch (rx->common.type) {
    case NVME_TCP_ICREQ:
        if (target->connected) {
            nvme_tcp_rx_fail(rx, NVME_TCP_FES_SEQUENCE, 0, "a second ICReq");
            return false;
        }
        ret->type = NVME_TCP_TARGET_CONNECTED;
        return icreq_receive(target);
    case NVME_TCP_H2C_TERM:
        term_receive(target);
        ret->type = NVME_TCP_TARGET_TERMINATED;
        return true;
    default: break;
    }
    if (!target->connected) {
        nvme_tcp_rx_fail(rx, NVME_TCP_FES_SEQUENCE, 0, "a PDU before ICReq");
        return false;
    }
    if (rx->common.type == NVME_TCP_COMMAND)
        return command_receive(target, ret);
    assert(rx->common.type == NVME_TCP_H2C_DATA);
    if (rx->payload_length == 0) {
        nvme_tcp_rx_fail(rx, NVME_TCP_FES_INVALID_HEADER, offsetof(struct nvme_tcp_data, length), "no data");
        return false;
    }
    h2c_data_receive(target);
    return false;
}

/* A payload is complete. True if *ret is an event to tell. */
static bool payload_receive(struct nvme_tcp_target *target, struct nvme_tcp_target_event *ret) {
    struct nvme_tcp_transfer *transfer = target->receiving;
    if (transfer == NULL) {
        ret->type = NVME_TCP_TARGET_PAYLOAD;
        ret->digest_error = target->rx.digest_failed;
        return true;
    }
    target->receiving = NULL;
    transfer->received += target->rx.payload_length;
    transfer->digest_error |= target->rx.digest_failed;
    if (transfer->received < transfer->length)
        return false;
    transfer->active = false;
    ret->type = NVME_TCP_TARGET_TRANSFER;
    ret->transfer = transfer;
    ret->digest_error = transfer->digest_error;
    return true;
}

static void fault_tell(struct nvme_tcp_target *target, struct nvme_tcp_target_event *ret) {
    ret->type = NVME_TCP_TARGET_FAULT;
    if (target->fault_told)
        return;
    target->fault_told = true;
    /* The area may still hold the ICResp when the very next PDU is broken; then the connection ends without the reason. */
    if (!target->control.queued)
        control_push(target, nvme_tcp_term_write(NVME_TCP_C2H_TERM, &target->rx, target->control_bytes));
}

void nvme_tcp_target_next(struct nvme_tcp_target *target, struct nvme_tcp_target_event *ret) {
    *ret = (struct nvme_tcp_target_event){0};
    for (;;) {
        if (target->terminated) {
            ret->type = NVME_TCP_TARGET_TERMINATED;
            return;
        }
        switch (nvme_tcp_rx_step(&target->rx)) {
        case NVME_TCP_RX_MORE: ret->type = NVME_TCP_TARGET_IDLE; return;
        case NVME_TCP_RX_IS_HELD: ret->type = NVME_TCP_TARGET_HELD; return;
        case NVME_TCP_RX_HAS_FAULT: fault_tell(target, ret); return;
        case NVME_TCP_RX_TOLD:
            if (header_receive(target, ret))
                return;
            break;
        case NVME_TCP_RX_COMPLETE:
            if (payload_receive(target, ret))
                return;
            break;
        }
    }
}

/* ---- what we say ---- */

void nvme_tcp_target_place(struct nvme_tcp_target *target, const struct slice *slices, uint32_t count) {
    nvme_tcp_rx_place(&target->rx, slices, count, 0);
}

void nvme_tcp_target_discard(struct nvme_tcp_target *target) { nvme_tcp_rx_discard(&target->rx); }

void nvme_tcp_target_request(struct nvme_tcp_target *target, uint16_t tag, uint16_t cid, const struct slice *slices,
                             uint32_t slice_count, uint32_t length) {
    assert(tag < target->transfer_count && length > 0);
    struct nvme_tcp_transfer *transfer = target->transfers[tag];
    assert(!transfer->active && !transfer->r2t.queued);
    transfer->slices = slices;
    transfer->slice_count = slice_count;
    transfer->length = length;
    transfer->received = 0;
    transfer->cid = cid;
    transfer->digest_error = false;
    transfer->active = true;
    struct nvme_tcp_r2t r2t = {
        .common = {.type = NVME_TCP_R2T, .header_length = sizeof(r2t)}, .cid = cid, .tag = tag, .length = length};
    transfer->r2t.internal = true;
    nvme_tcp_out_prepare(&target->tx, &transfer->r2t, &r2t, NULL, 0, 0, 0);
    nvme_tcp_tx_push(&target->tx, &transfer->r2t);
}

static void response_fill(struct nvme_tcp_response *response, const struct nvme_cqe *cqe) {
    *response =
        (struct nvme_tcp_response){.common = {.type = NVME_TCP_RESPONSE, .header_length = sizeof(*response)}, .cqe = *cqe};
}

void nvme_tcp_target_respond(struct nvme_tcp_target *target, struct nvme_tcp_out *out, const struct nvme_cqe *cqe) {
    struct nvme_tcp_response response;
    response_fill(&response, cqe);
    nvme_tcp_out_prepare(&target->tx, out, &response, NULL, 0, 0, 0);
    nvme_tcp_tx_push(&target->tx, out);
}

void nvme_tcp_target_respond_with_data(struct nvme_tcp_target *target, struct nvme_tcp_out *out, const struct nvme_cqe *cqe,
                                       const struct slice *slices, uint32_t slice_count, uint32_t length, bool success_flag) {
    struct nvme_tcp_data data = {
        .common = {.type = NVME_TCP_C2H_DATA,
                   .flags = (uint8_t)(NVME_TCP_FLAG_LAST | (success_flag ? NVME_TCP_FLAG_SUCCESS : 0)),
                   .header_length = sizeof(data)},
        .cid = cqe->cid,
        .length = length,
    };
    nvme_tcp_out_prepare(&target->tx, out, &data, slices, slice_count, 0, length);
    if (!success_flag) {
        struct nvme_tcp_response response;
        response_fill(&response, cqe);
        nvme_tcp_out_append(&target->tx, out, &response);
    }
    nvme_tcp_tx_push(&target->tx, out);
}

struct nvme_tcp_out *nvme_tcp_target_take_sent(struct nvme_tcp_target *target) {
    struct nvme_tcp_out *out = nvme_tcp_tx_take_sent(&target->tx);
    while (out != NULL && out->internal)
        out = nvme_tcp_tx_take_sent(&target->tx);
    return out;
}

struct nvme_tcp_out *nvme_tcp_target_take_unsent(struct nvme_tcp_target *target) {
    struct nvme_tcp_out *out = nvme_tcp_tx_take_unsent(&target->tx);
    while (out != NULL && out->internal)
        out = nvme_tcp_tx_take_unsent(&target->tx);
    return out;
}

void nvme_tcp_target_fail(struct nvme_tcp_target *target, enum nvme_tcp_fes fes, uint32_t fei, const char *text) {
    nvme_tcp_rx_fail(&target->rx, fes, fei, text);
}
