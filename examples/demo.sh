#!/usr/bin/env bash
# The whole journey in a few minutes, with no risk: a plan of this machine, a plan of an example server, and a plan
# applied to a private OVS-DPDK, verified, with packets through it. Pictures and plans go to out/.
# Without root it plans and draws, and says what it left out.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/environment.sh

environment requirements.lock
nfvhost=$PWD/.venv/bin/nfvhost
mkdir -p out

say "this machine: what is in it, and how it would be split"
"$nfvhost" inspect --svg out/this-machine.svg
"$nfvhost" plan -o out/this-machine.yaml --svg out/this-machine-plan.svg

say "an example server: Ryzen 5 3600, Intel X710, on-board Realtek"
"$nfvhost" plan --host examples/home-server/host -o out/home-server.yaml --svg out/home-server-plan.svg

if can_be_root && install iproute2 openvswitch-switch-dpdk; then
    mapfile -t packages < <(ovs_packages)
    install "${packages[@]}"
    # Without root's files in a checkout of someone else.
    as_nfvhost() { as_root env PYTHONDONTWRITEBYTECODE=1 "$nfvhost" "$@"; }

    say "a private Open vSwitch with DPDK, in a network namespace of its own"
    trap 'as_nfvhost sandbox down --name demo' EXIT
    ovsdb=$(as_nfvhost sandbox up --name demo)
    as_nfvhost plan --profile sandbox -o out/sandbox.yaml --svg out/sandbox-plan.svg
    say "apply"
    as_nfvhost apply out/sandbox.yaml --ovsdb "$ovsdb" --yes
    say "verify: is it what the plan says?"
    as_nfvhost verify out/sandbox.yaml --ovsdb "$ovsdb"
    say "apply again: nothing to do"
    as_nfvhost apply out/sandbox.yaml --ovsdb "$ovsdb" --yes
    say "packets through the planned PMD thread"
    as_nfvhost sandbox probe --name demo
else
    say "left out, since they need root: the private OVS-DPDK, apply, verify and the packets through it"
fi
say "plans and pictures: $(echo out/*)"
