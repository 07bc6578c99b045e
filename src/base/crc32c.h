/* CRC-32C (Castagnoli, reflected 0x82F63B78, initial and final value all ones), as NVMe/TCP digests and our disk format use it.
 * Pure. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* CRC of one buffer. */
uint32_t crc32c(const void *data, size_t length);
/* Continues a CRC over a further buffer: crc32c(a ‖ b) == crc32c_continue(crc32c(a), b). Start with 0. */
uint32_t crc32c_continue(uint32_t crc, const void *data, size_t length);
