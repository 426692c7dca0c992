"""Each captured machine's NICs against what lspci, lstopo and upstream's tests say of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from nfvhost.model.host import Host, Nic, node_cpus
from nfvhost.model.pci import PciAddress

if TYPE_CHECKING:
    from tests.conftest import Machine

# Attribute of a NIC in NAME.expect.json -> the same from Host.
ATTRIBUTES: Final[Mapping[str, Callable[[Host, Nic], object]]] = {
    "class": lambda _, nic: f"0x{nic.class_code[:4]}",
    "device": lambda _, nic: f"0x{nic.device}",
    "driver": lambda _, nic: nic.driver,
    "ifnames": lambda _, nic: list(nic.netdevs),
    "iommu_group": lambda _, nic: str(nic.iommu_group),
    "local_cpulist": lambda host, nic: str(node_cpus(host, nic.node)),
    "numa_node": lambda _, nic: -1 if nic.node is None else nic.node,
    "sriov_numvfs": lambda _, nic: nic.num_vfs,
    "sriov_totalvfs": lambda _, nic: nic.total_vfs,
    "vendor": lambda _, nic: f"0x{nic.vendor}",
}


def test_nics_are_those_of_the_oracles_but_for_the_known_disagreements(
    machine: Machine, disagreements: Mapping[str, Any]
) -> None:
    host = machine.host
    differing: dict[str, object] = {}
    for address, attributes in machine.expected["nics"].items():
        nic = host.nic(PciAddress.parse(address))
        if nic is None:
            differing[f"nics.{address}"] = None
            continue
        for attribute, oracle in attributes.items():
            ours = ATTRIBUTES[attribute](host, nic)
            if ours != oracle["value"]:
                differing[f"nics.{address}.{attribute}"] = ours

    assert differing == {fact: ours for fact, ours in disagreements.items() if fact.startswith("nics")}
