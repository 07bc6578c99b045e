/* penstock-packet: the packet plane. Parses options and assembles the parts; packet_rpc/packet_rpc.c is the plane. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "host/linux/linux.h"
#include "packet/pcap/filter.h"
#include "packet_rpc/packet_rpc.h"
#include "programs/penstock-packet/options.h"
#include "programs/penstock-packet/together.h"

static void log_record(void *arg, const struct log_record *record) {
    (void)arg;
    char time[TEXT_TIME_SIZE];
    if (record->print)
        fprintf(stderr, "%s %s %s: %s\n", text_format_time(record->wall_ns, time, sizeof(time)), log_level_name(record->level),
                log_area_name(record->area), record->text);
}

static void signalled(void *arg, int number) {
    (void)number;
    packet_rpc_stop(arg);
}

static void prepare(void *arg, struct packet_rpc *rpc) {
    (void)arg;
    host_linux_watch_signals(rpc->control->loop, signalled, rpc);
}

static bool next_process(void *arg, unsigned *at, uint32_t *ret_vf, uint64_t *ret_mask) {
    return together_next(arg, at, ret_vf, ret_mask);
}

static int run(struct host *host, struct packet_backend *backend, struct together *together,
               const struct packet_options *options) {
    bool secondary = options->dpdk.role == DPDK_SECONDARY;
    struct packet_rpc_options rpc_options = {.host = host,
                                             .socket_path = secondary ? options->vf_path : options->socket_path,
                                             .backend = backend,
                                             .cpus = options->cpus,
                                             .cpu_count = options->cpu_count,
                                             .cores = &options->cores,
                                             .cpu_is_there = host_linux_has_cpu,
                                             .processes = options->dpdk.role != DPDK_ALONE,
                                             .vf = secondary ? &options->vf : NULL,
                                             .poll_mode = options->poll_mode,
                                             .version = PENSTOCK_VERSION,
                                             .pid = host_linux_process_id(),
                                             .next_process = options->dpdk.role == DPDK_PRIMARY ? next_process : NULL,
                                             .arg = together,
                                             .log_write = log_record,
                                             .prepare = prepare};
    struct packet_rpc *rpc;
    struct error error;
    if (!packet_rpc_create(&rpc_options, &rpc, &error)) {
        fprintf(stderr, "penstock-packet: %s\n", error.text);
        return error_facts(error.code)->exit_status;
    }
    host_linux_notify("READY=1");
    host_linux_loop_wait(rpc->control->loop);
    packet_rpc_destroy(rpc);
    return 0;
}

int main(int argc, char **argv) {
    static const int signals[] = {SIGINT, SIGTERM, SIGQUIT, SIGHUP, 0};
    struct packet_options options;
    struct packet_backend *backend;
    struct host *host;
    struct error error;
    packet_options_parse(&options, argc, argv);
    if (options.exit_now)
        return options.exit_status;
    signal(SIGPIPE, SIG_IGN);
    int result = host_linux_create(&(struct host_linux_options){.signals = signals}, &host);
    if (result != 0) {
        fprintf(stderr, "penstock-packet: no host: %s\n", error_errno_words(-result));
        return 71;
    }
    result = host_linux_confine(HOST_LINUX_KEEP_INTERFACES | (options.dpdk.xdp ? HOST_LINUX_KEEP_BPF : 0));
    if (result != 0)
        fprintf(stderr, "penstock-packet: goes on with more rights than it needs: %s\n", error_errno_words(-result));
    options.dpdk.program = "penstock-packet";
    options.dpdk.buffers = (uint32_t)options.buffers;
    struct together *together = NULL;
    bool ok = true;
    if (options.dpdk.role == DPDK_PRIMARY)
        ok = together_begin(host, options.join_path, options.bond, dpdk_wake_count(&options.dpdk), &together, &error);
    else if (options.dpdk.role == DPDK_SECONDARY)
        ok = together_join(host, options.join_path, options.bond, options.vf.id, options.vf.mask, &together, &error);
    if (ok && together != NULL)
        options.dpdk.wakes = together_wakes(together, &options.dpdk.wake_count);
    ok = ok && dpdk_backend_create(&options.dpdk, &backend, &error);
    ok = ok && (options.dpdk.role != DPDK_PRIMARY || together_lead(together, &error));
    if (!ok) {
        fprintf(stderr, "penstock-packet: %s\n", error.text);
        if (together == NULL)
            host_linux_destroy(host);
        else if (options.dpdk.role == DPDK_SECONDARY)
            together_leave(together); /* DPDK has given up in good order: the others need not end because of us */
        return error_facts(error.code)->exit_status;
    }
    backend->compile_filter = pcap_capture_filter_create;
    int status = run(host, backend, together, &options);
    if (options.dpdk.role == DPDK_PRIMARY)
        together_leave(together); /* the others end, before what they use goes */
    dpdk_backend_destroy(backend);
    if (options.dpdk.role == DPDK_SECONDARY)
        together_leave(together);
    host_linux_destroy(host);
    return status;
}
