#include "agent/tap.h"

#include <stdio.h>
#include <string.h>

enum { KEY_SIZE = 24, NAME_SIZE = 24, PORT_SIZE = WIRING_PORT_MAX + 1 };

static const char *text_of(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

static const char *end_at(const json_t *component, const char *direction, size_t at) {
    return text_of(json_array_get(json_object_get(component, direction), at), "port");
}

static const json_t *find_end(const json_t *component, const char *direction, const char *port) {
    size_t i;
    json_t *end;
    json_array_foreach(json_object_get(component, direction), i, end) if (strcmp(text_of(end, "port"), port) == 0) return end;
    return NULL;
}

/* ---- mirrors ---- */

unsigned tap_vf(const struct configuration *configuration) { return configuration->nic_count + 1; }

static const char *process_key(const struct configuration *configuration, char to[KEY_SIZE]) {
    return wiring_key("mirror", tap_vf(configuration), to);
}

static const char *mirror_name(unsigned mirror, char to[NAME_SIZE]) {
    snprintf(to, NAME_SIZE, "mirror_%u", mirror);
    return to;
}

static const char *ring_name(const struct configuration *configuration, unsigned mirror, unsigned ring, char to[PORT_SIZE]) {
    snprintf(to, PORT_SIZE, "ring:%u", configuration->mirrors[mirror].rings[ring]);
    return to;
}

static const json_t *find_mirror(const json_t *wiring, const struct configuration *configuration, unsigned mirror) {
    char key[KEY_SIZE], name[NAME_SIZE];
    return wiring_component(wiring_process(wiring, process_key(configuration, key)), mirror_name(mirror, name));
}

/* What leaves it and is no copy: "" while it does nothing. */
static const char *main_output(const json_t *component, const char *copies) {
    const char *port = end_at(component, "tx", 0);
    return strcmp(port, copies) == 0 ? end_at(component, "tx", 1) : port;
}

/* ---- who has a port ---- */

struct user {
    const char *key, *name; /* the wiring's */
    json_t *component;
};

static bool find_user(const json_t *wiring, const char *port, const char *direction, struct user *ret) {
    const char *key;
    json_t *process, *component;
    size_t i;
    json_object_foreach(json_object_get(wiring, "processes"), key, process) json_array_foreach(
        json_object_get(process, "components"), i, component) if (find_end(component, direction, port) != NULL) {
        *ret = (struct user){key, text_of(component, "name"), component};
        return true;
    }
    return false;
}

static bool is_mirror(const struct user *user) { return strcmp(text_of(user->component, "type"), "mirror") == 0; }

static bool find_vhost_user(const json_t *wiring, unsigned vhost, const char *direction, const char *type, struct user *ret,
                            struct error *error) {
    char port[PORT_SIZE];
    snprintf(port, sizeof(port), "vhost:%u", vhost);
    return (find_user(wiring, port, direction, ret) && strcmp(text_of(ret->component, "type"), type) == 0) ||
           error_set(error, ERROR_NOT_FOUND, "%s: it is not the %s of a %s of its own, which taps need", port, direction, type);
}

/* ---- what there is ---- */

static bool vhost_number(const char *port, unsigned *ret) {
    *ret = wiring_port_number(port);
    return strncmp(port, "vhost:", 6) == 0;
}

/* What a mirror does. False: nothing, or nothing whole. */
static bool read_tap(const json_t *wiring, const struct configuration *configuration, unsigned mirror, struct tap *ret) {
    const json_t *component = find_mirror(wiring, configuration, mirror);
    char copies[PORT_SIZE], ring[PORT_SIZE];
    struct user user;
    *ret = (struct tap){.mirror = mirror};
    ring_name(configuration, mirror, 0, copies);
    ring_name(configuration, mirror, 1, ring);
    if (json_array_size(json_object_get(component, "rx")) != 1 || json_array_size(json_object_get(component, "tx")) != 2 ||
        find_end(component, "tx", copies) == NULL || !find_user(wiring, copies, "rx", &user) ||
        !vhost_number(end_at(user.component, "tx", 0), &ret->service))
        return false;
    ret->out = find_end(component, "rx", ring) != NULL;
    if (!ret->out && find_end(component, "tx", ring) == NULL)
        return false;
    /* Towards the source, past other mirrors. */
    for (unsigned at = mirror, steps = 0; steps < configuration->mirror_count; steps++) {
        ring_name(configuration, at, 1, ring);
        if (!find_user(wiring, ring, ret->out ? "tx" : "rx", &user))
            return false;
        if (!is_mirror(&user))
            return vhost_number(end_at(user.component, ret->out ? "rx" : "tx", 0), &ret->source);
        for (at = 0; at < configuration->mirror_count && find_mirror(wiring, configuration, at) != user.component;)
            at++;
        if (at == configuration->mirror_count)
            return false;
    }
    return false;
}

const char *tap_port(const json_t *wiring, const struct configuration *configuration, const char *port, const char *direction) {
    bool out = strcmp(direction, "tx") == 0;
    for (unsigned mirror = 0, steps = 0; mirror < configuration->mirror_count && steps <= configuration->mirror_count;) {
        const json_t *component = find_mirror(wiring, configuration, mirror);
        char copies[PORT_SIZE], ring[PORT_SIZE];
        ring_name(configuration, mirror, 0, copies);
        ring_name(configuration, mirror, 1, ring);
        const json_t *near = find_end(component, out ? "rx" : "tx", ring);
        if (near == NULL || strcmp(copies, port) == 0 || find_end(component, direction, port) == NULL) {
            mirror++;
            continue;
        }
        port = text_of(near, "port");
        mirror = 0;
        steps++;
    }
    return port;
}

/* ---- one tap ---- */

static bool tagged_by(const json_t *reader, const char *vhost) {
    return strcmp(text_of(json_object_get(find_end(reader, "rx", vhost), "vlan"), "operation"), "add") == 0;
}

/* Copies reach the service's vhost as the source's guest has, or would have, them. */
static bool attach_copies(json_t *wiring, const struct configuration *configuration, const struct tap *tap, struct error *error) {
    static const struct wiring_way pop = {.operation = "del"};
    char copies[PORT_SIZE], source[PORT_SIZE];
    struct user service, reader;
    snprintf(source, sizeof(source), "vhost:%u", tap->source);
    bool tagged = tap->out && find_user(wiring, source, "rx", &reader) && tagged_by(reader.component, source);
    return find_vhost_user(wiring, tap->service, "tx", "merge", &service, error) &&
           wiring_attach(wiring, service.key, service.name, ring_name(configuration, tap->mirror, 0, copies), "rx",
                         tagged ? &pop : NULL, error);
}

static bool detach_copies(json_t *wiring, const struct configuration *configuration, unsigned mirror, struct error *error) {
    char copies[PORT_SIZE];
    struct user user;
    ring_name(configuration, mirror, 0, copies);
    return !find_user(wiring, copies, "rx", &user) || wiring_detach(wiring, user.key, user.name, copies, "rx", error);
}

static bool detach_all(json_t *wiring, const char *key, const char *name, const char *direction, struct error *error) {
    const json_t *component = wiring_component(wiring_process(wiring, key), name);
    while (json_array_size(json_object_get(component, direction)) > 0) {
        char port[PORT_SIZE];
        snprintf(port, sizeof(port), "%s", end_at(component, direction, 0));
        if (!wiring_detach(wiring, key, name, port, direction, error))
            return false;
    }
    return true;
}

bool tap_unplug(json_t *wiring, const struct configuration *configuration, unsigned mirror, struct error *error) {
    char key[KEY_SIZE], name[NAME_SIZE], copies[PORT_SIZE], ring[PORT_SIZE], port[PORT_SIZE];
    const json_t *component = mirror < configuration->mirror_count ? find_mirror(wiring, configuration, mirror) : NULL;
    struct user user;
    if (component == NULL)
        return true;
    process_key(configuration, key);
    mirror_name(mirror, name);
    ring_name(configuration, mirror, 0, copies);
    ring_name(configuration, mirror, 1, ring);
    bool out = find_end(component, "rx", ring) != NULL;
    const char *direction = out ? "tx" : "rx";
    snprintf(port, sizeof(port), "%s", out ? main_output(component, copies) : end_at(component, "rx", 0));
    if (!detach_copies(wiring, configuration, mirror, error) || !detach_all(wiring, key, name, "rx", error) ||
        !detach_all(wiring, key, name, "tx", error))
        return false;
    if (!find_user(wiring, ring, direction, &user))
        return true;
    return wiring_detach(wiring, user.key, user.name, ring, direction, error) &&
           (port[0] == '\0' || wiring_attach(wiring, user.key, user.name, port, direction, NULL, error));
}

/* A merge's one input that brings no copies. */
static const char *main_input(const struct configuration *configuration, const json_t *component) {
    const json_t *ends = json_object_get(component, "rx");
    for (size_t i = 0; i < json_array_size(ends); i++) {
        const char *port = end_at(component, "rx", i);
        char copies[PORT_SIZE];
        unsigned mirror = 0;
        while (mirror < configuration->mirror_count && strcmp(ring_name(configuration, mirror, 0, copies), port) != 0)
            mirror++;
        if (mirror == configuration->mirror_count)
            return port;
    }
    return "";
}

static bool put_between(json_t *wiring, const struct configuration *configuration, const struct tap *tap, struct error *error) {
    const char *direction = tap->out ? "tx" : "rx", *other = tap->out ? "rx" : "tx";
    char key[KEY_SIZE], name[NAME_SIZE], copies[PORT_SIZE], ring[PORT_SIZE], port[PORT_SIZE];
    struct user near;
    process_key(configuration, key);
    mirror_name(tap->mirror, name);
    ring_name(configuration, tap->mirror, 0, copies);
    ring_name(configuration, tap->mirror, 1, ring);
    if (!find_vhost_user(wiring, tap->source, other, tap->out ? "forward" : "merge", &near, error))
        return false;
    snprintf(port, sizeof(port), "%s", tap->out ? end_at(near.component, "tx", 0) : main_input(configuration, near.component));
    if (port[0] == '\0')
        return error_set(error, ERROR_NOT_FOUND, "vhost:%u: nothing leads to it, or from it", tap->source);
    return wiring_detach(wiring, near.key, near.name, port, direction, error) &&
           wiring_attach(wiring, near.key, near.name, ring, direction, NULL, error) &&
           /* The first output takes frames themselves, the second copies. */
           wiring_attach(wiring, key, name, tap->out ? port : ring, "tx", NULL, error) &&
           wiring_attach(wiring, key, name, copies, "tx", NULL, error) &&
           wiring_attach(wiring, key, name, tap->out ? ring : port, "rx", NULL, error);
}

bool tap_plug(json_t *wiring, const struct configuration *configuration, const struct tap *tap, struct error *error) {
    struct tap there;
    char value[16];
    snprintf(value, sizeof(value), "%u", tap->mirror);
    if (tap->mirror >= configuration->mirror_count)
        return error_invalid(error, "mirror", value, "below %u, which is how many this host has", configuration->mirror_count);
    if (read_tap(wiring, configuration, tap->mirror, &there) && there.source == tap->source && there.service == tap->service &&
        there.out == tap->out)
        return true;
    return tap_unplug(wiring, configuration, tap->mirror, error) && put_between(wiring, configuration, tap, error) &&
           attach_copies(wiring, configuration, tap, error);
}

bool tap_unplug_vhost(json_t *wiring, const struct configuration *configuration, unsigned vhost, struct error *error) {
    for (unsigned mirror = 0; mirror < configuration->mirror_count; mirror++) {
        struct tap tap;
        if (read_tap(wiring, configuration, mirror, &tap) && (tap.source == vhost || tap.service == vhost) &&
            !tap_unplug(wiring, configuration, mirror, error))
            return false;
    }
    return true;
}

bool tap_retag(json_t *wiring, const struct configuration *configuration, unsigned vhost, struct error *error) {
    for (unsigned mirror = 0; mirror < configuration->mirror_count; mirror++) {
        struct tap tap;
        if (read_tap(wiring, configuration, mirror, &tap) && tap.source == vhost && tap.out &&
            !(detach_copies(wiring, configuration, mirror, error) && attach_copies(wiring, configuration, &tap, error)))
            return false;
    }
    return true;
}

/* ---- the process ---- */

/* One that only an agent makes: mirror_0 and so on are all its components. */
static bool is_ours(const json_t *process) {
    const json_t *components = json_object_get(process, "components");
    if (strcmp(text_of(process, "type"), "mirror") != 0 || json_array_size(components) == 0)
        return false;
    for (size_t i = 0; i < json_array_size(components); i++) {
        char name[NAME_SIZE];
        if (strcmp(text_of(json_array_get(components, i), "name"), mirror_name((unsigned)i, name)) != 0)
            return false;
    }
    return true;
}

static uint64_t cores_of(const struct configuration *configuration) {
    uint64_t first = configuration->nics[0].core_mask, cores = first & (~first + 1);
    for (unsigned i = 0; i < configuration->mirror_count; i++)
        cores |= 1ULL << configuration->mirrors[i].core;
    return cores;
}

static bool is_fit(const json_t *wiring, const char *key, const json_t *process, const struct configuration *configuration) {
    char wanted[KEY_SIZE];
    uint64_t cores = 1ULL << (json_integer_value(json_object_get(process, "master")) & 63);
    size_t i;
    json_t *core;
    json_array_foreach(json_object_get(process, "cores"), i, core) cores |= 1ULL << (json_integer_value(core) & 63);
    if (strcmp(process_key(configuration, wanted), key) != 0 || cores != cores_of(configuration) ||
        json_array_size(json_object_get(process, "components")) != configuration->mirror_count)
        return false;
    for (unsigned mirror = 0; mirror < configuration->mirror_count; mirror++) {
        const json_t *component = find_mirror(wiring, configuration, mirror);
        struct tap tap;
        if (json_integer_value(json_object_get(component, "core")) != configuration->mirrors[mirror].core ||
            (json_array_size(json_object_get(component, "rx")) + json_array_size(json_object_get(component, "tx")) > 0 &&
             !read_tap(wiring, configuration, mirror, &tap)))
            return false;
    }
    return true;
}

bool tap_drop_stale(json_t *wiring, const struct configuration *configuration, bool *ret_gone, struct error *error) {
    const char *key;
    json_t *process;
    void *next;
    *ret_gone = false;
    json_object_foreach_safe(json_object_get(wiring, "processes"), next, key, process) {
        if (!is_ours(process) || is_fit(wiring, key, process, configuration))
            continue;
        if (!wiring_remove_process(wiring, key, error))
            return false;
        *ret_gone = true;
    }
    return true;
}

bool tap_build(json_t *wiring, const struct configuration *configuration, struct error *error) {
    char key[KEY_SIZE], name[NAME_SIZE];
    struct wiring_process new = {
        .type = "mirror", .id = tap_vf(configuration), .cores = cores_of(configuration), .vhost_client = true};
    if (configuration->mirror_count == 0)
        return true;
    if (wiring_process(wiring, process_key(configuration, key)) == NULL && !wiring_add_process(wiring, &new, error))
        return false;
    for (unsigned i = 0; i < configuration->mirror_count; i++)
        if (find_mirror(wiring, configuration, i) == NULL &&
            !wiring_add_component(wiring, key, mirror_name(i, name), configuration->mirrors[i].core, "mirror", error))
            return false;
    return true;
}
