"""Keys and options that another release reads, and this one does not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nfvhost.doctor.evidence import Evidence, interfaces
from nfvhost.doctor.finding import KEYS, Rule, Severity, Sign, need
from nfvhost.model.ovs_keys import INTERFACE_OPTIONS, option_known, release
from nfvhost.resources.ovs_dpdk.keys import translate

# 3.2 and later still read it (lib/dpif-netdev.c, get_pmd_max_sleep), they only do not document it.
_STILL_READ: Final = frozenset({"pmd-maxsleep"})


def _look(evidence: Evidence) -> Iterator[Sign]:
    settings = need(evidence.other_config, KEYS)
    text = need(evidence.ovs_version, "the version of Open vSwitch is not to be seen")
    for key, value in settings:
        found = translate(key, value, text)
        if found.refusal is not None:
            yield Sign(evidence=f"other_config:{key}={value}: {found.refusal}")
        elif found.key != key and key not in _STILL_READ:
            yield Sign(evidence=f"other_config:{key}={value}: Open vSwitch {text} calls it {found.key}")
    version = release(text)
    for bridge, interface in interfaces(evidence.database) if evidence.database is not None and version else ():
        for option, _ in interface.options:
            elsewhere = option in INTERFACE_OPTIONS.get(interface.type, frozenset())
            if elsewhere and version is not None and not option_known(interface.type, option, version):
                yield Sign(evidence=f"port {bridge}/{interface.name}: Open vSwitch {text} has no option {option}")


RULE: Final = Rule(
    name="ovs-key-of-another-release",
    severity=Severity.WARNING,
    sees="a key or an option that this release of Open vSwitch does not read",
    why="Open vSwitch keeps any key and ignores those that it does not know, without a word",
    hint="take the name that this release has, or another release",
    look=_look,
)
