"""One running cloud for all tests that want one.

A machine that cannot run it skips them and says why; with NFVHOST_REQUIRE_TIERS=1, as in CI, that is a failure.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import cloud_guest
import openstack
import pytest
from cloud import PROFILE, SDK_WARNINGS, Cloud, nfvhost, step
from cloud import obstacle as cloud_obstacle
from cloud_lab import Lab
from tiers import demand

# Of the 512 that profile.yaml gives to guests, two guests at a time take half.
_SPARE_PAGES: Final = 256
_TEST_TIMEOUT_S: Final = 900


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.timeout(_TEST_TIMEOUT_S))
        for warnings in SDK_WARNINGS:
            item.add_marker(pytest.mark.filterwarnings(warnings))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Prints what each test took."""
    with step(item.name):
        yield


def _obstacle() -> str | None:
    """Why no cloud with guests on this machine can be started here."""
    counts = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines() if "HugePages_" in line)
    taken = int(counts["HugePages_Total"]) - int(counts["HugePages_Free"])
    if taken > _SPARE_PAGES:
        # Nova does not see them go, and QEMU would die of it.
        return f"{taken} hugepages are somebody else's, and there is room for {_SPARE_PAGES}"
    return cloud_obstacle()


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    demand(_obstacle(), "the tier openstack")
    cloud = Cloud()
    try:
        with step("a whole OpenStack"):
            cloud.start_control()
            plan = cloud.start_compute(PROFILE)
        os.environ["OS_CLOUD"] = "lab"
        api = openstack.connect(cloud="lab")
        yield Lab(cloud=cloud, plan=plan, api=api, kernel=cloud_guest.upload_kernel(api))
    finally:
        cloud.stop_all()


@pytest.fixture
def clean(lab: Lab) -> Iterator[Callable[[], list[str]]]:
    """What is there now and was not before the test; all of nfvhost's goes at its end."""
    before = lab.things()

    def left() -> list[str]:
        return [one for one in lab.things() if one not in before]

    yield left
    if left():
        nfvhost("destroy", "--all")
