/* The device object of bdev_get_bdevs. */
#pragma once

#include "plane_rpc/methods/lvol.h"

/* `listing` has what volumes hold. */
void bdev_put_object(struct json_writer *writer, struct block_device *device, const struct lvol_listing *listing);
/* A name that a new device may have. */
bool bdev_check_name(struct plane *plane, const char *name, struct error *error);
/* What the dialect refuses in a new device, before its kind is asked. */
bool bdev_check_new(struct plane *plane, const char *name, uint32_t block_size, uint32_t physical_block_size,
                    uint64_t block_count, struct error *error);
