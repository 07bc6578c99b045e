/* Soft Patch Panel's processes as its controller (spp-ctl, or networking-spp's agent of before) knows them: a connection to the
 * controller for the primary (port 5555) and for each process of the wiring (6666), made again each second; what comes over it is
 * a command, carried out as the same request of REST, and answered. So an existing controller rules the packet plane as it is.
 *
 * Calling context: the control loop. Must not know: what commands do. */
#pragma once

#include "gateway/spp/rest.h"

struct spp_seats;

struct spp_seats_options {
    struct reactor *reactor;
    struct log *log;
    struct packet_control *control;
    struct spp_rest *rest;
    struct host_address primary, secondary; /* of the controller */
};

struct spp_seats *spp_seats_create(const struct spp_seats_options *options);
/* Closes all connections. Before packet_control_stop(), which ends the commands under way. */
void spp_seats_stop(struct spp_seats *seats);
/* Later, with nothing of it queued in the loop. */
void spp_seats_destroy(struct spp_seats *seats);
