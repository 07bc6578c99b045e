#include "members.h"

#include <assert.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
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

/* In the abstract name space. False: somebody has it. */
static bool bind_name(int fd, const char *address) {
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int length = snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, "penstock-test-%s", address);
    return bind(fd, (struct sockaddr *)&name, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length)) == 0;
}

/* An address of 127/8 that no test beside has, as in tests/support/addresses.py. Not a port of 127.0.0.1 that is free at this
 * moment: any connection may leave from it before a member listens there, or while it is dead. */
static void hold_address(struct members *members) {
    do {
        if (members->holder > 0)
            close(members->holder);
        uint8_t bytes[3];
        if (getentropy(bytes, sizeof(bytes)) != 0)
            abort();
        snprintf(members->address, sizeof(members->address), "127.%u.%u.%u", 16 + bytes[0] % 235u, 1 + bytes[1] % 250u,
                 1 + bytes[2] % 250u);
        members->holder = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    } while (members->holder >= 0 && !bind_name(members->holder, members->address));
    assert(members->holder >= 0);
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
    snprintf(client, sizeof(client), "%s://%s:%u", members->tls ? "https" : "http", members->address,
             members->client_ports[index]);
    snprintf(peer, sizeof(peer), "http://%s:%u", members->address, members->peer_ports[index]);
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

struct host_address member_address(const struct members *members, unsigned index) {
    struct host_address address = {.family = HOST_IPV4, .port = members->client_ports[index]};
    snprintf(address.text, sizeof(address.text), "%s", members->address);
    return address;
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
    hold_address(members);
    snprintf(members->folder, sizeof(members->folder), "%s/penstock-etcd-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : ".");
    if (mkdtemp(members->folder) == NULL)
        abort();
    snprintf(members->token, sizeof(members->token), "%s", strrchr(members->folder, '-') + 1);
    if (prepare != NULL)
        prepare(members->folder);
    size_t length = 0;
    for (unsigned i = 0; i < count; i++) {
        members->client_ports[i] = (uint16_t)(2379 + 2 * i);
        members->peer_ports[i] = (uint16_t)(2380 + 2 * i);
        length += (size_t)snprintf(members->cluster + length, sizeof(members->cluster) - length, "%sm%u=http://%s:%u",
                                   i > 0 ? "," : "", i, members->address, members->peer_ports[i]);
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
    close(members->holder);
    free(members);
}
