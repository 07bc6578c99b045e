#include "packet/drop.h"

#include <assert.h>
#include <stddef.h>

const char *packet_drop_name(enum packet_drop drop) {
    static const char *const names[PACKET_DROP_COUNT] = {
        [PACKET_DROP_SHORT] = "short",         [PACKET_DROP_NO_ENTRY] = "no_entry",   [PACKET_DROP_NO_VLAN] = "no_vlan",
        [PACKET_DROP_DETACHED] = "detached",   [PACKET_DROP_NO_MEMBER] = "no_member", [PACKET_DROP_NO_HEADROOM] = "no_headroom",
        [PACKET_DROP_NO_MEMORY] = "no_memory", [PACKET_DROP_HAIRPIN] = "hairpin",
    };
    assert((unsigned)drop < PACKET_DROP_COUNT && names[drop] != NULL);
    return names[drop];
}

const char *port_drop_name(enum port_drop drop) {
    static const char *const names[PORT_DROP_COUNT] = {
        [PORT_DROP_SPOOFED_MAC] = "spoofed_mac", [PORT_DROP_SPOOFED_VLAN] = "spoofed_vlan", [PORT_DROP_OVER_RATE] = "over_rate"};
    assert((unsigned)drop < PORT_DROP_COUNT);
    return names[drop];
}
