/* From what the packet plane has to what it is meant to have: the next commands. What is there is kept in compile.h's form, but
 * that of a port only its kind and where it is are known: {"kind", "where"}. Pure. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

/* What the plane told: the results of packet_get_ports and packet_get_components, and for each classifier in `entries` that of
 * packet_get_classifier, by name. NULL: no memory, or an answer that is not one. */
json_t *packet_observed(const json_t *ports, const json_t *components, const json_t *entries);

/* Commands in their order, an array of [method, parameters]; empty: all is as it is meant to be. `failed`: names of ports that
 * could not be made, as keys; they are left out with all that needs them. What is on the way of something else goes first, so
 * that each command is one that the plane takes. `retag`: the plane can change what is done to a port's tags without detaching
 * it. */
json_t *packet_plan(const json_t *desired, const json_t *observed, const json_t *failed, bool retag);

/* What is there after that command has succeeded. */
void packet_applied(json_t *observed, const json_t *command);
