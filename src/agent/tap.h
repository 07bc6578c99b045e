/* Taps of networking-spp (tap-as-a-service): what a vhost gets, or what it sends, is copied to another vhost. Edits of the
 * wiring. Pure.
 *
 * Each mirror of the configuration is a component (mirror_0 …) of one process, mirror:N+1 behind N NICs. Into a tapped vhost's
 * way it is put next to the vhost, so that taps of one vhost form a chain:
 *
 *   what it gets:    ring 2v → mirror → its second ring → the vhost's writer
 *   what it sends:   the vhost's reader → its second ring → mirror → ring 2v+1
 *
 * and its first ring carries copies to the writer of the other vhost, which is a merge for that. */
#pragma once

#include "agent/configuration.h"
#include "control/packet/wiring.h"

struct tap {
    unsigned mirror;
    unsigned source, service; /* vhosts */
    bool out;                 /* what the source sends; else what it gets */
};

/* The vf whose process all mirrors are in. */
unsigned tap_vf(const struct configuration *configuration);
/* Before NICs are built: mirrors that are not as the configuration has them go, with their taps (*ret_gone). */
bool tap_drop_stale(json_t *wiring, const struct configuration *configuration, bool *ret_gone, struct error *error);
/* After that: those that are missing are made. */
bool tap_build(json_t *wiring, const struct configuration *configuration, struct error *error);
/* The mirror does this and nothing else. */
bool tap_plug(json_t *wiring, const struct configuration *configuration, const struct tap *tap, struct error *error);
/* The mirror does nothing; one that the configuration has not is fine. */
bool tap_unplug(json_t *wiring, const struct configuration *configuration, unsigned mirror, struct error *error);
/* Nothing is copied from the vhost or to it. */
bool tap_unplug_vhost(json_t *wiring, const struct configuration *configuration, unsigned vhost, struct error *error);
/* Copies of what the vhost sends have no tag where its reader pushes one: after that has changed. */
bool tap_retag(json_t *wiring, const struct configuration *configuration, unsigned vhost, struct error *error);
/* The port that stands for this one at a component that reads ("rx") or writes ("tx") it: another one where a tap is between. */
const char *tap_port(const json_t *wiring, const struct configuration *configuration, const char *port, const char *direction);
