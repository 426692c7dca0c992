"""Documents of captured machines: what is written is read again as it was, and holds the keys that others read."""

from __future__ import annotations

import json
import re
from typing import Protocol

from nfvhost.model.host import Host
from nfvhost.planfile import (
    default_profile,
    dump_plan,
    host_document,
    load_plan_text,
    plan_document,
    to_json,
)
from nfvhost.planner import make_plan


class Machine(Protocol):
    """A captured machine."""

    @property
    def host(self) -> Host: ...


def test_the_plan_of_each_machine_survives_its_file(machine: Machine) -> None:
    plan = make_plan(machine.host, default_profile())
    text = dump_plan(plan)
    assert load_plan_text(text, "plan.yaml") == plan
    assert dump_plan(load_plan_text(to_json(plan_document(plan)), "plan.json")) == text


def test_the_facts_of_each_machine_hold_the_keys_that_others_read(machine: Machine) -> None:
    document = json.loads(to_json(host_document(machine.host)))
    assert (document["apiVersion"], document["kind"]) == ("nfvhost/v1", "Host")
    for cpu in document["cpus"]:
        assert {"id", "online", "package", "node", "threadSiblings", "l3"} <= set(cpu)
        assert (cpu["threadSiblings"] is not None) == cpu["online"]
        assert cpu["l3"] != ""
    for node in document["nodes"]:
        assert {"id", "cpus", "memoryMiB"} <= set(node)
    for nic in document["nics"]:
        assert {"pci", "vendor", "device", "node", "driver", "totalVfs", "iommuGroup"} <= set(nic)
        assert re.fullmatch("[0-9a-f]{4}:[0-9a-f]{4}", f"{nic['vendor']}:{nic['device']}")
        assert -1 not in nic.values()
        assert "" not in nic.values()
