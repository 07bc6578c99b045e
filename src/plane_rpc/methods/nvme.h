/* What the NVMe/TCP initiator's methods give to the device object. */
#pragma once

#include "plane_rpc/plane.h"

/* The members "nvme" and "mp_policy" of driver_specific. */
void nvme_put_driver_specific(struct json_writer *writer, const struct block_device *device);
