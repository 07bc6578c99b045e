#include "blockdev/nvme_tcp/parse.h"

#define IN_CAPSULE_MAX KIB(64)
#define ZEROES_BLOCKS_MAX 65536u /* the command counts blocks in 16 bits */
#define NAMESPACES_IN_LIST (NVME_IDENTIFY_SIZE / 4)

/* Copies ASCII padded with blanks; what is not printable becomes '?'. */
static void text_take(char *to, const char *from, size_t size) {
    size_t length = size;
    while (length > 0 && (from[length - 1] == ' ' || from[length - 1] == '\0'))
        length--;
    for (size_t i = 0; i < length; i++)
        to[i] = from[i] >= 0x20 && from[i] < 0x7f ? from[i] : '?';
    to[length] = '\0';
}

/* unit << shift, at most `limit`. */
static uint64_t shifted(uint64_t unit, unsigned shift, uint64_t limit) {
    return shift >= 32 ? limit : min_u64(unit << shift, limit);
}

bool initiator_parse_controller(const struct nvme_identify_controller *page, uint32_t page_size,
                                struct initiator_controller_facts *ret, const char **ret_why) {
    *ret = (struct initiator_controller_facts){
        .vendor_id = page->vid, .oacs = page->oacs, .cntlid = page->cntlid, .cmic = page->cmic};
    ret->version = page->version;
    text_take(ret->serial, page->serial, sizeof(page->serial));
    text_take(ret->model, page->model, sizeof(page->model));
    text_take(ret->firmware, page->firmware, sizeof(page->firmware));
    ret->discovery = page->type == NVME_CONTROLLER_DISCOVERY;
    if (page->type > NVME_CONTROLLER_DISCOVERY) {
        *ret_why = "it is no I/O controller";
        return false;
    }
    if (!ret->discovery && ((page->sqes & 0xf) > 6 || (page->cqes & 0xf) > 4)) {
        *ret_why = "it wants queue entries of another size";
        return false;
    }
    ret->transfer_max =
        (uint32_t)(page->mdts == 0 ? INITIATOR_TRANSFER_MAX : shifted(page_size, page->mdts, INITIATOR_TRANSFER_MAX));
    if ((page->oncs & NVME_ONCS_WRITE_ZEROES) != 0)
        ret->zeroes_max = ret->transfer_max; /* until the limits page says more */
    if ((page->oncs & NVME_ONCS_DATASET_MANAGEMENT) != 0)
        ret->trim_max_blocks = UINT32_MAX;
    ret->compare = (page->oncs & NVME_ONCS_COMPARE) != 0;
    ret->volatile_cache = (page->vwc & 1) != 0;
    ret->namespace_events = (page->oaes & NVME_AEC_NAMESPACE) != 0;
    ret->ana = (page->cmic & NVME_CMIC_ANA) != 0;
    ret->ana_events = ret->ana && (page->oaes & NVME_AEC_ANA) != 0;
    ret->commands_max = page->maxcmd;
    ret->limits_page = page->version >= NVME_VERSION(1, 4, 0);
    if (page->ioccsz > sizeof(struct nvme_sqe) / 16 && page->icdoff == 0)
        ret->in_capsule_max = (uint32_t)min_u64(page->ioccsz * UINT64_C(16) - sizeof(struct nvme_sqe), IN_CAPSULE_MAX);
    return true;
}

void initiator_parse_controller_limits(const struct nvme_identify_controller_nvm *page, uint32_t page_size,
                                       struct initiator_controller_facts *facts) {
    if (facts->zeroes_max > 0) /* 0 = no limit but the command's own */
        facts->zeroes_max = (uint32_t)shifted(page_size, page->wzsl == 0 ? 32 : page->wzsl, GIB(2));
    if (facts->trim_max_blocks > 0 && page->dmrsl > 0)
        facts->trim_max_blocks = page->dmrsl;
    if (facts->trim_max_blocks > 0 && page->dmsl > 0)
        facts->trim_max_blocks = min_u64(facts->trim_max_blocks, page->dmsl);
}

void initiator_parse_namespace(const struct nvme_identify_namespace *page, uint32_t nsid, struct initiator_namespace_facts *ret) {
    *ret = (struct initiator_namespace_facts){.nsid = nsid, .ana_group = page->anagrpid, .ana_state = NVME_ANA_OPTIMIZED};
    unsigned index = page->flbas & 0xf;
    if (page->nlbaf > 15) /* then bits 6:5 are the index's upper ones */
        index |= (page->flbas >> 1) & 0x30;
    const struct nvme_lba_format *format = &page->formats[index];
    if (index > page->nlbaf || format->metadata_size != 0 || (page->dps & 7) != 0)
        return;
    if (format->block_shift < 9 || format->block_shift > 16 || page->size == 0)
        return;
    ret->block_size = UINT32_C(1) << format->block_shift;
    if (page->size > (UINT64_C(1) << 63) / ret->block_size)
        return;
    ret->block_count = page->size;
    ret->read_only = (page->nsattr & 1) != 0;
    ret->trim_reads_zero = (page->dlfeat & 7) == 1;
    ret->can_share = (page->nmic & 1) != 0;
    struct nvme_identify_replica replica;
    memcpy(&replica, page->vendor, sizeof(replica));
    ret->replica = memcmp(replica.mark, NVME_REPLICA_MARK, sizeof(replica.mark)) == 0 && replica.version == NVME_REPLICA_VERSION;
    if ((page->features & NVME_NSFEAT_OPTIMAL_IO) != 0) {
        uint64_t granularity = (page->npwg + UINT64_C(1)) * ret->block_size,
                 optimal = (page->nows + UINT64_C(1)) * ret->block_size;
        if (is_power_of_two(granularity) && granularity <= MIB(1))
            ret->physical_block_size = (uint32_t)granularity;
        if (page->nows != 0 && optimal <= GIB(1))
            ret->optimal_io_bytes = (uint32_t)optimal;
    }
    memcpy(ret->uuid.bytes, page->nguid, sizeof(ret->uuid.bytes));
    ret->usable = true;
}

static enum nvme_ana_state ana_state_take(uint8_t state) {
    state &= 0xf;
    bool known = (state >= NVME_ANA_OPTIMIZED && state <= NVME_ANA_LOST_STATE) || state == NVME_ANA_CHANGE;
    return known ? (enum nvme_ana_state)state : NVME_ANA_INACCESSIBLE_STATE;
}

void initiator_parse_ana(const uint8_t *page, struct initiator_namespace_facts *found, unsigned count) {
    const struct nvme_ana_header *header = (const void *)page;
    uint64_t at = sizeof(*header);
    for (unsigned i = 0; i < header->group_count && at + sizeof(struct nvme_ana_group) <= NVME_IDENTIFY_SIZE; i++) {
        const struct nvme_ana_group *group = (const void *)(page + at);
        for (unsigned j = 0; j < count; j++)
            if (found[j].ana_group == group->id)
                found[j].ana_state = ana_state_take(group->state);
        at += sizeof(*group) + group->namespace_count * UINT64_C(4);
    }
}

void initiator_parse_descriptors(const uint8_t *page, struct initiator_namespace_facts *facts) {
    for (size_t at = 0; at + sizeof(struct nvme_namespace_descriptor) <= NVME_IDENTIFY_SIZE;) {
        const struct nvme_namespace_descriptor *descriptor = (const void *)(page + at);
        at += sizeof(*descriptor);
        if (descriptor->type == 0 || descriptor->length == 0 || descriptor->length > NVME_IDENTIFY_SIZE - at)
            return;
        if (descriptor->type == NVME_NID_UUID && descriptor->length == sizeof(struct uuid)) {
            struct uuid uuid;
            memcpy(&uuid, page + at, sizeof(uuid));
            if (!uuid_is_nil(&uuid))
                facts->uuid = uuid;
        }
        if (descriptor->type == NVME_NID_NGUID && descriptor->length == sizeof(struct uuid) && uuid_is_nil(&facts->uuid))
            memcpy(&facts->uuid, page + at, sizeof(facts->uuid));
        if (descriptor->type == NVME_NID_CSI && descriptor->length == 1 && page[at] != NVME_CSI_NVM)
            facts->usable = false;
        at += descriptor->length;
    }
}

unsigned initiator_parse_namespace_list(const uint8_t *page, uint32_t after, uint32_t *to, unsigned capacity, bool *ret_more) {
    unsigned count = 0;
    *ret_more = false;
    for (unsigned i = 0; i < NAMESPACES_IN_LIST; i++) {
        uint32_t nsid = get_le32(page + i * 4);
        if (nsid <= after || nsid >= NVME_NSID_ALL - 1) /* the end, or nonsense: the list is ascending */
            return count;
        if (count == capacity)
            return count;
        to[count++] = after = nsid;
    }
    *ret_more = count < capacity;
    return count;
}
