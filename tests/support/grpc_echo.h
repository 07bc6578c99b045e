/* The Echo service of echo.proto, for tests, fuzz targets and the bench. */
#pragma once

#include "tests/support/echo.pb-c.h"
#include "wire/grpc/grpc.h"

typedef Penstock__Test__V1__Words Words;
#define WORDS_INIT PENSTOCK__TEST__V1__WORDS__INIT
#define WORDS (&penstock__test__v1__words__descriptor)
#define ECHO_PATH(method) "/penstock.test.v1.Echo/" method

/* The service's argument. */
struct echo {
    struct list calls;           /* of Hold, Count, Flood, Chat: those under way */
    unsigned running, cancelled; /* calls under way; calls told that they are lost */
    bool keep_cancelled;         /* Hold: a lost call is not ended before echo_release() */
    uint64_t chatted;            /* messages of Chat */
};

extern const struct grpc_service echo_service;

void echo_init(struct echo *echo);
/* Answers the calls of Hold. */
void echo_release(struct echo *echo);
