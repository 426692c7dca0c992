"""dpkg, apt and the alternatives of Debian, as far as a scratch machine needs them.

The archive is a file of stanzas, `$tree/mirror`; `apt-get update` makes it the lists. What a package brings is what its
maintainer's scripts do: openvswitch-switch and openvswitch-switch-dpdk 3.1.0-2 of Debian 12, as installed there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

PLAIN: Final = "/usr/lib/openvswitch-switch/ovs-vswitchd"
DPDK: Final = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"
STATUS: Final = "/var/lib/dpkg/status"
LISTS: Final = "/var/lib/apt/lists/deb_main_Packages"
MARKS: Final = "/var/lib/apt/extended_states"
MIRROR: Final = "/mirror"

# What all of them know; the name and version of a package are in its stanza.
_COMMON: Final = r"""
status=$tree/var/lib/dpkg/status
lists=$tree/var/lib/apt/lists/deb_main_Packages
marks=$tree/var/lib/apt/extended_states
admin=$tree/var/lib/dpkg/alternatives/ovs-vswitchd
choice=$tree/etc/alternatives/ovs-vswitchd

field() { awk -v RS= -v name="$2" -v key="$3: " '
    { split($0, lines, "\n"); if (lines[1] != "Package: " name) next
      for (i in lines) if (index(lines[i], key) == 1) print substr(lines[i], length(key) + 1) }' "$1"; }
has() { [ "$(field "$status" "$1" Status)" = "install ok installed" ]; }
write() { cat > "$1.new"; cat "$1.new" > "$1"; rm "$1.new"; }
forget() { awk -v RS= -v ORS='\n\n' -v name="Package: $2" '
    { split($0, lines, "\n") } lines[1] != name' "$1" | write "$1"; }
# auto: the highest priority, which is that of the plain build (openvswitch-switch.postinst).
best() { if grep -qs /openvswitch-switch/ "$admin"; then echo /usr/lib/openvswitch-switch/ovs-vswitchd
    else grep -s /openvswitch-switch-dpdk/ "$admin"; fi; }
point() { rm -f "$choice"; ln -s "$1" "$choice"; }
offer() {
    mkdir -p "${admin%/*}" "${choice%/*}"
    [ -e "$admin" ] || echo auto > "$admin"
    grep -qx "$1" "$admin" || echo "$1" >> "$admin"
    [ "$(head -n 1 "$admin")" != auto ] || point "$(best)"
}
withdraw() {
    [ -e "$admin" ] || return 0
    grep -vx "$1" "$admin" > "$admin.new" || :
    cat "$admin.new" > "$admin"
    rm "$admin.new"
    if ! grep -q / "$admin"; then
        rm -f "$admin" "$choice"
    elif [ "$(readlink "$choice")" = "$1" ]; then
        # A choice that goes makes it automatic again.
        sed -i '1s/.*/auto/' "$admin"
        point "$(best)"
    fi
}
# The process is a number and the program that it was started from.
run_switch() {
    mkdir -p "$tree/run/openvswitch" "$tree/proc/4711"
    echo 4711 > "$tree/run/openvswitch/ovs-vswitchd.pid"
    echo ovs-vswitchd > "$tree/proc/4711/comm"
    rm -f "$tree/proc/4711/exe"
    ln -s "$(readlink "$choice")" "$tree/proc/4711/exe"
}
end_switch() { rm -rf "$tree/run/openvswitch" "$tree/proc/4711"; }
"""

APT_GET: Final = (
    r"""# asks: -s
"""
    + _COMMON
    + r"""
simulate= names= verb= plan=
for word in "$@"; do
    case $word in
    -s) simulate=1 ;;
    -*) ;;
    update | install | purge | remove) verb=$word ;;
    *) names="$names $word" ;;
    esac
done

umask 022
fail() { echo "$1" >&2; exit 100; }
list_of() { sed 's/([^)]*)//g; s/,/ /g'; }
plan_for() {
    local depends needed exact
    case " $plan " in *" $1 "*) return ;; esac
    grep -qx "Package: $1" "$lists" || fail "E: Unable to locate package $1"
    depends=$(field "$lists" "$1" Depends)
    for needed in $(echo "$depends" | list_of); do
        if ! has "$needed"; then
            plan_for "$needed"
            continue
        fi
        exact=${depends##*$needed (= }
        exact=${exact%%)*}
        case $depends in *"$needed (= "*)
            [ "$exact" = "$(field "$status" "$needed" Version)" ] || upgrades="$upgrades $needed" ;;
        esac
    done
    plan="$plan $1"
}

case $verb in
update)
    if [ -e "$tree/mirror" ]; then
        mkdir -p "${lists%/*}"
        cat "$tree/mirror" > "$lists"
    else
        echo "W: Failed to fetch http://deb.debian.org/debian/dists/bookworm/InRelease  Temporary failure resolving" >&2
        echo "W: Some index files failed to download. They have been ignored, or old ones used instead." >&2
    fi
    ;;
install)
    upgrades=
    [ -e "$lists" ] || fail "E: Unable to locate package${names%% *}"
    for name in $names; do has "$name" || plan_for "$name"; done
    if [ "$simulate" ]; then
        for name in $plan; do echo "Inst $name ($(field "$lists" "$name" Version) Debian:12 [amd64])"; done
        for name in $upgrades; do
            echo "Inst $name [$(field "$status" "$name" Version)] ($(field "$lists" "$name" Version) Debian:12 [amd64])"
        done
        exit
    fi
    holder=$(cat "$tree/var/lib/dpkg/lock-frontend" 2>/dev/null || :)
    [ -z "$holder" ] || fail "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process $holder"
    [ -z "$(ls "$tree/var/lib/dpkg/updates" 2>/dev/null)" ] ||
        fail "E: dpkg was interrupted, you must manually run 'dpkg --configure -a' to correct the problem."
    for name in $plan; do
        [ -e "$tree/mirror" ] || fail "E: Failed to fetch http://deb.debian.org/pool/$name.deb  404  Not Found"
        [ -n "$(field "$tree/mirror" "$name" Version)" ] || fail "E: Failed to fetch $name.deb  404  Not Found"
    done
    for name in $plan; do
        forget "$status" "$name"
        {
            echo "Package: $name"
            echo "Status: install ok installed"
            awk -v RS= -v name="Package: $name" '{ split($0, lines, "\n") } lines[1] == name' "$lists" | tail -n +2
            echo
        } >> "$status"
        case " $names " in *" $name "*) ;; *) printf 'Package: %s\nAuto-Installed: 1\n\n' "$name" >> "$marks" ;; esac
        case $name in
        openvswitch-switch) offer /usr/lib/openvswitch-switch/ovs-vswitchd; run_switch ;;
        openvswitch-switch-dpdk) offer /usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk ;;
        esac
    done
    ;;
purge | remove)
    more=1
    while [ "$more" ]; do
        more=
        for other in $(sed -n 's/^Package: //p' "$status"); do
            case " $names " in *" $other "*) continue ;; esac
            for needed in $(field "$status" "$other" Depends | list_of); do
                case " $names " in *" $needed "*) names="$names $other"; more=1; break ;; esac
            done
        done
    done
    for name in $names; do
        [ -n "$(field "$status" "$name" Version)" ] || continue
        if [ "$simulate" ]; then echo "Purg $name [$(field "$status" "$name" Version)]"; continue; fi
        case $name in
        openvswitch-switch) end_switch; withdraw /usr/lib/openvswitch-switch/ovs-vswitchd ;;
        openvswitch-switch-dpdk) withdraw /usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk ;;
        esac
        version=$(field "$status" "$name" Version)
        forget "$status" "$name"
        forget "$marks" "$name"
        [ $verb = purge ] ||
            printf 'Package: %s\nStatus: deinstall ok config-files\nVersion: %s\n\n' "$name" "$version" >> "$status"
    done
    rmdir "$tree/var/lib/dpkg/alternatives" "$tree/etc/alternatives" 2>/dev/null || :
    ;;
esac
"""
)

APT_CACHE: Final = (
    r"""# asks: depends pkgnames
"""
    + _COMMON
    + r"""
case $1 in
pkgnames) sed -n "s/^Package: \($2.*\)/\1/p" "$lists" 2>/dev/null || : ;;
depends)
    [ -n "$(field "$lists" "$2" Version)" ] || { echo "E: No packages found" >&2; exit 100; }
    echo "$2"
    field "$lists" "$2" Depends | sed 's/([^)]*)//g' | tr ',' '\n' | sed 's/^ */  Depends: /; s/ *$//'
    ;;
esac
"""
)

# --configure -a alone.
DPKG: Final = r"""
if [ -e "$tree/var/lib/dpkg/lock-for-a-moment" ]; then
    rm "$tree/var/lib/dpkg/lock-for-a-moment"
    echo "dpkg: error: dpkg frontend lock was locked by another process with pid 812" >&2
    exit 2
fi
rm -f "$tree"/var/lib/dpkg/updates/*
sed -i 's/^Status: install ok \(unpacked\|half-configured\)/Status: install ok installed/' "$tree/var/lib/dpkg/status"
"""

UPDATE_ALTERNATIVES: Final = (
    _COMMON
    + r"""
case $1 in
--set)
    grep -qsx "$3" "$admin" || { echo "update-alternatives: error: no alternative $3 for $2" >&2; exit 2; }
    sed -i '1s/.*/manual/' "$admin"
    point "$3"
    ;;
--auto)
    sed -i '1s/.*/auto/' "$admin"
    point "$(best)"
    ;;
esac
"""
)

SYSTEMCTL: Final = (
    _COMMON
    + r"""
unit=$tree/etc/systemd/system/multi-user.target.wants/openvswitch-switch.service
case "$*" in
"restart ovs-vswitchd.service") run_switch ;;
"enable --now openvswitch-switch.service")
    mkdir -p "${unit%/*}"
    ln -sf /lib/systemd/system/openvswitch-switch.service "$unit"
    run_switch
    ;;
"disable --now openvswitch-switch.service")
    rm -f "$unit"
    rmdir "${unit%/*}" 2>/dev/null || :
    end_switch
    ;;
"stop openvswitch-switch.service") end_switch ;;
*) echo "Unknown command verb $1." >&2; exit 1 ;;
esac
"""
)

PROGRAMS: Final = {
    "apt-get": APT_GET,
    "apt-cache": APT_CACHE,
    "dpkg": DPKG,
    "update-alternatives": UPDATE_ALTERNATIVES,
    "systemctl": SYSTEMCTL,
}


def stanza(name: str, *, version: str = "1", depends: str = "", status: str | None = None) -> str:
    """One package of an archive, or, with a status, of dpkg."""
    lines = [f"Package: {name}", *([f"Status: {status}"] if status else []), f"Version: {version}"]
    return "\n".join([*lines, *([f"Depends: {depends}"] if depends else [])]) + "\n\n"


def installed(names: Iterable[str], **facts: str) -> str:
    """What dpkg has of these."""
    return "".join(stanza(name, status="install ok installed", **facts) for name in names)


_OVS: Final = "3.1.0-2"
_LIBRARIES: Final = ("bus-pci23", "bus-vdev23", "mempool-ring23", "net-i40e23", "net-mlx5-23", "net-tap23")
ARCHIVE: Final = "".join(
    (
        stanza("libc6", version="2.36"),
        stanza("iproute2", version="6.1.0-3", depends="libc6"),
        stanza("librte-eal23", version="22.11", depends="libc6 (>= 2.34)"),
        *(stanza(f"librte-{name}", version="22.11", depends="librte-eal23 (>= 22.11)") for name in _LIBRARIES),
        stanza("openvswitch-switch", version=_OVS, depends="libc6 (>= 2.34)"),
        stanza(
            "openvswitch-switch-dpdk",
            version=_OVS,
            depends=f"openvswitch-switch (= {_OVS}), libc6 (>= 2.34), librte-eal23 (>= 22.11)",
        ),
    )
)
