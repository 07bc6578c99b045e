/* Identify data structures (Base 5.17, NVM Command Set 4.1.5). Data only; see nvme.h for the rules of these structs. */
#pragma once

#include "wire/nvme/nvme.h"

#define NVME_IDENTIFY_SIZE 4096

enum nvme_cns {
    NVME_CNS_NAMESPACE = 0x00,
    NVME_CNS_CONTROLLER = 0x01,
    NVME_CNS_ACTIVE_NAMESPACES = 0x02,
    NVME_CNS_NAMESPACE_DESCRIPTORS = 0x03,
    NVME_CNS_NAMESPACE_OF_CSI = 0x05,
    NVME_CNS_CONTROLLER_OF_CSI = 0x06,
    NVME_CNS_ACTIVE_NAMESPACES_OF_CSI = 0x07,
    NVME_CNS_NAMESPACE_INDEPENDENT = 0x08,
    NVME_CNS_ALLOCATED_NAMESPACES = 0x10,
    NVME_CNS_ALLOCATED_NAMESPACE = 0x11,
    NVME_CNS_CONTROLLERS_OF_NAMESPACE = 0x12,
    NVME_CNS_CONTROLLERS = 0x13,
    NVME_CNS_COMMAND_SETS = 0x1c
};
enum { NVME_CSI_NVM = 0 };

struct nvme_identify_controller {
    uint16_t vid, ssvid;
    char serial[20], model[40], firmware[8]; /* ASCII, padded with blanks */
    uint8_t rab, ieee[3];
    uint8_t cmic; /* bit 0 several ports, 1 several controllers, 3 ANA */
    uint8_t mdts; /* largest transfer: 4 KiB << mdts; 0 = no limit */
    uint16_t cntlid;
    uint32_t version, rtd3r, rtd3e;
    uint32_t oaes;   /* NVME_AEC_* that can be sent */
    uint32_t ctratt; /* bit 0: 128-bit host id */
    uint16_t rrls;
    uint8_t reserved102[9];
    uint8_t type; /* enum nvme_controller_type */
    uint8_t fguid[16];
    uint16_t crdt[3];
    uint8_t reserved134[122];
    uint16_t oacs;
    uint8_t acl;  /* aborts at once - 1 */
    uint8_t aerl; /* async event requests at once - 1 */
    uint8_t frmw, lpa;
    uint8_t elpe; /* error log entries - 1 */
    uint8_t npss, avscc, apsta;
    uint16_t wctemp, cctemp, mtfa;
    uint32_t hmpre, hmmin;
    uint8_t tnvmcap[16], unvmcap[16];
    uint32_t rpmbs;
    uint16_t edstt;
    uint8_t dsto, fwug;
    uint16_t kas; /* keep-alive granularity in 100 ms */
    uint16_t hctma, mntmt, mxtmt;
    uint32_t sanicap, hmminds;
    uint16_t hmmaxd, nsetidmax, endgidmax;
    uint8_t anatt, anacap;
    uint32_t anagrpmax, nanagrpid, pels;
    uint16_t domain_id;
    uint8_t reserved358[10];
    uint8_t megcap[16];
    uint8_t reserved384[128];
    uint8_t sqes, cqes; /* log2 of required (3:0) and largest (7:4) entry size */
    uint16_t maxcmd;    /* commands at once a queue */
    uint32_t nn;        /* largest namespace id */
    uint16_t oncs, fuses;
    uint8_t fna;
    uint8_t vwc; /* bit 0 volatile write cache; bits 2:1 = 11b: flush of all namespaces works */
    uint16_t awun, awupf;
    uint8_t icsvscc, nwpc;
    uint16_t acwu, cdfs;
    uint32_t sgls;
    uint32_t mnan; /* namespaces at once */
    uint8_t maxdna[16];
    uint32_t maxcna;
    uint8_t reserved564[204];
    char subnqn[NVME_NQN_SIZE];
    uint8_t reserved1024[768];
    uint32_t ioccsz, iorcsz; /* I/O command and response capsule in 16-byte units */
    uint16_t icdoff;
    uint8_t fcatt, msdbd;
    uint16_t ofcs;
    uint8_t reserved1806[242];
    uint8_t power_states[32][32];
    uint8_t vendor[1024];
} NVME_PACKED;
static_assert(sizeof(struct nvme_identify_controller) == NVME_IDENTIFY_SIZE, "Identify Controller");
#define AT(member, offset)                                                                                                       \
    static_assert(offsetof(struct nvme_identify_controller, member) == (offset), "Identify Controller: " #member)
AT(cntlid, 78);
AT(oaes, 92);
AT(type, 111);
AT(oacs, 256);
AT(tnvmcap, 280);
AT(kas, 320);
AT(anatt, 342);
AT(sqes, 512);
AT(nn, 516);
AT(vwc, 525);
AT(sgls, 536);
AT(subnqn, 768);
AT(ioccsz, 1792);
AT(power_states, 2048);
#undef AT

enum nvme_cmic { NVME_CMIC_PORTS = 1 << 0, NVME_CMIC_CONTROLLERS = 1 << 1, NVME_CMIC_ANA = 1 << 3 };
enum nvme_anacap { /* states that are reported, and that a namespace's group stays the same while it is attached */
                   NVME_ANACAP_OPTIMIZED = 1 << 0,
                   NVME_ANACAP_NON_OPTIMIZED = 1 << 1,
                   NVME_ANACAP_INACCESSIBLE = 1 << 2,
                   NVME_ANACAP_CHANGE = 1 << 4,
                   NVME_ANACAP_GROUP_FIXED = 1 << 6
};
enum nvme_controller_type { NVME_CONTROLLER_IO = 1, NVME_CONTROLLER_DISCOVERY = 2 };
enum nvme_oncs {
    NVME_ONCS_COMPARE = 1 << 0,
    NVME_ONCS_DATASET_MANAGEMENT = 1 << 2,
    NVME_ONCS_WRITE_ZEROES = 1 << 3,
    NVME_ONCS_SAVE_SELECT = 1 << 4,
    NVME_ONCS_RESERVATIONS = 1 << 5
};
enum nvme_lpa { NVME_LPA_EFFECTS = 1 << 1, NVME_LPA_EXTENDED = 1 << 2 };
/* SGLs wanted: dword aligned none, in-capsule offsets (bit 20), transport data block (bit 21). */
#define NVME_SGLS_FABRICS (UINT32_C(1) << 0 | UINT32_C(1) << 20 | UINT32_C(1) << 21)

struct nvme_lba_format {
    uint16_t metadata_size;
    uint8_t block_shift; /* log2 of the block's bytes */
    uint8_t performance;
} NVME_PACKED;

struct nvme_identify_namespace {
    uint64_t size, capacity, used; /* blocks */
    uint8_t features;              /* enum nvme_nsfeat */
    uint8_t nlbaf;                 /* formats - 1 */
    uint8_t flbas;                 /* format in use, bits 3:0 */
    uint8_t mc, dpc, dps;
    uint8_t nmic; /* bit 0: may be reached by several controllers */
    uint8_t rescap, fpi;
    uint8_t dlfeat; /* bits 2:0 = 1: deallocated blocks read as zero; bit 3: Write Zeroes may deallocate */
    uint16_t nawun, nawupf, nacwu, nabsn, nabo, nabspf;
    uint16_t noiob;
    uint8_t nvmcap[16];
    uint16_t npwg, npwa, npdg, npda, nows; /* preferred write and deallocate granularity and alignment, blocks - 1 */
    uint16_t mssrl;
    uint32_t mcl;
    uint8_t msrc;
    uint8_t reserved81[11];
    uint32_t anagrpid;
    uint8_t reserved96[3];
    uint8_t nsattr; /* bit 0: write protected */
    uint16_t nvmsetid, endgid;
    uint8_t nguid[16], eui64[8];
    struct nvme_lba_format formats[64];
    uint8_t vendor[3712];
} NVME_PACKED;
static_assert(sizeof(struct nvme_identify_namespace) == NVME_IDENTIFY_SIZE &&
                  offsetof(struct nvme_identify_namespace, npwg) == 64 &&
                  offsetof(struct nvme_identify_namespace, anagrpid) == 92 &&
                  offsetof(struct nvme_identify_namespace, nguid) == 104 &&
                  offsetof(struct nvme_identify_namespace, formats) == 128,
              "Identify Namespace");
/* Ours, at the beginning of `vendor`: the namespace takes NVME_IO_REPLICA_PUT and _GET. Counts only with the mark, and in the
 * version that is known. */
struct nvme_identify_replica {
    uint8_t mark[4]; /* NVME_REPLICA_MARK */
    uint16_t version;
    uint8_t reserved[2];
} NVME_PACKED;
static_assert(sizeof(struct nvme_identify_replica) == 8, "replica announcement");
#define NVME_REPLICA_MARK "\x89PSR"
#define NVME_REPLICA_VERSION 1

enum nvme_nsfeat { NVME_NSFEAT_THIN = 1 << 0, NVME_NSFEAT_DEALLOCATED_ERROR = 1 << 2, NVME_NSFEAT_OPTIMAL_IO = 1 << 4 };

/* CNS 08h. */
struct nvme_identify_namespace_independent {
    uint8_t features, nmic, rescap, fpi;
    uint32_t anagrpid;
    uint8_t nsattr, reserved9;
    uint16_t nvmsetid, endgid;
    uint8_t status; /* bit 0: ready */
    uint8_t reserved15[4081];
} NVME_PACKED;
static_assert(sizeof(struct nvme_identify_namespace_independent) == NVME_IDENTIFY_SIZE, "Identify Namespace, independent");

/* CNS 06h for the NVM command set. */
struct nvme_identify_controller_nvm {
    uint8_t vsl, wzsl, wusl;
    uint8_t dmrl;   /* ranges of Dataset Management, 0 = no limit said */
    uint32_t dmrsl; /* blocks in one range */
    uint64_t dmsl;  /* blocks in one command */
    uint8_t reserved16[4080];
} NVME_PACKED;
static_assert(sizeof(struct nvme_identify_controller_nvm) == NVME_IDENTIFY_SIZE, "Identify Controller, NVM command set");

/* One descriptor of CNS 03h; `length` bytes follow. */
struct nvme_namespace_descriptor {
    uint8_t type, length, reserved[2];
} NVME_PACKED;
static_assert(sizeof(struct nvme_namespace_descriptor) == 4, "Namespace Identification Descriptor");
enum nvme_namespace_id_type { NVME_NID_EUI64 = 1, NVME_NID_NGUID = 2, NVME_NID_UUID = 3, NVME_NID_CSI = 4 };
