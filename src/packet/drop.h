/* Why frames end here. Pure. */
#pragma once

enum packet_drop {
    PACKET_DROP_SHORT,       /* no whole Ethernet header */
    PACKET_DROP_NO_ENTRY,    /* the address is unknown in its VLAN, and there is no default */
    PACKET_DROP_NO_VLAN,     /* the VLAN has no entry at all, and there is no default */
    PACKET_DROP_DETACHED,    /* the port of its entry is not attached now */
    PACKET_DROP_NO_MEMBER,   /* a group address with nobody to hear it */
    PACKET_DROP_NO_HEADROOM, /* no room for a tag */
    PACKET_DROP_NO_MEMORY,   /* a copy could not be made */
    PACKET_DROP_HAIRPIN,     /* turned round, but there is nobody else here that it is for */
    PACKET_DROP_COUNT
};

/* "no_entry" */
const char *packet_drop_name(enum packet_drop drop);

/* Why a port's policy did not let them through. */
enum port_drop {
    PORT_DROP_SPOOFED_MAC,  /* not a source address of its own */
    PORT_DROP_SPOOFED_VLAN, /* not a tag of its own */
    PORT_DROP_OVER_RATE,
    PORT_DROP_COUNT
};

/* "over_rate" */
const char *port_drop_name(enum port_drop drop);
