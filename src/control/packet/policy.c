/* What may come in by a port and how much may go through it, as the wiring keeps it: the form in which the plane tells it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/packet/wiring.h"

enum { MACS_MAX = 64, VLANS_MAX = 1024, VID_MAX = 4095 };

#define RATE_MAX 400000000000

static bool wrong(struct error *error, const char *field, const json_t *value, const char *expected) {
    char *shown = value != NULL ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    error_invalid(error, field, shown != NULL ? shown : "", "%s", expected);
    free(shown);
    return false;
}

/* Each reads a member of `from` and adds it to `to`; absent is nothing. */
static bool add_macs(const json_t *from, json_t *to, struct error *error) {
    const json_t *macs = json_object_get(from, "macs");
    json_t *kept = json_array(), *mac;
    size_t i;
    json_object_set_new(to, "macs", kept);
    if (macs != NULL && (!json_is_array(macs) || json_array_size(macs) > MACS_MAX))
        return wrong(error, "macs", macs, "a list of at most 64 addresses");
    json_array_foreach((json_t *)macs, i, mac) {
        char text[24];
        if (!json_is_string(mac) || strcmp(json_string_value(mac), "default") == 0)
            return wrong(error, "macs", mac, "addresses like fa:16:3e:00:00:01");
        if (!wiring_normalize_mac(json_string_value(mac), "macs", text, error))
            return false;
        json_array_append_new(kept, json_string(text));
    }
    return true;
}

static bool add_vlans(const json_t *from, json_t *to, struct error *error) {
    const json_t *check = json_object_get(from, "vlan_check"), *vlans = json_object_get(from, "vlans");
    json_t *kept = json_array(), *vlan;
    bool there[VID_MAX + 1] = {false};
    size_t i;
    json_object_set_new(to, "vlan_check", json_boolean(json_is_true(check)));
    json_object_set_new(to, "vlans", kept);
    if (check != NULL && !json_is_boolean(check))
        return wrong(error, "vlan_check", check, "true or false");
    if (vlans != NULL && (!json_is_array(vlans) || json_array_size(vlans) > VLANS_MAX))
        return wrong(error, "vlans", vlans, "a list of at most 1024 VLAN IDs");
    json_array_foreach((json_t *)vlans, i, vlan) {
        if (!json_is_integer(vlan) || json_integer_value(vlan) < 0 || json_integer_value(vlan) > VID_MAX)
            return wrong(error, "vlans", vlan, "VLAN IDs, 0 to 4095");
        there[json_integer_value(vlan)] = true;
    }
    if (json_array_size(vlans) > 0 && !json_is_true(check))
        return wrong(error, "vlan_check", check, "true, where vlans are given");
    for (unsigned vid = 0; vid <= VID_MAX; vid++)
        if (there[vid])
            json_array_append_new(kept, json_integer(vid));
    return true;
}

static bool add_rate(const json_t *from, const char *key, json_t *to, struct error *error) {
    static const char *const units[] = {"bits_per_s", "packets_per_s"};
    const json_t *rate = json_object_get(from, key);
    json_t *kept = json_object();
    char field[32];
    json_object_set_new(to, key, kept);
    if (rate != NULL && !json_is_object(rate))
        return wrong(error, key, rate, "an object with bits_per_s, packets_per_s or both");
    for (unsigned i = 0; i < 2; i++) {
        const json_t *number = json_object_get(rate, units[i]);
        snprintf(field, sizeof(field), "%s.%s", key, units[i]);
        if (number != NULL &&
            (!json_is_integer(number) || json_integer_value(number) < 0 || json_integer_value(number) > RATE_MAX))
            return wrong(error, field, number, "a number, 0 to 400000000000");
        json_object_set_new(kept, units[i], json_integer(json_integer_value(number)));
    }
    return true;
}

bool wiring_set_policy(json_t *wiring, const char *port, const json_t *policy, struct error *error) {
    json_t *policies = json_object_get(wiring, "policies");
    if (!wiring_check_port(port, "port", error))
        return false;
    if (policy == NULL) {
        json_object_del(policies, port);
        return true;
    }
    static const char *const members[] = {"macs", "vlan_check", "vlans", "rx_rate", "tx_rate"};
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)policy, key, value) {
        bool known = false;
        for (size_t i = 0; i < array_count(members); i++)
            known = known || strcmp(members[i], key) == 0;
        if (!known)
            return wrong(error, key, value, "macs, vlan_check, vlans, rx_rate or tx_rate");
    }
    json_t *kept = json_object();
    bool ok = add_macs(policy, kept, error) && add_vlans(policy, kept, error) && add_rate(policy, "rx_rate", kept, error) &&
              add_rate(policy, "tx_rate", kept, error);
    if (ok)
        ok = json_object_set(policies, port, kept) == 0 || error_set(error, ERROR_NO_MEMORY, "no memory");
    json_decref(kept);
    return ok;
}

bool wiring_check_policy(const char *port, const json_t *policy, struct error *error) {
    json_t *scratch = wiring_create();
    bool ok = json_is_object(policy) ? wiring_set_policy(scratch, port, policy, error)
                                     : error_set(error, ERROR_DAMAGED, "a policy is not as it should be");
    json_decref(scratch);
    return ok;
}
