"""Flavors of many planned hosts: what fits all hosts of a group, and what fits only some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nfvhost.model.vnf import Vnf
from nfvhost.openstack.fit import capacity
from nfvhost.openstack.flavor import Flavor, guest_of
from nfvhost.openstack.flavors import Offer, group_trait, useful_offers, vnf_offer
from nfvhost.openstack.nova_host import NovaHost
from nfvhost.openstack.shortage import Shortage, shortage


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeHost:
    """A planned host by the name that Nova knows it by; hosts of one profile are a group."""

    name: str
    group: str
    host: NovaHost


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How often a flavor fits a host; `short` says why not, where it does not."""

    host: str
    group: str
    count: int
    short: Shortage | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Hosts, those alike counted once: a thousand of ten kinds cost as ten do."""

    hosts: tuple[ComputeHost, ...]

    @property
    def groups(self) -> tuple[str, ...]:
        """The names of the groups, sorted."""
        return tuple(sorted({one.group for one in self.hosts}))

    def rooms(self, flavor: Flavor, *, most: int = 65536) -> tuple[Room, ...]:
        """How often the flavor fits each host that it may be on, at most `most` times, in the order of the hosts."""
        guest = guest_of(flavor)
        traits = {key.removeprefix("trait:") for key, _ in flavor.extra_specs if key.startswith("trait:")}
        hosts = [one for one in self.hosts if traits <= {group_trait(one.group)}]
        known: dict[NovaHost, tuple[int, Shortage | None]] = {}
        for one in hosts:
            if one.host not in known:
                count = capacity(one.host, guest, most=most)
                known[one.host] = (count, None if count else shortage(one.host, guest))
        return tuple(
            Room(host=one.name, group=one.group, count=known[one.host][0], short=known[one.host][1]) for one in hosts
        )

    def vnf_offers(self, vnfs: Sequence[Vnf]) -> tuple[Offer, ...]:
        """The VNFs' own flavors; with a group's trait where it fits all hosts of that group, and not all hosts."""
        return tuple(self._vnf_offer(vnf) for vnf in vnfs)

    def _vnf_offer(self, vnf: Vnf) -> Offer:
        plain = vnf_offer(vnf)
        if len(self.groups) == 1:
            return plain
        rooms = self.rooms(plain.flavor, most=1)
        if all(room.count for room in rooms):
            return plain
        whole = [group for group in self.groups if all(room.count for room in rooms if room.group == group)]
        return vnf_offer(vnf, group=whole[0]) if whole else plain

    def useful_offers(self) -> tuple[Offer, ...]:
        """Useful sizes of each group's hosts; of a single host without a group's trait."""
        found: dict[str, Offer] = {}
        for group in self.groups:
            for host in dict.fromkeys(one.host for one in self.hosts if one.group == group):
                for offer in useful_offers(host, group=group if len(self.hosts) > 1 else None):
                    found.setdefault(offer.flavor.name, offer)
        return tuple(found.values())
