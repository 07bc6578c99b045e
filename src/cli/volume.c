/* `penstock block volume …` and `penstock block snapshot …`. */
#include <inttypes.h>
#include <string.h>

#include "base/text.h"
#include "cli/cli.h"

/* Splits "DISK/NAME"; *ret_name points into the argument. `disk` holds 64. */
static bool split(struct cli *cli, const char *argument, char disk[64], const char **ret_name) {
    const char *slash = strchr(argument, '/');
    if (slash == NULL || slash == argument || slash[1] == '\0' || slash - argument >= 64)
        return error_invalid(&cli->error, "name", argument, "DISK/NAME");
    memcpy(disk, argument, (size_t)(slash - argument));
    disk[slash - argument] = '\0';
    *ret_name = slash + 1;
    return true;
}

static void row(struct cli_table *table, const json_t *device, bool snapshot) {
    const json_t *lvol = json_object_get(json_object_get(device, "driver_specific"), "lvol");
    uint64_t size = (uint64_t)json_integer_value(json_object_get(device, "block_size")) *
                    (uint64_t)json_integer_value(json_object_get(device, "num_blocks"));
    uint64_t used = (uint64_t)json_integer_value(json_object_get(lvol, "used_bytes"));
    char size_text[24], used_text[24], last[CLI_CELL_MAX] = "-";
    if (snapshot) {
        const json_t *clones = json_object_get(lvol, "clones");
        size_t at = 0;
        for (size_t i = 0; i < json_array_size(clones) && at < sizeof(last); i++)
            at += (size_t)snprintf(last + at, sizeof(last) - at, "%s%s", i > 0 ? ", " : "",
                                   json_string_value(json_array_get(clones, i)));
    } else if (json_string_value(json_object_get(lvol, "base_snapshot")) != NULL) {
        snprintf(last, sizeof(last), "%s", cli_member(lvol, "base_snapshot"));
    }
    const char *alias = json_string_value(json_array_get(json_object_get(device, "aliases"), 0));
    cli_table_row(table, alias != NULL ? alias : "-", text_format_size(size, size_text, sizeof(size_text)),
                  text_format_size(used, used_text, sizeof(used_text)),
                  json_is_true(json_object_get(lvol, "thin_provision")) ? "thin" : "thick", last, cli_member(device, "uuid"));
}

static bool list(struct cli *cli, bool snapshots) {
    json_t *devices, *device, *kept = json_array();
    size_t i;
    if (!cli_call(cli, "bdev_get_bdevs", NULL, &devices))
        return false;
    json_array_foreach(devices, i, device) {
        const json_t *lvol = json_object_get(json_object_get(device, "driver_specific"), "lvol");
        const char *alias = json_string_value(json_array_get(json_object_get(device, "aliases"), 0));
        size_t disk = cli->argument_count > 0 ? strlen(cli->arguments[0]) : 0;
        bool here = disk == 0 || (alias != NULL && strncmp(alias, cli->arguments[0], disk) == 0 && alias[disk] == '/');
        if (lvol != NULL && here && json_is_true(json_object_get(lvol, "snapshot")) == snapshots)
            json_array_append(kept, device);
    }
    if (cli_wants_data(cli)) {
        cli_print(cli, kept);
    } else {
        static const char *const volume_titles[] = {"VOLUME", "SIZE", "USED", "KIND", "PARENT", "UUID"};
        static const char *const snapshot_titles[] = {"SNAPSHOT", "SIZE", "USED", "KIND", "CHILDREN", "UUID"};
        struct cli_table table;
        cli_table_init(&table, snapshots ? snapshot_titles : volume_titles, 6, 0x6);
        json_array_foreach(kept, i, device) row(&table, device, snapshots);
        cli_table_print(&table, stdout);
    }
    json_decref(kept);
    json_decref(devices);
    return true;
}

bool cli_volume_list(struct cli *cli) { return list(cli, false); }
bool cli_snapshot_list(struct cli *cli) { return list(cli, true); }

/* Sizes on the wire are whole MiB. */
static bool size_mib(struct cli *cli, const char *text, json_int_t *ret_mib) {
    uint64_t bytes;
    if (!cli_size(cli, "size", text, &bytes))
        return false;
    if (bytes % MIB(1) != 0)
        return error_invalid(&cli->error, "size", text, "a multiple of 1M");
    *ret_mib = (json_int_t)(bytes / MIB(1));
    return true;
}

bool cli_volume_create(struct cli *cli) {
    char disk[64];
    const char *name;
    json_int_t mib;
    if (!split(cli, cli->arguments[0], disk, &name) || !size_mib(cli, cli->arguments[1], &mib))
        return false;
    return cli_do(cli, "bdev_lvol_create",
                  json_pack("{s:s, s:s, s:I, s:b}", "lvs_name", disk, "lvol_name", name, "size_in_mib", mib, "thin_provision",
                            cli_option(cli, "--thick") == NULL));
}

bool cli_volume_resize(struct cli *cli) {
    json_int_t mib;
    if (!size_mib(cli, cli->arguments[1], &mib))
        return false;
    return cli_do(cli, "bdev_lvol_resize", json_pack("{s:s, s:I}", "name", cli->arguments[0], "size_in_mib", mib));
}

bool cli_volume_rename(struct cli *cli) {
    return cli_do(cli, "bdev_lvol_rename", json_pack("{s:s, s:s}", "old_name", cli->arguments[0], "new_name", cli->arguments[1]));
}

bool cli_volume_delete(struct cli *cli) { return cli_do(cli, "bdev_lvol_delete", json_pack("{s:s}", "name", cli->arguments[0])); }

bool cli_snapshot_create(struct cli *cli) {
    return cli_do(cli, "bdev_lvol_snapshot",
                  json_pack("{s:s, s:s}", "lvol_name", cli->arguments[0], "snapshot_name", cli->arguments[1]));
}

bool cli_snapshot_clone(struct cli *cli) {
    return cli_do(cli, "bdev_lvol_clone",
                  json_pack("{s:s, s:s}", "snapshot_name", cli->arguments[0], "clone_name", cli->arguments[1]));
}

bool cli_snapshot_delete(struct cli *cli) { return cli_volume_delete(cli); }
