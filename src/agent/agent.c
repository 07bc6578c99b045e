#include "agent/agent.h"

#include <stdio.h>
#include <stdlib.h>

#include "agent/internal.h"
#include "agent/nic.h"
#include "base/text.h"

enum { ACTION, BIND, STATUS, VHOST };

static void go_soon(struct agent *agent);

static uint64_t now_ns(const struct agent *agent) { return host_now_ns(agent->options.reactor->host); }

static void in_ms(struct agent *agent, struct reactor_timer *timer, uint64_t ms) {
    reactor_timer_start(agent->options.reactor, timer, now_ns(agent) + ms * NS_PER_MS);
}

void agent_submit(struct agent *agent, void (*done)(struct store_request *)) {
    agent->busy = true;
    agent->request.done = done;
    store_submit(agent->options.store, &agent->request);
}

void agent_get(struct agent *agent, const char *key, void (*done)(struct store_request *)) {
    agent->request = (struct store_request){.verb = STORE_RANGE, .key = key};
    agent_submit(agent, done);
}

struct agent *agent_answered(struct store_request *request) {
    struct agent *agent = container_of(request, struct agent, request);
    agent->busy = false;
    return agent;
}

static void retry_soon(struct agent *agent) { in_ms(agent, &agent->timer, agent->options.retry_ms); }

static void trouble(struct agent *agent, const char *what) {
    log_warning(agent->options.log, LOG_AREA_APP, "agent: %s: %s%s%s%s%s", what, agent->trouble.text,
                agent->trouble.field[0] != '\0' ? "; " : "", agent->trouble.field,
                agent->trouble.field[0] != '\0' ? " should be " : "",
                agent->trouble.field[0] != '\0' ? agent->trouble.expected : "");
}

/* ---- what waits to be looked at ---- */

static void enqueue(struct agent *agent, enum agent_kind kind, const char *id) {
    if (id[0] == '\0' || strlen(id) > AGENT_ID_MAX || strchr(id, '/') != NULL)
        return; /* nobody's */
    list_for_each (&agent->items, struct agent_item, item, node)
        if (item->kind == kind && strcmp(item->id, id) == 0) {
            item->not_before_ns = 0;
            return;
        }
    struct list_node *node = list_pop_front(&agent->free_items);
    if (node == NULL) {
        agent->overflow = true;
        return;
    }
    struct agent_item *item = container_of(node, struct agent_item, node);
    item->kind = kind;
    snprintf(item->id, sizeof(item->id), "%s", id);
    item->not_before_ns = 0;
    list_push_back(&agent->items, &item->node);
}

static struct agent_item *next_item(struct agent *agent) {
    uint64_t now = now_ns(agent), soonest = UINT64_MAX;
    list_for_each (&agent->items, struct agent_item, item, node) {
        if (item->not_before_ns <= now)
            return item;
        soonest = min_u64(soonest, item->not_before_ns);
    }
    if (soonest != UINT64_MAX)
        reactor_timer_start(agent->options.reactor, &agent->timer, soonest);
    return NULL;
}

void agent_item_done(struct agent *agent) {
    list_remove(&agent->item->node);
    list_push_back(&agent->free_items, &agent->item->node);
    agent->item = NULL;
    if (agent->overflow && list_empty(&agent->items)) {
        agent->overflow = false;
        agent->relist[AGENT_PORT] = agent->relist[AGENT_FLOW] = true;
    }
    go_soon(agent);
}

/* Others go on, those that are due before it is again. */
void agent_item_later(struct agent *agent, const char *what) {
    log_warning(agent->options.log, LOG_AREA_APP, "agent: %s %s: %s; trying again",
                agent->item->kind == AGENT_PORT ? "port" : "tap flow", agent->item->id, what);
    agent->item->not_before_ns = now_ns(agent) + agent->options.retry_ms * NS_PER_MS;
    list_remove(&agent->item->node);
    list_push_back(&agent->items, &agent->item->node);
    agent->item = NULL;
    go_soon(agent);
}

void agent_item_again(struct agent *agent) {
    agent->item->not_before_ns = 0;
    agent->item = NULL;
    go_soon(agent);
}

/* ---- one port ---- */

static void make_key(struct agent *agent, unsigned which, const char *folder) {
    snprintf(agent->keys[which], KEY_SIZE, ROOT "%s/%s/%s", folder, agent->options.host, agent->item->id);
}

static void port_recorded(struct store_request *request) {
    struct agent *agent = agent_answered(request);
    if (request->outcome != STORE_DONE) {
        agent_item_later(agent, request->error.text);
    } else if (!request->succeeded) { /* it was asked for something else meanwhile: the watch tells, or has told */
        agent_item_again(agent);
    } else {
        log_notice(agent->options.log, LOG_AREA_APP, "agent: port %s is %s vhost %u", agent->item->id,
                   agent->plug ? "plugged into" : "unplugged from", agent->vhost);
        agent_item_done(agent);
    }
}

/* Nobody has asked for anything else since it was looked at. */
static void compare_action(struct agent *agent) {
    agent->compares[0] = (struct store_compare){
        .key = agent->keys[ACTION], .target = STORE_MODIFY_REVISION, .relation = STORE_EQUAL, .revision = agent->action_revision};
}

static void say_up(struct agent *agent) {
    compare_action(agent);
    agent->ops[0] = (struct store_op){.kind = STORE_PUT, .key = agent->keys[STATUS], .value = "up", .value_length = 2};
    agent->request = (struct store_request){
        .verb = STORE_TRANSACT, .compares = agent->compares, .compare_count = 1, .then_ops = agent->ops, .then_count = 1};
    agent_submit(agent, port_recorded);
}

static void forget_port(struct agent *agent, bool vhost_is_its) {
    unsigned count = 0;
    compare_action(agent);
    if (vhost_is_its) {
        agent->compares[1] = (struct store_compare){.key = agent->keys[VHOST],
                                                    .target = STORE_VALUE,
                                                    .relation = STORE_EQUAL,
                                                    .value = agent->item->id,
                                                    .value_length = strlen(agent->item->id)};
        agent->ops[count++] = (struct store_op){.kind = STORE_PUT, .key = agent->keys[VHOST], .value = "None", .value_length = 4};
    }
    static const unsigned order[] = {BIND, ACTION, STATUS};
    for (unsigned i = 0; i < 3; i++)
        agent->ops[count++] = (struct store_op){.kind = STORE_DELETE, .key = agent->keys[order[i]]};
    agent->request = (struct store_request){.verb = STORE_TRANSACT,
                                            .compares = agent->compares,
                                            .compare_count = vhost_is_its ? 2 : 1,
                                            .then_ops = agent->ops,
                                            .then_count = count};
    agent_submit(agent, port_recorded);
}

/* The vhost is given back if it is this port's, in one step with the end of the port's keys. */
static void owner_told(struct store_request *request) {
    struct agent *agent = agent_answered(request);
    if (request->outcome != STORE_DONE) {
        agent_item_later(agent, request->error.text);
        return;
    }
    const struct store_result *result = &request->results[0];
    size_t length = strlen(agent->item->id);
    forget_port(agent, result->count > 0 && result->entries[0].value_length == length &&
                           memcmp(result->entries[0].value, agent->item->id, length) == 0);
}

static void unplugged(struct agent *agent) {
    const struct configuration_nic *nic = configuration_nic_of(&agent->configuration, agent->vhost);
    if (!agent->has_vhost || nic == NULL) {
        forget_port(agent, false);
        return;
    }
    snprintf(agent->keys[VHOST], KEY_SIZE, ROOT "vhost/%s/%s/%u", agent->options.host, nic->physical_network, agent->vhost);
    agent_get(agent, agent->keys[VHOST], owner_told);
}

static void wired(struct packet_change *change) {
    struct agent *agent = container_of(change, struct agent, change);
    agent->busy = false;
    if (agent->stopping)
        return;
    if (!change->ok)
        agent_item_later(agent, change->error.text);
    else if (agent->plug)
        say_up(agent);
    else
        unplugged(agent);
}

static bool edit_port(struct packet_change *change, json_t *wiring, struct error *error) {
    struct agent *agent = container_of(change, struct agent, change);
    return agent->plug ? nic_plug(wiring, &agent->configuration, agent->vhost, agent->mac, agent->vlan, error)
                       : nic_unplug(wiring, &agent->configuration, agent->vhost, error);
}

static void wire(struct agent *agent) {
    agent->busy = true;
    agent->change = (struct packet_change){.edit = edit_port,
                                           .done = wired,
                                           .vfs = {nic_vf(&agent->configuration, agent->vhost)},
                                           .vf_count = 1,
                                           .patience_ms = PATIENCE_MS};
    packet_control_submit(agent->options.control, &agent->change);
}

/* {"vhost_id": N, "mac_address": MAC, "vlan_id"?: N} */
bool agent_read_bind_port(struct agent *agent, const struct store_entry *entry, struct error *error) {
    json_t *json = json_loadb(entry->value, entry->value_length, 0, NULL);
    const json_t *vhost = json_object_get(json, "vhost_id"), *mac = json_object_get(json, "mac_address"),
                 *vlan = json_object_get(json, "vlan_id");
    bool ok = json_is_object(json) || error_set(error, ERROR_DAMAGED, "bind_port is no JSON object");
    ok = ok &&
         ((json_is_integer(vhost) && json_integer_value(vhost) >= 0 &&
           json_integer_value(vhost) < (json_int_t)agent->configuration.vhost_count) ||
          error_set(error, ERROR_DAMAGED, "bind_port: vhost_id is none of this host's %u", agent->configuration.vhost_count));
    if (ok)
        agent->vhost = (unsigned)json_integer_value(vhost);
    agent->has_vhost = ok;
    ok = ok && ((json_is_string(mac) && strcmp(json_string_value(mac), "default") != 0 &&
                 wiring_normalize_mac(json_string_value(mac), "mac_address", agent->mac, error)) ||
                error_set(error, ERROR_DAMAGED, "bind_port: mac_address is none"));
    ok = ok && (vlan == NULL || json_is_null(vlan) ||
                (json_is_integer(vlan) && json_integer_value(vlan) >= 0 && json_integer_value(vlan) <= 4095) ||
                error_set(error, ERROR_DAMAGED, "bind_port: vlan_id is not 0 to 4095"));
    agent->vlan = json_is_integer(vlan) ? (int)json_integer_value(vlan) : WIRING_UNTAGGED;
    json_decref(json);
    return ok;
}

/* A vhost of this host whose key has the port's id. */
static void owned_told(struct store_request *request) {
    struct agent *agent = agent_answered(request);
    if (request->outcome != STORE_DONE) {
        agent_item_later(agent, request->error.text);
        return;
    }
    const struct store_result *result = &request->results[0];
    for (uint32_t i = 0; i < result->count && !agent->has_vhost; i++) {
        const struct store_entry *entry = &result->entries[i];
        uint64_t vhost;
        if (entry->value_length == strlen(agent->item->id) && memcmp(entry->value, agent->item->id, entry->value_length) == 0 &&
            text_parse_u64(strrchr(entry->key, '/') + 1, UINT16_MAX, &vhost) &&
            configuration_nic_of(&agent->configuration, (unsigned)vhost) != NULL) {
            agent->vhost = (unsigned)vhost;
            agent->has_vhost = true;
        }
    }
    if (agent->has_vhost)
        wire(agent);
    else
        unplugged(agent);
}

/* To be unplugged, but there is no bind_port that says from where. */
static void find_vhost(struct agent *agent) {
    agent->request = (struct store_request){.verb = STORE_RANGE, .key = agent->vhost_prefix, .prefix = true};
    agent_submit(agent, owned_told);
}

static void bind_told(struct store_request *request) {
    struct agent *agent = agent_answered(request);
    struct error error;
    if (request->outcome != STORE_DONE) {
        agent_item_later(agent, request->error.text);
        return;
    }
    const struct store_result *result = &request->results[0];
    agent->has_vhost = false;
    error_set(&error, ERROR_NOT_FOUND, "there is no bind_port");
    bool ok = result->count > 0 && agent_read_bind_port(agent, &result->entries[0], &error);
    if (agent->plug && !ok)
        agent_item_later(agent, error.text);
    else if (agent->has_vhost)
        wire(agent); /* to unplug, the vhost is all that must be known */
    else
        find_vhost(agent);
}

bool agent_is_value(const struct store_entry *entry, const char *text) {
    return entry->value_length == strlen(text) && memcmp(entry->value, text, entry->value_length) == 0;
}

static void action_told(struct store_request *request) {
    struct agent *agent = agent_answered(request);
    if (request->outcome != STORE_DONE) {
        agent_item_later(agent, request->error.text);
        return;
    }
    const struct store_result *result = &request->results[0];
    if (result->count == 0) { /* nobody wants anything any more */
        agent_item_done(agent);
        return;
    }
    const struct store_entry *entry = &result->entries[0];
    agent->plug = agent_is_value(entry, "plug");
    agent->action_revision = entry->modify_revision;
    if (!agent->plug && !agent_is_value(entry, "unplug")) {
        log_warning(agent->options.log, LOG_AREA_APP, "agent: port %s: its action is neither plug nor unplug: left alone",
                    agent->item->id);
        agent_item_done(agent);
        return;
    }
    if (agent->plug)
        agent_port_go_on(agent);
    else
        agent_flow_end_of_port(agent);
}

void agent_port_go_on(struct agent *agent) {
    make_key(agent, BIND, "bind_port");
    agent_get(agent, agent->keys[BIND], bind_told);
}

static void begin_port(struct agent *agent) {
    make_key(agent, ACTION, "action");
    make_key(agent, STATUS, "port_status");
    agent_get(agent, agent->keys[ACTION], action_told);
}

/* ---- the configuration ---- */

static void configuration_changed(struct store_watch *watch, const struct store_event *events, uint32_t count) {
    struct agent *agent = watch->arg;
    (void)events;
    (void)count;
    agent->reread = true;
    go_soon(agent);
}

static void watch_ended(struct store_watch *watch, const struct error *error) {
    struct agent *agent = watch->arg;
    log_warning(agent->options.log, LOG_AREA_APP, "agent: watching %s: %s; reading it again", watch->key, error->text);
    if (watch == &agent->configuration_watch)
        agent->reread = true;
    else
        agent->relist[watch - agent->action_watches] = true;
    retry_soon(agent);
}

static void configuration_told(struct store_request *request) {
    struct agent *agent = agent_answered(request);
    struct configuration read;
    if (request->outcome != STORE_DONE) {
        agent->trouble = request->error;
        agent->reread = true;
        trouble(agent, "the configuration cannot be read");
        retry_soon(agent);
        return;
    }
    const struct store_result *result = &request->results[0];
    agent->configuration_watch = (struct store_watch){.key = agent->configuration_key,
                                                      .from_revision = request->now_revision + 1,
                                                      .arg = agent,
                                                      .events = configuration_changed,
                                                      .ended = watch_ended};
    store_watch_start(agent->options.store, &agent->configuration_watch);
    bool ok = result->count > 0 || error_set(&agent->trouble, ERROR_NOT_FOUND, "there is no %s", agent->configuration_key);
    ok = ok && configuration_parse(result->entries[0].value, result->entries[0].value_length, &read, &agent->trouble);
    if (!ok) { /* what was built stays */
        trouble(agent, "waiting for a configuration");
        if (agent->configuration.nic_count == 0)
            agent->state = AGENT_UNCONFIGURED;
    } else {
        configuration_fini(&agent->configuration);
        agent->configuration = read;
        agent->state = AGENT_BUILDING;
        agent->rebuild = true;
    }
    go_soon(agent);
}

static void read_configuration(struct agent *agent) {
    agent->reread = false;
    store_watch_stop(&agent->configuration_watch);
    agent_get(agent, agent->configuration_key, configuration_told);
}

static bool edit_build(struct packet_change *change, json_t *wiring, struct error *error) {
    struct agent *agent = container_of(change, struct agent, change);
    return nic_build(wiring, &agent->configuration, agent->options.hairpin, error);
}

static void built(struct packet_change *change) {
    struct agent *agent = container_of(change, struct agent, change);
    agent->busy = false;
    if (agent->stopping)
        return;
    if (!change->ok && !change->late) {
        agent->trouble = change->error;
        agent->rebuild = true;
        trouble(agent, "the NICs cannot be wired");
        retry_soon(agent);
        return;
    }
    if (change->late) { /* of one NIC, perhaps: the others go on */
        agent->trouble = change->error;
        trouble(agent, "not all NICs are wired yet");
    }
    log_notice(agent->options.log, LOG_AREA_APP, "agent: %u NICs with %u vhosts are wired", agent->configuration.nic_count,
               agent->configuration.vhost_count);
    error_clear(&agent->trouble);
    agent->state = AGENT_RUNNING;
    agent->relist[AGENT_PORT] = agent->relist[AGENT_FLOW] = true;
    if (agent->options.lease_s != 0 && agent->lease.store == NULL)
        store_lease_grant(agent->options.store, &agent->lease);
    go_soon(agent);
}

static void build(struct agent *agent) {
    agent->rebuild = false;
    agent->busy = true;
    agent->change = (struct packet_change){.edit = edit_build, .done = built, .patience_ms = PATIENCE_MS};
    packet_control_submit(agent->options.control, &agent->change);
}

/* ---- actions: what is there, then all that changes from that revision on ---- */

static void actions_changed(struct store_watch *watch, const struct store_event *events, uint32_t count) {
    struct agent *agent = watch->arg;
    enum agent_kind kind = (enum agent_kind)(watch - agent->action_watches);
    for (uint32_t i = 0; i < count; i++)
        if (!events[i].deleted)
            enqueue(agent, kind, events[i].entry.key + strlen(agent->action_prefixes[kind]));
    go_soon(agent);
}

static void list_actions(struct agent *agent, enum agent_kind kind, const char *after, int64_t revision);

static void actions_told(struct store_request *request) {
    struct agent *agent = agent_answered(request);
    enum agent_kind kind = agent->listed;
    if (request->outcome != STORE_DONE) {
        agent->relist[kind] = true;
        agent->trouble = request->error;
        trouble(agent, "actions cannot be read");
        retry_soon(agent);
        return;
    }
    const struct store_result *result = &request->results[0];
    int64_t revision = request->revision != 0 ? request->revision : request->now_revision;
    for (uint32_t i = 0; i < result->count; i++)
        enqueue(agent, kind, result->entries[i].key + strlen(agent->action_prefixes[kind]));
    if (request->more) {
        snprintf(agent->after, sizeof(agent->after), "%s", result->entries[result->count - 1].key);
        list_actions(agent, kind, agent->after, revision);
        return;
    }
    agent->action_watches[kind] = (struct store_watch){.key = agent->action_prefixes[kind],
                                                       .prefix = true,
                                                       .from_revision = revision + 1,
                                                       .arg = agent,
                                                       .events = actions_changed,
                                                       .ended = watch_ended};
    store_watch_start(agent->options.store, &agent->action_watches[kind]);
    go_soon(agent);
}

static void list_actions(struct agent *agent, enum agent_kind kind, const char *after, int64_t revision) {
    agent->relist[kind] = false;
    agent->listed = kind;
    store_watch_stop(&agent->action_watches[kind]);
    agent->request = (struct store_request){
        .verb = STORE_RANGE, .key = agent->action_prefixes[kind], .prefix = true, .after = after, .revision = revision};
    agent_submit(agent, actions_told);
}

/* ---- vhosts that were taken, and then nobody asked for anything ---- */

static bool was_suspect(const struct agent *agent, const struct suspect *suspect) {
    for (unsigned i = 0; i < agent->before_count; i++)
        if (agent->before[i].vhost == suspect->vhost && agent->before[i].revision == suspect->revision)
            return true;
    return false;
}

static void reclaim_next(struct agent *agent);

static void reclaimed(struct store_request *request) {
    struct agent *agent = agent_answered(request);
    if (request->outcome == STORE_DONE && request->succeeded)
        log_warning(agent->options.log, LOG_AREA_APP,
                    "agent: vhost %u was taken by port %s, which nobody has plugged: it is free again",
                    agent->suspects[agent->suspect_at].vhost, agent->owners[agent->suspect_at]);
    agent->suspect_at++;
    reclaim_next(agent);
}

/* Only if the port has neither an action nor a bind_port, and nothing has changed since. */
static void reclaim_one(struct agent *agent, unsigned at) {
    const struct suspect *suspect = &agent->suspects[at];
    const struct configuration_nic *nic = configuration_nic_of(&agent->configuration, suspect->vhost);
    static const char *const folders[] = {"action", "bind_port"};
    snprintf(agent->keys[VHOST], KEY_SIZE, ROOT "vhost/%s/%s/%u", agent->options.host, nic->physical_network, suspect->vhost);
    for (unsigned i = 0; i < 2; i++) {
        snprintf(agent->keys[i], KEY_SIZE, ROOT "%s/%s/%s", folders[i], agent->options.host, agent->owners[at]);
        agent->compares[i] = (struct store_compare){
            .key = agent->keys[i], .target = STORE_CREATE_REVISION, .relation = STORE_EQUAL, .revision = 0};
    }
    agent->compares[2] = (struct store_compare){
        .key = agent->keys[VHOST], .target = STORE_MODIFY_REVISION, .relation = STORE_EQUAL, .revision = suspect->revision};
    agent->ops[0] = (struct store_op){.kind = STORE_PUT, .key = agent->keys[VHOST], .value = "None", .value_length = 4};
    agent->request = (struct store_request){
        .verb = STORE_TRANSACT, .compares = agent->compares, .compare_count = 3, .then_ops = agent->ops, .then_count = 1};
    agent_submit(agent, reclaimed);
}

static void reclaim_next(struct agent *agent) {
    for (; agent->suspect_at < agent->suspect_count; agent->suspect_at++)
        if (was_suspect(agent, &agent->suspects[agent->suspect_at])) {
            reclaim_one(agent, agent->suspect_at);
            return;
        }
    memcpy(agent->before, agent->suspects, sizeof(agent->before));
    agent->before_count = agent->suspect_count;
    in_ms(agent, &agent->reclaim_timer, agent->options.reclaim_ms);
    go_soon(agent);
}

/* HOST/NETWORK/VHOST of this host, whose value is a port. */
static void note_suspect(struct agent *agent, const struct store_entry *entry) {
    const char *slash = strrchr(entry->key, '/');
    uint64_t vhost;
    char expected[KEY_SIZE];
    if (agent_is_value(entry, "None") || entry->value_length == 0 || entry->value_length > AGENT_ID_MAX ||
        agent->suspect_count == RECLAIM_MAX || !text_parse_u64(slash + 1, UINT16_MAX, &vhost))
        return;
    const struct configuration_nic *nic = configuration_nic_of(&agent->configuration, (unsigned)vhost);
    if (nic == NULL)
        return;
    snprintf(expected, sizeof(expected), "%s%s/%u", agent->vhost_prefix, nic->physical_network, (unsigned)vhost);
    char *owner = agent->owners[agent->suspect_count];
    snprintf(owner, AGENT_ID_MAX + 1, "%.*s", (int)entry->value_length, (const char *)entry->value);
    if (strcmp(expected, entry->key) == 0 && text_is_name(owner, AGENT_ID_MAX))
        agent->suspects[agent->suspect_count++] = (struct suspect){(unsigned)vhost, entry->modify_revision};
}

static void vhosts_told(struct store_request *request) {
    struct agent *agent = agent_answered(request);
    agent->suspect_count = agent->suspect_at = 0;
    if (request->outcome == STORE_DONE)
        for (uint32_t i = 0; i < request->results[0].count; i++)
            note_suspect(agent, &request->results[0].entries[i]);
    reclaim_next(agent);
}

static void look_at_vhosts(struct agent *agent) {
    agent->reclaim = false;
    agent->request = (struct store_request){.verb = STORE_RANGE, .key = agent->vhost_prefix, .prefix = true};
    agent_submit(agent, vhosts_told);
}

/* ---- the loop ---- */

static void go(struct reactor_job *job) {
    struct agent *agent = container_of(job, struct agent, job);
    agent->job_queued = false;
    if (agent->busy || agent->stopping)
        return;
    if (agent->unleased && agent->lease.store == NULL) {
        agent->unleased = false;
        store_lease_grant(agent->options.store, &agent->lease);
    }
    if (agent->reread) {
        read_configuration(agent);
    } else if (agent->rebuild) {
        build(agent);
    } else if (agent->state != AGENT_RUNNING) {
        return;
    } else if (agent->relist[AGENT_PORT]) {
        list_actions(agent, AGENT_PORT, NULL, 0);
    } else if (agent->relist[AGENT_FLOW]) {
        list_actions(agent, AGENT_FLOW, NULL, 0);
    } else {
        agent->item = next_item(agent);
        if (agent->item != NULL && agent->item->kind == AGENT_PORT)
            begin_port(agent);
        else if (agent->item != NULL)
            agent_flow_begin(agent);
        else if (agent->reclaim)
            look_at_vhosts(agent);
    }
}

static void go_soon(struct agent *agent) {
    if (agent->job_queued || agent->stopping)
        return;
    agent->job_queued = true;
    reactor_defer(agent->options.reactor, &agent->job);
}

static void tick(struct reactor_timer *timer) { go_soon(container_of(timer, struct agent, timer)); }

static void reclaim_tick(struct reactor_timer *timer) {
    struct agent *agent = container_of(timer, struct agent, reclaim_timer);
    agent->reclaim = true;
    if (agent->state != AGENT_RUNNING)
        in_ms(agent, timer, agent->options.reclaim_ms);
    go_soon(agent);
}

/* ---- liveness: a key that goes with us ---- */

struct lease_put {
    struct store_request request;
    struct store_op op;
    struct agent *agent;
};

static void no_lease(struct agent *agent, const char *why) {
    log_warning(agent->options.log, LOG_AREA_APP, "agent: no lease: %s; asking again", why);
    store_lease_end(&agent->lease, false);
    agent->unleased = true;
    retry_soon(agent);
}

static void lease_put_done(struct store_request *request) {
    struct lease_put *put = container_of(request, struct lease_put, request);
    if (request->outcome != STORE_DONE && !put->agent->stopping)
        no_lease(put->agent, request->error.text);
    free(put);
}

static void lease_granted(struct store_lease *lease, const struct error *error) {
    struct agent *agent = lease->arg;
    struct lease_put *put = error == NULL ? calloc(1, sizeof(*put)) : NULL;
    if (put == NULL) {
        no_lease(agent, error != NULL ? error->text : "no memory");
        return;
    }
    snprintf(agent->lease_value, sizeof(agent->lease_value), "{\"agent\": \"penstockd\"}");
    put->agent = agent;
    put->op = (struct store_op){.kind = STORE_PUT,
                                .key = agent->lease_key,
                                .value = agent->lease_value,
                                .value_length = strlen(agent->lease_value),
                                .lease = lease->id};
    put->request = (struct store_request){.verb = STORE_TRANSACT, .then_ops = &put->op, .then_count = 1, .done = lease_put_done};
    store_submit(agent->options.store, &put->request);
}

static void lease_lost(struct store_lease *lease) {
    struct agent *agent = lease->arg;
    log_warning(agent->options.log, LOG_AREA_APP, "agent: the lease has run out; asking for another one");
    store_lease_grant(agent->options.store, lease);
}

/* ---- life ---- */

struct agent *agent_create(const struct agent_options *options) {
    struct agent *agent = calloc(1, sizeof(*agent));
    if (agent == NULL)
        return NULL;
    agent->options = *options;
    if (agent->options.retry_ms == 0)
        agent->options.retry_ms = AGENT_RETRY_MS;
    if (agent->options.reclaim_ms == 0)
        agent->options.reclaim_ms = AGENT_RECLAIM_MS;
    agent->job.run = go;
    agent->timer.run = tick;
    agent->reclaim_timer.run = reclaim_tick;
    agent->lease = (struct store_lease){.ttl_s = options->lease_s, .arg = agent, .granted = lease_granted, .lost = lease_lost};
    list_init(&agent->items);
    list_init(&agent->free_items);
    for (unsigned i = 0; i < AGENT_PORTS_MAX; i++)
        list_push_back(&agent->free_items, &agent->slots[i].node);
    snprintf(agent->configuration_key, PREFIX_SIZE, ROOT "configuration/%s", options->host);
    snprintf(agent->action_prefixes[AGENT_PORT], PREFIX_SIZE, ROOT "action/%s/", options->host);
    snprintf(agent->action_prefixes[AGENT_FLOW], PREFIX_SIZE, ROOT "tap_action/%s/", options->host);
    snprintf(agent->tap_info_prefix, PREFIX_SIZE, ROOT "tap_info/%s/", options->host);
    snprintf(agent->mirror_prefix, PREFIX_SIZE, ROOT "mirror/%s/", options->host);
    snprintf(agent->vhost_prefix, PREFIX_SIZE, ROOT "vhost/%s/", options->host);
    snprintf(agent->lease_key, PREFIX_SIZE, ROOT "agent/%s", options->host);
    return agent;
}

void agent_start(struct agent *agent) {
    agent->reread = true;
    in_ms(agent, &agent->reclaim_timer, agent->options.reclaim_ms);
    go_soon(agent);
}

void agent_stop(struct agent *agent) {
    agent->stopping = true;
    reactor_timer_stop(agent->options.reactor, &agent->timer);
    reactor_timer_stop(agent->options.reactor, &agent->reclaim_timer);
    store_watch_stop(&agent->configuration_watch);
    for (unsigned kind = 0; kind < AGENT_KINDS; kind++)
        store_watch_stop(&agent->action_watches[kind]);
    store_lease_end(&agent->lease, true);
}

void agent_destroy(struct agent *agent) {
    configuration_fini(&agent->configuration);
    free(agent);
}

enum agent_state agent_get_state(const struct agent *agent, const char **ret_trouble) {
    *ret_trouble = agent->trouble.text;
    return agent->state;
}
