/* The checker behind penstock-fsck: every invariant of docs/volume-format.md, on a disk that nobody writes. It shares the format
 * with the store and nothing else: it reads all metadata, replays the journal into memory, and counts by itself. Never writes.
 * Calling context: any; `read` is called from inside. */
#pragma once

#include "base/error.h"
#include "base/text.h"
#include "base/uuid.h"

struct volume_check {
    /* The caller's: the disk. False if the range cannot be read. */
    bool (*read)(void *arg, uint64_t offset, void *to, size_t length);
    void *arg;
    uint64_t size;  /* bytes */
    unsigned limit; /* problems described in `report`; all are counted */

    /* Results. */
    unsigned problems;  /* 0 = clean */
    struct text report; /* a line a problem; text_fini() it */
    struct uuid uuid;
    char name[128];
    uint64_t generation, records; /* records: replayed */
    uint64_t layers, volumes, data_clusters, node_clusters, free_clusters;
    bool clean_close;
};

/* False: there is no store to check, *error says why (ERROR_FOREIGN, ERROR_UNSUPPORTED, ERROR_NO_MEMORY, ERROR_DAMAGED: no valid
 * superblock or index). True: checked, see problems. */
bool volume_check_run(struct volume_check *check, struct error *error);
