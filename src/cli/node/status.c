/* `penstock status` of nodes: one screen that says whether all is well and, if not, what to do. */
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "base/text.h"
#include "cli/node/node.h"

enum { SPACE_WARNING_PERCENT = 80, WATCH_MS = 2000, STATUS_NOT_WELL = 1 };

/* What was found wrong on a node: {what, advice} each. */
static void find(json_t *findings, const char *advice, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void find(json_t *findings, const char *advice, const char *format, ...) {
    char what[512];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    json_array_append_new(findings, json_pack("{s:s, s:s}", "what", what, "advice", advice));
}

static json_t *get(const json_t *object, const char *key) { return json_object_get(object, key); }
static uint64_t number(const json_t *object, const char *key) { return (uint64_t)json_integer_value(get(object, key)); }
static bool is(const json_t *object, const char *key, const char *text) { return strcmp(cli_member(object, key), text) == 0; }

static void judge_plane(const json_t *plane, json_t *findings) {
    char advice[400];
    if (is(plane, "state", "ready") || is(plane, "state", "idle"))
        return;
    snprintf(advice, sizeof(advice), "nothing on this node is served until it is back; what it said last is in %s",
             cli_member(plane, "log_path"));
    find(findings, advice, "the storage plane is not there (%s, for %" PRIu64 " s): %s", cli_member(plane, "state"),
         number(plane, "gone_ms") / 1000, cli_member(plane, "reason"));
}

static void judge_disk(const json_t *disk, json_t *findings) {
    const char *name = cli_member(disk, "name"), *reason = cli_member(disk, "reason");
    uint64_t total = number(disk, "total_bytes"), left = number(disk, "free_bytes");
    char advice[400], human[24];
    if (is(disk, "state", "error")) {
        snprintf(advice, sizeof(advice), "mend it; `penstock disk create %s %s` tries at once, else it is tried every 30 s", name,
                 cli_member(disk, "path"));
        find(findings, advice, "disk %s: %s", name, reason);
    } else if (is(disk, "state", "ready") && reason[0] != '\0') {
        find(findings, "move its replicas to another disk, then check it with penstock-fsck", "disk %s: %s", name, reason);
    }
    if (total > 0 && (total - left) * 100 / total >= SPACE_WARNING_PERCENT)
        find(findings, "delete replicas or snapshots, trim from the guests, or add a disk",
             "disk %s is %" PRIu64 " %% full, %s left", name, (total - left) * 100 / total,
             text_format_size(left, human, sizeof(human)));
}

static void judge_replica(const json_t *replica, json_t *findings) {
    char advice[400];
    const char *name = cli_member(replica, "name");
    if (!is(replica, "state", "error"))
        return;
    snprintf(advice, sizeof(advice), "look at its disk (`penstock disk show %s`); `penstock replica delete %s --yes` gives it up",
             cli_member(replica, "lvs_name"), name);
    find(findings, advice, "replica %s: %s", name, cli_member(replica, "error_msg"));
}

static void judge_engine(const json_t *engine, json_t *findings) {
    const char *name = cli_member(engine, "name"), *leg;
    json_t *mode;
    unsigned whole = 0, all = 0;
    if (is(engine, "state", "error"))
        find(findings, "if another engine has its replicas, delete this one; else mend what it names", "engine %s: %s", name,
             cli_member(engine, "error_msg"));
    json_object_foreach(get(engine, "replica_mode_map"), leg, mode) {
        const char *shown = json_string_value(mode);
        all++;
        whole += shown != NULL && strcmp(shown, "RW") == 0;
    }
    if (all > 0 && whole < all)
        find(findings, "one that is away returns by itself; one that is lost for good: delete it, and add another",
             "engine %s: %u of its %u replicas are whole", name, whole, all);
}

static void judge_volume(const json_t *volume, json_t *findings) {
    const char *name = cli_member(volume, "name"), *reason = cli_member(volume, "reason");
    char advice[400];
    json_t *replica;
    size_t i;
    if (is(volume, "state", "error")) {
        snprintf(advice, sizeof(advice), "mend what it names and create it again, or `penstock volume delete %s --yes`", name);
        find(findings, advice, "volume %s: %s", name, reason);
    } else if (is(volume, "state", "terminating") && reason[0] != '\0') {
        snprintf(advice, sizeof(advice),
                 "it goes on by itself; `penstock volume delete %s --yes --abandon` does not wait for that node", name);
        find(findings, advice, "volume %s is being deleted: %s", name, reason);
    }
    if (is(volume, "state", "reverting") && reason[0] != '\0')
        find(findings, "it goes on by itself, and serves again when what it waits for is there",
             "volume %s is being reverted: %s", name, reason);
    json_array_foreach(get(volume, "replicas"), i, replica) {
        const char *its = cli_member(replica, "name"), *node = cli_member(replica, "node");
        if (is(replica, "mode", "ERR") ||
            (is(replica, "mode", "") && is(replica, "change", "") && is(volume, "state", "running"))) {
            snprintf(advice, sizeof(advice),
                     json_is_true(get(volume, "replace_lost"))
                         ? "it is replaced on another node by itself, if one is free: `penstock volume show %s`"
                         : "`penstock volume add %s`, and when that is whole `penstock volume remove %s %s --yes`",
                     name, name, its);
            find(findings, advice, "volume %s: replica %s on %s is lost: %s", name, its, node, cli_member(replica, "reason"));
        } else if (is(replica, "mode", "WO")) {
            bool copying = number(replica, "percent") > 0;
            snprintf(advice, sizeof(advice),
                     copying ? "`penstock volume watch %s` shows how far it is" : "it returns by itself when its node does",
                     name);
            find(findings, advice, "volume %s: replica %s on %s: %s", name, its, node, cli_member(replica, "reason"));
        } else if (is(replica, "change", "removing")) {
            find(findings, "it goes by itself when its node is back", "volume %s: replica %s on %s is being removed: %s", name,
                 its, node, reason);
        }
    }
}

/* Of one kind, if the daemon knows it. Tells how many there are. */
static bool judge_all(struct cli *cli, unsigned at, const char *method, const char *member, json_t *findings,
                      const json_t *left_out, void (*judge)(const json_t *object, json_t *findings), size_t *ret_count) {
    json_t *answer, *object;
    const char *key;
    *ret_count = 0;
    if (!cli_node_call_at(cli, at, method, NULL, &answer)) {
        bool unknown = cli->error.code == ERROR_UNSUPPORTED;
        if (unknown)
            error_clear(&cli->error);
        return unknown;
    }
    *ret_count = json_object_size(get(answer, member));
    json_object_foreach(get(answer, member), key, object) {
        if (get(left_out, key) == NULL)
            judge(object, findings);
    }
    json_decref(answer);
    return true;
}

/* Engines of volumes are left to judge_volume(): one thing is told once. */
static void judge_volumes(struct cli *cli, unsigned at, json_t *findings, json_t *engines, size_t *ret_count) {
    json_t *answer, *volume;
    size_t i;
    *ret_count = 0;
    if (!cli_node_call_at(cli, at, "ListVolumes", NULL, &answer)) {
        error_clear(&cli->error); /* one that has no volumes */
        return;
    }
    *ret_count = json_array_size(get(answer, "volumes"));
    json_array_foreach(get(answer, "volumes"), i, volume) {
        judge_volume(volume, findings);
        if (is(volume, "state", "running"))
            json_object_set_new(engines, cli_member(volume, "engine"), json_true());
    }
    json_decref(answer);
}

/* One node's part: {address, answers, node, volumes, replicas, engines, findings}. */
static json_t *examine(struct cli *cli, unsigned at) {
    json_t *answer, *disk, *findings = json_array(), *part = json_object();
    json_t *of_volumes = json_object();
    size_t i, replicas = 0, engines = 0, volumes = 0;
    bool ok = cli_node_call_at(cli, at, "GetNode", NULL, &answer);
    if (ok) {
        json_t *node = get(answer, "node");
        judge_plane(get(node, "plane"), findings);
        json_array_foreach(get(node, "disks"), i, disk) judge_disk(disk, findings);
        json_object_set(part, "node", node);
        json_decref(answer);
        judge_volumes(cli, at, findings, of_volumes, &volumes);
        ok = judge_all(cli, at, "ReplicaList", "replicas", findings, NULL, judge_replica, &replicas) &&
             judge_all(cli, at, "EngineList", "engines", findings, of_volumes, judge_engine, &engines);
    }
    if (!ok) {
        find(findings, "start it there (`systemctl start penstockd`), or name the right address; its log says why it ended", "%s",
             cli->error.text);
        error_clear(&cli->error);
    }
    json_object_set_new(part, "address", json_string(cli_node_address(cli, at)));
    json_object_set_new(part, "answers", json_boolean(ok));
    json_object_set_new(part, "replicas", json_integer((json_int_t)replicas));
    json_object_set_new(part, "engines", json_integer((json_int_t)engines));
    json_object_set_new(part, "volumes", json_integer((json_int_t)volumes));
    json_decref(of_volumes);
    json_object_set_new(part, "findings", findings);
    return part;
}

static void print_part(const json_t *part) {
    const json_t *node = get(part, "node"), *plane = get(node, "plane");
    json_t *finding;
    size_t i;
    if (node != NULL) {
        uint64_t up_s = number(node, "up_ms") / 1000;
        printf("%s: penstockd %s, up %" PRIu64 ":%02u:%02u; plane %s", cli_member(part, "address"), cli_member(node, "version"),
               up_s / 3600, (unsigned)(up_s / 60 % 60), (unsigned)(up_s % 60), cli_member(plane, "state"));
        if (number(plane, "process_id") != 0)
            printf(", process %" PRIu64, number(plane, "process_id"));
        uint64_t disks = json_array_size(get(node, "disks")), replicas = number(part, "replicas"),
                 engines = number(part, "engines"), volumes = number(part, "volumes");
        printf("; %" PRIu64 " disk%s, %" PRIu64 " replica%s, %" PRIu64 " engine%s, %" PRIu64 " volume%s\n", disks,
               cli_plural(disks), replicas, cli_plural(replicas), engines, cli_plural(engines), volumes, cli_plural(volumes));
    }
    json_array_foreach(get(part, "findings"), i, finding)
        printf("!  %s\n   %s\n", cli_member(finding, "what"), cli_member(finding, "advice"));
}

/* What belongs to nobody, on any of the nodes that were named: told of the first one that answers. */
static void judge_leftovers(struct cli *cli, unsigned count, json_t *parts) {
    json_t *nodes = json_array(), *answer, *leftover;
    unsigned asked = 0;
    size_t i;
    while (asked < count && (!json_is_true(get(json_array_get(parts, asked), "answers"))))
        asked++;
    for (unsigned at = 0; at < count; at++)
        if (cli_node_ip(cli, at) != NULL)
            json_array_append_new(nodes, json_string(cli_node_ip(cli, at)));
    json_t *request = json_pack("{s:o}", "nodes", nodes);
    if (asked == count || !cli_node_call_at(cli, asked, "ListLeftovers", request, &answer)) {
        if (asked == count)
            json_decref(request);
        error_clear(&cli->error); /* one that has no volumes */
        return;
    }
    json_array_foreach(get(answer, "leftovers"), i, leftover) {
        char advice[400];
        const char *kind = cli_member(leftover, "kind"), *name = cli_member(leftover, "name"),
                   *node = cli_member(leftover, "node");
        snprintf(advice, sizeof(advice), "if nobody wants it: `penstock --node %s %s delete %s%s`", node, kind, name,
                 strcmp(kind, "replica") == 0 ? " --yes" : "");
        find(get(json_array_get(parts, asked), "findings"), advice, "%s %s on %s was made for volume %s and belongs to none",
             kind, name, node, cli_member(leftover, "volume"));
    }
    json_decref(answer);
}

/* Prints once; sets the exit status. */
static void show(struct cli *cli, unsigned count) {
    json_t *parts = json_array(), *part;
    size_t findings = 0, i;
    bool all_answer = true;
    for (unsigned at = 0; at < count; at++) {
        part = examine(cli, at);
        all_answer = all_answer && json_is_true(get(part, "answers"));
        json_array_append_new(parts, part);
    }
    judge_leftovers(cli, count, parts);
    json_array_foreach(parts, i, part) findings += json_array_size(get(part, "findings"));
    if (cli_wants_data(cli)) {
        json_t *all = json_pack("{s:b, s:O}", "well", findings == 0, "nodes", parts);
        cli_print(cli, all);
        json_decref(all);
    } else {
        json_array_foreach(parts, i, part) print_part(part);
        if (findings == 0)
            printf("all is well\n");
    }
    json_decref(parts);
    cli->exit_status = findings == 0 ? 0 : all_answer ? STATUS_NOT_WELL : error_facts(ERROR_BUSY)->exit_status;
}

bool cli_node_status(struct cli *cli) {
    bool watch = cli_option(cli, "--watch") != NULL;
    unsigned count;
    if (!cli_node_count(cli, &count))
        return false;
    for (;;) {
        if (watch && !cli_wants_data(cli))
            printf("\033[H\033[2J");
        show(cli, count);
        fflush(stdout);
        if (!watch)
            return true;
        cli_sleep(cli, WATCH_MS);
    }
}
