/* The bodies that spp-ctl's REST answers with, made of the wiring. Pure; each returns a new value. */
#pragma once

#include <jansson.h>

json_t *show_processes(const json_t *wiring);
json_t *show_cpu_usage(const json_t *wiring);
/* One process, of any type but primary. */
json_t *show_process(const json_t *process);
/* Adds the result of packet_get_ports of one process to `ports`, those of others before it: a port that several have, as a ring,
 * counts what went through it in each. */
void show_add_ports(json_t *ports, const json_t *more);
/* The primary. `ports`: of all processes, empty if none is there; `baseline`: counters at the last clearing, by port. */
json_t *show_primary(const json_t *wiring, const json_t *ports, const json_t *baseline);
/* Counters as a baseline for later. */
json_t *show_make_baseline(const json_t *ports);
/* The primary's record, or what stands for it as long as there is none. */
json_t *show_default_primary(void);
