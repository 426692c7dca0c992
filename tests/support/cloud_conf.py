"""Configuration of the services: a cloud of one machine, alone in a network of its own, on the usual ports."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

IP: Final = "127.0.0.1"
PASSWORD: Final = "not-to-be-shown-anywhere"  # noqa: S105 - of a cloud that nobody else can reach
HOST: Final = "cloud"
REGION: Final = "RegionOne"
DATABASES: Final = ("keystone", "placement", "glance", "nova_api", "nova", "nova_cell0", "neutron")
KEYSTONE: Final = f"http://{IP}:5000"
API_PORTS: Final = {"keystone": 5000, "placement": 8778, "glance": 9292, "neutron": 9696, "nova-api": 8774}
# Service, its type, its endpoint.
CATALOG: Final = (
    ("placement", "placement", f"http://{IP}:8778"),
    ("glance", "image", f"http://{IP}:9292"),
    ("nova", "compute", f"http://{IP}:8774/v2.1"),
    ("neutron", "network", f"http://{IP}:9696"),
)
# What the switch is said to carry, each way.
BANDWIDTH_KBPS: Final = 1_000_000
DATABASE_PORT: Final = 3306
QUEUE_PORT: Final = 5672
_QUEUE: Final = f"transport_url = rabbit://guest:guest@{IP}:{QUEUE_PORT}/"


def connection(database: str) -> str:
    """Where a service finds its database."""
    return f"mysql+pymysql://os:{PASSWORD}@{IP}:{DATABASE_PORT}/{database}?charset=utf8"


def kept() -> str:
    """What of all this is in the databases from their making on."""
    return repr((DATABASES, CATALOG, KEYSTONE, REGION, _QUEUE, connection("")))


def _user(password: str = PASSWORD) -> str:
    return f"""auth_type = password
auth_url = {KEYSTONE}
username = admin
password = {password}
project_name = admin
user_domain_id = default
project_domain_id = default
region_name = {REGION}
"""


def clouds_yaml(password: str = PASSWORD, *, auth_url: str = KEYSTONE, **settings: str) -> str:
    """A clouds.yaml with the cloud `lab`; `settings` are of the cloud, beside its way to log in."""
    auth = {
        "username": "admin",
        "password": password,
        "project_name": "admin",
        "user_domain_id": "default",
        "project_domain_id": "default",
    }
    return _clouds({"auth_url": auth_url, **auth}, settings)


def clouds_of(auth_type: str, **auth: str) -> str:
    """The same with another way to log in."""
    return _clouds({"auth_url": KEYSTONE, **auth}, {"auth_type": auth_type})


def _clouds(auth: Mapping[str, str], settings: Mapping[str, str]) -> str:
    cloud = {"auth": dict(auth), "region_name": REGION, "identity_api_version": "3", **settings}
    return json.dumps({"clouds": {"lab": cloud}}, indent=2)


def files(state: Path, packages: Path) -> Mapping[str, str]:
    """The files below /etc, by their path in it; `packages` is the services' environment of Python."""
    token = f"""[keystone_authtoken]
www_authenticate_uri = {KEYSTONE}
{_user()}service_token_roles_required = true
memcached_servers =
"""
    rabbit = """[oslo_messaging_rabbit]
rabbit_quorum_queue = false
heartbeat_in_pthread = false
"""
    keys = "/etc/keystone/fernet"
    privsep = f"helper_command = {packages}/bin/privsep-helper --config-file"
    nova = f"""[DEFAULT]
{_QUEUE}
my_ip = {IP}
state_path = {state}/nova
instances_path = {state}/instances
vif_plugging_timeout = 60
report_interval = 5
periodic_fuzzy_delay = 0
service_down_time = 60
default_schedule_zone = nova
max_concurrent_builds = 3
reserved_host_disk_mb = 0
initial_ram_allocation_ratio = 1.0
[api_database]
connection = {connection("nova_api")}
[database]
connection = {connection("nova")}
[oslo_concurrency]
lock_path = {state}/lock
[placement]
{_user()}[neutron]
{_user()}[glance]
{_user()}api_servers = http://{IP}:9292
[service_user]
send_service_user_token = true
{_user()}[filter_scheduler]
enabled_filters = ComputeFilter,ComputeCapabilitiesFilter,ImagePropertiesFilter,ServerGroupAntiAffinityFilter,\
ServerGroupAffinityFilter,PciPassthroughFilter,NUMATopologyFilter
[scheduler]
discover_hosts_in_cells_interval = 5
workers = 1
[conductor]
workers = 1
[vnc]
enabled = false
[vif_plug_ovs_privileged]
{privsep} /etc/nova/nova.conf
[nova_sys_admin]
{privsep} /etc/nova/nova.conf
{rabbit}{token}"""
    return {
        "keystone/keystone.conf": f"""[database]
connection = {connection("keystone")}
[token]
provider = fernet
expiration = 86400
[fernet_tokens]
key_repository = {keys}
[fernet_receipts]
key_repository = {keys}
[credential]
key_repository = {keys}
[identity]
password_hash_rounds = 4
[cache]
enabled = true
backend = dogpile.cache.memory
""",
        "placement/placement.conf": f"""[placement_database]
connection = {connection("placement")}
[api]
auth_strategy = keystone
{token}""",
        "glance/glance-api.conf": f"""[DEFAULT]
enabled_backends = fs:file
workers = 1
enabled_import_methods = []
[database]
connection = {connection("glance")}
[glance_store]
default_backend = fs
[fs]
filesystem_store_datadir = {state}/images
[os_glance_staging_store]
filesystem_store_datadir = {state}/images-staging
[os_glance_tasks_store]
filesystem_store_datadir = {state}/images-tasks
[paste_deploy]
flavor = keystone
config_file = {packages}/etc/glance/glance-api-paste.ini
{token}""",
        "nova/nova.conf": nova,
        **{f"{one}/api-paste.ini": (packages / f"etc/{one}/api-paste.ini").read_text() for one in ("nova", "neutron")},
        "nova/compute/10-libvirt.conf": f"""[DEFAULT]
host = {HOST}
compute_driver = libvirt.LibvirtDriver
[libvirt]
connection_uri = qemu+unix:///system?socket=/run/libvirt/libvirt-sock
virt_type = qemu
cpu_mode = none
images_type = raw
[os_vif_ovs]
ovsdb_connection = unix:/run/openvswitch/db.sock
""",
        "nova/fake/10-fake.conf": fake_host("fake"),
        "neutron/neutron.conf": f"""[DEFAULT]
{_QUEUE}
core_plugin = ml2
service_plugins = qos,trunk,placement
auth_strategy = keystone
host = {HOST}
state_path = {state}/neutron
api_workers = 1
rpc_workers = 1
rpc_state_report_workers = 0
dhcp_agent_notification = false
[database]
connection = {connection("neutron")}
[oslo_concurrency]
lock_path = {state}/lock
[nova]
{_user()}[placement]
{_user()}[agent]
root_helper =
[privsep]
{privsep} /etc/neutron/neutron.conf
{rabbit}{token}""",
        "neutron/plugins/ml2/ml2_conf.ini": """[ml2]
type_drivers = flat,vlan
tenant_network_types = vlan
mechanism_drivers = openvswitch,sriovnicswitch
extension_drivers = port_security,qos
[ml2_type_vlan]
network_vlan_ranges = physnet1:100:199,physnet2:200:299,physnet3:300:399
[ml2_type_flat]
flat_networks = *
""",
        "neutron/plugins/ml2/openvswitch_agent.ini": f"""[securitygroup]
enable_security_group = true
firewall_driver = noop
[ovs]
bridge_mappings = physnet1:br-phy
resource_provider_bandwidths = br-phy:{BANDWIDTH_KBPS}:{BANDWIDTH_KBPS}
ovsdb_connection = unix:/run/openvswitch/db.sock
[agent]
polling_interval = 2
""",
        # What the engine looks at where the services do not run yet.
        "systemd/system/nova-compute.service": f"[Service]\nExecStart={' '.join(compute_argv(packages, 'compute'))}\n",
        "systemd/system/neutron-openvswitch-agent.service": f"[Service]\nExecStart={' '.join(agent_argv(packages))}\n",
        "libvirt/libvirtd.conf": 'auth_unix_rw = "none"\nunix_sock_rw_perms = "0700"\nlog_outputs = "3:stderr"\n',
        "libvirt/qemu.conf": f"""user = "root"
group = "root"
security_driver = "none"
stdio_handler = "file"
remember_owner = 0
namespaces = []
hugetlbfs_mount = "{state}/hugepages"
""",
        # libvirtd looks for them even where its guests run as root.
        "passwd": Path("/etc/passwd").read_text() + "libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin\n",
        "group": Path("/etc/group").read_text() + "libvirt-qemu:x:64055:\n",
        "openstack/clouds.yaml": clouds_yaml(),
    }


def fake_host(name: str, state: Path | None = None) -> str:
    """The drop-in of a compute host of Nova's fake driver; with a state of its own where there is another one."""
    path = "" if state is None else f"state_path = {state}\n"
    return f"[DEFAULT]\nhost = {name}\ncompute_driver = fake.MediumFakeDriver\n{path}"


def compute_argv(packages: Path, kind: str) -> tuple[str, ...]:
    """nova-compute of that kind, `compute`, `fake`…: nova.conf and the drop-ins of /etc/nova/KIND."""
    return (f"{packages}/bin/nova-compute", "--config-file", "/etc/nova/nova.conf", "--config-dir", f"/etc/nova/{kind}")


def agent_argv(packages: Path) -> tuple[str, ...]:
    """Neutron's Open vSwitch agent, with drop-ins of its own."""
    return (
        f"{packages}/bin/neutron-openvswitch-agent",
        *("--config-file", "/etc/neutron/neutron.conf"),
        *("--config-file", "/etc/neutron/plugins/ml2/openvswitch_agent.ini"),
        *("--config-dir", "/etc/neutron/agent"),
    )
