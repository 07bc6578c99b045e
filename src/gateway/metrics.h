/* Figures of a node: Prometheus' text for what scrapes it, and rates of one device for MetricsGet.
 *
 * Calling context: the control loop. */
#pragma once

#include "gateway/gateway.h"

/* Makes the text of all figures; `done` comes once, inside or later, with what is there when the plane does not answer within a
 * few seconds. */
void gateway_metrics_write(struct gateway *gateway, void (*done)(void *arg, const char *text, size_t length), void *arg);
/* Whether the node does what it is there for, in a line of text: false if its plane is needed and not there. */
bool gateway_is_healthy(const struct gateway *gateway, char *to, size_t size);
