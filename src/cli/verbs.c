/* The table of verbs: what there is to say on the command line. */
#include "cli/cli.h"

const struct cli_global_option cli_global_options[] = {
    {"--socket", "PATH", "A storage plane's socket, for verbs that speak to one; also $PENSTOCK_SOCKET", "-s", false},
    {"--node", "ADDRESS", "The control daemon: IP[:PORT], [IP]:PORT or unix:PATH, several with commas; also $PENSTOCK_NODE", "-n",
     true},
    {"--output", "FORMAT", "table, wide, json or yaml", "-o", false},
    {"--tls-ca", "FILE", "Speak TLS to the daemon, whose certificate this CA must have signed; also $PENSTOCK_TLS_CA", NULL,
     true},
    {"--tls-cert", "FILE", "Our certificate; also $PENSTOCK_TLS_CERT", NULL, true},
    {"--tls-key", "FILE", "Its key; also $PENSTOCK_TLS_KEY", NULL, true},
    {"--tls-name", "NAME", "What the daemon's certificate must be for (default: the address); also $PENSTOCK_TLS_NAME", NULL,
     true},
    {0},
};
static const struct cli_option status_options[] = {
    {"--watch", NULL, "Show it again every two seconds"},
    {0},
};
static const struct cli_option disk_create_options[] = {
    {"--size", "SIZE", "Make the file with this size if it is absent"},
    {"--cluster-size", "SIZE", "Unit of reporting and rounding, a power of two from 4K to 1G (default 1M)"},
    {"--block-size", "BYTES", "512 or 4096 (default: the disk's own)"},
    {0},
};
static const struct cli_option volume_create_options[] = {
    {"--thick", NULL, "Reserve all its space now"},
    {0},
};
static const struct cli_option export_create_options[] = {
    {"--listen", "ADDRESS:PORT", "Where clients connect (default 127.0.0.1:4420; [::1]:4420 for IPv6)"},
    {"--nqn", "NQN", "The subsystem's name (default: nqn.2026-11.io.penstock:VOLUME)"},
    {"--host", "NQN", "Allow this host only (default: any)"},
    {0},
};
static const struct cli_option mirror_create_options[] = {
    {"--policy", "any|majority",
     "Who may go on and who may start (default any); majority is for three legs, or two and a --tie-breaker: two alone stand "
     "still when either is lost"},
    {"--tie-breaker", "LEG", "This one of the legs keeps a record and no data"},
    {"--longest-stall", "MS", "How long a silent leg may hold I/O up (default 900)"},
    {"--hold", "MS", "How long I/O waits while no leg is there (default 30000)"},
    {"--give-up", "MS", "A leg that is away for so long is copied as a whole when it returns (default: never)"},
    {"--standby", NULL, "Claim nothing until it is promoted: another engine may have the legs"},
    {"--accept-absent", "LEG[,LEG]", "Start although these are missing and may be newer: what only they hold is lost"},
    {"--hard-bound", NULL, "Never let more than 1 GiB be marked: writes spread more widely wait for flushes"},
    {"--source", "LEG",
     "Whose content counts where no record tells it: it is copied to the others, and what they hold is overwritten"},
    {"--foreign", "LEG", "This one keeps no record, beside legs that do: it is copied to whenever it comes"},
    {"--yes", NULL, "With --accept-absent, --source, --foreign: yes, give that up"},
    {"--follow", NULL, "Wait, with a bar, until no leg is being copied to"},
    {0},
};
static const struct cli_option mirror_add_options[] = {
    {"--tie-breaker", NULL, "It keeps a record and no data"},
    {"--foreign", NULL, "It keeps no record, beside legs that do"},
    {"--yes", NULL, "Yes, overwrite what it holds"},
    {"--follow", NULL, "Wait, with a bar, until it is whole"},
    {0},
};
static const struct cli_option mirror_yes_options[] = {
    {"--yes", NULL, "Yes, do that"},
    {0},
};
static const struct cli_option mirror_start_options[] = {
    {"--accept-absent", "LEG[,LEG]", "They may be missing, although they may be newer: what only they have is lost"},
    {"--yes", NULL, "With --accept-absent: yes, give that up"},
    {0},
};
static const struct cli_option mirror_promote_options[] = {
    {"--accept-absent", "LEG[,LEG]", "They may be missing, although they may be newer: what only they have is lost"},
    {"--yes", NULL, "Yes, do it"},
    {0},
};
static const struct cli_option mirror_verify_options[] = {
    {"--repair", NULL, "Write what differs anew: as most legs have it, else as the trusted one"},
    {"--trust", "LEG", "Which leg counts where no majority agrees (default: the first whole one)"},
    {"--resume", NULL, "Go on where the last one was stopped"},
    {"--stop", NULL, "Stop the one that runs"},
    {"--no-wait", NULL, "Do not wait for its end"},
    {"--yes", NULL, "With --repair: yes, overwrite what differs"},
    {0},
};
static const struct cli_option mirror_set_options[] = {
    {"--rate", "SIZE", "Bytes a second at most, for copying and verifying; 0 = as fast as it goes"},
    {"--share", "PERCENT",
     "Of the time, for copying and verifying while hosts are at work (default 25); but half as many MiB a second at least"},
    {0},
};
static const struct cli_option mirror_show_options[] = {
    {"--follow", NULL, "Wait, with a bar, until no leg is being copied to"},
    {0},
};
static const struct cli_option complete_options[] = {{0}};

const struct cli_verb cli_verbs[] = {
    {"status", "",
     "One screen: is all well, and if not, what to do\nThe exit status is 0 if all is well, 1 if not, 75 if a node does not "
     "answer.",
     status_options, CLI_COMPLETE_NONE, cli_status},
    {"rpc", "METHOD [KEY=VALUE …]",
     "Call any method of the storage plane\nA VALUE that is JSON (a number, true, {…}, […]) is sent as such, everything else as "
     "a string; "
     "KEY may be dotted (namespace.bdev_name=vol) for members of an object. Without METHOD's required keys the error says which.",
     NULL, CLI_COMPLETE_METHOD, cli_rpc},
    {"block disk list", "", "Disks, their volume stores and free space", NULL, CLI_COMPLETE_NONE, cli_disk_list},
    {"block disk create", "NAME FILE",
     "Open a file or block device as a disk, and make a volume store on it unless there is one\nNothing is overwritten: a disk "
     "that holds "
     "something else is refused.",
     disk_create_options, CLI_COMPLETE_NONE, cli_disk_create},
    {"block disk delete", "NAME", "Close a disk; its contents stay", NULL, CLI_COMPLETE_STORE, cli_disk_delete},
    {"block volume list", "[DISK]", "Volumes", NULL, CLI_COMPLETE_STORE, cli_volume_list},
    {"block volume create", "DISK/NAME SIZE", "Make a thin volume", volume_create_options, CLI_COMPLETE_STORE, cli_volume_create},
    {"block volume resize", "DISK/NAME SIZE", "Grow or shrink a volume", NULL, CLI_COMPLETE_VOLUME, cli_volume_resize},
    {"block volume rename", "DISK/NAME NEW-NAME", "Rename a volume or snapshot", NULL, CLI_COMPLETE_VOLUME, cli_volume_rename},
    {"block volume delete", "DISK/NAME", "Delete a volume", NULL, CLI_COMPLETE_VOLUME, cli_volume_delete},
    {"block snapshot list", "[DISK]", "Snapshots and what hangs on them", NULL, CLI_COMPLETE_STORE, cli_snapshot_list},
    {"block snapshot create", "DISK/VOLUME NAME", "Keep a volume's contents of this moment", NULL, CLI_COMPLETE_VOLUME,
     cli_snapshot_create},
    {"block snapshot clone", "DISK/SNAPSHOT NAME", "Make a writable volume from a snapshot", NULL, CLI_COMPLETE_SNAPSHOT,
     cli_snapshot_clone},
    {"block snapshot delete", "DISK/SNAPSHOT", "Delete a snapshot", NULL, CLI_COMPLETE_SNAPSHOT, cli_snapshot_delete},
    {"block mirror list", "", "Mirrors and how their legs are", NULL, CLI_COMPLETE_NONE, cli_mirror_list},
    {"block mirror show", "NAME", "A mirror: each leg's state, since when, why, how far it is out of step, and what to do",
     mirror_show_options, CLI_COMPLETE_MIRROR, cli_mirror_show},
    {"block mirror create", "NAME LEG …",
     "Make a mirror of up to eight legs, or start it again over the legs that it had\nA LEG is a device of this node "
     "(DISK/VOLUME) "
     "or what another node exports (nvme-tcp://ADDRESS:PORT/NQN), whose node is attached then. The first start needs all of "
     "them; if "
     "they are not all empty, the first one counts and the others become equal to it. Later starts find out from the legs which "
     "of "
     "them is newest. With the policy any, each leg alone may go on, and a start needs all that went on last; with majority, "
     "more "
     "than half of the legs are needed for either. A silent leg is noticed after half of --longest-stall and the others know "
     "after "
     "three quarters of it at the latest: I/O stands still for less than that time for each leg that is lost. A leg whose "
     "connection "
     "breaks is known at once.",
     mirror_create_options, CLI_COMPLETE_NONE, cli_mirror_create},
    {"block mirror add", "NAME LEG", "Give a mirror another leg, and copy to it", mirror_add_options, CLI_COMPLETE_MIRROR,
     cli_mirror_add},
    {"block mirror remove", "NAME LEG", "Take a leg away from a mirror", NULL, CLI_COMPLETE_MIRROR_LEG, cli_mirror_remove},
    {"block mirror snapshots", "NAME", "A mirror's snapshots", NULL, CLI_COMPLETE_MIRROR, cli_mirror_snapshots},
    {"block mirror snapshot", "NAME SNAPSHOT", "Keep a mirror's contents of this moment, on every leg", NULL, CLI_COMPLETE_MIRROR,
     cli_mirror_snapshot},
    {"block mirror snapshot-delete", "NAME SNAPSHOT", "Delete a mirror's snapshot", NULL, CLI_COMPLETE_MIRROR_SNAPSHOT,
     cli_mirror_snapshot_delete},
    {"block mirror revert", "NAME SNAPSHOT", "Make a mirror what it was at a snapshot", mirror_yes_options,
     CLI_COMPLETE_MIRROR_SNAPSHOT, cli_mirror_revert},
    {"block mirror resize", "NAME SIZE", "Grow or shrink a mirror, on every leg", mirror_yes_options, CLI_COMPLETE_MIRROR,
     cli_mirror_resize},
    {"block mirror invalidate", "NAME LEG", "Do not trust what a leg holds: copy it as a whole", mirror_yes_options,
     CLI_COMPLETE_MIRROR_LEG, cli_mirror_invalidate},
    {"block mirror discard", "NAME LEG", "Let a diverged leg back in; what only it has is lost", mirror_yes_options,
     CLI_COMPLETE_MIRROR_LEG, cli_mirror_discard},
    {"block mirror start", "NAME", "Try a mirror again that waits for legs or was refused", mirror_start_options,
     CLI_COMPLETE_MIRROR, cli_mirror_start},
    {"block mirror promote", "NAME", "Let a standby claim the legs and serve", mirror_promote_options, CLI_COMPLETE_MIRROR,
     cli_mirror_promote},
    {"block mirror release", "NAME", "Drain, give the legs back, and be a standby: the first half of a planned switch-over", NULL,
     CLI_COMPLETE_MIRROR, cli_mirror_release},
    {"block mirror pause-sync", "NAME",
     "Copy no more to legs that return or are new\nThey stay as they are, in the mirror's writes, and are no copies to rely on, "
     "until "
     "resume-sync or the engine's end.",
     NULL, CLI_COMPLETE_MIRROR, cli_mirror_pause_sync},
    {"block mirror resume-sync", "NAME", "Go on with what pause-sync held", NULL, CLI_COMPLETE_MIRROR, cli_mirror_resume_sync},
    {"block mirror verify", "NAME",
     "Compare all whole legs while hosts work, and say how many blocks differ\nThe exit status is 1 if some differ and were not "
     "repaired.",
     mirror_verify_options, CLI_COMPLETE_MIRROR, cli_mirror_verify},
    {"block mirror set", "NAME", "Change how much a mirror may do of its own accord", mirror_set_options, CLI_COMPLETE_MIRROR,
     cli_mirror_set},
    {"block mirror delete", "NAME", "End a mirror; its legs stay, and may be put together again", NULL, CLI_COMPLETE_MIRROR,
     cli_mirror_delete},
    {"block export list", "", "Subsystems, where they listen and what they serve", NULL, CLI_COMPLETE_NONE, cli_export_list},
    {"block export create", "DEVICE", "Serve a volume (or any device) over NVMe/TCP", export_create_options, CLI_COMPLETE_VOLUME,
     cli_export_create},
    {"block export delete", "NQN", "Stop serving a subsystem", NULL, CLI_COMPLETE_NQN, cli_export_delete},
    {"__complete", "WORD …", "", complete_options, CLI_COMPLETE_NONE, cli_complete},
    {"__manual", "", "", complete_options, CLI_COMPLETE_NONE, cli_manual},
    {0},
};
