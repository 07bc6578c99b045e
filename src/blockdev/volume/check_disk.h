/* Inside of the checker: pages of the disk with the journal applied. check_disk.c reads, check.c judges. */
#pragma once

#include "base/hash_map.h"
#include "blockdev/volume/check.h"
#include "blockdev/volume/format.h"

/* A change of the journal, sorted by space, page, and order. */
struct check_change {
    uint32_t space, word;
    uint64_t value, sequence;
};

struct check_page {
    struct hash_node node;
    uint32_t space, index;
    uint64_t sequence;
    uint64_t words[PAGE_WORDS];
};

struct checker {
    struct volume_check *check;
    struct superblock super;
    struct hash_map pages; /* those that are kept: index and table */
    uint32_t layers_end;   /* no layer record is kept from this id on */
    struct check_change *changes;
    size_t change_count, change_capacity;
    uint64_t last_sequence;
    uint64_t total; /* clusters */
    uint64_t *seen; /* a bit a cluster: somebody owns it */
    uint64_t used_seen;
    bool no_memory;
};

void check_problem(struct checker *checker, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Reads superblock and journal. False: *error. */
bool check_disk_open(struct checker *checker, struct error *error);
void check_disk_close(struct checker *checker);
/* A page with all changes applied, or what a page holds that was never written. `reference`: the word that refers to its node.
 * False: damaged (reported) or no memory. */
bool check_page_load(struct checker *checker, uint32_t space, uint32_t index, uint64_t reference, struct check_page *ret_page);
/* A word of an index page or a layer record, 0 if that cannot be had. */
uint64_t check_word(struct checker *checker, enum page_kind kind, uint32_t word);
struct check_page *check_kept(struct checker *checker, enum page_kind kind, uint32_t index);
