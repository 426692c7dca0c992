from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nfvhost.inspect.cmdline import isolcpus, kernel_args, kernel_version, split_cmdline

if TYPE_CHECKING:
    from tests.conftest import MakeTree


@pytest.mark.parametrize(
    ("text", "args"),
    [
        ("quiet splash\n", ("quiet", "splash")),
        ("  a=1 \t b\n\n", ("a=1", "b")),
        ("", ()),
        ('dyndbg="file a.c +p" x', ("dyndbg=file a.c +p", "x")),
        ('"dyndbg=file a.c +p" x', ("dyndbg=file a.c +p", "x")),
        ('"two words" x', ("two words", "x")),
        ('a=b" c"d', ('a=b" c"d',)),
        ('a="open end', ("a=open end",)),
        ("a=b=c", ("a=b=c",)),
        ("=a=b", ("=a=b",)),
        ("a=", ("a=",)),
        ("a -- b c", ("a",)),
        ("a --=1 b", ("a", "--=1", "b")),
    ],
)
def test_a_command_line_is_split_as_the_kernel_splits_it(text: str, args: tuple[str, ...]) -> None:
    assert split_cmdline(text) == args


def test_no_file_is_not_an_empty_command_line(make_tree: MakeTree) -> None:
    assert kernel_args(make_tree({"/proc/version": "x"})) is None
    assert kernel_args(make_tree({"/proc/cmdline": "\n"})) == ()


@pytest.mark.parametrize(
    ("args", "cpus"),
    [
        (("isolcpus=2-5,8",), "2-5,8"),
        (("isolcpus=managed_irq,domain,2-5",), "2-5"),
        (("isolcpus=nohz,2-5",), ""),
        (("isolcpus=1", "isolcpus=3"), "1,3"),
        (("isolcpus=nonsense",), ""),
        (("nohz_full=2-5",), ""),
    ],
)
def test_isolcpus_isolates_from_the_domains_unless_its_flags_say_otherwise(args: tuple[str, ...], cpus: str) -> None:
    assert str(isolcpus(args)) == cpus


def test_the_version_is_the_release_alone(make_tree: MakeTree) -> None:
    banner = "Linux version 6.1.0-13-amd64 (debian-kernel@lists.debian.org) #1 SMP\n"

    assert kernel_version(make_tree({"/proc/version": banner})) == "6.1.0-13-amd64"
    assert kernel_version(make_tree({"/proc/sys/kernel/osrelease": "6.1.0-14-amd64\n"})) == "6.1.0-14-amd64"


def test_without_a_file_there_is_no_version(make_tree: MakeTree) -> None:
    assert kernel_version(make_tree({"/proc/version": "Minix"})) is None
