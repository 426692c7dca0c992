"""Journals on disk: what is in them, who may read them, and what is left of them by an accident."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nfvhost.access.machine import Machine
from nfvhost.access.root import DirectoryRoot
from nfvhost.engine.journal import Before, Begin, Done, End, Ending, Journal, Moment, Record, Rollback, Started, Store
from nfvhost.engine.past import half_done, half_done_problems, past, prune
from nfvhost.errors import ApplyError, PreconditionError
from nfvhost.model.change import Activation, Change, Disruption

AT = Moment(utc="2026-01-31T12:00:00Z", boot="b", since_boot_s=1.5)
CHANGE = Change(
    resource="a",
    key="key",
    before=None,
    after="new",
    activation=Activation.NOW,
    disruption=Disruption.NONE,
    reason="a test asks for it",
)
BEFORE = Before(resource="a", changes=(CHANGE,), state={"x": "é"})
MORE = (Started(resource="a"), Done(resource="a"), End(at=AT, ending=Ending.APPLIED))


def begin(number: int) -> Begin:
    return Begin(
        version=2, id=number, at=AT, program="0", plan="p", profile="home", host="h", fingerprint=(("a", "b"),)
    )


@pytest.fixture
def bench(tmp_path: Path) -> Machine:
    return Machine(root=DirectoryRoot(str(tmp_path)), state_dir=str(tmp_path / "state"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal" / "1.jsonl"


def written(bench: Machine) -> Journal:
    """A journal of an apply that went well."""
    store = Store(bench)
    writer = store.create(begin)
    for record in (BEFORE, *MORE):
        writer.add(record)
    writer.close()
    return read(bench)


def read(bench: Machine) -> Journal:
    journal = Store(bench).read(1)
    assert journal is not None
    return journal


def test_what_was_written_is_read(bench: Machine) -> None:
    journal = written(bench)
    assert (journal.begin, journal.records) == (begin(1), (BEFORE, *MORE))
    assert journal.end == MORE[-1]


def test_a_journal_is_its_owners_alone(bench: Machine, path: Path) -> None:
    written(bench)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_each_line_is_a_json_document_with_its_checksum_and_nothing_follows(bench: Machine, path: Path) -> None:
    written(bench)
    lines = path.read_text("ascii").splitlines()
    assert [json.loads(line)["record"]["kind"] for line in lines] == ["begin", "before", "started", "done", "end"]
    assert all(set(json.loads(line)) == {"crc", "record"} for line in lines)


def test_numbers_go_up_and_are_never_used_again(bench: Machine, path: Path) -> None:
    written(bench)
    Store(bench).create(begin).close()
    path.unlink()
    Store(bench).create(begin).close()
    assert Store(bench).ids() == (3, 2)


@pytest.mark.parametrize("filler", [b"", b"\0" * 4096], ids=["cut off", "room behind it"])
def test_a_line_cut_off_at_any_byte_tells_of_nothing(bench: Machine, path: Path, filler: bytes) -> None:
    whole = written(bench)
    content = path.read_bytes()
    last = content.rstrip(b"\n").rfind(b"\n") + 1
    for end in range(last, len(content)):
        path.write_bytes(content[:end] + filler)
        journal = read(bench)
        assert journal.records == whole.records[:-1]
        assert journal.end is None
        assert not Store(bench).has_ended()


def test_only_a_whole_journal_of_a_known_version_that_closes_with_its_end_has_ended(bench: Machine, path: Path) -> None:
    assert not Store(bench).has_ended()
    written(bench)
    whole = path.read_bytes()
    assert Store(bench).has_ended()
    path.write_bytes(whole + b"\0" * 4096)
    assert Store(bench).has_ended()
    path.write_bytes(whole.replace(b'"started"', b'"startee"'))
    assert not Store(bench).has_ended()
    path.unlink()
    writer = Store(bench).create(lambda number: replace(begin(number), version=3))
    writer.add(MORE[-1])
    writer.close()
    assert not Store(bench).has_ended()


def test_a_journal_cut_off_at_any_byte_before_the_first_change_counts_for_nothing(bench: Machine, path: Path) -> None:
    writer = Store(bench).create(begin)
    writer.add(BEFORE)
    writer.close()
    content = path.read_bytes()
    for end in range(len(content)):
        path.write_bytes(content[:end])
        assert list(Store(bench).journals()) == []


def test_what_was_cut_off_is_written_over_by_whoever_goes_on(bench: Machine, path: Path) -> None:
    written(bench)
    path.write_bytes(path.read_bytes()[:-5])
    store = Store(bench)
    writer = store.reopen(read(bench))
    writer.add(Rollback(at=AT, reason="x"))
    writer.close()
    assert read(bench).records == (BEFORE, *MORE[:-1], Rollback(at=AT, reason="x"))


def test_a_changed_byte_in_the_middle_is_told_with_its_line(bench: Machine, path: Path) -> None:
    written(bench)
    path.write_bytes(path.read_bytes().replace(b'"started"', b'"startee"'))
    with pytest.raises(PreconditionError, match="does not match its checksum") as caught:
        Store(bench).read(1)
    assert caught.value.problems[0].where == f"{path}:3"


def test_a_journal_of_a_later_version_is_refused(bench: Machine) -> None:
    Store(bench).create(lambda number: replace(begin(number), version=3)).close()
    with pytest.raises(PreconditionError, match="is a journal of version 3"):
        Store(bench).read(1)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_disk_that_takes_nothing_is_told_before_anything_is_done_and_leaves_nothing(
    bench: Machine, path: Path, number: int
) -> None:
    for point in range(1, 7):
        shutil.rmtree(path.parent.parent, ignore_errors=True)
        store = Store(bench, changing=failing(point, number))
        with pytest.raises(PreconditionError, match="the journal cannot be written"):
            store.create(begin)
        assert not path.exists()
    Store(bench, changing=failing(7, number)).create(begin).close()


def failing(point: int, number: int) -> Callable[[str, str], None]:
    """Fails at the nth system call that changes something."""
    left = [point]

    def changing(_call: str, path: str) -> None:
        left[0] -= 1
        if not left[0]:
            raise OSError(number, os.strerror(number), path)

    return changing


def test_a_record_that_fails_is_an_error_and_the_next_one_stands_in_its_place(bench: Machine) -> None:
    faults = iter([False] * 6 + [False, True] + [False] * 9)

    def changing(_call: str, path: str) -> None:
        if next(faults):
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    writer = Store(bench, changing=changing).create(begin)
    with pytest.raises(ApplyError, match="the journal cannot be written"):
        writer.add(Started(resource="a"))
    writer.add(Rollback(at=AT, reason="x"))
    writer.close()
    assert read(bench).records == (Rollback(at=AT, reason="x"),)


def test_a_folder_that_others_may_write_to_or_a_link_is_refused(bench: Machine, path: Path, tmp_path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.parent.chmod(0o770)
    with pytest.raises(PreconditionError, match="is not a folder that this user alone may write to"):
        Store(bench).create(begin)
    path.parent.rmdir()
    path.parent.symlink_to(tmp_path)
    with pytest.raises(PreconditionError, match="is not a folder that this user alone may write to"):
        Store(bench).create(begin)


def test_journals_in_a_folder_that_others_may_write_to_are_not_believed(bench: Machine, path: Path) -> None:
    written(bench)
    path.parent.parent.chmod(0o777)
    with pytest.raises(PreconditionError, match="is not a folder that this user alone may write to"):
        Store(bench).ids()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_journal_that_another_user_wrote_is_not_believed(bench: Machine, path: Path) -> None:
    written(bench)
    os.chown(path, 65534, 65534)
    with pytest.raises(PreconditionError, match="is not this user's own file"):
        Store(bench).read(1)


def test_a_link_in_place_of_a_journal_is_not_followed(bench: Machine, path: Path) -> None:
    written(bench)
    path.rename(path.parent / "9.other")
    path.symlink_to("9.other")
    with pytest.raises(PreconditionError, match="the journal cannot be read"):
        Store(bench).read(1)


def test_there_is_room_for_the_before_images_that_are_expected(bench: Machine, path: Path) -> None:
    big = replace(BEFORE, state="x" * 1_000_000)
    writer = Store(bench).create(begin, befores=[big, big])
    assert path.stat().st_size > 4_000_000
    writer.close()
    assert path.stat().st_size < 1000


def test_a_journal_of_version_1_is_read(bench: Machine) -> None:
    writer = Store(bench).create(lambda number: replace(begin(number), version=1))
    for record in (BEFORE, BEFORE, *MORE):
        writer.add(record)
    writer.close()
    assert read(bench).done == {"a"}


def apply(bench: Machine, *records: Record, **facts: Any) -> None:  # noqa: ANN401 - fields of Begin
    writer = Store(bench).create(lambda number: replace(begin(number), **facts))
    for record in records:
        writer.add(record)
    writer.close()


STARTED = (BEFORE, Started(resource="a"))
ROLLED_BACK = (Rollback(at=AT, reason="x"), End(at=AT, ending=Ending.ROLLED_BACK))


def test_what_no_rollback_may_need_is_removed_but_for_the_last_of_it(bench: Machine) -> None:
    apply(bench, *STARTED, End(at=AT, ending=Ending.APPLIED))
    for _ in range(12):
        apply(bench, *STARTED)  # cut off, and resumed by the next one, which failed
        number = Store(bench).ids()[0]
        apply(bench, *STARTED, *ROLLED_BACK, resumes=number)
    apply(bench)  # killed before it changed anything
    apply(bench, *STARTED, *ROLLED_BACK)
    apply(bench)
    seen = [one.id for one in past(Store(bench))]
    assert (len(seen), seen[-1]) == (14, 1)

    for _ in range(8):
        apply(bench, *STARTED, *ROLLED_BACK)
    prune(Store(bench))

    left = [(one.id, str(one.stage)) for one in past(Store(bench))]
    assert [number for number, stage in left if stage == "applied"] == [1]
    assert len(left) == 21
    assert half_done(Store(bench)) is None
    assert sorted(Store(bench).ids()) == sorted(journal.id for one in past(Store(bench)) for journal in one.journals)


def test_a_removal_that_is_cut_off_anywhere_leaves_nothing_half_done(bench: Machine) -> None:
    for _ in range(25):
        apply(bench, *STARTED)
        apply(bench, *STARTED, *ROLLED_BACK, resumes=Store(bench).ids()[0])
    before = len(Store(bench).ids())
    for last in range(1, 20):
        left = [last]

        def changing(_call: str, _path: str, left: list[int] = left) -> None:
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt

        with contextlib.suppress(KeyboardInterrupt):
            prune(Store(bench, changing=changing))
        assert half_done(Store(bench)) is None
        assert len(list(past(Store(bench)))) >= 20
    assert len(Store(bench).ids()) < before


def test_what_was_not_begun_is_told_by_name(bench: Machine) -> None:
    apply(bench, *STARTED, planned=(("a", 1), ("b", 7)))
    one = half_done(Store(bench))
    assert one is not None
    assert [(problem.where, problem.what) for problem in half_done_problems(one)[1:]] == [
        ("a", "was begun, and may be half done (1 changes)"),
        ("b", "was not begun (7 changes)"),
    ]
