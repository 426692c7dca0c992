"""The flows of a switch on a scratch machine, kept in one file; a bundle is one call, done whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Final

from scratch import ScratchRoot

from nfvhost.access.switch_flows import SwitchFlow, SwitchFlows
from nfvhost.engine.stored import restored, stored
from nfvhost.errors import PreconditionError

# Not a file of any machine's: what ovs-vswitchd would keep in memory.
FLOWS: Final = "/flows.json"


def switch(*flows: SwitchFlow, ports: Iterable[tuple[str, str]]) -> SwitchFlows:
    """A switch with these ports, on each bridge its own one too, and these flows."""
    named = tuple(ports)
    own = {bridge: (bridge, bridge) for bridge, _ in named}
    return SwitchFlows(ports=(*own.values(), *named), flows=flows)


def flow(bridge: str, priority: int, match: str, actions: str, *, ours: bool = False) -> SwitchFlow:
    """A flow of someone else."""
    return SwitchFlow(
        bridge=bridge, priority=priority, match=tuple(sorted(match.split(","))), actions=actions, ours=ours
    )


def file_of(one: SwitchFlows) -> dict[str, str]:
    """The file that holds it, for a case."""
    ordered = replace(one, flows=tuple(sorted(one.flows, key=repr)))
    return {FLOWS: json.dumps(stored(ordered, SwitchFlows), indent=1)}


@dataclass(frozen=True)
class FlowKernel:
    """The door to it; each change is one call that the machine's kernel counts, refuses or does not live to see."""

    root: ScratchRoot

    def load(self) -> SwitchFlows | None:
        """All that is there; None where no switch runs."""
        text = self.root.read_text(FLOWS)
        if text is None:
            return None
        loaded: SwitchFlows = restored(json.loads(text), SwitchFlows)
        return loaded

    def save(self, one: SwitchFlows) -> None:
        """Nothing; somebody else made it so."""
        (self.root.directory / FLOWS.strip("/")).write_text(file_of(one)[FLOWS])

    def read(self, bridges: Collection[str], *, others: bool = True) -> SwitchFlows | None:
        now = self.load()
        if now is None:
            return None
        seen = (one for one in now.flows if one.bridge in bridges or (others and one.ours))
        return replace(now, flows=tuple(seen))

    def change(self, bridge: str, *, gone: Iterable[SwitchFlow], new: Iterable[SwitchFlow]) -> None:
        try:
            self.root.changing("flows", bridge)
        except OSError as error:
            raise PreconditionError(f"ovs-ofctl: {os.strerror(error.errno or 0)}", where=bridge) from error
        now = self.load()
        assert now is not None, "nobody writes where no switch runs"
        removed = [_place(one) for one in gone]
        made = {_place(one): one for one in new}
        # OFPFC_DELETE_STRICT, then OFPFC_ADD, which takes the place of any flow with the same match and priority.
        kept = [one for one in now.flows if _place(one) not in removed and _place(one) not in made]
        self.save(replace(now, flows=(*kept, *made.values())))


def _place(one: SwitchFlow) -> tuple[str, int, tuple[str, ...]]:
    return one.bridge, one.priority, one.match
