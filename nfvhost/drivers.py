"""All vendor knowledge, as one table: what each network card can do, by PCI id and by kernel driver.

Sources: DPDK v20.11 to v25.11, doc/guides/nics/ and the PCI tables in drivers/net/; Linux 6.12, drivers/net/ethernet/
(PCI tables, ndo_bpf and ndo_xsk_wakeup, sriov_configure) and drivers/vdpa/.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from nfvhost.model.host import Nic


class Xdp(StrEnum):
    """How far the kernel driver takes AF_XDP."""

    ZERO_COPY = "zero-copy"
    NATIVE = "native"  # XDP in the driver, packets copied to the socket
    GENERIC = "generic"  # XDP above the driver: works everywhere, slowest


@dataclass(frozen=True, slots=True, kw_only=True)
class NicDriver:
    """What cards of one kind can do."""

    family: str  # as people call it
    kernel: tuple[str, ...]  # names in /sys/bus/pci/drivers
    vendor: str | None = None  # four hex digits
    devices: str = ""  # device ids and ranges of them: "1572,1580-1589"; empty: any device of its kernel driver
    pmd: str | None = None  # the DPDK poll-mode driver, net_<name>
    pmd_since: tuple[int, int] | None = None  # the first DPDK release that has it; None: 20.11 or earlier
    pmd_until: tuple[int, int] | None = None  # the last one
    pmd_by_id: bool = False  # the PMD takes the listed devices alone, not all that the kernel driver takes
    bifurcated: bool = False  # the PMD works through the kernel driver, which stays bound
    vf: bool = False  # these are virtual functions
    sriov: bool = False  # the kernel driver makes VFs by sriov_numvfs
    vdpa: str | None = None  # kernel module that makes vDPA devices of its VFs
    vdpa_driver: str | None = None  # what has to be bound to a VF for that; None: the driver that it has anyway
    xdp: Xdp = Xdp.GENERIC
    rx_queues: int | None = None  # the most that a DPDK port has; None: the device or the PF says
    speed_mbps: int | None = None  # the usual line rate, where the link is down
    speeds: tuple[tuple[str, int], ...] = ()  # device ids with another one
    vfs_need_link: bool = False  # VFs do not come while the PF's link is down
    vf_hint: str | None = None  # what is known to go wrong with VFs
    note: str | None = None  # what a user should know before this card carries traffic

    def has_pmd(self, dpdk: tuple[int, int]) -> bool:
        """Whether that DPDK release drives these cards."""
        return (
            self.pmd is not None
            and (self.pmd_since is None or self.pmd_since <= dpdk)
            and (self.pmd_until is None or dpdk <= self.pmd_until)
        )


_G: Final = 1000
_I40E_VFS: Final = "i40e grants fewer VFs than asked where its queues run out: count them after writing"

DRIVERS: Final = (
    # drivers/net/intel/i40e/base/i40e_devids.h
    NicDriver(
        family="Intel 700 series",
        kernel=("i40e",),
        vendor="8086",
        devices="0cf8,0d58,0dd2,0dda,101f,104e-104f,1572,1574,1580-1581,1583-158b,15ff,37ce-37d3",
        pmd="i40e",
        sriov=True,
        xdp=Xdp.ZERO_COPY,
        rx_queues=64,
        speed_mbps=10 * _G,
        speeds=(("1583-1585", 40 * _G), ("158a-158b,0d58", 25 * _G), ("0dd2,37d1", _G), ("101f", 5 * _G)),
        vf_hint=_I40E_VFS,
    ),
    # drivers/net/intel/ice/base/ice_devids.h; E830 is in ice_ethdev.c since 24.07, E835 since 25.11
    NicDriver(
        family="Intel 800 series",
        kernel=("ice",),
        vendor="8086",
        devices="124c-124f,151d,1591-1593,1599-159b,188a-188e,1890-1894,1897-189a,0dbd,0dcd,579c-579f",
        pmd="ice",
        sriov=True,
        xdp=Xdp.ZERO_COPY,
        rx_queues=64,
        speed_mbps=25 * _G,
        speeds=(("1591-1593", 100 * _G), ("124e,188d,1893,1899", 10 * _G), ("124f", _G)),
        note="the ice PMD wants its DDP package in /lib/firmware; without it the port has one queue (safe mode)",
    ),
    NicDriver(
        family="Intel E830",
        kernel=("ice",),
        vendor="8086",
        devices="12d1-12d3,12d5,12d8,12da,12dc-12de",
        pmd="ice",
        pmd_since=(24, 7),
        sriov=True,
        xdp=Xdp.ZERO_COPY,
        rx_queues=64,
        speed_mbps=200 * _G,
    ),
    NicDriver(
        family="Intel E835",
        kernel=("ice",),
        vendor="8086",
        devices="1248-124a,1261-1263,1265-1267",
        pmd="ice",
        pmd_since=(25, 11),
        sriov=True,
        xdp=Xdp.ZERO_COPY,
        rx_queues=64,
        speed_mbps=200 * _G,
    ),
    # drivers/net/intel/iavf/base/iavf_devids.h; the PF grants 16 queues at most unless it is asked for more
    NicDriver(
        family="Intel adaptive VF",
        kernel=("iavf", "i40evf"),
        vendor="8086",
        devices="154c,1571,1889,374d,37cd,37d9",
        pmd="iavf",
        vf=True,
        rx_queues=16,
    ),
    # drivers/net/intel/ixgbe/base/ixgbe_type.h
    NicDriver(
        family="Intel 10 Gigabit (82598, 82599, X540, X550)",
        kernel=("ixgbe",),
        vendor="8086",
        devices="10b6,1508,10c6-10c8,150b,10db,10dd,10ec,10e1,10f1,10f4,10f7-10f9,10fb-10fc,1507,1514,1517,151c,1528-152a,"
        "154a,154d,154f,1557-1558,1560,1563,15aa-15ae,15b0,15c2-15c4,15c6-15c8,15ca,15cc,15ce,15d1,15e4-15e5",
        pmd="ixgbe",
        sriov=True,
        xdp=Xdp.ZERO_COPY,
        rx_queues=64,
        speed_mbps=10 * _G,
        speeds=(("15c6-15c7,15ae,15e4-15e5", _G),),
        vf_hint="at most 63 of its 64 VFs: the PF keeps one pool for itself",
    ),
    # drivers/net/ixgbe/ixgbe_ethdev.c of v24.11: the first with E610
    NicDriver(
        family="Intel E610",
        kernel=("ixgbe",),
        vendor="8086",
        devices="57ae-57b2",
        pmd="ixgbe",
        pmd_since=(24, 11),
        sriov=True,
        xdp=Xdp.ZERO_COPY,
        rx_queues=64,
        speed_mbps=10 * _G,
        speeds=(("57b1", 2500),),
    ),
    NicDriver(
        family="Intel 10 Gigabit VF",
        kernel=("ixgbevf",),
        vendor="8086",
        devices="10ed,152e,1515,1530,1564-1565,15a8-15a9,15b4,15c5",
        pmd="ixgbe_vf",
        vf=True,
        xdp=Xdp.NATIVE,
        rx_queues=4,
    ),
    # drivers/net/intel/e1000/igb_ethdev.c; the numbers of queues in its eth_igb_infos_get
    NicDriver(
        family="Intel I350, 82576, 82580",
        kernel=("igb",),
        vendor="8086",
        devices="10c9,10e6-10e8,150a,150d-1511,1516,1518,1521-1524,1526-1527,1546,10a7,10a9,10d6,0438,043a,043c,0440,"
        "1f40-1f41,1f45",
        pmd="e1000_igb",
        sriov=True,
        xdp=Xdp.NATIVE,
        rx_queues=8,
        speed_mbps=_G,
        speeds=(("1f45", 2500),),
    ),
    NicDriver(
        family="Intel I210, I211",
        kernel=("igb",),
        vendor="8086",
        devices="1533-1539,157b-157c,15f6",
        pmd="e1000_igb",
        xdp=Xdp.NATIVE,
        rx_queues=4,
        speed_mbps=_G,
    ),
    NicDriver(
        family="Intel 1 Gigabit VF",
        kernel=("igbvf",),
        vendor="8086",
        devices="10ca,152d,1520,152f",
        pmd="e1000_igb_vf",
        vf=True,
        rx_queues=2,
        speed_mbps=_G,
    ),
    # drivers/net/intel/e1000/em_ethdev.c: a part of what the kernel's e1000 and e1000e take
    NicDriver(
        family="Intel 1 Gigabit (8254x, 8257x, I217 to I219)",
        kernel=("e1000", "e1000e"),
        vendor="8086",
        devices="100e-1012,101d,105e-1060,10d9-10da,10a4-10a5,10d5,10bc,107d-107f,10b9,109a,10d3,10f6,150c,1502,"
        "153a-153b,155a,1559,15a0-15a3,156f-1570,15b7-15b9,15d6-15d8,15e3,15bb-15be",
        pmd="e1000_em",
        pmd_by_id=True,
        rx_queues=2,
        speed_mbps=_G,
    ),
    # I219 from Ice Lake on: em_ethdev.c of v25.03
    NicDriver(
        family="Intel I219 (10th generation and later)",
        kernel=("e1000e",),
        vendor="8086",
        devices="15df-15e2,0d4c-0d4f,0d53,0d55,15f4-15f5,15f9-15fc,1a1c-1a1f,550a-550f,0dc5-0dc8,57a0-57a1",
        pmd="e1000_em",
        pmd_since=(25, 3),
        pmd_by_id=True,
        rx_queues=2,
        speed_mbps=_G,
    ),
    # drivers/net/intel/e1000/igc_ethdev.c; I226 since 22.07
    NicDriver(
        family="Intel I225",
        kernel=("igc",),
        vendor="8086",
        devices="0d9f,15f2-15f3,15f7-15f8,15fd,3100-3101,5502",
        pmd="igc",
        xdp=Xdp.ZERO_COPY,
        rx_queues=4,
        speed_mbps=2500,
    ),
    NicDriver(
        family="Intel I226",
        kernel=("igc",),
        vendor="8086",
        devices="125b-125f,3102,5503",
        pmd="igc",
        pmd_since=(22, 7),
        xdp=Xdp.ZERO_COPY,
        rx_queues=4,
        speed_mbps=2500,
    ),
    # release_22_11.rst; the kernel's idpf since Linux 6.7
    NicDriver(
        family="Intel IPU",
        kernel=("idpf",),
        vendor="8086",
        devices="1452,145c",
        pmd="idpf",
        pmd_since=(22, 11),
        rx_queues=16,
        speed_mbps=100 * _G,
    ),
    NicDriver(family="Intel FM10000", kernel=("fm10k",), pmd="fm10k", sriov=True, speed_mbps=100 * _G),
    # drivers/vdpa/ifcvf/ifcvf_main.c: its ids are those of virtio-net with a subsystem of Intel
    NicDriver(family="Intel virtio data path", kernel=("ifcvf",), vdpa="ifcvf", speed_mbps=100 * _G),
    # drivers/common/mlx5/mlx5_common.h; doc/guides/nics/mlx5.rst: bound to mlx5_core all the time
    NicDriver(
        family="NVIDIA ConnectX-4 and later",
        kernel=("mlx5_core",),
        vendor="15b3",
        devices="1013,1015,1017,1019,101b,101d,101f,1021,1023,1025,a2d2,a2d6,a2dc,a2df",
        pmd="mlx5",
        bifurcated=True,
        sriov=True,
        vdpa="mlx5_vdpa",
        xdp=Xdp.ZERO_COPY,
        speed_mbps=100 * _G,
        speeds=(("1015,101f", 25 * _G), ("101b,a2d6", 200 * _G), ("1021,a2dc", 400 * _G), ("1023,1025,a2df", 800 * _G)),
        note="the mlx5 PMD needs rdma-core (libibverbs, libmlx5)",
    ),
    NicDriver(
        family="NVIDIA ConnectX VF",
        kernel=("mlx5_core",),
        vendor="15b3",
        devices="1014,1016,1018,101a,101c,101e,a2d3",
        pmd="mlx5",
        bifurcated=True,
        vf=True,
        vdpa="mlx5_vdpa",
        xdp=Xdp.ZERO_COPY,
    ),
    # drivers/net/mlx4/mlx4.h: one PCI function carries both ports
    NicDriver(
        family="Mellanox ConnectX-3",
        kernel=("mlx4_core",),
        vendor="15b3",
        devices="1003,1007",
        pmd="mlx4",
        bifurcated=True,
        sriov=True,
        xdp=Xdp.NATIVE,
        speed_mbps=40 * _G,
        note="the mlx4 PMD needs rdma-core (libibverbs, libmlx4)",
    ),
    NicDriver(
        family="Mellanox ConnectX-3 VF",
        kernel=("mlx4_core",),
        vendor="15b3",
        devices="1004",
        pmd="mlx4",
        bifurcated=True,
        vf=True,
        xdp=Xdp.NATIVE,
    ),
    # mlx4_core takes them too; DPDK never did
    NicDriver(
        family="Mellanox ConnectX-2 and older",
        kernel=("mlx4_core",),
        vendor="15b3",
        devices="6340-6778",
        speed_mbps=10 * _G,
    ),
    # drivers/net/bnxt/bnxt.h; VFs and link: systemd#40739
    NicDriver(
        family="Broadcom NetXtreme-C/E",
        kernel=("bnxt_en",),
        vendor="14e4",
        devices="1614,16c8-16ca,16cc-16d2,16d4-16da,16de-16e0,16e2-16e4,16e7-16ee,16f0-16f1,1750-1752,1760-1763,1800-1805,d802,d804,"
        "d812,d814,d818",
        pmd="bnxt",
        sriov=True,
        xdp=Xdp.NATIVE,
        rx_queues=64,
        speed_mbps=25 * _G,
        speeds=(("1750-1752,16f0", 100 * _G), ("1760-1763", 400 * _G)),
        vfs_need_link=True,
        vf_hint="bnxt answers ENETDOWN to sriov_numvfs while the PF is down: bring its link up first",
    ),
    NicDriver(
        family="Broadcom NetXtreme-C/E VF",
        kernel=("bnxt_en",),
        vendor="14e4",
        devices="1606-1609,16c1,16cb,16d3,16dc,16e1,16e5,1806-1809,1819,d800,d82e",
        pmd="bnxt",
        vf=True,
        xdp=Xdp.NATIVE,
    ),
    # drivers/net/bnx2x/bnx2x_ethdev.c: not in common builds, and OVS is not tested with it
    NicDriver(
        family="QLogic 57xx 10 Gigabit",
        kernel=("bnx2x",),
        pmd="bnx2x",
        sriov=True,
        speed_mbps=10 * _G,
        note="DPDK builds bnx2x only where zlib was there; look for net_bnx2x in the distribution's packages",
    ),
    NicDriver(family="Broadcom NetXtreme II", kernel=("bnx2",), speed_mbps=_G),
    NicDriver(family="Broadcom NetXtreme (tg3)", kernel=("tg3",), speed_mbps=_G),
    NicDriver(
        family="QLogic FastLinQ",
        kernel=("qede", "qed"),
        vendor="1077",
        devices="1629,1634,1644,1654,1656,8070-8073",
        pmd="qede",
        sriov=True,
        xdp=Xdp.NATIVE,
        rx_queues=32,
        speed_mbps=25 * _G,
    ),
    NicDriver(
        family="QLogic FastLinQ VF",
        kernel=("qede",),
        vendor="1077",
        devices="1630,1664,8090",
        pmd="qede",
        vf=True,
        xdp=Xdp.NATIVE,
    ),
    NicDriver(family="QLogic cLOM and QLE8xxx", kernel=("qlcnic", "netxen_nic"), speed_mbps=10 * _G),
    NicDriver(
        family="Marvell OCTEON 9, 10",
        kernel=("rvu_nicpf", "octeontx2-nicpf"),
        vendor="177d",
        devices="a063",
        pmd="cnxk",
        pmd_since=(21, 8),
        sriov=True,
        xdp=Xdp.NATIVE,
        speed_mbps=100 * _G,
    ),
    NicDriver(
        family="Marvell OCTEON 9, 10 VF",
        kernel=("rvu_nicvf", "octeontx2-nicvf"),
        vendor="177d",
        devices="a064",
        pmd="cnxk",
        pmd_since=(21, 8),
        vf=True,
        xdp=Xdp.NATIVE,
    ),
    # The PF of a ThunderX only deals out VFs: those carry the traffic.
    NicDriver(family="Cavium ThunderX PF", kernel=("thunder-nic", "nicpf"), sriov=True, speed_mbps=10 * _G),
    NicDriver(
        family="Cavium ThunderX",
        kernel=("thunder-nicvf", "nicvf"),
        vendor="177d",
        devices="0011,a034",
        pmd="thunderx",
        vf=True,
        xdp=Xdp.NATIVE,
        rx_queues=8,
        speed_mbps=10 * _G,
    ),
    NicDriver(
        family="Cavium LiquidIO",
        kernel=("LiquidIO", "LiquidIO_VF"),
        pmd="liquidio",
        pmd_until=(22, 11),  # removed by release_23_03.rst
        sriov=True,
        speed_mbps=10 * _G,
    ),
    # drivers/vdpa/octeon_ep (Linux 6.12)
    NicDriver(family="Marvell OCTEON DPU", kernel=("octep_vdpa",), vdpa="octep_vdpa", speed_mbps=100 * _G),
    NicDriver(
        family="Chelsio T4, T5, T6",
        kernel=("cxgb4",),
        vendor="1425",
        pmd="cxgbe",
        sriov=True,
        rx_queues=32,
        speed_mbps=10 * _G,
        note="one PCI function (.4) carries all ports of the card; functions .0 to .3 make VFs",
    ),
    NicDriver(family="Chelsio VF", kernel=("cxgb4vf",), pmd="cxgbe", vf=True),
    NicDriver(family="Chelsio T3", kernel=("cxgb3",), speed_mbps=10 * _G),
    # doc/guides/nics/enic.rst: VFs are made in UCS Manager, not by sriov_numvfs
    NicDriver(
        family="Cisco VIC",
        kernel=("enic",),
        vendor="1137",
        devices="0043,02b7",
        pmd="enic",
        rx_queues=8,
        speed_mbps=10 * _G,
    ),
    NicDriver(
        family="Netronome, Corigine NFP",
        kernel=("nfp",),
        pmd="nfp",
        sriov=True,
        xdp=Xdp.ZERO_COPY,
        speed_mbps=25 * _G,
        note="the nfp PMD wants its firmware in /lib/firmware/netronome",
    ),
    # drivers/net/sfc/sfc_ethdev.c; the vDPA of EF100 is DPDK's own (drivers/vdpa/sfc), none is in the kernel
    NicDriver(
        family="AMD Solarflare",
        kernel=("sfc", "sfc_ef100"),
        vendor="1924",
        devices="0903,0923,0a03,0b03,0c03,2c03",
        pmd="sfc_efx",
        sriov=True,
        xdp=Xdp.NATIVE,
        speed_mbps=10 * _G,
    ),
    NicDriver(
        family="AMD Solarflare VF",
        kernel=("sfc",),
        vendor="1924",
        devices="1903,1923,1a03,1b03,1c03,3c03",
        pmd="sfc_efx",
        vf=True,
        xdp=Xdp.NATIVE,
    ),
    NicDriver(family="Solarflare SFN4000", kernel=("sfc-falcon", "sfc_falcon"), speed_mbps=10 * _G),
    NicDriver(
        family="AMD Alveo (EF100)",
        kernel=("sfc", "sfc_ef100"),
        vendor="10ee",
        devices="0100",
        pmd="sfc_efx",
        sriov=True,
        speed_mbps=100 * _G,
    ),
    NicDriver(
        family="HiSilicon Kunpeng",
        kernel=("hns3",),
        vendor="19e5",
        devices="a220-a222,a224,a226,a228",
        pmd="hns3",
        sriov=True,
        rx_queues=64,
        speed_mbps=25 * _G,
        speeds=(("a220", _G), ("a226", 100 * _G), ("a228", 200 * _G)),
    ),
    NicDriver(
        family="HiSilicon Kunpeng VF",
        kernel=("hclgevf", "hns3"),
        vendor="19e5",
        devices="a22e-a22f",
        pmd="hns3_vf",
        vf=True,
    ),
    NicDriver(
        family="Huawei 1822",
        kernel=("hinic",),
        vendor="19e5",
        devices="0200,0205-0206,0210,1822",
        pmd="hinic",
        sriov=True,
        rx_queues=64,
        speed_mbps=25 * _G,
    ),
    NicDriver(family="Huawei 1822 VF", kernel=("hinic",), vendor="19e5", devices="375e,379e", pmd="hinic", vf=True),
    NicDriver(
        family="Huawei 1823", kernel=("hinic3",), pmd="hinic3", pmd_since=(25, 11), sriov=True, speed_mbps=25 * _G
    ),
    # drivers/net/ionic/ionic_ethdev.c; vDPA by pds_core and pds_vdpa (Linux 6.5)
    NicDriver(
        family="AMD Pensando",
        kernel=("ionic",),
        vendor="1dd8",
        devices="1002",
        pmd="ionic",
        sriov=True,
        xdp=Xdp.NATIVE,
        speed_mbps=100 * _G,
    ),
    NicDriver(family="AMD Pensando VF", kernel=("ionic",), vendor="1dd8", devices="1003", pmd="ionic", vf=True),
    NicDriver(family="AMD Pensando core", kernel=("pds_core",), sriov=True, vdpa="pds_vdpa", speed_mbps=100 * _G),
    NicDriver(
        family="Wangxun 10 Gigabit",
        kernel=("txgbe",),
        vendor="8088",
        devices="1001,2001",
        pmd="txgbe",
        sriov=True,
        rx_queues=128,
        speed_mbps=10 * _G,
    ),
    NicDriver(
        family="Wangxun 1 Gigabit",
        kernel=("ngbe",),
        vendor="8088",
        devices="0100-010b",
        pmd="ngbe",
        pmd_since=(21, 8),
        sriov=True,
        rx_queues=8,
        speed_mbps=_G,
    ),
    NicDriver(family="AMD 10 Gigabit", kernel=("amd-xgbe",), pmd="axgbe", rx_queues=16, speed_mbps=10 * _G),
    NicDriver(family="Atomic Rules Arkville", kernel=(), vendor="1d6c", pmd="ark", speed_mbps=100 * _G),
    NicDriver(family="Emulex OneConnect", kernel=("be2net",), sriov=True, speed_mbps=10 * _G),
    # drivers/net/atlantic/atl_ethdev.c
    NicDriver(
        family="Marvell AQtion (Aquantia)",
        kernel=("atlantic",),
        vendor="1d6a",
        devices="0001,00b1,07b1,08b1,09b1,11b1,12b1,51b1,52b1,80b1,87b1,88b1,89b1,91b1,92b1,d100,d107-d109",
        pmd="atlantic",
        pmd_by_id=True,
        xdp=Xdp.NATIVE,
        rx_queues=8,
        speed_mbps=10 * _G,
    ),
    # release_24_11.rst adds net_r8169 for 8125 and 8126; v25.07 r8169_ethdev.c adds 8168 and 8127
    NicDriver(
        family="Realtek 2.5 and 5 Gigabit",
        kernel=("r8169", "r8125", "r8126"),
        vendor="10ec",
        devices="8125-8126,8162,5000",
        pmd="r8169",
        pmd_since=(24, 11),
        pmd_by_id=True,
        rx_queues=1,
        speed_mbps=2500,
        speeds=(("8126,5000", 5 * _G),),
    ),
    NicDriver(
        family="Realtek 1 and 10 Gigabit",
        kernel=("r8169", "r8168", "r8127"),
        vendor="10ec",
        devices="8127,8168,0e10",
        pmd="r8169",
        pmd_since=(25, 7),
        pmd_by_id=True,
        rx_queues=1,
        speed_mbps=_G,
        speeds=(("8127,0e10", 10 * _G),),
    ),
    NicDriver(family="Realtek", kernel=("r8169", "8139too", "8139cp", "r8101"), vendor="10ec", speed_mbps=_G),
    # How many queues a virtio device has is the hypervisor's choice; most give one. A card that speaks virtio has VFs
    # (drivers/virtio/virtio_pci_common.c, VIRTIO_F_SR_IOV); drivers/vdpa/virtio_pci/vp_vdpa.c lists no ids.
    NicDriver(
        family="virtio network device",
        kernel=("virtio-pci", "virtio_net"),
        vendor="1af4",
        devices="1000,1041",
        pmd="virtio",
        sriov=True,
        vdpa="vp_vdpa",
        vdpa_driver="vp-vdpa",
        xdp=Xdp.NATIVE,
        rx_queues=1,
    ),
    NicDriver(
        family="VMware vmxnet3",
        kernel=("vmxnet3",),
        vendor="15ad",
        devices="07b0",
        pmd="vmxnet3",
        xdp=Xdp.NATIVE,
        rx_queues=16,
        speed_mbps=10 * _G,
    ),
    NicDriver(
        family="Amazon ENA",
        kernel=("ena",),
        vendor="1d0f",
        devices="ec20-ec21",
        pmd="ena",
        xdp=Xdp.NATIVE,
        rx_queues=8,
        speed_mbps=10 * _G,
        note="vfio-pci on an instance without an IOMMU needs its no-IOMMU mode, and write-combining to be fast",
    ),
    NicDriver(
        family="Google gVNIC",
        kernel=("gve",),
        vendor="1ae0",
        devices="0042",
        pmd="gve",
        pmd_since=(22, 11),
        xdp=Xdp.ZERO_COPY,
        rx_queues=16,
        speed_mbps=10 * _G,
    ),
    # release_22_11.rst; doc/guides/nics/mana.rst: through libibverbs, like mlx5
    NicDriver(
        family="Microsoft Azure MANA",
        kernel=("mana",),
        vendor="1414",
        devices="00b9-00ba",
        pmd="mana",
        pmd_since=(22, 11),
        bifurcated=True,
        xdp=Xdp.NATIVE,
        rx_queues=64,
        speed_mbps=100 * _G,
    ),
    NicDriver(family="Qualcomm Atheros", kernel=("alx", "atl1c", "atl1e", "atl1"), speed_mbps=_G),
    NicDriver(family="Marvell Yukon", kernel=("sky2", "skge"), speed_mbps=_G),
    NicDriver(family="NVIDIA nForce", kernel=("forcedeth",), speed_mbps=_G),
    NicDriver(family="JMicron", kernel=("jme",), speed_mbps=_G),
    NicDriver(family="AMD PCnet", kernel=("pcnet32",), speed_mbps=100),
    NicDriver(family="Intel 100 Megabit", kernel=("e100",), speed_mbps=100),
    NicDriver(family="Intel Ethernet on the SoC", kernel=("intel-eth-pci", "stmmac"), xdp=Xdp.ZERO_COPY, speed_mbps=_G),
)

# Bound in place of a kernel network driver: they tell nothing of the card (drivers/vfio, drivers/uio, DPDK).
USERSPACE_DRIVERS: Final = frozenset({"vfio-pci", "uio_pci_generic", "igb_uio", "pci-stub", "pciback", "xen-pciback"})

# Subclass codes of include/linux/pci_ids.h.
CLASS_ETHERNET: Final = "0200"
CLASS_INFINIBAND: Final = "0207"
CLASS_OTHER: Final = "0280"  # wifi cards, mostly


def driver_of(nic: Nic) -> NicDriver | None:
    """The row of the table for a card: by its PCI id, else by the bound kernel driver; None where neither is in it."""
    return row_of(vendor=nic.vendor, device=nic.device, driver=nic.driver)


def row_of(*, vendor: str, device: str, driver: str | None) -> NicDriver | None:
    """The same for the ids of a function, each four hex digits, and the name of its bound driver."""
    rows = _by_vendor().get(vendor.lower(), ())
    for row in rows:
        if has_device(row.devices, device):
            return row
    if driver is None or driver in USERSPACE_DRIVERS:
        return next((row for row in rows if not row.devices), None)
    taken = [row for row in _by_kernel().get(driver, ()) if not row.pmd_by_id]
    # A card that is newer than the table behaves as its elders; where they are of several kinds, as the plainest.
    same_vendor = [row for row in taken if row.vendor in {None, vendor.lower()}]
    return next(iter(same_vendor), None)


def line_rate_mbps(nic: Nic) -> int | None:
    """The speed of its link, else the usual one of such cards; None where neither is known."""
    if nic.speed_mbps is not None:
        return nic.speed_mbps
    row = driver_of(nic)
    if row is None:
        return None
    return next((speed for devices, speed in row.speeds if has_device(devices, nic.device)), row.speed_mbps)


def is_ethernet(nic: Nic) -> bool:
    """Whether the function is an Ethernet port: not wifi, not InfiniBand."""
    if nic.class_code.startswith(CLASS_ETHERNET):
        return True
    # Some cards of the data centre say "other", and a trimmed capture may say nothing.
    open_to_doubt = not nic.class_code or nic.class_code.startswith(CLASS_OTHER)
    return open_to_doubt and (row := driver_of(nic)) is not None and row.pmd is not None


def has_device(devices: str, device: str) -> bool:
    """Whether a device id is in a list of ids and ranges such as `1572,1580-1589`."""
    number = int(device, 16)
    return any(first <= number <= last for first, last in _ranges(devices))


@cache
def _ranges(devices: str) -> tuple[tuple[int, int], ...]:
    pairs = (part.partition("-") for part in devices.split(",") if part)
    return tuple((int(first, 16), int(last or first, 16)) for first, _, last in pairs)


@cache
def _by_vendor() -> dict[str, tuple[NicDriver, ...]]:
    vendors = {row.vendor for row in DRIVERS if row.vendor}
    return {vendor: tuple(row for row in DRIVERS if row.vendor == vendor) for vendor in vendors}


@cache
def _by_kernel() -> dict[str, tuple[NicDriver, ...]]:
    names = {name for row in DRIVERS for name in row.kernel}
    return {name: tuple(row for row in DRIVERS if name in row.kernel) for name in names}
