/* `penstock block mirror …`: mirrors, their legs, and how far they are. A leg is a device of the node, or another node's export
 * by its address: then its node is attached first. */
#include <inttypes.h>
#include <string.h>

#include "base/text.h"
#include "cli/cli.h"

#define FOLLOW_MS 200

static uint64_t number(const json_t *object, const char *key) {
    return (uint64_t)json_integer_value(json_object_get(object, key));
}

static bool is(const json_t *object, const char *key, const char *value) { return strcmp(cli_member(object, key), value) == 0; }

/* ---- looking ---- */

/* "3 whole, 1 syncing 40 %" */
static void legs_text(const json_t *mirror, char *to, size_t size) {
    static const char *const states[] = {"whole",  "syncing",  "set aside", "connecting",
                                         "absent", "diverged", "faulted",   "tie-breaker"};
    const json_t *legs = json_object_get(mirror, "legs"), *leg;
    size_t used = 0, i;
    to[0] = '\0';
    for (size_t s = 0; s < sizeof(states) / sizeof(states[0]); s++) {
        unsigned count = 0;
        uint64_t percent = 0;
        json_array_foreach(legs, i, leg) if (is(leg, "state", states[s])) {
            count++;
            percent = number(json_object_get(leg, "sync"), "percent");
        }
        if (count > 0 && used < size)
            used += (size_t)snprintf(to + used, size - used, "%s%u %s", used > 0 ? ", " : "", count, states[s]);
        if (count == 1 && s == 1 && used < size)
            used += (size_t)snprintf(to + used, size - used, " %" PRIu64 " %%", percent);
    }
}

bool cli_mirror_list(struct cli *cli) {
    json_t *mirrors, *mirror;
    size_t i;
    if (!cli_call(cli, "mirror_get", NULL, &mirrors))
        return false;
    if (cli_wants_data(cli)) {
        cli_print(cli, mirrors);
    } else {
        static const char *const titles[] = {"MIRROR", "SIZE", "STATE", "LEGS", "POLICY", "UUID"};
        struct cli_table table;
        cli_table_init(&table, titles, 6, 0x2);
        json_array_foreach(mirrors, i, mirror) {
            char size[24], legs[CLI_CELL_MAX];
            legs_text(mirror, legs, sizeof(legs));
            cli_table_row(&table, cli_member(mirror, "name"), text_format_size(number(mirror, "size"), size, sizeof(size)),
                          cli_member(mirror, "state"), legs, cli_member(mirror, "policy"), cli_member(mirror, "uuid"));
        }
        cli_table_print(&table, stdout);
    }
    json_decref(mirrors);
    return true;
}

static void print_mirror(const json_t *mirror) {
    static const char *const titles[] = {"LEG", "STATE", "SINCE", "OUT OF STEP", "WHY"};
    const json_t *legs = json_object_get(mirror, "legs"), *counters = json_object_get(mirror, "counters"),
                 *error = json_object_get(mirror, "error"), *leg;
    struct cli_table table;
    char size[24];
    size_t i;
    printf("%s is %s since %s\n", cli_member(mirror, "name"), cli_member(mirror, "state"), cli_member(mirror, "since"));
    if (error != NULL)
        printf("  why: %s\n", cli_member(error, "text"));
    if (error != NULL && cli_member(error, "expected")[0] != '\0')
        printf("  next: %s\n", cli_member(error, "expected"));
    printf("%s, policy %s, longest stall %" PRIu64 " ms allowed, %" PRIu64 " ms seen; %" PRIu64
           " times a leg was set aside; UUID %s\n\n",
           text_format_size(number(mirror, "size"), size, sizeof(size)), cli_member(mirror, "policy"),
           number(mirror, "longest_stall_ms"), number(counters, "longest_stall_ms"), number(counters, "legs_set_aside"),
           cli_member(mirror, "uuid"));
    if (number(counters, "longest_stall_ms") > 0)
        printf("of the longest stall, %" PRIu64 " ms before legs could be told, the rest for %s to store it\n\n",
               number(counters, "longest_stall_before_record_ms"), cli_member(counters, "longest_stall_leg"));
    if (json_is_true(json_object_get(mirror, "sync_paused")))
        printf("nothing is copied to its legs: penstock block mirror resume-sync %s\n\n", cli_member(mirror, "name"));
    cli_table_init(&table, titles, 5, 0x8);
    json_array_foreach(legs, i, leg) {
        char behind[24], state[48];
        const json_t *sync = json_object_get(leg, "sync");
        snprintf(state, sizeof(state), "%s", cli_member(leg, "state"));
        if (sync != NULL)
            snprintf(state, sizeof(state), "%.30s %" PRIu64 " %%", cli_member(leg, "state"), number(sync, "percent"));
        cli_table_row(&table, cli_member(leg, "name"), state, cli_member(leg, "since"),
                      text_format_size(number(leg, "bytes_out_of_step"), behind, sizeof(behind)), cli_member(leg, "why"));
    }
    cli_table_print(&table, stdout);
    json_array_foreach(legs, i, leg) if (cli_member(leg, "next")[0] != '\0')
        printf("%s%s: %s\n", i == 0 ? "\n" : "", cli_member(leg, "name"), cli_member(leg, "next"));
}

static bool get(struct cli *cli, const char *name, json_t **ret_mirrors) {
    return cli_call(cli, "mirror_get", json_pack("{s:s}", "name", name), ret_mirrors);
}

/* ---- waiting, with a bar ---- */

/* Bytes done of all, over the legs that are being copied to, or of a verify; false if there is none. */
static bool progress(const json_t *mirror, uint64_t *ret_done, uint64_t *ret_total) {
    const json_t *legs = json_object_get(mirror, "legs"), *verify = json_object_get(mirror, "verify"), *leg;
    size_t i;
    bool any = is(verify, "state", "running");
    *ret_done = any ? number(verify, "done") : 0;
    *ret_total = any ? number(verify, "total") : 0;
    json_array_foreach(legs, i, leg) if (is(leg, "state", "connecting") || is(leg, "state", "syncing")) {
        const json_t *sync = json_object_get(leg, "sync");
        any = true;
        *ret_done += number(sync, "done");
        *ret_total += number(sync, "total");
    }
    return any;
}

/* Until no leg is being brought up and nothing is being verified, with a bar for who reads tables. */
static bool follow(struct cli *cli, const char *name) {
    struct cli_progress shown = {0};
    for (;;) {
        json_t *mirrors;
        uint64_t done, total;
        if (!get(cli, name, &mirrors))
            return false;
        const json_t *mirror = json_array_get(mirrors, 0);
        bool busy = progress(mirror, &done, &total) || is(mirror, "state", "starting");
        json_decref(mirrors);
        if (busy)
            cli_progress_show(cli, &shown, name, total == 0 ? 0 : (unsigned)min_u64(done * 100 / total, 99), done);
        if (!busy) {
            cli_progress_end(cli, &shown);
            return true;
        }
        cli_sleep(cli, FOLLOW_MS);
    }
}

bool cli_mirror_show(struct cli *cli) {
    json_t *mirrors;
    if (cli_option(cli, "--follow") != NULL && !follow(cli, cli->arguments[0]))
        return false;
    if (!get(cli, cli->arguments[0], &mirrors))
        return false;
    if (cli_wants_data(cli))
        cli_print(cli, json_array_get(mirrors, 0));
    else
        print_mirror(json_array_get(mirrors, 0));
    json_decref(mirrors);
    return true;
}

/* ---- legs ---- */

struct remote {
    char address[64], port[8], nqn[224], controller[64];
};

/* "nvme-tcp://ADDRESS:PORT/NQN"; an IPv6 address in brackets. */
static bool parse_remote(struct cli *cli, const char *text, struct remote *ret) {
    const char *begin = text + strlen(CLI_NVME_SCHEME), *slash = strchr(begin, '/');
    const char *end = begin[0] == '[' ? strchr(begin, ']') : strchr(begin, ':');
    const char *colon = end == NULL ? NULL : strchr(end, ':');
    bool v6 = begin[0] == '[';
    uint64_t port;
    if (slash == NULL || end == NULL || colon == NULL || colon > slash || slash[1] == '\0' ||
        (size_t)(end - begin) - v6 >= sizeof(ret->address) || (size_t)(slash - colon) - 1 >= sizeof(ret->port) ||
        strlen(slash + 1) >= sizeof(ret->nqn))
        return error_invalid(&cli->error, "leg", text, "a device, or nvme-tcp://ADDRESS:PORT/NQN");
    snprintf(ret->address, sizeof(ret->address), "%.*s", (int)(end - begin - v6), begin + v6);
    snprintf(ret->port, sizeof(ret->port), "%.*s", (int)(slash - colon - 1), colon + 1);
    snprintf(ret->nqn, sizeof(ret->nqn), "%s", slash + 1);
    return text_parse_u64(ret->port, 65535, &port) || error_invalid(&cli->error, "leg", text, "a port after the address");
}

static bool is_taken(const json_t *controllers, const char *name) {
    const json_t *controller;
    size_t i;
    json_array_foreach(controllers, i, controller) if (is(controller, "name", name)) return true;
    return false;
}

/* The controller that is attached to this place already, or a name for it that is free. */
static bool find_attached(struct cli *cli, const char *mirror, struct remote *remote, bool *ret_found) {
    json_t *controllers, *controller;
    size_t i;
    if (!cli_call(cli, "bdev_nvme_get_controllers", NULL, &controllers))
        return false;
    *ret_found = false;
    json_array_foreach(controllers, i, controller) {
        const json_t *trid = json_object_get(json_array_get(json_object_get(controller, "ctrlrs"), 0), "trid");
        if (!is(trid, "subnqn", remote->nqn) || !is(trid, "traddr", remote->address) || !is(trid, "trsvcid", remote->port))
            continue;
        *ret_found = true;
        snprintf(remote->controller, sizeof(remote->controller), "%.63s", cli_member(controller, "name"));
    }
    for (unsigned n = 1; !*ret_found && (n == 1 || is_taken(controllers, remote->controller)); n++) {
        snprintf(remote->controller, sizeof(remote->controller), "%.20s-%.24s", mirror, remote->address);
        if (n > 1)
            snprintf(remote->controller, sizeof(remote->controller), "%.20s-%.24s-%u", mirror, remote->address, n);
        for (char *c = remote->controller; *c != '\0'; c++)
            *c = *c == ':' ? '.' : *c;
    }
    json_decref(controllers);
    return true;
}

/* The first of words between commas, in `word`, which holds 256; returns the others, NULL = none. */
static const char *next_of_list(const char *list, char *word) {
    size_t length = strcspn(list, ",");
    snprintf(word, 256, "%.*s", (int)length, list);
    return list[length] == ',' ? list + length + 1 : NULL;
}

/* The device of a leg as it was typed; its node is attached, for ever, if it is named by address. `device` holds 256. */
static bool leg_device(struct cli *cli, const char *mirror, const char *typed, char device[256]) {
    struct remote remote;
    bool found;
    if (strncmp(typed, CLI_NVME_SCHEME, strlen(CLI_NVME_SCHEME)) != 0) {
        snprintf(device, 256, "%s", typed);
        return true;
    }
    if (!parse_remote(cli, typed, &remote) || !find_attached(cli, mirror, &remote, &found))
        return false;
    if (!found) {
        json_t *names;
        if (!cli_call(cli, "bdev_nvme_attach_controller",
                      json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:i}", "name", remote.controller, "trtype", "TCP", "traddr",
                                remote.address, "trsvcid", remote.port, "subnqn", remote.nqn, "ctrlr_loss_timeout_sec", -1,
                                "reconnect_delay_sec", 1, "fast_io_fail_timeout_sec", 0),
                      &names))
            return false;
        json_decref(names);
    }
    snprintf(device, 256, "%.63sn1", remote.controller);
    return true;
}

/* ---- making, ending ---- */

static bool option_ms(struct cli *cli, const char *option, const char *key, json_t *params) {
    const char *text = cli_option(cli, option);
    uint64_t ms;
    if (text == NULL)
        return true;
    if (!text_parse_u64(text, 3600000, &ms))
        return error_invalid(&cli->error, option, text, "milliseconds");
    json_object_set_new(params, key, json_integer((json_int_t)ms));
    return true;
}

/* An option that names one of the legs that were typed. */
static bool option_leg(struct cli *cli, const char *option, const json_t *legs, const char **ret_device) {
    const char *typed = cli_option(cli, option);
    *ret_device = NULL;
    for (unsigned i = 1; typed != NULL && i < cli->argument_count; i++)
        if (strcmp(typed, cli->arguments[i]) == 0)
            *ret_device = json_string_value(json_array_get(legs, i - 1));
    return typed == NULL || *ret_device != NULL || error_invalid(&cli->error, option, typed, "one of the legs");
}

/* Of legs that keep no record: whose content counts. */
static bool set_recordless(struct cli *cli, const json_t *legs, json_t *params) {
    const char *source, *foreign;
    if (!option_leg(cli, "--source", legs, &source) || !option_leg(cli, "--foreign", legs, &foreign))
        return false;
    if (source != NULL && !cli_yes(cli, "what the other legs hold is overwritten with what %.100s holds", source))
        return false;
    if (foreign != NULL && !cli_yes(cli, "what %.100s holds is overwritten", foreign))
        return false;
    if (source != NULL)
        json_object_set_new(params, "source", json_string(source));
    if (foreign != NULL)
        json_object_set_new(params, "foreign", json_pack("[s]", foreign));
    return true;
}

bool cli_mirror_create(struct cli *cli) {
    const char *name = cli->arguments[0], *tie_breaker = NULL, *policy = cli_option(cli, "--policy");
    json_t *legs = json_array(), *params = json_pack("{s:s, s:o}", "name", name, "legs", legs);
    bool ok = true;
    for (unsigned i = 1; i < cli->argument_count && ok; i++) {
        char device[256];
        ok = leg_device(cli, name, cli->arguments[i], device);
        if (ok)
            json_array_append_new(legs, json_string(device));
    }
    ok = ok && option_leg(cli, "--tie-breaker", legs, &tie_breaker) && set_recordless(cli, legs, params);
    if (ok && tie_breaker != NULL)
        json_object_set_new(params, "tie_breaker", json_string(tie_breaker));
    const char *absent = cli_option(cli, "--accept-absent");
    if (absent != NULL) {
        json_t *legs_absent = json_array();
        ok = ok && cli_yes(cli, "what only %.100s holds is given up, and it is left out from now on", absent);
        for (const char *at = absent; ok && at != NULL;) {
            char leg[256], device[256];
            at = next_of_list(at, leg);
            ok = leg_device(cli, name, leg, device);
            if (ok)
                json_array_append_new(legs_absent, json_string(device));
        }
        json_object_set_new(params, "accept_absent", legs_absent);
    }
    if (cli_option(cli, "--hard-bound") != NULL)
        json_object_set_new(params, "hard_bound", json_true());
    if (cli_option(cli, "--standby") != NULL)
        json_object_set_new(params, "standby", json_true());
    if (policy != NULL)
        json_object_set_new(params, "policy", json_string(policy));
    ok = ok && option_ms(cli, "--longest-stall", "longest_stall_ms", params) &&
         option_ms(cli, "--give-up", "give_up_ms", params) && option_ms(cli, "--hold", "hold_ms", params);
    if (!ok) {
        json_decref(params);
        return false;
    }
    if (!cli_do(cli, "mirror_create", params))
        return false;
    return cli_option(cli, "--follow") == NULL || follow(cli, name);
}

bool cli_mirror_delete(struct cli *cli) { return cli_do(cli, "mirror_delete", json_pack("{s:s}", "name", cli->arguments[0])); }

/* ---- legs that come and go ---- */

bool cli_mirror_add(struct cli *cli) {
    const char *name = cli->arguments[0], *leg = cli->arguments[1];
    char device[256];
    if (!cli_yes(cli, "what %.120s holds is overwritten", leg) || !leg_device(cli, name, leg, device))
        return false;
    if (!cli_do(cli, "mirror_add_leg",
                json_pack("{s:s, s:s, s:b, s:b}", "name", name, "leg", device, "tie_breaker",
                          cli_option(cli, "--tie-breaker") != NULL, "foreign", cli_option(cli, "--foreign") != NULL)))
        return false;
    return cli_option(cli, "--follow") == NULL || follow(cli, name);
}

bool cli_mirror_remove(struct cli *cli) {
    return cli_do(cli, "mirror_remove_leg", json_pack("{s:s, s:s}", "name", cli->arguments[0], "leg", cli->arguments[1]));
}

/* ---- snapshots, size ---- */

bool cli_mirror_snapshots(struct cli *cli) {
    static const char *const titles[] = {"SNAPSHOT", "SIZE", "USED", "STANDS ON", "CHILDREN", "MADE"};
    json_t *snapshots, *snapshot;
    size_t i;
    if (!cli_call(cli, "mirror_get_snapshots", json_pack("{s:s}", "name", cli->arguments[0]), &snapshots))
        return false;
    if (cli_wants_data(cli)) {
        cli_print(cli, snapshots);
    } else {
        struct cli_table table;
        cli_table_init(&table, titles, 6, 0x16);
        json_array_foreach(snapshots, i, snapshot) {
            char size[24], used[24], children[24];
            snprintf(children, sizeof(children), "%" PRIu64, number(snapshot, "children"));
            cli_table_row(&table, cli_member(snapshot, "name"), text_format_size(number(snapshot, "size"), size, sizeof(size)),
                          text_format_size(number(snapshot, "used_bytes"), used, sizeof(used)), cli_member(snapshot, "parent"),
                          children, cli_member(snapshot, "creation_time"));
        }
        cli_table_print(&table, stdout);
    }
    json_decref(snapshots);
    return true;
}

static json_t *snapshot_params(struct cli *cli) {
    return json_pack("{s:s, s:s}", "name", cli->arguments[0], "snapshot", cli->arguments[1]);
}

bool cli_mirror_snapshot(struct cli *cli) { return cli_do(cli, "mirror_snapshot_create", snapshot_params(cli)); }
bool cli_mirror_snapshot_delete(struct cli *cli) { return cli_do(cli, "mirror_snapshot_delete", snapshot_params(cli)); }

bool cli_mirror_revert(struct cli *cli) {
    return cli_yes(cli, "what was written to %.80s since %.80s is lost", cli->arguments[0], cli->arguments[1]) &&
           cli_do(cli, "mirror_snapshot_revert", snapshot_params(cli));
}

bool cli_mirror_resize(struct cli *cli) {
    const char *name = cli->arguments[0];
    json_t *mirrors;
    uint64_t size, old;
    if (!cli_size(cli, "size", cli->arguments[1], &size))
        return false;
    if (size % MIB(1) != 0)
        return error_invalid(&cli->error, "size", cli->arguments[1], "a multiple of 1M");
    if (!get(cli, name, &mirrors))
        return false;
    old = number(json_array_get(mirrors, 0), "size");
    json_decref(mirrors);
    if (size < old && !cli_yes(cli, "what %.80s holds beyond %.40s is lost", name, cli->arguments[1]))
        return false;
    return cli_do(cli, "mirror_resize", json_pack("{s:s, s:I}", "name", name, "size_in_mib", (json_int_t)(size / MIB(1))));
}

bool cli_mirror_invalidate(struct cli *cli) {
    const char *leg = cli->arguments[1];
    return cli_yes(cli, "%.120s is set aside and copied as a whole: there is one copy less until that is done", leg) &&
           cli_do(cli, "mirror_invalidate", json_pack("{s:s, s:s}", "name", cli->arguments[0], "leg", leg));
}

bool cli_mirror_discard(struct cli *cli) {
    const char *leg = cli->arguments[1];
    return cli_yes(cli, "what only %.120s has is lost", leg) &&
           cli_do(cli, "mirror_discard", json_pack("{s:s, s:s}", "name", cli->arguments[0], "leg", leg));
}

/* ---- engines that come and go ---- */

static bool start(struct cli *cli, const char *method) {
    const char *absent = cli_option(cli, "--accept-absent");
    json_t *params = json_pack("{s:s}", "name", cli->arguments[0]);
    if (absent != NULL) {
        if (!cli_yes(cli, "what only %.120s has is lost, and it is left out until it is discarded", absent)) {
            json_decref(params);
            return false;
        }
        json_t *legs = json_array();
        for (const char *at = absent; at != NULL;) {
            char leg[256];
            at = next_of_list(at, leg);
            json_array_append_new(legs, json_string(leg));
        }
        json_object_set_new(params, "accept_absent", legs);
    }
    return cli_do(cli, method, params);
}

bool cli_mirror_start(struct cli *cli) { return start(cli, "mirror_start"); }

bool cli_mirror_promote(struct cli *cli) {
    return cli_yes(cli, "an engine elsewhere that serves %.100s is cut off", cli->arguments[0]) && start(cli, "mirror_promote");
}

bool cli_mirror_release(struct cli *cli) { return cli_do(cli, "mirror_release", json_pack("{s:s}", "name", cli->arguments[0])); }

bool cli_mirror_pause_sync(struct cli *cli) {
    return cli_do(cli, "mirror_pause_sync", json_pack("{s:s}", "name", cli->arguments[0]));
}

bool cli_mirror_resume_sync(struct cli *cli) {
    return cli_do(cli, "mirror_resume_sync", json_pack("{s:s}", "name", cli->arguments[0]));
}

/* ---- comparing, speed ---- */

/* What the last verify found; the exit status is 1 if that is not well. */
static bool tell_verify(struct cli *cli, const char *name) {
    json_t *mirrors;
    if (!get(cli, name, &mirrors))
        return false;
    const json_t *verify = json_object_get(json_array_get(mirrors, 0), "verify");
    uint64_t mismatches = number(verify, "mismatches"), repaired = number(verify, "repaired");
    if (cli_wants_data(cli))
        cli_print(cli, verify);
    else
        printf("%s: %" PRIu64 " blocks differ, %" PRIu64 " repaired, %" PRIu64 " regions of 1 MiB left out%s%s\n",
               cli_member(verify, "state"), mismatches, repaired, number(verify, "skipped"),
               json_object_get(verify, "last") != NULL ? "; the last: " : "",
               json_object_get(verify, "last") != NULL ? cli_member(verify, "last") : "");
    cli->exit_status = mismatches > repaired ? 1 : 0;
    json_decref(mirrors);
    return true;
}

bool cli_mirror_verify(struct cli *cli) {
    const char *name = cli->arguments[0], *trusted = cli_option(cli, "--trust");
    bool stop = cli_option(cli, "--stop") != NULL, repair = cli_option(cli, "--repair") != NULL;
    json_t *result;
    if (repair && !cli_yes(cli, "blocks that differ are written anew: what only the other legs hold there is gone"))
        return false;
    json_t *params = json_pack("{s:s, s:b, s:b, s:b}", "name", name, "stop", stop, "repair", repair, "resume",
                               cli_option(cli, "--resume") != NULL);
    if (trusted != NULL)
        json_object_set_new(params, "trusted", json_string(trusted));
    if (!cli_call(cli, "mirror_verify", params, &result))
        return false;
    json_decref(result);
    return stop || cli_option(cli, "--no-wait") != NULL || (follow(cli, name) && tell_verify(cli, name));
}

bool cli_mirror_set(struct cli *cli) {
    const char *rate = cli_option(cli, "--rate"), *share = cli_option(cli, "--share");
    uint64_t bytes = 0, percent = 0;
    if (rate != NULL && strcmp(rate, "0") != 0 && !cli_size(cli, "--rate", rate, &bytes))
        return false;
    if (share != NULL && (!text_parse_u64(share, 100, &percent) || percent == 0))
        return error_invalid(&cli->error, "--share", share, "1 to 100, percent");
    json_t *params = json_pack("{s:s}", "name", cli->arguments[0]);
    if (rate != NULL)
        json_object_set_new(params, "bytes_per_s", json_integer((json_int_t)bytes));
    if (share != NULL)
        json_object_set_new(params, "share_percent", json_integer((json_int_t)percent));
    return cli_do(cli, "mirror_set_options", params);
}

/* ---- what status says ---- */

bool cli_mirror_advice(struct cli *cli, void (*line)(void *arg, const char *what, const char *advice), void *arg) {
    json_t *mirrors, *mirror, *leg;
    size_t i, j;
    char what[CLI_CELL_MAX];
    if (!cli_call(cli, "mirror_get", NULL, &mirrors))
        return false;
    json_array_foreach(mirrors, i, mirror) {
        const char *name = cli_member(mirror, "name");
        const json_t *error = json_object_get(mirror, "error");
        if (!is(mirror, "state", "serving")) {
            snprintf(what, sizeof(what), "mirror %.60s is %.20s: %.140s", name, cli_member(mirror, "state"),
                     error != NULL ? cli_member(error, "text") : "no leg of it is there");
            line(arg, what, error != NULL ? cli_member(error, "expected") : "");
        }
        json_array_foreach(json_object_get(mirror, "legs"), j, leg) {
            if (is(leg, "state", "whole") || is(leg, "state", "tie-breaker"))
                continue;
            snprintf(what, sizeof(what), "mirror %.60s: leg %.60s is %.20s%s%.60s", name, cli_member(leg, "name"),
                     cli_member(leg, "state"), cli_member(leg, "why")[0] != '\0' ? ": " : "", cli_member(leg, "why"));
            line(arg, what, cli_member(leg, "next"));
        }
    }
    json_decref(mirrors);
    return true;
}
