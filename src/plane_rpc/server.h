/* Joins the JSON-RPC server to a Unix socket. Control reactor. Must not know: methods. */
#pragma once

#include "plane_rpc/rpc.h"
#include "reactor/reactor.h"

#define RPC_CONNECTIONS_MAX 64 /* at once; more wait in the socket's backlog */

struct rpc_listener;

/* Listens on `path` (mode 0600). False: error names the path and why. On the control reactor, or before it starts. */
bool rpc_listener_open(struct rpc_server *server, struct reactor *reactor, const char *path, struct rpc_listener **ret_listener,
                       struct error *error);
/* Closes the socket and all connections, with one attempt to send what waits. */
void rpc_listener_close(struct rpc_listener *listener);
