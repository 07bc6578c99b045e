/* Options of penstockd, from its command line and a file: one table for both. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"
#include "host/linux/log.h"

enum { DAEMON_PORT = 8504, DAEMON_LIST_MAX = 64, DAEMON_TEXTS_MAX = 256, DAEMON_CONNECTIONS_MAX = 65536 };

/* Values of an option that may be repeated. */
struct daemon_list {
    const char *items[DAEMON_LIST_MAX];
    unsigned count;
};

/* An etcd, and how to speak to it. NULL = not given. */
struct daemon_etcd {
    struct daemon_list endpoints;       /* IP:PORT of each member; none = there is no such etcd */
    const char *ca, *certificate, *key; /* files: all or none */
    const char *name;                   /* that its certificates must hold; NULL = the endpoint's address */
    const char *user, *password_file;
};

struct daemon_options {
    const char *state_dir, *address, *node;
    uint16_t port;                                  /* 0 = any free one */
    uint32_t connections;                           /* of gRPC, each listener; 0 = by the files that may be open */
    const char *socket;                             /* of gRPC; NULL = penstockd.sock beside the state */
    const char *http;                               /* ADDRESS:PORT; NULL = not served */
    const char *tls_certificate, *tls_key, *tls_ca; /* files; NULL = not given: all or none */
    const char *tls_node_name;                      /* what other nodes' must hold; NULL = each its address */
    const char *tls_client_name;                    /* what a client's certificate must hold; NULL = any of the CA's */
    const char *plane;                              /* program; NULL = penstock-block beside this one, or in $PATH */
    const char *plane_socket;                       /* of a plane that somebody else starts; NULL = we do */
    struct daemon_list plane_arguments;             /* beside -r SOCKET */
    const char *blockdev;                           /* program; NULL = penstock-blockdev beside this one, or in $PATH */
    const char *spp_rest;                           /* IP:PORT of spp-ctl's REST; NULL = not served */
    const char *spp_controller;                     /* IP of a foreign spp-ctl; NULL = there is none */
    const char *spp_listen;                         /* IP where foreign processes find their spp-ctl; NULL = nowhere */
    uint32_t spp_answer_ms;                         /* how long they may take to answer; 0 = the usual */
    const char *packet_plane, *packet_socket;       /* as plane and plane_socket, of the packet plane */
    struct daemon_list packet_arguments;
    const char *packet_huge_dir;   /* the packet plane is several processes, on huge pages of this hugetlbfs; NULL = it is one */
    const char *cpu_map;           /* of the packet plane: processors of cores; NULL = none */
    const char *vhost_folder;      /* sockets of vhost-user ports: DIR/sockN */
    struct daemon_list interfaces; /* KIND:INTERFACE of phy:0, phy:1, … */
    struct daemon_etcd etcd;       /* the agent's; none = no agent */
    const char *agent_host;        /* of its keys; NULL = node */
    bool agent_hairpin;
    uint32_t agent_lease_s, agent_retry_ms, agent_reclaim_ms; /* 0 = none, and the usual */
    struct daemon_etcd state_etcd;                            /* that has the state; none = a file in the state directory */
    enum host_linux_log_format log_format;
    uint64_t leg_return_s;         /* how long a replica may be away; 0 = the default */
    char *texts[DAEMON_TEXTS_MAX]; /* values of the file, which others point to */
    unsigned text_count;
    const char *config; /* file; NULL = none */
    bool check_only;    /* look at the options, and end */
    bool exit_now;
    int exit_status;
};

/* Complains to standard error. Texts stay until the process ends. */
void daemon_options_parse(struct daemon_options *options, int argc, char **argv);

/* Sets the option of that name ("port"), as the command line and the file do; the value stays. False: error.field is the name.
 * ERROR_NOT_FOUND: there is none. */
bool daemon_option_set(struct daemon_options *options, const char *name, const char *value, struct error *error);
/* True if the option may be given several times. */
bool daemon_option_is_list(const char *name);

/* Reads the file `path`, YAML: a mapping of options' names to scalars, or to lists of them where they may be repeated. False:
 * *error's text begins with FILE:LINE:COLUMN. */
bool daemon_config_read(struct daemon_options *options, const char *path, struct error *error);
