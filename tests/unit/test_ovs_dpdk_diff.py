from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st
from ovs_model import bridge, carry_out, port, rows, state
from ovs_plans import OvsPlans

from nfvhost.access.ovs_rows import OpenVswitch, Place
from nfvhost.model.change import Activation, Disruption
from nfvhost.model.plan import OvsBridge, OvsPort, Plan
from nfvhost.resources.ovs_dpdk import OvsDpdk
from nfvhost.resources.ovs_dpdk.image import image_of
from nfvhost.resources.ovs_dpdk.operation import foreign_values, operations_of, remains, way_back
from nfvhost.resources.ovs_dpdk.place import ROOT, key_of, parse_key

if TYPE_CHECKING:
    from nfvhost.model.change import Change

OVS = OvsPlans()
MINE = {"nfvhost": "made"}


def changes(database: OpenVswitch, plan: Plan, version: str = "3.1.0") -> tuple[Change, ...]:
    return OvsDpdk().diff(state(database, version=version), plan)


def shown(database: OpenVswitch, plan: Plan, version: str = "3.1.0") -> dict[str, tuple[str | None, str | None]]:
    """Key, before and after of each change but the marks."""
    return {
        change.key: (change.before, change.after)
        for change in changes(database, plan, version)
        if not change.key.endswith("external_ids:nfvhost")
    }


def test_a_new_bridge_is_a_change_for_each_of_its_values() -> None:
    plan = OVS.plan(OVS.bridge("br0", OVS.port("p0", "dpdk", dpdk_devargs="net_null0", n_rxq=2, mtu=9000, tag=5)))
    assert shown(rows(), plan) == {
        "bridge br0": (None, "netdev"),
        "bridge br0 fail_mode": (None, "secure"),
        "port br0/p0": (None, "dpdk"),
        "port br0/p0 mtu_request": (None, "9000"),
        "port br0/p0 options:dpdk-devargs": (None, "net_null0"),
        "port br0/p0 options:n_rxq": (None, "2"),
        "port br0/p0 tag": (None, "5"),
    }


def test_foreign_keys_bridges_and_ports_are_in_no_change() -> None:
    theirs = rows(
        bridge("br0", port("p9", options={"x": "1"})),
        bridge("br-theirs", kind="system"),
        other_config={"vlan-limit": "2"},
    )
    assert shown(theirs, OVS.plan(OVS.bridge("br0", fail_mode=None))) == {}


def test_what_nfvhost_made_and_no_plan_names_goes() -> None:
    old = rows(
        bridge("br0", port("p0", "dpdk", port_ids=MINE), external_ids=MINE),
        other_config={"pmd-cpu-mask": "0x2", "vlan-limit": "2"},
        external_ids={"nfvhost": "adopted other_config:pmd-cpu-mask"},
    )
    assert shown(old, OVS.plan()) == {
        "port br0/p0": ("dpdk", None),
        "bridge br0": ("netdev", None),
        "other_config:pmd-cpu-mask": ("0x2", None),
    }


def test_a_bridge_that_holds_something_of_others_is_left_to_them() -> None:
    for extra in ({"ports": [port("theirs")]}, {"holds": ("controller",)}):
        ports = extra.pop("ports", [])
        old = rows(bridge("br0", *ports, external_ids=MINE, **extra))
        (change,) = changes(old, OVS.plan())
        assert (change.key, change.after) == ("bridge br0 external_ids:nfvhost", None)
        assert "left to its owner" in change.reason


def test_what_was_adopted_is_left_behind_as_it_is() -> None:
    old = rows(bridge("br0", port("p0", "dpdk", port_ids={"nfvhost": "adopted options:n_rxq"}, options={"n_rxq": "2"})))
    (change,) = changes(old, OVS.plan())
    assert (change.key, change.after) == ("port br0/p0 external_ids:nfvhost", None)


def test_a_foreign_value_is_in_the_change_that_replaces_it() -> None:
    theirs = rows(bridge("br0", port("p0", "system", options={"n_rxq": "1"}), fail_mode="standalone"))
    plan = OVS.plan(OVS.bridge("br0", OVS.port("p0", "afxdp", n_rxq=2)))
    assert shown(theirs, plan) == {
        "bridge br0 fail_mode": ("standalone", "secure"),
        "port br0/p0": ("system", "afxdp"),
        "port br0/p0 options:n_rxq": ("1", "2"),
    }


def test_a_setting_that_the_plan_dropped_goes_and_one_of_others_stays() -> None:
    old = rows(
        bridge(
            "br0",
            port(
                "p0",
                "dpdk",
                options={"n_rxq": "2", "rx-flow-ctrl": "true"},
                port_ids={"nfvhost": "made options:n_rxq"},
            ),
        )
    )
    plan = OVS.plan(OVS.bridge("br0", OVS.port("p0", "dpdk"), fail_mode=None))
    assert shown(old, plan) == {"port br0/p0 options:n_rxq": ("2", None)}


def test_keys_are_written_as_the_running_release_calls_them() -> None:
    for planned, version, written in (
        ("pmd_sleep_max", "3.1.0", "pmd-maxsleep"),
        ("pmd_sleep_max", "3.2.1", "pmd-sleep-max"),
        ("pmd_maxsleep", "3.5.0", "pmd-sleep-max"),
        ("pmd_maxsleep", "3.1.9", "pmd-maxsleep"),
    ):
        assert shown(rows(), OVS.plan(**{planned: "50"}), version) == {f"other_config:{written}": (None, "50")}


def test_a_key_that_the_running_release_lacks_is_not_written() -> None:
    assert shown(rows(), OVS.plan(dpdk_probe_at_init="true"), "3.7.0") == {}
    assert shown(rows(), OVS.plan(dpdk_probe_at_init="true"), "4.0.0") != {}
    assert shown(rows(), OVS.plan(pmd_sleep_max="50,3:0"), "3.2.0") == {}


def test_settings_of_dpdk_wait_for_a_restart_once_it_runs() -> None:
    plan = OVS.plan(dpdk_socket_mem="64", pmd_cpu_mask="0x2")
    before, after = (
        {change.key: change.activation for change in changes(rows(dpdk_initialized=runs), plan)}
        for runs in (False, True)
    )
    assert set(before.values()) == {Activation.NOW}
    assert after["other_config:dpdk-socket-mem"] == Activation.RESTART
    assert after["other_config:pmd-cpu-mask"] == Activation.NOW


def test_a_change_of_a_port_in_use_says_that_its_link_stops() -> None:
    old = rows(bridge("br0", port("p0", "dpdk", options={"n_rxq": "1"})))
    plan = OVS.plan(OVS.bridge("br0", OVS.port("p0", "dpdk", n_rxq=2), OVS.port("p1", "dpdk", n_rxq=2)))
    disruptions = {change.key: change.disruption for change in changes(old, plan)}
    assert disruptions["port br0/p0 options:n_rxq"] == Disruption.LINK
    assert disruptions["port br0/p1 options:n_rxq"] == Disruption.NONE
    assert disruptions["bridge br0 fail_mode"] == Disruption.NONE


def test_a_plan_without_open_vswitch_changes_nothing() -> None:
    plan = OVS.plan()
    without = Plan(**({field: getattr(plan, field) for field in plan.__slots__} | {"ovs": None}))
    old = rows(bridge("br0", port("p0", "dpdk", port_ids=MINE), external_ids=MINE))
    assert changes(old, without) == ()


NAMES = st.sampled_from(["a", "b", "c", "d-0", "e.1"])
SETTINGS = st.sampled_from(["fail_mode", "options:n_rxq", "external_ids:nfvhost", "other_config:a b", "mtu_request"])


@given(NAMES, st.none() | NAMES, st.none() | SETTINGS)
def test_a_key_as_text_and_as_a_place_is_the_same(one: str, other: str | None, setting: str | None) -> None:
    place = Place(one, other)
    assert parse_key(key_of(place, setting)) == (place, setting)
    if setting is not None and ":" in setting:
        assert parse_key(key_of(ROOT, setting)) == (ROOT, setting)


PLANNED_PORTS = st.builds(
    lambda name, kind, queues, mtu, tag: OVS.port(name, kind, n_rxq=queues, mtu=mtu, tag=tag),
    st.sampled_from(["p0", "p1", "p2", "p3"]),
    st.sampled_from(["dpdk", "afxdp", "patch"]),
    st.none() | st.integers(1, 3),
    st.none() | st.sampled_from([1500, 9000]),
    st.none() | st.integers(0, 3),
)


def _with_distinct_ports(bridges: list[OvsBridge]) -> tuple[OvsBridge, ...]:
    """Each name once in all bridges, as the check demands."""
    seen: set[str] = set()
    made = []
    for one in bridges:
        ports: list[OvsPort] = []
        for each in one.ports:
            if each.name not in seen:
                seen.add(each.name)
                ports.append(each)
        made.append(OVS.bridge(one.name, *ports, fail_mode=one.fail_mode))
    return tuple(made)


PLANS = st.builds(
    lambda bridges, keys: OVS.plan(*_with_distinct_ports(bridges), **keys),
    st.lists(
        st.builds(
            lambda name, ports, mode: OVS.bridge(name, *ports, fail_mode=mode),
            st.sampled_from(["br0", "br1", "br2"]),
            st.lists(PLANNED_PORTS, max_size=3),
            st.sampled_from([None, "secure", "standalone"]),
        ),
        max_size=3,
        unique_by=lambda one: one.name,
    ),
    st.dictionaries(
        st.sampled_from(["pmd_cpu_mask", "pmd_rxq_assign", "dpdk_extra"]), st.sampled_from(["1", "2"]), max_size=3
    ),
)
THEIRS = rows(
    bridge("br0", port("x0", options={"n_rxq": "9"}), fail_mode="standalone", other_config={"theirs": "1"}),
    bridge("br-theirs", port("x1", "system")),
    other_config={"vlan-limit": "2", "pmd-rxq-assign": "cycles"},
    external_ids={"system-id": "x"},
)


@given(st.sampled_from([rows(), THEIRS]), st.lists(PLANS, min_size=1, max_size=3))
def test_any_plan_after_any_other_is_reached_and_then_changes_nothing(start: OpenVswitch, plans: list[Plan]) -> None:
    now = start
    for plan in plans:
        now = carry_out(now, operations_of(changes(now, plan)))
        assert changes(now, plan) == ()


@given(st.sampled_from([rows(), THEIRS]), PLANS, PLANS)
def test_the_way_back_from_any_apply_leads_exactly_to_where_it_began(
    start: OpenVswitch, first: Plan, second: Plan
) -> None:
    before = carry_out(start, operations_of(changes(start, first)))
    wanted = changes(before, second)
    after = carry_out(before, operations_of(wanted))

    back = carry_out(after, way_back(image(before, wanted), after, wanted))

    assert back == before
    assert list(foreign_values(after, wanted)) == list(foreign_values(before, wanted)) == []
    assert list(remains(back, wanted)) == []
    assert way_back(before, before, wanted) == ()


@given(PLANS, PLANS)
def test_no_plan_ever_touches_what_is_not_nfvhosts(first: Plan, second: Plan) -> None:
    now = THEIRS
    for plan in (first, second, OVS.plan()):
        now = carry_out(now, operations_of(changes(now, plan)))
        theirs, before = now.bridge("br-theirs"), THEIRS.bridge("br-theirs")
        assert theirs == before
        assert dict(now.other_config)["vlan-limit"] == "2"
        assert dict(now.external_ids)["system-id"] == "x"
        ours = now.bridge("br0")
        assert ours is not None
        assert port("x0", options={"n_rxq": "9"}) in ours.ports
        assert ours.other_config == (("theirs", "1"),)


def test_what_remains_of_a_failed_rollback_is_named() -> None:
    before = rows(other_config={"pmd-cpu-mask": "0x2"})
    wanted = changes(before, OVS.plan(OVS.bridge("br0"), pmd_cpu_mask="0x4"))
    after = carry_out(before, operations_of(wanted))
    assert dict(remains(after, wanted)) == {
        "other_config:pmd-cpu-mask": "was '0x2' and is '0x4'",
        "external_ids:nfvhost": "was absent and is 'adopted other_config:pmd-cpu-mask'",
        "bridge br0": "was absent and is 'netdev'",
    }


def image(before: OpenVswitch, wanted: tuple[Change, ...]) -> OpenVswitch:
    """The rows of the before-image, which the journal keeps."""
    return image_of(state(before), wanted).database


def test_a_before_image_holds_no_setting_of_others() -> None:
    secret = port("x0", options={"psk": "secret", "n_rxq": "1"}, external_ids={"key": "secret"})
    before = rows(
        bridge("br0", secret, external_ids={"token": "secret"}, other_config={"x": "secret"}),
        bridge("br1", port("y0", options={"psk": "secret"})),
        external_ids={"system-id": "secret"},
        other_config={"private_key": "secret", "pmd-cpu-mask": "0x2"},
    )
    planned = OVS.plan(OVS.bridge("br0", OVS.port("x0", "dpdk", n_rxq=4)), pmd_cpu_mask="0x4")

    kept = image(before, changes(before, planned))

    assert "secret" not in repr(kept)
    assert kept.other_config == (("pmd-cpu-mask", "0x2"),)
    assert [one.name for one in kept.bridges] == ["br0"]


def applied(planned: Plan, start: OpenVswitch) -> tuple[tuple[Change, ...], OpenVswitch]:
    """The changes of a plan, and the rows with them."""
    wanted = changes(start, planned)
    return wanted, carry_out(start, operations_of(wanted))


def test_a_value_that_someone_else_changed_since_stays_and_is_named_unless_forced() -> None:
    before = rows(other_config={"pmd-cpu-mask": "0x2"})
    wanted, after = applied(OVS.plan(pmd_cpu_mask="0x4"), before)
    theirs = replace(after, other_config=(("pmd-cpu-mask", "0x8"),))

    assert dict(foreign_values(theirs, wanted)) == {
        "other_config:pmd-cpu-mask": "was '0x2', then nfvhost made it '0x4'; since then someone else made it '0x8'"
    }
    gentle = carry_out(theirs, way_back(before, theirs, wanted))
    assert gentle.other_config == (("pmd-cpu-mask", "0x8"),)
    assert gentle.external_ids == before.external_ids
    assert carry_out(theirs, way_back(before, theirs, wanted, force=True)) == before


def test_a_bridge_into_which_others_have_put_a_port_since_is_not_dropped_unless_forced() -> None:
    before = rows()
    wanted, after = applied(OVS.plan(OVS.bridge("br0", OVS.port("p0", "dpdk"))), before)
    (made,) = after.bridges
    theirs = replace(after, bridges=(replace(made, ports=(*made.ports, port("tap0"))),))

    assert dict(foreign_values(theirs, wanted)) == {
        "bridge br0": "nfvhost made it, and since then others have put into it: tap0"
    }
    (kept,) = carry_out(theirs, way_back(before, theirs, wanted)).bridges
    assert [one.name for one in kept.ports] == ["br0", "tap0"]
    assert carry_out(theirs, way_back(before, theirs, wanted, force=True)) == before


def test_a_port_of_which_others_have_changed_a_setting_since_is_not_dropped_unless_forced() -> None:
    before = rows(bridge("br0"))
    wanted, after = applied(OVS.plan(OVS.bridge("br0", OVS.port("p0", "dpdk", n_rxq=2))), before)
    (made,) = after.bridges
    ports = tuple(
        replace(one, interfaces=(replace(one.interfaces[0], options=(("n_rxq", "3"),)),)) if one.name == "p0" else one
        for one in made.ports
    )
    theirs = replace(after, bridges=(replace(made, ports=ports),))

    assert [key for key, _ in foreign_values(theirs, wanted)] == ["port br0/p0 options:n_rxq"]
    (kept,) = carry_out(theirs, way_back(before, theirs, wanted)).bridges
    assert "p0" in [one.name for one in kept.ports]
    assert carry_out(theirs, way_back(before, theirs, wanted, force=True)) == before
