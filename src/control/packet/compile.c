#include "control/packet/compile.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "control/packet/wiring.h"

enum { NAME_SIZE = 64 };

struct compiling {
    const json_t *wiring;
    const struct compile_options *options;
    json_t *vfs, *ports, *components;
};

static const char *text_of(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

static bool begins_with(const char *text, const char *with) { return strncmp(text, with, strlen(with)) == 0; }

const char *compile_where(const json_t *parameters) {
    static const char *const keys[] = {"interface", "device", "socket", "tx_file", "rx_file"};
    for (size_t i = 0; i < array_count(keys); i++)
        if (json_object_get(parameters, keys[i]) != NULL)
            return text_of(parameters, keys[i]);
    return "";
}

json_t *compile_way(const json_t *end) {
    const json_t *vlan = json_object_get(end, "vlan");
    json_t *way = vlan != NULL ? json_deep_copy(vlan) : json_pack("{ss}", "operation", "none");
    if (json_is_true(json_object_get(end, "hairpin")))
        json_object_set_new(way, "hairpin", json_true());
    return way;
}

/* ---- ports ---- */

/* What a name alone stands for. */
static json_t *make_default(const struct compiling *compiling, const char *port, bool vhost_client) {
    char text[128];
    const char *number = strchr(port, ':') + 1;
    if (begins_with(port, "vhost:")) {
        snprintf(text, sizeof(text), "%s/sock%s", compiling->options->socket_folder, number);
        return json_pack("{ss ss sb}", "kind", "vhost_user", "socket", text, "client", vhost_client);
    }
    if (begins_with(port, "memif:"))
        return json_pack("{ss ss sb si}", "kind", "memif", "socket", "/tmp/spp-memif.sock", "server", 1, "id",
                         (int)wiring_port_number(port));
    if (begins_with(port, "tap:")) {
        snprintf(text, sizeof(text), "dtap%s", number);
        return json_pack("{ss ss}", "kind", "tap", "interface", text);
    }
    if (begins_with(port, "pcap:")) {
        char to[128];
        snprintf(text, sizeof(text), "/tmp/spp-rx%s.pcap", number);
        snprintf(to, sizeof(to), "/tmp/spp-tx%s.pcap", number);
        return json_pack("{ss ss ss}", "kind", "pcap", "rx_file", text, "tx_file", to);
    }
    return json_pack("{ss}", "kind", begins_with(port, "ring:") ? "ring" : "null");
}

/* A pipe is read from one ring and written to another; all else is itself. */
static const char *real_port(const struct compiling *compiling, const char *port, const char *direction) {
    const char *key;
    json_t *process;
    if (begins_with(port, "pipe:"))
        json_object_foreach(json_object_get(compiling->wiring, "processes"), key, process) {
            const json_t *pipe = json_object_get(json_object_get(process, "pipes"), port);
            if (pipe != NULL)
                return text_of(pipe, direction);
        }
    return port;
}

/* The name that the plane knows it by. */
static const char *need_port(struct compiling *compiling, const char *port, const char *direction, bool vhost_client) {
    const char *name = real_port(compiling, port, direction);
    if (json_object_get(compiling->ports, name) == NULL) {
        json_t *told = json_object_get(json_object_get(compiling->wiring, "ports"), name);
        json_object_set_new(compiling->ports, name,
                            told != NULL ? json_deep_copy(told) : make_default(compiling, name, vhost_client));
    }
    return name;
}

/* ---- components ---- */

/* On a core of the process; one that has none of its own runs on the plane's first worker, which is nobody's. */
static json_t *make_place(const json_t *process, json_int_t core) {
    return json_array_size(json_object_get(process, "cores")) == 0
               ? json_pack("{si}", "worker", 0)
               : json_pack("{sO sI}", "vf", json_object_get(process, "id"), "core", core);
}

static json_t *make_component(struct compiling *compiling, const char *name, const char *type, const json_t *process,
                              json_int_t core) {
    json_t *component = json_pack("{ss so s{} s{} s{}}", "type", type, "place", make_place(process, core), "rx", "tx", "entries");
    json_object_set_new(compiling->components, name, component);
    return component;
}

static void attach(struct compiling *compiling, json_t *component, const char *direction, const char *port, const json_t *way,
                   bool vhost_client) {
    json_object_set_new(json_object_get(component, direction), need_port(compiling, port, direction, vhost_client),
                        compile_way(way));
}

static void put_ends(struct compiling *compiling, json_t *component, const json_t *from, const char *direction, bool client) {
    json_t *end;
    size_t i;
    json_array_foreach(json_object_get(from, direction), i, end)
        attach(compiling, component, direction, text_of(end, "port"), end, client);
}

/* An entry belongs to the classifier whose output its port is; while it is detached, to the process's first. */
static json_t *owner_of(const struct compiling *compiling, const char *key, const json_t *process, const char *port) {
    json_t *component, *first = NULL;
    size_t i;
    json_array_foreach(json_object_get(process, "components"), i, component) {
        char name[NAME_SIZE];
        if (strcmp(text_of(component, "type"), "classifier") != 0)
            continue;
        snprintf(name, sizeof(name), "%s:%s", key, text_of(component, "name"));
        json_t *made = json_object_get(compiling->components, name);
        if (first == NULL)
            first = made;
        if (json_object_get(json_object_get(made, "tx"), port) != NULL)
            return made;
    }
    return first;
}

static void put_table(struct compiling *compiling, const char *key, const json_t *process, bool client) {
    json_t *entry;
    size_t i;
    json_array_foreach(json_object_get(process, "table"), i, entry) {
        char name[48];
        const char *port = need_port(compiling, text_of(entry, "port"), "tx", client);
        json_t *owner = owner_of(compiling, key, process, port);
        const json_t *vlan = json_object_get(entry, "vlan");
        if (owner == NULL)
            continue;
        if (vlan != NULL)
            snprintf(name, sizeof(name), "%s/%d", text_of(entry, "mac"), (int)json_integer_value(vlan));
        else
            snprintf(name, sizeof(name), "%s", text_of(entry, "mac"));
        json_object_set_new(json_object_get(owner, "entries"), name, json_string(port));
    }
}

/* Patches that end in one port are one component, since a port has one writer. */
static void put_patches(struct compiling *compiling, const char *key, const json_t *process, json_int_t core, bool client) {
    json_t *patch;
    size_t i;
    json_array_foreach(json_object_get(process, "patches"), i, patch) {
        char name[NAME_SIZE];
        snprintf(name, sizeof(name), "%s:to:%s", key, text_of(patch, "dst"));
        json_t *component = json_object_get(compiling->components, name);
        if (component == NULL) {
            component = make_component(compiling, name, "merge", process, core);
            attach(compiling, component, "tx", text_of(patch, "dst"), NULL, client);
        }
        attach(compiling, component, "rx", text_of(patch, "src"), NULL, client);
    }
}

static void put_capture(struct compiling *compiling, const char *key, const json_t *process, json_int_t core, bool client) {
    char name[NAME_SIZE], file[NAME_SIZE];
    snprintf(name, sizeof(name), "%s:capture", key);
    snprintf(file, sizeof(file), "%s:file", key);
    json_t *component = make_component(compiling, name, "forward", process, core);
    json_object_set_new(compiling->ports, file, json_pack("{ss ss}", "kind", "pcap", "tx_file", text_of(process, "file")));
    json_object_set_new(json_object_get(component, "tx"), file, json_pack("{ss}", "operation", "none"));
    attach(compiling, component, "rx", text_of(process, "port"), NULL, client);
}

/* Its cores. Whether others may have them too was decided when it was made. */
static void put_vf(struct compiling *compiling, const json_t *process) {
    uint64_t mask = 1ULL << (json_integer_value(json_object_get(process, "master")) & 63);
    char id[24], text[24];
    json_t *core;
    size_t i;
    json_array_foreach(json_object_get(process, "cores"), i, core) mask |= 1ULL << (json_integer_value(core) & 63);
    snprintf(id, sizeof(id), "%lld", (long long)json_integer_value(json_object_get(process, "id")));
    snprintf(text, sizeof(text), "0x%llx", (unsigned long long)mask);
    json_object_set_new(compiling->vfs, id, json_pack("{ss sb}", "core_mask", text, "share", 1));
}

static void put_process(struct compiling *compiling, const char *key, const json_t *process) {
    const json_t *cores = json_object_get(process, "cores");
    bool client = json_is_true(json_object_get(process, "vhost_client"));
    json_int_t core = json_integer_value(json_array_get(cores, 0));
    json_t *component;
    size_t i;
    if (json_array_size(cores) > 0)
        put_vf(compiling, process);
    json_array_foreach(json_object_get(process, "components"), i, component) {
        char name[NAME_SIZE];
        snprintf(name, sizeof(name), "%s:%s", key, text_of(component, "name"));
        json_t *made = make_component(compiling, name, text_of(component, "type"), process,
                                      json_integer_value(json_object_get(component, "core")));
        put_ends(compiling, made, component, "rx", client);
        put_ends(compiling, made, component, "tx", client);
    }
    put_table(compiling, key, process, client);
    if (json_is_true(json_object_get(process, "running")) && json_object_get(process, "patches") != NULL)
        put_patches(compiling, key, process, core, client);
    else if (json_is_true(json_object_get(process, "running")) && json_object_get(process, "port") != NULL)
        put_capture(compiling, key, process, core, client);
}

json_t *wiring_compile(const json_t *wiring, const struct compile_options *options) {
    struct compiling compiling = {wiring, options, json_object(), json_object(), json_object()};
    const char *key;
    json_t *process;
    json_object_foreach(json_object_get(wiring, "processes"), key, process) put_process(&compiling, key, process);
    json_t *policies = json_object(), *port;
    json_object_foreach(compiling.ports, key, port)
        json_object_set(policies, key, json_object_get(json_object_get(wiring, "policies"), key));
    return json_pack("{so so so so}", "policies", policies, "vfs", compiling.vfs, "ports", compiling.ports, "components",
                     compiling.components);
}
