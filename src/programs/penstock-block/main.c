/* penstock-block: the storage plane as a process. Reads options, makes the host, puts the plane together, waits for its end. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "host/linux/linux.h"
#include "plane_rpc/rpc_methods.h"
#include "programs/penstock-block/options.h"
#include "wire/jsonrpc/json_writer.h"

struct app {
    struct host *host;
    struct plane *plane;
    FILE *log_file;
    int exit_status;
};

/* One write a line, so that lines of several threads do not mix. */
static void print_record(const struct log_record *record, bool with_time) {
    char time[TEXT_TIME_SIZE] = "", line[1200];
    if (with_time)
        text_format_time(record->wall_ns, time, sizeof(time));
    int length = snprintf(line, sizeof(line), "%s%s%s %s: %s\n", time, with_time ? " " : "", log_level_name(record->level),
                          log_area_name(record->area), record->text);
    fwrite(line, 1, (size_t)length, stderr);
}

static void keep_record(FILE *file, const struct log_record *record) {
    char time[TEXT_TIME_SIZE];
    struct text line;
    struct json_writer writer;
    text_init(&line, KIB(8));
    json_writer_init(&writer, &line, false);
    json_begin_object(&writer, NULL);
    json_put_string(&writer, "time", text_format_time(record->wall_ns, time, sizeof(time)));
    json_put_string(&writer, "level", log_level_name(record->level));
    json_put_string(&writer, "area", log_area_name(record->area));
    json_put_string(&writer, "text", record->text);
    json_end(&writer);
    text_append_char(&line, '\n');
    if (!line.failed) {
        fwrite(line.bytes, 1, line.length, file);
        fflush(file);
    }
    text_fini(&line);
}

static void log_record(void *arg, const struct log_record *record) {
    struct app *app = arg;
    if (record->print)
        print_record(record, app->plane == NULL || atomic_load(&app->plane->log.timestamps));
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
    signal(SIGPIPE, SIG_IGN);
    int confined = host_linux_confine();
    if (confined != 0)
        fprintf(stderr, "penstock-block: goes on with more rights than it needs: %s\n", strerrordesc_np(-confined));
    struct host_linux_options host_options = {.signals = signals, .log = host_log, .log_arg = &app};
    int result = host_linux_create(&host_options, &app.host);
    if (result != 0) {
        fprintf(stderr, "penstock-block: no host: %s\n", strerrordesc_np(-result));
        return 71;
    }
    int status = run(&app, &options);
    host_linux_destroy(app.host);
    if (app.log_file != NULL)
        fclose(app.log_file);
    return status;
}
