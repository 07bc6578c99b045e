/* The figures of one run, summed over its reactors, for people or as JSON. */
#pragma once

#include <stdio.h>

#include "load/load.h"

struct report {
    const char *device, *pattern; /* "memory:1G", "randread" */
    uint32_t request_bytes;
    unsigned depth, jobs;
    double seconds, cpu_seconds;
    double ticks_per_second;
    struct load_result sum;
};

/* Adds one reactor's result. */
void report_add(struct report *report, const struct load_result *result);
void report_print(const struct report *report, bool json, FILE *to);
