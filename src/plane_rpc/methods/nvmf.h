/* What the two files of NVMe/TCP target methods share. */
#pragma once

#include "frontend/nvme/target.h"
#include "plane_rpc/plane.h"

/* A subsystem by NQN, or the call is answered as the dialect does and NULL returned. */
struct nvme_subsystem *nvmf_subsystem(struct rpc_call *call, const char *nqn);
