/* What the machine gives without us, measured in the same minute as our own figures: its drift scales their bounds.
 *   bare memcpy SECONDS    nanoseconds to copy 4 KiB within 16 MiB
 *   bare polled SECONDS    microseconds of a loopback TCP exchange (72 bytes there, 4120 back), both ends polling
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
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { COMMAND_BYTES = 72, ANSWER_BYTES = 4120 };

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

static int run_polled(double seconds) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(at);
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&at, length) != 0 || listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&at, &length) != 0 || connect(client, (struct sockaddr *)&at, length) != 0)
        fail("loopback");
    int server = accept(listener, NULL, NULL);
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
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

int main(int argc, char **argv) {
    double seconds = argc == 3 ? strtod(argv[2], NULL) : 0;
    if (seconds > 0 && strcmp(argv[1], "memcpy") == 0)
        return run_memcpy(seconds);
    if (seconds > 0 && strcmp(argv[1], "polled") == 0)
        return run_polled(seconds);
    fprintf(stderr, "usage: bare memcpy|polled SECONDS\n");
    return EXIT_FAILURE;
}
