#include "load/copy.h"

#include <inttypes.h>
#include <stdlib.h>

#include "block/device.h"

struct piece {
    struct load_copy *copy;
    struct host_file_request file;
    struct block_request block;
    struct slice file_slice, block_slice;
    void *buffer;
    uint64_t at, length; /* bytes from the start; length before padding */
};

struct load_copy {
    struct block_channel *channel;
    struct host_file *file;
    bool to_device;
    uint64_t device_offset, bytes, next, started_ns;
    unsigned running;
    void (*done)(void *arg, const struct load_copy_result *result);
    void *arg;
    struct load_copy_result result;
    struct block_request flush;
    struct piece pieces[LOAD_COPY_DEPTH];
};

static void piece_begin(struct piece *piece);

static void end(struct load_copy *copy) {
    copy->result.elapsed_ns = host_now_ns(block_channel_reactor(copy->channel)->host) - copy->started_ns;
    copy->result.ok = copy->result.error.code == ERROR_NONE;
    for (unsigned i = 0; i < LOAD_COPY_DEPTH; i++)
        free(copy->pieces[i].buffer);
    copy->done(copy->arg, &copy->result);
    free(copy);
}

static void flushed(struct block_request *request) {
    struct load_copy *copy = container_of(request, struct load_copy, flush);
    if (request->status != IO_OK)
        error_set(&copy->result.error, ERROR_IO, "flushing the device: %s", io_status_words(request->status));
    end(copy);
}

static void piece_end(struct piece *piece) {
    struct load_copy *copy = piece->copy;
    if (--copy->running > 0)
        return;
    if (!copy->to_device || copy->result.error.code != ERROR_NONE) {
        end(copy);
        return;
    }
    copy->flush = (struct block_request){.op = BLOCK_FLUSH, .complete = flushed};
    block_submit(copy->channel, &copy->flush);
}

static void fail(struct piece *piece, const char *what, const char *why) {
    if (piece->copy->result.error.code == ERROR_NONE)
        error_set(&piece->copy->result.error, ERROR_IO, "%s at byte %" PRIu64 ": %s", what, piece->at, why);
    piece_end(piece);
}

static void block_start(struct piece *piece);
static void file_start(struct piece *piece);

static void moved(struct piece *piece) {
    piece->copy->result.bytes += piece->length;
    piece_begin(piece);
}

static void block_done(struct block_request *request) {
    struct piece *piece = container_of(request, struct piece, block);
    if (request->status != IO_OK)
        fail(piece, piece->copy->to_device ? "writing the device" : "reading the device", io_status_words(request->status));
    else if (piece->copy->to_device)
        moved(piece);
    else
        file_start(piece);
}

static void file_done(struct host_file_request *request) {
    struct piece *piece = container_of(request, struct piece, file);
    if (request->result != (int64_t)piece->length)
        fail(piece, piece->copy->to_device ? "reading the file" : "writing the file",
             request->result < 0 ? error_facts(error_from_errno((int)request->result))->errno_text : "it ended early");
    else if (piece->copy->to_device)
        block_start(piece);
    else
        moved(piece);
}

static void block_start(struct piece *piece) {
    struct load_copy *copy = piece->copy;
    uint64_t padded = round_up(piece->length, block_device_block_size(block_channel_device(copy->channel)));
    if (copy->to_device)
        memset((char *)piece->buffer + piece->length, 0, padded - piece->length);
    piece->block_slice = (struct slice){piece->buffer, padded};
    piece->block = (struct block_request){.op = copy->to_device ? BLOCK_WRITE : BLOCK_READ,
                                          .slices = &piece->block_slice,
                                          .slice_count = 1,
                                          .offset = copy->device_offset + piece->at,
                                          .length = padded,
                                          .complete = block_done};
    block_submit(copy->channel, &piece->block);
}

static void file_start(struct piece *piece) {
    struct load_copy *copy = piece->copy;
    piece->file_slice = (struct slice){piece->buffer, piece->length};
    piece->file = (struct host_file_request){.file = copy->file,
                                             .op = copy->to_device ? HOST_FILE_READ : HOST_FILE_WRITE,
                                             .slices = &piece->file_slice,
                                             .slice_count = 1,
                                             .offset = piece->at,
                                             .length = piece->length,
                                             .complete = file_done};
    host_file_submit(block_channel_reactor(copy->channel)->loop, &piece->file);
}

static void piece_begin(struct piece *piece) {
    struct load_copy *copy = piece->copy;
    if (copy->next == copy->bytes || copy->result.error.code != ERROR_NONE) {
        piece_end(piece);
        return;
    }
    piece->at = copy->next;
    piece->length = min_u64(LOAD_COPY_PIECE, copy->bytes - copy->next);
    copy->next += piece->length;
    if (copy->to_device)
        file_start(piece);
    else
        block_start(piece);
}

bool load_copy_start(struct block_channel *channel, struct host_file *file, bool to_device, uint64_t device_offset,
                     uint64_t bytes, void (*done)(void *arg, const struct load_copy_result *result), void *arg,
                     struct error *error) {
    const struct block_device *device = block_channel_device(channel);
    uint32_t block = block_device_block_size(device);
    if (bytes == 0)
        return error_invalid(error, "length", "0", "at least one byte");
    if (device_offset % block != 0 || bytes > block_device_size(device) ||
        !range_inside(device_offset, round_up(bytes, block), block_device_size(device)))
        return error_set(error, ERROR_NO_SPACE, "%" PRIu64 " bytes at %" PRIu64 " do not fit the device's %" PRIu64, bytes,
                         device_offset, block_device_size(device));
    struct load_copy *copy = calloc(1, sizeof(*copy));
    if (copy == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory to copy");
    *copy = (struct load_copy){.channel = channel,
                               .file = file,
                               .to_device = to_device,
                               .device_offset = device_offset,
                               .bytes = bytes,
                               .done = done,
                               .arg = arg,
                               .running = LOAD_COPY_DEPTH,
                               .started_ns = host_now_ns(block_channel_reactor(channel)->host)};
    for (unsigned i = 0; i < LOAD_COPY_DEPTH; i++) {
        copy->pieces[i].copy = copy;
        copy->pieces[i].buffer = aligned_alloc(BUFFER_ALIGNMENT, LOAD_COPY_PIECE);
        if (copy->pieces[i].buffer == NULL) {
            for (unsigned j = 0; j < i; j++)
                free(copy->pieces[j].buffer);
            free(copy);
            return error_set(error, ERROR_NO_MEMORY, "no memory to copy");
        }
    }
    for (unsigned i = 0; i < LOAD_COPY_DEPTH; i++)
        piece_begin(&copy->pieces[i]);
    return true;
}
