#include "agent/nic.h"

#include <stdio.h>
#include <string.h>

#include "agent/tap.h"

enum { HAIRPIN_RING = 60000 }; /* above those of vhosts */

static const char *text_of(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

static bool has_end(const json_t *component, const char *direction, const char *port) {
    size_t i;
    json_t *end;
    json_array_foreach(json_object_get(component, direction), i, end) if (strcmp(text_of(end, "port"), port) == 0) return true;
    return false;
}

/* ---- the NIC's wiring ---- */

/* One component as it is meant to be: {"name", "type", "core", "rx_port": [..], "tx_port": [..]}. */
static json_t *part(const char *name, const char *type, unsigned core) {
    return json_pack("{ss ss si s[] s[]}", "name", name, "type", type, "core", (int)core, "rx_port", "tx_port");
}

static void add_port(json_t *component, const char *side, const char *kind, unsigned number) {
    json_array_append_new(json_object_get(component, side), json_sprintf("%s:%u", kind, number));
}

/* The next core above `core`. */
static unsigned next_core(uint64_t mask, unsigned core) { return (unsigned)__builtin_ctzll(mask & ~((2ULL << core) - 1)); }

static json_t *usual_parts(const struct configuration_nic *nic, unsigned index) {
    json_t *parts = json_array();
    unsigned core = (unsigned)__builtin_ctzll(nic->core_mask);
    json_t *classifier = part("classifier", "classifier", 0), *merger = part("merger", "merge", 0);
    for (unsigned vhost = nic->first_vhost; vhost < nic->first_vhost + nic->num_vhost; vhost++) {
        char name[32];
        snprintf(name, sizeof(name), "forward_%u_tx", vhost);
        json_t *to = part(name, "forward", core = next_core(nic->core_mask, core));
        add_port(to, "rx_port", "ring", 2 * vhost);
        add_port(to, "tx_port", "vhost", vhost);
        snprintf(name, sizeof(name), "forward_%u_rx", vhost);
        json_t *from = part(name, "forward", core = next_core(nic->core_mask, core));
        add_port(from, "rx_port", "vhost", vhost);
        add_port(from, "tx_port", "ring", 2 * vhost + 1);
        add_port(classifier, "tx_port", "ring", 2 * vhost);
        add_port(merger, "rx_port", "ring", 2 * vhost + 1);
        json_array_append_new(parts, to);
        json_array_append_new(parts, from);
    }
    core = next_core(nic->core_mask, core);
    json_object_set_new(classifier, "core", json_integer((json_int_t)core));
    json_object_set_new(merger, "core", json_integer((json_int_t)next_core(nic->core_mask, core)));
    add_port(classifier, "rx_port", "phy", index);
    add_port(merger, "tx_port", "phy", index);
    json_array_append_new(parts, classifier);
    json_array_append_new(parts, merger);
    return parts;
}

static bool attach_all(json_t *wiring, const struct configuration *configuration, const char *key, const json_t *meant,
                       const char *direction, struct error *error) {
    const char *name = text_of(meant, "name");
    const json_t *ports = json_object_get(meant, direction[0] == 'r' ? "rx_port" : "tx_port");
    size_t i;
    json_t *port;
    json_array_foreach((json_t *)ports, i, port) {
        const char *text = json_is_string(port) ? json_string_value(port) : "";
        if (!has_end(wiring_component(wiring_process(wiring, key), name), direction,
                     tap_port(wiring, configuration, text, direction)) &&
            !wiring_attach(wiring, key, name, text, direction, NULL, error))
            return false;
    }
    return true;
}

static bool has_core(const json_t *process, const json_t *core) {
    size_t i;
    json_t *there;
    json_array_foreach(json_object_get(process, "cores"), i, there) if (json_equal(there, core)) return true;
    return false;
}

/* What is meant no more cannot stay where its core is the NIC's no more. */
static bool drop_homeless(json_t *wiring, const char *key, const json_t *parts, struct error *error) {
    json_t *process = wiring_process(wiring, key), *components = json_object_get(process, "components"), *meant;
    for (size_t at = json_array_size(components); at-- > 0;) {
        const json_t *there = json_array_get(components, at);
        bool stays = has_core(process, json_object_get(there, "core"));
        char name[WIRING_NAME_MAX + 1];
        size_t i;
        snprintf(name, sizeof(name), "%s", text_of(there, "name"));
        json_array_foreach((json_t *)parts, i, meant) stays = stays || strcmp(text_of(meant, "name"), name) == 0;
        if (!stays && !wiring_remove_component(wiring, key, name, error))
            return false;
    }
    return true;
}

static bool is_vhost_end(const json_t *meant, const char *side) {
    const char *port = json_string_value(json_array_get(json_object_get(meant, side), 0));
    return port != NULL && strncmp(port, "vhost:", 6) == 0;
}

/* What taps had put between goes from beside vhosts, when taps have gone. */
static bool drop_rings(json_t *wiring, const char *key, const json_t *meant, const char *side, struct error *error) {
    const char *name = text_of(meant, "name"), *direction = side[0] == 'r' ? "rx" : "tx";
    const json_t *ends = json_object_get(wiring_component(wiring_process(wiring, key), name), direction);
    for (size_t i = json_array_size(ends); i-- > 0;) {
        char port[WIRING_PORT_MAX + 1];
        json_t *stays;
        size_t at;
        bool goes = true;
        snprintf(port, sizeof(port), "%s", text_of(json_array_get(ends, i), "port"));
        json_array_foreach(json_object_get(meant, side), at, stays) goes =
            goes && strcmp(json_is_string(stays) ? json_string_value(stays) : "", port) != 0;
        if (goes && strncmp(port, "ring:", 5) == 0 && !wiring_detach(wiring, key, name, port, direction, error))
            return false;
    }
    return true;
}

/* Who writes to a vhost merges where copies of taps can come, too. */
static void set_type(const struct configuration *configuration, const json_t *meant, json_t *there) {
    const char *type = is_vhost_end(meant, "tx_port") && configuration->mirror_count > 0 ? "merge" : "forward";
    if (strcmp(text_of(meant, "type"), "forward") == 0 && json_array_size(json_object_get(there, "rx")) <= 1 &&
        (strcmp(text_of(there, "type"), "forward") == 0 || strcmp(text_of(there, "type"), "merge") == 0))
        json_object_set_new(there, "type", json_string(type));
}

static bool build_part(json_t *wiring, const struct configuration *configuration, const char *key, const json_t *meant,
                       struct error *error) {
    const char *name = text_of(meant, "name");
    const json_t *core = json_object_get(meant, "core");
    json_t *there = wiring_component(wiring_process(wiring, key), name);
    if (!json_is_integer(core) || json_integer_value(core) < 0 || json_integer_value(core) >= WIRING_CORES_MAX)
        return error_invalid(error, "components.core", name, "a core below 64 for each component");
    if (there == NULL &&
        !wiring_add_component(wiring, key, name, (unsigned)json_integer_value(core), text_of(meant, "type"), error))
        return false;
    if (there != NULL) { /* the mask may have changed */
        if (!has_core(wiring_process(wiring, key), core))
            return error_invalid(error, "components.core", name, "one of the NIC's cores but the lowest");
        json_object_set(there, "core", (json_t *)core);
    }
    set_type(configuration, meant, wiring_component(wiring_process(wiring, key), name));
    return attach_all(wiring, configuration, key, meant, "tx", error) &&
           attach_all(wiring, configuration, key, meant, "rx", error);
}

/* The process has these cores, also if it had others. */
static bool need_process(json_t *wiring, unsigned id, const struct configuration_nic *nic, const char *key, struct error *error) {
    struct wiring_process new = {.type = "vf", .id = id, .cores = nic->core_mask, .vhost_client = true};
    json_t *there = json_incref(wiring_process(wiring, key));
    if (there != NULL)
        json_object_del(json_object_get(wiring, "processes"), key);
    bool ok = wiring_add_process(wiring, &new, error);
    if (ok && there != NULL) {
        json_t *made = wiring_process(wiring, key);
        json_object_set(made, "components", json_object_get(there, "components"));
        json_object_set(made, "table", json_object_get(there, "table"));
    }
    json_decref(there);
    return ok;
}

static bool set_hairpin(json_t *wiring, const char *key, unsigned index, bool on, struct error *error) {
    static const char *const ends[][2] = {{"merger", "tx"}, {"classifier", "rx"}};
    static const struct wiring_way turns = {.operation = "none", .hairpin = true};
    char ring[24];
    bool ok = true;
    snprintf(ring, sizeof(ring), "ring:%u", HAIRPIN_RING + index);
    for (unsigned i = 0; i < 2 && ok; i++) {
        bool there = has_end(wiring_component(wiring_process(wiring, key), ends[i][0]), ends[i][1], ring);
        if (on && !there)
            ok = wiring_attach(wiring, key, ends[i][0], ring, ends[i][1], &turns, error);
        else if (!on && there)
            ok = wiring_detach(wiring, key, ends[i][0], ring, ends[i][1], error);
    }
    return ok;
}

bool nic_build(json_t *wiring, const struct configuration *configuration, bool hairpin, struct error *error) {
    bool untapped;
    if (!tap_drop_stale(wiring, configuration, &untapped, error))
        return false;
    for (unsigned i = 0; i < configuration->nic_count; i++) {
        const struct configuration_nic *nic = &configuration->nics[i];
        char key[24];
        json_t *meant;
        size_t at;
        if (!need_process(wiring, i + 1, nic, wiring_key("vf", i + 1, key), error))
            return false;
        json_t *parts = nic->components != NULL ? json_deep_copy(nic->components) : usual_parts(nic, i);
        bool ok = parts != NULL || error_set(error, ERROR_NO_MEMORY, "no memory");
        ok = ok && drop_homeless(wiring, key, parts, error);
        json_array_foreach(parts, at, meant) {
            ok = ok && (!untapped || !is_vhost_end(meant, "tx_port") || drop_rings(wiring, key, meant, "rx_port", error));
            ok = ok && (!untapped || !is_vhost_end(meant, "rx_port") || drop_rings(wiring, key, meant, "tx_port", error));
            ok = ok && build_part(wiring, configuration, key, meant, error);
        }
        ok = ok && (nic->components != NULL || set_hairpin(wiring, key, i, hairpin, error));
        json_decref(parts);
        if (!ok)
            return false;
    }
    return tap_build(wiring, configuration, error);
}

/* ---- ports ---- */

unsigned nic_vf(const struct configuration *configuration, unsigned vhost) {
    const struct configuration_nic *nic = configuration_nic_of(configuration, vhost);
    return nic == NULL ? 0 : (unsigned)(nic - configuration->nics) + 1;
}

/* Where a vhost is on its way in and out. */
struct way {
    char key[24];
    const char *classifier, *output; /* the classifier's port that leads to it */
    const char *reader;              /* the component that reads the vhost */
    char vhost[24];
};

/* The port leads to the vhost: it is it, or a component moves frames from the one to the other, past taps. */
static bool leads_to(const json_t *wiring, const struct configuration *configuration, const json_t *process, const char *port,
                     const char *vhost) {
    size_t i;
    json_t *component;
    if (strcmp(port, vhost) == 0)
        return true;
    port = tap_port(wiring, configuration, port, "rx");
    json_array_foreach(json_object_get(process, "components"), i,
                       component) if (has_end(component, "rx", port) && has_end(component, "tx", vhost)) return true;
    return false;
}

static bool find_way(const json_t *wiring, const struct configuration *configuration, unsigned vhost, struct way *ret,
                     struct error *error) {
    const struct configuration_nic *nic = configuration_nic_of(configuration, vhost);
    char value[16];
    size_t i, e;
    json_t *component, *end;
    snprintf(value, sizeof(value), "%u", vhost);
    if (nic == NULL)
        return error_invalid(error, "vhost_id", value, "below %u, which is how many this host has", configuration->vhost_count);
    *ret = (struct way){0};
    wiring_key("vf", (unsigned)(nic - configuration->nics) + 1, ret->key);
    snprintf(ret->vhost, sizeof(ret->vhost), "vhost:%u", vhost);
    const json_t *process = wiring_process(wiring, ret->key);
    json_array_foreach(json_object_get(process, "components"), i, component) {
        if (has_end(component, "rx", ret->vhost))
            ret->reader = text_of(component, "name");
        if (strcmp(text_of(component, "type"), "classifier") != 0)
            continue;
        json_array_foreach(json_object_get(component, "tx"), e,
                           end) if (leads_to(wiring, configuration, process, text_of(end, "port"), ret->vhost)) {
            ret->classifier = text_of(component, "name");
            ret->output = text_of(end, "port");
        }
    }
    return (ret->reader != NULL && ret->classifier != NULL) ||
           error_set(error, ERROR_NOT_FOUND, "%s: no classifier leads to %s, or nothing reads it", ret->key, ret->vhost);
}

/* All that lead to this port, but the one that is meant (mac NULL = none is). True: that one was there. */
static bool clear_entries(json_t *wiring, const char *key, const char *port, const char *mac, int vlan) {
    json_t *table = json_object_get(wiring_process(wiring, key), "table");
    bool found = false;
    for (size_t i = json_array_size(table); i-- > 0;) {
        const json_t *entry = json_array_get(table, i), *vid = json_object_get(entry, "vlan");
        if (strcmp(text_of(entry, "port"), port) != 0)
            continue;
        if (mac != NULL && strcmp(text_of(entry, "mac"), mac) == 0 &&
            (vid == NULL ? WIRING_UNTAGGED : (int)json_integer_value(vid)) == vlan)
            found = true;
        else
            json_array_remove(table, i);
    }
    return found;
}

static bool same_tags(const json_t *component, const char *direction, const char *port, const struct wiring_way *vlan) {
    size_t i;
    json_t *end;
    json_array_foreach(json_object_get(component, direction), i, end) if (strcmp(text_of(end, "port"), port) == 0) {
        const json_t *there = json_object_get(end, "vlan");
        if (there == NULL)
            return strcmp(vlan->operation, "none") == 0;
        return strcmp(text_of(there, "operation"), vlan->operation) == 0 &&
               json_integer_value(json_object_get(there, "id")) == (json_int_t)vlan->id;
    }
    return false;
}

/* What is done to tags there, and nothing else of it. */
static bool retag(json_t *wiring, const char *key, const char *component, const char *direction, const char *port,
                  const struct wiring_way *vlan, struct error *error) {
    return same_tags(wiring_component(wiring_process(wiring, key), component), direction, port, vlan) ||
           (wiring_detach(wiring, key, component, port, direction, error) &&
            wiring_attach(wiring, key, component, port, direction, vlan, error));
}

static bool set_tags(json_t *wiring, const struct way *way, int vlan, struct error *error) {
    struct wiring_way none = {.operation = "none"}, push = {.operation = "add", .id = (unsigned)vlan}, pop = {.operation = "del"};
    bool flat = vlan == WIRING_UNTAGGED;
    return retag(wiring, way->key, way->reader, "rx", way->vhost, flat ? &none : &push, error) &&
           retag(wiring, way->key, way->classifier, "tx", way->output, flat ? &none : &pop, error);
}

bool nic_plug(json_t *wiring, const struct configuration *configuration, unsigned vhost, const char *mac, int vlan,
              struct error *error) {
    struct way way;
    char output[WIRING_PORT_MAX + 1], classifier[WIRING_NAME_MAX + 1], reader[WIRING_NAME_MAX + 1], kept[24];
    if (mac != NULL && !wiring_normalize_mac(mac, "mac_address", kept, error))
        return false;
    if (!find_way(wiring, configuration, vhost, &way, error))
        return false;
    /* The texts are the wiring's, which changes. */
    snprintf(output, sizeof(output), "%s", way.output);
    snprintf(classifier, sizeof(classifier), "%s", way.classifier);
    snprintf(reader, sizeof(reader), "%s", way.reader);
    way.output = output;
    way.classifier = classifier;
    way.reader = reader;
    bool there = clear_entries(wiring, way.key, output, mac != NULL ? kept : NULL, vlan);
    return set_tags(wiring, &way, vlan, error) && tap_retag(wiring, configuration, vhost, error) &&
           (mac == NULL || there || wiring_add_entry(wiring, way.key, kept, vlan, output, error));
}

bool nic_unplug(json_t *wiring, const struct configuration *configuration, unsigned vhost, struct error *error) {
    return tap_unplug_vhost(wiring, configuration, vhost, error) &&
           nic_plug(wiring, configuration, vhost, NULL, WIRING_UNTAGGED, error);
}
