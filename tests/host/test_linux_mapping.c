/* Memory of others that goes away under us. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/linux/linux.h"

#define SIZE ((size_t)1 << 20)

/* A file of somebody's, mapped by us. */
static uint8_t *map(int *ret_file) {
    int file = memfd_create("guest", MFD_CLOEXEC);
    assert_true(file >= 0);
    assert_int_equal(ftruncate(file, SIZE), 0);
    uint8_t *bytes = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    assert_ptr_not_equal(bytes, MAP_FAILED);
    memset(bytes, 0x5a, SIZE);
    *ret_file = file;
    return bytes;
}

/* In each test: cmocka catches the signal itself, before. */
static void guard(void) { assert_int_equal(host_linux_guard_mappings(), 0); }

static void unmap(uint8_t *bytes, int file) {
    munmap(bytes, SIZE);
    close(file);
}

static void test_what_is_gone_reads_as_zeros_and_is_told(void **state) {
    (void)state;
    guard();
    int file, other_file;
    uint8_t *bytes = map(&file), *other = map(&other_file);
    unsigned before = host_linux_lost_mappings();
    assert_int_equal(ftruncate(file, 4096), 0);
    assert_int_equal(*(volatile uint8_t *)(bytes + 4096 * 7 + 5), 0);
    bytes[SIZE - 1] = 1; /* and can be written */
    assert_int_equal(host_linux_lost_mappings(), before + 1);
    assert_true(host_linux_lost_mapping(before, bytes, SIZE));
    assert_true(host_linux_lost_mapping(before, bytes + SIZE - 1, 1));
    assert_false(host_linux_lost_mapping(before, bytes + SIZE, 1));
    assert_false(host_linux_lost_mapping(before + 1, bytes, SIZE));
    assert_false(host_linux_lost_mapping(before, other, SIZE));
    for (size_t i = 0; i < SIZE; i++)
        assert_int_equal(other[i], 0x5a);
    unmap(bytes, file);
    unmap(other, other_file);
}

/* As memory of others is: nobody's order protects it (ThreadSanitizer takes the handler's mmap() for a write to it). */
__attribute__((no_sanitize("thread"))) static void *reader(void *arg) {
    uint64_t sum = 0;
    for (size_t i = 0; i < SIZE; i += 512)
        sum += ((volatile uint8_t *)arg)[i];
    return (void *)(uintptr_t)(sum > 0);
}

static void test_many_threads_meet_it_at_once(void **state) {
    (void)state;
    guard();
    for (unsigned round = 0; round < 50; round++) {
        int file;
        uint8_t *bytes = map(&file);
        pthread_t threads[4];
        unsigned before = host_linux_lost_mappings();
        assert_int_equal(ftruncate(file, 0), 0);
        for (unsigned i = 0; i < 4; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, reader, bytes), 0);
        for (unsigned i = 0; i < 4; i++) {
            void *result;
            pthread_join(threads[i], &result);
            assert_null(result);
        }
        assert_int_equal(host_linux_lost_mappings(), before + 1);
        unmap(bytes, file);
    }
}

/* More than are remembered: who asks about the forgotten hears yes. */
static void test_what_is_forgotten_counts_as_lost(void **state) {
    (void)state;
    guard();
    unsigned before = host_linux_lost_mappings();
    uint8_t here = 0;
    for (unsigned i = 0; i < 257; i++) {
        int file;
        uint8_t *bytes = map(&file);
        assert_int_equal(ftruncate(file, 0), 0);
        assert_int_equal(*(volatile uint8_t *)bytes, 0);
        unmap(bytes, file);
    }
    assert_true(host_linux_lost_mapping(before, &here, 1));
    assert_false(host_linux_lost_mapping(before + 1, &here, 1));
}

/* A signal that somebody sends is none of this. */
static void test_another_bus_error_ends_the_process(void **state) {
    (void)state;
    guard();
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        raise(SIGBUS);
        raise(SIGBUS); /* the first one gave the signal back its old meaning */
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_gone_reads_as_zeros_and_is_told),
        cmocka_unit_test(test_many_threads_meet_it_at_once),
        cmocka_unit_test(test_what_is_forgotten_counts_as_lost),
        cmocka_unit_test(test_another_bus_error_ends_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
