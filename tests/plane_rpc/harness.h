/* A server with the methods of test_area.json, spoken to over memory. */
#pragma once

#include "plane_rpc/rpc.h"

#define HARNESS_WAITING_MAX 4096

struct harness {
    struct rpc_server server;
    struct rpc_connection connection;
    bool open;
    struct text received;
    struct rpc_call *waiting[HARNESS_WAITING_MAX]; /* calls of test_wait, in order of arrival */
    unsigned waiting_count;
    unsigned ready_count, echo_count;
};

void harness_init(struct harness *harness, const struct rpc_limits *limits);
void harness_fini(struct harness *harness);
/* Answers the n-th waiting call. */
void harness_answer(struct harness *harness, unsigned index);
/* Feeds in pieces and returns all that came back so far, "" if nothing. Closes the connection if the server wants it closed. */
const char *harness_say(struct harness *harness, const char *bytes, size_t length, size_t piece);
/* The same for one text; forgets what came before. */
const char *harness_ask(struct harness *harness, const char *text);
/* Moves output to `received`. */
void harness_drain(struct harness *harness);
