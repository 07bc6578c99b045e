/* `penstock engine|frontend …`. */
#include <inttypes.h>
#include <string.h>

#include "base/text.h"
#include "cli/node/node.h"

static json_t *get(const json_t *object, const char *key) { return json_object_get(object, key); }

static const char *place(const json_t *object, const char *ip, const char *port, char *to, size_t size) {
    uint64_t number = (uint64_t)json_integer_value(get(object, port));
    snprintf(to, size, number == 0 ? "-" : "%s:%" PRIu64, cli_member(object, ip), number);
    return to;
}

/* "REPLICA=IP:PORT" into a map. */
static bool put_replica(struct cli *cli, json_t *map, const char *word) {
    const char *equals = strchr(word, '=');
    if (equals == NULL || equals == word || equals[1] == '\0')
        return error_invalid(&cli->error, "argument", word, "REPLICA=IP:PORT, as `penstock replica list` has them");
    return json_object_setn_new(map, word, (size_t)(equals - word), json_string(equals + 1)) == 0 ||
           error_invalid(&cli->error, "argument", word, "UTF-8 text");
}

static bool size_option(struct cli *cli, json_t *request) {
    const char *text = cli_option(cli, "--size");
    uint64_t bytes;
    if (text == NULL)
        return true;
    return cli_size(cli, "--size", text, &bytes) &&
           json_object_set_new(request, "spec_size", json_integer((json_int_t)bytes)) == 0;
}

/* Calls it with the request, if that was made, and says so if the object it answers with is in error. */
static bool create(struct cli *cli, bool ok, const char *method, const char *kind, json_t *take_request) {
    json_t *answer;
    if (!ok) {
        json_decref(take_request);
        return false;
    }
    if (!cli_node_call(cli, method, take_request, &answer))
        return false;
    bool failed = strcmp(cli_member(answer, "state"), "error") == 0;
    if (failed) {
        error_set(&cli->error, ERROR_IO, "%s %s: %s", kind, cli->arguments[0], cli_member(answer, "error_msg"));
        error_hint(&cli->error, "mend it and create it again, or `penstock %s delete %s`", kind, cli->arguments[0]);
    } else if (cli_wants_data(cli)) {
        cli_print(cli, answer);
    }
    json_decref(answer);
    return !failed;
}

static bool named(struct cli *cli, const char *method) {
    return cli_node_do(cli, method, json_pack("{s:s}", "name", cli->arguments[0]));
}

static bool resize(struct cli *cli, const char *method) {
    uint64_t bytes;
    return cli_size(cli, "size", cli->arguments[1], &bytes) &&
           cli_node_do(cli, method, json_pack("{s:s, s:I}", "name", cli->arguments[0], "size", (json_int_t)bytes));
}

/* ---- engines ---- */

static json_t *engines_of(const json_t *answer) { return cli_values(get(answer, "engines")); }

static void engine_row(struct cli_table *table, const json_t *engine) {
    char bytes[24], at[96], legs[32];
    unsigned whole = 0;
    const char *name;
    json_t *mode;
    json_object_foreach(get(engine, "replica_mode_map"), name, mode) whole +=
        json_is_string(mode) && strcmp(json_string_value(mode), "RW") == 0;
    snprintf(legs, sizeof(legs), "%u/%zu", whole, json_object_size(get(engine, "replica_address_map")));
    cli_table_row(table, cli_shown(engine, "name"), cli_shown(engine, "state"), cli_shown(engine, "volume_name"),
                  text_format_size((uint64_t)json_integer_value(get(engine, "spec_size")), bytes, sizeof(bytes)), legs,
                  place(engine, "ip", "port", at, sizeof(at)), cli_shown(engine, "frontend"), cli_shown(engine, "node"),
                  cli_shown(engine, "error_msg"));
}

bool cli_node_engine_list(struct cli *cli) {
    static const char *const titles[] = {"NAME", "STATE", "VOLUME", "SIZE", "WHOLE", "ADDRESS", "FRONTEND", "NODE", "REASON"};
    json_t *all;
    return cli_node_gather(cli, "EngineList", engines_of, &all) && cli_node_print_list(cli, all, titles, 6, 9, 0x18, engine_row);
}

bool cli_node_engine_show(struct cli *cli) {
    json_t *engine;
    return cli_node_call(cli, "EngineGet", json_pack("{s:s}", "name", cli->arguments[0]), &engine) &&
           cli_node_print_object(cli, engine);
}

bool cli_node_engine_create(struct cli *cli) {
    const char *volume = cli_option(cli, "--volume"), *frontend = cli_option(cli, "--frontend");
    json_t *map = json_object();
    bool ok = true;
    for (unsigned i = 1; ok && i < cli->argument_count; i++)
        ok = put_replica(cli, map, cli->arguments[i]);
    json_t *request = json_pack("{s:s, s:s, s:o, s:s, s:i, s:b}", "name", cli->arguments[0], "volume_name",
                                volume != NULL ? volume : cli->arguments[0], "replica_address_map", map, "frontend",
                                frontend != NULL ? frontend : "spdk-tcp-nvmf", "port_count", 1, "salvage_requested",
                                cli_option(cli, "--salvage") != NULL);
    if (ok && cli_option(cli, "--size") == NULL)
        ok = error_invalid(&cli->error, "--size", "not given", "the size of the volume, which `penstock replica list` shows");
    return create(cli, ok && size_option(cli, request), "EngineCreate", "engine", request);
}

bool cli_node_engine_delete(struct cli *cli) { return named(cli, "EngineDelete"); }
bool cli_node_engine_expand(struct cli *cli) { return resize(cli, "EngineExpand"); }

static bool replica_call(struct cli *cli, const char *method) {
    json_t *map = json_object(), *value;
    const char *name;
    bool ok = put_replica(cli, map, cli->arguments[1]);
    json_object_foreach(map, name, value) ok = ok && cli_node_do(cli, method,
                                                                 json_pack("{s:s, s:s, s:O}", "engine_name", cli->arguments[0],
                                                                           "replica_name", name, "replica_address", value));
    json_decref(map);
    return ok;
}

bool cli_node_engine_add(struct cli *cli) { return replica_call(cli, "EngineReplicaAdd"); }
bool cli_node_engine_remove(struct cli *cli) { return replica_call(cli, "EngineReplicaDelete"); }
bool cli_node_engine_watch(struct cli *cli) { return cli_node_watch_list(cli, "EngineWatch", "EngineList", "engines"); }

/* ---- frontends ---- */

static json_t *frontends_of(const json_t *answer) { return cli_values(get(answer, "engine_frontends")); }

static void frontend_row(struct cli_table *table, const json_t *frontend) {
    char bytes[24], at[96];
    cli_table_row(table, cli_shown(frontend, "name"), cli_shown(frontend, "state"), cli_shown(frontend, "engine_name"),
                  text_format_size((uint64_t)json_integer_value(get(frontend, "spec_size")), bytes, sizeof(bytes)),
                  cli_shown(frontend, "endpoint"), place(frontend, "target_ip", "target_port", at, sizeof(at)),
                  cli_shown(frontend, "frontend"), cli_shown(frontend, "volume_name"), cli_shown(frontend, "node"),
                  cli_shown(frontend, "error_msg"));
}

bool cli_node_frontend_list(struct cli *cli) {
    static const char *const titles[] = {"NAME",   "STATE", "ENGINE", "SIZE", "ENDPOINT",
                                         "TARGET", "KIND",  "VOLUME", "NODE", "REASON"};
    json_t *all;
    return cli_node_gather(cli, "EngineFrontendList", frontends_of, &all) &&
           cli_node_print_list(cli, all, titles, 5, 10, 0x8, frontend_row);
}

bool cli_node_frontend_show(struct cli *cli) {
    json_t *frontend;
    return cli_node_call(cli, "EngineFrontendGet", json_pack("{s:s}", "name", cli->arguments[0]), &frontend) &&
           cli_node_print_object(cli, frontend);
}

/* As large as the engine that it is of, which its node's daemon knows. */
static bool size_of_engine(struct cli *cli, json_t *request) {
    char ip[128];
    json_t *engine;
    const char *target = cli->arguments[2], *colon = strrchr(target, ':');
    bool bracketed = target[0] == '[' && colon != NULL && colon[-1] == ']';
    if (colon == NULL || colon - target >= (int)sizeof(ip))
        return error_invalid(&cli->error, "argument", target, "IP:PORT, where the engine listens");
    snprintf(ip, sizeof(ip), "%.*s", (int)(colon - target) - 2 * bracketed, target + bracketed);
    if (!cli_node_call_beside(cli, ip, "EngineGet", json_pack("{s:s}", "name", cli->arguments[1]), &engine))
        return error_hint(&cli->error, "the engine's size is not known: say --size, or the address of an engine");
    bool ok = json_object_set(request, "spec_size", get(engine, "spec_size")) == 0;
    json_decref(engine);
    return ok;
}

bool cli_node_frontend_create(struct cli *cli) {
    const char *volume = cli_option(cli, "--volume"), *kind = cli_option(cli, "--kind");
    json_t *request = json_pack("{s:s, s:s, s:s, s:s, s:s}", "name", cli->arguments[0], "engine_name", cli->arguments[1],
                                "target_address", cli->arguments[2], "volume_name", volume != NULL ? volume : cli->arguments[1],
                                "frontend", kind != NULL ? kind : "spdk-tcp-nvmf");
    bool ok = request != NULL && (cli_option(cli, "--size") != NULL ? size_option(cli, request) : size_of_engine(cli, request));
    return create(cli, ok, "EngineFrontendCreate", "frontend", request);
}

bool cli_node_frontend_delete(struct cli *cli) { return named(cli, "EngineFrontendDelete"); }
bool cli_node_frontend_suspend(struct cli *cli) { return named(cli, "EngineFrontendSuspend"); }
bool cli_node_frontend_resume(struct cli *cli) { return named(cli, "EngineFrontendResume"); }
bool cli_node_frontend_switch_over(struct cli *cli) {
    const char *phase = cli_option(cli, "--phase");
    return cli_node_do(cli, "EngineFrontendSwitchOver",
                       json_pack("{s:s, s:s, s:s, s:s}", "name", cli->arguments[0], "engine_name", cli->arguments[1],
                                 "target_address", cli->arguments[2], "switchover_phase", phase != NULL ? phase : ""));
}
bool cli_node_frontend_expand(struct cli *cli) { return resize(cli, "EngineFrontendExpand"); }
bool cli_node_frontend_watch(struct cli *cli) {
    return cli_node_watch_list(cli, "EngineFrontendWatch", "EngineFrontendList", "engine_frontends");
}
