"""VNFs on a real Nova: what runs is what the plan promised, and what cannot run says why and leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cloud_conf
import cloud_guest
import pytest
from cloud import nfvhost, wait_until
from cloud_guest import Shell, boot_line
from cloud_lab import Lab
from debian import run

from nfvhost.planfile import load_plan

Left = Callable[[], list[str]]


def server_id(lab: Lab, name: str) -> str:
    (found,) = (one.id for one in lab.api.compute.servers() if one.name == name)
    return str(found)


def test_placement_has_what_the_plan_says(lab: Lab) -> None:
    nova = load_plan(str(lab.plan)).nova
    assert nova is not None
    stock = lab.stock()
    guest_mib = sum(node.guest_mib for node in load_plan(str(lab.plan)).memory.nodes)
    assert stock["PCPU"] == len(nova.cpu_dedicated_set)
    assert stock["VCPU"] == len(nova.cpu_shared_set)
    assert abs(stock["MEMORY_MB"] - guest_mib) <= 1


def test_nova_leaves_the_pages_of_the_switch_alone(lab: Lab) -> None:
    plan = load_plan(str(lab.plan))
    assert plan.nova is not None
    topology = json.loads(lab.cloud.query("nova", "SELECT numa_topology FROM compute_nodes WHERE host = 'cloud'"))
    (cell,) = topology["nova_object.data"]["cells"]
    pages = [one["nova_object.data"] for one in cell["nova_object.data"]["mempages"]]
    (large,) = (one for one in pages if one["size_kb"] == 2048)
    (reserved,) = plan.nova.reserved_huge_pages
    assert large["reserved"] == reserved.count
    assert large["total"] == plan.memory.nodes[0].pages[0].count


def test_a_pinned_guest_boots_to_its_shell_with_what_was_promised(lab: Lab, tmp_path: Path, clean: Left) -> None:
    document = lab.document(tmp_path, "router")
    router = lab.launch(document)["router"]
    assert router["outcome"] == "made"
    assert {one["subject"]: one["agrees"] for one in router["checks"]} == {
        "vCPUs": True,
        "emulator threads": True,
        "memory": True,
        "port core": True,
    }
    assert "GUEST-UP cpus=1 nics=1" in boot_line(lab.api, router["id"])
    with Shell(router["id"]) as shell:
        assert "eth0" in shell.run("ip link show eth0")
    assert lab.launch(document)["router"]["outcome"] == "unchanged"
    assert "router" in nfvhost("servers").stdout
    nfvhost("destroy", "router")
    assert clean() == []


def test_two_guests_exchange_packets_through_the_switch(lab: Lab, tmp_path: Path, clean: Left) -> None:
    # Floating ones: of two CPUs one alone is dedicated.
    document = lab.document(tmp_path, "peer", cpuPolicy="shared", count=2)
    servers = lab.launch(document)
    for one in servers.values():
        boot_line(lab.api, one["id"])
    shells = [Shell(one["id"]) for one in servers.values()]
    for at, shell in enumerate(shells):
        shell.run(f"ip addr add 10.9.0.{at + 1}/24 dev eth0")
    assert " 0% packet loss" in shells[0].run("ping -c 5 -w 30 10.9.0.2")
    # A port of somebody else keeps the network that nfvhost has made.
    (network,) = lab.api.network.networks(name="nfvhost-physnet1-101")
    theirs = lab.api.network.create_port(network_id=network.id, name="theirs")
    nfvhost("destroy", document)
    assert clean() == ["network nfvhost-physnet1-101", "port theirs"]
    lab.api.network.delete_port(theirs)
    assert "removed network nfvhost-physnet1-101" in nfvhost("destroy", "peer").stderr
    assert "nothing of nfvhost's was there" in nfvhost("destroy", "peer").stderr
    assert clean() == []


def test_a_mixed_guest_pins_some_of_its_vcpus(lab: Lab, tmp_path: Path, clean: Left) -> None:
    document = lab.document(tmp_path, "mixed", vcpus=2, cpuPolicy="mixed", pinnedVcpus="1")
    checks = {one["subject"]: one for one in lab.launch(document)["mixed"]["checks"]}
    assert checks["vCPUs"]["agrees"]
    assert checks["vCPUs"]["real"].startswith("1 on CPU 1")
    assert clean()


def test_queues_that_nova_gives_to_guests_of_kvm_alone_are_told_to_be_missing(
    lab: Lab, tmp_path: Path, clean: Left
) -> None:
    ports = [{"name": "core", "physnet": "physnet1", "vlan": 101, "queues": 2}]
    document = lab.document(tmp_path, "wide", vcpus=2, cpuPolicy="mixed", pinnedVcpus="1", ports=ports)
    # Guests are emulated here, and Nova leaves their queues out without a word.
    checks = {one["subject"]: one for one in lab.launch(document, code=10)["wide"]["checks"]}
    assert [subject for subject, one in checks.items() if not one["agrees"]] == ["port core"]
    assert "1 queue: Nova gives several to guests of KVM alone" in checks["port core"]["real"]
    assert clean()


@pytest.fixture
def kvm(lab: Lab) -> Iterator[None]:
    """Guests of KVM, for one test."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("there is no /dev/kvm here")

    def begin_anew() -> None:
        lab.cloud.stop("nova-compute")
        before = lab.cloud.reports("nova-compute")
        lab.cloud.start("nova-compute")
        wait_until(lambda: lab.cloud.reports("nova-compute") > before, "nova-compute")

    settings = Path("/etc/nova/compute/20-kvm.conf")
    settings.write_text("[libvirt]\nvirt_type = kvm\n")
    begin_anew()
    yield
    settings.unlink()
    begin_anew()


def test_a_guest_of_kvm_has_its_queues(lab: Lab, tmp_path: Path, clean: Left, kvm: None) -> None:
    del kvm
    ports = [{"name": "core", "physnet": "physnet1", "vlan": 101, "queues": 2}]
    # It stays in its firmware: KVM of a virtual machine seldom gets a kernel up.
    image = {"name": "nothing", "file": str(cloud_guest.disk())}
    document = lab.document(tmp_path, "wide", vcpus=2, cpuPolicy="mixed", pinnedVcpus="1", ports=ports, image=image)
    wide = lab.launch(document)["wide"]
    checks = {one["subject"]: one for one in wide["checks"]}
    assert checks["port core"]["agrees"]
    assert "2 queues" in checks["port core"]["real"]
    assert clean()


def test_a_guest_that_cannot_fit_is_refused_before_anything_is_asked(lab: Lab, tmp_path: Path, clean: Left) -> None:
    document = lab.document(tmp_path, "giant", vcpus=4)
    refused = nfvhost("launch", document, "--plan", str(lab.plan), "--cloud", "no-such-cloud", code=3)
    assert "giant: does not fit: PCPU: 4 needed, 1 there, 3 short" in refused.stderr
    assert clean() == []


def test_forced_it_fails_with_what_placement_is_short_of(lab: Lab, tmp_path: Path, clean: Left) -> None:
    failed = nfvhost("launch", lab.document(tmp_path, "giant", vcpus=4), code=6)
    assert "No valid host was found" in failed.stderr
    # Nova's service is called `cloud`, and Placement calls the host as libvirt does.
    assert f"Placement: PCPU is short on {socket.gethostname()}: 4 asked for, 1 free (0 of 1 used)" in failed.stderr
    assert clean() == []


def test_pages_that_are_not_there_are_the_filters_to_refuse(lab: Lab, tmp_path: Path, clean: Left) -> None:
    failed = nfvhost("launch", lab.document(tmp_path, "vast", pageSize="1G", memoryMiB=1024), code=6)
    assert "a filter of Nova's scheduler refuses them" in failed.stderr
    assert "NUMATopologyFilter" in failed.stderr
    assert clean() == []


@pytest.mark.parametrize("kind", ["sriov", "vdpa"])
def test_a_port_without_hardware_fails_and_leaves_nothing(lab: Lab, tmp_path: Path, clean: Left, kind: str) -> None:
    ports = [{"name": "fast", "type": kind, "physnet": "physnet2", "vlan": 201}]
    failed = nfvhost("launch", lab.document(tmp_path, "card", ports=ports), code=6)
    assert f"PciPassthroughFilter: no host offers a function for {kind} on physnet2" in failed.stderr
    assert clean() == []


def test_a_killed_launch_is_taken_up_by_the_next(lab: Lab, tmp_path: Path, clean: Left) -> None:
    document = lab.document(tmp_path, "again")
    program = Path(sys.executable).with_name("nfvhost")
    with subprocess.Popen([program, "launch", document], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as first:
        wait_until(lambda: any(one.startswith("server") for one in lab.things()), "a server", timeout_s=60)
        os.kill(first.pid, signal.SIGKILL)
    time.sleep(0.5)
    assert lab.launch(document)["again"]["outcome"] in {"taken-up", "unchanged"}
    nfvhost("destroy", "again")
    assert clean() == []


def test_first_boot_group_and_bandwidth_reach_a_guest_and_no_secret_any_output(
    lab: Lab, tmp_path: Path, clean: Left
) -> None:
    document = lab.document(
        tmp_path,
        "quiet",
        cpuPolicy="shared",
        ports=[{"name": "core", "physnet": "physnet1", "vlan": 101, "maxMbps": 100}],
        cloudInit={"userData": "#cloud-config\npassword: of-the-guest\n"},
        serverGroup={"policy": "affinity"},
    )
    done = nfvhost("--debug", "launch", document, "--plan", str(lab.plan))
    server = server_id(lab, "quiet")
    drive = lab.cloud.state / f"instances/{server}/disk.config"
    assert str(drive) in run(["/usr/bin/virsh", "domblklist", server])
    assert b"of-the-guest" in drive.read_bytes()
    told = done.stdout + done.stderr + nfvhost("servers", "--json").stdout
    assert "of-the-guest" not in told
    assert cloud_conf.PASSWORD not in told
    (group,) = lab.api.compute.server_groups()
    assert (group.name, group.policy, group.member_ids) == ("nfvhost.quiet", "affinity", [server])
    (port,) = lab.api.network.ports(name="quiet-core")
    limits = [one.max_kbps for one in lab.api.network.qos_bandwidth_limit_rules(port.qos_policy_id)]
    assert limits == [100_000, 100_000]
    told = nfvhost("destroy", "quiet").stderr
    assert "removed server group nfvhost.quiet" in told
    assert "removed QoS policy quiet-core" in told
    assert clean() == []


def test_bandwidth_that_no_switch_has_is_told_with_its_numbers(lab: Lab, tmp_path: Path, clean: Left) -> None:
    # One that is there Neutron 29 would not bind here: it looks for a provider of the agent's `host`, `cloud`, and
    # Placement calls the host as libvirt does (ml2/drivers/mech_agent.py, responsible_for_ports_allocation).
    most = cloud_conf.BANDWIDTH_KBPS
    ports = [{"name": "core", "physnet": "physnet1", "vlan": 101, "minMbps": most // 1000 + 1}]
    failed = nfvhost("launch", lab.document(tmp_path, "greedy", ports=ports), code=6)
    switch = f"{socket.gethostname()}:Open vSwitch agent:br-phy"
    for way in ("EGR", "IGR"):
        short = f"Placement: NET_BW_{way}_KILOBIT_PER_SEC is short on {switch}: {most + 1000} asked for, {most} free"
        assert short in failed.stderr
    assert clean() == []


def test_servers_that_want_more_hosts_than_there_are_say_so(lab: Lab, tmp_path: Path, clean: Left) -> None:
    document = lab.document(tmp_path, "apart", cpuPolicy="shared", count=2, serverGroup={"policy": "anti-affinity"})
    failed = nfvhost("launch", document, code=6)
    assert "ServerGroupAntiAffinityFilter: 2 servers, at most 1 on a host, and 1 host has room" in failed.stderr
    assert clean() == []


def test_a_port_that_no_agent_can_bind_names_the_mapping_that_is_missing(lab: Lab, tmp_path: Path, clean: Left) -> None:
    document = lab.document(tmp_path, "lost", ports=[{"name": "far", "physnet": "physnet2", "vlan": 201}])
    failed = nfvhost("launch", document, code=6)
    assert "Nova failed to build it on cloud: nova-compute's log there says why" in failed.stderr
    assert "Neutron: no agent maps the physical network physnet2 to a bridge (bridge_mappings)" in failed.stderr
    assert clean() == []
