/* The table of the packet plane's verbs, and those on what is wired. PROCESS is "vf/1", "mirror/2", "nfv/3". */
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "cli/packet/packet.h"

/* "vf/1" and what follows, as a path. False: cli->error. */
static bool make_path(struct cli *cli, const char *process, const char *rest, char to[256]) {
    static const char *const types[] = {"vf", "mirror", "nfv", "pcap"};
    const char *slash = strchr(process, '/');
    uint64_t id;
    for (size_t i = 0; slash != NULL && text_parse_u64(slash + 1, 127, &id) && i < array_count(types); i++)
        if (strlen(types[i]) == (size_t)(slash - process) && strncmp(process, types[i], strlen(types[i])) == 0) {
            snprintf(to, 256, "/v1/%ss/%u%.200s", types[i], (unsigned)id, rest);
            return true;
        }
    return error_invalid(&cli->error, "PROCESS", process, "vf/N, mirror/N, nfv/N or pcap/N");
}

static bool get(struct cli *cli, const char *process, json_t **ret_answer) {
    char path[256];
    if (!make_path(cli, process, "", path) || !cli_rest(cli, "GET", path, NULL, ret_answer))
        return false;
    const char *trouble = json_string_value(json_object_get(*ret_answer, "error"));
    if (trouble != NULL)
        fprintf(stderr, "penstock: %s is not as it is meant to be: %s\n", process, trouble);
    return true;
}

static void put_number(const json_t *object, const char *key, char to[24]) {
    snprintf(to, 24, "%" JSON_INTEGER_FORMAT, json_integer_value(json_object_get(object, key)));
}

/* ---- processes ---- */

static bool packet_list(struct cli *cli) {
    static const char *const titles[] = {"PROCESS", "MASTER", "CORES"};
    json_t *answer, *process, *core;
    size_t i, c;
    struct cli_table table;
    if (!cli_rest(cli, "GET", "/v1/cpu_usage", NULL, &answer))
        return false;
    if (cli_wants_data(cli)) {
        cli_print(cli, answer);
        json_decref(answer);
        return true;
    }
    cli_table_init(&table, titles, 3, 2);
    json_array_foreach(answer, i, process) {
        char name[40], master[24], cores[200] = "";
        size_t length = 0;
        snprintf(name, sizeof(name), "%.20s/%d", cli_member(process, "proc-type"),
                 (int)json_integer_value(json_object_get(process, "client-id")));
        put_number(process, "master-lcore", master);
        json_array_foreach(json_object_get(process, "lcores"), c, core) if (c > 0 && length < sizeof(cores)) length +=
            (size_t)snprintf(cores + length, sizeof(cores) - length, "%s%d", length > 0 ? "," : "",
                             (int)json_integer_value(core));
        cli_table_row(&table, name, master, cores);
    }
    json_decref(answer);
    cli_table_print(&table, stdout);
    return true;
}

static bool packet_create(struct cli *cli) {
    const char *process = cli->arguments[0], *slash = strchr(process, '/');
    char path[256], program[32];
    uint64_t id = 0;
    if (!make_path(cli, process, "", path) || !text_parse_u64(slash + 1, 127, &id))
        return false;
    snprintf(program, sizeof(program), "spp_%.*s", (int)(slash - process), process);
    bool mask = strncmp(cli->arguments[1], "0x", 2) == 0;
    json_t *body = json_pack("{si ss s{ss ss} s{}}", "client_id", (int)id, "proc_name", program, "eal", mask ? "-c" : "-l",
                             cli->arguments[1], "--proc-type", "secondary", "app");
    if (cli_option(cli, "--vhost-server") == NULL)
        json_object_set_new(json_object_get(body, "app"), "--vhost-client", json_string(""));
    if (cli_option(cli, "--port") != NULL)
        json_object_set_new(json_object_get(body, "app"), "-c", json_string(cli_option(cli, "--port")));
    return cli_rest_do(cli, "PUT", "/v1/primary/launch", body);
}

static bool packet_delete(struct cli *cli) {
    char path[256];
    return make_path(cli, cli->arguments[0], "", path) && cli_rest_do(cli, "DELETE", path, NULL);
}

/* ---- components ---- */

static void put_ends(const json_t *ends, char *to, size_t size) {
    size_t i, length = 0;
    json_t *end;
    snprintf(to, size, "-");
    json_array_foreach((json_t *)ends, i, end) {
        const json_t *vlan = json_object_get(end, "vlan");
        const char *operation = cli_member(vlan, "operation");
        char tag[24] = "";
        if (strcmp(operation, "add") == 0)
            snprintf(tag, sizeof(tag), "+%d", (int)json_integer_value(json_object_get(vlan, "id")));
        else if (strcmp(operation, "del") == 0)
            snprintf(tag, sizeof(tag), "-tag");
        if (length < size)
            length += (size_t)snprintf(to + length, size - length, "%s%s%s", length > 0 ? "," : "", cli_member(end, "port"), tag);
    }
}

static bool component_list(struct cli *cli) {
    static const char *const titles[] = {"COMPONENT", "TYPE", "CORE", "RX", "TX"};
    json_t *answer, *component;
    size_t i;
    struct cli_table table;
    if (!get(cli, cli->arguments[0], &answer))
        return false;
    if (cli_wants_data(cli)) {
        cli_print(cli, answer);
        json_decref(answer);
        return true;
    }
    cli_table_init(&table, titles, 5, 4);
    json_array_foreach(json_object_get(answer, "components"), i, component) {
        char core[24], rx[CLI_CELL_MAX], tx[CLI_CELL_MAX];
        put_number(component, "core", core);
        put_ends(json_object_get(component, "rx_port"), rx, sizeof(rx));
        put_ends(json_object_get(component, "tx_port"), tx, sizeof(tx));
        cli_table_row(&table, cli_member(component, "name"), cli_member(component, "type"), core, rx, tx);
    }
    json_decref(answer);
    cli_table_print(&table, stdout);
    return true;
}

static bool component_create(struct cli *cli) {
    char path[256];
    uint64_t core;
    if (!text_parse_u64(cli->arguments[3], 63, &core))
        return error_invalid(&cli->error, "CORE", cli->arguments[3], "0 to 63");
    return make_path(cli, cli->arguments[0], "/components", path) &&
           cli_rest_do(cli, "POST", path,
                       json_pack("{ss ss si}", "name", cli->arguments[1], "type", cli->arguments[2], "core", (int)core));
}

static bool component_delete(struct cli *cli) {
    char path[256], rest[80];
    if (!text_is_name(cli->arguments[1], 40))
        return error_invalid(&cli->error, "NAME", cli->arguments[1], "a component's name");
    snprintf(rest, sizeof(rest), "/components/%s", cli->arguments[1]);
    return make_path(cli, cli->arguments[0], rest, path) && cli_rest_do(cli, "DELETE", path, NULL);
}

/* ---- ports ---- */

static bool port_list(struct cli *cli) {
    json_t *answer, *port;
    size_t i;
    if (!get(cli, cli->arguments[0], &answer))
        return false;
    json_t *ports = json_object_get(answer, "ports");
    if (cli_wants_data(cli))
        cli_print(cli, ports);
    else
        json_array_foreach(ports, i, port) printf("%s\n", json_string_value(port));
    json_decref(answer);
    return true;
}

/* "100" or "100:3" */
static bool read_push(struct cli *cli, const char *text, json_t **ret_vlan) {
    char id[8];
    size_t length = strcspn(text, ":");
    uint64_t vid = 0, pcp = 0;
    snprintf(id, sizeof(id), "%.*s", (int)min_u64(length, sizeof(id) - 1), text);
    if (length >= sizeof(id) || !text_parse_u64(id, 4095, &vid) ||
        (text[length] == ':' && !text_parse_u64(text + length + 1, 7, &pcp)))
        return error_invalid(&cli->error, "--push", text, "a VLAN, 0 to 4095, and :PRIORITY if you like");
    *ret_vlan = json_pack("{ss si si}", "operation", "add", "id", (int)vid, "pcp", (int)pcp);
    return true;
}

static bool port_change(struct cli *cli, const char *action, json_t *take_vlan, bool hairpin) {
    char path[256], rest[80];
    json_t *body = json_pack("{ss ss ss}", "action", action, "port", cli->arguments[2], "dir", cli->arguments[3]);
    if (take_vlan != NULL)
        json_object_set_new(body, "vlan", take_vlan);
    if (hairpin)
        json_object_set_new(body, "hairpin", json_true());
    snprintf(rest, sizeof(rest), "/components/%.40s/ports", cli->arguments[1]);
    if (!text_is_name(cli->arguments[1], 40) || !make_path(cli, cli->arguments[0], rest, path)) {
        json_decref(body);
        return cli->error.code != ERROR_NONE ? false : error_invalid(&cli->error, "COMPONENT", cli->arguments[1], "its name");
    }
    return cli_rest_do(cli, "PUT", path, body);
}

static bool port_attach(struct cli *cli) {
    const char *push = cli_option(cli, "--push");
    json_t *vlan = NULL;
    if (push != NULL && cli_option(cli, "--pop") != NULL)
        return error_set(&cli->error, ERROR_INVALID, "--push and --pop: one of them");
    if (push != NULL && !read_push(cli, push, &vlan))
        return false;
    if (cli_option(cli, "--pop") != NULL)
        vlan = json_pack("{ss}", "operation", "del");
    return port_change(cli, "attach", vlan, cli_option(cli, "--hairpin") != NULL);
}

static bool port_detach(struct cli *cli) { return port_change(cli, "detach", NULL, false); }

/* ---- classifiers ---- */

static bool classifier_list(struct cli *cli) {
    static const char *const titles[] = {"ADDRESS", "VLAN", "PORT"};
    json_t *answer, *entry;
    size_t i;
    struct cli_table table;
    if (!get(cli, cli->arguments[0], &answer))
        return false;
    json_t *entries = json_object_get(answer, "classifier_table");
    if (cli_wants_data(cli)) {
        cli_print(cli, entries);
        json_decref(answer);
        return true;
    }
    cli_table_init(&table, titles, 3, 2);
    json_array_foreach(entries, i, entry) {
        const char *value = cli_member(entry, "value"), *slash = strchr(value, '/');
        char vlan[16] = "-";
        if (slash != NULL)
            snprintf(vlan, sizeof(vlan), "%.*s", (int)min_u64((uint64_t)(slash - value), 8), value);
        cli_table_row(&table, slash != NULL ? slash + 1 : value, vlan, cli_member(entry, "port"));
    }
    json_decref(answer);
    cli_table_print(&table, stdout);
    return true;
}

static bool classifier_change(struct cli *cli, const char *action) {
    char path[256];
    const char *vlan = cli_option(cli, "--vlan");
    uint64_t vid;
    if (vlan != NULL && !text_parse_u64(vlan, 4095, &vid))
        return error_invalid(&cli->error, "--vlan", vlan, "0 to 4095");
    if (!make_path(cli, cli->arguments[0], "/classifier_table", path))
        return false;
    json_t *body = json_pack("{ss ss ss ss}", "action", action, "type", vlan != NULL ? "vlan" : "mac", "mac_address",
                             cli->arguments[1], "port", cli->arguments[2]);
    if (vlan != NULL)
        json_object_set_new(body, "vlan", json_integer((json_int_t)vid));
    return cli_rest_do(cli, "PUT", path, body);
}

static bool classifier_add(struct cli *cli) { return classifier_change(cli, "add"); }
static bool classifier_remove(struct cli *cli) { return classifier_change(cli, "del"); }

/* ---- the table ---- */

#define REST                                                                                                                     \
    { "--rest", "IP:PORT", "Where penstockd serves it (default 127.0.0.1:7777)" }
static const struct cli_option rest_options[] = {REST, {0}};
static const struct cli_option create_options[] = {
    REST,
    {"--vhost-server", NULL, "Its vhost ports listen; usually the virtual machine's side does"},
    {"--port", "PORT", "What a pcap captures"},
    {0},
};
static const struct cli_option attach_options[] = {
    REST,
    {"--push", "VLAN[:PRIORITY]", "Give each frame a tag"},
    {"--pop", NULL, "Take the outermost tag away"},
    {"--hairpin", NULL, "A ring from a merge (tx) to a classifier (rx) by which machines of one card meet"},
    {0},
};
static const struct cli_option policy_options[] = {
    REST,
    {"--macs", "MAC,…", "Source addresses that may come in by it"},
    {"--untagged", NULL, "Only frames without a tag may come in by it, and those of --vlans"},
    {"--vlans", "VLAN,…", "Tags that may come in by it"},
    {"--rx-bits", "N", "Bits a second that may come in by it, such as 10G"},
    {"--rx-frames", "N", "Frames a second that may come in by it"},
    {"--tx-bits", "N", "Bits a second that may go out by it"},
    {"--tx-frames", "N", "Frames a second that may go out by it"},
    {"--none", NULL, "Nothing is limited any more"},
    {0},
};
static const struct cli_option capture_options[] = {
    {"--filter", "TEXT", "Which frames, as pcap-filter(7) says it (default: all)"},
    {"--direction", "WORD", "rx, tx or both (default)"},
    {"--snap-length", "BYTES", "Of a frame, at most (default 2048)"},
    {"--limit-bytes", "BYTES", "How large the file gets (default 1073741824)"},
    {"--stop", NULL, "End it"},
    {0},
};
static const struct cli_option entry_options[] = {
    REST, {"--vlan", "VLAN", "Of frames with that tag (default: without one)"}, {0}};
static const struct cli_option setup_options[] = {
    {"--etcd", "IP:PORT", "Of etcd (default 127.0.0.1:2379)"},
    {"--etcd-ca", "FILE", "It is under mutual TLS: the authority of its servers"},
    {"--etcd-certificate", "FILE", "What is shown to them"},
    {"--etcd-key", "FILE", "The key of that certificate"},
    {"--etcd-name", "NAME", "What its certificates must hold (default: the address)"},
    {"--etcd-user", "NAME", "Whoever may read and write the keys of networking-spp there"},
    {"--etcd-password-file", "FILE", "That user's password"},
    {"--check", NULL, "Only look whether it is right"},
    {0},
};
static const struct cli_option top_options[] = {
    {"--interval-ms", "MS", "Between two looks (default 1000)"},
    {"--count", "COUNT", "End after so many; without it, on a cleared screen for ever"},
    {0},
};

const struct cli_verb cli_packet_verbs[] = {
    {"packet setup", "HOST WORD …",
     "Write a host's NICs into etcd, for networking-spp\nWords as in devstack's settings: "
     "DPDK_PORT_MAPPINGS=PCI#NETWORK#VHOSTS#COREMASK[,…], and "
     "SPP_PRIMARY_CORE_MASK=MASK, which is only checked. The configuration and a key for each vhost, numbered across NICs, are "
     "written; keys that are there stay. What would take a vhost away that a port uses is refused.",
     setup_options, CLI_COMPLETE_NONE, cli_packet_setup},
    {"packet top", "",
     "What a packet plane does, live\nAt the plane's socket (-s): penstockd's is packet.sock in its state's folder.", top_options,
     CLI_COMPLETE_NONE, cli_packet_top},
    {"packet list", "", "Processes of the packet plane, and their cores", rest_options, CLI_COMPLETE_NONE, packet_list},
    {"packet create", "PROCESS CORES", "Make a process: vf/1 with cores 1,3-5, or a mask like 0xfe; the lowest is its master",
     create_options, CLI_COMPLETE_NONE, packet_create},
    {"packet delete", "PROCESS", "Remove a process with all that is in it", rest_options, CLI_COMPLETE_NONE, packet_delete},
    {"component list", "PROCESS", "Components of a process and their ports", rest_options, CLI_COMPLETE_NONE, component_list},
    {"component create", "PROCESS NAME TYPE CORE", "Make a component: forward, merge, classifier or mirror", rest_options,
     CLI_COMPLETE_NONE, component_create},
    {"component delete", "PROCESS NAME", "Remove a component; its ports come free", rest_options, CLI_COMPLETE_NONE,
     component_delete},
    {"port list", "PROCESS", "Ports that a process uses", rest_options, CLI_COMPLETE_NONE, port_list},
    {"port attach", "PROCESS COMPONENT PORT DIRECTION", "Attach a port (vhost:0) to a component as its rx or tx", attach_options,
     CLI_COMPLETE_NONE, port_attach},
    {"port detach", "PROCESS COMPONENT PORT DIRECTION", "Detach a port", rest_options, CLI_COMPLETE_NONE, port_detach},
    {"port policy", "PORT",
     "What may come in by a port and how much may go through it: show it, or set it as a whole\n"
     "By the port's name, whether it is there or not. --macs and --untagged keep a machine of a flat network from other "
     "addresses and from tags.",
     policy_options, CLI_COMPLETE_NONE, cli_packet_policy},
    {"port capture", "PORT [FILE]",
     "Copy a port's frames into a file (pcap) or pipe; without FILE, show how it goes\n"
     "At the plane's socket (-s): penstockd's is packet.sock in its state's folder, and ports are called as there. What the file "
     "is too slow for is lost and counted; "
     "the port is never held up.",
     capture_options, CLI_COMPLETE_NONE, cli_packet_capture},
    {"classifier list", "PROCESS", "Where addresses lead", rest_options, CLI_COMPLETE_NONE, classifier_list},
    {"classifier add", "PROCESS ADDRESS PORT", "Lead an address, or default, to a port", entry_options, CLI_COMPLETE_NONE,
     classifier_add},
    {"classifier remove", "PROCESS ADDRESS PORT", "Remove an entry", entry_options, CLI_COMPLETE_NONE, classifier_remove},
    {0},
};
