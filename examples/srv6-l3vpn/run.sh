#!/usr/bin/env bash
# Two tenants with the same addresses at three sites, over one SRv6 network: two edges of Open vSwitch with DPDK that
# nfvhost sets up, two transit nodes and a third edge of Linux, routes by FRR. All in network namespaces of its own.
#   run.sh          lay, ping, show the segments hop by hop, take away
#   run.sh --keep   leave it there
#   run.sh --down   take away what was left
# Needs root, FRR, tshark, and Open vSwitch 3.2 or later with DPDK: those that PATH finds.
set -euo pipefail
cd "$(dirname "$0")"
top=$(cd ../.. && pwd)
nfvhost=${NFVHOST:-$top/.venv/bin/nfvhost}
work=/run/nfvhost-l3vpn
# Where Debian puts FRR's daemons.
PATH=$PATH:/usr/lib/frr:/usr/sbin:/sbin

say() { echo "==> $*"; }
fail() { echo "$*" >&2; exit 5; }
inside() { ip netns exec "l3vpn-$1" "${@:2}"; }
sandbox() { echo "nfvhost-l3vpn-$1"; }
ovsdb() { echo "unix:$work/$1/db.sock"; }

namespaces=(t1 t2 peer {red,blue}-{west,east,peer})

down() {
    set +e
    # Of pid files, only processes that run in these namespaces.
    for name in "${namespaces[@]}"; do
        if [ -e "/run/netns/l3vpn-$name" ]; then
            # shellcheck disable=SC2046 # one word for each process
            kill $(ip netns pids "l3vpn-$name")
        fi
    done 2>/dev/null
    for file in "$work"/watch-*.pid; do
        [ ! -e "$file" ] || ! grep -qs "$work" "/proc/$(cat "$file")/cmdline" || kill "$(cat "$file")"
    done
    wait 2>/dev/null
    for edge in west east; do "$nfvhost" sandbox down --name "l3vpn-$edge" >/dev/null 2>&1 & done
    wait
    for name in "${namespaces[@]}"; do ip netns delete "l3vpn-$name" 2>/dev/null; done
    rm -rf "$work"
    set -e
}

[ "$(id -u)" = 0 ] || fail "it makes network namespaces and starts ovs-vswitchd: run as root"
if [ "${1-}" = --down ]; then
    down
    exit
fi
for program in ip ping zebra bgpd vtysh tshark ovs-vswitchd ovs-ofctl; do
    command -v "$program" >/dev/null || fail "$program is missing: apt install frr iproute2 iputils-ping openvswitch-switch-dpdk tshark"
done
[ -x "$nfvhost" ] || fail "$nfvhost is missing: run examples/demo.sh first, or name another one in NFVHOST"
version=$(ovs-vswitchd --version | sed -n 's/.*(Open vSwitch) \([0-9]*\.[0-9]*\).*/\1/p')
[ "$(printf '%s\n' 3.2 "$version" | sort -V | head -n 1)" = 3.2 ] ||
    fail "Open vSwitch $version has no SRv6, which came with 3.2: take Debian 13 or Ubuntu 24.04, or put another one first in PATH"

[ ! -e "$work" ] || down
trap down EXIT
mkdir -p "$work"

# cable A a B b: a veth pair; A and B are namespaces.
cable() {
    ip -n "$1" link add "$2" type veth peer name "$4" netns "$3"
    ip -n "$1" link set "$2" up
    ip -n "$3" link set "$4" up
}
# port EDGE NAME B b: the same to an edge, whose end is Open vSwitch's alone: the kernel there must not answer for it.
port() {
    ip -n "$1" link add "$2" type veth peer name "$4" netns "$3"
    ip -n "$1" link set "$2" addrgenmode none arp off up
    ip -n "$3" link set "$4" up
}

say "Open vSwitch $version with DPDK, a transit node each, and a Linux edge"
starts=()
for edge in west east; do
    "$nfvhost" sandbox up --name "l3vpn-$edge" --run-dir "$work/$edge" >"$work/$edge.log" 2>&1 &
    starts+=($!)
done
for name in "${namespaces[@]}"; do
    ip netns add "l3vpn-$name"
    ip -n "l3vpn-$name" link set lo up
done
for node in t1 t2 peer; do
    for key in all.forwarding all.seg6_enabled default.seg6_enabled; do inside $node sysctl -qw net.ipv6.conf.$key=1; done
    inside $node sysctl -qw net.ipv4.ip_forward=1
done
for start in "${starts[@]}"; do wait "$start" || fail "$(cat "$work"/*.log)"; done
port "$(sandbox west)" uplink l3vpn-t1 west
port "$(sandbox east)" uplink l3vpn-t2 east
cable l3vpn-t1 t2 l3vpn-t2 t1
cable l3vpn-t2 peer l3vpn-peer t2
ip -n l3vpn-t1 addr add fc00:a::ff/64 dev west nodad
ip -n l3vpn-t2 addr add fc00:c::ff/64 dev east nodad
# Each tunnel of an edge begins with a segment of its own.
for sid in fc00:b1::1 fc00:b1::4 fc00:b1::6; do ip -n l3vpn-t1 route add $sid/128 encap seg6local action End dev west; done
for sid in fc00:b2::1 fc00:b2::4 fc00:b2::6; do ip -n l3vpn-t2 route add $sid/128 encap seg6local action End dev east; done
ip -n l3vpn-peer sr tunsrc set fc00:d::1

# tenant NAME NUMBER: the same addresses for each; only the links between Linux's edge and their sites differ.
tenant() {
    local site number family name=$1
    for site in west east; do
        [ $site = west ] && number=1 || number=2
        port "$(sandbox $site)" "$name" "l3vpn-$name-$site" eth0
        ip -n "l3vpn-$name-$site" link set eth0 address "02:00:00:00:0$2:0$number" mtu 1404
        ip -n "l3vpn-$name-$site" -batch - <<END
addr add 10.$number.0.2/24 dev eth0
addr add fd0$number::2/64 dev eth0 nodad
neigh add 10.$number.0.1 lladdr 02:6e:66:76:ff:01 dev eth0
neigh add fd0$number::1 lladdr 02:6e:66:76:ff:01 dev eth0
route add default via 10.$number.0.1
route add ::/0 via fd0$number::1
END
    done
    cable l3vpn-peer "$name" "l3vpn-$name-peer" eth0
    ip -n "l3vpn-$name-peer" link set eth0 mtu 1404
    ip -n "l3vpn-$name-peer" -batch - <<END
addr add 10.3.0.2/32 dev lo
addr add fd03::2/128 dev lo nodad
addr add 100.64.$2.2/30 dev eth0
addr add fc00:64:$2::2/64 dev eth0 nodad
route add default via 100.64.$2.1 src 10.3.0.2
route add ::/0 via fc00:64:$2::1 src fd03::2
END
    for family in -4 -6; do ip -n l3vpn-peer $family rule add iif "$name" lookup "10$2"; done
    # The tenant is told by the interface that a packet comes by, and by the segment that it came with.
    ip -n l3vpn-peer -batch - <<END
addr add 100.64.$2.1/30 dev $name
addr add fc00:64:$2::1/64 dev $name nodad
route add fc00:d::${2}4/128 encap seg6local action End.DX4 nh4 100.64.$2.2 dev $name
route add fc00:d::${2}6/128 encap seg6local action End.DX6 nh6 fc00:64:$2::2 dev $name
route add 10.1.0.0/24 encap seg6 mode encap segs fc00:b2::1,fc00:b1::1,fc00:a::1$2 dev t2 table 10$2
route add fd01::/64 encap seg6 mode encap segs fc00:b2::1,fc00:b1::1,fc00:a::1$2 dev t2 table 10$2
route add 10.2.0.0/24 encap seg6 mode encap segs fc00:b2::1,fc00:c::1$2 dev t2 table 10$2
route add fd02::/64 encap seg6 mode encap segs fc00:b2::1,fc00:c::1$2 dev t2 table 10$2
END
}
tenant red 1
tenant blue 2

# speak NODE NUMBER NEIGHBOURS LOCATORS: BGP without addresses (RFC 5549), one AS each.
speak() {
    local word
    mkdir -p "$work/$1"
    {
        printf 'frr defaults datacenter\nhostname %s\nrouter bgp 6500%s\n' "$1" "$2"
        printf ' bgp router-id 192.0.2.%s\n no bgp ebgp-requires-policy\n no bgp default ipv4-unicast\n' "$2"
        printf ' no bgp network import-check\n'
        for word in $3; do printf ' neighbor %s interface remote-as external\n' "$word"; done
        echo ' address-family ipv6 unicast'
        for word in $3; do printf '  neighbor %s activate\n' "$word"; done
        for word in $4; do printf '  network %s\n' "$word"; done
    } >"$work/$1/frr.conf"
    for daemon in zebra bgpd; do
        : >"$work/$1/$daemon.log"
        inside "$1" "$daemon" -d -u root -g frrvty -f "$work/$1/frr.conf" -i "$work/$1/$daemon.pid" \
            -z "$work/$1/zserv.api" --vty_socket "$work/$1" --log "file:$work/$1/$daemon.log" --log-level critical \
            >>"$work/$1/$daemon.log" 2>&1
    done
}
say "FRR announces the locators: BGP unnumbered between t1, t2 and peer"
speak t1 1 t2 'fc00:a::/64 fc00:b1::/64'
speak t2 2 't1 peer' 'fc00:b2::/64 fc00:c::/64'
speak peer 3 t2 fc00:d::/64

# edge NAME: as its profile says.
edge() {
    "$nfvhost" plan --profile "$1.yaml" --set "ovs.version=\"$version\"" -o "$work/$1.yaml" &&
        "$nfvhost" apply "$work/$1.yaml" --ovsdb "$(ovsdb "$1")" --yes \
            --only ovs_dpdk --only underlay --only tunnels --only steering
}
say "the edges: nfvhost plan, nfvhost apply"
starts=()
for edge in west east; do
    edge $edge >"$work/$edge.log" 2>&1 &
    starts+=($!)
done
for start in "${starts[@]}"; do wait "$start" || fail "$(cat "$work"/*.log)"; done
for edge in west east; do
    echo "    $edge  $(grep ' applied' "$work/$edge.log")"
    # As nfvhost-watch.service would.
    "$nfvhost" watch "$work/$edge.yaml" --ovsdb "$(ovsdb $edge)" >"$work/watch-$edge.log" 2>&1 &
    echo $! >"$work/watch-$edge.pid"
done

# until_true SECONDS COMMAND…
until_true() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.2
    done
}
knows() { [ "$(ip -n "l3vpn-$1" -6 route show "$2" proto bgp | wc -l)" -gt 0 ]; }
say "routes by BGP"
for pair in 't1 fc00:d::/64' 't1 fc00:c::/64' 'peer fc00:a::/64' 'peer fc00:c::/64' 't2 fc00:a::/64'; do
    # shellcheck disable=SC2086 # two words
    until_true 30 knows $pair || { cat "$work"/*/bgpd.log >&2; fail "no route: $pair"; }
done
ip -n l3vpn-t1 -6 route show proto bgp | sed 's/ pref medium//; s/^/    t1  /'

say "tunnels and flows, as Open vSwitch has them"
for edge in west east; do
    until_true 20 "$nfvhost" tunnel check "$work/$edge.yaml" --ovsdb "$(ovsdb $edge)" >"$work/check" 2>&1 || { cat "$work/check" >&2; exit 1; }
    echo "    $edge  $(tail -n 1 "$work/check")"
done

# echoes NAME: how many echo requests that site has answered.
echoes() {
    inside "$1" cat /proc/net/snmp6 | awk '$1 == "Icmp6InEchos" { print $2 }'
    # shellcheck disable=SC2016 # awk's own
    inside "$1" awk '/^Icmp:/ { if (seen++) print $at; else for (i = 1; i <= NF; i++) if ($i == "InEchos") at = i }' /proc/net/snmp
}
pings() { inside "$1" ping -q -c "$3" -i 0.2 -W 2 -s 1000 "$2" >/dev/null; }
say "pings between all sites; addresses are the same for red and blue"
declare -A number=([west]=1 [east]=2 [peer]=3)
for name in red blue; do
    [ $name = red ] && other=blue || other=red
    for pair in 'west east' 'west peer' 'east west' 'east peer' 'peer west' 'peer east'; do
        read -r from to <<<"$pair"
        before=$(echoes "$other-$to")
        for address in 10.${number[$to]}.0.2 fd0${number[$to]}::2; do
            until_true 20 pings "$name-$from" "$address" 1 || fail "$name: no echo from $address in $to to $from"
            pings "$name-$from" "$address" 3 || fail "$name: echoes from $address in $to to $from were lost"
        done
        [ "$(echoes "$other-$to")" = "$before" ] || fail "$other in $to was asked by $name"
        printf '    %-5s %s -> %s  10.%s.0.2, fd0%s::2\n' $name "$from" "$to" "${number[$to]}" "${number[$to]}"
    done
done

# capture NODE LINK…: SRv6 packets on these links.
capture() {
    local link links=()
    for link in "${@:2}"; do links+=(-i "$link"); done
    # Not by `inside`: a function in the background is a shell of its own, and its number not tshark's.
    ip netns exec "l3vpn-$1" tshark -Q "${links[@]}" -f 'ip6 proto 43' -w "$work/$1.pcapng" 2>"$work/$1.tshark" &
    captures+=($!)
    until_true 30 test -s "$work/$1.pcapng" || { cat "$work/$1.tshark" >&2; fail "tshark does not capture"; }
}
# hops ADDRESS NODE: one line for each link, of the echo request to that address.
hops() {
    local asked="ip.dst == $1 && icmp.type == 8"
    [[ $1 != *:* ]] || asked="ipv6.dst == $1 && icmpv6.type == 128"
    tshark -r "$work/$2.pcapng" -Y "$asked" -T fields -e frame.interface_name -e ipv6.routing.segleft -e ipv6.dst -e ipv6.routing.srh.addr 2>/dev/null |
        awk -F '\t' -v node="$2" '{ split($3, to, ","); n = split($4, list, ","); path = ""
            for (i = n; i > 0; i--) path = path " " (i - 1 == $2 ? "[" list[i] "]" : list[i])
            printf "    %-4s %-5s %s left, to %-10s %s\n", node, $1, $2, to[1], path }' | sort -u
}
say "the segments of one packet, link by link; the one that is next is in brackets"
captures=()
capture t1 west t2
capture t2 peer east
for address in 10.3.0.2 fd03::2 10.2.0.2; do pings red-west $address 1; done
pings blue-west 10.3.0.2 1
sleep 1
kill "${captures[@]}"
wait "${captures[@]}" || true
for address in 10.3.0.2 fd03::2 10.2.0.2; do
    echo "  to $address"
    { hops $address t1; hops $address t2; } | sort -k 3,3nr
done
if [ "${1-}" = --keep ]; then
    trap - EXIT
    say "it is left there: ip netns list; run.sh --down takes it away"
fi
