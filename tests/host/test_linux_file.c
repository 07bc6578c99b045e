/* host/linux: files and block devices, on disk and on tmpfs, by io_uring and by helper threads. */
#include "loop_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/magic.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include "base/random.h"

enum { PAGE = 4096 };

/* What the tests run over: the cross of engine and medium. */
struct world {
    bool no_io_uring, in_memory;
    const char *name;
};
static const struct world worlds[] = {
    {false, false, "io_uring on disk"},
    {true, false, "threads on disk"},
    {false, true, "tmpfs"},
};

struct bench {
    struct loop_fixture fixture;
    struct host *host;
    char folder[128], path[256];
    sem_t done;
};

static void set_up(struct bench *bench, const struct world *world) {
    bench->host = make_host(world->no_io_uring);
    loop_fixture_start(&bench->fixture, bench->host, HOST_POLL_ADAPTIVE, -1);
    make_folder(world->in_memory, bench->folder, sizeof(bench->folder));
    snprintf(bench->path, sizeof(bench->path), "%s/disk", bench->folder);
    sem_init(&bench->done, 0, 0);
}

static void tear_down(struct bench *bench) {
    loop_fixture_stop(&bench->fixture);
    host_linux_destroy(bench->host);
    remove_folder(bench->folder);
    sem_destroy(&bench->done);
}

/* ---- opening ---- */

struct opening {
    struct host_file_open open;
    struct bench *bench;
};
static void opened(struct host_file_open *open) {
    struct opening *o = container_of(open, struct opening, open);
    assert(pthread_equal(pthread_self(), o->bench->fixture.thread));
    sem_post(&o->bench->done);
}
static void submit_open(void *arg) {
    struct opening *o = arg;
    host_file_open_submit(o->bench->fixture.loop, &o->open);
}
/* Opens and waits. The result is in *ret. */
static bool open_file(struct bench *bench, const char *path, struct host_file_options options, struct opening *ret) {
    *ret = (struct opening){.open = {.path = path, .options = options, .done = opened}, .bench = bench};
    loop_fixture_run(&bench->fixture, submit_open, ret);
    wait_for(&bench->done);
    return ret->open.ok;
}
static struct host_file *must_open(struct bench *bench, struct host_file_options options, struct host_file_facts *ret_facts) {
    struct opening o;
    if (!open_file(bench, bench->path, options, &o))
        fail_msg("%s", o.open.error.text);
    if (ret_facts != NULL)
        *ret_facts = o.open.facts;
    return o.open.file;
}
#define EXPECT_OPEN_ERROR(bench, path, expected_code, expected_text, ...)                                                        \
    do {                                                                                                                         \
        struct opening o_;                                                                                                       \
        assert_false(open_file(bench, path, (struct host_file_options){__VA_ARGS__}, &o_));                                      \
        assert_int_equal(o_.open.error.code, expected_code);                                                                     \
        if (strstr(o_.open.error.text, expected_text) == NULL)                                                                   \
            fail_msg("\"%s\" lacks \"%s\"", o_.open.error.text, expected_text);                                                  \
    } while (0)

/* ---- requests ---- */

struct io {
    struct host_file_request request;
    struct bench *bench;
    bool inside_submit, complete;
};
static void io_completed(struct host_file_request *request) {
    struct io *io = container_of(request, struct io, request);
    assert(!io->inside_submit);
    assert(!io->complete);
    assert(pthread_equal(pthread_self(), io->bench->fixture.thread));
    io->complete = true;
    sem_post(&io->bench->done);
}
struct io_batch {
    struct io *ios;
    size_t count;
};
static void submit_ios(void *arg) {
    struct io_batch *batch = arg;
    for (size_t i = 0; i < batch->count; i++) {
        struct io *io = &batch->ios[i];
        io->inside_submit = true;
        host_file_submit(io->bench->fixture.loop, &io->request);
        io->inside_submit = false;
    }
}
static void run_ios(struct bench *bench, struct io *ios, size_t count) {
    for (size_t i = 0; i < count; i++) {
        ios[i].bench = bench;
        ios[i].complete = false;
        ios[i].request.complete = io_completed;
        ios[i].request.result = INT64_MIN;
    }
    loop_fixture_run(&bench->fixture, submit_ios, &(struct io_batch){ios, count});
    for (size_t i = 0; i < count; i++)
        wait_for(&bench->done);
}
static int64_t run_io(struct bench *bench, struct host_file *file, enum host_file_op op, uint64_t offset, uint64_t length,
                      const struct slice *slices, uint32_t count) {
    struct io io = {
        .request = {.file = file, .op = op, .offset = offset, .length = length, .slices = slices, .slice_count = count}};
    run_ios(bench, &io, 1);
    return io.request.result;
}
static int64_t read_at(struct bench *bench, struct host_file *file, uint64_t offset, void *to, size_t length) {
    return run_io(bench, file, HOST_FILE_READ, offset, length, &(struct slice){to, length}, 1);
}
static int64_t write_at(struct bench *bench, struct host_file *file, uint64_t offset, void *from, size_t length) {
    return run_io(bench, file, HOST_FILE_WRITE, offset, length, &(struct slice){from, length}, 1);
}

static char *aligned(size_t length) {
    char *memory = aligned_alloc(PAGE, length);
    assert_non_null(memory);
    memset(memory, 0, length);
    return memory;
}

/* ---- tests over all worlds ---- */

static void facts_are_right(struct bench *bench, const struct world *world) {
    struct host_file_facts facts, again;
    struct host_file *file =
        must_open(bench, (struct host_file_options){.create = true, .create_size = MIB(8), .direct = true}, &facts);
    struct stat stat_of;
    struct statfs fs;
    assert_int_equal(stat(bench->path, &stat_of), 0);
    assert_int_equal(statfs(bench->folder, &fs), 0);
    assert_int_equal(stat_of.st_mode & 07777, 0600);
    assert_int_equal(facts.size, MIB(8));
    assert_int_equal(facts.device, stat_of.st_dev);
    assert_int_equal(facts.inode, stat_of.st_ino);
    assert_false(facts.block_device);
    assert_int_equal(facts.in_memory, fs.f_type == TMPFS_MAGIC);
    assert_true(is_power_of_two(facts.physical_block) && facts.physical_block >= 512);
    if (facts.direct) {
        assert_false(facts.in_memory);
        assert_true(facts.logical_block >= 512 && is_power_of_two(facts.logical_block));
    } else {
        assert_int_equal(facts.logical_block, 1);
    }
    if (world->in_memory || fs.f_type == EXT4_SUPER_MAGIC || fs.f_type == XFS_SUPER_MAGIC) {
        assert_int_equal(facts.direct, !world->in_memory);
        assert_true(facts.can_punch && facts.can_zero);
    }
    /* The same file by another name is recognised; buffered takes any alignment. */
    char other[256];
    snprintf(other, sizeof(other), "%s/other", bench->folder);
    assert_int_equal(link(bench->path, other), 0);
    struct opening o;
    assert_true(open_file(bench, other, (struct host_file_options){0}, &o));
    again = o.open.facts;
    assert_true(again.device == facts.device && again.inode == facts.inode);
    assert_false(again.direct);
    assert_int_equal(again.logical_block, 1);
    assert_int_equal(again.memory_alignment, 1);
    host_file_close(o.open.file);
    host_file_close(file);
    if (world->no_io_uring)
        assert_false(host_linux_uses_io_uring(bench->host));
}

/* Random overlapping-free writes of many sizes and slice counts against a copy in memory. */
static void bytes_come_back(struct bench *bench, const struct world *world) {
    (void)world;
    enum { BLOCKS = 256, ROUNDS = 40, WIDTH = 8 };
    struct host_file_facts facts;
    struct host_file *file = must_open(
        bench, (struct host_file_options){.create = true, .create_size = BLOCKS * PAGE, .direct = true, .hold = true}, &facts);
    char *model = aligned(BLOCKS * PAGE), *read_back = aligned(BLOCKS * PAGE), *buffers = aligned(BLOCKS * PAGE);
    struct random random;
    random_init(&random, 42);
    for (int round = 0; round < ROUNDS; round++) {
        struct io ios[WIDTH];
        struct slice slices[WIDTH][32];
        for (size_t i = 0; i < WIDTH; i++) { /* each in its own eighth of the file */
            uint64_t first = i * (BLOCKS / WIDTH) + random_below(&random, BLOCKS / WIDTH);
            uint64_t blocks = 1 + random_below(&random, (i + 1) * (BLOCKS / WIDTH) - first);
            char *from = buffers + first * PAGE;
            for (uint64_t b = 0; b < blocks * PAGE; b += 8)
                put_le64(from + b, random_u64(&random));
            memcpy(model + first * PAGE, from, blocks * PAGE);
            uint32_t count = 1;
            if (random_chance(&random, 1, 2)) { /* a slice a block */
                count = (uint32_t)blocks;
                for (uint32_t n = 0; n < count; n++)
                    slices[i][n] = (struct slice){from + (size_t)n * PAGE, PAGE};
            } else {
                slices[i][0] = (struct slice){from, blocks * PAGE};
            }
            ios[i] = (struct io){.request = {.file = file,
                                             .op = HOST_FILE_WRITE,
                                             .offset = first * PAGE,
                                             .length = blocks * PAGE,
                                             .slices = slices[i],
                                             .slice_count = count}};
        }
        run_ios(bench, ios, WIDTH);
        for (size_t i = 0; i < WIDTH; i++)
            assert_int_equal(ios[i].request.result, ios[i].request.length);
    }
    assert_int_equal(run_io(bench, file, HOST_FILE_SYNC, 0, 0, NULL, 0), 0);
    assert_int_equal(read_at(bench, file, 0, read_back, BLOCKS * PAGE), BLOCKS * PAGE);
    assert_memory_equal(read_back, model, BLOCKS * PAGE);
    /* The most slices one request may have. */
    struct slice most[HOST_FILE_SLICES_MAX];
    memset(read_back, 0, BLOCKS * PAGE);
    for (size_t i = 0; i < HOST_FILE_SLICES_MAX; i++)
        most[i] = (struct slice){read_back + (HOST_FILE_SLICES_MAX - 1 - i) * PAGE, PAGE};
    assert_int_equal(run_io(bench, file, HOST_FILE_READ, 0, BLOCKS * PAGE, most, HOST_FILE_SLICES_MAX), BLOCKS * PAGE);
    for (size_t i = 0; i < BLOCKS; i++)
        assert_memory_equal(most[i].base, model + i * PAGE, PAGE);
    host_file_close(file);
    free(model);
    free(read_back);
    free(buffers);
}

static void the_end_of_the_file_is_short(struct bench *bench, const struct world *world) {
    (void)world;
    struct host_file *file =
        must_open(bench, (struct host_file_options){.create = true, .create_size = 3 * PAGE, .direct = true}, NULL);
    char *buffer = aligned(8 * PAGE);
    assert_int_equal(read_at(bench, file, PAGE, buffer, 8 * PAGE), 2 * PAGE);
    assert_int_equal(read_at(bench, file, 3 * PAGE, buffer, PAGE), 0);
    struct slice two[2] = {{buffer, PAGE}, {buffer + PAGE, 7 * PAGE}};
    assert_int_equal(run_io(bench, file, HOST_FILE_READ, PAGE, 8 * PAGE, two, 2), 2 * PAGE);
    uint64_t size;
    assert_int_equal(host_file_size(file, &size), 0);
    assert_int_equal(size, 3 * PAGE);
    assert_int_equal(host_file_truncate(file, 16 * PAGE), 0);
    assert_int_equal(host_file_size(file, &size), 0);
    assert_int_equal(size, 16 * PAGE);
    assert_int_equal(read_at(bench, file, PAGE, buffer, 8 * PAGE), 8 * PAGE);
    assert_int_equal(host_file_truncate(file, UINT64_MAX), -EFBIG);
    host_file_close(file);
    free(buffer);
}

static void punched_and_zeroed_ranges_read_zero(struct bench *bench, const struct world *world) {
    enum { BLOCKS = 1024 }; /* 4 MiB: on tmpfs also more than is freed inside a turn */
    struct host_file_facts facts;
    struct host_file *file =
        must_open(bench, (struct host_file_options){.create = true, .create_size = BLOCKS * PAGE, .direct = true}, &facts);
    char *data = aligned(BLOCKS * PAGE), *read_back = aligned(BLOCKS * PAGE);
    memset(data, 0xa5, BLOCKS * PAGE);
    assert_int_equal(write_at(bench, file, 0, data, BLOCKS * PAGE), BLOCKS * PAGE);
    assert_int_equal(run_io(bench, file, HOST_FILE_SYNC, 0, 0, NULL, 0), 0);
    struct stat before, after;
    assert_int_equal(stat(bench->path, &before), 0);
    if (facts.can_punch) {
        assert_int_equal(run_io(bench, file, HOST_FILE_PUNCH, 4 * PAGE, 600 * PAGE, NULL, 0), 0);
        memset(data + 4 * PAGE, 0, 600 * PAGE);
    }
    assert_int_equal(run_io(bench, file, HOST_FILE_ZERO, 700 * PAGE, 2 * PAGE, NULL, 0), 0);
    memset(data + 700 * PAGE, 0, 2 * PAGE);
    assert_int_equal(run_io(bench, file, HOST_FILE_ZERO, 710 * PAGE, 300 * PAGE, NULL, 0), 0);
    memset(data + 710 * PAGE, 0, 300 * PAGE);
    assert_int_equal(read_at(bench, file, 0, read_back, BLOCKS * PAGE), BLOCKS * PAGE);
    assert_memory_equal(read_back, data, BLOCKS * PAGE);
    assert_int_equal(stat(bench->path, &after), 0);
    assert_int_equal(after.st_size, BLOCKS * PAGE);
    if (facts.can_punch && world->in_memory)
        assert_true(after.st_blocks < before.st_blocks);
    host_file_close(file);
    free(data);
    free(read_back);
}

static void failures_are_told(struct bench *bench, const struct world *world) {
    (void)world;
    host_file_close(must_open(bench, (struct host_file_options){.create = true, .create_size = 4 * PAGE}, NULL));
    struct host_file *file = must_open(bench, (struct host_file_options){.read_only = true}, NULL);
    char *buffer = aligned(PAGE);
    assert_int_equal(write_at(bench, file, 0, buffer, PAGE), -EBADF);
    assert_int_equal(run_io(bench, file, HOST_FILE_ZERO, 0, PAGE, NULL, 0), -EBADF);
    assert_int_equal(run_io(bench, file, HOST_FILE_READ, 0, PAGE, &(struct slice){(void *)PAGE, PAGE}, 1), -EFAULT);
    host_file_close(file);
    free(buffer);
}

/* More at once than the ring holds: all complete, each once. */
static void a_flood_completes(struct bench *bench, const struct world *world) {
    (void)world;
    enum { FLOOD = 3000 };
    struct host_file *file = must_open(bench, (struct host_file_options){.create = true, .create_size = FLOOD * 512}, NULL);
    char *buffer = aligned(round_up(FLOOD * 512, PAGE));
    struct io *ios = calloc(FLOOD, sizeof(*ios));
    struct slice *slices = calloc(FLOOD, sizeof(*slices));
    for (int way = 0; way < 2; way++) {
        for (size_t i = 0; i < FLOOD; i++) {
            slices[i] = (struct slice){buffer + i * 512, 512};
            if (way == 0)
                memset(slices[i].base, (int)(i % 251), 512);
            ios[i] = (struct io){.request = {.file = file,
                                             .op = way == 0 ? HOST_FILE_WRITE : HOST_FILE_READ,
                                             .offset = i * 512,
                                             .length = 512,
                                             .slices = &slices[i],
                                             .slice_count = 1}};
        }
        run_ios(bench, ios, FLOOD);
        for (size_t i = 0; i < FLOOD; i++) {
            assert_int_equal(ios[i].request.result, 512);
            assert_int_equal(buffer[i * 512 + 511], (char)(i % 251));
        }
        memset(buffer, 0, FLOOD * 512);
    }
    host_file_close(file);
    free(slices);
    free(ios);
    free(buffer);
}

static void a_held_file_is_refused_and_waited_for(struct bench *bench, const struct world *world) {
    (void)world;
    struct host_file_options hold = {.create = true, .create_size = PAGE, .hold = true};
    struct host_file *file = must_open(bench, hold, NULL);
    char mine[64];
    snprintf(mine, sizeof(mine), "is held by process %d (", (int)getpid());
    EXPECT_OPEN_ERROR(bench, bench->path, ERROR_BUSY, mine, .hold = true);
    EXPECT_OPEN_ERROR(bench, bench->path, ERROR_BUSY, mine, .hold = true, .read_only = true, .hold_timeout_ms = 5);
    /* Without asking to hold it, it opens: that is the caller's business. */
    host_file_close(must_open(bench, (struct host_file_options){.read_only = true}, NULL));

    /* Whoever waits gets it as soon as it is free. */
    struct opening waiting = {.open = {.path = bench->path, .options = {.hold = true, .hold_timeout_ms = 60000}, .done = opened},
                              .bench = bench};
    loop_fixture_run(&bench->fixture, submit_open, &waiting);
    struct timespec pause = {.tv_nsec = 10000000};
    nanosleep(&pause, NULL);
    host_file_close(file);
    wait_for(&bench->done);
    assert_true(waiting.open.ok);
    host_file_close(waiting.open.file);

    /* Readers share it, and keep writers out. */
    struct host_file *reader = must_open(bench, (struct host_file_options){.hold = true, .read_only = true}, NULL);
    host_file_close(must_open(bench, (struct host_file_options){.hold = true, .read_only = true}, NULL));
    EXPECT_OPEN_ERROR(bench, bench->path, ERROR_BUSY, "is held by", .hold = true);
    host_file_close(reader);
}

static void what_cannot_be_opened_says_why(struct bench *bench, const struct world *world) {
    (void)world;
    char path[300];
    EXPECT_OPEN_ERROR(bench, bench->path, ERROR_NOT_FOUND, bench->path, 0);
    EXPECT_OPEN_ERROR(bench, bench->folder, ERROR_INVALID, "neither a regular file nor a block device", .read_only = true);
    EXPECT_OPEN_ERROR(bench, "/dev/null", ERROR_INVALID, "neither", 0);
    snprintf(path, sizeof(path), "%s/no/such/folder", bench->folder);
    EXPECT_OPEN_ERROR(bench, path, ERROR_NOT_FOUND, "No such file", .create = true);
    /* What could not be made whole is not left behind. */
    EXPECT_OPEN_ERROR(bench, bench->path, ERROR_NO_SPACE, "cannot size", .create = true, .create_size = UINT64_MAX);
    assert_int_equal(access(bench->path, F_OK), -1);
    snprintf(path, sizeof(path), "%s/fifo", bench->folder);
    assert_int_equal(mkfifo(path, 0600), 0);
    EXPECT_OPEN_ERROR(bench, path, ERROR_INVALID, "neither", .read_only = true); /* and does not hang */
}

static void over_all_worlds(void (*test)(struct bench *bench, const struct world *world)) {
    for (size_t i = 0; i < array_count(worlds); i++) {
        if (worlds[i].in_memory && access("/dev/shm", W_OK) != 0)
            continue;
        struct bench bench;
        set_up(&bench, &worlds[i]);
        test(&bench, &worlds[i]);
        tear_down(&bench);
    }
}
#define OVER_ALL_WORLDS(name)                                                                                                    \
    static void test_##name(void **state) {                                                                                      \
        (void)state;                                                                                                             \
        over_all_worlds(name);                                                                                                   \
    }
OVER_ALL_WORLDS(facts_are_right)
OVER_ALL_WORLDS(bytes_come_back)
OVER_ALL_WORLDS(the_end_of_the_file_is_short)
OVER_ALL_WORLDS(punched_and_zeroed_ranges_read_zero)
OVER_ALL_WORLDS(failures_are_told)
OVER_ALL_WORLDS(a_flood_completes)
OVER_ALL_WORLDS(a_held_file_is_refused_and_waited_for)
OVER_ALL_WORLDS(what_cannot_be_opened_says_why)

/* ---- where the kernel refuses io_uring ---- */

static void count_log(void *arg, const char *text) {
    assert(strstr(text, "io_uring is not available") != NULL);
    ++*(_Atomic unsigned *)arg;
}

/* As the default seccomp profile of containers does. */
static void refuse_io_uring(void) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = array_count(filter), .filter = filter};
    assert(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    assert(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

static void in_a_container(void) {
    refuse_io_uring();
    _Atomic unsigned said = 0;
    struct host_linux_options options = {.log = count_log, .log_arg = (void *)&said};
    struct bench bench, other;
    set_up(&bench, &worlds[0]);
    /* Two loops on one host with a log: it is said once. */
    loop_fixture_stop(&bench.fixture);
    host_linux_destroy(bench.host);
    assert(host_linux_create(&options, &bench.host) == 0);
    loop_fixture_start(&bench.fixture, bench.host, HOST_POLL_ADAPTIVE, -1);
    memset(&other, 0, sizeof(other));
    other.host = bench.host;
    loop_fixture_start(&other.fixture, bench.host, HOST_POLL_ADAPTIVE, -1);
    sem_init(&other.done, 0, 0);
    struct host_file *file =
        must_open(&bench, (struct host_file_options){.create = true, .create_size = 64 * PAGE, .direct = true}, NULL);
    char *out = aligned(PAGE), *in = aligned(PAGE);
    memset(out, 0x3c, PAGE);
    for (uint64_t i = 0; i < 64; i++) {
        struct bench *on = i % 2 != 0 ? &bench : &other;
        assert(write_at(on, file, i * PAGE, out, PAGE) == PAGE);
        assert(run_io(on, file, HOST_FILE_SYNC, 0, 0, NULL, 0) == 0);
        assert(read_at(on, file, i * PAGE, in, PAGE) == PAGE);
        assert(memcmp(in, out, PAGE) == 0);
    }
    assert(said == 1);
    assert(!host_linux_uses_io_uring(bench.host));
    host_file_close(file);
    loop_fixture_stop(&other.fixture);
    tear_down(&bench);
    free(out);
    free(in);
}

static void a_refused_io_uring_is_said_once_and_replaced(void **state) {
    (void)state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        in_a_container();
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

/* Rule 7 of the store: what a killed process had in flight has landed once its lock can be had. */
static void a_killed_holder_frees_the_file(void **state) {
    (void)state;
    struct bench bench;
    set_up(&bench, &worlds[0]);
    host_file_close(must_open(&bench, (struct host_file_options){.create = true, .create_size = PAGE}, NULL));
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        int fd = open(bench.path, O_RDWR);
        char byte = flock(fd, LOCK_EX) == 0;
        if (write(ready[1], &byte, 1) == 1)
            for (;;)
                pause();
        _exit(1);
    }
    char byte = 0;
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(byte, 1);
    char expected[64];
    snprintf(expected, sizeof(expected), "is held by process %d (test_linux_file)", (int)child);
    EXPECT_OPEN_ERROR(&bench, bench.path, ERROR_BUSY, expected, .hold = true);
    kill(child, SIGKILL);
    host_file_close(must_open(&bench, (struct host_file_options){.hold = true, .hold_timeout_ms = 60000}, NULL));
    waitpid(child, NULL, 0);
    close(ready[0]);
    close(ready[1]);
    tear_down(&bench);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_facts_are_right),
        cmocka_unit_test(test_bytes_come_back),
        cmocka_unit_test(test_the_end_of_the_file_is_short),
        cmocka_unit_test(test_punched_and_zeroed_ranges_read_zero),
        cmocka_unit_test(test_failures_are_told),
        cmocka_unit_test(test_a_flood_completes),
        cmocka_unit_test(test_a_held_file_is_refused_and_waited_for),
        cmocka_unit_test(test_what_cannot_be_opened_says_why),
        cmocka_unit_test(a_refused_io_uring_is_said_once_and_replaced),
        cmocka_unit_test(a_killed_holder_frees_the_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
