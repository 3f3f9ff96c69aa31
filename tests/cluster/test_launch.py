"""Command line of a final training: errors before Ray starts, and messages."""

import os
import shlex
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import tyro

from cluster import launch, training
from htt import console
from htt.config import Config, override
from htt.training.messages import Start

MISTAKES = {
    "no such configuration": (["--config", "none.yaml"], "must be a readable YAML file"),
    "no configuration": ([], "Expected either --config FILE or --preset NAME; got neither"),
    "two configurations": (
        ["--config", "none.yaml", "--preset", "quick"],
        "Expected either --config FILE or --preset NAME; got both",
    ),
    "nothing to resume": (["--preset", "quick", "--resume", "--name", "x"], "No run to resume: runs/x/config.yaml"),
    "a resumed run without a name": (["--preset", "quick", "--resume"], "--resume requires --name"),
    "no such backbone": (["--preset", "quick", "--set", "model.backbone.name=resnet19"], "no such plug-in 'resnet19'"),
    "workers that are no number": (["--preset", "quick", "--workers", "many"], "Invalid --workers 'many': expected"),
    "fewest above most": (["--preset", "quick", "--workers", "8:1"], "Invalid --workers '8:1': expected a number"),
    "more workers than windows in a step": (
        ["--preset", "quick", "--workers", "1:8"],
        "Cannot share a step of 4 windows (train.batch_size) among 8 workers.",
    ),
    "more workers than windows in a step, all at once": (
        ["--preset", "quick", "--workers", "8"],
        "Cannot share a step of 4 windows (train.batch_size) among 8 workers. Raise it, use",
    ),
    "a name that leads elsewhere": (["--preset", "quick", "--name", "../../escaped"], "Invalid --name '../../escaped'"),
    "a name that files cannot have": (["--preset", "quick", "--name", "größe"], "Invalid --name 'größe'"),
    "a name without end": (["--preset", "quick", "--resume", "--name", "x" * 300], "300 characters, at most 100"),
    "no such cluster": (
        ["--preset", "quick", "--address", "127.0.0.1:1"],
        "No Ray cluster answers at '127.0.0.1:1'",
    ),
}


@pytest.mark.parametrize(
    "words",
    [
        ["--storage", "s3://bucket/x?endpoint_override=http://u:hush@h"],
        ["--set", "data.source=h2o", "--set", "data.root=abfs://c@a/x?client_secret=hush"],
    ],
)
def test_launch_neither_prints_nor_stores_secrets(refused, tmp_path, words):
    said = refused(launch, "--preset", "quick", "--name", "x", *words, cwd=tmp_path)
    assert "must not contain a password, key or token" in said
    assert "hush" not in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mistake", MISTAKES)
def test_launch_refuses_invalid_options_and_leaves_no_files(refused, tmp_path, mistake):
    words, message = MISTAKES[mistake]
    assert message in refused(launch, *words, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_resume_command_repeats_all_options():
    options = launch.Options(
        config=Path("runs/a b/best.yaml"), set=["train.epochs=3", "data.root=s3://b/x?y=z"], workers="1:8",
        cpus_per_worker=2.0, gpus_per_worker=0.5, runs=Path("/shared/runs"), storage="s3://bucket/runs", address="auto",
    )  # fmt: skip
    resumed = replace(options, name="x", resume=True)
    words = shlex.split(console.command("cluster/launch.py", resumed))
    assert words[:4] == ["python", "cluster/launch.py", "--config", "runs/a b/best.yaml"]
    assert tyro.cli(launch.Options, args=words[2:]) == resumed


@pytest.mark.parametrize(
    ("storage", "tensorboard", "curves"),
    [(None, True, "runs/x"), ("/shared", True, "/shared/x"), ("s3://b/runs", True, None), (None, False, None)],
)
def test_summary_shows_tensorboard_folder(storage, tensorboard, curves):
    config = override(Config(), {"runtime.tensorboard": tensorboard})
    result = training.TrainingResult({"loss": 1.0}, Path("runs/x/checkpoint"))
    said = launch._summary(result, Path("runs/x"), storage, config)
    assert "Checkpoint   runs/x/checkpoint" in said
    assert [line for line in said.splitlines() if "tensorboard" in line] == (
        [f"Curves       tensorboard --logdir {curves}"] if curves else []
    )


def test_show_prints_missing_data_and_next_commands(capsys):
    """Check the warning of an incomplete split, and that commands are quoted for a path with a space."""
    config = override(Config(), {"data.source": "h2o", "data.root": "/data/my h2o"})
    metrics = {"action_accuracy": 0.5, "epoch": 1.0, "test_hand_error_mm": 30.0}
    outcome = training.TrainingResult(metrics, Path("runs/a b/checkpoint"), ["split 'test' has 1 of 242 clips"])
    launch._show(outcome, Path("runs/a b"), None, config)
    said = capsys.readouterr()
    assert "split 'test' has 1 of 242 clips" in said.err
    evaluate = "  python -m htt.evaluate --checkpoint 'runs/a b/checkpoint' --split"
    assert said.out.partition("Next:\n")[2].splitlines() == [
        f"{evaluate} val",
        f"{evaluate} test",
        "  python -m htt.submit --checkpoint 'runs/a b/checkpoint' --data '/data/my h2o'",
    ]
    untested = training.TrainingResult({"hand_error_mm": 30.0}, Path("c"))
    assert [words[-1] for words in launch._next(untested, Config())] == ["val"]


def asked(workers, **changes):
    return launch._workers(launch.Options(workers=workers), override(Config(), {"train.batch_size": 8, **changes}))


def test_workers_option_accepts_number_or_range():
    assert (asked("8").least, asked("8").count) == (None, 8)  # a window each
    assert (asked("4").least, asked("4").count, str(asked("4"))) == (None, 4, "4 workers")
    assert (asked("1:8").least, asked("1:8").count, str(asked("1:8"))) == (1, 8, "1 to 8 workers")
    assert (asked("2:2").least, asked("2:2").count) == (None, 2)
    grown = asked("1:64", **{"train.scaling": "linear"})
    assert (grown.least, grown.count) == (1, 64)


@pytest.mark.parametrize("begins", [True, False])
def test_patient_warns_until_a_worker_starts(capsys, begins):
    said, after_s, began = "", 0.1, time.monotonic()
    with launch._patient(launch._show_starts(), after_s=after_s) as on_start:
        if begins:
            on_start(Start(0, 0, 2))
            time.sleep(3 * after_s)
        while not begins and said.count("No worker") < 3 and time.monotonic() - began < 60:
            time.sleep(0.01)
            said += capsys.readouterr().out
    took, said = time.monotonic() - began, " ".join((said + capsys.readouterr().out).split())
    count = said.count("No worker has started yet: workers are still starting, or the cluster has no")
    assert count == 0 if begins else count >= 3
    assert begins or took >= 7 * after_s, "each pause is twice the one before"


def test_on_interrupt_announces_while_handler_still_waits():
    """Check that the message comes before the handler returns: Ray Train's handler waits seconds for its workers."""
    announced, in_time = threading.Event(), []
    before = signal.signal(signal.SIGINT, lambda *_: in_time.append(announced.wait(10)))
    try:
        with launch._on_interrupt(announced.set):
            os.kill(os.getpid(), signal.SIGINT)
        with launch._on_interrupt(lambda: in_time.append("without a signal")):
            pass
    finally:
        signal.signal(signal.SIGINT, before)
    assert in_time == [True]
    assert signal.set_wakeup_fd(-1) == -1


@pytest.mark.parametrize(("started", "code"), [(True, 130), (False, None)])
def test_resumable_prints_resume_command_once_on_interrupt(tmp_path, capsys, started, code):
    folder = tmp_path / "final"
    folder.mkdir()
    if started:
        (folder / "config.yaml").touch()
    with pytest.raises((SystemExit, KeyboardInterrupt)) as caught, launch._resumable(launch.Options(), folder):
        signal.raise_signal(signal.SIGINT)
    assert getattr(caught.value, "code", None) == code
    resume = "Resume with: python cluster/launch.py --name final --resume\n" if started else ""
    assert capsys.readouterr().err == f"Stopping; this takes a few seconds.\n{resume}"


def test_show_starts_prints_epoch_and_number_of_workers(capsys):
    show = launch._show_starts()
    for start in (Start(0, 0, 2), Start(2, 64, 1), Start(5, 0, 2)):
        show(start)
    first = ["Starting at epoch 1 on 2 workers."]
    then = ["Resuming within epoch 3 on 1 worker.", "Resuming at epoch 6 on 2 workers."]
    assert capsys.readouterr().out.splitlines() == first + then
