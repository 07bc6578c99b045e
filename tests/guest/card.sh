# shellcheck shell=sh
# A packet plane with a network card of its own: bound to vfio-pci behind an IOMMU, and joined to a tap of this kernel, by which it pings.
# Runs as the end of /init.
die() { echo "@@ failed $*"; cat /tmp/plane.log; dmesg | tail -20; poweroff -f; }
tell() { echo "@@ $*"; }
rpc() { penstock -s /tmp/rpc.sock rpc "$@" > /tmp/said 2>&1 || die "$*: $(cat /tmp/said)"; }
wait_for() { for _ in $(seq 600); do "$@" > /dev/null 2>&1 && return 0; sleep 0.1; done; die "never: $*"; }
# A plane that sleeps is woken by the card; one that is killed leaves it to the next.
plane() {
    penstock-packet -r /tmp/rpc.sock --pci "$card" > /tmp/plane.log 2>&1 & echo $! > /tmp/pid
    wait_for penstock -s /tmp/rpc.sock rpc packet_get_status
    rpc packet_port_create name=card kind=pci "device=$card"
    rpc packet_port_create name=tap kind=tap interface=inside
    for way in card:tap tap:card; do
        rpc packet_component_create "name=$way" type=forward
        rpc packet_component_attach "component=$way" "port=${way#*:}" direction=tx
        rpc packet_component_attach "component=$way" "port=${way%:*}" direction=rx
    done
    ip link set inside address 52:54:00:12:34:56
    ip addr add 10.0.2.15/24 dev inside
    ip link set inside up
}

tell booted "$(uname -r)"
card=$(basename "$(readlink -f /sys/class/net/eth0/device/..)")
[ -e "/sys/bus/pci/devices/$card/iommu_group" ] || die "$card is behind no IOMMU"
ip link set eth0 down
echo 1 > /sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts # this machine remaps none
echo vfio-pci > "/sys/bus/pci/devices/$card/driver_override"
echo "$card" > "/sys/bus/pci/devices/$card/driver/unbind"
echo "$card" > /sys/bus/pci/drivers_probe
[ "$(basename "$(readlink -f "/sys/bus/pci/devices/$card/driver")")" = vfio-pci ] || die "$card is not bound"
tell bound "$card"
plane
wait_for ping -c 1 -W 1 10.0.2.2
tell pinged "received=$(ping -c 20 -i 0.2 10.0.2.2 | sed -n 's/.* \([0-9]*\) packets received.*/\1/p')"
penstock -s /tmp/rpc.sock rpc packet_port_create name=again kind=pci "device=$card" > /tmp/said 2>&1 && die "two ports of one card"
grep -q "another port" /tmp/said || die "$(cat /tmp/said)"
penstock -s /tmp/rpc.sock rpc packet_port_create name=again kind=pci device=0000:7f:00.0 > /tmp/said 2>&1 && die "a card that is not there"
grep -q -- "--pci 0000:7f:00.0" /tmp/said || die "$(cat /tmp/said)"
for component in card:tap tap:card; do rpc packet_component_delete "name=$component"; done
rpc packet_port_delete name=card
rpc packet_port_create name=card kind=pci "device=$card"
tell reopened
kill -9 "$(cat /tmp/pid)"
plane
wait_for ping -c 1 -W 1 10.0.2.2
before=$(cut -d' ' -f14,15 "/proc/$(cat /tmp/pid)/stat" | tr ' ' '+')
sleep 5
after=$(cut -d' ' -f14,15 "/proc/$(cat /tmp/pid)/stat" | tr ' ' '+')
tell killed "ticks=$((after - (before)))"
tell finished
