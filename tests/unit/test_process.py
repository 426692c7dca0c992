from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import threading

import pytest

from nfvhost.access.clock import now_s, wait_for
from nfvhost.access.process import end, read_process, read_threads
from nfvhost.model.cpuset import CpuSet

pytestmark = pytest.mark.outside("processes of its own are what it is about")

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)",
]


def test_a_process_is_told_by_pid_start_executable_and_words() -> None:
    own = read_process(os.getpid())

    assert own is not None
    assert own == read_process(os.getpid())
    assert os.path.samefile(own.executable, sys.executable)
    with subprocess.Popen(SLEEP) as child:
        other = wait_for(lambda: read_process(child.pid), timeout_s=5)
        assert other is not None
        assert other.start_ticks >= own.start_ticks
        child.kill()
    assert read_process(child.pid) is None


def test_a_process_that_has_ended_and_waits_for_its_parent_is_none() -> None:
    child = subprocess.Popen(SLEEP)
    child.kill()

    assert wait_for(lambda: read_process(child.pid) is None, timeout_s=5)

    child.wait()


def test_each_thread_has_its_name_and_its_cpus() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        threads = {one.tid: one for one in read_threads(os.getpid())}
        assert {os.getpid(), thread.native_id} <= set(threads)
        assert threads[os.getpid()].cpus == CpuSet(os.sched_getaffinity(0))
    finally:
        stop.set()
        thread.join()


def test_a_process_is_ended_and_only_that_one() -> None:
    with subprocess.Popen(SLEEP) as child, subprocess.Popen(SLEEP) as bystander:
        found = wait_for(lambda: read_process(child.pid), timeout_s=5)
        assert found is not None
        # The same pid with another start is another process.
        end(dataclasses.replace(found, start_ticks=found.start_ticks - 1))
        assert child.poll() is None
        end(found)
        assert child.wait(timeout=5) == -15
        assert bystander.poll() is None
        bystander.kill()


def test_a_process_that_ignores_the_request_is_killed() -> None:
    with subprocess.Popen(STUBBORN, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        found = read_process(child.pid)
        assert found is not None
        end(found, timeout_s=0.3)
        assert child.wait(timeout=5) == -9


def test_a_wait_looks_at_least_once_and_once_more_at_its_end() -> None:
    looks: list[float] = []

    def look() -> bool:
        looks.append(now_s())
        return False

    assert not wait_for(look, timeout_s=0)
    assert len(looks) == 1

    began = now_s()
    assert not wait_for(look, timeout_s=0.1, interval_s=0.03)
    assert looks[-1] - began >= 0.1
