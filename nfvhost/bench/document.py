"""Results in and out: the document BenchResult as JSON, its points as CSV."""

from __future__ import annotations

import csv
import io
from typing import Any, Final

from nfvhost.bench.result import BenchResult
from nfvhost.bench.trial import Latency, Trial
from nfvhost.errors import DocumentError
from nfvhost.planfile import headed, read_text
from nfvhost.planfile.ranges import Ranges
from nfvhost.planfile.structure import plain, structure
from nfvhost.planfile.tree import parse_json
from nfvhost.planfile.versions import open_document

KIND: Final = "BenchResult"
_COUNTS: Final = (0, 2**63 - 1)
_RANGES: Final[Ranges] = {
    **{(Trial, name): _COUNTS for name in ("intended", "sent", "refused", "behind", "received")},
    (Latency, "samples"): _COUNTS,
}
_CSV: Final = (
    *("name", "path", "frames", "flows", "rounds", "ndr_mpps", "ndr_gbps_layer1", "ndr_gbps_layer2"),
    *("ndr_least_mpps", "ndr_most_mpps", "pdr_mpps", "pdr_gbps_layer1", "pdr_gbps_layer2"),
    *("generator", "generator_ceiling_mpps", "line_rate_mpps", "limited_by", "cycles_per_packet", "latency_median_us"),
)


def result_document(result: BenchResult) -> dict[str, Any]:
    """The result as a document."""
    return headed(KIND, plain(result))


def load_result(path: str) -> BenchResult:
    """The result in a file that `nfvhost bench run` wrote; DocumentError with all its problems."""
    body, problems = open_document(read_text(path), where=path, kind=KIND, reader=parse_json)
    result = structure(body, BenchResult, ranges=_RANGES, texts={}, problems=problems)
    if problems or result is None:
        raise DocumentError.of(tuple(problems))
    return result


def result_csv(results: tuple[BenchResult, ...]) -> str:
    """A line for each point, below a line of names; empty where there is no such number."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_CSV)
    for result in results:
        for point in result.points:
            last = point.rounds[-1]
            writer.writerow(
                _cell(value)
                for value in (
                    *(result.name, result.path, point.frames, point.flows, len(point.rounds)),
                    *(point.ndr.mpps, point.ndr.layer1_gbps, point.ndr.layer2_gbps),
                    *(_mega(point.ndr.least_pps), _mega(point.ndr.most_pps)),
                    *(point.pdr.mpps, point.pdr.layer1_gbps, point.pdr.layer2_gbps),
                    *(result.generator.name, _mega(point.ceiling_pps), _mega(point.line_rate_pps)),
                    *(last.limited_by, last.cycles_per_packet),
                    None if last.latency is None else last.latency.median_us,
                )
            )
    return text.getvalue()


def _mega(pps: float | None) -> float | None:
    return None if pps is None else pps / 1e6


def _cell(value: object) -> object:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else value
