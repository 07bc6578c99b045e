/* NVMe structures as they travel: commands, completions, data pointers, opcodes, status codes, properties and features, of
 * the Base specification 2.0 and the NVM Command Set specification 1.0. Data only: no behaviour, no transport.
 *
 * All members are little-endian and may be unaligned (packed); the hosts that we run on are little-endian, so that members are
 * read in place. */
#pragma once

#include "base/bytes.h"

#define NVME_PACKED __attribute__((packed))

/* ---- data pointer (Base 4.1.2, 4.1.2.1) ---- */

struct nvme_sgl {
    uint64_t address; /* an offset into the capsule for NVME_SGL_OFFSET */
    uint32_t length;  /* bytes */
    uint8_t reserved[3];
    uint8_t type; /* descriptor type << 4 | sub type */
} NVME_PACKED;
static_assert(sizeof(struct nvme_sgl) == 16, "SGL descriptor");

enum nvme_sgl_type {
    NVME_SGL_OFFSET = 0x01,   /* data block, in the capsule */
    NVME_SGL_TRANSPORT = 0x5a /* transport data block: the transport moves `length` bytes */
};

/* ---- submission queue entry (Base 3.3.3.1; fabrics: 6) ---- */

struct nvme_sqe {
    uint8_t opcode;
    uint8_t flags; /* fused operation in bits 1:0, PRP or SGL in bits 7:6 */
    uint16_t cid;
    union {
        uint32_t nsid;
        uint8_t fabrics_type; /* of NVME_OPCODE_FABRICS */
    } NVME_PACKED;
    uint32_t cdw2, cdw3;
    uint64_t metadata;
    struct nvme_sgl sgl;
    uint32_t cdw10, cdw11, cdw12, cdw13, cdw14, cdw15;
} NVME_PACKED;
static_assert(sizeof(struct nvme_sqe) == 64 && offsetof(struct nvme_sqe, sgl) == 24 && offsetof(struct nvme_sqe, cdw10) == 40,
              "submission queue entry");

enum {
    NVME_FLAG_FUSE_MASK = 0x03,
    NVME_FLAG_PSDT_MASK = 0xc0,
    NVME_FLAG_PSDT_SGL = 0x40 /* what fabrics commands must say */
};
#define NVME_NSID_ALL UINT32_C(0xffffffff)

/* ---- completion queue entry (Base 3.3.3.2) ---- */

struct nvme_cqe {
    union {
        struct {
            uint32_t dw0, dw1;
        } NVME_PACKED;
        uint64_t value; /* of Property Get */
    } NVME_PACKED;
    uint16_t sq_head, sq_id, cid;
    uint16_t status; /* phase in bit 0, then enum nvme_status, then the two retry delay bits, More and Do Not Retry */
} NVME_PACKED;
static_assert(sizeof(struct nvme_cqe) == 16 && offsetof(struct nvme_cqe, status) == 14, "completion queue entry");

/* Status code type << 8 | status code, as in bits 11:1 of a completion's status. */
enum nvme_status {
    NVME_SUCCESS = 0x000,
    NVME_INVALID_OPCODE = 0x001,
    NVME_INVALID_FIELD = 0x002,
    NVME_CID_CONFLICT = 0x003,
    NVME_DATA_TRANSFER_ERROR = 0x004,
    NVME_INTERNAL_ERROR = 0x006,
    NVME_ABORTED_BY_REQUEST = 0x007,
    NVME_ABORTED_SQ_DELETION = 0x008,
    NVME_ABORTED_FAILED_FUSED = 0x009,
    NVME_ABORTED_MISSING_FUSED = 0x00a,
    NVME_INVALID_NAMESPACE = 0x00b,
    NVME_COMMAND_SEQUENCE_ERROR = 0x00c,
    NVME_SGL_INVALID_SEGMENT = 0x00d,
    NVME_SGL_INVALID_COUNT = 0x00e,
    NVME_SGL_INVALID_LENGTH = 0x00f,
    NVME_SGL_INVALID_TYPE = 0x011,
    NVME_SGL_INVALID_OFFSET = 0x016,
    NVME_HOST_ID_INCONSISTENT = 0x018,
    NVME_KEEP_ALIVE_EXPIRED = 0x019,
    NVME_KEEP_ALIVE_INVALID = 0x01a,
    NVME_NAMESPACE_WRITE_PROTECTED = 0x020,
    NVME_COMMAND_INTERRUPTED = 0x021,
    NVME_TRANSIENT_TRANSPORT_ERROR = 0x022,
    NVME_INVALID_COMMAND_SET = 0x02c, /* I/O Command Set Not Supported */
    NVME_LBA_OUT_OF_RANGE = 0x080,
    NVME_CAPACITY_EXCEEDED = 0x081,
    NVME_NAMESPACE_NOT_READY = 0x082,
    NVME_RESERVATION_CONFLICT = 0x083,

    NVME_INVALID_QUEUE_ID = 0x101,
    NVME_INVALID_QUEUE_SIZE = 0x102,
    NVME_ABORT_LIMIT_EXCEEDED = 0x103,
    NVME_AER_LIMIT_EXCEEDED = 0x105,
    NVME_INVALID_LOG_PAGE = 0x109,
    NVME_FEATURE_NOT_SAVEABLE = 0x10d,
    NVME_FEATURE_NOT_CHANGEABLE = 0x10e,
    NVME_FEATURE_NOT_NAMESPACE_SPECIFIC = 0x10f,
    NVME_CONFLICTING_ATTRIBUTES = 0x180,
    NVME_INVALID_PROTECTION = 0x181,
    NVME_READ_ONLY_RANGE = 0x182,
    NVME_SIZE_LIMIT_EXCEEDED = 0x183,

    NVME_CONNECT_INCOMPATIBLE_FORMAT = 0x180, /* of fabrics commands */
    NVME_CONNECT_CONTROLLER_BUSY = 0x181,
    NVME_CONNECT_INVALID_PARAMETERS = 0x182,
    NVME_CONNECT_RESTART_DISCOVERY = 0x183,
    NVME_CONNECT_INVALID_HOST = 0x184,
    NVME_DISCOVERY_RESTART = 0x190,
    NVME_AUTHENTICATION_REQUIRED = 0x191,

    NVME_WRITE_FAULT = 0x280,
    NVME_UNRECOVERED_READ = 0x281,
    NVME_COMPARE_FAILURE = 0x285,
    NVME_ACCESS_DENIED = 0x286,
    NVME_DEALLOCATED_BLOCK = 0x287,

    NVME_PATH_INTERNAL_ERROR = 0x300,
    NVME_ANA_PERSISTENT_LOSS = 0x301,
    NVME_ANA_INACCESSIBLE = 0x302,
    NVME_ANA_TRANSITION = 0x303,
    NVME_PATH_CONTROLLER_ERROR = 0x360,
    NVME_PATH_HOST_ERROR = 0x370,
    NVME_PATH_HOST_ABORTED = 0x371,

    NVME_STATUS_MASK = 0x7ff,
    NVME_STATUS_MORE = 0x2000,
    NVME_DO_NOT_RETRY = 0x4000
};

/* The completion's status field (phase 0, as fabrics want it) of an enum nvme_status with or without NVME_DO_NOT_RETRY. */
static inline uint16_t nvme_status_field(unsigned status) { return (uint16_t)(status << 1); }
/* The enum nvme_status of a completion, its flags taken off. */
static inline unsigned nvme_status_code(const struct nvme_cqe *cqe) { return (cqe->status >> 1) & NVME_STATUS_MASK; }
static inline bool nvme_status_do_not_retry(const struct nvme_cqe *cqe) { return (cqe->status >> 1) & NVME_DO_NOT_RETRY; }

/* ---- opcodes; bits 1:0 are the direction (Base 3.3.3.1) ---- */

enum nvme_direction { NVME_NO_DATA = 0, NVME_HOST_TO_CONTROLLER = 1, NVME_CONTROLLER_TO_HOST = 2, NVME_BOTH_WAYS = 3 };

enum nvme_admin_opcode {
    NVME_ADMIN_DELETE_SQ = 0x00,
    NVME_ADMIN_CREATE_SQ = 0x01,
    NVME_ADMIN_GET_LOG_PAGE = 0x02,
    NVME_ADMIN_DELETE_CQ = 0x04,
    NVME_ADMIN_CREATE_CQ = 0x05,
    NVME_ADMIN_IDENTIFY = 0x06,
    NVME_ADMIN_ABORT = 0x08,
    NVME_ADMIN_SET_FEATURES = 0x09,
    NVME_ADMIN_GET_FEATURES = 0x0a,
    NVME_ADMIN_ASYNC_EVENT = 0x0c,
    NVME_ADMIN_KEEP_ALIVE = 0x18,
    NVME_OPCODE_FABRICS = 0x7f
};

enum nvme_io_opcode {
    NVME_IO_FLUSH = 0x00,
    NVME_IO_WRITE = 0x01,
    NVME_IO_READ = 0x02,
    NVME_IO_WRITE_UNCORRECTABLE = 0x04,
    NVME_IO_COMPARE = 0x05,
    NVME_IO_WRITE_ZEROES = 0x08,
    NVME_IO_DATASET_MANAGEMENT = 0x09,
    NVME_IO_VERIFY = 0x0c,
    /* Ours, of the range for vendors, where a namespace says so (struct nvme_identify_replica): documents of a mirror's leg.
     * Offset in cdw10 and 11, argument in 12 and 13, the other dwords 0; the data pointer says the length, which may be 0 for
     * PUT. */
    NVME_IO_REPLICA_PUT = 0x81,
    NVME_IO_REPLICA_GET = 0x82
};

/* Read, Write, Compare, Write Zeroes: cdw10/11 = first block, cdw12 = these bits and the block count - 1 in bits 15:0. */
#define NVME_IO_LIMITED_RETRY (UINT32_C(1) << 31)
#define NVME_IO_FORCE_UNIT_ACCESS (UINT32_C(1) << 30)
#define NVME_IO_PROTECTION_MASK (UINT32_C(0xf) << 26)
#define NVME_IO_DEALLOCATE (UINT32_C(1) << 25) /* Write Zeroes */
#define NVME_IO_STORAGE_TAG_CHECK (UINT32_C(1) << 24)
#define NVME_IO_BLOCKS_MASK UINT32_C(0xffff)
/* Ours, of Write, in the reserved bits of cdw13, where a namespace takes the replica commands: BLOCK_UNMARKED. */
#define NVME_IO_UNMARKED (UINT32_C(1) << 8)

/* Dataset Management (NVM 3.2.3): cdw10 = ranges - 1, cdw11 = attributes, data = ranges. */
enum { NVME_DSM_DEALLOCATE = 1 << 2, NVME_DSM_RANGES_MAX = 256 };
struct nvme_dsm_range {
    uint32_t attributes, block_count;
    uint64_t first_block;
} NVME_PACKED;
static_assert(sizeof(struct nvme_dsm_range) == 16, "dataset management range");

/* ---- fabrics commands (Base 6) ---- */

enum nvme_fabrics_type { NVME_FABRICS_PROPERTY_SET = 0x00, NVME_FABRICS_CONNECT = 0x01, NVME_FABRICS_PROPERTY_GET = 0x04 };

struct nvme_connect {
    uint8_t opcode, flags;
    uint16_t cid;
    uint8_t fabrics_type;
    uint8_t reserved1[19];
    struct nvme_sgl sgl;
    uint16_t record_format; /* 0 */
    uint16_t qid;           /* 0 = admin */
    uint16_t sq_size;       /* entries - 1 */
    uint8_t attributes;     /* NVME_CONNECT_* */
    uint8_t reserved2;
    uint32_t kato_ms; /* keep-alive timeout, admin queue only; 0 = none */
    uint8_t reserved3[12];
} NVME_PACKED;
static_assert(sizeof(struct nvme_connect) == 64 && offsetof(struct nvme_connect, qid) == 42 &&
                  offsetof(struct nvme_connect, kato_ms) == 48,
              "Connect");
enum { NVME_CONNECT_DISABLE_SQ_FLOW = 1 << 2 /* the host ignores SQ head: no flow control on the submission queue */ };

#define NVME_NQN_SIZE 256       /* field size in Connect data and log entries */
#define NVME_NQN_LENGTH_MAX 223 /* characters, Base 4.5 */
struct nvme_connect_data {
    uint8_t host_id[16];
    uint16_t cntlid; /* 0xffff: a dynamic controller is wanted */
    /* Ours, in bytes that the specification reserves (zero from other hosts, ignored by other targets): controllers of one host
     * with the same line, made one after the other, replace each other. Counts only with the mark. */
    uint8_t line_mark[4]; /* NVME_CONNECT_LINE_MARK */
    uint8_t line[16];     /* random, one for each attachment */
    uint8_t reserved1[218];
    char subnqn[NVME_NQN_SIZE], hostnqn[NVME_NQN_SIZE];
    uint8_t reserved2[256];
} NVME_PACKED;
static_assert(sizeof(struct nvme_connect_data) == 1024 && offsetof(struct nvme_connect_data, subnqn) == 256, "Connect data");
#define NVME_CONNECT_LINE_MARK "\x89PSL"
#define NVME_CNTLID_DYNAMIC 0xffff
#define NVME_CNTLID_MAX 0xffef /* higher ones have meanings */

struct nvme_property {
    uint8_t opcode, flags;
    uint16_t cid;
    uint8_t fabrics_type;
    uint8_t reserved1[35];
    uint8_t attributes; /* bits 2:0: 0 = 4 bytes, 1 = 8 bytes */
    uint8_t reserved2[3];
    uint32_t offset;
    uint64_t value; /* of Property Set */
    uint8_t reserved3[8];
} NVME_PACKED;
static_assert(sizeof(struct nvme_property) == 64 && offsetof(struct nvme_property, offset) == 44, "Property Get and Set");

#define NVME_DISCOVERY_NQN "nqn.2014-08.org.nvmexpress.discovery"

/* ---- properties (Base 3.1.3) ---- */

enum nvme_property_offset {
    NVME_PROPERTY_CAP = 0x00,
    NVME_PROPERTY_VS = 0x08,
    NVME_PROPERTY_CC = 0x14,
    NVME_PROPERTY_CSTS = 0x1c,
    NVME_PROPERTY_NSSR = 0x20
};
#define NVME_VERSION(major, minor, patch) ((uint32_t)(major) << 16 | (uint32_t)(minor) << 8 | (uint32_t)(patch))

/* CAP: maximum queue entries - 1, contiguous queues required, ready timeout in 500 ms units, command sets. */
#define NVME_CAP_MQES(entries) ((uint64_t)((entries)-1) & 0xffff)
#define NVME_CAP_CQR (UINT64_C(1) << 16)
#define NVME_CAP_TIMEOUT(half_seconds) ((uint64_t)(half_seconds) << 24)
#define NVME_CAP_CSS_NVM (UINT64_C(1) << 37)

enum nvme_cc {
    NVME_CC_ENABLE = 1 << 0,
    NVME_CC_CSS_MASK = 7 << 4,
    NVME_CC_MPS_MASK = 0xf << 7,
    NVME_CC_AMS_MASK = 7 << 11,
    NVME_CC_SHN_MASK = 3 << 14,
    NVME_CC_SHN_NORMAL = 1 << 14,
    NVME_CC_SHN_ABRUPT = 2 << 14,
    NVME_CC_IOSQES_MASK = 0xf << 16,
    NVME_CC_IOSQES_64 = 6 << 16,
    NVME_CC_IOCQES_MASK = 0xf << 20,
    NVME_CC_IOCQES_16 = 4 << 20
};
enum nvme_csts {
    NVME_CSTS_READY = 1 << 0,
    NVME_CSTS_FATAL = 1 << 1,
    NVME_CSTS_SHST_MASK = 3 << 2,
    NVME_CSTS_SHST_OCCURRING = 1 << 2,
    NVME_CSTS_SHST_COMPLETE = 2 << 2
};

/* ---- features (Base 5.27) ---- */

enum nvme_feature {
    NVME_FEATURE_ARBITRATION = 0x01,
    NVME_FEATURE_POWER_MANAGEMENT = 0x02,
    NVME_FEATURE_TEMPERATURE_THRESHOLD = 0x04,
    NVME_FEATURE_ERROR_RECOVERY = 0x05,
    NVME_FEATURE_VOLATILE_WRITE_CACHE = 0x06,
    NVME_FEATURE_NUMBER_OF_QUEUES = 0x07,
    NVME_FEATURE_WRITE_ATOMICITY = 0x0a,
    NVME_FEATURE_ASYNC_EVENT_CONFIG = 0x0b,
    NVME_FEATURE_KEEP_ALIVE_TIMER = 0x0f,
    NVME_FEATURE_HOST_BEHAVIOR = 0x16,
    NVME_FEATURE_HOST_ID = 0x81
};
enum nvme_feature_select {
    NVME_SELECT_CURRENT = 0,
    NVME_SELECT_DEFAULT = 1,
    NVME_SELECT_SAVED = 2,
    NVME_SELECT_CAPABILITIES = 3
};
enum { NVME_FEATURE_IS_CHANGEABLE = 1 << 2 /* dword 0 of NVME_SELECT_CAPABILITIES */ };
#define NVME_FEATURE_SAVE (UINT32_C(1) << 31) /* Set Features cdw10 */

/* Asynchronous events (Base 5.2): the completion's dw0 = type | info << 8 | log page << 16. */
enum nvme_event_type { NVME_EVENT_ERROR = 0, NVME_EVENT_SMART = 1, NVME_EVENT_NOTICE = 2 };
enum nvme_event_info { NVME_NOTICE_NAMESPACE = 0x00, NVME_NOTICE_ANA = 0x03, NVME_NOTICE_DISCOVERY = 0xf0 };
/* Bits of the async event configuration and of OAES. */
#define NVME_AEC_SMART_MASK UINT32_C(0xff)
#define NVME_AEC_NAMESPACE (UINT32_C(1) << 8)
#define NVME_AEC_ANA (UINT32_C(1) << 11)
#define NVME_AEC_DISCOVERY (UINT32_C(1) << 31)
