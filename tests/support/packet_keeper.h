/* The packet plane's keeper without a plane and without a state: packet_control_submit() as the product has it, but that all is
 * recorded and carried out at once. It asserts what the product relies on: whatever is accepted is a record that a daemon would
 * take up after a restart, in the same words, and can be compiled and divided among processes or is refused.
 *
 * Stands in for packet_control.c: a program has either of them. */
#pragma once

#include "control/packet/packet_control.h"

/* The wiring has two cards, phy:0 and phy:1, and nothing else. */
struct packet_control *packet_keeper_create(struct reactor *reactor);
void packet_keeper_destroy(struct packet_control *control);
/* Asserts what is said above. */
void packet_keeper_check(const json_t *wiring);
