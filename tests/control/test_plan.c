/* Names, records and plans: pure, from observations that are written here as a plane would answer. */
#include "observed.h"

/* ---- names ---- */

static void test_names(void **state) {
    struct error error;
    (void)state;
    assert_true(names_check("pvc-1", "name", &error));
    static const char *const wrong[] = {"", "a b", "a/b", "x-clone-ep-y", "x-tmp-head", "\xc3\xbc"};
    for (size_t i = 0; i < array_count(wrong); i++)
        assert_false(names_check(wrong[i], "name", &error));
    assert_true(names_is_replica(NAME));
    assert_false(names_is_replica("-r-12345678"));
    assert_false(names_is_replica("vol-r-1234567"));
    assert_false(names_is_replica("vol-r-1234567_"));
    assert_int_equal(names_replica_of(NAME), strlen(NAME));
    assert_int_equal(names_replica_of(NAME "-snap-x"), strlen(NAME));
    assert_int_equal(names_replica_of(NAME "-rebuilding"), strlen(NAME));
    assert_int_equal(names_replica_of(NAME "-other"), 0);
    assert_int_equal(names_replica_of("a-r-12345678-r-87654321"), strlen("a-r-12345678-r-87654321"));
    assert_string_equal(names_snapshot(NAME "-snap-x", NAME), "x");
    assert_null(names_snapshot(NAME "-rebuilding", NAME));
    char volume[NAMES_VOLUME_SIZE], longest[NAMES_VOLUME_SIZE + 1];
    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    assert_true(names_make_snapshot(NAME, "x", volume));
    assert_false(names_make_snapshot(NAME, longest, volume));
}

/* ---- records ---- */

static void test_records(void **state) {
    struct control_replica_record replica = {.name = NAME,
                                             .disk = "d1",
                                             .store = STORE,
                                             .bytes = MIB(7),
                                             .port = CONTROL_PORT_LAST - 1,
                                             .port_count = 2,
                                             .made = true,
                                             .deleting = true,
                                             .failure = "it \"failed\"\n"},
                                  read_replica;
    struct control_disk_record disk = {.name = "d1", .path = "/dev/x", .driver = "aio", .uuid = STORE, .block_bytes = 512},
                               read_disk;
    struct error error;
    struct text text;
    (void)state;
    text_init(&text, KIB(8));
    assert_true(records_write_replica(&replica, &text));
    assert_true(records_read_replica(text.bytes, text.length, &read_replica, &error));
    assert_memory_equal(&replica, &read_replica, sizeof(replica));
    for (size_t cut = 0; cut < text.length; cut++)
        assert_false(records_read_replica(text.bytes, cut, &read_replica, &error));
    text_reset(&text);
    assert_true(records_write_disk(&disk, &text));
    assert_true(records_read_disk(text.bytes, text.length, &read_disk, &error));
    assert_memory_equal(&disk, &read_disk, sizeof(disk));
    text_fini(&text);
    static const char *const wrong[] = {
        "[]",
        "{}",
        "{\"name\":1}",
        "{\"name\":\"n\",\"disk\":\"d\",\"store\":\"s\",\"failure\":\"\",\"bytes\":-1,\"port\":0,\"ports\":0}",
        "{\"name\":\"n\",\"disk\":\"d\",\"store\":\"s\",\"failure\":\"\",\"bytes\":1,\"port\":20001,\"ports\":0}",
        "{\"name\":\"n\",\"disk\":\"d\",\"store\":\"s\",\"failure\":\"\",\"bytes\":1,\"port\":1,\"ports\":1}",
        "{\"name\":\"n\",\"disk\":\"d\",\"store\":\"s\",\"failure\":\"\",\"bytes\":1,\"port\":30000,\"ports\":2}",
        "{\"name\":\"n\",\"disk\":\"d\",\"store\":\"s\",\"failure\":\"\",\"bytes\":1,\"port\":20001,\"ports\":65}",
    };
    for (size_t i = 0; i < array_count(wrong); i++)
        assert_false(records_read_replica(wrong[i], strlen(wrong[i]), &read_replica, &error));
}

/* ---- ports ---- */

static void test_ports(void **state) {
    static struct control control;
    (void)state;
    assert_int_equal(ports_take(&control, 0, 5), 20001);
    assert_int_equal(ports_take(&control, 0, 1), 20006);
    ports_release(&control, 20001, 5);
    assert_int_equal(ports_take(&control, 0, 6), 20007);
    assert_int_equal(ports_take(&control, 0, 5), 20001);
    assert_int_equal(ports_take(&control, CONTROL_PORT_LAST - 1, 1), CONTROL_PORT_LAST);
    assert_int_equal(ports_take(&control, CONTROL_PORT_LAST, 1), 20013);
    ports_mark(&control, CONTROL_PORT_FIRST, CONTROL_PORT_LAST + 1 - CONTROL_PORT_FIRST);
    assert_int_equal(ports_take(&control, 0, 1), 0);
    ports_release(&control, 25000, 3);
    assert_int_equal(ports_take(&control, 0, 4), 0);
    assert_int_equal(ports_take(&control, 0, 3), 25000);
}

/* ---- plans ---- */

static void test_plans_of_disks(void **state) {
    struct control_disk disk = {.object.kind = CONTROL_DISKS, .record = {.name = "d1", .path = "/f", .driver = "aio"}};
    struct control_goal goal = {.verb = CONTROL_DISK_OPEN, .object = &disk.object, .uuid = ""};
    (void)state;
    expect(&goal, "", "", "", "aio_create");
    expect(&goal, DISK, "", "", "create_lvstore");
    expect(&goal, DISK, A_STORE, "", "=");
    expect(&goal, DISK, "{\"uuid\":\"" STORE "\",\"name\":\"old\",\"base_bdev\":\"d1\"}", "", "rename_lvstore");
    expect(&goal, "{\"name\":\"d1\",\"uuid\":\"x\",\"driver_specific\":{\"aio\":{\"filename\":\"/g\"}}}", "", "", "!exists");
    goal.uuid = HEAD;
    expect(&goal, DISK, A_STORE, "", "!not found");
    expect(&goal, DISK, "", "", "!not found");
    goal.uuid = "";
    snprintf(disk.record.uuid, sizeof(disk.record.uuid), STORE);
    expect(&goal, DISK, "", "", "!not found"); /* it was made once */
    goal.verb = CONTROL_DISK_DELETE;
    expect(&goal, DISK, A_STORE, "", "aio_delete");
    expect(&goal, "", "", "", "=");
}

static void test_plans_of_replicas(void **state) {
    static const char whole[] = "create_subsystem add_host add_ns add_listener";
    struct control_replica replica = {
        .record = {.name = NAME, .disk = "d1", .store = STORE, .bytes = MIB(8), .port = 20001, .port_count = 1}};
    struct control_goal goal = {.verb = CONTROL_REPLICA_CREATE, .object = &replica.object};
    (void)state;
    expect(&goal, DISK, "", "", "!busy");
    expect(&goal, DISK, A_STORE, "", "create create_subsystem add_host add_ns add_listener");
    expect(&goal, A_HEAD, A_STORE, "", whole);
    expect(&goal, A_HEAD, A_STORE, EXPORT, "=");
    /* a half export is taken away first */
    expect(&goal, A_HEAD, A_STORE,
           "{\"nqn\":\"nqn.2023-01.io.longhorn.spdk:" NAME "\",\"namespaces\":[],\"listen_addresses\":[]}",
           "delete_subsystem create_subsystem add_host add_ns add_listener");
    /* a head that is gone is never made again */
    replica.record.made = true;
    expect(&goal, DISK, A_STORE, "", "!busy");
    replica.record.made = false;
    expect(&goal, VOLUME(HEAD, NAME "-snap-a", "\"snapshot\":true,\"clone\":false"), A_STORE, "", "!damaged");
    expect(&goal, VOLUME(HEAD, NAME, "\"snapshot\":true,\"clone\":false"), A_STORE, "", "!damaged");
    replica.record.bytes = MIB(9);
    expect(&goal, A_HEAD, A_STORE, EXPORT, "resize");
    replica.record.bytes = MIB(7);
    expect(&goal, A_HEAD, A_STORE, EXPORT, "!invalid");
    goal.verb = CONTROL_REPLICA_EXPORT;
    expect(&goal, A_HEAD, A_STORE, EXPORT, "=");
    expect(&goal, DISK, A_STORE, "", "!busy"); /* its making is not taken up */
    goal.verb = CONTROL_REPLICA_STOP;
    expect(&goal, A_HEAD, A_STORE, EXPORT, "delete_subsystem");
    expect(&goal, A_HEAD, A_STORE, "", "=");
    goal.verb = CONTROL_REPLICA_EXPAND;
    goal.bytes = MIB(8) + 1;
    expect(&goal, A_HEAD, A_STORE, EXPORT, "resize");
    goal.bytes = MIB(8);
    expect(&goal, A_HEAD, A_STORE, EXPORT, "=");
    goal.bytes = MIB(8) - 1;
    expect(&goal, A_HEAD, A_STORE, EXPORT, "!invalid");
    goal.verb = CONTROL_REPLICA_DELETE;
    replica.record.made = true;
    expect(&goal, DISK, "", "", "!busy"); /* on a disk that is away: it is not gone */
    expect(&goal, DISK, A_STORE, "", "=");
}

/* Leaves first, whatever their names; others' volumes stay. */
static void test_plan_of_a_deletion(void **state) {
    struct control_replica replica = {.record = {.name = NAME, .disk = "d1", .store = STORE, .made = true}};
    struct control_goal goal = {.verb = CONTROL_REPLICA_DELETE, .object = &replica.object};
    struct observation *seen = observed_of(
        VOLUME("u-b", NAME "-snap-b", "\"snapshot\":true,\"clone\":false") "," VOLUME(
            "u-a", NAME "-snap-a",
            "\"snapshot\":true,\"clone\":true,\"base_snapshot\":\"" NAME
            "-snap-b\"") "," VOLUME("u-h", NAME,
                                    "\"snapshot\":false,\"clone\":true,\"base_snapshot\":\"" NAME
                                    "-snap-a\"") "," VOLUME("u-x", NAME "x",
                                                            "\"snapshot\":false,\"clone\":false") "," VOLUME("u-o",
                                                                                                             "vol-r-other123",
                                                                                                             "\"snapshot\":false,"
                                                                                                             "\"clone\":false"),
        A_STORE, EXPORT);
    static const char *const wanted[] = {NULL, "u-h", "u-a", "u-b"};
    struct plan plan;
    (void)state;
    plan_make(&goal, seen, ADDRESS, &plan);
    assert_int_equal(plan.count, 4);
    assert_string_equal(plan.commands[0].method, "nvmf_delete_subsystem");
    for (unsigned i = 1; i < array_count(wanted); i++) {
        assert_string_equal(plan.commands[i].method, "bdev_lvol_delete");
        assert_string_equal(json_string_value(json_object_get(plan.commands[i].params, "name")), wanted[i]);
    }
    plan_commands_free(plan.commands, plan.count);
    observation_unref(seen);
}

static void test_plans_of_snapshots(void **state) {
    static const char snapshot[] =
        A_HEAD "," VOLUME("u-s", NAME "-snap-s", "\"snapshot\":true,\"clone\":false,\"clones\":[\"a\"]");
    static const char parent[] =
        A_HEAD "," VOLUME("u-s", NAME "-snap-s", "\"snapshot\":true,\"clone\":false,\"clones\":[\"a\",\"b\"]");
    struct control_replica replica = {.record = {.name = NAME, .disk = "d1", .store = STORE, .made = true}};
    struct control_goal goal = {
        .verb = CONTROL_SNAPSHOT_CREATE, .object = &replica.object, .snapshot = "s", .timestamp = "", .id = "mine"};
    (void)state;
    expect(&goal, A_HEAD, A_STORE, "", "snapshot");
    expect(&goal, snapshot, A_STORE, "", "!exists");
    expect(&goal, DISK, A_STORE, "", "!busy");
    /* one that carries this operation's id was made by it, before the plane died */
    struct observation *seen = observed_of(snapshot, A_STORE, "");
    struct hash_map map;
    struct observed_attributes *attributes = calloc(1, sizeof(*attributes));
    assert_non_null(attributes);
    hash_map_init(&map);
    *attributes = (struct observed_attributes){.map = &map, .references = 1, .operation = "mine"};
    assert_true(hash_map_insert(&map, &attributes->node, 1));
    for (size_t i = 0; i < seen->volume_count; i++)
        if (seen->volumes[i].snapshot)
            seen->volumes[i].attributes = attributes;
    const char *text = plan_text(&goal, seen);
    assert_string_equal(text, "=");
    test_free((void *)text);
    hash_map_fini(&map);
    goal.verb = CONTROL_SNAPSHOT_DELETE;
    expect(&goal, snapshot, A_STORE, "", "delete");
    expect(&goal, A_HEAD, A_STORE, "", "=");
    expect(&goal, parent, A_STORE, "", "!permission");
    goal.verb = CONTROL_SNAPSHOT_REVERT;
    expect(&goal, snapshot, A_STORE, "", "volume_revert");
    expect(&goal, A_HEAD, A_STORE, "", "!permission");
    goal.carried_out = true;
    expect(&goal, snapshot, A_STORE, "", "=");
}

/* ---- engines ---- */

#define ENGINE "vol-e-0"
#define RUN "44444444-4444-4444-8444-444444444444"
#define WAY(tail, port)                                                                                                          \
    "{\"name\":\"" tail "@" ENGINE "\",\"ctrlrs\":[{\"trid\":{\"traddr\":\"10.0.0.1\",\"trsvcid\":\"" port                       \
    "\",\"subnqn\":\"nqn.2023-01.io.longhorn.spdk:vol-" tail "\"}}]}"
#define WAYS WAY("r-0000000a", "20001") "," WAY("r-0000000b", "20002")
#define MIRROR(state, more)                                                                                                      \
    "{\"name\":\"" ENGINE "\",\"uuid\":\"x\",\"state\":\"" state "\",\"engine\":\"" RUN "\",\"size\":8388608,"                   \
    "\"legs\":[{\"name\":\"r-0000000a@" ENGINE "n1\",\"state\":\"whole\",\"why\":\"\"},{\"name\":\"r-0000000b@" ENGINE           \
    "n1\",\"state\":\"absent\",\"why\":\"\"}]" more "}"
#define MIRROR_OF_ONE                                                                                                            \
    "{\"name\":\"" ENGINE "\",\"uuid\":\"x\",\"state\":\"serving\",\"engine\":\"" RUN "\",\"size\":8388608,\"legs\":["           \
    "{\"name\":\"r-0000000a@" ENGINE "n1\",\"state\":\"whole\",\"why\":\"\"}]}"
#define TARGET(device)                                                                                                           \
    "{\"nqn\":\"nqn.2023-01.io.longhorn.spdk:volume-vol\",\"allow_any_host\":true,\"hosts\":[],\"namespaces\":[{\"bdev_name\":"  \
    "\"" device "\"}],\"listen_addresses\":[{\"traddr\":\"127.0.0.1\",\"trsvcid\":\"20009\"}]}"
#define TARGET_IN(ana)                                                                                                           \
    "{\"nqn\":\"nqn.2023-01.io.longhorn.spdk:volume-vol\",\"allow_any_host\":true,\"hosts\":[],\"namespaces\":[{\"bdev_name\":"  \
    "\"" ENGINE "\"}],\"listen_addresses\":[{\"traddr\":\"127.0.0.1\",\"trsvcid\":\"20009\",\"ana_state\":\"" ana "\"}]}"
#define CLONING                                                                                                                  \
    "{\"nqn\":\"nqn.2023-01.io.longhorn.spdk:" ENGINE                                                                            \
    "-cloning\",\"allow_any_host\":false,\"hosts\":[{}],\"namespaces\":[{\"bdev_name\":\"" ENGINE                                \
    "\"}],\"listen_addresses\":[{\"traddr\":\"127.0.0.1\",\"trsvcid\":\"20009\"}]}"
#define ANOTHER "55555555-5555-4555-8555-555555555555"
#define STANDBY_OF(promised_a, promised_b)                                                                                       \
    "{\"name\":\"" ENGINE "\",\"uuid\":\"x\",\"state\":\"standby\",\"engine\":\"" RUN "\",\"size\":8388608,"                     \
    "\"legs\":[{\"name\":\"r-0000000a@" ENGINE "n1\",\"state\":\"connecting\",\"why\":\"\",\"promised_to\":\"" promised_a        \
    "\"},{\"name\":\"r-0000000b@" ENGINE "n1\",\"state\":\"connecting\",\"why\":\"\",\"promised_to\":\"" promised_b "\"}]}"
#define WHY(code) ",\"error\":{\"code\":\"" code "\",\"text\":\"why\"}"

static void engine_of_two(struct control_engine *engine) {
    *engine = (struct control_engine){.object.kind = CONTROL_ENGINES,
                                      .record = {.name = ENGINE,
                                                 .volume = "vol",
                                                 .frontend = "spdk-tcp-nvmf",
                                                 .bytes = MIB(8),
                                                 .legs = {{.name = "vol-r-0000000a", .address = "10.0.0.1:20001"},
                                                          {.name = "vol-r-0000000b", .address = "10.0.0.1:20002"}},
                                                 .leg_count = 2,
                                                 .port = 20009,
                                                 .port_count = 1,
                                                 .ana = "optimized",
                                                 .runs = {RUN},
                                                 .run_count = 1}};
}

static void test_plans_of_engines(void **state) {
    static const struct {
        const char *what;
        enum control_verb verb;
        const char *exports, *ways, *mirrors, *wanted;
        const char *flags; /* carried out, asides done, resumes, salvage, has Looked again, failed, no target, standBy, promoting,
                              inaccessible, the second one is being rebuilt call by call, or in Doubt; is becominG a clone, of
                              which all (Whole) was copied, and has the Tree that comes with it */
    } rows[] = {
        {"from nothing", CONTROL_ENGINE_CREATE, "", "", "", "nvme_attach_controller nvme_attach_controller mirror_create", ""},
        {"one way is there", CONTROL_ENGINE_CREATE, "", WAY("r-0000000a", "20001"), "", "nvme_attach_controller mirror_create",
         ""},
        {"one leads elsewhere", CONTROL_ENGINE_CREATE, "", WAY("r-0000000a", "1") "," WAY("r-0000000b", "20002"), "",
         "nvme_detach_controller nvme_attach_controller mirror_create", ""},
        {"one does not answer", CONTROL_ENGINE_CREATE, "", WAY("r-0000000a", "20001"), "", "mirror_create", "a"},
        {"what another creation left", CONTROL_ENGINE_CREATE, TARGET(ENGINE), WAYS, MIRROR("serving", ""),
         "delete_subsystem mirror_delete mirror_create", ""},
        {"it serves", CONTROL_ENGINE_CREATE, "", WAYS, MIRROR("serving", ""), "create_subsystem add_ns add_listener", "c"},
        {"it is offered", CONTROL_ENGINE_CREATE, TARGET(ENGINE), WAYS, MIRROR("serving", ""), "=", "c"},
        {"no frontend", CONTROL_ENGINE_CREATE, "", WAYS, MIRROR("serving", ""), "=", "cn"},
        {"another engine offers it", CONTROL_ENGINE_CREATE, TARGET("vol-e-1"), WAYS, MIRROR("serving", ""), "!exists", "c"},
        {"it waits", CONTROL_ENGINE_CREATE, "", WAYS, MIRROR("configuring", WHY("busy")), "!busy", "c"},
        {"it waits, salvaged", CONTROL_ENGINE_CREATE, "", WAYS,
         MIRROR("configuring", WHY("busy") ",\"awaited\":[{\"id\":\"i\",\"name\":\"r-0000000b@oldn1\"}]"), "mirror_start", "cs"},
        {"it waits for one whose connection stands", CONTROL_ENGINE_CREATE, "", WAYS,
         MIRROR("configuring", WHY("busy") ",\"awaited\":[{\"id\":\"i\",\"name\":\"r-0000000b@oldn1\"}]"), "mirror_start", "c"},
        {"it has waited for it again", CONTROL_ENGINE_CREATE, "", WAYS,
         MIRROR("configuring", WHY("busy") ",\"awaited\":[{\"id\":\"i\",\"name\":\"r-0000000b@oldn1\"}]"), "!busy", "cl"},
        {"it waits for one that is not connected", CONTROL_ENGINE_CREATE, "", WAY("r-0000000a", "20001"),
         MIRROR("configuring", WHY("busy") ",\"awaited\":[{\"id\":\"i\",\"name\":\"r-0000000b@oldn1\"}]"), "!busy", "c"},
        {"it waits, nobody knows for whom", CONTROL_ENGINE_CREATE, "", WAYS, MIRROR("configuring", WHY("busy") ",\"awaited\":[]"),
         "!busy", "cs"},
        {"the plane died", CONTROL_ENGINE_CREATE, "", "", "", "nvme_attach_controller nvme_attach_controller mirror_create", "c"},
        {"all is well", CONTROL_ENGINE_TEND, TARGET(ENGINE), WAYS, MIRROR("serving", ""), "=", ""},
        {"it waits for replicas", CONTROL_ENGINE_TEND, "", WAYS, MIRROR("configuring", WHY("busy")), "=", ""},
        {"a way is missing", CONTROL_ENGINE_TEND, TARGET(ENGINE), WAY("r-0000000b", "20002"), MIRROR("serving", ""),
         "nvme_attach_controller", ""},
        {"brought back", CONTROL_ENGINE_TEND, "", "", "", "nvme_attach_controller nvme_attach_controller mirror_create", "r"},
        {"never without a recorded run", CONTROL_ENGINE_TEND, "", "", "", "!busy", ""},
        {"lost again", CONTROL_ENGINE_TEND, "", WAYS, "", "!busy", "rc"},
        {"superseded", CONTROL_ENGINE_TEND, TARGET(ENGINE), WAYS, MIRROR("ended", WHY("permission")), "!permission", "r"},
        {"its writes may be gone", CONTROL_ENGINE_TEND, TARGET(ENGINE), WAYS, MIRROR("ended", WHY("io")),
         "delete_subsystem mirror_delete mirror_create", "r"},
        {"it failed", CONTROL_ENGINE_TEND, TARGET(ENGINE), WAYS, MIRROR("serving", ""),
         "delete_subsystem mirror_delete nvme_detach_controller nvme_detach_controller", "f"},
        {"it failed, and is gone", CONTROL_ENGINE_TEND, TARGET("vol-e-1"), "", "", "=", "f"},
        {"deleted", CONTROL_ENGINE_DELETE, TARGET(ENGINE), WAY("r-0000000b", "20002"), MIRROR("serving", ""),
         "delete_subsystem mirror_delete nvme_detach_controller", ""},
        {"another engine lives", CONTROL_ENGINE_CREATE, "", WAYS, STANDBY_OF(ANOTHER, ANOTHER),
         "create_subsystem add_ns add_listener", "c"},
        {"a standby is offered", CONTROL_ENGINE_CREATE, TARGET(ENGINE), WAYS, STANDBY_OF(ANOTHER, ANOTHER), "=", "c"},
        {"a standby is brought back", CONTROL_ENGINE_TEND, "", WAYS, "", "mirror_create", "b"},
        {"a standby without a way", CONTROL_ENGINE_TEND, TARGET(ENGINE), WAY("r-0000000b", "20002"), STANDBY_OF(ANOTHER, ANOTHER),
         "nvme_attach_controller", "b"},
        {"a standby claims nothing", CONTROL_ENGINE_TEND, TARGET(ENGINE), WAYS, STANDBY_OF(RUN, RUN), "=", "br"},
        {"promoted", CONTROL_ENGINE_ANA, TARGET(ENGINE), WAYS, STANDBY_OF(ANOTHER, ANOTHER), "mirror_promote", "bp"},
        {"promoted, and serves", CONTROL_ENGINE_ANA, TARGET_IN("optimized"), WAYS, MIRROR("serving", ""), "=", "bpc"},
        {"promoted in vain", CONTROL_ENGINE_ANA, TARGET(ENGINE), WAYS, MIRROR("configuring", WHY("busy")), "!busy", "bpc"},
        {"promoted in vain, a standby again", CONTROL_ENGINE_ANA, TARGET(ENGINE), WAYS, STANDBY_OF(ANOTHER, ANOTHER), "!busy",
         "bpc"},
        {"what broke off is made anew", CONTROL_ENGINE_TEND, TARGET(ENGINE), WAYS, MIRROR("configuring", WHY("busy")),
         "delete_subsystem mirror_delete mirror_create", "bp"},
        {"what has begun to claim goes on", CONTROL_ENGINE_TEND, TARGET(ENGINE), WAYS, STANDBY_OF(ANOTHER, RUN), "mirror_promote",
         "bpr"},
        {"a promotion under way is let be", CONTROL_ENGINE_TEND, TARGET(ENGINE), WAYS, MIRROR("starting", ""), "=", "bp"},
        {"drained", CONTROL_ENGINE_ANA, TARGET_IN("optimized"), WAYS, MIRROR("serving", ""), "listener_set_ana_state", "i"},
        {"drained once more: it may not have ended", CONTROL_ENGINE_ANA, TARGET_IN("inaccessible"), WAYS, MIRROR("serving", ""),
         "listener_set_ana_state", "i"},
        {"drained, and done", CONTROL_ENGINE_ANA, TARGET_IN("inaccessible"), WAYS, MIRROR("serving", ""), "=", "ic"},
        {"brought back as it was", CONTROL_ENGINE_TEND, TARGET_IN("optimized"), WAYS, MIRROR("serving", ""),
         "listener_set_ana_state", "i"},
        {"brought back without who is being rebuilt", CONTROL_ENGINE_TEND, "", "", "", "nvme_attach_controller mirror_create",
         "rx"},
        {"brought back with who is in doubt", CONTROL_ENGINE_TEND, "", "", "",
         "nvme_attach_controller nvme_attach_controller mirror_create", "rd"},
        {"who is in doubt is needed perhaps", CONTROL_ENGINE_TEND, "", WAY("r-0000000a", "20001"),
         MIRROR("configuring", WHY("busy")), "nvme_attach_controller", "d"},
        {"the records have who was in doubt", CONTROL_ENGINE_TEND, TARGET(ENGINE), WAYS, MIRROR("serving", ""), "=", "d"},
        {"they do not have it", CONTROL_ENGINE_TEND, TARGET(ENGINE), WAYS, MIRROR_OF_ONE, "nvme_detach_controller", "d"},
        {"no snapshot beside one that keeps no record", CONTROL_ENGINE_SNAPSHOT_CREATE, TARGET(ENGINE), WAYS,
         MIRROR("serving", ""), "!permission", "x"},
        {"nor another size", CONTROL_ENGINE_EXPAND, TARGET(ENGINE), WAYS, MIRROR("serving", ""), "!permission", "x"},
        {"it has all its snapshots", CONTROL_ENGINE_FILLED, TARGET(ENGINE), WAYS, MIRROR("serving", ""), "mirror_leg_filled",
         "x"},
        {"exported to be copied into", CONTROL_ENGINE_CLONE_BEGIN, TARGET(ENGINE), WAYS, MIRROR("serving", ""),
         "create_subsystem add_host add_ns add_listener", ""},
        {"exported already", CONTROL_ENGINE_CLONE_BEGIN, TARGET(ENGINE) "," CLONING, WAYS, MIRROR("serving", ""), "=", ""},
        {"not over one that keeps no record", CONTROL_ENGINE_CLONE_BEGIN, TARGET(ENGINE), WAYS, MIRROR("serving", ""),
         "!permission", "x"},
        {"not one that does not serve", CONTROL_ENGINE_CLONE_BEGIN, TARGET(ENGINE), WAYS, MIRROR("configuring", ""), "!busy", ""},
        {"a copy that broke off", CONTROL_ENGINE_CLONE_END, TARGET(ENGINE) "," CLONING, WAYS, MIRROR("serving", ""),
         "delete_subsystem mirror_clear", ""},
        {"a copy that broke off, and is cleared", CONTROL_ENGINE_CLONE_END, TARGET(ENGINE), WAYS, MIRROR("serving", ""), "=",
         "c"},
        {"a copy that has its snapshot is whole", CONTROL_ENGINE_CLONE_END, TARGET(ENGINE) "," CLONING, WAYS,
         MIRROR("serving", ""), "delete_subsystem", "gt"},
        {"a copy that has its snapshot, and no way in", CONTROL_ENGINE_CLONE_END, TARGET(ENGINE), WAYS, MIRROR("serving", ""),
         "=", "gt"},
        {"copied", CONTROL_ENGINE_CLONE_END, TARGET(ENGINE) "," CLONING, WAYS, MIRROR("serving", ""),
         "delete_subsystem mirror_snapshot_create", "gw"},
        {"copied, and made", CONTROL_ENGINE_CLONE_END, TARGET(ENGINE), WAYS, MIRROR("serving", ""), "=", "gwct"},
        {"nobody else makes snapshots meanwhile", CONTROL_ENGINE_SNAPSHOT_CREATE, TARGET(ENGINE), WAYS, MIRROR("serving", ""),
         "!permission", "g"},
        {"deleted in a copy", CONTROL_ENGINE_DELETE, CLONING, "", "", "delete_subsystem", ""},
        {"linked", CONTROL_ENGINE_CLONE_LINK, TARGET(ENGINE), WAYS, MIRROR("serving", ""), "mirror_set_parents", ""},
        {"linked, and done", CONTROL_ENGINE_CLONE_LINK, TARGET(ENGINE), WAYS, MIRROR("serving", ""), "=", "c"},
        {"not another's target", CONTROL_ENGINE_DELETE, TARGET("vol-e-1"), "", "", "=", ""},
    };
    (void)state;
    for (size_t i = 0; i < array_count(rows); i++) {
        struct control_engine engine;
        engine_of_two(&engine);
        if ((strchr(rows[i].flags, 'n') != NULL))
            engine.record.port = engine.record.port_count = 0;
        engine.record.legs[1].changing = strchr(rows[i].flags, 'd') != NULL;
        if ((strchr(rows[i].flags, 'f') != NULL))
            snprintf(engine.record.failure, sizeof(engine.record.failure), "it failed");
        engine.record.standby = strchr(rows[i].flags, 'b') != NULL;
        engine.record.promoting = strchr(rows[i].flags, 'p') != NULL;
        if (strchr(rows[i].flags, 'i') != NULL)
            snprintf(engine.record.ana, sizeof(engine.record.ana), "inaccessible");
        engine.record.legs[1].foreign = engine.record.legs[1].filling = strchr(rows[i].flags, 'x') != NULL;
        if (strchr(rows[i].flags, 'g') != NULL)
            engine.record.clone = (struct control_engine_clone){.state = CONTROL_CLONE_COPYING, .snapshot = "s"};
        struct control_goal goal = {.verb = rows[i].verb,
                                    .object = &engine.object,
                                    .legs = &engine.record.legs[1],
                                    .snapshot = "s",
                                    .timestamp = "",
                                    .complete = strchr(rows[i].flags, 'w') != NULL,
                                    .carried_out = (strchr(rows[i].flags, 'c') != NULL),
                                    .asides_done = (strchr(rows[i].flags, 'a') != NULL),
                                    .resumes = (strchr(rows[i].flags, 'r') != NULL),
                                    .salvage = (strchr(rows[i].flags, 's') != NULL),
                                    .looked_again = (strchr(rows[i].flags, 'l') != NULL)};
        struct observation *seen = observed_all("", "", rows[i].exports, rows[i].ways, rows[i].mirrors);
        if (strchr(rows[i].flags, 't') != NULL)
            seen->mirrors[0].tree = array_of("{\"name\":\"s\"}");
        const char *text = plan_text(&goal, seen);
        if (strcmp(text, rows[i].wanted) != 0)
            fail_msg("%s: %s, not %s", rows[i].what, text, rows[i].wanted);
        test_free((void *)text);
    }
}

/* What says whether a promotion has come to anything. */
static void test_claims(void **state) {
    static const struct {
        const char *mirror, *ways;
        enum plan_claims claims;
    } rows[] = {
        {STANDBY_OF(ANOTHER, ANOTHER), WAYS, PLAN_CLAIMS_NONE},
        {STANDBY_OF(ANOTHER, RUN), WAYS, PLAN_CLAIMS_SOME},
        {STANDBY_OF(ANOTHER, "00000000-0000-0000-0000-000000000000"), WAYS, PLAN_CLAIMS_UNKNOWN},
        {STANDBY_OF(ANOTHER, "00000000-0000-0000-0000-000000000000"), WAY("r-0000000a", "20001"), PLAN_CLAIMS_NONE},
        {STANDBY_OF("00000000-0000-0000-0000-000000000000", "00000000-0000-0000-0000-000000000000"), "", PLAN_CLAIMS_UNKNOWN},
    };
    (void)state;
    for (size_t i = 0; i < array_count(rows); i++) {
        struct control_engine engine;
        struct observation *seen = observed_all("", "", "", rows[i].ways, rows[i].mirror);
        engine_of_two(&engine);
        assert_int_equal(plan_claims_of(&engine.record, observed_mirror(seen, ENGINE), seen), rows[i].claims);
        observation_unref(seen);
    }
}

/* Two engines of a volume are one disk to a host, with controllers of their own. */
static void test_identity(void **state) {
    struct names_identity a, b;
    uint16_t min[4], max[4];
    static const char *const engines[] = {"vol-e-0", "vol-e-1", "vol-e-12", "another"};
    (void)state;
    names_make_identity("vol", &a);
    names_make_identity("vol2", &b);
    assert_int_equal(strlen(a.serial), 20);
    assert_true(strcmp(a.serial, b.serial) != 0 && strcmp(a.uuid, b.uuid) != 0 && strcmp(a.nguid, b.nguid) != 0);
    for (unsigned i = 0; i < array_count(engines); i++) {
        names_make_cntlids(engines[i], &min[i], &max[i]);
        assert_true(min[i] >= 1 && min[i] < max[i] && max[i] <= 65519);
        for (unsigned j = 0; j < i; j++)
            assert_true(max[i] < min[j] || max[j] < min[i]);
    }
    assert_null(names_ana("better"));
    assert_string_equal(names_ana("non-optimized"), "non_optimized");
}

/* Only what resumes says whose replicas it may take, and under which id; a creation takes them from anybody. */
static void test_who_claims(void **state) {
    struct control_engine engine;
    struct control_goal goal = {.verb = CONTROL_ENGINE_TEND, .object = &engine.object, .resumes = true, .asides_done = true};
    struct plan plan;
    (void)state;
    engine_of_two(&engine);
    for (unsigned created = 0; created < 2; created++) {
        struct observation *seen = observed_of("", "", "");
        goal.verb = created ? CONTROL_ENGINE_CREATE : CONTROL_ENGINE_TEND;
        plan_make(&goal, seen, ADDRESS, &plan);
        assert_int_equal(plan.count, 1);
        const json_t *params = plan.commands[0].params, *resume = json_object_get(params, "resume");
        assert_int_equal(json_array_size(resume), created ? 0 : 1);
        assert_string_equal(json_string_value(json_object_get(params, "policy")), "any");
        assert_int_equal(json_object_get(params, "engine") != NULL, !created);
        plan_commands_free(plan.commands, plan.count);
        observation_unref(seen);
    }
}

/* A pause lasts as long as its lease is renewed; only what serves can be paused, and whatever is there goes on. */
static void test_plans_of_pauses(void **state) {
    static const struct {
        const char *what;
        enum control_verb verb;
        bool done;
        const char *mirrors, *wanted;
    } rows[] = {
        {"paused", CONTROL_FRONTEND_SUSPEND, false, MIRROR("serving", ""), "mirror_pause(" ENGINE ")"},
        {"paused, and done", CONTROL_FRONTEND_SUSPEND, true, MIRROR("serving", ""), "="},
        {"it does not serve", CONTROL_FRONTEND_SUSPEND, false, MIRROR("configuring", ""), "!permission"},
        {"it is not there", CONTROL_FRONTEND_SUSPEND, false, "", "!permission"},
        {"goes on", CONTROL_FRONTEND_RESUME, false, MIRROR("serving", ""), "mirror_resume(" ENGINE ",7)"},
        {"goes on although it has ended", CONTROL_FRONTEND_RESUME, false, MIRROR("ended", ""), "mirror_resume(" ENGINE ",7)"},
        {"nothing is there to go on", CONTROL_FRONTEND_RESUME, false, "", "="},
    };
    struct control_frontend frontend = {.record.engine = ENGINE, .lease = 7};
    (void)state;
    for (size_t i = 0; i < array_count(rows); i++) {
        struct control_goal goal = {.verb = rows[i].verb, .object = &frontend.object, .carried_out = rows[i].done};
        const char *text = plan_text_of(&goal, observed_all("", "", "", "", rows[i].mirrors), true);
        if (strcmp(text, rows[i].wanted) != 0)
            fail_msg("%s: %s, not %s", rows[i].what, text, rows[i].wanted);
        test_free((void *)text);
    }
}

static void test_engine_records(void **state) {
    struct control_engine engine;
    struct control_engine_record read;
    struct error error;
    struct text text;
    (void)state;
    engine_of_two(&engine);
    engine.record.made = engine.record.superseded = engine.record.standby = engine.record.promoting = true;
    engine.record.snapshot_max = 7;
    engine.record.clone = (struct control_engine_clone){
        .state = CONTROL_CLONE_FAILED, .snapshot = "s1", .source = "r-1", .source_address = "127.0.0.2:20001", .failure = "why"};
    text_init(&text, KIB(16));
    assert_true(records_write_engine(&engine.record, &text));
    assert_true(records_read_engine(text.bytes, text.length, &read, &error));
    assert_memory_equal(&engine.record, &read, sizeof(read));
    for (size_t cut = 0; cut < text.length; cut++)
        assert_false(records_read_engine(text.bytes, cut, &read, &error));
    text_fini(&text);
}

/* What a listing has that no plane should say is left out, and harms nothing. */
static void test_hostile_listings(void **state) {
    static const char *const devices[] = {
        "1",
        "null",
        "{}",
        "{\"name\":3}",
        "{\"driver_specific\":[]}",
        "{\"uuid\":\"u\",\"aliases\":[\"no-slash\"],\"driver_specific\":{\"lvol\":{}}}",
        "{\"uuid\":\"u\",\"aliases\":[7],\"driver_specific\":{\"lvol\":{\"lvol_store_uuid\":\"s\"}}}"};
    (void)state;
    for (size_t i = 0; i < array_count(devices); i++) {
        struct observation *seen = observed_all(devices[i], devices[i], devices[i], devices[i], devices[i]);
        assert_int_equal(seen->device_count + seen->volume_count + seen->store_count + seen->export_count +
                             seen->controller_count + seen->mirror_count,
                         0);
        observation_unref(seen);
    }
    /* a tree that bites its tail */
    struct control_replica replica = {.record = {.name = NAME, .disk = "d1", .store = STORE, .made = true}};
    struct control_goal goal = {.verb = CONTROL_REPLICA_DELETE, .object = &replica.object};
    expect(&goal,
           VOLUME("u-a", NAME "-snap-a", "\"snapshot\":true,\"clone\":true,\"base_snapshot\":\"" NAME "-snap-b\"") "," VOLUME(
               "u-b", NAME "-snap-b", "\"snapshot\":true,\"clone\":true,\"base_snapshot\":\"" NAME "-snap-a\""),
           A_STORE, "", "delete delete");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_records),
        cmocka_unit_test(test_ports),
        cmocka_unit_test(test_plans_of_disks),
        cmocka_unit_test(test_plans_of_replicas),
        cmocka_unit_test(test_plan_of_a_deletion),
        cmocka_unit_test(test_plans_of_snapshots),
        cmocka_unit_test(test_plans_of_engines),
        cmocka_unit_test(test_claims),
        cmocka_unit_test(test_identity),
        cmocka_unit_test(test_who_claims),
        cmocka_unit_test(test_plans_of_pauses),
        cmocka_unit_test(test_engine_records),
        cmocka_unit_test(test_hostile_listings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
