"""Documents in and out: profiles and plans as YAML, every result as JSON."""

from nfvhost.planfile.file import read_text, write_text
from nfvhost.planfile.output import to_json, to_line, to_yaml
from nfvhost.planfile.plans import dump_plan, load_plan, load_plan_text, save_plan
from nfvhost.planfile.profiles import (
    DEFAULT_PROFILE,
    default_profile,
    load_profile,
    load_profile_text,
    shipped_profiles,
)
from nfvhost.planfile.reports import diff_document, explanation_document, report_document, verification_document
from nfvhost.planfile.v1 import headed, host_document, plan_document, profile_document
from nfvhost.planfile.vnfs import load_vnf, load_vnf_text, vnf_decisions

__all__ = [
    "DEFAULT_PROFILE",
    "default_profile",
    "diff_document",
    "dump_plan",
    "explanation_document",
    "headed",
    "host_document",
    "load_plan",
    "load_plan_text",
    "load_profile",
    "load_profile_text",
    "load_vnf",
    "load_vnf_text",
    "plan_document",
    "profile_document",
    "read_text",
    "report_document",
    "save_plan",
    "shipped_profiles",
    "to_json",
    "to_line",
    "to_yaml",
    "verification_document",
    "vnf_decisions",
    "write_text",
]
