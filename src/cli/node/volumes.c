/* `penstock volume …`: a volume is its node's to whom it was given; of several nodes that are named, that one is asked. */
#include <inttypes.h>
#include <string.h>

#include "base/text.h"
#include "cli/node/node.h"

enum { REFRESH_MS = 200 };

static json_t *get(const json_t *object, const char *key) { return json_object_get(object, key); }
static uint64_t number(const json_t *object, const char *key) { return (uint64_t)json_integer_value(get(object, key)); }
static bool is(const json_t *object, const char *key, const char *text) { return strcmp(cli_member(object, key), text) == 0; }

static void complain(struct cli *cli, unsigned at) {
    fprintf(stderr, "!  %s\n", cli->error.text);
    (void)at;
    cli->exit_status = error_facts(cli->error.code)->exit_status;
    error_clear(&cli->error);
}

/* Which of the nodes has the volume. */
static bool find(struct cli *cli, const char *name, unsigned *ret_at) {
    unsigned count, silent = 0;
    if (!cli_node_count(cli, &count))
        return false;
    *ret_at = 0;
    for (unsigned at = 0; count > 1 && at < count; at++) {
        json_t *answer;
        if (cli_node_call_at(cli, at, "GetVolume", json_pack("{s:s}", "name", name), &answer)) {
            json_decref(answer);
            *ret_at = at;
            return true;
        }
        silent += cli->error.code != ERROR_NOT_FOUND;
        if (cli->error.code != ERROR_NOT_FOUND)
            complain(cli, at);
        error_clear(&cli->error);
    }
    if (count == 1)
        return true;
    error_set(&cli->error, silent > 0 ? ERROR_BUSY : ERROR_NOT_FOUND, "there is no volume '%s' on the nodes that answer", name);
    return error_hint(&cli->error,
                      silent > 0 ? "it may be that of one that does not" : "penstock volume list says what there is");
}

/* Calls a method about the volume that the first argument names. */
static bool call(struct cli *cli, const char *method, json_t *take_request, json_t **ret_answer) {
    unsigned at;
    json_object_set_new(take_request, "name", json_string(cli->arguments[0]));
    if (find(cli, cli->arguments[0], &at))
        return cli_node_call_at(cli, at, method, take_request, ret_answer);
    json_decref(take_request);
    return false;
}

/* The same where nobody wants to see the answer but a program. */
static bool call_only(struct cli *cli, const char *method, json_t *take_request) {
    json_t *answer;
    if (!call(cli, method, take_request, &answer))
        return false;
    if (cli_wants_data(cli))
        cli_print(cli, answer);
    json_decref(answer);
    return true;
}

/* ---- tables ---- */

/* "2/3": those that are whole, of those that it is meant to have. */
static void count_whole(const json_t *volume, char to[24]) {
    unsigned whole = 0;
    size_t i;
    json_t *replica;
    json_array_foreach(get(volume, "replicas"), i, replica) whole += is(replica, "mode", "RW");
    snprintf(to, 24, "%u/%" PRIu64, whole, number(volume, "replica_count"));
}

static void volume_row(struct cli_table *table, const json_t *volume) {
    char bytes[24], whole[24], snapshots[24];
    count_whole(volume, whole);
    snprintf(snapshots, sizeof(snapshots), "%" PRIu64, number(volume, "snapshot_count"));
    cli_table_row(table, cli_shown(volume, "name"), cli_shown(volume, "state"), cli_shown(volume, "health"),
                  text_format_size(number(volume, "size_bytes"), bytes, sizeof(bytes)), whole, cli_shown(volume, "node"),
                  cli_shown(volume, "endpoint"), cli_shown(volume, "frontend"), snapshots, cli_shown(volume, "reason"));
}

bool cli_node_volume_list(struct cli *cli) {
    static const char *const titles[] = {"NAME", "STATE",    "HEALTH",   "SIZE",      "WHOLE",
                                         "NODE", "ENDPOINT", "FRONTEND", "SNAPSHOTS", "REASON"};
    json_t *all = json_array();
    unsigned count;
    if (!cli_node_count(cli, &count)) {
        json_decref(all);
        return false;
    }
    for (unsigned at = 0; at < count; at++) {
        json_t *answer;
        if (cli_node_call_at(cli, at, "ListVolumes", NULL, &answer)) {
            json_array_extend(all, get(answer, "volumes"));
            json_decref(answer);
        } else if (count == 1) {
            json_decref(all);
            return false;
        } else {
            complain(cli, at); /* the others are shown all the same */
        }
    }
    return cli_node_print_list(cli, all, titles, 7, 10, 0x118, volume_row);
}

static void replica_row(struct cli_table *table, const json_t *replica) {
    char copied[40], percent[16];
    const char *change = cli_member(replica, "change");
    bool whole = is(replica, "mode", "RW");
    snprintf(percent, sizeof(percent), whole ? "-" : "%" PRIu64 " %%", number(replica, "percent"));
    text_format_size(number(replica, "copied_bytes"), copied, sizeof(copied));
    cli_table_row(table, cli_shown(replica, "name"), cli_shown(replica, "node"), cli_shown(replica, "disk"),
                  change[0] != '\0' && !whole ? change : cli_shown(replica, "mode"), percent, copied,
                  cli_shown(replica, "address"), cli_shown(replica, "reason"));
}

static void print_volume(const json_t *volume) {
    static const char *const titles[] = {"REPLICA", "NODE", "DISK", "MODE", "DONE", "COPIED", "ADDRESS", "REASON"};
    char bytes[24], whole[24];
    struct cli_table table;
    json_t *replica;
    size_t i;
    count_whole(volume, whole);
    printf("%s: %s%s%s, %s, %s replicas whole, %" PRIu64 " snapshots\n", cli_member(volume, "name"), cli_member(volume, "state"),
           cli_member(volume, "health")[0] != '\0' ? ", " : "", cli_member(volume, "health"),
           text_format_size(number(volume, "size_bytes"), bytes, sizeof(bytes)), whole, number(volume, "snapshot_count"));
    if (cli_member(volume, "endpoint")[0] != '\0')
        printf("hosts connect to %s\n", cli_member(volume, "endpoint"));
    if (cli_member(volume, "reason")[0] != '\0')
        printf("!  %s\n", cli_member(volume, "reason"));
    printf("the engine is %s on %s; a replica lost for good is %s\n\n", cli_member(volume, "engine"), cli_member(volume, "node"),
           json_is_true(get(volume, "replace_lost")) ? "replaced on another node" : "not replaced by itself");
    cli_table_init(&table, titles, 8, 0x30);
    json_array_foreach(get(volume, "replicas"), i, replica) replica_row(&table, replica);
    cli_table_print(&table, stdout);
}

static bool show(struct cli *cli, json_t *take_answer) {
    json_t *volume = get(take_answer, "volume");
    if (cli_wants_data(cli))
        cli_print(cli, volume);
    else
        print_volume(volume);
    json_decref(take_answer);
    return true;
}

bool cli_node_volume_show(struct cli *cli) {
    json_t *answer;
    return call(cli, "GetVolume", json_object(), &answer) && show(cli, answer);
}

/* ---- waiting for copies ---- */

/* What is being copied to, if anything. */
static bool show_copying(struct cli *cli, struct cli_progress *progress, const json_t *volume) {
    json_t *replica;
    size_t i;
    char what[160];
    unsigned copying = 0, percent = 0;
    uint64_t bytes = 0;
    json_array_foreach(get(volume, "replicas"), i, replica) {
        if (!is(replica, "mode", "WO"))
            continue;
        if (copying++ == 0)
            snprintf(what, sizeof(what), "%.50s: copying to %.40s", cli_member(volume, "name"), cli_member(replica, "node"));
        percent += (unsigned)number(replica, "percent");
        bytes += number(replica, "copied_bytes");
    }
    if (copying > 1)
        snprintf(what, sizeof(what), "%.50s: copying to %u replicas", cli_member(volume, "name"), copying);
    if (copying > 0)
        cli_progress_show(cli, progress, what, percent / copying, bytes);
    return copying > 0;
}

static bool is_whole(const json_t *volume) {
    json_t *replica;
    size_t i;
    json_array_foreach(get(volume, "replicas"), i, replica) if (!is(replica, "mode", "RW")) return false;
    return is(volume, "state", "running");
}

/* One line of what it is. */
static void tell(struct cli *cli, const json_t *message) {
    const json_t *volume = get(message, "volume");
    char whole[24];
    if (cli_wants_data(cli)) {
        cli_print(cli, message);
    } else if (json_is_true(get(message, "deleted"))) {
        printf("%s deleted\n", cli_member(volume, "name"));
    } else {
        count_whole(volume, whole);
        printf("%s %s%s%s, %s whole%s%s\n", cli_member(volume, "name"), cli_member(volume, "state"),
               cli_member(volume, "health")[0] != '\0' ? " " : "", cli_member(volume, "health"), whole,
               cli_member(volume, "reason")[0] != '\0' ? ": " : "", cli_member(volume, "reason"));
    }
    fflush(stdout);
}

/* The lines that would differ only in how far a copy is are the bar's. */
static bool says_the_same(const json_t *a, const json_t *b) {
    char x[24], y[24];
    if (a == NULL || json_is_true(get(b, "deleted")))
        return false;
    a = get(a, "volume");
    b = get(b, "volume");
    count_whole(a, x);
    count_whole(b, y);
    return strcmp(x, y) == 0 && is(a, "state", cli_member(b, "state")) && is(a, "health", cli_member(b, "health"));
}

/* Until it is interrupted, or (`until_whole`) all replicas of all that is watched are whole. "" = all volumes. */
static bool follow(struct cli *cli, unsigned at, const char *name, bool until_whole, bool lines) {
    struct cli_node_watch *watch;
    struct cli_progress progress = {0};
    json_t *told = json_object(), *message, *volume;
    const char *key;
    bool over = false, ok = cli_node_watch_open_at(cli, at, "WatchVolumes", json_pack("{s:s}", "name", name), &watch);
    if (!ok) {
        json_decref(told);
        return false;
    }
    while (!over && (ok = cli_node_watch_next(watch, REFRESH_MS, &message))) {
        bool copying = false, whole = json_object_size(told) > 0;
        if (message != NULL) {
            const char *its = cli_member(get(message, "volume"), "name");
            if (lines && !says_the_same(get(told, its), message)) {
                cli_progress_end(cli, &progress);
                tell(cli, message);
            }
            if (json_is_true(get(message, "deleted")))
                json_object_del(told, its);
            else
                json_object_set(told, its, message);
            over = json_is_true(get(message, "deleted")) && name[0] != '\0';
            json_decref(message);
        }
        json_object_foreach(told, key, volume) {
            copying = (!copying && show_copying(cli, &progress, get(volume, "volume"))) || copying;
            whole = whole && is_whole(get(volume, "volume"));
        }
        if (!copying)
            cli_progress_end(cli, &progress);
        over = over || (until_whole && whole);
    }
    cli_progress_end(cli, &progress);
    json_decref(told);
    cli_node_watch_close(watch);
    return ok;
}

bool cli_node_volume_watch(struct cli *cli) {
    const char *name = cli->argument_count > 0 ? cli->arguments[0] : "";
    unsigned at, count;
    if (!cli_node_count(cli, &count))
        return false;
    if (name[0] != '\0' ? !find(cli, name, &at) : count > 1)
        return name[0] != '\0' ? false : error_set(&cli->error, ERROR_INVALID, "name a volume, or one node: %u are named", count);
    if (name[0] == '\0')
        at = 0;
    if (cli_option(cli, "--once") == NULL)
        return follow(cli, at, name, cli_option(cli, "--whole") != NULL, true);
    json_t *answer, *volume;
    size_t i;
    if (!cli_node_call_at(cli, at, "ListVolumes", NULL, &answer))
        return false;
    json_array_foreach(get(answer, "volumes"), i, volume) {
        json_t *message = json_pack("{s:O, s:b}", "volume", volume, "deleted", 0);
        if (name[0] == '\0' || is(volume, "name", name))
            tell(cli, message);
        json_decref(message);
    }
    json_decref(answer);
    return true;
}

/* ---- changes ---- */

static bool put_places(struct cli *cli, json_t *request) {
    json_t *places = json_array(), *nodes = json_array();
    unsigned count;
    bool ok = cli_node_count(cli, &count);
    for (unsigned i = 2; i < cli->argument_count; i++)
        json_array_append_new(places, json_string(cli->arguments[i]));
    for (unsigned at = 0; ok && at < count; at++)
        if (cli_node_ip(cli, at) != NULL)
            json_array_append_new(nodes, json_string(cli_node_ip(cli, at)));
    json_object_set_new(request, "places", places);
    json_object_set_new(request, "nodes", nodes);
    return ok;
}

/* One that could not be made is answered too. */
static bool show_made(struct cli *cli, json_t *take_answer, const char *name) {
    const json_t *volume = get(take_answer, "volume");
    bool failed = is(volume, "state", "error");
    if (failed) {
        error_set(&cli->error, ERROR_IO, "volume %s: %s", name, cli_member(volume, "reason"));
        error_hint(&cli->error, "mend it and create it again, or `penstock volume delete %s --yes`", name);
    } else if (cli_wants_data(cli)) {
        cli_print(cli, volume);
    } else {
        printf("%s\n", cli_member(volume, "endpoint")[0] != '\0' ? cli_member(volume, "endpoint") : cli_member(volume, "name"));
    }
    json_decref(take_answer);
    return !failed;
}

bool cli_node_volume_create(struct cli *cli) {
    const char *replicas = cli_option(cli, "--replicas"), *frontend = cli_option(cli, "--frontend");
    uint64_t bytes, count = 0;
    json_t *answer;
    if (!cli_size(cli, "size", cli->arguments[1], &bytes))
        return false;
    if (replicas != NULL && (!text_parse_u64(replicas, 8, &count) || count == 0))
        return error_invalid(&cli->error, "--replicas", replicas, "1 to 8");
    json_t *request = json_pack("{s:s, s:I, s:I, s:s, s:b}", "name", cli->arguments[0], "size_bytes", (json_int_t)bytes,
                                "replica_count", (json_int_t)count, "frontend", frontend != NULL ? frontend : "", "replace_lost",
                                cli_option(cli, "--replace-lost") != NULL);
    if (request == NULL)
        return error_set(&cli->error, ERROR_INVALID, "the arguments are not UTF-8");
    if (!put_places(cli, request)) {
        json_decref(request);
        return false;
    }
    return cli_node_call_at(cli, 0, "CreateVolume", request, &answer) && show_made(cli, answer, cli->arguments[0]);
}

bool cli_node_volume_clone(struct cli *cli) {
    json_t *answer;
    if (call(cli, "CloneVolume", json_pack("{s:s, s:s}", "snapshot", cli->arguments[1], "new_name", cli->arguments[2]), &answer))
        return show_made(cli, answer, cli->arguments[2]);
    if (cli->error.code == ERROR_TIMED_OUT)
        error_hint(&cli->error, "`penstock volume show %s` says how far it is", cli->arguments[2]);
    return false;
}

bool cli_node_volume_expand(struct cli *cli) {
    uint64_t bytes;
    return cli_size(cli, "size", cli->arguments[1], &bytes) &&
           call_only(cli, "ExpandVolume", json_pack("{s:I}", "size_bytes", (json_int_t)bytes));
}

bool cli_node_volume_set(struct cli *cli) {
    const char *replace = cli_option(cli, "--replace-lost");
    bool yes = replace != NULL && strcmp(replace, "yes") == 0;
    if (replace == NULL || (!yes && strcmp(replace, "no") != 0))
        return error_invalid(&cli->error, "--replace-lost", replace != NULL ? replace : "", "yes or no");
    return call_only(cli, "UpdateVolume", json_pack("{s:b}", "replace_lost", yes));
}

bool cli_node_volume_delete(struct cli *cli) {
    if (!cli_yes(cli, "this deletes volume %s with all its data and snapshots", cli->arguments[0]))
        return false;
    return call_only(cli, "DeleteVolume", json_pack("{s:b}", "abandon", cli_option(cli, "--abandon") != NULL));
}

bool cli_node_volume_revert(struct cli *cli) {
    if (!cli_yes(cli, "this takes back all that was written to volume %s since snapshot %s", cli->arguments[0],
                 cli->arguments[1]))
        return false;
    return call_only(cli, "RevertVolume", json_pack("{s:s}", "snapshot", cli->arguments[1]));
}

bool cli_node_volume_add(struct cli *cli) {
    unsigned at;
    if (!call_only(cli, "AddReplica", json_pack("{s:s}", "place", cli->argument_count > 1 ? cli->arguments[1] : "")))
        return false;
    return cli_option(cli, "--follow") == NULL ||
           (find(cli, cli->arguments[0], &at) && follow(cli, at, cli->arguments[0], true, false));
}

bool cli_node_volume_remove(struct cli *cli) {
    if (!cli_yes(cli, "this deletes replica %s with its data", cli->arguments[1]))
        return false;
    return call_only(cli, "RemoveReplica",
                     json_pack("{s:s, s:b}", "replica", cli->arguments[1], "abandon", cli_option(cli, "--abandon") != NULL));
}

/* ---- snapshots ---- */

static void snapshot_row(struct cli_table *table, const json_t *snapshot) {
    char used[24], bytes[24];
    cli_table_row(table, cli_shown(snapshot, "name"), cli_shown(snapshot, "parent"),
                  text_format_size(number(snapshot, "used_bytes"), used, sizeof(used)), cli_shown(snapshot, "created_at"),
                  text_format_size(number(snapshot, "size_bytes"), bytes, sizeof(bytes)));
}

bool cli_node_volume_snapshot_list(struct cli *cli) {
    static const char *const titles[] = {"NAME", "PARENT", "USED", "CREATED", "SIZE"};
    json_t *answer;
    if (!call(cli, "ListSnapshots", json_object(), &answer))
        return false;
    json_t *list = json_incref(get(answer, "snapshots"));
    json_decref(answer);
    return cli_node_print_list(cli, list, titles, 4, 5, 0x14, snapshot_row);
}

bool cli_node_volume_snapshot_create(struct cli *cli) {
    json_t *answer;
    if (!call(cli, "CreateSnapshot", json_pack("{s:s}", "snapshot", cli->argument_count > 1 ? cli->arguments[1] : ""), &answer))
        return false;
    if (cli_wants_data(cli))
        cli_print(cli, answer);
    else
        printf("%s\n", cli_member(answer, "snapshot"));
    json_decref(answer);
    return true;
}

bool cli_node_volume_snapshot_delete(struct cli *cli) {
    return call_only(cli, "DeleteSnapshot", json_pack("{s:s}", "snapshot", cli->arguments[1]));
}

/* ---- what belongs to nobody ---- */

static void leftover_row(struct cli_table *table, const json_t *leftover) {
    char how[200];
    const char *kind = cli_member(leftover, "kind");
    snprintf(how, sizeof(how), "penstock --node %s %s delete %s%s", cli_member(leftover, "node"), kind,
             cli_member(leftover, "name"), strcmp(kind, "replica") == 0 ? " --yes" : "");
    cli_table_row(table, kind, cli_shown(leftover, "name"), cli_shown(leftover, "node"), cli_shown(leftover, "volume"), how);
}

bool cli_node_volume_leftovers(struct cli *cli) {
    static const char *const titles[] = {"KIND", "NAME", "NODE", "OF VOLUME", "TO DELETE IT"};
    json_t *answer, *nodes = json_array(), *silent;
    unsigned count;
    size_t i;
    bool ok = cli_node_count(cli, &count);
    for (unsigned at = 0; ok && at < count; at++)
        if (cli_node_ip(cli, at) != NULL)
            json_array_append_new(nodes, json_string(cli_node_ip(cli, at)));
    json_t *request = json_pack("{s:o}", "nodes", nodes);
    if (!ok || !cli_node_call_at(cli, 0, "ListLeftovers", request, &answer)) {
        if (!ok)
            json_decref(request);
        return false;
    }
    json_array_foreach(get(answer, "silent"), i, silent) {
        fprintf(stderr, "!  it is not known what belongs to the volumes of %s\n", json_string_value(silent));
        cli->exit_status = error_facts(ERROR_BUSY)->exit_status;
    }
    json_t *list = json_incref(get(answer, "leftovers"));
    json_decref(answer);
    return cli_node_print_list(cli, list, titles, 5, 5, 0, leftover_row);
}
