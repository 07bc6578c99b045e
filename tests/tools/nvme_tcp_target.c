/* A whole NVMe/TCP target in a page, without a control plane: host/linux, one device, one subsystem. For measurements and for
 * clients that were written elsewhere.
 *
 *   nvme_tcp_target [--port N] [--address A] [--device memory|null] [--size BYTES] [--block 512|4096] [--reactors N]
 *                   [--poll always|adaptive|never] [--cpu N] [--nqn NQN] [--uuid UUID]
 *
 * Prints "listening on ADDRESS PORT" when it is ready; ends with SIGTERM or SIGINT. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "blockdev/memory/memory.h"
#include "blockdev/null/null.h"
#include "frontend/nvme_tcp/transport.h"
#include "host/linux/linux.h"

#define REACTORS_MAX 8

struct program {
    struct host *host;
    struct reactor *control, *data[REACTORS_MAX];
    struct block_graph graph;
    struct nvme_target *target;
    struct block_device *device;
    const char *address, *port, *device_kind, *nqn, *uuid;
    uint64_t size, block_size, reactors, cpu;
    enum host_poll_mode poll_mode;
    bool pinned, ending;
    struct reactor_job start_job;
};

static void fatal(const char *what, const struct error *error) {
    fprintf(stderr, "nvme_tcp_target: %s: %s (%s)\n", what, error->text, error->expected);
    exit(1);
}

static void on_removed(struct block_device *device, void *arg) {
    (void)device;
    struct program *p = arg;
    host_loop_stop(p->control->loop);
}

static void on_target_gone(void *arg) {
    struct program *p = arg;
    if (!block_device_remove(p->device, on_removed, p, NULL))
        host_loop_stop(p->control->loop);
}

static void on_signal(void *arg, int number) {
    (void)number;
    struct program *p = arg;
    if (!p->ending)
        nvme_target_destroy(p->target, on_target_gone, p);
    p->ending = true;
}

static void start(struct reactor_job *job) {
    struct program *p = container_of(job, struct program, start_job);
    struct error error = {0};
    struct uuid uuid = {0};
    if (p->uuid != NULL && !uuid_parse(p->uuid, &uuid))
        fatal("--uuid", &error);
    struct memory_device_options memory = {
        .name = "disk", .uuid = uuid, .block_size = (uint32_t)p->block_size, .block_count = p->size / p->block_size};
    struct null_device_options null = {
        .name = "disk", .uuid = uuid, .block_size = (uint32_t)p->block_size, .block_count = p->size / p->block_size};
    bool is_null = strcmp(p->device_kind, "null") == 0;
    if (!(is_null ? null_device_create(&p->graph, &null, &p->device, &error)
                  : memory_device_create(&p->graph, &memory, &p->device, &error)))
        fatal("device", &error);
    struct nvme_target_options options = {
        .graph = &p->graph, .control = p->control, .data = p->data, .data_count = (unsigned)p->reactors};
    struct nvme_transport_options transport = {0};
    struct nvme_subsystem_options subsystem_options = {.nqn = p->nqn, .allow_any_host = true};
    struct nvme_namespace_options namespace_options = {.device = "disk"};
    struct nvme_subsystem *subsystem = NULL;
    struct nvme_listen_address address;
    uint32_t nsid;
    if ((p->target = nvme_target_create(&options, &error)) == NULL ||
        !nvme_tcp_transport_create(p->target, p->control, &transport, &error) ||
        !nvme_subsystem_create(p->target, &subsystem_options, &subsystem, &error) ||
        !nvme_subsystem_add_namespace(subsystem, &namespace_options, &nsid, &error) ||
        !nvme_listen_address_parse("TCP", "", p->address, p->port, &address, &error) ||
        !nvme_subsystem_add_listener(subsystem, &address, NVME_ANA_OPTIMIZED, &error))
        fatal("target", &error);
    printf("listening on %s %u\n", address.address, address.port);
    fflush(stdout);
}

static void parse(struct program *p, int argc, char **argv) {
    static const struct option options[] = {{"port", 1, NULL, 'p'}, {"address", 1, NULL, 'a'}, {"device", 1, NULL, 'd'},
                                            {"size", 1, NULL, 's'}, {"block", 1, NULL, 'b'},   {"reactors", 1, NULL, 'r'},
                                            {"poll", 1, NULL, 'm'}, {"cpu", 1, NULL, 'c'},     {"nqn", 1, NULL, 'n'},
                                            {"uuid", 1, NULL, 'u'}, {NULL, 0, NULL, 0}};
    bool ok = true;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;)
        switch (option) {
        case 'p': p->port = optarg; break;
        case 'a': p->address = optarg; break;
        case 'd': p->device_kind = optarg; break;
        case 'n': p->nqn = optarg; break;
        case 'u': p->uuid = optarg; break;
        case 's': ok &= text_parse_size(optarg, &p->size); break;
        case 'b': ok &= text_parse_u64(optarg, 65536, &p->block_size); break;
        case 'r': ok &= text_parse_u64(optarg, REACTORS_MAX, &p->reactors) && p->reactors > 0; break;
        case 'c': ok &= p->pinned = text_parse_u64(optarg, 1023, &p->cpu); break;
        case 'm':
            p->poll_mode = strcmp(optarg, "always") == 0  ? HOST_POLL_ALWAYS
                           : strcmp(optarg, "never") == 0 ? HOST_POLL_NEVER
                                                          : HOST_POLL_ADAPTIVE;
            break;
        default: ok = false;
        }
    if (!ok) {
        fprintf(stderr, "nvme_tcp_target: see the head of its source for the options\n");
        exit(64);
    }
}

int main(int argc, char **argv) {
    static struct program program = {.address = "127.0.0.1",
                                     .port = "4420",
                                     .device_kind = "memory",
                                     .nqn = "nqn.2026-01.penstock:disk",
                                     .size = MIB(256),
                                     .block_size = 4096,
                                     .reactors = 1};
    struct program *p = &program;
    parse(p, argc, argv);
    static const int signals[] = {SIGINT, SIGTERM, 0};
    struct host_linux_options host = {.signals = signals};
    int result = host_linux_create(&host, &p->host);
    struct reactor_options control = {.name = "control", .cpu = -1, .poll_mode = HOST_POLL_NEVER, .index = (unsigned)p->reactors};
    if (result == 0)
        result = reactor_create(p->host, &control, &p->control);
    for (unsigned i = 0; i < p->reactors && result == 0; i++) {
        struct reactor_options data = {
            .name = "data", .cpu = p->pinned ? (int)(p->cpu + i) : -1, .poll_mode = p->poll_mode, .index = i};
        result = reactor_create(p->host, &data, &p->data[i]);
    }
    if (result != 0) {
        fprintf(stderr, "nvme_tcp_target: %s\n", strerror(-result));
        return 1;
    }
    block_graph_init(&p->graph, p->host, (unsigned)p->reactors + 1);
    p->start_job.run = start;
    reactor_defer(p->control, &p->start_job);
    host_linux_watch_signals(p->control->loop, on_signal, p);
    for (unsigned i = 0; i < p->reactors; i++)
        reactor_start(p->data[i]);
    reactor_start(p->control);
    host_linux_loop_wait(p->control->loop);
    for (unsigned i = 0; i < p->reactors; i++)
        reactor_destroy(p->data[i]);
    reactor_destroy(p->control);
    block_graph_fini(&p->graph);
    host_linux_destroy(p->host);
    return 0;
}
