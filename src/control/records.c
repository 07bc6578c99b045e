#include "control/records.h"

#include <stdio.h>
#include <stdlib.h>

#include "control/names.h"

bool records_write_json(json_t *take_json, struct text *to) {
    char *printed = take_json == NULL ? NULL : json_dumps(take_json, JSON_COMPACT);
    if (printed != NULL)
        text_append_string(to, printed);
    free(printed);
    json_decref(take_json);
    return printed != NULL && !to->failed;
}

bool records_write_disk(const struct control_disk_record *record, struct text *to) {
    return records_write_json(json_pack("{s:s, s:s, s:s, s:s, s:I, s:s}", "name", record->name, "path", record->path, "driver",
                                        record->driver, "uuid", record->uuid, "block_bytes", (json_int_t)record->block_bytes,
                                        "failure", record->failure),
                              to);
}

static const char *const incoming_kinds[] = {[CONTROL_REBUILD] = "rebuild", [CONTROL_CLONE] = "clone"};

bool records_write_replica(const struct control_replica_record *record, struct text *to) {
    json_t *json =
        json_pack("{s:s, s:s, s:s, s:I, s:i, s:i, s:b, s:b, s:b, s:s}", "name", record->name, "disk", record->disk, "store",
                  record->store, "bytes", (json_int_t)record->bytes, "port", (int)record->port, "ports", (int)record->port_count,
                  "made", record->made, "exported", record->exported, "deleting", record->deleting, "failure", record->failure);
    if (json != NULL && record->engine[0] != '\0')
        json_object_set_new(json, "engine", json_pack("{s:s, s:s}", "name", record->engine, "address", record->engine_address));
    if (json != NULL && record->outgoing.peer[0] != '\0')
        json_object_set_new(json, "outgoing",
                            json_pack("{s:s, s:s}", "peer", record->outgoing.peer, "snapshot", record->outgoing.snapshot));
    if (json != NULL && record->incoming.kind != CONTROL_INCOMING_NONE)
        json_object_set_new(json, "incoming",
                            json_pack("{s:s, s:s, s:s}", "kind", incoming_kinds[record->incoming.kind], "source",
                                      record->incoming.source, "snapshot", record->incoming.snapshot));
    return records_write_json(json, to);
}

static json_t *legs_json(const struct control_engine_record *record) {
    json_t *legs = json_array();
    for (unsigned i = 0; i < record->leg_count; i++)
        json_array_append_new(legs, json_pack("{s:s, s:s, s:b, s:b, s:b, s:b}", "name", record->legs[i].name, "address",
                                              record->legs[i].address, "changing", record->legs[i].changing, "adding",
                                              record->legs[i].adding, "foreign", record->legs[i].foreign, "filling",
                                              record->legs[i].filling));
    return legs;
}

static json_t *runs_json(const struct control_engine_record *record) {
    json_t *runs = json_array();
    for (unsigned i = 0; i < record->run_count; i++)
        json_array_append_new(runs, json_string(record->runs[i]));
    return runs;
}

static const char *const clone_states[] = {
    [CONTROL_CLONE_COPYING] = "copying", [CONTROL_CLONE_COMPLETE] = "complete", [CONTROL_CLONE_FAILED] = "failed"};

bool records_write_engine(const struct control_engine_record *record, struct text *to) {
    const struct control_engine_clone *clone = &record->clone;
    json_t *json = json_pack(
        "{s:s, s:s, s:s, s:I, s:o, s:i, s:i, s:I, s:o, s:b, s:b, s:b, s:s, s:s, s:s, s:s, s:b, s:b}", "name", record->name,
        "volume", record->volume, "frontend", record->frontend, "bytes", (json_int_t)record->bytes, "legs", legs_json(record),
        "port", (int)record->port, "ports", (int)record->port_count, "snapshot_max", (json_int_t)record->snapshot_max, "runs",
        runs_json(record), "made", record->made, "deleting", record->deleting, "superseded", record->superseded, "failure",
        record->failure, "expansion_failure", record->expansion_failure, "expansion_failed_at", record->expansion_failed_at,
        "ana", record->ana, "standby", record->standby, "promoting", record->promoting);
    if (json != NULL && clone->state != CONTROL_CLONE_NONE)
        json_object_set_new(json, "clone",
                            json_pack("{s:s, s:s, s:s, s:s, s:s}", "state", clone_states[clone->state], "snapshot",
                                      clone->snapshot, "source", clone->source, "source_address", clone->source_address,
                                      "failure", clone->failure));
    return records_write_json(json, to);
}

bool records_write_frontend(const struct control_frontend_record *record, struct text *to) {
    return records_write_json(
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:b, s:s, s:b, s:s, s:s, s:s}", "name", record->name, "volume", record->volume,
                  "engine", record->engine, "frontend", record->frontend, "target", record->target, "bytes",
                  (json_int_t)record->bytes, "made", record->made, "failure", record->failure, "device", record->device, "step",
                  switch_step_name(record->step), "next_engine", record->next_engine, "next_target", record->next_target),
        to);
}

const char *records_folder(enum control_kind kind) {
    static const char *const folders[] = {[CONTROL_DISKS] = "disks",
                                          [CONTROL_REPLICAS] = "replicas",
                                          [CONTROL_ENGINES] = "engines",
                                          [CONTROL_FRONTENDS] = "frontends"};
    return folders[kind];
}

bool records_write(enum control_kind kind, const void *record, struct text *to) {
    switch (kind) {
    case CONTROL_DISKS: return records_write_disk(record, to);
    case CONTROL_REPLICAS: return records_write_replica(record, to);
    case CONTROL_ENGINES: return records_write_engine(record, to);
    case CONTROL_FRONTENDS: return records_write_frontend(record, to);
    case CONTROL_KINDS: break;
    }
    return false;
}

bool records_read_text(const json_t *json, const char *key, char *to, size_t size, struct error *error) {
    const char *value = json_string_value(json_object_get(json, key));
    if (value == NULL || strlen(value) >= size)
        return error_set(error, ERROR_DAMAGED, "\"%s\" is not a text of at most %zu bytes", key, size - 1);
    memcpy(to, value, strlen(value) + 1);
    return true;
}

bool records_read_number(const json_t *json, const char *key, uint64_t max, uint64_t *ret, struct error *error) {
    const json_t *value = json_object_get(json, key);
    if (!json_is_integer(value) || json_integer_value(value) < 0 || (uint64_t)json_integer_value(value) > max)
        return error_set(error, ERROR_DAMAGED, "\"%s\" is no number in its range", key);
    *ret = (uint64_t)json_integer_value(value);
    return true;
}

static bool read_ports(const json_t *json, uint16_t *ret_port, uint16_t *ret_count, struct error *error) {
    uint64_t port = 0, ports = 0;
    if (!records_read_number(json, "port", CONTROL_PORT_LAST, &port, error) ||
        !records_read_number(json, "ports", CONTROL_PORTS_MAX, &ports, error))
        return false;
    if ((port == 0) != (ports == 0))
        return error_set(error, ERROR_DAMAGED, "it has ports without a number of them");
    if (port != 0 && (port < CONTROL_PORT_FIRST || port + ports - 1 > CONTROL_PORT_LAST))
        return error_set(error, ERROR_DAMAGED, "its ports are out of range");
    *ret_port = (uint16_t)port;
    *ret_count = (uint16_t)ports;
    return true;
}

json_t *records_parse(const char *value, size_t length, struct error *error) {
    json_t *json = json_loadb(value, length, JSON_REJECT_DUPLICATES, NULL);
    if (json_is_object(json))
        return json;
    json_decref(json);
    error_set(error, ERROR_DAMAGED, "it is no JSON object");
    return NULL;
}

bool records_read_disk(const char *value, size_t length, struct control_disk_record *ret_record, struct error *error) {
    json_t *json = records_parse(value, length, error);
    struct control_disk_record record = {0};
    uint64_t block_bytes = 0;
    bool ok = json != NULL && records_read_text(json, "name", record.name, sizeof(record.name), error) &&
              records_read_text(json, "path", record.path, sizeof(record.path), error) &&
              records_read_text(json, "driver", record.driver, sizeof(record.driver), error) &&
              records_read_text(json, "uuid", record.uuid, sizeof(record.uuid), error) &&
              records_read_text(json, "failure", record.failure, sizeof(record.failure), error) &&
              records_read_number(json, "block_bytes", KIB(64), &block_bytes, error);
    record.block_bytes = (uint32_t)block_bytes;
    if (ok)
        *ret_record = record;
    json_decref(json);
    return ok;
}

/* Neither is there in most records, nor in those of before there were any. */
static bool read_copies(const json_t *json, struct control_replica_record *record, struct error *error) {
    const json_t *outgoing = json_object_get(json, "outgoing"), *incoming = json_object_get(json, "incoming"),
                 *engine = json_object_get(json, "engine");
    struct control_incoming *in = &record->incoming;
    struct control_outgoing *out = &record->outgoing;
    if (engine != NULL && (!records_read_text(engine, "name", record->engine, sizeof(record->engine), error) ||
                           !records_read_text(engine, "address", record->engine_address, sizeof(record->engine_address), error)))
        return false;
    if (outgoing != NULL && (!records_read_text(outgoing, "peer", out->peer, sizeof(out->peer), error) ||
                             !records_read_text(outgoing, "snapshot", out->snapshot, sizeof(out->snapshot), error)))
        return false;
    if (incoming == NULL)
        return true;
    const char *kind = json_string_value(json_object_get(incoming, "kind"));
    for (unsigned i = CONTROL_REBUILD; i < array_count(incoming_kinds) && kind != NULL; i++)
        if (strcmp(kind, incoming_kinds[i]) == 0)
            in->kind = (enum control_incoming_kind)i;
    if (in->kind == CONTROL_INCOMING_NONE)
        return error_set(error, ERROR_DAMAGED, "\"incoming\" is of no known kind");
    return records_read_text(incoming, "source", in->source, sizeof(in->source), error) &&
           records_read_text(incoming, "snapshot", in->snapshot, sizeof(in->snapshot), error);
}

bool records_read_replica(const char *value, size_t length, struct control_replica_record *ret_record, struct error *error) {
    json_t *json = records_parse(value, length, error);
    struct control_replica_record record = {0};
    bool ok = json != NULL && records_read_text(json, "name", record.name, sizeof(record.name), error) &&
              records_read_text(json, "disk", record.disk, sizeof(record.disk), error) &&
              records_read_text(json, "store", record.store, sizeof(record.store), error) &&
              records_read_text(json, "failure", record.failure, sizeof(record.failure), error) &&
              records_read_number(json, "bytes", INT64_MAX, &record.bytes, error) &&
              read_ports(json, &record.port, &record.port_count, error) && read_copies(json, &record, error);
    record.made = json_is_true(json_object_get(json, "made"));
    record.exported = json_is_true(json_object_get(json, "exported"));
    record.deleting = json_is_true(json_object_get(json, "deleting"));
    if (ok)
        *ret_record = record;
    json_decref(json);
    return ok;
}

static bool read_legs(const json_t *legs, struct control_engine_record *record, struct error *error) {
    size_t i;
    const json_t *leg;
    if (!json_is_array(legs) || json_array_size(legs) > CONTROL_LEGS_MAX)
        return error_set(error, ERROR_DAMAGED, "\"legs\" is no list of at most %d replicas", CONTROL_LEGS_MAX);
    json_array_foreach(legs, i, leg) {
        struct control_leg_record *to = &record->legs[record->leg_count++];
        if (!records_read_text(leg, "name", to->name, sizeof(to->name), error) ||
            !records_read_text(leg, "address", to->address, sizeof(to->address), error))
            return false;
        to->changing = json_is_true(json_object_get(leg, "changing"));
        to->adding = json_is_true(json_object_get(leg, "adding"));
        to->foreign = json_is_true(json_object_get(leg, "foreign"));
        to->filling = json_is_true(json_object_get(leg, "filling"));
    }
    return true;
}

static bool read_runs(const json_t *runs, struct control_engine_record *record, struct error *error) {
    size_t i;
    const json_t *run;
    struct uuid uuid;
    if (!json_is_array(runs) || json_array_size(runs) > CONTROL_RUNS_MAX)
        return error_set(error, ERROR_DAMAGED, "\"runs\" is no list of at most %d ids", CONTROL_RUNS_MAX);
    json_array_foreach(runs, i, run) {
        const char *text = json_string_value(run);
        if (text == NULL || !uuid_parse(text, &uuid))
            return error_set(error, ERROR_DAMAGED, "\"runs\" has one that is no UUID");
        uuid_format(&uuid, record->runs[record->run_count++]);
    }
    return true;
}

/* Not in those of before there were any. */
static bool read_clone(const json_t *json, struct control_engine_clone *clone, struct error *error) {
    const char *state = json_string_value(json_object_get(json, "state"));
    if (json == NULL)
        return true;
    for (unsigned i = CONTROL_CLONE_COPYING; i < array_count(clone_states) && state != NULL; i++)
        if (strcmp(state, clone_states[i]) == 0)
            clone->state = (enum control_clone_state)i;
    if (clone->state == CONTROL_CLONE_NONE)
        return error_set(error, ERROR_DAMAGED, "\"clone\" is in no known state");
    return records_read_text(json, "snapshot", clone->snapshot, sizeof(clone->snapshot), error) &&
           records_read_text(json, "source", clone->source, sizeof(clone->source), error) &&
           records_read_text(json, "source_address", clone->source_address, sizeof(clone->source_address), error) &&
           records_read_text(json, "failure", clone->failure, sizeof(clone->failure), error);
}

bool records_read_engine(const char *value, size_t length, struct control_engine_record *ret_record, struct error *error) {
    json_t *json = records_parse(value, length, error);
    struct control_engine_record record = {0};
    uint64_t snapshot_max = 0;
    bool ok =
        json != NULL && records_read_text(json, "name", record.name, sizeof(record.name), error) &&
        records_read_text(json, "volume", record.volume, sizeof(record.volume), error) &&
        records_read_text(json, "frontend", record.frontend, sizeof(record.frontend), error) &&
        records_read_text(json, "failure", record.failure, sizeof(record.failure), error) &&
        records_read_text(json, "expansion_failure", record.expansion_failure, sizeof(record.expansion_failure), error) &&
        records_read_text(json, "expansion_failed_at", record.expansion_failed_at, sizeof(record.expansion_failed_at), error) &&
        records_read_number(json, "bytes", INT64_MAX, &record.bytes, error) &&
        records_read_number(json, "snapshot_max", INT32_MAX, &snapshot_max, error) &&
        read_ports(json, &record.port, &record.port_count, error) && read_legs(json_object_get(json, "legs"), &record, error) &&
        read_runs(json_object_get(json, "runs"), &record, error) &&
        read_clone(json_object_get(json, "clone"), &record.clone, error);
    record.snapshot_max = (uint32_t)snapshot_max;
    record.made = json_is_true(json_object_get(json, "made"));
    record.superseded = json_is_true(json_object_get(json, "superseded"));
    record.standby = json_is_true(json_object_get(json, "standby"));
    record.promoting = json_is_true(json_object_get(json, "promoting"));
    if (ok && json_object_get(json, "ana") != NULL) /* not in those of before there were any */
        ok = records_read_text(json, "ana", record.ana, sizeof(record.ana), error) &&
             (names_ana(record.ana) != NULL || error_set(error, ERROR_DAMAGED, "\"ana\" is no state"));
    else
        snprintf(record.ana, sizeof(record.ana), "%s", NAMES_ANA_OPTIMIZED);
    record.deleting = json_is_true(json_object_get(json, "deleting"));
    if (ok)
        *ret_record = record;
    json_decref(json);
    return ok;
}

/* Not in those of before there were any. */
static bool read_switch(const json_t *json, struct control_frontend_record *record, struct error *error) {
    char step[16];
    if (json_object_get(json, "step") == NULL)
        return true;
    return records_read_text(json, "step", step, sizeof(step), error) &&
           (switch_step_parse(step, &record->step) || error_set(error, ERROR_DAMAGED, "\"step\" is no step of a switch-over")) &&
           records_read_text(json, "next_engine", record->next_engine, sizeof(record->next_engine), error) &&
           records_read_text(json, "next_target", record->next_target, sizeof(record->next_target), error);
}

bool records_read_frontend(const char *value, size_t length, struct control_frontend_record *ret_record, struct error *error) {
    json_t *json = records_parse(value, length, error);
    struct control_frontend_record record = {0};
    bool ok = json != NULL && records_read_text(json, "name", record.name, sizeof(record.name), error) &&
              records_read_text(json, "volume", record.volume, sizeof(record.volume), error) &&
              records_read_text(json, "engine", record.engine, sizeof(record.engine), error) &&
              records_read_text(json, "frontend", record.frontend, sizeof(record.frontend), error) &&
              records_read_text(json, "target", record.target, sizeof(record.target), error) &&
              records_read_text(json, "failure", record.failure, sizeof(record.failure), error) &&
              records_read_number(json, "bytes", INT64_MAX, &record.bytes, error) && read_switch(json, &record, error);
    record.device = json_is_true(json_object_get(json, "device"));
    record.made = json_is_true(json_object_get(json, "made"));
    if (ok)
        *ret_record = record;
    json_decref(json);
    return ok;
}
