/* `penstock node|disk|replica|snapshot …`. */
#include <inttypes.h>
#include <string.h>

#include "base/text.h"
#include "cli/node/node.h"

enum { POLL_MS = 100, WAIT_MS = 60000 };

static json_t *get(const json_t *object, const char *key) { return json_object_get(object, key); }
static uint64_t number(const json_t *object, const char *key) { return (uint64_t)json_integer_value(get(object, key)); }

const char *cli_shown(const json_t *object, const char *key) {
    const char *value = cli_member(object, key);
    return value[0] != '\0' ? value : "-";
}

json_t *cli_values(const json_t *object) {
    json_t *list = json_array(), *value;
    const char *key;
    json_object_foreach((json_t *)object, key, value) json_array_append(list, value);
    return list;
}

static const char *size(uint64_t bytes, char to[24]) { return text_format_size(bytes, to, 24); }

bool cli_node_gather(struct cli *cli, const char *method, json_t *(*list)(const json_t *answer), json_t **ret_all) {
    unsigned count;
    if (!cli_node_count(cli, &count))
        return false;
    json_t *all = json_array();
    for (unsigned i = 0; i < count; i++) {
        json_t *answer, *item;
        size_t at;
        if (!cli_node_call_at(cli, i, method, NULL, &answer)) {
            json_decref(all);
            return false;
        }
        json_t *items = list(answer);
        json_array_foreach(items, at, item) {
            json_object_set_new(item, "node", json_string(cli_node_address(cli, i)));
            json_array_append(all, item);
        }
        json_decref(items);
        json_decref(answer);
    }
    *ret_all = all;
    return true;
}

bool cli_node_print_list(struct cli *cli, json_t *take_list, const char *const *titles, unsigned narrow, unsigned wide,
                         unsigned right, void (*row)(struct cli_table *table, const json_t *item)) {
    struct cli_table table;
    json_t *item;
    size_t i;
    if (cli_wants_data(cli)) {
        cli_print(cli, take_list);
    } else {
        cli_table_init(&table, titles, cli->output == CLI_WIDE ? wide : narrow, right);
        json_array_foreach(take_list, i, item) row(&table, item);
        cli_table_print(&table, stdout);
    }
    json_decref(take_list);
    return true;
}

bool cli_node_print_object(struct cli *cli, json_t *take_object) {
    const char *key;
    json_t *value;
    if (cli_wants_data(cli))
        cli_print(cli, take_object);
    else
        json_object_foreach(take_object, key, value) {
            char shown[64], human[24];
            bool is_size = strstr(key, "_bytes") != NULL || strstr(key, "_size") != NULL;
            if (json_is_object(value) || json_is_array(value))
                snprintf(shown, sizeof(shown), "%zu (-o json shows %s)",
                         json_is_array(value) ? json_array_size(value) : json_object_size(value),
                         (json_is_array(value) ? json_array_size(value) : json_object_size(value)) == 1 ? "it" : "them");
            else if (json_is_integer(value) && is_size)
                snprintf(shown, sizeof(shown), "%" JSON_INTEGER_FORMAT " (%s)", json_integer_value(value),
                         size((uint64_t)json_integer_value(value), human));
            else if (json_is_integer(value))
                snprintf(shown, sizeof(shown), "%" JSON_INTEGER_FORMAT, json_integer_value(value));
            else
                snprintf(shown, sizeof(shown), "%s", json_is_true(value) ? "yes" : json_is_false(value) ? "no" : "-");
            printf("%-20s %s\n", key,
                   !json_is_string(value)          ? shown
                   : json_string_length(value) > 0 ? json_string_value(value)
                                                   : "-");
        }
    json_decref(take_object);
    return true;
}

/* The one of that name. Takes the list. */
static bool find(struct cli *cli, const char *kind, const char *name, json_t *take_list, json_t **ret_item) {
    json_t *item;
    size_t i;
    *ret_item = NULL;
    json_array_foreach(take_list, i, item) if (strcmp(cli_shown(item, "name"), name) == 0 && *ret_item == NULL) *ret_item =
        json_incref(item);
    json_decref(take_list);
    if (*ret_item != NULL)
        return true;
    error_set(&cli->error, ERROR_NOT_FOUND, "there is no %s '%s'", kind, name);
    return error_hint(&cli->error, "penstock %s list says what there is", kind);
}

/* ---- nodes ---- */

static json_t *node_of(const json_t *answer) { return json_pack("[O]", get(answer, "node")); }

static void node_row(struct cli_table *table, const json_t *node) {
    const json_t *plane = get(node, "plane");
    char up[32], disks[24], methods[24], process[24];
    uint64_t seconds = number(node, "up_ms") / 1000;
    snprintf(up, sizeof(up), "%" PRIu64 ":%02u:%02u", seconds / 3600, (unsigned)(seconds / 60 % 60), (unsigned)(seconds % 60));
    snprintf(disks, sizeof(disks), "%zu", json_array_size(get(node, "disks")));
    snprintf(process, sizeof(process), "%" PRIu64, number(plane, "process_id"));
    snprintf(methods, sizeof(methods), "%" PRIu64, number(plane, "methods"));
    cli_table_row(table, cli_shown(node, "name"), cli_shown(node, "node"), cli_shown(node, "version"), up,
                  cli_shown(plane, "state"), disks, process, methods, cli_shown(plane, "socket_path"),
                  cli_shown(plane, "reason"));
}

bool cli_node_list(struct cli *cli) {
    static const char *const titles[] = {"NAME",  "ADDRESS", "VERSION", "UP",     "PLANE",
                                         "DISKS", "PROCESS", "METHODS", "SOCKET", "REASON"};
    json_t *all;
    return cli_node_gather(cli, "GetNode", node_of, &all) && cli_node_print_list(cli, all, titles, 6, 10, 0xe8, node_row);
}

bool cli_node_show(struct cli *cli) {
    json_t *answer;
    if (!cli_node_call(cli, "GetNode", NULL, &answer))
        return false;
    json_t *node = json_incref(get(answer, "node"));
    json_decref(answer);
    if (!cli_wants_data(cli)) { /* the plane's beside the node's */
        const char *key;
        json_t *value, *plane = json_incref(get(node, "plane"));
        json_object_del(node, "plane");
        json_object_foreach(plane, key, value) {
            char name[64];
            snprintf(name, sizeof(name), "plane.%s", key);
            json_object_set(node, name, value);
        }
        json_decref(plane);
    }
    return cli_node_print_object(cli, node);
}

/* ---- disks ---- */

static json_t *disks_of(const json_t *answer) { return json_incref(get(get(answer, "node"), "disks")); }

static void disk_row(struct cli_table *table, const json_t *disk) {
    char total[24], left[24], used[16], replicas[16], block[16];
    uint64_t bytes = number(disk, "total_bytes"), free_bytes = number(disk, "free_bytes");
    snprintf(used, sizeof(used), "%" PRIu64 " %%", bytes == 0 ? 0 : (bytes - free_bytes) * 100 / bytes);
    snprintf(replicas, sizeof(replicas), "%" PRIu64, number(disk, "replicas"));
    snprintf(block, sizeof(block), "%" PRIu64, number(disk, "block_bytes"));
    cli_table_row(table, cli_shown(disk, "name"), cli_shown(disk, "state"), size(bytes, total), size(free_bytes, left), used,
                  replicas, cli_shown(disk, "path"), block, cli_shown(disk, "uuid"), cli_shown(disk, "node"),
                  cli_shown(disk, "reason"));
}

bool cli_node_disk_list(struct cli *cli) {
    static const char *const titles[] = {"NAME", "STATE", "SIZE", "FREE", "USED",  "REPLICAS",
                                         "PATH", "BLOCK", "UUID", "NODE", "REASON"};
    json_t *all;
    return cli_node_gather(cli, "GetNode", disks_of, &all) && cli_node_print_list(cli, all, titles, 7, 11, 0xbc, disk_row);
}

static bool get_disk(struct cli *cli, const char *name, json_t **ret_disk) {
    json_t *all;
    return cli_node_gather(cli, "GetNode", disks_of, &all) && find(cli, "disk", name, all, ret_disk);
}

bool cli_node_disk_show(struct cli *cli) {
    json_t *disk;
    return get_disk(cli, cli->arguments[0], &disk) && cli_node_print_object(cli, disk);
}

/* Until it is ready; its reason if it will not be. */
static bool wait_disk(struct cli *cli, const char *name) {
    for (unsigned waited_ms = 0;; waited_ms += POLL_MS) {
        json_t *disk;
        if (!get_disk(cli, name, &disk))
            return false;
        bool ready = strcmp(cli_shown(disk, "state"), "ready") == 0, failed = strcmp(cli_shown(disk, "state"), "error") == 0;
        bool late = waited_ms >= WAIT_MS;
        if (failed || late) {
            error_set(&cli->error, failed ? ERROR_IO : ERROR_TIMED_OUT, "disk %s: %s", name,
                      cli_shown(disk, "reason")[0] != '-' ? cli_shown(disk, "reason") : cli_shown(disk, "state"));
            error_hint(&cli->error, "mend it, then create it again: that tries at once; or `penstock disk delete %s`", name);
        }
        json_decref(disk);
        if (ready || failed || late)
            return ready;
        cli_sleep(cli, POLL_MS);
    }
}

bool cli_node_disk_create(struct cli *cli) {
    const char *driver = cli_option(cli, "--driver"), *uuid = cli_option(cli, "--uuid");
    uint64_t block_bytes = 0;
    if (cli_option(cli, "--block-size") != NULL && !cli_size(cli, "--block-size", cli_option(cli, "--block-size"), &block_bytes))
        return false;
    if (block_bytes > INT32_MAX)
        return error_invalid(&cli->error, "--block-size", cli_option(cli, "--block-size"), "512 or 4096");
    json_t *answer, *request = json_pack("{s:s, s:s, s:s, s:s, s:I}", "disk_name", cli->arguments[0], "disk_path",
                                         cli->arguments[1], "disk_driver", driver != NULL ? driver : "", "disk_uuid",
                                         uuid != NULL ? uuid : "", "block_size", (json_int_t)block_bytes);
    if (request == NULL)
        return error_set(&cli->error, ERROR_INVALID, "the arguments are not UTF-8");
    if (!cli_node_call(cli, "DiskCreate", request, &answer))
        return false;
    json_decref(answer);
    if (cli_option(cli, "--no-wait") == NULL && !wait_disk(cli, cli->arguments[0]))
        return false;
    json_t *disk;
    return !cli_wants_data(cli) || (get_disk(cli, cli->arguments[0], &disk) && cli_node_print_object(cli, disk));
}

bool cli_node_disk_delete(struct cli *cli) {
    return cli_node_do(cli, "DiskDelete", json_pack("{s:s}", "disk_name", cli->arguments[0]));
}

/* ---- replicas ---- */

static json_t *replicas_of(const json_t *answer) { return cli_values(get(answer, "replicas")); }

static uint64_t actual_bytes(const json_t *replica) {
    uint64_t bytes = number(get(replica, "head"), "actual_size");
    const char *key;
    json_t *snapshot;
    json_object_foreach(get(replica, "snapshots"), key, snapshot) bytes += number(snapshot, "actual_size");
    return bytes;
}

static void replica_row(struct cli_table *table, const json_t *replica) {
    char bytes[24], actual[24], snapshots[16], place[96] = "-", last[16];
    snprintf(snapshots, sizeof(snapshots), "%zu", json_object_size(get(replica, "snapshots")));
    if (number(replica, "port_start") != 0)
        snprintf(place, sizeof(place), "%s:%" PRIu64, cli_shown(replica, "ip"), number(replica, "port_start"));
    snprintf(last, sizeof(last), "%" PRIu64, number(replica, "port_end"));
    cli_table_row(table, cli_shown(replica, "name"), cli_shown(replica, "state"), cli_shown(replica, "lvs_name"),
                  size(number(replica, "spec_size"), bytes), size(actual_bytes(replica), actual), snapshots, place, last,
                  cli_shown(get(replica, "head"), "uuid"), cli_shown(replica, "node"), cli_shown(replica, "error_msg"));
}

static const char *const replica_titles[] = {"NAME",    "STATE",     "DISK", "SIZE", "ACTUAL", "SNAPSHOTS",
                                             "ADDRESS", "LAST PORT", "HEAD", "NODE", "REASON"};

bool cli_node_replica_list(struct cli *cli) {
    json_t *all;
    return cli_node_gather(cli, "ReplicaList", replicas_of, &all) &&
           cli_node_print_list(cli, all, replica_titles, 7, 11, 0xb8, replica_row);
}

static bool named(struct cli *cli, const char *method, json_t **ret_answer) {
    return cli_node_call(cli, method, json_pack("{s:s}", "name", cli->arguments[0]), ret_answer);
}

bool cli_node_replica_show(struct cli *cli) {
    json_t *replica;
    return named(cli, "ReplicaGet", &replica) && cli_node_print_object(cli, replica);
}

bool cli_node_replica_create(struct cli *cli) {
    const char *ports = cli_option(cli, "--ports");
    uint64_t bytes, port_count = 1;
    json_t *replica;
    if (!cli_size(cli, "size", cli->arguments[2], &bytes))
        return false;
    if (ports != NULL && !text_parse_u64(ports, 64, &port_count))
        return error_invalid(&cli->error, "--ports", ports, "0 to 64");
    json_t *request = json_pack("{s:s, s:s, s:I, s:I}", "name", cli->arguments[0], "lvs_name", cli->arguments[1], "spec_size",
                                (json_int_t)bytes, "port_count", (json_int_t)port_count);
    if (!cli_node_call(cli, "ReplicaCreate", request, &replica))
        return false;
    if (strcmp(cli_shown(replica, "state"), "error") == 0) { /* the call succeeds; the replica stays, with its reason */
        error_set(&cli->error, ERROR_IO, "replica %s: %s", cli->arguments[0], cli_shown(replica, "error_msg"));
        error_hint(&cli->error, "mend it and create it again, or `penstock replica delete %s`", cli->arguments[0]);
        json_decref(replica);
        return false;
    }
    if (cli_wants_data(cli))
        return cli_node_print_object(cli, replica);
    printf("%s:%" PRIu64 "\n", cli_shown(replica, "ip"), number(replica, "port_start"));
    json_decref(replica);
    return true;
}

bool cli_node_replica_stop(struct cli *cli) {
    return cli_node_do(cli, "ReplicaDelete", json_pack("{s:s, s:b}", "name", cli->arguments[0], "cleanup_required", 0));
}

bool cli_node_replica_delete(struct cli *cli) {
    if (!cli_yes(cli, "this deletes replica %s with all its data and snapshots", cli->arguments[0]))
        return false;
    return cli_node_do(cli, "ReplicaDelete", json_pack("{s:s, s:b}", "name", cli->arguments[0], "cleanup_required", 1));
}

bool cli_node_replica_expand(struct cli *cli) {
    uint64_t bytes;
    return cli_size(cli, "size", cli->arguments[1], &bytes) &&
           cli_node_do(cli, "ReplicaExpand", json_pack("{s:s, s:I}", "name", cli->arguments[0], "size", (json_int_t)bytes));
}

/* What is new since the last time, a line each (an object each for programs). */
static void tell_changes(struct cli *cli, const json_t *before, const json_t *now) {
    const char *key;
    json_t *replica;
    json_object_foreach((json_t *)now, key, replica) {
        const json_t *was = get(before, key);
        if (was != NULL && json_equal(was, replica))
            continue;
        if (cli_wants_data(cli)) {
            cli_print(cli, replica);
            continue;
        }
        const char *why = cli_shown(replica, "error_msg");
        printf("%s %s%s%s\n", key, cli_shown(replica, "state"), why[0] != '-' ? ": " : "", why[0] != '-' ? why : "");
    }
    json_object_foreach((json_t *)before, key, replica) if (get(now, key) == NULL) {
        if (cli_wants_data(cli)) {
            json_t *gone = json_pack("{s:s, s:s}", "name", key, "state", "deleted");
            cli_print(cli, gone);
            json_decref(gone);
        } else {
            printf("%s deleted\n", key);
        }
    }
    fflush(stdout);
}

bool cli_node_watch_list(struct cli *cli, const char *stream, const char *list, const char *member) {
    struct cli_node_watch *watch;
    json_t *before = json_object(), *message = NULL;
    bool ok = cli_node_watch_open(cli, stream, &watch);
    if (!ok) {
        json_decref(before);
        return false;
    }
    do {
        json_t *answer;
        json_decref(message);
        message = NULL;
        ok = cli_node_call(cli, list, NULL, &answer);
        if (ok) {
            json_t *now = json_incref(get(answer, member));
            tell_changes(cli, before, now);
            json_decref(before);
            before = now;
            json_decref(answer);
        }
    } while (ok && cli_option(cli, "--once") == NULL && cli_node_watch_next(watch, 0, &message));
    ok = ok && cli_option(cli, "--once") != NULL; /* else it ended, and the error says why */
    json_decref(before);
    cli_node_watch_close(watch);
    return ok;
}

bool cli_node_replica_watch(struct cli *cli) { return cli_node_watch_list(cli, "ReplicaWatch", "ReplicaList", "replicas"); }

/* ---- snapshots: of KIND/NAME ---- */

struct owner {
    const char *prefix, *method, *name; /* "replica/", "Replica" */
};

static bool parse_owner(struct cli *cli, struct owner *ret) {
    static const struct owner kinds[] = {
        {"replica/", "Replica", NULL}, {"engine/", "Engine", NULL}, {"frontend/", "EngineFrontend", NULL}};
    for (size_t i = 0; i < array_count(kinds); i++) {
        size_t length = strlen(kinds[i].prefix);
        if (strncmp(cli->arguments[0], kinds[i].prefix, length) == 0 && cli->arguments[0][length] != '\0') {
            *ret = kinds[i];
            ret->name = cli->arguments[0] + length;
            return true;
        }
    }
    return error_invalid(&cli->error, "argument", cli->arguments[0], "replica/NAME, engine/NAME or frontend/NAME");
}

static void snapshot_row(struct cli_table *table, const json_t *snapshot) {
    char actual[24], bytes[24], children[16];
    snprintf(children, sizeof(children), "%zu", json_object_size(get(snapshot, "children")));
    cli_table_row(table, cli_shown(snapshot, "name"), cli_shown(snapshot, "parent"),
                  size(number(snapshot, "actual_size"), actual), cli_shown(snapshot, "creation_time"),
                  json_is_true(get(snapshot, "user_created")) ? "user" : "system", size(number(snapshot, "spec_size"), bytes),
                  children, cli_shown(snapshot, "snapshot_timestamp"), cli_shown(snapshot, "snapshot_checksum"),
                  cli_shown(snapshot, "uuid"));
}

bool cli_node_snapshot_list(struct cli *cli) {
    static const char *const titles[] = {"NAME", "PARENT",   "ACTUAL",    "CREATED",  "BY",
                                         "SIZE", "CHILDREN", "TIMESTAMP", "CHECKSUM", "UUID"};
    struct owner owner;
    char method[64];
    json_t *answer, *list = json_array(), *snapshot;
    const char *key;
    bool ok = parse_owner(cli, &owner);
    if (ok) {
        if (strcmp(owner.method, "EngineFrontend") == 0)
            ok = error_set(&cli->error, ERROR_INVALID, "a frontend's snapshots are its engine's: engine/NAME");
        snprintf(method, sizeof(method), "%sGet", owner.method);
        ok = ok && cli_node_call(cli, method, json_pack("{s:s}", "name", owner.name), &answer);
    }
    if (!ok) {
        json_decref(list);
        return false;
    }
    json_object_foreach(get(answer, "snapshots"), key, snapshot) json_array_append(list, snapshot);
    json_decref(answer);
    return cli_node_print_list(cli, list, titles, 5, 10, 0x64, snapshot_row);
}

static bool snapshot_call(struct cli *cli, const char *verb, const char *snapshot) {
    struct owner owner;
    char method[64];
    if (!parse_owner(cli, &owner))
        return false;
    snprintf(method, sizeof(method), "%sSnapshot%s", owner.method, verb);
    return cli_node_do(
        cli, method,
        json_pack("{s:s, s:s, s:b}", "name", owner.name, "snapshot_name", snapshot, "user_created", strcmp(verb, "Create") == 0));
}

bool cli_node_snapshot_create(struct cli *cli) { return snapshot_call(cli, "Create", cli->arguments[1]); }
bool cli_node_snapshot_delete(struct cli *cli) { return snapshot_call(cli, "Delete", cli->arguments[1]); }

bool cli_node_snapshot_revert(struct cli *cli) {
    if (!cli_yes(cli, "what was written to %s after its snapshot %s will be lost", cli->arguments[0], cli->arguments[1]))
        return false;
    return snapshot_call(cli, "Revert", cli->arguments[1]);
}

bool cli_node_snapshot_purge(struct cli *cli) { return snapshot_call(cli, "Purge", ""); }
