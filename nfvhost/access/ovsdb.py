"""The database of Open vSwitch: its rows as values, and one transaction for what belongs together.

Columns: ovs-vswitchd.conf.db(5). The schema is the server's own, so that columns which it lacks are absent here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from ovs.db.data import Datum
from ovs.db.error import Error as LibraryError
from ovs.db.idl import Idl, Row, SchemaHelper, Transaction
from ovs.poller import Poller

from nfvhost.access.clock import now_s
from nfvhost.access.command import find
from nfvhost.access.ovs_json import use_fast_parser
from nfvhost.access.ovs_rows import (
    Bridge,
    Drop,
    Image,
    Interface,
    Make,
    OpenVswitch,
    Operation,
    Pairs,
    Place,
    Port,
    Restore,
    Set,
)
from nfvhost.access.unixctl import DaemonError, call
from nfvhost.errors import PreconditionError

use_fast_parser()

_Json = Any
_Named = TypeVar("_Named", "Bridge", "Port")

_DATABASE: Final = "Open_vSwitch"
_UNIX: Final = "unix:"
_SLICE_MS: Final = 100
# A verify of the transaction fails where another client wrote the same column meanwhile; each try reads again.
_TRIES: Final = 5
# One for all: json.dumps makes another for each value.
_JSON: Final = json.JSONEncoder(sort_keys=True)

# What clients write, per table; the rest is ovs-vswitchd's report. Sub-rows that only a bridge holds (controllers,
# mirrors, flow export) cannot be made again from here: a bridge that has some is never dropped.
_INTERFACE_SETTINGS: Final = [
    "name",
    "type",
    "options",
    "other_config",
    "external_ids",
    "mtu_request",
    "ofport_request",
    "mac",
    "bfd",
    "cfm_mpid",
    "lldp",
    "ingress_policing_rate",
    "ingress_policing_burst",
    "ingress_policing_kpkts_rate",
    "ingress_policing_kpkts_burst",
]
_PORT_SETTINGS: Final = [
    "name",
    "tag",
    "trunks",
    "cvlans",
    "vlan_mode",
    "qos",
    "mac",
    "bond_mode",
    "lacp",
    "bond_updelay",
    "bond_downdelay",
    "bond_fake_iface",
    "fake_bridge",
    "other_config",
    "external_ids",
    "protected",
]
_BRIDGE_SETTINGS: Final = [
    "name",
    "datapath_type",
    "fail_mode",
    "other_config",
    "external_ids",
    "protocols",
    "flood_vlans",
    "stp_enable",
    "rstp_enable",
    "mcast_snooping_enable",
]
_BRIDGE_HOLDS: Final = ["controller", "mirrors", "netflow", "sflow", "ipfix", "flow_tables", "auto_attach"]
_COLUMNS: Final = {
    _DATABASE: [
        "bridges",
        "other_config",
        "external_ids",
        "next_cfg",
        "cur_cfg",
        "ovs_version",
        "dpdk_version",
        "dpdk_initialized",
        "iface_types",
    ],
    "Bridge": [*_BRIDGE_SETTINGS, *_BRIDGE_HOLDS, "ports"],
    "Port": [*_PORT_SETTINGS, "interfaces"],
    "Interface": [*_INTERFACE_SETTINGS, "mtu", "ofport", "error", "link_state", "status"],
    "QoS": ["type"],
}


class OvsdbError(PreconditionError):
    """The database does not answer, or refuses; its own text is in the message."""


class NotRunningError(OvsdbError):
    """Nobody listens at the address of the database."""


class NotInstalledError(NotRunningError):
    """The same on a machine that has no ovsdb-server."""


class ConflictError(OvsdbError):
    """Someone else wrote what this transaction was about to change."""


class Ovsdb:
    """One connection; `with Ovsdb(address) as db:`.

    The address is `unix:/path/db.sock`, or the path alone. OvsdbError where the database cannot be reached.
    """

    def __init__(self, address: str, *, timeout_s: float = 10.0) -> None:
        self._path = socket_path(address)
        self._timeout_s = timeout_s
        schema = self._server_schema()
        helper = SchemaHelper(schema_json=schema)
        helper.register_all()
        self._idl = Idl(_UNIX + self._path, helper, probe_interval=0)
        self._read: tuple[int, OpenVswitch] | None = None
        if not self._run_until(lambda: self._idl.has_ever_connected() and bool(self._rows(_DATABASE)), timeout_s):
            self._idl.close()
            raise OvsdbError(
                f"the database sent no content within {timeout_s:g} s",
                where=self._path,
                hint="was it ever initialised (ovs-vsctl --no-wait init)?",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._idl.close()

    def catch_up(self) -> None:
        """Nothing, once all that others have written until now is known here; OvsdbError where the server is gone.

        A select goes there and back: the server sends the changes that it has before it answers.
        """
        self._idl.run()
        transaction = Transaction(self._idl)
        self._root.fetch("next_cfg")
        try:
            status = self._finish(transaction, now_s() + self._timeout_s)
        except BaseException:
            transaction.abort()
            raise
        if status != Transaction.SUCCESS:
            raise OvsdbError(f"ovsdb-server does not answer: {transaction.get_error()}", where=self._path)

    def close(self) -> None:
        """The connection ends."""
        self._idl.close()

    def read(self) -> OpenVswitch:
        """All rows as they are now known here."""
        self._idl.run()
        if self._read is None or self._read[0] != self._idl.change_seqno:
            self._read = self._idl.change_seqno, self._rows_now()
        return self._read[1]

    def _rows_now(self) -> OpenVswitch:
        root = self._root
        version = _optional(root, "dpdk_version")
        return OpenVswitch(
            other_config=_pairs(root, "other_config"),
            external_ids=_pairs(root, "external_ids"),
            bridges=_sorted(_bridge(row) for row in root.bridges),
            next_cfg=root.next_cfg,
            cur_cfg=root.cur_cfg,
            ovs_version=_optional(root, "ovs_version"),
            # A build without DPDK says "none" (lib/dpdk-stub.c, dpdk_get_version).
            dpdk_version=None if version in {None, "none"} else version,
            dpdk_initialized=bool(getattr(root, "dpdk_initialized", False)),
            iface_types=tuple(sorted(getattr(root, "iface_types", ()))),
        )

    def commit(self, operations: tuple[Operation, ...]) -> int:
        """The next_cfg that ovs-vswitchd reaches once it has carried out these operations, all in one transaction.

        Without any operation, next_cfg alone goes up: ovs-vswitchd then tries again what it could not open.
        ConflictError where a value is no longer what a `Set` says that it was; OvsdbError with the server's text
        where it refuses. Nothing is written then.
        """
        deadline = now_s() + self._timeout_s
        for _ in range(_TRIES):
            self._idl.run()
            transaction = Transaction(self._idl)
            try:
                before = self._root.next_cfg
                for operation in operations:
                    self._add(transaction, operation)
                if operations:
                    self._root.increment("next_cfg")
                else:
                    self._root.verify("next_cfg")
                    self._root.next_cfg = before + 1
                status = self._finish(transaction, deadline)
            except BaseException:
                # Also where a signal comes: the IDL refuses to run while a transaction is open.
                transaction.abort()
                raise
            if status == Transaction.SUCCESS:
                return int(transaction.get_increment_new_value()) if operations else before + 1
            if status != Transaction.TRY_AGAIN:
                raise OvsdbError(f"the transaction was refused: {transaction.get_error()}", where=self._path)
        raise ConflictError(
            f"another program kept writing the same columns through {_TRIES} tries",
            where=self._path,
            hint="who else manages this Open vSwitch? let it finish first",
        )

    def wait_for_cfg(self, number: int, *, timeout_s: float, alive: Callable[[], bool]) -> bool:
        """Whether ovs-vswitchd has carried out `number`; False after `timeout_s`, or as soon as it is not alive."""
        self._run_until(lambda: self._root.cur_cfg >= number or not alive(), timeout_s)
        return bool(self._root.cur_cfg >= number)

    @property
    def _root(self) -> Row:
        return next(iter(self._rows(_DATABASE)))

    def _rows(self, table: str) -> list[Row]:
        return list(self._idl.tables[table].rows.values())

    def _named(self, rows: Iterable[Row], name: str, what: str) -> Row:
        for row in rows:
            if row.name == name:
                return row
        raise ConflictError(f"{what} is no longer there", where=self._path, hint="run the command again")

    def _server_schema(self) -> _Json:
        """The server's schema, cut down to the columns that are used here and that it has."""
        try:
            schema = call(self._path, "get_schema", [_DATABASE], timeout_s=self._timeout_s)
        except FileNotFoundError as error:
            if find("ovsdb-server") is None:
                raise NotInstalledError(
                    "Open vSwitch is not installed, and no database has a socket here",
                    where=self._path,
                    hint="install openvswitch-switch-dpdk (Debian, Ubuntu) or openvswitch (Fedora)",
                ) from error
            raise NotRunningError(
                "Open vSwitch is not running: its database has no socket here",
                where=self._path,
                hint="start it (systemctl start openvswitch-switch), or name another database with --ovsdb",
            ) from error
        except ConnectionRefusedError as error:
            raise NotRunningError(
                "ovsdb-server is not running: its socket is there, but nobody listens",
                where=self._path,
                hint="start it (systemctl start openvswitch-switch); its log says why it ended",
            ) from error
        except PermissionError as error:
            raise OvsdbError(
                "no permission to open the database of Open vSwitch", where=self._path, hint="run as root"
            ) from error
        except TimeoutError as error:
            raise OvsdbError(
                f"ovsdb-server does not answer within {self._timeout_s:g} s", where=self._path, hint="is it stopped?"
            ) from error
        except DaemonError as error:
            raise OvsdbError(f"this is no Open vSwitch database: {error.problems[0].what}", where=self._path) from error
        except OSError as error:
            raise OvsdbError(f"the database cannot be reached: {error.strerror}", where=self._path) from error
        tables = schema["tables"]
        schema["tables"] = {name: tables[name] for name in _COLUMNS if name in tables}
        for name, table in schema["tables"].items():
            kept = {column: table["columns"][column] for column in _COLUMNS[name] if column in table["columns"]}
            table["columns"] = {column: _without_foreign_references(base) for column, base in kept.items()}
            table.pop("indexes", None)
        return schema

    def _run_until(self, ready: Callable[[], bool], timeout_s: float) -> bool:
        deadline = now_s() + timeout_s
        while True:
            self._idl.run()
            if ready():
                return True
            if now_s() >= deadline:
                return False
            poller = Poller()
            self._idl.wait(poller)
            poller.timer_wait(_SLICE_MS)
            poller.block()

    def _finish(self, transaction: Transaction, deadline: float) -> str:
        while (status := transaction.commit()) == Transaction.INCOMPLETE:
            if now_s() >= deadline:
                raise OvsdbError(
                    f"ovsdb-server did not answer a transaction within {self._timeout_s:g} s", where=self._path
                )
            self._idl.run()
            poller = Poller()
            self._idl.wait(poller)
            transaction.wait(poller)
            poller.timer_wait(_SLICE_MS)
            poller.block()
        return str(status)

    def _add(self, transaction: Transaction, operation: Operation) -> None:
        match operation:
            case Make(place=Place(bridge=str(bridge), port=None), type=kind):
                self._make_bridge(transaction, bridge, {"datapath_type": kind})
            case Make(place=Place(bridge=str(bridge), port=str(port)), type=kind):
                self._make_port(transaction, self._bridge_row(bridge), port, kind)
            case Drop(place=Place(bridge=str(bridge), port=None)):
                row = self._bridge_row(bridge)
                self._root.delvalue("bridges", row)
            case Drop(place=Place(bridge=str(bridge), port=str(port))):
                row = self._bridge_row(bridge)
                row.delvalue("ports", self._named(row.ports, port, f"port {bridge}/{port}"))
            case Restore(of=None, row=Bridge() as image):
                self._restore_bridge(transaction, image)
            case Restore(of=str(bridge), row=Port() as image):
                self._restore_port(transaction, self._bridge_row(bridge), image)
            case Set():
                self._set(operation)
            case _:
                raise ValueError(f"{operation} names no row")

    def _bridge_row(self, name: str) -> Row:
        return self._named(self._root.bridges, name, f"bridge {name}")

    def _make_bridge(self, transaction: Transaction, name: str, columns: Mapping[str, str]) -> Row:
        bridge = transaction.insert(self._idl.tables["Bridge"])
        bridge.name = name
        for column, value in columns.items():
            _assign(bridge, column, value)
        bridge.ports = []
        self._root.addvalue("bridges", bridge)
        # The bridge's own interface, as ovs-vsctl add-br makes it.
        self._make_port(transaction, bridge, name, "internal")
        return bridge

    def _make_port(self, transaction: Transaction, bridge: Row, name: str, kind: str) -> None:
        interface = transaction.insert(self._idl.tables["Interface"])
        interface.name = name
        _assign(interface, "type", "" if kind == "system" else kind)
        port = transaction.insert(self._idl.tables["Port"])
        port.name = name
        port.interfaces = [interface]
        self._attach(bridge, port)

    def _restore_bridge(self, transaction: Transaction, image: Bridge) -> None:
        bridge = transaction.insert(self._idl.tables["Bridge"])
        self._write_image(bridge, image.image)
        bridge.ports = []
        self._root.addvalue("bridges", bridge)
        for port in image.ports:
            self._restore_port(transaction, bridge, port)

    def _restore_port(self, transaction: Transaction, bridge: Row, image: Port) -> None:
        interfaces = []
        for one in image.interfaces:
            interface = transaction.insert(self._idl.tables["Interface"])
            self._write_image(interface, one.image)
            interfaces.append(interface)
        port = transaction.insert(self._idl.tables["Port"])
        self._write_image(port, image.image)
        port.interfaces = interfaces
        self._attach(bridge, port)

    @staticmethod
    def _attach(bridge: Row, port: Row) -> None:
        if _is_new(bridge):
            bridge.ports = [*bridge.ports, port]
        else:
            bridge.addvalue("ports", port)

    def _write_image(self, row: Row, image: Image) -> None:
        for column, text in image:
            datum = Datum.from_json(row._table.columns[column].type, json.loads(text))  # noqa: SLF001 - the library offers no other door
            setattr(row, column, datum.to_python(self._referenced))

    def _referenced(self, value: Any, base: Any) -> Any:  # noqa: ANN401 - the library's own types
        return self._idl.tables[base.ref_table.name].rows[value] if base.ref_table else value

    def _set(self, operation: Set) -> None:
        row, column, key = self._column(operation)
        new = _is_new(row)
        if not new:
            row.verify(column)
            now = _as_text(row, column, key)
            if now != operation.before:
                raise ConflictError(
                    f"is {now!r} now, and was {operation.before!r} a moment ago",
                    where=f"{operation.place} {operation.setting}".strip(),
                    hint="someone else changes Open vSwitch: run the command again",
                )
        if key is None:
            _assign(row, column, operation.after)
        elif new:
            pairs = {**getattr(row, column, {}), key: operation.after}
            setattr(row, column, {name: value for name, value in pairs.items() if value is not None})
        elif operation.after is None:
            row.delkey(column, key)
        else:
            row.setkey(column, key, operation.after)

    def _column(self, operation: Set) -> tuple[Row, str, str | None]:
        column, colon, key = operation.setting.partition(":")
        place = operation.place
        row = self._root
        if place.bridge is not None:
            row = self._bridge_row(place.bridge)
        if place.port is not None:
            row = self._named(row.ports, place.port, f"port {place.bridge}/{place.port}")
            if column not in {"tag", "external_ids"}:
                row = row.interfaces[0]
        return row, column, key if colon else None


_kept: ContextVar[dict[str, Ovsdb] | None] = ContextVar("_kept", default=None)


@contextmanager
def kept_connections() -> Iterator[None]:
    """Inside, `connected` opens each database once; a connection costs as much as a small transaction."""
    connections: dict[str, Ovsdb] = {}
    token = _kept.set(connections)
    try:
        yield
    finally:
        _kept.reset(token)
        for database in connections.values():
            database.close()


@contextmanager
def connected(address: str, *, timeout_s: float = 10.0) -> Iterator[Ovsdb]:
    """A connection that knows all that was written until now; OvsdbError where the database cannot be reached."""
    kept = _kept.get()
    if kept is None:
        with Ovsdb(address, timeout_s=timeout_s) as database:
            yield database
        return
    found = kept.pop(address, None)
    if found is not None:
        try:
            found.catch_up()
        except OvsdbError:
            found.close()
            found = None
    database = found or Ovsdb(address, timeout_s=timeout_s)
    try:
        yield database
    except BaseException:
        # Cut off at any point, it may be in the middle of a message.
        database.close()
        raise
    kept[address] = database


def socket_path(address: str) -> str:
    """The path of a database address, `unix:/run/openvswitch/db.sock` or the path alone.

    OvsdbError for other forms: the processes and pages behind a remote database are not this machine's.
    """
    path = address.removeprefix(_UNIX)
    if not os.path.isabs(path):
        raise OvsdbError(
            f"{address!r} is not the address of a database on this machine",
            where="--ovsdb",
            hint="write unix:/run/openvswitch/db.sock, with the whole path",
        )
    return path


def _without_foreign_references(column: _Json) -> _Json:
    """The column with references to tables that are not read here as plain UUIDs."""
    kind = column["type"]
    if isinstance(kind, dict):
        for part in ("key", "value"):
            base = kind.get(part)
            if isinstance(base, dict) and base.get("refTable") not in {None, *_COLUMNS}:
                del base["refTable"]
                base.pop("refType", None)
    return column


def _sorted(rows: Iterable[_Named]) -> tuple[_Named, ...]:
    return tuple(sorted(rows, key=lambda row: row.name))


def _bridge(row: Row) -> Bridge:
    fail_mode = _optional(row, "fail_mode")
    return Bridge(
        name=row.name,
        datapath_type=row.datapath_type or "system",
        fail_mode=fail_mode,
        other_config=_pairs(row, "other_config"),
        external_ids=_pairs(row, "external_ids"),
        ports=_sorted(_port(port) for port in row.ports),
        holds=tuple(column for column in _BRIDGE_HOLDS if getattr(row, column, ())),
        image=_image(row, _BRIDGE_SETTINGS),
    )


def _port(row: Row) -> Port:
    return Port(
        name=row.name,
        tag=_number(row, "tag"),
        external_ids=_pairs(row, "external_ids"),
        interfaces=tuple(sorted((_interface(one) for one in row.interfaces), key=lambda one: one.name)),
        image=_image(row, _PORT_SETTINGS),
    )


def _interface(row: Row) -> Interface:
    return Interface(
        name=row.name,
        type=row.type or "system",
        options=_pairs(row, "options"),
        other_config=_pairs(row, "other_config"),
        external_ids=_pairs(row, "external_ids"),
        status=_pairs(row, "status"),
        mtu_request=_number(row, "mtu_request"),
        mtu=_number(row, "mtu"),
        ofport=_number(row, "ofport"),
        error=_optional(row, "error"),
        link_state=_optional(row, "link_state"),
        image=_image(row, _INTERFACE_SETTINGS),
    )


def _pairs(row: Row, column: str) -> Pairs:
    return tuple(sorted(getattr(row, column, {}).items()))


def _optional(row: Row, column: str) -> str | None:
    value = getattr(row, column, ())
    return str(value[0]) if value else None


def _number(row: Row, column: str) -> int | None:
    value = getattr(row, column, ())
    return int(value[0]) if value else None


def _image(row: Row, columns: Iterable[str]) -> Image:
    data = row._data  # noqa: SLF001 - the rows' own JSON, which to_python() has lost the types of
    return tuple(
        (column, _JSON.encode(data[column].to_json()))
        for column in columns
        # What has no value is at its default, and most columns are; the library takes its time to say so.
        if column in data and data[column].values and not data[column].is_default()
    )


def _is_new(row: Row) -> bool:
    return row._data is None  # noqa: SLF001 - the library's own sign of an inserted row


def _as_text(row: Row, column: str, key: str | None) -> str | None:
    value = getattr(row, column)
    if key is not None:
        found = value.get(key)
        return None if found is None else str(found)
    if isinstance(value, list):
        return str(value[0]) if value else None
    # An empty type or datapath_type is the kernel's (ovs-vswitchd.conf.db(5)).
    return str(value) or "system"


def _assign(row: Row, column: str, text: str | None) -> None:
    """Set a column of one value; OvsdbError where the schema does not allow it, which the library only logs."""
    kind = row._table.columns[column].type  # noqa: SLF001 - the library offers no other door
    try:
        atom = int(text) if text is not None and kind.key.type.to_string() == "integer" else text
        value = [] if atom is None else [atom] if kind.is_optional() else atom
        Datum.from_python(kind, value, lambda one: one)
    except (LibraryError, ValueError) as error:
        raise OvsdbError(f"{text!r} is no value for this column: {error}", where=column) from error
    setattr(row, column, value)
