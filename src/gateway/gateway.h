/* Longhorn's spdkrpc.SPDKService and our own penstock.v1 (NodeService, VolumeService) on a gRPC server, in front of a node's
 * control.
 *
 * Calling context: the control loop. */
#pragma once

#include "control/control.h"
#include "fleet/fleet.h"
#include "grpc/server.h"

struct gateway;

#define GATEWAY_PEER_PORT 8504 /* where nodes look for each other's service */

struct gateway_options {
    struct control *control;
    struct fleet *fleet;
    const char *address; /* of the node, as callers see it */
    const char *version;
    uint16_t port;              /* of this node's own service; 0 = where peers look */
    struct tls_context *tls;    /* a client's, for calls of nodes; NULL = they are plain. Stays until gateway_destroy() */
    const char *tls_node_name;  /* what nodes' certificates must hold; NULL = each its address */
    struct grpc_server *server; /* set by gateway_create() */
};

/* The compiled descriptors of the services, for reflection. */
extern const unsigned char spdkrpc_descriptors[];
extern const size_t spdkrpc_descriptors_size;
#define GATEWAY_SERVICE "spdkrpc.SPDKService"
extern const unsigned char penstock_v1_descriptors[];
extern const size_t penstock_v1_descriptors_size;
#define GATEWAY_OWN_SERVICE "penstock.v1.NodeService"
#define GATEWAY_VOLUME_SERVICE "penstock.v1.VolumeService"

/* Adds the services to a server that does not listen yet. NULL: no memory. */
struct gateway *gateway_create(struct grpc_server *server, const struct gateway_options *options);
/* Ends the watches with UNAVAILABLE: before the server is stopped. */
void gateway_stop(struct gateway *gateway);
/* What carries the fleet's calls. */
void gateway_fleet_call(struct gateway *gateway, struct fleet_call *call);
/* After the server has stopped. */
void gateway_destroy(struct gateway *gateway);
