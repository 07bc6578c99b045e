/* The wiring of NICs, and of ports on them, as networking-spp has it: edits. Vhost v of NIC i is reached by ring 2v from its
 * classifier and left by ring 2v+1 to its merger, with a forward on each way. Pure. */
#pragma once

#include "agent/configuration.h"
#include "control/packet/wiring.h"

/* The processes of all NICs (vf:1 …) with their components and ports: what is missing is added, what is there stays, unless its
 * core is none of the NIC's any more and the configuration gives it no other.
 * hairpin: machines of one NIC meet without its switch, by a ring from its merger to its classifier (ring:60000 for the first
 * NIC); not of NICs whose components the configuration lists.
 * The configuration's mirrors, too; taps stay, unless their mirror is not as it was. */
bool nic_build(json_t *wiring, const struct configuration *configuration, bool hairpin, struct error *error);
/* The address is the vhost's, and no other is; in a VLAN, whose tag the guest does not see, or (WIRING_UNTAGGED) on a flat
 * network. */
bool nic_plug(json_t *wiring, const struct configuration *configuration, unsigned vhost, const char *mac, int vlan,
              struct error *error);
/* The vf that the vhost is of; 0: there is no such vhost. */
unsigned nic_vf(const struct configuration *configuration, unsigned vhost);
/* The vhost is nobody's, and nothing is copied from it or to it. */
bool nic_unplug(json_t *wiring, const struct configuration *configuration, unsigned vhost, struct error *error);
