/* What each request of a volume checks, changes in its record, and is done by. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "control/names.h"
#include "fleet/internal.h"

enum { TRIES = 6 }; /* about 4 s: then what keeps it is told */

/* ---- arguments ---- */

static bool is_address(const char *text, size_t length) {
    size_t legal = strspn(text, "0123456789abcdefABCDEF.:");
    return length > 0 && length < FLEET_NODE_SIZE && legal >= length;
}

static bool read_place(const char *text, struct fleet_member *to, struct error *error) {
    const char *slash = strchr(text, '/');
    size_t length = slash != NULL ? (size_t)(slash - text) : strlen(text);
    if (!is_address(text, length))
        return error_invalid(error, "place", text, "NODE or NODE/DISK, NODE being a numeric address");
    snprintf(to->node, sizeof(to->node), "%.*s", (int)length, text);
    if (slash == NULL)
        return true;
    if (!names_check(slash + 1, "place", error))
        return false;
    fleet_copy(to->disk, sizeof(to->disk), slash + 1);
    return true;
}

static bool check_size(struct fleet_request *request) {
    char given[24];
    snprintf(given, sizeof(given), "%" PRIu64, request->bytes);
    return (request->bytes != 0 && request->bytes <= UINT64_C(1) << 50) ||
           error_invalid(&request->error, "size_bytes", given, "the volume's size, at most 1 PiB");
}

static bool check_create(struct fleet_request *request) {
    struct error *error = &request->error;
    char given[24];
    if (strlen(request->name) > FLEET_NAME_MAX)
        return error_invalid(error, "name", request->name, "at most %d bytes", FLEET_NAME_MAX);
    if (strstr(request->name, "-snap-") != NULL)
        return error_invalid(error, "name", request->name, "a name without -snap-, which is reserved");
    if (!check_size(request))
        return false;
    if (strcmp(request->frontend, "ublk") == 0)
        return error_set(error, ERROR_UNSUPPORTED, "the frontend ublk is not offered: use spdk-tcp-nvmf");
    if (request->source != NULL &&
        (!names_check(request->source, "source", error) || !names_check(request->source_snapshot, "snapshot", error)))
        return false;
    if (request->frontend[0] != '\0' && strcmp(request->frontend, "spdk-tcp-nvmf") != 0 &&
        strcmp(request->frontend, "spdk-tcp-blockdev") != 0)
        return error_invalid(error, "frontend", request->frontend, "spdk-tcp-nvmf, spdk-tcp-blockdev, or none");
    for (size_t i = 0; i < request->node_count; i++)
        if (!is_address(request->nodes[i], strlen(request->nodes[i])))
            return error_invalid(error, "nodes", request->nodes[i], "numeric addresses");
    snprintf(given, sizeof(given), "%zu", request->node_count);
    if (request->node_count > FLEET_NODES_MAX)
        return error_invalid(error, "nodes", given, "at most %d", FLEET_NODES_MAX);
    request->wanted_count = request->replicas != 0      ? request->replicas
                            : request->place_count != 0 ? (unsigned)request->place_count
                                                        : 3;
    snprintf(given, sizeof(given), "%u", request->replicas);
    if (request->wanted_count > FLEET_REPLICAS_MAX ||
        (request->place_count != 0 && request->place_count != request->wanted_count))
        return error_invalid(error, "replica_count", given, "1 to %d, and a place for each or for none", FLEET_REPLICAS_MAX);
    return true;
}

bool request_check(struct fleet_request *request) {
    if (!names_check(request->name, "name", &request->error))
        return false;
    switch (request->verb) {
    case FLEET_CREATE:
        if (!check_create(request))
            return false;
        break;
    case FLEET_EXPAND: return check_size(request);
    case FLEET_ADD: request->wanted_count = 1; break;
    case FLEET_REMOVE: return names_check(request->replica, "replica", &request->error);
    case FLEET_REVERT: return names_check(request->snapshot, "snapshot", &request->error);
    default: break;
    }
    for (size_t i = 0; i < request->place_count; i++)
        if (!read_place(request->places[i], &request->wanted[i], &request->error))
            return false;
    return true;
}

/* ---- places ---- */

static unsigned add_node(char (*to)[FLEET_NODE_SIZE], unsigned count, const char *node) {
    for (unsigned i = 0; i < count; i++)
        if (strcmp(to[i], node) == 0)
            return count;
    if (count == FLEET_NODES_MAX)
        return count;
    fleet_copy(to[count], FLEET_NODE_SIZE, node);
    return count + 1;
}

unsigned request_candidates(const struct fleet_request *request, char (*to)[FLEET_NODE_SIZE]) {
    const struct fleet_record *record = &request->volume->record;
    unsigned count = 0;
    for (unsigned i = 0; i < request->wanted_count; i++)
        if (request->wanted[i].node[0] != '\0')
            count = add_node(to, count, request->wanted[i].node);
    if (request->verb == FLEET_ADD)
        for (unsigned i = 0; i < record->node_count; i++)
            count = add_node(to, count, record->nodes[i]);
    for (size_t i = 0; i < request->node_count; i++)
        count = add_node(to, count, request->nodes[i]);
    if (request->verb == FLEET_CREATE && request->node_count == 0 && request->place_count == 0) {
        char known[FLEET_NODES_MAX][FLEET_NODE_SIZE];
        unsigned known_count = fleet_nodes(request->fleet, known, FLEET_NODES_MAX);
        for (unsigned i = 0; i < known_count; i++)
            count = add_node(to, count, known[i]);
    }
    return count > 0 ? count : add_node(to, 0, request->fleet->options.address);
}

static void name_members(struct fleet_request *request) {
    struct fleet_record record = {.name = ""};
    uint32_t random;
    fleet_copy(record.name, sizeof(record.name), request->name);
    for (unsigned i = 0; i < request->wanted_count; i++) {
        host_random(request->fleet->reactor->host, &random, sizeof(random));
        fleet_replica_name(&record, random, request->wanted[i].name);
    }
}

bool request_place(struct fleet_request *request, const struct fleet_call *calls, unsigned count) {
    struct fleet_candidate *candidates = calloc(FLEET_NODES_MAX * array_count(calls->disks), sizeof(*candidates));
    unsigned found = 0;
    bool ok = candidates != NULL || error_set(&request->error, ERROR_NO_MEMORY, "no memory");
    for (unsigned i = 0; ok && i < count; i++) {
        const struct fleet_call *call = &calls[i];
        if (call->act == FLEET_LOOK_VOLUME) {
            if (call->answer == FLEET_DONE)
                ok = error_set(&request->error, ERROR_EXISTS, "node %s has a volume %s", call->node, request->name);
            continue;
        }
        for (unsigned d = 0; d < call->disk_count; d++)
            candidates[found++] = call->disks[d];
        if (call->answer != FLEET_DONE || call->disk_count == 0) {
            struct fleet_candidate *none = &candidates[found++];
            fleet_copy(none->node, sizeof(none->node), call->node);
            snprintf(none->text, sizeof(none->text), "%.190s", call->answer != FLEET_DONE ? call->text : "it has no disk");
        }
    }
    ok = ok &&
         fleet_plan_place(&request->volume->record, candidates, found, request->wanted, request->wanted_count, &request->error);
    free(candidates);
    if (ok)
        name_members(request);
    return ok;
}

/* ---- the beginning ---- */

static enum request_next end_with(bool ok) {
    assert(!ok);
    return REQUEST_END;
}

static uint64_t rounded(uint64_t bytes) { return divide_up(bytes, MIB(1)) * MIB(1); }

/* What is asked for is there already. */
static bool is_the_same(const struct fleet_request *request, const struct fleet_record *record) {
    return record->wanted_bytes == rounded(request->bytes) && strcmp(record->frontend, request->frontend) == 0 &&
           record->replicas == request->wanted_count &&
           strcmp(record->source, request->source != NULL ? request->source : "") == 0 &&
           strcmp(record->source_snapshot, request->source != NULL ? request->source_snapshot : "") == 0;
}

static enum request_next begin_create(struct fleet_request *request) {
    struct fleet_volume *volume = request->volume;
    struct fleet_record *record = &volume->record;
    struct error *error = &request->error;
    if (volume->recorded && record->phase == FLEET_DELETING)
        return end_with(error_set(error, ERROR_PERMISSION, "volume %s is being deleted", record->name));
    if (volume->recorded && record->phase == FLEET_UNMAKING)
        return end_with(error_set(error, ERROR_PERMISSION, "what there is of volume %s is still being taken away: %.120s",
                                  record->name, volume->waits_for));
    if (volume->recorded && record->phase != FLEET_FAILED)
        return is_the_same(request, record)
                   ? REQUEST_WAIT
                   : end_with(error_set(error, ERROR_EXISTS,
                                        "volume %s is there, with another size, frontend, source or replicas", record->name));
    if (!request->placed) {
        record->member_count = 0;
        return REQUEST_PLACE;
    }
    char nodes[FLEET_NODES_MAX][FLEET_NODE_SIZE];
    unsigned node_count = request_candidates(request, nodes);
    *record = (struct fleet_record){.bytes = rounded(request->bytes),
                                    .wanted_bytes = rounded(request->bytes),
                                    .replicas = request->wanted_count,
                                    .replace = request->replace,
                                    .phase = FLEET_MAKING,
                                    .node_count = node_count,
                                    .member_count = request->wanted_count};
    fleet_copy(record->name, sizeof(record->name), request->name);
    fleet_copy(record->frontend, sizeof(record->frontend), request->frontend);
    if (request->source != NULL) {
        record->clone = FLEET_CLONING;
        fleet_copy(record->source, sizeof(record->source), request->source);
        fleet_copy(record->source_snapshot, sizeof(record->source_snapshot), request->source_snapshot);
    }
    memcpy(record->nodes, nodes, node_count * sizeof(nodes[0]));
    memcpy(record->members, request->wanted, request->wanted_count * sizeof(record->members[0]));
    for (unsigned i = 0; i < record->member_count; i++) /* nobody has had these names */
        volume->seen.members[i] = (struct fleet_thing){.presence = FLEET_ABSENT, .fresh = true};
    return REQUEST_RECORD;
}

static enum request_next begin_delete(struct fleet_request *request) {
    struct fleet_volume *volume = request->volume;
    struct fleet_record *record = &volume->record;
    if (!volume->recorded)
        return REQUEST_END;
    if (record->phase == FLEET_DELETING && record->abandon >= request->abandon)
        return REQUEST_WAIT;
    record->phase = FLEET_DELETING;
    record->abandon = record->abandon || request->abandon;
    return REQUEST_RECORD;
}

static enum request_next begin_expand(struct fleet_request *request) {
    struct fleet_record *record = &request->volume->record;
    uint64_t bytes = rounded(request->bytes);
    char given[24];
    if (bytes == record->wanted_bytes)
        return REQUEST_WAIT;
    if (record->wanted_bytes != record->bytes)
        return end_with(error_set(&request->error, ERROR_BUSY, "volume %s is being expanded to %" PRIu64 " bytes", record->name,
                                  record->wanted_bytes));
    if (bytes < record->bytes) {
        snprintf(given, sizeof(given), "%" PRIu64, request->bytes);
        return end_with(error_invalid(&request->error, "size_bytes", given, "not less than the %" PRIu64 " bytes that it has",
                                      record->bytes));
    }
    record->wanted_bytes = bytes;
    return REQUEST_RECORD;
}

static enum request_next begin_add(struct fleet_request *request) {
    struct fleet_volume *volume = request->volume;
    struct fleet_record *record = &volume->record;
    unsigned staying = 0;
    for (unsigned i = 0; i < record->member_count; i++) {
        staying += record->members[i].change != FLEET_GOES;
        if (record->members[i].change == FLEET_COMES)
            return end_with(error_set(&request->error, ERROR_BUSY, "replica %s of volume %s is being added",
                                      record->members[i].name, record->name));
    }
    if (staying >= FLEET_REPLICAS_MAX || record->member_count == FLEET_MEMBERS_MAX)
        return end_with(error_set(&request->error, ERROR_NO_MEMORY, "volume %s has %u replicas", record->name, staying));
    if (!request->placed)
        return REQUEST_PLACE;
    struct fleet_member *member = &record->members[record->member_count];
    *member = request->wanted[0];
    member->change = FLEET_COMES;
    fleet_copy(request->member, sizeof(request->member), member->name);
    volume->seen.members[record->member_count++] = (struct fleet_thing){.presence = FLEET_ABSENT, .fresh = true};
    if (record->node_count < FLEET_NODES_MAX)
        record->node_count = add_node(record->nodes, record->node_count, member->node);
    return REQUEST_RECORD;
}

static enum request_next begin_remove(struct fleet_request *request) {
    struct fleet_record *record = &request->volume->record;
    struct fleet_member *member = fleet_record_member(record, request->replica);
    unsigned staying = 0;
    for (unsigned i = 0; i < record->member_count; i++)
        staying += record->members[i].change == FLEET_STAYS;
    if (member == NULL)
        return end_with(
            error_set(&request->error, ERROR_NOT_FOUND, "volume %s has no replica %s", record->name, request->replica));
    if (member->change == FLEET_STAYS && staying == 1)
        return end_with(error_set(&request->error, ERROR_PERMISSION, "%s is the last replica of volume %s: delete the volume",
                                  request->replica, record->name));
    if (member->change == FLEET_GOES && record->abandon >= request->abandon)
        return REQUEST_WAIT;
    member->change = FLEET_GOES;
    record->abandon = record->abandon || request->abandon;
    return REQUEST_RECORD;
}

/* What the engine and the replicas are asked about it comes later, by the plan. */
static enum request_next begin_revert(struct fleet_request *request) {
    struct fleet_volume *volume = request->volume;
    struct fleet_record *record = &volume->record;
    const struct control_engine *engine = fleet_engine(request->fleet, volume);
    unsigned leg;
    if (record->revert == FLEET_REVERTING && strcmp(record->snapshot, request->snapshot) == 0)
        return REQUEST_WAIT;
    if (!fleet_record_is_settled(record))
        return end_with(error_set(&request->error, ERROR_BUSY, "volume %s is being changed", record->name));
    record->revert = FLEET_REVERTING;
    fleet_copy(record->snapshot, sizeof(record->snapshot), request->snapshot);
    record->failure[0] = '\0';
    for (unsigned i = 0; i < record->member_count; i++)
        if (fleet_member_mode(engine, &record->members[i], &leg) >= 0)
            fleet_copy(record->members[i].address, sizeof(record->members[i].address), engine->record.legs[leg].address);
    return REQUEST_RECORD;
}

enum request_next request_begin(struct fleet_request *request) {
    struct fleet_volume *volume = request->volume;
    if (request->verb == FLEET_CREATE)
        return begin_create(request);
    if (request->verb == FLEET_DELETE)
        return begin_delete(request);
    if (!volume->recorded)
        return end_with(error_set(&request->error, ERROR_NOT_FOUND, "there is no volume %s", request->name));
    if (volume->record.phase != FLEET_STANDING)
        return end_with(error_set(&request->error, ERROR_PERMISSION, "volume %s is %s%s%.150s", request->name,
                                  volume->record.phase == FLEET_MAKING     ? "being made"
                                  : volume->record.phase == FLEET_DELETING ? "being deleted"
                                                                           : "in error",
                                  volume->record.failure[0] != '\0' ? ": " : "", volume->record.failure));
    if (request->verb == FLEET_REVERT)
        return begin_revert(request);
    if (volume->record.revert != FLEET_NO_REVERT && request->verb != FLEET_UPDATE)
        return end_with(error_set(&request->error, ERROR_BUSY, "volume %s is being reverted to snapshot %s", request->name,
                                  volume->record.snapshot));
    switch (request->verb) {
    case FLEET_EXPAND: return begin_expand(request);
    case FLEET_ADD: return begin_add(request);
    case FLEET_REMOVE: return begin_remove(request);
    default: /* FLEET_UPDATE */
        if (volume->record.replace == request->replace)
            return REQUEST_END;
        volume->record.replace = request->replace;
        return REQUEST_RECORD;
    }
}

/* ---- the end ---- */

static const char *why(const struct fleet_volume *volume) {
    return volume->waits_for[0] != '\0' ? volume->waits_for : "it was given up";
}

static bool create_is_over(struct fleet_request *request) {
    const struct fleet_volume *volume = request->volume;
    if (volume->record.phase == FLEET_DELETING)
        return !error_set(&request->error, ERROR_CANCELLED, "volume %s was deleted meanwhile", request->name);
    /* What could not be made, and what of it cannot be taken away now, is for the volume to say. */
    return volume->record.phase == FLEET_STANDING || volume->record.phase == FLEET_FAILED ||
           (volume->record.phase == FLEET_UNMAKING && volume->failures > TRIES);
}

/* It has begun, and goes on. */
static bool delete_is_over(struct fleet_request *request) {
    const struct fleet_volume *volume = request->volume;
    if (volume->record.phase == FLEET_DELETING && volume->failures > TRIES) {
        error_set(&request->error, ERROR_CANCELLED, "volume %s is being deleted, and waits: %.180s", request->name, why(volume));
        return true;
    }
    return volume->record.phase == FLEET_GONE;
}

static bool add_is_over(struct fleet_request *request) {
    const struct fleet_member *member = fleet_record_member(&request->volume->record, request->member);
    if (member != NULL && member->change == FLEET_COMES)
        return false;
    if (member == NULL || member->change == FLEET_GOES)
        error_set(&request->error, ERROR_IO, "replica %s was not added: %.180s", request->member, why(request->volume));
    return true;
}

static bool remove_is_over(struct fleet_request *request) {
    const struct fleet_volume *volume = request->volume;
    const struct fleet_member *member = fleet_record_member(&request->volume->record, request->replica);
    if (member == NULL)
        return true;
    if (member->change == FLEET_STAYS)
        return !error_set(&request->error, ERROR_IO, "replica %s was not removed: %.180s", request->replica, why(volume));
    /* The volume has it no more; its data goes when its node is back. */
    return volume->failures > 0 && volume->seen.engine.presence != FLEET_UNKNOWN && volume->seen.engine.fresh &&
           !fleet_seen_has_leg(&volume->seen, request->replica);
}

/* The answer comes when it stands again. Why it was not done is kept here, since the record drops it then. */
static bool revert_is_over(struct fleet_request *request) {
    const struct fleet_record *record = &request->volume->record;
    if (record->revert == FLEET_RESTORING && record->failure[0] != '\0')
        error_set(&request->error, ERROR_PERMISSION, "volume %s was not reverted: %.180s", request->name, record->failure);
    return record->revert == FLEET_NO_REVERT;
}

bool request_is_over(struct fleet_request *request) {
    const struct fleet_record *record = &request->volume->record;
    if (request->verb != FLEET_CREATE && request->verb != FLEET_DELETE && record->phase != FLEET_STANDING)
        return !error_set(&request->error, ERROR_CANCELLED, "volume %s was deleted meanwhile", request->name);
    switch (request->verb) {
    case FLEET_CREATE: return create_is_over(request);
    case FLEET_DELETE: return delete_is_over(request);
    case FLEET_EXPAND:
        if (record->wanted_bytes > record->bytes)
            return false;
        if (record->bytes < rounded(request->bytes))
            error_set(&request->error, ERROR_IO, "volume %s was not expanded: %.180s", request->name, why(request->volume));
        return true;
    case FLEET_ADD: return add_is_over(request);
    case FLEET_REMOVE: return remove_is_over(request);
    case FLEET_REVERT: return revert_is_over(request);
    case FLEET_UPDATE: return true;
    }
    return true;
}

void request_expire(struct fleet_request *request) {
    error_set(&request->error, ERROR_TIMED_OUT, "it was not done in %d s, and goes on: %.180s", FLEET_REQUEST_S,
              why(request->volume));
}
