/* Filters of captures by libpcap. Must not know: ports, files. */
#pragma once

#include "base/error.h"
#include "packet/capture.h"

/* From a text like "udp port 53 and host 10.0.0.1" (pcap-filter(7)). May sleep: in a helper thread. False: error of field filter.
 */
bool pcap_capture_filter_create(const char *text, struct capture_filter **ret_filter, struct error *error);
