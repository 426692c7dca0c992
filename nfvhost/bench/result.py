"""What a bench says, as values; each is a part of the document BenchResult."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from nfvhost.bench.counters import Drops
from nfvhost.bench.frames import Frames
from nfvhost.bench.search import Found
from nfvhost.bench.trial import Latency, Trial
from nfvhost.model.cpuset import CpuSet


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorUsed:
    """Which generator it was."""

    name: str
    version: str
    cpus: CpuSet
    shares_pmd_cpu: bool  # it took turns with a poll-mode thread: the machine has too few CPUs, or it was asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One search, from the path's making to its end."""

    ndr_pps: float | None  # None: even the lowest load lost packets
    pdr_pps: float | None
    finished: bool  # False: time was up before the bounds were close
    limited_by: str  # "path", "generator"; "unknown" where nothing was searched
    maximum_pps: float  # what came through when the generator sent as fast as it can
    cycles_per_packet: float | None  # at the NDR; None without poll-mode threads
    latency: Latency | None  # at the NDR
    drops: tuple[Drops, ...]  # over all trials, those beyond the capacity too
    pmd_waited_ms: float | None  # poll-mode threads without their CPU
    generator_absent_ms: float  # the generator without its CPU
    traffic_s: float
    trials: tuple[Trial, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One rate of one point: the median of its rounds."""

    pps: float | None  # None: half of the rounds found none
    mpps: float | None
    layer1_gbps: float | None
    layer2_gbps: float | None
    least_pps: float | None  # of the rounds
    most_pps: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One size of frames and one number of flows."""

    frames: str  # "64", "imix"
    mean_bytes: float
    flows: int
    ceiling_pps: float  # of the generator, measured first, with the same frames
    line_rate_pps: float | None  # of the link that was named
    ndr: Summary
    pdr: Summary
    rounds: tuple[Round, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """How quiet the machine was."""

    began: str  # 2026-01-31T12:00:00Z
    load_average_before: float  # of the last minute: /proc/loadavg
    load_average_after: float
    steal_percent: float  # of all CPUs, while it ran: /proc/stat
    pmd_isolated: bool | None  # by isolcpus or a cpuset partition; None without poll-mode threads


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchResult:
    """All of it."""

    name: str  # of the plan's variant, for people: "plan", "emc off"
    plan: str  # sha256 of the plan's document
    profile: str
    path: str
    versions: tuple[tuple[str, str], ...]  # generator, kernel, nfvhost; openvswitch where it forwards
    cpu_model: str
    cpus: int
    pmd_cpus: CpuSet
    settings: tuple[tuple[str, str], ...]  # of Open vSwitch: other_config as it was measured
    queue_size: int
    generator: GeneratorUsed
    trial_s: float
    pdr_loss_ratio: float
    conditions: Conditions
    points: tuple[Point, ...]


def summary(rates_pps: tuple[float | None, ...], frames: Frames) -> Summary:
    """The median of the rounds; a round that found no rate counts as the lowest."""
    middle = statistics.median_low([-1.0 if rate is None else rate for rate in rates_pps])
    pps = None if middle < 0 else middle
    known = [rate for rate in rates_pps if rate is not None]
    return Summary(
        pps=pps,
        mpps=None if pps is None else pps / 1e6,
        layer1_gbps=None if pps is None else frames.layer1_gbps(pps),
        layer2_gbps=None if pps is None else frames.layer2_gbps(pps),
        least_pps=min(known, default=None) if len(known) == len(rates_pps) else None,
        most_pps=max(known, default=None),
    )


def limited_by(found: Found) -> str:
    """Whose limit the NDR is: the generator's where it owed packets just above, or where its ceiling is reached."""
    if found.ndr.bad_pps is None:
        return "unknown" if found.ndr.pps is None else "generator"
    above = [one for one in found.trials if one.load_pps >= found.ndr.bad_pps * (1 - 1e-6)]
    nearest = min((one.load_pps for one in above), default=None)
    refused = sum(one.lost + one.refused for one in above if one.load_pps == nearest)
    behind = sum(one.behind for one in above if one.load_pps == nearest and not one.kept_up)
    return "generator" if behind > refused else "path"
