/* Log pages (Base 5.16, discovery: 5.16.1.23). Data only; see nvme.h for the rules of these structs. */
#pragma once

#include "wire/nvme/nvme.h"

enum nvme_log_page {
    NVME_LOG_SUPPORTED = 0x00,
    NVME_LOG_ERROR = 0x01,
    NVME_LOG_SMART = 0x02,
    NVME_LOG_FIRMWARE = 0x03,
    NVME_LOG_CHANGED_NAMESPACES = 0x04,
    NVME_LOG_EFFECTS = 0x05,
    NVME_LOG_ANA = 0x0c,
    NVME_LOG_DISCOVERY = 0x70
};
#define NVME_LOG_RETAIN_EVENT (UINT32_C(1) << 15) /* Get Log Page cdw10 */

struct nvme_error_entry {
    uint64_t count;
    uint16_t sq_id, cid, status, parameter;
    uint64_t lba;
    uint32_t nsid;
    uint8_t vendor_log, transport, reserved30[2];
    uint64_t command_specific;
    uint16_t transport_specific;
    uint8_t reserved42[22];
} NVME_PACKED;
static_assert(sizeof(struct nvme_error_entry) == 64, "error log entry");

struct nvme_smart_log {
    uint8_t critical_warning;
    uint16_t temperature_kelvin;
    uint8_t spare_percent, spare_threshold_percent, used_percent, endurance_group;
    uint8_t reserved7[25];
    uint64_t data_units_read[2], data_units_written[2]; /* 1000 units of 512 bytes, 128-bit */
    uint64_t host_reads[2], host_writes[2];
    uint64_t busy_minutes[2], power_cycles[2], power_on_hours[2], unsafe_shutdowns[2];
    uint64_t media_errors[2], error_entries[2];
    uint32_t warning_minutes, critical_minutes;
    uint8_t reserved200[312];
} NVME_PACKED;
static_assert(sizeof(struct nvme_smart_log) == 512 && offsetof(struct nvme_smart_log, data_units_read) == 32 &&
                  offsetof(struct nvme_smart_log, warning_minutes) == 192,
              "SMART log");

struct nvme_firmware_log {
    uint8_t active; /* bits 2:0 = slot in use */
    uint8_t reserved1[7];
    char revision[7][8];
    uint8_t reserved64[448];
} NVME_PACKED;
static_assert(sizeof(struct nvme_firmware_log) == 512, "firmware slot log");

#define NVME_CHANGED_NAMESPACES_MAX 1024 /* more: the first entry is NVME_NSID_ALL, the rest 0 */

enum nvme_effect {
    NVME_EFFECT_SUPPORTED = 1 << 0,
    NVME_EFFECT_CONTENT = 1 << 1 /* changes logical blocks */
};
struct nvme_effects_log {
    uint32_t admin[256], io[256];
    uint8_t reserved2048[2048];
} NVME_PACKED;
static_assert(sizeof(struct nvme_effects_log) == 4096, "commands supported and effects log");

/* ---- asymmetric namespace access (Base 5.16.1.13) ---- */

enum nvme_ana_state {
    NVME_ANA_OPTIMIZED = 0x1,
    NVME_ANA_NON_OPTIMIZED = 0x2,
    NVME_ANA_INACCESSIBLE_STATE = 0x3,
    NVME_ANA_LOST_STATE = 0x4,
    NVME_ANA_CHANGE = 0xf
};
#define NVME_LOG_ANA_GROUPS_ONLY (UINT32_C(1) << 8) /* Get Log Page cdw10: no namespace ids */

struct nvme_ana_header {
    uint64_t change_count;
    uint16_t group_count;
    uint8_t reserved10[6];
} NVME_PACKED;
static_assert(sizeof(struct nvme_ana_header) == 16, "ANA log header");

/* One group; `namespace_count` ids of 4 bytes follow. */
struct nvme_ana_group {
    uint32_t id, namespace_count;
    uint64_t change_count;
    uint8_t state; /* bits 3:0: enum nvme_ana_state */
    uint8_t reserved17[15];
} NVME_PACKED;
static_assert(sizeof(struct nvme_ana_group) == 32 && offsetof(struct nvme_ana_group, state) == 16, "ANA group descriptor");

/* ---- discovery ---- */

enum nvme_transport_type { NVME_TRANSPORT_TCP = 3 };
enum nvme_address_family { NVME_FAMILY_IPV4 = 1, NVME_FAMILY_IPV6 = 2 };
enum nvme_subsystem_type { NVME_SUBSYSTEM_DISCOVERY = 1, NVME_SUBSYSTEM_NVM = 2, NVME_SUBSYSTEM_CURRENT_DISCOVERY = 3 };
enum { NVME_DISCOVERY_SECURE_NOT_REQUIRED = 2, NVME_DISCOVERY_SQ_FLOW_DISABLE = 4 /* bits of `requirements` */ };

struct nvme_discovery_header {
    uint64_t generation, record_count;
    uint16_t record_format;
    uint8_t reserved18[1006];
} NVME_PACKED;
static_assert(sizeof(struct nvme_discovery_header) == 1024, "discovery log header");

struct nvme_discovery_entry {
    uint8_t transport, family, subsystem_type, requirements;
    uint16_t port_id, cntlid, admin_queue_size, entry_flags;
    uint8_t reserved12[20];
    char service[32];
    uint8_t reserved64[192];
    char subnqn[NVME_NQN_SIZE], address[256];
    uint8_t security_type; /* of TCP: 0 = none */
    uint8_t reserved769[255];
} NVME_PACKED;
static_assert(sizeof(struct nvme_discovery_entry) == 1024 && offsetof(struct nvme_discovery_entry, service) == 32 &&
                  offsetof(struct nvme_discovery_entry, subnqn) == 256 && offsetof(struct nvme_discovery_entry, address) == 512,
              "discovery log entry");
