#include "programs/penstockd/packet_part.h"

#include <stdio.h>

#include "base/text.h"
#include "host/linux/http.h"
#include "programs/penstockd/etcd_open.h"
#include "programs/penstockd/place.h"

/* The planes' own limit: sockets of vfs and of the processes among each other are named after it. */
enum { SHARED_SOCKET_MAX = 90 };

static bool is_of(const char *interface, const char *kind) { return strncmp(interface, kind, strlen(kind)) == 0; }

static bool check_interfaces(const struct daemon_options *options, struct error *error) {
    for (unsigned i = 0; i < options->interfaces.count; i++) {
        const char *text = options->interfaces.items[i];
        if (is_of(text, "pci:") && !text_is_pci_address(text + strlen("pci:")))
            return error_invalid(error, "interface", text, "pci: and an address such as 0000:03:00.0");
    }
    return true;
}

/* What the plane must be told of them at its start. */
static void add_interfaces(const struct daemon_options *options, struct plane_program *program) {
    bool xdp = false;
    for (unsigned i = 0; i < options->interfaces.count; i++) {
        const char *text = options->interfaces.items[i];
        if (is_of(text, "pci:"))
            plane_program_add(program, "--pci", text + strlen("pci:"));
        xdp = xdp || is_of(text, "af_xdp:");
    }
    if (xdp)
        plane_program_add(program, "--xdp", NULL);
}

bool packet_part_init(struct packet_part *part, const struct daemon_options *options, const char *self, struct error *error) {
    const char *slash = strrchr(self, '/');
    part->options = options;
    snprintf(part->program_path, sizeof(part->program_path), "%.*spenstock-packet", slash == NULL ? 0 : (int)(slash + 1 - self),
             self);
    snprintf(part->log_path, sizeof(part->log_path), "%.480s/packet.log", options->state_dir);
    int length = options->packet_socket != NULL
                     ? snprintf(part->socket_path, sizeof(part->socket_path), "%s", options->packet_socket)
                     : snprintf(part->socket_path, sizeof(part->socket_path), "%.480s/packet.sock", options->state_dir);
    if (length >= (int)sizeof(((struct host_address *)0)->text))
        return error_invalid(error, options->packet_socket != NULL ? "packet-socket" : "state-dir", part->socket_path,
                             "a path that is short enough for a socket");
    if (options->packet_huge_dir != NULL && length > SHARED_SOCKET_MAX)
        return error_invalid(error, "state-dir", options->state_dir,
                             "a shorter path: with packet-processes its packet.sock may have 90 bytes");
    if (options->packet_huge_dir != NULL && options->packet_socket != NULL)
        return error_invalid(error, "packet-socket", options->packet_socket, "nothing, with packet-processes");
    return check_interfaces(options, error);
}

/* ---- the plane's processes ---- */

static const char *program_of(const struct packet_part *part) {
    return part->options->packet_plane != NULL ? part->options->packet_plane : part->program_path;
}

static struct control_processes launch(void *arg, unsigned place, unsigned vf, const char *core_mask) {
    struct packet_part *part = arg;
    struct packet_program *own = &part->programs[place];
    struct plane_program *program = &own->program;
    const char *huge_dir = part->options->packet_huge_dir;
    if (vf == 0)
        snprintf(own->name, sizeof(own->name), "packet plane");
    else
        snprintf(own->name, sizeof(own->name), "packet plane, vf %u", vf);
    snprintf(own->vf, sizeof(own->vf), "%u", vf);
    snprintf(own->core_mask, sizeof(own->core_mask), "%s", core_mask);
    *program = (struct plane_program){.reactor = part->reactor, .log = part->log};
    plane_program_init(program, own->name, program_of(part), part->socket_path, part->log_path, &part->options->packet_arguments);
    if (part->options->cpu_map != NULL)
        plane_program_add(program, "--cpu-map", part->options->cpu_map);
    if (huge_dir != NULL)
        plane_program_add(program, "--huge-dir", huge_dir);
    if (huge_dir != NULL && vf == 0)
        plane_program_add(program, "--primary", NULL);
    if (vf == 0)
        add_interfaces(part->options, program);
    if (vf != 0) {
        plane_program_add(program, "--vf", own->vf);
        plane_program_add(program, "--core-mask", own->core_mask);
    }
    struct control_processes processes = plane_program_processes(program);
    if (part->options->packet_socket != NULL)
        processes.start = NULL; /* whoever is there counts */
    if (huge_dir != NULL)
        processes.end = plane_program_end; /* one that hangs would keep a vf, or all of them, from being there for good */
    return processes;
}

/* ---- REST ---- */

static void answer(void *arg, unsigned status, const char *type, const char *text, size_t length) {
    host_linux_http_answer(arg, status, type, text != NULL ? text : "", length);
}

static void serve(void *arg, struct host_linux_http_request *request, const struct host_linux_http_asked *asked) {
    struct packet_part *part = arg;
    struct spp_rest_request rest = {.method = asked->method,
                                    .path = asked->path,
                                    .body = asked->body,
                                    .length = asked->length,
                                    .answer = answer,
                                    .arg = request};
    spp_rest_serve(part->rest, &rest);
}

static bool serve_rest(struct packet_part *part, struct error *error) {
    struct host_linux_http_options http = {
        .loop = part->reactor->loop, .anywhere = true, .body_max = SPP_REST_BODY_MAX, .serve = serve, .arg = part};
    struct spp_rest_options rest = {.reactor = part->reactor, .control = part->control, .guests = part->guests};
    uint16_t port;
    part->rest = spp_rest_create(&rest);
    if (part->options->spp_rest == NULL)
        return true;
    if (part->rest == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory");
    if (!place_parse("spp-rest", part->options->spp_rest, &http.address, error) ||
        !host_linux_http_start(&http, &part->http, &port, error))
        return false;
    log_notice(part->log, LOG_AREA_APP, "Soft Patch Panel's REST on %s port %u", http.address.text, port);
    return true;
}

/* ---- Soft Patch Panel's sockets: its controller, and its processes ---- */

enum { PRIMARY_PORT = 5555, SECONDARY_PORT = 6666, ANSWER_MS = 10000 };

static bool parse_controller(const char *option, const char *text, struct host_address *ret_primary,
                             struct host_address *ret_secondary, struct error *error) {
    *ret_primary = (struct host_address){.family = strchr(text, ':') != NULL ? HOST_IPV6 : HOST_IPV4, .port = PRIMARY_PORT};
    if (strlen(text) >= sizeof(ret_primary->text))
        return error_invalid(error, option, text, "a numeric address");
    memcpy(ret_primary->text, text, strlen(text) + 1);
    *ret_secondary = *ret_primary;
    ret_secondary->port = SECONDARY_PORT;
    return true;
}

static bool meet_processes(struct packet_part *part, struct error *error) {
    const char *text = part->options->spp_listen;
    struct spp_guests_options options = {.reactor = part->reactor,
                                         .log = part->log,
                                         .control = part->control,
                                         .answer_ms =
                                             part->options->spp_answer_ms != 0 ? part->options->spp_answer_ms : ANSWER_MS};
    if (text == NULL)
        return true;
    return parse_controller("spp-listen", text, &options.primary, &options.secondary, error) &&
           spp_guests_create(&options, &part->guests, error);
}

static bool meet_controller(struct packet_part *part, struct error *error) {
    const char *text = part->options->spp_controller;
    struct spp_seats_options options = {.reactor = part->reactor, .log = part->log, .control = part->control, .rest = part->rest};
    if (text == NULL)
        return true;
    if (!parse_controller("spp-controller", text, &options.primary, &options.secondary, error))
        return false;
    part->seats = spp_seats_create(&options);
    return part->seats != NULL || error_set(error, ERROR_NO_MEMORY, "no memory");
}

/* ---- the agent ---- */

static void etcd_changed(void *arg, const struct store_status *status) {
    struct packet_part *part = arg;
    if (status->state == STORE_UNREACHABLE)
        log_warning(part->log, LOG_AREA_APP, "etcd: %s", status->error.text);
    else if (status->state == STORE_READY)
        log_notice(part->log, LOG_AREA_APP, "etcd: ready at %s", status->where);
}

static bool start_agent(struct packet_part *part, struct error *error) {
    const struct daemon_options *options = part->options;
    struct store_options store = {.reactor = part->reactor, .arg = part, .changed = etcd_changed};
    if (!etcd_open("etcd", &options->etcd, &store, &part->etcd, error))
        return false;
    if (part->etcd == NULL)
        return true;
    struct agent_options agent = {.reactor = part->reactor,
                                  .log = part->log,
                                  .store = part->etcd,
                                  .control = part->control,
                                  .host = options->agent_host != NULL ? options->agent_host : options->node,
                                  .lease_s = options->agent_lease_s,
                                  .hairpin = options->agent_hairpin,
                                  .retry_ms = options->agent_retry_ms,
                                  .reclaim_ms = options->agent_reclaim_ms};
    part->agent = agent_create(&agent);
    if (part->agent == NULL)
        return error_set(error, ERROR_NO_MEMORY, "no memory");
    agent_start(part->agent);
    return true;
}

/* ---- the beginning ---- */

/* phy:0, phy:1, … are what the options say; others are as they were recorded. */
static bool set_interfaces(struct packet_change *change, json_t *wiring, struct error *error) {
    const struct packet_part *part = container_of(change, struct packet_part, interfaces);
    for (unsigned i = 0; i < part->options->interfaces.count; i++) {
        const char *text = part->options->interfaces.items[i], *colon = strchr(text, ':');
        char name[16];
        snprintf(name, sizeof(name), "phy:%u", i);
        json_t *options = json_pack("{ss%}", "kind", text, colon != NULL ? (size_t)(colon - text) : strlen(text));
        if (colon != NULL)
            json_object_set_new(options, is_of(text, "pci:") ? "device" : "interface", json_string(colon + 1));
        bool ok = wiring_set_port(wiring, name, options, error);
        json_decref(options);
        if (!ok)
            return error_invalid(error, "interface", text, "KIND:NAME, as af_packet:eth1, pci:0000:03:00.0, tap:tap0, or null");
    }
    return true;
}

static void interfaces_set(struct packet_change *change) {
    struct packet_part *part = container_of(change, struct packet_part, interfaces);
    if (change->ok || change->late)
        return;
    if (change->error.code != ERROR_CANCELLED)
        log_error(part->log, LOG_AREA_APP, "packet plane: interfaces: %s", change->error.text);
}

static void control_ready(void *arg, const struct error *failed) {
    struct packet_part *part = arg;
    struct error error;
    if (failed == NULL) {
        part->interfaces.edit = set_interfaces;
        part->interfaces.done = interfaces_set;
        packet_control_submit(part->control, &part->interfaces);
        failed =
            meet_processes(part, &error) && serve_rest(part, &error) && meet_controller(part, &error) && start_agent(part, &error)
                ? NULL
                : &error;
    }
    part->ready(part->arg, failed);
}

void packet_part_start(struct packet_part *part, struct reactor *reactor, struct log *log, struct store *store, const char *node,
                       void (*ready)(void *arg, const struct error *error), void *arg) {
    struct error error;
    part->reactor = reactor;
    part->log = log;
    part->ready = ready;
    part->arg = arg;
    struct packet_control_options options = {.reactor = reactor,
                                             .log = log,
                                             .store = store,
                                             .node = node,
                                             .socket_path = part->socket_path,
                                             .plane_log_path = part->log_path,
                                             .socket_folder = part->options->vhost_folder,
                                             .several = part->options->packet_huge_dir != NULL,
                                             .launch = {launch, part}};
    part->control = packet_control_create(&options);
    if (part->control == NULL) {
        error_set(&error, ERROR_NO_MEMORY, "no memory");
        ready(arg, &error);
        return;
    }
    packet_control_start(part->control, control_ready, part);
}

static void etcd_closed(void *arg) {
    struct packet_part *part = arg;
    part->etcd = NULL;
    part->stopped(part->stopped_arg);
}

void packet_part_stop(struct packet_part *part, void (*stopped)(void *arg), void *arg) {
    part->stopped = stopped;
    part->stopped_arg = arg;
    if (part->agent != NULL)
        agent_stop(part->agent);
    if (part->seats != NULL)
        spp_seats_stop(part->seats);
    if (part->guests != NULL)
        spp_guests_stop(part->guests);
    if (part->control != NULL)
        packet_control_stop(part->control);
    if (part->http != NULL)
        host_linux_http_stop(part->http);
    part->http = NULL;
    if (part->rest != NULL)
        spp_rest_destroy(part->rest);
    part->rest = NULL;
    if (part->etcd != NULL)
        store_close(part->etcd, etcd_closed, part);
    else
        stopped(arg);
}

void packet_part_fini(struct packet_part *part) {
    if (part->agent != NULL)
        agent_destroy(part->agent);
    part->agent = NULL;
    if (part->seats != NULL)
        spp_seats_destroy(part->seats);
    part->seats = NULL;
    if (part->guests != NULL)
        spp_guests_destroy(part->guests);
    part->guests = NULL;
    if (part->control != NULL)
        packet_control_destroy(part->control);
    part->control = NULL;
}
