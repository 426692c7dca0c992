"""What Prometheus scrapes of a host, and what `nfvhost top` shows of its switch."""

from nfvhost.metrics.catalogue import METRICS, Kind, Metric
from nfvhost.metrics.drift import DriftCount, DriftWatch
from nfvhost.metrics.exporter import Exporter, exposition, serve, write_textfile
from nfvhost.metrics.reading import DEFAULT_PORTS, Reading, read
from nfvhost.metrics.samples import Sample, samples
from nfvhost.metrics.top import Look, Top, look, top

__all__ = [
    "DEFAULT_PORTS",
    "METRICS",
    "DriftCount",
    "DriftWatch",
    "Exporter",
    "Kind",
    "Look",
    "Metric",
    "Reading",
    "Sample",
    "Top",
    "exposition",
    "look",
    "read",
    "samples",
    "serve",
    "top",
    "write_textfile",
]
