/* Observations, written as a plane answers its listings, and what a plan comes to upon one. For the tests of plans; includes what
 * cmocka.h wants before it. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "control/internal.h"

#define STORE "11111111-1111-4111-8111-111111111111"
#define HEAD "22222222-2222-4222-8222-222222222222"
#define NAME "vol-r-0a1B2c3D"
#define ADDRESS "127.0.0.1"

#define VOLUME(uuid, name, rest)                                                                                                 \
    "{\"name\":\"" uuid "\",\"uuid\":\"" uuid "\",\"aliases\":[\"d1/" name "\"],\"block_size\":512,\"num_blocks\":16384,"        \
    "\"driver_specific\":{\"lvol\":{\"lvol_store_uuid\":\"" STORE "\"," rest "}}}"
#define DISK                                                                                                                     \
    "{\"name\":\"d1\",\"uuid\":\"x\",\"block_size\":512,\"num_blocks\":1000,\"driver_specific\":{\"aio\":{\"filename\":\"/"      \
    "f\"}}}"
#define A_STORE "{\"uuid\":\"" STORE "\",\"name\":\"d1\",\"base_bdev\":\"d1\",\"cluster_size\":1048576}"
#define A_HEAD VOLUME(HEAD, NAME, "\"snapshot\":false,\"clone\":false")
#define EXPORT                                                                                                                   \
    "{\"nqn\":\"nqn.2023-01.io.longhorn.spdk:" NAME                                                                              \
    "\",\"allow_any_host\":false,\"hosts\":[{}],\"namespaces\":[{\"bdev_name\":\"" HEAD                                          \
    "\"}],\"listen_addresses\":[{\"traddr\":\"127.0.0.1\",\"trsvcid\":\"20001\"}]}"

static inline json_t *array_of(const char *items) {
    char text[8192];
    snprintf(text, sizeof(text), "[%s]", items);
    json_t *json = json_loads(text, 0, NULL);
    assert_non_null(json);
    return json;
}

static inline struct observation *observed_all(const char *devices, const char *stores, const char *exports,
                                               const char *controllers, const char *mirrors) {
    struct observation *seen = observation_make(&(struct observation_answers){.devices = array_of(devices),
                                                                              .stores = array_of(stores),
                                                                              .transports = array_of("{\"trtype\":\"TCP\"}"),
                                                                              .exports = array_of(exports),
                                                                              .controllers = array_of(controllers),
                                                                              .mirrors = array_of(mirrors)});
    assert_non_null(seen);
    seen->has_attributes = true;
    return seen;
}

static inline struct observation *observed_of(const char *devices, const char *stores, const char *exports) {
    return observed_all(devices, stores, exports, "", "");
}

/* Names and numbers that say what a command is about, in order, with a comma after each; our replica's name is "~". */
static inline size_t subjects_text(json_t *params, char *to, size_t size) {
    static const char *const keys[] = {"nqn",         "bdev_name",     "trsvcid",   "name",          "old_name",
                                       "new_name",    "lvs_name",      "lvol_name", "bdev",          "clone_name",
                                       "parent_name", "snapshot_name", "subnqn",    "src_lvol_name", "dst_bdev_name",
                                       "size_in_mib", "traddr",        "lease"};
    static const char prefix[] = "nqn.2023-01.io.longhorn.spdk:";
    size_t length = 0;
    const char *key;
    json_t *value;
    json_object_foreach(params, key, value) {
        bool told = strcmp(key, "traddr") != 0 || json_object_get(params, "subnqn") != NULL; /* listeners' are all the same */
        for (size_t k = 0; k < array_count(keys) && json_is_integer(value); k++)
            if (strcmp(keys[k], key) == 0)
                length += (size_t)snprintf(to + length, size - length, "%lld,", (long long)json_integer_value(value));
        for (size_t k = 0; k < array_count(keys) && told && json_is_string(value); k++) {
            const char *text = json_string_value(value), *ours;
            text += strncmp(text, prefix, strlen(prefix)) == 0 ? strlen(prefix) : 0;
            ours = strstr(text, NAME);
            if (strcmp(keys[k], key) == 0)
                length += (size_t)snprintf(to + length, size - length, "%.*s%s%s,", ours == NULL ? 0 : (int)(ours - text), text,
                                           ours == NULL ? text : "~", ours == NULL ? "" : ours + strlen(NAME));
        }
        if (json_is_object(value))
            length += subjects_text(value, to + length, size - length);
        if (json_is_array(value) && json_is_integer(json_array_get(value, 0)))
            length += (size_t)snprintf(to + length, size - length, "%zu clusters,", json_array_size(value));
    }
    return length;
}

/* What a plan comes to: "=" reached, "!CODE" refused, else its methods, with what they are about if `subjects`. */
static inline const char *plan_text_of(const struct control_goal *goal, struct observation *take_seen, bool subjects) {
    static const char *const codes[] = {
        [ERROR_INVALID] = "!invalid",       [ERROR_NOT_FOUND] = "!not found", [ERROR_EXISTS] = "!exists", [ERROR_BUSY] = "!busy",
        [ERROR_PERMISSION] = "!permission", [ERROR_DAMAGED] = "!damaged",     [ERROR_CODE_COUNT] = NULL};
    static const char *const words[] = {"bdev_", "nvmf_", "lvol_", "subsystem_"};
    static const struct { char text[2048]; } zero;
    struct plan plan;
    char *to = test_malloc(sizeof(zero.text));
    size_t length = 0;
    to[0] = '\0';
    plan_make(goal, take_seen, ADDRESS, &plan);
    if (plan.outcome == PLAN_REFUSED) {
        assert_true(plan.error.text[0] != '\0' || plan.error.expected[0] != '\0');
        length = (size_t)snprintf(to, sizeof(zero.text), "%s", codes[plan.error.code]);
    } else if (plan.outcome == PLAN_REACHED) {
        length = (size_t)snprintf(to, sizeof(zero.text), "=");
    }
    for (unsigned i = 0; plan.outcome == PLAN_CARRY_OUT && i < plan.count; i++) {
        const char *method = plan.commands[i].method;
        for (size_t w = 0; w < array_count(words); w++)
            if (strncmp(method, words[w], strlen(words[w])) == 0)
                method += strlen(words[w]);
        length += (size_t)snprintf(to + length, sizeof(zero.text) - length, "%s%s", i > 0 ? " " : "", method);
        size_t told = subjects ? subjects_text(plan.commands[i].params, to + length + 1, sizeof(zero.text) - length - 1) : 0;
        if (told > 0) {
            to[length] = '(';
            to[length + told] = ')';
            length += told + 1;
            to[length] = '\0';
        }
    }
    plan_commands_free(plan.commands, plan.count);
    observation_unref(take_seen);
    return to;
}

static inline const char *plan_text(const struct control_goal *goal, struct observation *take_seen) {
    return plan_text_of(goal, take_seen, false);
}

static inline void expect(const struct control_goal *goal, const char *devices, const char *stores, const char *exports,
                          const char *wanted) {
    const char *text = plan_text(goal, observed_of(devices, stores, exports));
    assert_string_equal(text, wanted);
    test_free((void *)text);
}
