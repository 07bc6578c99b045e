/* What the plane is asked to do: components, what is attached to them, entries. A value: a change is made on a copy, checked, and
 * compiled into plans. docs/packet.md, "Change".
 * Pure; control reactor. Must not know: workers' threads, drivers, JSON. */
#pragma once

#include "packet/capture.h"
#include "packet/cores.h"
#include "packet/graph.h"

#define MODEL_NAME_MAX PACKET_PORT_NAME_MAX
#define MODEL_COMPONENTS_MAX 256
#define MODEL_PORTS_MAX 256
#define MODEL_WORKERS_MAX 64
#define MODEL_VFS_MAX 64

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

/* A thread that runs components. Its place in the array is its number for as long as it exists. */
struct model_worker {
    bool exists;
    unsigned vf; /* its index in vfs; MODEL_VFS_MAX = of none: it was there from the start */
    unsigned core;
    int cpu; /* -1 = unpinned */
};

/* The cores of a card with its machines, as Soft Patch Panel counts them. */
struct model_vf {
    bool exists;
    uint32_t id;
    uint64_t mask; /* the lowest bit is the master core's, which runs no component */
    uint32_t vhosts;
    bool share; /* others that share may have the same cores */
};

struct model {
    struct packet_port *ports[MODEL_PORTS_MAX]; /* the plane's, not ours */
    struct policy *policies[MODEL_PORTS_MAX];   /* of each port; NULL = none */
    struct capture *captures[MODEL_PORTS_MAX];  /* likewise */
    unsigned port_count;
    struct model_component *components[MODEL_COMPONENTS_MAX];
    unsigned component_count;
    struct model_worker workers[MODEL_WORKERS_MAX];
    struct model_vf vfs[MODEL_VFS_MAX];
};

/* One worker's share, compiled. */
struct model_plans {
    struct plan *plans; /* of MODEL_WORKERS_MAX workers */
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

/* NULL, or error: none of that id. */
const struct model_vf *model_find_vf(const struct model *model, uint32_t id, struct error *error);
static inline unsigned model_vf_master(const struct model_vf *vf) { return (unsigned)__builtin_ctzll(vf->mask); }
/* The worker on a core of a vf. False: error. */
bool model_find_worker(const struct model *model, uint32_t vf, uint32_t core, unsigned *ret_worker, struct error *error);

/* It has all that its type needs. */
bool model_component_runs(const struct model_component *component);

/* Changes, on a copy that nobody runs yet. False: error, and the model is as before. */
bool model_add_port(struct model *model, struct packet_port *port, struct error *error);
/* Refused while it is attached, or an entry names it, or it is captured. */
bool model_remove_port(struct model *model, const char *name, struct error *error);
/* Whether a port of that name may be made. */
bool model_check_new_port(const struct model *model, const char *name, struct error *error);
/* A worker of no vf. False: there are too many. */
bool model_add_worker(struct model *model, int cpu, struct error *error);
/* A vf, and a worker for each of its cores but the master. `vhosts` machines need two cores each and two more, unless it shares;
 * `cpu_is_there` tells whether a processor may be used. */
bool model_add_vf(struct model *model, const struct model_vf *vf, const struct cores_map *map, bool (*cpu_is_there)(int cpu),
                  struct error *error);
/* Refused while a component is on one of its cores. */
bool model_remove_vf(struct model *model, uint32_t id, struct error *error);
bool model_add_component(struct model *model, const char *name, enum component_type type, unsigned worker, struct error *error);
/* With its entries, and what is attached to it comes free. */
bool model_remove_component(struct model *model, const char *name, struct error *error);
/* `hairpin`: of a merge's second output, by which it turns round what is for an entry of the classifier whose second input the
 * same port is. */
bool model_attach(struct model *model, const char *component, const char *port, enum port_direction direction,
                  struct vlan_operation vlan, bool hairpin, struct error *error);
/* Another operation for a port that is attached. */
bool model_set_vlan(struct model *model, const char *component, const char *port, enum port_direction direction,
                    struct vlan_operation vlan, struct error *error);
bool model_detach(struct model *model, const char *component, const char *port, enum port_direction direction,
                  struct error *error);
/* The port's policy from now on; NULL = none. Takes a reference. */
bool model_set_policy(struct model *model, const char *port, struct policy *policy, struct error *error);
const struct policy *model_policy(const struct model *model, const struct packet_port *port);
void policy_unref(struct policy *policy);
/* A port's frames are copied aside; one capture a port. Takes a reference. */
bool model_set_capture(struct model *model, const char *port, struct capture *capture, struct error *error);
bool model_is_captured(const struct model *model, const struct packet_port *port);
/* Not an error if there is none. */
bool model_clear_capture(struct model *model, const char *port, struct error *error);
/* `mac`: an address, or "default". The port is attached as an output. One port may have many entries. */
bool model_add_entry(struct model *model, const char *component, const char *mac, unsigned vlan, const char *port,
                     struct error *error);
/* The exact entry, port included. */
bool model_remove_entry(struct model *model, const char *component, const char *mac, unsigned vlan, const char *port,
                        struct error *error);

/* What each worker is to run. False: no memory. The plans refer to the model's ports and counters. */
bool model_compile(const struct model *model, struct model_plans *ret_plans);
void model_plans_fini(struct model_plans *plans);
