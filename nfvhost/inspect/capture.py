"""A machine's facts as a file: what an inspection reads, without what names the machine or its owner."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from nfvhost.access.archive import write_archive
from nfvhost.access.lenient import LenientRoot
from nfvhost.access.recording import RecordingRoot
from nfvhost.access.root import Root
from nfvhost.inspect import inspect_host
from nfvhost.inspect.live import PATH as LIVE_FACTS
from nfvhost.inspect.live import captured_facts
from nfvhost.model.host import Host, Netdev, Nic
from nfvhost.model.live import Conclusion, HardwareName, LiveFacts

# Documentation addresses, RFC 5737 and RFC 3849.
_ANY_IPV4: Final = "192.0.2.1"
_ANY_IPV6: Final = "2001:db8::1"
_NOTHING: Final = "-"
_MAC: Final = re.compile(r"(?i)(?<![0-9a-f])(?:[0-9a-f]{2}([:-]))(?:[0-9a-f]{2}\1){4,18}[0-9a-f]{2}(?![0-9a-f])")
_IPV4: Final = re.compile(r"(?<![\d.])(?!0\.|127\.|255\.)\d{1,3}(?:\.\d{1,3}){3}(?![\d.])")
_IPV6: Final = re.compile(r"(?i)(?<![0-9a-f:.])(?=:*[0-9a-f])(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}(?![0-9a-z:.])")
# An interface named by systemd after its MAC (systemd.net-naming-scheme(7)).
_MAC_NAME: Final = re.compile(r"(?<![0-9A-Za-z])(?:en|wl|ww|ib|sl)x([0-9a-f]{12})(?![0-9A-Za-z])")
# The id of a container or a sandbox: its short form is the container's host name.
_CONTAINER_ID: Final = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
# Arguments that name disks, which installers call after the host (Debian: /dev/mapper/<host>--vg-root).
_DISK_ARGUMENT: Final = re.compile(r"(?:root|resume|rd\.lvm\.\w+|rd\.luks[\w.]*|ip|BOOT_IMAGE|initrd)=.*")
_BUILDER: Final = re.compile(r"\(\S+@\S+\)")
# Arguments whose value names the machine, its network or a secret.
_PRIVATE_ARGUMENT: Final = re.compile(
    r"(?i)((?:rd\.)?iscsi[\w.]*|netroot|nfsroot|nfsaddrs|nameserver|systemd\.hostname|hostname|\w*\.?(?:password|passwd"
    r"|secret|token)\w*)=(.+)"
)
_NETWORK_ROOT: Final = re.compile(r"(root=(?:nfs4?|iscsi|nbd|cifs|fcoe)):.*")
# Documentation/admin-guide/nfs/nfsroot.rst: ip=<client>:<server>:<gateway>:<mask>:<host name>:<device>:<autoconf>
_IP_FIELDS: Final = 7
_IP_HOST_NAME: Final = 4
# Boot arguments that name a kernel, whose version may look like an address.
_KERNEL_FILE: Final = re.compile(r"(?:BOOT_IMAGE|initrd)=(?![a-z]+://).*")
# Arm's cpuinfo_op and s390's show_facilities print which one of its kind this machine is.
_SERIAL: Final = re.compile(r"(?m)(^(?:Serial|serial number)\s*:\s*|\bidentification = )(\w+)")
_CONTROL_GROUPS: Final = "/sys/fs/cgroup/"
# Of tables in /proc/<pid> the lines that say which CPUs and nodes are allowed; the rest is nobody's business.
_WANTED_LINES: Final = {
    "status": re.compile(r"(?m)^(?:Cpus_allowed|Mems_allowed)\w*:.*\n?"),
    "cgroup": re.compile(r"(?m)^(?:0::|\d+:(?:[^:\n]*,)?cpuset(?:,[^:\n]*)?:).*\n?"),
    "mounts": re.compile(r"(?m)^\S+ \S+ (?:cgroup2?|cpuset) .*\n?"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """What was written."""

    path: str
    files: int
    size: int  # bytes
    host: Host  # what an inspection of the capture finds, but for what was left out


def write_capture(root: Root, path: str, *, with_macs: bool = False) -> Captured:
    """Writes what an inspection of `root` reads as tar.xz; an inspection of it finds the same Host.

    Left out are serial numbers, host names, IP addresses and, unless `with_macs`, MAC addresses: what they prove, such
    as which NIC carries management, is stated in their place. PreconditionError where the file cannot be written.
    """
    host = inspect_host(root)
    facts = captured_facts(_concluded(host))
    recorded = RecordingRoot(root, {LIVE_FACTS: facts.encode()})
    replayed = inspect_host(recorded)
    private = _private_words(recorded, with_macs=with_macs)
    host_name = _host_name(root)
    files = dict.fromkeys(recorded.names, b"")
    for name, content in recorded.files.items():
        text = content.decode(errors="surrogateescape")
        stripped = _without_identity(name, text, host_name=host_name, with_macs=with_macs)
        files[name] = stripped.encode(errors="surrogateescape")
    for word, substitute in private.items():
        files = {name: content.replace(word.encode(), substitute.encode()) for name, content in files.items()}

    def renamed(name: str) -> str:
        for word, substitute in private.items():
            name = name.replace(word, substitute)
        return _without_host_name(name, host_name) if name.startswith(_CONTROL_GROUPS) else name

    files = {renamed(name): content for name, content in files.items()}
    size = write_archive(
        path,
        files,
        frozenset(map(renamed, recorded.directories)),
        {renamed(name): renamed(target) for name, target in recorded.links.items()},
    )
    return Captured(path=path, files=len(files), size=size, host=replayed)


def _concluded(host: Host) -> LiveFacts:
    """The live facts of a Host, with what was concluded from addresses and routes instead of them."""
    names = {
        (nic.vendor, nic.device): HardwareName(
            vendor=nic.vendor, device=nic.device, vendor_name=nic.vendor_name, device_name=nic.device_name
        )
        for nic in host.nics
        if nic.vendor_name is not None or nic.device_name is not None
    }
    return LiveFacts(
        architecture=host.model.architecture,
        container=host.container,
        ovs=host.ovs,
        vdpa_management_devices=host.vdpa.management_devices,
        hardware_names=tuple(names[key] for key in sorted(names)),
        management=tuple(_conclusions(host)),
    )


def _conclusions(host: Host) -> Iterator[Conclusion]:
    by_name: dict[str, Netdev] = {one.name: one for one in host.netdevs}
    for one in host.netdevs:
        if one.management is not None:
            yield Conclusion(subject=one.name, reason=one.management)
    for nic in host.nics:
        if nic.management is not None and not _is_explained(nic, host, by_name):
            yield Conclusion(subject=str(nic.pci), reason=nic.management)


def _is_explained(nic: Nic, host: Host, by_name: dict[str, Netdev]) -> bool:
    """Whether one of its interfaces or one of its VFs says why it carries management."""
    own = (by_name.get(name) for name in nic.netdevs)
    if any(one is not None and one.management is not None for one in own):
        return True
    return any(vf.physfn == nic.pci and vf.management is not None for vf in host.nics)


def _private_words(recorded: RecordingRoot, *, with_macs: bool) -> dict[str, str]:
    """Words that paths and contents hold, and what to write for them, the same everywhere."""
    found: dict[str, str] = {}
    texts = [*recorded.files, *recorded.links, *recorded.links.values(), *recorded.directories]
    texts.extend(content.decode(errors="replace") for name, content in recorded.files.items() if "cgroup" in name)
    for word in sorted({match for text in texts for match in _CONTAINER_ID.findall(text)}):
        found[word] = f"{len(found):064x}"
    if not with_macs:
        for mac in sorted({match for text in texts for match in _MAC_NAME.findall(text)}):
            found[mac] = f"{len(found):012x}"
    return found


def _host_name(root: Root) -> str | None:
    tree = LenientRoot(root)
    name = tree.read_line("/proc/sys/kernel/hostname") or tree.read_line("/etc/hostname")
    return name.partition(".")[0] if name is not None else None


def _without_identity(path: str, text: str, *, host_name: str | None, with_macs: bool) -> str:
    """The content of a file without what tells this machine from another of its kind."""
    if not with_macs:
        text = "" if path.endswith("/address") else _MAC.sub(_NOTHING, text)
    if path == "/proc/cmdline":
        return re.sub(r"\S+", lambda match: _argument(match[0], host_name), text)
    if path == "/proc/cpuinfo":
        return _SERIAL.sub(lambda match: match[1] + "0" * len(match[2]), text)
    if path == "/proc/version":
        return _BUILDER.sub("(-)", text)
    wanted = _WANTED_LINES.get(path.rpartition("/")[2]) if path.startswith("/proc/") else None
    return text if wanted is None else _without_host_name("".join(wanted.findall(text)), host_name)


def _without_host_name(text: str, host_name: str | None) -> str:
    """The text with `host` for the name of the machine, also where the device mapper doubled its dashes."""
    for name in sorted({host_name, host_name.replace("-", "--")}) if host_name else ():
        text = re.sub(rf"(?<![0-9A-Za-z]){re.escape(name)}(?![0-9A-Za-z])", "host", text)
    return text


def _argument(argument: str, host_name: str | None) -> str:
    """One kernel argument without addresses, names and secrets."""
    private = _PRIVATE_ARGUMENT.fullmatch(argument)
    if private is not None:
        return f"{private[1]}={_NOTHING}"
    remote = _NETWORK_ROOT.fullmatch(argument)
    if remote is not None:
        return f"{remote[1]}:{_NOTHING}"
    fields = argument.removeprefix("ip=").split(":")
    if argument.startswith("ip=") and len(fields) >= _IP_FIELDS:
        fields[_IP_HOST_NAME] = ""
        argument = "ip=" + ":".join(fields)
    if not _KERNEL_FILE.fullmatch(argument):
        argument = _IPV6.sub(_ANY_IPV6, _IPV4.sub(_ANY_IPV4, argument))
    return _without_host_name(argument, host_name) if _DISK_ARGUMENT.fullmatch(argument) else argument
