/* `penstock block disk …`: a disk is a file device and the volume store on it, both with one name. */
#include <inttypes.h>
#include <string.h>

#include "base/text.h"
#include "cli/cli.h"

bool cli_disk_list(struct cli *cli) {
    json_t *stores;
    if (!cli_call(cli, "bdev_lvol_get_lvstores", NULL, &stores))
        return false;
    if (cli_wants_data(cli)) {
        cli_print(cli, stores);
        json_decref(stores);
        return true;
    }
    static const char *const titles[] = {"NAME", "DEVICE", "SIZE", "FREE", "USED", "UUID"};
    struct cli_table table;
    cli_table_init(&table, titles, 6, 0x1c);
    size_t i;
    json_t *store;
    json_array_foreach(stores, i, store) {
        uint64_t cluster = (uint64_t)json_integer_value(json_object_get(store, "cluster_size"));
        uint64_t total = (uint64_t)json_integer_value(json_object_get(store, "total_data_clusters"));
        uint64_t free_clusters = (uint64_t)json_integer_value(json_object_get(store, "free_clusters"));
        char size[24], left[24], used[16];
        snprintf(used, sizeof(used), "%" PRIu64 " %%", total == 0 ? 0 : (total - free_clusters) * 100 / total);
        cli_table_row(&table, cli_member(store, "name"), cli_member(store, "base_bdev"),
                      text_format_size(total * cluster, size, sizeof(size)),
                      text_format_size(free_clusters * cluster, left, sizeof(left)), used, cli_member(store, "uuid"));
    }
    cli_table_print(&table, stdout);
    json_decref(stores);
    return true;
}

/* Opens the file or block device under this name; a store on it is found with it. */
static bool open_device(struct cli *cli, const char *name, const char *path) {
    uint64_t block_size = 0;
    json_t *params = json_pack("{s:s, s:s}", "name", name, "filename", path), *result;
    if (cli_option(cli, "--block-size") != NULL) {
        if (!cli_size(cli, "--block-size", cli_option(cli, "--block-size"), &block_size))
            return false;
        json_object_set_new(params, "block_size", json_integer((json_int_t)block_size));
    }
    json_object_set_new(params, "fallocate", json_true());
    if (!cli_call(cli, "bdev_aio_create", params, &result))
        return false;
    json_decref(result);
    return true;
}

static bool make_file(struct cli *cli, const char *path) {
    uint64_t size;
    if (cli_option(cli, "--size") == NULL)
        return true;
    if (!cli_size(cli, "--size", cli_option(cli, "--size"), &size))
        return false;
    json_t *result;
    if (!cli_call(cli, "disk_create_file", json_pack("{s:s, s:I}", "filename", path, "size", (json_int_t)size), &result))
        return false;
    json_decref(result);
    return true;
}

/* *ret_found: a store was found on this device when it was opened. */
static bool store_found(struct cli *cli, const char *device, bool *ret_found) {
    json_t *stores, *store;
    size_t i;
    if (!cli_call(cli, "bdev_lvol_get_lvstores", NULL, &stores))
        return false;
    *ret_found = false;
    json_array_foreach(stores, i, store) *ret_found = *ret_found || strcmp(cli_member(store, "base_bdev"), device) == 0;
    json_decref(stores);
    return true;
}

bool cli_disk_create(struct cli *cli) {
    const char *name = cli->arguments[0];
    uint64_t cluster = MIB(1);
    if (cli_option(cli, "--cluster-size") != NULL &&
        !cli_size(cli, "--cluster-size", cli_option(cli, "--cluster-size"), &cluster))
        return false;
    bool found;
    if (!make_file(cli, cli->arguments[1]) || !open_device(cli, name, cli->arguments[1]) || !store_found(cli, name, &found))
        return false;
    json_t *result;
    if (found)
        return true;
    if (!cli_call(cli, "bdev_lvol_create_lvstore",
                  json_pack("{s:s, s:s, s:I}", "bdev_name", name, "lvs_name", name, "cluster_sz", (json_int_t)cluster),
                  &result)) {
        struct error error = cli->error; /* what is worth telling; the device goes as it came */
        if (cli_call(cli, "bdev_aio_delete", json_pack("{s:s}", "name", name), &result))
            json_decref(result);
        cli->error = error;
        return false;
    }
    json_decref(result);
    return true;
}

bool cli_disk_delete(struct cli *cli) { return cli_do(cli, "bdev_aio_delete", json_pack("{s:s}", "name", cli->arguments[0])); }
