"""rpm, dnf and the alternatives of Fedora, as far as a scratch machine needs them.

Each line of `$tree/rpms` (installed) and `$tree/mirror` (to be had) is `name version what,it,needs`. What a package
brings is what openvswitch.spec of Fedora does; dnf's table is as dnf 4.14 shows it.
"""

from __future__ import annotations

from typing import Final

DPDK: Final = "/usr/sbin/ovs-vswitchd.dpdk"
INSTALLED: Final = "/rpms"
MIRROR: Final = "/mirror"
ARCHIVE: Final = """openvswitch 3.6.2-2 openssl
openvswitch-dpdk 3.6.2-2 dpdk
dpdk 24.11-1 numactl-libs
numactl-libs 2.0.19-1
iproute 6.14-1
"""

_COMMON: Final = r"""
admin=$tree/var/lib/alternatives/ovs-vswitchd
choice=$tree/etc/alternatives/ovs-vswitchd
line() { sed -n "s/^$2 //p" "$1"; }
has() { grep -q "^$1 " "$tree/rpms"; }
# post of openvswitch and of its package dpdk: priority 10, and 20.
best() { grep -sx /usr/sbin/ovs-vswitchd.dpdk "$admin" || grep -s nodpdk "$admin"; }
point() { rm -f "$choice"; ln -s "$1" "$choice"; }
offer() {
    mkdir -p "${admin%/*}" "${choice%/*}"
    [ -e "$admin" ] || echo auto > "$admin"
    echo "$1" >> "$admin"
    [ "$(head -n 1 "$admin")" != auto ] || point "$(best)"
}
withdraw() {
    [ -e "$admin" ] || return 0
    sed -i "\|^$1\$|d" "$admin"
    if ! grep -q / "$admin"; then rm -f "$admin" "$choice"; else sed -i '1s/.*/auto/' "$admin"; point "$(best)"; fi
}
run_switch() {
    mkdir -p "$tree/run/openvswitch" "$tree/proc/4711"
    echo 4711 > "$tree/run/openvswitch/ovs-vswitchd.pid"
    echo ovs-vswitchd > "$tree/proc/4711/comm"
    rm -f "$tree/proc/4711/exe"
    ln -s "$(readlink "$choice" || echo /usr/sbin/ovs-vswitchd)" "$tree/proc/4711/exe"
}
end_switch() { rm -rf "$tree/run/openvswitch" "$tree/proc/4711"; }
"""

RPM: Final = (
    """# asks: -qa
"""
    + _COMMON
    + r"""
case $1 in
-qa)
    case $3 in
    '%{NAME}\n') sed 's/ .*//' "$tree/rpms" ;;
    *REQUIRENAME*) while read -r name _ needs; do
        for one in $(echo "$needs" | tr , ' '); do printf '%s\t%s\n' "$name" "$one"; done
    done < "$tree/rpms" ;;
    *PROVIDENAME*) sed 's/^\([^ ]*\) .*/\1\t\1/' "$tree/rpms" ;;
    esac
    ;;
-e)
    shift
    while read -r name _ needs; do
        case " $* " in *" $name "*) continue ;; esac
        for one in $(echo "$needs" | tr , ' '); do
            case " $* " in
            *" $one "*) echo "error: Failed dependencies: $one is needed by (installed) $name" >&2; exit 1 ;;
            esac
        done
    done < "$tree/rpms"
    for name in "$@"; do
        case $name in
        openvswitch | openvswitch3*)
            # systemd_preun
            rm -f "$tree/etc/systemd/system/multi-user.target.wants/openvswitch.service"
            end_switch
            withdraw /usr/sbin/ovs-vswitchd.nodpdk
            ;;
        openvswitch-dpdk) withdraw /usr/sbin/ovs-vswitchd.dpdk ;;
        esac
        sed -i "/^$name /d" "$tree/rpms"
    done
    cd "$tree"
    rmdir -p var/lib/alternatives etc/alternatives etc/systemd/system/multi-user.target.wants 2>/dev/null || :
    ;;
esac
"""
)

DNF: Final = (
    """# asks: -q
"""
    + _COMMON
    + r"""
test= names= verb= plan= upgrades=
for word in "$@"; do
    case $word in
    --setopt=tsflags=test) test=1 ;;
    -* | %*) ;;
    install | repoquery) verb=$word ;;
    *) names="$names $word" ;;
    esac
done
[ -e "$tree/mirror" ] || { echo "Error: Failed to download metadata for repo 'fedora'" >&2; exit 1; }
plan_for() {
    case " $plan " in *" $1 "*) return ;; esac
    grep -q "^$1 " "$tree/mirror" || { echo "Error: Unable to find a match: $1" >&2; exit 1; }
    for one in $(line "$tree/mirror" "$1" | sed 's/^[^ ]* *//' | tr , ' '); do
        newer=${one#*>=}
        one=${one%%>=*}
        if ! has "$one"; then
            plan_for "$one"
        elif [ "$newer" != "$one" ] && [ "$(line "$tree/rpms" "$one" | sed 's/ .*//')" != "$newer" ]; then
            upgrades="$upgrades $one"
        fi
    done
    plan="$plan $1"
}
row() { printf ' %-24s noarch    %-16s fedora     5 k\n' "$1" "$(line "$tree/mirror" "$1" | sed 's/ .*//')"; }
case $verb in
repoquery) for name in $names; do ! grep -q "^$name " "$tree/mirror" || printf '%s\n\n' "$name"; done ;;
install)
    for name in $names; do has "$name" || plan_for "$name"; done
    echo "Dependencies resolved."
    echo "Installing:"
    for name in $plan; do row "$name"; done
    [ -z "$upgrades" ] || echo "Upgrading:"
    for name in $upgrades; do row "$name"; done
    printf '\nTransaction Summary\n'
    [ ! "$test" ] || exit 0
    for name in $plan; do
        grep "^$name " "$tree/mirror" >> "$tree/rpms"
        case $name in
        openvswitch) offer /usr/sbin/ovs-vswitchd.nodpdk ;;
        openvswitch-dpdk) offer /usr/sbin/ovs-vswitchd.dpdk ;;
        esac
    done
    ;;
esac
"""
)

UPDATE_ALTERNATIVES: Final = (
    _COMMON
    + r"""
case $1 in
--set) sed -i '1s/.*/manual/' "$admin"; point "$3" ;;
--auto) sed -i '1s/.*/auto/' "$admin"; point "$(best)" ;;
esac
"""
)

SYSTEMCTL: Final = (
    _COMMON
    + r"""
unit=$tree/etc/systemd/system/multi-user.target.wants/openvswitch.service
case "$*" in
"restart ovs-vswitchd.service") run_switch ;;
"enable --now openvswitch.service")
    mkdir -p "${unit%/*}"
    ln -sf /usr/lib/systemd/system/openvswitch.service "$unit"
    run_switch
    ;;
"disable --now openvswitch.service")
    rm -f "$unit"
    cd "$tree"
    rmdir -p etc/systemd/system/multi-user.target.wants 2>/dev/null || :
    end_switch
    ;;
"stop openvswitch.service") end_switch ;;
*) echo "Unknown command verb $1." >&2; exit 1 ;;
esac
"""
)

PROGRAMS: Final = {
    "rpm": RPM,
    "dnf": DNF,
    "update-alternatives": UPDATE_ALTERNATIVES,
    "systemctl": SYSTEMCTL,
}
