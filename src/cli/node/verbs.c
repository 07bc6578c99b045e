/* The table of the control daemon's verbs, any method as it is, and the completion of its names. */
#include <string.h>

#include "cli/node/node.h"

static const struct cli_option disk_create_options[] = {
    {"--block-size", "BYTES", "512 or 4096 (default: the disk's own)"},
    {"--driver", "NAME", "auto (default) or aio"},
    {"--uuid", "UUID", "Of the store that must be on it (default: any, or a new one on a blank disk)"},
    {"--no-wait", NULL, "Do not wait until it is ready"},
    {0},
};
static const struct cli_option replica_create_options[] = {
    {"--ports", "COUNT", "How many ports to keep for it (default 1)"},
    {0},
};
static const struct cli_option yes_options[] = {
    {"--yes", NULL, "Yes, do that"},
    {0},
};
static const struct cli_option watch_options[] = {
    {"--once", NULL, "Show all that is there, and end"},
    {0},
};
static const struct cli_option engine_create_options[] = {
    {"--size", "SIZE", "Of the volume, which its replicas have; needed"},
    {"--volume", "NAME", "The volume's name (default: the engine's)"},
    {"--frontend", "KIND", "spdk-tcp-nvmf (default), or none: \"\""},
    {"--salvage", NULL, "Start from the newest of replicas that all failed"},
    {0},
};
static const struct cli_option frontend_create_options[] = {
    {"--size", "SIZE", "Of the volume (default: as its engine says)"},
    {"--volume", "NAME", "The volume's name (default: the engine's)"},
    {"--kind", "KIND", "spdk-tcp-nvmf (default), or spdk-tcp-blockdev: /dev/longhorn/VOLUME"},
    {0},
};
static const struct cli_option switch_options[] = {
    {"--phase", "PHASE", "preparing, switching or promoting: no further than that (default: all)"},
    {0},
};
static const struct cli_option volume_create_options[] = {
    {"--replicas", "COUNT", "How many (default 3, or as many as places are named), each on another node"},
    {"--frontend", "KIND", "spdk-tcp-nvmf (default), spdk-tcp-blockdev, or none"},
    {"--replace-lost", NULL, "Replace a replica that is lost for good by a new one on another node"},
    {0},
};
static const struct cli_option volume_set_options[] = {
    {"--replace-lost", "YES|NO", "Whether a replica that is lost for good is replaced by itself"},
    {0},
};
static const struct cli_option volume_delete_options[] = {
    {"--yes", NULL, "Yes, do that"},
    {"--abandon", NULL, "Leave what is on nodes that do not answer; `volume leftovers` names it when they are back"},
    {0},
};
static const struct cli_option follow_options[] = {
    {"--follow", NULL, "Wait, with a bar, until all replicas are whole"},
    {0},
};
static const struct cli_option volume_watch_options[] = {
    {"--once", NULL, "Show all that is there, and end"},
    {"--whole", NULL, "End when all replicas are whole"},
    {0},
};
static const struct cli_option no_options[] = {{0}};

static const struct cli_verb verbs[] = {
    {"node list", "", "The daemons that were named, and their planes", NULL, CLI_COMPLETE_NONE, cli_node_list},
    {"node show", "", "All that a daemon says of itself and its plane", NULL, CLI_COMPLETE_NONE, cli_node_show},
    {"disk list", "", "Disks, how full they are, and whether they are well", NULL, CLI_COMPLETE_NONE, cli_node_disk_list},
    {"disk show", "NAME", "All about a disk", NULL, CLI_COMPLETE_NODE_DISK, cli_node_disk_show},
    {"disk create", "NAME PATH",
     "Give a file or block device to the node\n"
     "A blank one gets a store; one that has a store is opened as it is. Doing it again tries at once what the daemon tries "
     "every 30 seconds.",
     disk_create_options, CLI_COMPLETE_NONE, cli_node_disk_create},
    {"disk delete", "NAME", "Take a disk away from the node; what is on it stays", NULL, CLI_COMPLETE_NODE_DISK,
     cli_node_disk_delete},
    {"replica list", "", "Replicas, their disks and where they are served", NULL, CLI_COMPLETE_NONE, cli_node_replica_list},
    {"replica show", "NAME", "All about a replica", NULL, CLI_COMPLETE_NODE_REPLICA, cli_node_replica_show},
    {"replica create", "NAME DISK SIZE", "Make a replica (thin) and serve it, or serve again one that is stopped; prints where",
     replica_create_options, CLI_COMPLETE_NONE, cli_node_replica_create},
    {"replica expand", "NAME SIZE", "Grow a replica", NULL, CLI_COMPLETE_NODE_REPLICA, cli_node_replica_expand},
    {"replica stop", "NAME", "Serve a replica no more; its data stays", NULL, CLI_COMPLETE_NODE_REPLICA, cli_node_replica_stop},
    {"replica delete", "NAME", "Delete a replica with its data and snapshots", yes_options, CLI_COMPLETE_NODE_REPLICA,
     cli_node_replica_delete},
    {"replica watch", "", "Say what changes, until it is interrupted", watch_options, CLI_COMPLETE_NONE, cli_node_replica_watch},
    {"volume list", "", "Volumes, whether they are well, and where hosts find them", NULL, CLI_COMPLETE_NONE,
     cli_node_volume_list},
    {"volume show", "NAME", "All about a volume and its replicas", NULL, CLI_COMPLETE_NODE_VOLUME, cli_node_volume_show},
    {"volume create", "NAME SIZE [NODE[/DISK]] …",
     "Make a volume: replicas on the nodes that are named, an engine on the first of them, and what hosts connect to, which is "
     "printed\n"
     "Without places, the replicas go to the nodes with most free space. Done again it says the same.",
     volume_create_options, CLI_COMPLETE_NONE, cli_node_volume_create},
    {"volume expand", "NAME SIZE", "Grow a volume, while it is used", NULL, CLI_COMPLETE_NODE_VOLUME, cli_node_volume_expand},
    {"volume add", "NAME [NODE[/DISK]]", "Give a volume another replica, and copy to it", follow_options,
     CLI_COMPLETE_NODE_VOLUME, cli_node_volume_add},
    {"volume remove", "NAME REPLICA", "Take a replica away from a volume, with its data", volume_delete_options,
     CLI_COMPLETE_NODE_VOLUME, cli_node_volume_remove},
    {"volume set", "NAME", "Change what may be changed while it stands", volume_set_options, CLI_COMPLETE_NODE_VOLUME,
     cli_node_volume_set},
    {"volume revert", "NAME SNAPSHOT",
     "Make a volume what it was when a snapshot was made: what was written since is lost, snapshots stay\n"
     "Its hosts are to let go of it first (unmount, disconnect): they lose it meanwhile, and what they remember of it is not "
     "what it holds then. All of its replicas must be whole. It is as large afterwards as before, and is found where `volume "
     "show` says.",
     yes_options, CLI_COMPLETE_NODE_VOLUME, cli_node_volume_revert},
    {"volume clone", "NAME SNAPSHOT NEW-NAME",
     "Make another volume that begins as a snapshot of this one, copied to as many replicas, and print what hosts connect to\n"
     "Hosts find it when everything was copied; until then it is creating. What takes longer than a minute goes on: done "
     "again, it waits on, and says the same.",
     NULL, CLI_COMPLETE_NODE_VOLUME, cli_node_volume_clone},
    {"volume delete", "NAME", "Delete a volume with its data and snapshots, on all nodes", volume_delete_options,
     CLI_COMPLETE_NODE_VOLUME, cli_node_volume_delete},
    {"volume watch", "[NAME]", "Say what changes, and how far copying is, until it is interrupted", volume_watch_options,
     CLI_COMPLETE_NODE_VOLUME, cli_node_volume_watch},
    {"volume leftovers", "", "What was made for volumes, on any of the nodes, and belongs to none", NULL, CLI_COMPLETE_NONE,
     cli_node_volume_leftovers},
    {"volume snapshot list", "NAME", "The snapshots of a volume", NULL, CLI_COMPLETE_NODE_VOLUME, cli_node_volume_snapshot_list},
    {"volume snapshot create", "NAME [SNAPSHOT]",
     "Keep what a volume holds now, on all replicas at once; prints the snapshot's name", NULL, CLI_COMPLETE_NODE_VOLUME,
     cli_node_volume_snapshot_create},
    {"volume snapshot delete", "NAME SNAPSHOT", "Delete a snapshot", NULL, CLI_COMPLETE_NODE_VOLUME,
     cli_node_volume_snapshot_delete},
    {"engine list", "", "Engines, how many of their replicas are whole, and where they are served", NULL, CLI_COMPLETE_NONE,
     cli_node_engine_list},
    {"engine show", "NAME", "All about an engine", NULL, CLI_COMPLETE_NODE_ENGINE, cli_node_engine_show},
    {"engine create", "NAME REPLICA=IP:PORT …", "Make one volume of replicas, here and on other nodes", engine_create_options,
     CLI_COMPLETE_NONE, cli_node_engine_create},
    {"engine expand", "NAME SIZE", "Grow an engine and its replicas", NULL, CLI_COMPLETE_NODE_ENGINE, cli_node_engine_expand},
    {"engine add", "NAME REPLICA=IP:PORT", "Give an engine another replica, and copy to it", NULL, CLI_COMPLETE_NODE_ENGINE,
     cli_node_engine_add},
    {"engine remove", "NAME REPLICA=IP:PORT", "Take a replica away from an engine", NULL, CLI_COMPLETE_NODE_ENGINE,
     cli_node_engine_remove},
    {"engine delete", "NAME", "End an engine; its replicas stay", NULL, CLI_COMPLETE_NODE_ENGINE, cli_node_engine_delete},
    {"engine watch", "", "Say what changes, until it is interrupted", watch_options, CLI_COMPLETE_NONE, cli_node_engine_watch},
    {"frontend list", "", "Engine frontends, and where hosts find them", NULL, CLI_COMPLETE_NONE, cli_node_frontend_list},
    {"frontend show", "NAME", "All about an engine frontend", NULL, CLI_COMPLETE_NODE_FRONTEND, cli_node_frontend_show},
    {"frontend create", "NAME ENGINE IP:PORT", "Offer an engine, which listens there, to hosts of this node",
     frontend_create_options, CLI_COMPLETE_NONE, cli_node_frontend_create},
    {"frontend suspend", "NAME", "Hold its I/O", NULL, CLI_COMPLETE_NODE_FRONTEND, cli_node_frontend_suspend},
    {"frontend resume", "NAME", "Let its I/O go on", NULL, CLI_COMPLETE_NODE_FRONTEND, cli_node_frontend_resume},
    {"frontend expand", "NAME SIZE", "Grow it, its engine and the replicas", NULL, CLI_COMPLETE_NODE_FRONTEND,
     cli_node_frontend_expand},
    {"frontend switch-over", "NAME ENGINE IP:PORT",
     "Let another engine serve it, under its I/O\n"
     "That engine stands by, over the same replicas, and listens there; hosts need a path to it.",
     switch_options, CLI_COMPLETE_NODE_FRONTEND, cli_node_frontend_switch_over},
    {"frontend delete", "NAME", "Offer it no more", NULL, CLI_COMPLETE_NODE_FRONTEND, cli_node_frontend_delete},
    {"frontend watch", "", "Say what changes, until it is interrupted", watch_options, CLI_COMPLETE_NONE,
     cli_node_frontend_watch},
    {"snapshot list", "KIND/NAME", "The snapshots of a replica (replica/NAME) or an engine (engine/NAME)", NULL,
     CLI_COMPLETE_NODE_OBJECT, cli_node_snapshot_list},
    {"snapshot create", "KIND/NAME SNAPSHOT", "Keep what it holds now", NULL, CLI_COMPLETE_NODE_OBJECT, cli_node_snapshot_create},
    {"snapshot delete", "KIND/NAME SNAPSHOT", "Delete a snapshot", NULL, CLI_COMPLETE_NODE_OBJECT, cli_node_snapshot_delete},
    {"snapshot revert", "KIND/NAME SNAPSHOT", "Make it what it was at a snapshot", yes_options, CLI_COMPLETE_NODE_OBJECT,
     cli_node_snapshot_revert},
    {"snapshot purge", "KIND/NAME", "Delete the snapshots that no user made", NULL, CLI_COMPLETE_NODE_OBJECT,
     cli_node_snapshot_purge},
    {"support-bundle", "[FILE]",
     "Put what a helper needs to see into one file: versions, states, configurations, logs\n"
     "A tar.gz of the nodes that are named and of this machine; of a single node, its plane's configuration too. Secrets are "
     "left out. It says at the end, in the file `missing`, what could not be had.",
     NULL, CLI_COMPLETE_NONE, cli_node_support_bundle},
    {"grpc", "METHOD [KEY=VALUE] …",
     "Call any method of the daemon, as it is\n"
     "Keys are the message's fields, a.b=VALUE is inside of a; values are JSON where they can be, else text. Streams are "
     "printed until they are interrupted.",
     no_options, CLI_COMPLETE_NODE_METHOD, cli_node_grpc},
    {0},
};

bool cli_node_grpc(struct cli *cli) {
    const ProtobufCServiceDescriptor *service;
    struct cli_node_watch *watch;
    json_t *request, *message;
    const char *method = cli->arguments[0];
    if (cli_node_method(method, &service) == NULL) {
        error_set(&cli->error, ERROR_NOT_FOUND, "there is no method %s", method);
        return error_hint(&cli->error, "the shell's completion lists them");
    }
    if (!cli_words(cli, NULL, 1, &request))
        return false;
    if (!cli_node_is_stream(method)) {
        if (!cli_node_call(cli, method, request, &message))
            return false;
        cli_print(cli, message);
        json_decref(message);
        return true;
    }
    unsigned count;
    if (!cli_node_count(cli, &count) || !cli_node_watch_open_at(cli, 0, method, request, &watch))
        return false;
    while (cli_node_watch_next(watch, 0, &message)) {
        cli_print(cli, message);
        fflush(stdout);
        json_decref(message);
    }
    cli_node_watch_close(watch);
    return false;
}

/* ---- completion ---- */

static void offer_named(const char *prefix, const char *name, const char *beginning) {
    char word[256];
    snprintf(word, sizeof(word), "%s%s", prefix, name);
    cli_offer(word, beginning);
}

static void offer_all(struct cli *cli, const char *method, const char *member, const char *prefix, const char *beginning) {
    json_t *answer, *value;
    const char *name;
    if (!cli_node_call(cli, method, NULL, &answer))
        return;
    json_object_foreach(json_object_get(answer, member), name, value) offer_named(prefix, name, beginning);
    json_decref(answer);
}

static void offer_replicas(struct cli *cli, const char *prefix, const char *beginning) {
    offer_all(cli, "ReplicaList", "replicas", prefix, beginning);
}

static void offer_disks(struct cli *cli, const char *beginning) {
    json_t *answer, *disk;
    size_t i;
    if (!cli_node_call(cli, "GetNode", NULL, &answer))
        return;
    json_array_foreach(json_object_get(json_object_get(answer, "node"), "disks"), i, disk)
        cli_offer(cli_member(disk, "name"), beginning);
    json_decref(answer);
}

static void offer_volumes(struct cli *cli, const char *beginning) {
    unsigned count;
    if (!cli_node_count(cli, &count))
        return;
    for (unsigned at = 0; at < count; at++) {
        json_t *answer, *volume;
        size_t i;
        if (!cli_node_call_at(cli, at, "ListVolumes", NULL, &answer))
            continue;
        json_array_foreach(json_object_get(answer, "volumes"), i, volume) cli_offer(cli_member(volume, "name"), beginning);
        json_decref(answer);
    }
}

static void complete(struct cli *cli, enum cli_complete what, const char *beginning) {
    const ProtobufCServiceDescriptor *service;
    switch (what) {
    case CLI_COMPLETE_NODE_DISK: offer_disks(cli, beginning); break;
    case CLI_COMPLETE_NODE_REPLICA: offer_replicas(cli, "", beginning); break;
    case CLI_COMPLETE_NODE_ENGINE: offer_all(cli, "EngineList", "engines", "", beginning); break;
    case CLI_COMPLETE_NODE_VOLUME: offer_volumes(cli, beginning); break;
    case CLI_COMPLETE_NODE_FRONTEND: offer_all(cli, "EngineFrontendList", "engine_frontends", "", beginning); break;
    case CLI_COMPLETE_NODE_OBJECT:
        offer_replicas(cli, "replica/", beginning);
        offer_all(cli, "EngineList", "engines", "engine/", beginning);
        break;
    case CLI_COMPLETE_NODE_METHOD:
        for (unsigned s = 0; (service = cli_node_service(s)) != NULL; s++)
            for (unsigned i = 0; i < service->n_methods; i++)
                cli_offer(service->methods[i].name, beginning);
        break;
    default: break;
    }
    error_clear(&cli->error); /* nothing is offered then */
}

const struct cli_extension cli_node_extension = {
    .verbs = verbs, .status = cli_node_status, .complete = complete, .fini = cli_node_fini};
