/* The health service, grpc.health.v1.Health: whether a server, or one service of it, serves. */
#pragma once

#include "grpc/server.h"

struct grpc_health;

/* Adds the service to a server that does not listen yet. It serves, until told otherwise. NULL: no memory. */
struct grpc_health *grpc_health_create(struct grpc_server *server);
/* Makes a service known ("" = the server as a whole, always known), or changes its state; watchers hear of it. False: no memory.
 */
bool grpc_health_set(struct grpc_health *health, const char *service, bool serves);
/* After the server has stopped. */
void grpc_health_destroy(struct grpc_health *health);
