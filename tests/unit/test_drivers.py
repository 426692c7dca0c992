"""The table of network cards."""

from __future__ import annotations

import re

import pytest
from synthetic import nic

from nfvhost.drivers import DRIVERS, Xdp, driver_of, has_device, is_ethernet, line_rate_mbps
from nfvhost.model.host import Nic


def card(ids: str, driver: str | None = None, **facts: object) -> Nic:
    vendor, device = ids.split(":")
    return nic("0000:10:00.0", vendor=vendor, device=device, driver=driver, **facts)


@pytest.mark.parametrize(
    ("ids", "pmd"),
    [
        ("8086:1572", "i40e"),
        ("8086:1592", "ice"),
        ("8086:10fb", "ixgbe"),
        ("8086:1521", "e1000_igb"),
        ("8086:100e", "e1000_em"),
        ("8086:15f3", "igc"),
        ("8086:154c", "iavf"),
        ("15b3:1019", "mlx5"),
        ("15b3:1003", "mlx4"),
        ("14e4:16d7", "bnxt"),
        ("1af4:1041", "virtio"),
        ("15ad:07b0", "vmxnet3"),
        ("1d0f:ec20", "ena"),
        ("1137:0043", "enic"),
        ("1077:1656", "qede"),
        ("1924:0b03", "sfc_efx"),
        ("19e5:a222", "hns3"),
        ("1dd8:1002", "ionic"),
        ("177d:a034", "thunderx"),
        ("1d6a:07b1", "atlantic"),
        ("1414:00ba", "mana"),
        ("1425:6401", "cxgbe"),
    ],
)
def test_a_card_is_known_by_its_id_while_vfio_has_it(ids: str, pmd: str) -> None:
    for driver in (None, "vfio-pci"):
        row = driver_of(card(ids, driver))
        assert row is not None
        assert row.pmd == pmd


def test_a_new_device_id_is_known_by_its_kernel_driver() -> None:
    row = driver_of(card("8086:ffff", "i40e"))
    assert row is not None
    assert row.pmd == "i40e"


def test_a_new_e1000e_card_is_not_taken_for_one_that_the_pmd_lists() -> None:
    row = driver_of(card("8086:fffe", "e1000e"))
    assert row is None or row.pmd is None


def test_an_unknown_card_is_not_in_the_table() -> None:
    assert driver_of(card("abcd:1234")) is None


@pytest.mark.parametrize("ids", ["15b3:1017", "15b3:1018", "15b3:1003", "1414:00ba"])
def test_mlx_and_mana_are_bifurcated(ids: str) -> None:
    row = driver_of(card(ids))
    assert row is not None
    assert row.bifurcated


def test_realtek_gets_its_pmd_with_the_dpdk_that_has_it() -> None:
    slow, fast = driver_of(card("10ec:8168", "r8169")), driver_of(card("10ec:8125", "r8169"))
    assert slow is not None
    assert fast is not None
    assert not slow.has_pmd((24, 11))
    assert slow.has_pmd((25, 7))
    assert not fast.has_pmd((23, 11))
    assert fast.has_pmd((24, 11))
    assert slow.xdp is Xdp.GENERIC


def test_an_old_realtek_never_gets_a_pmd() -> None:
    row = driver_of(card("10ec:8139", "8139too"))
    assert row is not None
    assert not row.has_pmd((25, 11))


def test_a_pmd_that_was_removed_is_not_offered() -> None:
    row = driver_of(card("177d:9702", "LiquidIO"))
    assert row is not None
    assert row.has_pmd((22, 11))
    assert not row.has_pmd((23, 11))


def test_the_rate_of_a_port_without_a_link_is_the_usual_one_of_its_card() -> None:
    assert line_rate_mbps(card("8086:158b", "i40e", speed_mbps=None)) == 25_000
    assert line_rate_mbps(card("8086:1572", "i40e", speed_mbps=None)) == 10_000
    assert line_rate_mbps(card("8086:1572", "i40e", speed_mbps=1_000)) == 1_000
    assert line_rate_mbps(card("abcd:1234", speed_mbps=None)) is None


def test_wifi_and_infiniband_are_no_ethernet() -> None:
    assert is_ethernet(card("8086:1572", "i40e"))
    assert not is_ethernet(card("8086:51f0", "iwlwifi", class_code="028000"))
    assert not is_ethernet(card("15b3:1013", "mlx5_core", class_code="020700"))


def test_every_row_is_well_formed() -> None:
    for row in DRIVERS:
        assert re.fullmatch(r"[0-9a-f]{4}(-[0-9a-f]{4})?(,[0-9a-f]{4}(-[0-9a-f]{4})?)*", row.devices or "0000"), (
            row.family
        )
        assert row.vendor is None or re.fullmatch(r"[0-9a-f]{4}", row.vendor), row.family
        assert row.vendor is not None or not row.devices, row.family
        assert row.kernel or row.vendor, row.family
        assert not (row.vf and row.sriov), row.family
        for devices, _ in row.speeds:
            assert all(has_device(row.devices, one[:4]) for one in devices.split(",")), row.family


def test_no_device_id_is_in_two_rows() -> None:
    seen: dict[tuple[str, int], str] = {}
    for row in DRIVERS:
        for part in filter(None, row.devices.split(",")):
            first, _, last = part.partition("-")
            for number in range(int(first, 16), int(last or first, 16) + 1):
                other = seen.setdefault((row.vendor or "", number), row.family)
                assert other == row.family, f"{row.vendor}:{number:04x} is in {other} and {row.family}"
