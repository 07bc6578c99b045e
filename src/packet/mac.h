/* Ethernet addresses as people write them. Pure. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define MAC_TEXT_SIZE 18

/* Six pairs of hexadecimal digits, all joined by ':' or all by '-', either case. The result as ethernet_address_read() gives it.
 */
bool mac_parse(const char *text, uint64_t *ret_address);
/* "fa:16:3e:00:00:01" */
const char *mac_format(uint64_t address, char to[MAC_TEXT_SIZE]);
