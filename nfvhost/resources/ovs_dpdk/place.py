"""The key of a change, as text and as a place in the database.

other_config:pmd-cpu-mask                a key of the root row
bridge br-phy                            the bridge itself; its value is the datapath type
bridge br-phy fail_mode
port br-phy/dpdk0                        the port itself; its value is the interface's type
port br-phy/dpdk0 options:n_rxq
"""

from __future__ import annotations

from nfvhost.access.ovs_rows import Place

ROOT = Place()


def key_of(place: Place, setting: str | None) -> str:
    """The text for a place and a setting of it; None: the row itself."""
    if place.bridge is None:
        return setting or ""
    row = f"bridge {place.bridge}" if place.port is None else f"port {place.bridge}/{place.port}"
    return row if setting is None else f"{row} {setting}"


def parse_key(key: str) -> tuple[Place, str | None]:
    """The place and the setting of a text that `key_of` made; names hold neither blanks nor slashes."""
    kind, _, rest = key.partition(" ")
    if kind not in {"bridge", "port"}:
        return ROOT, key
    row, _, setting = rest.partition(" ")
    bridge, _, port = row.partition("/")
    return Place(bridge, port or None), setting or None


def is_about(path: str, key: str) -> bool:
    """Whether what is wrong at this path of a plan is in the way of that key.

    `ovs.bridges.br-phy.ports.dpdk0.options` is about port dpdk0 alone, `ovs.bridges.br-phy.failMode` about the bridge
    and all of its ports.
    """
    place, _ = parse_key(key)
    if place.bridge is None:
        return False
    bridge = f"ovs.bridges.{place.bridge}"
    rest = path.removeprefix(bridge) if path == bridge or path.startswith(f"{bridge}.") else None
    if rest is None:
        return False
    if not rest.startswith(".ports."):
        return True
    port = f".ports.{place.port}"
    return place.port is not None and (rest == port or rest.startswith(f"{port}."))
