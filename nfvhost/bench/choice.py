"""Which generator: the one that was asked for, or the first that can serve."""

from __future__ import annotations

from typing import Final

from nfvhost.bench.builtin import BuiltIn
from nfvhost.bench.generator import Ends, Generator
from nfvhost.bench.packet_sockets import PacketSockets
from nfvhost.bench.testpmd import PmdProgram
from nfvhost.bench.trex import Trex
from nfvhost.errors import PreconditionError, UsageError

AUTO: Final = "auto"
# Those that keep a rate come first; the kernel's sockets are the last resort.
GENERATORS: Final[tuple[Generator, ...]] = (BuiltIn(), Trex(), PmdProgram(), PacketSockets())


def generator(name: str) -> Generator | None:
    """The generator of that name; None for `auto`; UsageError for a name that none has."""
    if name == AUTO:
        return None
    found = next((one for one in GENERATORS if one.name == name), None)
    if found is None:
        known = ", ".join(one.name for one in GENERATORS)
        raise UsageError(f"there is no generator {name!r}", where="--generator", hint=f"{AUTO}, {known}")
    return found


def chosen(asked: Generator | None, ends: Ends) -> Generator:
    """The generator for these ends; PreconditionError with the reason of each one that cannot serve them here."""
    if asked is not None:
        reason = asked.refusal(ends)
        if reason is not None:
            raise PreconditionError(reason, where=f"the generator {asked.name}")
        return asked
    reasons = {one.name: one.refusal(ends) for one in GENERATORS}
    found = next((one for one in GENERATORS if reasons[one.name] is None), None)
    if found is None:
        raise PreconditionError(
            "no generator can serve this path here: " + "; ".join(f"{one}: {why}" for one, why in reasons.items()),
            hint="apt-get install gcc pkg-config libdpdk-dev",
        )
    return found
