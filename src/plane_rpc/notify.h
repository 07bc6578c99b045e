/* Notifications: the last events of a plane, to be polled. Control reactor. */
#pragma once

#include "base/bytes.h"

#define NOTIFY_KEPT 1024
#define NOTIFY_CONTEXT_SIZE 256

struct notify_event {
    const char *type; /* static */
    char context[NOTIFY_CONTEXT_SIZE];
};
struct notify_ring {
    struct notify_event *events; /* event id is at id % NOTIFY_KEPT; made with the first event */
    uint64_t next_id;
};

void notify_ring_fini(struct notify_ring *ring);
void notify_ring_add(struct notify_ring *ring, const char *type, const char *context);
/* The event `*id`, or the oldest kept after it (*id tells which); NULL if there is none yet. */
const struct notify_event *notify_ring_get(const struct notify_ring *ring, uint64_t *id);
