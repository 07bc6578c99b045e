/* `penstock status`: one screen that says whether all is well and, if not, what to do. */
#include <inttypes.h>
#include <string.h>

#include "base/text.h"
#include "cli/cli.h"

#define SPACE_WARNING_PERCENT 80

static void line(void *arg, const char *what, const char *advice) {
    bool *well = arg;
    *well = false;
    printf("!  %s\n", what);
    if (advice[0] != '\0')
        printf("   %s\n", advice);
}

static uint64_t number(const json_t *object, const char *key) {
    return (uint64_t)json_integer_value(json_object_get(object, key));
}

static bool stores(struct cli *cli, bool *ret_well, size_t *ret_count) {
    json_t *list, *store;
    size_t i;
    if (!cli_call(cli, "bdev_lvol_get_lvstores", NULL, &list))
        return false;
    *ret_count = json_array_size(list);
    json_array_foreach(list, i, store) {
        uint64_t total = number(store, "total_data_clusters"), used = total - number(store, "free_clusters");
        char what[256], left[24];
        if (total > 0 && used * 100 / total >= SPACE_WARNING_PERCENT) {
            snprintf(what, sizeof(what), "disk %s is %" PRIu64 " %% full, %s left", cli_member(store, "name"), used * 100 / total,
                     text_format_size((total - used) * number(store, "cluster_size"), left, sizeof(left)));
            line(ret_well, what,
                 "delete volumes or snapshots, trim from the guests, or grow the disk and call bdev_lvol_grow_lvstore");
        }
    }
    json_decref(list);
    return true;
}

static bool reactors(struct cli *cli, char *to, size_t size) {
    json_t *answer;
    if (!cli_call(cli, "framework_get_reactors", NULL, &answer))
        return false;
    const json_t *list = json_object_get(answer, "reactors");
    snprintf(to, size, "pid %" PRIu64 ", %zu reactor%s", number(answer, "pid"), json_array_size(list),
             json_array_size(list) == 1 ? "" : "s");
    json_decref(answer);
    return true;
}

/* One plane, by its socket. */
static bool plane_status(struct cli *cli) {
    json_t *version = NULL, *devices = NULL, *subsystems = NULL;
    char process[64];
    size_t store_count = 0;
    bool well = true;
    bool ok = cli_call(cli, "spdk_get_version", NULL, &version) && reactors(cli, process, sizeof(process)) &&
              cli_call(cli, "bdev_get_bdevs", NULL, &devices) && cli_call(cli, "nvmf_get_subsystems", NULL, &subsystems);
    if (ok && cli_wants_data(cli)) {
        json_t *all = json_pack("{s:O, s:I, s:I}", "version", version, "devices", (json_int_t)json_array_size(devices),
                                "subsystems", (json_int_t)json_array_size(subsystems));
        cli_print(cli, all);
        json_decref(all);
    } else if (ok && (ok = stores(cli, &well, &store_count) && cli_mirror_advice(cli, line, &well))) {
        printf("%s, %s\n", cli_member(version, "version"), process);
        size_t exports =
            json_array_size(subsystems) > 0 ? json_array_size(subsystems) - 1 : 0; /* the first is the discovery one */
        size_t device_count = json_array_size(devices);
        printf("%zu disk%s, %zu device%s, %zu export%s\n", store_count, cli_plural(store_count), device_count,
               cli_plural(device_count), exports, cli_plural(exports));
        if (well)
            printf("all is well\n");
        else
            cli->exit_status = 1;
    }
    json_decref(version);
    json_decref(devices);
    json_decref(subsystems);
    return ok;
}

/* Nodes are asked, which know more, unless it is a plane that was named. */
bool cli_status(struct cli *cli) {
    if (cli->extension != NULL && (cli->nodes_given || !cli->socket_given))
        return cli->extension->status(cli);
    if (cli_option(cli, "--watch") != NULL)
        return error_set(&cli->error, ERROR_INVALID, "--watch is for nodes (--node ADDRESS)");
    return plane_status(cli);
}
