/* How long news take to WATCHERS of penstockd: each has an EngineFrontendWatch under way, on one of CONNECTIONS connections.
 * ROUNDS times a frontend without an engine's target is made, and deleted when all is silent again: the deletion's answer is the
 * moment of the change, the first message that each watcher has of it is its arrival.
 *
 *   grpc_watch ADDRESS WATCHERS CONNECTIONS ROUNDS
 *
 * Prints {"us": from the answer to each watcher, "from_call_us": from the call, "call_us": the call, with its commit to the
 * disk}, each {"p50", "p99", "p99_9", "max"}. One thread: the last watcher's time holds the reading of all others'. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "api/proto/google/protobuf/empty.pb-c.h"
#include "api/proto/spdkrpc/frontend.pb-c.h"
#include "grpc/channel.h"
#include "host/linux/linux.h"

enum { WATCHERS_MAX = 4096, PORT = 8504, SILENCE_MS = 20 };
#define SERVICE "/spdkrpc.SPDKService/"

struct bench;

struct watcher {
    struct grpc_channel_call call;
    struct bench *bench;
    bool told; /* of this round's change */
};

struct bench {
    struct host *host;
    struct reactor *reactor;
    struct reactor_message message;
    struct reactor_timer silence;
    struct grpc_channel *channels[WATCHERS_MAX], *own;
    struct watcher watchers[WATCHERS_MAX];
    struct grpc_channel_call call;
    unsigned watcher_count, channel_count, connected, rounds, round, told;
    const char *address;
    bool made, deleting, answered; /* the frontend is there, or will be; it is being deleted; it is */
    uint64_t called_ns, answered_ns;
    uint64_t *arrived_ns, *began_ns; /* rounds × watchers: since the answer, since the call */
    uint64_t *took_ns;
    size_t arrivals;
    _Atomic bool over;
};

static void die(const char *what) {
    fprintf(stderr, "grpc_watch: %s\n", what);
    exit(1);
}

static uint64_t now_ns(const struct bench *bench) { return host_now_ns(bench->host); }

static struct grpc_channel *connect_to(struct bench *bench) {
    struct grpc_channel_options options = {.reactor = bench->reactor, .address = {.family = HOST_IPV4, .port = PORT}};
    snprintf(options.address.text, sizeof(options.address.text), "%s", bench->address);
    struct grpc_channel *channel = grpc_channel_create(&options);
    if (channel == NULL)
        die("no memory");
    return channel;
}

static void when_silent(struct bench *bench) {
    reactor_timer_stop(bench->reactor, &bench->silence);
    reactor_timer_start(bench->reactor, &bench->silence, now_ns(bench) + SILENCE_MS * NS_PER_MS);
}

/* ---- the change ---- */

static void end_round(struct bench *bench) {
    if (!bench->answered || bench->told < bench->watcher_count)
        return;
    size_t first = (size_t)bench->round * bench->watcher_count;
    for (size_t i = first; i < bench->arrivals; i++) {
        uint64_t at_ns = bench->began_ns[i];
        bench->began_ns[i] = at_ns - bench->called_ns;
        bench->arrived_ns[i] = at_ns - min_u64(at_ns, bench->answered_ns);
    }
    bench->took_ns[bench->round++] = bench->answered_ns - bench->called_ns;
    bench->deleting = false;
    when_silent(bench);
}

static void on_done(struct grpc_call *call) {
    struct bench *bench = call->arg;
    if (call->status != GRPC_OK)
        die(call->text);
    if (!bench->deleting) {
        when_silent(bench);
        return;
    }
    bench->answered = true;
    bench->answered_ns = now_ns(bench);
    end_round(bench);
}

static void on_answer(struct grpc_call *call, const ProtobufCMessage *message) { (void)call, (void)message; }

static void call_own(struct bench *bench, const char *path, const ProtobufCMessage *request,
                     const ProtobufCMessageDescriptor *receives) {
    grpc_channel_prepare(bench->own, &bench->call, GRPC_UNARY, path, receives, 60000);
    bench->call.wait_ready = true;
    bench->call.call.arg = bench;
    bench->call.call.message = on_answer;
    bench->call.call.done = on_done;
    (void)grpc_call_send(&bench->call.call, request);
    grpc_channel_start(bench->own, &bench->call);
}

/* Nothing came for a while: the next step, which is to make a frontend, or to delete it. */
static void on_silence(struct reactor_timer *timer) {
    static char name[] = "bench-watched", volume[] = "bench-volume", engine[] = "bench-engine"; /* as the messages want them */
    struct bench *bench = container_of(timer, struct bench, silence);
    if (bench->round == bench->rounds) {
        bench->over = true;
        return;
    }
    bench->made = !bench->made;
    if (bench->made) {
        Spdkrpc__EngineFrontendCreateRequest create = SPDKRPC__ENGINE_FRONTEND_CREATE_REQUEST__INIT;
        create.name = name;
        create.volume_name = volume;
        create.engine_name = engine;
        create.spec_size = MIB(1);
        call_own(bench, SERVICE "EngineFrontendCreate", &create.base, &spdkrpc__engine_frontend__descriptor);
        return;
    }
    Spdkrpc__EngineFrontendDeleteRequest delete = SPDKRPC__ENGINE_FRONTEND_DELETE_REQUEST__INIT;
    delete.name = name;
    for (unsigned i = 0; i < bench->watcher_count; i++)
        bench->watchers[i].told = false;
    bench->told = 0;
    bench->deleting = true;
    bench->answered = false;
    bench->called_ns = now_ns(bench);
    call_own(bench, SERVICE "EngineFrontendDelete", &delete.base, &google__protobuf__empty__descriptor);
}

/* ---- the watchers ---- */

static void on_news(struct grpc_call *call, const ProtobufCMessage *message) {
    struct watcher *watcher = call->arg;
    struct bench *bench = watcher->bench;
    (void)message;
    if (!bench->deleting) {
        when_silent(bench);
        return;
    }
    if (watcher->told)
        return;
    watcher->told = true;
    bench->told++;
    bench->began_ns[bench->arrivals++] = now_ns(bench);
    end_round(bench);
}

static void on_watch_end(struct grpc_call *call) {
    fprintf(stderr, "%s: ", grpc_status_name(call->status));
    die(call->text[0] != '\0' ? call->text : "a watch has ended");
}

static void watch(struct bench *bench, unsigned which) {
    Google__Protobuf__Empty empty = GOOGLE__PROTOBUF__EMPTY__INIT;
    struct watcher *watcher = &bench->watchers[which];
    struct grpc_channel *channel = bench->channels[which % bench->channel_count];
    watcher->bench = bench;
    grpc_channel_prepare(channel, &watcher->call, GRPC_SERVER_STREAM, SERVICE "EngineFrontendWatch",
                         &google__protobuf__empty__descriptor, 0);
    watcher->call.wait_ready = true;
    watcher->call.call.arg = watcher;
    watcher->call.call.message = on_news;
    watcher->call.call.done = on_watch_end;
    (void)grpc_call_send(&watcher->call.call, &empty.base);
    grpc_channel_start(channel, &watcher->call);
}

/* A server lets few strangers in at once: each connection follows the one before. */
static void on_silence_before(struct reactor_timer *timer) {
    struct bench *bench = container_of(timer, struct bench, silence);
    if (bench->connected == 0 || grpc_channel_is_connected(bench->channels[bench->connected - 1])) {
        if (bench->connected == bench->channel_count) {
            bench->silence.run = on_silence;
            when_silent(bench);
            return;
        }
        bench->channels[bench->connected] = connect_to(bench);
        for (unsigned i = bench->connected; i < bench->watcher_count; i += bench->channel_count)
            watch(bench, i);
        bench->connected++;
    }
    reactor_timer_start(bench->reactor, &bench->silence, now_ns(bench) + NS_PER_MS);
}

static void start(struct reactor_message *message) {
    struct bench *bench = container_of(message, struct bench, message);
    bench->own = connect_to(bench);
    bench->silence.run = on_silence_before;
    reactor_timer_start(bench->reactor, &bench->silence, now_ns(bench));
}

/* ---- figures ---- */

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static double percentile_us(const uint64_t *sorted_ns, size_t count, double part) {
    return (double)sorted_ns[(size_t)((double)(count - 1) * part)] / 1e3;
}

static void print(const char *name, uint64_t *ns, size_t count, const char *end) {
    qsort(ns, count, sizeof(*ns), by_value);
    printf("\"%s\": {\"p50\": %.1f, \"p99\": %.1f, \"p99_9\": %.1f, \"max\": %.1f}%s", name, percentile_us(ns, count, 0.5),
           percentile_us(ns, count, 0.99), percentile_us(ns, count, 0.999), percentile_us(ns, count, 1), end);
}

int main(int argc, char **argv) {
    struct bench *bench = calloc(1, sizeof(*bench));
    if (bench == NULL || argc != 5)
        die("expected ADDRESS WATCHERS CONNECTIONS ROUNDS");
    bench->address = argv[1];
    bench->watcher_count = (unsigned)atoi(argv[2]);
    bench->channel_count = (unsigned)atoi(argv[3]);
    bench->rounds = (unsigned)atoi(argv[4]);
    if (bench->watcher_count == 0 || bench->watcher_count > WATCHERS_MAX || bench->channel_count == 0 ||
        bench->channel_count > bench->watcher_count || bench->rounds == 0)
        die("a number is out of range");
    size_t count = (size_t)bench->watcher_count * bench->rounds;
    bench->arrived_ns = calloc(count, sizeof(*bench->arrived_ns));
    bench->began_ns = calloc(count, sizeof(*bench->began_ns));
    bench->took_ns = calloc(bench->rounds, sizeof(*bench->took_ns));
    struct host_linux_options host_options = {0};
    struct reactor_options options = {.name = "watchers", .cpu = -1, .poll_mode = HOST_POLL_NEVER};
    signal(SIGPIPE, SIG_IGN);
    if (bench->arrived_ns == NULL || bench->began_ns == NULL || bench->took_ns == NULL ||
        host_linux_create(&host_options, &bench->host) != 0 || reactor_create(bench->host, &options, &bench->reactor) != 0 ||
        reactor_start(bench->reactor) != 0)
        die("no memory, or no reactor");
    bench->message.run = start;
    reactor_post(bench->reactor, &bench->message);
    while (!bench->over)
        usleep(1000);
    printf("{");
    print("us", bench->arrived_ns, count, ", ");
    print("from_call_us", bench->began_ns, count, ", ");
    print("call_us", bench->took_ns, bench->rounds, "}\n");
    fflush(stdout);
    _exit(0); /* with its connections: what watches end with is not to be seen */
}
