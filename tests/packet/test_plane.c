/* The plane with real threads, and ports that are rings filled by the test's own threads: versions are published while frames
 * flow. Run under the thread sanitizer too. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/random.h"
#include "frames.h"
#include "host/linux/linux.h"
#include "packet/plane.h"
#include "packet/ring.h"

#define A "fa:16:3e:00:00:0a"
#define B "fa:16:3e:00:00:0b"

struct world {
    struct host *host;
    struct reactor *control;
    struct packet_plane *plane;
    struct test_memory memory;
    struct packet_backend backend;
    _Atomic int opens_left; /* before open() fails */
    _Atomic int opened, closed;
    pthread_mutex_t lock;
    pthread_cond_t more;
};

/* ---- ports of the backend: rings that the test reaches from outside ---- */

struct outer_port {
    struct packet_port port;
    struct packet_port *ring; /* what does the work */
    struct world *world;
};

static struct outer_port *outer_of(struct packet_port *port) { return container_of(port, struct outer_port, port); }
static unsigned outer_receive(struct packet_port *port, struct packet **packets, unsigned capacity) {
    return outer_of(port)->ring->ops->receive(outer_of(port)->ring, packets, capacity);
}
static unsigned outer_send(struct packet_port *port, struct packet **packets, unsigned count) {
    return outer_of(port)->ring->ops->send(outer_of(port)->ring, packets, count);
}
static bool outer_sleep(struct packet_port *port, bool asleep) { return (void)port, (void)asleep, true; }
static void outer_read_by(struct packet_port *port, struct reactor *worker, bool begins) {
    outer_of(port)->ring->ops->read_by(outer_of(port)->ring, worker, begins);
}
static bool outer_is_up(struct packet_port *port) { return (void)port, true; }
static void outer_destroy(struct packet_port *port) {
    struct outer_port *outer = outer_of(port);
    outer->ring->ops->destroy(outer->ring);
    outer->world->closed++;
    free(outer);
}

static bool backend_open(struct packet_backend *backend, const struct packet_port_options *options, struct packet_port **ret_port,
                         struct error *error) {
    static const struct packet_port_ops ops = {.receive = outer_receive,
                                               .send = outer_send,
                                               .sleep = outer_sleep,
                                               .read_by = outer_read_by,
                                               .is_up = outer_is_up,
                                               .destroy = outer_destroy};
    struct world *world = container_of(backend, struct world, backend);
    if (world->opens_left-- == 0)
        return error_set(error, ERROR_IO, "not today");
    struct outer_port *outer = aligned_alloc(64, round_up(sizeof(*outer), 64));
    assert_non_null(outer);
    memset(outer, 0, sizeof(*outer));
    outer->port.ops = &ops;
    outer->port.kind = "test";
    outer->world = world;
    snprintf(outer->port.name, sizeof(outer->port.name), "%s", options->name);
    assert_true(packet_ring_create(options->name, 1024, backend->memory, &outer->ring, error));
    world->opened++;
    *ret_port = &outer->port;
    return true;
}

/* ---- changes, waited for by the test's thread ---- */

struct waited {
    struct packet_change change;
    struct reactor_message submit;
    struct packet_port_options port;
    struct world *world;
    bool done;
    const char *component, *name;
    enum component_type type;
    unsigned worker;
    enum port_direction direction;
    struct vlan_operation vlan;
    struct packet_port *found;
};

static void waited_submit(struct reactor_message *message) {
    struct waited *waited = container_of(message, struct waited, submit);
    packet_plane_submit(waited->world->plane, &waited->change);
}

static void waited_done(struct packet_change *change) {
    struct waited *waited = container_of(change, struct waited, change);
    pthread_mutex_lock(&waited->world->lock);
    waited->done = true;
    pthread_cond_broadcast(&waited->world->more);
    pthread_mutex_unlock(&waited->world->lock);
}

static bool change(struct world *world, struct waited *waited) {
    waited->world = world;
    waited->done = false;
    waited->change.done = waited_done;
    waited->submit.run = waited_submit;
    reactor_post(world->control, &waited->submit);
    pthread_mutex_lock(&world->lock);
    while (!waited->done)
        pthread_cond_wait(&world->more, &world->lock);
    pthread_mutex_unlock(&world->lock);
    return waited->change.ok;
}

static struct waited *waited_of(struct packet_change *base) { return container_of(base, struct waited, change); }

static bool edit_component(struct packet_change *base, struct model *model, struct error *error) {
    struct waited *waited = waited_of(base);
    return model_add_component(model, waited->component, waited->type, waited->worker, error);
}
static bool edit_remove_component(struct packet_change *base, struct model *model, struct error *error) {
    return model_remove_component(model, waited_of(base)->component, error);
}
static bool edit_attach(struct packet_change *base, struct model *model, struct error *error) {
    struct waited *waited = waited_of(base);
    return model_attach(model, waited->component, waited->name, waited->direction, waited->vlan, false, error);
}
static bool edit_detach(struct packet_change *base, struct model *model, struct error *error) {
    struct waited *waited = waited_of(base);
    return model_detach(model, waited->component, waited->name, waited->direction, error);
}
static bool edit_add(struct packet_change *base, struct model *model, struct error *error) {
    return model_add_entry(model, waited_of(base)->component, waited_of(base)->name, 100, waited_of(base)->port.name, error);
}
static bool edit_remove(struct packet_change *base, struct model *model, struct error *error) {
    return model_remove_entry(model, waited_of(base)->component, waited_of(base)->name, 100, waited_of(base)->port.name, error);
}
static bool edit_find(struct packet_change *base, struct model *model, struct error *error) {
    (void)error;
    waited_of(base)->found = model_find_port(model, waited_of(base)->name);
    return true;
}
static bool edit_delete_port(struct packet_change *base, struct model *model, struct error *error) {
    return packet_change_remove_port(base, model, waited_of(base)->name, error);
}

static bool port_create(struct world *world, const char *name, enum packet_port_kind kind) {
    struct waited waited = {.port = {.name = name, .kind = kind, .size = 1024}};
    waited.change.open = &waited.port;
    return change(world, &waited);
}
static bool port_delete(struct world *world, const char *name) {
    return change(world, &(struct waited){.change.edit = edit_delete_port, .name = name});
}
static void component(struct world *world, const char *name, enum component_type type, unsigned worker) {
    assert_true(
        change(world, &(struct waited){.change.edit = edit_component, .component = name, .type = type, .worker = worker}));
}
static void attach(struct world *world, const char *name, const char *port, enum port_direction direction) {
    assert_true(
        change(world, &(struct waited){.change.edit = edit_attach, .component = name, .name = port, .direction = direction}));
}
static void detach(struct world *world, const char *name, const char *port, enum port_direction direction) {
    assert_true(
        change(world, &(struct waited){.change.edit = edit_detach, .component = name, .name = port, .direction = direction}));
}
static void entry(struct world *world, bool add, const char *mac, const char *port) {
    assert_true(change(
        world, &(struct waited){
                   .change.edit = add ? edit_add : edit_remove, .component = "classifier", .name = mac, .port.name = port}));
}
static struct packet_port *find(struct world *world, const char *name) {
    struct waited waited = {.change.edit = edit_find, .name = name};
    assert_true(change(world, &waited));
    assert_non_null(waited.found);
    return waited.found;
}

/* ---- the world ---- */

static struct world *world_create(enum host_poll_mode mode) {
    static const int cpus[] = {-1, -1};
    struct world *world = calloc(1, sizeof(*world));
    struct error error;
    assert_non_null(world);
    test_memory_init(&world->memory);
    pthread_mutex_init(&world->lock, NULL);
    pthread_cond_init(&world->more, NULL);
    world->opens_left = -1;
    world->backend = (struct packet_backend){.memory = &world->memory.memory, .open = backend_open};
    assert_int_equal(host_linux_create(&(struct host_linux_options){.threads_max = 2}, &world->host), 0);
    assert_int_equal(
        reactor_create(world->host,
                       &(struct reactor_options){.name = "control", .cpu = -1, .poll_mode = HOST_POLL_NEVER, .index = 2},
                       &world->control),
        0);
    struct packet_plane_options options = {.host = world->host,
                                           .control = world->control,
                                           .backend = &world->backend,
                                           .cpus = cpus,
                                           .cpu_count = 2,
                                           .poll_mode = mode};
    assert_true(packet_plane_create(&options, &world->plane, &error));
    assert_int_equal(reactor_start(world->control), 0);
    return world;
}

static void stopped(void *arg) { host_loop_stop(((struct world *)arg)->control->loop); }
static void stop(struct reactor_message *message) {
    struct world *world = container_of(message, struct waited, submit)->world;
    packet_plane_stop(world->plane, stopped, world);
}

static void world_destroy(struct world *world) {
    struct waited waited = {.submit.run = stop, .world = world};
    reactor_post(world->control, &waited.submit);
    host_linux_loop_wait(world->control->loop);
    packet_plane_destroy(world->plane);
    reactor_destroy(world->control);
    host_linux_destroy(world->host);
    assert_int_equal(world->opened, world->closed);
    assert_int_equal(world->memory.held, 0);
    pthread_cond_destroy(&world->more);
    pthread_mutex_destroy(&world->lock);
    free(world);
}

/* Outside of the plane: pushes into a port's ring, as a driver would, and takes out of another's. */
static void push(struct packet_port *port, struct packet *packet) {
    while (outer_send(port, &packet, 1) == 0)
        sched_yield();
}

static uint32_t pull(struct world *world, struct packet_port *port) {
    struct packet *packet;
    while (outer_receive(port, &packet, 1) == 0)
        sched_yield();
    uint32_t number = test_frame_number(packet);
    world->memory.memory.free(&world->memory.memory, &packet, 1);
    return number;
}

struct traffic {
    struct world *world;
    struct packet_port *in, *out;
    _Atomic bool ends;
    uint32_t passed;
    bool lost;
};

/* To b and only to b, in windows. */
static void *traffic_main(void *arg) {
    struct traffic *traffic = arg;
    struct world *world = traffic->world;
    do {
        for (uint32_t i = 0; i < 64; i++)
            push(traffic->in, test_frame(&world->memory, B, 100, traffic->passed + i, 60));
        for (uint32_t i = 0; i < 64; i++)
            traffic->lost = traffic->lost || pull(world, traffic->out) != traffic->passed + i;
        traffic->passed += 64;
    } while (!traffic->ends && !traffic->lost);
    return NULL;
}

/* in → classifier → ring_b → forward (other worker) → b, while a comes and goes. */
static void run_changes(enum host_poll_mode mode, unsigned rounds) {
    struct world *world = world_create(mode);
    assert_true(port_create(world, "in", PACKET_PORT_NULL));
    assert_true(port_create(world, "b", PACKET_PORT_NULL));
    assert_true(port_create(world, "ring_b", PACKET_PORT_RING));
    component(world, "classifier", COMPONENT_CLASSIFIER, 0);
    component(world, "forward", COMPONENT_FORWARD, 1);
    attach(world, "classifier", "in", PORT_DIRECTION_RX);
    attach(world, "classifier", "ring_b", PORT_DIRECTION_TX);
    attach(world, "forward", "ring_b", PORT_DIRECTION_RX);
    attach(world, "forward", "b", PORT_DIRECTION_TX);
    entry(world, true, B, "ring_b");
    struct traffic traffic = {.world = world, .in = find(world, "in"), .out = find(world, "b")};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, traffic_main, &traffic), 0);
    for (unsigned round = 0; round < rounds; round++) {
        assert_true(port_create(world, "a", PACKET_PORT_NULL));
        attach(world, "classifier", "a", PORT_DIRECTION_TX);
        entry(world, true, A, "a");
        entry(world, true, "default", "a");
        component(world, "more", COMPONENT_MERGE, round % 2);
        attach(world, "more", "a", PORT_DIRECTION_RX);
        detach(world, "more", "a", PORT_DIRECTION_RX);
        entry(world, false, A, "a");
        entry(world, false, "default", "a");
        detach(world, "classifier", "a", PORT_DIRECTION_TX);
        assert_true(port_delete(world, "a"));
        struct waited waited = {.change.edit = edit_component, .component = "more"};
        assert_false(change(world, &waited)); /* refused in between: the name is taken */
        assert_int_equal(waited.change.error.code, ERROR_EXISTS);
        assert_true(change(world, &(struct waited){.change.edit = edit_remove_component, .component = "more"}));
    }
    traffic.ends = true;
    pthread_join(thread, NULL);
    assert_false(traffic.lost);
    assert_true(traffic.passed > 0);
    world_destroy(world);
}

static void test_changes_lose_nothing_of_others(void **state) {
    (void)state;
    run_changes(HOST_POLL_ADAPTIVE, 60);
}

static void test_changes_reach_workers_that_sleep_at_once(void **state) {
    (void)state;
    run_changes(HOST_POLL_NEVER, 60);
}

/* A frame at a time, each to a plane that had nothing to do: a wake-up that is lost would hang it. */
static void test_a_frame_wakes_what_it_passes(void **state) {
    (void)state;
    struct world *world = world_create(HOST_POLL_NEVER);
    assert_true(port_create(world, "in", PACKET_PORT_NULL));
    assert_true(port_create(world, "out", PACKET_PORT_NULL));
    assert_true(port_create(world, "ring", PACKET_PORT_RING));
    component(world, "first", COMPONENT_FORWARD, 0);
    component(world, "second", COMPONENT_FORWARD, 1);
    attach(world, "first", "in", PORT_DIRECTION_RX);
    attach(world, "first", "ring", PORT_DIRECTION_TX);
    attach(world, "second", "ring", PORT_DIRECTION_RX);
    attach(world, "second", "out", PORT_DIRECTION_TX);
    struct packet_port *in = find(world, "in"), *out = find(world, "out");
    for (uint32_t i = 0; i < 2000; i++) {
        push(in, test_frame(&world->memory, A, -1, i, 60));
        assert_int_equal(pull(world, out), i);
    }
    world_destroy(world);
}

static void test_a_port_that_does_not_open_leaves_nothing(void **state) {
    (void)state;
    struct world *world = world_create(HOST_POLL_ADAPTIVE);
    assert_true(port_create(world, "a", PACKET_PORT_NULL));
    world->opens_left = 0;
    struct waited waited = {.port = {.name = "b", .kind = PACKET_PORT_NULL}};
    waited.change.open = &waited.port;
    uint64_t generation = 0;
    struct waited look = {.change.edit = edit_find, .name = "a"};
    assert_true(change(world, &look));
    generation = look.change.generation;
    assert_false(change(world, &waited));
    assert_int_equal(waited.change.error.code, ERROR_IO);
    world->opens_left = -1;
    look = (struct waited){.change.edit = edit_find, .name = "b"};
    assert_true(change(world, &look));
    assert_null(look.found);
    assert_int_equal(look.change.generation, generation + 1); /* what failed was no version */
    assert_true(port_create(world, "b", PACKET_PORT_NULL));
    struct waited again = {.port = {.name = "b", .kind = PACKET_PORT_NULL}};
    again.change.open = &again.port;
    assert_false(change(world, &again));
    assert_int_equal(again.change.error.code, ERROR_EXISTS);
    world_destroy(world); /* with its ports still there */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_changes_lose_nothing_of_others),
        cmocka_unit_test(test_changes_reach_workers_that_sleep_at_once),
        cmocka_unit_test(test_a_frame_wakes_what_it_passes),
        cmocka_unit_test(test_a_port_that_does_not_open_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
