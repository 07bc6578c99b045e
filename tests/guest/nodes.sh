# shellcheck shell=sh
# A node with a block device of a volume whose engine is elsewhere: its card is on the bridge that the other nodes are on. Commands come by
# the console and run with what is defined here; their last line goes back. Runs as the end of /init.
mkdir -p /n /run /tmp/sums /disks /v
mount -t tmpfs -o size=300m disks /disks
truncate -s 256M /disks/1

daemon() { penstockd --state-dir /n --node-address 10.78.0.1 --plane-argument=--poll=never 2>> /n/daemon.log < /dev/null > /dev/null & echo $! > /n/pid; }
undaemon() { kill -9 "$(cat /n/pid)"; }
unplane() {
    for p in /proc/[0-9]*; do
        tr '\0' ' ' < "$p/cmdline" 2>/dev/null | grep -q '^[^ ]*penstock-block -r /n/' && kill -9 "${p##*/}" && return 0
    done
    echo "there is no plane"; return 1
}
# Whatever a file's fsync was answered for is written down beside the file system, and holds from then on.
busy() {
    (i=0
    while [ ! -e /tmp/stop ]; do
        i=$((i + 1)); name=busy.$((i % 8))
        head -c 131072 /dev/urandom > /tmp/data
        rm -f "/tmp/sums/$name"
        if dd if=/tmp/data of="/v/$name" bs=64k conv=fsync 2>/dev/null; then sha256sum < /tmp/data > "/tmp/sums/$name"; else touch /tmp/broken; fi
        echo $i > /tmp/rounds
    done) > /dev/null 2>&1 < /dev/null &
    echo $! > /tmp/writer
}
calm() { touch /tmp/stop; while [ -e "/proc/$(cat /tmp/writer)" ]; do sleep 0.1; done; rm /tmp/stop; sync; }
rounds() { cat /tmp/rounds 2>/dev/null || echo 0; }
goes_on() {
    before=$(rounds)
    for _ in $(seq 1200); do
        [ -e /tmp/broken ] && { echo "a write failed"; return 1; }
        [ "$(rounds)" -gt $((before + 2)) ] && { rounds; return 0; }
        sleep 0.1
    done
    echo "nothing is written any more"; return 1
}
stands() { before=$(rounds); sleep 1; [ "$(rounds)" -le $((before + 1)) ]; }
# While nobody writes.
check() {
    sync; echo 3 > /proc/sys/vm/drop_caches
    for sum in /tmp/sums/*; do
        [ "$(sha256sum < "/v/${sum##*/}")" = "$(cat "$sum")" ] || { echo "${sum##*/} is not what was written"; return 1; }
    done
    set -- /tmp/sums/*; echo "$# files"
}
attach() { mount -t ext4 "/dev/longhorn/vol" /v; }
detach() { umount /v && /opt/bin/e2fsck -fn /dev/longhorn/vol; }

echo "@@ booted $(uname -r)"
while read -r line; do
    (eval "$line") > /tmp/said 2>&1 < /dev/null
    echo "@@ done $? $(tail -n 1 /tmp/said)"
done
