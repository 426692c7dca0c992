"""What running processes and interrupts show: live only, since no capture has them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from nfvhost.access.root import Root
from nfvhost.doctor.evidence import Interrupt, Keeper, MemoryLock
from nfvhost.model.host import Host

Counts = Mapping[int, tuple[str, dict[int, int]]]  # interrupt -> its users, CPU -> how often

# include/uapi/linux/capability.h
_CAP_IPC_LOCK: Final = 14
_PINNING: Final = re.compile(r"/dev/(?:vfio/\w+|vhost-vdpa-\d+)")
_LIMIT: Final = re.compile(r"(?m)^Max locked memory\s+(\S+)")


def interrupt_counts(text: str) -> Counts:
    """How often each device's interrupt came in on each CPU; those of the kernel itself (LOC, NMI…) are left out.

    Source: /proc/interrupts, whose columns are the online CPUs.
    """
    lines = text.splitlines()
    cpus = [int(word.removeprefix("CPU")) for word in (lines[0].split() if lines else ()) if word[3:].isdecimal()]
    counts: dict[int, tuple[str, dict[int, int]]] = {}
    for line in lines[1:]:
        number, _, rest = line.strip().partition(":")
        words = rest.split()
        if number.isdecimal() and len(words) >= len(cpus) and all(map(str.isdecimal, words[: len(cpus)])):
            by_cpu = dict(zip(cpus, map(int, words[: len(cpus)]), strict=True))
            counts[int(number)] = (words[-1] if words[len(cpus) :] else "", by_cpu)
    return counts


def interrupts_between(before: Counts, after: Counts, *, watched_s: float) -> tuple[Interrupt, ...]:
    """Those that came in between two looks, in order of their number."""
    found = []
    for number, (name, counts) in sorted(after.items()):
        old = before.get(number, ("", {}))[1]
        new = tuple((cpu, more) for cpu, count in sorted(counts.items()) if (more := count - old.get(cpu, 0)) > 0)
        if new:
            found.append(Interrupt(number=number, name=name, counts=new, watched_s=watched_s))
    return tuple(found)


def memory_locks(root: Root) -> tuple[MemoryLock, ...]:
    """The processes that have a VFIO or vDPA device open, by pid.

    Source: /proc/<pid>/fd, limits, status (proc(5)).
    """
    return tuple(_memory_locks(root))


def _memory_locks(root: Root) -> Iterator[MemoryLock]:
    for pid in sorted(filter(str.isdecimal, root.list_dir("/proc")), key=int):
        folder = f"/proc/{pid}"
        links = (root.read_link(f"{folder}/fd/{name}") for name in root.list_dir(f"{folder}/fd"))
        devices = sorted({link for link in links if link is not None and _PINNING.fullmatch(link)} - {"/dev/vfio/vfio"})
        limit = _LIMIT.search(root.read_text(f"{folder}/limits") or "")
        if not devices or limit is None:
            continue
        status = dict(
            line.split(":", 1) for line in (root.read_text(f"{folder}/status") or "").splitlines() if ":" in line
        )
        yield MemoryLock(
            pid=int(pid),
            name=status.get("Name", "").strip(),
            devices=tuple(devices),
            limit_kib=int(limit[1]) // 1024 if limit[1].isdecimal() else None,
            exempt=bool(int(status.get("CapEff", "0").strip() or "0", 16) >> _CAP_IPC_LOCK & 1),
            memory_kib=sum(_kib(status.get(name, "")) for name in ("VmRSS", "HugetlbPages")),
        )


def _kib(text: str) -> int:
    words = text.split()
    return int(words[0]) if words and words[0].isdecimal() else 0


def keepers(root: Root, host: Host) -> tuple[Keeper, ...] | None:
    """The interfaces of VFs that a network manager has set up; None where none runs that would say so.

    Source: /run/NetworkManager/devices/<ifindex> (connection-uuid), /run/systemd/netif/links/<ifindex> (ADMIN_STATE).
    """
    manager, networkd = "/run/NetworkManager/devices", "/run/systemd/netif/links"
    if not root.exists(manager) and not root.exists(networkd):
        return None
    found: list[Keeper] = []
    for name in (name for nic in host.nics if nic.physfn is not None for name in nic.netdevs):
        index = root.read_count(f"/sys/class/net/{name}/ifindex")
        if "connection-uuid=" in (root.read_text(f"{manager}/{index}") or ""):
            found.append(Keeper(netdev=name, name="NetworkManager"))
        state = re.search(r"(?m)^ADMIN_STATE=(\w+)", root.read_text(f"{networkd}/{index}") or "")
        if state is not None and state[1] in {"configuring", "configured"}:
            found.append(Keeper(netdev=name, name="systemd-networkd"))
    return tuple(found)
