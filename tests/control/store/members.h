/* A real etcd, one member or several, on loopback; dies with the test. */
#pragma once

#include "host/host.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define MEMBERS_MAX 3

struct members {
    unsigned count;
    char folder[64];
    pid_t pids[MEMBERS_MAX]; /* 0 = not running */
    char address[16];        /* of all of them */
    uint16_t client_ports[MEMBERS_MAX], peer_ports[MEMBERS_MAX];
    char cluster[300], token[32];
    int holder; /* of the address */
    bool tls;   /* certificates: FOLDER/ca.pem, server.pem, server-key.pem */
};

/* Is there an etcd to be started? $PENSTOCK_ETCD, or one on the path. */
bool members_possible(void);
/* With TLS, `prepare` puts the certificates into the folder. */
struct members *members_start(unsigned count, void (*prepare)(const char *folder));
void members_stop(struct members *members);
/* Where a member serves clients. */
struct host_address member_address(const struct members *members, unsigned index);
void member_start(struct members *members, unsigned index);
void member_kill(struct members *members, unsigned index);
/* SIGSTOP, SIGCONT. */
void member_freeze(struct members *members, unsigned index, bool freeze);
