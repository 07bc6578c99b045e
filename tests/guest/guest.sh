# shellcheck shell=sh
# What the guest does; each step is told with "@@ word …". Runs under busybox's sh, as the end of /init.
die() { echo "@@ failed $*"; dmesg | tail -30; poweroff -f; }
tell() { echo "@@ $*"; }
hashes() { (cd "$1" && find . -type f | sort | xargs sha256sum | sha256sum | cut -d' ' -f1); }
wait_for() { for _ in $(seq 300); do [ -e "$1" ] && return 0; sleep 0.1; done; die "no $1"; }

HOST=hostnqn=nqn.2014-08.org.nvmexpress:uuid:7a3d1f00-0000-4000-8000-0000000000aa,hostid=7a3d1f00-0000-4000-8000-0000000000aa
connect() {
    echo "transport=tcp,traddr=10.0.2.2,trsvcid=$PORT,nqn=$NQN,$HOST,ctrl_loss_tmo=600,reconnect_delay=1,keep_alive_tmo=5,nr_io_queues=2$1" \
        > /dev/nvme-fabrics || die "connect $1"
}

PORT=$(sed -n 's/.*penstock.port=\([0-9]*\).*/\1/p' /etc/test)
NQN=$(sed -n 's/.*penstock.nqn=\([^ ]*\).*/\1/p' /etc/test)
ROLE=$(sed -n 's/.*penstock.role=\([^ ]*\).*/\1/p' /etc/test)
tell booted "$(uname -r)"
wait_for /dev/nvme-fabrics
connect ""
wait_for /dev/nvme0n1
SYS=/sys/class/nvme/nvme0
NS=/sys/block/nvme0n1
tell connected "uuid=$(cat $NS/uuid 2>/dev/null || cat $NS/device/nvme0n1/uuid) size=$(cat $NS/size) block=$(cat $NS/queue/logical_block_size)" \
    "discard=$(cat $NS/queue/discard_max_bytes) zeroes=$(cat $NS/queue/write_zeroes_max_bytes) cache=$(cat $NS/queue/write_cache | tr " " _)" \
    "model=$(cat $SYS/model | tr -s ' ' | tr ' ' _) serial=$(cat $SYS/serial | tr -d ' ')"

if [ "$ROLE" = reader ]; then
    mount -t ext4 -o ro,noload /dev/nvme0n1 /mnt || die mount
    tell hashes "$(hashes /mnt/tree)"
    umount /mnt
    tell finished
    poweroff -f
fi

/opt/bin/mke2fs -q -t ext4 -E nodiscard,lazy_itable_init=0 /dev/nvme0n1 || die mke2fs
mount -t ext4 /dev/nvme0n1 /mnt || die mount
mkdir /mnt/tree
tar -xf /tree.tar -C /mnt/tree || die tar
sync
tell copied "$(hashes /mnt/tree)"
read -r _
# Write on while the target is killed and comes back: the mount must not notice.
(i=0; while [ ! -e /tmp/stop ]; do i=$((i + 1)); dd if=/dev/urandom of=/mnt/busy.$((i % 8)) bs=64k count=16 conv=fsync 2>/dev/null || touch /tmp/broken; done; echo $i > /tmp/rounds) &
sleep 1
tell busy
read -r _
sleep 2
touch /tmp/stop
wait
[ -e /tmp/broken ] && die "a write failed while the target was away"
grep -q ' /mnt ext4 rw' /proc/mounts || die "the mount is not read-write any more"
tell survived "rounds=$(cat /tmp/rounds) state=$(cat $SYS/state)"
echo 3 > /proc/sys/vm/drop_caches
tell hashes "$(hashes /mnt/tree)"
rm -f /mnt/busy.*
sync
read -r _
tell trimmed "granularity=$(cat $NS/queue/discard_granularity) $(/opt/bin/fstrim -v /mnt 2>&1 | tr '\n' ' ')"
echo 3 > /proc/sys/vm/drop_caches
tell hashes "$(hashes /mnt/tree)"
umount /mnt || die umount
/opt/bin/e2fsck -fn /dev/nvme0n1 > /tmp/fsck 2>&1 || { cat /tmp/fsck; die fsck; }
tell clean
# Digests, by a second controller: what is read under them is the same.
connect ",hdr_digest,data_digest,duplicate_connect"
sleep 1
mount -t ext4 -o ro,noload /dev/nvme0n1 /mnt || die "mount again"
tell hashes "$(hashes /mnt/tree)"
umount /mnt
for c in /sys/class/nvme/nvme*; do echo 1 > "$c/delete_controller"; done
tell finished
