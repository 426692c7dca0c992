"""What tells that something on a cloud is nfvhost's, and which VNF it belongs to.

Images carry tags, servers metadata, and what is Neutron's carries a description: tags come to it in a second call, and
who is killed before that leaves what nobody finds. Nothing without its mark is changed or deleted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

MARK: Final = "nfvhost"
_VNF: Final = "nfvhost-vnf="
# Nova's metadata, and Glance's properties.
VNF_KEY: Final = "nfvhost_vnf"
PRINT_KEY: Final = "nfvhost_document"


def tags(vnf: str) -> list[str]:
    """The tags of what is made for a VNF."""
    return [MARK, f"{_VNF}{vnf}"]


def is_marked(found: Sequence[str] | None) -> bool:
    """Whether these tags say that nfvhost made it."""
    return MARK in (found or ())


def description(vnf: str | None = None) -> str:
    """That of what is made; without a VNF: of what several of them share."""
    return MARK if vnf is None else f"{_VNF}{vnf}"


def is_described(text: str | None) -> bool:
    """Whether this description says that nfvhost made it for a VNF."""
    return (text or "").startswith(_VNF)


def vnf_of(metadata: Mapping[str, str] | None) -> str | None:
    """The VNF of a server by its metadata; None where nfvhost did not make it."""
    return (metadata or {}).get(VNF_KEY)
