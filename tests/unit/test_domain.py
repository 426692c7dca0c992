"""What libvirt says of a guest."""

from __future__ import annotations

from nfvhost.cli.tables import table
from nfvhost.model.cpuset import CpuSet
from nfvhost.openstack.domain import parse_domain

PINNED = """<domain type='qemu'>
  <memoryBacking><hugepages><page size='2048' unit='KiB' nodeset='0'/></hugepages></memoryBacking>
  <vcpu placement='static'>2</vcpu>
  <cputune>
    <vcpupin vcpu='0' cpuset='0'/>
    <vcpupin vcpu='1' cpuset='3'/>
    <emulatorpin cpuset='0,4'/>
  </cputune>
  <devices>
    <interface type='vhostuser'>
      <mac address='fa:16:3e:41:05:1b'/>
      <model type='virtio'/>
      <driver queues='2' rx_queue_size='512'/>
    </interface>
  </devices>
</domain>"""


def test_a_pinned_domain_tells_cpus_pages_and_ports() -> None:
    domain = parse_domain(PINNED)
    assert domain.kind == "qemu"
    assert domain.pinned == ((0, CpuSet([0])), (1, CpuSet([3])))
    assert domain.emulator == CpuSet([0, 4])
    assert domain.page_size_kib == 2048
    assert domain.interfaces == (("fa:16:3e:41:05:1b", "vhostuser"),)
    assert domain.queues == (("fa:16:3e:41:05:1b", 2),)


def test_a_floating_domain_has_no_pins_and_ordinary_pages() -> None:
    domain = parse_domain("<domain type='kvm'><vcpu>1</vcpu><devices/></domain>")
    assert domain.pinned == ()
    assert domain.emulator is None
    assert domain.page_size_kib is None


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert table([("a", "real"), ("longer", "x")], indent=2) == "  a       real\n  longer  x\n"
