/* "IP:PORT" of an option. */
#pragma once

#include "base/error.h"
#include "host/host.h"

/* "IP:PORT" or "[IP]:PORT". False: error names the option. */
bool place_parse(const char *option, const char *text, struct host_address *ret, struct error *error);
