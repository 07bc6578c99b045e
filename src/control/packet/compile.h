/* The wiring as the plane knows it: a flat set of vfs (a process's cores), ports, components and entries.
 *
 *   {"vfs": {"1": {"core_mask", "share"}},                                 (parameters of packet_vf_create, by the process's id)
 *    "ports": {"vhost:0": {"kind", ..}},                                   (parameters of packet_port_create)
 *    "policies": {"vhost:0": {..}},                                         (parameters of packet_port_set_policy, all of them)
 *    "components": {"vf:1:classifier": {"type", "place": {"vf", "core"} or {"worker"}, "rx": {"phy:0": {"operation", ..}}, "tx":
 * {..}, "entries": {"fa:16:3e:00:00:01/100": "ring:0"}}}}      (untagged: without /VLAN)
 *
 * Pure. Must not know: what the plane has. */
#pragma once

#include <jansson.h>

#include "base/error.h"

struct compile_options {
    const char *socket_folder; /* of vhost-user: sockN is there */
};

/* A new value; NULL: no memory. */
json_t *wiring_compile(const json_t *wiring, const struct compile_options *options);
/* How a port is attached, of {"vlan"?, "hairpin"?}: {"operation", "id", "pcp", "hairpin"?}. A new value. */
json_t *compile_way(const json_t *end);
/* Where the plane says that a port with these parameters is. */
const char *compile_where(const json_t *parameters);
