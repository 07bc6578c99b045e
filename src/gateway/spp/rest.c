#include "gateway/spp/rest.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "gateway/spp/ask.h"
#include "gateway/spp/body.h"
#include "gateway/spp/show.h"

#define TEXT_TYPE "text/plain"
#define JSON_TYPE "application/json"

enum { WORDS_MAX = 8, ANSWER_MAX = 8 * 1024 * 1024, PLANE_MS = 3000 };

struct spp_rest {
    struct spp_rest_options options;
    json_t *baseline; /* counters when they were last cleared */
    unsigned calls;   /* under way */
};

struct rest_call;

struct route {
    const char *method;
    const char *pattern; /* words between slashes; '#' = a number, '*' = any */
    /* Answers, or submits call->change. */
    void (*serve)(struct rest_call *call);
    /* Of the wiring: for those served by `change`. */
    bool (*edit)(struct packet_change *change, json_t *wiring, struct error *error);
    const char *type; /* of the process that '#' numbers; NULL = there is none */
    bool with_body;
};

struct rest_call {
    struct spp_rest *rest;
    const struct route *route;
    struct packet_change change;
    struct plane_call *planes;    /* of primary/status: one for each process that is there */
    struct spp_question question; /* to a process that is not ours */
    struct ask ask;
    json_t *list, *others; /* what is to be told; of cpu_usage: who is still to be asked */
    unsigned unanswered;   /* of them, and 1 while they are being asked */
    void (*answer)(void *arg, unsigned status, const char *type, const char *text, size_t length);
    void *arg;
    json_t *body;
    char *words[WORDS_MAX]; /* into path */
    unsigned word_count;
    uint64_t id;
    char key[24]; /* of the process */
    char path[SPP_REST_PATH_MAX + 1];
};

/* ---- answers ---- */

static void call_destroy(struct rest_call *call) {
    call->rest->calls--;
    json_decref(call->body);
    json_decref(call->list);
    json_decref(call->others);
    free(call->planes);
    free(call);
}

static void end_text(struct rest_call *call, unsigned status, const char *text) {
    call->answer(call->arg, status, TEXT_TYPE, text, strlen(text));
    call_destroy(call);
}

static void end_json(struct rest_call *call, json_t *take_body) {
    char *text = take_body == NULL ? NULL : json_dumps(take_body, 0);
    json_decref(take_body);
    if (text != NULL && strlen(text) <= ANSWER_MAX)
        call->answer(call->arg, 200, JSON_TYPE, text, strlen(text));
    else
        call->answer(call->arg, 503, TEXT_TYPE, "no memory", strlen("no memory"));
    free(text);
    call_destroy(call);
}

static void end_done(struct rest_call *call) {
    call->answer(call->arg, 204, NULL, NULL, 0);
    call_destroy(call);
}

/* What is wrong with the request, or what the change came to. */
static void end_error(struct rest_call *call, unsigned status, const struct error *error) {
    struct text text;
    text_init(&text, 2048);
    body_put_error(&text, error);
    end_text(call, status, text.failed ? "no memory" : text.bytes);
    text_fini(&text);
}

static void end_unknown_process(struct rest_call *call) {
    char text[64];
    snprintf(text, sizeof(text), "sec_id %llu not found.", (unsigned long long)call->id);
    end_text(call, 404, text);
}

static void changed(struct packet_change *change) {
    struct rest_call *call = container_of(change, struct rest_call, change);
    const struct error *error = &change->error;
    if (change->ok) {
        end_done(call);
        return;
    }
    if (change->from_plane || error->code == ERROR_EXISTS || error->code == ERROR_BUSY || error->code == ERROR_INVALID)
        end_error(call, 400, error);
    else if (error->code == ERROR_NO_DEVICE &&
             wiring_process(packet_control_wiring(call->rest->options.control), call->key) == NULL)
        end_unknown_process(call); /* it went meanwhile */
    else if (error->code == ERROR_TIMED_OUT || error->code == ERROR_CANCELLED || error->code == ERROR_IO ||
             error->code == ERROR_NO_MEMORY)
        end_text(call, 503, error->text);
    else
        end_error(call, 400, error);
}

/* ---- requests that change ---- */

static struct rest_call *call_of(struct packet_change *change) { return container_of(change, struct rest_call, change); }

static void serve_change(struct rest_call *call) {
    call->change.edit = call->route->edit;
    call->change.done = changed;
    if (call->route->type != NULL && strcmp(call->route->type, "primary") != 0)
        call->change.vfs[call->change.vf_count++] = (unsigned)call->id;
    packet_control_submit(call->rest->options.control, &call->change);
}

static bool edit_delete_process(struct packet_change *change, json_t *wiring, struct error *error) {
    return wiring_remove_process(wiring, call_of(change)->key, error);
}

static bool edit_add_component(struct packet_change *change, json_t *wiring, struct error *error) {
    const struct rest_call *call = call_of(change);
    const char *name, *type;
    json_int_t core;
    return body_text(call->body, "name", &name, error) && body_number(call->body, "core", WIRING_CORES_MAX - 1, &core, error) &&
           body_text(call->body, "type", &type, error) &&
           wiring_add_component(wiring, call->key, name, (unsigned)core, type, error);
}

static bool edit_delete_component(struct packet_change *change, json_t *wiring, struct error *error) {
    return wiring_remove_component(wiring, call_of(change)->key, call_of(change)->words[4], error);
}

static bool read_vlan(const json_t *body, struct wiring_way *ret, struct error *error) {
    const json_t *vlan;
    json_int_t id = 0, pcp = 0;
    *ret = (struct wiring_way){.operation = "none"};
    if (json_object_get(body, "vlan") == NULL)
        return true;
    if (!body_object(body, "vlan", &vlan, error) || !body_text(vlan, "operation", &ret->operation, error))
        return false;
    if (strcmp(ret->operation, "add") == 0 &&
        (!body_number(vlan, "id", 4095, &id, error) || !body_number(vlan, "pcp", 7, &pcp, error)))
        return false;
    ret->id = (unsigned)id;
    ret->pcp = (unsigned)pcp;
    return true;
}

static bool edit_component_port(struct packet_change *change, json_t *wiring, struct error *error) {
    const struct rest_call *call = call_of(change);
    const char *port, *direction;
    struct wiring_way way;
    bool attach, rx;
    if (!body_choice(call->body, "action", "attach", "detach", &attach, error) || !body_text(call->body, "port", &port, error) ||
        !body_choice(call->body, "dir", "rx", "tx", &rx, error))
        return false;
    direction = rx ? "rx" : "tx";
    if (!attach)
        return wiring_detach(wiring, call->key, call->words[4], port, direction, error);
    if (strcmp(call->route->type, "vf") != 0)
        way = (struct wiring_way){.operation = "none"};
    else if (!read_vlan(call->body, &way, error))
        return false;
    const json_t *hairpin = json_object_get(call->body, "hairpin"); /* ours */
    if (hairpin != NULL && !json_is_boolean(hairpin))
        return error_invalid(error, "hairpin", "", "true or false");
    way.hairpin = json_is_true(hairpin);
    return wiring_attach(wiring, call->key, call->words[4], port, direction, &way, error);
}

static bool edit_table(struct packet_change *change, json_t *wiring, struct error *error) {
    const struct rest_call *call = call_of(change);
    const char *mac, *port;
    bool add, untagged;
    json_int_t vlan = WIRING_UNTAGGED;
    if (!body_choice(call->body, "action", "add", "del", &add, error) ||
        !body_choice(call->body, "type", "mac", "vlan", &untagged, error) || !body_text(call->body, "mac_address", &mac, error) ||
        (!untagged && !body_number(call->body, "vlan", 4095, &vlan, error)) || !body_text(call->body, "port", &port, error))
        return false;
    return add ? wiring_add_entry(wiring, call->key, mac, (int)vlan, port, error)
               : wiring_remove_entry(wiring, call->key, mac, (int)vlan, port, error);
}

/* ---- forwarders: nfv, and the primary ---- */

/* The primary is there as soon as it is asked to do something. */
static bool need_primary(const struct rest_call *call, json_t *wiring, struct error *error) {
    if (strcmp(call->key, "primary:0") != 0 || wiring_process(wiring, call->key) != NULL)
        return true;
    struct wiring_process primary = {.type = "primary", .cores = 1, .vhost_client = true};
    return wiring_add_process(wiring, &primary, error);
}

static bool edit_forward(struct packet_change *change, json_t *wiring, struct error *error) {
    const struct rest_call *call = call_of(change);
    bool start;
    return body_choice(call->body, "action", "start", "stop", &start, error) && need_primary(call, wiring, error) &&
           wiring_run(wiring, call->key, start, NULL, error);
}

static bool optional_text(const json_t *body, const char *key, const char **ret, struct error *error) {
    *ret = NULL;
    return json_object_get(body, key) == NULL || body_text(body, key, ret, error);
}

static bool edit_ports(struct packet_change *change, json_t *wiring, struct error *error) {
    const struct rest_call *call = call_of(change);
    const char *port, *rx, *tx;
    bool add;
    if (!body_choice(call->body, "action", "add", "del", &add, error) || !body_text(call->body, "port", &port, error) ||
        !optional_text(call->body, "rx", &rx, error) || !optional_text(call->body, "tx", &tx, error) ||
        !need_primary(call, wiring, error))
        return false;
    return add ? wiring_add_port(wiring, call->key, port, rx, tx, error) : wiring_remove_port(wiring, call->key, port, error);
}

static bool edit_patch(struct packet_change *change, json_t *wiring, struct error *error) {
    const struct rest_call *call = call_of(change);
    const char *source, *destination;
    return body_text(call->body, "src", &source, error) && body_text(call->body, "dst", &destination, error) &&
           need_primary(call, wiring, error) && wiring_patch(wiring, call->key, source, destination, error);
}

static bool edit_reset(struct packet_change *change, json_t *wiring, struct error *error) {
    const struct rest_call *call = call_of(change);
    return need_primary(call, wiring, error) && wiring_reset_patches(wiring, call->key, error);
}

/* The plane stays: what the primary itself forwards is no more. */
static bool edit_delete_primary(struct packet_change *change, json_t *wiring, struct error *error) {
    const struct rest_call *call = call_of(change);
    return wiring_process(wiring, call->key) == NULL || wiring_remove_process(wiring, call->key, error);
}

/* ---- captures ---- */

/* As spp_pcap names them: FOLDER/spp_pcap.YYYYMMDDhhmmss.phy0.1.pcap */
static void make_file(const struct rest_call *call, const json_t *process, char *to, size_t size) {
    char time[TEXT_TIME_SIZE], digits[16], port[WIRING_PORT_MAX + 1];
    const char *folder = json_string_value(json_object_get(process, "folder"));
    const char *name = json_string_value(json_object_get(process, "port"));
    unsigned count = 0, length = 0;
    text_format_time(host_wall_ns(call->rest->options.reactor->host), time, sizeof(time));
    for (const char *c = time; *c != '\0' && count < 14; c++)
        if (*c >= '0' && *c <= '9')
            digits[count++] = *c;
    digits[count] = '\0';
    for (const char *c = name != NULL ? name : ""; *c != '\0' && length < WIRING_PORT_MAX; c++)
        if (*c != ':')
            port[length++] = *c;
    port[length] = '\0';
    snprintf(to, size, "%.60s/spp_pcap.%s.%.20s.1.pcap", folder != NULL ? folder : "/tmp", digits, port);
}

static bool edit_capture(struct packet_change *change, json_t *wiring, struct error *error) {
    const struct rest_call *call = call_of(change);
    const json_t *process = wiring_process(wiring, call->key);
    char file[128];
    bool start;
    if (!body_choice(call->body, "action", "start", "stop", &start, error))
        return false;
    if (start && json_is_true(json_object_get(process, "running")))
        return error_set(error, ERROR_BUSY, "it captures already, into %s", json_string_value(json_object_get(process, "file")));
    make_file(call, process, file, sizeof(file));
    return wiring_run(wiring, call->key, start, file, error);
}

/* ---- launch ---- */

/* The mask of -c, or the list of -l or --lcores. */
static bool read_cores(const json_t *eal, uint64_t *ret_cores, struct error *error) {
    static const char *const keys[] = {"-c", "-l", "--lcores"};
    for (size_t i = 0; i < array_count(keys); i++) {
        const char *text;
        if (json_object_get(eal, keys[i]) == NULL)
            continue;
        if (!body_text(eal, keys[i], &text, error))
            return false;
        return (i == 0 ? wiring_parse_mask(text, ret_cores) : wiring_parse_cores(text, ret_cores)) ||
               error_invalid(error, keys[i], text, i == 0 ? "a mask of cores below 64, as 0xfe" : "cores below 64, as 1,3-5");
    }
    return error_invalid(error, "-c, -l or --lcores", "", BODY_REQUIRED);
}

static bool launch_capture(const struct rest_call *call, const json_t *app, json_t *wiring, struct error *error) {
    const char *port, *folder;
    if (!body_text(app, "-c", &port, error) || !wiring_check_port(port, "-c", error) ||
        !optional_text(app, "--out-dir", &folder, error))
        return false;
    if (folder != NULL && (folder[0] != '/' || strlen(folder) > 60))
        return error_invalid(error, "--out-dir", folder, "a folder's path from /, at most 60 bytes");
    json_t *process = wiring_process(wiring, call->key);
    json_object_set_new(process, "port", json_string(port));
    return folder == NULL || json_object_set_new(process, "folder", json_string(folder)) == 0;
}

static bool edit_launch(struct packet_change *change, json_t *wiring, struct error *error) {
    struct rest_call *call = call_of(change);
    static const char *const programs[] = {"spp_vf", "spp_mirror", "spp_nfv", "spp_pcap"};
    struct wiring_process process = {0};
    const json_t *eal, *app;
    const char *program, *kind;
    json_int_t id;
    if (!body_number(call->body, "client_id", WIRING_ID_MAX, &id, error) ||
        !body_text(call->body, "proc_name", &program, error) || !body_object(call->body, "eal", &eal, error) ||
        !body_object(call->body, "app", &app, error) || !read_cores(eal, &process.cores, error) ||
        !body_text(eal, "--proc-type", &kind, error))
        return false;
    for (size_t i = 0; i < array_count(programs); i++)
        if (strcmp(programs[i], program) == 0)
            process.type = programs[i] + strlen("spp_");
    if (process.type == NULL)
        return error_invalid(error, "proc_name", program, "spp_vf, spp_mirror, spp_nfv or spp_pcap");
    if (strcmp(kind, "secondary") != 0)
        return error_invalid(error, "--proc-type", kind, "secondary");
    process.id = (unsigned)id;
    process.vhost_client = json_object_get(app, "--vhost-client") != NULL;
    wiring_key(process.type, process.id, call->key);
    if (spp_guests_has_id(call->rest->options.guests, process.id))
        return error_set(error, ERROR_EXISTS, "process id %u is that of a process that has connected", process.id);
    return wiring_add_process(wiring, &process, error) &&
           (strcmp(process.type, "pcap") != 0 || launch_capture(call, app, wiring, error));
}

/* ---- processes that are not ours ---- */

static void guest_answered(struct spp_question *question, const json_t *answer, const struct error *failed) {
    struct rest_call *call = container_of(question, struct rest_call, question);
    struct error error;
    json_t *body = NULL;
    if (failed != NULL)
        end_text(call, 503, failed->text);
    else if (answer != NULL && !ask_read(call->route->type, &call->ask, answer, &body, &error))
        end_error(call, 400, &error);
    else if (body != NULL)
        end_json(call, body);
    else
        end_done(call);
}

static bool ask_guest(struct rest_call *call, const char *key,
                      void (*done)(struct spp_question *, const json_t *, const struct error *), struct error *error) {
    call->question = (struct spp_question){.text = call->ask.text, .exits = call->ask.exits, .done = done};
    return spp_guests_ask(call->rest->options.guests, key, &call->question, error);
}

static void serve_guest(struct rest_call *call) {
    unsigned first = strcmp(call->route->type, "primary") == 0 ? 2 : 3;
    struct error error;
    if (!ask_make(call->route->type, call->route->method, call->words + first,
                  call->word_count > first ? call->word_count - first : 0, call->body, &call->ask, &error))
        end_error(call, 400, &error);
    else if (!ask_guest(call, call->key, guest_answered, &error))
        end_text(call, 503, error.text);
}

/* ---- policies of ports, which spp-ctl has not ---- */

static bool edit_policy(struct packet_change *change, json_t *wiring, struct error *error) {
    const struct rest_call *call = call_of(change);
    return wiring_set_policy(wiring, call->words[2], call->body, error);
}

static void serve_policy(struct rest_call *call) {
    const json_t *policies = json_object_get(packet_control_wiring(call->rest->options.control), "policies");
    json_t *policy = json_object_get(policies, call->words[2]);
    struct error error;
    if (!wiring_check_port(call->words[2], "port", &error))
        end_error(call, 400, &error);
    else
        end_json(call, policy != NULL ? json_deep_copy(policy) : json_object());
}

/* ---- requests that look ---- */

static const json_t *wiring_of(const struct rest_call *call) { return packet_control_wiring(call->rest->options.control); }

static void serve_processes(struct rest_call *call) {
    json_t *all = json_copy(json_object_get(wiring_of(call), "processes")), *guests = spp_guests_list(call->rest->options.guests);
    json_object_update(all, guests);
    json_decref(guests);
    json_t *wiring = json_pack("{so}", "processes", all);
    end_json(call, show_processes(wiring));
    json_decref(wiring);
}

static void next_cpu_usage(struct rest_call *call);

static void usage_told(struct spp_question *question, const json_t *answer, const struct error *failed) {
    struct rest_call *call = container_of(question, struct rest_call, question);
    json_t *body = NULL;
    struct error error;
    const char *type = json_string_value(json_object_get(json_array_get(call->others, 0), "type"));
    if (failed == NULL && answer != NULL && ask_read(type, &call->ask, answer, &body, &error)) {
        if (strcmp(type, "primary") == 0)
            json_array_set_new(call->list, 0, ask_cpu_usage(type, body));
        else
            json_array_append_new(call->list, ask_cpu_usage(type, body));
        json_decref(body);
    }
    json_array_remove(call->others, 0);
    next_cpu_usage(call);
}

/* Those who do not answer are left out. */
static void next_cpu_usage(struct rest_call *call) {
    char key[24];
    struct error error;
    for (;; json_array_remove(call->others, 0)) {
        const json_t *other = json_array_get(call->others, 0);
        const char *type = json_string_value(json_object_get(other, "type"));
        if (other == NULL)
            break;
        wiring_key(type, (unsigned)json_integer_value(json_object_get(other, "id")), key);
        if (ask_make(type, "GET", NULL, 0, NULL, &call->ask, &error) && ask_guest(call, key, usage_told, &error))
            return;
    }
    end_json(call, json_incref(call->list));
}

static void serve_cpu_usage(struct rest_call *call) {
    json_t *guests = spp_guests_list(call->rest->options.guests), *guest;
    const char *key;
    call->list = show_cpu_usage(wiring_of(call));
    call->others = json_array();
    json_object_foreach(guests, key, guest) json_array_append(call->others, guest);
    json_decref(guests);
    next_cpu_usage(call);
}

static void serve_nothing(struct rest_call *call) { end_done(call); }

/* "error" is ours: why it is not what it is meant to be. */
static void serve_process(struct rest_call *call) {
    json_t *shown = show_process(wiring_process(wiring_of(call), call->key));
    const char *trouble = packet_control_trouble(call->rest->options.control, (unsigned)call->id);
    if (trouble != NULL)
        json_object_set_new(shown, "error", json_string(trouble));
    end_json(call, shown);
}

/* One process less is to answer. */
static void count_ports(struct rest_call *call) {
    if (--call->unanswered > 0)
        return;
    for (unsigned i = 0; i < PACKET_PROCESSES_MAX; i++)
        if (call->planes[i].ok) {
            show_add_ports(call->list, call->planes[i].result);
            json_decref(call->planes[i].result);
        }
    if (strcmp(call->route->method, "DELETE") == 0) {
        json_decref(call->rest->baseline);
        call->rest->baseline = show_make_baseline(call->list);
        end_done(call);
    } else {
        end_json(call, show_primary(wiring_of(call), call->list, call->rest->baseline));
    }
}

static void ports_told(struct plane_call *plane) { count_ports(plane->arg); }

/* Counters come from the plane's processes, all asked at once; one that is not there, or is silent, has counted nothing. */
static void serve_primary(struct rest_call *call) {
    struct control_plane *plane;
    unsigned at = 0, count = 0;
    call->list = json_array();
    call->planes = calloc(PACKET_PROCESSES_MAX, sizeof(*call->planes));
    if (call->planes == NULL) {
        end_text(call, 503, "no memory");
        return;
    }
    call->unanswered = 1;
    while ((plane = packet_control_next_plane(call->rest->options.control, &at)) != NULL) {
        struct plane_call *asked = &call->planes[count++];
        *asked = (struct plane_call){.method = "packet_get_ports", .timeout_ms = PLANE_MS, .done = ports_told, .arg = call};
        call->unanswered++;
        control_plane_call(plane, asked);
    }
    count_ports(call);
}

/* Ports of the kernel and of software have no flow tables; classifying is the components' work. */
static void serve_flow(struct rest_call *call) {
    end_json(call, json_pack("{ss ss}", "result", "error", "message",
                             "flow rules are not offered: no port of this plane has a flow table in hardware"));
}

static void serve_new_flow(struct rest_call *call) {
    const json_t *rule;
    bool ingress;
    struct error error;
    if (!body_object(call->body, "rule", &rule, &error) ||
        !body_choice(rule, "direction", "ingress", "egress", &ingress, &error)) {
        end_error(call, 400, &error);
        return;
    }
    serve_flow(call);
}

/* ---- the table ---- */

static const struct route routes[] = {
    {"GET", "processes", serve_processes, NULL, NULL, false},
    {"GET", "cpu_usage", serve_cpu_usage, NULL, NULL, false},
    {"GET", "cpu_layout", serve_nothing, NULL, NULL, false},
    {"GET", "vfs/#", serve_process, NULL, "vf", false},
    {"DELETE", "vfs/#", serve_change, edit_delete_process, "vf", false},
    {"POST", "vfs/#/components", serve_change, edit_add_component, "vf", true},
    {"DELETE", "vfs/#/components/*", serve_change, edit_delete_component, "vf", false},
    {"PUT", "vfs/#/components/*/ports", serve_change, edit_component_port, "vf", true},
    {"PUT", "vfs/#/classifier_table", serve_change, edit_table, "vf", true},
    {"GET", "mirrors/#", serve_process, NULL, "mirror", false},
    {"DELETE", "mirrors/#", serve_change, edit_delete_process, "mirror", false},
    {"POST", "mirrors/#/components", serve_change, edit_add_component, "mirror", true},
    {"DELETE", "mirrors/#/components/*", serve_change, edit_delete_component, "mirror", false},
    {"PUT", "mirrors/#/components/*/ports", serve_change, edit_component_port, "mirror", true},
    {"GET", "nfvs/#", serve_process, NULL, "nfv", false},
    {"DELETE", "nfvs/#", serve_change, edit_delete_process, "nfv", false},
    {"PUT", "nfvs/#/forward", serve_change, edit_forward, "nfv", true},
    {"PUT", "nfvs/#/ports", serve_change, edit_ports, "nfv", true},
    {"PUT", "nfvs/#/patches", serve_change, edit_patch, "nfv", true},
    {"DELETE", "nfvs/#/patches", serve_change, edit_reset, "nfv", false},
    {"GET", "pcaps/#", serve_process, NULL, "pcap", false},
    {"DELETE", "pcaps/#", serve_change, edit_delete_process, "pcap", false},
    {"PUT", "pcaps/#/capture", serve_change, edit_capture, "pcap", true},
    {"GET", "primary/status", serve_primary, NULL, "primary", false},
    {"DELETE", "primary/status", serve_primary, NULL, "primary", false},
    {"PUT", "primary/forward", serve_change, edit_forward, "primary", true},
    {"PUT", "primary/ports", serve_change, edit_ports, "primary", true},
    {"PUT", "primary/patches", serve_change, edit_patch, "primary", true},
    {"DELETE", "primary/patches", serve_change, edit_reset, "primary", false},
    {"PUT", "primary/launch", serve_change, edit_launch, "primary", true},
    {"DELETE", "primary", serve_change, edit_delete_primary, "primary", false},
    {"GET", "ports/*/policy", serve_policy, NULL, NULL, false},
    {"PUT", "ports/*/policy", serve_change, edit_policy, NULL, true},
    {"DELETE", "ports/*/policy", serve_change, edit_policy, NULL, false},
    {"POST", "primary/flow_rules/port_id/#", serve_new_flow, NULL, "primary", true},
    {"POST", "primary/flow_rules/port_id/#/validate", serve_new_flow, NULL, "primary", true},
    {"DELETE", "primary/flow_rules/port_id/#", serve_flow, NULL, "primary", false},
    {"DELETE", "primary/flow_rules/#/port_id/#", serve_flow, NULL, "primary", false},
};

/* The path's words after "v1", against the pattern's; the first number is the id. */
static bool matches(const char *pattern, struct rest_call *call) {
    bool numbered = false;
    for (unsigned i = 1;; i++) {
        size_t length = strcspn(pattern, "/");
        uint64_t number;
        if (i >= call->word_count || call->words[i][0] == '\0')
            return false;
        if (*pattern == '#') {
            if (!text_parse_u64(call->words[i], UINT32_MAX, &number) || call->words[i][1] == 'x')
                return false;
            if (!numbered)
                call->id = number;
            numbered = true;
        } else if (*pattern != '*' && (strlen(call->words[i]) != length || strncmp(call->words[i], pattern, length) != 0)) {
            return false;
        }
        pattern += length;
        if (*pattern == '\0')
            return i + 1 == call->word_count;
        pattern++;
    }
}

/* NULL, and answered: there is no such path, or it has no such method. */
static const struct route *find_route(struct rest_call *call, const struct spp_rest_request *request) {
    bool known = false;
    char text[SPP_REST_PATH_MAX + 32];
    if (call->word_count > 1 && strcmp(call->words[0], "v1") == 0)
        for (size_t i = 0; i < array_count(routes); i++)
            if (matches(routes[i].pattern, call)) {
                if (strcmp(routes[i].method, request->method) == 0)
                    return &routes[i];
                known = true;
            }
    if (known) {
        end_text(call, 405, "Method not allowed.");
        return NULL;
    }
    snprintf(text, sizeof(text), "Not found: '%.255s'", request->path);
    end_text(call, 404, text);
    return NULL;
}

static bool split(struct rest_call *call, const char *path) {
    if (path[0] != '/' || strlen(path) > SPP_REST_PATH_MAX)
        return false;
    snprintf(call->path, sizeof(call->path), "%s", path + 1);
    for (char *word = call->path; call->word_count < WORDS_MAX;) {
        call->words[call->word_count++] = word;
        word = strchr(word, '/');
        if (word == NULL)
            return true;
        *word++ = '\0';
    }
    return false;
}

static bool read_body(struct rest_call *call, const struct spp_rest_request *request) {
    if (!call->route->with_body)
        return true;
    if (request->length <= SPP_REST_BODY_MAX && request->body != NULL)
        call->body = json_loadb(request->body, request->length, JSON_REJECT_DUPLICATES, NULL);
    return json_is_object(call->body);
}

void spp_rest_serve(struct spp_rest *rest, const struct spp_rest_request *request) {
    struct rest_call *call = rest->calls < SPP_REST_CALLS_MAX ? calloc(1, sizeof(*call)) : NULL;
    if (call == NULL) {
        static const char text[] = "too many requests at once";
        request->answer(request->arg, 503, TEXT_TYPE, text, sizeof(text) - 1);
        return;
    }
    rest->calls++;
    call->rest = rest;
    call->answer = request->answer;
    call->arg = request->arg;
    if (!split(call, request->path))
        call->word_count = 0;
    const struct route *route = find_route(call, request);
    if (route == NULL)
        return; /* and the call is no more */
    call->route = route;
    const char *type = route->type;
    if (type != NULL)
        wiring_key(type, strcmp(type, "primary") == 0 ? 0 : (unsigned)call->id, call->key);
    bool guest = type != NULL && spp_guests_has(rest->options.guests, call->key);
    if (type != NULL && !guest && strcmp(type, "primary") != 0 && wiring_process(wiring_of(call), call->key) == NULL)
        end_unknown_process(call);
    else if (!read_body(call, request))
        end_text(call, 400, "Not in json format.");
    else if (guest)
        serve_guest(call);
    else
        call->route->serve(call);
}

struct spp_rest *spp_rest_create(const struct spp_rest_options *options) {
    struct spp_rest *rest = calloc(1, sizeof(*rest));
    if (rest != NULL)
        rest->options = *options;
    return rest;
}

void spp_rest_destroy(struct spp_rest *rest) {
    assert(rest->calls == 0);
    json_decref(rest->baseline);
    free(rest);
}
