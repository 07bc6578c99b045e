/* `penstock packet setup`: a host's NICs, as administrators write them, into etcd: the configuration, and a key for each vhost.
 * What is in use stays, and what they cannot write so; what would take that away is refused. */
#include <stdlib.h>
#include <string.h>

#include "agent/configuration.h"
#include "base/text.h"
#include "cli/packet/packet.h"
#include "control/store/etcd/etcd.h"

#define ETCD_DEFAULT "127.0.0.1:2379"
#define ROOT "/spp/openstack/"

enum { KEY_SIZE = 256, PREFIX_SIZE = 128, TRIES = 5, KEYS_MAX = CONFIGURATION_NICS_MAX * CONFIGURATION_VHOSTS_MAX, BATCH = 100 };

struct setup {
    struct cli *cli;
    struct store *store;
    const char *host;
    struct configuration configuration, next; /* as given; with what is kept of the one that is there */
    struct store_request request;
    bool done, closed;
    char prefix[PREFIX_SIZE], configuration_key[PREFIX_SIZE];
    /* What is to be done: keys to be made (revision 0), and those that are nobody's to be deleted. */
    char (*keys)[KEY_SIZE];
    int64_t *revisions;
    unsigned missing, surplus; /* the surplus ones stand behind the missing ones */
    bool *seen;
    int64_t configuration_revision;
};

static void stop(struct setup *setup) { host_loop_stop(setup->cli->reactor->loop); }

static void answered(struct store_request *request) {
    struct setup *setup = container_of(request, struct setup, request);
    setup->done = true;
    stop(setup);
}

/* Runs until `flag` is set. */
static void wait_for(struct setup *setup, const bool *flag) {
    while (!*flag)
        setup->cli->run(setup->cli->reactor->loop);
}

/* ---- what is there ---- */

static bool note_entry(struct setup *setup, const struct store_entry *entry) {
    char expected[KEY_SIZE];
    struct cli *cli = setup->cli;
    for (unsigned n = 0; n < setup->configuration.nic_count; n++) {
        const struct configuration_nic *nic = &setup->configuration.nics[n];
        for (unsigned v = nic->first_vhost; v < nic->first_vhost + nic->num_vhost; v++) {
            snprintf(expected, sizeof(expected), "%s%s/%u", setup->prefix, nic->physical_network, v);
            if (strcmp(expected, entry->key) == 0) {
                setup->seen[v] = true;
                return true;
            }
        }
    }
    if (entry->value_length != 4 || memcmp(entry->value, "None", 4) != 0) {
        error_set(&cli->error, ERROR_BUSY, "%.100s is used by port %.*s, and would be no more", entry->key + strlen(ROOT),
                  (int)min_u64(entry->value_length, 60), (const char *)entry->value);
        return error_hint(&cli->error, "move or delete that port first");
    }
    if (setup->surplus == KEYS_MAX)
        return error_set(&cli->error, ERROR_NO_MEMORY, "more than %d vhost keys are there", KEYS_MAX);
    snprintf(setup->keys[KEYS_MAX + setup->surplus], KEY_SIZE, "%s", entry->key);
    setup->revisions[KEYS_MAX + setup->surplus++] = entry->modify_revision;
    return true;
}

/* Reads below a key; the callback's context is `answered`, so that entries are looked at inside. */
static void vhosts_told(struct store_request *request) {
    struct setup *setup = container_of(request, struct setup, request);
    if (request->outcome == STORE_DONE && request->more)
        error_set(&setup->cli->error, ERROR_NO_MEMORY, "more vhost keys are there than can be");
    for (uint32_t i = 0; request->outcome == STORE_DONE && i < request->results[0].count && setup->cli->error.code == ERROR_NONE;
         i++)
        (void)note_entry(setup, &request->results[0].entries[i]);
    answered(request);
}

static void configuration_told(struct store_request *request) {
    struct setup *setup = container_of(request, struct setup, request);
    struct error *error = &setup->cli->error;
    const struct store_entry *entry =
        request->outcome == STORE_DONE && request->results[0].count > 0 ? &request->results[0].entries[0] : NULL;
    setup->configuration_revision = entry != NULL ? entry->modify_revision : 0;
    configuration_fini(&setup->next);
    setup->next = setup->configuration;
    if (entry != NULL && !configuration_keep(&setup->next, entry->value, entry->value_length, error))
        (void)error_hint(error, "%s: mend it, or delete it to begin anew", setup->configuration_key);
    answered(request);
}

static bool ask(struct setup *setup, void (*done)(struct store_request *request)) {
    setup->done = false;
    setup->request.done = done;
    reactor_enter(setup->cli->reactor);
    store_submit(setup->store, &setup->request);
    reactor_enter(NULL);
    wait_for(setup, &setup->done);
    if (setup->cli->error.code != ERROR_NONE)
        return false;
    return setup->request.outcome == STORE_DONE ||
           error_set(&setup->cli->error, ERROR_IO, "etcd: %.200s", setup->request.error.text);
}

static bool look(struct setup *setup) {
    setup->missing = setup->surplus = 0;
    memset(setup->seen, 0, KEYS_MAX);
    setup->request = (struct store_request){.verb = STORE_RANGE, .key = setup->prefix, .prefix = true};
    if (!ask(setup, vhosts_told))
        return false;
    for (unsigned n = 0; n < setup->configuration.nic_count; n++) {
        const struct configuration_nic *nic = &setup->configuration.nics[n];
        for (unsigned v = nic->first_vhost; v < nic->first_vhost + nic->num_vhost; v++)
            if (!setup->seen[v])
                snprintf(setup->keys[setup->missing++], KEY_SIZE, "%s%s/%u", setup->prefix, nic->physical_network, v);
    }
    setup->request = (struct store_request){.verb = STORE_RANGE, .key = setup->configuration_key};
    return ask(setup, configuration_told);
}

/* ---- what is done ---- */

static struct store_compare untouched(const char *key, int64_t revision) {
    return (struct store_compare){.key = key, .target = STORE_MODIFY_REVISION, .relation = STORE_EQUAL, .revision = revision};
}

/* *ret_again: somebody else was faster: look again. */
static bool transact(struct setup *setup, const struct store_compare *compares, const struct store_op *ops,
                     unsigned compare_count, unsigned op_count, bool *ret_again) {
    setup->request = (struct store_request){
        .verb = STORE_TRANSACT, .compares = compares, .compare_count = compare_count, .then_ops = ops, .then_count = op_count};
    if (!ask(setup, answered))
        return false;
    *ret_again = !setup->request.succeeded;
    return true;
}

static bool make_missing(struct setup *setup, bool *ret_again) {
    struct store_compare compares[BATCH];
    struct store_op ops[BATCH];
    for (unsigned at = 0; at < setup->missing && !*ret_again;) {
        unsigned count = 0;
        for (; at < setup->missing && count < BATCH; at++, count++) {
            compares[count] = untouched(setup->keys[at], 0);
            ops[count] = (struct store_op){.kind = STORE_PUT, .key = setup->keys[at], .value = "None", .value_length = 4};
        }
        if (!transact(setup, compares, ops, count, count, ret_again))
            return false;
    }
    return true;
}

/* The configuration, and the end of vhosts that it has no more, in one step. */
static bool write_configuration(struct setup *setup, bool *ret_again) {
    struct store_compare compares[BATCH + 1];
    struct store_op ops[BATCH + 1];
    unsigned count = 0;
    if (setup->surplus > BATCH)
        return error_set(&setup->cli->error, ERROR_NO_MEMORY, "more than %d vhosts would go at once", BATCH);
    char *value = configuration_format(&setup->next);
    if (value == NULL)
        return error_set(&setup->cli->error, ERROR_NO_MEMORY, "no memory");
    compares[0] = untouched(setup->configuration_key, setup->configuration_revision);
    ops[count++] =
        (struct store_op){.kind = STORE_PUT, .key = setup->configuration_key, .value = value, .value_length = strlen(value)};
    for (unsigned i = 0; i < setup->surplus; i++, count++) {
        compares[count] = untouched(setup->keys[KEYS_MAX + i], setup->revisions[KEYS_MAX + i]);
        ops[count] = (struct store_op){.kind = STORE_DELETE, .key = setup->keys[KEYS_MAX + i]};
    }
    bool ok = transact(setup, compares, ops, count, count, ret_again);
    free(value);
    return ok;
}

static bool carry_out(struct setup *setup) {
    bool ok = true, again = true;
    for (unsigned tries = 0; ok && again && tries < TRIES; tries++) {
        again = false;
        ok = look(setup) && make_missing(setup, &again) && (again || write_configuration(setup, &again));
    }
    if (ok && again)
        ok = error_set(&setup->cli->error, ERROR_BUSY, "the keys change all the time: try again");
    if (ok && !cli_wants_data(setup->cli))
        printf("%s: %u NICs, %u vhosts (%u new, %u gone)\n", setup->host, setup->configuration.nic_count,
               setup->configuration.vhost_count, setup->missing, setup->surplus);
    return ok;
}

/* ---- the verb ---- */

static void closed(void *arg) {
    struct setup *setup = arg;
    setup->closed = true;
    stop(setup);
}

/* What --etcd-… name, as texts: those of files are the caller's. */
static bool read_credentials(struct cli *cli, struct store_etcd_options *options, char *texts[4]) {
    static const char *const files[] = {"--etcd-ca", "--etcd-certificate", "--etcd-key", "--etcd-password-file"};
    unsigned given = 0;
    for (unsigned i = 0; i < array_count(files); i++) {
        const char *path = cli_option(cli, files[i]);
        given += i < 3 && path != NULL;
        if (path != NULL && !cli_read_text(cli, path, &texts[i]))
            return false;
    }
    options->peer_name = cli_option(cli, "--etcd-name");
    options->user = cli_option(cli, "--etcd-user");
    if (given != 0 && given != 3)
        return error_set(&cli->error, ERROR_INVALID, "%s, %s and %s go together", files[0], files[1], files[2]);
    if (options->peer_name != NULL && given == 0)
        return error_invalid(&cli->error, "--etcd-name", options->peer_name, "%s beside it", files[0]);
    if ((options->user == NULL) != (texts[3] == NULL))
        return error_set(&cli->error, ERROR_INVALID, "--etcd-user and %s go together", files[3]);
    if (texts[3] != NULL)
        texts[3][strcspn(texts[3], "\r\n")] = '\0';
    options->ca_pem = texts[0];
    options->certificate_pem = texts[1];
    options->key_pem = texts[2];
    options->password = texts[3];
    return true;
}

static bool open_etcd(struct setup *setup) {
    struct cli *cli = setup->cli;
    struct host_address address;
    const char *place = cli_option(cli, "--etcd");
    char *texts[4] = {0};
    struct store_etcd_options options = {.store.reactor = cli->reactor, .endpoints = &address, .endpoint_count = 1};
    bool ok =
        cli_packet_place(cli, "--etcd", place != NULL ? place : ETCD_DEFAULT, &address) && read_credentials(cli, &options, texts);
    reactor_enter(cli->reactor);
    ok = ok && store_etcd_create(&options, &setup->store, &cli->error);
    reactor_enter(NULL);
    for (unsigned i = 0; i < array_count(texts); i++)
        cli_forget_text(texts[i]);
    return ok;
}

static bool with_etcd(struct setup *setup) {
    struct cli *cli = setup->cli;
    if (!open_etcd(setup))
        return false;
    error_clear(&cli->error);
    bool ok = carry_out(setup);
    reactor_enter(cli->reactor);
    store_close(setup->store, closed, setup);
    reactor_enter(NULL);
    wait_for(setup, &setup->closed);
    return ok;
}

/* The words are those of devstack's settings. */
static bool read_words(struct setup *setup, const char **ret_mask) {
    static const char mappings[] = "DPDK_PORT_MAPPINGS=", mask[] = "SPP_PRIMARY_CORE_MASK=";
    struct cli *cli = setup->cli;
    bool given = false;
    *ret_mask = NULL;
    for (unsigned i = 1; i < cli->argument_count; i++) {
        const char *word = cli->arguments[i];
        if (strncmp(word, mappings, sizeof(mappings) - 1) == 0) {
            if (!configuration_parse_mappings(word + sizeof(mappings) - 1, &setup->configuration, &cli->error))
                return false;
            given = true;
        } else if (strncmp(word, mask, sizeof(mask) - 1) == 0) {
            *ret_mask = word + sizeof(mask) - 1;
        } else {
            return error_invalid(&cli->error, "argument", word, "DPDK_PORT_MAPPINGS=… or SPP_PRIMARY_CORE_MASK=…");
        }
    }
    return given || error_set(&cli->error, ERROR_INVALID, "DPDK_PORT_MAPPINGS= is not given");
}

bool cli_packet_setup(struct cli *cli) {
    struct setup setup = {.cli = cli, .host = cli->arguments[0]};
    const char *mask;
    if (!text_is_name(setup.host, 63))
        return error_invalid(&cli->error, "HOST", setup.host, "a name without blanks and /");
    if (!read_words(&setup, &mask) || (mask != NULL && !configuration_check_primary(&setup.configuration, mask, &cli->error)))
        return false;
    snprintf(setup.prefix, sizeof(setup.prefix), ROOT "vhost/%s/", setup.host);
    snprintf(setup.configuration_key, sizeof(setup.configuration_key), ROOT "configuration/%s", setup.host);
    setup.keys = calloc(2 * KEYS_MAX, sizeof(*setup.keys));
    setup.revisions = calloc(2 * KEYS_MAX, sizeof(*setup.revisions));
    setup.seen = calloc(KEYS_MAX, sizeof(*setup.seen));
    bool ok = setup.keys != NULL && setup.revisions != NULL && setup.seen != NULL;
    if (!ok)
        error_set(&cli->error, ERROR_NO_MEMORY, "no memory");
    ok = ok && (cli_option(cli, "--check") != NULL || with_etcd(&setup));
    configuration_fini(&setup.next);
    free(setup.keys);
    free(setup.revisions);
    free(setup.seen);
    return ok;
}
