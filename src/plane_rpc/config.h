/* Runs the calls of a configuration file ({"subsystems": [{"subsystem", "config": [{"method", "params"}]}]}, as
 * framework_get_config and the peer's save_config print it) through the JSON-RPC server, one after the other. Control reactor.
 * Must not know: what methods do. */
#pragma once

#include "plane_rpc/rpc.h"
#include "reactor/reactor.h"

struct plane_config;

struct plane_config_options {
    struct rpc_server *server;
    struct reactor *reactor;
    const char *path; /* stays valid */
    /* The file is read and the calls that may be made before service begins have been made: begin it. */
    void (*service)(void *arg);
    /* All is done, or error is set. The config is freed afterwards. */
    void (*done)(void *arg, const struct error *error);
    void *arg;
};

/* NULL if there is no memory. Nothing is called from inside. */
struct plane_config *plane_config_run(const struct plane_config_options *options);
/* Stops after the call under way and frees it; `done` is not called. */
void plane_config_cancel(struct plane_config *config);
