/* Random requests against a model that is as simple as can be: a copy of all entries for each revision, and a list of events. */
#include "contract.h"

#define KEYS 10
#define REVISIONS_MAX 2048
#define EVENTS_MAX 16384
#define OPS_MAX 6
#define WATCHERS 4

static const char *const names[KEYS] = {"a", "b", "b/1", "b/2", "b/20", "b/3", "c", "c/x", "d/1", "d/2"};
static const char *const prefixes[] = {"", "b", "b/", "b/2", "c", "d/", "e", "a"};
#define PREFIXES (sizeof(prefixes) / sizeof(prefixes[0]))

struct item {
    bool there;
    int64_t create, modify;
    char value[12];
};

struct event {
    int64_t revision;
    unsigned key;
    bool deleted;
    char value[12];
};

struct model {
    struct rig *rig;
    struct random random;
    int64_t base, revision, compacted; /* base: the store's when the model began */
    struct item (*states)[KEYS];       /* of revision base + i */
    struct event *events;
    size_t event_count;
    struct watcher watchers[WATCHERS];
    int64_t watched_from[WATCHERS]; /* 0 = not under way */
};

static struct item *now(struct model *model) { return model->states[model->revision - model->base]; }

static bool below(const char *name, const char *prefix, bool is_prefix) {
    return is_prefix ? strncmp(name, prefix, strlen(prefix)) == 0 : strcmp(name, prefix) == 0;
}

/* ---- transactions ---- */

struct draft {
    struct store_request request;
    struct store_compare compares[3];
    struct store_op ops[2][OPS_MAX];
    char values[2][OPS_MAX][12], compared[3][12];
};

static unsigned draw(struct model *model, unsigned bound) { return (unsigned)random_below(&model->random, bound); }

static bool op_fits(const struct store_op *ops, unsigned count, const struct store_op *op) {
    for (unsigned i = 0; i < count; i++) {
        const struct store_op *a = &ops[i];
        bool writes = a->kind != STORE_GET && op->kind != STORE_GET && (a->kind == STORE_PUT || op->kind == STORE_PUT);
        if (writes && (below(a->key, op->key, op->prefix) || below(op->key, a->key, a->prefix)))
            return false;
    }
    return true;
}

static void draft_ops(struct model *model, struct draft *draft, unsigned branch, uint32_t *count) {
    unsigned wanted = draw(model, OPS_MAX + 1);
    for (unsigned i = 0; i < wanted; i++) {
        char *value = draft->values[branch][*count];
        snprintf(value, 12, "%u", draw(model, 1000));
        struct store_op op = {.kind = (enum store_op_kind)draw(model, 3), .key = rig_key(model->rig, names[draw(model, KEYS)])};
        if (op.kind == STORE_DELETE && draw(model, 3) == 0) {
            op.prefix = true;
            op.key = rig_key(model->rig, prefixes[draw(model, PREFIXES)]);
        }
        if (op.kind == STORE_PUT) {
            op.value = value;
            op.value_length = strlen(value);
        }
        if (op_fits(draft->ops[branch], *count, &op))
            draft->ops[branch][(*count)++] = op;
    }
}

static void draft_transaction(struct model *model, struct draft *draft) {
    memset(draft, 0, sizeof(*draft));
    struct store_request *request = &draft->request;
    *request = (struct store_request){.verb = STORE_TRANSACT,
                                      .compares = draft->compares,
                                      .then_ops = draft->ops[0],
                                      .else_ops = draft->ops[1],
                                      .compare_count = draw(model, 4)};
    for (unsigned i = 0; i < request->compare_count; i++) {
        unsigned key = draw(model, KEYS);
        const struct item *item = &now(model)[key];
        struct store_compare *compare = &draft->compares[i];
        *compare = (struct store_compare){.key = rig_key(model->rig, names[key]),
                                          .target = (enum store_compare_target)draw(model, 3),
                                          .relation = (enum store_relation)draw(model, 4)};
        /* Near what is true, or both branches would not be seen. */
        int64_t has = compare->target == STORE_CREATE_REVISION ? item->create : item->modify;
        compare->revision = has + draw(model, 3);
        compare->revision -= compare->revision > 0;
        snprintf(draft->compared[i], 12, "%s", draw(model, 2) == 0 ? item->value : "500");
        compare->value = draft->compared[i];
        compare->value_length = strlen(draft->compared[i]);
    }
    draft_ops(model, draft, 0, &request->then_count);
    draft_ops(model, draft, 1, &request->else_count);
}

static bool model_holds(struct model *model, const struct store_compare *compare) {
    const struct item *item = NULL;
    for (unsigned i = 0; i < KEYS; i++)
        if (strcmp(names[i], rig_name(model->rig, compare->key)) == 0)
            item = &now(model)[i];
    assert_non_null(item);
    if (compare->target == STORE_VALUE && !item->there)
        return false;
    int64_t has = compare->target == STORE_CREATE_REVISION ? item->create : item->modify;
    int64_t order = compare->target == STORE_VALUE ? strcmp(item->value, compare->value) : has - compare->revision;
    return compare->relation == STORE_EQUAL       ? order == 0
           : compare->relation == STORE_NOT_EQUAL ? order != 0
           : compare->relation == STORE_LESS      ? order < 0
                                                  : order > 0;
}

static void model_event(struct model *model, int64_t revision, unsigned key, const struct item *item) {
    assert_true(model->event_count < EVENTS_MAX);
    struct event *event = &model->events[model->event_count++];
    *event = (struct event){.revision = revision, .key = key, .deleted = !item->there};
    memcpy(event->value, item->value, sizeof(event->value));
}

static void check_entry(struct model *model, const struct store_entry *entry, const char *name, const struct item *item) {
    (void)model;
    assert_string_equal(entry->key, name);
    assert_int_equal(entry->create_revision, item->create);
    assert_int_equal(entry->modify_revision, item->modify);
    assert_int_equal(entry->value_length, strlen(item->value));
    assert_string_equal(entry->value, item->value);
}

static void model_op(struct model *model, struct item *items, const struct store_op *op, const struct answer_result *result) {
    const char *name = rig_name(model->rig, op->key);
    int64_t revision = model->revision + 1;
    uint32_t deleted = 0, found = 0;
    for (unsigned i = 0; i < KEYS; i++) {
        if (!below(names[i], name, op->prefix))
            continue;
        if (op->kind == STORE_PUT) {
            items[i].create = items[i].there ? items[i].create : revision;
            items[i].there = true;
            items[i].modify = revision;
            snprintf(items[i].value, sizeof(items[i].value), "%s", (const char *)op->value);
            model_event(model, revision, i, &items[i]);
        } else if (op->kind == STORE_DELETE && items[i].there) {
            deleted++;
            items[i] = (struct item){0};
            model_event(model, revision, i, &items[i]);
        } else if (op->kind == STORE_GET && items[i].there) {
            found++;
            assert_int_equal(result->count, 1);
            check_entry(model, &result->entries[0], names[i], &items[i]);
        }
    }
    assert_int_equal(result->deleted, deleted);
    assert_int_equal(result->count, found);
}

static void step_transaction(struct model *model) {
    struct draft draft;
    draft_transaction(model, &draft);
    bool holds = true;
    for (unsigned i = 0; i < draft.request.compare_count; i++)
        holds = holds && model_holds(model, &draft.compares[i]);
    struct answer *answer = rig_ask(model->rig, &draft.request);
    if (answer->outcome != STORE_DONE)
        fail_msg("%s", answer->error.text);
    assert_int_equal(answer->succeeded, holds);
    uint32_t count = holds ? draft.request.then_count : draft.request.else_count;
    assert_int_equal(answer->result_count, count);
    struct item items[KEYS];
    memcpy(items, now(model), sizeof(items));
    size_t events = model->event_count;
    for (uint32_t i = 0; i < count; i++)
        model_op(model, items, &draft.ops[holds ? 0 : 1][i], &answer->results[i]);
    if (model->event_count > events) {
        model->revision++;
        assert_true(model->revision - model->base < REVISIONS_MAX);
        memcpy(now(model), items, sizeof(items));
    }
    assert_int_equal(answer->revision, model->revision);
    answer_free(answer);
}

/* ---- ranges, compaction ---- */

static void step_range(struct model *model) {
    bool prefix = draw(model, 4) > 0;
    const char *name = prefix ? prefixes[draw(model, PREFIXES)] : names[draw(model, KEYS)];
    const char *after = draw(model, 3) == 0 ? names[draw(model, KEYS)] : NULL;
    int64_t at = model->revision;
    struct store_request request = {
        .verb = STORE_RANGE, .key = rig_key(model->rig, name), .prefix = prefix, .limit = draw(model, 5)};
    if (after != NULL)
        request.after = rig_key(model->rig, after);
    if (draw(model, 2) == 0)
        at = request.revision = model->base + draw(model, (unsigned)(model->revision - model->base) + 2);
    struct answer *answer = rig_ask(model->rig, &request);
    if (at < model->compacted || at > model->revision) {
        assert_int_equal(answer->outcome, STORE_NOT_DONE);
        assert_int_equal(answer->error.code, at > model->revision ? ERROR_INVALID : ERROR_NOT_FOUND);
        answer_free(answer);
        return;
    }
    if (answer->outcome != STORE_DONE)
        fail_msg("%s", answer->error.text);
    assert_int_equal(answer->revision, model->revision);
    const struct item *items = model->states[at - model->base];
    uint32_t count = 0;
    bool more = false;
    for (unsigned i = 0; i < KEYS; i++) {
        if (!items[i].there || !below(names[i], name, prefix) || (after != NULL && strcmp(names[i], after) <= 0))
            continue;
        more = request.limit != 0 && count == request.limit;
        if (more)
            break;
        assert_true(count < answer->results[0].count);
        check_entry(model, &answer->results[0].entries[count++], names[i], &items[i]);
    }
    assert_int_equal(answer->results[0].count, count);
    assert_int_equal(answer->more, more);
    answer_free(answer);
}

static void step_compact(struct model *model) {
    int64_t at = model->base + draw(model, (unsigned)(model->revision - model->base) + 1);
    if (at <= model->compacted) /* a watch that lags might end */
        return;
    for (unsigned i = 0; i < WATCHERS; i++)
        if (model->watched_from[i] != 0)
            return;
    rig_compact(model->rig, at);
    model->compacted = at;
}

/* ---- watches ---- */

static void step_watch(struct model *model, unsigned index) {
    struct watcher *watcher = &model->watchers[index];
    int64_t oldest = (model->compacted > model->base ? model->compacted : model->base) + 1;
    if (model->watched_from[index] != 0)
        return;
    bool prefix = draw(model, 3) > 0;
    model->watched_from[index] = oldest + draw(model, (unsigned)(model->revision - oldest + 1) + 1);
    watcher_start(watcher, model->rig, prefix ? prefixes[draw(model, PREFIXES)] : names[draw(model, KEYS)], prefix,
                  model->watched_from[index]);
}

static void end_watch(struct model *model, unsigned index) {
    struct watcher *watcher = &model->watchers[index];
    int64_t from = model->watched_from[index];
    if (from == 0)
        return;
    char *expected = calloc(model->event_count + 1, 48);
    size_t length = 0;
    unsigned count = 0;
    const char *name = rig_name(model->rig, watcher->watch.key);
    for (size_t i = 0; i < model->event_count; i++) {
        const struct event *event = &model->events[i];
        if (event->revision < from || !below(names[event->key], name, watcher->watch.prefix))
            continue;
        count++;
        length +=
            (size_t)(event->deleted ? snprintf(expected + length, 48, "-%s@%lld ", names[event->key], (long long)event->revision)
                                    : snprintf(expected + length, 48, "+%s=%s@%lld ", names[event->key], event->value,
                                               (long long)event->revision));
    }
    watcher_await(watcher, count);
    assert_string_equal(watcher->text, expected);
    free(expected);
    watcher_stop(watcher);
    model->watched_from[index] = 0;
}

/* ---- running ---- */

struct search {
    const struct store_kind *kind;
    uint64_t seed;
    unsigned steps;
};

static void run_seed(const struct search *search) {
    struct model *model = calloc(1, sizeof(*model));
    model->states = calloc(REVISIONS_MAX, sizeof(*model->states));
    model->events = calloc(EVENTS_MAX, sizeof(*model->events));
    assert_true(model->states != NULL && model->events != NULL);
    random_init(&model->random, search->seed);
    model->rig = rig_create(search->kind);
    model->base = model->revision = rig_revision(model->rig);
    for (unsigned step = 0; step < search->steps; step++) {
        unsigned what = draw(model, 100);
        if (what < 60)
            step_transaction(model);
        else if (what < 88)
            step_range(model);
        else if (what < 94)
            step_watch(model, draw(model, WATCHERS));
        else if (what < 97)
            end_watch(model, draw(model, WATCHERS));
        else if (what < 99)
            step_compact(model);
        else if (search->kind->endures &&
                 model->watched_from[0] + model->watched_from[1] + model->watched_from[2] + model->watched_from[3] == 0) {
            rig_close(model->rig);
            rig_open(model->rig);
        }
    }
    for (unsigned i = 0; i < WATCHERS; i++)
        end_watch(model, i);
    rig_destroy(model->rig);
    free(model->states);
    free(model->events);
    free(model);
}

static struct search current; /* the seed that runs, for the line that a failure prints */

static void matches_the_model(void **state) {
    const struct search *search = *state;
    for (unsigned i = 0; i < search->steps; i++) {
        current.seed = search->seed + i;
        print_message("%s: seed %llu\n", search->kind->name, (unsigned long long)current.seed);
        run_seed(&current);
    }
}

int model_run(const struct store_kind *kind, uint64_t first_seed, unsigned seeds, unsigned steps) {
    struct search search = {.kind = kind, .seed = first_seed, .steps = seeds};
    const struct CMUnitTest tests[] = {{"matches_the_model", matches_the_model, NULL, NULL, &search}};
    current = (struct search){.kind = kind, .seed = first_seed, .steps = steps};
    return cmocka_run_group_tests_name(kind->name, tests, NULL, NULL);
}
