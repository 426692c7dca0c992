"""The plot: rate by size of frames, with NDR, PDR, the line rate and the generator's ceiling; PNG and SVG."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any, Final

from nfvhost.errors import PreconditionError, UsageError

if TYPE_CHECKING:
    from nfvhost.bench.result import BenchResult, Point

FORMATS: Final = ("png", "svg")
# Blue, orange, green, purple: told apart by all who see colours otherwise too (Okabe and Ito); the lines also by marks.
_COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKS: Final = ("o", "s", "^", "D", "v", "P")
_INCHES: Final = (8.0, 4.8)
_DPI: Final = 150


def plot_format(path: str) -> str:
    """What the name of the file asks for; UsageError where it is none of ours."""
    kind = os.path.splitext(path)[1].lower().removeprefix(".")
    if kind not in FORMATS:
        raise UsageError(f"{path} is neither PNG nor SVG", where="--plot", hint="name a file that ends in .png or .svg")
    return kind


def drawn(results: tuple[BenchResult, ...], kind: str) -> bytes:
    """The picture of the results' points; PreconditionError where matplotlib is not installed."""
    try:
        import matplotlib as mpl  # noqa: PLC0415 - an extra, and slow to load
        from matplotlib.figure import Figure  # noqa: PLC0415 - the same
    except ImportError as error:
        raise PreconditionError("matplotlib is not installed", hint="pip install 'nfvhost[bench]'") from error
    names = tuple(dict.fromkeys(point.frames for result in results for point in result.points))
    # The same result gives the same bytes; text stays text.
    with mpl.rc_context({"svg.hashsalt": "nfvhost", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=_INCHES, layout="constrained")
        axes = figure.add_subplot()
        colours = iter(range(len(_COLOURS) * len(results) * len(names)))
        for result in results:
            for flows in dict.fromkeys(point.flows for point in result.points):
                points = {point.frames: point for point in result.points if point.flows == flows}
                label = f"{result.name}, {flows} flow{'s' if flows != 1 else ''}"
                _rates(axes, names, points, label, next(colours))
        _limits(axes, names, results)
        axes.set_xticks(range(len(names)), names)
        axes.set_xlabel("frame, bytes with FCS")
        axes.set_ylabel("Mpps")
        axes.set_ylim(bottom=0)
        axes.grid(axis="y", alpha=0.3)
        axes.set_title(_title(results), fontsize=9)
        axes.legend(fontsize=8)
        picture = io.BytesIO()
        metadata = {"Date": None} if kind == "svg" else None
        figure.savefig(picture, format=kind, dpi=_DPI, metadata=metadata)
    return picture.getvalue()


def _rates(axes: Any, names: tuple[str, ...], points: dict[str, Point], label: str, number: int) -> None:  # noqa: ANN401 - matplotlib's
    colour, mark = _COLOURS[number % len(_COLOURS)], _MARKS[number % len(_MARKS)]
    for rate, style in (("NDR", "-"), ("PDR", "--")):
        at, middle, below, above = [], [], [], []
        for place, name in enumerate(names):
            point = points.get(name)
            found = None if point is None else point.ndr if rate == "NDR" else point.pdr
            if found is None or found.pps is None:
                continue
            at.append(place)
            middle.append(found.pps / 1e6)
            below.append((found.pps - (found.least_pps or found.pps)) / 1e6)
            above.append(((found.most_pps or found.pps) - found.pps) / 1e6)
        axes.errorbar(
            at, middle, yerr=(below, above), fmt=f"{mark}{style}", color=colour, capsize=3, markersize=4,
            markerfacecolor=colour if rate == "NDR" else "white", label=f"{rate}, {label}",
        )  # fmt: skip


def _limits(axes: Any, names: tuple[str, ...], results: tuple[BenchResult, ...]) -> None:  # noqa: ANN401 - matplotlib's
    """The line rate and the ceiling; one far above all rates would press them to the ground, and is told in words."""
    found = [rate for result in results for point in result.points for rate in (point.ndr, point.pdr)]
    rates = [rate.most_pps for rate in found if rate.most_pps]
    top = max(rates, default=0.0) / 1e6
    for label, style, limits in (
        ("generator's ceiling", ":", _by_name(results, lambda point: point.ceiling_pps)),
        ("line rate", "-.", _by_name(results, lambda point: point.line_rate_pps)),
    ):
        shown = [(place, limits[name] / 1e6) for place, name in enumerate(names) if name in limits]
        if not shown:
            continue
        if top and min(height for _, height in shown) > 4 * top:
            least, most = min(height for _, height in shown), max(height for _, height in shown)
            axes.plot([], [], style, color="black", label=f"{label}: {least:.1f} to {most:.1f} Mpps, above the picture")
            continue
        axes.plot(*zip(*shown, strict=True), style, color="black", linewidth=1, label=label)
    if top:
        axes.set_ylim(top=top * 1.25)


def _by_name(results: tuple[BenchResult, ...], limit: Any) -> dict[str, float]:  # noqa: ANN401 - a function of a point
    """The lowest limit of each frame: it holds for all results."""
    found: dict[str, float] = {}
    for result in results:
        for point in result.points:
            value = limit(point)
            if value is not None:
                found[point.frames] = min(value, found.get(point.frames, value))
    return found


def _title(results: tuple[BenchResult, ...]) -> str:
    """On what it was taken: without this a rate says nothing."""
    first = results[0]
    switches = dict.fromkeys(version for one in results for name, version in one.versions if name == "openvswitch")
    switch = "".join(f" · Open vSwitch {version}" for version in switches)
    paths = ", ".join(dict.fromkeys(result.path for result in results))
    rounds = max((len(point.rounds) for result in results for point in result.points), default=0)
    return (
        f"{first.cpu_model}, {first.cpus} CPUs{switch} · path {paths}\n"
        f"generator {first.generator.name} ({first.generator.version}) on CPU {first.generator.cpus} · "
        f"median of {rounds} round{'s' if rounds != 1 else ''}, load average {first.conditions.load_average_before:.1f}"
    )
