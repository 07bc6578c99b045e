#include "enumerate.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "context.h"

double cpu_seconds(void) { return (double)clock() / CLOCKS_PER_SEC; }

static bool fail(struct enumeration *e, const char *what, uint32_t at, uint64_t seed, const char *text) {
    snprintf(e->failure, sizeof(e->failure), "workload %s, %s %u, seed %llu: %s", e->workload->name, what, at,
             (unsigned long long)seed, text);
    return false;
}

/* ---- the run ---- */

static bool prepare(struct enumeration *e) {
    const struct workload *workload = e->workload;
    struct disk_image empty;
    struct session session;
    disk_image_init(&empty, workload->store.disk_bytes);
    session_start(&session, &workload->store, &empty, workload->seed, false);
    bool ok = session_format(&session) && session_open(&session) && driver_prepare(workload, &session, &e->model) &&
              (workload->warm > 0 || session_close_store(&session)); /* closing would empty the journal again */
    if (ok)
        disk_image_clone(&e->prepared, &session.disk->now);
    else
        fail(e, "preparing", 0, workload->seed, session.error.text);
    if (ok && session.store == NULL)
        session_end(&session);
    else {
        session_crash(&session);
        disk_destroy(session.disk);
    }
    disk_image_fini(&empty);
    return ok;
}

/* What the living store shows at the end is checked like a cut. */
static bool check_end(struct enumeration *e) {
    struct model_found *found;
    uint32_t count;
    char text[256];
    struct model_view view;
    model_view_init(&view);
    bool ok = session_find(&e->run, &e->model, true, &found, &count);
    if (!ok)
        return fail(e, "end of the run", 0, e->workload->seed, e->run.error.text);
    model_view_advance(&e->model, &view, disk_mark(e->run.disk));
    /* nothing is lost yet: what completed must be seen */
    for (uint32_t i = 0; i < e->model.node_count; i++)
        if (view.nodes[i].count > 0)
            memcpy(view.nodes[i].durable, view.nodes[i].completed, view.nodes[i].count * sizeof(uint32_t));
    ok = model_check(&e->model, &view, found, count, text, sizeof(text));
    if (!ok)
        fail(e, "end of the run", view.position, e->workload->seed, text);
    model_view_fini(&view);
    session_found_free(found, count);
    if (ok && !session_check(&e->run))
        ok = fail(e, "the checker at the end of the run", 0, e->workload->seed, e->run.error.text);
    return ok;
}

bool enumeration_start(struct enumeration *e, const struct workload *workload) {
    memset(e, 0, sizeof(*e));
    context_set("running workload %s", workload->name);
    e->workload = workload;
    model_init(&e->model, (uint32_t)hash_u64(workload->seed) | 1, 1);
    if (!prepare(e))
        return false;
    session_start(&e->run, &workload->store, &e->prepared, workload->seed + 1, true);
    e->ran = true;
    if (!session_open(&e->run))
        return fail(e, "opening", 0, workload->seed, e->run.error.text);
    struct driver *driver = plain_alloc(sizeof(*driver));
    bool ok = driver_init(driver, workload, &e->run, &e->model, workload->seed + 2, workload->operations);
    for (unsigned i = 0; i < DISK_FAULT_COUNT; i++)
        if (workload->fail_at[i] != 0)
            e->run.disk->fail_at[i] = e->run.disk->requests[i] + workload->fail_at[i];
    ok = ok && driver_run(driver);
    if (!ok)
        fail(e, "running: log", e->run.disk->log.event_count, workload->seed, driver->failure);
    memcpy(e->done, driver->done, sizeof(e->done));
    memcpy(e->refused, driver->refused, sizeof(e->refused));
    if (ok)
        driver_close(driver);
    driver_free(driver);
    struct volume_store_info info;
    volume_store_info(e->run.store, &info);
    e->records = info.records;
    e->checkpoints = info.checkpoints;
    ok = ok && (workload->fail_count > 0 || check_end(e)); /* with faults planted only the run itself is looked at */
    session_crash(&e->run);
    return ok;
}

void enumeration_end(struct enumeration *e) {
    if (e->ran)
        disk_destroy(e->run.disk);
    if (e->prepared.pages != NULL)
        disk_image_fini(&e->prepared);
    model_fini(&e->model);
}

/* ---- one recovery ---- */

/* What a recovered store is compared with. */
struct expectation {
    const struct model *model;
    const struct model_view *view;
};

static bool recovered_ok(struct enumeration *e, struct session *session, const struct expectation *expected, char *text,
                         size_t size, struct model_found **ret_found, uint32_t *ret_count) {
    uint64_t reads = session->disk->requests[DISK_FAULT_READ], bytes = session->disk->bytes_read;
    e->reads_max = max_u64(e->reads_max, reads);
    e->read_bytes_max = max_u64(e->read_bytes_max, bytes);
    struct volume_store_info info;
    volume_store_info(session->store, &info);
    if (info.read_only || info.failed) {
        snprintf(text, size, "the store is %s: %.200s", info.failed ? "failed" : "read-only", info.reason);
        return false;
    }
    /* superblocks, index, the ring; a page for each layer and what is merging */
    uint64_t bound = session->options->journal_bytes + MIB(1), most = 16 + MODEL_NODES_MAX * 2;
    if (bytes > bound || reads > most) {
        snprintf(text, size, "recovery made %llu reads of %llu bytes", (unsigned long long)reads, (unsigned long long)bytes);
        return false;
    }
    if (!session_check(session)) {
        snprintf(text, size, "the checker: %s", session->error.text);
        return false;
    }
    e->checked++;
    if (!session_find(session, expected->model, false, ret_found, ret_count)) {
        snprintf(text, size, "%s", session->error.text);
        return false;
    }
    if (model_capacity_ok(expected->model, expected->view, info.total_bytes, text, size) &&
        model_check(expected->model, expected->view, *ret_found, *ret_count, text, size))
        return true;
    session_found_free(*ret_found, *ret_count);
    return false;
}

/* Recovers an image and looks at everything. */
static bool recover(struct enumeration *e, const struct disk_image *image, const struct expectation *expected, uint64_t seed,
                    char *text, size_t size) {
    struct session session;
    struct model_found *found;
    uint32_t count;
    session_start(&session, &e->workload->store, image, seed, false);
    bool ok = session_open(&session);
    if (!ok)
        snprintf(text, size, "it does not open: %s", session.error.text);
    ok = ok && recovered_ok(e, &session, expected, text, size, &found, &count);
    if (ok)
        session_found_free(found, count);
    session_crash(&session);
    disk_destroy(session.disk);
    return ok;
}

/* ---- the images of one cut ---- */

typedef bool (*visit)(void *arg, const struct disk_cursor *cursor, const struct disk_keep *keep, uint64_t image_seed);

struct cut {
    const struct enumeration_pass *pass;
    const struct disk_cursor *cursor;
    const bool *fresh; /* for each outstanding write: begun since the last cut */
    bool all_anew;     /* more must be seen than at the last cut: images known from there count again */
    visit visit;
    void *arg;
    uint64_t image; /* number within the cut */
    struct disk_keep keep[DISK_OUTSTANDING_MAX];
};

static bool anew(const struct cut *cut) {
    if (cut->all_anew)
        return true;
    for (uint32_t i = 0; i < cut->cursor->outstanding_count; i++)
        if (cut->fresh[i] && cut->keep[i].kind != DISK_LOST)
            return true;
    return false;
}

/* `plain`: none, all, or the newest write alone. */
static bool one(struct cut *cut, bool plain) {
    uint64_t seed = hash_u64(cut->pass->seed ^ hash_u64(((uint64_t)cut->cursor->position << 32) + cut->image++));
    if (!anew(cut) || (seed & 0xffff) >= (plain ? cut->pass->plain_chance : cut->pass->image_chance))
        return true;
    return cut->visit(cut->arg, cut->cursor, cut->keep, seed);
}

static void keep_all(struct cut *cut, int kind) {
    for (uint32_t i = 0; i < cut->cursor->outstanding_count; i++)
        cut->keep[i] = (struct disk_keep){.kind = kind};
}

static bool subsets(struct cut *cut) {
    uint32_t n = cut->cursor->outstanding_count;
    for (uint64_t mask = 1; mask + 1 < UINT64_C(1) << n; mask++) {
        for (uint32_t i = 0; i < n; i++)
            cut->keep[i] = (struct disk_keep){.kind = (mask >> i & 1) != 0 ? DISK_KEPT : DISK_LOST};
        if (!one(cut, false))
            return false;
    }
    return true;
}

static bool some_subsets(struct cut *cut) {
    uint32_t n = cut->cursor->outstanding_count;
    for (uint32_t i = 0; i < n; i++) {
        keep_all(cut, DISK_LOST);
        cut->keep[i].kind = DISK_KEPT;
        if (!one(cut, false))
            return false;
        keep_all(cut, DISK_KEPT);
        cut->keep[i].kind = DISK_LOST;
        if (!one(cut, false))
            return false;
    }
    for (unsigned s = 0; s < cut->pass->seeded; s++) {
        struct random random;
        random_init(&random, cut->pass->seed + cut->cursor->position * UINT64_C(1000) + s);
        for (uint32_t i = 0; i < n; i++)
            cut->keep[i].kind = random_chance(&random, 1, 2) ? DISK_KEPT : DISK_LOST;
        if (!one(cut, false))
            return false;
    }
    return true;
}

/* The newest write torn, among none and all of the others; and all of them torn at will. */
static bool torn(struct cut *cut) {
    uint32_t n = cut->cursor->outstanding_count;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t units = cut->cursor->disk->log.writes[cut->cursor->outstanding[i]].units;
        if (units < 2 || !(cut->fresh[i] || cut->all_anew))
            continue;
        struct disk_keep ways[] = {{DISK_TORN_PREFIX, 1},         {DISK_TORN_PREFIX, units - 1},
                                   {DISK_TORN_PREFIX, units / 2}, {DISK_TORN_SUFFIX, 1},
                                   {DISK_TORN_SUFFIX, units - 1}, {DISK_TORN_SEEDED, hash_u64(cut->pass->seed + i)}};
        for (unsigned rest = 0; rest < 2; rest++)
            for (unsigned way = 0; way < array_count(ways); way++) {
                keep_all(cut, rest == 0 ? DISK_LOST : DISK_KEPT);
                cut->keep[i] = ways[way];
                if (!one(cut, false))
                    return false;
            }
    }
    for (unsigned s = 0; s < 4; s++) {
        for (uint32_t i = 0; i < n; i++)
            cut->keep[i] = (struct disk_keep){DISK_TORN_SEEDED, hash_u64(cut->pass->seed + s * 1000 + i)};
        if (!one(cut, false))
            return false;
    }
    return true;
}

static bool cut_images(struct cut *cut) {
    uint32_t n = cut->cursor->outstanding_count;
    assert(n < DISK_OUTSTANDING_MAX);
    keep_all(cut, DISK_LOST);
    if (!one(cut, true))
        return false;
    if (n == 0)
        return true;
    keep_all(cut, DISK_KEPT);
    if (!one(cut, true))
        return false;
    for (uint32_t i = 0; i < n && n > 1; i++)
        if (cut->fresh[i]) {
            keep_all(cut, DISK_LOST);
            cut->keep[i].kind = DISK_KEPT;
            if (!one(cut, true))
                return false;
        }
    if (cut->pass->image_chance == 0)
        return true;
    if (!(n <= cut->pass->exhaustive_max ? subsets(cut) : some_subsets(cut)))
        return false;
    return !cut->pass->torn || torn(cut);
}

/* ---- a second cut ---- */

struct level {
    struct enumeration *e;
    const struct enumeration_pass *pass;
    struct expectation expected;
    char text[512];
};

/* For whoever looks into a failure. */
static void keep_image(const struct disk_image *image) {
    const char *path = getenv("PENSTOCK_KEEP_IMAGE");
    FILE *file = path == NULL ? NULL : fopen(path, "wb");
    for (uint32_t i = 0; file != NULL && i < image->page_count; i++) {
        uint8_t page[DISK_PAGE_SIZE];
        disk_image_read(image, (uint64_t)i * DISK_PAGE_SIZE, page, sizeof(page));
        fwrite(page, 1, sizeof(page), file);
    }
    if (file != NULL)
        fclose(file);
}

static bool second_visit(void *arg, const struct disk_cursor *cursor, const struct disk_keep *keep, uint64_t seed) {
    struct level *level = arg;
    struct disk_image image;
    disk_cursor_image(cursor, keep, &image);
    bool ok = recover(level->e, &image, &level->expected, seed, level->text, sizeof(level->text));
    if (!ok)
        keep_image(&image);
    disk_image_fini(&image);
    level->e->second_images++;
    return ok;
}

/* Walks the log of a disk; `later` from position `from` on, `first` before that. */
struct walk {
    struct enumeration *e;
    const struct enumeration_pass *pass;
    const struct disk *disk;
    const struct model *model;
    struct model_view *view;
    bool fixed_view; /* the view stays where it is */
    uint32_t from, to;
    visit visit;
    void *arg;
    bool (*extra)(void *arg, const struct disk_cursor *cursor); /* once a cut; NULL = none */
    uint64_t *cuts;
};

static bool walk_log(const struct walk *walk) {
    struct disk_cursor cursor;
    struct cut *cut = plain_alloc(sizeof(*cut));
    const struct disk_log *log = &walk->disk->log;
    bool *fresh = plain_alloc(log->write_count + 1), *fresh_now = plain_alloc(log->write_count + 1);
    memset(fresh, 0, log->write_count);
    bool dirty = false, anew_all = true, ok = true;
    disk_cursor_init(&cursor, walk->disk);
    while (ok && disk_cursor_next(&cursor) && cursor.position <= walk->to) {
        uint32_t at = cursor.position;
        const struct disk_event *e = &log->events[at - 1], *next = at < log->event_count ? &log->events[at] : NULL;
        if (e->kind == DISK_SUBMITTED) {
            fresh[e->index] = true;
            dirty = true;
        }
        if (!walk->fixed_view && model_view_advance(walk->model, walk->view, at)) {
            anew_all = true;
            dirty = true;
        }
        bool here = next == NULL || at == walk->to || next->kind == DISK_SUBMITTED || next->kind == DISK_FLUSHED ||
                    (next->kind == DISK_COMPLETED && log->writes[next->index].fua) ||
                    (next->kind == DISK_MARK && !walk->fixed_view && model_begins(walk->model, walk->view, at));
        if (!here || !dirty || at < walk->from)
            continue;
        if (walk->pass->cpu_until_s > 0 && cpu_seconds() > walk->pass->cpu_until_s)
            break;
        for (uint32_t i = 0; i < cursor.outstanding_count; i++)
            fresh_now[i] = fresh[cursor.outstanding[i]];
        memset(cut, 0, offsetof(struct cut, keep));
        cut->pass = walk->pass;
        cut->cursor = &cursor;
        cut->fresh = fresh_now;
        cut->all_anew = anew_all;
        cut->visit = walk->visit;
        cut->arg = walk->arg;
        walk->e->outstanding_max = max_u32(walk->e->outstanding_max, cursor.outstanding_count);
        ++*walk->cuts;
        context_set("cutting workload %s at %u%s", walk->e->workload->name, at,
                    walk->visit == second_visit ? ", the second cut" : "");
        ok = cut_images(cut) && (walk->extra == NULL || walk->extra(walk->arg, &cursor));
        memset(fresh, 0, log->write_count);
        dirty = anew_all = false;
    }
    disk_cursor_fini(&cursor);
    plain_free(cut);
    plain_free(fresh);
    plain_free(fresh_now);
    return ok;
}

/* The recovered store goes on for a while; then all cuts since the beginning of its recovery. */
static bool second_life(struct level *level, struct session *session, uint64_t seed) {
    struct enumeration *e = level->e;
    struct model_found *found;
    uint32_t count;
    if (!session_open(session)) {
        snprintf(level->text, sizeof(level->text), "it does not open: %s", session->error.text);
        return false;
    }
    if (!recovered_ok(e, session, &level->expected, level->text, sizeof(level->text), &found, &count))
        return false;
    uint32_t observed = disk_mark(session->disk);
    struct model model;
    model_from_found(&model, level->expected.model, found, count);
    session_found_free(found, count);
    struct driver *driver = plain_alloc(sizeof(*driver));
    bool ok = driver_init(driver, e->workload, session, &model, seed, level->pass->second_operations) && driver_run(driver);
    if (!ok)
        snprintf(level->text, sizeof(level->text), "after the recovery: %.400s", driver->failure);
    driver_free(driver);
    session_crash(session);
    struct enumeration_pass pass = *level->pass;
    pass.plain_chance = level->pass->second_plain_chance;
    pass.image_chance = level->pass->second_image_chance;
    pass.seed = seed;
    pass.exhaustive_max = min_u32(pass.exhaustive_max, 4);
    struct model_view view;
    model_view_init(&view);
    struct level second = {.e = e, .pass = &pass, .expected = level->expected};
    struct walk walk = {.e = e,
                        .pass = &pass,
                        .disk = session->disk,
                        .model = level->expected.model,
                        .fixed_view = true,
                        .from = 1,
                        .to = observed,
                        .visit = second_visit,
                        .arg = &second,
                        .cuts = &e->second_cuts};
    ok = ok && walk_log(&walk);
    if (ok) {
        walk.model = second.expected.model = &model;
        walk.view = &view;
        second.expected.view = &view;
        walk.fixed_view = false;
        walk.from = observed + 1;
        walk.to = UINT32_MAX;
        ok = walk_log(&walk);
    }
    if (!ok && second.text[0] != '\0')
        snprintf(level->text, sizeof(level->text), "second cut: %.400s", second.text);
    model_view_fini(&view);
    model_fini(&model);
    return ok;
}

/* A cut, or a killed process whose writes stay in the disk's cache; then a recovery that is cut itself. */
static bool second(struct level *level, const struct disk_cursor *cursor) {
    struct enumeration *e = level->e;
    uint64_t seed = hash_u64(level->pass->seed + cursor->position);
    if ((seed & 0xffff) >= level->pass->second_chance)
        return true;
    struct random random;
    random_init(&random, seed);
    bool kill = random_chance(&random, 1, 3);
    struct disk_keep keep[DISK_OUTSTANDING_MAX];
    for (uint32_t i = 0; i < cursor->outstanding_count; i++) {
        keep[i] = (struct disk_keep){.kind = random_chance(&random, 1, 2) ? DISK_KEPT : DISK_LOST};
        if (!kill && random_chance(&random, 1, 8))
            keep[i] = (struct disk_keep){DISK_TORN_SEEDED, random_u64(&random)};
    }
    struct disk_image image;
    struct session session;
    disk_cursor_image(cursor, kill ? NULL : keep, &image);
    session_start(&session, &e->workload->store, &image, seed + 1, true);
    for (uint32_t i = 0; kill && i < cursor->outstanding_count; i++)
        if (keep[i].kind == DISK_KEPT || cursor->disk->log.writes[cursor->outstanding[i]].landed < cursor->position)
            disk_inherit(session.disk, &cursor->disk->log.writes[cursor->outstanding[i]]);
    e->kills += kill;
    bool ok = second_life(level, &session, seed + 2);
    if (session.world.reactor != NULL)
        session_crash(&session);
    disk_destroy(session.disk);
    disk_image_fini(&image);
    if (!ok)
        fail(e, kill ? "kill at" : "cut at", cursor->position, seed, level->text);
    return ok;
}

/* ---- all cuts ---- */

static bool first_visit(void *arg, const struct disk_cursor *cursor, const struct disk_keep *keep, uint64_t seed) {
    struct level *level = arg;
    struct disk_image image;
    disk_cursor_image(cursor, keep, &image);
    bool ok = recover(level->e, &image, &level->expected, seed, level->text, sizeof(level->text));
    if (!ok)
        keep_image(&image);
    disk_image_fini(&image);
    level->e->images++;
    if (!ok)
        fail(level->e, "cut at", cursor->position, seed, level->text);
    return ok;
}

static bool first_extra(void *arg, const struct disk_cursor *cursor) { return second(arg, cursor); }

bool enumeration_pass(struct enumeration *e, const struct enumeration_pass *pass) {
    struct model_view view;
    model_view_init(&view);
    struct level level = {.e = e, .pass = pass, .expected = {&e->model, &view}};
    uint64_t cuts = 0;
    struct walk walk = {.e = e,
                        .pass = pass,
                        .disk = e->run.disk,
                        .model = &e->model,
                        .view = &view,
                        .from = 1,
                        .to = UINT32_MAX,
                        .visit = first_visit,
                        .arg = &level,
                        .extra = pass->second_chance > 0 ? first_extra : NULL,
                        .cuts = &cuts};
    bool ok = walk_log(&walk);
    e->cuts = max_u64(e->cuts, cuts);
    model_view_fini(&view);
    return ok;
}
