/* What the keeper of the packet plane's wiring is made of: packet_control.c decides what comes next, look.c sees what there is.
 */
#pragma once

#include "control/packet/packet_control.h"

enum { PACKET_RETRY_MS = 5000 };

/* ---- packet_control.c ---- */

/* It is looked at anew, from the loop: something changed. */
void packet_control_go_soon(struct packet_control *control);
/* The same, after so many milliseconds. */
void packet_control_retry_in(struct packet_control *control, uint64_t ms);

/* ---- look.c ---- */

/* Calls the process that is at hand; `done` sets `busy` to false, and releases `params` (NULL = none) if nobody else has them. */
void packet_control_call(struct packet_control *control, const char *method, json_t *params, void (*done)(struct plane_call *));
/* It came to nothing, for a reason that is not the plane's answer: what is known is forgotten, and looked at later. */
void packet_control_call_failed(struct packet_control *control, struct plane_call *call);
/* Begins to look at what it has: process->observed, if nothing fails. */
void packet_control_look(struct packet_control *control, struct packet_process *process);
void packet_control_forget_told(struct packet_control *control);
