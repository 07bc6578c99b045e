/* The state store's file on a disk that is full, fails or loses power at each of its calls in turn, and under a process that is
 * killed. What was answered DONE must be there, what was NOT_DONE must not, what is UNKNOWN may. */
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/wait.h>
#include <unistd.h>

#include "contract.h"
#include "control/store/sqlite/sqlite.h"

/* ---- a layer below SQLite: passes on, keeps in mind what is not flushed yet, and fails the n-th call ---- */

#define FILES 4
#define UNFLUSHED 4096

struct unflushed {
    sqlite3_int64 offset; /* or, with data NULL, the size it is cut to */
    void *data;
    int length;
};

struct kept_file {
    char path[128];
    uint8_t *durable; /* what a loss of power leaves for certain */
    sqlite3_int64 durable_size, durable_room;
    struct unflushed unflushed[UNFLUSHED];
    unsigned unflushed_count;
    bool exists;
};

static struct {
    unsigned calls, fail_at, code; /* counts writes, flushes, cuts; 0 = none fails */
    bool lasting;                  /* all calls after it fail as well */
    bool hit;
    struct kept_file files[FILES];
    bool keeping;
} disk;

struct layer_file {
    sqlite3_file base;
    struct kept_file *kept;
    sqlite3_file *real; /* behind this struct */
};

static sqlite3_vfs *real_vfs;

static int may_fail(void) {
    if (disk.fail_at == 0)
        return SQLITE_OK;
    disk.calls++;
    bool fails = disk.lasting ? disk.calls >= disk.fail_at : disk.calls == disk.fail_at;
    disk.hit = disk.hit || fails;
    return fails ? (int)disk.code : SQLITE_OK;
}

static struct kept_file *keep_file(const char *path) {
    if (!disk.keeping || path == NULL)
        return NULL;
    for (unsigned i = 0; i < FILES; i++) {
        struct kept_file *kept = &disk.files[i];
        if (kept->path[0] == '\0')
            snprintf(kept->path, sizeof(kept->path), "%s", path);
        if (strcmp(kept->path, path) == 0)
            return kept;
    }
    fail_msg("too many files");
    return NULL;
}

static void forget_unflushed(struct kept_file *kept) {
    for (unsigned i = 0; i < kept->unflushed_count; i++)
        free(kept->unflushed[i].data);
    kept->unflushed_count = 0;
}

static void remember(struct kept_file *kept, const void *data, int length, sqlite3_int64 offset) {
    if (kept == NULL)
        return;
    assert_true(kept->unflushed_count < UNFLUSHED);
    struct unflushed *to = &kept->unflushed[kept->unflushed_count++];
    *to = (struct unflushed){.offset = offset, .length = length};
    if (data != NULL) {
        to->data = malloc((size_t)length);
        memcpy(to->data, data, (size_t)length);
    }
}

static void apply(struct kept_file *kept, const struct unflushed *change) {
    sqlite3_int64 end = change->data != NULL ? change->offset + change->length : change->offset;
    if (end > kept->durable_size || change->data == NULL) {
        while (end > kept->durable_room) {
            kept->durable_room = kept->durable_room > 0 ? 2 * kept->durable_room : 65536;
            kept->durable = realloc(kept->durable, (size_t)kept->durable_room);
            assert_non_null(kept->durable);
        }
        if (end > kept->durable_size)
            memset(kept->durable + kept->durable_size, 0, (size_t)(end - kept->durable_size));
        kept->durable_size = end;
    }
    if (change->data != NULL)
        memcpy(kept->durable + change->offset, change->data, (size_t)change->length);
}

static void flush(struct kept_file *kept) {
    if (kept == NULL)
        return;
    for (unsigned i = 0; i < kept->unflushed_count; i++)
        apply(kept, &kept->unflushed[i]);
    forget_unflushed(kept);
    kept->exists = true;
}

#define REAL(file) (((struct layer_file *)(file))->real)
#define KEPT(file) (((struct layer_file *)(file))->kept)

static int layer_close(sqlite3_file *file) { return REAL(file)->pMethods->xClose(REAL(file)); }
static int layer_read(sqlite3_file *file, void *to, int length, sqlite3_int64 offset) {
    return REAL(file)->pMethods->xRead(REAL(file), to, length, offset);
}
static int layer_write(sqlite3_file *file, const void *from, int length, sqlite3_int64 offset) {
    int code = may_fail();
    if (code != SQLITE_OK)
        return code;
    remember(KEPT(file), from, length, offset);
    return REAL(file)->pMethods->xWrite(REAL(file), from, length, offset);
}
static int layer_truncate(sqlite3_file *file, sqlite3_int64 size) {
    int code = may_fail();
    if (code != SQLITE_OK)
        return code == SQLITE_FULL ? SQLITE_IOERR_TRUNCATE : code;
    remember(KEPT(file), NULL, 0, size);
    return REAL(file)->pMethods->xTruncate(REAL(file), size);
}
static int layer_sync(sqlite3_file *file, int flags) {
    int code = may_fail();
    if (code != SQLITE_OK)
        return code == SQLITE_FULL ? SQLITE_OK : SQLITE_IOERR_FSYNC;
    (void)flags; /* the machine does not lose power: no need to wait for its disk */
    flush(KEPT(file));
    return SQLITE_OK;
}
static int layer_size(sqlite3_file *file, sqlite3_int64 *size) { return REAL(file)->pMethods->xFileSize(REAL(file), size); }
static int layer_lock(sqlite3_file *file, int level) { return REAL(file)->pMethods->xLock(REAL(file), level); }
static int layer_unlock(sqlite3_file *file, int level) { return REAL(file)->pMethods->xUnlock(REAL(file), level); }
static int layer_check(sqlite3_file *file, int *reserved) {
    return REAL(file)->pMethods->xCheckReservedLock(REAL(file), reserved);
}
static int layer_control(sqlite3_file *file, int what, void *arg) {
    return REAL(file)->pMethods->xFileControl(REAL(file), what, arg);
}
static int layer_sector(sqlite3_file *file) { return REAL(file)->pMethods->xSectorSize(REAL(file)); }
static int layer_facts(sqlite3_file *file) { return REAL(file)->pMethods->xDeviceCharacteristics(REAL(file)); }

/* Version 1: no shared memory, no memory maps. What is not kept of the file lies there with the exclusive lock. */
static const sqlite3_io_methods layer_methods = {.iVersion = 1,
                                                 .xClose = layer_close,
                                                 .xRead = layer_read,
                                                 .xWrite = layer_write,
                                                 .xTruncate = layer_truncate,
                                                 .xSync = layer_sync,
                                                 .xFileSize = layer_size,
                                                 .xLock = layer_lock,
                                                 .xUnlock = layer_unlock,
                                                 .xCheckReservedLock = layer_check,
                                                 .xFileControl = layer_control,
                                                 .xSectorSize = layer_sector,
                                                 .xDeviceCharacteristics = layer_facts};

static int layer_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *file, int flags, int *out_flags) {
    struct layer_file *layer = (struct layer_file *)file;
    (void)vfs;
    layer->real = (sqlite3_file *)(layer + 1);
    layer->kept = keep_file(path);
    int code = real_vfs->xOpen(real_vfs, path, layer->real, flags, out_flags);
    file->pMethods = code == SQLITE_OK ? &layer_methods : NULL;
    return code;
}

static int layer_delete(sqlite3_vfs *vfs, const char *path, int sync) {
    (void)vfs;
    struct kept_file *kept = keep_file(path);
    int code = may_fail();
    if (code != SQLITE_OK)
        return SQLITE_IOERR_DELETE;
    if (kept != NULL) {
        forget_unflushed(kept);
        kept->durable_size = 0;
        kept->exists = false;
    }
    return real_vfs->xDelete(real_vfs, path, sync);
}

static void layer_install(void) {
    static sqlite3_vfs layer;
    real_vfs = sqlite3_vfs_find(NULL);
    layer = *real_vfs;
    layer.zName = "layer";
    layer.szOsFile = (int)sizeof(struct layer_file) + real_vfs->szOsFile;
    layer.xOpen = layer_open;
    layer.xDelete = layer_delete;
    assert_int_equal(sqlite3_vfs_register(&layer, 0), SQLITE_OK);
}

/* The files as a loss of power leaves them: what was flushed, and of the rest any of the writes. */
static void lose_power(struct random *random) {
    for (unsigned i = 0; i < FILES; i++) {
        struct kept_file *kept = &disk.files[i];
        if (kept->path[0] == '\0')
            continue;
        for (unsigned j = 0; j < kept->unflushed_count; j++)
            if (random_chance(random, 1, 2))
                apply(kept, &kept->unflushed[j]);
        forget_unflushed(kept);
        if (!kept->exists && kept->durable_size == 0) {
            unlink(kept->path);
            continue;
        }
        int fd = open(kept->path, O_RDWR | O_CREAT | O_TRUNC, 0600);
        assert_int_equal(write(fd, kept->durable, (size_t)kept->durable_size), kept->durable_size);
        close(fd);
    }
}

static void disk_reset(void) {
    for (unsigned i = 0; i < FILES; i++) {
        forget_unflushed(&disk.files[i]);
        free(disk.files[i].durable);
    }
    memset(&disk, 0, sizeof(disk));
}

/* ---- the store on it ---- */

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
    static const char *const suffixes[] = {"", "-wal", "-journal"};
    char name[128];
    for (unsigned i = 0; i < 3; i++) {
        snprintf(name, sizeof(name), "%s%s", place->path, suffixes[i]);
        unlink(name);
    }
    assert_int_equal(rmdir(place->folder), 0);
    free(place);
}

static struct store *open_layered(void *kept, const struct store_options *options) {
    return store_sqlite_create(&(struct store_sqlite_options){
        .store = *options, .path = ((struct place *)kept)->path, .vfs = "layer", .hold_timeout_ms = 2000});
}

static const struct store_kind layered = {
    .name = "sqlite, layered", .begin = begin, .end = end, .open = open_layered, .endures = true};

/* ---- work whose effect can be checked ---- */

#define ROUNDS 12
#define TOGETHER 4

/* Transaction n puts a/n and b/n; several are under way together. */
struct work {
    struct rig *rig;
    struct store_request requests[TOGETHER];
    struct store_op ops[TOGETHER][2];
    unsigned numbers[TOGETHER], answered;
    char value[2000];
    enum store_outcome outcomes[ROUNDS * TOGETHER];
    bool submitted[ROUNDS * TOGETHER];
    int64_t last_revision;
};

static void on_worked(struct store_request *request) {
    struct work *work = request->arg;
    unsigned index = (unsigned)(request - work->requests);
    work->outcomes[work->numbers[index]] = request->outcome;
    work->answered++;
    rig_poke(work->rig);
}

static bool all_answered(void *arg) { return ((struct work *)arg)->answered == TOGETHER; }

static const char *numbered(struct rig *rig, char letter, unsigned number) {
    char name[24];
    snprintf(name, sizeof(name), "%c/%u", letter, number);
    return rig_key(rig, name);
}

static void work_round(struct work *work, unsigned round) {
    struct rig *rig = work->rig;
    work->answered = 0;
    reactor_enter(rig->reactor);
    for (unsigned i = 0; i < TOGETHER; i++) {
        unsigned number = round * TOGETHER + i;
        work->numbers[i] = number;
        work->submitted[number] = true;
        for (unsigned j = 0; j < 2; j++)
            work->ops[i][j] = (struct store_op){.kind = STORE_PUT,
                                                .key = numbered(rig, j == 0 ? 'a' : 'b', number),
                                                .value = work->value,
                                                .value_length = sizeof(work->value)};
        work->requests[i] = (struct store_request){
            .verb = STORE_TRANSACT, .then_ops = work->ops[i], .then_count = 2, .arg = work, .done = on_worked};
        store_submit(rig->store, &work->requests[i]);
    }
    reactor_enter(NULL);
    rig_wait(rig, all_answered, work);
    if (round % 5 == 4) { /* the answer may be any */
        struct answer *answer = rig_ask(rig, &(struct store_request){.verb = STORE_COMPACT, .revision = round});
        answer_free(answer);
    }
}

static void work_check(struct work *work) {
    for (unsigned number = 0; number < ROUNDS * TOGETHER; number++) {
        char a[24], b[24];
        snprintf(a, sizeof(a), "a/%u", number);
        snprintf(b, sizeof(b), "b/%u", number);
        char *has_a = rig_get(work->rig, a), *has_b = rig_get(work->rig, b);
        assert_true((has_a == NULL) == (has_b == NULL));
        if (!work->submitted[number] || work->outcomes[number] == STORE_NOT_DONE)
            assert_null(has_a);
        else if (work->outcomes[number] == STORE_DONE)
            assert_non_null(has_a);
        free(has_a);
        free(has_b);
    }
}

/* All of it with one call failing; then the store must be as its answers said. `power`: and what was not flushed is lost. */
static bool run_failing(unsigned fail_at, unsigned code, bool lasting, bool power) {
    static struct work work;
    struct random random;
    memset(&work, 0, sizeof(work));
    random_init(&random, fail_at);
    disk_reset();
    disk.keeping = power;
    struct rig *rig = work.rig = rig_create(&layered);
    disk.fail_at = fail_at;
    disk.code = code;
    disk.lasting = lasting;
    for (unsigned round = 0; round < ROUNDS && rig->status.state == STORE_READY; round++)
        work_round(&work, round);
    bool hit = disk.hit;
    if (code == SQLITE_FULL && !lasting)
        assert_int_equal(rig->status.state, STORE_READY);
    if (power)
        disk.fail_at = 1, disk.lasting = true, disk.code = SQLITE_IOERR; /* closing writes nothing any more */
    else
        disk.fail_at = 0;
    rig_close(rig);
    disk.fail_at = 0;
    if (power)
        lose_power(&random);
    disk.keeping = false;
    rig_open(rig);
    if (rig->status.state != STORE_READY)
        fail_msg("call %u: %s", fail_at, rig->status.error.text);
    work_check(&work);
    rig_destroy(rig);
    return hit;
}

static unsigned step_of(void) {
    const char *budget = getenv("PENSTOCK_TEST_BUDGET");
    return budget != NULL && strcmp(budget, "long") == 0 ? 1 : 19;
}

static void sweep(unsigned code, bool lasting, bool power) {
    unsigned fail_at = 1;
    while (run_failing(fail_at, code, lasting, power))
        fail_at += step_of();
    assert_true(fail_at > 100);
}

static void a_full_disk_stops_nothing_but_what_does_not_fit(void **state) {
    (void)state;
    sweep(SQLITE_FULL, false, false);
}

static void a_disk_that_fails_leaves_what_was_done(void **state) {
    (void)state;
    sweep(SQLITE_IOERR_WRITE, false, false);
    sweep(SQLITE_IOERR_WRITE, true, false);
}

static void a_loss_of_power_leaves_what_was_done(void **state) {
    (void)state;
    sweep(SQLITE_IOERR_WRITE, true, true);
}

static void a_full_disk_is_named_and_passes(void **state) {
    (void)state;
    disk_reset();
    struct rig *rig = rig_create(&layered);
    rig_put(rig, "a", "1");
    disk.fail_at = 1;
    disk.code = SQLITE_FULL;
    disk.lasting = true;
    struct store_op op = {.kind = STORE_PUT, .key = rig_key(rig, "a"), .value = "2", .value_length = 1};
    struct answer *answer = rig_ask(rig, &(struct store_request){.verb = STORE_TRANSACT, .then_ops = &op, .then_count = 1});
    assert_int_equal(answer->outcome, STORE_NOT_DONE);
    assert_int_equal(answer->error.code, ERROR_NO_SPACE);
    assert_non_null(strstr(answer->error.text, "state.db"));
    answer_free(answer);
    assert_value(rig, "a", "1");
    disk.fail_at = 0;
    rig_put(rig, "a", "3");
    assert_value(rig, "a", "3");
    rig_destroy(rig);
}

/* ---- a process that is killed ---- */

#define KILLS 12

static struct store *open_real(void *kept, const struct store_options *options) {
    return store_sqlite_create(&(struct store_sqlite_options){.store = *options, .path = ((struct place *)kept)->path});
}

static void *given_place; /* of the parent */
static void *begin_given(void) { return given_place; }
static void end_given(void *kept) { (void)kept; }

static const struct store_kind given = {
    .name = "sqlite, killed", .begin = begin_given, .end = end_given, .open = open_real, .endures = true};

/* Puts one number after the other, TOGETHER at a time, telling each that was answered. */
struct victim {
    struct rig *rig;
    struct store_request requests[TOGETHER];
    struct store_op ops[TOGETHER][2];
    uint32_t numbers[TOGETHER], next;
    int told;
};

static void victim_submit(struct victim *victim, unsigned index);

static void on_victim(struct store_request *request) {
    struct victim *victim = request->arg;
    unsigned index = (unsigned)(request - victim->requests);
    if (request->outcome != STORE_DONE ||
        write(victim->told, &victim->numbers[index], sizeof(uint32_t)) != (ssize_t)sizeof(uint32_t))
        _exit(1);
    victim_submit(victim, index);
}

static void victim_submit(struct victim *victim, unsigned index) {
    char key[2][32];
    victim->numbers[index] = victim->next++;
    for (unsigned i = 0; i < 2; i++) {
        free((void *)(uintptr_t)victim->ops[index][i].key);
        snprintf(key[i], sizeof(key[i]), "/%c/%u", i == 0 ? 'a' : 'b', victim->numbers[index]);
        victim->ops[index][i] = (struct store_op){.kind = STORE_PUT, .key = strdup(key[i]), .value = "v", .value_length = 1};
    }
    victim->requests[index] = (struct store_request){
        .verb = STORE_TRANSACT, .then_ops = victim->ops[index], .then_count = 2, .arg = victim, .done = on_victim};
    store_submit(victim->rig->store, &victim->requests[index]);
}

static bool never(void *arg) {
    (void)arg;
    return false;
}

static void victim_run(uint32_t first, int told) {
    static struct victim victim;
    victim = (struct victim){.rig = rig_create(&given), .next = first, .told = told};
    reactor_enter(victim.rig->reactor);
    for (unsigned i = 0; i < TOGETHER; i++)
        victim_submit(&victim, i);
    reactor_enter(NULL);
    rig_wait(victim.rig, never, NULL);
    _exit(1);
}

static bool absent(struct rig *rig, char letter, uint32_t number) {
    char key[32];
    snprintf(key, sizeof(key), "/%c/%u", letter, number);
    snprintf(rig->root, sizeof(rig->root), "%s", key);
    char *value = rig_get(rig, "");
    bool none = value == NULL;
    free(value);
    return none;
}

static void a_killed_process_has_done_what_it_told(void **state) {
    (void)state;
    struct random random;
    given_place = begin();
    random_init(&random, 11);
    uint32_t first = 0, told_count = 0;
    static uint8_t told[1 << 20];
    for (unsigned round = 0; round < KILLS; round++) {
        int ends[2];
        assert_int_equal(pipe(ends), 0);
        fflush(NULL);
        pid_t child = fork();
        if (child == 0) {
            close(ends[0]);
            victim_run(first, ends[1]);
        }
        close(ends[1]);
        uint32_t number, highest = first, until = 1 + (uint32_t)random_below(&random, 300);
        for (uint32_t i = 0; read(ends[0], &number, sizeof(number)) == (ssize_t)sizeof(number); i++) {
            assert_true(number >= first && number < sizeof(told));
            told[number] = 1;
            told_count++;
            highest = number > highest ? number : highest;
            if (i == until)
                kill(child, SIGKILL);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        close(ends[0]);
        struct rig *rig = rig_create(&given);
        for (uint32_t i = first; i <= highest + TOGETHER; i++) {
            bool none = absent(rig, 'a', i);
            assert_int_equal(absent(rig, 'b', i), none);
            if (told[i])
                assert_false(none);
        }
        assert_true(absent(rig, 'a', highest + 2 * TOGETHER));
        rig_destroy(rig);
        first = highest + 3 * TOGETHER;
    }
    printf("note: %u kills, %u acknowledged transactions, all there\n", KILLS, told_count);
    end(given_place);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_killed_process_has_done_what_it_told),
        cmocka_unit_test(a_full_disk_is_named_and_passes),
        cmocka_unit_test(a_full_disk_stops_nothing_but_what_does_not_fit),
        cmocka_unit_test(a_disk_that_fails_leaves_what_was_done),
        cmocka_unit_test(a_loss_of_power_leaves_what_was_done),
    };
    layer_install();
    return cmocka_run_group_tests_name("sqlite: the disk", tests, NULL, NULL);
}
