"""One function given another driver, or its old one: by driver_override, unbind and bind, read back each time."""

from __future__ import annotations

import contextlib
from typing import Final

from nfvhost.access.clock import wait_for
from nfvhost.access.root import Root
from nfvhost.access.sysfs import linked_name
from nfvhost.access.vfio_holders import vfio_holders
from nfvhost.errors import ApplyError, NfvhostError, PreconditionError, Problem
from nfvhost.model.pci import PciAddress
from nfvhost.resources.driver_binding.state import DEVICES, DRIVERS
from nfvhost.resources.driver_binding.target import is_userspace

_PROBE: Final = "/sys/bus/pci/drivers_probe"


def bind_driver(root: Root, pci: PciAddress, driver: str, *, settle_s: float) -> None:
    """Nothing, once the function has that driver, and `driver_override` names it.

    The override comes first: no other driver can take the function meanwhile, and vfio-pci, which lists no ids, takes
    it at all, as does the driver of a VF whose PF has sriov_drivers_autoprobe 0 (drivers/pci/pci-driver.c,
    pci_match_device, pci_device_can_probe). `bind` tells why a probe fails, where `drivers_probe` does not
    (drivers/base/bus.c, bind_store). ApplyError where the kernel refuses, PreconditionError where a process holds it.
    """
    _demand_released(root, pci, settle_s=settle_s)
    _set_override(root, pci, driver)
    _unbind(root, pci, settle_s=settle_s)
    root.write_attribute(f"{DRIVERS}/{driver}/bind", str(pci))
    if not wait_for(lambda: _driver(root, pci) == driver, timeout_s=settle_s):
        raise ApplyError(
            f"the kernel took the bind to {driver}, and the driver is {_driver(root, pci) or 'none'} after it",
            where=f"{DEVICES}/{pci}/driver",
            hint="dmesg may say more",
        )


def put_driver_back(
    root: Root, pci: PciAddress, *, driver: str | None, override: str | None, settle_s: float
) -> tuple[Problem, ...]:
    """What keeps the function from its old driver and override; empty where both read so; writes nothing then.

    Where its old driver refuses, the function is offered to all, and then to the one that it had until now: any driver
    is better than none. Where it does not leave that one, it keeps its override as well.
    """
    found = (_driver(root, pci), _override(root, pci))
    problems: tuple[Problem, ...] = ()
    try:
        if driver is None:
            _demand_released(root, pci, settle_s=settle_s)
            _unbind(root, pci, settle_s=settle_s)
        elif found[0] != driver:
            bind_driver(root, pci, driver, settle_s=settle_s)
        _set_override(root, pci, override)
    except NfvhostError as error:
        problems = error.problems
    if problems and _driver(root, pci) is None and driver is not None:
        with contextlib.suppress(NfvhostError):
            _set_override(root, pci, override)
            root.write_attribute(_PROBE, str(pci))
            wait_for(lambda: _driver(root, pci), timeout_s=settle_s)
    if problems and _driver(root, pci) in {None, found[0]} and driver not in {None, found[0]} and found[0] is not None:
        with contextlib.suppress(NfvhostError):
            _set_override(root, pci, found[1])
            if _driver(root, pci) is None:
                root.write_attribute(f"{DRIVERS}/{found[0]}/bind", str(pci))
    return problems if (_driver(root, pci), _override(root, pci)) != (driver, override) else ()


def _driver(root: Root, pci: PciAddress) -> str | None:
    return linked_name(root, f"{DEVICES}/{pci}/driver")


def _override(root: Root, pci: PciAddress) -> str | None:
    text = root.read_line(f"{DEVICES}/{pci}/driver_override")
    return None if text == "(null)" else text


def _set_override(root: Root, pci: PciAddress, driver: str | None) -> None:
    if _override(root, pci) == driver:
        return
    # A newline alone clears it; an empty write does not reach the kernel (drivers/base/driver.c, driver_set_override).
    root.write_attribute(f"{DEVICES}/{pci}/driver_override", driver or "\n")


def _demand_released(root: Root, pci: PciAddress, *, settle_s: float) -> None:
    """Nothing, once no process holds the function; PreconditionError where one still does."""
    if not is_userspace(_driver(root, pci)):
        return
    wait_for(lambda: not vfio_holders(root, (pci,)), timeout_s=settle_s)
    holders = vfio_holders(root, (pci,)).get(pci)
    if holders:
        # The kernel would wait for them without an end (drivers/vfio/vfio_main.c, vfio_unregister_group_dev).
        raise PreconditionError(
            f"is held by {', '.join(holders)}", where=f"{DEVICES}/{pci}", hint="end that, or take the port from it"
        )


def _unbind(root: Root, pci: PciAddress, *, settle_s: float) -> None:
    """Nothing, once the function has no driver."""
    driver = _driver(root, pci)
    if driver is None:
        return
    root.write_attribute(f"{DRIVERS}/{driver}/unbind", str(pci))
    if not wait_for(lambda: _driver(root, pci) is None, timeout_s=settle_s):
        raise ApplyError(f"stays bound to {_driver(root, pci)}", where=f"{DEVICES}/{pci}/driver")
