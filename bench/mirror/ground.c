/* See ground.h. */
#include "mirror/ground.h"

#include <time.h>

#include "base/text.h"
#include "blockdev/delay/delay.h"
#include "blockdev/error/error_device.h"
#include "blockdev/memory/memory.h"

_Noreturn void ground_die(const char *what) {
    fprintf(stderr, "mirror: %s\n", what);
    exit(EXIT_FAILURE);
}

void ground_wait(struct ground *ground) {
    reactor_enter(NULL);
    host_linux_loop_run(ground->reactor->loop);
    reactor_enter(ground->reactor);
}

static void look(struct reactor_timer *timer) {
    struct ground *ground = container_of(timer, struct ground, timer);
    if (ground->mirror != NULL) {
        struct mirror_status status;
        ground_status(ground, &status);
        ground->marked_most = max_u64(ground->marked_most, status.marked_regions);
        if (status.state == MIRROR_ENDED || status.state == MIRROR_REFUSED)
            ground_die(status.error.text);
    }
    if (ground->reached != NULL && ground->reached(ground))
        ground_go_on(ground);
    else
        reactor_timer_start(ground->reactor, timer, host_now_ns(ground->host) + 100 * NS_PER_US);
}

void ground_until(struct ground *ground, bool (*reached)(struct ground *ground)) {
    ground->timer.run = look;
    ground->reached = reached;
    reactor_timer_start(ground->reactor, &ground->timer, 0);
    ground_wait(ground);
    reactor_timer_stop(ground->reactor, &ground->timer);
    ground->reached = NULL;
}

const char *ground_word(struct ground *ground, const char *what) {
    if (*ground->words == NULL)
        ground_die(what);
    return *ground->words++;
}

static uint64_t number(const char *text, const char *what) {
    uint64_t value;
    if (!text_parse_size(text, &value))
        ground_die(what);
    return value;
}

uint64_t ground_number(struct ground *ground, const char *what) { return number(ground_word(ground, what), what); }

uint64_t ground_cpu_ns(void) {
    struct timespec used;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (uint64_t)used.tv_sec * NS_PER_S + (uint64_t)used.tv_nsec;
}

/* ---- legs ---- */

struct making {
    struct ground *ground;
    struct file_device_create file;
    struct volume_store_format format;
    struct volume_store_open open;
    struct volume_command command;
    struct nvme_initiator_attach attach;
};

static void file_made(struct file_device_create *create) { ground_go_on(container_of(create, struct making, file)->ground); }
static void formatted(struct volume_store_format *format) { ground_go_on(container_of(format, struct making, format)->ground); }
static void opened(struct volume_store_open *open) { ground_go_on(container_of(open, struct making, open)->ground); }
static void commanded(struct volume_command *command) { ground_go_on(container_of(command, struct making, command)->ground); }
static void attached(struct nvme_initiator_attach *attach) { ground_go_on(container_of(attach, struct making, attach)->ground); }

static void must(struct ground *ground, bool ok, const struct error *error) {
    (void)ground;
    if (!ok)
        ground_die(error->text);
}

static const char *after(const char *spec, const char *prefix) {
    size_t length = strlen(prefix);
    return strncmp(spec, prefix, length) == 0 ? spec + length : NULL;
}

/* "NUMBER?rest": the number, and the rest. */
static uint64_t leading(const char *text, char end, const char **ret_rest) {
    char part[32];
    const char *at = strchr(text, end);
    if (at == NULL || (size_t)(at - text) >= sizeof(part))
        ground_die("a leg that cannot be read");
    memcpy(part, text, (size_t)(at - text));
    part[at - text] = '\0';
    *ret_rest = at + 1;
    return number(part, "a leg with no number");
}

static struct block_device *make_volume(struct making *making, struct block_device *base, uint64_t size, const char *name) {
    struct ground *ground = making->ground;
    char alias[BLOCK_NAME_SIZE + 8];
    making->format =
        (struct volume_store_format){.base = base, .home = ground->reactor, .name = name, .force = true, .done = formatted};
    volume_store_format(&making->format);
    ground_wait(ground);
    must(ground, making->format.ok, &making->format.error);
    making->open = (struct volume_store_open){.base = base, .home = ground->reactor, .done = opened};
    volume_store_open(&making->open);
    ground_wait(ground);
    must(ground, making->open.ok, &making->open.error);
    making->command = (struct volume_command){.store = making->open.store, .name = "leg", .size_bytes = size, .done = commanded};
    volume_create(&making->command);
    ground_wait(ground);
    must(ground, making->command.ok, &making->command.error);
    snprintf(alias, sizeof(alias), "%s/leg", name);
    return block_graph_find(&ground->graph, alias);
}

static struct block_device *make_nvme(struct making *making, const char *spec, unsigned index, const char *name) {
    struct ground *ground = making->ground;
    struct error error;
    const char *rest;
    char nqn[128];
    making->attach = (struct nvme_initiator_attach){
        .name = name, .address = {.family = HOST_IPV4, .text = "127.0.0.1"}, .subnqn = nqn, .done = attached};
    making->attach.address.port = (uint16_t)leading(spec, ':', &rest);
    snprintf(nqn, sizeof(nqn), "%s", rest);
    if (strchr(nqn, '#') != NULL)
        *strchr(nqn, '#') = (char)('0' + index);
    if (ground->initiator == NULL)
        must(ground, nvme_initiator_create(&ground->graph, ground->reactor, &ground->initiator, &error), &error);
    nvme_initiator_attach(ground->initiator, &making->attach);
    ground_wait(ground);
    must(ground, making->attach.ok, &making->attach.error);
    return nvme_initiator_device_next(making->attach.controller, NULL);
}

/* The index-th of "A|B", or all of it; to be freed. */
static char *alternative(const char *spec, unsigned index) {
    const char *end;
    while ((end = strchr(spec, '|')) != NULL && index-- > 0)
        spec = end + 1;
    char *own = end != NULL ? strndup(spec, (size_t)(end - spec)) : strdup(spec);
    if (own == NULL)
        ground_die("no memory");
    return own;
}

struct block_device *ground_leg(struct ground *ground, const char *all, unsigned index) {
    char *spec = alternative(all, index);
    struct making *making = calloc(1, sizeof(*making));
    struct block_device *device = NULL;
    struct uuid nil = {0};
    struct error error = {0};
    const char *rest;
    char name[BLOCK_NAME_SIZE];
    if (making == NULL)
        ground_die("no memory");
    making->ground = ground;
    snprintf(name, sizeof(name), "%.3s%u", spec, index);
    if ((rest = after(spec, "memory:")) != NULL) {
        struct memory_device_options options = {.name = name, .block_size = 4096, .block_count = number(rest, "size?") / 4096};
        must(ground, memory_device_create(&ground->graph, &options, &device, &error), &error);
        struct load_options touch = {
            .request_bytes = (uint32_t)MIB(1), .depth = 1, .request_limit = block_device_size(device) / MIB(1)};
        ground_use(ground, device); /* the pages are there from now on */
        ground_load(ground, &touch);
        ground_leave(ground);
    } else if ((rest = after(spec, "file:")) != NULL) {
        making->file = (struct file_device_create){.options = {.name = name, .path = rest}, .done = file_made};
        file_device_create_submit(&ground->graph, ground->reactor, &making->file);
        ground_wait(ground);
        must(ground, making->file.ok, &making->file.error);
        device = making->file.device;
    } else if ((rest = after(spec, "volume:")) != NULL) {
        uint64_t size = leading(rest, '@', &rest);
        device = make_volume(making, ground_leg(ground, rest, index), size, name);
    } else if ((rest = after(spec, "delay:")) != NULL) {
        uint64_t us = leading(rest, ':', &rest);
        struct delay_device_options options = {
            .name = name, .base_name = ground_leg(ground, rest, index)->name, .latency_us = {us, us, us, us}};
        must(ground, delay_device_create(&ground->graph, &options, &device, &error), &error);
    } else if ((rest = after(spec, "error:")) != NULL) {
        must(ground, error_device_create(&ground->graph, ground_leg(ground, rest, index)->name, &nil, &device, &error), &error);
    } else if ((rest = after(spec, "nvme:")) != NULL) {
        device = make_nvme(making, rest, index, name);
    } else {
        ground_die("a leg of no known kind");
    }
    free(making);
    free(spec);
    return device;
}

/* ---- the engine ---- */

void ground_status(const struct ground *ground, struct mirror_status *ret_status) {
    mirror_status_get(ground->mirror, ret_status);
}

static bool serves(struct ground *ground) {
    struct mirror_status status;
    ground_status(ground, &status);
    return status.state == MIRROR_SERVING;
}

bool ground_all_whole(struct ground *ground) {
    struct mirror_status status;
    ground_status(ground, &status);
    bool whole = status.state == MIRROR_SERVING && (status.settled || !block_device_is_replica(ground->legs[0]));
    for (unsigned i = 0; i < status.leg_count; i++)
        whole = whole && status.legs[i].state == MIRROR_LEG_WHOLE;
    return whole;
}

void ground_mirror(struct ground *ground, struct block_device *const *legs, unsigned count,
                   const struct mirror_options *options) {
    struct mirror_options own = *options;
    struct error error = {0};
    memcpy(ground->legs, legs, count * sizeof(legs[0]));
    own.name = own.name == NULL ? "mirror" : own.name;
    own.leg_count = count;
    own.policy = REPLICA_ANY;
    own.home = ground->reactor;
    own.assume_equal = !block_device_is_replica(legs[0]);
    for (unsigned i = 0; i < count; i++)
        own.legs[i].device = legs[i]->name;
    must(ground, mirror_create(&ground->graph, ground->reactor, &own, &ground->mirror, &error), &error);
    ground_until(ground, serves);
}

void ground_use(struct ground *ground, struct block_device *device) {
    struct error error;
    ground->handle = (struct block_handle){.owner = "bench"};
    if (!block_handle_open(&ground->handle, device, BLOCK_MODE_WRITE, &error))
        ground_die(error.text);
    ground->channel = block_channel_open(&ground->handle);
}

void ground_leave(struct ground *ground) {
    block_channel_close(ground->channel);
    block_handle_close(&ground->handle);
}

/* ---- loads ---- */

static void load_ended(struct load *load, void *arg) {
    (void)load;
    ground_go_on(arg);
}

struct measured ground_load(struct ground *ground, const struct load_options *options) {
    struct load *load;
    struct error error;
    if (!load_create(ground->channel, options, load_ended, ground, &load, &error))
        ground_die(error.text);
    uint64_t before = ground_cpu_ns();
    load_start(load, options);
    ground->timer.run = look;
    reactor_timer_start(ground->reactor, &ground->timer, 0);
    ground_wait(ground);
    reactor_timer_stop(ground->reactor, &ground->timer);
    const struct load_result *result = load_result(load);
    double us_per_tick = 1e6 / (double)ground->host->ticks_per_second, requests = (double)result->requests;
    if (result->errors > 0)
        ground_die(io_status_name(result->first_error));
    struct measured measured = {
        .iops = requests * 1e9 / (double)result->elapsed_ns,
        .avg_us = (double)result->elapsed_ns / 1e3 * options->depth / requests,
        .p50_us = (double)histogram_percentile(&result->latency_ticks, 5000) * us_per_tick,
        .p99_us = (double)histogram_percentile(&result->latency_ticks, 9900) * us_per_tick,
        .p99_9_us = (double)histogram_percentile(&result->latency_ticks, 9990) * us_per_tick,
        .cpu_us = (double)(ground_cpu_ns() - before) / 1e3 / requests,
        .seconds = (double)result->elapsed_ns / 1e9,
    };
    load_destroy(load);
    return measured;
}

void ground_print(const char *name, const struct measured *m) {
    printf("\"%s\": {\"iops\": %.0f, \"avg_us\": %.3f, \"p50_us\": %.2f, \"p99_us\": %.2f, \"p99_9_us\": %.2f, \"cpu_us\": %.3f}",
           name, m->iops, m->avg_us, m->p50_us, m->p99_us, m->p99_9_us, m->cpu_us);
}
