"""Captured machines on the screen and in pictures."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from nfvhost.planfile import default_profile
from nfvhost.planner import make_plan
from nfvhost.render import print_host, print_plan
from nfvhost.render.svg import host_svg, plan_svg

if TYPE_CHECKING:
    from tests.conftest import Machine


def test_every_machine_and_its_plan_fit_on_a_screen(machine: Machine) -> None:
    host = machine.host
    plan = make_plan(host, default_profile())
    for width in (80, 120):
        screen = io.StringIO()
        print_host(host, file=screen, width=width, color=False)
        print_plan(host, plan, file=screen, width=width, color=False)
        assert [line for line in screen.getvalue().splitlines() if len(line) > width] == []


def test_every_machine_and_its_plan_are_drawn_with_all_threads(machine: Machine) -> None:
    host = machine.host
    for picture in (host_svg(host), plan_svg(host, make_plan(host, default_profile()))):
        rects = ET.fromstring(picture).iter("{http://www.w3.org/2000/svg}rect")  # noqa: S314 - our own text
        drawn = [int(cpu) for rect in rects if (cpu := rect.get("data-cpu"))]
        assert sorted(drawn) == list(host.online)
