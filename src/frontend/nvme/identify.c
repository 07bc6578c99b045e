/* Identify: what hosts ask of controllers and namespaces (Base 5.17). */
#include <stdio.h>

#include "block/replica.h"
#include "frontend/nvme/internal.h"

#define FIRMWARE "0.1.0"

/* ASCII, padded with blanks, not terminated. */
static void text_put(char *to, size_t size, const char *from) {
    size_t length = strnlen(from, size);
    memset(to, ' ', size);
    memcpy(to, from, length);
}

static void controller_identify(struct nvme_controller *controller, struct nvme_identify_controller *id) {
    const struct nvme_subsystem *subsystem = controller->subsystem;
    const struct nvme_transport_options *options = &controller->transport->options;
    text_put(id->serial, sizeof(id->serial), subsystem->serial);
    text_put(id->model, sizeof(id->model), subsystem->model);
    text_put(id->firmware, sizeof(id->firmware), FIRMWARE);
    id->cmic = NVME_CMIC_PORTS | NVME_CMIC_CONTROLLERS;
    id->mdts = (uint8_t)log2_u64(options->max_io_bytes / 4096);
    id->cntlid = controller->cntlid;
    id->version = NVME_VERSION(1, 4, 0);
    id->ctratt = 1 << 0;
    id->type = subsystem->discovery ? NVME_CONTROLLER_DISCOVERY : NVME_CONTROLLER_IO;
    id->lpa = NVME_LPA_EXTENDED;
    id->aerl = NVME_LIMIT_AER - 1;
    id->elpe = NVME_ERROR_LOG_ENTRIES - 1;
    id->kas = NVME_KATO_GRANULARITY_MS / 100;
    id->maxcmd = options->queue_depth;
    id->sgls = NVME_SGLS_FABRICS;
    memcpy(id->subnqn, subsystem->nqn, strlen(subsystem->nqn));
    id->oaes = nvme_controller_events(controller);
    if (subsystem->discovery)
        return;
    id->rab = 6;
    id->acl = NVME_LIMIT_ABORTS - 1;
    id->frmw = 1 << 0 | 1 << 1; /* one slot, read only */
    id->lpa |= NVME_LPA_EFFECTS;
    id->wctemp = 273 + 70;
    id->cctemp = 273 + 80;
    id->sqes = 6 << 4 | 6;
    id->cqes = 4 << 4 | 4;
    id->nn = id->mnan = subsystem->max_namespaces;
    id->oncs = NVME_ONCS_COMPARE | NVME_ONCS_DATASET_MANAGEMENT | NVME_ONCS_WRITE_ZEROES | NVME_ONCS_SAVE_SELECT;
    id->vwc = 1 | 2 << 1; /* flush of all namespaces at once is refused */
    id->ioccsz = (uint32_t)(sizeof(struct nvme_sqe) + options->in_capsule_bytes) / 16;
    id->iorcsz = sizeof(struct nvme_cqe) / 16;
    id->msdbd = 1;
    id->ofcs = 0;
    if (controller->path == NULL)
        return;
    id->cmic |= NVME_CMIC_ANA;
    id->anatt = NVME_ANA_TRANSITION_S;
    id->anacap = NVME_ANACAP_OPTIMIZED | NVME_ANACAP_NON_OPTIMIZED | NVME_ANACAP_INACCESSIBLE | NVME_ANACAP_CHANGE |
                 NVME_ANACAP_GROUP_FIXED;
    id->anagrpmax = id->nanagrpid = subsystem->max_namespaces;
}

/* A PUT cannot be split. */
bool nvme_namespace_is_replica(const struct nvme_namespace *ns, const struct nvme_transport *transport) {
    return block_device_is_replica(ns->device) && transport->options.max_io_bytes >= REPLICA_DOCUMENT_MAX;
}

static void namespace_identify(const struct nvme_namespace *ns, const struct nvme_transport *transport,
                               struct nvme_identify_namespace *id) {
    const struct block_device *device = ns->device;
    id->size = id->capacity = id->used = block_device_size(device) >> ns->block_shift;
    id->features = NVME_NSFEAT_OPTIMAL_IO | (device->native_ops & BLOCK_BIT(BLOCK_TRIM) ? NVME_NSFEAT_THIN : 0);
    id->nmic = 1;
    id->anagrpid = ns->subsystem->ana ? ns->anagrpid : 0;
    id->dlfeat = (uint8_t)((device->trim_reads_zero ? 1 : 0) | 1 << 3);
    uint32_t block = device->block_size, unit = max_u32(device->physical_block_size, block);
    uint32_t optimal = device->optimal_io_bytes > unit ? device->optimal_io_bytes : unit;
    id->nawupf = id->nawun = (uint16_t)(unit / block - 1);
    id->npwg = id->npwa = (uint16_t)(unit / block - 1);
    id->npdg = id->npda = (uint16_t)(unit / block - 1);
    id->nows = (uint16_t)(min_u64(optimal / block, 65536) - 1);
    id->nsattr = atomic_load_explicit(&device->read_only, memory_order_relaxed) ? 1 : 0;
    memcpy(id->nguid, ns->nguid, sizeof(id->nguid));
    memcpy(id->eui64, ns->eui64, sizeof(id->eui64));
    id->formats[0].block_shift = (uint8_t)ns->block_shift;
    if (nvme_namespace_is_replica(ns, transport)) {
        struct nvme_identify_replica replica = {.mark = NVME_REPLICA_MARK, .version = NVME_REPLICA_VERSION};
        memcpy(id->vendor, &replica, sizeof(replica));
    }
}

static size_t descriptor_put(uint8_t *at, uint8_t type, const void *id, uint8_t length) {
    struct nvme_namespace_descriptor descriptor = {.type = type, .length = length};
    memcpy(at, &descriptor, sizeof(descriptor));
    memcpy(at + sizeof(descriptor), id, length);
    return sizeof(descriptor) + length;
}

static void descriptors_identify(const struct nvme_namespace *ns, uint8_t *to) {
    static const uint8_t zero[16];
    uint8_t csi = NVME_CSI_NVM;
    if (memcmp(ns->eui64, zero, sizeof(ns->eui64)) != 0)
        to += descriptor_put(to, NVME_NID_EUI64, ns->eui64, 8);
    if (memcmp(ns->nguid, zero, sizeof(ns->nguid)) != 0)
        to += descriptor_put(to, NVME_NID_NGUID, ns->nguid, 16);
    to += descriptor_put(to, NVME_NID_UUID, ns->uuid.bytes, 16);
    descriptor_put(to, NVME_NID_CSI, &csi, 1);
}

static void independent_identify(const struct nvme_namespace *ns, struct nvme_identify_namespace_independent *id) {
    id->nmic = 1;
    id->anagrpid = ns->subsystem->ana ? ns->anagrpid : 0;
    id->nsattr = atomic_load_explicit(&ns->device->read_only, memory_order_relaxed) ? 1 : 0;
    id->status = 1;
}

static void active_list(const struct nvme_subsystem *subsystem, uint32_t after, uint32_t *to) {
    uint32_t count = 0;
    for (uint64_t nsid = (uint64_t)after + 1; nsid <= subsystem->max_namespaces && count < NVME_IDENTIFY_SIZE / 4; nsid++)
        if (subsystem->by_id[nsid] != NULL && !subsystem->by_id[nsid]->detaching)
            to[count++] = (uint32_t)nsid;
}

/* Controllers of this subsystem in order of id, from `from` on. */
static void controller_list(const struct nvme_subsystem *subsystem, uint16_t from, uint16_t *to) {
    for (uint32_t next = from; to[0] < NVME_IDENTIFY_SIZE / 2 - 1;) {
        uint32_t best = UINT32_MAX;
        list_for_each (&subsystem->live, struct nvme_controller, controller, live_node)
            if (!controller->lost && controller->cntlid >= next && controller->cntlid < best)
                best = controller->cntlid;
        if (best == UINT32_MAX)
            return;
        to[++to[0]] = (uint16_t)best;
        next = best + 1;
    }
}

/* Answers into command->data, NVME_IDENTIFY_SIZE bytes that are zero. */
static unsigned identify(struct nvme_controller *controller, const struct nvme_sqe *sqe, void *to) {
    struct nvme_subsystem *subsystem = controller->subsystem;
    uint8_t cns = sqe->cdw10 & 0xff, csi = (uint8_t)(sqe->cdw11 >> 24);
    uint16_t cntid = (uint16_t)(sqe->cdw10 >> 16);
    if (cns == NVME_CNS_CONTROLLER) {
        controller_identify(controller, to);
        return NVME_SUCCESS;
    }
    if (subsystem->discovery)
        return NVME_INVALID_FIELD;
    bool of_csi =
        cns == NVME_CNS_NAMESPACE_OF_CSI || cns == NVME_CNS_CONTROLLER_OF_CSI || cns == NVME_CNS_ACTIVE_NAMESPACES_OF_CSI;
    if (of_csi && csi != NVME_CSI_NVM)
        return NVME_INVALID_FIELD;
    struct nvme_namespace *ns = NULL;
    switch (cns) {
    case NVME_CNS_NAMESPACE:
    case NVME_CNS_NAMESPACE_DESCRIPTORS:
    case NVME_CNS_NAMESPACE_OF_CSI:
    case NVME_CNS_NAMESPACE_INDEPENDENT:
    case NVME_CNS_ALLOCATED_NAMESPACE:
    case NVME_CNS_CONTROLLERS_OF_NAMESPACE: {
        bool common = sqe->nsid == NVME_NSID_ALL && cns == NVME_CNS_NAMESPACE;
        if (common) /* what is common to all namespaces: nothing is, and management is not supported */
            return NVME_INVALID_NAMESPACE;
        if (sqe->nsid == 0 || sqe->nsid > subsystem->max_namespaces)
            return NVME_INVALID_NAMESPACE;
        ns = subsystem->by_id[sqe->nsid];
        if (ns != NULL && ns->detaching)
            ns = NULL;
        /* An inactive namespace reads as zero in the plain forms, and is no namespace in the others. */
        if (ns == NULL)
            return cns == NVME_CNS_NAMESPACE || cns == NVME_CNS_NAMESPACE_OF_CSI || cns == NVME_CNS_ALLOCATED_NAMESPACE
                       ? NVME_SUCCESS
                       : NVME_INVALID_NAMESPACE;
        break;
    }
    case NVME_CNS_ACTIVE_NAMESPACES:
    case NVME_CNS_ACTIVE_NAMESPACES_OF_CSI:
    case NVME_CNS_ALLOCATED_NAMESPACES:
        if (sqe->nsid >= 0xfffffffe)
            return NVME_INVALID_NAMESPACE;
        break;
    default: break;
    }
    switch (cns) {
    case NVME_CNS_NAMESPACE:
    case NVME_CNS_ALLOCATED_NAMESPACE: namespace_identify(ns, controller->transport, to); return NVME_SUCCESS;
    case NVME_CNS_NAMESPACE_DESCRIPTORS: descriptors_identify(ns, to); return NVME_SUCCESS;
    case NVME_CNS_NAMESPACE_OF_CSI: return NVME_SUCCESS; /* no protection information: all zero */
    case NVME_CNS_NAMESPACE_INDEPENDENT: independent_identify(ns, to); return NVME_SUCCESS;
    case NVME_CNS_CONTROLLER_OF_CSI: {
        struct nvme_identify_controller_nvm *id = to;
        id->wzsl = 13; /* 4 KiB << 13: what a command can say with blocks of 512 bytes */
        id->dmrl = NVME_DSM_RANGES_MAX - 1;
        return NVME_SUCCESS;
    }
    case NVME_CNS_ACTIVE_NAMESPACES:
    case NVME_CNS_ACTIVE_NAMESPACES_OF_CSI:
    case NVME_CNS_ALLOCATED_NAMESPACES: active_list(subsystem, sqe->nsid, to); return NVME_SUCCESS;
    case NVME_CNS_CONTROLLERS_OF_NAMESPACE:
    case NVME_CNS_CONTROLLERS: controller_list(subsystem, cntid, to); return NVME_SUCCESS;
    case NVME_CNS_COMMAND_SETS: ((uint64_t *)to)[0] = UINT64_C(1) << NVME_CSI_NVM; return NVME_SUCCESS;
    default: return NVME_INVALID_FIELD;
    }
}

unsigned nvme_identify(struct nvme_controller *controller, struct nvme_command *command) {
    if (command->length != NVME_IDENTIFY_SIZE)
        return NVME_SGL_INVALID_LENGTH | NVME_DO_NOT_RETRY;
    memset(command->data, 0, NVME_IDENTIFY_SIZE);
    unsigned status = identify(controller, &command->sqe, command->data);
    return status == NVME_SUCCESS ? status : status | NVME_DO_NOT_RETRY;
}
