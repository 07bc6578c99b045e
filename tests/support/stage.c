#include "support/stage.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static uint64_t no_clock(void *arg) {
    (void)arg;
    return 0;
}

static void count_record(void *arg, const struct log_record *record) {
    (void)record;
    ((struct stage *)arg)->records++;
}

static void on_closed(void *arg) { ((struct stage *)arg)->closed = true; }
static bool is_closed(void *arg) { return ((struct stage *)arg)->closed; }

static void open_stage(struct stage *stage) {
    struct reactor_options options = {.name = "control", .cpu = -1, .poll_mode = HOST_POLL_NEVER};
    assert_int_equal(reactor_create(stage->host, &options, &stage->reactor), 0);
    log_init(&stage->log, no_clock, count_record, stage);
    struct store_memory_options store = {
        .store = {.reactor = stage->reactor}, .data = stage->data, .fault = stage->fault, .fault_arg = stage->fault_arg};
    stage->store = store_memory_create(&store);
    stage->closed = false;
    assert_int_equal(reactor_start(stage->reactor), 0);
}

void stage_begin(struct stage *stage, enum store_memory_fault (*fault)(void *arg, const struct store_request *request),
                 void *fault_arg) {
    struct step_host_options options = {.seed = 1};
    *stage = (struct stage){
        .host = step_host_create(&options), .data = store_memory_data_create(), .fault = fault, .fault_arg = fault_arg};
    open_stage(stage);
}

void stage_close_store(struct stage *stage) {
    reactor_enter(stage->reactor);
    store_close(stage->store, on_closed, stage);
    reactor_enter(NULL);
    assert_true(step_host_run(stage->host, is_closed, stage, 30 * NS_PER_S));
}

void stage_reopen(struct stage *stage) {
    assert_true(stage->closed);
    reactor_destroy(stage->reactor);
    open_stage(stage);
}

void stage_end(struct stage *stage) {
    if (!stage->closed)
        stage_close_store(stage);
    reactor_destroy(stage->reactor);
    store_memory_data_destroy(stage->data);
    step_host_destroy(stage->host);
}
