#include "gateway/spp/command.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/text.h"
#include "control/packet/wiring.h"

struct words {
    const char *type;
    unsigned id, count;
    char bytes[COMMAND_BYTES_MAX + 1];
    char *word[COMMAND_WORDS_MAX];
};

static bool is(const struct words *words, unsigned at, const char *what) {
    return at < words->count && strcmp(words->word[at], what) == 0;
}

static bool wrong_format(struct error *error) { return error_set(error, ERROR_INVALID, "Wrong message format"); }

static bool invalid(struct error *error, const char *what) {
    return error_set(error, ERROR_INVALID, "Invalid value (%.60s)", what);
}

/* One more than `max` is noticed. */
static bool split(struct words *words, const char *text, unsigned max) {
    snprintf(words->bytes, sizeof(words->bytes), "%s", text);
    for (char *at = words->bytes;;) {
        at += strspn(at, " \t\r\n");
        if (*at == '\0')
            return words->count > 0;
        if (words->count == max)
            return false;
        words->word[words->count++] = at;
        at += strcspn(at, " \t\r\n");
        if (*at != '\0')
            *at++ = '\0';
    }
}

static bool request(const struct words *words, struct command *ret, const char *method, const char *rest, json_t *take_body) {
    ret->kind = COMMAND_DO;
    ret->method = method;
    ret->body = take_body;
    if (strcmp(words->type, "primary") == 0)
        snprintf(ret->path, sizeof(ret->path), "/v1/primary%s%s", rest[0] != '\0' ? "/" : "", rest);
    else
        snprintf(ret->path, sizeof(ret->path), "/v1/%ss/%u%s%s", words->type, words->id, rest[0] != '\0' ? "/" : "", rest);
    return true;
}

/* A number, or the text as it is: REST says what is wrong with it. */
static json_t *number_or_text(const char *text) {
    uint64_t number;
    return text_parse_u64(text, UINT32_MAX, &number) ? json_integer((json_int_t)number) : json_string(text);
}

/* ---- vf and mirror ---- */

static bool parse_component(const struct words *words, struct command *ret, struct error *error) {
    char rest[WIRING_NAME_MAX + 16];
    if (is(words, 1, "start") && words->count == 5)
        return request(
            words, ret, "POST", "components",
            json_pack("{ss so ss}", "name", words->word[2], "core", number_or_text(words->word[3]), "type", words->word[4]));
    if (!is(words, 1, "stop") || words->count != 3)
        return wrong_format(error);
    if (!text_is_name(words->word[2], WIRING_NAME_MAX))
        return invalid(error, "name");
    snprintf(rest, sizeof(rest), "components/%.40s", words->word[2]);
    return request(words, ret, "DELETE", rest, NULL);
}

static bool parse_port(const struct words *words, struct command *ret, struct error *error) {
    char rest[WIRING_NAME_MAX + 24];
    bool add = is(words, 1, "add"), push = is(words, 5, "add_vlantag") && words->count == 8,
         pop = is(words, 5, "del_vlantag") && words->count == 6;
    if ((!add && !is(words, 1, "del")) || (words->count != 5 && !(add && (push || pop))))
        return wrong_format(error);
    if (!text_is_name(words->word[4], WIRING_NAME_MAX))
        return invalid(error, "name");
    json_t *body = json_pack("{ss ss ss}", "action", add ? "attach" : "detach", "port", words->word[2], "dir", words->word[3]);
    if (push)
        json_object_set_new(body, "vlan",
                            json_pack("{ss so so}", "operation", "add", "id", number_or_text(words->word[6]), "pcp",
                                      number_or_text(words->word[7])));
    else if (pop)
        json_object_set_new(body, "vlan", json_pack("{ss}", "operation", "del"));
    snprintf(rest, sizeof(rest), "components/%.40s/ports", words->word[4]);
    return request(words, ret, "PUT", rest, body);
}

static bool parse_table(const struct words *words, struct command *ret, struct error *error) {
    bool tagged = is(words, 2, "vlan");
    if ((!is(words, 1, "add") && !is(words, 1, "del")) || (!tagged && !is(words, 2, "mac")) || words->count != (tagged ? 6 : 5))
        return wrong_format(error);
    unsigned at = tagged ? 4 : 3;
    json_t *body = json_pack("{ss ss ss ss}", "action", words->word[1], "type", words->word[2], "mac_address", words->word[at],
                             "port", words->word[at + 1]);
    if (tagged)
        json_object_set_new(body, "vlan", number_or_text(words->word[3]));
    return request(words, ret, "PUT", "classifier_table", body);
}

/* ---- nfv and primary ---- */

/* "launch ID PROC EAL… -- APP…": options with their values, which do not begin with a dash. */
static json_t *read_options(const struct words *words, unsigned *at) {
    json_t *options = json_object();
    while (*at < words->count && strcmp(words->word[*at], "--") != 0) {
        const char *name = words->word[(*at)++];
        bool valued = *at < words->count && words->word[*at][0] != '-';
        const char *equals = strchr(name, '=');
        if (equals != NULL)
            json_object_setn_new(options, name, (size_t)(equals - name), json_string(equals + 1));
        else
            json_object_set_new(options, name, json_string(valued ? words->word[(*at)++] : ""));
    }
    return options;
}

static bool parse_launch(const struct words *words, struct command *ret, struct error *error) {
    unsigned at = 3;
    if (words->count < 4)
        return wrong_format(error);
    json_t *eal = read_options(words, &at);
    at++;
    json_t *app = read_options(words, &at);
    return request(words, ret, "PUT", "launch",
                   json_pack("{so ss so so}", "client_id", number_or_text(words->word[1]), "proc_name", words->word[2], "eal",
                             eal, "app", app));
}

static bool parse_forwarder(const struct words *words, struct command *ret, struct error *error) {
    bool primary = strcmp(words->type, "primary") == 0;
    if ((is(words, 0, "add") || is(words, 0, "del")) && words->count == 2)
        return request(words, ret, "PUT", "ports", json_pack("{ss ss}", "action", words->word[0], "port", words->word[1]));
    if (primary && is(words, 0, "add") && words->count == 4)
        return request(
            words, ret, "PUT", "ports",
            json_pack("{ss ss ss ss}", "action", "add", "port", words->word[1], "rx", words->word[2], "tx", words->word[3]));
    if (is(words, 0, "patch") && is(words, 1, "reset") && words->count == 2)
        return request(words, ret, "DELETE", "patches", NULL);
    if (is(words, 0, "patch") && words->count == 3)
        return request(words, ret, "PUT", "patches", json_pack("{ss ss}", "src", words->word[1], "dst", words->word[2]));
    if ((is(words, 0, "forward") || is(words, 0, "stop")) && words->count == 1)
        return request(words, ret, "PUT", "forward", json_pack("{ss}", "action", is(words, 0, "stop") ? "stop" : "start"));
    if (primary && is(words, 0, "clear") && words->count == 1)
        return request(words, ret, "DELETE", "status", NULL);
    if (primary && is(words, 0, "launch"))
        return parse_launch(words, ret, error);
    return error_set(error, ERROR_INVALID, "Unknown command(%.60s)", words->word[0]);
}

/* ---- all ---- */

static bool parse_words(const struct words *words, struct command *ret, struct error *error) {
    bool vf = strcmp(words->type, "vf") == 0, mirror = strcmp(words->type, "mirror") == 0;
    if (words->count == 1 && is(words, 0, "_get_client_id")) {
        ret->kind = COMMAND_CLIENT_ID;
        return true;
    }
    if (words->count == 1 && is(words, 0, "status")) {
        bool ok = request(words, ret, "GET", strcmp(words->type, "primary") == 0 ? "status" : "", NULL);
        ret->kind = COMMAND_STATUS;
        return ok;
    }
    if (words->count == 1 && is(words, 0, "exit"))
        return request(words, ret, "DELETE", "", NULL);
    /* Until the middle of 2018 commands were gathered until "flush"; since then each takes effect by itself. */
    if ((vf || mirror) && words->count == 1 && (is(words, 0, "flush") || is(words, 0, "cancel"))) {
        ret->kind = COMMAND_NOTHING;
        return true;
    }
    if ((vf || mirror) && is(words, 0, "component"))
        return parse_component(words, ret, error);
    if ((vf || mirror) && is(words, 0, "port"))
        return parse_port(words, ret, error);
    if (vf && is(words, 0, "classifier_table"))
        return parse_table(words, ret, error);
    if (strcmp(words->type, "pcap") == 0 && words->count == 1 && (is(words, 0, "start") || is(words, 0, "stop")))
        return request(words, ret, "PUT", "capture", json_pack("{ss}", "action", words->word[0]));
    if (strcmp(words->type, "nfv") == 0 || strcmp(words->type, "primary") == 0)
        return parse_forwarder(words, ret, error);
    return error_set(error, ERROR_INVALID, "Unknown command(%.60s)", words->word[0]);
}

bool command_parse(const char *type, unsigned id, const char *text, struct command *ret, struct error *error) {
    struct words words = {.type = type, .id = id};
    bool few = strcmp(type, "primary") != 0 && strcmp(type, "nfv") != 0;
    *ret = (struct command){0};
    if (!split(&words, text, few ? 8 : COMMAND_WORDS_MAX))
        return wrong_format(error);
    snprintf(ret->word, sizeof(ret->word), "%s", words.word[0]);
    if (words.count > 1)
        snprintf(ret->subject, sizeof(ret->subject), "%s", words.word[1]);
    return parse_words(&words, ret, error);
}

void command_fini(struct command *command) {
    json_decref(command->body);
    command->body = NULL;
}

/* ---- answers ---- */

static bool speaks_results(const char *type) { return strcmp(type, "nfv") != 0 && strcmp(type, "primary") != 0; }

json_t *command_refusal(const char *type, const char *message) {
    if (speaks_results(type))
        return json_pack("{s[{ss s{ss}}]}", "results", "result", "error", "error_details", "message", message);
    return json_pack("{ss ss}", "result", "failed", "error", message);
}

/* "phy": [0], "vhost": [0, 1], … of "ports": ["phy:0", …]. */
static void put_numbers(json_t *info, const json_t *ports) {
    static const char *const kinds[] = {"phy", "vhost", "ring"};
    size_t i;
    json_t *port;
    for (size_t k = 0; k < array_count(kinds); k++) {
        json_t *numbers = json_array();
        json_array_foreach((json_t *)ports, i, port) {
            const char *name = json_string_value(port);
            if (strncmp(name, kinds[k], strlen(kinds[k])) == 0 && name[strlen(kinds[k])] == ':')
                json_array_append_new(numbers, json_integer(wiring_port_number(name)));
        }
        json_object_set_new(info, kinds[k], numbers);
    }
}

static bool is_used(const json_t *components, const json_t *core) {
    size_t i;
    json_t *component;
    json_array_foreach((json_t *)components, i,
                       component) if (json_equal(json_object_get(component, "core"), (json_t *)core)) return true;
    return false;
}

/* Components, and the cores without one. */
static json_t *list_cores(const json_t *components, const json_t *cores) {
    json_t *list = json_copy((json_t *)components), *core;
    size_t i;
    json_array_foreach((json_t *)cores, i, core) if (!is_used(components, core))
        json_array_append_new(list, json_pack("{sO ss}", "core", core, "type", "unuse"));
    return list;
}

/* REST's body of a vf or mirror, as the process itself tells it. */
static json_t *make_info(json_t *take_shown, const json_t *process) {
    json_t *info = json_object();
    if (json_object_get(take_shown, "components") == NULL) { /* a pcap: the same both ways */
        json_decref(info);
        return take_shown;
    }
    json_object_set(info, "client-id", json_object_get(take_shown, "client-id"));
    put_numbers(info, json_object_get(take_shown, "ports"));
    json_object_set(info, "master-lcore", json_object_get(take_shown, "master-lcore"));
    json_object_set_new(info, "core", list_cores(json_object_get(take_shown, "components"), json_object_get(process, "cores")));
    if (json_object_get(take_shown, "classifier_table") != NULL)
        json_object_set(info, "classifier_table", json_object_get(take_shown, "classifier_table"));
    json_decref(take_shown);
    return info;
}

json_t *command_answer(const char *type, unsigned id, const struct command *command, const json_t *process, unsigned status,
                       const char *text) {
    if (status >= 300)
        return command_refusal(type, text != NULL ? text : "error occur");
    json_t *shown = command->kind == COMMAND_STATUS && text != NULL ? json_loads(text, 0, NULL) : NULL;
    if (command->kind == COMMAND_STATUS && !speaks_results(type))
        return shown;
    if (command->kind == COMMAND_CLIENT_ID)
        return json_pack("{s[{ss}] si ss}", "results", "result", "success", "client_id", (int)id, "process_type", type);
    if (!speaks_results(type)) {
        json_t *answer = json_pack("{ss ss}", "result", "succeeded", "command", command->word);
        if (strcmp(command->word, "add") == 0 || strcmp(command->word, "del") == 0)
            json_object_set_new(answer, "port", json_string(command->subject));
        return answer;
    }
    json_t *answer = json_pack("{s[{ss}]}", "results", "result", "success");
    if (shown != NULL)
        json_object_set_new(answer, "info", make_info(shown, process));
    return answer;
}
