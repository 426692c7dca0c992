from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nfvhost.inspect.cpuinfo import cpu_model, processors

if TYPE_CHECKING:
    from tests.conftest import MakeTree

LOONGARCH = """\
system type\t\t: generic-loongson-machine

processor\t\t: 0
package\t\t\t: 0
core\t\t\t: 1
CPU Family\t\t: Loongson-64bit
Model Name\t\t: Loongson-3A5000-HV
ISA\t\t\t: loongarch32 loongarch64
Features\t\t: cpucfg lam ual fpu

"""
ARM_32 = """\
Processor\t: ARMv7 Processor rev 4 (v7l)
processor\t: 0
BogoMIPS\t: 1694.10

processor\t: 1
BogoMIPS\t: 1694.10

Features\t: swp half thumb neon
CPU implementer\t: 0x41
CPU architecture: 7

Hardware\t: SAMSUNG EXYNOS5
"""
ARM_64 = "processor\t: 0\nFeatures\t: fp asimd aes\nCPU implementer\t: 0x48\nCPU part\t: 0xd01\n\n"
S390 = "vendor_id       : IBM/S390\n# processors    : 1\nfeatures\t: esan3 zarch\nprocessor 0: version = FF\n"
POWER = "processor\t: 0\ncpu\t\t: POWER{0}, altivec supported\nrevision\t: 2.1 (pvr 004e 1201)\n\nplatform\t: PowerNV\n"
X86 = "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC\n{0}flags\t\t: fpu {1}\n\n"


@pytest.mark.parametrize(
    ("text", "architecture", "vendor", "name"),
    [
        (X86.format("", "lm pdpe1gb"), "x86_64", "AuthenticAMD", "AMD EPYC"),
        (X86.format("fdiv_bug\t: no\n", "lm"), "i686", "AuthenticAMD", "AMD EPYC"),
        (X86.format("", "sse2"), "i686", "AuthenticAMD", "AMD EPYC"),
        (ARM_64, "aarch64", "HiSilicon", None),
        (ARM_64.replace("0x48", "0x99"), "aarch64", "0x99", None),
        (ARM_32, "armv7l", "ARM", "ARMv7 Processor rev 4 (v7l)"),
        (S390, "s390x", "IBM/S390", None),
        (POWER.format(9), "ppc64le", None, "POWER9, altivec supported"),
        (POWER.format(7), "ppc64", None, "POWER7, altivec supported"),
        (POWER.replace("POWER{0}, altivec supported", "740/750"), "ppc", None, "740/750"),
        ("processor\t: 0\nisa\t\t: rv64imafdc\nuarch\t\t: sifive,u74-mc\n", "riscv64", None, "sifive,u74-mc"),
        ("cpu\t\t: UltraSparc T1\ntype\t\t: sun4v\n", "sparc64", None, "UltraSparc T1"),
        ("processor  : 0\nvendor     : GenuineIntel\narch       : IA-64\n", "ia64", "GenuineIntel", None),
        (LOONGARCH, "loongarch64", None, "Loongson-3A5000-HV"),
        ("", "unknown", None, None),
    ],
)
def test_the_shape_of_the_file_tells_the_architecture(
    make_tree: MakeTree, text: str, architecture: str, vendor: str | None, name: str | None
) -> None:
    model = cpu_model(make_tree({}), text, architecture=None)

    assert (model.architecture, model.vendor, model.name) == (architecture, vendor, name)


def test_what_the_machine_says_of_itself_comes_first(make_tree: MakeTree) -> None:
    root = make_tree({"/proc/sys/kernel/arch": "ppc64\n"})

    assert cpu_model(root, POWER.format(9), architecture=None).architecture == "ppc64"
    assert cpu_model(root, POWER.format(9), architecture="ppc64le").architecture == "ppc64le"


@pytest.mark.parametrize(
    ("alias", "architecture"),
    [
        ("cpu:type:x86,ven0000fam0006mod0055:feature:,0000,0001\n", "x86_64"),
        ("x86cpu:vendor:0000:family:0006:model:0055:feature:,0000\n", "x86_64"),
        ("cpu:type:aarch64:feature:,0000,0001\n", "aarch64"),
        ("cpu:type:z13:feature:,0000\n", "unknown"),
    ],
)
def test_without_cpuinfo_the_modalias_tells_it(make_tree: MakeTree, alias: str, architecture: str) -> None:
    model = cpu_model(make_tree({"/sys/devices/system/cpu/modalias": alias}), None, architecture=None)

    assert model.architecture == architecture


def test_flags_are_those_of_the_first_cpu(make_tree: MakeTree) -> None:
    text = X86.format("", "lm pdpe1gb") + X86.format("", "lm")

    assert cpu_model(make_tree({}), text, architecture=None).flags == {"fpu", "lm", "pdpe1gb"}


def test_processors_have_the_ids_that_each_architecture_gives_them() -> None:
    assert [(one.id, one.package, one.core) for one in processors(LOONGARCH)] == [(0, 0, 1)]
    assert [(one.id, one.package, one.core) for one in processors(ARM_32)] == [(0, None, None), (1, None, None)]
    assert [(one.id, one.package, one.core) for one in processors(S390)] == [(0, None, None)]
