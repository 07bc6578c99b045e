#include "control/packet/packet_control.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "control/packet/compile.h"
#include "control/packet/internal.h"
#include "control/packet/split.h"

enum { RECORD_AGAIN_MS = 500, LEAVING_MS = 200 };

static void record(struct packet_control *control);

static uint64_t now_ns(const struct packet_control *control) { return host_now_ns(control->options.reactor->host); }

static struct packet_change *head(const struct packet_control *control) {
    return list_empty(&control->changes) ? NULL : container_of(list_first(&control->changes), struct packet_change, node);
}

static void tell_watchers(struct packet_control *control) {
    list_for_each_safe (&control->watchers, struct packet_watcher, watcher, node)
        watcher->changed(watcher);
}

void packet_control_retry_in(struct packet_control *control, uint64_t ms) {
    reactor_timer_start(control->options.reactor, &control->retry, now_ns(control) + ms * NS_PER_MS);
}

static void forget_observation(struct packet_control *control) { packet_processes_forget(&control->processes); }

static json_t *compile(const struct packet_control *control, const json_t *wiring, struct error *error);
static bool note_missing(const struct packet_control *control, struct packet_change *change, const json_t *parts);

/* ---- changes ---- */

static void answer(struct packet_control *control, struct packet_change *change, bool ok) {
    list_remove(&change->node);
    reactor_timer_stop(control->options.reactor, &change->deadline);
    json_decref(change->added);
    change->added = NULL;
    change->ok = ok;
    if (ok)
        change->generation = control->generation;
    change->done(change);
}

static void finish(struct packet_control *control, struct packet_change *change, bool ok) {
    json_decref(control->before);
    control->before = NULL;
    control->reverting = false;
    answer(control, change, ok);
}

static bool waits_for(const struct packet_change *change, unsigned vf) {
    return vf < 128 && (change->waits_for[vf / 64] >> vf % 64 & 1) != 0;
}

/* Of those that it is about, one that is not as it should be; NULL: there is none. Of the plane itself it is known otherwise
 * whether it is ready. */
static const struct packet_process *missing_of(const struct packet_control *control, const struct packet_change *change) {
    for (unsigned i = 0; i < PACKET_PROCESSES_MAX; i++) {
        const struct packet_process *process = &control->processes.list[i];
        bool away = process->vf != 0 && !packet_process_ready(process) && !(process->leaves && packet_process_empty(process));
        if (process->exists && waits_for(change, process->vf) && (away || process->stuck.code != ERROR_NONE))
            return process;
    }
    return NULL;
}

/* Of the ports that it added, one that cannot be opened; NULL: there is none. */
static const char *failed_of(const struct packet_control *control, const struct packet_change *change) {
    const char *name;
    json_t *port;
    json_object_foreach(change->added, name, port) if (json_object_get(control->failed, name) != NULL) return name;
    return NULL;
}

/* What keeps it from being carried out. */
static void explain(const struct packet_control *control, struct packet_change *change) {
    const char *how = change->begun ? "recorded, and not yet carried out" : "nothing was changed";
    const struct packet_process *missing = packet_processes_missing(&control->processes);
    const struct packet_process *own = change->begun ? missing_of(control, change) : NULL;
    const char *port = failed_of(control, change);
    if (packet_process_ready(&control->processes.list[0]) && (own != NULL || port != NULL))
        missing = own;
    if (missing != NULL && missing->stuck.code != ERROR_NONE)
        error_set(&change->error, ERROR_TIMED_OUT, "%s: %s refuses: %.180s", how, missing->name, missing->stuck.text);
    else if (missing != NULL)
        error_set(&change->error, ERROR_TIMED_OUT, "%s: %s is not there: %.180s", how,
                  missing->vf == 0 ? "the packet plane" : missing->name, missing->plane.error.text);
    else if (port != NULL)
        error_set(&change->error, ERROR_TIMED_OUT, "%s: port %s cannot be opened: %.150s", how, port,
                  json_string_value(json_object_get(control->failed, port)));
    else if (control->trouble.code != ERROR_NONE)
        error_set(&change->error, ERROR_TIMED_OUT, "%s: %.200s", how, control->trouble.text);
    else
        error_set(&change->error, ERROR_TIMED_OUT, "%s: other changes come first", how);
}

/* It is recorded, and remains so. A change that has not begun has no effect. */
static void expired(struct reactor_timer *timer) {
    struct packet_change *change = container_of(timer, struct packet_change, deadline);
    struct packet_control *control = change->control;
    struct error error;
    json_t *parts = NULL;
    if (change->begun && !change->waits && control->busy) { /* a call to the plane or the state, which has its own end */
        change->expired = true;
        return;
    }
    change->late = change->begun;
    if (change->begun && !change->waits && (parts = compile(control, control->wiring, &error)) != NULL)
        note_missing(control, change, parts);
    json_decref(parts);
    explain(control, change);
    if (change == head(control)) {
        json_decref(control->before);
        control->before = NULL;
    }
    answer(control, change, false);
    packet_control_go_soon(control);
}

void packet_control_submit(struct packet_control *control, struct packet_change *change) {
    change->control = control;
    change->begun = change->expired = change->waits = change->ok = change->from_plane = change->late = false;
    change->added = NULL;
    memset(change->waits_for, 0, sizeof(change->waits_for));
    error_clear(&change->error);
    list_push_back(&control->changes, &change->node);
    change->deadline = (struct reactor_timer){.run = expired};
    reactor_timer_start(control->options.reactor, &change->deadline, now_ns(control) + PACKET_CHANGE_MS * NS_PER_MS);
    packet_control_go_soon(control);
}

/* ---- records ---- */

static void drop_records(struct packet_control *control) {
    for (unsigned i = 0; i < control->record_count; i++)
        free(control->records[i].value);
    control->record_count = 0;
}

/* False: too many. */
static bool note_record(struct packet_control *control, const char *folder, const char *name, const json_t *value) {
    if (control->record_count == PACKET_KEYS_MAX)
        return false;
    struct packet_record *to = &control->records[control->record_count++];
    snprintf(to->key, sizeof(to->key), "/penstock/%s/packet/%s/%s", control->options.node, folder, name);
    to->value = value == NULL ? NULL : json_dumps(value, JSON_COMPACT);
    return value == NULL || (to->value != NULL && strlen(to->value) <= STORE_VALUE_MAX);
}

/* What differs between the two. */
static bool note_folder(struct packet_control *control, const char *folder, const json_t *from, const json_t *to) {
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)to, name, value) if (!json_equal(json_object_get(from, name), value) &&
                                                       !note_record(control, folder, name, value)) return false;
    json_object_foreach((json_t *)from, name,
                        value) if (json_object_get(to, name) == NULL && !note_record(control, folder, name, NULL)) return false;
    return true;
}

static bool note_records(struct packet_control *control, const json_t *from, const json_t *to) {
    static const char *const folders[] = {"processes", "ports", "policies"};
    drop_records(control);
    for (unsigned i = 0; i < array_count(folders); i++)
        if (!note_folder(control, folders[i], json_object_get(from, folders[i]), json_object_get(to, folders[i])))
            return false;
    return true;
}

static void recorded(struct store_request *request) {
    struct packet_control *control = container_of(request, struct packet_control, request);
    struct packet_change *change = head(control);
    bool ok = request->outcome == STORE_DONE;
    control->uncertain = !ok && (control->uncertain || request->outcome == STORE_UNKNOWN);
    if (control->uncertain && !control->stopping && store_get_status(control->options.store)->state != STORE_FAILED) {
        reactor_timer_start(control->options.reactor, &control->again, now_ns(control) + RECORD_AGAIN_MS * NS_PER_MS);
        return; /* it stays busy; the puts may be repeated */
    }
    control->busy = control->uncertain = false;
    drop_records(control);
    json_t *next = control->next;
    control->next = NULL;
    if (!ok && change != NULL && !control->reverting) {
        json_decref(next);
        error_set(&change->error, ERROR_IO, "the state cannot be written: %.180s", request->error.text);
        finish(control, change, false);
    } else {
        /* What is to be taken back counts, although the record of it may follow only with the next one. */
        json_decref(control->wiring);
        control->wiring = next;
        packet_processes_unstick(&control->processes);
        if (control->reverting && change != NULL)
            finish(control, change, false);
        tell_watchers(control);
    }
    packet_control_go_soon(control);
}

static void record_again(struct reactor_timer *timer) { record(container_of(timer, struct packet_control, again)); }

static void record(struct packet_control *control) {
    for (unsigned i = 0; i < control->record_count; i++) {
        const struct packet_record *from = &control->records[i];
        control->ops[i] = (struct store_op){.kind = from->value != NULL ? STORE_PUT : STORE_DELETE,
                                            .key = from->key,
                                            .value = from->value,
                                            .value_length = from->value != NULL ? strlen(from->value) : 0};
    }
    control->request = (struct store_request){
        .verb = STORE_TRANSACT, .then_ops = control->ops, .then_count = control->record_count, .done = recorded};
    store_submit(control->options.store, &control->request);
}

/* The first change: on a copy, and recorded if it changes anything. */
static void begin(struct packet_control *control, struct packet_change *change) {
    json_t *next = json_deep_copy(control->wiring);
    change->begun = true;
    bool ok = next != NULL && (change->edit == NULL || change->edit(change, next, &change->error));
    if (ok && control->options.several) { /* what no process can have is refused before it is recorded */
        json_t *parts = compile(control, next, &change->error);
        ok = parts != NULL;
        json_decref(parts);
    }
    if (!ok) {
        if (next == NULL)
            error_set(&change->error, ERROR_NO_MEMORY, "no memory");
        json_decref(next);
        finish(control, change, false);
        packet_control_go_soon(control);
        return;
    }
    if (json_equal(next, control->wiring)) {
        json_decref(next);
        packet_control_go_soon(control);
        return;
    }
    if (!note_records(control, control->wiring, next)) {
        json_decref(next);
        drop_records(control);
        error_set(&change->error, ERROR_NO_SPACE, "too much for one change: at most %d objects", PACKET_KEYS_MAX);
        finish(control, change, false);
        packet_control_go_soon(control);
        return;
    }
    control->before = json_incref(control->wiring);
    control->next = next;
    control->busy = true;
    record(control);
}

/* The plane has refused it: back to what was before. */
static void revert(struct packet_control *control, const struct error *why) {
    struct packet_change *change = head(control);
    change->error = *why;
    change->from_plane = true;
    forget_observation(control);
    if (!note_records(control, control->wiring, control->before)) {
        drop_records(control);
        log_error(control->options.log, LOG_AREA_APP, "packet plane: no memory to take back what it has refused");
    }
    control->reverting = true;
    control->next = control->before;
    control->before = NULL;
    control->busy = true;
    record(control);
}

/* ---- carrying out ---- */

/* By process. NULL: error. */
static json_t *compile(const struct packet_control *control, const json_t *wiring, struct error *error) {
    struct compile_options options = {control->options.socket_folder};
    json_t *compiled = wiring_compile(wiring, &options);
    if (!control->options.several) {
        error_set(error, ERROR_NO_MEMORY, "no memory");
        return packet_split_none(compiled);
    }
    json_t *parts = packet_split(compiled, error);
    json_decref(compiled);
    return parts;
}

/* What a command makes that may be left out of the plan, by its key in `failed` (the text's owner is the command, or `to`), and
 * where it is in a compiled wiring. NULL: it makes no such thing. */
static const char *made_by(const json_t *command, char to[PLAN_VF_NAME_SIZE], const char **ret_folder, const char **ret_key,
                           char id[24]) {
    const char *method = json_string_value(json_array_get(command, 0));
    const json_t *params = json_array_get(command, 1);
    if (strcmp(method, "packet_port_create") == 0) {
        *ret_folder = "ports";
        return *ret_key = json_string_value(json_object_get(params, "name"));
    }
    if (strcmp(method, "packet_vf_create") != 0)
        return NULL;
    snprintf(id, 24, "%lld", (long long)json_integer_value(json_object_get(params, "id")));
    *ret_folder = "vfs";
    *ret_key = id;
    return packet_vf_name(id, to);
}

/* What was meant to be there before the change under way fails by itself, and not because of the change. */
static bool is_own_trouble(const struct packet_control *control, const char *folder, const char *key) {
    if (control->before == NULL || head(control) == NULL)
        return true;
    struct error error;
    json_t *before = compile(control, control->before, &error), *now = compile(control, control->wiring, &error), *part;
    const char *process;
    char its[24];
    snprintf(its, sizeof(its), "%u", control->process->vf);
    bool own = json_equal(json_object_get(before, its), json_object_get(now, its)); /* it is about other processes */
    json_object_foreach(before, process, part) own |= key != NULL && json_object_get(json_object_get(part, folder), key) != NULL;
    json_decref(before);
    json_decref(now);
    return own;
}

static void run_command(struct packet_control *control);

static void drop_commands(struct packet_control *control) {
    json_decref(control->commands);
    control->commands = NULL;
}

static void refused(struct packet_control *control, struct plane_call *call) {
    const json_t *command = json_array_get(control->commands, control->command_at);
    const char *folder = NULL, *key = NULL;
    char vf[PLAN_VF_NAME_SIZE], id[24];
    const char *name = made_by(command, vf, &folder, &key, id);
    log_warning(control->options.log, LOG_AREA_APP, "packet plane: %s%s%s: %s", json_string_value(json_array_get(command, 0)),
                name != NULL ? " " : "", name != NULL ? name : "", call->error.text);
    bool own = is_own_trouble(control, folder, key);
    if (own) {
        control->trouble = call->error;
        if (name != NULL) {
            json_object_set_new(control->failed, name, json_string(call->error.text));
        } else {
            control->process->stuck = call->error; /* others go on */
            forget_observation(control);
        }
        packet_control_retry_in(control, PACKET_RETRY_MS);
    }
    drop_commands(control);
    if (!own)
        revert(control, &call->error);
    else
        packet_control_go_soon(control);
}

static void command_done(struct plane_call *call) {
    struct packet_control *control = call->arg;
    control->busy = false;
    if (!call->ok) {
        if (call->code != 0) {
            refused(control, call);
            return;
        }
        drop_commands(control);
        packet_control_call_failed(control, call);
        return;
    }
    control->generation = (uint64_t)json_integer_value(json_object_get(call->result, "generation"));
    json_decref(call->result);
    packet_applied(control->process->observed, json_array_get(control->commands, control->command_at));
    control->command_at++;
    run_command(control);
}

static void run_command(struct packet_control *control) {
    json_t *command = json_array_get(control->commands, control->command_at);
    if (command == NULL) {
        drop_commands(control);
        packet_control_go_soon(control); /* and look whether it was all */
        return;
    }
    packet_control_call(control, json_string_value(json_array_get(command, 0)), json_array_get(command, 1), command_done);
}

/* Should it change nothing. */
static bool is_about(const struct packet_change *change, unsigned vf) {
    for (unsigned i = 0; i < change->vf_count; i++)
        if (change->vfs[i] == vf)
            return true;
    return change->vf_count == 0;
}

/* Which processes a change is about that are not there. False: none. */
static bool note_missing(const struct packet_control *control, struct packet_change *change, const json_t *parts) {
    struct error error;
    json_t *before = control->before != NULL ? compile(control, control->before, &error) : NULL;
    memset(change->waits_for, 0, sizeof(change->waits_for));
    for (unsigned i = 0; i < PACKET_PROCESSES_MAX; i++) {
        const struct packet_process *process = &control->processes.list[i];
        char key[24];
        snprintf(key, sizeof(key), "%u", process->vf);
        bool about = before != NULL ? !json_equal(json_object_get(before, key), json_object_get(parts, key))
                                    : process->vf == 0 || is_about(change, process->vf);
        if (process->exists && process->vf < 128 && about)
            change->waits_for[process->vf / 64] |= UINT64_C(1) << process->vf % 64;
    }
    json_decref(before);
    return missing_of(control, change) != NULL;
}

/* Ports may have failed long before, and others' ports do. */
static void note_added(const struct packet_control *control, struct packet_change *change, const json_t *parts) {
    struct error error;
    json_t *before = control->before != NULL ? compile(control, control->before, &error) : NULL;
    const char *process, *name;
    json_t *part, *port;
    change->added = json_object();
    json_object_foreach((json_t *)parts, process, part) json_object_foreach(
        json_object_get(part, "ports"), name,
        port) if (before != NULL && json_object_get(json_object_get(json_object_get(before, process), "ports"), name) == NULL)
        json_object_set_new(change->added, name, json_true());
    json_decref(before);
}

/* Others go on. What is refused of it is not taken back any more. */
static void set_aside(struct packet_control *control, struct packet_change *change, const json_t *parts) {
    uint64_t until_ns = now_ns(control) + change->patience_ms * NS_PER_MS;
    list_remove(&change->node);
    list_push_back(&control->waiting, &change->node);
    note_added(control, change, parts);
    json_decref(control->before);
    control->before = NULL;
    change->waits = true;
    if (change->patience_ms != 0)
        reactor_timer_start(control->options.reactor, &change->deadline, until_ns);
}

/* Those that waited for a process that is there now, and has what it should have; or that nobody wants any more. */
static void finish_waiting(struct packet_control *control) {
    list_for_each_safe (&control->waiting, struct packet_change, change, node)
        if (missing_of(control, change) == NULL && failed_of(control, change) == NULL)
            answer(control, change, true);
}

/* All is as it is meant to be, or nothing can be done about it now. */
static void in_step(struct packet_control *control, const json_t *parts) {
    struct packet_change *change = head(control);
    if (json_object_size(control->failed) == 0 && !packet_processes_stuck(&control->processes))
        error_clear(&control->trouble);
    finish_waiting(control);
    if (change == NULL || !change->begun)
        return;
    if (!note_missing(control, change, parts))
        finish(control, change, true);
    else if (change->patience_ms != 0 || list_last(&control->changes) != &change->node)
        set_aside(control, change, parts);
    else
        return;
    packet_control_go_soon(control);
}

static bool is_empty(const json_t *parts) {
    const char *process;
    json_t *part;
    json_object_foreach((json_t *)parts, process,
                        part) if (json_object_size(json_object_get(part, "vfs")) > 0 ||
                                  json_object_size(json_object_get(part, "ports")) > 0 ||
                                  json_object_size(json_object_get(part, "components")) > 0) return false;
    return true;
}

/* The vfs that are to be processes. */
static json_t *collect_vfs(const json_t *parts) {
    json_t *vfs = json_object(), *part;
    const char *process;
    json_object_foreach((json_t *)parts, process, part) json_object_update(vfs, json_object_get(part, "vfs"));
    return vfs;
}

/* The process's commands; a vf that is one is there as it is meant. */
static json_t *plan_for(struct packet_control *control, struct packet_process *process, const json_t *parts) {
    char key[24];
    snprintf(key, sizeof(key), "%u", process->vf);
    const json_t *part = json_object_get(parts, key);
    if (control->options.several)
        json_object_set(process->observed, "vfs", json_object_get(part, "vfs"));
    return packet_plan(part, process->observed, control->failed, control_plane_can(&process->plane, "packet_component_set_vlan"));
}

/* Looks at the next process that is to be looked at, or has the next one do what it is to do. What goes from one process to
 * another must have left it first, and so the deletions of all come before the rest. False: all is done. */
static bool take_a_step(struct packet_control *control, const json_t *parts) {
    struct packet_process *next = NULL;
    json_t *commands = NULL;
    for (unsigned i = 0; i < PACKET_PROCESSES_MAX; i++) {
        struct packet_process *process = &control->processes.list[i];
        if (process->exists && process->observed == NULL && packet_process_ready(process) && process->stuck.code == ERROR_NONE) {
            json_decref(commands);
            packet_control_look(control, process);
            return true;
        }
    }
    for (unsigned i = 0; i < PACKET_PROCESSES_MAX; i++) {
        struct packet_process *process = &control->processes.list[i];
        bool able = process->exists && packet_process_ready(process) && process->stuck.code == ERROR_NONE;
        json_t *made = able ? plan_for(control, process, parts) : NULL;
        size_t leaving = packet_plan_leaving(made);
        if (json_array_size(made) == 0 || (next != NULL && leaving == 0)) {
            json_decref(made);
            continue;
        }
        json_decref(commands);
        commands = made;
        next = process;
        if (leaving > 0) {
            if (control->options.several)
                packet_plan_cut(commands, leaving);
            break;
        }
    }
    if (next == NULL)
        return false;
    control->process = next;
    control->commands = commands;
    control->command_at = 0;
    run_command(control);
    return true;
}

static void carry_out(struct packet_control *control) {
    struct error error;
    json_t *parts = compile(control, control->wiring, &error);
    if (parts == NULL) { /* as recorded before vfs were processes */
        if (strcmp(control->trouble.text, error.text) != 0)
            log_error(control->options.log, LOG_AREA_APP, "packet plane: %s", error.text);
        control->trouble = error;
        packet_control_retry_in(control, PACKET_RETRY_MS);
        return;
    }
    if (!is_empty(parts) || packet_processes_wanted(&control->processes)) {
        json_t *vfs = collect_vfs(parts);
        packet_processes_want(&control->processes, vfs);
        json_decref(vfs);
    }
    if (!packet_processes_wanted(&control->processes) ||
        (packet_processes_usable(&control->processes) && !take_a_step(control, parts)))
        in_step(control, parts);
    if (packet_processes_leaving(&control->processes))
        packet_control_retry_in(control, LEAVING_MS);
    json_decref(parts);
}

static void go(struct reactor_job *job) {
    struct packet_control *control = container_of(job, struct packet_control, job);
    control->job_queued = false;
    if (control->busy || control->stopping || !control->loaded)
        return;
    struct packet_change *change = head(control);
    if (change != NULL && change->expired) {
        change->expired = false;
        expired(&change->deadline);
    } else if (change != NULL && !change->begun) {
        begin(control, change);
    } else {
        carry_out(control);
    }
}

void packet_control_go_soon(struct packet_control *control) {
    if (control->job_queued || control->stopping)
        return;
    control->job_queued = true;
    reactor_defer(control->options.reactor, &control->job);
}

/* Once more: ports that could not be made, and what failed. */
static void again(struct reactor_timer *timer) {
    struct packet_control *control = container_of(timer, struct packet_control, retry);
    json_object_clear(control->failed);
    packet_processes_unstick(&control->processes);
    packet_control_go_soon(control);
}

static void plane_stirred(void *arg) { packet_control_go_soon(arg); }

static void plane_changed(void *arg) {
    struct packet_control *control = arg;
    forget_observation(control);
    json_object_clear(control->failed);
    packet_processes_unstick(&control->processes);
    tell_watchers(control);
    packet_control_go_soon(control);
}

/* ---- beginning and end ---- */

static void load(struct packet_control *control, const char *after, int64_t revision);

static bool load_entry(struct packet_control *control, const struct store_entry *entry, struct error *error) {
    const char *name = entry->key + strlen(control->loading_key), *slash = strchr(name, '/');
    struct error why;
    if (slash == NULL)
        return true;
    static const struct {
        const char *folder;
        bool (*check)(const char *name, const json_t *value, struct error *error);
    } kinds[] = {{"processes", wiring_check_process}, {"ports", wiring_check_port_options}, {"policies", wiring_check_policy}};
    for (size_t i = 0; i < array_count(kinds); i++) {
        size_t length = strlen(kinds[i].folder);
        if ((size_t)(slash - name) != length || strncmp(name, kinds[i].folder, length) != 0)
            continue;
        json_t *value = json_loadb(entry->value, entry->value_length, 0, NULL);
        if (value == NULL ? error_set(&why, ERROR_DAMAGED, "not JSON") : kinds[i].check(slash + 1, value, &why)) {
            json_object_set_new(json_object_get(control->wiring, kinds[i].folder), slash + 1, value);
            return true;
        }
        json_decref(value);
        return error_set(error, ERROR_DAMAGED, "the state's record %.100s: %.120s", entry->key, why.text);
    }
    return true;
}

static void loaded(struct store_request *request) {
    struct packet_control *control = container_of(request, struct packet_control, request);
    struct error error;
    bool ok = request->outcome == STORE_DONE;
    if (control->stopping)
        return;
    if (!ok)
        error_set(&error, ERROR_IO, "the state cannot be read: %.180s", request->error.text);
    for (uint32_t i = 0; ok && i < request->results[0].count; i++)
        ok = load_entry(control, &request->results[0].entries[i], &error);
    if (ok && request->more) {
        snprintf(control->loading_after, sizeof(control->loading_after), "%s",
                 request->results[0].entries[request->results[0].count - 1].key);
        load(control, control->loading_after, request->now_revision);
        return;
    }
    control->loaded = ok;
    control->ready(control->ready_arg, ok ? NULL : &error);
    if (ok)
        packet_control_go_soon(control);
}

static void load(struct packet_control *control, const char *after, int64_t revision) {
    control->request = (struct store_request){
        .verb = STORE_RANGE, .key = control->loading_key, .prefix = true, .after = after, .revision = revision, .done = loaded};
    store_submit(control->options.store, &control->request);
}

struct control_plane *packet_control_next_plane(struct packet_control *control, unsigned *at) {
    while (*at < PACKET_PROCESSES_MAX) {
        struct packet_process *process = &control->processes.list[(*at)++];
        if (process->exists && control_plane_ready(&process->plane))
            return &process->plane;
    }
    return NULL;
}

const char *packet_control_trouble(struct packet_control *control, unsigned vf) {
    const struct packet_process *missing = &control->processes.list[0];
    const struct packet_process *own = control->options.several ? packet_processes_find(&control->processes, vf) : NULL;
    char id[24], name[PLAN_VF_NAME_SIZE];
    if (!packet_processes_wanted(&control->processes))
        return NULL; /* nothing that is wired needs it */
    if (packet_process_ready(missing))
        missing = own;
    if (missing != NULL && !packet_process_ready(missing))
        return missing->plane.error.text;
    if (missing != NULL && missing->stuck.code != ERROR_NONE)
        return missing->stuck.text;
    snprintf(id, sizeof(id), "%u", vf);
    return json_string_value(json_object_get(control->failed, packet_vf_name(id, name)));
}

struct packet_control *packet_control_create(const struct packet_control_options *options) {
    struct packet_control *control = calloc(1, sizeof(*control));
    if (control == NULL)
        return NULL;
    control->options = *options;
    list_init(&control->changes);
    list_init(&control->waiting);
    list_init(&control->watchers);
    control->wiring = wiring_create();
    control->failed = json_object();
    control->job.run = go;
    control->retry.run = again;
    control->again.run = record_again;
    struct packet_processes_options processes = {.reactor = options->reactor,
                                                 .log = options->log,
                                                 .socket_path = options->socket_path,
                                                 .log_path = options->plane_log_path,
                                                 .several = options->several,
                                                 .launch = options->launch,
                                                 .changed = plane_changed,
                                                 .stirred = plane_stirred,
                                                 .arg = control};
    packet_processes_init(&control->processes, &processes);
    if (control->wiring == NULL || control->failed == NULL) {
        packet_control_destroy(control);
        return NULL;
    }
    return control;
}

void packet_control_start(struct packet_control *control, void (*ready)(void *arg, const struct error *error), void *arg) {
    control->ready = ready;
    control->ready_arg = arg;
    snprintf(control->loading_key, sizeof(control->loading_key), "/penstock/%s/packet/", control->options.node);
    load(control, NULL, 0);
}

void packet_control_stop(struct packet_control *control) {
    if (control->stopping)
        return;
    control->stopping = true;
    reactor_timer_stop(control->options.reactor, &control->retry);
    reactor_timer_stop(control->options.reactor, &control->again);
    packet_processes_fini(&control->processes);
    while (!list_empty(&control->changes) || !list_empty(&control->waiting)) {
        struct packet_change *change = head(control);
        if (change == NULL)
            change = container_of(list_first(&control->waiting), struct packet_change, node);
        error_set(&change->error, ERROR_CANCELLED, "penstockd is ending");
        answer(control, change, false);
    }
}

void packet_control_destroy(struct packet_control *control) {
    drop_records(control);
    json_decref(control->before);
    json_decref(control->wiring);
    json_decref(control->next);
    json_decref(control->failed);
    packet_control_forget_told(control);
    json_decref(control->commands);
    free(control);
}
