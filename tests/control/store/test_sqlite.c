/* The state store in a file: the contract, and files that are damaged, foreign, newer, held or not to be had. */
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "contract.h"
#include "control/store/sqlite/sqlite.h"

struct place {
    char folder[64], path[96];
};

static void *begin(void) {
    struct place *place = calloc(1, sizeof(*place));
    assert_non_null(place);
    snprintf(place->folder, sizeof(place->folder), "%s/penstock-state-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : ".");
    assert_non_null(mkdtemp(place->folder));
    snprintf(place->path, sizeof(place->path), "%s/state.db", place->folder);
    return place;
}

static void end(void *kept) {
    struct place *place = kept;
    static const char *const suffixes[] = {"", "-wal", "-journal", "-copy"};
    char name[128];
    for (unsigned i = 0; i < 4; i++) {
        snprintf(name, sizeof(name), "%s%s", place->path, suffixes[i]);
        unlink(name);
    }
    assert_int_equal(rmdir(place->folder), 0);
    free(place);
}

static struct store *open_plain(void *kept, const struct store_options *options) {
    const struct place *place = kept;
    return store_sqlite_create(&(struct store_sqlite_options){.store = *options, .path = place->path, .hold_timeout_ms = 50});
}

static const struct store_kind plain = {.name = "sqlite", .begin = begin, .end = end, .open = open_plain, .endures = true};

/* ---- the file ---- */

/* Does something to the file with SQLite itself. */
static void execute(const struct place *place, const char *text) {
    sqlite3 *handle;
    char *why = NULL;
    assert_int_equal(sqlite3_open(place->path, &handle), SQLITE_OK);
    if (sqlite3_exec(handle, text, NULL, NULL, &why) != SQLITE_OK)
        fail_msg("%s: %s", text, why);
    sqlite3_close(handle);
}

static void expect_failed(struct rig *rig, enum error_code code, const char *words) {
    rig_open(rig);
    assert_int_equal(rig->status.state, STORE_FAILED);
    if (rig->status.error.code != code || strstr(rig->status.error.text, words) == NULL)
        fail_msg("%s: %s", error_facts(rig->status.error.code)->name, rig->status.error.text);
    struct answer *answer = rig_list(rig, "", 0);
    assert_int_equal(answer->outcome, STORE_NOT_DONE);
    assert_int_equal(answer->error.code, code);
    answer_free(answer);
    rig_close(rig);
}

static void a_file_is_made_for_its_owner_alone(void **state) {
    (void)state;
    struct rig *rig = rig_create(&plain);
    struct stat stat_of;
    assert_int_equal(stat(((struct place *)rig->kept)->path, &stat_of), 0);
    assert_int_equal(stat_of.st_mode & 0777, 0600);
    rig_destroy(rig);
}

static void a_foreign_or_newer_file_is_left_alone(void **state) {
    (void)state;
    struct rig *rig = rig_create(&plain);
    struct place *place = rig->kept;
    rig_put(rig, "a", "1");
    rig_close(rig);
    execute(place, "PRAGMA user_version = 2");
    expect_failed(rig, ERROR_UNSUPPORTED, "schema 2, this penstock knows 1");
    execute(place, "PRAGMA user_version = 1; PRAGMA application_id = 7");
    expect_failed(rig, ERROR_FOREIGN, "another program");
    execute(place, "PRAGMA application_id = 0; PRAGMA user_version = 0");
    expect_failed(rig, ERROR_FOREIGN, "another program");
    execute(place, "PRAGMA application_id = 1347646324; PRAGMA user_version = 1");
    rig_open(rig);
    assert_value(rig, "a", "1");
    rig_close(rig);
    int fd = open(place->path, O_WRONLY | O_TRUNC);
    assert_int_equal(write(fd, "this is no database, and long enough to be seen as such: ........", 64), 64);
    close(fd);
    expect_failed(rig, ERROR_FOREIGN, "not a database");
    rig_destroy(rig);
}

static void a_damaged_file_is_named(void **state) {
    (void)state;
    struct rig *rig = rig_create(&plain);
    struct place *place = rig->kept;
    for (unsigned i = 0; i < 200; i++) {
        char name[16];
        snprintf(name, sizeof(name), "k/%u", i);
        rig_put(rig, name, "some value that takes a little room in the file");
    }
    rig_close(rig);
    struct stat stat_of;
    assert_int_equal(stat(place->path, &stat_of), 0);
    unsigned damaged = 0;
    for (off_t at = 4096; at < stat_of.st_size; at += 4096) {
        uint8_t before[64], wrong[64];
        int fd = open(place->path, O_RDWR);
        memset(wrong, 0xa5, sizeof(wrong));
        assert_int_equal(pread(fd, before, sizeof(before), at), sizeof(before));
        assert_int_equal(pwrite(fd, wrong, sizeof(wrong), at), sizeof(wrong));
        rig_open(rig);
        if (rig->status.state == STORE_FAILED) {
            assert_int_equal(rig->status.error.code, ERROR_DAMAGED);
            damaged++;
        }
        rig_close(rig);
        assert_int_equal(pwrite(fd, before, sizeof(before), at), sizeof(before));
        close(fd);
    }
    assert_true(damaged > 5);
    execute(place, "DELETE FROM state");
    expect_failed(rig, ERROR_DAMAGED, "has lost its revision");
    execute(place, "INSERT INTO state VALUES (1, 3, 9)");
    expect_failed(rig, ERROR_DAMAGED, "compacted 9");
    rig_destroy(rig);
}

static void a_second_owner_is_refused(void **state) {
    (void)state;
    struct rig *rig = rig_create(&plain), other = *rig;
    struct place *place = rig->kept;
    memset(&other.guard, 0, sizeof(other.guard));
    other.guard.run = rig->guard.run;
    struct reactor_options reactor = {.name = "other", .cpu = -1, .poll_mode = HOST_POLL_NEVER};
    assert_int_equal(reactor_create(rig->host, &reactor, &other.reactor), 0);
    expect_failed(&other, ERROR_BUSY, "");
    reactor_destroy(other.reactor);
    rig->keys = other.keys;
    rig_put(rig, "a", "1"); /* the lock is still there: another process cannot read */
    pid_t child = fork();
    if (child == 0) {
        sqlite3 *handle;
        int code = sqlite3_open(place->path, &handle);
        code = code == SQLITE_OK ? sqlite3_exec(handle, "SELECT * FROM entries", NULL, NULL, NULL) : code;
        _exit(code == SQLITE_BUSY ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    rig_destroy(rig);
}

static void a_file_that_cannot_be_is_refused(void **state) {
    (void)state;
    struct rig *rig = rig_create(&plain);
    struct place *place = rig->kept;
    char path[sizeof(place->path)];
    rig_close(rig);
    memcpy(path, place->path, sizeof(path));
    snprintf(place->path, sizeof(place->path), "%s/absent/state.db", place->folder);
    expect_failed(rig, ERROR_NOT_FOUND, "absent");
    snprintf(place->path, sizeof(place->path), "%s", place->folder);
    rig_open(rig);
    assert_int_equal(rig->status.state, STORE_FAILED);
    rig_close(rig);
    memcpy(place->path, path, sizeof(path));
    rig_destroy(rig);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_made_for_its_owner_alone),
        cmocka_unit_test(a_foreign_or_newer_file_is_left_alone),
        cmocka_unit_test(a_damaged_file_is_named),
        cmocka_unit_test(a_second_owner_is_refused),
        cmocka_unit_test(a_file_that_cannot_be_is_refused),
    };
    int failures = cmocka_run_group_tests_name("sqlite: the file", tests, NULL, NULL);
    failures += contract_run(&plain) + contract_run_time(&plain);
    failures += model_run(&plain, 1, 8, 300);
    return failures;
}
