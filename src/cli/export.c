/* `penstock block export …`: a subsystem with one namespace and one listener; the rest is for `penstock rpc nvmf_…`. */
#include <string.h>

#include "base/text.h"
#include "cli/cli.h"

static void address_text(const json_t *subsystem, char *to, size_t size) {
    const json_t *addresses = json_object_get(subsystem, "listen_addresses"), *address = json_array_get(addresses, 0);
    if (address == NULL) {
        snprintf(to, size, "-");
        return;
    }
    bool v6 = strchr(cli_member(address, "traddr"), ':') != NULL;
    snprintf(to, size, v6 ? "[%s]:%s%s" : "%s:%s%s", cli_member(address, "traddr"), cli_member(address, "trsvcid"),
             json_array_size(addresses) > 1 ? ", …" : "");
}

bool cli_export_list(struct cli *cli) {
    json_t *subsystems, *subsystem;
    size_t i;
    if (!cli_call(cli, "nvmf_get_subsystems", NULL, &subsystems))
        return false;
    if (cli_wants_data(cli)) {
        cli_print(cli, subsystems);
    } else {
        static const char *const titles[] = {"NQN", "LISTENS", "DEVICE", "HOSTS"};
        struct cli_table table;
        cli_table_init(&table, titles, 4, 0);
        json_array_foreach(subsystems, i, subsystem) {
            if (strcmp(cli_member(subsystem, "subtype"), "NVMe") != 0)
                continue;
            const json_t *namespaces = json_object_get(subsystem, "namespaces");
            char where[128], devices[CLI_CELL_MAX] = "-", hosts[32];
            address_text(subsystem, where, sizeof(where));
            size_t at = 0;
            for (size_t n = 0; n < json_array_size(namespaces) && at < sizeof(devices); n++)
                at += (size_t)snprintf(devices + at, sizeof(devices) - at, "%s%s", n > 0 ? ", " : "",
                                       cli_member(json_array_get(namespaces, n), "bdev_name"));
            if (json_is_true(json_object_get(subsystem, "allow_any_host")))
                snprintf(hosts, sizeof(hosts), "any");
            else
                snprintf(hosts, sizeof(hosts), "%zu", json_array_size(json_object_get(subsystem, "hosts")));
            cli_table_row(&table, cli_member(subsystem, "nqn"), where, devices, hosts);
        }
        cli_table_print(&table, stdout);
    }
    json_decref(subsystems);
    return true;
}

/* "127.0.0.1:4420" or "[::1]:4420" to the dialect's listen_address. */
static json_t *parse_listen(struct cli *cli, const char *text) {
    char host[64];
    const char *colon = strrchr(text, ':');
    bool v6 = text[0] == '[';
    const char *begin = text + v6, *end = v6 ? strchr(text, ']') : colon;
    uint64_t port;
    if (colon == NULL || end == NULL || (v6 && end + 1 != colon) || end == begin || (size_t)(end - begin) >= sizeof(host) ||
        !text_parse_u64(colon + 1, 65535, &port)) {
        error_invalid(&cli->error, "--listen", text, "ADDRESS:PORT, such as 127.0.0.1:4420 or [::1]:4420");
        return NULL;
    }
    memcpy(host, begin, (size_t)(end - begin));
    host[end - begin] = '\0';
    return json_pack("{s:s, s:s, s:s, s:s}", "trtype", "TCP", "adrfam", v6 ? "IPv6" : "IPv4", "traddr", host, "trsvcid",
                     colon + 1);
}

/* The transport exists once somebody made it; ours is made with its defaults. */
static bool need_transport(struct cli *cli) {
    json_t *transports, *transport;
    size_t i;
    if (!cli_call(cli, "nvmf_get_transports", NULL, &transports))
        return false;
    bool there = false;
    json_array_foreach(transports, i, transport) there = there || strcmp(cli_member(transport, "trtype"), "TCP") == 0;
    json_decref(transports);
    return there || cli_do(cli, "nvmf_create_transport", json_pack("{s:s}", "trtype", "TCP"));
}

/* The rest of the making, undone by the caller when it fails. */
static bool fill(struct cli *cli, const char *nqn, json_t *take_listen) {
    const char *host = cli_option(cli, "--host");
    if (host != NULL && !cli_do(cli, "nvmf_subsystem_add_host", json_pack("{s:s, s:s}", "nqn", nqn, "host", host))) {
        json_decref(take_listen);
        return false;
    }
    if (!cli_do(cli, "nvmf_subsystem_add_ns",
                json_pack("{s:s, s:{s:s}}", "nqn", nqn, "namespace", "bdev_name", cli->arguments[0]))) {
        json_decref(take_listen);
        return false;
    }
    return cli_do(cli, "nvmf_subsystem_add_listener", json_pack("{s:s, s:o}", "nqn", nqn, "listen_address", take_listen));
}

bool cli_export_create(struct cli *cli) {
    const char *listen = cli_option(cli, "--listen"), *nqn = cli_option(cli, "--nqn"), *name = strchr(cli->arguments[0], '/');
    char default_nqn[224];
    if (nqn == NULL) {
        snprintf(default_nqn, sizeof(default_nqn), "nqn.2026-11.io.penstock:%s", name != NULL ? name + 1 : cli->arguments[0]);
        nqn = default_nqn;
    }
    json_t *address = parse_listen(cli, listen != NULL ? listen : "127.0.0.1:4420");
    if (address == NULL)
        return false;
    if (!need_transport(cli) ||
        !cli_do(cli, "nvmf_create_subsystem",
                json_pack("{s:s, s:b}", "nqn", nqn, "allow_any_host", cli_option(cli, "--host") == NULL))) {
        json_decref(address);
        return false;
    }
    if (!fill(cli, nqn, address)) {
        struct error error = cli->error;
        cli_do(cli, "nvmf_delete_subsystem", json_pack("{s:s}", "nqn", nqn));
        cli->error = error;
        return false;
    }
    if (!cli_wants_data(cli))
        printf("%s\n", nqn);
    else
        printf("{\"nqn\": \"%s\"}\n", nqn);
    return true;
}

bool cli_export_delete(struct cli *cli) {
    return cli_do(cli, "nvmf_delete_subsystem", json_pack("{s:s}", "nqn", cli->arguments[0]));
}
