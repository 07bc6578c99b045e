#include "control/packet/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/text.h"
#include "control/packet/compile.h"

static const char *const directions[] = {"tx", "rx"}; /* in the order in which they are attached */

static const char *text_of(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

struct planning {
    const json_t *desired, *failed;
    json_t *there; /* a copy, as it will be after the commands so far */
    json_t *commands;
    bool retag;
};

const char *packet_vf_name(const char *id, char to[PLAN_VF_NAME_SIZE]) {
    snprintf(to, PLAN_VF_NAME_SIZE, "vf %.16s", id);
    return to;
}

/* ---- commands ---- */

static void command(struct planning *planning, const char *method, json_t *take_params) {
    json_t *made = json_pack("[so]", method, take_params);
    packet_applied(planning->there, made);
    json_array_append_new(planning->commands, made);
}

static void detach(struct planning *planning, const char *component, const char *port, const char *direction) {
    command(planning, "packet_component_detach",
            json_pack("{ss ss ss}", "component", component, "port", port, "direction", direction));
}

/* The operation on tags alone, of how a port is attached. */
static json_t *vlan_of(const json_t *way) {
    json_t *vlan = json_copy((json_t *)way);
    json_object_del(vlan, "hairpin");
    return vlan;
}

static void retag(struct planning *planning, const char *component, const char *port, const char *direction, const json_t *way) {
    command(planning, "packet_component_set_vlan",
            json_pack("{ss ss ss so}", "component", component, "port", port, "direction", direction, "vlan", vlan_of(way)));
}

/* "MAC/VLAN" and "MAC". */
static json_t *entry_parameters(const char *component, const char *entry, const char *port) {
    char mac[32];
    const char *slash = strchr(entry, '/');
    snprintf(mac, sizeof(mac), "%.*s", slash != NULL ? (int)(slash - entry) : (int)strlen(entry), entry);
    json_t *params = json_pack("{ss ss ss}", "component", component, "mac", mac, "port", port);
    uint64_t vlan;
    if (slash != NULL && text_parse_u64(slash + 1, UINT16_MAX, &vlan))
        json_object_set_new(params, "vlan", json_integer((json_int_t)vlan));
    return params;
}

/* ---- what goes ---- */

/* It is meant to be there, with those cores. */
static bool vf_stays(const struct planning *planning, const char *id) {
    const json_t *desired = json_object_get(json_object_get(planning->desired, "vfs"), id);
    return desired != NULL && json_equal(json_object_get(json_object_get(planning->there, "vfs"), id), (json_t *)desired);
}

/* {"worker"}, or {"vf", "core"} of a vf that stays. */
static bool place_stays(const struct planning *planning, const json_t *place) {
    char id[24];
    const json_t *vf = json_object_get(place, "vf");
    snprintf(id, sizeof(id), "%lld", (long long)json_integer_value(vf));
    return vf == NULL || vf_stays(planning, id);
}

static bool same_port(const json_t *there, const json_t *desired) {
    return strcmp(text_of(there, "kind"), text_of(desired, "kind")) == 0 &&
           strcmp(text_of(there, "where"), compile_where(desired)) == 0;
}

/* It is meant to be there, and as it is. */
static bool port_stays(const struct planning *planning, const char *name) {
    const json_t *desired = json_object_get(json_object_get(planning->desired, "ports"), name);
    const json_t *there = json_object_get(json_object_get(planning->there, "ports"), name);
    return desired != NULL && there != NULL && same_port(there, desired);
}

static void remove_components(struct planning *planning) {
    const char *name;
    json_t *there;
    void *next;
    json_t *components = json_object_get(planning->there, "components");
    json_object_foreach_safe(components, next, name, there) {
        const json_t *desired = json_object_get(json_object_get(planning->desired, "components"), name);
        if (desired == NULL || strcmp(text_of(desired, "type"), text_of(there, "type")) != 0 ||
            !json_equal(json_object_get(desired, "place"), json_object_get(there, "place")) ||
            !place_stays(planning, json_object_get(there, "place")))
            command(planning, "packet_component_delete", json_pack("{ss}", "name", name));
    }
}

static void remove_entries(struct planning *planning, const char *name, const json_t *desired, const json_t *there) {
    json_t *port;
    const char *entry;
    void *next;
    json_t *entries = json_object_get(there, "entries");
    json_object_foreach_safe(entries, next, entry, port) {
        const json_t *meant = json_object_get(json_object_get(desired, "entries"), entry);
        if (meant == NULL || !json_equal((json_t *)meant, port) || !port_stays(planning, json_string_value(port)))
            command(planning, "packet_classifier_delete_entry", entry_parameters(name, entry, json_string_value(port)));
    }
}

static bool turns(const json_t *way) { return json_is_true(json_object_get(way, "hairpin")); }

static void remove_ends(struct planning *planning, const char *name, const json_t *desired, const json_t *there,
                        const char *direction) {
    json_t *vlan;
    const char *port;
    void *next;
    json_t *ends = json_object_get(there, direction);
    json_object_foreach_safe(ends, next, port, vlan) {
        const json_t *meant = json_object_get(json_object_get(desired, direction), port);
        bool stays = meant != NULL && port_stays(planning, port);
        if (stays && json_equal((json_t *)meant, vlan))
            continue;
        if (!stays || !planning->retag || turns(meant) != turns(vlan))
            detach(planning, name, port, direction);
        else
            retag(planning, name, port, direction, meant);
    }
}

static void remove_parts(struct planning *planning) {
    const char *name;
    json_t *there;
    json_object_foreach(json_object_get(planning->there, "components"), name, there) {
        const json_t *desired = json_object_get(json_object_get(planning->desired, "components"), name);
        remove_entries(planning, name, desired, there);
        for (unsigned i = 0; i < 2; i++)
            remove_ends(planning, name, desired, there, directions[i]);
    }
}

static void remove_ports(struct planning *planning) {
    const char *name;
    json_t *port;
    void *next;
    json_t *ports = json_object_get(planning->there, "ports");
    json_object_foreach_safe(ports, next, name, port) if (!port_stays(planning, name))
        command(planning, "packet_port_delete", json_pack("{ss}", "name", name));
}

static json_t *vf_parameters(const char *id, const json_t *more) {
    json_t *params = json_pack("{sI}", "id", (json_int_t)strtoll(id, NULL, 10));
    json_object_update(params, (json_t *)more);
    return params;
}

static void remove_vfs(struct planning *planning) {
    const char *id;
    json_t *vf;
    void *next;
    json_t *vfs = json_object_get(planning->there, "vfs");
    json_object_foreach_safe(vfs, next, id, vf) if (!vf_stays(planning, id))
        command(planning, "packet_vf_delete", vf_parameters(id, NULL));
}

/* ---- what comes ---- */

/* Before all ports: what cannot be had is told by one command. */
static void add_vfs(struct planning *planning) {
    const char *id;
    json_t *vf;
    json_object_foreach(json_object_get(planning->desired, "vfs"), id, vf) {
        char name[PLAN_VF_NAME_SIZE];
        if (json_object_get(json_object_get(planning->there, "vfs"), id) == NULL &&
            json_object_get(planning->failed, packet_vf_name(id, name)) == NULL)
            command(planning, "packet_vf_create", vf_parameters(id, vf));
    }
}

static void add_ports(struct planning *planning) {
    const char *name;
    json_t *port;
    json_object_foreach(json_object_get(planning->desired, "ports"), name, port) {
        if (json_object_get(json_object_get(planning->there, "ports"), name) != NULL ||
            json_object_get(planning->failed, name) != NULL)
            continue;
        json_t *params = json_deep_copy(port);
        json_object_set_new(params, "name", json_string(name));
        command(planning, "packet_port_create", params);
    }
}

/* Before anything is attached: no frame comes by without it. Of strangers too. */
static void set_policies(struct planning *planning) {
    const char *name;
    json_t *port;
    json_object_foreach(json_object_get(planning->there, "ports"), name, port) {
        const json_t *there = json_object_get(json_object_get(planning->there, "policies"), name);
        const json_t *desired = json_object_get(json_object_get(planning->desired, "policies"), name);
        if (desired == NULL ? there == NULL : json_equal((json_t *)there, (json_t *)desired))
            continue;
        json_t *params = json_pack("{ss}", "name", name);
        if (desired != NULL)
            json_object_update(params, (json_t *)desired);
        command(planning, "packet_port_set_policy", params);
    }
}

static void add_components(struct planning *planning) {
    const char *name;
    json_t *component;
    json_object_foreach(json_object_get(planning->desired, "components"), name, component) {
        json_t *place = json_object_get(component, "place");
        if (json_object_get(json_object_get(planning->there, "components"), name) != NULL || !place_stays(planning, place))
            continue;
        json_t *params = json_pack("{ss ss}", "name", name, "type", text_of(component, "type"));
        json_object_update(params, place);
        command(planning, "packet_component_create", params);
    }
}

static void add_ends(struct planning *planning, const char *name, const json_t *component, const char *direction) {
    const json_t *there = json_object_get(json_object_get(planning->there, "components"), name);
    const char *port;
    json_t *vlan;
    json_object_foreach(json_object_get(component, direction), port, vlan) {
        if (there == NULL || json_object_get(json_object_get(there, direction), port) != NULL ||
            json_object_get(json_object_get(planning->there, "ports"), port) == NULL)
            continue;
        json_t *params = json_pack("{ss ss ss}", "component", name, "port", port, "direction", direction);
        if (strcmp(text_of(vlan, "operation"), "none") != 0)
            json_object_set_new(params, "vlan", vlan_of(vlan));
        if (turns(vlan))
            json_object_set_new(params, "hairpin", json_true());
        command(planning, "packet_component_attach", params);
    }
}

/* Those whose port is attached: the plane takes no other. */
static void add_entries(struct planning *planning, const char *name, const json_t *component) {
    const json_t *there = json_object_get(json_object_get(planning->there, "components"), name);
    const char *entry;
    json_t *port;
    json_object_foreach(json_object_get(component, "entries"), entry,
                        port) if (json_object_get(json_object_get(there, "entries"), entry) == NULL &&
                                  json_object_get(json_object_get(there, "tx"), json_string_value(port)) != NULL)
        command(planning, "packet_classifier_add_entry", entry_parameters(name, entry, json_string_value(port)));
}

json_t *packet_plan(const json_t *desired, const json_t *observed, const json_t *failed, bool retag) {
    struct planning planning = {desired, failed, json_deep_copy(observed), json_array(), retag};
    const char *name;
    json_t *component;
    remove_components(&planning);
    remove_parts(&planning);
    remove_ports(&planning);
    remove_vfs(&planning);
    add_vfs(&planning);
    add_ports(&planning);
    set_policies(&planning);
    add_components(&planning);
    for (unsigned i = 0; i < 2; i++)
        json_object_foreach(json_object_get(desired, "components"), name, component)
            add_ends(&planning, name, component, directions[i]);
    json_object_foreach(json_object_get(desired, "components"), name, component) add_entries(&planning, name, component);
    json_decref(planning.there);
    return planning.commands;
}

/* ---- what is there ---- */

/* "MAC/VLAN" or "MAC". */
static void entry_name(const json_t *entry, char to[48]) {
    const json_t *vlan = json_object_get(entry, "vlan");
    if (vlan != NULL)
        snprintf(to, 48, "%.24s/%d", text_of(entry, "mac"), (int)json_integer_value(vlan));
    else
        snprintf(to, 48, "%.24s", text_of(entry, "mac"));
}

size_t packet_plan_leaving(const json_t *commands) {
    size_t count = 0;
    for (size_t i = 0; i < json_array_size(commands); i++) {
        const char *method = json_string_value(json_array_get(json_array_get(commands, i), 0));
        if (strstr(method, "delete") != NULL || strstr(method, "detach") != NULL)
            count = i + 1;
        else if (strcmp(method, "packet_component_set_vlan") != 0) /* of ends that stay: between those of ends that go */
            break;
    }
    return count;
}

void packet_plan_cut(json_t *commands, size_t kept) {
    while (json_array_size(commands) > kept)
        json_array_remove(commands, json_array_size(commands) - 1);
}

static void port_applied(json_t *ports, const char *method, const json_t *params) {
    if (strcmp(method, "packet_port_create") == 0)
        json_object_set_new(ports, text_of(params, "name"),
                            json_pack("{ss ss}", "kind", text_of(params, "kind"), "where", compile_where(params)));
    else if (strcmp(method, "packet_port_delete") == 0)
        json_object_del(ports, text_of(params, "name"));
}

static void policy_applied(json_t *policies, const char *method, const json_t *params) {
    const char *name = text_of(params, "name");
    bool sets = strcmp(method, "packet_port_set_policy") == 0;
    if (sets && json_object_size(params) > 1) {
        json_t *policy = json_copy((json_t *)params);
        json_object_del(policy, "name");
        json_object_set_new(policies, name, policy);
    } else if (sets || strcmp(method, "packet_port_delete") == 0) {
        json_object_del(policies, name);
    }
}

static void vf_applied(json_t *vfs, const char *method, const json_t *params) {
    char id[24];
    snprintf(id, sizeof(id), "%lld", (long long)json_integer_value(json_object_get(params, "id")));
    if (strcmp(method, "packet_vf_create") == 0)
        json_object_set_new(
            vfs, id,
            json_pack("{sO sO}", "core_mask", json_object_get(params, "core_mask"), "share", json_object_get(params, "share")));
    else if (strcmp(method, "packet_vf_delete") == 0)
        json_object_del(vfs, id);
}

/* Of the parameters of a component that is made, or of a worker that is told of. */
static json_t *read_place(const json_t *from) {
    const json_t *vf = json_object_get(from, "vf");
    return vf != NULL ? json_pack("{sO sO}", "vf", vf, "core", json_object_get(from, "core"))
                      : json_pack("{sO?}", "worker", json_object_get(from, "worker"));
}

static void retagged(json_t *ends, const json_t *params) {
    json_t *way = compile_way(params);
    if (turns(json_object_get(ends, text_of(params, "port"))))
        json_object_set_new(way, "hairpin", json_true());
    json_object_set_new(ends, text_of(params, "port"), way);
}

void packet_applied(json_t *observed, const json_t *done) {
    const char *method = json_string_value(json_array_get(done, 0));
    const json_t *params = json_array_get(done, 1);
    json_t *components = json_object_get(observed, "components");
    json_t *component = json_object_get(components, text_of(params, "component"));
    json_t *ends = json_object_get(component, text_of(params, "direction"));
    char entry[48];
    vf_applied(json_object_get(observed, "vfs"), method, params);
    port_applied(json_object_get(observed, "ports"), method, params);
    policy_applied(json_object_get(observed, "policies"), method, params);
    if (strcmp(method, "packet_component_create") == 0)
        json_object_set_new(components, text_of(params, "name"),
                            json_pack("{ss so s{} s{} s{}}", "type", text_of(params, "type"), "place", read_place(params), "rx",
                                      "tx", "entries"));
    else if (strcmp(method, "packet_component_delete") == 0)
        json_object_del(components, text_of(params, "name"));
    else if (strcmp(method, "packet_component_attach") == 0)
        json_object_set_new(ends, text_of(params, "port"), compile_way(params));
    else if (strcmp(method, "packet_component_set_vlan") == 0)
        retagged(ends, params);
    else if (strcmp(method, "packet_component_detach") == 0)
        json_object_del(ends, text_of(params, "port"));
    entry_name(params, entry);
    if (strcmp(method, "packet_classifier_add_entry") == 0)
        json_object_set_new(json_object_get(component, "entries"), entry, json_string(text_of(params, "port")));
    else if (strcmp(method, "packet_classifier_delete_entry") == 0)
        json_object_del(json_object_get(component, "entries"), entry);
}

static json_t *read_ends(const json_t *listed) {
    json_t *ends = json_object(), *end;
    size_t i;
    json_array_foreach((json_t *)listed, i, end) json_object_set_new(ends, text_of(end, "port"), compile_way(end));
    return ends;
}

static json_t *read_entries(const json_t *listed) {
    json_t *entries = json_object(), *entry;
    size_t i;
    json_array_foreach((json_t *)listed, i, entry) {
        char name[48];
        entry_name(entry, name);
        json_object_set_new(entries, name, json_string(text_of(entry, "port")));
    }
    return entries;
}

static json_t *place_of(const json_t *workers, const json_t *number) {
    json_t *worker;
    size_t i;
    json_array_foreach((json_t *)workers, i,
                       worker) if (json_equal(json_object_get(worker, "worker"), (json_t *)number)) return read_place(worker);
    return json_object();
}

json_t *packet_observed(const struct packet_told *told) {
    json_t *observed = json_pack("{s{} s{} s{} s{}}", "vfs", "ports", "policies", "components"), *item;
    const json_t *vfs = told->vfs, *ports = told->ports, *components = told->components;
    size_t i;
    if (observed == NULL || !json_is_array(vfs) || !json_is_array(ports) || !json_is_array(components)) {
        json_decref(observed);
        return NULL;
    }
    json_array_foreach((json_t *)vfs, i, item) vf_applied(json_object_get(observed, "vfs"), "packet_vf_create", item);
    json_array_foreach((json_t *)ports, i, item) {
        json_object_set(json_object_get(observed, "policies"), text_of(item, "name"), json_object_get(item, "policy"));
        json_object_set_new(json_object_get(observed, "ports"), text_of(item, "name"),
                            json_pack("{ss ss}", "kind", text_of(item, "kind"), "where", text_of(item, "where")));
    }
    json_array_foreach((json_t *)components, i, item) {
        const char *name = text_of(item, "name");
        json_object_set_new(json_object_get(observed, "components"), name,
                            json_pack("{ss so so so so}", "type", text_of(item, "type"), "place",
                                      place_of(told->workers, json_object_get(item, "worker")), "rx",
                                      read_ends(json_object_get(item, "rx")), "tx", read_ends(json_object_get(item, "tx")),
                                      "entries", read_entries(json_object_get(told->entries, name))));
    }
    return observed;
}
