/* penstock-block: the storage plane as a process. Reads options, makes the host, puts the plane together, waits for its end. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "host/linux/linux.h"
#include "plane_rpc/rpc_methods.h"
#include "programs/penstock-block/options.h"

struct app {
    struct host *host;
    struct plane *plane;
    FILE *log_file;
    struct host_linux_log log_to;
    int exit_status;
};

static void keep_record(FILE *file, const struct log_record *record) {
    char line[8192];
    size_t length;
    if (host_linux_log_json(record, NULL, line, sizeof(line), &length)) {
        fwrite(line, 1, length, file);
        fflush(file);
    }
}

static void log_record(void *arg, const struct log_record *record) {
    struct app *app = arg;
    if (record->print)
        host_linux_log_write(&app->log_to, record, app->plane == NULL || atomic_load(&app->plane->log.timestamps));
    if (record->keep && app->log_file != NULL)
        keep_record(app->log_file, record);
}

static void host_log(void *arg, const char *text) {
    struct app *app = arg;
    if (app->plane != NULL)
        log_notice(&app->plane->log, LOG_AREA_APP, "%s", text);
    else
        fprintf(stderr, "penstock-block: %s\n", text);
}

static void started(void *arg, const struct error *error) {
    struct app *app = arg;
    if (error != NULL)
        app->exit_status = error_facts(error->code)->exit_status;
    else
        host_linux_notify("READY=1");
}

static void signalled(void *arg, int number) {
    (void)number;
    plane_stop(((struct app *)arg)->plane);
}

static void kill_instance(void *arg, enum plane_signal signal) {
    struct app *app = arg;
    if (signal == PLANE_SIGNAL_KILL)
        raise(SIGKILL);
    else if (signal != PLANE_SIGNAL_USR1)
        plane_stop(app->plane);
}

static void prepare(void *arg, struct plane *plane) {
    struct app *app = arg;
    app->plane = plane;
    host_linux_watch_signals(plane->control->loop, signalled, app);
    int result = host_linux_watchdog(plane->control->loop);
    if (result != 0)
        log_warning(&plane->log, LOG_AREA_APP, "no signs of life for the service manager: %s", error_errno_words(-result));
}

static bool set_up_log(struct app *app, const struct block_options *options) {
    if (options->log_path == NULL)
        return true;
    app->log_file = fopen(options->log_path, "ae");
    if (app->log_file == NULL)
        perror(options->log_path);
    return app->log_file != NULL;
}

/* What -L asked for, and what was said that means nothing here. */
static void apply_late_options(struct plane *plane, const struct block_options *options) {
    for (unsigned i = 0; i < options->flag_count; i++)
        if (!log_set_flag(&plane->log, options->flags[i], true))
            log_warning(&plane->log, LOG_AREA_APP, "-L %s: there is no such log flag (penstock rpc log_get_flags)",
                        options->flags[i]);
    for (unsigned i = 0; i < options->without_effect_count; i++)
        log_notice(&plane->log, LOG_AREA_APP, "%s has no effect here%s", options->without_effect[i],
                   strcmp(options->without_effect[i], "--mem-size") == 0 ? ": memory is taken as it is used" : "");
}

static int run(struct app *app, const struct block_options *options) {
    struct plane_options plane_options = {
        .host = app->host,
        .socket_path = options->socket_path,
        .config_path = options->config_path,
        .wait_for_rpc = options->wait_for_rpc,
        .poll_mode = options->poll_mode,
        .cpus = options->cpus,
        .cpu_count = options->cpu_count,
        .version = PENSTOCK_VERSION,
        .pid = host_linux_process_id(),
        .table = &rpc_table_plane,
        .log_write = log_record,
        .prepare = prepare,
        .started = started,
        .kill = kill_instance,
        .arg = app,
    };
    struct error error;
    struct plane *plane;
    if (!plane_create(&plane_options, &plane, &error)) {
        fprintf(stderr, "penstock-block: %s\n", error.text);
        return error_facts(error.code)->exit_status;
    }
    apply_late_options(plane, options);
    host_linux_loop_wait(plane->control->loop);
    app->plane = NULL;
    plane_destroy(plane);
    return app->exit_status;
}

int main(int argc, char **argv) {
    static const int signals[] = {SIGINT, SIGTERM, SIGQUIT, SIGHUP, 0};
    struct block_options options;
    struct app app = {0};
    block_options_parse(&options, argc, argv);
    if (options.exit_now)
        return options.exit_status;
    if (!set_up_log(&app, &options))
        return 73;
    host_linux_log_init(&app.log_to, options.log_format, "penstock-block");
    signal(SIGPIPE, SIG_IGN);
    int confined = host_linux_confine(0);
    if (confined != 0)
        fprintf(stderr, "penstock-block: goes on with more rights than it needs: %s\n", error_errno_words(-confined));
    struct host_linux_options host_options = {.signals = signals, .log = host_log, .log_arg = &app};
    int result = host_linux_create(&host_options, &app.host);
    if (result != 0) {
        fprintf(stderr, "penstock-block: no host: %s\n", error_errno_words(-result));
        return 71;
    }
    int status = run(&app, &options);
    host_linux_destroy(app.host);
    if (app.log_file != NULL)
        fclose(app.log_file);
    return status;
}
