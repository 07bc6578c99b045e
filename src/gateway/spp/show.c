#include "gateway/spp/show.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "control/packet/wiring.h"

static const char *text_of(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

static json_int_t number_of(const json_t *object, const char *key) { return json_integer_value(json_object_get(object, key)); }

json_t *show_default_primary(void) {
    return json_pack("{ss si si s[] sb s[] s{} s[] sb}", "type", "primary", "id", 0, "master", 0, "cores", "vhost_client", 1,
                     "ports", "pipes", "patches", "running", 0);
}

/* ---- lists of processes ---- */

/* The next id above `above`; NULL: none. */
static json_t *next_process(const json_t *wiring, json_int_t above) {
    json_t *found = NULL, *process;
    const char *key;
    json_object_foreach(json_object_get(wiring, "processes"), key,
                        process) if (number_of(process, "id") > above &&
                                     (found == NULL || number_of(process, "id") < number_of(found, "id"))) found = process;
    return found;
}

json_t *show_processes(const json_t *wiring) {
    json_t *list = json_pack("[{ss}]", "type", "primary");
    for (json_t *process = next_process(wiring, 0); process != NULL; process = next_process(wiring, number_of(process, "id")))
        json_array_append_new(list,
                              json_pack("{ss sI}", "type", text_of(process, "type"), "client-id", number_of(process, "id")));
    return list;
}

static bool holds(const json_t *numbers, json_int_t number) {
    size_t i;
    json_t *there;
    json_array_foreach((json_t *)numbers, i, there) if (json_integer_value(there) == number) return true;
    return false;
}

/* The master and the cores that do something. */
static json_t *used_cores(const json_t *process) {
    json_t *cores = json_pack("[I]", number_of(process, "master")), *component;
    size_t i;
    if (json_object_get(process, "components") == NULL) {
        json_array_extend(cores, json_object_get(process, "cores"));
        return cores;
    }
    json_array_foreach(json_object_get(process, "components"), i, component) if (!holds(cores, number_of(component, "core")))
        json_array_append(cores, json_object_get(component, "core"));
    return cores;
}

json_t *show_cpu_usage(const json_t *wiring) {
    json_t *primary = json_incref(json_object_get(json_object_get(wiring, "processes"), "primary:0"));
    if (primary == NULL)
        primary = show_default_primary();
    json_t *list = json_pack("[{ss sI so}]", "proc-type", "primary", "master-lcore", number_of(primary, "master"), "lcores",
                             used_cores(primary));
    json_decref(primary);
    for (json_t *process = next_process(wiring, 0); process != NULL; process = next_process(wiring, number_of(process, "id")))
        json_array_append_new(list, json_pack("{ss sI sI so}", "proc-type", text_of(process, "type"), "client-id",
                                              number_of(process, "id"), "master-lcore", number_of(process, "master"), "lcores",
                                              used_cores(process)));
    return list;
}

/* ---- one process ---- */

static int kind_of(const char *port) {
    static const char *const kinds[] = {"phy:", "vhost:", "ring:"};
    for (size_t i = 0; i < array_count(kinds); i++)
        if (strncmp(port, kinds[i], strlen(kinds[i])) == 0)
            return (int)i;
    return (int)array_count(kinds);
}

static int compare_ports(const void *left, const void *right) {
    const char *a = *(const char *const *)left, *b = *(const char *const *)right;
    if (kind_of(a) != kind_of(b))
        return kind_of(a) - kind_of(b);
    const char *x = strchr(a, ':'), *y = strchr(b, ':');
    int kinds = (x - a) == (y - b) ? strncmp(a, b, (size_t)(x - a)) : strcmp(a, b);
    return kinds != 0 ? kinds : (int)wiring_port_number(a) - (int)wiring_port_number(b);
}

/* All ports that it has, once each: phy, vhost, ring, others. */
static json_t *list_ports(const json_t *process) {
    static const char *const directions[] = {"rx", "tx"};
    json_t *seen = json_object(), *list = json_array(), *component, *end;
    size_t i, e, count = 0;
    json_array_foreach(json_object_get(process, "components"), i, component) for (unsigned d = 0; d < 2; d++)
        json_array_foreach(json_object_get(component, directions[d]), e, end)
            json_object_set_new(seen, text_of(end, "port"), json_true());
    const char **names = calloc(json_object_size(seen) + 1, sizeof(*names)), *name;
    json_object_foreach(seen, name, end) if (names != NULL) names[count++] = name;
    if (names != NULL)
        qsort(names, count, sizeof(*names), compare_ports);
    for (i = 0; i < count; i++)
        json_array_append_new(list, json_string(names[i]));
    free(names);
    json_decref(seen);
    return list;
}

static json_t *show_ends(const json_t *ends, bool with_vlan) {
    json_t *list = json_array(), *end;
    size_t i;
    json_array_foreach((json_t *)ends, i, end) {
        const json_t *vlan = json_object_get(end, "vlan");
        json_t *shown = json_pack("{ss}", "port", text_of(end, "port"));
        if (with_vlan)
            json_object_set_new(shown, "vlan",
                                json_pack("{ss sI sI}", "operation", vlan != NULL ? text_of(vlan, "operation") : "none", "id",
                                          number_of(vlan, "id"), "pcp", number_of(vlan, "pcp")));
        if (json_is_true(json_object_get(end, "hairpin")))
            json_object_set_new(shown, "hairpin", json_true());
        json_array_append_new(list, shown);
    }
    return list;
}

static json_t *show_components(const json_t *process, bool with_vlan) {
    json_t *list = json_array(), *component;
    size_t i;
    json_array_foreach(json_object_get(process, "components"), i, component) json_array_append_new(
        list, json_pack("{sI ss ss so so}", "core", number_of(component, "core"), "name", text_of(component, "name"), "type",
                        text_of(component, "type"), "rx_port", show_ends(json_object_get(component, "rx"), with_vlan), "tx_port",
                        show_ends(json_object_get(component, "tx"), with_vlan)));
    return list;
}

static json_t *show_table(const json_t *process) {
    json_t *list = json_array(), *entry;
    size_t i;
    json_array_foreach(json_object_get(process, "table"), i, entry) {
        const json_t *vlan = json_object_get(entry, "vlan");
        json_t *value = vlan != NULL ? json_sprintf("%d/%s", (int)json_integer_value(vlan), text_of(entry, "mac"))
                                     : json_string(text_of(entry, "mac"));
        json_array_append_new(
            list, json_pack("{ss so ss}", "type", vlan != NULL ? "vlan" : "mac", "value", value, "port", text_of(entry, "port")));
    }
    return list;
}

static json_t *show_lcores(const json_t *process) {
    json_t *lcores = json_pack("[I]", number_of(process, "master"));
    json_array_extend(lcores, json_object_get(process, "cores"));
    return lcores;
}

static void put_forwarder(json_t *to, const json_t *process) {
    json_object_set_new(to, "status", json_string(json_is_true(json_object_get(process, "running")) ? "running" : "idling"));
    json_object_set_new(to, "ports", json_deep_copy(json_object_get(process, "ports")));
    json_object_set_new(to, "patches", json_deep_copy(json_object_get(process, "patches")));
}

static json_t *show_pcap(const json_t *process) {
    bool running = json_is_true(json_object_get(process, "running"));
    const json_t *cores = json_object_get(process, "cores");
    json_t *list = json_array(), *core;
    size_t i;
    json_array_foreach((json_t *)cores, i, core) {
        json_t *shown = json_pack("{sO ss}", "core", core, "role", i == 0 ? "receive" : "write");
        if (i == 0)
            json_object_set_new(shown, "rx_port", json_pack("[{ss}]", "port", text_of(process, "port")));
        else
            json_object_set_new(shown, "filename", json_string(running ? text_of(process, "file") : ""));
        json_array_append_new(list, shown);
    }
    return json_pack("{sI ss so}", "client-id", number_of(process, "id"), "status", running ? "running" : "idle", "core", list);
}

json_t *show_process(const json_t *process) {
    const char *type = text_of(process, "type");
    if (strcmp(type, "pcap") == 0)
        return show_pcap(process);
    json_t *shown = json_pack("{sI sI}", "client-id", number_of(process, "id"), "master-lcore", number_of(process, "master"));
    if (strcmp(type, "nfv") == 0) {
        json_object_set_new(shown, "lcores", show_lcores(process));
        put_forwarder(shown, process);
        return shown;
    }
    bool vf = strcmp(type, "vf") == 0;
    json_object_set_new(shown, "ports", list_ports(process));
    json_object_set_new(shown, "components", show_components(process, vf));
    if (vf)
        json_object_set_new(shown, "classifier_table", show_table(process));
    return shown;
}

/* ---- the primary ---- */

static json_t *find_port(const json_t *ports, const char *name) {
    size_t i;
    json_t *port;
    json_array_foreach((json_t *)ports, i, port) if (strcmp(text_of(port, "name"), name) == 0) return port;
    return NULL;
}

static void add_counts(json_t *to, const json_t *from) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)from, key, value) if (json_is_integer(value))
        json_object_set_new(to, key, json_integer(number_of(to, key) + json_integer_value(value)));
}

void show_add_ports(json_t *ports, const json_t *more) {
    size_t i;
    json_t *port;
    json_array_foreach((json_t *)more, i, port) {
        json_t *there = find_port(ports, text_of(port, "name"));
        if (there == NULL) {
            json_array_append_new(ports, json_deep_copy(port));
            continue;
        }
        add_counts(json_object_get(there, "rx"), json_object_get(port, "rx"));
        add_counts(json_object_get(there, "tx"), json_object_get(port, "tx"));
    }
}

/* One that is smaller than it was began anew, with its process. */
static json_int_t count_of(const json_t *port, const json_t *baseline, const char *direction, const char *what) {
    const json_t *before = json_object_get(json_object_get(baseline, text_of(port, "name")), direction);
    json_int_t now = number_of(json_object_get(port, direction), what), then = number_of(before, what);
    return now < then ? now : now - then;
}

static json_t *show_phy(const json_t *port, const json_t *baseline) {
    return json_pack("{si ss sI sI sI s{si si} s[]}", "id", (int)wiring_port_number(text_of(port, "name")), "eth",
                     "00:00:00:00:00:00", "rx", count_of(port, baseline, "rx", "packets"), "tx",
                     count_of(port, baseline, "tx", "packets"), "tx_drop", count_of(port, baseline, "tx", "full"), "nof_queues",
                     "rx", 1, "tx", 1, "flow");
}

static json_t *show_ring(const json_t *port, const json_t *baseline) {
    return json_pack("{si sI sI sI sI}", "id", (int)wiring_port_number(text_of(port, "name")), "rx",
                     count_of(port, baseline, "rx", "packets"), "rx_drop", count_of(port, baseline, "rx", "full"), "tx",
                     count_of(port, baseline, "tx", "packets"), "tx_drop", count_of(port, baseline, "tx", "full"));
}

json_t *show_make_baseline(const json_t *ports) {
    json_t *baseline = json_object(), *port;
    size_t i;
    json_array_foreach((json_t *)ports, i, port) json_object_set(baseline, text_of(port, "name"), port);
    return baseline;
}

json_t *show_primary(const json_t *wiring, const json_t *ports, const json_t *baseline) {
    json_t *primary = json_incref(json_object_get(json_object_get(wiring, "processes"), "primary:0"));
    json_t *phy = json_array(), *ring = json_array(), *pipes = json_array(), *port;
    const char *name;
    size_t i;
    if (primary == NULL)
        primary = show_default_primary();
    json_array_foreach((json_t *)ports, i, port) {
        struct error error;
        if (!wiring_check_port(text_of(port, "name"), "", &error))
            continue; /* what processes have among themselves: phy:0.rx */
        if (kind_of(text_of(port, "name")) == 0)
            json_array_append_new(phy, show_phy(port, baseline));
        else if (kind_of(text_of(port, "name")) == 2)
            json_array_append_new(ring, show_ring(port, baseline));
    }
    json_object_foreach(json_object_get(primary, "pipes"), name, port)
        json_array_append_new(pipes, json_pack("{si ss ss}", "id", (int)wiring_port_number(name), "rx", text_of(port, "rx"), "tx",
                                               text_of(port, "tx")));
    json_t *shown =
        json_pack("{sI so s{}}", "master-lcore", number_of(primary, "master"), "lcores", show_lcores(primary), "forwarder");
    put_forwarder(json_object_get(shown, "forwarder"), primary);
    json_object_set_new(shown, "phy_ports", phy);
    json_object_set_new(shown, "ring_ports", ring);
    json_object_set_new(shown, "pipes", pipes);
    json_decref(primary);
    return shown;
}
