/* From what the packet plane has to what it is meant to have: the next commands. What is there is kept in compile.h's form, but
 * that of a port only its kind and where it is are known: {"kind", "where"}. Pure. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

/* What the plane told. */
struct packet_told {
    json_t *workers;                  /* of packet_get_status */
    json_t *vfs, *ports, *components; /* the results of packet_get_vfs, packet_get_ports, packet_get_components */
    json_t *entries;                  /* by name, for each classifier that of packet_get_classifier */
};
/* NULL: no memory, or an answer that is not one. */
json_t *packet_observed(const struct packet_told *told);

/* Commands in their order, an array of [method, parameters]; empty: all is as it is meant to be. `failed`: names of ports and
 * vfs (packet_vf_name) that could not be made, as keys; they are left out with all that needs them. What is on the way of
 * something else goes first, so that each command is one that the plane takes. `retag`: the plane can change what is done to a
 * port's tags without detaching it. */
json_t *packet_plan(const json_t *desired, const json_t *observed, const json_t *failed, bool retag);

/* How many commands at a plan's beginning make something go (a deletion, or a detachment), with what stands between; 0: it begins
 * with nothing of the kind. */
size_t packet_plan_leaving(const json_t *commands);
/* Leaves that many of a plan. */
void packet_plan_cut(json_t *commands, size_t kept);

enum { PLAN_VF_NAME_SIZE = 24 };
/* "vf 1" of "1": no port is called that. */
const char *packet_vf_name(const char *id, char to[PLAN_VF_NAME_SIZE]);

/* What is there after that command has succeeded. */
void packet_applied(json_t *observed, const json_t *command);
