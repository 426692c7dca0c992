"""Whether Nova will take an extra spec: checked before Nova is asked, and with its own rules."""

from __future__ import annotations

import re
from typing import Final

from nfvhost.openstack.extra_spec import ExtraSpec
from nfvhost.openstack.nova_extra_specs import EXTRA_SPECS, NOVA_VERSION

# oslo_utils/strutils.py, TRUE_STRINGS and FALSE_STRINGS.
_BOOLEANS: Final = frozenset({"1", "t", "true", "on", "y", "yes", "0", "f", "false", "off", "n", "no"})
_NAMESPACES: Final = ("hw:", "trait:CUSTOM_")


def wrong_with(name: str, value: str) -> str | None:
    """What Nova will not like about this extra spec; None where it takes it, or leaves it to others to judge."""
    found = next((one for one in EXTRA_SPECS if re.fullmatch(one.pattern, name)), None)
    if found is None:
        if name.startswith(_NAMESPACES):
            return f"{name} is no extra spec of Nova {NOVA_VERSION}"
        return None
    expected = _expected(found, value)
    return None if expected is None else f"{name} is {value!r} where Nova {NOVA_VERSION} expects {expected}"


def _expected(spec: ExtraSpec, value: str) -> str | None:
    """What Nova expects instead of that value."""
    if spec.kind == "bool":
        return None if value.strip().lower() in _BOOLEANS else "true or false"
    if spec.kind == "int":
        return _expected_number(spec, value)
    if spec.value_pattern is not None:
        return None if re.fullmatch(spec.value_pattern, value) else f"something like {spec.value_pattern}"
    return None if not spec.choices or value in spec.choices else f"one of {', '.join(spec.choices)}"


def _expected_number(spec: ExtraSpec, value: str) -> str | None:
    try:
        number = int(value)
    except ValueError:
        return "a whole number"
    if spec.least is not None and number < spec.least:
        return f"{spec.least} or more"
    return f"at most {spec.most}" if spec.most is not None and number > spec.most else None
