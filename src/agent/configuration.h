/* What a host has for Soft Patch Panel: its NICs in the order of their ports, with the vhosts and cores of each. As etcd keeps it
 * (an array, or since the end of 2018 an object with "vf", and "mirror" where ports can be tapped), and as administrators write
 * it (DPDK_PORT_MAPPINGS). Pure. */
#pragma once

#include <jansson.h>

#include "base/bytes.h"
#include "base/error.h"

enum { CONFIGURATION_NICS_MAX = 16, CONFIGURATION_VHOSTS_MAX = 30, CONFIGURATION_NAME_MAX = 63, CONFIGURATION_MIRRORS_MAX = 32 };

struct configuration_nic {
    char pci_address[24], physical_network[CONFIGURATION_NAME_MAX + 1];
    unsigned num_vhost, first_vhost; /* vhosts are numbered across NICs */
    uint64_t core_mask;
    char mask_text[24];       /* as it was written */
    const json_t *components; /* another wiring than the usual; NULL = that. The configuration's */
};

/* What a tap copies with: tap.h. */
struct configuration_mirror {
    unsigned core;
    unsigned rings[2]; /* to who gets the copies, and to whose frames they are */
};

struct configuration {
    struct configuration_nic nics[CONFIGURATION_NICS_MAX];
    struct configuration_mirror mirrors[CONFIGURATION_MIRRORS_MAX];
    unsigned mirror_count;
    unsigned nic_count, vhost_count;
    json_t *json; /* as read; NULL = made of mappings */
};

/* The value of /spp/openstack/configuration/HOST. False: error names what is wrong ("vf[1].core_mask"), and nothing is to be
 * freed. */
bool configuration_parse(const void *text, size_t length, struct configuration *ret, struct error *error);
/* "PCI#NETWORK#VHOSTS#MASK[,…]". False: error.field is "DPDK_PORT_MAPPINGS". */
bool configuration_parse_mappings(const char *text, struct configuration *ret, struct error *error);
/* Into what is made of mappings: what they cannot say is as it was, which is mirrors, and the components of NICs. The text is the
 * configuration's before. False: that is none, or does not fit; nothing is to be freed. */
bool configuration_keep(struct configuration *configuration, const void *text, size_t length, struct error *error);
/* A mask with one core; the NICs' masters are it or their own. False: error.field is "SPP_PRIMARY_CORE_MASK". */
bool configuration_check_primary(const struct configuration *configuration, const char *mask, struct error *error);
void configuration_fini(struct configuration *configuration);
/* The array, as the seed has it; with mirrors, the object. To be freed; NULL: no memory. */
char *configuration_format(const struct configuration *configuration);
/* The NIC that a vhost is of; NULL: none. */
const struct configuration_nic *configuration_nic_of(const struct configuration *configuration, unsigned vhost);
