"""Our fit against Nova's own code: on every captured machine and profile, and on made-up hosts and flavors."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from nova_environment import ask_nova, nova_python

from nfvhost.access.archive import open_root
from nfvhost.errors import NfvhostError
from nfvhost.inspect import inspect_host
from nfvhost.model.cpuset import CpuSet
from nfvhost.openstack.extra_specs import wrong_with
from nfvhost.openstack.fit import capacity, numa_fit, take
from nfvhost.openstack.flavor import Flavor, guest_of
from nfvhost.openstack.flavors import useful_offers, vnf_offer
from nfvhost.openstack.nova_extra_specs import EXTRA_SPECS
from nfvhost.openstack.nova_host import CellPages, HostCell, NovaHost, nova_host
from nfvhost.planfile import load_profile, load_vnf, shipped_profiles
from nfvhost.planner import make_plan

CHECKOUT: Final = Path(__file__).resolve().parents[2]
CORPUS: Final = Path(os.environ.get("NFVHOST_CORPUS") or CHECKOUT.parent / "shared" / "hosts")
SEED: Final = 20261
ROOMY: Final = 10**9  # an inventory that never ends: Placement is not Nova's fitting code


@pytest.fixture(scope="session")
def python() -> Path:
    """A Python with nova."""
    try:
        return nova_python()
    except AssertionError as error:
        if os.environ.get("NFVHOST_REQUIRE_TIERS") == "1":
            raise
        pytest.skip(f"nova cannot be installed: {str(error)[-300:]}")


def planned_hosts() -> Iterator[tuple[str, NovaHost]]:
    """Every captured machine with every profile that it can have."""
    archives = [*sorted(CORPUS.glob("*.tar.xz")), *sorted((CHECKOUT / "tests/hosts/captures").glob("*.tar.xz"))]
    profiles = [load_profile(name) for name in shipped_profiles()]
    for archive in archives:
        host = inspect_host(open_root(str(archive)))
        for profile in profiles:
            try:
                yield f"{archive.name} {profile.name}", nova_host(make_plan(host, profile))
            except NfvhostError:  # this profile is not for this machine
                continue


def job(host: NovaHost, flavor: Flavor, count: int) -> dict[str, Any]:
    """The same question as Nova's side reads it."""
    return {
        "cells": [
            {
                "node": cell.node,
                "shared": list(cell.shared),
                "dedicated": list(cell.dedicated),
                "cores": [list(core) for core in cell.cores],
                "memory": cell.memory_mib,
                "pages": [[one.size_kib, one.total, one.reserved] for one in cell.pages],
            }
            for cell in host.cells
        ],
        "vcpus": flavor.vcpus,
        "memory": flavor.memory_mib,
        "extraSpecs": list(flavor.extra_specs),
        "count": count,
    }


def our_answer(host: NovaHost, flavor: Flavor, count: int) -> dict[str, Any]:
    """What we say to a job."""
    try:
        guest = guest_of(flavor)
    except ValueError as error:
        return {"error": str(error)}
    found: list[Any] = []
    for _ in range(count):
        taken = numa_fit(host.cells, guest)
        if taken is None:
            found.append(None)
            break
        found.append([[one.node, one.page_kib, len(one.pinned), len(one.emulator)] for one in taken])
        host = take(host, guest, taken)
    return {"guests": found}


def test_every_offer_is_fitted_by_nova_as_often_as_we_say_and_no_more(python: Path) -> None:
    cases = []
    plans = 0
    for name, host in planned_hosts():
        plans += 1
        for offer in useful_offers(host):
            guest = guest_of(offer.flavor)
            count = capacity(host, guest)
            assert count > 0, name
            # Placement may have an end before the nodes have: then Nova's own code would go on.
            more = capacity(without_placement(host), guest, most=count + 1) > count
            cases.append((name, host, offer.flavor, count, more))
    if os.environ.get("NFVHOST_REQUIRE_TIERS") == "1":
        assert plans > 300, f"no captured machines: {CORPUS}/*.tar.xz; set NFVHOST_CORPUS to a folder that has them"
    assert plans > 5
    jobs = [job(host, flavor, count + 1) for _, host, flavor, count, _ in cases]
    specs = sorted({spec for _, _, flavor, *_ in cases for spec in flavor.extra_specs})
    told = ask_nova(python, jobs, specs)
    assert all(told["valid"])
    wrong = []
    for (name, _, flavor, count, more), answer in zip(cases, told["answers"], strict=True):
        guests = answer.get("guests", [])
        if len(guests) != count + 1 or None in guests[:-1] or (guests[-1] is not None) != more:
            wrong.append((name, flavor.name, count, answer.get("error") or [one is not None for one in guests]))
    assert wrong == []
    print(f"{plans} plans, {len(cases)} flavors, {sum(count for *_, count, _ in cases)} guests")  # noqa: T201 - what was covered


def without_placement(host: NovaHost) -> NovaHost:
    """The host as the fitting code alone knows it: its nodes, and inventories without an end."""
    return NovaHost(cells=host.cells, pcpus=ROOMY, vcpus=ROOMY, vcpus_at_once=ROOMY, memory_mib=ROOMY)


def made_up_host(chance: random.Random) -> NovaHost:
    """Cells of every kind that a planned host may have, and some that it may not."""
    threads = chance.choice((1, 2, 2, 2, 4))
    cells = []
    cpu = 0
    for node in range(chance.choice((1, 1, 2, 2, 3, 4))):
        cores = []
        for _ in range(chance.randint(1, 6)):
            width = threads if chance.random() < 0.85 else chance.randint(1, threads)
            cores.append(CpuSet(range(cpu, cpu + width)))
            cpu += width
        everyone = [one for core in cores for one in core]
        shared = CpuSet(chance.sample(everyone, chance.randint(0, len(everyone) // 2)))
        if chance.random() < 0.7:  # whole cores, as planned
            shared = CpuSet(one for core in cores if core & shared for one in core)
        dedicated = CpuSet(everyone) - shared
        if chance.random() < 0.2:
            dedicated = CpuSet(one for one in dedicated if chance.random() < 0.7)
        memory = chance.choice((2048, 4096, 8192, 16384))
        huge = []
        for size in (2048, 1024 * 1024):
            if chance.random() < 0.6:
                total = chance.randint(0, memory * 1024 // 2 // size)
                huge.append(CellPages(size_kib=size, total=total, reserved=chance.randint(0, total // 2)))
        small = memory * 1024 - sum(one.size_kib * one.total for one in huge)
        known = shared | dedicated
        cells.append(
            HostCell(
                node=node,
                shared=shared,
                dedicated=dedicated,
                cores=tuple(core & known for core in cores if core & known) or (cores[0],),
                memory_mib=memory,
                pages=(CellPages(size_kib=4, total=small // 4), *huge),
            )
        )
    return NovaHost(cells=tuple(cells), pcpus=ROOMY, vcpus=ROOMY, vcpus_at_once=ROOMY, memory_mib=ROOMY)


def made_up_flavor(chance: random.Random) -> Flavor:
    """Flavors that make sense, and some that do not."""
    vcpus = chance.randint(1, 10)
    memory = chance.choice((256, 512, 1000, 1024, 2048, 3072, 4096))
    specs: dict[str, str] = {}
    policy = chance.choice((None, "dedicated", "dedicated", "dedicated", "mixed", "mixed", "shared"))
    if policy:
        specs["hw:cpu_policy"] = policy
    if policy == "mixed" or chance.random() < 0.03:
        first = chance.randint(0, vcpus)
        specs["hw:cpu_dedicated_mask"] = chance.choice((f"^{first}", f"{first}-{vcpus - 1}", f"^0-{first}", f"{first}"))
    if chance.random() < 0.3 and (policy in {"dedicated", "mixed"} or chance.random() < 0.1):
        specs["hw:cpu_thread_policy"] = chance.choice(("prefer", "require", "isolate"))
    if chance.random() < 0.5:
        specs["hw:emulator_threads_policy"] = chance.choice(("share", "isolate"))
    if chance.random() < 0.8:
        specs["hw:mem_page_size"] = chance.choice(("large", "large", "any", "small", "2MB", "1GB", "2048", "1048576"))
    nodes = chance.choice((1, 1, 1, 2, 2, 3))
    if chance.random() < 0.7:
        specs["hw:numa_nodes"] = str(nodes)
        if nodes == 2 and vcpus > 1 and chance.random() < 0.4:
            part, mib = chance.randint(1, vcpus - 1), chance.choice((128, 200))
            specs |= {"hw:numa_cpus.0": f"0-{part - 1}", "hw:numa_cpus.1": f"{part}-{vcpus - 1}"}
            specs |= {"hw:numa_mem.0": str(mib), "hw:numa_mem.1": str(memory - mib + (chance.random() < 0.1))}
    return Flavor(name="any", vcpus=vcpus, memory_mib=memory, disk_gib=1, extra_specs=tuple(sorted(specs.items())))


def test_our_fit_is_novas_on_made_up_hosts_and_flavors(python: Path) -> None:
    chance = random.Random(SEED)  # noqa: S311 - the same cases each time
    cases = [(made_up_host(chance), made_up_flavor(chance), chance.choice((1, 2, 4))) for _ in range(6000)]
    told = ask_nova(python, [job(*case) for case in cases], [])
    wrong = []
    fits = refusals = errors = 0
    for case, answer in zip(cases, told["answers"], strict=True):
        ours = our_answer(*case)
        if "error" in answer or "error" in ours:
            errors += 1
            same = ("error" in answer) == ("error" in ours)
        else:
            fits += answer["guests"][0] is not None
            refusals += None in answer["guests"]
            same = [_without_default_page(one) for one in answer["guests"]] == [
                _without_default_page(one, answer["guests"]) for one in ours["guests"]
            ]
        if not same:
            wrong.append((case[0].cells, case[1], case[2], answer, ours))
    assert wrong[:1] == []
    # The cases are of all kinds.
    assert min(fits, refusals, errors) > 300, (fits, refusals, errors)


def _without_default_page(cells: list[list[Any]] | None, nova: list[Any] | None = None) -> Any:  # noqa: ANN401 - an answer
    """A guest that asks for no size has none in Nova's answer, though it takes the smallest pages."""
    if cells is None:
        return None
    if nova is None:
        return cells
    unasked = any(guest and guest[0][1] is None for guest in nova)
    return [[node, None if unasked else page, pinned, emulator] for node, page, pinned, emulator in cells]


def test_nova_takes_the_flavors_of_the_examples_and_our_table_judges_as_its_validators_do(python: Path) -> None:
    good = {
        spec
        for path in (CHECKOUT / "examples" / "vnfs").glob("*.yaml")
        for spec in vnf_offer(load_vnf(str(path)), group="edge").flavor.extra_specs
    }
    chance = random.Random(SEED)  # noqa: S311 - the same cases each time
    values = (
        "true",
        "no",
        "maybe",
        "1",
        "0",
        "-1",
        "2.5",
        "",
        "large",
        "2MB",
        "2 MB",
        "0-3",
        "^0-1,4",
        "any",
        "required",
    )
    names = [one.name.replace("{group}", "").replace("{num}", "1").replace("{trait}", "EDGE") for one in EXTRA_SPECS]
    names += ["hw:cpu_polcy", "hw:numa_cpus", "hw:numa_mem.x", "nfvhost:mark", "plain", "trait:CUSTOM_edge", "x:y"]
    specs = [*sorted(good), *((name, value) for name in names for value in values)]
    choices = [(one.name, value) for one in EXTRA_SPECS for value in one.choices if "{" not in one.name]
    specs += chance.sample(choices, len(choices))
    told = ask_nova(python, [], specs)["valid"]
    assert all(told[: len(good)])
    assert [spec for spec, valid in zip(specs, told, strict=True) if valid != (wrong_with(*spec) is None)] == []
    assert 100 < sum(told) < len(told) - 100


def test_the_table_of_validators_is_what_novas_package_says(python: Path, tmp_path: Path) -> None:
    made = subprocess.run(
        [str(python), str(CHECKOUT / "tools" / "nova_extra_specs.py")], capture_output=True, text=True, check=True
    )
    module = tmp_path / "nova_extra_specs.py"
    module.write_text(made.stdout, encoding="utf-8")
    subprocess.run([sys.executable, "-m", "ruff", "format", "--quiet", "--line-length", "120", str(module)], check=True)
    there = CHECKOUT / "nfvhost" / "openstack" / "nova_extra_specs.py"
    assert module.read_text(encoding="utf-8") == there.read_text(encoding="utf-8"), "write it again: see tools/"
