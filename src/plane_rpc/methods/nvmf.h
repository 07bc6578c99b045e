/* What the NVMe-oF methods share. Control reactor. */
#pragma once

#include "frontend/nvme/target.h"
#include "plane_rpc/plane.h"

/* A subsystem by NQN, the discovery one too; NULL: the call has been answered. */
struct nvme_subsystem *nvmf_find(struct rpc_call *call, const char *nqn);
