/* What a volume is meant to be, as the state keeps it under /penstock/NODE/volumes/NAME. Pure. */
#pragma once

#include "base/text.h"
#include "control/control.h"

enum {
    FLEET_NAME_MAX = CONTROL_NAME_MAX - 11, /* of a volume: its replicas' names are longer */
    FLEET_REPLICAS_MAX = CONTROL_LEGS_MAX,  /* that a volume may be meant to have */
    FLEET_MEMBERS_MAX = 16,                 /* those that come and go included */
    FLEET_NODES_MAX = 16,
    FLEET_NODE_SIZE = 48 /* a numeric address */
};

enum fleet_phase {
    FLEET_MAKING,
    FLEET_STANDING,
    FLEET_UNMAKING, /* it could not be made: what there is of it goes */
    FLEET_FAILED,   /* it could not be made, and nothing is left of it */
    FLEET_DELETING,
    FLEET_GONE /* never recorded */
};

enum fleet_change { FLEET_STAYS, FLEET_COMES, FLEET_GOES };

/* STANDING: a revert to a snapshot that was begun. It needs an engine without frontend, which no host can write to. */
enum fleet_revert {
    FLEET_NO_REVERT,
    FLEET_REVERTING, /* the engine is to be reverted, once or again */
    FLEET_RESTORING  /* it was, or will not be (failure: why): frontend and target come back, and it is never done again */
};

/* Whether it begins as a snapshot of another volume of this node: copied to its engine before hosts find it. */
enum fleet_clone { FLEET_NO_CLONE, FLEET_CLONING, FLEET_CLONED };

/* A replica: where it is, and whether it comes or goes. */
struct fleet_member {
    char name[CONTROL_NAME_MAX + 1], node[FLEET_NODE_SIZE], disk[CONTROL_NAME_MAX + 1];
    enum fleet_change change;
    char address[CONTROL_ADDRESS_SIZE]; /* reverting: where the engine reached it before; "" = it is asked */
};

struct fleet_record {
    char name[CONTROL_NAME_MAX + 1], frontend[24];
    uint64_t bytes, wanted_bytes; /* they differ while it is being expanded */
    unsigned replicas;            /* how many it is meant to have */
    bool replace;                 /* one lost for good is replaced */
    bool abandon;                 /* going: what is on nodes that do not answer is left there */
    enum fleet_phase phase;
    struct fleet_member members[FLEET_MEMBERS_MAX];
    unsigned member_count;
    char nodes[FLEET_NODES_MAX][FLEET_NODE_SIZE]; /* which may have its replicas */
    unsigned node_count;
    enum fleet_revert revert;
    char snapshot[CONTROL_NAME_MAX + 1]; /* to which */
    bool served; /* its own engine did, before the revert touched it: claims since are what is left of it */
    enum fleet_clone clone;
    char source[CONTROL_NAME_MAX + 1], source_snapshot[CONTROL_NAME_MAX + 1]; /* of which it is one */
    char failure[256];                                                        /* UNMAKING, FAILED, RESTORING: why */
};

/* What does not fit is cut off. */
static inline void fleet_copy(char *to, size_t size, const char *from) {
    size_t length = strnlen(from, size - 1);
    memcpy(to, from, length);
    to[length] = '\0';
}

/* False: no memory. */
bool fleet_record_write(const struct fleet_record *record, struct text *to);
/* False: error says what is wrong; the store may have been written to by others. */
bool fleet_record_read(const char *value, size_t length, struct fleet_record *ret_record, struct error *error);

/* The member of that name; NULL = none. */
struct fleet_member *fleet_record_member(struct fleet_record *record, const char *name);
void fleet_record_drop(struct fleet_record *record, struct fleet_member *member);
/* Something is left to be done about it. */
bool fleet_record_is_settled(const struct fleet_record *record);

/* The names of a volume's parts. */
void fleet_engine_name(const struct fleet_record *record, char to[CONTROL_NAME_MAX + 1]);
void fleet_frontend_name(const struct fleet_record *record, char to[CONTROL_NAME_MAX + 1]);
/* A replica's: ends in "-r-" and eight letters or digits, as replicas' names do, the first of which is a p: that is no digit of
 * the random numbers by which others name theirs, so that ours are known wherever they are found. */
void fleet_replica_name(const struct fleet_record *record, uint32_t random, char to[CONTROL_NAME_MAX + 1]);
/* The length of the volume's name in the name of something that was made for it; 0 = it was not. */
size_t fleet_volume_of(const char *name, const char **ret_kind);
