#include "life.h"

#include <stdio.h>

static bool fail(struct life *life, const char *when, const char *text) {
    snprintf(life->failure, sizeof(life->failure), "life %llu, %s: %s", (unsigned long long)life->lives, when, text);
    return false;
}

static void drop_cache(struct life *life) {
    if (life->cache != NULL)
        disk_destroy(life->cache);
    plain_free(life->cached);
    life->cache = NULL;
    life->cached = NULL;
    life->cached_count = 0;
}

void life_survival(struct random *random, const struct disk_cursor *cursor, struct disk_keep *keep) {
    uint64_t way = random_below(random, 6);
    for (uint32_t i = 0; i < cursor->outstanding_count; i++) {
        keep[i] = (struct disk_keep){.kind = way == 0                      ? DISK_LOST
                                             : way == 1                    ? DISK_KEPT
                                             : random_chance(random, 1, 2) ? DISK_KEPT
                                                                           : DISK_LOST};
        if (way == 5 && random_chance(random, 1, 3))
            keep[i] = (struct disk_keep){DISK_TORN_SEEDED, random_u64(random)};
    }
}

bool life_begin(struct life *life, const struct workload *workload, uint64_t seed) {
    memset(life, 0, sizeof(*life));
    life->workload = workload;
    model_init(&life->model, (uint32_t)hash_u64(seed) | 1, 1);
    model_view_init(&life->view);
    struct disk_image empty;
    struct session session;
    disk_image_init(&empty, workload->store.disk_bytes);
    session_start(&session, &workload->store, &empty, seed, false);
    bool ok = session_format(&session) && session_open(&session) && driver_prepare(workload, &session, &life->model) &&
              session_close_store(&session);
    if (ok) {
        disk_image_clone(&life->image, &session.disk->now);
        life->all = true;
        model_view_advance(&life->model, &life->view, 1);
        session_end(&session);
    } else {
        fail(life, "preparing", session.error.text);
        session_crash(&session);
        disk_destroy(session.disk);
    }
    disk_image_fini(&empty);
    return ok;
}

void life_fini(struct life *life) {
    drop_cache(life);
    if (life->image.pages != NULL)
        disk_image_fini(&life->image);
    model_view_fini(&life->view);
    model_fini(&life->model);
}

/* Nothing was lost: all that completed is to be seen. */
static void view_all(const struct model *model, struct model_view *view) {
    for (uint32_t i = 0; i < model->node_count; i++)
        if (view->nodes[i].count > 0)
            memcpy(view->nodes[i].durable, view->nodes[i].completed, view->nodes[i].count * sizeof(uint32_t));
}

/* Compares, and takes what was found as what is there. */
static bool compare(struct life *life, struct session *session, const char *when) {
    struct model_found *found;
    uint32_t count;
    char text[300];
    if (!session_check(session))
        return fail(life, when, session->error.text);
    if (!session_find(session, &life->model, true, &found, &count))
        return fail(life, when, session->error.text);
    if (life->all)
        view_all(&life->model, &life->view);
    struct volume_store_info info;
    volume_store_info(session->store, &info);
    bool ok = model_capacity_ok(&life->model, &life->view, info.total_bytes, text, sizeof(text)) &&
              model_check(&life->model, &life->view, found, count, text, sizeof(text));
    if (!ok) {
        fail(life, when, text);
    } else {
        struct model next;
        model_from_found(&next, &life->model, found, count);
        model_fini(&life->model);
        life->model = next;
    }
    session_found_free(found, count);
    return ok;
}

static void end_by_cut(struct life *life, struct session *session, struct random *random, uint32_t from, bool kill) {
    struct disk_cursor cursor;
    struct disk_keep keep[DISK_OUTSTANDING_MAX];
    const struct disk_log *log = &session->disk->log;
    uint32_t at =
        random_chance(random, 1, 2) ? log->event_count : from + (uint32_t)random_below(random, log->event_count - from + 1);
    disk_cursor_init(&cursor, session->disk);
    while (cursor.position < at && disk_cursor_next(&cursor)) {
    }
    struct disk_image image;
    life_survival(random, &cursor, keep);
    disk_cursor_image(&cursor, kill ? NULL : keep, &image);
    disk_image_clone(&life->image, &image);
    disk_image_fini(&image);
    if (kill) {
        life->cached = plain_alloc(cursor.outstanding_count * sizeof(uint32_t));
        for (uint32_t i = 0; i < cursor.outstanding_count; i++)
            if (keep[i].kind == DISK_KEPT || log->writes[cursor.outstanding[i]].landed < cursor.position)
                life->cached[life->cached_count++] = cursor.outstanding[i];
    }
    disk_cursor_fini(&cursor);
    model_view_fini(&life->view);
    model_view_advance(&life->model, &life->view, at);
    life->all = false;
}

static bool end_by_close(struct life *life, struct session *session, struct driver *driver) {
    driver_close(driver);
    uint32_t at = disk_mark(session->disk) + 1;
    if (!session_close_store(session))
        return fail(life, "closing", session->error.text);
    if (!session_check(session))
        return fail(life, "the checker after closing", session->error.text);
    disk_image_clone(&life->image, &session->disk->now);
    model_view_fini(&life->view);
    model_view_advance(&life->model, &life->view, at);
    life->all = true;
    return true;
}

bool life_go_on(struct life *life, uint64_t seed, unsigned operations, enum life_end end) {
    struct session session;
    struct disk_image before = life->image;
    struct random random;
    random_init(&random, seed);
    session_start(&session, &life->workload->store, &before, seed + 1, true);
    for (uint32_t i = 0; i < life->cached_count; i++)
        disk_inherit(session.disk, &life->cache->log.writes[life->cached[i]]);
    drop_cache(life);
    life->lives++;
    life->image = (struct disk_image){0};
    struct driver *driver = NULL;
    bool ok = session_open(&session) ? compare(life, &session, "after opening") : fail(life, "opening", session.error.text);
    uint32_t from = disk_mark(session.disk) + 1;
    if (ok) {
        driver = plain_alloc(sizeof(*driver));
        ok = driver_init(driver, life->workload, &session, &life->model, seed + 2, operations) && driver_run(driver);
        if (!ok)
            fail(life, "running", driver->failure);
        for (unsigned i = 0; i < ACTION_COUNT; i++)
            life->operations += driver->done[i];
    }
    life->ends[end]++;
    if (ok && end == LIFE_CLOSE)
        ok = end_by_close(life, &session, driver);
    if (ok && end == LIFE_CLOSE) {
        driver_free(driver);
        session_end(&session); /* nothing may have leaked */
    } else {
        if (driver != NULL)
            driver_free(driver);
        session_crash(&session);
        if (ok)
            end_by_cut(life, &session, &random, from, end == LIFE_KILL);
        if (ok && end == LIFE_KILL)
            life->cache = session.disk;
        else
            disk_destroy(session.disk);
    }
    disk_image_fini(&before);
    return ok;
}
