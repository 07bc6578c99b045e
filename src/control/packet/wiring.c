#include "control/packet/wiring.h"

#include <stdio.h>
#include <string.h>

#include "base/text.h"

static const char *const process_types[] = {"vf", "mirror", "nfv", "pcap", "primary"};
static const char *const port_kinds[] = {"phy", "vhost", "ring", "pcap", "nullpmd", "tap", "memif", "pipe"};
static const char *const directions[] = {"rx", "tx"};

static bool one_of(const char *word, const char *const *words, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (strcmp(word, words[i]) == 0)
            return true;
    return false;
}

static const char *text_of(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

static unsigned number_of(const json_t *object, const char *key) {
    return (unsigned)json_integer_value(json_object_get(object, key));
}

static bool no_memory(struct error *error) { return error_set(error, ERROR_NO_MEMORY, "no memory"); }

/* Takes the value; false: no memory. */
static bool append(json_t *array, json_t *take_value, struct error *error) {
    return json_array_append_new(array, take_value) == 0 || no_memory(error);
}

json_t *wiring_create(void) { return json_pack("{s{} s{} s{}}", "processes", "ports", "policies"); }

const char *wiring_key(const char *type, unsigned id, char to[24]) {
    snprintf(to, 24, "%.12s:%u", type, id);
    return to;
}

json_t *wiring_process(const json_t *wiring, const char *key) {
    return json_object_get(json_object_get(wiring, "processes"), key);
}

static json_t *need_process(const json_t *wiring, const char *key, struct error *error) {
    json_t *process = wiring_process(wiring, key);
    if (process == NULL)
        error_set(error, ERROR_NO_DEVICE, "there is no process %s", key);
    return process;
}

json_t *wiring_component(const json_t *process, const char *name) {
    size_t i;
    json_t *component;
    json_array_foreach(json_object_get(process, "components"), i,
                       component) if (strcmp(text_of(component, "name"), name) == 0) return component;
    return NULL;
}

/* ---- ports' names ---- */

bool wiring_check_port(const char *name, const char *field, struct error *error) {
    const char *colon = strchr(name, ':');
    char kind[12];
    uint64_t number;
    if (strlen(name) <= WIRING_PORT_MAX && colon != NULL && (size_t)(colon - name) < sizeof(kind)) {
        snprintf(kind, sizeof(kind), "%.*s", (int)(colon - name), name);
        if (one_of(kind, port_kinds, array_count(port_kinds))) {
            /* No leading zeros, nor hexadecimal: a port has one name. */
            if (text_parse_u64(colon + 1, 65535, &number) && (colon[1] != '0' || colon[2] == '\0'))
                return true;
            if (strcmp(kind, "phy") == 0 && strstr(colon, "nq") != NULL)
                return error_invalid(error, field, name, "a port without a queue: each port has one here");
        }
    }
    return error_invalid(error, field, name, "phy, vhost, ring, pcap, nullpmd, tap, memif or pipe, with :NUMBER");
}

unsigned wiring_port_number(const char *name) {
    const char *colon = strchr(name, ':');
    uint64_t number = 0;
    return colon != NULL && text_parse_u64(colon + 1, UINT32_MAX, &number) ? (unsigned)number : 0;
}

bool wiring_check_port_options(const char *name, const json_t *options, struct error *error) {
    static const char *const kinds[] = {"af_packet", "af_xdp", "tap", "pci", "vhost_user", "memif", "ring", "null", "pcap"};
    static const struct {
        const char *name;
        int type; /* of JSON; -1 = bool */
    } members[] = {{"kind", JSON_STRING},    {"interface", JSON_STRING},
                   {"device", JSON_STRING},  {"socket", JSON_STRING},
                   {"rx_file", JSON_STRING}, {"tx_file", JSON_STRING},
                   {"id", JSON_INTEGER},     {"size", JSON_INTEGER},
                   {"client", -1},           {"server", -1},
                   {"generate", -1}};
    const char *key;
    json_t *value;
    if (!wiring_check_port(name, "port", error))
        return false;
    if (!json_is_object(options) || !one_of(text_of(options, "kind"), kinds, array_count(kinds)))
        return error_invalid(error, "kind", text_of(options, "kind"),
                             "af_packet, af_xdp, tap, pci, vhost_user, memif, ring, null or pcap");
    json_object_foreach((json_t *)options, key, value) {
        bool ok = false;
        for (size_t i = 0; i < array_count(members); i++)
            if (strcmp(members[i].name, key) == 0)
                ok = members[i].type == -1 ? json_is_boolean(value) : (int)json_typeof(value) == members[i].type;
        if (!ok)
            return error_invalid(error, key, "",
                                 "interface, device, socket, rx_file, tx_file (texts), id, size (numbers), client, server or "
                                 "generate (true or false)");
    }
    if (strcmp(text_of(options, "kind"), "pci") == 0 && !text_is_pci_address(text_of(options, "device")))
        return error_invalid(error, "device", text_of(options, "device"), "an address such as 0000:03:00.0");
    return true;
}

/* ---- cores ---- */

bool wiring_parse_mask(const char *text, uint64_t *ret_mask) {
    uint64_t mask = 0;
    if (text[0] == '0' && (text[1] | 32) == 'x')
        text += 2;
    size_t length = strlen(text);
    if (length == 0 || length > 16)
        return false;
    for (; *text != '\0'; text++) {
        char c = (char)(*text | 32);
        if (!(*text >= '0' && *text <= '9') && !(c >= 'a' && c <= 'f'))
            return false;
        mask = mask << 4 | (uint64_t)(*text <= '9' ? *text - '0' : c - 'a' + 10);
    }
    *ret_mask = mask;
    return mask != 0;
}

bool wiring_parse_cores(const char *text, uint64_t *ret_mask) {
    uint64_t mask = 0;
    for (;;) {
        char word[24];
        size_t length = strcspn(text, ",");
        uint64_t first, last;
        if (length == 0 || length >= sizeof(word))
            return false;
        snprintf(word, sizeof(word), "%.*s", (int)length, text);
        char *dash = strchr(word, '-');
        if (dash != NULL)
            *dash++ = '\0';
        if (!text_parse_u64(word, WIRING_CORES_MAX - 1, &first) ||
            !(dash == NULL ? (last = first, true) : text_parse_u64(dash, WIRING_CORES_MAX - 1, &last)) || last < first)
            return false;
        for (uint64_t core = first; core <= last; core++)
            mask |= 1ULL << core;
        text += length;
        if (*text == '\0')
            break;
        text++;
    }
    *ret_mask = mask;
    return true;
}

/* ---- processes ---- */

static uint64_t workers_of(const json_t *process) {
    uint64_t mask = 0;
    size_t i;
    json_t *core;
    json_array_foreach(json_object_get(process, "cores"), i, core) mask |= 1ULL << (json_integer_value(core) & 63);
    return mask;
}

static bool has_components(const json_t *process) { return json_object_get(process, "components") != NULL; }

static bool is_forwarder(const char *type) { return strcmp(type, "nfv") == 0 || strcmp(type, "primary") == 0; }

/* Another process's workers. */
static bool check_overlap(const json_t *wiring, const struct wiring_process *new, uint64_t workers, struct error *error) {
    const char *key;
    json_t *process;
    json_object_foreach(json_object_get(wiring, "processes"), key, process) {
        uint64_t both = workers_of(process) & workers;
        if (both != 0 && !new->shared) {
            char value[24];
            snprintf(value, sizeof(value), "0x%llx", (unsigned long long)new->cores);
            return error_invalid(error, "cores", value, "cores of its own: core %u is %s's", (unsigned)__builtin_ctzll(both),
                                 key);
        }
    }
    return true;
}

static json_t *make_process(const struct wiring_process *new, uint64_t workers, unsigned master) {
    json_t *cores = json_array();
    for (unsigned core = 0; core < WIRING_CORES_MAX; core++)
        if ((workers >> core & 1) != 0)
            json_array_append_new(cores, json_integer((json_int_t)core));
    json_t *process = json_pack("{ss si si so sb}", "type", new->type, "id", (int)new->id, "master", (int)master, "cores", cores,
                                "vhost_client", new->vhost_client);
    if (process == NULL)
        return NULL;
    if (strcmp(new->type, "vf") == 0 || strcmp(new->type, "mirror") == 0)
        json_object_set_new(process, "components", json_array());
    if (strcmp(new->type, "vf") == 0)
        json_object_set_new(process, "table", json_array());
    if (is_forwarder(new->type)) {
        json_object_set_new(process, "ports", json_array());
        json_object_set_new(process, "pipes", json_object());
        json_object_set_new(process, "patches", json_array());
    }
    if (!has_components(process))
        json_object_set_new(process, "running", json_false());
    return process;
}

bool wiring_add_process(json_t *wiring, const struct wiring_process *new, struct error *error) {
    char key[24], id[16];
    json_t *processes = json_object_get(wiring, "processes");
    bool primary = strcmp(new->type, "primary") == 0;
    if (!one_of(new->type, process_types, array_count(process_types)))
        return error_invalid(error, "type", new->type, "vf, mirror, nfv, pcap or primary");
    snprintf(id, sizeof(id), "%u", new->id);
    if (primary ? new->id != 0 : (new->id == 0 || new->id > WIRING_ID_MAX))
        return error_invalid(error, "id", id, "1 to %d", WIRING_ID_MAX);
    if (new->cores == 0)
        return error_invalid(error, "cores", "0", "at least one core");
    const char *other;
    json_t *process;
    json_object_foreach(processes, other, process) if (!primary && number_of(process, "id") == new->id) return error_set(
        error, ERROR_EXISTS, "process id %u is %s's already", new->id, other);
    if (wiring_process(wiring, wiring_key(new->type, new->id, key)) != NULL)
        return error_set(error, ERROR_EXISTS, "there is a process %s already", key);
    if (json_object_size(processes) == WIRING_PROCESSES_MAX)
        return error_set(error, ERROR_NO_MEMORY, "there are %d processes already: no more", WIRING_PROCESSES_MAX);
    unsigned master = (unsigned)__builtin_ctzll(new->cores);
    uint64_t workers = new->cores & ~(1ULL << master);
    if (!check_overlap(wiring, new, workers, error))
        return false;
    return json_object_set_new(processes, key, make_process(new, workers, master)) == 0 || no_memory(error);
}

bool wiring_remove_process(json_t *wiring, const char *key, struct error *error) {
    return need_process(wiring, key, error) != NULL && json_object_del(json_object_get(wiring, "processes"), key) == 0;
}

/* ---- components ---- */

static unsigned ends_max(const char *type, const char *direction) {
    bool rx = strcmp(direction, "rx") == 0;
    if (strcmp(type, "merge") == 0)
        return rx ? WIRING_ENDS_MAX : 1;
    if (strcmp(type, "classifier") == 0)
        return rx ? 1 : WIRING_ENDS_MAX;
    if (strcmp(type, "mirror") == 0)
        return rx ? 1 : 2;
    return 1;
}

/* "classifier_mac" is its name from before 2019. */
static const char *component_type(const char *type) { return strcmp(type, "classifier_mac") == 0 ? "classifier" : type; }

static bool check_component_type(const char *process_type, const char *type, struct error *error) {
    static const char *const types[] = {"forward", "merge", "classifier"};
    if (strcmp(process_type, "mirror") == 0)
        return strcmp(type, "mirror") == 0 || error_invalid(error, "type", type, "mirror");
    return one_of(type, types, array_count(types)) || error_invalid(error, "type", type, "forward, merge or classifier");
}

static bool check_component(const json_t *process, const char *name, unsigned core, const char *type, struct error *error) {
    char value[16];
    snprintf(value, sizeof(value), "%u", core);
    if (!text_is_name(name, WIRING_NAME_MAX))
        return error_invalid(error, "name", name, "1 to %d printable characters without blanks and /", WIRING_NAME_MAX);
    if (!check_component_type(text_of(process, "type"), type, error))
        return false;
    if (core == number_of(process, "master"))
        return error_invalid(error, "core", value, "another one: core %u is the master", core);
    if (core >= WIRING_CORES_MAX || (workers_of(process) >> core & 1) == 0)
        return error_invalid(error, "core", value, "one of the process's cores");
    return true;
}

bool wiring_add_component(json_t *wiring, const char *key, const char *name, unsigned core, const char *type,
                          struct error *error) {
    json_t *process = need_process(wiring, key, error);
    if (process == NULL)
        return false;
    if (!has_components(process))
        return error_invalid(error, "process", key, "a vf or mirror");
    type = component_type(type);
    if (!check_component(process, name, core, type, error))
        return false;
    if (wiring_component(process, name) != NULL)
        return error_set(error, ERROR_EXISTS, "name: there is a component %s already", name);
    json_t *components = json_object_get(process, "components");
    if (json_array_size(components) == WIRING_COMPONENTS_MAX)
        return error_set(error, ERROR_NO_MEMORY, "%s has %d components already: no more", key, WIRING_COMPONENTS_MAX);
    return append(components, json_pack("{ss ss si s[] s[]}", "name", name, "type", type, "core", (int)core, "rx", "tx"), error);
}

static size_t find_end(const json_t *component, const char *direction, const char *port) {
    size_t i;
    json_t *end;
    json_array_foreach(json_object_get(component, direction), i, end) if (strcmp(text_of(end, "port"), port) == 0) return i;
    return SIZE_MAX;
}

bool wiring_remove_component(json_t *wiring, const char *key, const char *name, struct error *error) {
    json_t *process = need_process(wiring, key, error), *components = json_object_get(process, "components");
    if (process == NULL)
        return false;
    if (components == NULL)
        return error_invalid(error, "process", key, "a vf or mirror");
    json_t *component = wiring_component(process, name), *table = json_object_get(process, "table"), *there;
    if (component == NULL)
        return true;
    if (strcmp(text_of(component, "type"), "classifier") == 0)
        for (size_t i = json_array_size(table); i-- > 0;)
            if (find_end(component, "tx", text_of(json_array_get(table, i), "port")) != SIZE_MAX)
                json_array_remove(table, i);
    size_t i;
    json_array_foreach(components, i, there) if (there == component) {
        json_array_remove(components, i);
        break;
    }
    return true;
}

/* ---- what is attached ---- */

/* Who has the port in that direction; "" = nobody. A pipe's ends are those of its rings. */
static const char *user_of(const json_t *wiring, const char *port, const char *direction, const char **ret_component) {
    const char *key;
    json_t *process, *component;
    size_t i;
    json_object_foreach(json_object_get(wiring, "processes"), key, process) json_array_foreach(
        json_object_get(process, "components"), i, component) if (find_end(component, direction, port) != SIZE_MAX) {
        *ret_component = text_of(component, "name");
        return key;
    }
    return "";
}

static bool check_way(const struct wiring_way *way, const char *type, const char *direction, struct error *error) {
    static const char *const operations[] = {"none", "add", "del"};
    char value[16];
    if (!one_of(way->operation, operations, array_count(operations)))
        return error_invalid(error, "vlan.operation", way->operation, "none, add or del");
    snprintf(value, sizeof(value), "%u", way->id);
    if (strcmp(way->operation, "add") == 0 && way->id > 4095)
        return error_invalid(error, "vlan.id", value, "0 to 4095");
    snprintf(value, sizeof(value), "%u", way->pcp);
    if (strcmp(way->operation, "add") == 0 && way->pcp > 7)
        return error_invalid(error, "vlan.pcp", value, "0 to 7");
    if (way->hairpin && strcmp(type, direction[0] == 't' ? "merge" : "classifier") != 0)
        return error_invalid(error, "hairpin", "true", "false: only a merge's tx and a classifier's rx can be that");
    return true;
}

static json_t *need_component(json_t *wiring, const char *key, const char *name, json_t **ret_process, struct error *error) {
    json_t *process = *ret_process = need_process(wiring, key, error), *component = NULL;
    if (process != NULL && (component = wiring_component(process, name)) == NULL)
        error_set(error, ERROR_NO_DEVICE, "name: %s has no component %s", key, name);
    return component;
}

/* What it is made of is known. */
static bool check_made(const json_t *wiring, const char *port, struct error *error) {
    if (strncmp(port, "phy:", 4) == 0 && json_object_get(json_object_get(wiring, "ports"), port) == NULL)
        return error_invalid(error, "port", port, "a port that is there: nobody has said which interface %s is", port);
    if (strncmp(port, "pipe:", 5) == 0) {
        const char *key;
        json_t *process;
        json_object_foreach(json_object_get(wiring, "processes"), key,
                            process) if (json_object_get(json_object_get(process, "pipes"), port) != NULL) return true;
        return error_invalid(error, "port", port, "a pipe that the primary has made");
    }
    return true;
}

static unsigned count_ends(const json_t *ends, bool hairpin) {
    unsigned count = 0;
    json_t *end;
    size_t i;
    json_array_foreach((json_t *)ends, i, end) count += json_is_true(json_object_get(end, "hairpin")) == hairpin;
    return count;
}

static bool attach(json_t *wiring, const char *key, const char *name, const char *port, const char *direction,
                   const struct wiring_way *way, struct error *error) {
    const char *user = "";
    json_t *process, *component = need_component(wiring, key, name, &process, error);
    if (component == NULL || !wiring_check_port(port, "port", error))
        return false;
    if (!one_of(direction, directions, 2))
        return error_invalid(error, "dir", direction, "rx or tx");
    if (!check_way(way, text_of(component, "type"), direction, error))
        return false;
    const char *used_by = user_of(wiring, port, direction, &user);
    if (used_by[0] != '\0')
        return error_set(error, used_by == key || strcmp(used_by, key) == 0 ? ERROR_EXISTS : ERROR_BUSY,
                         "port: %s is the %s of %s in %s already", port, direction, user, used_by);
    json_t *ends = json_object_get(component, direction);
    unsigned most = way->hairpin ? 1 : ends_max(text_of(component, "type"), direction);
    if (count_ends(ends, way->hairpin) >= most)
        return error_set(error, ERROR_BUSY, "port: %s has %u %s port%s already, which is all it can have", name, most, direction,
                         most == 1 ? "" : "s");
    json_t *end = json_pack("{ss}", "port", port);
    if (end != NULL && strcmp(way->operation, "add") == 0)
        json_object_set_new(end, "vlan", json_pack("{ss si si}", "operation", "add", "id", (int)way->id, "pcp", (int)way->pcp));
    else if (end != NULL && strcmp(way->operation, "del") == 0)
        json_object_set_new(end, "vlan", json_pack("{ss}", "operation", "del"));
    if (end != NULL && way->hairpin)
        json_object_set_new(end, "hairpin", json_true());
    return append(ends, end, error);
}

bool wiring_attach(json_t *wiring, const char *key, const char *name, const char *port, const char *direction,
                   const struct wiring_way *way, struct error *error) {
    static const struct wiring_way none = {.operation = "none"};
    json_t *process;
    return need_component(wiring, key, name, &process, error) != NULL && wiring_check_port(port, "port", error) &&
           check_made(wiring, port, error) && attach(wiring, key, name, port, direction, way != NULL ? way : &none, error);
}

bool wiring_detach(json_t *wiring, const char *key, const char *name, const char *port, const char *direction,
                   struct error *error) {
    json_t *process, *component = need_component(wiring, key, name, &process, error);
    if (component == NULL || !wiring_check_port(port, "port", error))
        return false;
    if (!one_of(direction, directions, 2))
        return error_invalid(error, "dir", direction, "rx or tx");
    size_t at = find_end(component, direction, port);
    if (at == SIZE_MAX)
        return error_set(error, ERROR_NOT_FOUND, "port: %s is not a %s port of %s", port, direction, name);
    return json_array_remove(json_object_get(component, direction), at) == 0;
}

/* ---- entries ---- */

static int hex(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 32);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool wiring_normalize_mac(const char *mac, const char *field, char to[24], struct error *error) {
    char joint = '\0';
    if (strcmp(mac, "default") == 0) {
        snprintf(to, 24, "default");
        return true;
    }
    bool ok = strlen(mac) == 17;
    for (unsigned i = 0; ok && i < 17; i++) {
        if (i % 3 != 2) {
            ok = hex(mac[i]) >= 0;
            to[i] = (char)(mac[i] >= 'A' && mac[i] <= 'F' ? mac[i] | 32 : mac[i]);
            continue;
        }
        if (i == 2)
            joint = mac[i];
        ok = (joint == ':' || joint == '-') && mac[i] == joint;
        to[i] = ':';
    }
    to[17] = '\0';
    return ok || error_invalid(error, field, mac, "an address like fa:16:3e:00:00:01, or default");
}

static bool check_vid(int vlan, struct error *error) {
    char value[16];
    snprintf(value, sizeof(value), "%d", vlan);
    return (vlan >= WIRING_UNTAGGED && vlan <= 4095) || error_invalid(error, "vlan", value, "0 to 4095");
}

static bool same_vlan(const json_t *entry, int vlan) {
    const json_t *there = json_object_get(entry, "vlan");
    return vlan == WIRING_UNTAGGED ? there == NULL : there != NULL && json_integer_value(there) == vlan;
}

static size_t find_entry(const json_t *table, const char *mac, int vlan) {
    size_t i;
    json_t *entry;
    json_array_foreach(table, i, entry) if (strcmp(text_of(entry, "mac"), mac) == 0 && same_vlan(entry, vlan)) return i;
    return SIZE_MAX;
}

static json_t *need_table(json_t *wiring, const char *key, struct error *error) {
    json_t *process = need_process(wiring, key, error), *table = json_object_get(process, "table");
    if (process != NULL && table == NULL)
        error_invalid(error, "process", key, "a vf");
    return table;
}

static bool is_output(const json_t *process, const char *port) {
    size_t i;
    json_t *component;
    json_array_foreach(json_object_get(process, "components"), i,
                       component) if (strcmp(text_of(component, "type"), "classifier") == 0 &&
                                      find_end(component, "tx", port) != SIZE_MAX) return true;
    return false;
}

bool wiring_add_entry(json_t *wiring, const char *key, const char *mac, int vlan, const char *port, struct error *error) {
    char kept[24];
    json_t *table = need_table(wiring, key, error);
    if (table == NULL || !wiring_normalize_mac(mac, "mac_address", kept, error) || !check_vid(vlan, error) ||
        !wiring_check_port(port, "port", error))
        return false;
    if (!is_output(wiring_process(wiring, key), port))
        return error_invalid(error, "port", port, "a tx port of a classifier of %s", key);
    size_t at = find_entry(table, kept, vlan);
    if (at != SIZE_MAX)
        return error_set(error, ERROR_EXISTS, "mac_address: there is an entry for it already, which leads to %s",
                         text_of(json_array_get(table, at), "port"));
    if (json_array_size(table) == WIRING_ENTRIES_MAX)
        return error_set(error, ERROR_NO_MEMORY, "%s has %d entries already: no more", key, WIRING_ENTRIES_MAX);
    json_t *entry = json_pack("{ss}", "mac", kept);
    if (entry != NULL && vlan != WIRING_UNTAGGED)
        json_object_set_new(entry, "vlan", json_integer(vlan));
    if (entry != NULL)
        json_object_set_new(entry, "port", json_string(port));
    return append(table, entry, error);
}

bool wiring_remove_entry(json_t *wiring, const char *key, const char *mac, int vlan, const char *port, struct error *error) {
    char kept[24];
    json_t *table = need_table(wiring, key, error);
    if (table == NULL || !wiring_normalize_mac(mac, "mac_address", kept, error) || !check_vid(vlan, error) ||
        !wiring_check_port(port, "port", error))
        return false;
    size_t at = find_entry(table, kept, vlan);
    if (at == SIZE_MAX)
        return error_set(error, ERROR_NOT_FOUND, "mac_address: there is no such entry");
    const char *leads = text_of(json_array_get(table, at), "port");
    if (strcmp(leads, port) != 0)
        return error_set(error, ERROR_NOT_FOUND, "port: that entry leads to %s and not to %s", leads, port);
    return json_array_remove(table, at) == 0;
}

/* ---- forwarders and captures ---- */

static json_t *need_forwarder(json_t *wiring, const char *key, struct error *error) {
    json_t *process = need_process(wiring, key, error);
    if (process != NULL && !is_forwarder(text_of(process, "type"))) {
        error_invalid(error, "process", key, "an nfv or the primary");
        return NULL;
    }
    return process;
}

static size_t find_text(const json_t *array, const char *text) {
    size_t i;
    json_t *there;
    json_array_foreach(array, i, there) if (strcmp(json_string_value(there), text) == 0) return i;
    return SIZE_MAX;
}

static bool add_pipe(json_t *process, const char *port, const char *rx, const char *tx, struct error *error) {
    if (strncmp(port, "pipe:", 5) != 0)
        return error_invalid(error, "port", port, "a pipe, since rx and tx are given");
    if (rx == NULL || strncmp(rx, "ring:", 5) != 0 || !wiring_check_port(rx, "rx", error))
        return error_invalid(error, "rx", rx != NULL ? rx : "", "a ring");
    if (tx == NULL || strncmp(tx, "ring:", 5) != 0 || !wiring_check_port(tx, "tx", error))
        return error_invalid(error, "tx", tx != NULL ? tx : "", "a ring");
    return json_object_set_new(json_object_get(process, "pipes"), port, json_pack("{ss ss}", "rx", rx, "tx", tx)) == 0 ||
           no_memory(error);
}

bool wiring_add_port(json_t *wiring, const char *key, const char *port, const char *rx, const char *tx, struct error *error) {
    json_t *process = need_forwarder(wiring, key, error), *ports = json_object_get(process, "ports");
    if (process == NULL || !wiring_check_port(port, "port", error))
        return false;
    if (find_text(ports, port) != SIZE_MAX)
        return error_set(error, ERROR_EXISTS, "port: %s has %s already", key, port);
    if (json_array_size(ports) == WIRING_ENDS_MAX)
        return error_set(error, ERROR_NO_MEMORY, "%s has %d ports already: no more", key, WIRING_ENDS_MAX);
    if (rx != NULL || tx != NULL) {
        if (!add_pipe(process, port, rx, tx, error))
            return false;
    } else if (!check_made(wiring, port, error)) {
        return false;
    }
    return append(ports, json_string(port), error);
}

static bool is_patched(const json_t *process, const char *port) {
    size_t i;
    json_t *patch;
    json_array_foreach(json_object_get(process, "patches"), i, patch) if (strcmp(text_of(patch, "src"), port) == 0 ||
                                                                          strcmp(text_of(patch, "dst"), port) == 0) return true;
    return false;
}

bool wiring_remove_port(json_t *wiring, const char *key, const char *port, struct error *error) {
    json_t *process = need_forwarder(wiring, key, error), *ports = json_object_get(process, "ports");
    if (process == NULL || !wiring_check_port(port, "port", error))
        return false;
    size_t at = find_text(ports, port);
    if (at == SIZE_MAX)
        return error_set(error, ERROR_NOT_FOUND, "port: %s has no %s", key, port);
    if (is_patched(process, port))
        return error_set(error, ERROR_BUSY, "port: %s is patched: reset the patches first", port);
    json_object_del(json_object_get(process, "pipes"), port);
    return json_array_remove(ports, at) == 0;
}

bool wiring_patch(json_t *wiring, const char *key, const char *source, const char *destination, struct error *error) {
    json_t *process = need_forwarder(wiring, key, error), *ports = json_object_get(process, "ports");
    if (process == NULL || !wiring_check_port(source, "src", error) || !wiring_check_port(destination, "dst", error))
        return false;
    if (find_text(ports, source) == SIZE_MAX)
        return error_invalid(error, "src", source, "a port that %s has", key);
    if (find_text(ports, destination) == SIZE_MAX)
        return error_invalid(error, "dst", destination, "a port that %s has", key);
    json_t *patches = json_object_get(process, "patches"), *patch;
    size_t i;
    json_array_foreach(patches, i, patch) if (strcmp(text_of(patch, "src"), source) == 0) { /* it is led elsewhere */
        return json_object_set_new(patch, "dst", json_string(destination)) == 0 || no_memory(error);
    }
    return append(patches, json_pack("{ss ss}", "src", source, "dst", destination), error);
}

bool wiring_reset_patches(json_t *wiring, const char *key, struct error *error) {
    json_t *process = need_forwarder(wiring, key, error);
    return process != NULL && json_array_clear(json_object_get(process, "patches")) == 0;
}

bool wiring_run(json_t *wiring, const char *key, bool running, const char *file, struct error *error) {
    json_t *process = need_process(wiring, key, error);
    if (process == NULL)
        return false;
    if (json_object_get(process, "running") == NULL)
        return error_invalid(error, "process", key, "an nfv, pcap or the primary");
    if (file != NULL && running && json_object_set_new(process, "file", json_string(file)) != 0)
        return no_memory(error);
    return json_object_set_new(process, "running", json_boolean(running)) == 0 || no_memory(error);
}

/* ---- what ports are made of ---- */

bool wiring_set_port(json_t *wiring, const char *name, const json_t *options, struct error *error) {
    json_t *ports = json_object_get(wiring, "ports");
    const char *component = "", *user = "";
    if (options != NULL)
        return wiring_check_port_options(name, options, error) &&
               (json_object_set_new(ports, name, json_deep_copy(options)) == 0 || no_memory(error));
    if (!wiring_check_port(name, "port", error))
        return false;
    if (json_object_get(ports, name) == NULL)
        return true;
    for (unsigned i = 0; i < 2; i++) {
        user = user_of(wiring, name, directions[i], &component);
        if (user[0] != '\0')
            return error_set(error, ERROR_BUSY, "port: %s is the %s of %s in %s: detach it first", name, directions[i], component,
                             user);
    }
    return json_object_del(ports, name) == 0;
}

/* ---- what a record says ---- */

static bool damaged(struct error *error, const char *what) {
    return error_set(error, ERROR_DAMAGED, "%s is not as it should be", what);
}

/* Whether edits can make these ends of it. */
static bool replay_ends(json_t *scratch, const char *key, const json_t *component, const char *direction, struct error *error) {
    const json_t *ends = json_object_get(component, direction);
    json_t *end;
    size_t i;
    if (!json_is_array(ends))
        return damaged(error, direction);
    json_array_foreach((json_t *)ends, i, end) {
        const json_t *vlan = json_object_get(end, "vlan");
        struct wiring_way way = {vlan == NULL ? "none" : text_of(vlan, "operation"), number_of(vlan, "id"),
                                 number_of(vlan, "pcp"), json_is_true(json_object_get(end, "hairpin"))};
        if (!attach(scratch, key, text_of(component, "name"), text_of(end, "port"), direction, &way, error))
            return false;
    }
    return true;
}

static bool replay_components(json_t *scratch, const char *key, const json_t *components, struct error *error) {
    json_t *component;
    size_t i;
    if (!json_is_array(components))
        return damaged(error, "components");
    json_array_foreach((json_t *)components, i,
                       component) if (!wiring_add_component(scratch, key, text_of(component, "name"),
                                                            number_of(component, "core"), text_of(component, "type"), error) ||
                                      !replay_ends(scratch, key, component, "rx", error) ||
                                      !replay_ends(scratch, key, component, "tx", error)) return false;
    return true;
}

/* An entry's port may be detached for a while, so they are only looked at. */
static bool check_table(const json_t *table, struct error *error) {
    json_t *entry;
    size_t i;
    if (!json_is_array(table) || json_array_size(table) > WIRING_ENTRIES_MAX)
        return damaged(error, "table");
    json_array_foreach((json_t *)table, i, entry) {
        char mac[24];
        const json_t *vlan = json_object_get(entry, "vlan");
        json_int_t vid = json_integer_value(vlan);
        if (!wiring_normalize_mac(text_of(entry, "mac"), "mac", mac, error) ||
            !wiring_check_port(text_of(entry, "port"), "port", error))
            return false;
        if (strcmp(mac, text_of(entry, "mac")) != 0 || (vlan != NULL && (!json_is_integer(vlan) || vid < 0 || vid > 4095)))
            return damaged(error, "table");
    }
    return true;
}

/* What its ports are made of is another record. */
static bool replay_ports(json_t *scratch, const char *key, const json_t *process, struct error *error) {
    const json_t *pipes = json_object_get(process, "pipes");
    json_t *made = json_object_get(wiring_process(scratch, key), "ports"), *port;
    size_t i;
    json_array_foreach(json_object_get(process, "ports"), i, port) {
        const char *name = json_is_string(port) ? json_string_value(port) : "";
        const json_t *pipe = json_object_get(pipes, name);
        if (!wiring_check_port(name, "ports", error))
            return false;
        if (i >= WIRING_ENDS_MAX || find_text(made, name) != SIZE_MAX)
            return damaged(error, "ports");
        if (pipe != NULL && !add_pipe(wiring_process(scratch, key), name, text_of(pipe, "rx"), text_of(pipe, "tx"), error))
            return false;
        json_array_append(made, port);
    }
    return true;
}

static bool replay_forwarder(json_t *scratch, const char *key, const json_t *process, struct error *error) {
    json_t *patch;
    size_t i;
    if (!replay_ports(scratch, key, process, error))
        return false;
    json_array_foreach(json_object_get(process, "patches"), i,
                       patch) if (!wiring_patch(scratch, key, text_of(patch, "src"), text_of(patch, "dst"), error)) return false;
    return true;
}

/* What a pcap captures is given when it is launched, and where to when it begins. */
static bool check_capture(const json_t *process, struct error *error) {
    static const char *const texts[] = {"folder", "file"};
    const json_t *port = json_object_get(process, "port");
    for (unsigned i = 0; i < 2; i++) {
        const json_t *text = json_object_get(process, texts[i]);
        if (text != NULL && !json_is_string(text))
            return damaged(error, texts[i]);
    }
    return port == NULL || wiring_check_port(text_of(process, "port"), "port", error);
}

bool wiring_check_process(const char *key, const json_t *process, struct error *error) {
    static const char *const same[] = {"type", "id", "master", "cores", "components", "ports", "pipes", "patches"};
    json_t *scratch = wiring_create(), *core;
    char expected[24];
    struct wiring_process new = {.type = text_of(process, "type"), .id = number_of(process, "id"), .shared = true};
    size_t i;
    json_array_foreach(json_object_get(process, "cores"), i, core) new.cores |= 1ULL << (json_integer_value(core) & 63);
    new.cores |= 1ULL << (number_of(process, "master") & 63);
    bool ok = scratch != NULL || no_memory(error);
    ok = ok && wiring_add_process(scratch, &new, error) &&
         (strcmp(wiring_key(new.type, new.id, expected), key) == 0 || damaged(error, "id"));
    const json_t *made = ok ? wiring_process(scratch, key) : NULL;
    if (ok && has_components(made))
        ok = replay_components(scratch, key, json_object_get(process, "components"), error);
    if (ok && json_object_get(made, "table") != NULL)
        ok = check_table(json_object_get(process, "table"), error);
    if (ok && is_forwarder(new.type))
        ok = replay_forwarder(scratch, key, process, error);
    if (ok && strcmp(new.type, "pcap") == 0)
        ok = check_capture(process, error);
    if (ok && !has_components(made))
        ok = json_is_boolean(json_object_get(process, "running")) || damaged(error, "running");
    /* The edits have made what it says, and nothing else: numbers beyond those that they know, say, are none of theirs. */
    for (i = 0; ok && i < array_count(same); i++)
        ok = json_equal(json_object_get(made, same[i]), json_object_get(process, same[i])) ||
             (json_object_get(made, same[i]) == NULL && json_object_get(process, same[i]) == NULL) || damaged(error, same[i]);
    json_decref(scratch);
    return ok;
}
