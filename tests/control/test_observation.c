/* An observation that is brought up to date by what was listed again is the one that all listings would make. Seeded. */
#include "observed.h"

#include "base/random.h"

enum { NAMES = 12, ROUNDS = 4000 };

/* One thing that is listed, or not, in one of a few ways. */
static json_t *draw(struct random *random, enum observe_kind kind, unsigned name) {
    unsigned way = (unsigned)random_below(random, 4);
    char text[768];
    switch (kind) {
    case OBSERVE_DEVICES:
        if (name < 3)
            snprintf(
                text, sizeof(text),
                "{\"name\":\"f%u\",\"num_blocks\":%u,\"block_size\":512,\"driver_specific\":{\"aio\":{\"filename\":\"/f\"}}}",
                name, way);
        else /* renamed, and moved */
            snprintf(text, sizeof(text),
                     "{\"name\":\"u%u\",\"uuid\":\"u%u\",\"aliases\":[\"d1/%s%u\"],\"num_blocks\":%u,\"block_size\":512,"
                     "\"driver_specific\":{\"lvol\":{\"lvol_store_uuid\":\"%s\",\"snapshot\":%s,\"clones\":[\"x\"]}}}",
                     name, name, way < 2 ? "r" : "q", way == 3 ? name + 1 : name, way, name % 2 == 0 ? STORE : "other",
                     way == 1 ? "true" : "false");
        break;
    case OBSERVE_EXPORTS:
        snprintf(text, sizeof(text), "{\"nqn\":\"nqn.%u\",\"namespaces\":[{\"bdev_name\":\"u%u\"}],\"listen_addresses\":[]}",
                 name, way);
        break;
    case OBSERVE_CONTROLLERS:
        snprintf(text, sizeof(text),
                 "{\"name\":\"c%u\",\"ctrlrs\":[{\"trid\":{\"traddr\":\"127.0.0.%u\",\"trsvcid\":\"1\",\"subnqn\":\"n\"}}]}",
                 name, way);
        break;
    case OBSERVE_MIRRORS:
        snprintf(text, sizeof(text), "{\"name\":\"m%u\",\"uuid\":\"u\",\"state\":\"%s\",\"engine\":\"e\",\"size\":%u}", name,
                 way == 0 ? "serving" : "standby", way);
        break;
    default: fail();
    }
    json_t *item = json_loads(text, 0, NULL);
    assert_non_null(item);
    return item;
}

static void dump(const struct observation *seen, char *to, size_t size) {
    size_t at = 0;
#define PUT(...) at += (size_t)snprintf(to + at, size - at, __VA_ARGS__)
    for (size_t i = 0; i < seen->device_count; i++)
        PUT("%s %llu\n", seen->devices[i].name, (unsigned long long)seen->devices[i].bytes);
    for (size_t i = 0; i < seen->volume_count; i++)
        PUT("%s/%s %s %llu %d %u\n", seen->volumes[i].store, seen->volumes[i].name, seen->volumes[i].uuid,
            (unsigned long long)seen->volumes[i].bytes, seen->volumes[i].snapshot, seen->volumes[i].children);
    for (size_t i = 0; i < seen->export_count; i++)
        PUT("%s %s\n", seen->exports[i].nqn, seen->exports[i].device);
    for (size_t i = 0; i < seen->controller_count; i++)
        PUT("%s %s\n", seen->controllers[i].name, seen->controllers[i].address);
    for (size_t i = 0; i < seen->mirror_count; i++)
        PUT("%s %s %llu\n", seen->mirrors[i].name, seen->mirrors[i].state, (unsigned long long)seen->mirrors[i].bytes);
#undef PUT
    assert_true(at < size);
}

static const enum observe_kind kinds[] = {OBSERVE_DEVICES, OBSERVE_EXPORTS, OBSERVE_CONTROLLERS, OBSERVE_MIRRORS};

static json_t *array_of_listed(json_t *const listed[NAMES]) {
    json_t *array = json_array();
    for (unsigned name = 0; name < NAMES; name++)
        if (listed[name] != NULL)
            json_array_append(array, listed[name]);
    return array;
}

static void compare(const struct observation *seen, json_t *const listed[array_count(kinds)][NAMES]) {
    static const struct { char text[8192]; } zero;
    char *is = test_malloc(sizeof(zero.text)), *meant = test_malloc(sizeof(zero.text));
    struct observation *anew = observation_make(&(struct observation_answers){.devices = array_of_listed(listed[0]),
                                                                              .stores = array_of(A_STORE),
                                                                              .transports = json_array(),
                                                                              .exports = array_of_listed(listed[1]),
                                                                              .controllers = array_of_listed(listed[2]),
                                                                              .mirrors = array_of_listed(listed[3])});
    assert_non_null(anew);
    dump(seen, is, sizeof(zero.text));
    dump(anew, meant, sizeof(zero.text));
    assert_string_equal(is, meant);
    observation_unref(anew);
    test_free(is);
    test_free(meant);
}

static void test_up_to_date(void **state) {
    struct random random;
    json_t *listed[array_count(kinds)][NAMES] = {0};
    struct observation *seen = observed_of("", A_STORE, "");
    (void)state;
    random_init(&random, 4711);
    for (unsigned round = 0; round < ROUNDS; round++) {
        size_t k = random_below(&random, array_count(kinds));
        unsigned name = (unsigned)random_below(&random, NAMES);
        json_t *before = listed[k][name], *now = random_below(&random, 3) == 0 ? NULL : draw(&random, kinds[k], name);
        if (before != NULL)
            observation_remove(seen, kinds[k], before);
        if (now != NULL)
            assert_true(observation_add(seen, kinds[k], now));
        json_decref(before);
        listed[k][name] = now;
        if (round % 16 == 0)
            compare(seen, listed);
    }
    compare(seen, listed);
    for (size_t k = 0; k < array_count(kinds); k++)
        for (unsigned name = 0; name < NAMES; name++)
            json_decref(listed[k][name]);
    observation_unref(seen);
}

/* What was never in it is not taken out, also when something is of that name. */
static void test_another(void **state) {
    struct observation *seen = observed_of(A_HEAD, A_STORE, EXPORT);
    json_t *head = array_of(A_HEAD), *export = array_of(EXPORT);
    (void)state;
    observation_remove(seen, OBSERVE_DEVICES, json_array_get(head, 0));
    observation_remove(seen, OBSERVE_EXPORTS, json_array_get(export, 0));
    assert_int_equal(seen->volume_count, 1);
    assert_int_equal(seen->export_count, 1);
    assert_non_null(observed_volume(seen, STORE, NAME));
    json_decref(head);
    json_decref(export);
    observation_unref(seen);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_up_to_date), cmocka_unit_test(test_another)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
