/* Fuzzes what networking-spp's agent reads from etcd. A line is "KEY VALUE", put below /spp/openstack/ of host h
 * ("configuration", "action/PORT", "bind_port/PORT", "vhost/NETWORK/NUMBER", "tap_action/FLOW", "tap_info/FLOW",
 * "mirror/NUMBER"), "-KEY" deletes, an empty line is 20 s. Whatever it reads, what it wires is what a daemon would take up again
 * (packet_keeper.h), it calls a port up only where NICs are wired, and it goes on. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/agent.h"
#include "control/store/memory/memory.h"
#include "support/packet_keeper.h"
#include "support/step_host.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LINES_MAX = 48, TEXT_MAX = 8192, STEP_S = 20 };
#define ROOT "/spp/openstack/"

struct world {
    struct host *host;
    struct reactor *reactor;
    struct store_memory_data *data;
    struct store *store;
    struct packet_control *control;
    struct agent *agent;
    struct store_request request;
    bool answered, closed;
    uint32_t count; /* of entries */
};

/* Nobody but the agent says of ports that they are up. */
static void on_answer(struct store_request *request) {
    struct world *world = container_of(request, struct world, request);
    world->answered = true;
    assert(request->outcome == STORE_DONE);
    if (request->verb != STORE_RANGE)
        return;
    world->count = request->results[0].count;
    for (uint32_t i = 0; i < world->count; i++) {
        const struct store_entry *status = &request->results[0].entries[i];
        assert(status->value_length == 2 && memcmp(status->value, "up", 2) == 0);
    }
}

static bool is_answered(void *arg) { return ((struct world *)arg)->answered; }
static void on_closed(void *arg) { ((struct world *)arg)->closed = true; }
static bool is_closed(void *arg) { return ((struct world *)arg)->closed; }

/* Submits world->request, and waits for its answer. */
static void ask(struct world *world) {
    world->answered = false;
    world->request.done = on_answer;
    reactor_enter(world->reactor);
    store_submit(world->store, &world->request);
    reactor_enter(NULL);
    bool ok = step_host_run(world->host, is_answered, world, 30 * NS_PER_S);
    assert(ok);
}

static void begin(struct world *world, bool hairpin) {
    struct reactor_options options = {.name = "control", .cpu = -1, .poll_mode = HOST_POLL_NEVER};
    struct step_host_options stepping = {.seed = 1};
    *world = (struct world){.host = step_host_create(&stepping), .data = store_memory_data_create()};
    int result = reactor_create(world->host, &options, &world->reactor);
    assert(result == 0);
    struct store_memory_options memory = {.store = {.reactor = world->reactor}, .data = world->data};
    world->store = store_memory_create(&memory);
    result = reactor_start(world->reactor);
    assert(result == 0);
    world->control = packet_keeper_create(world->reactor);
    struct agent_options agent = {.reactor = world->reactor,
                                  .store = world->store,
                                  .control = world->control,
                                  .host = "h",
                                  .reclaim_ms = 10000,
                                  .hairpin = hairpin};
    world->agent = agent_create(&agent);
    assert(world->agent != NULL);
    reactor_enter(world->reactor);
    agent_start(world->agent);
    reactor_enter(NULL);
}

static void end(struct world *world) {
    reactor_enter(world->reactor);
    agent_stop(world->agent);
    store_close(world->store, on_closed, world);
    reactor_enter(NULL);
    bool ok = step_host_run(world->host, is_closed, world, 30 * NS_PER_S);
    assert(ok);
    agent_destroy(world->agent);
    packet_keeper_destroy(world->control);
    reactor_destroy(world->reactor);
    store_memory_data_destroy(world->data);
    step_host_destroy(world->host);
}

/* "action/PORT" is action/h/PORT, and so on. False: no key that the agent reads. */
static bool make_key(const char *word, char to[STORE_KEY_MAX + 1]) {
    static const char *const folders[] = {"action/", "bind_port/", "vhost/", "tap_action/", "tap_info/", "mirror/"};
    if (strlen(word) > 200)
        return false;
    for (const char *c = word; *c != '\0'; c++)
        if (*c <= ' ' || *c > '~')
            return false;
    snprintf(to, STORE_KEY_MAX + 1, ROOT "configuration/h");
    if (strcmp(word, "configuration") == 0)
        return true;
    for (size_t i = 0; i < array_count(folders); i++)
        if (strncmp(word, folders[i], strlen(folders[i])) == 0) {
            snprintf(to, STORE_KEY_MAX + 1, ROOT "%sh/%s", folders[i], word + strlen(folders[i]));
            return true;
        }
    return false;
}

static void take_line(struct world *world, const char *line, size_t length) {
    char key[STORE_KEY_MAX + 1], word[256];
    bool deletes = length > 0 && line[0] == '-';
    const char *blank = memchr(line, ' ', length), *value = blank != NULL ? blank + 1 : line + length;
    if (length == 0) {
        step_host_run(world->host, NULL, NULL, STEP_S * NS_PER_S);
        return;
    }
    size_t word_length = (blank != NULL ? (size_t)(blank - line) : length) - deletes;
    if (word_length >= sizeof(word))
        return;
    memcpy(word, line + deletes, word_length);
    word[word_length] = '\0';
    if (strlen(word) != word_length || !make_key(word, key))
        return;
    struct store_op op = {.kind = deletes ? STORE_DELETE : STORE_PUT,
                          .key = key,
                          .value = deletes ? NULL : value,
                          .value_length = deletes ? 0 : (size_t)(line + length - value)};
    world->request = (struct store_request){.verb = STORE_TRANSACT, .then_ops = &op, .then_count = 1};
    ask(world);
}

/* No port is up where no vhost is wired. */
static void check_status(struct world *world) {
    size_t components = 0;
    const char *key;
    json_t *process;
    world->request = (struct store_request){.verb = STORE_RANGE, .key = ROOT "port_status/h/", .prefix = true};
    ask(world);
    json_object_foreach(json_object_get(packet_control_wiring(world->control), "processes"), key, process) components +=
        json_array_size(json_object_get(process, "components"));
    assert(world->count == 0 || components > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct world world;
    if (size < 1 || size > TEXT_MAX)
        return 0;
    char *text = malloc(size); /* exact */
    assert(text != NULL);
    memcpy(text, data, size);
    const char *at = text + 1, *last = text + size;
    begin(&world, text[0] == 'h');
    for (unsigned i = 0; i < LINES_MAX && at < last; i++) {
        const char *stop = memchr(at, '\n', (size_t)(last - at));
        size_t length = (size_t)((stop != NULL ? stop : last) - at);
        take_line(&world, at, length);
        at += length + 1;
    }
    step_host_run(world.host, NULL, NULL, STEP_S * NS_PER_S);
    check_status(&world);
    end(&world);
    free(text);
    return 0;
}
