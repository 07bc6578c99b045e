#include "agent/configuration.h"

#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "control/packet/wiring.h"

enum { CONFIGURATION_RING_MAX = 60000 }; /* those of hairpins are above */

/* "vf[1].core_mask" */
static bool wrong(struct error *error, unsigned nic, const char *key, const char *value, const char *expected) {
    char field[64];
    snprintf(field, sizeof(field), "[%u].%s", nic, key);
    return error_invalid(error, field, value, "%s", expected);
}

static bool is_hex(const char *text, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (!((text[i] >= '0' && text[i] <= '9') || ((text[i] | 32) >= 'a' && (text[i] | 32) <= 'f')))
            return false;
    return true;
}

/* "00:04.0", with a domain or without. */
static bool is_pci_address(const char *text) {
    size_t length = strlen(text);
    if (length == 12 && is_hex(text, 4) && text[4] == ':') {
        text += 5;
        length -= 5;
    }
    return length == 7 && is_hex(text, 2) && text[2] == ':' && is_hex(text + 3, 2) && text[5] == '.' && text[6] >= '0' &&
           text[6] <= '7';
}

/* What must hold of one NIC, and between it and those before. */
static bool check_nic(struct configuration *all, unsigned at, struct error *error) {
    struct configuration_nic *nic = &all->nics[at];
    char value[24], expected[96];
    if (!is_pci_address(nic->pci_address))
        return wrong(error, at, "pci_address", nic->pci_address, "an address like 00:04.0");
    if (!text_is_name(nic->physical_network, CONFIGURATION_NAME_MAX))
        return wrong(error, at, "physical_network", nic->physical_network, "1 to 63 printable characters without blanks and /");
    snprintf(value, sizeof(value), "%u", nic->num_vhost);
    if (nic->num_vhost == 0 || nic->num_vhost > CONFIGURATION_VHOSTS_MAX)
        return wrong(error, at, "num_vhost", value, "1 to 30");
    if (!wiring_parse_mask(nic->mask_text, &nic->core_mask))
        return wrong(error, at, "core_mask", nic->mask_text, "a mask of cores below 64, as 0xfe");
    unsigned cores = (unsigned)__builtin_popcountll(nic->core_mask) - 1;
    snprintf(expected, sizeof(expected), "%u cores beside the lowest: two for each vhost, and two", 2 * nic->num_vhost + 2);
    if (cores < 2 * nic->num_vhost + 2 && nic->components == NULL)
        return wrong(error, at, "core_mask", nic->mask_text, expected);
    uint64_t workers = nic->core_mask & (nic->core_mask - 1);
    for (unsigned other = 0; other < at; other++) {
        const struct configuration_nic *before = &all->nics[other];
        uint64_t both = workers & before->core_mask & (before->core_mask - 1);
        snprintf(expected, sizeof(expected), "cores of its own: core %d is that of %s", both == 0 ? 0 : __builtin_ctzll(both),
                 before->pci_address);
        if (both != 0)
            return wrong(error, at, "core_mask", nic->mask_text, expected);
        if (strcmp(before->pci_address, nic->pci_address) == 0)
            return wrong(error, at, "pci_address", nic->pci_address, "each NIC once");
        if (strcmp(before->physical_network, nic->physical_network) == 0)
            return wrong(error, at, "physical_network", nic->physical_network, "a network of its own for each NIC");
    }
    nic->first_vhost = all->vhost_count;
    all->vhost_count += nic->num_vhost;
    return true;
}

static bool copy_text(const json_t *from, const char *key, char *to, size_t size, unsigned at, struct error *error) {
    const json_t *value = json_object_get(from, key);
    if (!json_is_string(value) || snprintf(to, size, "%s", json_string_value(value)) >= (int)size)
        return wrong(error, at, key,
                     value == NULL                      ? "absent"
                     : json_string_value(value) != NULL ? json_string_value(value)
                                                        : "",
                     "a text");
    return true;
}

static bool read_nic(struct configuration *to, unsigned at, const json_t *from, struct error *error) {
    struct configuration_nic *nic = &to->nics[at];
    const json_t *count = json_object_get(from, "num_vhost"), *components = json_object_get(from, "components");
    if (!copy_text(from, "pci_address", nic->pci_address, sizeof(nic->pci_address), at, error) ||
        !copy_text(from, "physical_network", nic->physical_network, sizeof(nic->physical_network), at, error) ||
        !copy_text(from, "core_mask", nic->mask_text, sizeof(nic->mask_text), at, error))
        return false;
    if (!json_is_integer(count) || json_integer_value(count) < 1 || json_integer_value(count) > CONFIGURATION_VHOSTS_MAX)
        return wrong(error, at, "num_vhost", count == NULL ? "absent" : "", "1 to 30");
    if (components != NULL && !json_is_array(components))
        return wrong(error, at, "components", "", "a list");
    nic->num_vhost = (unsigned)json_integer_value(count);
    nic->components = json_array_size(components) > 0 ? components : NULL;
    return check_nic(to, at, error);
}

/* What must hold of one mirror, and between it and what was read before. */
static bool check_mirror(const struct configuration *all, unsigned at, struct error *error) {
    const struct configuration_mirror *mirror = &all->mirrors[at];
    char field[32], value[24];
    uint64_t bit = 1ULL << mirror->core;
    snprintf(field, sizeof(field), "mirror[%u].core", at);
    snprintf(value, sizeof(value), "%u", mirror->core);
    if (bit <= (all->nics[0].core_mask & (~all->nics[0].core_mask + 1)))
        return error_invalid(error, field, value, "one above the lowest core of %s", all->nics[0].pci_address);
    for (unsigned i = 0; i < all->nic_count; i++)
        if ((all->nics[i].core_mask & (all->nics[i].core_mask - 1) & bit) != 0)
            return error_invalid(error, field, value, "a core that no NIC works on: it is one of %s's", all->nics[i].pci_address);
    snprintf(field, sizeof(field), "mirror[%u].ports", at);
    for (unsigned ring = 0; ring < 2; ring++) {
        bool taken = mirror->rings[ring] >= CONFIGURATION_RING_MAX || (ring == 1 && mirror->rings[0] == mirror->rings[1]);
        for (unsigned i = 0; i < at; i++)
            taken = taken || all->mirrors[i].rings[0] == mirror->rings[ring] || all->mirrors[i].rings[1] == mirror->rings[ring];
        for (unsigned i = 0; i < all->nic_count; i++)
            taken = taken || (all->nics[i].components == NULL &&
                              mirror->rings[ring] / 2 - all->nics[i].first_vhost < all->nics[i].num_vhost);
        snprintf(value, sizeof(value), "ring:%u", mirror->rings[ring]);
        if (taken)
            return error_invalid(error, field, value, "two rings of its own below ring:%d", CONFIGURATION_RING_MAX);
    }
    return true;
}

/* [{"core": N, "ports": ["ring:N", "ring:N"]}]; absent is fine. */
static bool read_mirrors(struct configuration *to, const json_t *from, struct error *error) {
    if (from == NULL || json_is_null(from))
        return true;
    if (!json_is_array(from) || json_array_size(from) > CONFIGURATION_MIRRORS_MAX)
        return error_set(error, ERROR_DAMAGED, "\"mirror\" is no list of at most %d", CONFIGURATION_MIRRORS_MAX);
    for (; to->mirror_count < json_array_size(from); to->mirror_count++) {
        struct configuration_mirror *mirror = &to->mirrors[to->mirror_count];
        const json_t *item = json_array_get(from, to->mirror_count), *core = json_object_get(item, "core"),
                     *ports = json_object_get(item, "ports");
        bool ok = json_is_integer(core) && json_integer_value(core) >= 0 && json_integer_value(core) < WIRING_CORES_MAX &&
                  json_array_size(ports) == 2;
        for (unsigned ring = 0; ok && ring < 2; ring++) {
            const char *port = json_string_value(json_array_get(ports, ring));
            ok = port != NULL && strncmp(port, "ring:", 5) == 0 && wiring_check_port(port, "ports", error);
            mirror->rings[ring] = ok ? wiring_port_number(port) : 0;
        }
        if (!ok)
            return error_set(error, ERROR_DAMAGED, "mirror[%u] is not {\"core\": 0 to %d, \"ports\": [\"ring:N\", \"ring:N\"]}",
                             to->mirror_count, WIRING_CORES_MAX - 1);
        mirror->core = (unsigned)json_integer_value(core);
        if (!check_mirror(to, to->mirror_count, error))
            return false;
    }
    return true;
}

bool configuration_parse(const void *text, size_t length, struct configuration *ret, struct error *error) {
    struct configuration read = {0};
    json_error_t where;
    json_t *nic;
    size_t i;
    read.json = json_loadb(text, length, JSON_REJECT_DUPLICATES, &where);
    if (read.json == NULL)
        return error_set(error, ERROR_DAMAGED, "not JSON: %.160s", where.text);
    const json_t *nics = json_is_object(read.json) ? json_object_get(read.json, "vf") : read.json;
    bool ok = (json_is_array(nics) && json_array_size(nics) > 0 && json_array_size(nics) <= CONFIGURATION_NICS_MAX) ||
              error_set(error, ERROR_DAMAGED, "neither a list of 1 to %d NICs nor an object with such a list as \"vf\"",
                        CONFIGURATION_NICS_MAX);
    if (ok) {
        json_array_foreach((json_t *)nics, i, nic) {
            ok = ok && read_nic(&read, (unsigned)i, nic, error);
            read.nic_count++;
        }
    }
    ok = ok && (!json_is_object(read.json) || read_mirrors(&read, json_object_get(read.json, "mirror"), error));
    if (!ok)
        configuration_fini(&read);
    else
        *ret = read;
    return ok;
}

/* One field up to `end` or the text's end; moves on. */
static bool next_field(const char **text, char end, char *to, size_t size) {
    const char stops[] = {end, '\0'};
    size_t length = strcspn(*text, stops);
    if (length == 0 || length >= size || (end == '#' && (*text)[length] != '#'))
        return false;
    memcpy(to, *text, length);
    to[length] = '\0';
    *text += length;
    if (**text != '\0')
        (*text)++;
    return true;
}

bool configuration_parse_mappings(const char *text, struct configuration *ret, struct error *error) {
    struct configuration read = {0};
    const char *rest = text, *whole = text;
    struct error why;
    do {
        char count[8];
        uint64_t number;
        struct configuration_nic *nic = &read.nics[read.nic_count];
        if (read.nic_count == CONFIGURATION_NICS_MAX)
            return error_invalid(error, "DPDK_PORT_MAPPINGS", whole, "at most %d NICs", CONFIGURATION_NICS_MAX);
        if (!next_field(&rest, '#', nic->pci_address, sizeof(nic->pci_address)) ||
            !next_field(&rest, '#', nic->physical_network, sizeof(nic->physical_network)) ||
            !next_field(&rest, '#', count, sizeof(count)) || !text_parse_u64(count, 1000, &number) ||
            !next_field(&rest, ',', nic->mask_text, sizeof(nic->mask_text)))
            return error_invalid(error, "DPDK_PORT_MAPPINGS", whole, "PCI#NETWORK#VHOSTS#COREMASK[,…], as 00:04.0#phys1#2#0xfe");
        nic->num_vhost = (unsigned)number;
        if (!check_nic(&read, read.nic_count++, &why))
            return error_invalid(error, "DPDK_PORT_MAPPINGS", why.value, "in NIC %u: %s", read.nic_count, why.expected);
    } while (*rest != '\0' || rest[-1] == ',');
    *ret = read;
    return true;
}

/* Components name cores and vhosts, and so fit the NIC that they were written for. */
static bool keep_components(struct configuration *to, const struct configuration_nic *was, struct error *error) {
    for (unsigned i = 0; i < to->nic_count; i++) {
        struct configuration_nic *nic = &to->nics[i];
        if (strcmp(nic->pci_address, was->pci_address) != 0)
            continue;
        if (nic->first_vhost != was->first_vhost || nic->num_vhost != was->num_vhost || nic->core_mask != was->core_mask)
            return error_set(error, ERROR_BUSY, "%s has components of its own, for %u vhosts from %u on and cores %s",
                             was->pci_address, was->num_vhost, was->first_vhost, was->mask_text);
        nic->components = was->components;
    }
    return true;
}

bool configuration_keep(struct configuration *configuration, const void *text, size_t length, struct error *error) {
    struct configuration was, next = *configuration;
    if (!configuration_parse(text, length, &was, error))
        return false;
    bool ok = true;
    for (unsigned i = 0; ok && i < was.nic_count; i++)
        ok = was.nics[i].components == NULL || keep_components(&next, &was.nics[i], error);
    memcpy(next.mirrors, was.mirrors, sizeof(next.mirrors));
    for (; ok && next.mirror_count < was.mirror_count; next.mirror_count++)
        ok = check_mirror(&next, next.mirror_count, error);
    if (!ok) {
        configuration_fini(&was);
        return false;
    }
    next.json = was.json; /* which components are in */
    *configuration = next;
    return true;
}

bool configuration_check_primary(const struct configuration *configuration, const char *mask, struct error *error) {
    uint64_t cores;
    if (!wiring_parse_mask(mask, &cores) || __builtin_popcountll(cores) != 1)
        return error_invalid(error, "SPP_PRIMARY_CORE_MASK", mask, "a mask of one core, as 0x2");
    for (unsigned i = 0; i < configuration->nic_count; i++) {
        uint64_t workers = configuration->nics[i].core_mask & (configuration->nics[i].core_mask - 1);
        if ((workers & cores) != 0)
            return error_invalid(error, "SPP_PRIMARY_CORE_MASK", mask, "a core that no NIC works on: core %d is one of %s's",
                                 __builtin_ctzll(cores), configuration->nics[i].pci_address);
    }
    return true;
}

void configuration_fini(struct configuration *configuration) {
    json_decref(configuration->json);
    *configuration = (struct configuration){0};
}

char *configuration_format(const struct configuration *configuration) {
    json_t *list = json_array();
    for (unsigned i = 0; i < configuration->nic_count; i++) {
        const struct configuration_nic *nic = &configuration->nics[i];
        json_array_append_new(list, json_pack("{si ss ss ss sO*}", "num_vhost", (int)nic->num_vhost, "pci_address",
                                              nic->pci_address, "physical_network", nic->physical_network, "core_mask",
                                              nic->mask_text, "components", nic->components));
    }
    if (configuration->mirror_count > 0) {
        json_t *mirrors = json_array();
        for (unsigned i = 0; i < configuration->mirror_count; i++) {
            const struct configuration_mirror *mirror = &configuration->mirrors[i];
            json_array_append_new(mirrors, json_pack("{si s[oo]}", "core", (int)mirror->core, "ports",
                                                     json_sprintf("ring:%u", mirror->rings[0]),
                                                     json_sprintf("ring:%u", mirror->rings[1])));
        }
        list = json_pack("{so so}", "vf", list, "mirror", mirrors);
    }
    char *text = json_dumps(list, 0);
    json_decref(list);
    return text;
}

const struct configuration_nic *configuration_nic_of(const struct configuration *configuration, unsigned vhost) {
    for (unsigned i = 0; i < configuration->nic_count; i++)
        if (vhost - configuration->nics[i].first_vhost < configuration->nics[i].num_vhost)
            return &configuration->nics[i];
    return NULL;
}
