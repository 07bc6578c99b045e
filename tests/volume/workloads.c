/* The named workloads. Each is a mix with its point: what it makes likely to overlap. */
#include "enumerate.h"

/* A disk with a cache, 512-byte sectors torn singly, and latencies that let requests overtake each other. */
#define DISK(read, write, flush)                                                                                                 \
    .disk = {.power_fail_unit = 512,                                                                                             \
             .block_size = 512,                                                                                                  \
             .read_ns = (read)*NS_PER_US,                                                                                        \
             .write_ns = (write)*NS_PER_US,                                                                                      \
             .flush_ns = (flush)*NS_PER_US}
/* The same, with a zone (docs/volume-format.md) in which one write in `one_in` is slow. */
#define SLOW(read, write, flush, zone, one_in, factor)                                                                           \
    .disk = {.power_fail_unit = 512,                                                                                             \
             .block_size = 512,                                                                                                  \
             .read_ns = (read)*NS_PER_US,                                                                                        \
             .write_ns = (write)*NS_PER_US,                                                                                      \
             .flush_ns = (flush)*NS_PER_US,                                                                                      \
             zone,                                                                                                               \
             .slow_one_in = (one_in),                                                                                            \
             .slow_factor = (factor)}
#define SUPERBLOCKS .slow_to = KIB(128)
#define JOURNAL .slow_from = KIB(64 * 7), .slow_to = KIB(64 * 7) + MIB(1)
#define STORE(checkpoint, ...)                                                                                                   \
    .store = {__VA_ARGS__, .disk_bytes = MIB(32), .journal_bytes = MIB(1), .checkpoint_bytes = (checkpoint),                     \
              .cache_bytes = MIB(4)}

#define W [ACTION_WRITE]
#define SW [ACTION_SUBWRITE]
#define BW [ACTION_BIGWRITE]
#define R [ACTION_READ]
#define Z [ACTION_ZERO]
#define T [ACTION_TRIM]
#define F [ACTION_FLUSH]
#define IDLE [ACTION_IDLE]
#define SNAP [ACTION_SNAPSHOT]
#define CLONE [ACTION_CLONE]
#define REVERT [ACTION_REVERT]
#define DSNAP [ACTION_DELETE_SNAPSHOT]
#define DVOL [ACTION_DELETE_VOLUME]
#define CREATE [ACTION_CREATE]
#define RESIZE [ACTION_RESIZE]
#define RENAME [ACTION_RENAME]
#define ATTR [ACTION_ATTRIBUTE]
#define INFL [ACTION_INFLATE]
#define DECO [ACTION_DECOUPLE]
#define GROW [ACTION_GROW]

const struct workload workloads[] = {
    {"first-writes", 101, 240, 8, 1, 4, 6, 10, 30, .weights = {W = 50, SW = 15, BW = 10, R = 5, F = 15, IDLE = 1},
     STORE(KIB(8), DISK(80, 80, 200))},
    {"overwrites", 102, 240, 12, 1, 4, 2, 20, 80, .weights = {W = 60, SW = 25, R = 10, F = 10},
     STORE(KIB(8), DISK(80, 200, 100))},
    {"sub-block", 103, 260, 12, 1, 4, 4, 10, 70, .weights = {SW = 70, W = 10, R = 10, F = 10, T = 4, SNAP = 1},
     STORE(0, DISK(80, 80, 200))},
    {"trim", 104, 240, 8, 1, 4, 4, 20, 40, .weights = {W = 40, SW = 10, T = 30, Z = 5, R = 10, F = 12},
     STORE(KIB(8), DISK(80, 80, 200))},
    {"zeroes", 105, 240, 8, 1, 4, 4, 30, 40, .weights = {W = 40, SW = 10, Z = 30, T = 5, R = 10, F = 12, SNAP = 1},
     STORE(KIB(8), DISK(80, 80, 200))},
    {"fua", 106, 220, 12, 1, 4, 4, 80, 60, .weights = {W = 60, SW = 15, Z = 8, T = 8, R = 10, F = 2},
     STORE(0, DISK(80, 120, 150))},
    {"flush-storm", 107, 260, 16, 1, 6, 3, 5, 50, .weights = {W = 40, SW = 10, F = 50, T = 2}, STORE(KIB(8), DISK(80, 80, 300))},
    {"snapshots", 108, 220, 8, 1, 4, 4, 10, 50, .weights = {W = 50, SW = 12, T = 5, R = 10, F = 10, SNAP = 8},
     STORE(KIB(8), DISK(80, 150, 200))},
    {"snapshot-in-flight", 109, 200, 16, 2, 4, 3, 20, 80, .weights = {W = 60, SW = 20, BW = 10, F = 12, SNAP = 6},
     STORE(0, DISK(50, 400, 60))},
    {"clones", 110, 240, 8, 1, 4, 3, 10, 50, .weights = {W = 50, SW = 12, T = 5, R = 15, F = 10, SNAP = 6, CLONE = 8, DVOL = 2},
     STORE(KIB(8), DISK(80, 80, 200))},
    {"revert", 111, 240, 8, 1, 4, 4, 10, 50, .weights = {W = 50, SW = 10, T = 5, R = 10, F = 8, SNAP = 6, REVERT = 8},
     STORE(KIB(8), DISK(80, 80, 200))},
    {"merge", 112, 260, 8, 1, 4, 4, 10, 50,
     .weights = {W = 50, SW = 12, T = 8, Z = 4, R = 10, F = 8, SNAP = 10, DSNAP = 10, IDLE = 1},
     STORE(KIB(8), DISK(80, 80, 200))},
    {"merge-in-flight", 113, 220, 16, 2, 4, 3, 10, 70, .weights = {W = 40, SW = 30, T = 6, R = 10, F = 8, SNAP = 10, DSNAP = 12},
     STORE(0, DISK(300, 300, 100))},
    {"delete-and-create", 114, 240, 8, 2, 5, 3, 10, 40,
     .weights = {W = 50, BW = 10, R = 15, F = 8, CREATE = 8, DVOL = 8, SNAP = 3, CLONE = 2}, STORE(KIB(8), DISK(400, 80, 100))},
    {"resize", 115, 240, 8, 1, 4, 4, 10, 20, .weights = {W = 50, SW = 15, BW = 6, T = 4, R = 15, F = 10, RESIZE = 12, SNAP = 3},
     STORE(KIB(8), DISK(80, 80, 200))},
    {"names-and-attributes", 116, 220, 8, 2, 4, 3, 10, 40,
     .weights = {W = 40, F = 8, RENAME = 15, ATTR = 15, SNAP = 3, CREATE = 3, DVOL = 2}, STORE(KIB(8), DISK(80, 80, 200))},
    {"inflate", 117, 240, 8, 1, 4, 4, 10, 50,
     .weights = {W = 50, SW = 12, T = 5, R = 10, F = 8, SNAP = 8, CLONE = 3, INFL = 6, DECO = 6},
     STORE(KIB(8), DISK(80, 80, 200))},
    {"full", 118, 400, 8, 1, 4, 6, 10, 20, .filler_free = 14,
     .weights = {W = 50, SW = 10, BW = 15, T = 12, R = 10, F = 12, SNAP = 2, DSNAP = 2}, STORE(KIB(8), DISK(80, 80, 200))},
    {"full-with-slow-reads", 119, 1000, 16, 1, 4, 6, 5, 20, .filler_free = 10,
     .weights = {W = 40, BW = 20, T = 25, R = 25, F = 20}, STORE(0, DISK(1500, 60, 60))},
    {"checkpoints", 120, 300, 12, 1, 4, 6, 10, 30, .weights = {W = 60, SW = 10, T = 15, F = 30, SNAP = 2},
     STORE(KIB(4), DISK(80, 200, 200))},
    {"checkpoints-overtaken", 121, 300, 16, 2, 4, 4, 30, 40,
     .weights = {W = 60, SW = 10, T = 10, Z = 5, F = 20, SNAP = 3, DSNAP = 3, CREATE = 1, DVOL = 1},
     STORE(KIB(4), DISK(80, 900, 50))},
    {"ring", 122, 900, 4, 1, 4, 3, 40, 50, .warm = 150, .weights = {W = 50, T = 10, F = 60, ATTR = 3},
     STORE(0, DISK(20, 20, 40))},
    {"slow-journal", 128, 240, 12, 1, 4, 4, 30, 40, .weights = {W = 60, SW = 10, T = 10, F = 20, SNAP = 2, CREATE = 1, DVOL = 1},
     STORE(KIB(4), SLOW(80, 100, 100, JOURNAL, 3, 40))},
    {"slow-superblock", 129, 1000, 1, 1, 4, 12, 30, 20, .warm = 108, .weights = {R = 10, F = 4, ATTR = 60, RENAME = 10},
     STORE(KIB(480), SLOW(20, 20, 40, SUPERBLOCKS, 1, 20000))},
    {"grow", 130, 260, 8, 2, 4, 6, 10, 20, .filler_free = 12,
     .weights = {W = 50, SW = 10, BW = 20, T = 6, R = 10, F = 12, GROW = 8, RESIZE = 4, SNAP = 2, DSNAP = 2, CREATE = 2},
     STORE(KIB(8), DISK(80, 80, 200))},
    {"idle", 123, 240, 8, 1, 4, 4, 5, 40, .weights = {W = 50, SW = 10, T = 8, R = 5, IDLE = 6, F = 1, SNAP = 2},
     STORE(KIB(8), DISK(80, 80, 200))},
    {"big-sectors", 124, 220, 8, 1, 4, 4, 10, 40, .weights = {W = 60, BW = 5, T = 10, Z = 8, R = 10, F = 12, SNAP = 4, DSNAP = 3},
     .store = {.disk = {.power_fail_unit = 4096,
                        .block_size = 4096,
                        .read_ns = 80 * NS_PER_US,
                        .write_ns = 80 * NS_PER_US,
                        .flush_ns = 200 * NS_PER_US,
                        .native_fua = true},
               .disk_bytes = MIB(32),
               .journal_bytes = MIB(1),
               .checkpoint_bytes = KIB(8),
               .cache_bytes = MIB(4)}},
    {"native-fua", 125, 220, 12, 1, 4, 4, 60, 60, .weights = {W = 60, SW = 15, Z = 8, T = 8, R = 10, F = 4, SNAP = 2},
     .store = {.disk = {.power_fail_unit = 512,
                        .block_size = 512,
                        .read_ns = 80 * NS_PER_US,
                        .write_ns = 150 * NS_PER_US,
                        .flush_ns = 200 * NS_PER_US,
                        .native_fua = true},
               .disk_bytes = MIB(32),
               .journal_bytes = MIB(1),
               .checkpoint_bytes = KIB(12),
               .cache_bytes = MIB(4)}},
    {"everything", 126, 400, 12, 2, 5, 3, 15, 40,
     .weights = {W = 60,     SW = 20,   BW = 5,   T = 10,     Z = 6,      R = 15,     F = 14,   IDLE = 1, SNAP = 6, CLONE = 4,
                 REVERT = 3, DSNAP = 6, DVOL = 2, CREATE = 3, RESIZE = 3, RENAME = 2, ATTR = 2, INFL = 2, DECO = 2, GROW = 2},
     STORE(KIB(8), DISK(80, 120, 200))},
    {"everything-drained", 127, 300, 6, 1, 4, 3, 15, 40, .drain_first = true,
     .weights = {W = 60, SW = 20, BW = 5, T = 10, Z = 6, R = 10, F = 14, SNAP = 8, CLONE = 5, REVERT = 4, DSNAP = 8, DVOL = 3,
                 CREATE = 3, RESIZE = 4, RENAME = 2, ATTR = 2, INFL = 3, DECO = 3},
     STORE(KIB(12), DISK(80, 80, 100))},
};
const unsigned workload_count = array_count(workloads);
