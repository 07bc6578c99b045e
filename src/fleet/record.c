#include "fleet/record.h"

#include <stdio.h>
#include <stdlib.h>

#include "control/names.h"
#include "control/records.h"

static const char *const phases[] = {[FLEET_MAKING] = "making",
                                     [FLEET_STANDING] = "standing",
                                     [FLEET_UNMAKING] = "unmaking",
                                     [FLEET_FAILED] = "failed",
                                     [FLEET_DELETING] = "deleting"};
static const char *const reverts[] = {[FLEET_NO_REVERT] = "", [FLEET_REVERTING] = "reverting", [FLEET_RESTORING] = "restoring"};
static const char *const clones[] = {[FLEET_NO_CLONE] = "", [FLEET_CLONING] = "copying", [FLEET_CLONED] = "copied"};
static const char *const changes[] = {[FLEET_STAYS] = "stays", [FLEET_COMES] = "comes", [FLEET_GOES] = "goes"};

bool fleet_record_write(const struct fleet_record *record, struct text *to) {
    json_t *members = json_array(), *nodes = json_array();
    for (unsigned i = 0; i < record->member_count; i++) {
        const struct fleet_member *member = &record->members[i];
        json_t *json = json_pack("{s:s, s:s, s:s, s:s}", "name", member->name, "node", member->node, "disk", member->disk,
                                 "change", changes[member->change]);
        if (member->address[0] != '\0')
            json_object_set_new(json, "address", json_string(member->address));
        json_array_append_new(members, json);
    }
    for (unsigned i = 0; i < record->node_count; i++)
        json_array_append_new(nodes, json_string(record->nodes[i]));
    json_t *json =
        json_pack("{s:s, s:s, s:I, s:I, s:i, s:b, s:b, s:s, s:o, s:o, s:s}", "name", record->name, "frontend", record->frontend,
                  "bytes", (json_int_t)record->bytes, "wanted_bytes", (json_int_t)record->wanted_bytes, "replicas",
                  (int)record->replicas, "replace", record->replace, "abandon", record->abandon, "phase", phases[record->phase],
                  "members", members, "nodes", nodes, "failure", record->failure);
    if (json != NULL && record->revert != FLEET_NO_REVERT)
        json_object_set_new(
            json, "revert",
            json_pack("{s:s, s:s, s:b}", "step", reverts[record->revert], "to", record->snapshot, "served", record->served));
    if (json != NULL && record->clone != FLEET_NO_CLONE)
        json_object_set_new(json, "clone",
                            json_pack("{s:s, s:s, s:s}", "step", clones[record->clone], "of", record->source, "snapshot",
                                      record->source_snapshot));
    return records_write_json(json, to);
}

static bool read_word(const json_t *json, const char *key, const char *const *words, unsigned count, unsigned *ret,
                      struct error *error) {
    const char *value = json_string_value(json_object_get(json, key));
    for (unsigned i = 0; value != NULL && i < count; i++)
        if (strcmp(words[i], value) == 0) {
            *ret = i;
            return true;
        }
    return error_set(error, ERROR_DAMAGED, "\"%s\" is none of the words that it may be", key);
}

static bool read_member(const json_t *json, struct fleet_member *to, struct error *error) {
    unsigned change = 0;
    bool ok = records_read_text(json, "name", to->name, sizeof(to->name), error) &&
              records_read_text(json, "node", to->node, sizeof(to->node), error) &&
              records_read_text(json, "disk", to->disk, sizeof(to->disk), error) &&
              read_word(json, "change", changes, array_count(changes), &change, error);
    if (ok && json_object_get(json, "address") != NULL)
        ok = records_read_text(json, "address", to->address, sizeof(to->address), error);
    to->change = (enum fleet_change)change;
    return ok;
}

static bool read_lists(const json_t *json, struct fleet_record *record, struct error *error) {
    const json_t *members = json_object_get(json, "members"), *nodes = json_object_get(json, "nodes"), *item;
    size_t i;
    if (!json_is_array(members) || json_array_size(members) > FLEET_MEMBERS_MAX || !json_is_array(nodes) ||
        json_array_size(nodes) > FLEET_NODES_MAX)
        return error_set(error, ERROR_DAMAGED, "\"members\" or \"nodes\" is no list, or too long");
    json_array_foreach(members, i, item) {
        if (!read_member(item, &record->members[record->member_count++], error))
            return false;
    }
    json_array_foreach(nodes, i, item) {
        const char *node = json_string_value(item);
        if (node == NULL || strlen(node) >= FLEET_NODE_SIZE)
            return error_set(error, ERROR_DAMAGED, "\"nodes\" has one that is no address");
        memcpy(record->nodes[record->node_count++], node, strlen(node) + 1);
    }
    return true;
}

static bool read_revert(const json_t *json, struct fleet_record *record, struct error *error) {
    const json_t *revert = json_object_get(json, "revert");
    unsigned step = 0;
    if (revert == NULL)
        return true;
    if (!read_word(revert, "step", reverts, array_count(reverts), &step, error) ||
        !records_read_text(revert, "to", record->snapshot, sizeof(record->snapshot), error))
        return false;
    record->revert = (enum fleet_revert)step;
    record->served = json_is_true(json_object_get(revert, "served"));
    return true;
}

static bool read_clone(const json_t *json, struct fleet_record *record, struct error *error) {
    const json_t *clone = json_object_get(json, "clone");
    unsigned step = 0;
    if (clone == NULL)
        return true;
    if (!read_word(clone, "step", clones, array_count(clones), &step, error) ||
        !records_read_text(clone, "of", record->source, sizeof(record->source), error) ||
        !records_read_text(clone, "snapshot", record->source_snapshot, sizeof(record->source_snapshot), error))
        return false;
    record->clone = (enum fleet_clone)step;
    return true;
}

bool fleet_record_read(const char *value, size_t length, struct fleet_record *ret_record, struct error *error) {
    json_t *json = records_parse(value, length, error);
    struct fleet_record record = {0};
    uint64_t replicas = 0;
    unsigned phase = 0;
    bool ok = json != NULL && records_read_text(json, "name", record.name, FLEET_NAME_MAX + 1, error) &&
              records_read_text(json, "frontend", record.frontend, sizeof(record.frontend), error) &&
              records_read_text(json, "failure", record.failure, sizeof(record.failure), error) &&
              records_read_number(json, "bytes", INT64_MAX, &record.bytes, error) &&
              records_read_number(json, "wanted_bytes", INT64_MAX, &record.wanted_bytes, error) &&
              records_read_number(json, "replicas", FLEET_REPLICAS_MAX, &replicas, error) &&
              read_word(json, "phase", phases, array_count(phases), &phase, error) && read_lists(json, &record, error) &&
              read_revert(json, &record, error) && read_clone(json, &record, error);
    record.replicas = (unsigned)replicas;
    record.phase = (enum fleet_phase)phase;
    record.replace = json_is_true(json_object_get(json, "replace"));
    record.abandon = json_is_true(json_object_get(json, "abandon"));
    if (ok)
        *ret_record = record;
    json_decref(json);
    return ok;
}

struct fleet_member *fleet_record_member(struct fleet_record *record, const char *name) {
    for (unsigned i = 0; i < record->member_count; i++)
        if (strcmp(record->members[i].name, name) == 0)
            return &record->members[i];
    return NULL;
}

void fleet_record_drop(struct fleet_record *record, struct fleet_member *member) {
    size_t at = (size_t)(member - record->members);
    record->member_count--;
    memmove(member, member + 1, (record->member_count - at) * sizeof(*member));
}

bool fleet_record_is_settled(const struct fleet_record *record) {
    bool settled = record->phase == FLEET_FAILED || (record->phase == FLEET_STANDING && record->bytes == record->wanted_bytes &&
                                                     record->revert == FLEET_NO_REVERT);
    for (unsigned i = 0; i < record->member_count; i++)
        settled = settled && record->members[i].change == FLEET_STAYS;
    return settled;
}

/* ---- names ---- */

#define ENGINE_TAIL "-e-0"
#define FRONTEND_TAIL "-ef-0"
static_assert(FLEET_NAME_MAX + sizeof(FRONTEND_TAIL) <= CONTROL_NAME_MAX + 1, "a frontend's name fits");

void fleet_engine_name(const struct fleet_record *record, char to[CONTROL_NAME_MAX + 1]) {
    snprintf(to, CONTROL_NAME_MAX + 1, "%.*s" ENGINE_TAIL, FLEET_NAME_MAX, record->name);
}

void fleet_frontend_name(const struct fleet_record *record, char to[CONTROL_NAME_MAX + 1]) {
    snprintf(to, CONTROL_NAME_MAX + 1, "%.*s" FRONTEND_TAIL, FLEET_NAME_MAX, record->name);
}

void fleet_replica_name(const struct fleet_record *record, uint32_t random, char to[CONTROL_NAME_MAX + 1]) {
    snprintf(to, CONTROL_NAME_MAX + 1, "%.*s-r-p%07x", FLEET_NAME_MAX, record->name, (unsigned)(random & 0xfffffff));
}

static size_t before_tail(const char *name, const char *tail) {
    size_t length = strlen(name), of_tail = strlen(tail);
    return length > of_tail && strcmp(name + length - of_tail, tail) == 0 ? length - of_tail : 0;
}

size_t fleet_volume_of(const char *name, const char **ret_kind) {
    size_t length = strlen(name);
    *ret_kind = "replica";
    if (names_is_replica(name) && name[length - 8] == 'p')
        return length - 11;
    *ret_kind = "frontend";
    if ((length = before_tail(name, FRONTEND_TAIL)) != 0)
        return length;
    *ret_kind = "engine";
    return before_tail(name, ENGINE_TAIL);
}
