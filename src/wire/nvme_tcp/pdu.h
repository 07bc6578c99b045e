/* NVMe/TCP protocol data units as they travel (TCP Transport specification 1.0, section 3.6). Data only.
 *
 * All members are little-endian and read in place, see wire/nvme/nvme.h. */
#pragma once

#include "wire/nvme/nvme.h"

enum nvme_tcp_type {
    NVME_TCP_ICREQ = 0x00,
    NVME_TCP_ICRESP = 0x01,
    NVME_TCP_H2C_TERM = 0x02,
    NVME_TCP_C2H_TERM = 0x03,
    NVME_TCP_COMMAND = 0x04,
    NVME_TCP_RESPONSE = 0x05,
    NVME_TCP_H2C_DATA = 0x06,
    NVME_TCP_C2H_DATA = 0x07,
    NVME_TCP_R2T = 0x09,
    NVME_TCP_TYPE_COUNT
};

enum nvme_tcp_flag {
    NVME_TCP_FLAG_HEADER_DIGEST = 1 << 0,
    NVME_TCP_FLAG_DATA_DIGEST = 1 << 1,
    NVME_TCP_FLAG_LAST = 1 << 2,   /* data PDUs: the last of its R2T, or of its command */
    NVME_TCP_FLAG_SUCCESS = 1 << 3 /* C2HData: the command is done, no response capsule follows */
};

struct nvme_tcp_common {
    uint8_t type, flags;
    uint8_t header_length; /* bytes, without digest */
    uint8_t data_offset;   /* of the payload from the PDU's begin; 0 without payload */
    uint32_t length;       /* of the whole PDU, digests and padding included */
} NVME_PACKED;

enum { NVME_TCP_DIGEST_HEADER = 1 << 0, NVME_TCP_DIGEST_DATA = 1 << 1 };
struct nvme_tcp_icreq {
    struct nvme_tcp_common common;
    uint16_t version;   /* 0 */
    uint8_t alignment;  /* of payloads sent to the host: (n + 1) * 4 bytes, at most 128 */
    uint8_t digests;    /* asked for */
    uint32_t r2t_limit; /* R2Ts at once a command - 1 */
    uint8_t reserved[112];
} NVME_PACKED;
struct nvme_tcp_icresp {
    struct nvme_tcp_common common;
    uint16_t version;
    uint8_t alignment;       /* of payloads sent to the controller */
    uint8_t digests;         /* in force */
    uint32_t h2c_data_limit; /* payload bytes in one H2CData, at least 4096 */
    uint8_t reserved[112];
} NVME_PACKED;
struct nvme_tcp_term {
    struct nvme_tcp_common common;
    uint16_t fes; /* enum nvme_tcp_fes */
    uint8_t fei[4];
    uint8_t reserved[10];
} NVME_PACKED; /* followed by the header of the PDU at fault, at most 128 bytes */
struct nvme_tcp_command {
    struct nvme_tcp_common common;
    struct nvme_sqe sqe;
} NVME_PACKED;
struct nvme_tcp_response {
    struct nvme_tcp_common common;
    struct nvme_cqe cqe;
} NVME_PACKED;
struct nvme_tcp_data {
    struct nvme_tcp_common common;
    uint16_t cid;
    uint16_t tag;    /* H2CData: the R2T's */
    uint32_t offset; /* in the command's data */
    uint32_t length; /* payload bytes */
    uint8_t reserved[4];
} NVME_PACKED;
struct nvme_tcp_r2t {
    struct nvme_tcp_common common;
    uint16_t cid, tag;
    uint32_t offset, length;
    uint8_t reserved[4];
} NVME_PACKED;

static_assert(sizeof(struct nvme_tcp_common) == 8, "common header");
static_assert(sizeof(struct nvme_tcp_icreq) == 128 && sizeof(struct nvme_tcp_icresp) == 128, "connection initialisation");
static_assert(sizeof(struct nvme_tcp_term) == 24 && offsetof(struct nvme_tcp_term, fei) == 10, "termination request");
static_assert(sizeof(struct nvme_tcp_command) == 72 && sizeof(struct nvme_tcp_response) == 24, "capsules");
static_assert(sizeof(struct nvme_tcp_data) == 24 && offsetof(struct nvme_tcp_data, offset) == 12, "data");
static_assert(sizeof(struct nvme_tcp_r2t) == 24 && offsetof(struct nvme_tcp_r2t, length) == 16, "ready to transfer");

/* Fatal error status of a termination request (3.6.2.4). */
enum nvme_tcp_fes {
    NVME_TCP_FES_INVALID_HEADER = 1, /* fei: byte offset of the field */
    NVME_TCP_FES_SEQUENCE = 2,       /* a PDU that does not belong here */
    NVME_TCP_FES_HEADER_DIGEST = 3,  /* fei: the digest received */
    NVME_TCP_FES_OUT_OF_RANGE = 4,   /* data beyond what was asked for */
    NVME_TCP_FES_LIMIT = 5,          /* more than the negotiated limit */
    NVME_TCP_FES_UNSUPPORTED = 6     /* fei: byte offset of the parameter */
};

enum {
    NVME_TCP_DIGEST_SIZE = 4,
    NVME_TCP_HEADER_MAX = 128, /* of any PDU */
    NVME_TCP_TERM_DATA_MAX = 128,
    NVME_TCP_LEAD_MAX = 255, /* bytes before a payload: data_offset is one byte */
    NVME_TCP_H2C_DATA_LIMIT_MIN = 4096
};
