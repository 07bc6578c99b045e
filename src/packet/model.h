/* What the plane is asked to do: components, what is attached to them, entries. A value: a change is made on a copy, checked, and
 * compiled into plans. docs/packet.md, "Change".
 * Pure; control reactor. Must not know: workers' threads, drivers, JSON. */
#pragma once

#include "base/error.h"
#include "packet/graph.h"

#define MODEL_NAME_MAX PACKET_PORT_NAME_MAX
#define MODEL_COMPONENTS_MAX 256
#define MODEL_PORTS_MAX 256

enum port_direction { PORT_DIRECTION_RX, PORT_DIRECTION_TX };

struct model_entry {
    uint64_t address; /* 0 in a default */
    uint16_t vlan;    /* VID or TABLE_UNTAGGED */
    bool is_default;
    struct packet_port *port;
};

/* Shared by the versions of a component. */
struct component_state {
    struct component_counters counters;
    unsigned refs;
};

struct model_component {
    char name[MODEL_NAME_MAX + 1];
    enum component_type type;
    unsigned worker;
    struct component_state *state;
    struct plan_end ends[2][PACKET_OUTPUTS_MAX]; /* by enum port_direction */
    unsigned end_count[2];
    struct model_entry *entries; /* of a classifier */
    uint32_t entry_count, entry_capacity;
};

struct model {
    struct packet_port *ports[MODEL_PORTS_MAX]; /* the plane's, not ours */
    unsigned port_count;
    struct model_component *components[MODEL_COMPONENTS_MAX];
    unsigned component_count;
};

/* One worker's share, compiled. */
struct model_plans {
    struct plan *plans; /* of plan_count workers */
    unsigned plan_count;
};

/* An empty one, or a copy. NULL: no memory. */
struct model *model_create(void);
struct model *model_clone(const struct model *model);
void model_destroy(struct model *model);

struct packet_port *model_find_port(const struct model *model, const char *name);
struct model_component *model_find_component(const struct model *model, const char *name);
/* The component that a port is attached to in that direction; NULL = none. */
const struct model_component *model_user(const struct model *model, const struct packet_port *port,
                                         enum port_direction direction);

/* It has all that its type needs. */
bool model_component_runs(const struct model_component *component);

/* Changes, on a copy that nobody runs yet. False: error, and the model is as before. */
bool model_add_port(struct model *model, struct packet_port *port, struct error *error);
/* Refused while it is attached, or an entry names it. */
bool model_remove_port(struct model *model, const char *name, struct error *error);
/* Whether a port of that name may be made. */
bool model_check_new_port(const struct model *model, const char *name, struct error *error);
bool model_add_component(struct model *model, const char *name, enum component_type type, unsigned worker, struct error *error);
/* With its entries, and what is attached to it comes free. */
bool model_remove_component(struct model *model, const char *name, struct error *error);
bool model_attach(struct model *model, const char *component, const char *port, enum port_direction direction,
                  struct vlan_operation vlan, struct error *error);
bool model_detach(struct model *model, const char *component, const char *port, enum port_direction direction,
                  struct error *error);
/* `mac`: an address, or "default". The port is attached as an output. One port may have many entries. */
bool model_add_entry(struct model *model, const char *component, const char *mac, unsigned vlan, const char *port,
                     struct error *error);
/* The exact entry, port included. */
bool model_remove_entry(struct model *model, const char *component, const char *mac, unsigned vlan, const char *port,
                        struct error *error);

/* What each of `workers` workers is to run. False: no memory. The plans refer to the model's ports and counters. */
bool model_compile(const struct model *model, unsigned workers, struct model_plans *ret_plans);
void model_plans_fini(struct model_plans *plans);
