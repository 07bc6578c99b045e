/* Copies and checksums of snapshots: those under way, and copies that have ended and were not asked about since. Control reactor.
 */
#pragma once

#include "blockdev/volume/volume.h"
#include "plane_rpc/plane.h"

#define PLANE_SCANS_MAX 1024

struct plane_scan {
    struct list_node node; /* plane->scans */
    struct plane *plane;
    uint32_t id;           /* of a copy; 0 = a checksum, or not begun */
    struct rpc_call *call; /* that waits for the end of a checksum */
    bool ended;
    struct volume_scan scan;
    uint64_t *units; /* the scan's, freed with it */
    struct volume_unit_sum *sums;
    struct uuid volume;
};

/* Of a snapshot; the rest of `scan` is the caller's to fill. NULL: ERROR_BUSY at the limit, ERROR_NO_MEMORY. */
struct plane_scan *plane_scan_create(struct plane *plane, struct block_device *from, enum volume_scan_what what,
                                     struct error *error);
/* Gives it the next number, by which it is asked for. */
void plane_scan_number(struct plane_scan *scan);
/* It is not under way. */
void plane_scan_free(struct plane_scan *scan);
/* The plane goes: frees all; those under way have ended with their stores. */
void plane_scans_forget(struct plane *plane);
