# shellcheck shell=sh
# A node's whole life in one machine: two penstockd with their planes, and a volume of theirs as a block device of this kernel, with ext4
# on it, written to all the time. Told and asked as in guest.sh. Runs as the end of /init.
die() { echo "@@ failed $*"; for log in /n*/daemon.log /n*/blockdev.log; do echo "== $log"; tail -20 "$log"; done; dmesg | tail -20; poweroff -f; }
tell() { echo "@@ $*"; }
wait_for() { for _ in $(seq 600); do "$@" > /dev/null 2>&1 && return 0; sleep 0.1; done; die "never: $*"; }
cli() { node=$1; shift; penstock --node "127.0.0.$node" "$@"; }
sure() { cli "$@" > /tmp/said 2>&1 || die "$*: $(cat /tmp/said)"; }
field() { sed -n "s/.*\"$1\": *\"\{0,1\}\([^\",]*\).*/\1/p" | head -1; }
engine_at() { cli "$1" engine show "$2" -o json | tr -s ',{}' '\n' > /tmp/engine; echo "$(field ip < /tmp/engine):$(field port < /tmp/engine)"; }
state() { cli 2 frontend show f -o json | tr -s ',{}' '\n' | field state; }
daemon() { penstockd --state-dir "/n$1" --node-address "127.0.0.$1" --plane-argument=--poll=never 2>> "/n$1/daemon.log" & echo $! > "/n$1/pid"; wait_for cli "$1" node show; }
rounds() { cat /tmp/rounds 2>/dev/null || echo 0; }
goes_on() { before=$(rounds); for _ in $(seq 900); do [ -e /tmp/broken ] && die "a write failed"; [ "$(rounds)" -gt $((before + 2)) ] && return 0; sleep 0.1; done; die "nothing is written any more"; }
stands() { before=$(rounds); sleep 1; [ "$(rounds)" -le $((before + 1)) ]; }

tell booted "$(uname -r)"
mkdir -p /n2 /n3 /run /tmp
mkdir -p /disks /v
mount -t tmpfs -o size=700m disks /disks || die tmpfs
for node in 2 3; do
    mkdir -p "/n$node"
    truncate -s 256M "/disks/$node"
    daemon "$node"
    sure "$node" disk create d "/disks/$node"
    sure "$node" replica create "vol-r-0000000$node" d 64M
done
replicas="vol-r-00000002=127.0.0.2:20001 vol-r-00000003=127.0.0.3:20001"
# shellcheck disable=SC2086
sure 2 engine create vol-e-0 $replicas --volume vol --size 64M
sure 2 frontend create f vol-e-0 "$(engine_at 2 vol-e-0)" --volume vol --size 64M --kind spdk-tcp-blockdev
[ "$(state)" = running ] || die "the frontend is $(state)"
[ -b /dev/longhorn/vol ] || die "no /dev/longhorn/vol"
tell attached "size=$(blockdev --getsize64 /dev/longhorn/vol) below=$(ls /sys/block/dm-0/slaves)"
/opt/bin/mke2fs -q -t ext4 -E nodiscard,lazy_itable_init=0 /dev/longhorn/vol 56M || die mke2fs
mount -t ext4 /dev/longhorn/vol /v || die mount
(i=0; while [ ! -e /tmp/stop ]; do i=$((i + 1)); dd if=/dev/urandom of=/v/busy.$((i % 8)) bs=64k count=2 conv=fsync 2>/dev/null || touch /tmp/broken; echo $i > /tmp/rounds; done) &
writer=$!
goes_on
dd if=/dev/urandom of=/v/keep bs=64k count=64 conv=fsync 2>/dev/null || die keep
kept=$(sha256sum < /v/keep)
tell busy "$(rounds)"

# It stands still for a time, and goes on when it is told to, or by itself, or when the daemon dies.
sure 2 frontend suspend f
[ "$(state)" = suspended ] || die "it is not suspended"
stands || die "it is not suspended"
sure 2 frontend resume f
goes_on
sure 2 frontend suspend f
stands || die "it is not suspended"
goes_on
sure 2 frontend suspend f
stands || die "it is not suspended"
kill -9 "$(cat /n2/pid)"
goes_on
daemon 2
wait_for sh -c "penstock --node 127.0.0.2 frontend show f | grep -q running"
goes_on
tell suspended "$(rounds)"

sure 2 snapshot create frontend/f s1
goes_on
sure 2 frontend expand f 96M
[ "$(blockdev --getsize64 /dev/longhorn/vol)" = 100663296 ] || die "it has not grown: $(blockdev --getsize64 /dev/longhorn/vol)"
goes_on
tell grown "$(rounds)"

# The engine moves to the other node, and back, with the mount on it.
# shellcheck disable=SC2086
sure 3 engine create vol-e-1 $replicas --volume vol --size 96M
sure 2 frontend switch-over f vol-e-1 "$(engine_at 3 vol-e-1)"
goes_on
tell moved "$(rounds) $(cat /sys/class/nvme/nvme*/address | tr '\n' ' ')"
sure 2 engine delete vol-e-0
# shellcheck disable=SC2086
sure 2 engine create vol-e-2 $replicas --volume vol --size 96M
sure 2 frontend switch-over f vol-e-2 "$(engine_at 2 vol-e-2)"
goes_on
tell back "$(rounds)"

# The plane dies under it: whoever writes waits.
for p in /proc/[0-9]*; do
    tr '\0' ' ' < "$p/cmdline" 2>/dev/null | grep -q '^[^ ]*penstock-block -r /n2/' && plane=${p##*/}
done
kill -9 "$plane" || die "no plane"
goes_on
tell survived "$(rounds)"

touch /tmp/stop
wait "$writer"
[ -e /tmp/broken ] && die "a write failed"
sync
echo 3 > /proc/sys/vm/drop_caches
[ "$(sha256sum < /v/keep)" = "$kept" ] || die "other data"
cli 2 frontend delete f > /tmp/said 2>&1 && die "a mounted device was deleted"
umount /v || die umount
/opt/bin/e2fsck -fn /dev/longhorn/vol > /tmp/fsck 2>&1 || { cat /tmp/fsck; die fsck; }
sure 2 frontend delete f
[ -e /dev/longhorn/vol ] && die "the node is left"
[ -n "$(ls /sys/class/nvme)" ] && die "connections are left: $(ls /sys/class/nvme)"
tell clean "$(rounds)"
tell finished
