/* Fuzzes the check of the wiring's records, as a daemon reads them from its state: the first byte says of what kind, a line is
 * the name, the rest is the record. What is accepted is accepted again in other words, compiles, and takes edits: each of those
 * leaves a record that is accepted, or nothing changed. */
#include <stdlib.h>
#include <string.h>

#include "support/packet_keeper.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What an edit came to. */
static void held(json_t *wiring, json_t *take_before, bool ok, const struct error *error) {
    if (ok)
        packet_keeper_check(wiring);
    else
        assert(json_equal(wiring, take_before) && error->text[0] != '\0');
    json_decref(take_before);
}

static const char *text_of(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

#define EDIT(call)                                                                                                               \
    do {                                                                                                                         \
        struct error error = {0};                                                                                                \
        json_t *before = json_deep_copy(wiring);                                                                                 \
        bool ok = (call);                                                                                                        \
        held(wiring, before, ok, &error);                                                                                        \
    } while (false)

/* All that can be done to one of the process's components. */
static void edit_component(json_t *wiring, const char *key, const json_t *component) {
    static const struct wiring_way tagged = {.operation = "add", .id = 7, .pcp = 1};
    static const char *const directions[] = {"rx", "tx"};
    const char *name = text_of(component, "name");
    for (unsigned i = 0; i < 2; i++) {
        json_t *end = json_array_get(json_object_get(component, directions[i]), 0);
        if (end != NULL)
            EDIT(wiring_detach(wiring, key, name, text_of(end, "port"), directions[i], &error));
        EDIT(wiring_attach(wiring, key, name, "ring:9", directions[i], &tagged, &error));
        EDIT(wiring_attach(wiring, key, name, "pipe:1", directions[i], NULL, &error));
    }
    EDIT(wiring_add_entry(wiring, key, "fa:16:3e:00:00:01", 5, "ring:9", &error));
    EDIT(wiring_remove_entry(wiring, key, "fa:16:3e:00:00:01", 5, "ring:9", &error));
    EDIT(wiring_remove_component(wiring, key, name, &error));
}

static void edit_process(json_t *wiring, const char *key) {
    json_t *process = json_deep_copy(wiring_process(wiring, key)), *item;
    size_t i;
    json_array_foreach(json_object_get(process, "components"), i, item) edit_component(wiring, key, item);
    json_array_foreach(json_object_get(process, "table"), i, item)
        EDIT(wiring_remove_entry(wiring, key, text_of(item, "mac"), (int)json_integer_value(json_object_get(item, "vlan")),
                                 text_of(item, "port"), &error));
    EDIT(wiring_add_component(wiring, key, "n", 2, "forward", &error));
    EDIT(wiring_add_port(wiring, key, "ring:8", NULL, NULL, &error));
    EDIT(wiring_add_port(wiring, key, "pipe:1", "ring:6", "ring:7", &error));
    EDIT(wiring_add_port(wiring, key, "pipe:2", "ring:6", "phy:7", &error));
    EDIT(wiring_patch(wiring, key, "ring:8", "pipe:1", &error));
    EDIT(wiring_run(wiring, key, true, "/tmp/f", &error));
    EDIT(wiring_remove_port(wiring, key, "ring:8", &error));
    EDIT(wiring_reset_patches(wiring, key, &error));
    json_array_foreach(json_object_get(process, "ports"), i, item)
        EDIT(wiring_remove_port(wiring, key, json_string_value(item), &error));
    EDIT(wiring_remove_process(wiring, key, &error));
    json_decref(process);
}

static void take(unsigned kind, const char *name, const json_t *record) {
    static const char *const folders[] = {"processes", "ports", "policies"};
    json_t *wiring = wiring_create();
    json_object_set_new(json_object_get(wiring, folders[kind]), name, json_deep_copy(record));
    packet_keeper_check(wiring);
    if (kind == 0)
        edit_process(wiring, name);
    else if (kind == 1)
        EDIT(wiring_set_port(wiring, name, NULL, &error));
    else
        EDIT(wiring_set_policy(wiring, name, record, &error));
    json_decref(wiring);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static bool (*const checks[])(const char *name, const json_t *record,
                                  struct error *error) = {wiring_check_process, wiring_check_port_options, wiring_check_policy};
    const uint8_t *end = size > 0 ? memchr(data, '\n', size) : NULL;
    if (end == NULL || end == data || end - data > 100 || size > 16384)
        return 0;
    struct error error;
    unsigned kind = data[0] % 3;
    char name[101] = "";
    memcpy(name, data + 1, (size_t)(end - data) - 1);
    json_t *record = json_loadb((const char *)end + 1, size - (size_t)(end + 1 - data), 0, NULL);
    if (record != NULL && checks[kind](name, record, &error))
        take(kind, name, record);
    else if (record != NULL)
        assert(error.text[0] != '\0');
    json_decref(record);
    return 0;
}
