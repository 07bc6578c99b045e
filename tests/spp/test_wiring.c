/* The wiring's edits, what they refuse, and the plans: whatever the wiring was and becomes, the commands are ones that the plane
 * takes (its own model is the judge), and lead to what is meant. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "control/packet/compile.h"
#include "control/packet/plan.h"
#include "control/packet/split.h"
#include "control/packet/wiring.h"
#include "packet/model.h"

static struct error error;

static void check(bool ok) {
    if (!ok)
        print_error("refused: %s (%s %s %s)\n", error.text, error.field, error.value, error.expected);
    assert_true(ok);
}

static void check_refused(bool ok, const char *field) {
    assert_false(ok);
    if (strcmp(error.field, field) != 0)
        print_error("field is '%s', text '%s'\n", error.field, error.text);
    assert_string_equal(error.field, field);
}

static json_t *make(void) {
    json_t *wiring = wiring_create(), *null = json_pack("{ss}", "kind", "null");
    check(wiring_set_port(wiring, "phy:0", null, &error));
    check(wiring_set_port(wiring, "phy:1", null, &error));
    json_decref(null);
    return wiring;
}

static void add_vf(json_t *wiring, unsigned id, uint64_t cores) {
    struct wiring_process vf = {.type = "vf", .id = id, .cores = cores, .vhost_client = true};
    check(wiring_add_process(wiring, &vf, &error));
}

/* ---- what is refused ---- */

static void case_cores(void **state) {
    (void)state;
    json_t *wiring = make();
    uint64_t mask = 0;
    /* The seed's example: the master core is shared, the others are not. */
    assert_true(wiring_parse_mask("0xfe", &mask) && mask == 0xfe);
    add_vf(wiring, 1, mask);
    assert_true(wiring_parse_mask("0xfc02", &mask));
    add_vf(wiring, 2, mask);
    struct wiring_process third = {.type = "vf", .id = 3, .cores = 0x8002};
    check_refused(wiring_add_process(wiring, &third, &error), "cores");
    assert_non_null(strstr(error.expected, "core 15 is vf:2's"));
    third.shared = true;
    check(wiring_add_process(wiring, &third, &error));
    third.cores = 0;
    third.id = 4;
    check_refused(wiring_add_process(wiring, &third, &error), "cores");
    third = (struct wiring_process){.type = "nfv", .id = 2, .cores = 1};
    assert_false(wiring_add_process(wiring, &third, &error));
    assert_int_equal(error.code, ERROR_EXISTS);
    third.id = 200;
    check_refused(wiring_add_process(wiring, &third, &error), "id");
    check_refused(wiring_add_component(wiring, "vf:1", "c", 1, "merge", &error), "core"); /* the master */
    check_refused(wiring_add_component(wiring, "vf:1", "c", 8, "merge", &error), "core");
    static const char *const bad_masks[] = {"", "0x", "0xg", "0x11111111111111111", "0", "-1", " 1"};
    for (size_t i = 0; i < array_count(bad_masks); i++)
        assert_false(wiring_parse_mask(bad_masks[i], &mask));
    assert_true(wiring_parse_cores("1,3-5", &mask) && mask == 0x3a);
    static const char *const bad_lists[] = {"", ",", "1,", "5-3", "64", "1-", "(1,2)@3", "a"};
    for (size_t i = 0; i < array_count(bad_lists); i++)
        assert_false(wiring_parse_cores(bad_lists[i], &mask));
    json_decref(wiring);
}

static void case_ports(void **state) {
    (void)state;
    static const char *const good[] = {"phy:0", "vhost:12", "ring:65535", "pcap:1", "nullpmd:0", "tap:3", "memif:0", "pipe:9"};
    static const char *const bad[] = {
        "",       "phy",     "phy:",    "phy:x",   "phy:-1",    "eth:0",     "phy:00",
        "phy:01", "phy:0x1", "ring: 1", "ring:1 ", "phy:65536", "vhost:0:1", "aVeryLongNameOfAPortThatIsNone:12345"};
    for (size_t i = 0; i < array_count(good); i++)
        check(wiring_check_port(good[i], "port", &error));
    for (size_t i = 0; i < array_count(bad); i++)
        check_refused(wiring_check_port(bad[i], "port", &error), "port");
    assert_false(wiring_check_port("phy:0nq1", "port", &error));
    assert_non_null(strstr(error.expected, "queue"));
}

static void case_limits_of_components(void **state) {
    (void)state;
    json_t *wiring = make();
    add_vf(wiring, 1, 0xfe);
    check(wiring_add_component(wiring, "vf:1", "f", 2, "forward", &error));
    check(wiring_add_component(wiring, "vf:1", "m", 3, "merge", &error));
    check(wiring_add_component(wiring, "vf:1", "c", 4, "classifier_mac", &error));
    assert_false(wiring_add_component(wiring, "vf:1", "c", 4, "classifier", &error));
    assert_int_equal(error.code, ERROR_EXISTS);
    check_refused(wiring_add_component(wiring, "vf:1", "x", 4, "mirror", &error), "type");
    check_refused(wiring_add_component(wiring, "vf:1", "a b", 4, "merge", &error), "name");
    check(wiring_attach(wiring, "vf:1", "f", "ring:0", "rx", NULL, &error));
    assert_false(wiring_attach(wiring, "vf:1", "f", "ring:1", "rx", NULL, &error));
    assert_int_equal(error.code, ERROR_BUSY);
    check(wiring_attach(wiring, "vf:1", "f", "ring:0", "tx", NULL, &error));
    assert_false(wiring_attach(wiring, "vf:1", "m", "ring:0", "tx", NULL, &error)); /* it has a writer */
    check(wiring_attach(wiring, "vf:1", "m", "ring:1", "rx", NULL, &error));
    check(wiring_attach(wiring, "vf:1", "m", "ring:2", "rx", NULL, &error));
    check(wiring_attach(wiring, "vf:1", "m", "phy:0", "tx", NULL, &error));
    assert_false(wiring_attach(wiring, "vf:1", "m", "phy:1", "tx", NULL, &error));
    check(wiring_attach(wiring, "vf:1", "c", "phy:0", "rx", NULL, &error));
    assert_false(wiring_attach(wiring, "vf:1", "c", "phy:1", "rx", NULL, &error));
    check_refused(wiring_attach(wiring, "vf:1", "c", "phy:7", "tx", NULL, &error), "port"); /* nobody said what it is */
    struct wiring_way turns = {.operation = "none", .hairpin = true};
    check_refused(wiring_attach(wiring, "vf:1", "c", "ring:60000", "tx", &turns, &error), "hairpin");
    check_refused(wiring_attach(wiring, "vf:1", "m", "ring:60000", "rx", &turns, &error), "hairpin");
    check(wiring_attach(wiring, "vf:1", "m", "ring:60000", "tx", &turns, &error));
    assert_false(wiring_attach(wiring, "vf:1", "m", "ring:60001", "tx", &turns, &error)); /* it has one */
    check(wiring_attach(wiring, "vf:1", "c", "ring:60000", "rx", &turns, &error));
    check(wiring_detach(wiring, "vf:1", "m", "ring:60000", "tx", &error));
    check(wiring_detach(wiring, "vf:1", "c", "ring:60000", "rx", &error));
    check_refused(wiring_attach(wiring, "vf:1", "c", "ring:7", "in", NULL, &error), "dir");
    struct wiring_way vlan = {.operation = "add", .id = 4096};
    check_refused(wiring_attach(wiring, "vf:1", "c", "ring:7", "tx", &vlan, &error), "vlan.id");
    vlan = (struct wiring_way){.operation = "add", .id = 4095, .pcp = 8};
    check_refused(wiring_attach(wiring, "vf:1", "c", "ring:7", "tx", &vlan, &error), "vlan.pcp");
    vlan.operation = "push";
    check_refused(wiring_attach(wiring, "vf:1", "c", "ring:7", "tx", &vlan, &error), "vlan.operation");
    json_decref(wiring);
}

static void case_entries(void **state) {
    (void)state;
    json_t *wiring = make();
    add_vf(wiring, 1, 0xfe);
    check(wiring_add_component(wiring, "vf:1", "c", 4, "classifier", &error));
    check_refused(wiring_add_entry(wiring, "vf:1", "fa:16:3e:00:00:01", WIRING_UNTAGGED, "ring:0", &error), "port");
    check(wiring_attach(wiring, "vf:1", "c", "ring:0", "tx", NULL, &error));
    check(wiring_add_entry(wiring, "vf:1", "FA-16-3E-00-00-01", WIRING_UNTAGGED, "ring:0", &error));
    assert_false(wiring_add_entry(wiring, "vf:1", "fa:16:3e:00:00:01", WIRING_UNTAGGED, "ring:0", &error)); /* the same */
    check(wiring_add_entry(wiring, "vf:1", "fa:16:3e:00:00:01", 100, "ring:0", &error)); /* several of one port */
    check(wiring_add_entry(wiring, "vf:1", "default", 100, "ring:0", &error));
    /* An address that a certain switch takes for "default" is one like others. */
    check(wiring_add_entry(wiring, "vf:1", "00:00:00:00:00:01", WIRING_UNTAGGED, "ring:0", &error));
    check_refused(wiring_add_entry(wiring, "vf:1", "fa:16:3e:00:00:02", 4096, "ring:0", &error), "vlan");
    static const char *const bad[] = {"",        "fa:16:3e:00:00",      "fa:16:3e:00:00:0g", "fa:16:3e-00:00:01", "fa163e000001",
                                      "Default", "fa:16:3e:00:00:01:02"};
    for (size_t i = 0; i < array_count(bad); i++)
        check_refused(wiring_add_entry(wiring, "vf:1", bad[i], WIRING_UNTAGGED, "ring:0", &error), "mac_address");
    assert_false(wiring_remove_entry(wiring, "vf:1", "fa:16:3e:00:00:01", 101, "ring:0", &error));
    assert_false(wiring_remove_entry(wiring, "vf:1", "fa:16:3e:00:00:01", 100, "ring:1", &error)); /* the exact pair */
    check(wiring_remove_entry(wiring, "vf:1", "fa:16:3e:00:00:01", 100, "ring:0", &error));
    /* Entries outlive a detaching, and go with their classifier. */
    check(wiring_detach(wiring, "vf:1", "c", "ring:0", "tx", &error));
    assert_int_equal(json_array_size(json_object_get(wiring_process(wiring, "vf:1"), "table")), 3);
    check(wiring_attach(wiring, "vf:1", "c", "ring:0", "tx", NULL, &error));
    check(wiring_remove_component(wiring, "vf:1", "c", &error));
    check(wiring_remove_component(wiring, "vf:1", "c", &error));
    assert_int_equal(json_array_size(json_object_get(wiring_process(wiring, "vf:1"), "table")), 0);
    json_decref(wiring);
}

/* A pipe for which there is no room leaves nothing behind. */
static void case_full_forwarder(void **state) {
    (void)state;
    json_t *wiring = make();
    struct wiring_process nfv = {.type = "nfv", .id = 1, .cores = 6};
    check(wiring_add_process(wiring, &nfv, &error));
    for (unsigned i = 0; i < WIRING_ENDS_MAX; i++) {
        char name[24];
        snprintf(name, sizeof(name), "ring:%u", i);
        check(wiring_add_port(wiring, "nfv:1", name, NULL, NULL, &error));
    }
    json_t *before = json_deep_copy(wiring);
    assert_false(wiring_add_port(wiring, "nfv:1", "pipe:0", "ring:0", "ring:1", &error));
    assert_true(json_equal(wiring, before));
    check(wiring_patch(wiring, "nfv:1", "ring:0", "ring:1", &error));
    check(wiring_check_process("nfv:1", wiring_process(wiring, "nfv:1"), &error));
    json_decref(before);
    json_decref(wiring);
}

/* One port attached twice. */
static const char twice[] =
    "{\"type\":\"vf\",\"id\":1,\"master\":1,\"cores\":[2],\"components\":[{\"name\":\"c\",\"type\":\"merge\",\"core\":2,"
    "\"rx\":[{\"port\":\"ring:0\"},{\"port\":\"ring:0\"}],\"tx\":[]}],\"table\":[]}";

static void case_records(void **state) {
    (void)state;
    static const char *const bad[] = {
        "{}",
        "[]",
        "{\"type\":\"vf\",\"id\":2,\"master\":1,\"cores\":[2],\"components\":[],\"table\":[]}", /* of another key */
        "{\"type\":\"vf\",\"id\":1,\"master\":3,\"cores\":[2],\"components\":[],\"table\":[]}", /* the lowest is the master */
        "{\"type\":\"vf\",\"id\":1,\"master\":1,\"cores\":[2],\"components\":{},\"table\":[]}",
        "{\"type\":\"vf\",\"id\":1,\"master\":1,\"cores\":[2],\"components\":[{}],\"table\":[]}",
        "{\"type\":\"vf\",\"id\":1,\"master\":1,\"cores\":[2],\"components\":[],\"table\":[{\"mac\":\"x\",\"port\":\"ring:0\"}]}",
        /* Numbers that are others when they are cut to 32 bits. */
        "{\"type\":\"vf\",\"id\":4294967297,\"master\":1,\"cores\":[2],\"components\":[],\"table\":[]}",
        "{\"type\":\"vf\",\"id\":1,\"master\":1,\"cores\":[66],\"components\":[],\"table\":[]}",
        "{\"type\":\"vf\",\"id\":1,\"master\":1,\"cores\":[2],\"components\":[],"
        "\"table\":[{\"mac\":\"default\",\"vlan\":4294967296,\"port\":\"ring:0\"}]}",
        twice,
        /* Forwarders and captures of ports that are none, or that they have not. */
        "{\"type\":\"nfv\",\"id\":1,\"master\":1,\"cores\":[2],\"ports\":[],\"pipes\":{},\"patches\":[{\"src\":\"ring:0\","
        "\"dst\":\"ring:1\"}],\"running\":true}",
        "{\"type\":\"nfv\",\"id\":1,\"master\":1,\"cores\":[2],\"ports\":[\"pipe:0\"],\"pipes\":{\"pipe:0\":{\"rx\":\"phy:0\","
        "\"tx\":\"ring:1\"}},\"patches\":[],\"running\":true}",
        "{\"type\":\"pcap\",\"id\":1,\"master\":1,\"cores\":[2],\"port\":\"x\",\"running\":true}",
    };
    static const char *const keys[] = {"vf:1", "nfv:1", "pcap:1"};
    for (size_t i = 0; i < array_count(bad); i++) {
        json_t *value = json_loads(bad[i], 0, NULL);
        assert_non_null(value);
        for (size_t k = 0; k < array_count(keys); k++)
            assert_false(wiring_check_process(keys[k], value, &error));
        json_decref(value);
    }
    json_t *wiring = make();
    add_vf(wiring, 1, 0xfe);
    check(wiring_add_component(wiring, "vf:1", "c", 4, "classifier", &error));
    check(wiring_attach(wiring, "vf:1", "c", "phy:0", "rx", NULL, &error));
    check(wiring_attach(wiring, "vf:1", "c", "ring:0", "tx", NULL, &error));
    check(wiring_add_entry(wiring, "vf:1", "default", 7, "ring:0", &error));
    check(wiring_detach(wiring, "vf:1", "c", "ring:0", "tx", &error));
    check(wiring_check_process("vf:1", wiring_process(wiring, "vf:1"), &error));
    json_decref(wiring);
}

/* ---- plans ---- */

/* The plane's own model, as the judge of what it takes. */
struct judge {
    struct model *model;
    struct packet_port ports[64];
    uint64_t seed;
};

static const char *text_of(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

static enum port_direction direction_of(const json_t *params) {
    return strcmp(text_of(params, "direction"), "rx") == 0 ? PORT_DIRECTION_RX : PORT_DIRECTION_TX;
}

static bool judge_port(struct judge *judge, const char *method, const json_t *params) {
    if (strcmp(method, "packet_port_delete") == 0)
        return model_remove_port(judge->model, text_of(params, "name"), &error);
    struct packet_port *port = NULL;
    for (unsigned i = 0; i < array_count(judge->ports) && port == NULL; i++)
        if (model_find_port(judge->model, judge->ports[i].name) == NULL)
            port = &judge->ports[i];
    assert_non_null(port);
    *port = (struct packet_port){0};
    snprintf(port->name, sizeof(port->name), "%s", text_of(params, "name"));
    return model_add_port(judge->model, port, &error);
}

static bool judge_component(struct judge *judge, const char *method, const json_t *params) {
    static const char *const types[] = {"forward", "merge", "classifier", "mirror"};
    unsigned worker = (unsigned)json_integer_value(json_object_get(params, "worker"));
    if (strcmp(method, "packet_component_delete") == 0)
        return model_remove_component(judge->model, text_of(params, "name"), &error);
    if (json_object_get(params, "vf") != NULL &&
        !model_find_worker(judge->model, (uint32_t)json_integer_value(json_object_get(params, "vf")),
                           (uint32_t)json_integer_value(json_object_get(params, "core")), &worker, &error))
        return false;
    for (unsigned type = 0; type < array_count(types); type++)
        if (strcmp(types[type], text_of(params, "type")) == 0)
            return model_add_component(judge->model, text_of(params, "name"), (enum component_type)type, worker, &error);
    return false;
}

static bool is_there(int cpu) { return cpu >= 0; }

static bool judge_vf(struct judge *judge, const char *method, const json_t *params) {
    static const struct cores_map map;
    struct model_vf vf = {.id = (uint32_t)json_integer_value(json_object_get(params, "id")),
                          .share = json_is_true(json_object_get(params, "share"))};
    if (strcmp(method, "packet_vf_delete") == 0)
        return model_remove_vf(judge->model, vf.id, &error);
    return cores_parse_mask("core_mask", text_of(params, "core_mask"), &vf.mask, &error) &&
           model_add_vf(judge->model, &vf, &map, is_there, &error);
}

static bool judge_command(struct judge *judge, const json_t *command) {
    const char *method = json_string_value(json_array_get(command, 0));
    const json_t *params = json_array_get(command, 1), *vlan = json_object_get(params, "vlan");
    unsigned vid = vlan == NULL ? TABLE_UNTAGGED : (unsigned)json_integer_value(vlan);
    if (strncmp(method, "packet_vf_", 10) == 0)
        return judge_vf(judge, method, params);
    if (strcmp(method, "packet_port_set_policy") == 0)
        return model_find_port(judge->model, text_of(params, "name")) != NULL;
    if (strncmp(method, "packet_port_", 12) == 0)
        return judge_port(judge, method, params);
    if (strcmp(method, "packet_component_create") == 0 || strcmp(method, "packet_component_delete") == 0)
        return judge_component(judge, method, params);
    if (strcmp(method, "packet_component_attach") == 0)
        return model_attach(judge->model, text_of(params, "component"), text_of(params, "port"), direction_of(params),
                            (struct vlan_operation){0}, json_is_true(json_object_get(params, "hairpin")), &error);
    if (strcmp(method, "packet_component_set_vlan") == 0)
        return model_set_vlan(judge->model, text_of(params, "component"), text_of(params, "port"), direction_of(params),
                              (struct vlan_operation){0}, &error);
    if (strcmp(method, "packet_component_detach") == 0)
        return model_detach(judge->model, text_of(params, "component"), text_of(params, "port"), direction_of(params), &error);
    if (strcmp(method, "packet_classifier_add_entry") == 0)
        return model_add_entry(judge->model, text_of(params, "component"), text_of(params, "mac"), vid, text_of(params, "port"),
                               &error);
    assert_string_equal(method, "packet_classifier_delete_entry");
    return model_remove_entry(judge->model, text_of(params, "component"), text_of(params, "mac"), vid, text_of(params, "port"),
                              &error);
}

/* One random edit; most are taken. */
static void edit(json_t *wiring, struct random *random) {
    static const char *const types[] = {"forward", "merge", "classifier"};
    static const char *const operations[] = {"none", "add", "del"};
    static const char *const kinds[] = {"phy:%u", "vhost:%u", "ring:%u"};
    static const char *const made[] = {"null", "ring"};
    char process[24], component[24], port[24], mac[24];
    unsigned kind = (unsigned)random_below(random, 3), core = 2 + (unsigned)random_below(random, 6);
    snprintf(process, sizeof(process), "vf:%u", 1 + (unsigned)random_below(random, 2));
    snprintf(component, sizeof(component), "c%u", (unsigned)random_below(random, 4));
    snprintf(port, sizeof(port), kinds[kind], (unsigned)random_below(random, kind == 0 ? 2 : 5));
    snprintf(mac, sizeof(mac), "fa:16:3e:00:00:%02x", (unsigned)random_below(random, 4));
    const char *direction = random_below(random, 2) == 0 ? "rx" : "tx";
    int vlan = random_below(random, 2) == 0 ? WIRING_UNTAGGED : (int)random_below(random, 3);
    struct wiring_way operation = {operations[random_below(random, 3)], 5, 0, random_below(random, 4) == 0};
    json_t *options;
    if (random_below(random, 20) == 0) {
        struct wiring_process again = {
            .type = "vf", .id = 1, .cores = random_below(random, 2) == 0 ? 0xfe : 0x17e, .shared = true};
        (void)wiring_remove_process(wiring, "vf:1", &error);
        if (random_below(random, 3) != 0)
            check(wiring_add_process(wiring, &again, &error));
        return;
    }
    if (random_below(random, 8) == 0) {
        json_t *policy = random_below(random, 2) == 0 ? NULL : json_pack("{s[s]}", "macs", mac);
        check(wiring_set_policy(wiring, port, policy, &error));
        json_decref(policy);
        return;
    }
    switch (random_below(random, 12)) {
    case 0:
    case 1: (void)wiring_add_component(wiring, process, component, core, types[random_below(random, 3)], &error); break;
    case 2: (void)wiring_remove_component(wiring, process, component, &error); break;
    case 3:
    case 4:
    case 5:
    case 6: (void)wiring_attach(wiring, process, component, port, direction, &operation, &error); break;
    case 7: (void)wiring_detach(wiring, process, component, port, direction, &error); break;
    case 8:
    case 9: (void)wiring_add_entry(wiring, process, mac, vlan, port, &error); break;
    case 10: (void)wiring_remove_entry(wiring, process, mac, vlan, port, &error); break;
    default:
        options = json_pack("{ss}", "kind", made[random_below(random, 2)]);
        (void)wiring_set_port(wiring, "phy:0", options, &error);
        json_decref(options);
    }
}

/* What the plan leaves must be what is meant, but for entries of ports that are detached now: the plane takes those only where
 * they are already. */
static bool is_reached(const json_t *desired, const json_t *there) {
    const char *name, *entry;
    json_t *component, *port;
    bool ok =
        json_object_size(json_object_get(desired, "components")) == json_object_size(json_object_get(there, "components")) &&
        json_object_size(json_object_get(desired, "ports")) == json_object_size(json_object_get(there, "ports")) &&
        json_equal(json_object_get(desired, "policies"), json_object_get(there, "policies")) &&
        json_equal(json_object_get(desired, "vfs"), json_object_get(there, "vfs"));
    json_object_foreach(json_object_get(desired, "components"), name, component) {
        const json_t *has = json_object_get(json_object_get(there, "components"), name);
        ok = ok && json_equal(json_object_get(component, "rx"), json_object_get(has, "rx")) &&
             json_equal(json_object_get(component, "tx"), json_object_get(has, "tx")) &&
             json_equal(json_object_get(component, "place"), json_object_get(has, "place"));
        json_object_foreach(json_object_get(component, "entries"), entry,
                            port) if (json_object_get(json_object_get(component, "tx"), json_string_value(port)) != NULL) ok =
            ok && json_equal(port, json_object_get(json_object_get(has, "entries"), entry));
        json_object_foreach(json_object_get(has, "entries"), entry, port) ok =
            ok && json_equal(port, json_object_get(json_object_get(component, "entries"), entry));
    }
    return ok;
}

static void check_steps(json_t *wiring, struct judge *judge, json_t *there, struct random *random) {
    struct compile_options options = {"/tmp"};
    for (unsigned edits = (unsigned)random_below(random, 6); edits > 0; edits--)
        edit(wiring, random);
    json_t *desired = wiring_compile(wiring, &options), *none = json_object(), *command;
    json_t *commands = packet_plan(desired, there, none, judge->seed % 2 == 0);
    size_t i;
    json_array_foreach(commands, i, command) {
        if (!judge_command(judge, command)) {
            char *text = json_dumps(command, 0);
            print_error("seed %u: the plane refuses %s: %s\n", (unsigned)judge->seed, text, error.text);
            free(text);
            fail();
        }
        packet_applied(there, command);
    }
    if (!is_reached(desired, there)) {
        print_error("seed %u: the plan does not lead there\n", (unsigned)judge->seed);
        fail();
    }
    json_decref(commands);
    commands = packet_plan(desired, there, none, false);
    assert_int_equal(json_array_size(commands), 0);
    json_decref(commands);
    json_decref(none);
    json_decref(desired);
    const char *key;
    json_t *process;
    json_object_foreach(json_object_get(wiring, "processes"), key, process) check(wiring_check_process(key, process, &error));
}

static void case_random_plans(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct random random;
        random_init(&random, seed);
        json_t *wiring = make();
        json_t *there = json_pack("{s{} s{} s{} s{}}", "vfs", "ports", "policies", "components");
        struct judge judge = {.model = model_create(), .seed = seed};
        add_vf(wiring, 1, 0xfe);
        struct wiring_process second = {.type = "vf", .id = 2, .cores = 0xfe, .shared = true};
        check(wiring_add_process(wiring, &second, &error));
        for (unsigned step = 0; step < 60; step++)
            check_steps(wiring, &judge, there, &random);
        model_destroy(judge.model);
        json_decref(there);
        json_decref(wiring);
    }
}

/* A port that cannot be made is left out with what needs it, and the rest is there. */
static void case_failed_port(void **state) {
    (void)state;
    json_t *wiring = make(), *there = json_pack("{s{} s{} s{} s{}}", "vfs", "ports", "policies", "components");
    add_vf(wiring, 1, 0xfe);
    check(wiring_add_component(wiring, "vf:1", "c", 4, "classifier", &error));
    check(wiring_attach(wiring, "vf:1", "c", "phy:0", "rx", NULL, &error));
    check(wiring_attach(wiring, "vf:1", "c", "vhost:0", "tx", NULL, &error));
    check(wiring_attach(wiring, "vf:1", "c", "vhost:1", "tx", NULL, &error));
    check(wiring_add_entry(wiring, "vf:1", "fa:16:3e:00:00:01", WIRING_UNTAGGED, "vhost:0", &error));
    check(wiring_add_entry(wiring, "vf:1", "fa:16:3e:00:00:02", WIRING_UNTAGGED, "vhost:1", &error));
    struct compile_options options = {"/run/vhost"};
    json_t *desired = wiring_compile(wiring, &options), *failed = json_pack("{ss}", "vhost:0", "no");
    json_t *commands = packet_plan(desired, there, failed, false);
    char *text = json_dumps(commands, JSON_COMPACT);
    assert_string_equal(
        text,
        "[[\"packet_vf_create\",{\"id\":1,\"core_mask\":\"0xfe\",\"share\":true}],"
        "[\"packet_port_create\",{\"kind\":\"null\",\"name\":\"phy:0\"}],"
        "[\"packet_port_create\",{\"kind\":\"vhost_user\",\"socket\":\"/run/vhost/sock1\",\"client\":true,\"name\":\"vhost:1\"}],"
        "[\"packet_component_create\",{\"name\":\"vf:1:c\",\"type\":\"classifier\",\"vf\":1,\"core\":4}],"
        "[\"packet_component_attach\",{\"component\":\"vf:1:c\",\"port\":\"vhost:1\",\"direction\":\"tx\"}],"
        "[\"packet_component_attach\",{\"component\":\"vf:1:c\",\"port\":\"phy:0\",\"direction\":\"rx\"}],"
        "[\"packet_classifier_add_entry\",{\"component\":\"vf:1:c\",\"mac\":\"fa:16:3e:00:00:02\",\"port\":\"vhost:1\"}]]");
    free(text);
    json_decref(commands);
    json_decref(failed);
    json_decref(desired);
    json_decref(there);
    json_decref(wiring);
}

/* What a name alone stands for. */
static void case_names(void **state) {
    (void)state;
    static const char *const ports[][2] = {
        {"vhost:12", "{\"kind\":\"vhost_user\",\"socket\":\"/tmp/sock12\",\"client\":true}"},
        {"ring:3", "{\"kind\":\"ring\"}"},
        {"nullpmd:4", "{\"kind\":\"null\"}"},
        {"memif:5", "{\"kind\":\"memif\",\"socket\":\"/tmp/spp-memif.sock\",\"server\":true,\"id\":5}"},
        {"tap:6", "{\"kind\":\"tap\",\"interface\":\"dtap6\"}"},
        {"pcap:7", "{\"kind\":\"pcap\",\"rx_file\":\"/tmp/spp-rx7.pcap\",\"tx_file\":\"/tmp/spp-tx7.pcap\"}"},
        {"phy:1", "{\"kind\":\"null\"}"}};
    json_t *wiring = make();
    struct wiring_process primary = {.type = "primary", .cores = 1};
    check(wiring_add_process(wiring, &primary, &error));
    check(wiring_add_port(wiring, "primary:0", "pipe:0", "ring:8", "ring:9", &error));
    add_vf(wiring, 1, 0xfe);
    check(wiring_add_component(wiring, "vf:1", "m", 4, "merge", &error));
    for (size_t i = 0; i < array_count(ports); i++)
        check(wiring_attach(wiring, "vf:1", "m", ports[i][0], "rx", NULL, &error));
    check(wiring_attach(wiring, "vf:1", "m", "pipe:0", "tx", NULL, &error));
    struct compile_options options = {"/tmp"};
    json_t *desired = wiring_compile(wiring, &options), *made = json_object_get(desired, "ports");
    for (size_t i = 0; i < array_count(ports); i++) {
        char *text = json_dumps(json_object_get(made, ports[i][0]), JSON_COMPACT);
        assert_non_null(text);
        assert_string_equal(text, ports[i][1]);
        free(text);
    }
    /* A pipe is written to by the ring that is its tx. */
    assert_null(json_object_get(made, "pipe:0"));
    assert_int_equal(json_object_size(made), array_count(ports) + 1);
    assert_non_null(
        json_object_get(json_object_get(json_object_get(json_object_get(desired, "components"), "vf:1:m"), "tx"), "ring:9"));
    json_decref(desired);
    json_decref(wiring);
}

/* Cores that are not there: what is on them is left out, ports are made, and another vf has what it needs. */
static void case_failed_vf(void **state) {
    (void)state;
    json_t *wiring = make(), *there = json_pack("{s{} s{} s{} s{}}", "vfs", "ports", "policies", "components");
    add_vf(wiring, 1, 0xfe);
    add_vf(wiring, 2, 0xc02);
    check(wiring_add_component(wiring, "vf:1", "f", 4, "forward", &error));
    check(wiring_attach(wiring, "vf:1", "f", "phy:0", "rx", NULL, &error));
    check(wiring_add_component(wiring, "vf:2", "f", 10, "forward", &error));
    check(wiring_attach(wiring, "vf:2", "f", "ring:1", "tx", NULL, &error));
    struct compile_options options = {"/tmp"};
    json_t *desired = wiring_compile(wiring, &options), *failed = json_pack("{ss}", "vf 1", "no");
    json_t *commands = packet_plan(desired, there, failed, false);
    char *text = json_dumps(commands, JSON_COMPACT);
    assert_string_equal(text,
                        "[[\"packet_vf_create\",{\"id\":2,\"core_mask\":\"0xc02\",\"share\":true}],"
                        "[\"packet_port_create\",{\"kind\":\"null\",\"name\":\"phy:0\"}],"
                        "[\"packet_port_create\",{\"kind\":\"ring\",\"name\":\"ring:1\"}],"
                        "[\"packet_component_create\",{\"name\":\"vf:2:f\",\"type\":\"forward\",\"vf\":2,\"core\":10}],"
                        "[\"packet_component_attach\",{\"component\":\"vf:2:f\",\"port\":\"ring:1\",\"direction\":\"tx\"}]]");
    free(text);
    json_decref(commands);
    json_decref(failed);
    json_decref(desired);
    json_decref(there);
    json_decref(wiring);
}

/* Where the plane can, a tag's change is one command, and no moment without the port. */
static void case_retag(void **state) {
    (void)state;
    json_t *wiring = make(), *there = json_pack("{s{} s{} s{} s{}}", "vfs", "ports", "policies", "components"),
           *none = json_object();
    json_t *command;
    size_t i;
    struct compile_options options = {"/tmp"};
    struct wiring_way vlan = {.operation = "add", .id = 100};
    add_vf(wiring, 1, 0xfe);
    check(wiring_add_component(wiring, "vf:1", "f", 4, "forward", &error));
    check(wiring_attach(wiring, "vf:1", "f", "vhost:0", "rx", NULL, &error));
    json_t *desired = wiring_compile(wiring, &options), *commands = packet_plan(desired, there, none, true);
    json_array_foreach(commands, i, command) packet_applied(there, command);
    json_decref(commands);
    json_decref(desired);
    check(wiring_detach(wiring, "vf:1", "f", "vhost:0", "rx", &error));
    check(wiring_attach(wiring, "vf:1", "f", "vhost:0", "rx", &vlan, &error));
    desired = wiring_compile(wiring, &options);
    commands = packet_plan(desired, there, none, true);
    char *text = json_dumps(commands, JSON_COMPACT);
    assert_string_equal(text,
                        "[[\"packet_component_set_vlan\",{\"component\":\"vf:1:f\",\"port\":\"vhost:0\",\"direction\":\"rx\","
                        "\"vlan\":{\"operation\":\"add\",\"id\":100,\"pcp\":0}}]]");
    free(text);
    json_decref(commands);
    json_decref(desired);
    json_decref(there);
    json_decref(none);
    json_decref(wiring);
}

/* ---- several processes ---- */

static json_t *split(const json_t *wiring) {
    struct compile_options options = {"/tmp"};
    json_t *compiled = wiring_compile(wiring, &options), *parts = packet_split(compiled, &error);
    json_decref(compiled);
    return parts;
}

/* `text` with ' for ". */
static void check_part(const json_t *parts, const char *process, const char *folder, const char *text) {
    char quoted[1024];
    assert_true((size_t)snprintf(quoted, sizeof(quoted), "%s", text) < sizeof(quoted));
    for (char *c = quoted; *c != '\0'; c++)
        *c = *c == '\'' ? '"' : *c;
    json_t *want = json_loads(quoted, 0, NULL), *part = json_object_get(json_object_get(parts, process), folder);
    assert_non_null(want);
    if (!json_equal(part, want)) {
        char *got = json_dumps(part, JSON_INDENT(1));
        print_error("%s of process %s is %s\n", folder, process, got);
        free(got);
    }
    assert_true(json_equal(part, want));
    json_decref(want);
}

/* A card's classifier and a machine's forward in a vf: the card is the primary's, by a ring each way. */
static void case_split(void **state) {
    (void)state;
    json_t *wiring = make();
    struct wiring_way none = {.operation = "none"}, tag = {.operation = "del"};
    add_vf(wiring, 1, 0x1e);
    add_vf(wiring, 2, 0x1e0);
    check(wiring_add_component(wiring, "vf:1", "c", 2, "classifier", &error));
    check(wiring_add_component(wiring, "vf:1", "f", 3, "forward", &error));
    check(wiring_attach(wiring, "vf:1", "c", "ring:0", "tx", &none, &error));
    check(wiring_attach(wiring, "vf:1", "c", "phy:1", "tx", &tag, &error));
    check(wiring_attach(wiring, "vf:1", "c", "phy:0", "rx", &none, &error));
    check(wiring_attach(wiring, "vf:1", "f", "ring:0", "rx", &none, &error));
    check(wiring_attach(wiring, "vf:1", "f", "vhost:0", "tx", &none, &error));
    check(wiring_add_entry(wiring, "vf:1", "fa:16:3e:00:00:01", 100, "ring:0", &error));
    check(wiring_add_entry(wiring, "vf:1", "default", WIRING_UNTAGGED, "phy:1", &error));
    json_t *parts = split(wiring);
    assert_non_null(parts);
    assert_int_equal(json_object_size(parts), 3);
    check_part(parts, "0", "vfs", "{}");
    check_part(
        parts, "0", "ports",
        "{'phy:0': {'kind': 'null'}, 'phy:0.rx': {'kind': 'ring'}, 'phy:1': {'kind': 'null'}, 'phy:1.tx': {'kind': 'ring'}}");
    check_part(parts, "0", "components",
               "{'bridge:phy:0.rx': {'type': 'forward', 'place': {'worker': 0}, 'rx': {'phy:0': {'operation': 'none'}},"
               " 'tx': {'phy:0.rx': {'operation': 'none'}}, 'entries': {}},"
               " 'bridge:phy:1.tx': {'type': 'forward', 'place': {'worker': 0}, 'rx': {'phy:1.tx': {'operation': 'none'}},"
               " 'tx': {'phy:1': {'operation': 'none'}}, 'entries': {}}}");
    check_part(parts, "1", "vfs", "{'1': {'core_mask': '0x1e', 'share': true}}");
    check_part(parts, "1", "ports",
               "{'ring:0': {'kind': 'ring'}, 'phy:0.rx': {'kind': 'ring'}, 'phy:1.tx': {'kind': 'ring'},"
               " 'vhost:0': {'kind': 'vhost_user', 'socket': '/tmp/sock0', 'client': true}}");
    check_part(parts, "1", "components",
               "{'vf:1:c': {'type': 'classifier', 'place': {'vf': 1, 'core': 2}, 'rx': {'phy:0.rx': {'operation': 'none'}},"
               " 'tx': {'ring:0': {'operation': 'none'}, 'phy:1.tx': {'operation': 'del'}},"
               " 'entries': {'fa:16:3e:00:00:01/100': 'ring:0', 'default': 'phy:1.tx'}},"
               " 'vf:1:f': {'type': 'forward', 'place': {'vf': 1, 'core': 3}, 'rx': {'ring:0': {'operation': 'none'}},"
               " 'tx': {'vhost:0': {'operation': 'none'}}, 'entries': {}}}");
    check_part(parts, "2", "ports", "{}");
    json_decref(parts);
    /* A machine's memory is in one process. */
    check(wiring_add_component(wiring, "vf:2", "g", 6, "forward", &error));
    check(wiring_attach(wiring, "vf:2", "g", "vhost:0", "rx", &none, &error));
    assert_null(split(wiring));
    assert_non_null(strstr(error.text, "vhost:0"));
    json_decref(wiring);
}

/* The master core is anybody's, the others are not, whatever was allowed for threads. */
static void case_split_cores(void **state) {
    (void)state;
    json_t *wiring = make();
    add_vf(wiring, 1, 0xfe);
    struct wiring_process second = {.type = "vf", .id = 2, .cores = 0x182, .shared = true};
    check(wiring_add_process(wiring, &second, &error));
    assert_null(split(wiring));
    assert_non_null(strstr(error.text, "core 7 "));
    json_decref(wiring);
}

/* Of several processes all let go first of what goes from one to another. */
static void case_cut(void **state) {
    (void)state;
    static const struct {
        const char *plan;
        size_t kept;
    } cases[] = {{"[]", 0},
                 {"[[\"packet_port_create\"],[\"packet_port_delete\"]]", 0},
                 {"[[\"packet_component_detach\"],[\"packet_component_set_vlan\"],[\"packet_port_delete\"],"
                  "[\"packet_component_set_vlan\"],[\"packet_port_create\"],[\"packet_component_delete\"]]",
                  3},
                 {"[[\"packet_component_set_vlan\"],[\"packet_component_detach\"],[\"packet_port_delete\"],"
                  "[\"packet_port_create\"]]",
                  3},
                 {"[[\"packet_component_set_vlan\"],[\"packet_port_create\"],[\"packet_port_delete\"]]", 0}};
    assert_int_equal(packet_plan_leaving(NULL), 0);
    for (size_t i = 0; i < array_count(cases); i++) {
        json_t *plan = json_loads(cases[i].plan, 0, NULL);
        assert_int_equal(packet_plan_leaving(plan), cases[i].kept);
        packet_plan_cut(plan, cases[i].kept);
        assert_int_equal(json_array_size(plan), cases[i].kept);
        json_decref(plan);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(case_cores),        cmocka_unit_test(case_ports),          cmocka_unit_test(case_limits_of_components),
        cmocka_unit_test(case_entries),      cmocka_unit_test(case_full_forwarder), cmocka_unit_test(case_records),
        cmocka_unit_test(case_random_plans), cmocka_unit_test(case_split),          cmocka_unit_test(case_split_cores),
        cmocka_unit_test(case_cut),          cmocka_unit_test(case_failed_port),    cmocka_unit_test(case_retag),
        cmocka_unit_test(case_failed_vf),    cmocka_unit_test(case_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
