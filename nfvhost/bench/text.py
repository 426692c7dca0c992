"""Results as people read them."""

from __future__ import annotations

from nfvhost.bench.compare import Comparison
from nfvhost.bench.result import BenchResult
from nfvhost.bench.tune import Tuning

_VERDICTS = {True: "more than the noise", False: "within the noise", None: "not known"}


def table(result: BenchResult) -> str:
    """The points of one result, on what they were taken, and how quiet it was."""
    used, quiet = result.generator, result.conditions
    rounds = [one for point in result.points for one in point.rounds]
    waited_ms = [one.pmd_waited_ms for one in rounds if one.pmd_waited_ms is not None]
    polling = f"PMD threads {sum(waited_ms):.0f} ms, " if waited_ms else ""
    absent_ms = sum(one.generator_absent_ms for one in rounds)
    shares = ", which a poll-mode thread has too" if used.shares_pmd_cpu else ""
    head = (
        f"{'frames':>6} {'flows':>7} {'NDR Mpps':>9} {'PDR Mpps':>9} {'Gb/s L1':>8} {'Gb/s L2':>8} {'cycles':>7}"
        f" {'ceiling':>8}  limited by"
    )
    lines = [
        f"{result.path} path, {result.cpu_model}, {_polled_by(result)}",
        f"generator {used.name} ({used.version}) on CPU {used.cpus}{shares}",
        "",
        head,
    ]
    for point in result.points:
        last = point.rounds[-1]
        lines.append(
            f"{point.frames:>6} {point.flows:>7} {_number(point.ndr.mpps, 3):>9} {_number(point.pdr.mpps, 3):>9}"
            f" {_number(point.ndr.layer1_gbps, 2):>8} {_number(point.ndr.layer2_gbps, 2):>8}"
            f" {_number(last.cycles_per_packet, 0):>7} {point.ceiling_pps / 1e6:>8.2f}  {last.limited_by}"
        )
    told = (
        f"load average {quiet.load_average_before:.2f} before, {quiet.load_average_after:.2f} after;"
        f" {quiet.steal_percent:.1f} % stolen by the hypervisor;"
        f" without their CPU: {polling}generator {absent_ms:.0f} ms"
    )
    return "\n".join([*lines, "", told]) + "\n"


def _polled_by(result: BenchResult) -> str:
    return f"PMD on CPU {result.pmd_cpus}" if result.pmd_cpus else "no PMD threads"


def comparison_text(comparisons: tuple[Comparison, ...]) -> str:
    """A line for each rate."""
    return "".join(map(_line, comparisons))


def tuning_text(tuning: Tuning) -> str:
    """A line for each alternative, and who wins."""
    lines = [
        f"{one.name}: {_number(one.gain, 3)} of the plan's PDR,"
        f" {'more than the noise' if one.proven else 'not proven better'}\n"
        for one in tuning.candidates
    ]
    by = f" by {100 * (tuning.gain - 1):.1f} %" if tuning.gain > 1 else ": nothing is better by more than the noise"
    return "".join([*lines, f"{tuning.winner} wins{by}\n"])


def _line(one: Comparison) -> str:
    rates = f"{_mega(one.before_pps)} -> {_mega(one.after_pps)} Mpps, ratio {_number(one.ratio, 3)}"
    verdict = f"{_VERDICTS[one.more_than_noise]} ({one.reason})"
    return f"{one.frames:>6} bytes {one.flows:>6} flows {one.rate}: {rates}, {verdict}\n"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _mega(pps: float | None) -> str:
    return _number(None if pps is None else pps / 1e6, 3)
