#include "plane_rpc/notify.h"

#include <stdio.h>
#include <stdlib.h>

void notify_ring_fini(struct notify_ring *ring) {
    free(ring->events);
    *ring = (struct notify_ring){0};
}

void notify_ring_add(struct notify_ring *ring, const char *type, const char *context) {
    if (ring->events == NULL)
        ring->events = calloc(NOTIFY_KEPT, sizeof(*ring->events));
    if (ring->events != NULL) {
        struct notify_event *event = &ring->events[ring->next_id % NOTIFY_KEPT];
        event->type = type;
        snprintf(event->context, sizeof(event->context), "%s", context);
    }
    ring->next_id++;
}

const struct notify_event *notify_ring_get(const struct notify_ring *ring, uint64_t *id) {
    uint64_t oldest = ring->next_id > NOTIFY_KEPT ? ring->next_id - NOTIFY_KEPT : 0;
    *id = max_u64(*id, oldest);
    return *id >= ring->next_id || ring->events == NULL ? NULL : &ring->events[*id % NOTIFY_KEPT];
}
