/* Names as Longhorn makes them, and their parts. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/uuid.h"

#define NAMES_HEAD "volume-head" /* the head, among snapshots */
#define NAMES_NQN_PREFIX "nqn.2023-01.io.longhorn.spdk:"
#define NAMES_REPLICA_HOST NAMES_NQN_PREFIX "internal-host" /* who may connect to replicas */
enum { NAMES_NQN_SIZE = 224, NAMES_VOLUME_SIZE = 128 };

/* A name of ours: 1 to CONTROL_NAME_MAX printable characters without blanks and '/', no part of it reserved. `field` is named in
 * the error. */
bool names_check(const char *name, const char *field, struct error *error);
/* "…-r-" and eight letters or digits: what replicas are recognised by on a disk. */
bool names_is_replica(const char *volume);
/* The replica that a volume on a disk belongs to by its name: its head, a snapshot, or what a rebuild, a clone or a return left.
 * The length of the replica's name; 0 = none. */
size_t names_replica_of(const char *volume);
/* The snapshot's own name in "REPLICA-snap-NAME"; NULL: the volume is no snapshot of this replica. */
const char *names_snapshot(const char *volume, const char *replica);
/* False: too long. */
bool names_make_snapshot(const char *replica, const char *snapshot, char to[NAMES_VOLUME_SIZE]);
/* "REPLICA-rebuilding": what a rebuild copies into, "-cloning": what a clone does. */
#define NAMES_REBUILDING "-rebuilding"
#define NAMES_REBUILDING_HEAD "-rebuilding-head"
#define NAMES_CLONING "-cloning"
#define NAMES_EXPIRED "-expired-"
/* How it was before it returned to its mirror: until it is whole, and hidden from its tree. */
#define NAMES_KEPT "-before-sync"
/* The controller through which a replica that is rebuilt reads the source's snapshot. */
#define NAMES_SOURCE "-source"
/* False: too long. */
bool names_make_tailed(const char *replica, const char *tail, char to[NAMES_VOLUME_SIZE]);
/* The controller through which an engine reaches a replica, and the device that it makes. What tells replicas of one volume apart
 * comes first: a mirror's records keep 27 bytes of a leg's name. */
enum { NAMES_LEG_SIZE = 160 };
void names_make_controller(const char *replica, const char *engine, char to[NAMES_LEG_SIZE]);
void names_make_leg(const char *replica, const char *engine, char to[NAMES_LEG_SIZE]);
/* The subsystem of a volume's engines. */
void names_make_volume_nqn(const char *volume, char to[NAMES_NQN_SIZE]);
/* What hosts know a volume by, from its name alone: the same on every node that ever offers it. */
struct names_identity {
    char uuid[UUID_TEXT_SIZE]; /* of the namespace, and of the mirror */
    char nguid[33], serial[21];
};
void names_make_identity(const char *volume, struct names_identity *ret_identity);
/* The controller ids of an engine's target: engines of one volume whose names end in different numbers (…-e-0, …-e-1) have
 * disjoint ranges, since hosts refuse two controllers of one id. Of names without a number it is as luck has it. */
void names_make_cntlids(const char *engine, uint16_t *ret_min, uint16_t *ret_max);

#define NAMES_ANA_OPTIMIZED "optimized"
#define NAMES_ANA_INACCESSIBLE "inaccessible"
/* As the plane calls the state ("non_optimized"); NULL: there is no such state. */
const char *names_ana(const char *state);
void names_make_nqn(const char *replica, char to[NAMES_NQN_SIZE]);
