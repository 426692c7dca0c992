"""Which Open vSwitch and which DPDK the plan is for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from nfvhost.model.host import Host
from nfvhost.model.ovs_keys import release
from nfvhost.model.profile import Profile

# The OVS of each distribution release, from their package indexes; of Red Hat's from the Fast Datapath channel and
# CentOS's NFV SIG, whose newest one is taken.
_PACKAGED: Final[dict[tuple[str, str], tuple[int, int]]] = {
    ("debian", "11"): (2, 15),
    ("debian", "12"): (3, 1),
    ("debian", "13"): (3, 5),
    ("debian", "14"): (4, 0),
    ("ubuntu", "20.04"): (2, 13),
    ("ubuntu", "22.04"): (2, 17),
    ("ubuntu", "24.04"): (3, 3),
    ("ubuntu", "26.04"): (3, 7),
    ("fedora", "40"): (3, 3),
    ("fedora", "41"): (3, 4),
    ("fedora", "42"): (3, 5),
    ("rhel", "8"): (3, 1),
    ("rhel", "9"): (3, 5),
    ("rhel", "10"): (3, 5),
}
_LIKE_RHEL: Final = frozenset({"centos", "rocky", "almalinux", "ol", "rhcos"})
# An LTS release: what it knows, all later ones know (Documentation/faq/releases.rst).
_CONSERVATIVE: Final = (2, 17)
# Documentation/faq/releases.rst: the DPDK that each OVS is built with.
_DPDK: Final[tuple[tuple[tuple[int, int], tuple[int, int]], ...]] = (
    ((4, 0), (25, 11)),
    ((3, 7), (25, 11)),
    ((3, 5), (24, 11)),
    ((3, 3), (23, 11)),
    ((3, 1), (22, 11)),
    ((2, 17), (21, 11)),
    ((2, 15), (20, 11)),
    ((2, 13), (19, 11)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Releases:
    """The releases that a plan is for, and how they are known."""

    ovs: tuple[int, int]
    dpdk: tuple[int, int]
    reason: str

    @property
    def ovs_text(self) -> str:
        """The release as OVS writes it: 3.1."""
        return ".".join(map(str, self.ovs))

    @property
    def dpdk_text(self) -> str:
        """The release as DPDK writes it: 22.11."""
        return f"{self.dpdk[0]}.{self.dpdk[1]:02d}"


def planned_releases(host: Host, profile: Profile) -> Releases:
    """The OVS that the profile names, else the installed one, else the distribution's, else a conservative one."""
    installed = release(host.ovs.version) if host.ovs is not None else None
    wished = release(profile.ovs.version) if profile.ovs.version is not None else None
    if wished is not None:
        ovs, reason = wished, f"the profile names {profile.ovs.version}"
    elif installed is not None and host.ovs is not None:
        ovs, reason = installed, f"{host.ovs.version} is installed"
    elif (packaged := _packaged(host)) is not None:
        ovs, reason = packaged, f"{_distribution(host)} ships it, and none is installed yet"
    else:
        ovs, reason = (
            _CONSERVATIVE,
            f"none is installed, {_distribution(host)}: an LTS release whose keys all later have",
        )
    dpdk = next((dpdk for first, dpdk in _DPDK if first <= ovs), _DPDK[-1][1])
    if ovs == installed and host.ovs is not None and host.ovs.dpdk_version is not None:
        dpdk = release(host.ovs.dpdk_version) or dpdk
    return Releases(ovs=ovs, dpdk=dpdk, reason=reason)


def _packaged(host: Host) -> tuple[int, int] | None:
    system = host.distribution
    if system is None or system.version_id is None:
        return None
    if system.id in _LIKE_RHEL or system.id == "rhel":
        return _PACKAGED.get(("rhel", system.version_id.partition(".")[0]))
    return _PACKAGED.get((system.id, system.version_id))


def _distribution(host: Host) -> str:
    if host.distribution is None:
        return "the distribution is not known"
    return host.distribution.name or " ".join(filter(None, (host.distribution.id, host.distribution.version_id)))
