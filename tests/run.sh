#!/usr/bin/env bash
# Runs test tiers: ./tests/run.sh [TIER…]; without a name, all of them. Installs what they need.
#   lint        ruff, mypy --strict, import-linter, shellcheck
#   unit        pure functions
#   hosts       captured machines; those of an outside corpus too (NFVHOST_CORPUS, or ../shared/hosts)
#   simulated   every resource on a scratch machine, killed at each write
#   ovs         a real Open vSwitch with DPDK, real packets; by root, or sudo
# A tier that cannot run says why and counts as skipped. With NFVHOST_REQUIRE_TIERS=1, as in CI, that is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/environment.sh

all=(lint unit hosts simulated ovs)
tiers=("$@")
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
    install iproute2 openvswitch-switch-dpdk && mapfile -t packages < <(ovs_packages) && install "${packages[@]}"
}

run_lint() {
    ruff check .
    ruff format --check .
    mypy
    lint-imports --no-cache
    shellcheck -x tests/run.sh tools/environment.sh examples/demo.sh .ci/run
}
run_unit() { pytest -n auto tests/unit; }
run_hosts() { pytest -n auto tests/hosts; }
run_simulated() { pytest -n auto tests/simulated; }
run_ovs() {
    # As root, without root's files in a checkout of someone else.
    as_root env PATH="$PATH" NFVHOST_REQUIRE_TIERS="${NFVHOST_REQUIRE_TIERS:-0}" PYTHONDONTWRITEBYTECODE=1 \
        "$(command -v pytest)" -p no:cacheprovider tests/ovs
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
