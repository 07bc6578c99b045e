/* The whole plane under host/sim, spoken to over its socket: transcripts that read like a story.
 *
 *   # a comment
 *   @disk PATH BYTES            a disk, all zeros
 *   @file PATH TEXT             a file with that content
 *   @option wait-for-rpc        before the plane starts; also: config PATH
 *   @start                      the plane starts (without it, before the first call)
 *   @fails TEXT                 it starts, fails with that text, and has ended
 *   @sleep MS                   virtual time passes
 *   > METHOD [PARAMS]           a call
 *                               several may be made before their answers are expected, in order of completion
 *   < RESULT                    its result; … stands for anything
 *   ! CODE MESSAGE [| DATA]     or its error
 *
 * Each transcript runs under several seeds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/text.h"
#include "host/sim/sim.h"
#include "host/sim/sim_disk.h"
#include "plane_rpc/plane.h"
#include "plane_rpc/rpc_methods.h"

#define SOCKET_PATH "/run/plane.sock"
#define SEEDS 3

static const char *transcript_path;

struct world {
    struct sim *sim;
    struct sim_node *node;
    struct host *server_host, *client_host;
    struct plane *plane;
    struct plane_options options;
    char config_path[108];
    int cpus[2];
    char failure[256];

    struct reactor *client;
    struct host_socket *socket;
    struct reactor_message send_message;
    bool sending; /* the message is on its way */
    struct text to_send, received;
    size_t sent, read; /* read: bytes of received that were looked at */
    unsigned next_id;
    unsigned line;
};

/* ---- the client ---- */

static void client_receive(struct world *world) {
    char buffer[4096];
    struct slice slice = {.base = buffer, .length = sizeof(buffer)};
    int64_t n;
    while ((n = host_socket_read(world->socket, &slice, 1)) > 0)
        text_append(&world->received, buffer, (size_t)n);
}

static void client_send(struct world *world) {
    while (world->sent < world->to_send.length) {
        struct slice slice = {.base = world->to_send.bytes + world->sent, .length = world->to_send.length - world->sent};
        int64_t n = host_socket_write(world->socket, &slice, 1);
        if (n <= 0)
            return;
        world->sent += (size_t)n;
    }
}

static void client_event(void *arg, unsigned events) {
    (void)events;
    client_send(arg);
    client_receive(arg);
}

static void client_wake(struct reactor_message *message) {
    struct world *world = container_of(message, struct world, send_message);
    world->sending = false;
    client_send(world);
}

static void client_close(struct reactor_message *message) {
    host_socket_close(container_of(message, struct world, send_message)->socket);
}

static bool has_line(void *arg) {
    struct world *world = arg;
    return world->received.length > world->read &&
           memchr(world->received.bytes + world->read, '\n', world->received.length - world->read) != NULL;
}

/* ---- the plane ---- */

static void started(void *arg, const struct error *error) {
    struct world *world = arg;
    if (error != NULL)
        snprintf(world->failure, sizeof(world->failure), "%s", error->text);
}

static void killed(void *arg, enum plane_signal signal) {
    struct world *world = arg;
    if (signal != PLANE_SIGNAL_USR1)
        plane_stop(world->plane);
}

static void log_print(void *arg, const struct log_record *record) {
    (void)arg;
    if (getenv("PLANE_LOG") != NULL)
        printf("%s %s: %s\n", log_level_name(record->level), log_area_name(record->area), record->text);
}

static void client_connect(struct world *world) {
    struct host_address address = {.family = HOST_UNIX, .text = SOCKET_PATH};
    struct error error;
    assert_int_equal(reactor_create(world->client_host, &(struct reactor_options){.name = "client", .cpu = -1}, &world->client),
                     0);
    reactor_enter(world->client);
    world->socket = host_connect(world->client->loop, &address, NULL, client_event, world, &error);
    reactor_enter(NULL);
    if (world->socket == NULL)
        fail_msg("%s", error.text);
    world->send_message.run = client_wake;
    assert_int_equal(reactor_start(world->client), 0);
}

static void plane_begin(struct world *world) {
    struct error error;
    world->cpus[0] = world->cpus[1] = -1;
    world->options.host = world->server_host;
    world->options.socket_path = SOCKET_PATH;
    world->options.cpus = world->cpus;
    world->options.cpu_count = 2;
    world->options.version = "1.2.3";
    world->options.pid = 77;
    world->options.table = &rpc_table_plane;
    world->options.log_write = log_print;
    world->options.started = started;
    world->options.kill = killed;
    world->options.arg = world;
    if (!plane_create(&world->options, &world->plane, &error))
        fail_msg("%s", error.text);
    client_connect(world);
}

static bool plane_is_empty(void *arg) { return ((struct world *)arg)->plane->stopped_empty; }

static void world_init(struct world *world, uint64_t seed) {
    struct sim_options options;
    *world = (struct world){.next_id = 1};
    sim_options_init(&options, seed);
    world->sim = sim_create(&options);
    world->node = sim_node_create(world->sim, "n", "10.0.0.1");
    world->server_host = sim_process_start(world->node);
    world->client_host = sim_process_start(world->node);
    text_init(&world->to_send, MIB(16));
    text_init(&world->received, MIB(16));
}

static void world_fini(struct world *world) {
    if (world->plane != NULL) {
        plane_stop(world->plane);
        enum sim_end end = sim_run_until(world->sim, plane_is_empty, world, 20 * NS_PER_S, 0);
        if (end != SIM_MET)
            fail_msg("the plane does not end: %s", sim_end_name(end));
        sim_run_for(world->sim, NS_PER_MS);
        plane_destroy(world->plane);
        world->send_message.run = client_close;
        reactor_post(world->client, &world->send_message);
        sim_run_for(world->sim, NS_PER_MS);
        reactor_destroy(world->client);
        sim_process_exit(world->client_host);
        sim_process_exit(world->server_host);
    }
    sim_destroy(world->sim);
    text_fini(&world->to_send);
    text_fini(&world->received);
}

/* ---- the transcript ---- */

/* "…" in the pattern stands for any bytes. */
static bool matches(const char *pattern, const char *text) {
    static const char any[] = "…";
    for (; *pattern != '\0'; pattern++, text++) {
        if (strncmp(pattern, any, sizeof(any) - 1) == 0) {
            pattern += sizeof(any) - 1;
            for (;; text++) {
                if (matches(pattern, text))
                    return true;
                if (*text == '\0')
                    return false;
            }
        }
        if (*pattern != *text)
            return false;
    }
    return *text == '\0';
}

static void say(struct world *world, const char *call) {
    const char *blank = strchr(call, ' ');
    size_t name = blank != NULL ? (size_t)(blank - call) : strlen(call);
    text_appendf(&world->to_send, "{\"jsonrpc\":\"2.0\",\"id\":%u,\"method\":\"%.*s\"%s%s}\n", world->next_id++, (int)name, call,
                 blank != NULL ? ",\"params\":" : "", blank != NULL ? blank + 1 : "");
    if (!world->sending)
        reactor_post(world->client, &world->send_message);
    world->sending = true;
}

static void expect(struct world *world, const char *key, const char *pattern) {
    struct text wanted;
    enum sim_end end = sim_run_until(world->sim, has_line, world, 100 * NS_PER_S, 0);
    if (end != SIM_MET)
        fail_msg("%s:%u: no answer: %s", transcript_path, world->line, sim_end_name(end));
    char *line = world->received.bytes + world->read;
    size_t length = strcspn(line, "\n");
    line[length] = '\0';
    world->read += length + 1;
    text_init(&wanted, MIB(1));
    text_appendf(&wanted, "{\"jsonrpc\":\"2.0\",\"id\":…,\"%s\":%s}", key, pattern);
    if (!matches(wanted.bytes, line))
        fail_msg("%s:%u:\n  expected %s\n  but got  %s", transcript_path, world->line, wanted.bytes, line);
    text_fini(&wanted);
}

/* "CODE MESSAGE [| DATA]" */
static void expect_error(struct world *world, char *text) {
    char pattern[2048], *blank = strchr(text, ' '), *data = strstr(text, " | ");
    if (blank == NULL) { /* whatever the failure */
        expect(world, "error", text);
        return;
    }
    *blank = '\0';
    if (data != NULL)
        *data = '\0';
    snprintf(pattern, sizeof(pattern), "{\"code\":%s,\"message\":\"%s\"%s%s%s", text, blank + 1, data != NULL ? ",\"data\":" : "",
             data != NULL ? data + 3 : "…", data != NULL ? "}" : "");
    expect(world, "error", pattern);
}

/* Cuts the first word off. */
static char *cut_word(char *text, char **ret_rest) {
    size_t length = strcspn(text, " ");
    *ret_rest = text[length] == '\0' ? text + length : text + length + 1;
    text[length] = '\0';
    return text;
}

static void make_disk(struct world *world, const char *path, uint64_t size, const char *content) {
    struct sim_disk_options options;
    sim_disk_options_init(&options, size);
    struct sim_disk *disk = sim_disk_create(world->sim, &options);
    if (content != NULL)
        sim_disk_poke(disk, 0, content, size);
    sim_node_attach(world->node, path, disk);
}

static void run_directive(struct world *world, char *text) {
    char *word = cut_word(text, &text), *path, *rest;
    if (strcmp(word, "disk") == 0) {
        path = cut_word(text, &rest);
        make_disk(world, path, strtoull(rest, NULL, 10), NULL);
    } else if (strcmp(word, "file") == 0) {
        path = cut_word(text, &rest);
        make_disk(world, path, strlen(rest), rest);
    } else if (strcmp(word, "option") == 0) {
        word = cut_word(text, &rest);
        if (strcmp(word, "wait-for-rpc") == 0) {
            world->options.wait_for_rpc = true;
        } else {
            assert_string_equal(word, "config");
            snprintf(world->config_path, sizeof(world->config_path), "%s", rest);
            world->options.config_path = world->config_path;
        }
    } else if (strcmp(word, "start") == 0) {
        plane_begin(world);
    } else if (strcmp(word, "fails") == 0) {
        plane_begin(world);
        assert_int_equal(sim_run_until(world->sim, plane_is_empty, world, 20 * NS_PER_S, 0), SIM_MET);
        if (!matches(text, world->failure))
            fail_msg("%s:%u:\n  expected failure %s\n  but got %s", transcript_path, world->line, text, world->failure);
    } else if (strcmp(word, "sleep") == 0) {
        sim_run_for(world->sim, strtoull(text, NULL, 10) * NS_PER_MS);
    } else {
        fail_msg("%s:%u: what is @%s?", transcript_path, world->line, word);
    }
}

static void run_line(struct world *world, char *line) {
    if (line[0] == '\0' || line[0] == '#')
        return;
    if (line[0] == '@') {
        run_directive(world, line + 1);
        return;
    }
    if (world->plane == NULL)
        plane_begin(world);
    if (strncmp(line, "> ", 2) == 0)
        say(world, line + 2);
    else if (strncmp(line, "< ", 2) == 0)
        expect(world, "result", line + 2);
    else if (strncmp(line, "! ", 2) == 0)
        expect_error(world, line + 2);
    else
        fail_msg("%s:%u: what is %s?", transcript_path, world->line, line);
}

static void run_transcript(uint64_t seed) {
    struct world world;
    char *line = NULL;
    size_t capacity = 0;
    ssize_t length;
    FILE *file = fopen(transcript_path, "r");
    assert_non_null(file);
    world_init(&world, seed);
    while ((length = getline(&line, &capacity, file)) > 0) {
        world.line++;
        if (line[length - 1] == '\n')
            line[length - 1] = '\0';
        run_line(&world, line);
    }
    free(line);
    fclose(file);
    assert_int_equal(world.read, world.received.length); /* nothing was answered that nobody asked */
    world_fini(&world);
}

static void test_transcript(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++)
        run_transcript(seed);
}

int main(int argc, char **argv) {
    if (argc != 2)
        return 64;
    transcript_path = argv[1];
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_transcript)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
