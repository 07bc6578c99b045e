/* Verbs on one port: its policy, by REST, and a capture of it, by the plane's own socket. */
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "cli/packet/packet.h"

/* ---- policies ---- */

/* "1,2" as an array of texts. */
static json_t *split(const char *list) {
    json_t *items = json_array();
    for (const char *at = list;; at++) {
        size_t length = strcspn(at, ",");
        json_array_append_new(items, json_stringn(at, length));
        at += length;
        if (*at == '\0')
            return items;
    }
}

static bool read_vlans(struct cli *cli, const char *text, json_t *policy) {
    json_t *texts = split(text), *vlans = json_array(), *item;
    size_t i;
    uint64_t vid;
    json_object_set_new(policy, "vlans", vlans);
    json_array_foreach(texts, i, item) {
        if (!text_parse_u64(json_string_value(item), 4095, &vid)) {
            json_decref(texts);
            return error_invalid(&cli->error, "--vlans", text, "VLANs, 0 to 4095, with commas between them");
        }
        json_array_append_new(vlans, json_integer((json_int_t)vid));
    }
    json_decref(texts);
    return true;
}

/* Decimal: 10G are 10,000,000,000. */
static bool read_rate(struct cli *cli, const char *option, json_t *rate, const char *unit) {
    static const char letters[] = "kMGT";
    const char *text = cli_option(cli, option);
    char digits[24];
    uint64_t value = 0, scale = 1;
    if (text == NULL)
        return true;
    size_t length = strlen(text);
    const char *letter = length > 1 ? strchr(letters, text[length - 1]) : NULL;
    for (const char *l = letters; letter != NULL && l <= letter; l++)
        scale *= 1000;
    snprintf(digits, sizeof(digits), "%.*s", (int)min_u64(length - (letter != NULL), sizeof(digits) - 1), text);
    if (!text_parse_u64(digits, UINT64_C(400000000000) / scale, &value))
        return error_invalid(&cli->error, option, text, "a number up to 400G");
    json_object_set_new(rate, unit, json_integer((json_int_t)(value * scale)));
    return true;
}

static bool read_policy(struct cli *cli, json_t *policy) {
    const char *macs = cli_option(cli, "--macs"), *vlans = cli_option(cli, "--vlans");
    json_t *rx = json_object(), *tx = json_object();
    json_object_set_new(policy, "rx_rate", rx);
    json_object_set_new(policy, "tx_rate", tx);
    if (macs != NULL)
        json_object_set_new(policy, "macs", split(macs));
    json_object_set_new(policy, "vlan_check", json_boolean(vlans != NULL || cli_option(cli, "--untagged") != NULL));
    return (vlans == NULL || read_vlans(cli, vlans, policy)) && read_rate(cli, "--rx-bits", rx, "bits_per_s") &&
           read_rate(cli, "--rx-frames", rx, "packets_per_s") && read_rate(cli, "--tx-bits", tx, "bits_per_s") &&
           read_rate(cli, "--tx-frames", tx, "packets_per_s");
}

static void put_list(const char *title, const json_t *items) {
    json_t *item;
    size_t i;
    printf("%s:", title);
    json_array_foreach((json_t *)items, i, item) {
        if (json_is_integer(item))
            printf("%s%" JSON_INTEGER_FORMAT, i == 0 ? " " : ", ", json_integer_value(item));
        else
            printf("%s%s", i == 0 ? " " : ", ", json_string_value(item));
    }
    printf("%s\n", json_array_size(items) == 0 ? " any" : "");
}

static void put_rate(const char *title, const json_t *rate) {
    json_int_t bits = json_integer_value(json_object_get(rate, "bits_per_s"));
    json_int_t frames = json_integer_value(json_object_get(rate, "packets_per_s"));
    printf("%s:", title);
    if (bits > 0)
        printf(" %" JSON_INTEGER_FORMAT " bit/s", bits);
    if (frames > 0)
        printf("%s %" JSON_INTEGER_FORMAT " frames/s", bits > 0 ? "," : "", frames);
    printf("%s\n", bits == 0 && frames == 0 ? " any" : "");
}

static void show_policy(const json_t *policy) {
    const json_t *vlans = json_object_get(policy, "vlans");
    put_list("addresses", json_object_get(policy, "macs"));
    if (json_is_true(json_object_get(policy, "vlan_check")) && json_array_size(vlans) == 0)
        printf("tags: none\n");
    else
        put_list(json_array_size(vlans) > 0 ? "tags: none, or" : "tags", vlans);
    put_rate("in", json_object_get(policy, "rx_rate"));
    put_rate("out", json_object_get(policy, "tx_rate"));
}

bool cli_packet_policy(struct cli *cli) {
    static const char *const setting[] = {"--macs",      "--untagged", "--vlans",    "--rx-bits",
                                          "--rx-frames", "--tx-bits",  "--tx-frames"};
    char path[128];
    bool sets = false;
    json_t *answer;
    for (size_t i = 0; i < array_count(setting); i++)
        sets = sets || cli_option(cli, setting[i]) != NULL;
    if (!text_is_name(cli->arguments[0], 40))
        return error_invalid(&cli->error, "PORT", cli->arguments[0], "a port's name, such as vhost:0");
    snprintf(path, sizeof(path), "/v1/ports/%s/policy", cli->arguments[0]);
    if (sets && cli_option(cli, "--none") != NULL)
        return error_set(&cli->error, ERROR_INVALID, "--none: nothing else beside it");
    if (cli_option(cli, "--none") != NULL)
        return cli_rest_do(cli, "DELETE", path, NULL);
    if (sets) {
        json_t *policy = json_object();
        if (read_policy(cli, policy))
            return cli_rest_do(cli, "PUT", path, policy);
        json_decref(policy);
        return false;
    }
    if (!cli_rest(cli, "GET", path, NULL, &answer))
        return false;
    if (cli_wants_data(cli))
        cli_print(cli, answer);
    else
        show_policy(answer);
    json_decref(answer);
    return true;
}

/* ---- captures ---- */

static bool add_number(struct cli *cli, const char *option, json_t *params, const char *key) {
    const char *text = cli_option(cli, option);
    uint64_t value;
    if (text == NULL)
        return true;
    if (!text_parse_u64(text, INT64_MAX, &value))
        return error_invalid(&cli->error, option, text, "a number of bytes");
    json_object_set_new(params, key, json_integer((json_int_t)value));
    return true;
}

static void print_number(const json_t *of, const char *key) {
    printf("%" JSON_INTEGER_FORMAT, json_integer_value(json_object_get(of, key)));
}

static void show_capture(const json_t *capture) {
    print_number(capture, "packets");
    printf(" frames, ");
    print_number(capture, "bytes");
    printf(" bytes, ");
    print_number(capture, "lost");
    const char *failure = json_string_value(json_object_get(capture, "failure"));
    printf(" lost%s%s%s\n", json_is_true(json_object_get(capture, "full")) ? ", the file is full" : "",
           failure != NULL ? ", " : "", failure != NULL ? failure : "");
}

static bool stop_capture(struct cli *cli, const char *port) {
    json_t *result;
    if (!cli_call(cli, "packet_capture_stop", json_pack("{ss}", "port", port), &result))
        return false;
    if (cli_wants_data(cli))
        cli_print(cli, result);
    else
        show_capture(result);
    json_decref(result);
    return true;
}

static bool look_at_capture(struct cli *cli, const char *port) {
    json_t *all, *capture, *found = NULL;
    size_t i;
    if (!cli_call(cli, "packet_get_captures", NULL, &all))
        return false;
    json_array_foreach(all, i, capture) if (strcmp(cli_member(capture, "port"), port) == 0) found = capture;
    if (found == NULL)
        error_set(&cli->error, ERROR_NOT_FOUND, "%s is not captured: say into which FILE", port);
    else if (cli_wants_data(cli))
        cli_print(cli, found);
    else
        show_capture(found);
    json_decref(all);
    return found != NULL;
}

bool cli_packet_capture(struct cli *cli) {
    const char *port = cli->arguments[0], *file = cli->arguments[1], *filter = cli_option(cli, "--filter");
    const char *direction = cli_option(cli, "--direction");
    json_t *result;
    if (cli_option(cli, "--stop") != NULL)
        return stop_capture(cli, port);
    if (file == NULL)
        return look_at_capture(cli, port);
    json_t *params = json_pack("{ss ss}", "port", port, "file", file);
    if (filter != NULL)
        json_object_set_new(params, "filter", json_string(filter));
    if (direction != NULL)
        json_object_set_new(params, "direction", json_string(direction));
    if (!add_number(cli, "--snap-length", params, "snap_length") || !add_number(cli, "--limit-bytes", params, "limit_bytes")) {
        json_decref(params);
        return false;
    }
    if (!cli_call(cli, "packet_capture_start", params, &result))
        return false;
    json_decref(result);
    return true;
}
