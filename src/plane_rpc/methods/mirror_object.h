/* What the methods of mirrors share: what they print, where the status is as plane_mirrors_look() left it, and changes of legs.
 */
#pragma once

#include "plane_rpc/mirrors.h"

/* The members of driver_specific.raid, into an open object. */
void mirror_put_raid_members(struct json_writer *writer, const struct plane_mirror *mirror);
/* The object of mirror_get. */
void mirror_put_object(struct json_writer *writer, const struct plane_mirror *mirror);
/* The call that makes it again, for framework_get_config. */
void mirror_put_config(struct json_writer *writer, const struct plane_mirror *mirror);
/* The mirror of that name; else the call is answered with -19, and NULL returned. */
struct plane_mirror *mirror_find(struct rpc_call *call, const char *name);
/* A verb about a leg; answers true when that is done. mirror NULL: the call was answered already. */
void mirror_change_leg(struct rpc_call *call, struct plane_mirror *mirror, enum mirror_verb verb, const char *leg,
                       bool tie_breaker, bool foreign);
/* True if it is in service, or was: clients of the dialect see no other. */
bool mirror_is_shown(const struct plane_mirror *mirror);
