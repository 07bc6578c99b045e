/* The state store in memory: the contract, and the faults that only it can be told to have. */
#include "contract.h"
#include "control/store/memory/memory.h"

static void *begin(void) {
    struct store_memory_data *data = store_memory_data_create();
    assert_non_null(data);
    return data;
}

static void end(void *kept) { store_memory_data_destroy(kept); }

static struct store *open_plain(void *kept, const struct store_options *options) {
    return store_memory_create(&(struct store_memory_options){.store = *options, .data = kept});
}

static struct store *open_shuffled(void *kept, const struct store_options *options) {
    return store_memory_create(&(struct store_memory_options){.store = *options, .data = kept, .shuffle_seed = 7});
}

static const struct store_kind plain = {.name = "memory", .begin = begin, .end = end, .open = open_plain, .endures = true};
static const struct store_kind shuffled = {
    .name = "memory, shuffled", .begin = begin, .end = end, .open = open_shuffled, .endures = true};

/* ---- faults ---- */

static enum store_memory_fault next_fault(void *arg, const struct store_request *request) {
    return request->verb == STORE_TRANSACT ? *(enum store_memory_fault *)arg : STORE_MEMORY_FINE;
}

struct faulty {
    struct store_memory_data *data;
    enum store_memory_fault fault;
};

static struct store *open_faulty(void *kept, const struct store_options *options) {
    struct faulty *faulty = kept;
    return store_memory_create(&(struct store_memory_options){
        .store = *options, .data = faulty->data, .fault = next_fault, .fault_arg = &faulty->fault});
}

static void *begin_faulty(void) {
    struct faulty *faulty = calloc(1, sizeof(*faulty));
    assert_non_null(faulty);
    faulty->data = begin();
    return faulty;
}

static void end_faulty(void *kept) {
    struct faulty *faulty = kept;
    end(faulty->data);
    free(faulty);
}

static void faults_lose_what_they_say(void **state) {
    (void)state;
    static const struct store_kind kind = {
        .name = "memory, faulty", .begin = begin_faulty, .end = end_faulty, .open = open_faulty};
    static const struct {
        enum store_memory_fault fault;
        enum store_outcome outcome;
        bool effective;
    } cases[] = {{STORE_MEMORY_FINE, STORE_DONE, true},
                 {STORE_MEMORY_REFUSE, STORE_NOT_DONE, false},
                 {STORE_MEMORY_LOSE, STORE_UNKNOWN, false},
                 {STORE_MEMORY_LOSE_ANSWER, STORE_UNKNOWN, true}};
    struct rig *rig = rig_create(&kind);
    struct faulty *faulty = rig->kept;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char name[8];
        snprintf(name, sizeof(name), "k%u", i);
        struct store_op op = {.kind = STORE_PUT, .key = rig_key(rig, name), .value = "v", .value_length = 1};
        faulty->fault = cases[i].fault;
        struct answer *answer = rig_ask(rig, &(struct store_request){.verb = STORE_TRANSACT, .then_ops = &op, .then_count = 1});
        assert_int_equal(answer->outcome, cases[i].outcome);
        answer_free(answer);
        assert_value(rig, name, cases[i].effective ? "v" : NULL);
    }
    rig_destroy(rig);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(faults_lose_what_they_say)};
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    failures += contract_run(&plain) + contract_run(&shuffled) + contract_run_time(&plain);
    failures += model_run(&plain, 1, 20, 400) + model_run(&shuffled, 1, 20, 400);
    return failures;
}
