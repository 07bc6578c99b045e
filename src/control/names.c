#include "control/names.h"

#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "control/control.h"

#define SNAPSHOT_TOKEN "-snap-"

bool names_check(const char *name, const char *field, struct error *error) {
    size_t length = strlen(name);
    if (!text_is_name(name, CONTROL_NAME_MAX))
        return error_invalid(error, field, name, "1 to %d printable characters without blanks and /", CONTROL_NAME_MAX);
    if (strstr(name, "-clone-ep-") != NULL || (length >= 9 && strcmp(name + length - 9, "-tmp-head") == 0))
        return error_invalid(error, field, name, "a name without -clone-ep-, and not ending in -tmp-head: those are reserved");
    return true;
}

static bool is_letter_or_digit(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

/* "-r-XXXXXXXX" at `at`, with something before it. */
static bool token_at(const char *volume, size_t at) {
    if (at == 0 || strncmp(volume + at, "-r-", 3) != 0)
        return false;
    for (size_t i = 3; i < 11; i++)
        if (!is_letter_or_digit(volume[at + i]))
            return false;
    return true;
}

bool names_is_replica(const char *volume) {
    size_t length = strlen(volume);
    return length > 11 && token_at(volume, length - 11);
}

size_t names_replica_of(const char *volume) {
    static const char *const tails[] = {SNAPSHOT_TOKEN, NAMES_REBUILDING, NAMES_CLONING, NAMES_EXPIRED, NAMES_KEPT};
    for (size_t at = 1; volume[at] != '\0'; at++) {
        if (!token_at(volume, at))
            continue;
        const char *rest = volume + at + 11;
        if (*rest == '\0')
            return at + 11;
        for (size_t i = 0; i < array_count(tails); i++)
            if (strncmp(rest, tails[i], strlen(tails[i])) == 0)
                return at + 11;
    }
    return 0;
}

const char *names_snapshot(const char *volume, const char *replica) {
    size_t length = strlen(replica);
    if (strncmp(volume, replica, length) != 0 || strncmp(volume + length, SNAPSHOT_TOKEN, sizeof(SNAPSHOT_TOKEN) - 1) != 0)
        return NULL;
    return volume + length + sizeof(SNAPSHOT_TOKEN) - 1;
}

bool names_make_snapshot(const char *replica, const char *snapshot, char to[NAMES_VOLUME_SIZE]) {
    return snprintf(to, NAMES_VOLUME_SIZE, "%s" SNAPSHOT_TOKEN "%s", replica, snapshot) < NAMES_VOLUME_SIZE;
}

bool names_make_tailed(const char *replica, const char *tail, char to[NAMES_VOLUME_SIZE]) {
    return snprintf(to, NAMES_VOLUME_SIZE, "%s%s", replica, tail) < NAMES_VOLUME_SIZE;
}

void names_make_nqn(const char *replica, char to[NAMES_NQN_SIZE]) {
    snprintf(to, NAMES_NQN_SIZE, NAMES_NQN_PREFIX "%s", replica);
}

void names_make_controller(const char *replica, const char *engine, char to[NAMES_LEG_SIZE]) {
    const char *tail = names_is_replica(replica) ? replica + strlen(replica) - 10 : replica;
    snprintf(to, NAMES_LEG_SIZE, "%s@%s", tail, engine);
}

void names_make_leg(const char *replica, const char *engine, char to[NAMES_LEG_SIZE]) {
    names_make_controller(replica, engine, to);
    size_t length = strlen(to);
    snprintf(to + length, NAMES_LEG_SIZE - length, "n1");
}

void names_make_identity(const char *volume, struct names_identity *ret_identity) {
    char text[CONTROL_NAME_MAX + 8];
    struct uuid uuid;
    snprintf(text, sizeof(text), "volume-%s", volume);
    uuid_from_name(&uuid_space_oid, text, &uuid);
    for (unsigned i = 0; i < sizeof(uuid.bytes); i++)
        snprintf(ret_identity->nguid + (size_t)2 * i, 3, "%02x", uuid.bytes[i]);
    snprintf(ret_identity->serial, sizeof(ret_identity->serial), "%.20s", ret_identity->nguid);
    uuid_from_name(&uuid_space_url, text, &uuid);
    uuid_format(&uuid, ret_identity->uuid);
}

void names_make_cntlids(const char *engine, uint16_t *ret_min, uint16_t *ret_max) {
    enum { RANGE = 500, NUMBERED = 100, OTHERS = 30 }; /* 130 * 500 < 65,520 */
    size_t at = strlen(engine);
    uint64_t number = 0, place = 1;
    while (at > 0 && engine[at - 1] >= '0' && engine[at - 1] <= '9' && place <= 1000000) {
        number += (uint64_t)(engine[--at] - '0') * place;
        place *= 10;
    }
    uint64_t range = place > 1 ? number % NUMBERED : NUMBERED + hash_text(engine) % OTHERS;
    *ret_min = (uint16_t)(range * RANGE + 1);
    *ret_max = (uint16_t)(range * RANGE + RANGE);
}

const char *names_ana(const char *state) {
    return strcmp(state, "non-optimized") == 0                                                     ? "non_optimized"
           : strcmp(state, NAMES_ANA_OPTIMIZED) == 0 || strcmp(state, NAMES_ANA_INACCESSIBLE) == 0 ? state
                                                                                                   : NULL;
}

void names_make_volume_nqn(const char *volume, char to[NAMES_NQN_SIZE]) {
    snprintf(to, NAMES_NQN_SIZE, NAMES_NQN_PREFIX "volume-%s", volume);
}
