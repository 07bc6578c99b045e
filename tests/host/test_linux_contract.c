/* The contract's cases on host/linux: files on disk by io_uring, by helper threads, and on tmpfs. */
#include "contract.h"

#include <dirent.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "host/linux/linux.h"

static const struct way {
    const char *name, *where;
    bool no_io_uring;
} ways[] = {{"io_uring", ".", false}, {"threads", ".", true}, {"tmpfs", "/dev/shm", false}};

static bool wait(struct fixture *fixture, bool (*condition)(void *arg), void *arg) {
    uint64_t until_ns = host_now_ns(fixture->host) + 60 * NS_PER_S;
    while (!condition(arg)) {
        if (host_now_ns(fixture->host) > until_ns)
            return false;
        struct timespec pause = {.tv_nsec = 50000};
        nanosleep(&pause, NULL);
    }
    return true;
}

static void remove_folder(const char *path) {
    DIR *folder = opendir(path);
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            unlinkat(dirfd(folder), entry->d_name, 0);
    closedir(folder);
    assert_int_equal(rmdir(path), 0);
}

static bool has_ipv6(void) {
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    bool has = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
    if (fd >= 0)
        close(fd);
    return has;
}

static void each_way(void **state) {
    const struct CMUnitTest *test = *state;
    for (size_t i = 0; i < array_count(ways); i++) {
        if (access(ways[i].where, W_OK) != 0)
            continue;
        print_message("%s\n", ways[i].name);
        struct host_linux_options options = {.no_io_uring = ways[i].no_io_uring};
        struct fixture fixture = {.wait = wait, .no_ipv6 = !has_ipv6()};
        assert_int_equal(host_linux_create(&options, &fixture.host), 0);
        snprintf(fixture.directory, sizeof(fixture.directory), "%s/penstock-contract-XXXXXX", ways[i].where);
        assert_non_null(mkdtemp(fixture.directory));
        void *argument = &fixture;
        test->test_func(&argument);
        host_linux_destroy(fixture.host);
        remove_folder(fixture.directory);
    }
}

int main(void) {
    struct CMUnitTest *tests = calloc(contract_case_count, sizeof(*tests));
    if (tests == NULL)
        return 1;
    for (size_t i = 0; i < contract_case_count; i++)
        tests[i] = (struct CMUnitTest){contract_cases[i].name, each_way, NULL, NULL, (void *)(uintptr_t)&contract_cases[i]};
    int failed = _cmocka_run_group_tests("host/linux: the contract", tests, contract_case_count, NULL, NULL);
    free(tests);
    return failed;
}
