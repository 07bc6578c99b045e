/* Cores as people write them: masks, and maps from numbers of cores to processors. docs/packet.md, "Cores". Pure. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"

#define CORES_MAX 64

/* Which processor stands for each core; without a map, the one of the same number. */
struct cores_map {
    bool given;
    int16_t cpus[CORES_MAX]; /* -1 = there is no such core */
};

/* "0xfe", "fe": at least one bit, at most 64. False: error of that field. */
bool cores_parse_mask(const char *field, const char *text, uint64_t *ret_mask, struct error *error);
/* "1=0,2-7=0,10-15=1": the cores that exist, and their processors. False: it is not that. */
bool cores_parse_map(const char *text, struct cores_map *ret_map);
/* -1: the map has no such core. */
int cores_cpu(const struct cores_map *map, unsigned core);
/* "1,2-7,10" of a mask, for people. */
#define CORES_TEXT_SIZE 256
const char *cores_format(uint64_t mask, char to[CORES_TEXT_SIZE]);
