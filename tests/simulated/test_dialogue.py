"""A command that is talked to line by line."""

from __future__ import annotations

import sys

import pytest

from nfvhost.access.clock import now_s
from nfvhost.access.command import CommandError, CommandMissingError
from nfvhost.access.dialogue import Dialogue

ECHO = "import sys\nfor line in sys.stdin: print(line.strip()[::-1], flush=True)"


def python(code: str) -> Dialogue:
    return Dialogue([sys.executable, "-c", code])


def test_each_line_has_its_answer() -> None:
    with python(ECHO) as dialogue:
        dialogue.say("abc")
        dialogue.say("xyz")
        assert [dialogue.hear(timeout_s=20), dialogue.hear(timeout_s=20)] == ["cba", "zyx"]


def test_a_command_that_ends_is_told_with_its_last_words() -> None:
    with (
        python("import sys; sys.exit('no hugepages')") as dialogue,
        pytest.raises(CommandError, match=r"has ended\n  \| no hugepages"),
    ):
        dialogue.hear(timeout_s=20)


def test_a_silent_command_is_not_waited_for_beyond_its_time() -> None:
    with python("import time; time.sleep(60)") as dialogue:
        began = now_s()
        with pytest.raises(CommandError, match=r"has said nothing for 0\.2 s"):
            dialogue.hear(timeout_s=0.2)
        assert now_s() - began < 10
    # It does not end by itself: it was killed.
    assert now_s() - began < 30


def test_a_program_that_is_not_there_is_told_as_missing() -> None:
    with pytest.raises(CommandMissingError, match="is not installed"), Dialogue(["no-such-generator"]):
        pass
