"""Drop-ins for nova-compute and Neutron's agent, as distributions start them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from cases import NOVA, Case
from contract import differences, drifts, refusals, remarks, run
from scratch import ScratchMachine

from nfvhost.errors import PreconditionError
from nfvhost.model.plan import NeutronPlan
from nfvhost.resources.nova_conf import NOVA_CONF
from nfvhost.resources.oslo.ini import parse

Bench = Callable[[str], tuple[Case, ScratchMachine]]
RDO_NOVA = "/etc/nova/nova-compute.conf.d/zz-nfvhost.conf"
RDO_NEUTRON = "/etc/neutron/conf.d/neutron-openvswitch-agent/zz-nfvhost.conf"
UNIT = "/usr/lib/systemd/system/openstack-nova-compute.service"

# In short, what openstack-pkg-tools of Debian 12 makes of nova-compute.init.in and neutron-openvswitch-agent.init.in.
_TEMPLATE = """
if [ -z "${UWSGI_PORT}" ] ; then
	DAEMON_ARGS="${BIND_PARAMS}${UWSGI_PROCESSES}"
fi
if [ -z "${CONFIG_FILE}" ] ; then
	CONFIG_FILE=/etc/${PROJECT_NAME}/${PROJECT_NAME}.conf
fi
if [ -z "${NO_OPENSTACK_CONFIG_FILE_DAEMON_ARG}" ] ; then
	DAEMON_ARGS="--config-file=${CONFIG_FILE} ${DAEMON_ARGS}"
fi
[ "x$USE_LOGFILE" != "xno" ] && DAEMON_ARGS="$DAEMON_ARGS --log-file=$LOGFILE"
"""
DEBIAN_NOVA = {
    "/lib/systemd/system/nova-compute.service": "[Service]\nExecStart=/etc/init.d/nova-compute systemd-start\n",
    "/etc/init.d/nova-compute": '#!/bin/sh\nPROJECT_NAME=nova\nDAEMON_ARGS=""\n'
    "if [ -f '/etc/nova/nova-compute.conf' ] ; then\n"
    '\tDAEMON_ARGS="--config-file=/etc/nova/nova-compute.conf"\nfi\n' + _TEMPLATE,
    "/etc/nova/nova-compute.conf": "[DEFAULT]\ncompute_driver = libvirt.LibvirtDriver\n",
}
DEBIAN_NEUTRON = {
    "/lib/systemd/system/neutron-openvswitch-agent.service": "[Service]\n"
    "ExecStart=/etc/init.d/neutron-openvswitch-agent systemd-start\n",
    "/etc/init.d/neutron-openvswitch-agent": "PROJECT_NAME=neutron\n"
    "CONFIG_FILE=/etc/neutron/plugins/ml2/openvswitch_agent.ini\n"
    'DAEMON_ARGS="--config-file=/etc/neutron/neutron.conf"\n'
    "if [ -e /etc/neutron/agent.conf.d ] ; then\n"
    '        DAEMON_ARGS="--config-dir=/etc/neutron/agent.conf.d ${DAEMON_ARGS}"\nfi\n' + _TEMPLATE,
}


def bare(bench: Bench, name: str, files: dict[str, str]) -> tuple[Case, ScratchMachine]:
    """The case on a machine that has no other files of OpenStack than these and its configuration."""
    case, scratch = bench(name)
    for path in ("usr/lib/systemd/system/openstack-nova-compute.service", "usr/share/nova/nova-dist.conf"):
        (scratch.tree / path).unlink(missing_ok=True)
    (scratch.tree / "usr/lib/systemd/system/neutron-openvswitch-agent.service").unlink(missing_ok=True)
    for path, text in files.items():
        scratch.put(path, text)
    return case, scratch


def test_the_drop_in_holds_what_nova_wants_in_its_own_words(bench: Bench) -> None:
    case, scratch = bench("nova_conf")

    run(case, scratch)

    assert scratch.read(RDO_NOVA) == (
        "# Written by nfvhost, as a whole.\n"
        "\n[compute]\ncpu_dedicated_set = 2-3,6-7\ncpu_shared_set = 0-1\n"
        "\n[DEFAULT]\nreserved_host_memory_mb = 6144\n"
        "reserved_huge_pages = node:0,size:2048,count:64\nreserved_huge_pages = node:1,size:2048,count:64\n"
        '\n[pci]\ndevice_spec = {"address": "0000:10:00.0", "physical_network": "physnet1", "trusted": "true"}\n'
        'device_spec = {"address": "0000:10:00.1"}\n'
    )


@pytest.mark.field_failure(17)
def test_row_17_where_the_drop_in_is_read_last_it_replaces_a_foreign_value_and_says_so(bench: Bench) -> None:
    case, scratch = bench("nova_conf")

    assert refusals(case, scratch) == []
    assert remarks(case, scratch) == [
        f"nova_conf: [DEFAULT] reserved_host_memory_mb: /etc/nova/nova.conf says 512, which {RDO_NOVA} replaces"
    ]


@pytest.mark.field_failure(17)
def test_row_17_on_debian_nova_conf_is_read_after_the_drop_in_and_is_named_where_it_wins(bench: Bench) -> None:
    case, scratch = bare(bench, "nova_conf", DEBIAN_NOVA)

    (refusal,) = refusals(case, scratch)

    assert "[DEFAULT] reserved_host_memory_mb: /etc/nova/nova.conf says 512, and nova-compute reads it after" in refusal
    assert "take it out of /etc/nova/nova.conf" in refusal
    with pytest.raises(PreconditionError):
        run(case, scratch)


def test_on_debian_all_is_well_once_nova_conf_says_nothing_of_it(bench: Bench) -> None:
    case, scratch = bare(bench, "nova_conf", DEBIAN_NOVA)
    scratch.put("/etc/nova/nova.conf", "[DEFAULT]\ntransport_url = rabbit://controller\n")

    run(case, scratch)

    assert drifts(case, scratch) == ()


def test_the_directory_that_an_administrator_gave_debians_service_is_taken_and_wins(bench: Bench) -> None:
    case, scratch = bare(bench, "nova_conf", DEBIAN_NOVA)
    scratch.put("/etc/nova/local.d/", "")
    scratch.put("/etc/default/nova-compute", 'DAEMON_ARGS="$DAEMON_ARGS --config-dir=/etc/nova/local.d"\n')

    run(case, scratch)

    assert drifts(case, scratch) == ()
    assert (scratch.tree / "etc/nova/local.d/zz-nfvhost.conf").exists()


@pytest.mark.parametrize(
    ("files", "own"),
    [
        ({}, "/etc/neutron/neutron-openvswitch-agent.conf.d/zz-nfvhost.conf"),
        ({"/etc/neutron/agent.conf.d/": ""}, "/etc/neutron/agent.conf.d/zz-nfvhost.conf"),
    ],
)
def test_debians_agent_reads_its_own_directory_where_there_is_one(
    bench: Bench, files: dict[str, str], own: str
) -> None:
    case, scratch = bare(bench, "neutron_conf", DEBIAN_NEUTRON | files)
    scratch.put("/etc/neutron/plugins/ml2/openvswitch_agent.ini", "[agent]\n")

    run(case, scratch)

    assert (scratch.tree / own.strip("/")).exists()
    assert drifts(case, scratch) == ()


def test_the_mappings_of_others_stay_in_the_one_value_that_holds_them_all(bench: Bench) -> None:
    case, scratch = bench("neutron_conf")

    run(case, scratch)

    assert "bridge_mappings = physnet1:br-phy,provider:br-ex\n" in scratch.read(RDO_NEUTRON)


def test_what_a_running_service_was_started_with_counts_for_more_than_its_unit(bench: Bench) -> None:
    case, scratch = bench("nova_conf")
    argv = (
        "/usr/bin/python3\0/usr/bin/nova-compute\0--config-dir\0/etc/nova/here.d\0--config-file\0/etc/nova/nova.conf\0"
    )
    scratch.put("/proc/77/comm", "nova-compute\n")
    scratch.put("/proc/77/cmdline", argv)
    scratch.put("/etc/nova/here.d/", "")

    (refusal,) = refusals(case, scratch)

    assert "reads it after /etc/nova/here.d/zz-nfvhost.conf" in refusal


def test_a_service_in_a_container_is_left_to_its_deployer(bench: Bench) -> None:
    case, scratch = bench("nova_conf-running")
    for pid, namespace in (("812", "4026532001"), ("self", "4026531841")):
        folder = scratch.tree / "proc" / pid / "ns"
        folder.mkdir(parents=True)
        (folder / "mnt").symlink_to(f"mnt:[{namespace}]")

    assert any("runs in a container, with files of its own" in one for one in refusals(case, scratch))


def test_a_file_that_oslo_refuses_is_named_by_line(bench: Bench) -> None:
    case, scratch = bench("nova_conf")
    scratch.put("/etc/nova/nova.conf.d/a.conf", "[DEFAULT]\nno assignment\n")

    (refusal,) = refusals(case, scratch)

    assert "/etc/nova/nova.conf.d/a.conf: oslo.config refuses it: line 2" in refusal


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[DEFAULT]\nvcpu_pin_set = 2-7\n", "[DEFAULT] vcpu_pin_set"),
        ('[pci]\ndevice_spec = {"address": "0000:10:00.0", "trusted": "false"}\n', "[pci] device_spec 0000:10:00.0"),
        (
            "[DEFAULT]\nreserved_huge_pages = size:2048, node:1, count:1\n",
            "[DEFAULT] reserved_huge_pages node:1,size:2048",
        ),
    ],
)
def test_values_that_cannot_be_there_beside_ours_are_named(bench: Bench, text: str, key: str) -> None:
    case, scratch = bench("nova_conf")
    scratch.put("/etc/nova/nova.conf.d/a.conf", text)

    (refusal,) = refusals(case, scratch)

    assert refusal.startswith(f"nova_conf: {key}: /etc/nova/nova.conf.d/a.conf says ")


def test_a_value_that_wins_later_is_drift(bench: Bench) -> None:
    case, scratch = bench("nova_conf")
    run(case, scratch)
    scratch.put("/etc/nova/nova-compute.conf.d/zzz.conf", "[compute]\ncpu_dedicated_set = 1-7\n")

    (drift,) = drifts(case, scratch)

    assert (drift.key, drift.pending) == ("[compute] cpu_dedicated_set", None)
    assert "zzz.conf says 1-7" in (drift.actual or "")


def test_another_plan_changes_its_own_lines_and_one_without_nova_takes_the_file_away(bench: Bench) -> None:
    case, scratch = bench("nova_conf")
    before = scratch.snapshot()
    run(case, scratch)
    less = replace(case.plan, nova=replace(NOVA, pci_device_specs=(), reserved_huge_pages=()))

    keys = [change.key for change in differences(case, scratch, plan=less)]
    assert keys == [
        "[DEFAULT] reserved_huge_pages node:0,size:2048",
        "[DEFAULT] reserved_huge_pages node:1,size:2048",
        "[pci] device_spec 0000:10:00.0",
        "[pci] device_spec 0000:10:00.1",
    ]
    run(case, scratch, plan=less)
    assert drifts(case, scratch, plan=less) == ()
    run(case, scratch, plan=replace(case.plan, nova=None))

    assert {path for path in scratch.snapshot() if path not in before} == {"/etc/nova/nova-compute.conf.d"}


@pytest.mark.parametrize("directory", ["/run/x\n[DEFAULT]\nrootwrap_config = /tmp/evil", "$state_path", "/run/\x7f"])
def test_a_plan_from_a_stranger_cannot_set_what_nfvhost_does_not(bench: Bench, directory: str) -> None:
    case, scratch = bench("neutron_conf")
    strange = NeutronPlan(datapath_type="netdev", vhostuser_socket_dir=directory, bridge_mappings=())
    evil = replace(case, plan=replace(case.plan, neutron=strange))

    assert any("cannot be written to a file" in one for one in refusals(evil, scratch))
    state = case.resource.read(scratch.machine(), evil.plan)
    with pytest.raises(PreconditionError):
        case.resource.apply(scratch.machine(), state, case.resource.diff(state, evil.plan))
    assert scratch.kernel.calls == []


def test_no_secret_of_the_services_is_in_a_state(bench: Bench) -> None:
    case, scratch = bench("nova_conf")

    state = case.resource.read(scratch.machine(), case.plan)

    assert "secret" not in repr(state)
    assert NOVA_CONF.image(state, ()).weaker == ()


def test_options_are_read_as_oslo_reads_them() -> None:
    text = "a = 1\n b\n[Compute]\nc: 'x'\n# comment\nc = \"y\nd =\n"

    options, refusal = parse(text, "f")

    assert refusal is None
    assert [(one.section, one.name, one.value) for one in options] == [
        ("DEFAULT", "a", "1\nb"),
        ("compute", "c", "x"),
        ("compute", "c", '"y'),
        ("compute", "d", ""),
    ]


def test_a_plan_that_does_not_know_the_memory_leaves_novas_own_default(bench: Bench) -> None:
    case, scratch = bench("nova_conf")
    unknown = replace(case.plan, nova=replace(NOVA, reserved_host_memory_mib=None))

    run(case, scratch, plan=unknown)

    assert "reserved_host_memory_mb" not in scratch.read(RDO_NOVA)


@pytest.mark.parametrize("name", ["nova_conf", "neutron_conf"])
def test_without_a_wish_nobody_elses_file_is_read(bench: Bench, name: str) -> None:
    case, scratch = bench(name)
    scratch.put("/etc/nova/nova.conf", "no assignment\n")
    scratch.put("/etc/neutron/neutron.conf", "no assignment\n")

    state = case.resource.read(scratch.machine(), replace(case.plan, nova=None, neutron=None))

    assert (state.broken, state.weaker, state.stronger) == ((), (), ())
