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

/* Of one kind, if the daemon knows it. Tells how many there are. */
static bool judge_all(struct cli *cli, unsigned at, const char *method, const char *member, json_t *findings,
                      void (*judge)(const json_t *object, json_t *findings), size_t *ret_count) {
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
    json_object_foreach(get(answer, member), key, object) judge(object, findings);
    json_decref(answer);
    return true;
}

/* One node's part: {address, answers, node, replicas, engines, findings}. */
static json_t *examine(struct cli *cli, unsigned at) {
    json_t *answer, *disk, *findings = json_array(), *part = json_object();
    size_t i, replicas = 0, engines = 0;
    bool ok = cli_node_call_at(cli, at, "GetNode", NULL, &answer);
    if (ok) {
        json_t *node = get(answer, "node");
        judge_plane(get(node, "plane"), findings);
        json_array_foreach(get(node, "disks"), i, disk) judge_disk(disk, findings);
        json_object_set(part, "node", node);
        json_decref(answer);
        ok = judge_all(cli, at, "ReplicaList", "replicas", findings, judge_replica, &replicas) &&
             judge_all(cli, at, "EngineList", "engines", findings, judge_engine, &engines);
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
        printf("; %zu disks, %" PRIu64 " replicas, %" PRIu64 " engines\n", json_array_size(get(node, "disks")),
               number(part, "replicas"), number(part, "engines"));
    }
    json_array_foreach(get(part, "findings"), i, finding)
        printf("!  %s\n   %s\n", cli_member(finding, "what"), cli_member(finding, "advice"));
}

/* Prints once; sets the exit status. */
static void show(struct cli *cli, unsigned count) {
    json_t *parts = json_array(), *part;
    size_t findings = 0, i;
    bool all_answer = true;
    for (unsigned at = 0; at < count; at++) {
        part = examine(cli, at);
        findings += json_array_size(get(part, "findings"));
        all_answer = all_answer && json_is_true(get(part, "answers"));
        json_array_append_new(parts, part);
    }
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
