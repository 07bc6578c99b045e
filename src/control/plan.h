/* From a goal and an observation to the next commands. Pure: table-tested without a plane. */
#pragma once

#include "control/control.h"

enum plan_outcome { PLAN_CARRY_OUT, PLAN_REACHED, PLAN_REFUSED };

struct plan {
    enum plan_outcome outcome;
    struct error error; /* REFUSED */
    struct plan_command *commands;
    unsigned count, capacity;
};

/* What brings the node nearer to the goal, whose object's record is as recorded. `address`: where replicas listen. */
void plan_make(const struct control_goal *goal, const struct observation *seen, const char *address, struct plan *ret_plan);
void plan_commands_free(struct plan_command *take_commands, unsigned count);
/* True if the replica is exported as it should be. */
bool plan_export_stands(const struct control_replica_record *record, const struct observed_volume *head,
                        const struct observation *seen, const char *address);
/* "2, ERROR" and such: the plane's name of a log level, NULL if it is none. Any case. */
const char *plan_log_level(const char *text);
