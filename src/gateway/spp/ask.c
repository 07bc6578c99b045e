#include "gateway/spp/ask.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/text.h"
#include "control/packet/wiring.h"
#include "gateway/spp/body.h"

/* ---- words of commands ---- */

struct making {
    const char *type, *method;
    char *const *words;
    unsigned count;
    const json_t *body;
    struct text text;
};

static void put(struct making *making, const char *word) {
    text_appendf(&making->text, "%s%s", making->text.length > 0 ? " " : "", word);
}

static void put_number(struct making *making, json_int_t number) {
    text_appendf(&making->text, " %" JSON_INTEGER_FORMAT, number);
}

static bool one_word(const char *field, const char *word, struct error *error) {
    bool ok = word[0] != '\0' && strlen(word) <= 255;
    for (const char *c = word; *c != '\0'; c++)
        ok = ok && *c > ' ' && *c <= '~';
    return ok || error_invalid(error, field, word, "printable characters without blanks, at most 255");
}

/* A text of the body, as a word. */
static bool put_text(struct making *making, const char *key, struct error *error) {
    const char *text;
    if (!body_text(making->body, key, &text, error) || !one_word(key, text, error))
        return false;
    put(making, text);
    return true;
}

static bool put_port(struct making *making, const char *key, struct error *error) {
    const char *port;
    char plain[WIRING_PORT_MAX + 1];
    if (!body_text(making->body, key, &port, error))
        return false;
    /* Its ports may have queues: "phy:0nq1". */
    const char *queue = strncmp(port, "phy:", 4) == 0 ? strstr(port, "nq") : NULL;
    snprintf(plain, sizeof(plain), "%.*s", queue != NULL ? (int)(queue - port) : WIRING_PORT_MAX, port);
    uint64_t number;
    if (queue != NULL && !text_parse_u64(queue + 2, 65535, &number))
        return error_invalid(error, key, port, "phy:NUMBERnqQUEUE");
    if (!wiring_check_port(queue != NULL ? plain : port, key, error))
        return false;
    put(making, port);
    return true;
}

static bool put_choice(struct making *making, const char *key, const char *first, const char *second, const char *as_first,
                       const char *as_second, struct error *error) {
    bool is_first;
    if (!body_choice(making->body, key, first, second, &is_first, error))
        return false;
    put(making, is_first ? as_first : as_second);
    return true;
}

/* ---- vf and mirror ---- */

static bool make_component(struct making *making, struct error *error) {
    json_int_t core;
    const char *name, *type;
    put(making, "component start");
    if (!body_text(making->body, "name", &name, error) ||
        !body_number(making->body, "core", WIRING_CORES_MAX * 2 - 1, &core, error) ||
        !body_text(making->body, "type", &type, error))
        return false;
    if (!text_is_name(name, WIRING_NAME_MAX))
        return error_invalid(error, "name", name, "1 to %d printable characters without blanks and /", WIRING_NAME_MAX);
    put(making, name);
    put_number(making, core);
    return put_text(making, "type", error);
}

static bool make_port(struct making *making, struct error *error) {
    const json_t *vlan;
    const char *operation;
    json_int_t id, pcp;
    bool attach;
    if (!body_choice(making->body, "action", "attach", "detach", &attach, error))
        return false;
    put(making, attach ? "port add" : "port del");
    if (!put_port(making, "port", error) || !put_choice(making, "dir", "rx", "tx", "rx", "tx", error))
        return false;
    put(making, making->words[1]);
    if (!attach || strcmp(making->type, "vf") != 0 || json_object_get(making->body, "vlan") == NULL)
        return true;
    if (!body_object(making->body, "vlan", &vlan, error) || !body_text(vlan, "operation", &operation, error))
        return false;
    if (strcmp(operation, "none") == 0)
        return true;
    if (strcmp(operation, "del") == 0) {
        put(making, "del_vlantag");
        return true;
    }
    if (strcmp(operation, "add") != 0)
        return error_invalid(error, "vlan.operation", operation, "none, add or del");
    if (!body_number(vlan, "id", 4095, &id, error) || !body_number(vlan, "pcp", 7, &pcp, error))
        return false;
    put(making, "add_vlantag");
    put_number(making, id);
    put_number(making, pcp);
    return true;
}

static bool make_entry(struct making *making, struct error *error) {
    const char *mac;
    char normal[24];
    json_int_t vlan = 0;
    bool untagged;
    put(making, "classifier_table");
    if (!put_choice(making, "action", "add", "del", "add", "del", error) ||
        !body_choice(making->body, "type", "mac", "vlan", &untagged, error) ||
        !body_text(making->body, "mac_address", &mac, error) || !wiring_normalize_mac(mac, "mac_address", normal, error) ||
        (!untagged && !body_number(making->body, "vlan", 4095, &vlan, error)))
        return false;
    put(making, untagged ? "mac" : "vlan");
    if (!untagged)
        put_number(making, vlan);
    put(making, normal);
    return put_port(making, "port", error);
}

static bool make_for_vf(struct making *making, struct error *error) {
    const char *const *words = (const char *const *)making->words;
    bool post = strcmp(making->method, "POST") == 0;
    if (strcmp(words[0], "classifier_table") == 0)
        return make_entry(making, error);
    if (post)
        return make_component(making, error);
    if (!text_is_name(words[1], WIRING_NAME_MAX))
        return error_invalid(error, "name", words[1], "1 to %d printable characters without blanks and /", WIRING_NAME_MAX);
    if (making->count == 3)
        return make_port(making, error);
    put(making, "component stop");
    put(making, words[1]);
    return true;
}

/* ---- nfv and primary ---- */

static bool make_forwarder_port(struct making *making, struct error *error) {
    bool pipe = json_object_get(making->body, "rx") != NULL;
    return put_choice(making, "action", "add", "del", "add", "del", error) && put_port(making, "port", error) &&
           (!pipe || (put_port(making, "rx", error) && put_port(making, "tx", error)));
}

static bool put_options(struct making *making, const char *key, struct error *error) {
    const json_t *options;
    const char *name;
    json_t *value;
    if (!body_object(making->body, key, &options, error))
        return false;
    json_object_foreach((json_t *)options, name, value) {
        const char *text = json_string_value(value);
        if (!one_word(key, name, error))
            return false;
        if (text == NULL)
            return error_invalid(error, name, "", "a text");
        put(making, name);
        if (text[0] != '\0' && !one_word(name, text, error))
            return false;
        if (text[0] != '\0')
            put(making, text);
    }
    return true;
}

static bool make_launch(struct making *making, struct error *error) {
    json_int_t id;
    put(making, "launch");
    if (!body_number(making->body, "client_id", WIRING_ID_MAX, &id, error))
        return false;
    put_number(making, id);
    if (!put_text(making, "proc_name", error) || !put_options(making, "eal", error))
        return false;
    put(making, "--");
    return put_options(making, "app", error);
}

static bool make_for_forwarder(struct making *making, struct error *error) {
    const char *word = making->words[0];
    bool delete = strcmp(making->method, "DELETE") == 0;
    if (strcmp(word, "forward") == 0)
        return put_choice(making, "action", "start", "stop", "forward", "stop", error);
    if (strcmp(word, "ports") == 0)
        return make_forwarder_port(making, error);
    if (strcmp(word, "launch") == 0)
        return make_launch(making, error);
    if (strcmp(word, "flow_rules") == 0)
        return error_set(error, ERROR_UNSUPPORTED, "flow rules are not passed on");
    put(making, strcmp(word, "status") == 0 ? "clear" : delete ? "patch reset" : "patch");
    return strcmp(word, "patches") != 0 || delete || (put_port(making, "src", error) && put_port(making, "dst", error));
}

/* ---- all ---- */

static bool make(struct making *making, struct ask *ret, struct error *error) {
    bool get = strcmp(making->method, "GET") == 0;
    if (get || making->count == 0) {
        ret->status = get;
        ret->exits = !get;
        put(making, get ? "status" : "exit");
        return true;
    }
    if (strcmp(making->type, "pcap") == 0)
        return put_choice(making, "action", "start", "stop", "start", "stop", error);
    if (strcmp(making->type, "nfv") == 0 || strcmp(making->type, "primary") == 0)
        return make_for_forwarder(making, error);
    return make_for_vf(making, error);
}

bool ask_make(const char *type, const char *method, char *const *words, unsigned count, const json_t *body, struct ask *ret,
              struct error *error) {
    struct making making = {.type = type, .method = method, .words = words, .count = count, .body = body};
    *ret = (struct ask){0};
    text_init(&making.text, sizeof(ret->text) - 1);
    bool ok = make(&making, ret, error);
    if (ok && making.text.failed)
        ok = error_set(error, ERROR_NO_SPACE, "a command of more than %d bytes", ASK_BYTES_MAX);
    if (ok)
        memcpy(ret->text, making.text.bytes, making.text.length + 1);
    text_fini(&making.text);
    return ok;
}

/* ---- answers ---- */

static const char *text_of(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

bool ask_read_hello(const json_t *answer, unsigned *ret_id, char ret_type[12]) {
    static const char *const types[] = {"vf", "nfv", "mirror", "pcap"};
    json_int_t id = json_integer_value(json_object_get(answer, "client_id"));
    for (size_t i = 0; i < array_count(types); i++)
        if (strcmp(types[i], text_of(answer, "process_type")) == 0 && id >= 1 && id <= WIRING_ID_MAX) {
            snprintf(ret_type, 12, "%s", types[i]);
            *ret_id = (unsigned)id;
            return true;
        }
    return false;
}

/* "phy:0nq1" of "0 nq 1", and "vhost:2" of 2. */
static void append_port(json_t *ports, const char *kind, const json_t *number) {
    char name[WIRING_PORT_MAX + 1];
    size_t length = (size_t)snprintf(name, sizeof(name), "%s:", kind);
    if (json_is_integer(number)) {
        json_array_append_new(ports, json_sprintf("%s:%" JSON_INTEGER_FORMAT, kind, json_integer_value(number)));
        return;
    }
    const char *text = json_string_value(number);
    for (; text != NULL && *text != '\0' && length < WIRING_PORT_MAX; text++)
        if (*text != ' ')
            name[length++] = *text;
    name[length] = '\0';
    json_array_append_new(ports, json_string(name));
}

/* What a vf or mirror tells of itself, as REST does. */
static json_t *show_info(const char *type, const json_t *info) {
    static const char *const kinds[] = {"phy", "vhost", "ring"};
    json_t *ports = json_array(), *components = json_array(), *item;
    size_t i;
    for (size_t k = 0; k < array_count(kinds); k++)
        json_array_foreach(json_object_get(info, kinds[k]), i, item) append_port(ports, kinds[k], item);
    json_array_foreach(json_object_get(info, "core"), i, item) if (strcmp(text_of(item, "type"), "unuse") != 0)
        json_array_append(components, item);
    json_t *shown = json_pack("{sO? so sO? so}", "client-id", json_object_get(info, "client-id"), "ports", ports, "master-lcore",
                              json_object_get(info, "master-lcore"), "components", components);
    if (strcmp(type, "vf") == 0)
        json_object_set(shown, "classifier_table", json_object_get(info, "classifier_table"));
    return shown;
}

bool ask_read(const char *type, const struct ask *ask, const json_t *answer, json_t **ret_body, struct error *error) {
    const json_t *first = json_array_get(json_object_get(answer, "results"), 0);
    const char *result = text_of(first != NULL ? first : answer, "result");
    *ret_body = NULL;
    if (strcmp(result, "error") == 0 || strcmp(result, "invalid") == 0) {
        const char *message = text_of(json_object_get(first, "error_details"), "message");
        return error_set(error, ERROR_INVALID, "%.200s", message[0] != '\0' ? message : result);
    }
    if (strcmp(result, "failed") == 0)
        return error_set(error, ERROR_INVALID, "%.200s: failed", ask->text);
    if (!ask->status)
        return true;
    const json_t *info = json_object_get(answer, "info");
    bool forwarder = strcmp(type, "nfv") == 0 || strcmp(type, "primary") == 0;
    if (!forwarder && !json_is_object(info))
        return error_set(error, ERROR_INVALID, "it told no status");
    *ret_body = forwarder                   ? json_incref((json_t *)answer)
                : strcmp(type, "pcap") == 0 ? json_incref((json_t *)info)
                                            : show_info(type, info);
    return true;
}

static void add_core(json_t *cores, const json_t *core) {
    size_t i;
    json_t *there;
    json_array_foreach(cores, i, there) if (json_equal(there, (json_t *)core)) return;
    json_array_append(cores, (json_t *)core);
}

json_t *ask_cpu_usage(const char *type, const json_t *body) {
    json_t *usage = json_pack("{ss}", "proc-type", type), *cores = json_array(), *item;
    json_t *master = json_object_get(body, "master-lcore"), *parts = json_object_get(body, "components");
    size_t i;
    if (strcmp(type, "primary") != 0)
        json_object_set(usage, "client-id", json_object_get(body, "client-id"));
    if (master != NULL) {
        json_object_set(usage, "master-lcore", master);
        add_core(cores, master);
    }
    json_array_foreach(json_object_get(body, "lcores"), i, item) add_core(cores, item);
    json_array_foreach(parts != NULL ? parts : json_object_get(body, "core"), i, item)
        add_core(cores, json_object_get(item, "core"));
    json_object_set_new(usage, "lcores", cores);
    return usage;
}
