"""Early stopping: the base configuration is trained to its end, others are not."""

from types import SimpleNamespace

from tune.searchers.scheduler import scheduler


def actions(kept, values):
    """Return what is decided about a bad trial with these values, after three good ones."""
    asha = scheduler("asha", epochs=8, kept=kept)
    asha.set_search_properties("hand_error_mm", "min")
    for number, error in enumerate((10.0, 11.0, 12.0, 90.0)):
        trial = SimpleNamespace(trial_id=str(number), config={"values": values if number == 3 else {"a": number}})
        asha.on_trial_add(None, trial)
        decided = [asha.on_trial_result(None, trial, {"epoch": epoch, "hand_error_mm": error}) for epoch in (1, 2)]
    return decided


def test_scheduler_never_stops_the_kept_trial():
    assert actions({"a": 7}, {"a": 7}) == ["CONTINUE", "CONTINUE"]


def test_scheduler_stops_others():
    assert actions({"a": 7}, {"a": 8}) == ["CONTINUE", "STOP"]
    assert actions(None, {"a": 7}) == ["CONTINUE", "STOP"]
