/* Plans of copies between replicas: a goal and what a plane has to the next commands, round after round. Pure. */
#include "observed.h"

#define SNAPSHOT(uuid, tail, more) VOLUME(uuid, NAME tail, "\"snapshot\":true" more)
#define WRITABLE(uuid, tail, more) VOLUME(uuid, NAME tail, "\"snapshot\":false" more)
#define ON(tail) ",\"clone\":true,\"base_snapshot\":\"" NAME tail "\""
#define ROOT ",\"clone\":false"
#define OUTSIDE ",\"clone\":false,\"esnap_clone\":true"
#define USED ",\"used_bytes\":1048576"
#define AS(name, device, port)                                                                                                   \
    "{\"nqn\":\"nqn.2023-01.io.longhorn.spdk:" name "\",\"allow_any_host\":false,\"hosts\":[{}],\"namespaces\":[{\"bdev_name\":" \
    "\"" device "\"}],\"listen_addresses\":[{\"traddr\":\"127.0.0.1\",\"trsvcid\":\"" port "\"}]}"
#define TO(name)                                                                                                                 \
    "{\"name\":\"" name "\",\"ctrlrs\":[{\"trid\":{\"traddr\":\"10.0.0.2\",\"trsvcid\":\"20005\",\"subnqn\":\"n\"}}]}"
#define EXPORTED(name, device, port)                                                                                             \
    "create_subsystem(" name ") add_host(" name ") add_ns(" name "," device ") add_listener(" name "," port ")"
#define PEER "vol-r-99999999"
#define HEAD_ONLY A_HEAD
#define WITH_S A_HEAD "," SNAPSHOT("u-s", "-snap-s", ROOT)

/* What a row's goal and record have that others' have not. */
enum {
    DONE = 1 << 0,      /* carried out */
    DEEP = 1 << 1,      /* with what ancestors hold */
    DELTA = 1 << 2,     /* from what is there */
    COMPLETE = 1 << 3,  /* everything was copied */
    CLUSTERS = 1 << 4,  /* some are named */
    PARENT = 1 << 5,    /* snapshot p is to be the parent */
    OUTGOING = 1 << 6,  /* recorded: snapshot s goes to PEER */
    INCOMING = 1 << 7,  /* recorded: s is the newest that comes */
    NOT_OURS = 1 << 8,  /* recorded: the replica is not exported */
    MADE_BY_US = 1 << 9 /* snapshot s has this operation's id */
};

struct row {
    const char *what;
    enum control_verb verb;
    unsigned flags;
    const char *devices, *exports, *ways, *wanted;
};

static void mark_made(struct observation *seen, struct hash_map *map) {
    struct observed_attributes *attributes = calloc(1, sizeof(*attributes));
    assert_non_null(attributes);
    *attributes = (struct observed_attributes){.map = map, .operation = "mine"};
    assert_true(hash_map_insert(map, &attributes->node, 1));
    for (size_t i = 0; i < seen->volume_count; i++)
        if (strcmp(seen->volumes[i].name, NAME "-snap-s") == 0) {
            seen->volumes[i].attributes = attributes;
            attributes->references++;
        }
    assert_int_equal(attributes->references, 1);
}

static void run(const struct row *row) {
    static const uint64_t clusters[] = {3, 5};
    static const char *const names[] = {"s", "t"};
    struct control_replica replica = {
        .record = {.name = NAME, .disk = "d1", .store = STORE, .bytes = MIB(8), .port = 20001, .port_count = 2, .made = true}};
    struct control_goal goal = {.verb = row->verb,
                                .object = &replica.object,
                                .snapshot = "s",
                                .timestamp = "",
                                .id = "mine",
                                .bytes = MIB(8),
                                .peer = PEER,
                                .peer_address = "10.0.0.2:20005",
                                .parent = row->flags & PARENT ? NAME "-snap-p" : "",
                                .names = names,
                                .name_count = array_count(names),
                                .clusters = row->flags & CLUSTERS ? clusters : NULL,
                                .cluster_count = row->flags & CLUSTERS ? array_count(clusters) : 0,
                                .deep = row->flags & DEEP,
                                .delta = row->flags & DELTA,
                                .complete = row->flags & COMPLETE,
                                .carried_out = row->flags & DONE};
    struct hash_map map;
    if (row->flags & OUTGOING)
        snprintf(replica.record.outgoing.peer, sizeof(replica.record.outgoing.peer), PEER);
    snprintf(replica.record.outgoing.snapshot, sizeof(replica.record.outgoing.snapshot), "s");
    if (row->flags & INCOMING)
        snprintf(replica.record.incoming.snapshot, sizeof(replica.record.incoming.snapshot), "s");
    replica.record.exported = !(row->flags & NOT_OURS);
    struct observation *seen =
        observed_all(row->devices, strcmp(row->devices, DISK) == 0 ? "" : A_STORE, row->exports, row->ways, "");
    hash_map_init(&map);
    if (row->flags & MADE_BY_US)
        mark_made(seen, &map);
    const char *text = plan_text_of(&goal, seen, true);
    if (strcmp(text, row->wanted) != 0)
        fail_msg("%s: %s, not %s", row->what, text, row->wanted);
    test_free((void *)text);
    hash_map_fini(&map);
}

static void run_all(const struct row *rows, size_t count) {
    for (size_t i = 0; i < count; i++)
        run(&rows[i]);
}

/* This replica is the source. */
static void test_source(void **state) {
    static const struct row rows[] = {
        {"its disk is away", CONTROL_EXPOSE, OUTGOING, DISK, "", "", "!busy"},
        {"no such snapshot", CONTROL_EXPOSE, OUTGOING, HEAD_ONLY, "", "", "!permission"},
        {"exported on the private port", CONTROL_EXPOSE, OUTGOING, WITH_S, "", "", EXPORTED("~-snap-s", "u-s", "20002")},
        {"as another device before", CONTROL_EXPOSE, OUTGOING, WITH_S, AS(NAME "-snap-s", "u-old", "20002"), "",
         "delete_subsystem(~-snap-s) " EXPORTED("~-snap-s", "u-s", "20002")},
        {"it stands", CONTROL_EXPOSE, OUTGOING, WITH_S, AS(NAME "-snap-s", "u-s", "20002"), "", "="},
        {"taken back, with the way to the peer", CONTROL_UNEXPOSE, OUTGOING, WITH_S, AS(NAME "-snap-s", "u-s", "20002"),
         TO(PEER "-rebuilding"), "delete_subsystem(~-snap-s) nvme_detach_controller(" PEER "-rebuilding)"},
        {"nothing is left of it", CONTROL_UNEXPOSE, OUTGOING, WITH_S, "", "", "="},
        {"nothing was recorded", CONTROL_UNEXPOSE, 0, WITH_S, AS(NAME "-snap-s", "u-s", "20002"), "", "="},
    };
    (void)state;
    run_all(rows, array_count(rows));
}

static void test_copying(void **state) {
#define ATTACH(tail) "nvme_attach_controller(" PEER tail ",10.0.0.2,20005," PEER tail ") "
    static const struct row rows[] = {
        {"no such snapshot", CONTROL_COPY, 0, HEAD_ONLY, "", "", "!permission"},
        {"what it holds", CONTROL_COPY, 0, WITH_S, "", "", ATTACH("-rebuilding") "start_shallow_copy(u-s," PEER "-rebuildingn1)"},
        {"the way of a copy before leads to another volume", CONTROL_COPY, 0, WITH_S, "", TO(PEER "-rebuilding"),
         "nvme_detach_controller(" PEER "-rebuilding) " ATTACH("-rebuilding") "start_shallow_copy(u-s," PEER "-rebuildingn1)"},
        {"some clusters", CONTROL_COPY, CLUSTERS, WITH_S, "", "",
         ATTACH("-rebuilding") "start_range_shallow_copy(u-s," PEER "-rebuildingn1,2 clusters)"},
        {"all below it, to a clone", CONTROL_COPY, DEEP, WITH_S, "", "",
         ATTACH("-cloning") "start_deep_copy(u-s," PEER "-cloningn1)"},
        {"never begun twice", CONTROL_COPY, DONE, WITH_S, "", "", "="},
    };
    (void)state;
    run_all(rows, array_count(rows));
}

/* This replica is rebuilt: its beginning. */
static void test_rebuild_begin(void **state) {
#define SOURCE "nvme_attach_controller(~-source,10.0.0.2,20005," PEER "-snap-s) "
#define NEW_HEAD "clone_bdev(~-sourcen1,d1,~-rebuilding-head) resize(d1/~-rebuilding-head,8) "
#define IN_PLACE "rename(d1/~-rebuilding-head,~) " EXPORTED("~", "d1/~", "20001")
    static const struct row rows[] = {
        {"its disk is away", CONTROL_REBUILD_BEGIN, 0, DISK, "", "", "!busy"},
        {"a new head in the old one's place", CONTROL_REBUILD_BEGIN, 0, HEAD_ONLY, EXPORT, "",
         SOURCE NEW_HEAD "delete_subsystem(~) delete(" HEAD ") " IN_PLACE},
        {"what one before has left goes first", CONTROL_REBUILD_BEGIN, 0,
         A_HEAD "," WRITABLE("u-r", "-rebuilding", ROOT) "," WRITABLE("u-n", "-rebuilding-head", OUTSIDE),
         AS(NAME "-rebuilding", "u-r", "20002"), TO(NAME "-source"),
         "delete_subsystem(~-rebuilding) nvme_detach_controller(~-source) " SOURCE "delete(u-r) delete(u-n) " NEW_HEAD
         "delete(" HEAD ") " IN_PLACE},
        {"no head at all", CONTROL_REBUILD_BEGIN, 0, SNAPSHOT("u-s", "-snap-s", ROOT), "", "", SOURCE NEW_HEAD IN_PLACE},
        {"begun, and no strangers", CONTROL_REBUILD_BEGIN, DONE, WITH_S, "", "", "="},
        {"snapshots that the source has not", CONTROL_REBUILD_BEGIN, DONE,
         WITH_S "," SNAPSHOT("u-x", "-snap-x", ROOT) "," SNAPSHOT("u-y", "-snap-y", ROOT ",\"clones\":[\"a\",\"b\"]"), "", "",
         "delete(u-x) rename(u-y,~-expired-mine0)"},
    };
    (void)state;
    run_all(rows, array_count(rows));
}

static void test_rebuild_scratch(void **state) {
#define P SNAPSHOT("u-p", "-snap-p", ROOT)
#define SCRATCH EXPORTED("~-rebuilding", "d1/~-rebuilding", "20002")
    static const struct row rows[] = {
        {"an empty one", CONTROL_REBUILD_SCRATCH, 0, HEAD_ONLY, "", "", "create(~-rebuilding,8) " SCRATCH},
        {"upon its parent", CONTROL_REBUILD_SCRATCH, PARENT, A_HEAD "," P, "", "", "clone(u-p,~-rebuilding) " SCRATCH},
        {"whose parent is not there", CONTROL_REBUILD_SCRATCH, PARENT, HEAD_ONLY, "", "", "!permission"},
        {"one before is made anew", CONTROL_REBUILD_SCRATCH, 0, A_HEAD "," WRITABLE("u-r", "-rebuilding", ROOT),
         AS(NAME "-rebuilding", "u-r", "20002"), "",
         "delete_subsystem(~-rebuilding) delete(u-r) create(~-rebuilding,8) " SCRATCH},
        {"an old snapshot of that name gives it up", CONTROL_REBUILD_SCRATCH, 0, WITH_S, "", "",
         "rename(u-s,~-expired-mine0) create(~-rebuilding,8) " SCRATCH},
        {"made", CONTROL_REBUILD_SCRATCH, DONE, A_HEAD "," WRITABLE("u-r", "-rebuilding", ROOT), "", "", "="},
        {"made, and lost", CONTROL_REBUILD_SCRATCH, DONE, HEAD_ONLY, "", "", "create(~-rebuilding,8) " SCRATCH},
        {"as the snapshot that is there", CONTROL_REBUILD_SCRATCH, DELTA, WITH_S, "", "", "clone(u-s,~-rebuilding) " SCRATCH},
        {"which is gone", CONTROL_REBUILD_SCRATCH, DELTA, HEAD_ONLY, "", "", "!permission"},
        {"which must stand elsewhere first", CONTROL_REBUILD_SCRATCH, DELTA | PARENT, WITH_S "," P, "", "",
         "set_parent(u-s,u-p)"},
        {"or nowhere", CONTROL_REBUILD_SCRATCH, DELTA, A_HEAD "," P "," SNAPSHOT("u-s", "-snap-s", ON("-snap-p")), "", "",
         "detach_parent(u-s)"},
    };
    (void)state;
    run_all(rows, array_count(rows));
}

static void test_rebuild_snapshot(void **state) {
#define R WRITABLE("u-r", "-rebuilding", ROOT)
#define R_ON_S WRITABLE("u-r", "-rebuilding", ON("-snap-s"))
    static const struct row rows[] = {
        {"kept as it is", CONTROL_REBUILD_KEEP, 0, WITH_S, "", "", "="},
        {"kept upon another", CONTROL_REBUILD_KEEP, PARENT, WITH_S "," P, "", "", "set_parent(u-s,u-p)"},
        {"kept, and it is upon it", CONTROL_REBUILD_KEEP, PARENT, A_HEAD "," P "," SNAPSHOT("u-s", "-snap-s", ON("-snap-p")), "",
         "", "="},
        {"it is gone", CONTROL_REBUILD_KEEP, 0, HEAD_ONLY, "", "", "!permission"},
        {"nothing was copied", CONTROL_REBUILD_SNAPSHOT, 0, HEAD_ONLY, "", "", "!permission"},
        {"what was copied gets its name", CONTROL_REBUILD_SNAPSHOT, 0, A_HEAD "," R, AS(NAME "-rebuilding", "u-r", "20002"), "",
         "delete_subsystem(~-rebuilding) snapshot(u-r,~-snap-s)"},
        {"one of that name is in the way", CONTROL_REBUILD_SNAPSHOT, 0, WITH_S "," R, "", "", "!exists"},
        {"one that it stands upon becomes part of it", CONTROL_REBUILD_SNAPSHOT, 0,
         WITH_S "," R_ON_S "," SNAPSHOT("u-t", "-snap-t", ON("-snap-s")), "", "", "detach_parent(u-t) delete(u-s)"},
        {"ours, but for what was copied to", CONTROL_REBUILD_SNAPSHOT, MADE_BY_US, WITH_S "," R_ON_S,
         AS(NAME "-rebuilding", "u-r", "20002"), "", "delete_subsystem(~-rebuilding) delete(u-r)"},
        {"ours", CONTROL_REBUILD_SNAPSHOT, MADE_BY_US, WITH_S, "", "", "="},
    };
    (void)state;
    run_all(rows, array_count(rows));
}

static void test_rebuild_end(void **state) {
#define HEAD_ON_S WRITABLE(HEAD, "", ON("-snap-s"))
#define S SNAPSHOT("u-s", "-snap-s", ROOT)
    static const struct row rows[] = {
        {"its disk is away", CONTROL_REBUILD_END, COMPLETE | INCOMING, DISK, "", "", "!busy"},
        {"the head is still beside its place", CONTROL_REBUILD_END, COMPLETE | INCOMING,
         S "," WRITABLE("u-n", "-rebuilding-head", ROOT), "", "", "rename(u-n,~)"},
        {"no head", CONTROL_REBUILD_END, COMPLETE | INCOMING, S, "", "", "!busy"},
        {"the newest snapshot did not come", CONTROL_REBUILD_END, COMPLETE | INCOMING, HEAD_ONLY, "", "", "!permission"},
        {"the head comes to stand upon it", CONTROL_REBUILD_END, COMPLETE | INCOMING, WITH_S, "", "", "set_parent(" HEAD ",u-s)"},
        {"what is left over goes, children first", CONTROL_REBUILD_END, COMPLETE | INCOMING,
         HEAD_ON_S "," S "," R
                   "," SNAPSHOT("u-e", "-expired-mine0", ROOT) "," SNAPSHOT("u-f", "-expired-mine1", ON("-expired-mine0")),
         EXPORT, TO(NAME "-source"), "nvme_detach_controller(~-source) delete(u-f) delete(u-e) delete(u-r)"},
        {"exported anew", CONTROL_REBUILD_END, COMPLETE | INCOMING, HEAD_ON_S "," S, AS(NAME, "u-old", "20001"), "",
         "delete_subsystem(~) " EXPORTED("~", HEAD, "20001")},
        {"which was not asked for", CONTROL_REBUILD_END, COMPLETE | INCOMING | NOT_OURS, HEAD_ON_S "," S, "", "", "="},
        {"over", CONTROL_REBUILD_END, COMPLETE | INCOMING, HEAD_ON_S "," S, EXPORT, "", "="},
        {"given up: nobody is shown what is not its own", CONTROL_REBUILD_END, INCOMING, WRITABLE(HEAD, "", OUTSIDE) "," R, "",
         "", "delete(u-r)"},
    };
    (void)state;
    run_all(rows, array_count(rows));
}

/* This replica becomes a clone. */
static void test_clones(void **state) {
#define C WRITABLE("u-c", "-cloning", ROOT)
#define THEIRS(more) VOLUME("u-t", PEER "-snap-s", "\"snapshot\":true,\"clone\":false" more)
#define LARGE                                                                                                                    \
    "{\"name\":\"u-t\",\"uuid\":\"u-t\",\"aliases\":[\"d1/" PEER "-snap-s\"],\"block_size\":512,\"num_blocks\":16385,"           \
    "\"driver_specific\":{\"lvol\":{\"lvol_store_uuid\":\"" STORE "\",\"snapshot\":true}}}"
    static const struct row rows[] = {
        {"into an empty one", CONTROL_CLONE_BEGIN, 0, HEAD_ONLY, "", "",
         "create(~-cloning,8) " EXPORTED("~-cloning", "d1/~-cloning", "20002")},
        {"into one that holds something", CONTROL_CLONE_BEGIN, 0, WRITABLE(HEAD, "", ROOT USED), "", "", "!permission"},
        {"into one with snapshots below", CONTROL_CLONE_BEGIN, 0, HEAD_ON_S "," S, "", "", "!permission"},
        {"one of that name is there", CONTROL_CLONE_BEGIN, 0, WITH_S, "", "", "!exists"},
        {"begun", CONTROL_CLONE_BEGIN, DONE, A_HEAD "," C, "", "", "="},
        {"copied", CONTROL_CLONE_END, COMPLETE, A_HEAD "," C, "", "", "snapshot(u-c,~-snap-s)"},
        {"copied and named: the head comes to stand upon it", CONTROL_CLONE_END, COMPLETE | MADE_BY_US, WITH_S, "", "",
         "set_parent(" HEAD ",u-s)"},
        {"it stands", CONTROL_CLONE_END, COMPLETE | MADE_BY_US, HEAD_ON_S "," S, "", "", "="},
        {"given up", CONTROL_CLONE_END, 0, A_HEAD "," C, AS(NAME "-cloning", "u-c", "20002"), "",
         "delete_subsystem(~-cloning) delete(u-c)"},
        {"given up, and nothing is left", CONTROL_CLONE_END, 0, HEAD_ONLY, "", "", "="},
        {"linked", CONTROL_CLONE_LINK, 0, A_HEAD "," THEIRS(""), "", "", "set_parent(" HEAD ",u-t)"},
        {"linked to one that is not on the disk", CONTROL_CLONE_LINK, 0, HEAD_ONLY, "", "", "!permission"},
        {"linked to a larger one", CONTROL_CLONE_LINK, 0, A_HEAD "," LARGE, "", "", "!permission"},
        {"linked, and it holds something", CONTROL_CLONE_LINK, 0, WRITABLE(HEAD, "", ROOT USED) "," THEIRS(""), "", "",
         "!permission"},
        {"linked before", CONTROL_CLONE_LINK, 0,
         VOLUME(HEAD, NAME, "\"snapshot\":false,\"clone\":true,\"base_snapshot\":\"" PEER "-snap-s\"") "," THEIRS(""), "", "",
         "="},
    };
    (void)state;
    run_all(rows, array_count(rows));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_source),          cmocka_unit_test(test_copying),          cmocka_unit_test(test_rebuild_begin),
        cmocka_unit_test(test_rebuild_scratch), cmocka_unit_test(test_rebuild_snapshot), cmocka_unit_test(test_rebuild_end),
        cmocka_unit_test(test_clones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
