/* Server reflection, grpc.reflection.v1 and v1alpha: what tools ask to call a server that they have no files for. */
#pragma once

#include "grpc/server.h"

struct grpc_reflection;

/* Adds the service, which knows itself and health, to a server. NULL: no memory. */
struct grpc_reflection *grpc_reflection_create(struct grpc_server *server);
/* Makes a service known, with the compiled descriptor set that has its files and their imports; the set stays. False: no memory.
 */
bool grpc_reflection_add(struct grpc_reflection *reflection, const char *service, const void *set, size_t length);
/* After the server has stopped. */
void grpc_reflection_destroy(struct grpc_reflection *reflection);
