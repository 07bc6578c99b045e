/* Frames of a port, copied aside by the workers that move them, on their way to a file (packet/capture_file.h). One ring a
 * direction, since a port's reader and writer are different workers; what does not fit is counted. docs/packet.md, "Captures".
 * Pure; workers write, a helper thread reads. Must not know: files, how a filter is made. */
#pragma once

#include <stdatomic.h>

#include "packet/packet.h"

enum capture_direction { CAPTURE_RX, CAPTURE_TX, CAPTURE_DIRECTION_COUNT };

/* Which frames are wanted; made by the backend. */
struct capture_filter {
    /* `length` bytes of the frame, of which `here` are at `data`. Any worker. */
    bool (*match)(const struct capture_filter *filter, const uint8_t *data, uint32_t length, uint32_t here);
    void (*destroy)(struct capture_filter *filter);
};

/* Records, as a file has them, one after the other. */
struct capture_ring {
    uint8_t *bytes;
    _Alignas(64) _Atomic uint64_t tail;        /* what was ever put in, bytes; the worker's */
    _Alignas(64) _Atomic uint64_t head;        /* what was ever taken out; the reader's */
    _Alignas(64) _Atomic uint64_t taken, lost; /* frames; the worker's */
};

#define CAPTURE_RING_SIZE (UINT64_C(1) << 20)
#define CAPTURE_SNAP_MAX 2048
#define CAPTURE_RECORD_SIZE 16 /* before a frame's bytes */
#define CAPTURE_FILE_HEADER_SIZE 24

struct capture {
    unsigned refs; /* control reactor */
    bool wanted[CAPTURE_DIRECTION_COUNT];
    uint32_t snap;                 /* bytes of a frame that are kept at most */
    int64_t wall_offset_ns;        /* from the workers' time to the calendar's */
    struct capture_filter *filter; /* NULL = all frames */
    struct capture_ring rings[CAPTURE_DIRECTION_COUNT];
};

/* Takes the filter over, also when there is no memory (NULL). */
struct capture *capture_create(bool rx, bool tx, uint32_t snap, int64_t wall_offset_ns, struct capture_filter *take_filter);
/* The last one frees it. Control reactor. */
void capture_unref(struct capture *capture);
/* Copies what is wanted of these frames. The worker of that direction. */
void capture_frames(struct capture *capture, enum capture_direction direction, uint64_t now_ns, struct packet *const *packets,
                    unsigned count);
/* What a file begins with: pcap, nanoseconds, Ethernet. */
void capture_file_header(uint8_t to[CAPTURE_FILE_HEADER_SIZE], uint32_t snap);
/* Takes whole records out, of both directions by time, `size` bytes at most; returns how many. One reader at a time, any thread.
 */
size_t capture_read(struct capture *capture, uint8_t *to, size_t size);
