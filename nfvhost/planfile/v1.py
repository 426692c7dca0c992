"""The format nfvhost/v1. What is released here is read for ever: a later format is a module of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from nfvhost.model.plan import Plan, VfSettings
from nfvhost.model.profile import Profile
from nfvhost.model.vnf import Vnf
from nfvhost.planfile import ranges, texts
from nfvhost.planfile.structure import plain, structure

if TYPE_CHECKING:
    from nfvhost.errors import Problem
    from nfvhost.model.host import Host
    from nfvhost.planfile.tree import Mapping

API_VERSION: Final = "nfvhost/v1"
# Everything that says `kind:`; the first three are read, the others are only written.
KINDS: Final = (
    *("Profile", "Plan", "Vnf", "Host", "Capture", "Explanation", "Diff", "Report", "Verification"),
    *("Sandbox", "Sandboxes", "Probe", "Diagnosis", "Flavors", "FlavorChanges"),
    *("BenchResult", "BenchComparison", "BenchPlot", "BenchTuning"),
)


def read_profile(body: Mapping, problems: list[Problem]) -> Profile | None:
    """The profile of a document's body; None where something was added to `problems`."""
    return structure(body, Profile, ranges=ranges.V1, texts=texts.V1, problems=problems)


def read_plan(body: Mapping, problems: list[Problem]) -> Plan | None:
    """The plan of a document's body; None where something was added to `problems`."""
    return structure(body, Plan, ranges=ranges.V1, texts=texts.V1, problems=problems)


def read_vnf(body: Mapping, problems: list[Problem]) -> Vnf | None:
    """The VNF of a document's body; None where something was added to `problems`."""
    return structure(body, Vnf, ranges=ranges.V1, texts=texts.V1, problems=problems)


def headed(kind: str, body: dict[str, Any]) -> dict[str, Any]:
    """A document: what it is, then what it says."""
    return {"apiVersion": API_VERSION, "kind": kind, **body}


def profile_document(profile: Profile) -> dict[str, Any]:
    """The profile as a document."""
    return headed("Profile", plain(profile))


def plan_document(plan: Plan) -> dict[str, Any]:
    """The plan as a document; a section that the plan has not is there and empty, so that readers find its keys."""
    document = headed("Plan", plain(plan))
    document["ovs"] = document["ovs"] or {"otherConfig": {}, "bridges": []}
    document["nova"] = document["nova"] or {}
    document["neutron"] = document["neutron"] or {}
    return document


def short_plan_document(plan: Plan) -> dict[str, Any]:
    """The plan as a document in which a section that it has not, or that says nothing, is null."""
    document = headed("Plan", plain(plan))
    for nic, told in zip(plan.nics, document["nics"], strict=True):
        if nic.vf_settings == VfSettings():
            told["vfSettings"] = None
    return document


def host_document(host: Host) -> dict[str, Any]:
    """The host's facts as a document: absent ones null, memory in whole MiB."""
    body = _in_mib(plain(host))
    for cpu in body["cpus"]:
        # An offline CPU has no topology, so it has no siblings either, not even itself.
        cpu["threadSiblings"] = cpu["threadSiblings"] or None
    return headed("Host", body)


def _in_mib(value: Any) -> Any:  # noqa: ANN401 - any part of a document
    """The same with each `…KiB` told as `…MiB`."""
    if isinstance(value, list):
        return [_in_mib(item) for item in value]
    if not isinstance(value, dict):
        return value
    told = {}
    for key, below in value.items():
        if key.endswith("KiB"):
            told[f"{key[:-3]}MiB"] = None if below is None else below // 1024
        else:
            told[key] = _in_mib(below)
    return told
