import pytest

from htt.training import messages
from htt.training.messages import Step, StepReporter


def test_messages_are_rate_limited_and_count_from_one(monkeypatch):
    sent, clock = [], [100.0]
    monkeypatch.setattr(messages.time, "monotonic", lambda: clock[0])
    report = StepReporter(sent.append, every_s=5.0)
    for seconds, done in ((1.0, 2), (5.0, 4), (9.0, 6), (10.0, 8), (21.0, 10)):
        clock[0] = 100.0 + seconds
        report(0, done, 9)
    assert sent == [Step(1, 4, 9), Step(1, 8, 9), Step(1, 9, 9)], "a last step may be larger than what is left"


def test_fit_reports_every_step(tiny_splits, tmp_path):
    from htt.testing import tiny_config
    from htt.training.loop import fit
    from htt.training.saving import Saving

    sent = []
    saving = Saving(lambda saved: None, lambda: False, on_step=lambda *step: sent.append(step))
    config = tiny_config(**{"train.epochs": 2, "train.batch_size": 2})
    fit(config, tiny_splits, lambda metrics, saved: None, folder=tmp_path, saving=saving)
    first = [step for step in sent if step[0] == 0]
    assert [epoch for epoch, _, _ in sent] == [0] * len(first) + [1] * len(first)
    assert [done for _, done, _ in first] == [2 * (number + 1) for number in range(len(first))]
    assert {of for _, _, of in sent} == {first[-1][1]}
    assert len(first) == pytest.approx(first[-1][2] / 2)
