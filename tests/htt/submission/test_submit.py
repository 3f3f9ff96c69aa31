"""``python -m htt.submit``: what it says, what it writes, and how it leaves."""

import json
import zipfile

import pytest

from htt import console
from htt.submit import Options, main


def run(capsys, *words):
    """(exit code, what was printed, the error)."""
    try:
        console.run(Options, main, [str(word) for word in words])
        code = 0
    except SystemExit as left:
        code = left.code
    said = capsys.readouterr()
    return code, said.out, said.err


def test_predicts_writes_and_checks(h2o, trained, tmp_path, capsys):
    out = tmp_path / "new" / "submission"
    code, said, wrong = run(capsys, "--checkpoint", trained, "--data", h2o, "--out", out)
    assert (code, wrong) == (0, "")
    assert "Predicting 3 clips of 'test'" in said
    assert "hand_poses.json: 3 clips, 26 frames" in said
    assert "note: the data are not H2O's whole test split:\n  - missing: clips 4-242\n" in said
    for path in (out / "action_labels" / "answer.zip", out / "hand_poses" / "answer.zip"):
        code, said, wrong = run(capsys, "--check", path, "--data", h2o)
        assert (code, wrong) == (0, "")
        assert said.endswith("complete\n")

    code, said, wrong = run(capsys, "--check", out / "hand_poses" / "answer.zip")
    assert code == 2
    assert said == "hand_poses.json: 3 clips, 26 frames; compared with 242 clips of H2O's test split\n"
    assert "missing: clips 4-242\n" in wrong
    assert "there must be 23,391 frames in all, there are 26\n" in wrong


def test_many_faults_are_cut(h2o, tmp_path, capsys):
    path = tmp_path / "hand_poses.json"
    path.write_text(json.dumps({"modality": "RGB", **{str(clip): 5 + clip for clip in range(1, 243)}}))
    code, _, wrong = run(capsys, "--check", path)
    assert code == 2
    assert "has 242 faults:" in wrong
    assert wrong.count("  - ") == 21
    assert "  - and 222 more\n" in wrong


def test_incomplete_data_leave_nothing_behind(write_h2o, trained, tmp_path, capsys):
    data = write_h2o(tmp_path / "data", left_out={"2": {110, 111}})
    code, said, wrong = run(capsys, "--checkpoint", trained, "--data", data, "--out", tmp_path / "out")
    assert (code, said) == (2, "")
    assert "missing: clip 2: frames 110-111" in wrong
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "Name a --checkpoint and the --data to predict, or a file to --check."),
        (["--checkpoint", "x"], "Name a --checkpoint and the --data"),
        (["--check", "x", "--official"], "leave out --checkpoint and --official"),
        (["--check", "no.zip"], "no.zip: No such file or directory."),
        (["--check", "no.zip", "--data", "nowhere"], "nowhere does not exist"),
        (["--checkpoint", "x", "--data", "{h2o}", "--split", "tset"], "There are: test. Did you mean 'test'?"),
        (
            ["--checkpoint", "{trained}", "--data", "{h2o}", "--set", "train.x=1", "--out", "{out}"],
            "train.x: there is no such",
        ),
        (["--checkpoint", "{h2o}/manifest.json", "--data", "{h2o}", "--out", "{out}"], "add --official"),
        (["--checkpoint", "{h2o}/manifest.json", "--official", "--data", "{h2o}"], "manifest.json"),
        (["--checkpoint", "nowhere", "--data", "{h2o}", "--out", "{out}"], "there is none in nowhere"),
    ],
)
def test_what_cannot_be_is_one_sentence(h2o, trained, tmp_path, capsys, words, says):
    code, _, wrong = run(capsys, *(word.format(h2o=h2o, trained=trained, out=tmp_path / "out") for word in words))
    assert code == 2
    assert says in wrong
    assert "Traceback" not in wrong


def test_a_place_that_cannot_be_written_is_said_before_predicting(h2o, trained, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    code, said, wrong = run(capsys, "--checkpoint", trained, "--data", h2o, "--out", tmp_path / "file")
    assert (code, said) == (2, "")
    assert "--out must be a folder" in wrong


def test_a_file_of_h2os_size_is_compared_with_what_is_known_of_it(tmp_path, capsys):
    path = tmp_path / "answer.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("action_labels.json", json.dumps({"modality": "RGB", **{str(n): 1 for n in range(1, 243)}}))
    code, said, _ = run(capsys, "--check", path)
    assert code == 0
    assert said == (
        "action_labels.json: 242 clips, 1 different action; compared with 242 clips of H2O's test split\ncomplete\n"
    )
