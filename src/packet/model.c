#include "packet/model.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "packet/mac.h"

static const unsigned ends_max[COMPONENT_TYPE_COUNT][2] = {
    [COMPONENT_FORWARD] = {1, 1},
    [COMPONENT_MERGE] = {PACKET_OUTPUTS_MAX, 1}, /* and one more on the other side, to turn round by */
    [COMPONENT_CLASSIFIER] = {1, PACKET_OUTPUTS_MAX},
    [COMPONENT_MIRROR] = {1, 2},
};

/* ---- life ---- */

struct model *model_create(void) {
    return calloc(1, sizeof(struct model));
}

static void component_destroy(struct model_component *component) {
    if (component->state != NULL && --component->state->refs == 0)
        free(component->state);
    free(component->entries);
    free(component);
}

static struct model_component *component_clone(const struct model_component *from) {
    struct model_component *component = malloc(sizeof(*component));
    if (component == NULL)
        return NULL;
    *component = *from;
    component->entry_capacity = from->entry_count;
    component->entries = NULL;
    if (from->entry_count > 0) {
        component->entries = malloc(from->entry_count * sizeof(*component->entries));
        if (component->entries == NULL) {
            free(component);
            return NULL;
        }
        memcpy(component->entries, from->entries, from->entry_count * sizeof(*component->entries));
    }
    component->state->refs++;
    return component;
}

struct model *model_clone(const struct model *from) {
    struct model *model = model_create();
    if (model == NULL)
        return NULL;
    for (unsigned i = 0; i < from->port_count; i++) {
        model->ports[i] = from->ports[i];
        model->policies[i] = from->policies[i];
        model->captures[i] = from->captures[i];
        if (model->policies[i] != NULL)
            model->policies[i]->refs++;
        if (model->captures[i] != NULL)
            model->captures[i]->refs++;
    }
    memcpy(model->workers, from->workers, sizeof(model->workers));
    memcpy(model->vfs, from->vfs, sizeof(model->vfs));
    model->port_count = from->port_count;
    for (unsigned i = 0; i < from->component_count; i++) {
        model->components[i] = component_clone(from->components[i]);
        if (model->components[i] == NULL) {
            model_destroy(model);
            return NULL;
        }
        model->component_count++;
    }
    return model;
}

void model_destroy(struct model *model) {
    if (model == NULL)
        return;
    for (unsigned i = 0; i < model->component_count; i++)
        component_destroy(model->components[i]);
    for (unsigned i = 0; i < model->port_count; i++) {
        policy_unref(model->policies[i]);
        capture_unref(model->captures[i]);
    }
    free(model);
}

/* ---- finding ---- */

struct packet_port *model_find_port(const struct model *model, const char *name) {
    for (unsigned i = 0; i < model->port_count; i++)
        if (strcmp(model->ports[i]->name, name) == 0)
            return model->ports[i];
    return NULL;
}

struct model_component *model_find_component(const struct model *model, const char *name) {
    for (unsigned i = 0; i < model->component_count; i++)
        if (strcmp(model->components[i]->name, name) == 0)
            return model->components[i];
    return NULL;
}

static unsigned port_index(const struct model *model, const struct packet_port *port) {
    unsigned i = 0;
    while (model->ports[i] != port) {
        i++;
        assert(i < model->port_count);
    }
    return i;
}

static unsigned find_end(const struct model_component *component, const struct packet_port *port, enum port_direction direction) {
    unsigned i = 0;
    while (i < component->end_count[direction] && component->ends[direction][i].port != port)
        i++;
    return i;
}

static bool has_end(const struct model_component *component, const struct packet_port *port, enum port_direction direction) {
    return find_end(component, port, direction) < component->end_count[direction];
}

const struct model_component *model_user(const struct model *model, const struct packet_port *port,
                                         enum port_direction direction) {
    for (unsigned i = 0; i < model->component_count; i++)
        if (has_end(model->components[i], port, direction))
            return model->components[i];
    return NULL;
}

static bool say_absent(struct error *error, const char *what, const char *name, const char *list) {
    error_set(error, ERROR_NO_DEVICE, "there is no %s %s", what, name);
    if (error != NULL) {
        snprintf(error->field, sizeof(error->field), "%s", what);
        snprintf(error->value, sizeof(error->value), "%.*s", (int)sizeof(error->value) - 1, name);
    }
    return error_hint(error, "the name of one that is there (%s)", list);
}

static struct packet_port *need_port(const struct model *model, const char *name, struct error *error) {
    struct packet_port *port = model_find_port(model, name);
    if (port == NULL)
        say_absent(error, "port", name, "packet_get_ports");
    return port;
}

static struct model_component *need_component(const struct model *model, const char *name, struct error *error) {
    struct model_component *component = model_find_component(model, name);
    if (component == NULL)
        say_absent(error, "component", name, "packet_get_components");
    return component;
}

static bool check_name(const char *name, struct error *error) {
    return text_is_name(name, MODEL_NAME_MAX) ||
           error_invalid(error, "name", name, "1 to %u printable characters without blanks and '/'", MODEL_NAME_MAX);
}

/* ---- ports ---- */

bool model_check_new_port(const struct model *model, const char *name, struct error *error) {
    if (!check_name(name, error))
        return false;
    if (model_find_port(model, name) != NULL)
        return error_set(error, ERROR_EXISTS, "there is a port %s already", name);
    if (model->port_count == MODEL_PORTS_MAX)
        return error_set(error, ERROR_NO_MEMORY, "there are %u ports already: no more", MODEL_PORTS_MAX);
    return true;
}

bool model_add_port(struct model *model, struct packet_port *port, struct error *error) {
    if (!model_check_new_port(model, port->name, error))
        return false;
    model->ports[model->port_count++] = port;
    return true;
}

static bool names_port(const struct model_component *component, const struct packet_port *port) {
    for (uint32_t i = 0; i < component->entry_count; i++)
        if (component->entries[i].port == port)
            return true;
    return false;
}

bool model_remove_port(struct model *model, const char *name, struct error *error) {
    struct packet_port *port = need_port(model, name, error);
    if (port == NULL)
        return false;
    for (unsigned i = 0; i < model->component_count; i++) {
        const struct model_component *component = model->components[i];
        if (has_end(component, port, PORT_DIRECTION_RX) || has_end(component, port, PORT_DIRECTION_TX)) {
            error_set(error, ERROR_BUSY, "port %s is attached to %s", name, component->name);
            return error_hint(error, "packet_component_detach");
        }
        if (names_port(component, port)) {
            error_set(error, ERROR_BUSY, "an entry of classifier %s leads to port %s", component->name, name);
            return error_hint(error, "packet_classifier_delete_entry");
        }
    }
    unsigned index = port_index(model, port);
    if (model->captures[index] != NULL) {
        error_set(error, ERROR_BUSY, "port %s is captured", name);
        return error_hint(error, "packet_capture_stop");
    }
    policy_unref(model->policies[index]);
    model->port_count--;
    model->ports[index] = model->ports[model->port_count];
    model->policies[index] = model->policies[model->port_count];
    model->captures[index] = model->captures[model->port_count];
    return true;
}

bool model_set_policy(struct model *model, const char *name, struct policy *policy, struct error *error) {
    struct packet_port *port = need_port(model, name, error);
    if (port == NULL)
        return false;
    unsigned index = port_index(model, port);
    policy_unref(model->policies[index]);
    model->policies[index] = policy;
    if (policy != NULL)
        policy->refs++;
    return true;
}

const struct policy *model_policy(const struct model *model, const struct packet_port *port) {
    return model->policies[port_index(model, port)];
}

void policy_unref(struct policy *policy) {
    if (policy != NULL && --policy->refs == 0)
        free(policy);
}

bool model_set_capture(struct model *model, const char *name, struct capture *capture, struct error *error) {
    struct packet_port *port = need_port(model, name, error);
    if (port == NULL)
        return false;
    unsigned index = port_index(model, port);
    if (model->captures[index] != NULL) {
        error_set(error, ERROR_EXISTS, "port %s is captured already", name);
        return error_hint(error, "packet_capture_stop");
    }
    model->captures[index] = capture;
    capture->refs++;
    return true;
}

bool model_is_captured(const struct model *model, const struct packet_port *port) {
    return model->captures[port_index(model, port)] != NULL;
}

bool model_clear_capture(struct model *model, const char *name, struct error *error) {
    struct packet_port *port = need_port(model, name, error);
    if (port == NULL)
        return false;
    unsigned index = port_index(model, port);
    capture_unref(model->captures[index]);
    model->captures[index] = NULL;
    return true;
}

/* ---- components ---- */

bool model_add_component(struct model *model, const char *name, enum component_type type, unsigned worker, struct error *error) {
    if (!check_name(name, error))
        return false;
    if (model_find_component(model, name) != NULL)
        return error_set(error, ERROR_EXISTS, "there is a component %s already", name);
    if (model->component_count == MODEL_COMPONENTS_MAX)
        return error_set(error, ERROR_NO_MEMORY, "there are %u components already: no more", MODEL_COMPONENTS_MAX);
    struct model_component *component = calloc(1, sizeof(*component));
    if (component != NULL)
        component->state = calloc(1, sizeof(*component->state));
    if (component == NULL || component->state == NULL) {
        free(component);
        return error_set(error, ERROR_NO_MEMORY, "no memory for a component");
    }
    snprintf(component->name, sizeof(component->name), "%s", name);
    component->type = type;
    component->worker = worker;
    component->state->refs = 1;
    model->components[model->component_count++] = component;
    return true;
}

bool model_remove_component(struct model *model, const char *name, struct error *error) {
    struct model_component *component = need_component(model, name, error);
    if (component == NULL)
        return false;
    unsigned i = 0;
    while (model->components[i] != component)
        i++;
    model->component_count--;
    memmove(&model->components[i], &model->components[i + 1], (model->component_count - i) * sizeof(model->components[0]));
    component_destroy(component);
    return true;
}

static bool may_hairpin(enum component_type type, enum port_direction direction) {
    return type == (direction == PORT_DIRECTION_TX ? COMPONENT_MERGE : COMPONENT_CLASSIFIER);
}

static unsigned count_ends(const struct model_component *component, enum port_direction direction, bool hairpin) {
    unsigned count = 0;
    for (unsigned i = 0; i < component->end_count[direction]; i++)
        count += component->ends[direction][i].hairpin == hairpin;
    return count;
}

bool model_attach(struct model *model, const char *component_name, const char *port_name, enum port_direction direction,
                  struct vlan_operation vlan, bool hairpin, struct error *error) {
    static const char *const words[] = {[PORT_DIRECTION_RX] = "input", [PORT_DIRECTION_TX] = "output"};
    struct model_component *component = need_component(model, component_name, error);
    struct packet_port *port = component == NULL ? NULL : need_port(model, port_name, error);
    if (port == NULL)
        return false;
    const struct model_component *user = model_user(model, port, direction);
    if (user != NULL) {
        error_set(error, user == component ? ERROR_EXISTS : ERROR_BUSY, "port %s is the %s of %s already", port_name,
                  words[direction], user->name);
        return error_hint(error, "packet_component_detach");
    }
    unsigned there = count_ends(component, direction, hairpin), max = hairpin ? 1 : ends_max[component->type][direction];
    if (hairpin && !may_hairpin(component->type, direction))
        return error_invalid(error, "hairpin", "true", "false: only a merge has such an output, and a classifier such an input");
    if (there == max)
        return error_set(error, ERROR_BUSY, "component %s has %u %s%s, which is all it can have", component_name, there,
                         words[direction], there == 1 ? "" : "s");
    component->ends[direction][component->end_count[direction]++] =
        (struct plan_end){.port = port, .vlan = vlan, .hairpin = hairpin};
    return true;
}

/* Where a port is attached; NULL: error. */
static struct plan_end *need_end(struct model *model, const char *component_name, const char *port_name,
                                 enum port_direction direction, struct error *error) {
    struct model_component *component = need_component(model, component_name, error);
    struct packet_port *port = component == NULL ? NULL : need_port(model, port_name, error);
    if (port == NULL)
        return NULL;
    unsigned i = find_end(component, port, direction);
    if (i == component->end_count[direction]) {
        error_set(error, ERROR_NOT_FOUND, "port %s is not attached to %s in that direction", port_name, component_name);
        return NULL;
    }
    return &component->ends[direction][i];
}

bool model_set_vlan(struct model *model, const char *component_name, const char *port_name, enum port_direction direction,
                    struct vlan_operation vlan, struct error *error) {
    struct plan_end *end = need_end(model, component_name, port_name, direction, error);
    if (end == NULL)
        return false;
    end->vlan = vlan;
    return true;
}

bool model_detach(struct model *model, const char *component_name, const char *port_name, enum port_direction direction,
                  struct error *error) {
    struct plan_end *end = need_end(model, component_name, port_name, direction, error);
    if (end == NULL)
        return false;
    struct model_component *component = model_find_component(model, component_name);
    size_t behind = (size_t)(component->ends[direction] + component->end_count[direction] - (end + 1));
    memmove(end, end + 1, behind * sizeof(*end));
    component->end_count[direction]--;
    return true;
}

/* ---- entries ---- */

/* The classifier, and what the words mean. */
static struct model_component *entry_parse(const struct model *model, const char *component_name, const char *mac, unsigned vlan,
                                           const char *port_name, struct model_entry *ret_entry, struct error *error) {
    struct model_component *component = need_component(model, component_name, error);
    if (component == NULL)
        return NULL;
    if (component->type != COMPONENT_CLASSIFIER) {
        error_invalid(error, "component", component_name, "a classifier");
        return NULL;
    }
    struct model_entry entry = {.vlan = (uint16_t)vlan, .is_default = strcmp(mac, "default") == 0};
    if (!entry.is_default && !mac_parse(mac, &entry.address)) {
        error_invalid(error, "mac", mac, "an address like fa:16:3e:00:00:01, or default");
        return NULL;
    }
    assert(vlan < TABLE_VLAN_COUNT);
    entry.port = need_port(model, port_name, error);
    *ret_entry = entry;
    return entry.port != NULL ? component : NULL;
}

static uint32_t find_entry(const struct model_component *component, const struct model_entry *entry) {
    uint32_t i = 0;
    for (; i < component->entry_count; i++) {
        const struct model_entry *there = &component->entries[i];
        if (there->vlan == entry->vlan && there->is_default == entry->is_default && there->address == entry->address)
            break;
    }
    return i;
}

bool model_add_entry(struct model *model, const char *component_name, const char *mac, unsigned vlan, const char *port_name,
                     struct error *error) {
    struct model_entry entry;
    struct model_component *component = entry_parse(model, component_name, mac, vlan, port_name, &entry, error);
    if (component == NULL)
        return false;
    if (!has_end(component, entry.port, PORT_DIRECTION_TX)) {
        error_invalid(error, "port", port_name, "an output of %s", component_name);
        return error_hint(error, "an output of %s (packet_component_attach)", component_name);
    }
    uint32_t i = find_entry(component, &entry);
    if (i < component->entry_count)
        return error_set(error, ERROR_EXISTS, "there is an entry for it already, which leads to %s",
                         component->entries[i].port->name);
    if (component->entry_count == TABLE_ENTRIES_MAX)
        return error_set(error, ERROR_NO_MEMORY, "classifier %s has %u entries already: no more", component_name,
                         TABLE_ENTRIES_MAX);
    if (component->entry_count == component->entry_capacity) {
        uint32_t capacity = max_u32(16, component->entry_capacity * 2);
        struct model_entry *entries = realloc(component->entries, capacity * sizeof(*entries));
        if (entries == NULL)
            return error_set(error, ERROR_NO_MEMORY, "no memory for an entry");
        component->entries = entries;
        component->entry_capacity = capacity;
    }
    component->entries[component->entry_count++] = entry;
    return true;
}

bool model_remove_entry(struct model *model, const char *component_name, const char *mac, unsigned vlan, const char *port_name,
                        struct error *error) {
    struct model_entry entry;
    struct model_component *component = entry_parse(model, component_name, mac, vlan, port_name, &entry, error);
    if (component == NULL)
        return false;
    uint32_t i = find_entry(component, &entry);
    if (i == component->entry_count)
        return error_set(error, ERROR_NOT_FOUND, "there is no such entry");
    if (component->entries[i].port != entry.port)
        return error_set(error, ERROR_NOT_FOUND, "that entry leads to %s and not to %s", component->entries[i].port->name,
                         port_name);
    memmove(&component->entries[i], &component->entries[i + 1], (component->entry_count - i - 1) * sizeof(entry));
    component->entry_count--;
    return true;
}

/* ---- plans ---- */

bool model_component_runs(const struct model_component *component) {
    unsigned inputs = count_ends(component, PORT_DIRECTION_RX, false);
    unsigned outputs = count_ends(component, PORT_DIRECTION_TX, false);
    if (inputs == 0 || outputs == 0)
        return false;
    if (component->type == COMPONENT_CLASSIFIER)
        return component->entry_count > 0;
    return component->type != COMPONENT_MIRROR || outputs == 2;
}

static struct table *compile_table(const struct model_component *component) {
    struct table_entry *entries = calloc(component->entry_count, sizeof(*entries));
    if (entries == NULL)
        return NULL;
    for (uint32_t i = 0; i < component->entry_count; i++) {
        const struct model_entry *from = &component->entries[i];
        unsigned output = find_end(component, from->port, PORT_DIRECTION_TX);
        if (output == component->end_count[PORT_DIRECTION_TX])
            output = TABLE_DETACHED;
        entries[i] = (struct table_entry){
            .address = from->address, .vlan = from->vlan, .output = (uint16_t)output, .is_default = from->is_default};
    }
    struct table *table = table_create(entries, component->entry_count);
    free(entries);
    return table;
}

static struct plan_end *copy_ends(const struct model *model, const struct model_component *component,
                                  enum port_direction direction) {
    unsigned count = component->end_count[direction];
    struct plan_end *ends = malloc(count * sizeof(*ends));
    if (ends == NULL)
        return NULL;
    memcpy(ends, component->ends[direction], count * sizeof(*ends));
    for (unsigned i = 0; i < count; i++) {
        unsigned index = port_index(model, ends[i].port);
        struct capture *capture = model->captures[index];
        ends[i].policy = model->policies[index];
        ends[i].capture = capture != NULL && capture->wanted[direction] ? capture : NULL;
    }
    return ends;
}

/* The classifier that a merge turns round to: the one that reads the port likewise. NULL = none. */
static const struct model_component *find_hairpin(const struct model *model, const struct model_component *merge,
                                                  struct plan_component *to) {
    const struct model_component *classifier = NULL;
    for (unsigned i = 0; i < to->output_count; i++) {
        if (!to->outputs[i].hairpin) {
            to->main_output = i;
            continue;
        }
        to->hairpin_output = i;
        for (unsigned c = 0; c < model->component_count; c++) {
            unsigned end = find_end(model->components[c], to->outputs[i].port, PORT_DIRECTION_RX);
            if (end < model->components[c]->end_count[PORT_DIRECTION_RX] && model_component_runs(model->components[c]) &&
                model->components[c]->ends[PORT_DIRECTION_RX][end].hairpin)
                classifier = model->components[c];
        }
    }
    return merge->type == COMPONENT_MERGE ? classifier : NULL;
}

static bool compile_component(const struct model *model, const struct model_component *from, struct plan_component *to) {
    static_assert((int)PORT_DIRECTION_RX == CAPTURE_RX && (int)PORT_DIRECTION_TX == CAPTURE_TX, "one order");
    *to = (struct plan_component){.type = from->type,
                                  .counters = &from->state->counters,
                                  .inputs = copy_ends(model, from, PORT_DIRECTION_RX),
                                  .outputs = copy_ends(model, from, PORT_DIRECTION_TX),
                                  .input_count = from->end_count[PORT_DIRECTION_RX],
                                  .output_count = from->end_count[PORT_DIRECTION_TX]};
    if (to->inputs == NULL || to->outputs == NULL)
        return false;
    const struct model_component *classifier = from->type == COMPONENT_CLASSIFIER ? from : find_hairpin(model, from, to);
    if (classifier != NULL)
        to->table = compile_table(classifier);
    return classifier == NULL || to->table != NULL;
}

/* One worker's. */
static bool compile_plan(const struct model *model, unsigned worker, struct plan *plan) {
    unsigned count = 0;
    for (unsigned i = 0; i < model->component_count; i++)
        count += model->components[i]->worker == worker && model_component_runs(model->components[i]);
    if (count == 0)
        return true;
    plan->components = calloc(count, sizeof(*plan->components));
    bool ok = plan->components != NULL;
    for (unsigned i = 0; ok && i < model->component_count; i++)
        if (model->components[i]->worker == worker && model_component_runs(model->components[i]))
            ok = compile_component(model, model->components[i], &plan->components[plan->component_count++]);
    return ok;
}

bool model_compile(const struct model *model, struct model_plans *ret_plans) {
    struct model_plans plans = {.plans = calloc(MODEL_WORKERS_MAX, sizeof(*plans.plans))};
    bool ok = plans.plans != NULL;
    for (unsigned w = 0; ok && w < MODEL_WORKERS_MAX; w++)
        ok = compile_plan(model, w, &plans.plans[w]);
    if (ok)
        *ret_plans = plans;
    else
        model_plans_fini(&plans);
    return ok;
}

void model_plans_fini(struct model_plans *plans) {
    for (unsigned w = 0; plans->plans != NULL && w < MODEL_WORKERS_MAX; w++) {
        struct plan *plan = &plans->plans[w];
        for (unsigned i = 0; i < plan->component_count; i++) {
            table_destroy(plan->components[i].table);
            free(plan->components[i].inputs);
            free(plan->components[i].outputs);
        }
        free(plan->components);
    }
    free(plans->plans);
    plans->plans = NULL;
}
