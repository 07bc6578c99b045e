/* One life of a store: a world, a disk with some content, the store opened on it, and what a user does with it one step at a
 * time. Ends by session_crash() or session_close(). */
#pragma once

#include "blockdev/volume/volume.h"
#include "disk.h"
#include "model.h"
#include "world.h"

struct store_options {
    struct disk_options disk;
    uint64_t disk_bytes;
    uint64_t journal_bytes;    /* 0 = the store's choice */
    uint64_t checkpoint_bytes; /* 0 = the store's choice */
    uint64_t cache_bytes;
    uint32_t unit_bytes; /* 0 = 4 KiB */
};

struct session {
    struct world world;
    struct block_graph graph;
    struct disk *disk;
    struct volume_store *store; /* NULL = not open */
    const struct store_options *options;
    struct error error; /* of the last step that failed */
};

/* A world with the disk in it; no store yet. `inherited`: writes that an earlier process left in the disk's cache. */
void session_start(struct session *session, const struct store_options *options, const struct disk_image *image, uint64_t seed,
                   bool logging);
/* Each false with session->error. */
bool session_format(struct session *session);
bool session_open(struct session *session);
bool session_close_store(struct session *session);
/* The process is killed: its memory goes. The disk's content and log stay until session_end(). */
void session_crash(struct session *session);
/* After a crash, or after session_close_store(): frees the rest. */
void session_end(struct session *session);

/* Runs a command to its end; its `ok`. */
bool session_command(struct session *session, void (*call)(struct volume_command *), struct volume_command *command);

/* Open volume device. */
struct port {
    struct block_handle handle;
    struct block_channel *channel; /* NULL = closed */
};
bool port_open(struct session *session, struct port *port, const struct uuid *uuid, bool read_only);
void port_close(struct port *port);

#define SESSION_UUID_FILLER 0xf1 /* first byte: a volume whose content is not looked at */
void session_uuid(uint32_t number, struct uuid *ret_uuid);
void session_name(uint64_t number, char name[MODEL_NAME_SIZE]);

/* Everything that the store shows. False with session->error if it cannot be read. */
bool session_find(struct session *session, const struct model *model, bool whole, struct model_found **ret_found,
                  uint32_t *ret_count);
void session_found_free(struct model_found *found, uint32_t count);
/* The checker on the disk as it reads now; false with the report's beginning in session->error. */
bool session_check(struct session *session);
