"""Writes nfvhost/openstack/nova_extra_specs.py: what Nova's own validators let an extra spec of `hw` say.

Run it with a Python that has the package nova; format what it writes:
    PYTHON tools/nova_extra_specs.py > nfvhost/openstack/nova_extra_specs.py
    ruff format nfvhost/openstack/nova_extra_specs.py
"""

from __future__ import annotations

import importlib
import importlib.metadata
import re
from typing import Any

# The namespaces that nfvhost writes: those of hardware, and traits of its own.
WANTED = re.compile(r"hw:|trait\{group\}:CUSTOM_")
HEAD = '''"""Nova's validators of `hw` and of custom traits: a table that tools/nova_extra_specs.py writes."""

from __future__ import annotations

from typing import Final

from nfvhost.openstack.extra_spec import ExtraSpec

NOVA_VERSION: Final = "{version}"
EXTRA_SPECS: Final[tuple[ExtraSpec, ...]] = ('''


def rows(validators: Any) -> list[str]:  # noqa: ANN401 - Nova's module has no types
    """One line of Python for each validator, that nfvhost may need."""
    made = []
    for one in validators.VALIDATORS.values():
        if not WANTED.match(one.name):
            continue
        value = one.value
        found: dict[str, object] = {"name": one.name, "pattern": one.name_regex, "kind": value["type"].__name__}
        if value["type"] is str and "pattern" in value:
            found["value_pattern"] = value["pattern"]
        elif value["type"] is str and "enum" in value:
            found["choices"] = tuple(map(str, value["enum"]))
        if value["type"] is int:
            found |= {key: value[old] for key, old in (("least", "min"), ("most", "max")) if old in value}
        made.append(f"    ExtraSpec({', '.join(f'{key}={said!r}' for key, said in found.items())}),")
    return made


def main() -> None:
    """Print the module."""
    validators = importlib.import_module("nova.api.validation.extra_specs.validators")
    print(HEAD.format(version=importlib.metadata.version("nova")))
    print("\n".join(sorted(rows(validators))))
    print(")")


if __name__ == "__main__":
    main()
