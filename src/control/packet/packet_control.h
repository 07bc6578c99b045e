/* The packet plane's keeper: the wiring as it is recorded, the plane's supervision, and changes, one after the other. A change is
 * recorded first, then carried out; what the plane refuses is taken back. After a restart of either process the plane is looked
 * at, and what is missing or too much is mended. docs/spp.md.
 *
 * Calling context: the control loop. Must not know: who asks. */
#pragma once

#include "base/list.h"
#include "control/packet/plan.h"
#include "control/packet/processes.h"
#include "control/packet/wiring.h"
#include "control/plane.h"
#include "control/store/store.h"

enum {
    PACKET_CHANGE_MS = 30000,
    PACKET_KEYS_MAX = 64, /* records that a change may touch */
    PACKET_CHANGE_VFS_MAX = 3
};

struct packet_control_options {
    struct reactor *reactor;
    struct log *log;
    struct store *store;
    const char *node;                         /* its part of the keys; stays */
    const char *socket_path, *plane_log_path; /* stay */
    const char *socket_folder;                /* of vhost-user ports; stays */
    bool several;                             /* vfs are processes of the plane */
    struct packet_launch launch;
};

/* A change of the wiring; its owner's memory until `done`, which comes once, from the loop. */
struct packet_change {
    /* Changes the copy, or refuses it (false). May be NULL: nothing but "all is as it is meant to be". */
    bool (*edit)(struct packet_change *change, json_t *wiring, struct error *error);
    void (*done)(struct packet_change *change);
    void *arg;
    unsigned vfs[PACKET_CHANGE_VFS_MAX], vf_count; /* whose processes it is about, should it change nothing; none = all */
    uint32_t patience_ms; /* how long it waits for a process that others have; 0 = up to PACKET_CHANGE_MS */
    /* ---- the answer ---- */
    bool ok;         /* recorded, and what the plane does */
    bool from_plane; /* not ok: the plane's words */
    bool late;       /* not ok: recorded, but the plane, or a process of it, is not there; it follows */
    struct error error;
    uint64_t generation; /* of the plane, 0 = nothing was to be done */
    /* ---- the keeper's ---- */
    struct list_node node;
    bool begun, expired;
    bool waits;            /* for processes of its own, with others going on */
    uint64_t waits_for[2]; /* their vfs, bit by bit */
    json_t *added;         /* while it waits: what ports it added there, as keys */
    struct reactor_timer deadline;
    struct packet_control *control;
};

struct packet_record {
    char key[STORE_KEY_MAX + 1];
    char *value; /* NULL: it goes */
};

struct packet_control {
    struct packet_control_options options;
    struct packet_processes processes;
    struct packet_process *process; /* whose look or command is under way */
    json_t *wiring;                 /* as recorded */
    json_t *before;                 /* the wiring before the change under way; NULL = there is none */
    json_t *next;                   /* being recorded */
    json_t *failed;                 /* ports and vfs that cannot be made, with the reason */
    struct packet_told told;        /* an observation under way */
    json_t *commands;
    size_t command_at, entry_at;
    bool busy, stopping, loaded, reverting;
    bool uncertain; /* whether `next` is recorded is not known: it is recorded again, after `again` */
    uint64_t generation;
    struct error trouble; /* of what it does by itself; code NONE = none */
    struct list changes;
    struct list waiting; /* changes that are recorded, and carried out but in processes that are not there */
    struct list watchers;
    struct plane_call call;
    struct store_request request;
    struct store_op ops[PACKET_KEYS_MAX];
    struct packet_record records[PACKET_KEYS_MAX];
    unsigned record_count;
    char loading_key[128], loading_after[STORE_KEY_MAX + 1];
    struct reactor_timer retry, again;
    struct reactor_job job;
    bool job_queued;
    void (*ready)(void *arg, const struct error *error);
    void *ready_arg;
};

struct packet_watcher {
    struct list_node node;
    void (*changed)(struct packet_watcher *watcher); /* the wiring, or whether the plane is ready */
};

struct packet_control *packet_control_create(const struct packet_control_options *options);
/* Reads the records, then takes up what they say. `ready` comes once, from the loop. */
void packet_control_start(struct packet_control *control, void (*ready)(void *arg, const struct error *error), void *arg);
/* Changes end with ERROR_CANCELLED, from inside; the plane goes on. The store is closed afterwards. */
void packet_control_stop(struct packet_control *control);
/* After the store is closed. */
void packet_control_destroy(struct packet_control *control);

void packet_control_submit(struct packet_control *control, struct packet_change *change);
static inline const json_t *packet_control_wiring(const struct packet_control *control) { return control->wiring; }
/* The next process of the plane that is ready, from place `at` on, which is moved past it; the plane itself comes first. NULL: no
 * more. */
struct control_plane *packet_control_next_plane(struct packet_control *control, unsigned *at);
/* Why what is wired in that process is not carried out; NULL = it is, or nothing is known to the contrary. Until the next turn.
 */
const char *packet_control_trouble(struct packet_control *control, unsigned vf);
static inline void packet_control_watch(struct packet_control *control, struct packet_watcher *watcher) {
    list_push_back(&control->watchers, &watcher->node);
}
