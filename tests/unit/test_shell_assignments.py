"""Shell assignments worked out without sh, and the same by sh."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nfvhost.resources.shell_assignments import Assignments


def evaluated(*texts: str) -> Assignments:
    found = Assignments()
    for number, text in enumerate(texts):
        found.source(f"/etc/{number}.cfg", text)
    return found


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A=quiet", "quiet"),
        ("A=quiet # A=loud", "quiet"),
        ("# A=loud", ""),
        ('A="quiet splash"', "quiet splash"),
        ("A='$HOME \"x\"'", '$HOME "x"'),
        ('A="a\\"b\\$c\\d"', 'a"b$c\\d'),
        ("A=a\\ b", "a b"),
        ("A=one\\\ntwo", "onetwo"),
        ('A=x; A="$A y"', "x y"),
        ('A=x\nA="${A} y"', "x y"),
        ('A="${B:-fallback}"', "fallback"),
        ("A=x;A=y", "y"),
        ("export A=x", "x"),
        ("A=x true", ""),
        ("A=x\nA=y echo", "x"),
        ("A=$", "$"),
        ('A="$"', "$"),
        ("A=x B=y", "x"),
        ("A=a'b'\"c\"d", "abcd"),
        ("A=", ""),
        ("if true; then\n B=1\nfi\nA=x", "x"),
        ("( B=1 )\nA=x", "x"),
        ("A=#x", "#x"),
        ("echo A=x", ""),
    ],
)
def test_a_value_is_what_sh_says(text: str, value: str) -> None:
    assert evaluated(text).text("A") == value


@pytest.mark.parametrize(
    "text",
    [
        "A=$(lsb_release -is)",
        "A=`lsb_release -i -s 2> /dev/null || echo Debian`",
        'A="$( . /etc/os-release; echo ${NAME:-Ubuntu} )"',
        "A=$((1 + 2))",
        "A=${B%x}",
        "A=${B-x}",
        "A=$1",
        "if true; then A=x; fi",
        "true && A=x",
        "[ -f /x ] || A=x",
        "case x in\nx) A=y ;;\nesac",
    ],
)
def test_what_would_have_to_be_run_is_unknown_and_the_rest_goes_on(text: str) -> None:
    found = evaluated(f"{text}\nB=after")

    assert found.text("A") is None
    assert found.text("B") == "after"


def test_each_piece_says_its_file() -> None:
    found = evaluated("A=quiet", 'A="$A isolcpus=2"', "B=x")

    assert next((piece.where, piece.text) for piece in found.values["A"]) == ("/etc/0.cfg", "q")
    assert "".join(piece.text or "" for piece in found.values["A"] if piece.where == "/etc/1.cfg") == " isolcpus=2"
    assert found.assigned == [("A", "/etc/0.cfg"), ("A", "/etc/1.cfg"), ("B", "/etc/2.cfg")]


_WORDS = st.text(alphabet="ab= \"'\\$#{}A", max_size=12)


@pytest.mark.outside("sh itself is the oracle")
@settings(max_examples=120)
@given(st.lists(_WORDS, min_size=1, max_size=3))
@example(["= A\\", ""])
def test_what_is_known_agrees_with_sh(words: list[str]) -> None:
    script = "\n".join(f"A={word}" for word in words) + "\n"
    said = subprocess.run(
        ["/bin/sh", "-c", f'{script}\nprintf "<%s>" "$A"'],
        capture_output=True,
        check=False,
        text=True,
        env={"PATH": "/nonexistent"},
    )
    value = evaluated(script).text("A")

    if said.returncode == 0 and not said.stderr and value is not None and "\n" not in said.stdout:
        assert said.stdout == f"<{value}>"
