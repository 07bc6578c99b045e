/* Fuzzes what reads the words of the packet plane's users: masks and maps of cores, capture filters by libpcap, the text commands
 * of Soft Patch Panel's processes, a host's configuration in etcd and as mappings. The first byte says which. */
#include <stdlib.h>
#include <string.h>

#include "agent/configuration.h"
#include "gateway/spp/command.h"
#include "packet/cores.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was read is written as ranges; each range lies within the mask, and they are all of it. */
static void read_mask(const char *text) {
    struct error error;
    char formatted[CORES_TEXT_SIZE];
    uint64_t mask = 0, told = 0;
    if (!cores_parse_mask("mask", text, &mask, &error)) {
        assert(error.text[0] != '\0');
        return;
    }
    assert(mask != 0);
    for (const char *at = cores_format(mask, formatted); *at != '\0';) {
        char *end;
        unsigned long first = strtoul(at, &end, 10), last = first;
        if (*end == '-')
            last = strtoul(end + 1, &end, 10);
        for (; first <= last; first++)
            told |= UINT64_C(1) << first;
        at = *end == ',' ? end + 1 : end;
    }
    assert(told == mask);
}

static void read_map(const char *text) {
    struct cores_map map = {0};
    if (!cores_parse_map(text, &map))
        return;
    unsigned known = 0;
    for (unsigned core = 0; core < CORES_MAX; core++) {
        assert(cores_cpu(&map, core) >= -1);
        known += cores_cpu(&map, core) >= 0;
    }
    assert(known > 0);
}

static void read_command(const char *text) {
    static const char *const types[] = {"primary", "vf", "nfv", "mirror", "pcap"};
    for (size_t i = 0; i < array_count(types); i++) {
        struct command command = {0};
        struct error error;
        if (!command_parse(types[i], 1, text, &command, &error)) {
            assert(error.text[0] != '\0');
            continue;
        }
        assert(command.kind != COMMAND_DO || (command.method != NULL && command.path[0] == '/'));
        /* A status is told by REST as JSON. */
        bool status = command.kind == COMMAND_STATUS;
        json_t *answer = command_answer(types[i], 1, &command, NULL, status ? 200 : 204, status ? "{}" : NULL);
        assert(answer != NULL);
        json_decref(answer);
        command_fini(&command);
    }
}

static bool is_same(const struct configuration_nic *a, const struct configuration_nic *b) {
    return strcmp(a->pci_address, b->pci_address) == 0 && strcmp(a->physical_network, b->physical_network) == 0 &&
           a->num_vhost == b->num_vhost && a->first_vhost == b->first_vhost && a->core_mask == b->core_mask;
}

/* What was read is what its own text says. */
static void check_configuration(struct configuration *configuration) {
    struct configuration again = {0};
    struct error error;
    unsigned vhosts = 0;
    char *text = configuration_format(configuration);
    assert(text != NULL && configuration->nic_count <= CONFIGURATION_NICS_MAX);
    bool ok = configuration_parse(text, strlen(text), &again, &error);
    assert(ok && again.nic_count == configuration->nic_count && again.vhost_count == configuration->vhost_count &&
           again.mirror_count == configuration->mirror_count);
    for (unsigned i = 0; i < again.mirror_count; i++)
        assert(memcmp(&again.mirrors[i], &configuration->mirrors[i], sizeof(again.mirrors[i])) == 0);
    for (unsigned i = 0; i < again.nic_count; i++) {
        assert(is_same(&again.nics[i], &configuration->nics[i]) && again.nics[i].first_vhost == vhosts);
        vhosts += again.nics[i].num_vhost;
    }
    assert(vhosts == configuration->vhost_count && configuration_nic_of(configuration, vhosts) == NULL);
    free(text);
    configuration_fini(&again);
    configuration_fini(configuration);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct configuration configuration = {0};
    struct error error;
    if (size < 1 || size > COMMAND_BYTES_MAX)
        return 0;
    char *text = malloc(size); /* ends where it ends, for the sanitizer */
    assert(text != NULL);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    switch (data[0] % 5) {
    case 0: read_mask(text); break;
    case 1: read_map(text); break;
    case 2: read_command(text); break;
    case 3:
        if (configuration_parse(data + 1, size - 1, &configuration, &error))
            check_configuration(&configuration);
        break;
    default:
        if (configuration_parse_mappings(text, &configuration, &error))
            check_configuration(&configuration);
    }
    free(text);
    return 0;
}
