"""A private OVS-DPDK in a network namespace of its own, for trying a plan with no risk."""

from nfvhost.sandbox.instance import DEFAULT_MEMORY_MIB, Sandbox, Status, down, restart_switch, status, up
from nfvhost.sandbox.probe import PmdCount, PortCount, ProbeResult, probe
from nfvhost.sandbox.wires import Wire

__all__ = [
    "DEFAULT_MEMORY_MIB",
    "PmdCount",
    "PortCount",
    "ProbeResult",
    "Sandbox",
    "Status",
    "Wire",
    "down",
    "probe",
    "restart_switch",
    "status",
    "up",
]
