"""The CPU sets of nova-compute, from its files."""

from __future__ import annotations

import re
from typing import Final

from nfvhost.access.root import Root
from nfvhost.doctor.evidence import NovaSettings
from nfvhost.model.cpuset import EMPTY, CpuSet
from nfvhost.resources.oslo.ini import Option, parse
from nfvhost.resources.oslo.service import Service, reading_of

_SERVICE: Final = Service(program="nova-compute", project="nova", units=("nova-compute", "openstack-nova-compute"))
# kolla-ansible keeps the file of its container there.
_KOLLA: Final = "/etc/kolla/nova-compute/nova.conf"
_DEDICATED: Final = (("compute", "cpu_dedicated_set"), ("DEFAULT", "vcpu_pin_set"))
_SHARED: Final = (("compute", "cpu_shared_set"),)
_PART: Final = re.compile(r"(\^)?\s*(\d{1,6})\s*(?:-\s*(\d{1,6}))?")


def nova_settings(root: Root) -> NovaSettings | None:
    """The CPU sets that its files together say; None where none sets one.

    Of a file that oslo.config would refuse, what stands before the mistake counts.
    """
    paths = (_KOLLA,) if root.exists(_KOLLA) else reading_of(root, _SERVICE).files
    options = [option for path in paths for option in parse(root.read_text(path) or "", path)[0]]
    dedicated, shared = _set(options, _DEDICATED), _set(options, _SHARED)
    places = [where for where, _ in filter(None, (dedicated, shared))]
    if not places:
        return None
    return NovaSettings(
        path=", ".join(dict.fromkeys(places)),
        dedicated=dedicated[1] if dedicated is not None else None,
        shared=shared[1] if shared is not None else None,
    )


def cpu_spec(text: str) -> CpuSet | None:
    """The CPUs of `4-12,^8,15`; None for what Nova would refuse. Source: nova/virt/hardware.py, parse_cpu_spec."""
    named, excluded = EMPTY, EMPTY
    for part in filter(None, map(str.strip, text.split(","))):
        match = _PART.fullmatch(part)
        if match is None:
            return None
        try:
            cpus = CpuSet.parse(f"{match[2]}-{match[3]}" if match[3] else match[2])
        except ValueError:
            return None
        if match[1]:
            excluded |= cpus
        else:
            named |= cpus
    return (named - excluded) or None


def _set(options: list[Option], names: tuple[tuple[str, str], ...]) -> tuple[str, CpuSet] | None:
    """The file and the CPUs of the first of these options that is set; of several values the last counts."""
    for name in names:
        values = [option for option in options if (option.section, option.name) == name and option.value.strip()]
        cpus = cpu_spec(values[-1].value) if values else None
        if cpus is not None:
            return values[-1].where, cpus
    return None
