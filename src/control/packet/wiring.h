/* What the packet plane is meant to hold, in Soft Patch Panel's terms: processes with their cores, components, ports attached to
 * them, entries of tables; and what ports such as phy:0 are made of. One JSON value, so that a copy, a comparison and a record
 * are one call each:
 *
 *   {"processes": {"vf:1": {"type", "id", "master", "cores": [..], "vhost_client",
 *                           "components": [{"name", "type", "core", "rx": [{"port", "vlan"?, "hairpin"?}], "tx": [..]}],
 *                           "table": [{"mac", "vlan"?, "port"}]},            (mac: "default" or lower case with colons)
 *                  "nfv:1": {.., "ports": [..], "pipes": {..}, "patches": [{"src", "dst"}], "running"},     (and primary:0)
 *                  "pcap:1": {.., "port", "file", "running"}},
 *    "ports": {"phy:0": {"kind", ..}},                                      (parameters of packet_port_create)
 *    "policies": {"vhost:0": {"macs", "vlan_check", "vlans", "rx_rate", "tx_rate"}}}  (of packet_port_set_policy: all, VLANs in
 * order)
 *
 * Pure. An edit that is refused (false) leaves the wiring as it was. Must not know: the plane's state, workers. */
#pragma once

#include <jansson.h>

#include "base/bytes.h"
#include "base/error.h"

enum {
    WIRING_NAME_MAX = 40,  /* of a component */
    WIRING_PORT_MAX = 31,  /* of a port's name */
    WIRING_CORES_MAX = 64, /* core numbers are below */
    WIRING_ID_MAX = 127,   /* of a process */
    WIRING_PROCESSES_MAX = 64,
    WIRING_COMPONENTS_MAX = 128, /* of a process */
    WIRING_ENDS_MAX = 64,        /* inputs of a merge, outputs of a classifier */
    WIRING_ENTRIES_MAX = 3072,   /* of a process: its record is one value of the state */
    WIRING_UNTAGGED = -1
};

json_t *wiring_create(void);
/* It has the shape above and each process is one that edits could have made. False: error says what is wrong where. */
bool wiring_check_process(const char *key, const json_t *process, struct error *error);
bool wiring_check_port_options(const char *name, const json_t *options, struct error *error);

/* "vf:1" and the process of that key; NULL: there is none. */
const char *wiring_key(const char *type, unsigned id, char to[24]);
json_t *wiring_process(const json_t *wiring, const char *key);
json_t *wiring_component(const json_t *process, const char *name);

struct wiring_process {
    const char *type;  /* "vf", "mirror", "nfv", "pcap", "primary" */
    unsigned id;       /* 1…; 0 of the primary */
    uint64_t cores;    /* the lowest is the master, which several may share; the others are its workers */
    bool shared;       /* workers may be another's too */
    bool vhost_client; /* its vhost ports connect to the virtual machine's side, rather than listen */
};
bool wiring_add_process(json_t *wiring, const struct wiring_process *process, struct error *error);
/* With all that it holds. */
bool wiring_remove_process(json_t *wiring, const char *key, struct error *error);
/* A mask in hexadecimal with 0x, or a list as DPDK has it ("1,3-5"). */
bool wiring_parse_mask(const char *text, uint64_t *ret_mask);
bool wiring_parse_cores(const char *text, uint64_t *ret_mask);

/* How a port is attached. */
struct wiring_way {
    const char *operation; /* on tags: "none", "add", "del" */
    unsigned id, pcp;      /* of add */
    bool hairpin; /* a merge turns round by it what is for an entry of the classifier whose input it is, too: docs/packet.md */
};
/* `core` is one of the process's workers. */
bool wiring_add_component(json_t *wiring, const char *process, const char *name, unsigned core, const char *type,
                          struct error *error);
/* With the entries that lead to its ports. One that is not there is fine. */
bool wiring_remove_component(json_t *wiring, const char *process, const char *name, struct error *error);
/* direction: "rx", "tx". */
bool wiring_attach(json_t *wiring, const char *process, const char *component, const char *port, const char *direction,
                   const struct wiring_way *way, struct error *error);
/* Entries that lead to the port stay. */
bool wiring_detach(json_t *wiring, const char *process, const char *component, const char *port, const char *direction,
                   struct error *error);
/* mac: an address with colons or dashes, or "default". The port is an output of one of the process's classifiers. */
bool wiring_add_entry(json_t *wiring, const char *process, const char *mac, int vlan, const char *port, struct error *error);
bool wiring_remove_entry(json_t *wiring, const char *process, const char *mac, int vlan, const char *port, struct error *error);
/* mac in the form that is kept. False: error about `field`. */
bool wiring_normalize_mac(const char *mac, const char *field, char to[24], struct error *error);

/* Of nfv and primary. rx, tx: rings that a pipe is made of. */
bool wiring_add_port(json_t *wiring, const char *process, const char *port, const char *rx, const char *tx, struct error *error);
bool wiring_remove_port(json_t *wiring, const char *process, const char *port, struct error *error);
bool wiring_patch(json_t *wiring, const char *process, const char *source, const char *destination, struct error *error);
bool wiring_reset_patches(json_t *wiring, const char *process, struct error *error);
/* nfv, primary: forwards; pcap: captures, into that file. */
bool wiring_run(json_t *wiring, const char *process, bool running, const char *file, struct error *error);

/* What a port is made of, from now on, attached or not; options NULL = as its name says, refused while it is attached. */
bool wiring_set_port(json_t *wiring, const char *name, const json_t *options, struct error *error);
/* What may come in by a port and how much may go through it, from now on, whether it is there or not; what `policy` leaves out is
 * not limited. NULL = none. */
bool wiring_set_policy(json_t *wiring, const char *port, const json_t *policy, struct error *error);
bool wiring_check_policy(const char *port, const json_t *policy, struct error *error);
/* "phy:0", "vhost:12": KIND:NUMBER of a kind that is known. */
bool wiring_check_port(const char *name, const char *field, struct error *error);
/* 12 of "vhost:12", which has been checked. */
unsigned wiring_port_number(const char *name);
