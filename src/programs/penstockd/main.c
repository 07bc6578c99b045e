/* penstockd: the control daemon as a process. Reads options, takes the lock, puts state, control, gRPC and HTTP together, waits
 * for its end. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "control/control.h"
#include "control/owner.h"
#include "gateway/metrics.h"
#include "grpc/health.h"
#include "grpc/reflection.h"
#include "host/linux/http.h"
#include "host/linux/linux.h"
#include "programs/penstockd/blockdev_program.h"
#include "programs/penstockd/credentials.h"
#include "programs/penstockd/packet_part.h"
#include "programs/penstockd/place.h"
#include "programs/penstockd/state.h"

enum { PATH_SIZE = 512, GRACE_MS = 2000 };

struct app {
    struct daemon_options options;
    struct host *host;
    struct reactor *reactor;
    struct log log;
    struct host_linux_log log_to;
    char lock_path[PATH_SIZE], socket_path[PATH_SIZE], plane_log_path[PATH_SIZE], grpc_path[PATH_SIZE], state_path[PATH_SIZE];
    char plane_path[PATH_SIZE], owner_path[PATH_SIZE], owner_id[UUID_TEXT_SIZE];
    struct plane_program plane;
    struct blockdev_program blockdev;
    struct packet_part packet;
    struct host_file_open lock;
    struct store *store;
    struct control_owner *owner; /* of the node's name; NULL = the state is in a file, which the lock guards */
    struct control *control;
    struct fleet *fleet;
    struct grpc_server *server;
    struct tls_context *tls;       /* of the TCP listener; NULL = plain */
    struct tls_context *nodes_tls; /* for calls of nodes */
    struct grpc_health *health;
    struct grpc_reflection *reflection;
    struct gateway *gateway;
    struct host_linux_http *http; /* NULL = not served */
    struct reactor_message begin;
    unsigned running; /* control, fleet, server, the packet plane's side: what is to be stopped */
    bool ending;
    int exit_status;
};

/* ---- the log ---- */

static void log_record(void *arg, const struct log_record *record) {
    const struct app *app = arg;
    if (record->print)
        host_linux_log_write(&app->log_to, record, true);
}

static uint64_t wall_ns(void *arg) { return host_wall_ns(((struct app *)arg)->host); }

static void host_log(void *arg, const char *text) {
    struct app *app = arg;
    if (app->host != NULL)
        log_notice(&app->log, LOG_AREA_APP, "%s", text);
    else
        fprintf(stderr, "penstockd: %s\n", text);
}

/* ---- the end ---- */

static void closed(void *arg) {
    struct app *app = arg;
    app->store = NULL;
    packet_part_fini(&app->packet);
    if (app->lock.file != NULL)
        host_file_close(app->lock.file);
    host_loop_stop(app->reactor->loop);
}

static void name_given_back(void *arg) {
    struct app *app = arg;
    control_owner_destroy(app->owner);
    app->owner = NULL;
    store_close(app->store, closed, app);
}

static void stopped(void *arg) {
    struct app *app = arg;
    if (--app->running > 0)
        return;
    if (app->http != NULL)
        host_linux_http_stop(app->http);
    if (app->gateway != NULL)
        gateway_destroy(app->gateway);
    if (app->reflection != NULL)
        grpc_reflection_destroy(app->reflection);
    if (app->health != NULL)
        grpc_health_destroy(app->health);
    if (app->server != NULL)
        grpc_server_destroy(app->server);
    tls_context_destroy(app->tls);
    tls_context_destroy(app->nodes_tls);
    if (app->fleet != NULL)
        fleet_destroy(app->fleet);
    if (app->control != NULL)
        control_destroy(app->control);
    if (app->owner != NULL)
        control_owner_stop(app->owner, name_given_back, app);
    else if (app->store != NULL)
        store_close(app->store, closed, app);
    else
        closed(app);
}

static void end(struct app *app, int status) {
    if (app->ending)
        return;
    app->ending = true;
    app->exit_status = status;
    host_linux_notify("STOPPING=1");
    app->running = 2;
    packet_part_stop(&app->packet, stopped, app);
    if (app->control != NULL) {
        app->running++;
        if (app->fleet != NULL) {
            app->running++;
            fleet_stop(app->fleet, stopped, app);
        }
        if (app->gateway != NULL)
            gateway_stop(app->gateway);
        control_stop(app->control, stopped, app);
    }
    if (app->server != NULL) {
        app->running++;
        grpc_server_stop(app->server, GRACE_MS, stopped, app);
    }
    stopped(app);
}

static void fail(struct app *app, const struct error *error) {
    log_error(&app->log, LOG_AREA_APP, "%s%s%s", error->text, error->expected[0] != '\0' ? "; " : "", error->expected);
    end(app, error_facts(error->code)->exit_status);
}

static void signalled(void *arg, int number) {
    struct app *app = arg;
    if (app->ending)
        return;
    log_notice(&app->log, LOG_AREA_APP, "ending on signal %d; the storage plane goes on", number);
    end(app, 0);
}

/* ---- the beginning ---- */

static bool listen_at(struct app *app, const struct host_address *address, struct tls_context *tls, uint16_t *ret_port,
                      struct error *error) {
    struct grpc_listen_options options = {.address = *address, .tls = tls};
    return grpc_server_listen(app->server, &options, ret_port, error);
}

/* Two listeners, and as much again for what else is open: planes, disks, peers, the state. */
static uint32_t connections_of(const struct app *app) {
    enum { LISTENERS_SHARE = 8, LEAST = 256, MOST = 1024 };
    uint64_t files = host_linux_files_max();
    return app->options.connections != 0 ? app->options.connections
                                         : (uint32_t)max_u64(LEAST, min_u64(MOST, files / LISTENERS_SHARE));
}

static bool serve(struct app *app, struct error *error) {
    struct grpc_server_options options = {.reactor = app->reactor, .connections = connections_of(app)};
    struct gateway_options gateway = {.control = app->control,
                                      .fleet = app->fleet,
                                      .address = app->options.address,
                                      .version = PENSTOCK_VERSION,
                                      .port = app->options.port,
                                      .tls_node_name = app->options.tls_node_name};
    struct host_address tcp = {.family = strchr(app->options.address, ':') != NULL ? HOST_IPV6 : HOST_IPV4,
                               .port = app->options.port},
                        local = {.family = HOST_UNIX};
    uint16_t port;
    if (!credentials_load(&app->options, &app->tls, &app->nodes_tls, error))
        return false;
    gateway.tls = app->nodes_tls;
    app->server = grpc_server_create(&options);
    app->health = app->server == NULL ? NULL : grpc_health_create(app->server);
    app->reflection = app->health == NULL ? NULL : grpc_reflection_create(app->server);
    app->gateway = app->reflection == NULL ? NULL : gateway_create(app->server, &gateway);
    if (app->gateway == NULL || !grpc_health_set(app->health, GATEWAY_SERVICE, true) ||
        !grpc_health_set(app->health, GATEWAY_OWN_SERVICE, true) || !grpc_health_set(app->health, GATEWAY_VOLUME_SERVICE, true) ||
        !grpc_reflection_add(app->reflection, GATEWAY_SERVICE, spdkrpc_descriptors, spdkrpc_descriptors_size) ||
        !grpc_reflection_add(app->reflection, GATEWAY_OWN_SERVICE, penstock_v1_descriptors, penstock_v1_descriptors_size) ||
        !grpc_reflection_add(app->reflection, GATEWAY_VOLUME_SERVICE, penstock_v1_descriptors, penstock_v1_descriptors_size))
        return error_set(error, ERROR_NO_MEMORY, "no memory for the gRPC server");
    if (strlen(app->options.address) >= sizeof(tcp.text))
        return error_invalid(error, "--node-address", app->options.address, "a numeric address");
    memcpy(tcp.text, app->options.address, strlen(app->options.address) + 1);
    memcpy(local.text, app->grpc_path, strlen(app->grpc_path) + 1);
    if (!listen_at(app, &tcp, app->tls, &port, error) || !listen_at(app, &local, NULL, NULL, error))
        return false;
    log_notice(&app->log, LOG_AREA_APP, "gRPC%s on %s port %u and %s", app->tls != NULL ? " under TLS" : "", app->options.address,
               port, app->grpc_path);
    return true;
}

/* ---- HTTP: figures and health, on loopback ---- */

#define TEXT_TYPE "text/plain; charset=utf-8"

static void metrics_written(void *arg, const char *text, size_t length) {
    if (length > 0)
        host_linux_http_answer(arg, 200, "text/plain; version=0.0.4; charset=utf-8", text, length);
    else
        host_linux_http_answer(arg, 503, TEXT_TYPE, "no memory\n", strlen("no memory\n"));
}

static void get_path(void *arg, struct host_linux_http_request *request, const struct host_linux_http_asked *asked) {
    struct app *app = arg;
    const char *path = asked->path;
    char text[400];
    if (strcmp(path, "/metrics") == 0) {
        gateway_metrics_write(app->gateway, metrics_written, request);
        return;
    }
    unsigned status = 404;
    if (strcmp(path, "/healthz") == 0)
        status = gateway_is_healthy(app->gateway, text, sizeof(text)) ? 200 : 503;
    else
        snprintf(text, sizeof(text), "there is /metrics and /healthz\n");
    host_linux_http_answer(request, status, TEXT_TYPE, text, strlen(text));
}

static bool serve_http(struct app *app, struct error *error) {
    struct host_linux_http_options options = {.loop = app->reactor->loop, .serve = get_path, .arg = app};
    uint16_t port;
    if (app->options.http == NULL)
        return true;
    if (!place_parse("http", app->options.http, &options.address, error) ||
        !host_linux_http_start(&options, &app->http, &port, error))
        return false;
    log_notice(&app->log, LOG_AREA_APP, "HTTP on %s port %u: /metrics, /healthz", options.address.text, port);
    return true;
}

static void packet_ready(void *arg, const struct error *failed) {
    struct app *app = arg;
    if (app->ending)
        return;
    if (failed != NULL)
        fail(app, failed);
    else
        host_linux_notify("READY=1");
}

static void fleet_ready(void *arg, const struct error *failed) {
    struct app *app = arg;
    struct error error;
    if (app->ending)
        return;
    if (failed != NULL) {
        fail(app, failed);
    } else if (!serve(app, &error) || !serve_http(app, &error)) {
        fail(app, &error);
    } else {
        fleet_run(app->fleet);
        if (packet_part_wanted(&app->packet))
            packet_part_start(&app->packet, app->reactor, &app->log, app->store, app->options.node, packet_ready, app);
        else
            host_linux_notify("READY=1");
    }
}

static void call_node(void *arg, struct fleet_call *call) { gateway_fleet_call(((struct app *)arg)->gateway, call); }

static void ready(void *arg, const struct error *failed) {
    struct app *app = arg;
    struct error error;
    if (app->ending)
        return;
    const struct fleet_options fleet = {.control = app->control,
                                        .store = app->store,
                                        .node = app->options.node,
                                        .address = app->options.address,
                                        .peers = {call_node, app}};
    app->fleet = failed != NULL ? NULL : fleet_create(&fleet);
    if (app->fleet != NULL) {
        fleet_start(app->fleet, fleet_ready, app);
        return;
    }
    error_set(&error, ERROR_NO_MEMORY, "no memory");
    fail(app, failed != NULL ? failed : &error);
}

static void take_charge(void *arg) {
    struct app *app = arg;
    struct error error;
    if (app->ending)
        return;
    struct control_options control = {.reactor = app->reactor,
                                      .log = &app->log,
                                      .store = app->store,
                                      .node = app->options.node,
                                      .address = app->options.address,
                                      .socket_path = app->socket_path,
                                      .plane_log_path = app->plane_log_path,
                                      .leg_return_ns = app->options.leg_return_s * NS_PER_S,
                                      .processes = plane_program_processes(&app->plane),
                                      .helpers = blockdev_program_helpers(&app->blockdev, app->options.state_dir)};
    if (app->options.plane_socket != NULL)
        control.processes.start = NULL; /* whoever is there counts */
    app->control = control_create(&control);
    if (app->control == NULL) {
        error_set(&error, ERROR_NO_MEMORY, "no memory");
        fail(app, &error);
        return;
    }
    control_start(app->control, ready, app);
}

static void name_lost(void *arg, const struct error *error) { fail(arg, error); }

/* Others may have the same state: one of a name has charge of it. */
static void assemble(struct app *app) {
    struct error error;
    bool shared = app->options.state_etcd.endpoints.count > 0;
    if (!state_open(&app->options, app->reactor, app->state_path, &app->store, &error) ||
        (shared && !state_owner_id(app->owner_path, app->host, app->owner_id, &error))) {
        fail(app, &error);
        return;
    }
    if (!shared) {
        take_charge(app);
        return;
    }
    struct control_owner_options owner = {.reactor = app->reactor,
                                          .log = &app->log,
                                          .store = app->store,
                                          .node = app->options.node,
                                          .address = app->options.address,
                                          .id = app->owner_id,
                                          .taken = take_charge,
                                          .lost = name_lost,
                                          .arg = app};
    app->owner = control_owner_create(&owner);
    if (app->owner != NULL) {
        control_owner_start(app->owner);
        return;
    }
    error_set(&error, ERROR_NO_MEMORY, "no memory");
    fail(app, &error);
}

static void locked(struct host_file_open *open) {
    struct app *app = container_of(open, struct app, lock);
    if (open->ok) {
        if (!app->ending)
            assemble(app);
        return;
    }
    error_hint(&open->error, "is another penstockd running with --state-dir %s?", app->options.state_dir);
    fail(app, &open->error);
}

static void begin(struct reactor_message *message) {
    struct app *app = container_of(message, struct app, begin);
    app->lock = (struct host_file_open){
        .path = app->lock_path, .options = {.create = true, .create_size = 1, .hold = true}, .done = locked};
    host_file_open_submit(app->reactor->loop, &app->lock);
}

/* False: too long. */
static bool make_path(const struct app *app, char to[PATH_SIZE], const char *name) {
    return snprintf(to, PATH_SIZE, "%s/%s", app->options.state_dir, name) < PATH_SIZE;
}

static bool make_paths(struct app *app, const char *program) {
    const struct daemon_options *options = &app->options;
    if (!make_path(app, app->lock_path, "lock") || !make_path(app, app->socket_path, "plane.sock") ||
        !make_path(app, app->plane_log_path, "plane.log") || !make_path(app, app->grpc_path, "penstockd.sock") ||
        !make_path(app, app->state_path, "state.db") || !make_path(app, app->owner_path, "owner-id") ||
        strlen(app->grpc_path) >= sizeof(((struct host_address *)0)->text)) {
        fprintf(stderr, "penstockd: --state-dir %s: too long for a socket's path\n", options->state_dir);
        return false;
    }
    if (options->socket != NULL &&
        snprintf(app->grpc_path, PATH_SIZE, "%s", options->socket) >= (int)sizeof(((struct host_address *)0)->text)) {
        fprintf(stderr, "penstockd: --socket %s: too long\n", options->socket);
        return false;
    }
    if (options->plane_socket != NULL) {
        snprintf(app->plane_log_path, sizeof(app->plane_log_path), "the log of whoever starts it: journalctl -u penstock-block");
        if (snprintf(app->socket_path, PATH_SIZE, "%s", options->plane_socket) >= PATH_SIZE) {
            fprintf(stderr, "penstockd: --plane-socket %s: too long\n", options->plane_socket);
            return false;
        }
    }
    const char *slash = strrchr(program, '/');
    snprintf(app->plane_path, sizeof(app->plane_path), "%.*spenstock-block", slash == NULL ? 0 : (int)(slash + 1 - program),
             program);
    blockdev_program_init(&app->blockdev, options, program);
    plane_program_init(&app->plane, "storage plane", options->plane != NULL ? options->plane : app->plane_path, app->socket_path,
                       app->plane_log_path, &options->plane_arguments);
    struct error error;
    if (!packet_part_init(&app->packet, options, program, &error)) {
        fprintf(stderr, "penstockd: --%s %s: expected %s\n", error.field, error.value, error.expected);
        return false;
    }
    return true;
}

static int run(struct app *app) {
    struct reactor_options options = {.name = "control", .cpu = -1, .poll_mode = HOST_POLL_NEVER};
    int result = reactor_create(app->host, &options, &app->reactor);
    app->plane.reactor = app->reactor;
    app->plane.log = &app->log;
    app->blockdev.reactor = app->reactor;
    app->blockdev.log = &app->log;
    if (result == 0)
        result = host_linux_watch_signals(app->reactor->loop, signalled, app);
    if (result == 0)
        result = host_linux_watchdog(app->reactor->loop);
    if (result == 0) {
        app->begin.run = begin;
        reactor_post(app->reactor, &app->begin);
        result = reactor_start(app->reactor);
    }
    if (result != 0) {
        fprintf(stderr, "penstockd: no loop: %s\n", error_errno_words(-result));
        return 71;
    }
    host_linux_loop_wait(app->reactor->loop);
    reactor_destroy(app->reactor);
    return app->exit_status;
}

int main(int argc, char **argv) {
    static const int signals[] = {SIGINT, SIGTERM, SIGQUIT, SIGHUP, 0};
    static struct app app;
    daemon_options_parse(&app.options, argc, argv);
    if (app.options.exit_now || app.options.check_only)
        return app.options.exit_status;
    int result = host_linux_make_folder(app.options.state_dir);
    if (result != 0) {
        fprintf(stderr, "penstockd: --state-dir %s: %s\n", app.options.state_dir, error_errno_words(-result));
        return 73;
    }
    if (!make_paths(&app, argv[0]))
        return 64;
    signal(SIGPIPE, SIG_IGN);
    host_linux_log_init(&app.log_to, app.options.log_format, "penstockd");
    log_init(&app.log, wall_ns, log_record, &app);
    struct host_linux_options host_options = {.signals = signals, .log = host_log, .log_arg = &app};
    result = host_linux_create(&host_options, &app.host);
    if (result != 0) {
        fprintf(stderr, "penstockd: no host: %s\n", error_errno_words(-result));
        return 71;
    }
    int status = run(&app);
    host_linux_destroy(app.host);
    return status;
}
