/* Flows of tap-as-a-service: what networking-spp's service driver asks for below tap_action/HOST/. A mirror is a flow's if the
 * key of that mirror has the flow's id; tap_info says which way each copies, and between which ports. */
#include <stdio.h>
#include <string.h>

#include "agent/internal.h"
#include "agent/nic.h"
#include "base/text.h"

enum { ACTION, INFO, STATUS };
enum { SOURCE, SERVICE };

static const char *const port_keys[] = {"source_port", "service_port"};

static void name_flow(struct agent *agent, const char *id) {
    static const char *const folders[] = {"tap_action", "tap_info", "tap_status"};
    struct agent_flow *flow = &agent->flow;
    *flow = (struct agent_flow){.in = -1, .out = -1};
    snprintf(flow->id, sizeof(flow->id), "%s", id);
    for (unsigned i = 0; i < array_count(folders); i++)
        snprintf(flow->keys[i], KEY_SIZE, ROOT "%s/%s/%s", folders[i], agent->options.host, id);
}

/* False: the item at hand is put off. */
static bool is_done(struct agent *agent, const struct store_request *request) {
    if (request->outcome != STORE_DONE)
        agent_item_later(agent, request->error.text);
    return request->outcome == STORE_DONE;
}

/* ---- recorded ---- */

static void recorded(struct store_request *request) {
    struct agent *agent = agent_answered(request);
    const struct agent_flow *flow = &agent->flow;
    if (!is_done(agent, request))
        return;
    if (request->succeeded)
        log_notice(agent->options.log, LOG_AREA_APP, "agent: tap flow %s is %s", flow->id,
                   flow->for_port ? "unplugged: a port of it is"
                   : flow->plug   ? "plugged"
                                  : "unplugged");
    if (flow->for_port)
        agent_flow_end_of_port(agent);
    else if (request->succeeded)
        agent_item_done(agent);
    else /* something else is asked for meanwhile, or a mirror is another flow's */
        agent_item_again(agent);
}

/* The status of one that is plugged; else, as one step, the end of its keys, and mirrors that are free. */
static void record(struct agent *agent) {
    struct agent_flow *flow = &agent->flow;
    unsigned compares = 0, ops = 0;
    flow->compares[compares++] = (struct store_compare){
        .key = flow->guard, .target = STORE_MODIFY_REVISION, .relation = STORE_EQUAL, .revision = flow->guard_revision};
    if (flow->plug)
        flow->ops[ops++] = (struct store_op){.kind = STORE_PUT, .key = flow->keys[STATUS], .value = "up", .value_length = 2};
    for (unsigned i = 0; i < flow->mirror_count; i++) {
        flow->compares[compares++] = (struct store_compare){.key = flow->mirror_keys[i],
                                                            .target = STORE_VALUE,
                                                            .relation = STORE_EQUAL,
                                                            .value = flow->id,
                                                            .value_length = strlen(flow->id)};
        if (!flow->plug)
            flow->ops[ops++] =
                (struct store_op){.kind = STORE_PUT, .key = flow->mirror_keys[i], .value = "None", .value_length = 4};
    }
    static const unsigned order[] = {INFO, ACTION, STATUS};
    for (unsigned i = 0; !flow->plug && i < array_count(order); i++)
        flow->ops[ops++] = (struct store_op){.kind = STORE_DELETE, .key = flow->keys[order[i]]};
    agent->request = (struct store_request){
        .verb = STORE_TRANSACT, .compares = flow->compares, .compare_count = compares, .then_ops = flow->ops, .then_count = ops};
    agent_submit(agent, recorded);
}

/* ---- wired ---- */

static void wired(struct packet_change *change) {
    struct agent *agent = container_of(change, struct agent, change);
    agent->busy = false;
    if (agent->stopping)
        return;
    if (!change->ok)
        agent_item_later(agent, change->error.text);
    else
        record(agent);
}

static bool edit_flow(struct packet_change *change, json_t *wiring, struct error *error) {
    struct agent *agent = container_of(change, struct agent, change);
    const struct agent_flow *flow = &agent->flow;
    for (unsigned i = 0; i < flow->mirror_count; i++) {
        int mirror = (int)flow->mirrors[i];
        struct tap tap = {.mirror = flow->mirrors[i],
                          .source = flow->vhosts[SOURCE],
                          .service = flow->vhosts[SERVICE],
                          .out = mirror == flow->out};
        if (!(flow->plug && (mirror == flow->in || mirror == flow->out)
                  ? tap_plug(wiring, &agent->configuration, &tap, error)
                  : tap_unplug(wiring, &agent->configuration, tap.mirror, error)))
            return false;
    }
    return true;
}

static void wire(struct agent *agent) {
    agent->busy = true;
    agent->change = (struct packet_change){
        .edit = edit_flow, .done = wired, .vfs = {tap_vf(&agent->configuration)}, .vf_count = 1, .patience_ms = PATIENCE_MS};
    for (unsigned i = 0; agent->flow.plug && i < array_count(agent->flow.vhosts); i++)
        agent->change.vfs[agent->change.vf_count++] = nic_vf(&agent->configuration, agent->flow.vhosts[i]);
    packet_control_submit(agent->options.control, &agent->change);
}

/* ---- what is to be plugged ---- */

static void ask_for_vhost(struct agent *agent);

static void vhost_told(struct store_request *request) {
    struct agent *agent = agent_answered(request);
    struct agent_flow *flow = &agent->flow;
    struct error error;
    char what[AGENT_ID_MAX + 80];
    if (!is_done(agent, request))
        return;
    if (request->results[0].count > 0)
        (void)agent_read_bind_port(agent, &request->results[0].entries[0], &error);
    if (request->results[0].count == 0 || !agent->has_vhost) {
        snprintf(what, sizeof(what), "port %s is not plugged on this host", flow->ports[flow->at]);
        agent_item_later(agent, what);
        return;
    }
    flow->vhosts[flow->at++] = agent->vhost;
    ask_for_vhost(agent);
}

static void ask_for_vhost(struct agent *agent) {
    struct agent_flow *flow = &agent->flow;
    if (flow->at == array_count(flow->ports)) {
        wire(agent);
        return;
    }
    agent->has_vhost = false;
    snprintf(agent->keys[0], KEY_SIZE, ROOT "bind_port/%s/%s", agent->options.host, flow->ports[flow->at]);
    agent_get(agent, agent->keys[0], vhost_told);
}

/* null = no mirror; else one that is the flow's. */
static bool read_mirror(const struct agent_flow *flow, const json_t *info, const char *key, int *ret, struct error *error) {
    const json_t *value = json_object_get(info, key);
    if (value == NULL || json_is_null(value))
        return true;
    for (unsigned i = 0; json_is_integer(value) && i < flow->mirror_count; i++)
        if (json_integer_value(value) == (json_int_t)flow->mirrors[i]) {
            *ret = (int)flow->mirrors[i];
            return true;
        }
    return error_set(error, ERROR_DAMAGED, "tap_info: %s is no mirror of this flow's", key);
}

/* {"service_port", "source_port", "mirror_in", "mirror_out"} */
static bool read_info(struct agent_flow *flow, const struct store_entry *entry, struct error *error) {
    json_t *info = json_loadb(entry->value, entry->value_length, 0, NULL);
    bool ok = json_is_object(info) || error_set(error, ERROR_DAMAGED, "tap_info is no JSON object");
    for (unsigned i = 0; ok && i < array_count(flow->ports); i++) {
        const char *port = json_string_value(json_object_get(info, port_keys[i]));
        ok = (port != NULL && text_is_name(port, AGENT_ID_MAX)) ||
             error_set(error, ERROR_DAMAGED, "tap_info: %s is no port's id", port_keys[i]);
        if (ok)
            snprintf(flow->ports[i], sizeof(flow->ports[i]), "%s", port);
    }
    ok = ok && read_mirror(flow, info, "mirror_in", &flow->in, error) &&
         read_mirror(flow, info, "mirror_out", &flow->out, error) &&
         (flow->in != flow->out || error_set(error, ERROR_DAMAGED, "tap_info: it has no mirror, or one for both ways"));
    json_decref(info);
    return ok;
}

static void info_told(struct store_request *request) {
    struct agent *agent = agent_answered(request);
    struct error error;
    if (!is_done(agent, request))
        return;
    if (request->results[0].count == 0)
        agent_item_later(agent, "there is no tap_info");
    else if (!read_info(&agent->flow, &request->results[0].entries[0], &error))
        agent_item_later(agent, error.text);
    else
        ask_for_vhost(agent);
}

/* ---- whose mirrors ---- */

static void mirrors_told(struct store_request *request) {
    struct agent *agent = agent_answered(request);
    struct agent_flow *flow = &agent->flow;
    if (!is_done(agent, request))
        return;
    for (uint32_t i = 0; i < request->results[0].count && flow->mirror_count < AGENT_FLOW_MIRRORS_MAX; i++) {
        const struct store_entry *entry = &request->results[0].entries[i];
        uint64_t mirror;
        if (!agent_is_value(entry, flow->id) || !text_parse_u64(entry->key + strlen(agent->mirror_prefix), UINT16_MAX, &mirror))
            continue;
        snprintf(flow->mirror_keys[flow->mirror_count], KEY_SIZE, "%s", entry->key);
        flow->mirrors[flow->mirror_count++] = (unsigned)mirror;
    }
    if (flow->plug)
        agent_get(agent, flow->keys[INFO], info_told);
    else if (flow->mirror_count > 0)
        wire(agent);
    else
        record(agent);
}

static void ask_for_mirrors(struct agent *agent) {
    agent->request = (struct store_request){.verb = STORE_RANGE, .key = agent->mirror_prefix, .prefix = true};
    agent_submit(agent, mirrors_told);
}

static void action_told(struct store_request *request) {
    struct agent *agent = agent_answered(request);
    struct agent_flow *flow = &agent->flow;
    if (!is_done(agent, request))
        return;
    if (request->results[0].count == 0) { /* nobody wants anything any more */
        agent_item_done(agent);
        return;
    }
    const struct store_entry *entry = &request->results[0].entries[0];
    flow->plug = agent_is_value(entry, "plug");
    flow->guard = flow->keys[ACTION];
    flow->guard_revision = entry->modify_revision;
    if (flow->plug || agent_is_value(entry, "unplug")) {
        ask_for_mirrors(agent);
        return;
    }
    log_warning(agent->options.log, LOG_AREA_APP, "agent: tap flow %s: its action is neither plug nor unplug: left alone",
                flow->id);
    agent_item_done(agent);
}

void agent_flow_begin(struct agent *agent) {
    name_flow(agent, agent->item->id);
    agent_get(agent, agent->flow.keys[ACTION], action_told);
}

/* ---- a port goes ---- */

static bool names_port(const struct store_entry *entry, const char *port) {
    json_t *info = json_loadb(entry->value, entry->value_length, 0, NULL);
    bool found = false;
    for (unsigned i = 0; i < array_count(port_keys); i++) {
        const char *there = json_string_value(json_object_get(info, port_keys[i]));
        found = found || (there != NULL && strcmp(there, port) == 0);
    }
    json_decref(info);
    return found;
}

static void list_flows(struct agent *agent, const char *after);

static void flows_told(struct store_request *request) {
    struct agent *agent = agent_answered(request);
    if (!is_done(agent, request))
        return;
    const struct store_result *result = &request->results[0];
    for (uint32_t i = 0; i < result->count; i++) {
        const struct store_entry *entry = &result->entries[i];
        const char *id = entry->key + strlen(agent->tap_info_prefix);
        if (strlen(id) > AGENT_ID_MAX || !names_port(entry, agent->item->id))
            continue;
        name_flow(agent, id);
        agent->flow.for_port = true;
        agent->flow.guard = agent->flow.keys[INFO];
        agent->flow.guard_revision = entry->modify_revision;
        ask_for_mirrors(agent);
        return;
    }
    if (request->more) {
        snprintf(agent->after, sizeof(agent->after), "%s", result->entries[result->count - 1].key);
        list_flows(agent, agent->after);
        return;
    }
    agent_port_go_on(agent);
}

static void list_flows(struct agent *agent, const char *after) {
    agent->request = (struct store_request){.verb = STORE_RANGE, .key = agent->tap_info_prefix, .prefix = true, .after = after};
    agent_submit(agent, flows_told);
}

void agent_flow_end_of_port(struct agent *agent) { list_flows(agent, NULL); }
