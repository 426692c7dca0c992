"""The two daemons of a sandbox: ovsdb-server, and an ovs-vswitchd that can do DPDK."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from nfvhost.access.clock import wait_for
from nfvhost.access.command import check, find, run
from nfvhost.access.namespace import call_inside
from nfvhost.access.process import Process, read_process
from nfvhost.access.root import DirectoryRoot
from nfvhost.errors import PreconditionError
from nfvhost.sandbox.record import Record
from nfvhost.sandbox.wires import processes_in

_TIMEOUT_S: Final = 30.0
_LAST_ERRORS: Final = 3
_SCHEMAS: Final = ("/usr/share/openvswitch/vswitch.ovsschema", "/usr/local/share/openvswitch/vswitch.ovsschema")
# Debian and Ubuntu keep the DPDK build beside the plain one and choose by update-alternatives.
_SWITCHES: Final = ("ovs-vswitchd", "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk")
# Packages whose ovs-vswitchd is built with DPDK, by ID or ID_LIKE of /etc/os-release.
_PACKAGES: Final = {
    "debian": "apt-get install openvswitch-switch-dpdk",
    "ubuntu": "apt-get install openvswitch-switch-dpdk",
    "fedora": "dnf install openvswitch",
    "rhel": "dnf install openvswitch (from the NFV or the fast-datapath repository)",
    "suse": "zypper install openvswitch",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """What a sandbox runs."""

    switch: str
    switch_version: str  # "3.1.0"
    database: str
    schema: str


def find_programs() -> Programs:
    """The programs of this machine; PreconditionError with the package to install where one is missing."""
    for program in ("ovsdb-server", "ovsdb-tool", "ovs-vsctl", "ip", "mount"):
        if find(program) is None:
            package = {"ip": "iproute2", "mount": "util-linux"}.get(program)
            hint = f"install {package}" if package else _package_hint()
            raise PreconditionError(f"{program} is not installed", where="PATH", hint=hint)
    # OVS's own variable for where its data is (ovs-ctl(8), lib/dirs.c.in).
    folder = os.environ.get("OVS_PKGDATADIR")
    schemas = _SCHEMAS if folder is None else (f"{folder}/vswitch.ovsschema",)
    schema = next((path for path in schemas if os.path.exists(path)), None)
    if schema is None:
        raise PreconditionError("the schema of Open vSwitch is not there", where=schemas[0], hint=_package_hint())
    database = find("ovsdb-server") or "ovsdb-server"
    seen = []
    for path in filter(None, map(find, _SWITCHES)):
        words = run([path, "--version"], timeout_s=_TIMEOUT_S).stdout.split()
        if "DPDK" in words:
            version = words[words.index("vSwitch)") + 1]
            return Programs(switch=path, switch_version=version, database=database, schema=schema)
        seen.append(path)
    what = "is built without DPDK" if seen else "ovs-vswitchd is not installed"
    raise PreconditionError(what, where=seen[0] if seen else "PATH", hint=_package_hint())


def start_database(record: Record, programs: Programs) -> Process:
    """A running ovsdb-server with a new, empty database."""
    directory = record.run_dir
    check(["ovsdb-tool", "create", f"{directory}/conf.db", programs.schema], timeout_s=_TIMEOUT_S)
    argv = [
        programs.database,
        f"{directory}/conf.db",
        f"--remote=punix:{directory}/db.sock",
        "--remote=db:Open_vSwitch,Open_vSwitch,manager_options",
        *_daemon_options(directory, "ovsdb-server"),
    ]
    call_inside(record.netns, lambda: check(argv, timeout_s=_TIMEOUT_S, env=_environment(directory)))
    schema_version = check(["ovsdb-tool", "schema-version", programs.schema], timeout_s=_TIMEOUT_S).stdout.strip()
    # As ovs-ctl does.
    check(
        [
            *("ovs-vsctl", f"--db=unix:{directory}/db.sock", "--no-wait", "init"),
            *("--", "set", "Open_vSwitch", ".", f"db_version={schema_version}"),
            # DPDK takes its memory from the kernel's pool by memfd, past any limit of a mount (OVS runs it with
            # --in-memory): only its own limit holds it to the pages that were added for it.
            f"other_config:dpdk-socket-limit={_per_node(record)}",
        ],
        timeout_s=_TIMEOUT_S,
    )
    return _started(record, programs.database, "ovsdb-server")


def start_switch(record: Record, programs: Programs) -> Process:
    """A running ovs-vswitchd that has done all that the database says; DPDK starts in it once that has dpdk-init.

    It sees no PCI function, so that nothing that a plan says can reach a real NIC. Its mounts end with the process.
    """
    directory = record.run_dir
    argv = [
        programs.switch,
        f"unix:{directory}/db.sock",
        *_daemon_options(directory, "ovs-vswitchd"),
    ]

    def started() -> None:
        _isolate_mounts(record.netns)
        check(argv, timeout_s=_TIMEOUT_S, env=_environment(directory))

    call_inside(record.netns, started, own_mounts=True)
    process = _started(record, programs.switch, "ovs-vswitchd")
    # As ovs-ctl does: the switch itself does not say its release. ovs-vsctl waits for it to have read the database,
    # in short turns, since DPDK ends the process where the database asks for what cannot be.
    release = ["set", "Open_vSwitch", ".", f"ovs_version={programs.switch_version}"]
    turn = ["ovs-vsctl", f"--db=unix:{directory}/db.sock", "--timeout=2", *release]

    def settled() -> str | None:
        if run(turn, timeout_s=_TIMEOUT_S).code == 0:
            return "ready"
        return None if read_process(process.pid) == process else "ended"

    outcome = wait_for(settled, timeout_s=_TIMEOUT_S)
    if outcome != "ready":
        what = "ended while it read the database" if outcome else f"has not read the database after {_TIMEOUT_S:g} s"
        raise PreconditionError(f"{what}{last_complaint(record, 'ovs-vswitchd')}", where=programs.switch)
    return process


def daemons(record: Record) -> tuple[Process, ...]:
    """The daemons of this sandbox that run, the switch first.

    Looked for by pid file and in the namespace (a run that was killed may have left no file); counted only where the
    command line names this sandbox's own pid file.
    """
    found: dict[int, Process] = {}
    for program in ("ovs-vswitchd", "ovsdb-server"):
        pid_file = f"{record.run_dir}/{program}.pid"
        recorded = DirectoryRoot("/").read_int(pid_file)
        for pid in dict.fromkeys([*([recorded] if recorded else ()), *processes_in(record.netns)]):
            process = read_process(pid)
            if (
                process is not None
                and os.path.basename(process.executable).startswith(program)
                and f"--pidfile={pid_file}" in process.argv
            ):
                found.setdefault(pid, process)
    return tuple(found.values())


def last_complaint(record: Record, program: str) -> str:
    """The last errors in the daemon's log, to be put behind a sentence; empty where it wrote none."""
    lines = (DirectoryRoot("/").read_text(f"{record.run_dir}/{program}.log") or "").splitlines()
    errors = dict.fromkeys(line.split("|", 4)[4] for line in lines if "|ERR|" in line or "|EMER|" in line)
    return "".join(f"\n  | {error}" for error in list(errors)[-_LAST_ERRORS:])


def _per_node(record: Record) -> str:
    """MiB for each node from 0 on, as DPDK's --socket-limit wants it; 0 would be no limit, so 1 stands for none."""
    nodes = {one.node or 0 for one in record.reservations}
    # A longer list than DPDK has nodes for is an error to it (RTE_MAX_NUMA_NODES, config/*/meson.build).
    most = {"x86_64": 32, "ppc64le": 16, "aarch64": 4}.get(os.uname().machine, 2)
    limits = [str(record.memory_mib if node in nodes else 1) for node in range(min(most, max(nodes) + 1))]
    return '"' + ",".join(limits) + '"'


def _daemon_options(directory: str, program: str) -> tuple[str, ...]:
    socket = "vswitchd.ctl" if program == "ovs-vswitchd" else "ovsdb.ctl"
    return (
        f"--pidfile={directory}/{program}.pid",
        f"--log-file={directory}/{program}.log",
        f"--unixctl={directory}/{socket}",
        "-vconsole:emer",
        "-vsyslog:off",
        "-vfile:info",
        "--detach",
    )


def _environment(directory: str) -> dict[str, str]:
    """Where the daemons keep their files: OVS's (ovs-vswitchd(8)) and DPDK's (lib/eal, eal_create_runtime_dir)."""
    return {
        "OVS_RUNDIR": directory,
        "OVS_LOGDIR": directory,
        "OVS_DBDIR": directory,
        "RUNTIME_DIRECTORY": directory,
    }


def _isolate_mounts(label: str) -> None:
    """Nothing; the calling thread sees the network devices of its namespace and no PCI function from here on."""

    def mount(*words: str) -> None:
        check(["mount", *words], timeout_s=_TIMEOUT_S)

    # /sys/class/net shows the namespace in which it was mounted (ip-netns(8) does the same).
    check(["umount", "-l", "/sys"], timeout_s=_TIMEOUT_S)
    mount("-t", "sysfs", "sysfs", "/sys")
    if os.path.isdir("/sys/bus/pci/devices"):
        mount("-t", "tmpfs", "-o", "ro,size=4k,mode=755", label, "/sys/bus/pci/devices")
    if os.path.isdir("/sys/fs/bpf"):
        mount("-t", "bpf", "bpf", "/sys/fs/bpf")


def _started(record: Record, executable: str, program: str) -> Process:
    """The daemon, by the pid that it wrote itself."""
    pid = DirectoryRoot("/").read_int(f"{record.run_dir}/{program}.pid")
    process = None if pid is None else read_process(pid)
    if process is None:
        raise PreconditionError(f"ended right after its start{last_complaint(record, program)}", where=executable)
    return process


def _package_hint() -> str:
    """How to install an OVS with DPDK on this distribution."""
    fields = dict(
        line.split("=", 1)
        for line in (DirectoryRoot("/").read_text("/etc/os-release") or "").splitlines()
        if "=" in line
    )
    for name in f"{fields.get('ID', '')} {fields.get('ID_LIKE', '')}".replace('"', "").split():
        if name in _PACKAGES:
            return _PACKAGES[name]
    return "install an Open vSwitch that is built with DPDK (`ovs-vswitchd --version` says so)"
