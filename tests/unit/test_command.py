from __future__ import annotations

import sys

import pytest

from nfvhost.access.command import CommandError, CommandMissingError, check, find, run

pytestmark = pytest.mark.outside("commands are what it is about")


def test_a_failure_can_be_pasted_and_shows_the_exit_code_and_the_last_words() -> None:
    script = "import sys; print('first\\nlast', file=sys.stderr); sys.exit(3)"

    with pytest.raises(CommandError) as failure:
        check([sys.executable, "-c", script], timeout_s=20)

    text = str(failure.value)
    assert text.startswith(f"{sys.executable} -c 'import sys;")
    assert text.endswith(": exit code 3\n  | first\n  | last")


def test_a_failure_that_only_speaks_on_stdout_shows_that() -> None:
    with pytest.raises(CommandError, match=r"exit code 1\n  \| no room"):
        check([sys.executable, "-c", "import sys; print('no room'); sys.exit(1)"], timeout_s=20)


def test_a_command_that_a_signal_ended_says_which() -> None:
    with pytest.raises(CommandError, match="killed by signal 9"):
        check([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], timeout_s=20)


def test_a_command_beyond_its_deadline_is_killed_and_keeps_its_last_words() -> None:
    script = "import sys, time; print('waiting', file=sys.stderr, flush=True); time.sleep(60)"

    with pytest.raises(CommandError, match=r"has not ended after 0.5 s\n  \| waiting"):
        run([sys.executable, "-c", script], timeout_s=0.5)


def test_a_program_that_is_not_there_is_a_failure_of_its_own_kind() -> None:
    with pytest.raises(CommandMissingError, match="nosuchprogram --version: nosuchprogram is not installed"):
        run(["nosuchprogram", "--version"], timeout_s=5)
    assert find("nosuchprogram") is None


def test_words_reach_the_program_as_they_are_without_a_shell() -> None:
    words = ["$HOME", "a b", "*", ";", "`id`"]

    done = run([sys.executable, "-c", "import sys; print(sys.argv[1:])", *words], timeout_s=20)

    assert (done.code, done.stdout) == (0, f"{words}\n")


def test_input_output_and_environment_are_text() -> None:
    script = "import os, sys; print(sys.stdin.read().upper() + os.environ['GREETING'] + os.environ['LC_ALL'])"

    done = run([sys.executable, "-c", script], timeout_s=20, input_text="grüß", env={"GREETING": "!"})

    assert done.stdout.startswith("GR")
    assert done.stdout.endswith("!C\n")


def test_a_command_without_input_does_not_wait_for_any() -> None:
    assert run([sys.executable, "-c", "import sys; print(len(sys.stdin.read()))"], timeout_s=20).stdout == "0\n"


def test_system_programs_are_found_without_the_system_directories_in_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    assert find("sh") in {"/usr/bin/sh", "/bin/sh"}
