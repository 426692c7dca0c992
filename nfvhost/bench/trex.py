"""Cisco's TRex as a generator, found where the user has it and driven by its own Python API."""

from __future__ import annotations

import glob
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from nfvhost.access import trex_client
from nfvhost.access.clock import since_boot_s
from nfvhost.access.dialogue import Dialogue
from nfvhost.access.root import DirectoryRoot
from nfvhost.bench.answering import Answering
from nfvhost.bench.builtin import is_pci
from nfvhost.bench.generator import Ends, Load
from nfvhost.errors import PreconditionError
from nfvhost.model.cpuset import CpuSet

# Where it is, if not in a folder of its own name below /opt, as its manual unpacks it ("/opt/trex/v3.08").
VARIABLE: Final = "NFVHOST_TREX"
_PLACES: Final = ("/opt/trex", "/opt/trex/*", "/opt/trex-core/scripts")
_ROOT: Final = DirectoryRoot("/")
_READY_S: Final = 90.0
_ALONE: Final = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "trex")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trex:
    """TRex in stateless mode: its server, started for the bench, and its client."""

    name: str = "trex"
    searches: bool = True

    @property
    def version(self) -> str:
        """The name of its folder's release: "TRex v3.08"."""
        folder = trex_folder()
        if folder is None:
            return "unknown"
        # Of its sources, one folder up.
        said = (_ROOT.read_line(f"{one}/VERSION") for one in (folder, os.path.dirname(folder)))
        return f"TRex {next(filter(None, said), f'of {folder}')}"

    def refusal(self, ends: Ends) -> str | None:
        """It has to be there; it drives NICs and interfaces of the kernel, and sends plain frames."""
        if trex_folder() is None:
            return f"TRex is not there: no {trex_client.SERVER} in {', '.join(_PLACES)} or ${VARIABLE}"
        if ends.guest is not None:
            return "it cannot be generator and guest at once"
        if ends.tunnelled:
            return "it sends plain frames alone"
        if ends.tx == ends.rx or not (ends.netdevs or all(map(is_pci, ends.devices))):
            return "it drives pairs of NICs and of the kernel's interfaces alone, no vhost-user ports"
        return None

    @contextmanager
    def attached(self, ends: Ends, load: Load, cpus: CpuSet) -> Iterator[Answering]:
        """All threads of its server run on the first of these CPUs; CommandError where it does not come up."""
        folder = trex_folder()
        if folder is None:
            raise PreconditionError(self.refusal(ends) or "TRex is not there", where="the generator trex")
        with tempfile.NamedTemporaryFile("w", prefix="trex-", suffix=".yaml") as config:
            config.write(platform_file(ends, cpu=min(cpus)))
            config.flush()
            argv = [
                # Its server takes orders from anyone who reaches the machine: NICs need no network of this one's.
                *(() if ends.netns else _ALONE),
                *(sys.executable, "-P", "-m", trex_client.__name__, folder, config.name),
                *(load.frames.argument, str(load.flows)),
                *(str(ends.devices.index(one)) for one in (ends.tx, ends.rx)),
                *(("addressed",) if ends.addressed else ()),
            ]
            with Dialogue(argv, netns=ends.netns) as dialogue:
                yield Answering(dialogue, ready_s=_READY_S)


def trex_folder() -> str | None:
    """The folder with TRex's server; None where there is none."""
    named = os.environ.get(VARIABLE)
    places = [named] if named else [path for place in _PLACES for path in sorted(glob.glob(place), reverse=True)]
    return next(
        (os.path.abspath(place) for place in places if os.path.exists(os.path.join(place, trex_client.SERVER))), None
    )


def platform_file(ends: Ends, *, cpu: int) -> str:
    """TRex's platform file (its manual, "Platform YAML configuration"): YAML, and so JSON."""
    devices = [f"--vdev={one}" if ends.netdevs else one for one in ends.devices]
    near_far = trex_client.ADDRESSES
    platform = {
        "version": 2,
        "port_limit": len(devices),
        "interfaces": devices,
        # With addresses of layer 2 it asks nobody for them; the frames have their own.
        "port_info": [{"src_mac": one, "dest_mac": other} for one, other in (near_far, near_far[::-1])],
        "low_end": True,
        "low_end_core": cpu,
        "prefix": f"nfvhost-bench-{since_boot_s():.6f}",
    }
    return json.dumps([platform])
