"""Ways to spoil a captured tree, each a function of a Random, the tree and the paths that matter in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from trees import Tree

Spoil = Callable[[Random, Tree, Sequence[str]], None]
_CPUS: Final = "/sys/devices/system/cpu"
_NODES: Final = "/sys/devices/system/node/node"
_NUMBERS: Final = (
    *(b"-1\n", b"0\n", b"7\n", b"255\n", b"65535\n", b"4294967295\n", b"18446744073709551615\n", b"9" * 5000),
    *(b"-7\n", b"0x10\n", b"1_000\n", "٣\n".encode(), b"3.5\n", b"+4\n", b"1000000000000\n"),
)
_LISTS: Final = (
    *(b"0-62:2\n", b"7-0\n", b"0-31:2/8\n", b"0,0,0\n", b"0-3,2-5\n", b"\n", b"", b"0-\n", b"0-70000\n", b"900\n"),
    *(b"1-3\n", b"2,4-6\n", b"0\0\0\n", b"(null)\n", b" 0 - 3 \n", b"0-255\n", b"1024\n"),
)
_TEXTS: Final = (
    *(b"", b"\0", b"\xff\xfe\x80 \xc3", b"garbage\n", b"\n\n\n", b"<unknown>\n", b"a" * 100_000, b":::\n= = =\n|||\n"),
    *("\u2028\u202e\u0085\n".encode(), b"\x1b[31mred\x1b[0m\n", b"{}", b"[1]", b"null", b"0\n"),
)
_LINKS: Final = (
    *("../../nowhere", ".", "..", "/", "/proc", "../../../../../../..", "0000:ff:1f.7", "/sys/devices/system/cpu"),
    *("../99999999999999999999", "../-3", "a/b/c\udcff", "9" * 5000),
)


def lose_files(random: Random, tree: Tree, paths: Sequence[str]) -> None:
    """Some files are not there."""
    for path in random.sample(paths, min(len(paths), random.choice([1, 5, 50]))):
        tree.pop(path, None)


def lose_a_folder(random: Random, tree: Tree, paths: Sequence[str]) -> None:
    """A folder at any depth is not there."""
    parts = random.choice(paths).split("/")
    top = "/".join(parts[: random.randrange(2, max(3, len(parts)))]) + "/"
    for path in [path for path in tree if path.startswith(top)]:
        del tree[path]


def lose_a_kind(random: Random, tree: Tree, paths: Sequence[str]) -> None:
    """All files of one name are not there."""
    for path in _alike(tree, random.choice(paths)):
        del tree[path]


def spoil_files(random: Random, tree: Tree, paths: Sequence[str]) -> None:
    """Some files hold something else."""
    for path in random.sample(paths, min(len(paths), random.choice([1, 3, 10, 60]))):
        if path in tree:
            tree[path] = _spoilt(random, tree[path])


def spoil_a_kind(random: Random, tree: Tree, paths: Sequence[str]) -> None:
    """All files of one name hold the same garbage."""
    alike = _alike(tree, random.choice(paths))
    garbage = [_spoilt(random, tree[path]) for path in alike[:1]]
    tree.update(dict.fromkeys(alike, garbage[0]) if garbage else {})


def exchange(random: Random, tree: Tree, paths: Sequence[str]) -> None:
    """Files of one name hold each other's contents."""
    alike = _alike(tree, random.choice(paths))
    tree.update(zip(alike, random.sample([tree[path] for path in alike], len(alike)), strict=True))


def renumber_nodes(random: Random, tree: Tree, paths: Sequence[str]) -> None:
    """Node folders have other numbers than their lists say."""
    del paths
    shift = random.choice([1, 7, 250, 5000])
    for path in [path for path in tree if path.startswith(_NODES)]:
        number, _, rest = path.removeprefix(_NODES).partition("/")
        if number.isdecimal():
            tree[f"{_NODES}{int(number) + shift}/{rest}"] = tree.pop(path)


def contradict_cpu_lists(random: Random, tree: Tree, paths: Sequence[str]) -> None:
    """The lists of CPUs have nothing to do with each other."""
    del paths
    for leaf in ("online", "present", "possible", "offline", "isolated"):
        if random.random() < 0.5:
            tree[f"{_CPUS}/{leaf}"] = random.choice(_LISTS)


def contradict_groups_of_cpus(random: Random, tree: Tree, paths: Sequence[str]) -> None:
    """Siblings and caches overlap at random."""
    del paths
    for path in [path for path in tree if path.endswith(("siblings_list", "cpus_list", "shared_cpu_list"))]:
        if random.random() < 0.3:
            tree[path] = random.choice(_LISTS)


def take_cpu_0_offline(random: Random, tree: Tree, paths: Sequence[str]) -> None:
    """CPU 0 does not run."""
    del paths
    tree[f"{_CPUS}/cpu0/online"] = b"0\n"
    tree[f"{_CPUS}/online"] = b"1-%d\n" % random.choice([1, 3, 7, 11])
    for path in [path for path in tree if path.startswith((f"{_CPUS}/cpu0/topology", f"{_CPUS}/cpu0/cache"))]:
        del tree[path]


def misplace_cards(random: Random, tree: Tree, paths: Sequence[str]) -> None:
    """All cards are on one node, which may not be there."""
    del paths
    node = random.choice([b"0\n", b"1\n", b"9\n", b"255\n", b"-1\n", b"99999999\n", b"x"])
    tree.update({path: node for path in tree if path.endswith("/numa_node")})


def garble_sriov(random: Random, tree: Tree, paths: Sequence[str]) -> None:
    """Every function has VFs: numbers at random, links to nowhere or to itself."""
    del paths
    for function in _functions(tree):
        own = function.rpartition("/")[2]
        tree[f"{function}/sriov_totalvfs"] = random.choice(_NUMBERS)
        tree[f"{function}/sriov_numvfs"] = random.choice(_NUMBERS)
        number = random.choice(["0", "x", "1", "-1", "99999999999"])
        tree[f"{function}/virtfn{number}"] = f"../{random.choice(['0000:01:00.0', 'x', own])}"
        if random.random() < 0.2:
            tree[f"{function}/physfn"] = f"../{random.choice(['0000:01:00.0', 'x', own])}"


def garble_iommu(random: Random, tree: Tree, paths: Sequence[str]) -> None:
    """Functions are in groups that are no groups."""
    del paths
    for function in _functions(tree):
        own, group = function.rpartition("/")[2], random.choice(["0", "1", "x", "-1", "9" * 20])
        tree[f"{function}/iommu_group"] = f"../../../kernel/iommu_groups/{group}"
        tree[f"/sys/kernel/iommu_groups/{group}/devices/{own}"] = f"../../../../{own}"


def move_to_another_domain(random: Random, tree: Tree, paths: Sequence[str]) -> None:
    """PCI domains have five digits."""
    del random, paths
    for path in list(tree):
        content = tree.pop(path)
        there = content.replace("0000:", "10000:") if isinstance(content, str) else content
        tree[path.replace("0000:", "10000:")] = there


def garble_memory(random: Random, tree: Tree, paths: Sequence[str]) -> None:
    """Memory and pages from none to more than there is in the world."""
    del paths
    sizes = [0, 1, 1000, 300_000, 10**6, 4 * 10**6, 10**8, 10**15, 10**30]
    for path, content in list(tree.items()):
        if path.endswith("/meminfo") and isinstance(content, bytes):
            tree[path] = re.sub(rb"\d+ kB", lambda _: b"%d kB" % random.choice(sizes), content)
        elif path.endswith("_hugepages"):
            tree[path] = random.choice([b"0\n", b"1\n", b"100000000\n", b"-1\n", b"x"])


def resize_pages(random: Random, tree: Tree, paths: Sequence[str]) -> None:
    """Pages have a size of another machine, or none."""
    del paths
    size = random.choice(["0", "4", "64", "512", "32768", "524288", "16777216", "999999999999"])
    for path in [path for path in tree if "/hugepages-" in path]:
        tree[re.sub(r"hugepages-\d+kB", f"hugepages-{size}kB", path)] = tree.pop(path)


def cut_cpuinfo(random: Random, tree: Tree, paths: Sequence[str]) -> None:
    """/proc/cpuinfo ends somewhere."""
    del paths
    if isinstance(text := tree.get("/proc/cpuinfo"), bytes):
        tree["/proc/cpuinfo"] = text[: random.randrange(len(text) + 1)]


def garble_cmdline(random: Random, tree: Tree, paths: Sequence[str]) -> None:
    """The kernel was started by somebody else."""
    del paths
    tree["/proc/cmdline"] = random.choice(
        [
            b"isolcpus=1-3 intel_iommu=off nosmt",
            b"isolcpus=nohz,domain,1-3,99999999",
            b'a="b " "',
            b"= = isolcpus=",
            b"hugepages=0:4,9:9 hugepagesz=",
            b"default_hugepagesz=1G hugepagesz=1G hugepages=999999999 iommu=off",
            b"\xff\xfe" * 30,
        ]
    )


WAYS: Final[tuple[Spoil, ...]] = (
    *(lose_files, lose_a_folder, lose_a_kind, spoil_files, spoil_a_kind, exchange, renumber_nodes),
    *(contradict_cpu_lists, contradict_groups_of_cpus, take_cpu_0_offline, misplace_cards, garble_sriov, garble_iommu),
    *(move_to_another_domain, garble_memory, resize_pages, cut_cpuinfo, garble_cmdline),
)


def _alike(tree: Tree, path: str) -> list[str]:
    """The paths that end in the same name and are of the same kind, a file or a link."""
    leaf, kind = path.rpartition("/")[2], type(tree.get(path))
    return sorted(one for one in tree if one.endswith(f"/{leaf}") and isinstance(tree[one], kind))


def _functions(tree: Tree) -> list[str]:
    """The folders of PCI functions."""
    return sorted(path.rpartition("/")[0] for path in tree if path.endswith("/class") and "pci" in path)


def _spoilt(random: Random, content: bytes | str) -> bytes | str:
    """Something else in place of a file's content, or of a link's target."""
    if isinstance(content, str):
        return random.choice(_LINKS)
    flipped = bytearray(content or b"x")
    flipped[random.randrange(len(flipped))] = random.randrange(256)
    lines = content.splitlines(keepends=True)
    return random.choice(
        [
            content[: random.randrange(len(content) + 1)],
            content.rstrip(b"\n") + b"\0" * random.randrange(1, 9),
            bytes(flipped),
            b"".join(random.sample(lines, random.randrange(len(lines) + 1))),
            re.sub(rb"\d+", lambda match: random.choice([match[0], b"0", b"3", b"64", b"1000000000000"]), content),
            random.choice(_NUMBERS),
            random.choice(_LISTS),
            random.choice(_TEXTS),
        ]
    )
