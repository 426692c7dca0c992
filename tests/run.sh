#!/usr/bin/env bash
# Runs test tiers: ./tests/run.sh [TIER…]; without a name, all of them. Installs what they need.
#   lint        ruff, mypy --strict, import-linter, shellcheck
#   unit        pure functions
#   hosts       captured machines; those of an outside corpus too (NFVHOST_CORPUS, or ../shared/hosts)
#   simulated   every resource on a scratch machine, killed at each write
#   ovs         a real Open vSwitch with DPDK, real packets; by root, or sudo
#   datapath    tunnels and benches on the Open vSwitch of Debian 13, whatever this machine has; by root, or sudo;
#               NFVHOST_DATAPATH_SUITE=forky: on that of Debian 14
#   openstack   Keystone, Placement, Glance, Nova, Neutron, libvirt and OVS-DPDK, and guests on them; by root, or sudo
#   vm          a machine with NUMA, IOMMU and SR-IOV under QEMU, booted and rebooted;
#               `./tests/run.sh vm --all` runs every fault (docs/testing.md)
# A tier that cannot run says why and counts as skipped. With NFVHOST_REQUIRE_TIERS=1, as in CI, that is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/environment.sh

all=(lint unit hosts simulated ovs datapath openstack vm)
tiers=() vm_options=()
for word in "$@"; do
    if [ "$word" = --all ]; then vm_options=(--all-faults); else tiers+=("$word"); fi
done
[ ${#tiers[@]} -gt 0 ] || tiers=("${all[@]}")
for tier in "${tiers[@]}"; do
    if [[ " ${all[*]} " != *" $tier "* ]]; then
        echo "There is no tier $tier; there are: ${all[*]}" >&2
        exit 2
    fi
done

environment requirements-dev.lock
export PATH=$PWD/.venv/bin:$PATH

# Each in one chain of &&: `set -e` does not hold inside a condition.
prepare_lint() { install shellcheck; }
prepare_unit() { :; }
prepare_hosts() { install xz-utils iproute2 util-linux; }
prepare_simulated() { :; }
prepare_ovs() {
    if ! can_be_root; then
        echo "it makes network namespaces and starts ovs-vswitchd: run as root, or as one who may use sudo" >&2
        return 1
    fi
    local packages
    install iproute2 openvswitch-switch-dpdk && mapfile -t packages < <(ovs_packages) && install "${packages[@]}" &&
        install_idle prometheus
}
prepare_datapath() {
    if ! can_be_root; then
        echo "it makes network namespaces and starts ovs-vswitchd: run as root, or as one who may use sudo" >&2
        return 1
    fi
    # The generator of benches is compiled against this machine's DPDK; dpdk-testpmd is another one.
    install debian-archive-keyring iproute2 iputils-ping mmdebstrap openvswitch-switch-dpdk dpdk-dev gcc libc6-dev \
        libdpdk-dev pkg-config
}
prepare_vm() {
    if ! can_be_root; then
        echo "it builds a system with the owners of its files: run as root, or as one who may use sudo" >&2
        return 1
    fi
    install mmdebstrap e2fsprogs debian-archive-keyring && prepare_openstack
}

prepare_openstack() {
    if ! can_be_root; then
        echo "it makes namespaces and starts nova-compute: run as root, or as one who may use sudo" >&2
        return 1
    fi
    # Their services are this tier's to start.
    install_idle openvswitch-switch-dpdk mariadb-server-core mariadb-client-core rabbitmq-server libvirt-daemon \
        libvirt-daemon-driver-qemu libvirt-clients libvirt-dev pkg-config gcc libc6-dev qemu-system-x86 qemu-utils \
        busybox-static cpio genisoimage iproute2 util-linux
}

run_lint() {
    ruff check .
    ruff format --check .
    mypy
    lint-imports --no-cache
    shellcheck -x tests/run.sh tests/support/cloud_room.sh tests/support/vm_compute.sh tools/environment.sh examples/demo.sh \
        examples/srv6-l3vpn/run.sh .ci/run
}
run_unit() { pytest -n auto tests/unit; }
run_hosts() { pytest -n auto tests/hosts; }
run_simulated() { pytest -n auto tests/simulated; }
# As root, without root's files in a checkout of someone else.
here_as_root() {
    as_root env PATH="$PATH" NFVHOST_REQUIRE_TIERS="${NFVHOST_REQUIRE_TIERS:-0}" PYTHONDONTWRITEBYTECODE=1 \
        NFVHOST_DATAPATH_SUITE="${NFVHOST_DATAPATH_SUITE:-trixie}" "$@"
}
run_ovs() { here_as_root pytest -p no:cacheprovider tests/ovs; }
run_datapath() { here_as_root pytest -p no:cacheprovider --durations=20 --durations-min=1 tests/datapath; }
# in_a_room ARGUMENT…: pytest in a network of its own. What comes from outside is there before: a room has no way out.
in_a_room() {
    here_as_root python tests/support/cloud_build.py
    here_as_root tests/support/cloud_room.sh pytest -p no:cacheprovider -v --capture=no "$@"
}
run_openstack() {
    pytest tests/openstack/test_fit.py
    in_a_room tests/openstack --ignore=tests/openstack/test_fit.py
}
run_vm() {
    # A cloud's control plane runs beside the machine. Its log is the times of its steps: not captured.
    here_as_root python tests/support/vm.py
    in_a_room tests/vm "${vm_options[@]}"
}

reason=$(mktemp)
trap 'rm -f "$reason"' EXIT
passed=() failed=() skipped=()
for tier in "${tiers[@]}"; do
    start=$SECONDS
    if ! "prepare_$tier" 2> >(tee "$reason" >&2); then
        say "$tier skipped: $(tail -n 1 "$reason")"
        skipped+=("$tier")
        continue
    fi
    say "$tier"
    set +e
    (set -e; "run_$tier")
    code=$?
    set -e
    if [ $code = 0 ]; then passed+=("$tier"); else failed+=("$tier"); fi
    say "$tier took $((SECONDS - start)) s, exit $code"
done
say "tiers passed: ${passed[*]:-none}; failed: ${failed[*]:-none}; skipped: ${skipped[*]:-none}"
[ ${#failed[@]} = 0 ] || exit 1
[ ${#skipped[@]} = 0 ] || [ "${NFVHOST_REQUIRE_TIERS:-0}" != 1 ]
