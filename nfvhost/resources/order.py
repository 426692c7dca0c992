"""The order in which resources are applied; rollback goes the other way."""

from __future__ import annotations

from typing import Any, Final

from nfvhost.resources import Resource
from nfvhost.resources.ovs_dpdk import OvsDpdk

# Each resource has a state type of its own, which nobody but itself looks into.
ORDER: Final[tuple[Resource[Any], ...]] = (OvsDpdk(),)
