"""What a tunnel adds to each packet."""

from __future__ import annotations

from typing import Final

from nfvhost.model.profile import TunnelType

# RFC 8200: IPv6 40 byte; RFC 791: IPv4 20; RFC 8754: a segment routing header of 8 + 16 for each segment.
IPV6: Final = 40
IPV4: Final = 20
SRH: Final = 8
SEGMENT: Final = 16
# RFC 768 UDP 8, RFC 7348 VXLAN 8, RFC 8926 Geneve 8 without options, RFC 2890 GRE 4 and 4 for the key.
_UDP: Final = 8
_VXLAN: Final = 8
_GENEVE: Final = 8
_GRE: Final = 4
_GRE_KEY: Final = 4
# All but SRv6 carry Ethernet: its header takes 14 of what is left for the packet inside.
_ETHERNET: Final = 14


def overhead(kind: TunnelType, *, ipv6: bool, segments: int, key: bool) -> int:
    """Bytes between the IP packet outside and the one inside."""
    outer = IPV6 if ipv6 else IPV4
    match kind:
        case TunnelType.SRV6:
            return outer + SRH + SEGMENT * segments
        case TunnelType.VXLAN:
            return outer + _UDP + _VXLAN + _ETHERNET
        case TunnelType.GENEVE:
            return outer + _UDP + _GENEVE + _ETHERNET
        case TunnelType.GRE:
            return outer + _GRE + (_GRE_KEY if key else 0) + _ETHERNET
