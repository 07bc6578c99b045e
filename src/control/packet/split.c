#include "control/packet/split.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

enum { NAME_SIZE = 96, KEY_SIZE = 24 };

struct splitting {
    const json_t *compiled;
    json_t *parts;
    struct error *error;
};

static const char *text_of(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

static json_t *part(struct splitting *splitting, const char *process) {
    json_t *found = json_object_get(splitting->parts, process);
    if (found != NULL)
        return found;
    found = json_pack("{s{} s{} s{} s{}}", "vfs", "ports", "policies", "components");
    json_object_set_new(splitting->parts, process, found);
    return found;
}

static const char *process_of(const json_t *component, char to[KEY_SIZE]) {
    const json_t *vf = json_object_get(json_object_get(component, "place"), "vf");
    snprintf(to, KEY_SIZE, "%lld", (long long)json_integer_value(vf)); /* 0 if it is on a worker */
    return to;
}

static void put_port(struct splitting *splitting, const char *process, const char *port) {
    json_t *to = part(splitting, process);
    json_object_set(json_object_get(to, "ports"), port, json_object_get(json_object_get(splitting->compiled, "ports"), port));
    json_object_set(json_object_get(to, "policies"), port,
                    json_object_get(json_object_get(splitting->compiled, "policies"), port));
}

static json_t *no_tag(void) { return json_pack("{ss}", "operation", "none"); }

static void put_ring(json_t *part, const char *name) {
    json_object_set_new(json_object_get(part, "ports"), name, json_pack("{ss}", "kind", "ring"));
}

/* What stands for a device of the primary's in another process: a ring for each direction. */
static void bridge(struct splitting *splitting, const char *process, const char *port, const char *direction,
                   char to[NAME_SIZE]) {
    char name[NAME_SIZE + 8];
    bool rx = strcmp(direction, "rx") == 0;
    json_t *primary = part(splitting, "0");
    snprintf(to, NAME_SIZE, "%s.%s", port, direction);
    snprintf(name, sizeof(name), "bridge:%s", to);
    put_port(splitting, "0", port);
    put_ring(primary, to);
    put_ring(part(splitting, process), to);
    json_object_set_new(json_object_get(primary, "components"), name,
                        json_pack("{ss s{si} s{so} s{so} s{}}", "type", "forward", "place", "worker", 0, "rx", rx ? port : to,
                                  no_tag(), "tx", rx ? to : port, no_tag(), "entries"));
}

/* A machine's memory is in one process. */
static bool claim(struct splitting *splitting, const char *process, const char *port) {
    const char *other;
    json_t *there;
    json_object_foreach(splitting->parts, other, there) {
        if (strcmp(other, process) == 0 || json_object_get(json_object_get(there, "ports"), port) == NULL)
            continue;
        return error_set(splitting->error, ERROR_BUSY, "%s is of process %s: a machine's port is in one process only", port,
                         strcmp(other, "0") == 0 ? "primary" : other);
    }
    put_port(splitting, process, port);
    return true;
}

/* The port's name in that process. False: error. */
static bool place_port(struct splitting *splitting, const char *process, const char *port, const char *direction,
                       char to[NAME_SIZE]) {
    const char *kind = text_of(json_object_get(json_object_get(splitting->compiled, "ports"), port), "kind");
    snprintf(to, NAME_SIZE, "%s", port);
    if (strcmp(kind, "vhost_user") == 0)
        return claim(splitting, process, port);
    if (strcmp(kind, "ring") == 0 || strcmp(process, "0") == 0)
        put_port(splitting, process, port);
    else
        bridge(splitting, process, port, direction, to);
    return true;
}

static bool put_component(struct splitting *splitting, const char *name, const json_t *from) {
    static const char *const directions[] = {"rx", "tx"};
    char process[KEY_SIZE], place[NAME_SIZE];
    const char *key;
    json_t *value, *made = json_pack("{sO sO s{} s{} s{}}", "type", json_object_get(from, "type"), "place",
                                     json_object_get(from, "place"), "rx", "tx", "entries");
    process_of(from, process);
    json_object_set_new(json_object_get(part(splitting, process), "components"), name, made);
    for (size_t i = 0; i < array_count(directions); i++)
        json_object_foreach(json_object_get(from, directions[i]), key, value) {
            if (!place_port(splitting, process, key, directions[i], place))
                return false;
            json_object_set(json_object_get(made, directions[i]), place, value);
        }
    json_object_foreach(json_object_get(from, "entries"), key, value) {
        if (!place_port(splitting, process, json_string_value(value), "tx", place))
            return false;
        json_object_set_new(json_object_get(made, "entries"), key, json_string(place));
    }
    return true;
}

static uint64_t workers_of(const json_t *vf) {
    uint64_t mask = strtoull(text_of(vf, "core_mask"), NULL, 0);
    return mask & (mask - 1);
}

/* What a core keeps of free frames is found by its number: two processes cannot both work on one. */
static bool check_cores(const json_t *vfs, struct error *error) {
    const char *a, *b;
    json_t *one, *other;
    json_object_foreach((json_t *)vfs, a, one) json_object_foreach((json_t *)vfs, b, other) {
        uint64_t both = workers_of(one) & workers_of(other);
        if (one != other && both != 0)
            return error_set(error, ERROR_BUSY,
                             "core %d is of vf %s and of vf %s: processes cannot share those that they work on",
                             __builtin_ctzll(both), a, b);
    }
    return true;
}

json_t *packet_split(const json_t *compiled, struct error *error) {
    struct splitting splitting = {compiled, json_object(), error};
    const char *key;
    json_t *value;
    bool ok = check_cores(json_object_get(compiled, "vfs"), error);
    part(&splitting, "0");
    json_object_foreach(json_object_get(compiled, "vfs"), key, value)
        json_object_set(json_object_get(part(&splitting, key), "vfs"), key, value);
    json_object_foreach(json_object_get(compiled, "components"), key, value) ok = ok && put_component(&splitting, key, value);
    if (ok)
        return splitting.parts;
    json_decref(splitting.parts);
    return NULL;
}

json_t *packet_split_none(json_t *take_compiled) { return take_compiled == NULL ? NULL : json_pack("{so}", "0", take_compiled); }
