/* A frame every 3 ms from one interface to another, by whoever hands it on in between and sleeps until it comes. The time from
 * before the send() until recv() has it. frame_wake FROM TO ROUNDS [NEAR_FROM NEAR_TO]: with the last two, the near ends of the
 * veths, a process of its own hands the frames on with a blocking recv() and a send(), which is what the machine itself
 * takes. Prints {"us": [...]}, sorted. */
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { TYPE = 0x88b5, FRAME_BYTES = 60, PAUSE_NS = 3000000, ROUNDS_MAX = 100000 };

static double now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec * 1e-3;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static int open_interface(const char *name) {
    int one = 1, fd = socket(AF_PACKET, SOCK_RAW, 0);
    struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(TYPE), .sll_ifindex = (int)if_nametoindex(name)};
    struct timeval limit = {.tv_sec = 5};
    if (fd < 0 || setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one)) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) != 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
        fail(name);
    return fd;
}

static void hand_on(int from, int to) {
    uint8_t frame[2048];
    for (;;) {
        ssize_t n = recv(from, frame, sizeof(frame), 0);
        if (n > 0 && send(to, frame, (size_t)n, 0) != n)
            fail("send");
    }
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

int main(int argc, char **argv) {
    static double took[ROUNDS_MAX];
    if (argc != 4 && argc != 6)
        return 64;
    unsigned long rounds = strtoul(argv[3], NULL, 10);
    int from = open_interface(argv[1]), to = open_interface(argv[2]);
    if (rounds < 1 || rounds > ROUNDS_MAX)
        return 64;
    if (argc == 6) {
        int near_from = open_interface(argv[4]), near_to = open_interface(argv[5]);
        pid_t me = getpid(), other = fork();
        if (other < 0)
            fail("fork");
        if (other == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (getppid() == me)
                hand_on(near_from, near_to);
            return 1;
        }
    }
    for (unsigned long i = 0; i < rounds; i++) {
        struct timespec pause = {.tv_nsec = PAUSE_NS};
        uint8_t frame[FRAME_BYTES] = {0xfa, 0x16, 0x3e, 0, 0, 1, 2, 0, 0, 0, 0, 1, TYPE >> 8, TYPE & 255}, got[FRAME_BYTES + 1];
        memcpy(frame + 14, &i, sizeof(i));
        nanosleep(&pause, NULL);
        double begin = now_us();
        if (send(from, frame, sizeof(frame), 0) != sizeof(frame))
            fail("send");
        if (recv(to, got, sizeof(got), 0) != sizeof(frame) || memcmp(frame, got, sizeof(frame)) != 0)
            fail("the frame that came");
        took[i] = now_us() - begin;
    }
    qsort(took, rounds, sizeof(*took), compare);
    printf("{\"us\": [");
    for (unsigned long i = 0; i < rounds; i++)
        printf("%s%.2f", i == 0 ? "" : ", ", took[i]);
    printf("]}\n");
    return 0;
}
