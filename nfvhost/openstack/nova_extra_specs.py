"""Nova's validators of `hw` and of custom traits: a table that tools/nova_extra_specs.py writes."""

from __future__ import annotations

from typing import Final

from nfvhost.openstack.extra_spec import ExtraSpec

NOVA_VERSION: Final = "34.0.0"
EXTRA_SPECS: Final[tuple[ExtraSpec, ...]] = (
    ExtraSpec(name="hw:boot_menu", pattern="hw:boot_menu", kind="bool"),
    ExtraSpec(name="hw:cpu_cores", pattern="hw:cpu_cores", kind="int", least=1),
    ExtraSpec(
        name="hw:cpu_dedicated_mask",
        pattern="hw:cpu_dedicated_mask",
        kind="str",
        value_pattern="\\^?\\d+((-\\d+)?(,\\^?\\d+(-\\d+)?)?)*",
    ),
    ExtraSpec(name="hw:cpu_max_cores", pattern="hw:cpu_max_cores", kind="int", least=1),
    ExtraSpec(name="hw:cpu_max_sockets", pattern="hw:cpu_max_sockets", kind="int", least=1),
    ExtraSpec(name="hw:cpu_max_threads", pattern="hw:cpu_max_threads", kind="int", least=1),
    ExtraSpec(name="hw:cpu_policy", pattern="hw:cpu_policy", kind="str", choices=("dedicated", "shared", "mixed")),
    ExtraSpec(name="hw:cpu_realtime", pattern="hw:cpu_realtime", kind="bool"),
    ExtraSpec(
        name="hw:cpu_realtime_mask",
        pattern="hw:cpu_realtime_mask",
        kind="str",
        value_pattern="(\\^)?\\d+((-\\d+)?(,\\^?\\d+(-\\d+)?)?)*",
    ),
    ExtraSpec(name="hw:cpu_sockets", pattern="hw:cpu_sockets", kind="int", least=1),
    ExtraSpec(
        name="hw:cpu_thread_policy",
        pattern="hw:cpu_thread_policy",
        kind="str",
        choices=("prefer", "isolate", "require"),
    ),
    ExtraSpec(name="hw:cpu_threads", pattern="hw:cpu_threads", kind="int", least=1),
    ExtraSpec(
        name="hw:emulator_threads_policy",
        pattern="hw:emulator_threads_policy",
        kind="str",
        choices=("isolate", "share"),
    ),
    ExtraSpec(name="hw:ephemeral_encryption", pattern="hw:ephemeral_encryption", kind="bool"),
    ExtraSpec(
        name="hw:ephemeral_encryption_format",
        pattern="hw:ephemeral_encryption_format",
        kind="str",
        choices=("plain", "luks", "luksv2"),
    ),
    ExtraSpec(name="hw:hide_hypervisor_id", pattern="hw:hide_hypervisor_id", kind="bool"),
    ExtraSpec(name="hw:locked_memory", pattern="hw:locked_memory", kind="bool"),
    ExtraSpec(name="hw:mem_encryption", pattern="hw:mem_encryption", kind="bool"),
    ExtraSpec(
        name="hw:mem_encryption_model",
        pattern="hw:mem_encryption_model",
        kind="str",
        choices=("amd-sev", "amd-sev-es", "amd-sev-snp", "intel-tdx"),
    ),
    ExtraSpec(
        name="hw:mem_page_size",
        pattern="hw:mem_page_size",
        kind="str",
        value_pattern="(large|small|any|\\d+([kKMGT]i?)?(b|bit|B)?)",
    ),
    ExtraSpec(
        name="hw:numa_cpus.{num}",
        pattern="hw:numa_cpus.(?P<num>\\d+)",
        kind="str",
        value_pattern="\\^?\\d+((-\\d+)?(,\\^?\\d+(-\\d+)?)?)*",
    ),
    ExtraSpec(name="hw:numa_mem.{num}", pattern="hw:numa_mem.(?P<num>\\d+)", kind="int", least=1),
    ExtraSpec(name="hw:numa_nodes", pattern="hw:numa_nodes", kind="int", least=1),
    ExtraSpec(
        name="hw:pci_numa_affinity_policy",
        pattern="hw:pci_numa_affinity_policy",
        kind="str",
        choices=("required", "preferred", "legacy", "socket"),
    ),
    ExtraSpec(name="hw:pmem", pattern="hw:pmem", kind="str", value_pattern="([a-zA-Z0-9_]+(,)?)+"),
    ExtraSpec(name="hw:pmu", pattern="hw:pmu", kind="bool"),
    ExtraSpec(name="hw:redirected_usb_ports", pattern="hw:redirected_usb_ports", kind="int", least=0, most=15),
    ExtraSpec(name="hw:serial_port_count", pattern="hw:serial_port_count", kind="int", least=0),
    ExtraSpec(
        name="hw:sound_model",
        pattern="hw:sound_model",
        kind="str",
        choices=("sb16", "es1370", "pcspk", "ac97", "ich6", "ich9", "usb", "virtio"),
    ),
    ExtraSpec(name="hw:tpm_model", pattern="hw:tpm_model", kind="str", choices=("tpm-tis", "tpm-crb")),
    ExtraSpec(
        name="hw:tpm_secret_security",
        pattern="hw:tpm_secret_security",
        kind="str",
        choices=("user", "host", "deployment"),
    ),
    ExtraSpec(name="hw:tpm_version", pattern="hw:tpm_version", kind="str", choices=("1.2", "2.0")),
    ExtraSpec(name="hw:usb_model", pattern="hw:usb_model", kind="str", choices=("none", "nec-xhci", "qemu-xhci")),
    ExtraSpec(name="hw:vif_multiqueue_enabled", pattern="hw:vif_multiqueue_enabled", kind="bool"),
    ExtraSpec(
        name="hw:viommu_model", pattern="hw:viommu_model", kind="str", choices=("intel", "smmuv3", "virtio", "auto")
    ),
    ExtraSpec(name="hw:virtio_packed_ring", pattern="hw:virtio_packed_ring", kind="bool"),
    ExtraSpec(
        name="hw:watchdog_action",
        pattern="hw:watchdog_action",
        kind="str",
        choices=("none", "pause", "poweroff", "reset", "disabled"),
    ),
    ExtraSpec(
        name="trait{group}:CUSTOM_{trait}",
        pattern="trait(?P<group>([a-zA-Z0-9_-]{1,64})?):CUSTOM_(?P<trait>[A-Z0-9_]+)",
        kind="str",
        choices=("required", "forbidden"),
    ),
)
