"""The journal of a search: a disk that refuses and bytes that are damaged cost a line, not the study."""

import errno
import os

import optuna
import pytest

from htt.errors import StorageError
from tune.experiments.space import Choice, LogUniform, Space
from tune.searchers.optuna_journal import mend
from tune.searchers.optuna_searcher import Searcher
from tune.searchers.optuna_study import open_journal

SPACE = Space({"optim.lr": LogUniform(1e-4, 1e-2), "model.pose.window": Choice(1, 4, 8)})


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "optuna.journal"


def searcher(journal):
    return Searcher(SPACE, journal, study="run", objectives=["hand_error_mm"], epochs=4)


def trained(journal):
    """A study of four trials that ended; gives the values of each."""
    first = searcher(journal)
    for number in range(4):
        first.suggest(str(number))
        first.on_trial_complete(str(number), {"epoch": 4, "hand_error_mm": 10.0 + number})
    return known(first)


def known(one):
    return {trial.number: (trial.state.name, trial.values, trial.params) for trial in one.study.get_trials()}


def spoil(journal, begins, which=0, how=None):
    """Spoil the line with this place among those that begin so."""
    content = journal.read_bytes().splitlines(keepends=True)
    place = [number for number, line in enumerate(content) if line.startswith(begins)][which]
    content[place] = (how or (lambda line: line[:-4] + b"\x00\x00\x00\n"))(content[place])
    journal.write_bytes(b"".join(content))
    return place + 1


def test_journal_skips_a_damaged_line_in_the_middle(journal, capsys):
    before = trained(journal)
    line = spoil(journal, b'{"op_code":8,', which=1)  # a note of a trial
    assert known(searcher(journal)) == before
    said = capsys.readouterr().err.replace("\n", "")
    assert f"damaged lines are moved to optuna.journal.spoilt: {line}." in said
    assert (journal.parent / "optuna.journal.spoilt").read_bytes().endswith(b"\x00\x00\x00\n")
    capsys.readouterr()
    searcher(journal)
    assert capsys.readouterr().err == "", "it is whole again"


@pytest.mark.parametrize("how", [None, lambda line: b"\x00" * 20 + line[20:]])
def test_journal_keeps_numbers_past_an_unreadable_trial(journal, how):
    before = trained(journal)
    spoil(journal, b'{"op_code":4,', which=1, how=how)
    after = known(searcher(journal))
    assert after == {**before, 1: ("FAIL", None, {})}
    assert optuna.load_study(study_name="run", storage=open_journal(journal)).best_value == 10.0


def test_journal_finds_a_line_joined_to_a_truncated_one(journal):
    before = trained(journal)
    spoil(journal, b'{"op_code":8,', which=1, how=lambda line: b'{"op_code":5,"worker_id":"a","tri' + line)
    assert known(searcher(journal)) == before


def test_journal_with_a_damaged_first_line_is_refused(journal):
    trained(journal)
    spoil(journal, b'{"op_code":0,')
    with pytest.raises(StorageError, match=r"Invalid Optuna journal .*: its first line, .* Move the file away"):
        searcher(journal)


def test_journal_with_an_unknown_loss_is_refused(journal):
    trained(journal)
    for begins in (b'{"op_code":4,', b'{"op_code":8,'):
        spoil(journal, begins, which=1, how=lambda line: b"\x00" * 20 + line[20:])
    before = journal.read_bytes()
    with pytest.raises(StorageError, match="2 lines are damaged, and 1 of them created a trial"):
        searcher(journal)
    assert journal.read_bytes() == before


def full_after(monkeypatch, size):
    """Let a disk take so many bytes of what is written next, and then refuse."""

    def flush(descriptor):
        os.ftruncate(descriptor, os.fstat(descriptor).st_size - size)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", flush)


def test_journal_is_cut_back_on_a_full_disk(journal, monkeypatch):
    one = searcher(journal)
    one.suggest("a")
    before = journal.read_bytes()
    full_after(monkeypatch, 10)
    with pytest.raises(OSError, match="No space left"):
        one.suggest("b")
    assert journal.read_bytes() == before
    monkeypatch.undo()
    one.on_trial_complete("a", {"epoch": 4, "hand_error_mm": 1.0})
    assert known(searcher(journal))[0][:2] == ("COMPLETE", [1.0])


def test_mend_keeps_a_whole_journal(journal):
    trained(journal)
    before = journal.stat()
    mend(journal)
    assert (journal.stat().st_mtime_ns, journal.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
