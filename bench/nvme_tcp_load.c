/* A polled NVMe/TCP client of one I/O queue, built on the codec's host role and plain sockets: measures any target with as little
 * of our own code as possible in the way. Random addresses; with --verify each block carries what it must hold.
 *
 *   nvme_tcp_load [--address A] [--port N] [--nqn NQN] [--depth N] [--size BYTES] [--write] [--seconds N] [--cpu N]
 *                 [--header-digest] [--data-digest] [--verify] [--no-success] [--json] */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/histogram.h"
#include "base/random.h"
#include "base/text.h"
#include "wire/nvme/nvme_identify.h"
#include "wire/nvme_tcp/host.h"

#define DEPTH_MAX 1024
#define STAGING (256 * 1024)

struct link {
    int fd;
    struct nvme_tcp_host host;
    struct nvme_tcp_request *requests;
    struct nvme_tcp_request *table[DEPTH_MAX];
    uint8_t *staging;
    bool connected;
};

static struct options {
    const char *address, *nqn;
    uint64_t port, depth, size, seconds, cpu;
    bool write, header_digest, data_digest, verify, no_success, pinned, json;
} options = {.address = "127.0.0.1", .nqn = "nqn.2026-01.penstock:disk", .port = 4420, .depth = 128, .size = 4096, .seconds = 3};

static void fail(const char *what) {
    fprintf(stderr, "nvme_tcp_load: %s (%s)\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static void push(struct link *link) {
    struct slice slices[256];
    for (uint32_t count; (count = nvme_tcp_tx_out(&link->host.tx, slices, 256)) > 0;) {
        struct msghdr message = {.msg_iov = (struct iovec *)slices, .msg_iovlen = count};
        ssize_t n = sendmsg(link->fd, &message, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0)
            fail("send");
        nvme_tcp_host_sent(&link->host, (size_t)n);
    }
}

static bool pull(struct link *link) {
    struct slice slices[8];
    uint32_t count = nvme_tcp_host_want(&link->host, slices, 8);
    ssize_t n = readv(link->fd, (struct iovec *)slices, (int)count);
    if (n < 0 && errno == EAGAIN)
        return false;
    if (n <= 0)
        fail("the target closed the connection");
    nvme_tcp_host_got(&link->host, (size_t)n);
    return true;
}

static struct nvme_tcp_request *next_completion(struct link *link) {
    struct nvme_tcp_host_event event;
    for (;;) {
        nvme_tcp_host_next(&link->host, &event);
        switch (event.type) {
        case NVME_TCP_HOST_IDLE: return NULL;
        case NVME_TCP_HOST_CONNECTED: link->connected = true; break;
        case NVME_TCP_HOST_COMPLETION: return event.request;
        case NVME_TCP_HOST_TERMINATED:
            errno = 0;
            fprintf(stderr, "error %u\n", link->host.controller_fes);
            fail("the target ended the connection");
            break;
        case NVME_TCP_HOST_FAULT: errno = 0; fail(link->host.rx.fault.text);
        }
    }
}

static struct nvme_cqe command(struct link *link, struct nvme_sqe *sqe, enum nvme_direction direction, void *data,
                               uint32_t length, bool in_capsule) {
    struct slice slice = {data, length};
    struct nvme_tcp_request *done;
    sqe->cid = 0;
    nvme_tcp_host_submit(&link->host, sqe, direction, &slice, 1, length, in_capsule);
    do {
        push(link);
        pull(link);
    } while ((done = next_completion(link)) == NULL);
    if (done->cqe.status != 0) {
        fprintf(stderr, "nvme_tcp_load: opcode %#x failed with status %#x\n", sqe->opcode, nvme_status_code(&done->cqe));
        exit(1);
    }
    return done->cqe;
}

static void link_open(struct link *link, uint16_t depth) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
    int one = 1;
    link->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (strncmp(options.address, "127.", 4) == 0) /* unpaced, as host/linux does: else the client is what is measured */
        setsockopt(link->fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
    if (inet_pton(AF_INET, options.address, &to.sin_addr) != 1 || connect(link->fd, (struct sockaddr *)&to, sizeof(to)) != 0)
        fail("connect");
    setsockopt(link->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    fcntl(link->fd, F_SETFL, O_NONBLOCK);
    struct nvme_tcp_host_options host = {
        .header_digest = options.header_digest, .data_digest = options.data_digest, .success_flag = !options.no_success};
    link->staging = malloc(STAGING);
    link->requests = calloc(depth, sizeof(*link->requests));
    for (uint16_t i = 0; i < depth; i++)
        link->table[i] = &link->requests[i];
    nvme_tcp_host_init(&link->host, &host, link->staging, STAGING);
    nvme_tcp_host_set_requests(&link->host, link->table, depth);
    while (!link->connected) {
        push(link);
        pull(link);
        next_completion(link);
    }
}

static uint16_t link_connect(struct link *link, uint16_t qid, uint16_t depth, uint16_t cntlid) {
    struct nvme_connect_data data = {.cntlid = cntlid, .host_id = {1, 2, 3, 4}};
    snprintf(data.subnqn, sizeof(data.subnqn), "%s", options.nqn);
    snprintf(data.hostnqn, sizeof(data.hostnqn), "nqn.2014-08.org.nvmexpress:uuid:00000000-0000-4000-8000-000000000001");
    struct nvme_connect connect = {.opcode = NVME_OPCODE_FABRICS,
                                   .fabrics_type = NVME_FABRICS_CONNECT,
                                   .qid = qid,
                                   .sq_size = (uint16_t)(depth - 1),
                                   .attributes = options.no_success ? 0 : NVME_CONNECT_DISABLE_SQ_FLOW,
                                   .kato_ms = qid == 0 ? 60000 : 0};
    struct nvme_sqe sqe;
    memcpy(&sqe, &connect, sizeof(sqe));
    return (uint16_t)command(link, &sqe, NVME_HOST_TO_CONTROLLER, &data, sizeof(data), true).dw0;
}

static void property_set(struct link *link, uint32_t offset, uint64_t value) {
    struct nvme_property property = {
        .opcode = NVME_OPCODE_FABRICS, .fabrics_type = NVME_FABRICS_PROPERTY_SET, .offset = offset, .value = value};
    struct nvme_sqe sqe;
    memcpy(&sqe, &property, sizeof(sqe));
    command(link, &sqe, NVME_NO_DATA, NULL, 0, false);
}

static uint64_t property_get(struct link *link, uint32_t offset) {
    struct nvme_property property = {.opcode = NVME_OPCODE_FABRICS, .fabrics_type = NVME_FABRICS_PROPERTY_GET, .offset = offset};
    struct nvme_sqe sqe;
    memcpy(&sqe, &property, sizeof(sqe));
    return command(link, &sqe, NVME_NO_DATA, NULL, 0, false).value;
}

static struct {
    uint64_t started_ns[DEPTH_MAX], block[DEPTH_MAX];
    uint8_t *data[DEPTH_MAX];
    struct slice slice[DEPTH_MAX];
    struct random random;
    uint64_t blocks, done, mismatches;
    uint32_t block_size;
    struct histogram latency;
} run;

static void submit(struct link *link, uint16_t cid) {
    uint64_t unit = options.size / run.block_size, block = random_below(&run.random, run.blocks / unit) * unit;
    struct nvme_sqe sqe = {.opcode = options.write ? NVME_IO_WRITE : NVME_IO_READ,
                           .cid = cid,
                           .nsid = 1,
                           .cdw10 = (uint32_t)block,
                           .cdw11 = (uint32_t)(block >> 32),
                           .cdw12 = (uint32_t)unit - 1};
    run.block[cid] = block;
    if (options.verify && options.write)
        for (uint64_t i = 0; i < options.size; i += 512)
            put_le64(run.data[cid] + i, block * run.block_size + i);
    run.slice[cid] = (struct slice){run.data[cid], options.size};
    run.started_ns[cid] = now_ns();
    nvme_tcp_host_submit(&link->host, &sqe, options.write ? NVME_HOST_TO_CONTROLLER : NVME_CONTROLLER_TO_HOST, &run.slice[cid], 1,
                         (uint32_t)options.size, options.write && options.size <= 4096);
}

static void complete(struct nvme_tcp_request *request) {
    uint16_t cid = request->cid;
    if (request->cqe.status != 0 || request->digest_error) {
        fprintf(stderr, "nvme_tcp_load: an I/O failed with status %#x\n", nvme_status_code(&request->cqe));
        exit(1);
    }
    if (options.verify && !options.write)
        for (uint64_t i = 0; i < options.size; i += 512) {
            uint64_t held = get_le64(run.data[cid] + i);
            run.mismatches += held != 0 && held != run.block[cid] * run.block_size + i;
        }
    histogram_add(&run.latency, now_ns() - run.started_ns[cid]);
    run.done++;
}

static void parse(int argc, char **argv) {
    static const struct option list[] = {
        {"address", 1, NULL, 'a'},       {"port", 1, NULL, 'p'},   {"nqn", 1, NULL, 'n'},         {"depth", 1, NULL, 'q'},
        {"size", 1, NULL, 's'},          {"write", 0, NULL, 'w'},  {"seconds", 1, NULL, 't'},     {"cpu", 1, NULL, 'c'},
        {"header-digest", 0, NULL, 'H'}, {"verify", 0, NULL, 'v'}, {"data-digest", 0, NULL, 'D'}, {"no-success", 0, NULL, 'S'},
        {"json", 0, NULL, 'j'},          {NULL, 0, NULL, 0}};
    bool ok = true;
    for (int option; (option = getopt_long(argc, argv, "", list, NULL)) != -1;)
        switch (option) {
        case 'a': options.address = optarg; break;
        case 'n': options.nqn = optarg; break;
        case 'p': ok &= text_parse_u64(optarg, 65535, &options.port); break;
        case 'q': ok &= text_parse_u64(optarg, DEPTH_MAX - 1, &options.depth) && options.depth > 0; break;
        case 's': ok &= text_parse_size(optarg, &options.size) && options.size > 0; break;
        case 't': ok &= text_parse_u64(optarg, 3600, &options.seconds); break;
        case 'c': ok &= options.pinned = text_parse_u64(optarg, 1023, &options.cpu); break;
        case 'w': options.write = true; break;
        case 'H': options.header_digest = true; break;
        case 'D': options.data_digest = true; break;
        case 'v': options.verify = true; break;
        case 'S': options.no_success = true; break;
        case 'j': options.json = true; break;
        default: ok = false;
        }
    if (!ok)
        exit(64);
}

int main(int argc, char **argv) {
    parse(argc, argv);
    if (options.pinned) {
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(options.cpu, &one);
        sched_setaffinity(0, sizeof(one), &one);
    }
    static struct link admin, io;
    static struct nvme_identify_namespace id;
    link_open(&admin, 32);
    uint16_t cntlid = link_connect(&admin, 0, 32, NVME_CNTLID_DYNAMIC);
    property_set(&admin, NVME_PROPERTY_CC, NVME_CC_ENABLE | NVME_CC_IOSQES_64 | NVME_CC_IOCQES_16);
    while (!(property_get(&admin, NVME_PROPERTY_CSTS) & NVME_CSTS_READY))
        ;
    struct nvme_sqe identify = {.opcode = NVME_ADMIN_IDENTIFY, .nsid = 1, .cdw10 = NVME_CNS_NAMESPACE};
    command(&admin, &identify, NVME_CONTROLLER_TO_HOST, &id, sizeof(id), false);
    run.block_size = 1U << id.formats[id.flbas & 15].block_shift;
    run.blocks = id.size;
    uint16_t depth = (uint16_t)(options.depth < 31 ? 32 : options.depth + 1);
    link_open(&io, (uint16_t)options.depth);
    link_connect(&io, 1, depth > 128 ? 128 : depth, cntlid);
    random_init(&run.random, 1);
    histogram_init(&run.latency);
    for (uint32_t i = 0; i < options.depth; i++) {
        run.data[i] = aligned_alloc(4096, round_up(options.size, 4096));
        memset(run.data[i], 0, options.size);
    }
    uint64_t begin = now_ns(), end = begin + options.seconds * NS_PER_S;
    for (uint32_t i = 0; i < options.depth; i++)
        submit(&io, (uint16_t)i);
    for (unsigned left = (unsigned)options.depth; left > 0;) {
        push(&io);
        pull(&io);
        bool more = now_ns() < end;
        for (struct nvme_tcp_request *request; (request = next_completion(&io)) != NULL;) {
            complete(request);
            if (more)
                submit(&io, request->cid);
            else
                left--;
        }
    }
    double seconds = (double)(now_ns() - begin) / 1e9;
    double iops = (double)run.done / seconds, gib = iops * (double)options.size / (double)GIB(1);
    double average_us = (double)histogram_mean(&run.latency) / 1e3,
           p50_us = (double)histogram_percentile(&run.latency, 5000) / 1e3,
           p99_us = (double)histogram_percentile(&run.latency, 9900) / 1e3,
           p99_9_us = (double)histogram_percentile(&run.latency, 9990) / 1e3;
    if (options.json)
        printf("{\"iops\":%.0f,\"gib_per_second\":%.3f,\"avg_us\":%.2f,\"p50_us\":%.2f,\"p99_us\":%.2f,\"p99_9_us\":%.2f}\n",
               iops, gib, average_us, p50_us, p99_us, p99_9_us);
    else
        printf("%s %lu B depth %lu: %.0f IOPS, %.2f GiB/s, avg %.1f p50 %.1f p99 %.1f us%s\n", options.write ? "write" : "read",
               options.size, options.depth, iops, gib, average_us, p50_us, p99_us, run.mismatches > 0 ? " MISMATCHES" : "");
    return run.mismatches > 0;
}
