/* `penstock packet top`: what the packet plane does, live: rates of ports, drops by reason, how busy workers are. Of the plane's
 * own counters, twice; where it is several processes, of all of them. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "cli/packet/packet.h"

/* "process" of each item is the vf whose process has it, 0 = the plane itself. */
struct look {
    json_t *ports, *components, *workers;
    json_t *status; /* of the plane itself */
    bool several;   /* processes */
    uint64_t at_ns;
};

static void forget(struct look *look) {
    json_decref(look->ports);
    json_decref(look->components);
    json_decref(look->workers);
    json_decref(look->status);
    *look = (struct look){0};
}

static void add(json_t *to, json_t *items, json_int_t process) {
    size_t i;
    json_t *item;
    json_array_foreach(items, i, item) {
        json_object_set_new(item, "process", json_integer(process));
        json_array_append(to, item);
    }
}

/* The process that the command line speaks to. False: cli->error. */
static bool take_one(struct cli *cli, struct look *to, json_int_t process) {
    json_t *ports = NULL, *components = NULL, *status = NULL;
    bool ok = cli_call(cli, "packet_get_ports", NULL, &ports) && cli_call(cli, "packet_get_components", NULL, &components) &&
              cli_call(cli, "packet_get_status", NULL, &status);
    if (ok) {
        add(to->ports, ports, process);
        add(to->components, components, process);
        add(to->workers, json_object_get(status, "workers"), process);
        if (process == 0)
            to->status = json_incref(status);
    }
    json_decref(ports);
    json_decref(components);
    json_decref(status);
    return ok;
}

/* One that has just gone is left out. */
static void take_vf(struct cli *cli, struct look *to, json_int_t vf) {
    struct plane_client *own = cli->client;
    const char *socket = cli->socket;
    char path[160];
    snprintf(path, sizeof(path), "%s.vf-%" JSON_INTEGER_FORMAT, socket, vf);
    cli->client = NULL;
    cli->socket = path;
    if (!take_one(cli, to, vf))
        error_clear(&cli->error);
    if (cli->client != NULL) {
        reactor_enter(cli->reactor);
        plane_client_destroy(cli->client);
        reactor_enter(NULL);
    }
    cli->client = own;
    cli->socket = socket;
}

static bool take(struct cli *cli, struct look *ret) {
    size_t i;
    json_t *process;
    *ret = (struct look){.ports = json_array(), .components = json_array(), .workers = json_array()};
    if (!take_one(cli, ret, 0)) {
        forget(ret);
        return false;
    }
    json_array_foreach(json_object_get(ret->status, "processes"), i, process) {
        ret->several = true;
        take_vf(cli, ret, json_integer_value(json_object_get(process, "vf")));
    }
    ret->at_ns = host_now_ns(cli->reactor->host);
    return true;
}

static bool same(const json_t *one, const json_t *other, const char *key) {
    return json_equal(json_object_get(one, key), json_object_get(other, key));
}

/* What that was in an earlier look; NULL: it was not there. */
static const json_t *earlier(const json_t *list, const json_t *item, const char *key) {
    size_t i;
    json_t *old;
    json_array_foreach((json_t *)list, i, old) if (same(old, item, key) && same(old, item, "process")) return old;
    return NULL;
}

static const char *process_of(const json_t *item, char to[24]) {
    json_int_t vf = json_integer_value(json_object_get(item, "process"));
    snprintf(to, 24, vf == 0 ? "primary" : "vf/%" JSON_INTEGER_FORMAT, vf);
    return to;
}

/* How much a counter grew, a second; one that is new began with 0, one that is smaller began anew. */
static double rate(const json_t *now, const json_t *before, const char *key, double seconds) {
    json_int_t new = json_integer_value(json_object_get(now, key)), old = json_integer_value(json_object_get(before, key));
    return (double)(new < old ? new : new - old) / seconds;
}

static const char *shown(double value, char to[16]) {
    static const char units[] = " KMG";
    unsigned unit = 0;
    for (; value >= 9999.5 && unit < 3; unit++)
        value /= 1000;
    snprintf(to, 16, unit == 0 ? "%.0f" : "%.1f%c", value, units[unit]);
    return to;
}

static void print_ports(const struct look *before, const struct look *now, double seconds) {
    static const char *const titles[] = {"PORT", "KIND", "UP", "RX/s", "RX bit/s", "TX/s", "TX bit/s", "FULL/s", "PROCESS"};
    struct cli_table table;
    size_t i;
    json_t *port;
    cli_table_init(&table, titles, now->several ? 9 : 8, 0xf8);
    json_array_foreach(now->ports, i, port) {
        const json_t *old = earlier(before->ports, port, "name");
        const json_t *rx = json_object_get(port, "rx"), *tx = json_object_get(port, "tx");
        const json_t *old_rx = json_object_get(old, "rx"), *old_tx = json_object_get(old, "tx");
        char text[5][16], process[24];
        cli_table_row(
            &table, cli_member(port, "name"), cli_member(port, "kind"), json_is_true(json_object_get(port, "up")) ? "yes" : "no",
            shown(rate(rx, old_rx, "packets", seconds), text[0]), shown(8 * rate(rx, old_rx, "bytes", seconds), text[1]),
            shown(rate(tx, old_tx, "packets", seconds), text[2]), shown(8 * rate(tx, old_tx, "bytes", seconds), text[3]),
            shown(rate(tx, old_tx, "full", seconds), text[4]), process_of(port, process));
    }
    cli_table_print(&table, stdout);
}

/* "no_entry 12 short 3" */
static void put_drops(const json_t *now, const json_t *before, double seconds, char *to, size_t size) {
    const char *reason;
    json_t *count;
    size_t length = 0;
    to[0] = '\0';
    json_object_foreach((json_t *)now, reason, count) {
        char text[16];
        double value = rate(now, before, reason, seconds);
        if (value > 0 && length < size)
            length += (size_t)snprintf(to + length, size - length, "%s%s %s", length > 0 ? ", " : "", reason, shown(value, text));
    }
}

static void print_components(const struct look *before, const struct look *now, double seconds) {
    static const char *const titles[] = {"COMPONENT", "TYPE", "WORKER", "FRAMES/s", "DROPS/s", "PROCESS"};
    struct cli_table table;
    size_t i;
    json_t *component;
    cli_table_init(&table, titles, now->several ? 6 : 5, 0xc);
    json_array_foreach(now->components, i, component) {
        const json_t *old = earlier(before->components, component, "name");
        char worker[16], frames[16], drops[128], process[24];
        snprintf(worker, sizeof(worker), "%" JSON_INTEGER_FORMAT, json_integer_value(json_object_get(component, "worker")));
        put_drops(json_object_get(component, "drops"), json_object_get(old, "drops"), seconds, drops, sizeof(drops));
        cli_table_row(&table, cli_member(component, "name"), cli_member(component, "type"),
                      json_is_true(json_object_get(component, "runs")) ? worker : "-",
                      shown(rate(component, old, "packets", seconds), frames), drops, process_of(component, process));
    }
    cli_table_print(&table, stdout);
}

static void print_workers(const struct look *before, const struct look *now, double seconds) {
    size_t i;
    json_t *worker, *buffers = json_object_get(now->status, "buffers");
    json_array_foreach(now->workers, i, worker) {
        const json_t *old = earlier(before->workers, worker, "worker"), *vf = json_object_get(worker, "vf");
        printf("worker %" JSON_INTEGER_FORMAT, json_integer_value(json_object_get(worker, "worker")));
        if (vf != NULL)
            printf(" (vf/%" JSON_INTEGER_FORMAT ", core %" JSON_INTEGER_FORMAT ")", json_integer_value(vf),
                   json_integer_value(json_object_get(worker, "core")));
        printf(": %.1f %% of a core\n", rate(worker, old, "cpu_ns", seconds) / 1e7);
    }
    printf("buffers: %" JSON_INTEGER_FORMAT " of %" JSON_INTEGER_FORMAT " free\n",
           json_integer_value(json_object_get(buffers, "free")), json_integer_value(json_object_get(buffers, "count")));
}

bool cli_packet_top(struct cli *cli) {
    struct look before, now;
    uint64_t ms = 1000, rounds = 0;
    const char *interval = cli_option(cli, "--interval-ms"), *count = cli_option(cli, "--count");
    if (interval != NULL && (!text_parse_u64(interval, 3600000, &ms) || ms < 10))
        return error_invalid(&cli->error, "--interval-ms", interval, "10 to 3600000");
    if (count != NULL && (!text_parse_u64(count, UINT32_MAX, &rounds) || rounds == 0))
        return error_invalid(&cli->error, "--count", count, "1 and up");
    if (!take(cli, &before))
        return false;
    for (uint64_t round = 1; rounds == 0 || round <= rounds; round++) {
        cli_sleep(cli, ms);
        if (!take(cli, &now)) {
            forget(&before);
            return false;
        }
        double seconds = (double)(now.at_ns - before.at_ns) / 1e9;
        if (rounds == 0)
            printf("\033[H\033[2J");
        print_ports(&before, &now, seconds);
        printf("\n");
        print_components(&before, &now, seconds);
        printf("\n");
        print_workers(&before, &now, seconds);
        fflush(stdout);
        forget(&before);
        before = now;
    }
    forget(&before);
    return true;
}
