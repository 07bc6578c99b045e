/* What programs read: a value as JSON or as YAML. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <yaml.h>

#include "cli/cli.h"

/* True if a reader of YAML takes the bare word for this text and for nothing else. */
static bool is_bare(const char *text) {
    static const char *const others[] = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"};
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    size_t first = strspn(text, letters);
    if (first == 0 ||
        text[first + strspn(text + first, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./")] != 0)
        return false;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        if (strcasecmp(text, others[i]) == 0)
            return false;
    return true;
}

static void put(yaml_emitter_t *emitter, yaml_event_t *event, int made) {
    if (made == 0 || yaml_emitter_emit(emitter, event) == 0)
        abort(); /* no memory: nothing sensible can be printed */
}

static void put_text(yaml_emitter_t *emitter, const char *text, bool bare) {
    yaml_event_t event;
    put(emitter, &event,
        yaml_scalar_event_initialize(&event, NULL, NULL, (const yaml_char_t *)text, (int)strlen(text), 1, 1,
                                     bare ? YAML_PLAIN_SCALAR_STYLE : YAML_DOUBLE_QUOTED_SCALAR_STYLE));
}

static void put_value(yaml_emitter_t *emitter, const json_t *value) {
    yaml_event_t event;
    char number[64];
    const char *key;
    json_t *item;
    size_t i;
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        put(emitter, &event,
            yaml_mapping_start_event_initialize(
                &event, NULL, NULL, 1, json_object_size(value) == 0 ? YAML_FLOW_MAPPING_STYLE : YAML_BLOCK_MAPPING_STYLE));
        json_object_foreach((json_t *)value, key, item) {
            put_text(emitter, key, is_bare(key));
            put_value(emitter, item);
        }
        put(emitter, &event, yaml_mapping_end_event_initialize(&event));
        break;
    case JSON_ARRAY:
        put(emitter, &event,
            yaml_sequence_start_event_initialize(
                &event, NULL, NULL, 1, json_array_size(value) == 0 ? YAML_FLOW_SEQUENCE_STYLE : YAML_BLOCK_SEQUENCE_STYLE));
        json_array_foreach(value, i, item) put_value(emitter, item);
        put(emitter, &event, yaml_sequence_end_event_initialize(&event));
        break;
    case JSON_STRING: put_text(emitter, json_string_value(value), is_bare(json_string_value(value))); break;
    default:
        if (json_dumpb(value, number, sizeof(number), JSON_ENCODE_ANY) < sizeof(number))
            number[json_dumpb(value, number, sizeof(number), JSON_ENCODE_ANY)] = '\0';
        put_text(emitter, number, true);
    }
}

static void print_yaml(const json_t *value) {
    yaml_emitter_t emitter;
    yaml_event_t event;
    if (yaml_emitter_initialize(&emitter) == 0)
        abort();
    yaml_emitter_set_output_file(&emitter, stdout);
    yaml_emitter_set_unicode(&emitter, 1);
    yaml_emitter_set_width(&emitter, -1);
    put(&emitter, &event, yaml_stream_start_event_initialize(&event, YAML_UTF8_ENCODING));
    put(&emitter, &event, yaml_document_start_event_initialize(&event, NULL, NULL, NULL, 1));
    put_value(&emitter, value);
    put(&emitter, &event, yaml_document_end_event_initialize(&event, 1));
    put(&emitter, &event, yaml_stream_end_event_initialize(&event));
    yaml_emitter_delete(&emitter);
}

void cli_print(const struct cli *cli, const json_t *value) {
    if (cli->output == CLI_YAML) {
        print_yaml(value);
        return;
    }
    json_dumpf(value, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
    fputc('\n', stdout);
}
