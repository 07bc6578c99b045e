/* NVMe/TCP: listeners and connections for the target of frontend/nvme, on the reactors' sockets and buffers. */
#pragma once

#include "frontend/nvme/target.h"

/* Makes the transport and gives it to the target, which ends it. ERROR_INVALID (options), ERROR_EXISTS, ERROR_NO_MEMORY.
 * `control` is the target's control reactor. Control reactor. */
bool nvme_tcp_transport_create(struct nvme_target *target, struct reactor *control, const struct nvme_transport_options *options,
                               struct error *error);
