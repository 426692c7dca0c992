"""Captured machines with damaged trees are planned, or refused for a reason; nothing else comes of them."""

from __future__ import annotations

import io
import zlib
from random import Random
from typing import TYPE_CHECKING, Final

from garble import WAYS
from plan_rules import broken_rules
from trees import MemoryRoot, Tree, load_tree

from nfvhost.errors import DocumentError
from nfvhost.inspect import inspect_host
from nfvhost.model.host import Host
from nfvhost.model.plan import Plan
from nfvhost.model.profile import Profile
from nfvhost.planfile import dump_plan, host_document, load_plan_text, load_profile, plan_document, to_json
from nfvhost.planner import make_plan
from nfvhost.render import print_host, print_plan
from nfvhost.render.svg import host_svg, plan_svg

if TYPE_CHECKING:
    from tests.conftest import Machine

PROFILES: Final = (Profile(name="empty"), *map(load_profile, ("home", "sriov", "vdpa", "sandbox")))
# Damaged trees of one machine; a thousand times as many were tried once.
TREES: Final = 2


def spoilt_trees(machine: Machine) -> list[Tree]:
    """TREES trees of the machine, each spoilt in one to three ways; the same in each run."""
    whole = load_tree(str(machine.archive))
    root = MemoryRoot(whole)
    inspect_host(root)
    paths = sorted(root.read)
    random = Random(zlib.crc32(machine.name.encode()))  # noqa: S311 - the same damage in each run
    trees = []
    for _ in range(TREES):
        tree = dict(whole)
        for spoil in random.sample(WAYS, random.randint(1, 3)):
            spoil(random, tree, paths)
        trees.append(tree)
    return trees


def host_of(tree: Tree) -> Host | None:
    """The host; None where the tree is refused, which needs that no CPU is left in it."""
    try:
        return inspect_host(MemoryRoot(tree))
    except DocumentError as error:
        assert "no CPU is to be seen" in str(error)  # noqa: PT017 - any other refusal is a defect
        return None


def test_a_damaged_tree_gives_plans_that_hold_every_rule(machine: Machine) -> None:
    for number, tree in enumerate(spoilt_trees(machine)):
        host = host_of(tree)
        if host is None:
            continue
        assert to_json(host_document(host))
        plans = [make_plan(host, profile) for profile in PROFILES]
        assert [broken_rules(host, plan) for plan in plans] == [[] for _ in PROFILES]
        # Documents and pictures take ten times as long as the plan: one of each tree.
        plan = plans[number % len(plans)]
        assert load_plan_text(dump_plan(plan), "plan.yaml") == plan
        assert to_json(plan_document(plan))
        draw(host, plan)


def draw(host: Host, plan: Plan) -> None:
    """Every picture, none of them empty."""
    screen = io.StringIO()
    print_host(host, file=screen, width=100)
    print_plan(host, plan, file=screen, width=80)
    assert screen.getvalue()
    assert host_svg(host).startswith("<svg")
    assert plan_svg(host, plan).startswith("<svg")
