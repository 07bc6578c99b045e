/* Soft Patch Panel's own processes (spp_primary, spp_vf, spp_nfv, spp_mirror, spp_pcap), which connect to their controller: here
 * that is us. The primary's connection comes to port 5555; the others' to 6666, where each is asked who it is. Then each is asked
 * what REST is asked of it, one question at a time; who does not answer, or answers nonsense, is let go, and may come again.
 * docs/spp.md, "The sockets".
 *
 * Calling context: the control loop. Must not know: what questions mean. */
#pragma once

#include <jansson.h>

#include "base/list.h"
#include "control/packet/packet_control.h"

enum { SPP_GUESTS_MAX = 64, SPP_QUESTIONS_MAX = 32 /* of one process */, SPP_ANSWER_MAX = 1 << 20 };

struct spp_guests;

struct spp_guests_options {
    struct reactor *reactor;
    struct log *log;
    struct packet_control *control;         /* whose processes' ids are taken */
    struct host_address primary, secondary; /* where to listen */
    uint32_t answer_ms;                     /* who does not answer so long is let go */
};

/* Its owner's memory until `done`, which comes once, later. */
struct spp_question {
    const char *text;
    bool exits; /* the process is forgotten with its answer, which may be that it closes */
    /* The answer; NULL with an error, and without one for a process that exits. */
    void (*done)(struct spp_question *question, const json_t *answer, const struct error *error);
    /* ---- the guests' ---- */
    struct list_node node;
};

bool spp_guests_create(const struct spp_guests_options *options, struct spp_guests **ret_guests, struct error *error);
/* Closes all; questions end with an error, from inside. */
void spp_guests_stop(struct spp_guests *guests);
/* Later, with nothing of it queued in the loop. */
void spp_guests_destroy(struct spp_guests *guests);

/* Keys as in the wiring: "vf:1", "primary:0". NULL guests have none. */
bool spp_guests_has(const struct spp_guests *guests, const char *key);
bool spp_guests_has_id(const struct spp_guests *guests, unsigned id);
/* {"vf:1": {"type", "id"}, …}. */
json_t *spp_guests_list(const struct spp_guests *guests);
/* False: error; it is not there, or too much is asked of it. */
bool spp_guests_ask(struct spp_guests *guests, const char *key, struct spp_question *question, struct error *error);
