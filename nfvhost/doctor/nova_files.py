"""The CPU sets of nova-compute, from its files."""

from __future__ import annotations

import configparser
import re
from typing import Final

from nfvhost.access.root import Root
from nfvhost.doctor.evidence import NovaSettings
from nfvhost.model.cpuset import EMPTY, CpuSet

# oslo.config, find_config_files and --config-dir of the packages; kolla keeps a folder for each service.
_FILES: Final = ("/etc/nova/nova.conf", "/etc/nova/nova-cpu.conf", "/etc/nova/nova-compute.conf")
_FOLDERS: Final = ("/etc/nova/nova.conf.d", "/etc/nova/nova-compute.conf.d")
_KOLLA: Final = "/etc/kolla/nova-compute/nova.conf"
_DEDICATED: Final = (("compute", "cpu_dedicated_set"), ("DEFAULT", "vcpu_pin_set"))
_SHARED: Final = (("compute", "cpu_shared_set"),)
_PART: Final = re.compile(r"(\^)?\s*(\d+)\s*(?:-\s*(\d+))?")


def nova_settings(root: Root) -> NovaSettings | None:
    """The CPU sets that the last of its files says; None where no file sets one."""
    drop_ins = (f"{folder}/{name}" for folder in _FOLDERS for name in root.list_dir(folder) if name.endswith(".conf"))
    places = (_KOLLA,) if root.exists(_KOLLA) else (*_FILES, *drop_ins)
    found: NovaSettings | None = None
    for path in places:
        text = root.read_text(path)
        if text is None:
            continue
        options = _options(text)
        dedicated, shared = _first(options, _DEDICATED), _first(options, _SHARED)
        if dedicated is not None or shared is not None:
            found = NovaSettings(
                path=path,
                dedicated=dedicated if dedicated is not None or found is None else found.dedicated,
                shared=shared if shared is not None or found is None else found.shared,
            )
    return found


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


def _options(text: str) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False, allow_no_value=True, default_section="", delimiters=("=", ":"))
    try:
        parser.read_string(text)
    except configparser.Error:
        # What stands before the mistake counts.
        return parser
    return parser


def _first(options: configparser.RawConfigParser, names: tuple[tuple[str, str], ...]) -> CpuSet | None:
    texts = (options.get(section, option, fallback=None) for section, option in names)
    return next((cpus for text in texts if text and (cpus := cpu_spec(text)) is not None), None)
