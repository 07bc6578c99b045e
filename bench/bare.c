/* What the machine gives without us, measured in the same minute as our own figures: its drift scales their bounds.
 *   bare memcpy SECONDS    nanoseconds to copy 4 KiB within 16 MiB
 *   bare scattered SECONDS KIB   nanoseconds to copy 4 KiB from a random one of 131,072 places that lie KIB apart
 *   bare polled SECONDS    microseconds of a loopback TCP exchange (72 bytes there, 4120 back), both ends polling
 *   bare fan SECONDS N     microseconds until N connections have each answered 4168 bytes with 24, both ends polling
 *   bare stream SECONDS    microseconds an answer of 24 bytes and 128 KiB takes, with 16 commands of 72 bytes under way
 *   bare sync SECONDS FILE 32   how often a second so many threads write 4 KiB at random places of FILE, each with fdatasync
 * One JSON object on standard output. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { COMMAND_BYTES = 72, ANSWER_BYTES = 4120, STREAM_DEPTH = 16, STREAM_PAYLOAD = 131072, STREAM_BYTES = STREAM_PAYLOAD + 24 };

static double now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void fail(const char *what) {
    perror(what);
    exit(EXIT_FAILURE);
}

static void pin(int cpu) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((size_t)cpu, &one);
    sched_setaffinity(0, sizeof(one), &one); /* on a machine of one core it stays where it is */
}

static int run_memcpy(double seconds) {
    enum { AREA = 16 << 20, PIECE = 4096 };
    char *from = malloc(AREA), *to = malloc(AREA);
    if (from == NULL || to == NULL)
        fail("malloc");
    memset(from, 1, AREA);
    memset(to, 2, AREA);
    double best = 1e9, end = now_s() + seconds;
    while (now_s() < end) {
        double start = now_s();
        for (size_t i = 0; i < AREA; i += PIECE) {
            memcpy(to + i, from + i, PIECE);
            __asm__ volatile("" ::"r"(to + i) : "memory");
        }
        double each = (now_s() - start) * 1e9 * PIECE / AREA;
        best = each < best ? each : best;
    }
    printf("{\"ns\":%.1f}\n", best);
    free(from);
    free(to);
    return 0;
}

/* What a chain's reader does at the end: the blocks of 512 MiB, side by side or each in a cluster of its own. */
static int run_scattered(double seconds, size_t stride) {
    enum { PLACES = 131072, PIECE = 4096, ROUND = 65536 };
    char to[PIECE] __attribute__((aligned(64)));
    char *from = mmap(NULL, PLACES * stride, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (from == MAP_FAILED)
        fail("mmap");
    madvise(from, PLACES * stride, MADV_HUGEPAGE);
    for (size_t i = 0; i < PLACES; i++)
        memset(from + i * stride, (int)i, PIECE);
    double best = 1e9, end = now_s() + seconds;
    uint64_t random = 1;
    while (now_s() < end) {
        double start = now_s();
        for (unsigned i = 0; i < ROUND; i++) {
            random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
            memcpy(to, from + (random >> 40) % PLACES * stride, PIECE);
            __asm__ volatile("" ::"r"(to) : "memory");
        }
        double each = (now_s() - start) * 1e9 / ROUND;
        best = each < best ? each : best;
    }
    printf("{\"ns\":%.1f}\n", best);
    munmap(from, PLACES * stride);
    return 0;
}

/* False: the other end is gone. */
static bool move(int fd, char *bytes, size_t length, bool sends) {
    for (size_t done = 0; done < length;) {
        ssize_t n = sends ? send(fd, bytes + done, length - done, MSG_DONTWAIT | MSG_NOSIGNAL)
                          : recv(fd, bytes + done, length - done, MSG_DONTWAIT);
        if (n > 0)
            done += (size_t)n;
        else if (n == 0 || errno != EAGAIN)
            return false;
    }
    return true;
}

static void *serve(void *arg) {
    int fd = *(int *)arg;
    char bytes[ANSWER_BYTES] = {0};
    pin(1);
    while (move(fd, bytes, COMMAND_BYTES, false) && move(fd, bytes, ANSWER_BYTES, true))
        ;
    return NULL;
}

/* A loopback connection, unpaced as host/linux makes them. */
static void connect_pair(int *ret_client, int *ret_server) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(at);
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
    setsockopt(client, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
    if (bind(listener, (struct sockaddr *)&at, length) != 0 || listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&at, &length) != 0 || connect(client, (struct sockaddr *)&at, length) != 0)
        fail("loopback");
    int server = accept(listener, NULL, NULL);
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    close(listener);
    *ret_client = client;
    *ret_server = server;
}

static int run_polled(double seconds) {
    int client, server;
    connect_pair(&client, &server);
    pthread_t thread;
    pthread_create(&thread, NULL, serve, &server);
    pin(0);
    char bytes[ANSWER_BYTES] = {0};
    double start = now_s(), end = start + seconds;
    uint64_t count = 0;
    do
        for (int i = 0; i < 100; i++, count++)
            if (!move(client, bytes, COMMAND_BYTES, true) || !move(client, bytes, ANSWER_BYTES, false))
                fail("exchange");
    while (now_s() < end);
    printf("{\"us\":%.3f}\n", (now_s() - start) * 1e6 / (double)count);
    shutdown(client, SHUT_RDWR);
    pthread_join(thread, NULL);
    return 0;
}

enum { FAN_MAX = 8, FAN_BYTES = COMMAND_BYTES + 4096, FAN_ANSWER_BYTES = 24 };

struct fan {
    unsigned count;
    int servers[FAN_MAX];
    size_t got[FAN_MAX];
    char bytes[FAN_MAX][FAN_BYTES];
};

/* Each connection's command is answered when it is complete, whichever comes first. */
static void *serve_fan(void *arg) {
    struct fan *fan = arg;
    char answer[FAN_ANSWER_BYTES] = {0};
    pin(1);
    for (unsigned i = 0;; i = (i + 1) % fan->count) {
        ssize_t n = recv(fan->servers[i], fan->bytes[i] + fan->got[i], FAN_BYTES - fan->got[i], MSG_DONTWAIT);
        if (n == 0)
            return NULL;
        fan->got[i] += n > 0 ? (size_t)n : 0;
        if (fan->got[i] < FAN_BYTES)
            continue;
        fan->got[i] = 0;
        if (!move(fan->servers[i], answer, sizeof(answer), true))
            return NULL;
    }
}

static int run_fan(double seconds, unsigned count) {
    struct fan *fan = calloc(1, sizeof(*fan));
    int clients[FAN_MAX];
    pthread_t thread;
    if (fan == NULL || count == 0 || count > FAN_MAX)
        fail("fan");
    fan->count = count;
    for (unsigned i = 0; i < count; i++)
        connect_pair(&clients[i], &fan->servers[i]);
    pthread_create(&thread, NULL, serve_fan, fan);
    pin(0);
    static char bytes[FAN_BYTES];
    double start = now_s(), end = start + seconds;
    uint64_t rounds = 0;
    do
        for (int i = 0; i < 100; i++, rounds++) {
            for (unsigned c = 0; c < count; c++)
                if (!move(clients[c], bytes, FAN_BYTES, true))
                    fail("exchange");
            for (unsigned c = 0; c < count; c++)
                if (!move(clients[c], bytes, FAN_ANSWER_BYTES, false))
                    fail("exchange");
        }
    while (now_s() < end);
    printf("{\"us\":%.3f}\n", (now_s() - start) * 1e6 / (double)rounds);
    shutdown(clients[0], SHUT_RDWR);
    pthread_join(thread, NULL);
    free(fan);
    return 0;
}

struct writer {
    pthread_t thread;
    const char *path;
    double end;
    uint64_t seed, done;
};

static void *write_and_sync(void *arg) {
    struct writer *writer = arg;
    void *block = NULL;
    int fd = open(writer->path, O_WRONLY | O_DIRECT | O_CLOEXEC);
    off_t blocks = fd < 0 ? 0 : lseek(fd, 0, SEEK_END) / 4096;
    if (blocks <= 0 || posix_memalign(&block, 4096, 4096) != 0)
        fail(writer->path);
    memset(block, 1, 4096);
    while (now_s() < writer->end) {
        writer->seed = writer->seed * 6364136223846793005u + 1442695040888963407u;
        off_t at = (off_t)(writer->seed >> 20) % blocks * 4096;
        if (pwrite(fd, block, 4096, at) != 4096 || fdatasync(fd) != 0)
            fail(writer->path);
        writer->done++;
    }
    free(block);
    close(fd);
    return NULL;
}

static int run_sync(double seconds, const char *path, unsigned count) {
    enum { WRITERS_MAX = 256 };
    struct writer writers[WRITERS_MAX];
    double start = now_s(), total = 0;
    if (count == 0 || count > WRITERS_MAX)
        return EXIT_FAILURE;
    for (unsigned i = 0; i < count; i++) {
        writers[i] = (struct writer){.path = path, .end = start + seconds, .seed = i + 1};
        pthread_create(&writers[i].thread, NULL, write_and_sync, &writers[i]);
    }
    for (unsigned i = 0; i < count; i++) {
        pthread_join(writers[i].thread, NULL);
        total += (double)writers[i].done;
    }
    printf("{\"per_second\":%.0f}\n", total / (now_s() - start));
    return 0;
}

static void *serve_stream(void *arg) {
    int fd = *(int *)arg;
    char commands[COMMAND_BYTES * STREAM_DEPTH], *answer = aligned_alloc(4096, STREAM_PAYLOAD + 4096);
    memset(answer, 1, STREAM_BYTES);
    pin(1);
    for (size_t have = 0, left = 0;;) { /* bytes of commands not yet answered, bytes of an answer not yet sent */
        ssize_t n = recv(fd, commands, sizeof(commands), MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN))
            return NULL;
        have += n > 0 ? (size_t)n : 0;
        while (left > 0 || have >= COMMAND_BYTES) {
            if (left == 0) {
                have -= COMMAND_BYTES;
                left = STREAM_BYTES;
            }
            n = send(fd, answer + STREAM_BYTES - left, left, MSG_DONTWAIT | MSG_NOSIGNAL);
            if (n < 0 && errno != EAGAIN)
                return NULL;
            if (n < 0)
                break;
            left -= (size_t)n;
        }
    }
}

static int run_stream(double seconds) {
    enum { SLOT = STREAM_PAYLOAD + 4096 };
    int client, server;
    char command[COMMAND_BYTES] = {0}, *slots = aligned_alloc(4096, (size_t)STREAM_DEPTH * SLOT);
    memset(slots, 0, (size_t)STREAM_DEPTH * SLOT);
    connect_pair(&client, &server);
    pthread_t thread;
    pthread_create(&thread, NULL, serve_stream, &server);
    pin(0);
    double start = now_s(), end = start + seconds;
    for (int i = 0; i < STREAM_DEPTH; i++)
        if (!move(client, command, COMMAND_BYTES, true))
            fail("exchange");
    uint64_t count = 0;
    do
        for (int i = 0; i < STREAM_DEPTH; i++, count++)
            if (!move(client, slots + (size_t)i * SLOT, STREAM_BYTES, false) || !move(client, command, COMMAND_BYTES, true))
                fail("exchange");
    while (now_s() < end);
    printf("{\"us\":%.3f}\n", (now_s() - start) * 1e6 / (double)count);
    shutdown(client, SHUT_RDWR);
    pthread_join(thread, NULL);
    free(slots);
    return 0;
}

int main(int argc, char **argv) {
    double seconds = argc >= 3 ? strtod(argv[2], NULL) : 0;
    if (seconds > 0 && argc == 5 && strcmp(argv[1], "sync") == 0)
        return run_sync(seconds, argv[3], (unsigned)atoi(argv[4]));
    if (seconds > 0 && argc == 4 && strcmp(argv[1], "fan") == 0)
        return run_fan(seconds, (unsigned)atoi(argv[3]));
    if (seconds > 0 && argc == 4 && strcmp(argv[1], "scattered") == 0)
        return run_scattered(seconds, (size_t)atoi(argv[3]) << 10);
    if (seconds > 0 && strcmp(argv[1], "memcpy") == 0)
        return run_memcpy(seconds);
    if (seconds > 0 && strcmp(argv[1], "polled") == 0)
        return run_polled(seconds);
    if (seconds > 0 && strcmp(argv[1], "stream") == 0)
        return run_stream(seconds);
    fprintf(stderr, "usage: bare memcpy|polled|stream SECONDS, bare scattered SECONDS KIB, bare fan SECONDS N, or bare sync "
                    "SECONDS FILE THREADS\n");
    return EXIT_FAILURE;
}
