/* The processes of one packet plane hold on to each other by a Unix socket: each vf's process is connected to the primary for as
 * long as it lives. Whoever dies may have left what they share half changed (a ring's head moved, a lock held), so all others end
 * at once then, and are started again together. docs/packet-processes.md. Must not know: DPDK, JSON-RPC. */
#pragma once

#include "base/error.h"
#include "host/host.h"

struct together;

enum { TOGETHER_WAKES_MAX = 128 };

/* bond: a word that all must have in common to share frames. While they wait, a signal ends this process. */

/* A primary, before it makes what is shared: waits until no process has it of an earlier one any more, two seconds. `wake_count`:
 * how many workers there may be in all processes, TOGETHER_WAKES_MAX at most. False: error. */
bool together_begin(struct host *host, const char *path, const char *bond, unsigned wake_count, struct together **ret_together,
                    struct error *error);
/* Then: lets processes join at the socket. False: error. */
bool together_lead(struct together *together, struct error *error);
/* A vf's process, before it touches what is shared: waits for the primary, half a minute. `mask` are its cores: those beside the
 * lowest no other may have. False: error. */
bool together_join(struct host *host, const char *path, const char *bond, uint32_t vf, uint64_t mask,
                   struct together **ret_together, struct error *error);
/* By a worker's number, what it is woken by in all processes (host_linux_event_signal()). */
const int *together_wakes(const struct together *together, unsigned *ret_count);
/* An orderly end: the others go on, and nothing that is shared is touched any more. Of a primary: the others end. */
void together_leave(struct together *together);
/* Of a primary: the next process that is there, from place `at` on, which is moved past it. False: no more. Any thread. */
bool together_next(struct together *together, unsigned *at, uint32_t *ret_vf, uint64_t *ret_mask);
