/* What an NVMe status means for the data path. */
#include "blockdev/nvme_tcp/nvme_tcp.h"
#include "wire/nvme/nvme.h"

enum io_status nvme_initiator_status(unsigned status, bool writes) {
    switch (status & NVME_STATUS_MASK) {
    case NVME_SUCCESS: return IO_OK;
    case NVME_INVALID_OPCODE:
    case NVME_INVALID_COMMAND_SET: return IO_UNSUPPORTED;
    case NVME_INVALID_FIELD:
    case NVME_SGL_INVALID_SEGMENT:
    case NVME_SGL_INVALID_COUNT:
    case NVME_SGL_INVALID_LENGTH:
    case NVME_SGL_INVALID_TYPE:
    case NVME_SGL_INVALID_OFFSET:
    case NVME_CONFLICTING_ATTRIBUTES:
    case NVME_SIZE_LIMIT_EXCEEDED: return IO_INVALID;
    case NVME_DATA_TRANSFER_ERROR:
    case NVME_TRANSIENT_TRANSPORT_ERROR:
    case NVME_ABORTED_SQ_DELETION:
    case NVME_PATH_INTERNAL_ERROR:
    case NVME_ANA_PERSISTENT_LOSS:
    case NVME_ANA_INACCESSIBLE:
    case NVME_ANA_TRANSITION:
    case NVME_PATH_CONTROLLER_ERROR:
    case NVME_PATH_HOST_ERROR:
    case NVME_PATH_HOST_ABORTED: return IO_PATH_LOST;
    case NVME_ABORTED_BY_REQUEST: return IO_TIMED_OUT;  /* we abort only what took too long */
    case NVME_COMMAND_INTERRUPTED: return IO_NO_MEMORY; /* what our target says for it */
    case NVME_NAMESPACE_NOT_READY: return IO_NOT_READY;
    case NVME_INVALID_NAMESPACE: return IO_DEVICE_GONE;
    case NVME_NAMESPACE_WRITE_PROTECTED:
    case NVME_READ_ONLY_RANGE: return IO_READ_ONLY;
    case NVME_LBA_OUT_OF_RANGE: return IO_OUT_OF_RANGE;
    case NVME_CAPACITY_EXCEEDED: return IO_NO_SPACE;
    case NVME_RESERVATION_CONFLICT: return IO_FENCED;
    case NVME_WRITE_FAULT: return IO_MEDIUM_WRITE;
    case NVME_UNRECOVERED_READ:
    case NVME_DEALLOCATED_BLOCK: return IO_MEDIUM_READ;
    case NVME_COMPARE_FAILURE: return IO_COMPARE_FAILED;
    default: break;
    }
    unsigned type = (status >> 8) & 7, code = status & 0xff;
    if (type == 3)
        return IO_PATH_LOST;
    if (type == 2) /* media: guard, application and reference tag checks, end-to-end errors */
        return code >= 0x82 && code <= 0x84 ? IO_DAMAGED : writes ? IO_MEDIUM_WRITE : IO_MEDIUM_READ;
    return IO_INTERNAL;
}
