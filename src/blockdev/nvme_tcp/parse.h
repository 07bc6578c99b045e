/* What a controller says of itself and its namespaces, taken from its identify pages. Pure; believes nothing: every value is
 * bounded here, so that the rest of the folder need not ask. */
#pragma once

#include "base/uuid.h"
#include "block/block.h"
#include "wire/nvme/nvme_identify.h"
#include "wire/nvme/nvme_log.h"

#define INITIATOR_TRANSFER_MAX MIB(1) /* bytes in one command of ours, whatever the controller takes */

struct initiator_controller_facts {
    char serial[21], model[41], firmware[9]; /* printable, blanks at the end taken off */
    uint16_t vendor_id, oacs, cntlid;
    uint32_t version;
    uint8_t cmic;
    uint32_t transfer_max;    /* bytes, a power of two, 4 KiB … INITIATOR_TRANSFER_MAX */
    uint32_t zeroes_max;      /* bytes in one Write Zeroes; 0 = the command is not there */
    uint64_t trim_max_blocks; /* in one range of Dataset Management; 0 = the command is not there */
    uint32_t in_capsule_max;  /* bytes of an I/O command */
    uint16_t commands_max;    /* of an I/O queue, at once; 0 = not said */
    bool ana, ana_events;     /* it reports asymmetric access; and tells of changes */
    bool compare, volatile_cache, namespace_events, limits_page /* CNS 06h is worth asking for */, discovery;
};

/* `page_size`: the controller's smallest memory page, bytes (CAP.MPSMIN). False: unusable, *ret_why says why. */
bool initiator_parse_controller(const struct nvme_identify_controller *page, uint32_t page_size,
                                struct initiator_controller_facts *ret, const char **ret_why);
/* CNS 06h: narrows the limits. */
void initiator_parse_controller_limits(const struct nvme_identify_controller_nvm *page, uint32_t page_size,
                                       struct initiator_controller_facts *facts);

struct initiator_namespace_facts {
    uint32_t nsid, block_size, physical_block_size, optimal_io_bytes;
    uint64_t block_count;
    struct uuid uuid; /* UUID, else NGUID, else nil */
    uint32_t ana_group;
    enum nvme_ana_state ana_state; /* optimized where it is not reported */
    bool read_only, trim_reads_zero, can_share;
    bool replica; /* takes the replica commands */
    bool usable;  /* a format we can serve */
};

/* Identify Namespace of an active namespace. */
void initiator_parse_namespace(const struct nvme_identify_namespace *page, uint32_t nsid, struct initiator_namespace_facts *ret);
/* The log page of asymmetric access, NVME_IDENTIFY_SIZE bytes: sets the states of those whose groups it names. */
void initiator_parse_ana(const uint8_t *page, struct initiator_namespace_facts *found, unsigned count);
/* The descriptors of CNS 03h; NVME_IDENTIFY_SIZE bytes. */
void initiator_parse_descriptors(const uint8_t *page, struct initiator_namespace_facts *facts);
/* The ascending ids after `after` in a namespace list; returns how many were stored, at most `capacity`. *ret_more: the list is
 * full and the last id stored is where to go on. */
unsigned initiator_parse_namespace_list(const uint8_t *page, uint32_t after, uint32_t *to, unsigned capacity, bool *ret_more);
