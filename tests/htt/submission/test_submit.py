"""``python -m htt.submit``: its output, its files and its exit codes."""

import json
import shlex
import zipfile

import pytest

from htt import console, evaluate
from htt.submission.form import H2O_TEST
from htt.submit import Options, main


def run(capsys, *words):
    """Return (exit code, standard output, standard error)."""
    try:
        console.run(Options, main, [str(word) for word in words])
        code = 0
    except SystemExit as left:
        code = left.code
    said = capsys.readouterr()
    return code, said.out, said.err


def test_submit_predicts_writes_and_checks(h2o, trained, tmp_path, capsys):
    out = tmp_path / "new" / "submission"
    code, said, wrong = run(capsys, "--checkpoint", trained, "--data", h2o, "--out", out)
    assert (code, wrong) == (0, "")
    assert "Predicting 3 clips of 'test'" in said
    assert "hand_poses.json: 3 clips, 26 frames" in said
    assert "note: the data are not H2O's whole test split:\n  - missing: clips 4-242\n" in said
    commands = said.partition("Next:\n")[2].splitlines()
    assert [shlex.split(command)[2:4] for command in commands] == [["htt.submit", "--check"]] * 2 + [
        ["htt.evaluate", "--checkpoint"]
    ]
    for path in (out / "action_labels" / "answer.zip", out / "hand_poses" / "answer.zip"):
        assert f"  python -m htt.submit --check {path} --data {h2o} --split test" in commands
        code, said, wrong = run(capsys, "--check", path, "--data", h2o)
        assert (code, wrong) == (0, "")
        assert "Complete: the file has every clip" in said
        assert "note: the data are not H2O's whole test split:\n  - missing: clips 4-242\n" in said

    code, said, wrong = run(capsys, "--check", out / "hand_poses" / "answer.zip")
    assert code == 2
    assert said.startswith("hand_poses.json: 3 clips, 26 frames; compared with 242 clips of H2O's test split\n")
    assert "Complete" not in said
    assert "missing: clips 4-242\n" in wrong
    assert "expected 23,391 frames in all, got 26\n" in wrong


def test_submit_check_shortens_list_of_many_faults(h2o, tmp_path, capsys):
    path = tmp_path / "hand_poses.json"
    path.write_text(json.dumps({"modality": "RGB", **{str(clip): 5 + clip for clip in range(1, 243)}}))
    code, _, wrong = run(capsys, "--check", path)
    assert code == 2
    assert ", 242 faults:" in wrong
    assert wrong.count("  - ") == 21
    assert "  - and 222 more\n" in wrong


def test_submit_writes_nothing_for_incomplete_data(write_h2o, trained, tmp_path, capsys):
    data = write_h2o(tmp_path / "data", left_out={"2": {110, 111}})
    code, said, wrong = run(capsys, "--checkpoint", trained, "--data", data, "--out", tmp_path / "out")
    assert (code, said) == (2, "")
    assert "missing: clip 2: frames 110-111" in wrong
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "Missing options: give --checkpoint and --data to predict, or --check to check a file."),
        (["--checkpoint", "x"], "give --checkpoint and --data"),
        (["--check", "x", "--official"], "with --checkpoint or --official"),
        (["--check", "no.zip"], "no.zip: No such file or directory."),
        (["--check", "no.zip", "--data", "nowhere"], "nowhere does not exist"),
        (["--checkpoint", "x", "--data", "{h2o}", "--split", "tset"], "Available: test. Did you mean 'test'?"),
        (
            ["--checkpoint", "{trained}", "--data", "{h2o}", "--set", "train.x=1", "--out", "{out}"],
            "train.x: no such",
        ),
        (["--checkpoint", "{h2o}/manifest.json", "--data", "{h2o}", "--out", "{out}"], "add --official"),
        (["--checkpoint", "{h2o}/manifest.json", "--official", "--data", "{h2o}"], "manifest.json"),
        (["--checkpoint", "nowhere", "--data", "{h2o}", "--out", "{out}"], "No checkpoint in nowhere"),
    ],
)
def test_submit_refuses_invalid_options(h2o, trained, tmp_path, capsys, words, says):
    code, _, wrong = run(capsys, *(word.format(h2o=h2o, trained=trained, out=tmp_path / "out") for word in words))
    assert code == 2
    assert says in wrong
    assert "Traceback" not in wrong


def test_model_with_given_cues_is_not_submitted(h2o, oracle, tmp_path, capsys):
    words = ["--checkpoint", oracle, "--data", h2o, "--out", tmp_path / "out", "--set", "model.action.given=[]"]
    code, _, wrong = run(capsys, *words)
    assert code == 2
    assert "its block A is given the true object (model.action.given), so its numbers are a bound, not a" in wrong
    with pytest.raises(SystemExit):
        console.run(evaluate.Options, evaluate.main, [*map(str, words), "--split", "test"])
    wrong = capsys.readouterr().err
    assert "model.action.given is object, but in split 'test' the objects of these clips are unknown." in wrong
    assert not (tmp_path / "out").exists()


def test_model_without_images_is_not_submitted(h2o, without_images, tmp_path, capsys):
    code, _, wrong = run(capsys, "--checkpoint", without_images, "--data", h2o, "--out", tmp_path / "out")
    assert code == 2
    assert "it has no image encoder (model.backbone.name none) and predicts no hands. Use a model that" in wrong
    assert not (tmp_path / "out").exists()


def test_submit_refuses_unwritable_folder_before_predicting(h2o, trained, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    code, said, wrong = run(capsys, "--checkpoint", trained, "--data", h2o, "--out", tmp_path / "file")
    assert (code, said) == (2, "")
    assert "--out must be a folder" in wrong


def test_submit_check_compares_labels_with_h2o_test_split(tmp_path, capsys):
    path = tmp_path / "answer.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("action_labels.json", json.dumps({"modality": "RGB", **{str(n): 1 for n in range(1, 243)}}))
    code, said, _ = run(capsys, "--check", path)
    assert code == 0
    assert said == (
        "action_labels.json: 242 clips, 1 different action; compared with 242 clips of H2O's test split\n"
        "Checked: the id of every clip; that every action is a whole number of 1 to 36.\n"
        "Not checked: whether the actions are numbered as H2O does, from 1; whether the server accepts the modality "
        "'RGB'.\n"
        "Complete: the file has every clip, and no fault was found.\n"
    )


@pytest.fixture(scope="module")
def whole() -> dict:
    """A pose file of H2O's whole test split, without the data: every joint is 0.43 m away."""
    frame = [0.25] * 126
    return {
        "modality": "hand+obj",
        **{clip: {f"{n:06d}.txt": frame for n in numbers} for clip, numbers in H2O_TEST.frames.items()},
    }


def checked(capsys, folder, content):
    path = folder / "hand_poses.json"
    path.write_text(json.dumps(content))
    return run(capsys, "--check", path)


def test_submit_check_accepts_complete_pose_file(tmp_path, capsys, whole):
    code, said, wrong = checked(capsys, tmp_path, whole)
    assert (code, wrong) == (0, "")
    assert "hand_poses.json: 242 clips, 23,391 frames; compared with 242 clips of H2O's test split" in said
    assert "Checked: the id of every clip; the numbers of the frames; that every frame has 126 finite numbers; " in said
    assert "median distance of a joint from the camera: 0.433 m." in said
    assert "Not checked: the order of hands and joints; whether the server accepts the modality 'hand+obj'." in said


def test_submit_check_finds_frames_renumbered_from_zero(tmp_path, capsys, whole):
    content = {"modality": "RGB"}
    for clip, numbers in H2O_TEST.frames.items():
        content[clip] = {f"{n:06d}.txt": [0.25] * 126 for n in range(len(numbers))}
    code, said, wrong = checked(capsys, tmp_path, content)
    assert code == 2
    assert "Complete" not in said
    assert "unexpected: clip 2: frames 0-58" in wrong


def test_submit_check_finds_joints_in_millimetres(tmp_path, capsys, whole):
    clips = {clip: dict.fromkeys(frames, [250.0] * 126) for clip, frames in whole.items() if clip != "modality"}
    content = {"modality": "RGB", **clips}
    code, said, wrong = checked(capsys, tmp_path, content)
    assert code == 2
    assert "coordinates must be in metres; the median distance of a joint from the camera is 433" in wrong
    assert "Complete" not in said
