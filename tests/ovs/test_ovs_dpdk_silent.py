"""What Open vSwitch takes in silence, only logs, or ends of: one clear error each, before anything is written."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from nfvhost.access.command import check
from nfvhost.access.ovsdb import Ovsdb, OvsdbError
from nfvhost.access.process import read_process
from nfvhost.errors import ApplyError, ExitCode, PreconditionError

if TYPE_CHECKING:
    from ovs_plans import OvsPlans

    from nfvhost.model.plan import Plan
    from tests.ovs.conftest import Bed


def refusal(bed: Bed, plan: Plan) -> str:
    """Why the plan is refused, with nothing written and the process alive."""
    before = bed.rows(), bed.transactions()
    with pytest.raises(PreconditionError) as caught:
        bed.apply(plan)
    assert caught.value.exit_code == ExitCode.UNSAFE
    assert (bed.rows(), bed.transactions()) == before
    assert read_process(bed.switch.sandbox.switch_pid) is not None
    return str(caught.value)


@pytest.mark.field_failure(12)
@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"pmd_cpu_mask": "0"}, "ovs.otherConfig.pmd-cpu-mask: 0 names no CPU: no queue would be polled"),
        ({"pmd_cpu_mask": "0x0"}, "names no CPU"),
        ({"pmd_cpu_mask": "0x80000000000"}, "names the CPUs 43, which are not online here"),
        ({"pmd_cpu_mask": "zz"}, "'zz' is no hexadecimal CPU mask"),
        ({"dpdk_lcore_mask": "0x80000000000"}, "names the CPUs 43, which are not online here: ovs-vswitchd would end"),
        ({"dpdk_socket_mem": "1048576"}, "asks 1048576 MiB of hugepages on node 0, where"),
        ({"dpdk_socket_mem": "0,0,0,0,0,0,64"}, "asks 64 MiB of NUMA node 6, which is not here"),
        ({"dpdk_socket_mem": "abc"}, "'abc' is no list of MiB per NUMA node; ovs-vswitchd would end"),
        ({"dpdk_extra": "--no-pci --no-such-option"}, "DPDK has no option --no-such-option; ovs-vswitchd would end"),
        ({"dpdk_extra": "--no-pic"}, "did you mean --no-pci?"),
        ({"dpdk_extra": "-l 61"}, "-l 61 names CPUs that are not online here"),
        ({"dpdk_extra": "--file-prefix='a"}, "cannot be split into words"),
        ({"dpdk_init": "yes"}, "'yes' does not switch DPDK on"),
        (
            {"pmd_cpu_msak": "0x1"},
            "has no key pmd-cpu-msak, and would ignore it in silence\n  hint: did you mean pmd-cpu",
        ),
        ({"dpdk_hugepage_dir": "/nosuch"}, "/nosuch is no hugetlbfs as ovs-vswitchd sees it"),
        ({"pmd_auto_lb": "yes"}, "'yes' is neither true nor false"),
        ({"pmd_auto_lb_load_threshold": "200"}, "'200' is no percentage"),
        ({"pmd_rxq_assign": "best"}, "'best' is no way to assign queues"),
        ({"n_handler_threads": "two"}, "'two' is no number"),
    ],
)
def test_a_setting_that_would_not_work_is_refused(idle: Bed, ovs: OvsPlans, keys: dict[str, str], words: str) -> None:
    assert words in refusal(idle, ovs.plan(**{**idle.keys, **keys}))


@pytest.mark.field_failure(29, 31)
@pytest.mark.parametrize(
    ("kind", "columns", "words"),
    [
        ("dpdk", {}, "options.dpdk-devargs: a port of DPDK needs a device"),
        ("dpdk", {"dpdk_devargs": "0000:01:00.0"}, "no network function is at 0000:01:00.0"),
        ("dpdk", {"dpdk_devargs": "net_af_packet0,iface=nosuch0"}, "ovs-vswitchd sees no network interface nosuch0"),
        ("dpdk", {"dpdk_devargs": "net_af_packet0"}, "net_af_packet0 needs a kernel interface"),
        ("dpdk", {"dpdk_devargs": "net_null7", "n_rxq": "abc"}, "options.n_rxq: 'abc' is no number of queues"),
        ("dpdk", {"dpdk_devargs": "net_null7", "n_rxq_desc": "1000"}, "'1000' is no number of descriptors"),
        ("dpdk", {"dpdk_devargs": "net_null7", "mtu": 9800}, "an MTU of 9800 is not possible"),
        ("dpdk", {"dpdk_devargs": "net_null7", "tag": 5000}, "VLAN 5000 is not possible"),
        (
            "dpdk",
            {"dpdk_devarg": "net_null7", "dpdk_devargs": "net_null7"},
            "knows no option dpdk-devarg of dpdk ports",
        ),
        (
            "dpdk",
            {"dpdk_devargs": "net_null7", "other_config": {"pmd-rxq-affinity": "0:77"}},
            "queue 0 shall be polled by core 77, which is no PMD core; nobody would poll it",
        ),
        (
            "dpdk",
            {"dpdk_devargs": "net_null7", "other_config": {"pmd-rxq-affinity": "all"}},
            "'all' is no list of queue:core",
        ),
        ("dpdkvhostuserclient", {}, "needs the path of its guest's socket"),
        ("dpdkvhostuserclient", {"vhost_server_path": "/nosuch/x.sock"}, "the directory /nosuch is not there"),
        ("dpdkvhostuserclient", {"vhost_server_path": "x.sock"}, "cannot be a socket's path"),
        ("afxdp", {}, "ovs-vswitchd sees no network interface one"),
        ("patch", {}, "a patch port needs its peer"),
        ("patch", {"peer": "nobody"}, "no port nobody is planned, or there"),
        ("vxlan", {"remote_ip": "10.0.0"}, "'10.0.0' is no address of an vxlan tunnel"),
        ("srv6", {"remote_ip": "192.0.2.1"}, "'192.0.2.1' is no address of an srv6 tunnel"),
        ("srv6", {"remote_ip": "fc00::1", "srv6_segs": "fc00::2,fc00::1"}, "the first segment is fc00::2"),
        (
            "srv6",
            {"remote_ip": "fc00::1", "srv6_segs": ",".join(f"fc00::{number}" for number in range(1, 8))},
            "7 segments: Open vSwitch has room for 1 to 6",
        ),
    ],
)
def test_a_port_that_would_not_work_is_refused(
    idle: Bed, ovs: OvsPlans, kind: str, columns: dict[str, str], words: str
) -> None:
    plan = ovs.plan(ovs.bridge("br0", ovs.port("one", kind, **columns)), **idle.keys)
    assert words in refusal(idle, plan)


def test_all_problems_are_told_at_once(idle: Bed, ovs: OvsPlans) -> None:
    bridge = ovs.bridge("br0", ovs.port("a", "dpdk"), ovs.port("b", "dpdkvhostuserclient"))

    text = refusal(idle, ovs.plan(bridge, **{**idle.keys, "pmd_cpu_mask": "0", "dpdk_init": "on"}))

    for words in ("names no CPU", "'on' does not switch DPDK on", "needs a device", "path of its guest's socket"):
        assert words in text


def test_a_device_that_two_ports_want_is_refused(idle: Bed, ovs: OvsPlans) -> None:
    bridge = ovs.bridge(
        "br0", ovs.port("a", "dpdk", dpdk_devargs="net_null0"), ovs.port("b", "dpdk", dpdk_devargs="net_null0,size=64")
    )
    assert "net_null0 is in use by ovs.bridges.br0.ports.a" in refusal(idle, ovs.plan(bridge, **idle.keys))


def test_a_device_that_a_port_of_others_has_is_refused(bed: Bed, ovs: OvsPlans) -> None:
    bed.apply(ovs.plan(**bed.keys))
    bed.switch.add_bridge("br-theirs")
    bed.switch.add_port("br-theirs", "p", "type=dpdk", "options:dpdk-devargs=net_null0,no-rx=1")
    plan = ovs.plan(ovs.bridge("br0", ovs.port("a", "dpdk", dpdk_devargs="net_null0")), **bed.keys)
    assert "net_null0 is in use by port br-theirs/p, which is not nfvhost's" in refusal(bed, plan)


def test_a_name_that_others_use_is_refused(bed: Bed, ovs: OvsPlans) -> None:
    bed.switch.add_bridge("br-theirs")
    bed.switch.vsctl("add-port", "br-theirs", "taken", "--", "set", "Interface", "taken", "type=internal")
    bridges = (
        ovs.bridge("br0", ovs.port("taken", "dpdk", dpdk_devargs="net_null0")),
        ovs.bridge("port0"),
        ovs.bridge("a-name-that-is-too-long"),
    )

    text = refusal(bed, ovs.plan(*bridges, **bed.keys))

    assert "bridge br-theirs has a port of this name that others made" in text
    assert "ovs.bridges.port0: a network interface of this name is there already" in text
    assert "'a-name-that-is-too-long' cannot name a bridge" in text


def test_a_kernel_bridge_that_others_use_is_not_turned_into_a_userspace_one(bed: Bed, ovs: OvsPlans) -> None:
    # There is no kernel data path here, and nobody to wait for.
    bed.switch.vsctl("--no-wait", "add-br", "br-ex", "--", "add-port", "br-ex", "eth7")
    text = refusal(bed, ovs.plan(ovs.bridge("br-ex"), **bed.keys))
    assert "is a bridge of the system data path that others made and use (eth7)" in text


@pytest.mark.field_failure(30)
@pytest.mark.parametrize(
    ("keys", "since", "words"),
    [
        ({"dpdk_probe_at_init": "true"}, (4, 0), "and dpdk-probe-at-init came with 4.0"),
        ({"pmd_sleep_max": "50"}, (3, 1), "and pmd-sleep-max came with 3.2"),
        ({"pmd_sleep_max": "50,{cpu}:0"}, (3, 3), "came with 3."),
    ],
)
def test_a_setting_is_refused_up_to_the_release_that_it_came_with(
    bed: Bed, ovs: OvsPlans, keys: dict[str, str], since: tuple[int, int], words: str
) -> None:
    plan = ovs.plan(**bed.keys, **{key: value.format(cpu=bed.cpu) for key, value in keys.items()})
    if bed.release < since:
        assert words in refusal(bed, plan)
    else:
        assert bed.apply(plan).results
        assert bed.drifts(plan) == ()


def test_ports_of_dpdk_without_dpdk_are_refused(idle: Bed, ovs: OvsPlans) -> None:
    plan = ovs.plan(ovs.bridge("br0", ovs.port("a", "dpdk", dpdk_devargs="net_null0")))
    assert "ports of DPDK are planned, and DPDK is not switched on" in refusal(idle, plan)


def test_a_build_without_dpdk_is_named_and_nothing_is_written(bed: Bed, ovs: OvsPlans) -> None:
    plain = "/usr/lib/openvswitch-switch/ovs-vswitchd"
    place = bed.switch.sandbox
    check(["ovs-appctl", "-t", place.unixctl, "exit", "--cleanup"], timeout_s=10)
    control = f"{place.run_dir}/ovs-vswitchd.plain.ctl"
    command = [plain, place.ovsdb, "-vconsole:off", f"--unixctl={control}", "--detach", "--no-chdir"]
    pidfile = f"--pidfile={place.run_dir}/plain.pid"
    check(["ip", "netns", "exec", place.netns, *command, pidfile], timeout_s=10)
    try:
        before = bed.rows()
        with pytest.raises(PreconditionError, match="is built without DPDK"):
            bed.apply(ovs.plan(**bed.keys))
        assert bed.rows() == before
    finally:
        check(["ovs-appctl", "-t", control, "exit"], timeout_s=10)


def test_a_misspelt_key_of_others_is_told_and_stays(bed: Bed, ovs: OvsPlans) -> None:
    bed.switch.vsctl("set", "Open_vSwitch", ".", "other_config:pmd-cpu-msk=0x1", "other_config:my-own-thing=1")

    report = bed.apply(ovs.plan(**bed.keys))

    (warning,) = report.warnings
    assert "other_config:pmd-cpu-msk" in warning
    assert "was pmd-cpu-mask meant?" in warning
    assert 'pmd-cpu-msk="0x1"' in bed.switch.vsctl("get", "Open_vSwitch", ".", "other_config")


def test_an_mtu_that_the_device_refuses_is_an_error_and_put_back(bed: Bed, ovs: OvsPlans) -> None:
    bed.apply(ovs.plan(**bed.keys))
    before = bed.rows()
    # The pool of packet buffers for this MTU does not fit into the memory of the sandbox.
    port = ovs.port("a", "dpdk", dpdk_devargs="net_af_packet0,iface=port0", mtu=9000)

    with pytest.raises(ApplyError) as caught:
        bed.apply(ovs.plan(ovs.bridge("br0", port), **bed.keys))

    assert caught.value.exit_code == ExitCode.ROLLED_BACK
    assert "port br0/a" in str(caught.value)
    assert bed.rows() == before


def test_a_stopped_ovs_vswitchd_is_named_before_anything_is_written(bed: Bed, ovs: OvsPlans) -> None:
    written = bed.transactions()
    with pytest.raises(PreconditionError, match="does not answer"):
        _while_stopped(bed, ovs.plan(**bed.keys))
    assert bed.transactions() == written


def _while_stopped(bed: Bed, plan: Plan) -> None:
    os.kill(bed.switch.sandbox.switch_pid, signal.SIGSTOP)
    try:
        bed.resource.read(bed.machine, plan)
    finally:
        os.kill(bed.switch.sandbox.switch_pid, signal.SIGCONT)


def test_an_ordinary_user_is_told_to_be_root(idle: Bed) -> None:
    address = idle.switch.sandbox.ovsdb
    # Loads all modules, which that user may not be allowed to read.
    with Ovsdb(address) as database:
        assert database.read().bridges == ()
    os.seteuid(65534)
    try:
        with pytest.raises(OvsdbError, match="no permission to open the database of Open vSwitch\n  hint: run as root"):
            Ovsdb(address)
    finally:
        os.seteuid(0)
