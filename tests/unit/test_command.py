from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import pytest
from forked import in_a_process

from nfvhost.access.command import CommandError, CommandMissingError, check, find, leftover, marking, run

if TYPE_CHECKING:
    from pathlib import Path

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


def test_a_command_that_outlives_a_killed_process_is_waited_for_with_all_it_has_started(tmp_path: Path) -> None:
    mark, go, done = tmp_path / "mark", tmp_path / "go", tmp_path / "done"
    script = f"(while [ ! -e {go} ]; do sleep 0.01; done; echo > {done}) & kill -9 $PPID"

    def work() -> None:
        with marking(str(mark)):
            run(["sh", "-c", script], timeout_s=60)

    assert in_a_process(work) == signal.SIGKILL
    told = leftover(str(mark), timeout_s=0.2)
    assert told is not None
    assert told.startswith("sh -c")
    go.touch()
    assert leftover(str(mark), timeout_s=10) is None
    assert done.exists()
    assert not mark.exists()


def test_a_command_that_ends_leaves_no_mark_whatever_daemon_it_has_started(tmp_path: Path) -> None:
    mark, stop = tmp_path / "mark", tmp_path / "stop"
    script = f"(while [ ! -e {stop} ]; do sleep 0.01; done) > /dev/null 2>&1 & exit 3"
    with marking(str(mark)):
        assert run(["sh", "-c", script], timeout_s=10).code == 3
        assert not mark.exists()
        assert run(["true"], timeout_s=10).code == 0
    stop.touch()


def test_a_command_that_is_late_is_ended_with_all_it_has_started(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with marking(str(mark)), pytest.raises(CommandError, match=r"has not ended after 0\.2 s"):
        run(["sh", "-c", "sleep 600 & sleep 600"], timeout_s=0.2)
    assert leftover(str(mark), timeout_s=10) is None
