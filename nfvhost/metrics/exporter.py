"""The metrics as prometheus_client writes and serves them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Lock
from typing import TYPE_CHECKING, Final

from nfvhost.access.root import Root
from nfvhost.errors import PreconditionError, UsageError
from nfvhost.metrics.catalogue import METRICS, Kind
from nfvhost.metrics.drift import DriftCount
from nfvhost.metrics.reading import DEFAULT_PORTS, read
from nfvhost.metrics.samples import Sample, samples

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

_PREFIX: Final = "nfvhost_"
_MOST_PORT: Final = 65535
# node_exporter runs as another user.
_TEXTFILE_MODE: Final = 0o644


class Exporter:
    """What prometheus_client asks at each scrape; one scrape at a time."""

    def __init__(
        self,
        root: Root,
        *,
        ovsdb: str,
        most_ports: int = DEFAULT_PORTS,
        drift: Callable[[], DriftCount] | None = None,
    ) -> None:
        self._root = root
        self._ovsdb = ovsdb
        self._most_ports = most_ports
        self._drift = drift
        self._lock = Lock()

    def samples(self) -> Iterator[Sample]:
        """All numbers of now."""
        with self._lock:
            reading = read(self._root, ovsdb=self._ovsdb, most_ports=self._most_ports)
        return samples(reading, None if self._drift is None else self._drift())

    def describe(self) -> list[Metric]:
        """Nothing: prometheus_client would read all of it once more to learn the names."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Each metric of the catalogue, with its samples."""
        from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

        kinds = {Kind.GAUGE: GaugeMetricFamily, Kind.COUNTER: CounterMetricFamily}
        families = {one.name: kinds[one.kind](one.name, one.help, labels=one.labels) for one in METRICS}
        for name, labels, value in self.samples():
            families[_PREFIX + name].add_metric(labels, float(value))
        yield from families.values()


def exposition(exporter: Exporter) -> str:
    """Its numbers of now, in the text format of Prometheus."""
    from prometheus_client import generate_latest

    return generate_latest(_registry(exporter)).decode()


def write_textfile(exporter: Exporter, root: Root, path: str) -> None:
    """Nothing; `path` has the numbers of now for the textfile collector of node_exporter, which never sees a half."""
    root.write_file(path, exposition(exporter).encode(), mode=_TEXTFILE_MODE)


def serve(exporter: Exporter, listen: str) -> str:
    """The URL at which another thread serves from now on, until the process ends.

    UsageError where `listen` is no ADDRESS:PORT; PreconditionError where it cannot be listened at. Port 0: a free one.
    """
    from prometheus_client import start_http_server

    address, colon, port = listen.rpartition(":")
    host = address.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdecimal() or int(port) > _MOST_PORT:
        raise UsageError(f"{listen!r} is no address and port", where="--listen", hint="127.0.0.1:19100, [::1]:19100")
    try:
        server, _ = start_http_server(int(port), addr=host, registry=_registry(exporter))
    except OSError as error:
        raise PreconditionError(
            f"cannot listen there: {error.strerror}", where=f"--listen {listen}", hint="who has it? `ss -ltnp` says so"
        ) from error
    return f"http://{address}:{server.server_port}/metrics"


def _registry(exporter: Exporter) -> CollectorRegistry:
    from prometheus_client import CollectorRegistry

    registry = CollectorRegistry(auto_describe=False)
    registry.register(exporter)
    return registry


def demand_library() -> None:
    """Nothing where prometheus_client is installed; PreconditionError with what installs it else."""
    try:
        import prometheus_client  # noqa: F401
    except ImportError as error:
        raise PreconditionError(
            "prometheus_client is not installed", where="nfvhost metrics", hint="pip install 'nfvhost[metrics]'"
        ) from error
