/* A capture's way into a file or pipe: looked at now and then, written in helper threads, so that neither workers nor the control
 * reactor ever wait for a disk. docs/packet.md, "Captures".
 * Calling context: the control reactor. Must not know: ports, JSON-RPC, libpcap. */
#pragma once

#include "packet/capture.h"
#include "packet/plane.h"

struct capture_file_options {
    const char *path;
    const char *filter; /* NULL = all frames */
    bool rx, tx;
    uint32_t snap;
    uint64_t limit_bytes; /* of the file; what comes after is lost */
};

struct capture_file {
    struct reactor *control;
    struct packet_backend *backend;
    char *path, *filter; /* as given; filter NULL = none */
    bool rx, tx;
    uint32_t snap;
    uint64_t limit_bytes;
    struct capture *capture; /* what the model refers to */
    struct packet_sink *sink;
    struct reactor_timer timer;
    struct host_job job;
    struct error error; /* of opening */
    uint8_t *buffer;    /* the job's, while one runs */
    size_t pending_at, pending;
    bool job_runs, ends;
    _Atomic uint64_t written;         /* bytes */
    _Atomic bool full;                /* the limit is reached */
    _Atomic int failure;              /* -errno of the last write; nothing is written any more */
    void (*done)(void *arg, bool ok); /* of the step under way */
    void *arg;
};

/* Opens the file and makes the capture; `done` from the loop: ok, or file->error, and the caller destroys it. NULL: no memory. */
struct capture_file *capture_file_open(struct reactor *control, struct packet_backend *backend,
                                       const struct capture_file_options *options, void (*done)(void *arg, bool ok), void *arg);
/* From now on what is captured is written. */
void capture_file_start(struct capture_file *file);
/* No worker has the capture any more: writes the rest and closes; then `done`, and the caller destroys it. */
void capture_file_stop(struct capture_file *file, void (*done)(void *arg, bool ok), void *arg);
void capture_file_destroy(struct capture_file *file);
