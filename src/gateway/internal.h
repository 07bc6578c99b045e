/* What the files of the gateway share. Nobody outside this folder includes it. */
#pragma once

#include "api/proto/penstock/v1/volume.pb-c.h"
#include "api/proto/spdkrpc/replica.pb-c.h"
#include "gateway/gateway.h"
#include "grpc/channel.h"

struct gateway_scratch;
typedef void gateway_handler(struct grpc_call *call, const ProtobufCMessage *request);

struct gateway {
    struct gateway_options options;
    struct grpc_service service;
    struct list watches, quiet_watches, volume_watches;
    struct list rate_calls, looks; /* rates.c */
    uint64_t began_ns;
    struct list peers;            /* peer.c */
    struct list switches;         /* switch.c */
    struct list rebuilds, clones; /* rebuild.c, clone.c: into replicas of this node */
    struct list engine_rebuilds;  /* engine_rebuild.c: by engines of this node */
    struct list engine_clones;    /* engine_clone.c: likewise */
    bool stopping;
    struct grpc_method methods[];
};

static inline struct gateway *gateway_of(const struct grpc_call *call) { return call->service_arg; }

/* A call that waits for a goal. */
struct gateway_pending {
    struct control_goal goal;
    struct grpc_call *call;
    const ProtobufCMessage *request;
    void (*answer)(struct gateway_pending *pending);  /* the goal is reached */
    bool (*failed)(struct gateway_pending *pending);  /* it is not; true: the call is somebody else's now. NULL: it ends so */
    gateway_handler *then;                            /* of gateway_refresh() */
    struct control_leg_record legs[CONTROL_LEGS_MAX]; /* of an engine */
    char text[256];                                   /* why a frontend could not be made */
    bool plain_errors; /* what has a code of its own elsewhere is UNKNOWN here, as its callers know it */
};

/* With all texts empty. */
void gateway_goal_init(struct control_goal *goal, enum control_verb verb, const char *name,
                       void (*done)(struct control_goal *goal));
/* A goal of `verb` for the call, not started. NULL: the call was ended. */
struct gateway_pending *gateway_pend(struct grpc_call *call, const ProtobufCMessage *request, enum control_verb verb,
                                     const char *name, void (*answer)(struct gateway_pending *pending));
void gateway_start(struct gateway_pending *pending);
/* `then` has the call as soon as what is known of `name` ("" = of everything) is not older than a second, or cannot be had: at
 * once, or from the loop. */
void gateway_refresh(struct grpc_call *call, const ProtobufCMessage *request, const char *name, gateway_handler *then);
/* The same for a SnapshotRequest, and started. */
void gateway_snapshot_call(struct grpc_call *call, const ProtobufCMessage *message, enum control_verb verb,
                           void (*answer)(struct gateway_pending *pending));
/* An answer without content. */
void gateway_answer_empty(struct gateway_pending *pending);
void gateway_reply_empty(struct grpc_call *call);
/* What is wrong, in one line. */
const char *gateway_error_text(const struct error *error, char to[256]);
void gateway_fail(struct grpc_call *call, const struct error *error, bool plain_errors);

/* rates.c */
void gateway_rates_end(struct gateway *gateway);  /* with gateway_stop() */
void gateway_rates_fini(struct gateway *gateway); /* with gateway_destroy() */
gateway_handler gateway_metrics_get;
/* own.c, volume.c */
extern const struct grpc_service gateway_own_service, gateway_volume_service;
/* A volume as its message, which lives as long as the scratch and the observation. */
Penstock__V1__Volume *gateway_put_volume(const struct gateway *gateway, const struct fleet_volume *volume,
                                         struct gateway_scratch *scratch);
/* volume_watch.c, leftovers.c */
gateway_handler gateway_watch_volumes, gateway_list_leftovers;
void gateway_volume_watches_end(struct gateway *gateway);

/* A question to another node's penstockd. */
struct gateway_ask {
    void (*done)(struct gateway_ask *ask, const ProtobufCMessage *answer); /* NULL: status and text say why; valid inside */
    enum grpc_status status;
    char text[256];
    /* peer.c's */
    struct grpc_channel_call call;
    struct reactor_job job;
    const ProtobufCMessageDescriptor *receives;
    uint8_t *bytes;
    size_t length;
    char path[96];
};
/* `address`: of anything of that node, "IP:PORT"; `request` is sent before this returns. `done` comes from the loop. */
void gateway_ask(struct gateway *gateway, struct gateway_ask *ask, const char *address, const char *method,
                 const ProtobufCMessage *request, const ProtobufCMessageDescriptor *receives, uint64_t timeout_ms);
/* The same of a node by its numeric address. A method of another service than Longhorn's is given as its path. */
void gateway_ask_node(struct gateway *gateway, struct gateway_ask *ask, const char *node, const char *method,
                      const ProtobufCMessage *request, const ProtobufCMessageDescriptor *receives, uint64_t timeout_ms);
/* Questions under way end with UNAVAILABLE, inside. */
void gateway_peers_end(struct gateway *gateway);

/* A copy that the source's node makes into a scratch volume of this one: begun there, asked about until it ends. */
struct gateway_pull {
    const char *replica, *source, *source_address, *snapshot; /* stay */
    bool deep;                                                /* for a clone, not for a rebuild */
    void (*done)(struct gateway_pull *pull, bool ok);         /* !ok: failure. From the loop */
    void (*begun)(struct gateway_pull *pull);                 /* the source has taken it on; may be NULL */
    enum grpc_status status;                                  /* of the call that failed; OK: the copy itself has */
    char failure[256];
    uint64_t handled, total; /* clusters */
    /* pull.c's */
    struct gateway *gateway;
    struct gateway_ask ask;
    struct reactor_timer timer;
    unsigned silent; /* answers that did not come, in a row */
};
/* `scratch`: where it is exported; `clusters`: count of them, NULL = what the snapshot holds. */
void gateway_pull_start(struct gateway *gateway, struct gateway_pull *pull, const char *scratch, const uint64_t *clusters,
                        size_t count);
/* Between two questions: true, and nothing follows. Else `done` follows. */
bool gateway_pull_stop(struct gateway_pull *pull);

/* Memory of one answer; zeroed, it has none yet. */
struct gateway_scratch {
    struct gateway_scratch_piece *pieces; /* the newest first */
    uint8_t *at;
    size_t left;
};
/* Zeroed; never NULL. */
void *gateway_scratch_take(struct gateway_scratch *scratch, size_t count, size_t size);
void gateway_scratch_free(struct gateway_scratch *scratch);

/* A replica as its message, which lives as long as the scratch and the observation. */
Spdkrpc__Replica *gateway_put_replica(const struct gateway *gateway, const struct control_replica *replica,
                                      struct gateway_scratch *scratch);

/* disk.c, node.c */
gateway_handler gateway_disk_create, gateway_disk_get, gateway_disk_delete, gateway_disk_health_get;
/* watch.c */
void gateway_watches_end(struct gateway *gateway);
gateway_handler gateway_replica_watch, gateway_engine_watch, gateway_frontend_watch;
/* blockdev.c */
void gateway_attach(struct grpc_call *call, const ProtobufCMessage *request, const char *name,
                    void (*attached)(struct grpc_call *call, const ProtobufCMessage *request, const struct error *error));
/* EngineFrontendSnapshotCreate, with the device suspended meanwhile. */
void gateway_snapshot_frozen(struct grpc_call *call, const ProtobufCMessage *request, const char *name);
/* frontend.c */
gateway_handler gateway_frontend_create, gateway_frontend_delete, gateway_frontend_get, gateway_frontend_list,
    gateway_frontend_expand, gateway_frontend_snapshot_create, gateway_frontend_snapshot_delete, gateway_frontend_snapshot_purge,
    gateway_frontend_snapshot_revert, gateway_frontend_replica_add;
/* pause.c */
gateway_handler gateway_pause_engine, gateway_resume_engine, gateway_frontend_suspend, gateway_frontend_resume;
/* switch.c */
gateway_handler gateway_frontend_switch_over;
/* What was under way when the daemon ended is brought to an end. */
void gateway_switches_resume(struct gateway *gateway);
void gateway_switches_end(struct gateway *gateway); /* with gateway_stop() */
/* engine.c */
gateway_handler gateway_engine_set_ana;
gateway_handler gateway_engine_create, gateway_engine_delete, gateway_engine_get, gateway_engine_list, gateway_engine_expand,
    gateway_engine_expand_precheck, gateway_engine_snapshot_create, gateway_engine_snapshot_delete,
    gateway_engine_snapshot_revert, gateway_engine_snapshot_max_count_set, gateway_engine_replica_add,
    gateway_engine_replica_delete, gateway_engine_replica_list;
/* engine_copy.c */
gateway_handler gateway_note_engine, gateway_get_rebuild, gateway_limit_rebuild;
/* ReplicaSnapshotCloneDstStatusCheck of a replica that is not cloned into itself: its engine may be. */
void gateway_check_engine_clone(struct grpc_call *call, const struct control_replica *replica);
/* A replica was added to an engine: its node is told, then the call is answered. */
void gateway_answer_added(struct gateway_pending *pending);
/* The engine that has the replica is asked, and the call will be answered. False: none is known. */
bool gateway_check_engine(struct grpc_call *call, const struct control_replica *replica);
bool gateway_limit_engine(struct grpc_call *call, const struct control_replica *replica, uint64_t bytes_per_s);
/* engine_rebuild.c */
/* EngineReplicaAdd of a replica that turned out to keep no record: true, and the call will be answered. */
bool gateway_rebuild_by_calls(struct gateway_pending *pending);
/* Such a replica was taken away from its engine before it was whole: nodes are told. */
void gateway_rebuild_over(struct gateway *gateway, const char *engine, const struct control_leg_record *leg);
void gateway_engine_rebuilds_end(struct gateway *gateway);
/* engine_clone.c */
gateway_handler gateway_engine_snapshot_clone, gateway_get_clone;
void gateway_engine_clones_end(struct gateway *gateway);
/* engine_all.c */
gateway_handler gateway_engine_snapshot_hash, gateway_engine_snapshot_hash_status, gateway_engine_snapshot_purge;
/* copy.c: this node has the source. */
gateway_handler gateway_source_start, gateway_source_finish, gateway_source_copy, gateway_source_range_copy, gateway_source_check,
    gateway_clone_source_start, gateway_clone_source_check, gateway_clone_source_finish;
/* "IP:PORT" of this node. */
void gateway_put_address(const struct gateway *gateway, uint16_t port, char to[CONTROL_ADDRESS_SIZE]);
/* rebuild_calls.c, rebuild.c: this node has the destination. */
gateway_handler gateway_rebuild_start, gateway_rebuild_copy, gateway_rebuild_check, gateway_rebuild_snapshot,
    gateway_rebuild_finish, gateway_rebuild_limit;
void gateway_rebuilds_end(struct gateway *gateway);
/* clone.c: this node has the destination. */
gateway_handler gateway_clone_start, gateway_clone_check;
void gateway_clones_end(struct gateway *gateway);
/* hash.c */
gateway_handler gateway_snapshot_hash, gateway_snapshot_hash_status, gateway_snapshot_range_hash_get;
/* replica.c */
gateway_handler gateway_replica_create, gateway_replica_delete, gateway_replica_get, gateway_replica_list, gateway_replica_expand,
    gateway_snapshot_create, gateway_snapshot_delete, gateway_snapshot_revert, gateway_snapshot_purge;
gateway_handler gateway_log_set_level, gateway_log_get_level, gateway_log_set_flags, gateway_log_get_flags,
    gateway_version_detail_get;
