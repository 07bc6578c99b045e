# shellcheck shell=sh
# What the guest does while its volume moves from one node to the other; told and asked as in guest.sh. Runs as the end of /init.
die() { echo "@@ failed $*"; dmesg | tail -30; poweroff -f; }
tell() { echo "@@ $*"; }
hashes() { (cd "$1" && find . -type f | sort | xargs sha256sum | sha256sum | cut -d' ' -f1); }
wait_for() { for _ in $(seq 300); do [ -e "$1" ] && return 0; sleep 0.1; done; die "no $1"; }
word() { sed -n "s/.*penstock.$1=\([^ ]*\).*/\1/p" /etc/test; }
# Disks, and not the paths to one (nvme0c1n1).
disks() { n=0; for d in /sys/block/nvme*; do case ${d##*/} in *c*) ;; *) n=$((n + 1)) ;; esac; done; echo $n; }
# The states of both paths, in the order of connecting: optimized,inaccessible
states() { cat /sys/class/nvme/nvme0/nvme0c0n1/ana_state /sys/class/nvme/nvme1/nvme0c1n1/ana_state 2>&1 | tr '\n' , | sed 's/,$//'; }

HOST=hostnqn=nqn.2014-08.org.nvmexpress:uuid:7a3d1f00-0000-4000-8000-0000000000ab,hostid=7a3d1f00-0000-4000-8000-0000000000ab
tell booted "$(uname -r)"
wait_for /dev/nvme-fabrics
for port in $(word a) $(word b); do
    echo "transport=tcp,traddr=10.0.2.2,trsvcid=$port,nqn=$(word nqn),$HOST,ctrl_loss_tmo=600,reconnect_delay=1,keep_alive_tmo=5,nr_io_queues=2" \
        > /dev/nvme-fabrics || die "connect $port"
    sleep 1
done
wait_for /dev/nvme0n1
wait_for /sys/class/nvme/nvme1/nvme0c1n1
tell connected "disks=$(disks) uuid=$(cat /sys/block/nvme0n1/uuid)" \
    "cntlids=$(cat /sys/class/nvme/nvme0/cntlid),$(cat /sys/class/nvme/nvme1/cntlid) states=$(states)"
/opt/bin/mke2fs -q -t ext4 -E nodiscard,lazy_itable_init=0 /dev/nvme0n1 || die mke2fs
mount -t ext4 /dev/nvme0n1 /mnt || die mount
mkdir /mnt/tree
tar -xf /tree.tar -C /mnt/tree || die tar
sync
tell copied "$(hashes /mnt/tree)"
# Write on while everything moves: the mount must not notice.
(i=0; while [ ! -e /tmp/stop ]; do i=$((i + 1)); dd if=/dev/urandom of=/mnt/busy.$((i % 8)) bs=64k count=4 conv=fsync 2>/dev/null || touch /tmp/broken; echo $i > /tmp/rounds; done) &
sleep 1
tell busy
while read -r word; do
    [ "$word" = end ] && break
    before=$(cat /tmp/rounds)
    for _ in $(seq 600); do [ "$(cat /tmp/rounds)" -gt $((before + 3)) ] && break; sleep 0.1; done
    [ "$(cat /tmp/rounds)" -gt $((before + 3)) ] || die "nothing is written any more"
    tell moved "states=$(states) rounds=$(cat /tmp/rounds) broken=$(ls /tmp/broken 2>/dev/null)"
done
touch /tmp/stop
wait
[ -e /tmp/broken ] && die "a write failed while the volume moved"
grep -q ' /mnt ext4 rw' /proc/mounts || die "the mount is not read-write any more"
sync
echo 3 > /proc/sys/vm/drop_caches
tell hashes "$(hashes /mnt/tree)"
umount /mnt || die umount
/opt/bin/e2fsck -fn /dev/nvme0n1 > /tmp/fsck 2>&1 || { cat /tmp/fsck; die fsck; }
tell clean
for c in /sys/class/nvme/nvme*; do echo 1 > "$c/delete_controller"; done
tell finished
