"""The way to a cloud, and what its errors mean.

Clouds come from clouds.yaml and the OS_* variables, as for the `openstack` command. No credential is in any text that
this module makes: of the library's own words only the service's answer, its URL and its status are told.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import warnings
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

import requests.exceptions
from keystoneauth1 import exceptions
from keystoneauth1.adapter import Adapter
from keystoneauth1.exceptions import ClientException
from openstack.config import OpenStackConfig
from openstack.connection import Connection
from openstack.exceptions import ConfigException, HttpException, ResourceTimeout, SDKException, raise_from_response
from openstack.warnings import OpenStackDeprecationWarning, RemovedInSDK50Warning, RemovedInSDK60Warning

from nfvhost import __version__
from nfvhost.errors import DocumentError, NfvhostError, PreconditionError

# From this one on Nova checks the extra specs of a flavor; before, it takes any key
# (nova/api/openstack/compute/rest_api_version_history.rst).
COMPUTE_VERSION: Final = "2.86"
# Of one answer, where clouds.yaml has no `api_timeout`. Nova answers at once or leaves the work to others.
TIMEOUT_S: Final = 30.0
_SHOWN: Final = 300
_SERVER_ERROR: Final = 500


def connect(cloud: str | None = None, *, timeout_s: float = TIMEOUT_S) -> Connection:
    """An authorised connection, whose Nova speaks at least COMPUTE_VERSION, and is spoken to in it.

    `cloud` names an entry of clouds.yaml; None: OS_CLOUD, else the OS_* variables. DocumentError where the settings
    are wrong, PreconditionError where the cloud does not answer, refuses, or is too old.
    """
    where = _place(cloud)
    with asking("Keystone", where=where):
        made = _connection(cloud, where, timeout_s)
        made.session.get_token()
    with asking("Nova", where=where):
        # Asked here: openstacksdk itself would say no more than the two numbers.
        compute = made.session.get_endpoint_data(
            service_type="compute",
            interface=made.config.get_interface("compute"),
            region_name=made.config.get_region_name("compute"),
        )
    _demand_version(None if compute is None else compute.max_microversion, where)
    return made


@contextlib.contextmanager
def asking(service: str, *, where: str | None = None) -> Iterator[None]:
    """Errors of the library as one clear PreconditionError; `service` is who is asked: "Nova", "Placement"."""
    try:
        yield
    except NfvhostError:
        raise
    except SDKException as error:
        raise _of_library(error, service, where) from None
    except ClientException as error:
        raise _of_session(error, service, where) from None
    except requests.exceptions.RequestException as error:
        raise PreconditionError(f"{service} does not answer: {type(error).__name__}", where=where) from None


def document(service: Adapter, path: str, *, version: str | None = None) -> dict[str, Any]:
    """What a service has at a path, spoken to in a microversion; for use where `asking` tells who is asked."""
    # A microversion of None would be none at all, and not the one of the connection.
    answer = service.get(path) if version is None else service.get(path, microversion=version)
    raise_from_response(answer)
    return dict(answer.json())


def _place(cloud: str | None) -> str:
    """What the user named: the cloud, or the environment."""
    name = cloud or os.environ.get("OS_CLOUD")
    return f"cloud {name}" if name else "OS_* variables"


def _connection(cloud: str | None, where: str, timeout_s: float) -> Connection:

    if cloud is None and not any(name in os.environ for name in ("OS_CLOUD", "OS_AUTH_URL", "OS_AUTH_TYPE")):
        raise PreconditionError(
            "no cloud is named",
            hint="name one of clouds.yaml with --cloud NAME or OS_CLOUD, or source the cloud's openrc file",
        )
    # It warns of what it will drop, whether it is used or not.
    for outdated in (OpenStackDeprecationWarning, RemovedInSDK50Warning, RemovedInSDK60Warning):
        warnings.simplefilter("ignore", outdated)
    clouds = OpenStackConfig(app_name="nfvhost", app_version=__version__)
    try:
        region = clouds.get_one(cloud=cloud, compute_default_microversion=COMPUTE_VERSION)
    except ConfigException as error:
        names = ", ".join(sorted(set(clouds.get_cloud_names()) - {"defaults"}))
        raise DocumentError(
            _first_line(str(error)), where=where, hint=f"clouds.yaml has: {names}" if names else "look at clouds.yaml"
        ) from None
    if region.config.get("api_timeout") is None:
        region.config["api_timeout"] = timeout_s
    if str(region.config["auth_type"]).endswith("password") and not region.config["auth"].get("password"):
        # keystoneauth1 says this by a bare Exception.
        raise DocumentError("no password is given", where=where, hint="set OS_PASSWORD, or write it into secure.yaml")
    # It logs what it raises as well, with tracebacks, and warns on stderr of what becomes an error of ours.
    for name in ("keystoneauth", "urllib3", "openstack"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return Connection(config=region)


def _demand_version(highest: tuple[int | float, ...] | None, where: str) -> None:
    needed = tuple(map(int, COMPUTE_VERSION.split(".")))
    if highest is not None and highest >= needed:
        return
    found = "none that it tells" if highest is None else ".".join(map(str, highest))
    raise PreconditionError(
        f"Nova's highest microversion is {found}; {COMPUTE_VERSION} is needed, from which on it checks extra specs",
        where=where,
        hint="Ussuri (2020) or later has it",
    )


def _of_library(error: SDKException, service: str, where: str | None) -> PreconditionError:
    """An error of openstacksdk in our words."""
    if isinstance(error, HttpException) and error.status_code is not None:
        return _of_status(error.status_code, str(error.details or error.message), str(error.url or ""), service, where)
    if isinstance(error, ConfigException):
        return PreconditionError(_first_line(str(error)), where=where, hint="look at clouds.yaml or the OS_* variables")
    if isinstance(error, ResourceTimeout):
        return PreconditionError(f"{service} did not finish in time: {_first_line(str(error))}", where=where)
    return PreconditionError(f"{service}: {_first_line(str(error))}", where=where)


def _of_session(error: ClientException, service: str, where: str | None) -> PreconditionError:
    """An error of keystoneauth1 in our words."""
    match error:
        case exceptions.HttpError():
            return _of_status(error.http_status or 0, str(error.message or ""), str(error.url or ""), service, where)
        case exceptions.ConnectTimeout():
            what, hint = f"{service} does not answer in time", "is the service alive? is its address the right one?"
        case exceptions.SSLError():
            what, hint = f"{service}'s certificate is not trusted", "name the CA's file with OS_CACERT or `cacert`"
        case exceptions.ConnectionError() | exceptions.DiscoveryFailure():
            what, hint = f"{service} cannot be reached", "is auth_url the right one, and does the service run?"
        case exceptions.EndpointNotFound():
            what, hint = f"the catalogue has no endpoint of {service}", "look at region_name and interface"
        case exceptions.AuthPluginException():
            what, hint = _first_line(str(error)), "look at clouds.yaml or the OS_* variables"
        case _:
            what, hint = f"{service}: {_first_line(str(error))}", "`--debug` shows more"
    return PreconditionError(f"{what}{_at(str(error))}", where=where, hint=hint)


def _of_status(status: int, said: str, url: str, service: str, where: str | None) -> PreconditionError:
    """What an answer with an error's status means."""
    text = _first_line(said)
    place = f" ({_without_query(url)})" if url else ""
    match status:
        case 404 if url.endswith("/auth/tokens"):
            # So Keystone calls a token that it does not take any more.
            what, hint = "Keystone refuses this token", "it has expired or was revoked: get another one"
        case 401:
            what, hint = "Keystone refuses these credentials", "a wrong password, or an expired token or credential"
        case 403:
            what, hint = f"{service} does not allow it: {text}", "a role or a quota is missing: ask the administrator"
        case 404:
            what, hint = f"{service} has nothing there: {text}", "is the endpoint in the catalogue the right one?"
        case 409:
            what, hint = f"{service} says that it conflicts: {text}", "somebody else is at work there: try again"
        case _ if status >= _SERVER_ERROR:
            what, hint = f"{service} failed, {status}: {text}", "its log says why; try again when it is well"
        case _:
            what, hint = f"{service} refuses, {status}: {text}", "`--debug` shows more"
    return PreconditionError(f"{what}{place}", where=where, hint=hint)


def _first_line(text: str) -> str:
    """The first line that says something, without markup, not too long."""
    plain = re.sub(r"<[^>]*>", " ", text)
    line = next((one.strip() for one in plain.splitlines() if one.strip()), "no reason given")
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."


def _at(text: str) -> str:
    """Where the library says that it tried to reach, as ` at host:port`."""
    match = re.search(r"https?://[^\s'\"]+", text)
    if match is None:
        return ""
    try:
        parts = urlsplit(match[0].rstrip(".:,"))
        return f" at {parts.hostname}" + (f":{parts.port}" if parts.port else "")
    except ValueError:
        return ""


def _without_query(url: str) -> str:
    """The URL without what may be secret: user, password and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"
