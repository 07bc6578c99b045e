#include "members.h"

#include <arpa/inet.h>
#include <assert.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *program(void) {
    const char *given = getenv("PENSTOCK_ETCD");
    return given != NULL && access(given, X_OK) == 0 ? given : "etcd";
}

bool members_possible(void) {
    pid_t child = fork();
    if (child == 0) {
        int null = open("/dev/null", O_RDWR);
        dup2(null, 1);
        dup2(null, 2);
        execlp(program(), "etcd", "--version", NULL);
        _exit(127);
    }
    int status;
    return waitpid(child, &status, 0) == child && status == 0;
}

/* A port that nobody has: it stays unused for a while after it was given back. */
static uint16_t free_port(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) != 0 || getsockname(fd, (struct sockaddr *)&address, &size) != 0)
        abort();
    close(fd);
    return ntohs(address.sin_port);
}

static void run(struct members *members, unsigned index) {
    char name[16], data[128], client[64], peer[64], ca[100], certificate[100], key[100], log[100];
    snprintf(log, sizeof(log), "%s/log%u", members->folder, index);
    int out = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600), null = open("/dev/null", O_RDONLY);
    dup2(null, 0);
    dup2(out, 1);
    dup2(out, 2);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    snprintf(name, sizeof(name), "m%u", index);
    snprintf(data, sizeof(data), "%s/data%u", members->folder, index);
    snprintf(client, sizeof(client), "%s://127.0.0.1:%u", members->tls ? "https" : "http", members->client_ports[index]);
    snprintf(peer, sizeof(peer), "http://127.0.0.1:%u", members->peer_ports[index]);
    snprintf(ca, sizeof(ca), "%s/ca.pem", members->folder);
    snprintf(certificate, sizeof(certificate), "%s/server.pem", members->folder);
    snprintf(key, sizeof(key), "%s/server-key.pem", members->folder);
    const char *arguments[40] = {"etcd",
                                 "--name",
                                 name,
                                 "--data-dir",
                                 data,
                                 "--listen-client-urls",
                                 client,
                                 "--advertise-client-urls",
                                 client,
                                 "--listen-peer-urls",
                                 peer,
                                 "--initial-advertise-peer-urls",
                                 peer,
                                 "--initial-cluster",
                                 members->cluster,
                                 "--initial-cluster-token",
                                 members->token,
                                 "--logger",
                                 "zap",
                                 "--log-level",
                                 "warn",
                                 "--heartbeat-interval",
                                 "50",
                                 "--election-timeout",
                                 "500"};
    unsigned count = 25;
    if (members->tls) {
        const char *more[] = {"--client-cert-auth", "--trusted-ca-file", ca, "--cert-file", certificate, "--key-file", key};
        memcpy(arguments + count, more, sizeof(more));
    }
    execvp(program(), (char *const *)(uintptr_t)arguments);
    _exit(127);
}

void member_start(struct members *members, unsigned index) {
    assert(members->pids[index] == 0);
    fflush(NULL);
    members->pids[index] = fork();
    if (members->pids[index] == 0)
        run(members, index);
}

void member_kill(struct members *members, unsigned index) {
    int status;
    kill(members->pids[index], SIGKILL);
    waitpid(members->pids[index], &status, 0);
    members->pids[index] = 0;
}

void member_freeze(struct members *members, unsigned index, bool freeze) {
    kill(members->pids[index], freeze ? SIGSTOP : SIGCONT);
}

struct members *members_start(unsigned count, void (*prepare)(const char *folder)) {
    struct members *members = calloc(1, sizeof(*members));
    assert(members != NULL && count <= MEMBERS_MAX);
    members->count = count;
    members->tls = prepare != NULL;
    snprintf(members->folder, sizeof(members->folder), "%s/penstock-etcd-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : ".");
    if (mkdtemp(members->folder) == NULL)
        abort();
    snprintf(members->token, sizeof(members->token), "%s", strrchr(members->folder, '-') + 1);
    if (prepare != NULL)
        prepare(members->folder);
    size_t length = 0;
    for (unsigned i = 0; i < count; i++) {
        members->client_ports[i] = free_port();
        members->peer_ports[i] = free_port();
        length += (size_t)snprintf(members->cluster + length, sizeof(members->cluster) - length, "%sm%u=http://127.0.0.1:%u",
                                   i > 0 ? "," : "", i, members->peer_ports[i]);
    }
    for (unsigned i = 0; i < count; i++)
        member_start(members, i);
    return members;
}

static int remove_one(const char *path, const struct stat *stat_of, int kind, struct FTW *place) {
    (void)stat_of;
    (void)kind;
    (void)place;
    return remove(path);
}

void members_stop(struct members *members) {
    for (unsigned i = 0; i < members->count; i++)
        if (members->pids[i] != 0)
            member_kill(members, i);
    nftw(members->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(members);
}
