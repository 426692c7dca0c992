"""A whole OpenStack on this machine, inside a room (cloud_room.sh): started and ended by its own processes.

As a program it starts the cloud and ends it at Ctrl-C: `cloud_room.sh .venv/bin/python tests/support/cloud.py`.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import cloud_build
import cloud_conf
import openstack
import vm_cache
from cloud_conf import API_PORTS, DATABASE_PORT, IP, KEYSTONE, PASSWORD, QUEUE_PORT
from debian import run
from openstack.identity.v3._proxy import Proxy as IdentityV3

from nfvhost.planfile import load_plan, save_plan

_START_S: Final = 180.0
_STOP_S: Final = 20.0
_SWITCH: Final = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"
_SCHEMA: Final = "/usr/share/openvswitch/vswitch.ovsschema"
_APPLICATIONS: Final = {
    "keystone": "keystone.wsgi.api",
    "placement": "placement.wsgi.api",
    "glance": "glance.wsgi.api",
    "neutron": "neutron.wsgi.api",
    "nova-api": "nova.wsgi.osapi_compute",
}
# Nova's API waits for Neutron's, and Neutron's tells Nova's of ports. Keystone is one, since what it keeps in mind of
# tokens, which each request of all others asks for, is its process's own.
_WORKERS: Final = {"nova-api": 2}
# What of a plan makes a compute host; packages and boots are not this tier's.
APPLIED: Final = ("hugepages", "vhost_sockets", "ovs_dpdk", "neutron_conf", "nova_conf")
# The empty folder that cloud_room.sh has made.
ROOM: Final = "NFVHOST_CLOUD_ROOM"
PROFILE: Final = cloud_build.CHECKOUT / "tests/openstack/profile.yaml"
# Laid over, so that what services write there is gone with the room.
_OVERLAID: Final = ("/etc", "/var")


# openstacksdk warns of what its next releases drop, also where it calls itself so.
SDK_WARNINGS: Final = ("ignore::PendingDeprecationWarning", "ignore::openstack.warnings.OpenStackDeprecationWarning")
_PROGRAMS: Final = (
    "mariadbd",
    "epmd",
    "libvirtd",
    "virsh",
    "qemu-system-x86_64",
    "ovsdb-server",
    "cpio",
    "genisoimage",
)


step: Final = functools.partial(vm_cache.step, tier="openstack")


def obstacle() -> str | None:
    """Why no cloud can be started here."""
    if ROOM not in os.environ:
        return "a cloud wants a room of its own (tests/support/cloud_room.sh), as ./tests/run.sh gives it"
    missing = [one for one in _PROGRAMS if shutil.which(one, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None]
    return f"not installed: {', '.join(missing)}" if missing else None


def nfvhost(*words: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """What the command line of this checkout said; AssertionError with all of it where it ended otherwise."""
    program = Path(sys.executable).with_name("nfvhost")
    done = subprocess.run(
        [program, *words],
        check=False,
        text=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**os.environ, **environment},
        timeout=900,
    )
    assert done.returncode == code, f"{' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def wait_until(look: Callable[[], bool], what: str, *, timeout_s: float = _START_S, interval_s: float = 0.25) -> None:
    """Nothing, once `look` says yes; TimeoutError where it does not."""
    end = time.monotonic() + timeout_s
    while not look():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not after {timeout_s:.0f} s")
        time.sleep(interval_s)


class Cloud:
    """The services of this room; `state` is where they keep what they have, in memory."""

    def __init__(self) -> None:
        if ROOM not in os.environ:
            raise RuntimeError("a cloud is started inside tests/support/cloud_room.sh alone")
        self.state = Path(os.environ[ROOM])
        self.packages = cloud_build.packages()
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start_control(self) -> None:
        """Everything but what runs on the compute host: databases, queue, APIs, conductor, scheduler."""
        self._furnish()
        archive = self._database_image()
        with step("database and queue"):
            if not (self.state / "mysql").exists():
                cloud_build.unpack(archive, self.state / "kept")
                (self.state / "kept/mysql").rename(self.state / "mysql")
                shutil.copytree(self.state / "kept/fernet", "/etc/keystone/fernet", dirs_exist_ok=True)
            self._start_queue()
            self._start_database()
            self._wait(lambda: _open(DATABASE_PORT), "database")
            # Their code is read in while the queue starts.
            for name in API_PORTS:
                self.start(name)
            self._wait(lambda: _open(QUEUE_PORT), "queue")
        with step("APIs"):
            for name in ("nova-conductor", "nova-scheduler", "neutron-rpc-server"):
                self.start(name)
            self._wait(lambda: all(_answers(port) for port in API_PORTS.values()), "APIs")

    def start_switch(self) -> None:
        """An Open vSwitch that can do DPDK and does not yet, where the system's own would be."""
        Path("/run/openvswitch").mkdir(exist_ok=True)
        Path("/var/lib/openvswitch").mkdir(exist_ok=True)
        database = "/var/lib/openvswitch/conf.db"
        run(["ovsdb-tool", "create", database, _SCHEMA])
        self._spawn("ovsdb", "ovsdb-server", database, "--remote=punix:/run/openvswitch/db.sock", *_ovs("ovsdb-server"))
        wait_until(lambda: _is_socket("/run/openvswitch/db.sock"), "ovsdb-server", timeout_s=20)
        version = run([_SWITCH, "--version"]).split("vSwitch) ")[1].split()[0]
        run(["ovs-vsctl", "--no-wait", "init", "--", "set", "Open_vSwitch", ".", f"ovs_version={version}"])
        self._spawn("vswitchd", _SWITCH, "unix:/run/openvswitch/db.sock", *_ovs("ovs-vswitchd"))
        run(["ovs-vsctl", "--timeout=30", "set", "Open_vSwitch", ".", "external_ids:system-id=cloud"])

    def start_libvirt(self) -> None:
        self._spawn("libvirtd", "/usr/sbin/libvirtd", "-f", "/etc/libvirt/libvirtd.conf", "-p", "/run/libvirtd.pid")
        wait_until(lambda: _is_socket("/run/libvirt/libvirt-sock"), "libvirtd", timeout_s=30)

    def start_compute(self, profile: Path) -> Path:
        """The plan of this machine by that profile, applied, with the services of a compute host on it."""
        self.start_switch()
        self.start_libvirt()
        plan = self.state / "plan.yaml"
        with step("plan and apply"):
            nfvhost("plan", "--profile", str(profile), "-o", str(plan))
            _fit_machine(plan)
            nfvhost("apply", str(plan), "--yes", *(word for one in APPLIED for word in ("--only", one)))
        with step("nova-compute and the agent"):
            self.start("neutron-openvswitch-agent")
            self.start("nova-compute")
            self.wait_for_compute("Open vSwitch agent")
        return plan

    def wait_for_compute(self, agent: str, *, timeout_s: float = _START_S) -> None:
        """Until a compute host can be used: nova-compute and its agent of Neutron are there, and Placement knows it."""
        self._wait(lambda: "nova-compute" in self.alive(), "nova-compute", timeout_s=timeout_s)
        self._wait(lambda: agent in self.alive(), agent, timeout_s=timeout_s)
        # It tells Placement what it has some time after it has told Nova that it is there.
        self._wait(lambda: self.query("placement", "SELECT id FROM inventories") != "", "an inventory in Placement")

    def alive(self) -> str:
        """What has told of itself within the last seconds: services of Nova with a host mapped, agents of Neutron."""
        recent = "> UTC_TIMESTAMP() - INTERVAL 25 SECOND"
        services = self.query("nova", f"SELECT `binary` FROM services WHERE updated_at {recent}")  # noqa: S608 - no user is near
        mapped = self.query("nova_api", "SELECT host FROM host_mappings")
        agents = self.query("neutron", f"SELECT agent_type FROM agents WHERE heartbeat_timestamp {recent}")  # noqa: S608 - as above
        return (services if mapped else "") + agents

    def reports(self, name: str) -> int:
        """How often a service of Nova on this host has told that it is there."""
        service = f"host = '{cloud_conf.HOST}' AND `binary` = '{name}'"
        return int(self.query("nova", f"SELECT report_count FROM services WHERE {service}"))  # noqa: S608 - as above

    def start(self, name: str) -> None:
        """One service of OpenStack by the name of its program, or of its API."""
        if name in _APPLICATIONS:
            self._spawn(name, *self._uwsgi(name))
        elif name.startswith("nova-compute"):
            kind = name.removeprefix("nova-compute").lstrip("-") or "compute"
            self._spawn(name, *cloud_conf.compute_argv(self.packages, kind))
        elif name == "neutron-openvswitch-agent":
            self._spawn(name, *cloud_conf.agent_argv(self.packages))
        elif name == "neutron-rpc-server":
            settings = ("/etc/neutron/neutron.conf", "/etc/neutron/plugins/ml2/ml2_conf.ini")
            self._spawn(name, f"{self.packages}/bin/{name}", *(f"--config-file={one}" for one in settings))
        else:
            self._spawn(name, f"{self.packages}/bin/{name}", "--config-file", "/etc/nova/nova.conf")

    def stop(self, name: str) -> None:
        """That service, and all that it has started, gone."""
        process = self._running.pop(name)
        for number, patience_s in ((signal.SIGTERM, _STOP_S), (signal.SIGKILL, _STOP_S)):
            try:
                os.killpg(process.pid, number)
                process.wait(patience_s)
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
            break

    def stop_all(self) -> None:
        """Nothing runs any more. What they have is in memory and goes with the room: none is asked to end in peace."""
        for process in self._running.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        for process in self._running.values():
            process.wait(_STOP_S)
        self._running.clear()

    def log(self, name: str) -> str:
        """What the service has written so far."""
        return (self.state / f"log/{name}.log").read_text("utf-8", errors="replace")

    def query(self, database: str, statement: str) -> str:
        """What the database answers, one row a line, columns apart by tabs."""
        return run(["mariadb", f"--socket={self._socket}", "--user=root", "-N", "-B", database, "-e", statement])

    def _wait(self, look: Callable[[], bool], what: str, *, timeout_s: float = _START_S) -> None:
        """Nothing, once `look` says yes; an error with the end of its log where a service has ended meanwhile."""

        def look_at_all() -> bool:
            for name, process in self._running.items():
                if process.poll() is not None:
                    raise RuntimeError(f"{name} has ended while {what} was waited for:\n{self.log(name)[-3000:]}")
            return look()

        wait_until(look_at_all, what, timeout_s=timeout_s, interval_s=0.5)

    @property
    def _socket(self) -> Path:
        return self.state / "mysql.sock"

    def _furnish(self) -> None:
        """Folders, configuration and mounts; all of them are this room's alone."""
        run(["mount", "-t", "tmpfs", "tmpfs", self.state])
        run(["mount", "-t", "tmpfs", "tmpfs", "/run"])
        for folder in _OVERLAID:
            upper, work = (self.state / f"{kind}{folder}" for kind in ("upper", "work"))
            upper.mkdir(parents=True)
            work.mkdir(parents=True)
            layers = f"lowerdir={folder},upperdir={upper},workdir={work}"
            run(["mount", "-t", "overlay", "overlay", "-o", layers, folder])
        for name in ("log", "hugepages", "nova", "neutron", "instances", "images", "lock"):
            (self.state / name).mkdir()
        self.state.chmod(0o755)
        run(["mount", "-t", "hugetlbfs", "-o", "pagesize=2M", "hugetlbfs", self.state / "hugepages"])
        for path, text in cloud_conf.files(self.state, self.packages).items():
            file = Path("/etc", path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        for folder in ("/etc/keystone/fernet", "/etc/neutron/agent", "/etc/nova/compute"):
            Path(folder).mkdir(exist_ok=True, mode=0o700)

    def _start_database(self) -> None:
        options = (
            *("--no-defaults", "--user=root", f"--datadir={self.state}/mysql", f"--socket={self._socket}"),
            *(f"--port={DATABASE_PORT}", f"--bind-address={IP}", "--skip-log-bin", "--performance-schema=off"),
            *("--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0", "--innodb-flush-method=nosync"),
            *("--innodb-log-file-size=16M", "--innodb-buffer-pool-size=128M", "--max-connections=400"),
        )
        self._spawn("mariadb", "mariadbd", *options)

    def _start_queue(self) -> None:
        home = self.state / "rabbit"
        home.mkdir()
        settings = {
            "HOME": str(home),
            "RABBITMQ_NODENAME": "cloud@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": IP,
            "RABBITMQ_NODE_PORT": str(QUEUE_PORT),
            "RABBITMQ_DIST_PORT": "25672",
            "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(home),
            "RABBITMQ_CONFIG_FILE": str(home / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
            "RABBITMQ_PID_FILE": str(home / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",
            "ERL_EPMD_ADDRESS": IP,
        }
        self._spawn("epmd", "epmd", "-address", IP)
        self._spawn("rabbitmq", "/usr/lib/rabbitmq/bin/rabbitmq-server", **settings)

    def _uwsgi(self, name: str) -> tuple[str, ...]:
        return (
            f"{self.packages}/bin/uwsgi",
            *("--http-socket", f"{IP}:{API_PORTS[name]}", "--module", _APPLICATIONS[name]),
            *("--callable", "application", "--master", "--processes", str(_WORKERS.get(name, 1)), "--threads", "8"),
            *("--enable-threads", "--thunder-lock", "--lazy-apps", "--buffer-size", "65535", "--die-on-term"),
            *("--need-app", "--add-header", "Connection: close", "--virtualenv", str(self.packages)),
        )

    def _database_image(self) -> Path:
        """All databases as the services want them, with users and catalogue, and the keys of tokens."""

        def make(place: Path) -> None:
            self._make_databases()
            kept = self.state / "kept"
            kept.mkdir()
            (self.state / "mysql").rename(kept / "mysql")
            shutil.copytree("/etc/keystone/fernet", kept / "fernet")
            cloud_build.pack(kept, place / "databases.tar.gz")
            shutil.rmtree(kept)

        recipe = (
            cloud_conf.kept(),
            inspect.getsource(Cloud._make_databases),
            inspect.getsource(Cloud._fill_catalog),
            self.packages.parent.name,
        )
        # Before it, where there is no network card, stands a warning with the time of day.
        version = run(["mariadbd", "--version"]).splitlines()[-1]
        return vm_cache.artifact("databases", (*recipe, version), make, cache=cloud_build.CACHE) / "databases.tar.gz"

    def _make_databases(self) -> None:
        data = self.state / "mysql"
        options = ("--user=root", "--auth-root-authentication-method=normal", "--skip-test-db")
        run(["mariadb-install-db", "--no-defaults", f"--datadir={data}", *options])
        self._start_database()
        self._wait(lambda: _open(DATABASE_PORT), "database")
        for name in cloud_conf.DATABASES:
            self.query(
                "mysql",
                f"CREATE DATABASE {name} CHARACTER SET utf8mb3; GRANT ALL ON {name}.* TO 'os'@'%' IDENTIFIED BY "
                f"'{PASSWORD}'; GRANT ALL ON {name}.* TO 'os'@'localhost' IDENTIFIED BY '{PASSWORD}'",
            )
        keystone = (f"{self.packages}/bin/keystone-manage", "--config-file", "/etc/keystone/keystone.conf")
        self._run([*keystone, "fernet_setup", "--keystone-user", "root", "--keystone-group", "root"])
        nova = (f"{self.packages}/bin/nova-manage", "--config-file", "/etc/nova/nova.conf")
        neutron = (
            "--config-file",
            "/etc/neutron/neutron.conf",
            "--config-file",
            "/etc/neutron/plugins/ml2/ml2_conf.ini",
        )
        bootstrap = ("--bootstrap-password", PASSWORD, "--bootstrap-region-id", cloud_conf.REGION)
        urls = [
            word for one in ("public", "internal", "admin") for word in (f"--bootstrap-{one}-url", f"{KEYSTONE}/v3")
        ]
        places = {
            "placement": ("placement", "db", "sync"),
            "glance": ("glance-api", "db_sync"),
        }
        chains: dict[str, list[Sequence[str]]] = {
            "nova": [
                (*nova, "api_db", "sync"),
                (*nova, "cell_v2", "map_cell0", "--database_connection", cloud_conf.connection("nova_cell0")),
                (*nova, "db", "sync"),
                (*nova, "cell_v2", "create_cell", "--name", "cell1"),
            ],
            "neutron": [(f"{self.packages}/bin/neutron-db-manage", *neutron, "upgrade", "heads")],
            "keystone": [(*keystone, "db_sync"), (*keystone, "bootstrap", *bootstrap, *urls)],
            **{
                name: [(f"{self.packages}/bin/{name}-manage", "--config-file", f"/etc/{name}/{conf}.conf", *words)]
                for name, (conf, *words) in places.items()
            },
        }
        _side_by_side(chains, self._run)
        self.start("keystone")
        self._wait(lambda: _answers(API_PORTS["keystone"]), "Keystone")
        self._fill_catalog()
        self.stop("keystone")
        self.stop("mariadb")

    def _run(self, argv: Sequence[str]) -> None:
        environment = self._environment()
        done = subprocess.run(
            argv,
            check=False,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(argv)}\n{done.stdout.decode(errors='replace')[-3000:]}")

    def _fill_catalog(self) -> None:
        cloud = openstack.connect(cloud="lab")
        identity = cloud.identity
        assert isinstance(identity, IdentityV3)
        admin, project = (
            identity.find_user("admin", ignore_missing=False),
            identity.find_project("admin", ignore_missing=False),
        )
        identity.assign_project_role_to_user(project, admin, identity.find_role("service", ignore_missing=False))
        for name, kind, url in cloud_conf.CATALOG:
            service = identity.create_service(name=name, type=kind)
            for interface in ("public", "internal", "admin"):
                identity.create_endpoint(
                    service_id=service.id, interface=interface, url=url, region_id=cloud_conf.REGION
                )
        cloud.close()

    def _environment(self) -> dict[str, str]:
        given = cloud_build.environment()
        places = {f"OS_{one.upper()}_CONFIG_DIR": f"/etc/{one}" for one in ("nova", "placement", "glance", "keystone")}
        return {
            **given,
            **places,
            "OS_NEUTRON_CONFIG_DIR": "/etc/neutron",
            "OS_NEUTRON_CONFIG_FILES": "neutron.conf;plugins/ml2/ml2_conf.ini",
            "PATH": f"{self.packages}/bin:{given['PATH']}:/usr/sbin:/sbin",
        }

    def _spawn(self, name: str, *argv: str, **environment: str) -> None:
        with (self.state / f"log/{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                argv,
                env=self._environment() | environment,
                cwd=self.state,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


def _fit_machine(path: Path) -> None:
    """The plan, changed by hand where this machine is too small for what the tier shows.

    Of two CPUs one is polled and one the host's, and no guest could be pinned: polling moves to the host's.
    """
    plan = load_plan(str(path))
    assert plan.nova is not None
    assert plan.ovs is not None
    if plan.nova.cpu_dedicated_set:
        return
    polled, host = plan.cpus.pmd, plan.cpus.host
    mask = ("pmd-cpu-mask", host.mask)
    keys = tuple(sorted([mask, *(pair for pair in plan.ovs.other_config if pair[0] != mask[0])]))
    fitted = dataclasses.replace(
        plan,
        cpus=dataclasses.replace(plan.cpus, pmd=host, dedicated=polled),
        ovs=dataclasses.replace(plan.ovs, other_config=keys),
        nova=dataclasses.replace(plan.nova, cpu_dedicated_set=polled, cpu_shared_set=host),
    )
    save_plan(str(path), fitted)


def _side_by_side(chains: dict[str, list[Sequence[str]]], call: Callable[[Sequence[str]], None]) -> None:
    """All chains of commands done, each in its own order, all at once; the first failure is raised."""

    def follow(name: str) -> None:
        with step(f"database of {name}"):
            for argv in chains[name]:
                call(argv)

    with ThreadPoolExecutor() as pool:
        for future in [pool.submit(follow, name) for name in chains]:
            future.result()


def _ovs(program: str) -> tuple[str, ...]:
    return (f"--pidfile=/run/openvswitch/{program}.pid", "-vconsole:info", "-vsyslog:off")


def _open(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex((IP, port)) == 0


def _answers(port: int) -> bool:
    """Whether an API says something there, if only that it wants a token."""
    try:
        urllib.request.urlopen(f"http://{IP}:{port}/", timeout=20).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def _is_socket(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def _main() -> None:
    cloud = Cloud()
    try:
        with step("start"):
            cloud.start_control()
            print(cloud.start_compute(PROFILE))  # noqa: T201 - for who looks around in it
        signal.pause()
    except KeyboardInterrupt:
        pass
    finally:
        cloud.stop_all()


if __name__ == "__main__":
    _main()
