"""`nfvhost bench`: the highest rate without loss, compared and drawn."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from nfvhost.cli.ending import ending
from nfvhost.cli.options import JsonOption
from nfvhost.cli.terminal import emit, say
from nfvhost.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from nfvhost.bench.result import BenchResult
    from nfvhost.bench.run import Setup, Wish
    from nfvhost.bench.tune import Tuning
    from nfvhost.model.host import Host
    from nfvhost.model.pci import PciAddress
    from nfvhost.model.plan import Plan

HELP = """Measure what a plan forwards: the highest rate without loss (NDR) and with 0.5 % loss (PDR).

\b
Examples:
  nfvhost bench run -o before.json
  nfvhost bench run --plan plan.yaml --frames 64,512,1518,imix --flows 1,1000 --rounds 5 -o after.json
  nfvhost bench run --plan plan.yaml --tune
  nfvhost bench compare before.json after.json
  nfvhost bench plot after.json --plot after.svg
"""
bench = typer.Typer(help=HELP, rich_markup_mode=None, add_completion=False, no_args_is_help=True)

ResultArgument = Annotated[str, typer.Argument(metavar="RESULT", help="What `nfvhost bench run -o` wrote.")]


@bench.command(
    "run",
    help="Search the rates of one path by a plan's settings.\n\nThe switch is a private one (`nfvhost sandbox`), on"
    " this machine's CPUs as the plan gives them out; the generator runs beside it. Needs root.\n\n\b\nExamples:\n"
    "  nfvhost bench run --path port --frames 64,imix --flows 1,1000,100000 --rounds 3 -o result.json\n"
    "  nfvhost bench run --path kernel -o kernel.json",
)
@ending
def run(  # noqa: PLR0913, PLR0917 - one for each option
    plan: Annotated[
        str | None, typer.Option("--plan", metavar="PLAN", help="A plan of this machine. [the profile sandbox]")
    ] = None,
    sandbox: Annotated[
        str | None, typer.Option("--sandbox", metavar="NAME", help="A sandbox that is up. [one of its own]")
    ] = None,
    path: Annotated[
        str,
        typer.Option(
            "--path",
            help="port: vhost-user ports; pvp: through a guest; srv6-encap, srv6-decap: into and out of a tunnel;"
            " netdev: user space, no DPDK; kernel: its bridge; sriov: from VF to VF.",
        ),
    ] = "port",
    frames: Annotated[str, typer.Option("--frames", metavar="LIST", help="Bytes with FCS, and imix.")] = "64",
    flows: Annotated[str, typer.Option("--flows", metavar="LIST", help="How many UDP flows.")] = "1",
    rounds: Annotated[int, typer.Option("--rounds", min=1, max=100, help="Searches of each point, in turns.")] = 1,
    trial: Annotated[float, typer.Option("--trial", metavar="SECONDS", min=0.05, help="The longest trial.")] = 1.0,
    vfs: Annotated[
        str | None, typer.Option("--vfs", metavar="A,B", help="Of the path sriov. [two that the plan has for guests]")
    ] = None,
    generator: Annotated[str, typer.Option("--generator", help="built-in, trex, dpdk-testpmd, af_packet.")] = "auto",
    generator_cpu: Annotated[int | None, typer.Option("--generator-cpu", metavar="CPU", min=0)] = None,
    line_rate: Annotated[
        int | None, typer.Option("--line-rate", metavar="MBPS", min=1, help="Of the link, for the plot.")
    ] = None,
    tune: Annotated[bool, typer.Option("--tune", help="Measure alternatives within the plan against it.")] = False,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE", help="Write the result as JSON.")
    ] = None,
    csv: Annotated[str | None, typer.Option("--csv", metavar="FILE", help="Write its points as CSV.")] = None,
    plot: Annotated[str | None, typer.Option("--plot", metavar="FILE", help="Draw it: .png or .svg.")] = None,
    json: JsonOption = False,
) -> None:
    """Measure."""
    from nfvhost.bench.plot import plot_format
    from nfvhost.bench.tune import judged

    if plot is not None:
        plot_format(plot)
    wish = _wish(path, frames=frames, flows=flows, rounds=rounds, trial=trial, line_rate=line_rate)
    if tune and wish.rounds < _tuning_rounds():
        raise UsageError(
            "alternatives are told from noise by rounds alone",
            where="--tune",
            hint=f"--rounds {_tuning_rounds()} or more",
        )
    results = _measured(wish, plan=plan, name=sandbox, vfs=vfs, generator=generator, cpu=generator_cpu, tune=tune)
    _write(results, output=output, csv=csv, plot=plot)
    if tune:
        _tell_tuning(judged(results), json=json)
    elif json:
        from nfvhost.bench.document import result_document
        from nfvhost.planfile import to_json

        emit(to_json(result_document(results[0])))
    else:
        from nfvhost.bench.text import table

        emit(table(results[0]))


@bench.command(
    "compare",
    help="The ratio of two results, and whether it is more than the noise.\n\nEnds with 10 where a rate differs by"
    " more.\n\n\b\nExample:\n  nfvhost bench compare before.json after.json",
)
@ending
def compare(before: ResultArgument, after: ResultArgument, json: JsonOption = False) -> ExitCode:
    """Compare two results."""
    from nfvhost.bench.compare import compare as compared
    from nfvhost.bench.compare import differences
    from nfvhost.bench.document import load_result

    one, other = load_result(before), load_result(after)
    found, unlike = compared(one, other), differences(one, other)
    if json:
        from nfvhost.planfile import headed, to_json
        from nfvhost.planfile.structure import plain

        emit(to_json(headed("BenchComparison", {"comparisons": plain(found), "differences": list(unlike)})))
    else:
        from nfvhost.bench.text import comparison_text

        for line in unlike:
            say(f"not the same: {line}")
        emit(comparison_text(found))
    return ExitCode.DIFFERENCES if any(line.more_than_noise for line in found) else ExitCode.OK


@bench.command(
    "plot",
    help="Draw results: rate by size of frames.\n\n\b\nExample:\n  nfvhost bench plot a.json b.json --plot both.svg",
)
@ending
def plot(
    results: Annotated[list[str], typer.Argument(metavar="RESULT…", help="What `nfvhost bench run -o` wrote.")],
    plot: Annotated[str, typer.Option("--plot", metavar="FILE", help="The picture: .png or .svg.")],
    csv: Annotated[str | None, typer.Option("--csv", metavar="FILE", help="Write the points as CSV as well.")] = None,
    json: JsonOption = False,
) -> None:
    """Draw results."""
    from nfvhost.bench.document import load_result
    from nfvhost.bench.plot import plot_format

    plot_format(plot)
    _write(tuple(map(load_result, results)), output=None, csv=csv, plot=plot)
    if json:
        from nfvhost.planfile import headed, to_json

        emit(to_json(headed("BenchPlot", {"plot": plot, "results": list(results)})))


def _tuning_rounds() -> int:
    from nfvhost.bench.compare import LEAST_ROUNDS

    return LEAST_ROUNDS


def _wish(path: str, *, frames: str, flows: str, rounds: int, trial: float, line_rate: int | None) -> Wish:
    from nfvhost.bench.frames import parse_frames
    from nfvhost.bench.paths import path_kind
    from nfvhost.bench.run import Wish

    words = [word.strip() for word in flows.split(",")]
    if not all(word.isdecimal() and 0 < int(word) <= 1_000_000 for word in words):  # noqa: PLR2004 - what UDP and 64 addresses tell apart
        raise UsageError(
            f"{flows!r} are no numbers of flows", where="--flows", hint="1 to 1000000, such as 1,1000,100000"
        )
    return Wish(
        path=path_kind(path),
        frames=parse_frames(frames),
        flows=tuple(dict.fromkeys(map(int, words))),
        trial_s=trial,
        rounds=rounds,
        line_rate_mbps=line_rate,
    )


def _measured(
    wish: Wish, *, plan: str | None, name: str | None, vfs: str | None, generator: str, cpu: int | None, tune: bool
) -> tuple[BenchResult, ...]:
    from contextlib import nullcontext

    from nfvhost import sandbox
    from nfvhost.access.root import DirectoryRoot
    from nfvhost.bench.choice import generator as named
    from nfvhost.bench.paths import PathKind
    from nfvhost.bench.run import Bench, Setup, generator_cpus, private_sandbox
    from nfvhost.bench.tune import alternatives
    from nfvhost.bench.vfs import free_vfs, near
    from nfvhost.errors import PreconditionError
    from nfvhost.inspect import inspect_host
    from nfvhost.model.cpuset import CpuSet

    asked, pair = named(generator), _vfs(vfs)
    through_nic = wish.path is PathKind.SRIOV
    if tune and not wish.path.polled:
        raise UsageError("no poll-mode thread is in its way", where=f"--path {wish.path}", hint="without --tune")
    if through_nic and name is not None:
        raise UsageError("no sandbox is in its way", where="--path sriov", hint="without --sandbox")
    if pair and not through_nic:
        raise UsageError("of the path sriov alone", where="--vfs", hint="--path sriov")
    host = inspect_host(DirectoryRoot("/"))
    wanted = _plan(plan, host)
    pool = generator_cpus(wanted, host)
    if through_nic:
        pair = free_vfs(wanted, host, pair)
        pool = near(pair, pool, host)
    cpus = pool if cpu is None else CpuSet([cpu])
    setup = Setup(name=wanted.profile, plan=wanted, path=wish.path, generator_cpus=cpus, vfs=pair)
    running = None
    if name is not None:
        running = next((one.sandbox for one in sandbox.status(name)), None)
        if running is None:
            raise PreconditionError(f"the sandbox {name} is not up", hint="nfvhost sandbox up")
    setups: tuple[Setup, ...] = alternatives(setup, host) if tune else (setup,)
    own = running is None and not through_nic
    with private_sandbox(f"bench{os.getpid()}") if own else nullcontext(running) as place:
        return Bench(sandbox=place, generator=asked, host=host, say=say).run(setups, wish)


def _vfs(text: str | None) -> tuple[PciAddress, ...]:
    """Two PCI addresses, "0000:21:10.0,0000:21:10.2"; of None, none."""
    from nfvhost.model.pci import PciAddress

    if text is None:
        return ()
    try:
        one, other = (PciAddress.parse(word.strip()) for word in text.split(","))
    except ValueError as error:
        raise UsageError(
            f"{text!r} are not two PCI addresses", where="--vfs", hint="such as 0000:21:10.0,0000:21:10.2"
        ) from error
    if one == other:
        raise UsageError("it is the same one twice", where="--vfs", hint="two functions")
    return one, other


def _plan(path: str | None, host: Host) -> Plan:
    from nfvhost.planfile import load_plan, load_profile
    from nfvhost.planner import make_plan

    return make_plan(host, load_profile("sandbox")) if path is None else load_plan(path)


def _write(results: tuple[BenchResult, ...], *, output: str | None, csv: str | None, plot: str | None) -> None:
    from nfvhost.bench.document import result_csv, result_document
    from nfvhost.planfile import to_json, write_text

    if output is not None:
        for number, result in enumerate(results):
            # One document a file: alternatives are numbered, the plan has the name that was given.
            stem, ending_ = os.path.splitext(output)
            write_text(f"{stem}.{number}{ending_}" if number else output, to_json(result_document(result)))
    if csv is not None:
        write_text(csv, result_csv(results))
    if plot is not None:
        from nfvhost.bench.plot import drawn, plot_format
        from nfvhost.planfile.file import write_bytes

        write_bytes(plot, drawn(results, plot_format(plot)))


def _tell_tuning(tuning: Tuning, *, json: bool) -> None:
    from nfvhost.bench.text import tuning_text

    if json:
        from nfvhost.planfile import headed, to_json
        from nfvhost.planfile.structure import plain

        emit(to_json(headed("BenchTuning", plain(tuning))))
        return
    emit(tuning_text(tuning))
