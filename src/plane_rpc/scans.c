#include "plane_rpc/scans.h"

#include <stdlib.h>

struct plane_scan *plane_scan_create(struct plane *plane, struct block_device *from, enum volume_scan_what what,
                                     struct error *error) {
    struct plane_scan *scan = plane->scan_count >= PLANE_SCANS_MAX ? NULL : calloc(1, sizeof(*scan));
    if (scan == NULL) {
        if (plane->scan_count >= PLANE_SCANS_MAX)
            error_set(error, ERROR_BUSY, "%u copies and checksums are under way, or have ended and were not asked about",
                      plane->scan_count);
        else
            error_set(error, ERROR_NO_MEMORY, "no memory to go through %s", from->name);
        return NULL;
    }
    scan->plane = plane;
    scan->volume = from->uuid;
    scan->scan.what = what;
    scan->scan.from = from;
    list_push_back(&plane->scans, &scan->node);
    plane->scan_count++;
    return scan;
}

void plane_scan_number(struct plane_scan *scan) {
    if (++scan->plane->scan_ids == 0)
        scan->plane->scan_ids = 1;
    scan->id = scan->plane->scan_ids;
}

void plane_scan_free(struct plane_scan *scan) {
    list_remove(&scan->node);
    scan->plane->scan_count--;
    free(scan->units);
    free(scan->sums);
    free(scan);
}

void plane_scans_forget(struct plane *plane) {
    list_for_each_safe (&plane->scans, struct plane_scan, scan, node)
        plane_scan_free(scan);
}
