/* Everything that a peer or an operator can ask the NVMe target for, and how much of it there is. The one place for these
 * numbers; what is configurable has its default and its bounds here. */
#pragma once

#include "wire/nvme/nvme.h"

enum {
    NVME_LIMIT_SUBSYSTEMS = 8192,
    NVME_LIMIT_HOSTS = 1024,      /* on one allow-list */
    NVME_LIMIT_LISTENERS = 256,   /* of one subsystem */
    NVME_LIMIT_NAMESPACES = 1024, /* of one subsystem: what the changed namespaces log can name */
    NVME_DEFAULT_NAMESPACES = 32,
    NVME_LIMIT_CONTROLLERS = 1024,    /* of one subsystem */
    NVME_LIMIT_CONTROLLERS_HOST = 64, /* of one host in one subsystem */

    NVME_LIMIT_IO_QUEUES = 127, /* of one controller */
    NVME_DEFAULT_IO_QUEUES = 127,
    NVME_LIMIT_QUEUE_DEPTH = 1024,
    NVME_DEFAULT_QUEUE_DEPTH = 128,
    NVME_LIMIT_ADMIN_DEPTH = 128,
    NVME_DEFAULT_ADMIN_DEPTH = 128,
    NVME_MIN_QUEUE_DEPTH = 2, /* the specification's smallest queue */

    NVME_LIMIT_AER = 4,    /* async event requests waiting at once; also the AERL we tell, plus one */
    NVME_LIMIT_ABORTS = 4, /* told to the host; aborts are answered at once */
    NVME_ERROR_LOG_ENTRIES = 64,
    NVME_LIMIT_LOG_BYTES = 1 << 20, /* one Get Log Page; a discovery log is read in pieces */

    NVME_KATO_DEFAULT_MIN_MS = 1000,
    NVME_KATO_GRANULARITY_MS = 100,
    NVME_DISCOVERY_KATO_MS = 120000, /* of a discovery controller that asked for none */
    NVME_ANA_TRANSITION_S = 10,      /* how long a namespace may take to become inaccessible; ANATT */
    NVME_READY_TIMEOUT_500MS = 60,   /* CAP.TO: how long "every write of the lost controllers is done" may take, 30 s */
    NVME_SETTLE_MS = 2000,           /* how long a sibling connection of a host's new controller may stay unreadable */

    NVME_DEFAULT_MAX_IO_BYTES = 128 * 1024, /* MDTS */
    NVME_MIN_MAX_IO_BYTES = 8192,           /* MDTS cannot say 4 KiB: its 0 means no limit */
    NVME_LIMIT_MAX_IO_BYTES = 1024 * 1024,  /* the largest pool buffer */

    NVME_TCP_DEFAULT_IN_CAPSULE_BYTES = 4096,
    NVME_TCP_LIMIT_IN_CAPSULE_BYTES = 64 * 1024,
    NVME_TCP_ADMIN_IN_CAPSULE_BYTES = 8192, /* at least Connect's 1024 */
    NVME_TCP_LIMIT_CONNECTIONS = 4096,
    NVME_TCP_LIMIT_STRANGERS = 256,                     /* connections that have not come through Connect yet */
    NVME_TCP_CONNECT_TIMEOUT_MS = 10000,                /* from accept to a successful Connect */
    NVME_TCP_STALL_TIMEOUT_MS = 30000,                  /* no byte moved although data are due in, or answers out */
    NVME_TCP_TERM_LINGER_MS = 1000,                     /* how long the reason for ending may take to leave */
    NVME_TCP_STAGING_BYTES = 64 * 1024,                 /* read-ahead of a connection */
    NVME_TCP_CONNECTION_BUFFER_BYTES = 32 * 1024 * 1024 /* payload buffers of one connection at once */
};
