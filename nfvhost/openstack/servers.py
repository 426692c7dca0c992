"""Servers: made, waited for, listed, deleted.

Source: Nova's API 2.86; nova/compute/power_state.py.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

from openstack.compute.v2.server import Server
from openstack.connection import Connection
from openstack.exceptions import NotFoundException

from nfvhost.access.clock import now_s, wait_for
from nfvhost.errors import PreconditionError
from nfvhost.model.server import ListedServer
from nfvhost.model.vnf import Vnf
from nfvhost.openstack.connect import asking
from nfvhost.openstack.marks import MARK, PRINT_KEY, VNF_KEY, vnf_of
from nfvhost.planfile import read_text

RUNNING: Final = 1
_POWER: Final = {0: "unknown", 1: "running", 3: "paused", 4: "shut down", 6: "crashed", 7: "suspended"}
_POLL_S: Final = 1.0
# How often a thread looks at what all of them have last been told.
_LOOK_S: Final = 0.1
# Nova tells ACTIVE from its own records; what libvirt says may come a moment later, and so does the reason of an ERROR.
_SETTLES_S: Final = 20.0
_DELETE_S: Final = 120.0


def power(server: Server) -> str:
    """What the hypervisor last told of a server, in a word."""
    return _POWER.get(server.power_state or 0, str(server.power_state))


def fingerprint(vnf: Vnf) -> str:
    """Twelve digits that differ where anything differs that a running server cannot take up."""
    return hashlib.sha256(repr(vnf).encode()).hexdigest()[:12]


def find_servers(cloud: Connection, vnf: Vnf) -> dict[str, Server]:
    """Those servers of the VNF that are there, by name.

    PreconditionError where one of its names is somebody else's.
    """
    found = _named(cloud, vnf)
    for name, one in found.items():
        if vnf_of(one.metadata) != vnf.name:
            raise PreconditionError(
                "is there and is not nfvhost's", where=f"server {name}", hint="give the VNF another name"
            )
    return found


def _named(cloud: Connection, vnf: Vnf) -> dict[str, Server]:
    """The servers with the VNF's names, whoever made them."""
    # A regular expression of Nova's database: it may hold no `|` (nova/db/main/api.py, _safe_regex_mysql).
    pattern = f"^{re.sub('[^A-Za-z0-9_-]', '.', vnf.name)}(-[0-9]+)?$"
    names = frozenset(vnf.names)
    with asking("Nova"):
        return {str(one.name): one for one in cloud.compute.servers(name=pattern) if one.name in names}


class Watch:
    """Servers that are being built: Nova is asked for all those of a VNF at once, however many threads wait."""

    def __init__(self, cloud: Connection) -> None:
        self._cloud = cloud
        self._lock = threading.Lock()
        self._vnfs: dict[str, Vnf] = {}  # of the ids that are waited for
        self._built: dict[str, Server] = {}
        self._asked_s: float | None = None

    @contextlib.contextmanager
    def waiting_for(self, server: str, vnf: Vnf) -> Iterator[None]:
        """The server, by its id, is among those that are asked for."""
        with self._lock:
            self._vnfs[server] = vnf
        try:
            yield
        finally:
            with self._lock:
                del self._vnfs[server]

    def built(self, server: str) -> Server | None:
        """The server by its id, as of no more than _POLL_S ago; None until Nova has finished with it, well or not."""
        with self._lock:
            if self._asked_s is None or now_s() - self._asked_s >= _POLL_S:
                there = [one for vnf in set(self._vnfs.values()) for one in _named(self._cloud, vnf).values()]
                self._built = {str(one.id): one for one in there if one.status != "BUILD"}
                self._asked_s = now_s()
            return self._built.get(server)


def create_server(
    cloud: Connection,
    vnf: Vnf,
    name: str,
    *,
    image: str,
    flavor: str,
    ports: Sequence[str],
    group: str | None,
) -> Server:
    """The server, on its way; `wait_server` tells when it is there."""
    boot = vnf.cloud_init
    given: dict[str, object] = {}
    if boot is not None:
        text = boot.user_data if boot.user_data_file is None else read_text(boot.user_data_file)
        if text is not None:
            given["user_data"] = base64.b64encode(text.encode()).decode()
        given["config_drive"] = boot.config_drive
    if vnf.key_pair is not None:
        given["key_name"] = vnf.key_pair
    if vnf.availability_zone is not None:
        given["availability_zone"] = vnf.availability_zone
    if group is not None:
        given["scheduler_hints"] = {"group": group}
    with asking("Nova", where=f"server {name}"):
        return cloud.compute.create_server(
            name=name,
            image_id=image,
            flavor_id=flavor,
            networks=[{"port": port} for port in ports] or "none",
            metadata={MARK: "v1", VNF_KEY: vnf.name, PRINT_KEY: fingerprint(vnf)},
            **given,
        )


def wait_server(cloud: Connection, server: Server, vnf: Vnf, watch: Watch, *, timeout_s: float) -> Server:
    """The server of the VNF, once it has been built or has failed, or after `timeout_s`; what runs has power too."""

    def look() -> Server:
        with asking("Nova", where=f"server {server.name}"):
            found: Server = cloud.compute.get_server(server.id)
        return found

    def settled() -> Server | None:
        found = look()
        unsettled = (found.status == "ACTIVE" and not runs(found)) or (found.status == "ERROR" and not found.fault)
        return None if unsettled else found

    with watch.waiting_for(server.id, vnf):
        built = wait_for(lambda: watch.built(server.id), timeout_s=timeout_s, interval_s=_LOOK_S)
    if built is None:
        return look()
    if runs(built):
        return built
    return wait_for(settled, timeout_s=_SETTLES_S, interval_s=_POLL_S) or look()


def runs(server: Server) -> bool:
    """Whether it is built and its processor is turning: libvirt may have paused what Nova calls active."""
    return bool(server.status == "ACTIVE" and server.power_state == RUNNING)


def delete_servers(cloud: Connection, servers: Sequence[str]) -> None:
    """Nothing, with those servers gone; PreconditionError where one stays."""
    with asking("Nova"):
        for one in servers:
            cloud.compute.delete_server(one, ignore_missing=True)
    for one in servers:
        if not wait_for(partial(_gone, cloud, one), timeout_s=_DELETE_S, interval_s=_POLL_S):
            raise PreconditionError(f"is still there after {_DELETE_S:g} s", where=f"server {one}")


def _gone(cloud: Connection, server: str) -> bool:
    with asking("Nova", where=f"server {server}"):
        try:
            # One that is called DELETED is listed, and has its flavor and its image, until nova-compute is through.
            cloud.compute.get_server(server)
        except NotFoundException:
            return True
    return False


def servers_of(cloud: Connection, vnf: str | None = None) -> list[Server]:
    """The servers that nfvhost has made, or those of one VNF, by name."""
    with asking("Nova"):
        found = [one for one in cloud.compute.servers() if vnf_of(one.metadata) is not None]
    return sorted((one for one in found if vnf in {None, vnf_of(one.metadata)}), key=lambda one: str(one.name))


def listed(server: Server) -> ListedServer:
    """What a person wants to know of a server."""
    fault = (server.fault or {}).get("message")
    return ListedServer(
        name=server.name,
        vnf=vnf_of(server.metadata) or "",
        id=server.id,
        status=server.status,
        power=power(server),
        host=server.compute_host,
        flavor=(server.flavor or {}).get("original_name") or "",
        fault=str(fault) if fault else None,
    )
