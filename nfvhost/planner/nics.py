"""What each NIC is for, and why: one NicPlan for each."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from nfvhost.drivers import USERSPACE_DRIVERS, is_ethernet
from nfvhost.model.host import Host, Nic
from nfvhost.model.pci import PciAddress
from nfvhost.model.plan import NicPlan
from nfvhost.model.profile import NicWish, Profile, Role
from nfvhost.planner import vf_settings
from nfvhost.planner.abilities import (
    TAKING_ROLES,
    Card,
    Scene,
    ability,
    called,
    is_guest_without_iommu,
    look_at,
    not_ethernet,
    obstacle,
)
from nfvhost.planner.no_iommu import goes_without
from nfvhost.planner.notebook import Notebook, counted

# From this line rate on, a port is worth polling (nics without a wish).
_FAST_MBPS: Final = 10_000
# VFs per NIC where the profile names no number: enough for a handful of guests, and every SR-IOV card has them.
_DEFAULT_VFS: Final = 8
_SHOWN_NICS: Final = 6
_VFIO: Final = "vfio-pci"


def assign_roles(host: Host, profile: Profile, notes: Notebook) -> tuple[NicPlan, ...]:
    """One NicPlan for each NIC of the host, in the host's order, each with a reason of its own.

    The first entry of the profile's `nics` that matches a NIC decides; without entries the fastest idle ports that
    DPDK can drive are taken. A NIC that carries management is never touched.
    """
    vf_settings.check_wishes(profile, notes)
    scene = look_at(host, profile)
    plans: dict[PciAddress, NicPlan] = {}
    obstacles: dict[PciAddress, str] = {}
    for card in scene.cards:
        if card.nic.management is not None:
            plans[card.nic.pci] = _plan(card, Role.MANAGEMENT, f"never touched: {card.nic.management}")
    _keep_a_way_in(scene, plans, notes)
    for index in range(len(profile.nics)):
        _serve(scene, index, plans, obstacles, notes)
    if not profile.nics and not profile.ovs.no_pci:
        _choose(scene, plans, notes)
    for card in scene.cards:
        if card.nic.pci not in plans:
            plans[card.nic.pci] = _leave(scene, card, obstacles.get(card.nic.pci))
    _free_group_mates(scene, plans, notes)
    _note_iommu(scene, plans, notes)
    for nic in host.nics:
        notes.decide(f"nics.{nic.pci}", plans[nic.pci].role.value, plans[nic.pci].reason)
    made = tuple(plans[nic.pci] for nic in host.nics)
    vf_settings.check_cards(profile, made, notes)
    return made


def _serve(
    scene: Scene, index: int, plans: dict[PciAddress, NicPlan], obstacles: dict[PciAddress, str], notes: Notebook
) -> None:
    """Give the entry `nics[index]` the NICs that it asks for."""
    wish = scene.profile.nics[index]
    if wish.pci is not None or wish.netdev is not None:
        _serve_named(scene, index, plans, notes)
        return
    taken, why = 0, ""
    matching = [
        card
        for card in sorted(scene.cards, key=lambda card: card.rank)
        if card.nic.pci not in plans and _matches(wish, card)
    ]
    for card in matching:
        if wish.count is not None and taken >= wish.count:
            break
        role = wish.role or _best_role(scene, card)
        refusal = _spared(wish, card, role) or obstacle(scene, card, role, wanted_vfs=None)
        if refusal is not None:
            obstacles.setdefault(card.nic.pci, refusal)
            why = why or f" ({card.nic.pci}: {refusal})"
            continue
        plans[card.nic.pci] = _wished(scene, index, card, role, notes)
        taken += 1
    if taken < (1 if wish.count is None else wish.count):
        what = wish.role.value if wish.role is not None else "used"
        asked = "NICs" if wish.count is None else counted(wish.count, "NIC")
        found = f"{taken} of them" if taken else "none here"
        notes.warn(f"nics[{index}] of the profile asks for {asked} to be {what}, and {found} can be{why}")


def _serve_named(scene: Scene, index: int, plans: dict[PciAddress, NicPlan], notes: Notebook) -> None:
    """Give the entry `nics[index]` the one NIC that it names, or say why not."""
    wish = scene.profile.nics[index]
    key = "pci" if wish.pci is not None else "netdev"
    where = f"nics[{index}].{key}"
    card = next((card for card in scene.cards if _is_named(wish, card)), None)
    if card is None:
        notes.refuse(_missing(scene.host, wish), where=where, hint=_present(scene.host))
        return
    role = wish.role or (Role.MANAGEMENT if card.nic.management is not None else _best_role(scene, card))
    if card.nic.management is not None:
        if role in TAKING_ROLES or role is Role.UNUSED:
            notes.forbid(
                f"{called(card.nic)} carries management: {card.nic.management}; as {role.value} it would cut this "
                "host off",
                where=where,
                hint="choose another port, or move the address to another interface first",
            )
        return
    if (before := plans.get(card.nic.pci)) is not None:
        notes.refuse(
            f"{card.nic.pci} is already decided by nics[{before.wish}]",
            where=where,
            hint="name each NIC once; put this entry first where it shall win",
        )
        return
    if not _matches(wish, card):
        notes.refuse(
            f"{called(card.nic)} does not have the other properties that this entry asks for",
            where=where,
            hint="drop the driver, vendor or minSpeedMbps of the entry",
        )
        return
    refusal = obstacle(scene, card, role, wanted_vfs=wish.vfs, named=True)
    if refusal is not None:
        notes.refuse(f"{called(card.nic)} cannot be {role.value}: {refusal}", where=where, hint=_way_out(card, role))
        return
    if card.busy is not None and role in {Role.DPDK, Role.AFXDP, Role.UNUSED}:
        notes.warn(f"{card.nic.pci} is in use ({card.busy}): that ends when it becomes {role.value}")
    plans[card.nic.pci] = _wished(scene, index, card, role, notes)


def _is_named(wish: NicWish, card: Card) -> bool:
    return (wish.pci is None or wish.pci == card.nic.pci) and (wish.netdev is None or wish.netdev in card.nic.netdevs)


def _matches(wish: NicWish, card: Card) -> bool:
    """Whether all selectors of the entry fit the NIC; a function bound to vfio still counts as its kernel driver's."""
    drivers = {
        card.nic.driver,
        *(card.row.kernel if card.row and card.nic.driver in {None, *USERSPACE_DRIVERS} else ()),
    }
    return (
        _is_named(wish, card)
        and (wish.driver is None or wish.driver in drivers)
        and (wish.vendor is None or wish.vendor.lower().removeprefix("0x") == card.nic.vendor.lower())
        and (wish.min_speed_mbps is None or (card.speed_mbps or 0) >= wish.min_speed_mbps)
    )


def _spared(wish: NicWish, card: Card, role: Role) -> str | None:
    """Why an entry that names no single NIC leaves this one alone; None where it does not."""
    if card.nic.physfn is not None and wish.driver is None:
        return f"a VF of {card.nic.physfn}: left to what it was made for"
    if role in {Role.DPDK, Role.AFXDP, Role.UNUSED} and card.busy is not None:
        return f"in use: {card.busy}; name its address in the profile to take it all the same"
    return None


def _best_role(scene: Scene, card: Card) -> Role:
    for role in (Role.DPDK, Role.AFXDP):
        if obstacle(scene, card, role, wanted_vfs=None) is None:
            return role
    return Role.KERNEL if card.nic.netdevs else Role.UNUSED


def _wished(scene: Scene, index: int, card: Card, role: Role, notes: Notebook) -> NicPlan:
    wish = scene.profile.nics[index]
    asked = f"nics[{index}] of the profile asks for it" if wish.role is not None else f"the best for nics[{index}]"
    plan = _plan(card, role, f"{asked}; {ability(scene, card, role)}")
    if role in {Role.DPDK, Role.AFXDP}:
        plan = replace(plan, mtu=wish.mtu or scene.profile.ovs.mtu or 1500)
    if role in {Role.SRIOV, Role.VDPA}:
        plan = _with_vfs(card, plan, wish, index, notes)
    if role is Role.KERNEL:
        plan = _given_back(card, plan)
    unsafe = scene.profile.unsafe_no_iommu
    if role is Role.DPDK and is_guest_without_iommu(scene.host) and plan.driver == _VFIO and not unsafe:
        notes.warn(
            f"{card.nic.pci}: this virtual machine has no IOMMU, so vfio-pci works only with `unsafeNoIommu: true` in "
            "the profile (`enable_unsafe_noiommu_mode` of the module vfio), without any protection of memory; better "
            "give the guest a virtual IOMMU"
        )
    return replace(plan, wish=index, physnet=wish.physnet)


def _with_vfs(card: Card, plan: NicPlan, wish: NicWish, index: int, notes: Notebook) -> NicPlan:
    """The plan with its VFs: the asked number, else those that are there, else 8, never more than the card has."""
    nic = card.nic
    vdpa = plan.role is Role.VDPA
    if nic.physfn is not None:
        vf_settings.settings_of(card, wish, index, count=0, notes=notes)
        bound = card.row.vdpa_driver if vdpa and card.row is not None else None
        return replace(plan, driver=bound or plan.driver, vdpa_devices=1 if vdpa else None)
    total, present = nic.total_vfs or 0, nic.num_vfs or 0
    count = min(wish.vfs if wish.vfs is not None else present or _DEFAULT_VFS, total)
    if wish.vfs is not None and count < wish.vfs:
        notes.warn(f"{nic.pci}: nics[{index}] asks for {wish.vfs} VFs, the card has {total}: planned with {count}")
    if present and present != count:
        notes.warn(
            f"{nic.pci} has {present} VFs now and shall have {count}: the change goes through none at all, so no guest "
            "may hold one meanwhile"
        )
    settings = vf_settings.settings_of(card, wish, index, count=count, notes=notes)
    said = vf_settings.told(settings)
    reason = f"{plan.reason}; {count} of {total} VFs{f': {said}' if said else ''}"
    row = card.row
    if row is not None and row.vf_hint is not None:
        reason = f"{reason}; {row.vf_hint}"
    # libvirt binds a VF to vfio-pci when a guest starts and gives it back; a bifurcated PMD in the guest's stead and
    # vDPA of most vendors need the card's own driver to stay.
    vf_driver: str | None = _VFIO
    if row is not None and (vdpa or row.bifurcated):
        vf_driver = row.vdpa_driver if vdpa else None
    kernel = _kernel_driver(card)
    if kernel is not None:
        reason = f"{reason}; {kernel} is to be bound for that, {nic.driver or 'nothing'} is now"
    return replace(
        plan,
        reason=reason,
        driver=kernel,
        vfs=count,
        vf_driver=vf_driver,
        vdpa_devices=count if vdpa else None,
        vf_settings=settings,
    )


def _missing(host: Host, wish: NicWish) -> str:
    if wish.pci is None:
        return f"there is no NIC with the interface {wish.netdev} here"
    if any(wish.pci in group.devices for group in host.iommu.groups):
        return f"{wish.pci} is a PCI function of this machine, but not a NIC"
    if host.nic(wish.pci) is not None:
        return f"{wish.pci} has no interface {wish.netdev}"
    return f"there is no NIC at {wish.pci}"


def _present(host: Host) -> str:
    free = [nic for nic in host.nics if nic.management is None and nic.physfn is None]
    if not free:
        return "this machine has no NIC that could be used; see `nfvhost inspect`"
    shown = ", ".join(f"{nic.pci} ({'/'.join(nic.netdevs) or nic.driver or 'no driver'})" for nic in free[:_SHOWN_NICS])
    return f"there are {shown}{' and others' if len(free) > _SHOWN_NICS else ''}; see `nfvhost inspect`"


def _way_out(card: Card, role: Role) -> str:
    if role is Role.DPDK and card.nic.netdevs and is_ethernet(card.nic):
        return "ask for role: afxdp, which keeps the kernel driver, or choose another port"
    if role in {Role.SRIOV, Role.VDPA} and card.nic.total_vfs:
        return f"ask for at most {card.nic.total_vfs} VFs of a card that can do it"
    return "choose another port; `nfvhost inspect` lists them with what they can do"


def _choose(scene: Scene, plans: dict[PciAddress, NicPlan], notes: Notebook) -> None:
    """Take the idle ports of 10 Gbit/s or more, or else the fastest one, for DPDK; without any, one by AF_XDP."""
    able = [card for card in sorted(scene.cards, key=lambda card: card.rank) if _is_free(scene, card, Role.DPDK, plans)]
    linked = [card for card in able if card.link is not False]
    fast = [card for card in linked or able if (card.speed_mbps or 0) >= _FAST_MBPS]
    chosen = fast or (linked or able)[:1]
    why = "idle and at least 10 Gbit/s" if fast else "the fastest idle port that DPDK can drive"
    for number, card in enumerate(sorted(chosen, key=lambda card: card.nic.pci), start=1):
        plans[card.nic.pci] = replace(
            _plan(card, Role.DPDK, f"{why}; {ability(scene, card, Role.DPDK)}"),
            mtu=scene.profile.ovs.mtu or 1500,
            # Each port is a network of its own: two in one bridge are a loop where they end in the same switch.
            physnet=f"physnet{number}",
        )
        if card.link is False:
            notes.warn(f"{card.nic.pci} has no link: plug a cable in before traffic is expected")
        if card.nic.driver in USERSPACE_DRIVERS and not _is_of_ovs(scene.host, card.nic):
            notes.warn(
                f"{card.nic.pci} is bound to {card.nic.driver} already, and nothing shows for whom: make sure that no "
                "guest and no other program works with it"
            )
    for card in able:
        if card.nic.pci not in plans:
            plans[card.nic.pci] = _left_over(card, linked=card.link is not False or not linked, fast=bool(fast))
    if not chosen:
        _choose_afxdp(scene, plans, notes)


def _is_of_ovs(host: Host, nic: Nic) -> bool:
    """Whether the Open vSwitch of this machine is told of it already."""
    return host.ovs is not None and str(nic.pci) in dict(host.ovs.other_config).get("dpdk-extra", "")


def _left_over(card: Card, *, linked: bool, fast: bool) -> NicPlan:
    if not linked:
        return _plan(card, Role.UNUSED, "has no link, and other ports have one; name it in the profile to use it")
    if fast and card.speed_mbps is None:
        return _plan(card, Role.KERNEL, "its speed is not known, and fast ports carry the traffic: left to the kernel")
    if fast:
        return _plan(card, Role.KERNEL, "slower than 10 Gbit/s, and faster ports carry the traffic: left to the kernel")
    return _plan(card, Role.KERNEL, "one port is taken without a wish; name this one in the profile to use it as well")


def _choose_afxdp(scene: Scene, plans: dict[PciAddress, NicPlan], notes: Notebook) -> None:
    able = [
        card for card in sorted(scene.cards, key=lambda card: card.rank) if _is_free(scene, card, Role.AFXDP, plans)
    ]
    for card in able[:1]:
        no_dpdk = obstacle(scene, card, Role.DPDK, wanted_vfs=None)
        reason = f"no port here can be driven by DPDK ({no_dpdk}); {ability(scene, card, Role.AFXDP)}"
        plans[card.nic.pci] = replace(
            _plan(card, Role.AFXDP, reason), mtu=scene.profile.ovs.mtu or 1500, physnet="physnet1"
        )
        return
    if scene.cards and any(card.nic.management for card in scene.cards):
        notes.warn(
            "no port is free for DPDK: what is here carries management, is in use or is no Ethernet; guests reach each "
            "other at most, and the outside after a second NIC is put in (an Intel X710 or E810, a ConnectX-4 or "
            "later) or a net_af_packet port is named in ovs.virtualPorts"
        )
    else:
        notes.warn(
            "this machine shows no NIC that DPDK could use: guests reach each other at most; for the outside put in a "
            "NIC with a DPDK driver, or name a virtual port in ovs.virtualPorts"
        )


def _is_free(scene: Scene, card: Card, role: Role, plans: dict[PciAddress, NicPlan]) -> bool:
    return (
        card.nic.pci not in plans
        and card.nic.physfn is None
        and card.busy is None
        and obstacle(scene, card, role, wanted_vfs=None) is None
    )


def _keep_a_way_in(scene: Scene, plans: dict[PciAddress, NicPlan], notes: Notebook) -> None:
    """Leave one NIC to the kernel where nothing shows which one carries management: it may be the only way in."""
    if any(card.nic.management for card in scene.cards) or any(one.management for one in scene.host.netdevs):
        return
    if any(wish.role is Role.MANAGEMENT for wish in scene.profile.nics):
        return
    named = [wish for wish in scene.profile.nics if wish.pci is not None or wish.netdev is not None]
    open_to_all = [
        card
        for card in scene.cards
        if card.nic.physfn is None and is_ethernet(card.nic) and not any(_is_named(wish, card) for wish in named)
    ]
    if not open_to_all or scene.profile.ovs.no_pci:
        return
    kept = max(
        open_to_all, key=lambda card: (card.link is True, -(card.speed_mbps or _FAST_MBPS), _reversed(card.nic.pci))
    )
    plans[kept.nic.pci] = _plan(
        kept, Role.KERNEL, "kept for the kernel: no default route is seen here, so this may be the way into the host"
    )
    notes.warn(
        f"nothing shows which NIC carries management; {kept.nic.pci} is kept for it. Check this before you apply the "
        "plan, and name the ports in the profile"
    )


def _reversed(pci: PciAddress) -> tuple[int, int, int, int]:
    return (-pci.domain, -pci.bus, -pci.device, -pci.function)


def _leave(scene: Scene, card: Card, hindrance: str | None) -> NicPlan:
    """The plan of a NIC that nobody wants, with the reason."""
    nic = card.nic
    role = Role.KERNEL if nic.netdevs or nic.driver not in {None, *USERSPACE_DRIVERS} else Role.UNUSED
    if nic.physfn is not None:
        return _plan(card, role, f"a VF of {nic.physfn}: left to what it was made for")
    if not is_ethernet(nic):
        return _plan(card, role, not_ethernet(card))
    if hindrance is not None:
        return _plan(card, role, hindrance)
    if card.busy is not None:
        return _plan(card, role, f"in use: {card.busy}")
    if scene.profile.nics:
        plan = _plan(card, role, "no entry of the profile asks for it")
        return _given_back(card, plan) if _is_of_ovs(scene.host, nic) else plan
    reason = obstacle(scene, card, Role.DPDK, wanted_vfs=None) or "no entry of the profile asks for it"
    if card.nic.netdevs and scene.profile.ovs.no_pci is False:
        reason = f"{reason}; AF_XDP could carry it: ask for role: afxdp"
    return _plan(card, role, reason)


def _given_back(card: Card, plan: NicPlan) -> NicPlan:
    """The same with the kernel's own driver, where one for user space has it."""
    kernel = _kernel_driver(card)
    if kernel is None or card.nic.driver is None:
        return plan
    reason = f"{plan.reason}; {kernel} is to be bound again, {card.nic.driver} is now"
    return replace(plan, role=Role.KERNEL, reason=reason, driver=kernel)


def _kernel_driver(card: Card) -> str | None:
    """The kernel's driver of a function that has none, or one for user space; None of others."""
    if card.row is None or not card.row.kernel or card.nic.driver not in {None, *USERSPACE_DRIVERS}:
        return None
    return card.row.kernel[0]


def _free_group_mates(scene: Scene, plans: dict[PciAddress, NicPlan], notes: Notebook) -> None:
    """Give the rest of a group to vfio with the NIC that needs it; refuse where the profile wants it elsewhere."""
    for card in scene.cards:
        plan = plans[card.nic.pci]
        if plan.role is not Role.DPDK or plan.driver != _VFIO:
            continue
        for pci in card.nic.group_mates:
            mate = plans.get(pci)
            if mate is None or mate.driver == _VFIO:
                continue
            if mate.driver is None and mate.current_driver in {None, *USERSPACE_DRIVERS}:
                continue
            if mate.wish is not None:
                notes.refuse(
                    f"{card.nic.pci} shares IOMMU group {card.nic.iommu_group} with {pci}, which nics[{mate.wish}] "
                    f"wants as {mate.role.value}: vfio takes the group as a whole",
                    where=f"nics[{plan.wish}].pci" if plan.wish is not None else "nics",
                    hint="give both to DPDK, or put one card into another slot",
                )
                continue
            plans[pci] = replace(
                mate,
                role=Role.UNUSED,
                driver=_VFIO,
                reason=f"goes to vfio-pci with {card.nic.pci}: both are in IOMMU group {card.nic.iommu_group}, which "
                "vfio takes as a whole",
            )
            notes.warn(f"{pci} leaves its kernel driver because it shares an IOMMU group with {card.nic.pci}")


def _note_iommu(scene: Scene, plans: dict[PciAddress, NicPlan], notes: Notebook) -> None:
    without = goes_without(scene.host, scene.profile)
    needing = [
        str(plan.pci) for plan in plans.values() if plan.vf_driver == _VFIO or (plan.driver == _VFIO and not without)
    ]
    if not needing or scene.host.iommu.enabled is True:
        return
    state = "off" if scene.host.iommu.enabled is False else "not known"
    notes.decide(
        "nics.iommu",
        "on after the reboot",
        f"vfio-pci needs the IOMMU for {', '.join(needing)}, and it is {state} now; the groups show after the reboot "
        "with the kernel arguments of this plan, and are checked again then (the BIOS must have VT-d or AMD-Vi on)",
    )


def _plan(card: Card, role: Role, reason: str) -> NicPlan:
    nic = card.nic
    rebind = role is Role.DPDK and card.row is not None and not card.row.bifurcated
    return NicPlan(
        pci=nic.pci,
        role=role,
        reason=reason,
        name=called(nic),
        node=nic.node,
        netdevs=nic.netdevs,
        current_driver=nic.driver,
        driver=_VFIO if rebind else None,
        iommu_group=nic.iommu_group,
        group_mates=nic.group_mates,
        speed_mbps=card.speed_mbps,
        physnet=None,
        mtu=None,
        vfs=None,
        vf_driver=None,
        vdpa_devices=None,
    )
