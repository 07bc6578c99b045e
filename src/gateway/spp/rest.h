/* spp-ctl's REST API, all of /v1: each request is a change of the wiring, or a look at it. What each path means and what it
 * answers is in docs/spp.md, the cases in tests/spp/cases.md.
 *
 * Calling context: the control loop. Must not know: HTTP's bytes. */
#pragma once

#include "control/packet/packet_control.h"
#include "gateway/spp/guests.h"

enum { SPP_REST_BODY_MAX = 64 * 1024, SPP_REST_PATH_MAX = 255, SPP_REST_CALLS_MAX = 256 };

struct spp_rest;

struct spp_rest_options {
    struct reactor *reactor;
    struct packet_control *control;
    struct spp_guests *guests; /* processes that are not ours; NULL = there are none. They end before the requests do */
};

struct spp_rest_request {
    const char *method, *path; /* decoded, without the query */
    const char *body;          /* `length` bytes, may be NULL */
    size_t length;
    /* Once, inside or later. The text is valid inside only. 204: without a text. */
    void (*answer)(void *arg, unsigned status, const char *type, const char *text, size_t length);
    void *arg;
};

struct spp_rest *spp_rest_create(const struct spp_rest_options *options);
/* All requests have been answered: after packet_control_stop(). */
void spp_rest_destroy(struct spp_rest *rest);
/* What `request` points to is not needed after this returns. */
void spp_rest_serve(struct spp_rest *rest, const struct spp_rest_request *request);
