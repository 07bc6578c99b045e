/* Every power cut of a workload's run: the images that a cut may leave are recovered, one by one, and compared with the model. */
#pragma once

#include "driver.h"

struct enumeration {
    const struct workload *workload;
    struct disk_image prepared; /* the store as the workload finds it */
    struct model model;
    struct session run; /* crashed; its disk has the log */
    bool ran;
    /* counts */
    uint64_t cuts, images, second_cuts, second_images, kills, checked; /* checked: images that the checker looked at */
    uint64_t records, checkpoints;                                     /* of the run */
    uint64_t reads_max, read_bytes_max;                                /* of one recovery */
    unsigned done[ACTION_COUNT], refused[ACTION_COUNT];
    uint32_t outstanding_max;
    char failure[1024]; /* "" = none */
};

enum { ENUMERATION_ALL = 65536 };

struct enumeration_pass {
    uint64_t seed;
    unsigned exhaustive_max; /* all subsets up to so many outstanding writes */
    unsigned seeded;         /* subsets drawn beyond that */
    bool torn;
    uint32_t plain_chance;                             /* in 65536: of the images none, all and the newest write alone */
    uint32_t image_chance;                             /* in 65536: of the images beyond those */
    uint32_t second_plain_chance, second_image_chance; /* the same for cuts of a recovery and of what follows it */
    uint32_t second_chance; /* in 65536: that a cut is followed by a second one during or after its recovery */
    unsigned second_operations;
    double cpu_until_s; /* ends early, by the process's CPU clock; 0 = never */
};

/* Formats, prepares and runs the workload. False: failure. */
bool enumeration_start(struct enumeration *e, const struct workload *workload);
/* Walks all cuts. False: failure. */
bool enumeration_pass(struct enumeration *e, const struct enumeration_pass *pass);
void enumeration_end(struct enumeration *e);
double cpu_seconds(void);

extern const struct workload workloads[];
extern const unsigned workload_count;
