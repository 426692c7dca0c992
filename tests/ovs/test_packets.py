from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from nfvhost import sandbox
from nfvhost.access.process import read_threads
from nfvhost.model.cpuset import CpuSet
from nfvhost.sandbox import ProbeResult

if TYPE_CHECKING:
    from tests.ovs.conftest import NewSwitch, Switch

COUNT = 200


def pmd_threads(switch: Switch) -> dict[str, CpuSet]:
    """Where each poll-mode thread may run, by its name without OVS's serial number."""
    threads = read_threads(switch.sandbox.switch_pid)
    return {one.name.partition("/")[0]: one.cpus for one in threads if one.name.startswith("pmd-")}


def assert_counted(result: ProbeResult, ports: dict[str, int], cpu: int) -> None:
    """The switch's own counters agree; the wires' kernels may have said a word of their own (MLD reports, RFC 3810)."""
    counted = {one.port: one for one in result.ports}
    for name, count in ports.items():
        assert count <= counted[name].received <= count + 8, name
        assert count <= counted[name].sent <= count + 8, name
    (pmd,) = result.pmds
    assert pmd.cpu == cpu
    assert sum(ports.values()) <= pmd.received <= sum(ports.values()) + 8 * len(ports)


@pytest.mark.parametrize(
    "columns",
    [
        pytest.param("type=dpdk options:dpdk-devargs=net_af_packet{n},iface=port{n}", id="net_af_packet"),
        pytest.param("type=dpdk options:dpdk-devargs=net_af_xdp{n},iface=port{n}", id="net_af_xdp"),
        pytest.param("type=afxdp", id="afxdp"),
    ],
)
def test_each_packet_crosses_once_and_whole_by_the_poll_mode_thread(
    new_switch: NewSwitch, pmd_cpu: int, columns: str
) -> None:
    switch = new_switch()
    if columns == "type=afxdp" and "afxdp" not in switch.vsctl("get", "Open_vSwitch", ".", "iface_types"):
        pytest.skip("this Open vSwitch is built without AF_XDP ports of its own")
    switch.start_dpdk(pmd_cpu)
    switch.add_bridge("br0")
    names = []
    for number in range(2):
        # An AF_XDP port of OVS's own bears the name of its netdev.
        names.append(f"port{number}" if columns == "type=afxdp" else f"dpdk{number}")
        switch.add_port("br0", names[-1], *columns.format(n=number).split())

    result = sandbox.probe(switch.sandbox, count=COUNT)

    assert (result.sent, result.arrived, result.answered) == (COUNT, COUNT, COUNT)
    assert (result.damaged, result.repeated) == (0, 0)
    assert_counted(result, dict.fromkeys(names, COUNT), pmd_cpu)
    assert pmd_threads(switch) == {f"pmd-c{pmd_cpu:02d}": CpuSet([pmd_cpu])}
    assert result.passed


def test_packets_cross_by_vhost_user_and_a_virtio_user_peer(new_switch: NewSwitch, pmd_cpu: int) -> None:
    """port0 - bridge - vhost-user - virtio-user - a second switch - virtio-user - vhost-user - bridge - port1."""
    switch, peer = new_switch("s"), new_switch("p")
    sockets = [f"{switch.sandbox.run_dir}/vhost{number}.sock" for number in range(2)]
    switch.start_dpdk(pmd_cpu)
    for number, path in enumerate(sockets):
        switch.add_bridge(f"br{number}")
        devargs = f"net_af_packet{number},iface=port{number}"
        switch.add_port(f"br{number}", f"dpdk{number}", "type=dpdk", f"options:dpdk-devargs={devargs}")
        switch.add_port(
            f"br{number}", f"vhost{number}", "type=dpdkvhostuserclient", f"options:vhost-server-path={path}"
        )
    # The serving side waits for its client while the port is added: the clients are there first.
    # Each memory segment is a region to announce, and vhost-user has room for eight: one file for all.
    peer.start_dpdk(min(os.sched_getaffinity(0)), "--single-file-segments")
    peer.add_bridge("br0")
    for number, path in enumerate(sockets):
        devargs = f"net_virtio_user{number},path={path},server=1"
        peer.add_port("br0", f"virtio{number}", "type=dpdk", f"options:dpdk-devargs={devargs}")

    result = sandbox.probe(switch.sandbox, count=COUNT)

    assert (result.sent, result.arrived, result.answered) == (COUNT, COUNT, COUNT)
    assert_counted(result, dict.fromkeys(("dpdk0", "dpdk1", "vhost0", "vhost1"), COUNT), pmd_cpu)
    assert result.passed


def test_a_probe_without_a_path_says_that_nothing_was_sent(new_switch: NewSwitch, pmd_cpu: int) -> None:
    switch = new_switch()
    switch.start_dpdk(pmd_cpu)
    switch.add_bridge("br0")
    switch.add_port("br0", "dpdk0", "type=dpdk", "options:dpdk-devargs=net_af_packet0,iface=port0")

    result = sandbox.probe(switch.sandbox, count=5, timeout_s=1)

    assert (result.sent, result.answered, result.first_reply_s, result.passed) == (0, 0, None, False)
