# shellcheck shell=bash
# What examples/demo.sh and tests/run.sh share: Debian's or Ubuntu's packages, and the Python environment in .venv.
# Sourced from the top of the checkout, after `set -euo pipefail`.

say() { if [ -t 2 ]; then printf '\033[1m==> %s\033[0m\n' "$*" >&2; else echo "==> $*" >&2; fi; }

# as_root COMMAND…: as root, by sudo where need be; fails where neither is to be had.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

can_be_root() {
    [ "$(id -u)" = 0 ] || { command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; }
}

# missing PACKAGE…: those that are not installed, one a line.
missing() {
    local package
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || echo "$package"
    done
}

# install PACKAGE…: what of it is missing, named before it is installed; fails where it cannot be.
install() {
    local wanted
    mapfile -t wanted < <(missing "$@")
    [ ${#wanted[@]} -gt 0 ] || return 0
    if ! command -v apt-get >/dev/null; then
        echo "These packages are missing, and this is not Debian or Ubuntu: ${wanted[*]}" >&2
        return 1
    fi
    if ! can_be_root; then
        echo "These packages are missing, and installing them needs root: ${wanted[*]}" >&2
        return 1
    fi
    say "installing by apt: ${wanted[*]}"
    # A fresh machine has no package lists, and old lists name files that are gone.
    apt_install "${wanted[@]}" 2>/dev/null || { as_root apt-get update -qq >&2 && apt_install "${wanted[@]}"; }
}

# install_idle PACKAGE…: the same, and none of their services is started, now or at the next boot.
# invoke-rc.d(8), deb-systemd-invoke(1): policy-rc.d says whether one may be; 101 is no.
install_idle() {
    local policy=/usr/sbin/policy-rc.d made='' code=0 package wanted
    mapfile -t wanted < <(missing "$@")
    [ ${#wanted[@]} -gt 0 ] || return 0
    if [ ! -e "$policy" ] && can_be_root; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null && as_root chmod 755 "$policy" && made=yes
    fi
    install "${wanted[@]}" || code=$?
    [ -z "$made" ] || as_root rm -f "$policy"
    if [ $code = 0 ] && command -v systemctl >/dev/null; then
        for package in "${wanted[@]}"; do
            as_root systemctl --quiet disable "$package.service" >&2 || true
        done
    fi
    return $code
}

# apt_lists: apt knows its packages; a machine made from an image may have no lists yet.
apt_lists() {
    compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null || ! can_be_root || as_root apt-get update -qq >&2
}

apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}

# ovs_packages: OVS-DPDK, and the DPDK drivers that Debian and Ubuntu ship one by one, numbered by DPDK's ABI.
ovs_packages() {
    echo openvswitch-switch-dpdk
    apt_lists || true
    apt-cache pkgnames librte- 2>/dev/null |
        grep -E '^librte-(bus-(vdev|pci|auxiliary|cdx|fslmc|uacce|vmbus)|mempool-ring|net-(null|pcap|af-packet|af-xdp|virtio|vhost|tap|ring))[0-9]+$' |
        sort || true
}

# find_python: the newest interpreter from 3.11 on that can make environments.
find_python() {
    local name
    for name in python3.14 python3.13 python3.12 python3.11 python3; do
        if "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    return 1
}

# environment LOCK: .venv with nfvhost and what the lock file names; made again where the lock changed.
environment() {
    local lock=$1 python stamp
    if ! python=$(find_python); then
        apt_lists || true
        # Ubuntu 22.04's python3 is 3.10; its python3.11 is a package of its own.
        if apt-cache show python3.11-venv >/dev/null 2>&1; then install python3.11 python3.11-venv; else install python3 python3-venv; fi
        python=$(find_python) || {
            echo "Python 3.11 or later is needed, and apt has none" >&2
            return 1
        }
    fi
    stamp=$(cat pyproject.toml "$lock" | sha256sum | cut -d' ' -f1)
    # The larger environment of the tests serves the demo as well.
    if grep -qsx "$stamp" .venv/.stamps; then return 0; fi
    say "making the Python environment in .venv ($lock)"
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
    # As an installation has it: a third of a plan's time would be the compiler's where Python may not write its cache.
    .venv/bin/python -m compileall -q nfvhost
    echo "$stamp" >>.venv/.stamps
}
