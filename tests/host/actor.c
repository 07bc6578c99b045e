/* The small machinery of the contract's cases: a loop that runs a test's calls, files and sockets on it. See contract.h. */
#include "contract.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- the loop ---- */

static struct host_turn turn(void *arg) {
    struct actor *actor = arg;
    bool worked = host_loop_poll(actor->loop) > 0;
    unsigned asked = atomic_load(&actor->asked);
    if (asked != atomic_load(&actor->done)) {
        actor->call(actor, actor->arg);
        atomic_store(&actor->done, asked);
        worked = true;
    }
    atomic_fetch_add(&actor->turns, 1);
    host_loop_flush(actor->loop);
    return (struct host_turn){.worked = worked, .deadline_ns = actor->deadline_ns == 0 ? UINT64_MAX : actor->deadline_ns};
}

void actor_init(struct actor *actor, struct fixture *fixture) {
    memset(actor, 0, sizeof(*actor));
    actor->fixture = fixture;
    struct host_loop_options options = {.name = "actor", .cpu = -1, .poll_mode = HOST_POLL_NEVER, .turn = turn, .arg = actor};
    assert_int_equal(host_loop_create(fixture->host, &options, &actor->loop), 0);
    assert_int_equal(host_loop_start(actor->loop), 0);
}

void actor_fini(struct actor *actor) {
    host_loop_stop(actor->loop);
    host_loop_destroy(actor->loop);
}

static bool call_done(void *arg) {
    struct actor *actor = arg;
    return atomic_load(&actor->asked) == atomic_load(&actor->done);
}

void actor_wait(struct actor *actor, bool (*condition)(void *arg), void *arg, const char *what) {
    if (!actor->fixture->wait(actor->fixture, condition, arg))
        fail_msg("waited in vain for %s", what);
}

void actor_do(struct actor *actor, void (*call)(struct actor *actor, void *arg), void *arg) {
    actor->call = call;
    actor->arg = arg;
    atomic_fetch_add(&actor->asked, 1);
    host_loop_wake(actor->loop);
    actor_wait(actor, call_done, actor, "a call on the loop");
}

/* ---- files ---- */

struct opening {
    struct host_file_open open;
    _Atomic bool done;
};

static void open_done(struct host_file_open *open) { atomic_store(&container_of(open, struct opening, open)->done, true); }
static void open_submit(struct actor *actor, void *arg) {
    struct opening *opening = arg;
    host_file_open_submit(actor->loop, &opening->open);
    assert(!atomic_load(&opening->done)); /* never from inside the call */
}
static bool open_is_done(void *arg) { return atomic_load(&((struct opening *)arg)->done); }

struct host_file *actor_open(struct actor *actor, const char *name, struct host_file_options options,
                             struct host_file_open *ret_open) {
    char path[192];
    snprintf(path, sizeof(path), "%s/%s", actor->fixture->directory, name);
    struct opening opening = {.open = {.path = path, .options = options, .done = open_done}};
    actor_do(actor, open_submit, &opening);
    actor_wait(actor, open_is_done, &opening, "a file to open");
    if (ret_open != NULL)
        *ret_open = opening.open;
    assert_int_equal(opening.open.ok, opening.open.file != NULL);
    return opening.open.file;
}

struct waited {
    struct host_file_request request;
    _Atomic bool done;
};

static void io_complete(struct host_file_request *request) {
    struct waited *waited = container_of(request, struct waited, request);
    assert(!atomic_load(&waited->done));
    atomic_store(&waited->done, true);
}
static void io_submit(struct actor *actor, void *arg) {
    struct waited *waited = arg;
    host_file_submit(actor->loop, &waited->request);
    assert(!atomic_load(&waited->done));
}
static bool io_is_done(void *arg) { return atomic_load(&((struct waited *)arg)->done); }

int64_t actor_request(struct actor *actor, struct host_file_request *request) {
    struct waited waited = {.request = *request};
    waited.request.result = INT64_MIN;
    waited.request.complete = io_complete;
    actor_do(actor, io_submit, &waited);
    actor_wait(actor, io_is_done, &waited, "an I/O");
    assert_true(waited.request.result != INT64_MIN);
    return waited.request.result;
}

int64_t actor_io(struct actor *actor, struct host_file *file, enum host_file_op op, void *data, uint64_t offset,
                 uint64_t length) {
    struct slice slice = {data, (size_t)length};
    bool moves = op == HOST_FILE_READ || op == HOST_FILE_WRITE;
    struct host_file_request request = {.file = file,
                                        .op = op,
                                        .slices = moves ? &slice : NULL,
                                        .slice_count = moves ? 1 : 0,
                                        .offset = offset,
                                        .length = length};
    return actor_request(actor, &request);
}

/* ---- sockets ---- */

void peer_init(struct peer *peer, size_t capacity) {
    memset(peer, 0, sizeof(*peer));
    peer->in_capacity = capacity;
    peer->in = malloc(capacity + 1);
    peer->out = malloc(capacity + 1);
    assert_true(peer->in != NULL && peer->out != NULL);
}

void peer_fini(struct peer *peer) {
    free(peer->in);
    free(peer->out);
}

static void peer_end(struct peer *peer, int64_t result) {
    if (result < 0 && peer->error == 0)
        peer->error = (int)result;
    peer->closed = true; /* last: the test's thread looks at the error then */
}

static void peer_read(struct peer *peer) {
    while (!peer->closed && !peer->stopped) {
        /* two pieces, so that scattered reads are exercised; one byte of room more shows a peer that sends too much */
        size_t room = peer->in_capacity + 1 - peer->in_length, half = room > 7 ? 7 : room;
        struct slice slices[2] = {{peer->in + peer->in_length, half}, {peer->in + peer->in_length + half, room - half}};
        int64_t n = host_socket_read(peer->socket, slices, 2);
        if (n == -EAGAIN)
            return;
        if (n <= 0) {
            peer_end(peer, n);
            return;
        }
        peer->in_length += (size_t)n;
        assert(peer->in_length <= peer->in_capacity);
        if ((size_t)n < room && !peer->hung_up && ++peer->reads % 2 != 0)
            return;
    }
}

static void peer_write(struct peer *peer) {
    while (!peer->closed && peer->out_sent < peer->out_length) {
        size_t rest = peer->out_length - peer->out_sent, half = rest > 5 ? 5 : rest;
        struct slice slices[2] = {{peer->out + peer->out_sent, half}, {peer->out + peer->out_sent + half, rest - half}};
        int64_t n = host_socket_write(peer->socket, slices, 2);
        if (n == -EAGAIN)
            return;
        if (n < 0) {
            peer_end(peer, n);
            return;
        }
        peer->out_sent += (size_t)n;
    }
    peer->going = false;
}

static void peer_move(struct peer *peer) {
    peer_read(peer);
    if (peer->connected && (peer->going || !peer->waits_for_go))
        peer_write(peer);
}

void peer_go(struct peer *peer) {
    peer->going = true;
    peer_move(peer);
}

void peer_event(void *arg, unsigned events) {
    struct peer *peer = arg;
    peer->hung_up |= (events & HOST_CLOSED) != 0;
    if (!peer->connected) {
        int error = host_socket_error(peer->socket);
        if (error != 0) {
            peer_end(peer, error);
            return;
        }
        if ((events & HOST_WRITABLE) == 0)
            return;
        peer->connected = true;
    }
    peer_move(peer);
}

void door_event(void *arg, unsigned events) {
    struct door *door = arg;
    (void)events;
    while (door->count < door->capacity) {
        int error = 0;
        struct host_socket *socket = host_accept(door->socket, &door->from[door->count], &error);
        if (socket == NULL) {
            assert(error == -EAGAIN);
            return;
        }
        struct peer *peer = door->peers[door->count++];
        peer->socket = socket;
        peer->connected = true;
        int result = host_socket_attach(socket, door->loop, peer_event, peer);
        assert(result == 0);
        peer_move(peer);
    }
}

static void door_listen(struct actor *actor, void *arg) {
    struct door *door = arg;
    struct error error = {0};
    door->loop = actor->loop;
    struct host_address address = door->address;
    door->socket = host_listen(actor->loop, &address, door_event, door, &error);
    if (door->socket == NULL) {
        door->error = error;
        return;
    }
    host_socket_local(door->socket, &door->address);
}

void door_open(struct actor *actor, struct door *door, enum host_family family, const char *text, uint16_t port) {
    door->address = (struct host_address){.family = family, .port = port};
    snprintf(door->address.text, sizeof(door->address.text), "%s", text);
    actor_do(actor, door_listen, door);
    if (door->socket == NULL)
        fail_msg("%s", door->error.text);
}

struct connecting {
    struct peer *peer;
    const struct host_address *to;
};

static void connect_call(struct actor *actor, void *arg) {
    struct connecting *connecting = arg;
    struct error error = {0};
    connecting->peer->socket = host_connect(actor->loop, connecting->to, NULL, peer_event, connecting->peer, &error);
    assert(connecting->peer->socket != NULL);
}

void peer_connect(struct actor *actor, struct peer *peer, const struct host_address *to) {
    struct connecting connecting = {peer, to};
    actor_do(actor, connect_call, &connecting);
}
