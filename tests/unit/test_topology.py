"""Trees as odd kernels, firmwares and captures make them, each as small as its oddity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nfvhost.errors import DocumentError
from nfvhost.inspect import inspect_host
from nfvhost.model.cpuset import CpuSet
from nfvhost.model.host import Cpu, CpuKind, Host, cores, l3_groups
from nfvhost.model.units import PageSize

if TYPE_CHECKING:
    from tests.conftest import MakeTree

CPU = "/sys/devices/system/cpu"
NODE = "/sys/devices/system/node"


def topology(cpu: int, **files: object) -> dict[str, str]:
    """Files of cpu<N>/topology, as the kernel ends them."""
    return {f"{CPU}/cpu{cpu}/topology/{name}": f"{value}\n" for name, value in files.items()}


def cache(cpu: int, index: int, **files: object) -> dict[str, str]:
    return {f"{CPU}/cpu{cpu}/cache/index{index}/{name}": f"{value}\n" for name, value in files.items()}


def merged(*parts: dict[str, str]) -> dict[str, str]:
    return {path: text for part in parts for path, text in part.items()}


def lists(groups: tuple[CpuSet, ...]) -> list[str]:
    return [str(group) for group in groups]


def by_id(host: Host) -> dict[int, Cpu]:
    return {cpu.id: cpu for cpu in host.cpus}


def packages(host: Host) -> list[int | None]:
    return [cpu.package for cpu in host.cpus]


def test_lists_may_end_in_a_nul_byte(make_tree: MakeTree) -> None:
    host = inspect_host(
        make_tree(
            merged(
                {f"{CPU}/online": "0-1\n\0", f"{NODE}/online": "0\n\0", f"{NODE}/node0/cpulist": "0-1\n\0"},
                *(topology(cpu, thread_siblings_list="0-1\n\0", physical_package_id="0\n\0") for cpu in (0, 1)),
            )
        )
    )

    assert lists(cores(host)) == ["0-1"]
    assert str(host.nodes[0].cpus) == "0-1"
    assert packages(host) == [0, 0]


def test_a_package_id_of_minus_one_leaves_the_siblings_to_tell_packages_apart(make_tree: MakeTree) -> None:
    host = inspect_host(
        make_tree(
            merged(
                {f"{CPU}/online": "0-3"},
                *(
                    topology(cpu, physical_package_id=-1, core_id=-1, die_id=-1, cluster_id=65535)
                    | topology(cpu, core_siblings_list="0-1" if cpu < 2 else "2-3", thread_siblings_list=cpu)
                    for cpu in range(4)
                ),
            )
        )
    )

    assert packages(host) == [0, 0, 1, 1]
    assert {(cpu.core, cpu.die, cpu.cluster) for cpu in host.cpus} == {(None, None, None)}


def test_a_core_id_may_come_again_in_its_package(make_tree: MakeTree) -> None:
    host = inspect_host(
        make_tree(
            merged(
                {f"{CPU}/online": "0-3"},
                *(
                    topology(cpu, physical_package_id=0, core_id=0, thread_siblings_list="0-1" if cpu < 2 else "2-3")
                    for cpu in range(4)
                ),
            )
        )
    )

    assert lists(cores(host)) == ["0-1", "2-3"]


def test_package_ids_that_start_again_in_each_book_are_renumbered(make_tree: MakeTree) -> None:
    host = inspect_host(
        make_tree(
            merged(
                {f"{CPU}/online": "0-3"},
                *(
                    topology(cpu, physical_package_id=cpu % 2 + 1, book_id=cpu // 2, drawer_id=0, core_cpus_list=cpu)
                    for cpu in range(4)
                ),
            )
        )
    )

    assert packages(host) == [0, 1, 2, 3]


def test_package_ids_that_differ_stay_the_kernels(make_tree: MakeTree) -> None:
    host = inspect_host(
        make_tree(
            merged(
                {f"{CPU}/online": "0-1"},
                topology(0, physical_package_id=32259, thread_siblings_list=0),
                topology(1, physical_package_id=3, thread_siblings_list=1),
            )
        )
    )

    assert packages(host) == [32259, 3]


def test_core_siblings_of_one_node_do_not_split_a_package_that_has_an_id(make_tree: MakeTree) -> None:
    host = inspect_host(
        make_tree(
            merged(
                {f"{CPU}/online": "0-1"},
                *(topology(cpu, physical_package_id=0, core_siblings_list=cpu, core_cpus_list=cpu) for cpu in (0, 1)),
            )
        )
    )

    assert packages(host) == [0, 0]


CPUINFO = """\
processor\t: {0}
vendor_id\t: GenuineIntel
model name\t: Test
physical id\t: {1}
siblings\t: 4
core id\t\t: {2}
apicid\t\t: {3}
flags\t\t: fpu lm pdpe1gb

"""


def test_without_topology_ids_cpuinfo_tells_the_cores(make_tree: MakeTree) -> None:
    text = "".join(CPUINFO.format(cpu, cpu // 4, cpu % 2, cpu) for cpu in range(8))
    shared = [cache(cpu, 3, shared_cpu_list="0-3" if cpu < 4 else "4-7") for cpu in range(8)]

    host = inspect_host(make_tree(merged({f"{CPU}/online": "0-7", "/proc/cpuinfo": text}, *shared)))

    assert lists(cores(host)) == ["0,2", "1,3", "4,6", "5,7"]
    assert packages(host) == [0] * 4 + [1] * 4
    assert lists(l3_groups(host)) == ["0-3", "4-7"]
    assert host.cpus[1].core == 1


def test_core_ids_of_cpuinfo_that_come_again_on_each_die_are_cores_of_their_own(make_tree: MakeTree) -> None:
    text = "".join(CPUINFO.format(cpu, 0, 0, cpu) for cpu in range(4))
    dies = [topology(cpu, die_id=cpu // 2) for cpu in range(4)]

    host = inspect_host(make_tree(merged({f"{CPU}/online": "0-3", "/proc/cpuinfo": text}, *dies)))

    assert lists(cores(host)) == ["0-1", "2-3"]


def test_apic_ids_that_come_again_are_another_machine_of_one_system_image(make_tree: MakeTree) -> None:
    text = "".join(CPUINFO.format(cpu, 1, 0, cpu % 2) for cpu in range(4))

    host = inspect_host(make_tree({"/proc/cpuinfo": text}))

    assert lists(cores(host)) == ["0-1", "2-3"]
    assert packages(host) == [0, 0, 1, 1]


def test_without_ids_anywhere_the_first_cache_tells_the_threads(make_tree: MakeTree) -> None:
    first = [cache(cpu, 0, level=1, shared_cpu_list="0,2" if cpu % 2 == 0 else "1,3") for cpu in range(4)]

    host = inspect_host(make_tree(merged({f"{CPU}/online": "0-3"}, *first)))

    assert lists(cores(host)) == ["0,2", "1,3"]
    assert packages(host) == [None] * 4


def test_no_cpu_folders_at_all_leave_the_processors_of_cpuinfo(make_tree: MakeTree) -> None:
    text = "".join(CPUINFO.format(cpu, 0, cpu, cpu) for cpu in range(16, 20))

    host = inspect_host(make_tree({"/proc/cpuinfo": text}))

    assert str(host.online) == "16-19"
    assert str(host.nodes[0].cpus) == "16-19"
    assert host.cpus[0].node is None
    assert host.model.flags == {"fpu", "lm", "pdpe1gb"}


def test_no_cpuinfo_leaves_the_model_unknown(make_tree: MakeTree) -> None:
    host = inspect_host(make_tree(merged(topology(0, core_cpus_list=0), topology(1, core_cpus_list=1))))

    assert str(host.online) == "0-1"
    assert (host.model.architecture, host.model.vendor, host.model.name) == ("unknown", None, None)


def test_processors_of_powerpc_without_topology_are_a_core_each(make_tree: MakeTree) -> None:
    processors = "".join(
        f"processor\t: {cpu}\ncpu\t\t: PPC970MP\nrevision\t: 1.1 (pvr 0044 0101)\n\n" for cpu in (0, 1)
    )

    host = inspect_host(
        make_tree(
            {
                "/proc/cpuinfo": processors,
                f"{CPU}/cpu1/physical_id": "1",
                f"{NODE}/node0/cpu0": "",
                f"{NODE}/node0/cpu1": "",
            }
        )
    )

    assert lists(cores(host)) == ["0", "1"]
    assert str(host.nodes[0].cpus) == "0-1"
    assert host.model.architecture == "ppc64"


def test_the_device_tree_tells_threads_and_caches_where_sysfs_does_not(make_tree: MakeTree) -> None:
    tree = "/proc/device-tree/cpus"

    def cells(*numbers: int) -> bytes:
        return b"".join(number.to_bytes(4, "big") for number in numbers)

    host = inspect_host(
        make_tree(
            {
                f"{CPU}/online": "0-3",
                f"{tree}/PowerPC,POWER6@0/ibm,ppc-interrupt-server#s": cells(0, 1),
                f"{tree}/PowerPC,POWER6@0/l2-cache": cells(0x2000),
                f"{tree}/PowerPC,POWER6@2/ibm,ppc-interrupt-server#s": cells(2, 3),
                f"{tree}/PowerPC,POWER6@2/l2-cache": cells(0x2000),
                f"{tree}/l2-cache@2000/ibm,phandle": cells(0x2000),
                f"{tree}/l2-cache@2000/l2-cache": cells(0x3000),
                f"{tree}/l3-cache@3000/ibm,phandle": cells(0x3000),
            }
        )
    )

    assert lists(cores(host)) == ["0-1", "2-3"]
    assert {str(cpu.l2) for cpu in host.cpus} == {"0-3"}
    assert lists(l3_groups(host)) == ["0-3"]


@pytest.mark.parametrize("offline", ["2-511\n", "", "\n"])
def test_offline_may_list_cpus_that_never_existed_or_nothing(make_tree: MakeTree, offline: str) -> None:
    folders = {f"{CPU}/cpu{cpu}/uevent": "" for cpu in range(2)}

    host = inspect_host(make_tree({f"{CPU}/online": "0-1", f"{CPU}/offline": offline, **folders}))

    assert [cpu.id for cpu in host.cpus] == [0, 1]


def test_an_offline_cpu_has_no_topology_and_is_in_nobody_elses(make_tree: MakeTree) -> None:
    host = inspect_host(
        make_tree(
            merged(
                {
                    f"{CPU}/online": "1",
                    f"{CPU}/present": "0-1",
                    f"{CPU}/cpu0/online": "0",
                    f"{NODE}/node0/cpulist": "0-1",
                },
                topology(1, core_cpus_list="0-1", physical_package_id=0),
                cache(1, 3, level=3, shared_cpu_list="0-1"),
            )
        )
    )

    off, on = host.cpus
    assert (off.online, off.package, off.thread_siblings, off.l3) == (False, None, CpuSet(), None)
    assert (str(on.thread_siblings), str(on.l3), str(host.nodes[0].cpus)) == ("1", "1", "1")


def test_online_is_known_without_the_file_of_that_name(make_tree: MakeTree) -> None:
    host = inspect_host(make_tree({f"{CPU}/cpu0/uevent": "", f"{CPU}/cpu1/online": "0", f"{CPU}/cpu2/online": "1"}))

    assert str(host.online) == "0,2"


def test_lists_with_strides_are_read(make_tree: MakeTree) -> None:
    host = inspect_host(
        make_tree({f"{CPU}/online": "0-7", f"{NODE}/node0/cpulist": "0-6:2", f"{NODE}/node1/cpulist": "1-7:2"})
    )

    assert [str(node.cpus) for node in host.nodes] == ["0,2,4,6", "1,3,5,7"]
    assert [cpu.node for cpu in host.cpus] == [0, 1] * 4


def test_emulated_nodes_all_claim_every_cpu_and_each_cpu_is_still_on_one(make_tree: MakeTree) -> None:
    claims = {f"{NODE}/node{node}/cpulist": "0-3" for node in range(8)}

    host = inspect_host(
        make_tree({f"{CPU}/online": "0-3", f"{NODE}/online": "0-7", f"{CPU}/cpu3/node5/": "", **claims})
    )

    assert [str(node.cpus) for node in host.nodes] == ["0-3"] * 8
    assert [cpu.node for cpu in host.cpus] == [0, 0, 0, 5]
    assert any("claim CPUs 0-3" in warning for warning in host.warnings)


def test_node_ids_may_have_gaps_and_nodes_no_cpus(make_tree: MakeTree) -> None:
    nodes = {
        f"{NODE}/online": "0,8,250",
        f"{NODE}/node0/cpulist": "0-87",
        f"{NODE}/node0/distance": "10 40 80",
        f"{NODE}/node8/cpulist": "88-175",
        f"{NODE}/node250/cpulist": "\n",
        f"{NODE}/node250/meminfo": "Node 250 MemTotal:       15728640 kB\nNode 250 MemFree:        15000000 kB\n",
    }

    host = inspect_host(make_tree({f"{CPU}/online": "0-1,88", **nodes}))

    assert [(node.id, str(node.cpus)) for node in host.nodes] == [(0, "0-1"), (8, "88"), (250, "")]
    assert host.nodes[0].distances == (10, 40, 80)
    assert (host.nodes[2].memory_kib, host.nodes[2].free_kib) == (15728640, 15000000)
    assert (host.nodes[0].memory_kib, host.nodes[1].distances) == (None, ())


def test_a_node_that_is_offline_is_not_there(make_tree: MakeTree) -> None:
    nodes = {f"{NODE}/online": "1", f"{NODE}/node0/cpulist": "", f"{NODE}/node1/cpulist": "0-1"}

    host = inspect_host(make_tree({f"{CPU}/online": "0-1", f"{NODE}/node1/distance": "20 10", **nodes}))

    assert [node.id for node in host.nodes] == [1]
    assert host.nodes[0].distances == ()


def test_a_cpu_that_no_node_lists_has_none(make_tree: MakeTree) -> None:
    host = inspect_host(make_tree({f"{CPU}/online": "0-1", f"{NODE}/node0/cpumap": "00000000,00000001\n"}))

    assert [cpu.node for cpu in host.cpus] == [0, None]


def test_without_node_folders_node_0_has_everything(make_tree: MakeTree) -> None:
    meminfo = "MemTotal:       16316412 kB\nMemFree:         1000 kB\nMemAvailable:    2000 kB\n"

    host = inspect_host(make_tree({f"{CPU}/online": "0-1", "/proc/meminfo": meminfo}))

    (node,) = host.nodes
    assert (node.id, str(node.cpus), node.memory_kib, node.free_kib) == (0, "0-1", 16316412, 1000)
    assert (host.memory_kib, host.available_kib) == (16316412, 2000)


def test_24_sockets_of_one_core_are_24_packages(make_tree: MakeTree) -> None:
    sockets = [topology(cpu, physical_package_id=cpu, core_id=0, core_cpus_list=cpu) for cpu in range(24)]

    host = inspect_host(make_tree(merged({f"{CPU}/online": "0-23"}, *sockets)))

    assert packages(host) == list(range(24))
    assert len(cores(host)) == 24


def test_a_single_cpu_is_a_machine(make_tree: MakeTree) -> None:
    host = inspect_host(
        make_tree(merged({f"{CPU}/online": "0\n"}, topology(0, core_cpus_list=0, physical_package_id=0)))
    )

    assert lists(cores(host)) == ["0"]
    assert str(host.usable) == "0"


def test_thread_siblings_that_contradict_are_one_core_and_a_warning(make_tree: MakeTree) -> None:
    host = inspect_host(
        make_tree(
            merged(
                {f"{CPU}/online": "0-3"},
                topology(0, core_cpus_list="0-1"),
                topology(1, core_cpus_list="1-2"),
                topology(2, core_cpus_list="2"),
                topology(3, core_cpus_list="3"),
            )
        )
    )

    assert lists(cores(host)) == ["0-2", "3"]
    assert any("thread siblings of CPUs 0-2" in warning for warning in host.warnings)


def test_cpus_that_name_the_same_l3_are_its_group_where_the_files_contradict(make_tree: MakeTree) -> None:
    shared = {0: "0-3", 1: "0-3", 2: "0-1,3", 3: "0-3"}

    host = inspect_host(
        make_tree(
            merged({f"{CPU}/online": "0-3"}, *(cache(cpu, 3, level=3, shared_cpu_list=shared[cpu]) for cpu in shared))
        )
    )

    assert lists(l3_groups(host)) == ["0-1,3", "2"]
    assert any("L3 caches of CPUs 0-3" in warning for warning in host.warnings)


def test_masks_serve_where_there_are_no_lists(make_tree: MakeTree) -> None:
    host = inspect_host(
        make_tree(
            merged(
                {f"{CPU}/cpu{cpu}/uevent": "" for cpu in (0, 32)},
                *(topology(cpu, thread_siblings="00000001,00000001") for cpu in (0, 32)),
                *(cache(cpu, 2, level=2, shared_cpu_map="1,00000001") for cpu in (0, 32)),
            )
        )
    )

    assert lists(cores(host)) == ["0,32"]
    assert str(host.cpus[0].l2) == "0,32"


def test_the_data_cache_counts_where_a_level_has_two(make_tree: MakeTree) -> None:
    host = inspect_host(
        make_tree(
            merged(
                {f"{CPU}/online": "0-1"},
                *(cache(cpu, 2, level=2, type="Instruction", shared_cpu_list="0-1") for cpu in (0, 1)),
                *(cache(cpu, 3, level=2, type="Data", shared_cpu_list=cpu) for cpu in (0, 1)),
            )
        )
    )

    assert [str(cpu.l2) for cpu in host.cpus] == ["0", "1"]


def test_a_cache_that_names_no_cpu_is_its_cores(make_tree: MakeTree) -> None:
    host = inspect_host(
        make_tree(
            merged(
                {f"{CPU}/online": "0-1"},
                *(topology(cpu, core_cpus_list="0-1") for cpu in (0, 1)),
                *(cache(cpu, 3, level=3, shared_cpu_map="00000000") for cpu in (0, 1)),
            )
        )
    )

    assert lists(l3_groups(host)) == ["0-1"]


def test_the_pmus_tell_the_kinds_of_a_hybrid(make_tree: MakeTree) -> None:
    pmus = {"cpu_core": "0-1", "cpu_atom": "3,2", "cpu_lowpower": "4"}

    host = inspect_host(
        make_tree({f"{CPU}/online": "0-4", **{f"/sys/devices/{pmu}/cpus": f"{cpus}\n" for pmu, cpus in pmus.items()}})
    )

    assert [cpu.kind for cpu in host.cpus] == [CpuKind.PERFORMANCE] * 2 + [CpuKind.EFFICIENCY] * 3


def test_cores_with_less_than_half_the_capacity_are_efficiency_cores(make_tree: MakeTree) -> None:
    capacities = (280, 855, 1024)

    host = inspect_host(
        make_tree({f"{CPU}/cpu{cpu}/cpu_capacity": f"{number}\n" for cpu, number in enumerate(capacities)})
    )

    assert [cpu.kind for cpu in host.cpus] == [CpuKind.EFFICIENCY, CpuKind.PERFORMANCE, CpuKind.PERFORMANCE]


def hybrid_files(modules: str) -> dict[str, str]:
    """CPUs 0-3 are two cores of two threads with an L2 each, 4 and 5 single-threaded ones with the L2 `modules`."""
    pairs = {0: "0-1", 1: "0-1", 2: "2-3", 3: "2-3"}
    return merged(
        {f"{CPU}/online": "0-5"},
        *(
            topology(cpu, core_cpus_list=pair) | cache(cpu, 2, level=2, shared_cpu_list=pair)
            for cpu, pair in pairs.items()
        ),
        *(topology(cpu, core_cpus_list=cpu) | cache(cpu, 2, level=2, shared_cpu_list=modules or cpu) for cpu in (4, 5)),
    )


def test_a_hybrid_without_pmus_is_known_by_its_build(make_tree: MakeTree) -> None:
    host = inspect_host(make_tree(hybrid_files("4-5")))

    assert [cpu.kind for cpu in host.cpus] == [CpuKind.PERFORMANCE] * 4 + [CpuKind.EFFICIENCY] * 2


def test_cores_whose_siblings_are_off_do_not_make_a_hybrid(make_tree: MakeTree) -> None:
    host = inspect_host(make_tree(hybrid_files("")))

    assert {cpu.kind for cpu in host.cpus} == {None}


def test_hugepages_are_known_per_node_and_for_the_machine(make_tree: MakeTree) -> None:
    def pool(folder: str, size_kib: int, total: int, free: int) -> dict[str, str]:
        place = f"{folder}/hugepages-{size_kib}kB"
        return {
            f"{place}/nr_hugepages": f"{total}\n",
            f"{place}/free_hugepages": f"{free}\n",
            f"{place}/surplus_hugepages": "0\n",
        }

    host = inspect_host(
        make_tree(
            merged(
                {f"{CPU}/online": "0", f"{NODE}/node0/cpulist": "0"},
                pool("/sys/kernel/mm/hugepages", 1048576, 4, 3),
                pool("/sys/kernel/mm/hugepages", 2048, 512, 512),
                pool(f"{NODE}/node0/hugepages", 1048576, 4, 3),
            )
        )
    )

    assert [(one.size, one.total, one.free) for one in host.hugepages] == [
        (PageSize.MIB_2, 512, 512),
        (PageSize.GIB_1, 4, 3),
    ]
    assert [(one.size, one.total) for one in host.nodes[0].hugepages] == [(PageSize.GIB_1, 4)]


def test_an_old_kernel_has_its_one_pool_in_meminfo(make_tree: MakeTree) -> None:
    meminfo = "HugePages_Total:     8\nHugePages_Free:      5\nHugePages_Surp:      0\nHugepagesize:     4096 kB\n"

    host = inspect_host(make_tree({f"{CPU}/online": "0", "/proc/meminfo": meminfo}))

    (pool,) = host.hugepages
    assert (str(pool.size), pool.total, pool.free, pool.surplus) == ("4M", 8, 5, 0)


def test_isolated_comes_from_the_command_line_where_the_file_is_missing(make_tree: MakeTree) -> None:
    host = inspect_host(make_tree({f"{CPU}/online": "0-3", "/proc/cmdline": "isolcpus=2-9\n"}))

    assert str(host.isolated) == "2-3"


@pytest.mark.parametrize("files", [{"/sys/": ""}, {f"{CPU}/online": "", "/proc/cpuinfo": ""}])
def test_a_tree_without_a_cpu_is_refused(make_tree: MakeTree, files: dict[str, str]) -> None:
    with pytest.raises(DocumentError, match="no CPU"):
        inspect_host(make_tree(files))
