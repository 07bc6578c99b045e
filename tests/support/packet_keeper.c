#include "support/packet_keeper.h"

#include <stdlib.h>

#include "control/packet/compile.h"
#include "control/packet/split.h"

struct packet_control *packet_keeper_create(struct reactor *reactor) {
    struct packet_control *control = calloc(1, sizeof(*control));
    assert(control != NULL);
    control->options.reactor = reactor;
    control->wiring =
        json_pack("{s{} s{s{ss} s{ss}} s{}}", "processes", "ports", "phy:0", "kind", "null", "phy:1", "kind", "null", "policies");
    assert(control->wiring != NULL);
    list_init(&control->watchers);
    return control;
}

void packet_keeper_destroy(struct packet_control *control) {
    json_decref(control->wiring);
    free(control);
}

static void check_records(const json_t *records, bool (*check)(const char *name, const json_t *value, struct error *error)) {
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)records, name, value) {
        struct error error;
        char *text = json_dumps(value, JSON_COMPACT);
        assert(text != NULL);
        json_t *again = json_loads(text, 0, NULL);
        assert(again != NULL && json_equal(again, value));
        bool ok = check(name, again, &error);
        assert(ok);
        json_decref(again);
        free(text);
    }
}

static bool is_text(const json_t *object, const char *key) { return json_is_string(json_object_get(object, key)); }

/* What the plane is told has names and numbers that it knows. */
static void check_compiled(const json_t *compiled) {
    const char *name, *port;
    json_t *value, *entry;
    struct error error;
    json_object_foreach(json_object_get(compiled, "vfs"), name, value) {
        long id = strtol(name, NULL, 10);
        assert(id >= 0 && id <= WIRING_ID_MAX && is_text(value, "core_mask"));
    }
    json_object_foreach(json_object_get(compiled, "ports"), name, value) {
        bool is_file = strstr(name, ":file") != NULL; /* of a capture */
        assert(is_text(value, "kind") && (is_file || wiring_check_port(name, "port", &error)));
    }
    json_object_foreach(json_object_get(compiled, "components"), name, value) {
        const json_t *core = json_object_get(json_object_get(value, "place"), "core");
        assert(is_text(value, "type") && json_integer_value(core) >= 0 && json_integer_value(core) < WIRING_CORES_MAX);
        json_object_foreach(json_object_get(value, "entries"), port, entry) assert(json_is_string(entry));
    }
}

void packet_keeper_check(const json_t *wiring) {
    static const struct compile_options options = {"/tmp"};
    struct error error;
    check_records(json_object_get(wiring, "processes"), wiring_check_process);
    check_records(json_object_get(wiring, "ports"), wiring_check_port_options);
    check_records(json_object_get(wiring, "policies"), wiring_check_policy);
    json_t *compiled = wiring_compile(wiring, &options);
    assert(compiled != NULL);
    check_compiled(compiled);
    error_clear(&error);
    json_t *parts = packet_split(compiled, &error);
    assert(parts != NULL || error.text[0] != '\0');
    json_decref(parts);
    json_decref(compiled);
}

struct control_plane *packet_control_next_plane(struct packet_control *control, unsigned *at) {
    return (void)control, (void)at, NULL;
}

const char *packet_control_trouble(struct packet_control *control, unsigned vf) { return (void)control, (void)vf, NULL; }

void packet_control_submit(struct packet_control *control, struct packet_change *change) {
    json_t *next = json_deep_copy(control->wiring);
    assert(next != NULL);
    error_clear(&change->error);
    change->ok = change->edit == NULL || change->edit(change, next, &change->error);
    if (change->ok) {
        packet_keeper_check(next);
        json_decref(control->wiring);
        control->wiring = next;
    } else {
        assert(change->error.text[0] != '\0');
        json_decref(next);
    }
    change->done(change);
}
