/* What an observer doubts, and so asks for again, after events, commands and listings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs the four above. */
#include <cmocka.h>
#include <string.h>

#include "control/observe.h"

#define STORE "11111111-2222-3333-4444-555555555555"

static struct observer observer;

static json_t *json_of(const char *text) {
    json_t *json = json_loads(text, 0, NULL);
    assert_non_null(json);
    return json;
}

/* A store with r, r-snap-b above r-snap-a, and an export of r. */
#define VOLUME(uuid, name, more)                                                                                                 \
    "{\"name\":\"" uuid "\",\"uuid\":\"" uuid "\",\"aliases\":[\"d/" name "\"],\"num_blocks\":8,\"block_size\":4096,"            \
    "\"driver_specific\":{\"lvol\":{\"lvol_store_uuid\":\"" STORE "\"" more "}}}"
static const char *const devices[] = {
    VOLUME("u-r", "r", ",\"clone\":true,\"base_snapshot\":\"r-snap-b\""),
    VOLUME("u-b", "r-snap-b", ",\"snapshot\":true,\"clone\":true,\"base_snapshot\":\"r-snap-a\",\"clones\":[\"r\"]"),
    VOLUME("u-a", "r-snap-a", ",\"snapshot\":true,\"clones\":[\"r-snap-b\"]"),
    VOLUME("u-x", "x", ""),
};

static int setup(void **state) {
    (void)state;
    json_t *array = json_array();
    observer = (struct observer){.aliases = json_object(), .trees = json_object(), .tree_doubts = json_object(), .next_event = 5};
    for (unsigned kind = 0; kind < OBSERVE_KINDS; kind++) {
        observer.parts[kind].listed = json_object();
        observer.parts[kind].touched = json_object();
        observer.parts[kind].doubts = json_object();
    }
    for (size_t i = 0; i < array_count(devices); i++) {
        json_t *device = json_of(devices[i]);
        observer_set_listed(&observer, OBSERVE_DEVICES, json_string_value(json_object_get(device, "name")), device);
        json_array_append_new(array, device);
    }
    observer.seen = observation_make(&(struct observation_answers){
        .devices = array,
        .stores = json_of("[{\"uuid\":\"" STORE "\",\"name\":\"d\",\"base_bdev\":\"d\",\"cluster_size\":1048576}]"),
        .transports = json_array(),
        .exports = json_of("[{\"nqn\":\"nqn.r\",\"namespaces\":[{\"bdev_name\":\"u-r\"}],\"listen_addresses\":[]}]")});
    return observer.seen == NULL ? -1 : 0;
}

static int teardown(void **state) {
    (void)state;
    for (unsigned kind = 0; kind < OBSERVE_KINDS; kind++) {
        json_decref(observer.parts[kind].doubts);
        json_decref(observer.parts[kind].touched);
        json_decref(observer.parts[kind].listed);
    }
    json_decref(observer.aliases);
    json_decref(observer.trees);
    json_decref(observer.tree_doubts);
    observation_unref(observer.seen);
    return 0;
}

/* All doubts as "KIND:NAME …", with "KIND:*" for all of one; then there are none. Names in the order of `expected`. */
static void expect(const char *expected) {
    static const char *const names[] = {"dev", "store", "transport", "export", "controller", "mirror"};
    char text[512] = "", word[128];
    size_t count = 0;
    for (unsigned kind = 0; kind < OBSERVE_KINDS; kind++) {
        struct observe_part *part = &observer.parts[kind];
        const char *name;
        json_t *value;
        count += json_object_size(part->doubts) + part->all;
        if (part->all)
            snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s:* ", names[kind]);
        json_object_foreach(part->doubts, name, value)
            snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s:%s ", names[kind], name);
        json_object_clear(part->doubts);
        part->all = false;
    }
    for (const char *at = expected; *at != '\0';) {
        size_t length = strcspn(at, " ");
        snprintf(word, sizeof(word), "%.*s ", (int)length, at);
        if (strstr(text, word) == NULL)
            fail_msg("%snot doubted, but %s", word, text);
        at += length + strspn(at + length, " ");
        count--;
    }
    if (count != 0)
        fail_msg("doubted: %s, not only %s", text, expected);
}

static void event(unsigned id, const char *type, const char *context) {
    json_t *events = json_pack("[{s:s, s:s, s:i}]", "type", type, "ctx", context, "id", (int)id);
    observer_note_events(&observer, events);
    json_decref(events);
}

static void test_events(void **state) {
    (void)state;
    event(5, "bdev_register", "u-new");
    expect("dev:u-new");
    event(6, "bdev_unregister", "u-b");
    expect("dev:u-b dev:u-a dev:u-r");
    event(7, "bdev_unregister", "u-r");
    expect("dev:u-r dev:u-b export:nqn.r");
    event(8, "mirror_leg", "m1 r-leg whole");
    assert_non_null(json_object_get(observer.tree_doubts, "m1"));
    expect("mirror:m1");
    event(9, "nvmf_subsystem", "nqn.r");
    expect("export:nqn.r");
    event(10, "bdev_nvme_controller", "c1");
    expect("controller:c1");
    event(11, "something_new", "x");
    expect("dev:* store:* transport:* export:* controller:* mirror:*");
    assert_int_equal(observer.next_event, 12);
    event(14, "bdev_resize", "u-x"); /* two were lost */
    expect("dev:* dev:u-x store:* transport:* export:* controller:* mirror:*");
    assert_int_equal(observer.next_event, 15);
}

static void command(const char *method, const char *params) {
    json_t *json = json_of(params);
    observer_note_command(&observer, method, json);
    json_decref(json);
}

static void test_commands(void **state) {
    (void)state;
    command("bdev_lvol_get_xattr", "{\"name\":\"u-r\"}");
    command("log_set_level", "{\"level\":\"INFO\"}");
    expect("");
    command("bdev_lvol_snapshot", "{\"lvol_name\":\"u-r\",\"snapshot_name\":\"r-snap-c\"}");
    expect("dev:u-r dev:u-b dev:r-snap-c");
    command("volume_revert", "{\"name\":\"u-r\",\"snapshot\":\"u-a\"}");
    expect("dev:u-r dev:u-b");
    command("bdev_lvol_rename", "{\"old_name\":\"d/r\",\"new_name\":\"q\"}"); /* listed by UUID, whatever it is called */
    expect("dev:u-r dev:u-b");
    command("nvmf_delete_subsystem", "{\"nqn\":\"nqn.r\"}");
    expect("export:nqn.r");
    command("nvmf_create_transport", "{\"trtype\":\"TCP\"}");
    expect("transport:*");
    command("nvmf_set_config", "{}");
    expect("export:*");
    command("mirror_create", "{\"name\":\"m\"}");
    expect("mirror:m");
    command("bdev_nvme_detach_controller", "{\"name\":\"c\"}");
    expect("controller:c");
    command("bdev_lvol_create_lvstore", "{\"bdev_name\":\"d\",\"lvs_name\":\"d\"}");
    expect("dev:* store:* transport:* export:* controller:* mirror:*");
}

/* What is listed anew says that others have changed, too. */
static void test_neighbours(void **state) {
    (void)state;
    json_t *before = json_of(VOLUME("u-r", "r", ",\"clone\":true,\"base_snapshot\":\"r-snap-b\"")),
           *now = json_of(VOLUME("u-r", "r", ",\"clone\":true,\"base_snapshot\":\"r-snap-a\",\"used_bytes\":9")),
           *new =
               json_of(VOLUME("u-n", "n", ",\"snapshot\":true,\"clone\":true,\"base_snapshot\":\"r-snap-a\",\"clones\":[\"x\"]"));
    observer_note_device(&observer, before, before);
    expect("");
    observer_note_device(&observer, before, now);
    expect("dev:u-a dev:u-b");
    observer_note_device(&observer, NULL, new);
    expect("dev:u-a dev:u-x");
    observer_note_device(&observer, before, NULL);
    expect("dev:u-b");
    json_t *file = json_of("{\"name\":\"f\",\"driver_specific\":{\"aio\":{}}}");
    observer_note_device(&observer, NULL, file);
    expect("");
    json_decref(file);
    json_decref(before);
    json_decref(now);
    json_decref(new);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_events, setup, teardown),
        cmocka_unit_test_setup_teardown(test_commands, setup, teardown),
        cmocka_unit_test_setup_teardown(test_neighbours, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
