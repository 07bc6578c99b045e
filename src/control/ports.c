/* The ports of a node's replicas: each has some in a row, the first is its listener's. */
#include "control/internal.h"

static bool taken(const struct control *control, unsigned port) {
    unsigned at = port - CONTROL_PORT_FIRST;
    return (control->ports[at / 64] >> (at % 64) & 1) != 0;
}

void ports_mark(struct control *control, uint16_t port, unsigned count) {
    if (port == 0)
        return;
    for (unsigned at = port - CONTROL_PORT_FIRST; count-- > 0; at++)
        control->ports[at / 64] |= UINT64_C(1) << (at % 64);
}

void ports_release(struct control *control, uint16_t port, unsigned count) {
    if (port == 0)
        return;
    for (unsigned at = port - CONTROL_PORT_FIRST; count-- > 0; at++)
        control->ports[at / 64] &= ~(UINT64_C(1) << (at % 64));
}

static uint16_t take_between(struct control *control, unsigned first, unsigned last, unsigned count) {
    unsigned row = 0;
    for (unsigned port = first; port <= last; port++) {
        row = taken(control, port) ? 0 : row + 1;
        if (row == count) {
            ports_mark(control, (uint16_t)(port + 1 - count), count);
            return (uint16_t)(port + 1 - count);
        }
    }
    return 0;
}

uint16_t ports_take(struct control *control, uint16_t after, unsigned count) {
    unsigned first = after < CONTROL_PORT_FIRST ? CONTROL_PORT_FIRST : after + 1u;
    uint16_t port = take_between(control, first, CONTROL_PORT_LAST, count);
    return port != 0 ? port : take_between(control, CONTROL_PORT_FIRST, CONTROL_PORT_LAST, count);
}
