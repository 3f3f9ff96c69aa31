"""``python -m htt.attention``: its files, its numbers, models of every kind, and its errors."""

import csv
import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from htt import attention, console
from htt.config import Config
from htt.data.loading.splits import open_named
from htt.data.prepare import prepare
from htt.inference import attention_report
from htt.model.htt import HTT
from htt.testing import tiny_config
from htt.training import checkpoint, optim
from htt.training.checkpoint import Progress

CLIPS = {"data.synthetic.val_clips": 5, "model.action.depth": 2}
PICTURES = ["attention_by_distance", "attention_of_actions", "attention_over_time", "removal", "strips"]
TABLES = ["attention_by_distance", "attention_over_time", "clips", "heads", "removal"]


def save(folder: Path, config: Config) -> Path:
    """A checkpoint of an untrained model."""
    torch.manual_seed(0)
    info = open_named(prepare(config, workers=1), "val", config.data).info
    model = HTT(config.model, info)
    return checkpoint.save(
        folder, model, optim.optimizer(config.optim, model.parameters()), Progress(1), config, info, {}
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory, cache) -> Path:
    return save(tmp_path_factory.mktemp("attention") / "checkpoint", tiny_config(**CLIPS))


def run(*words: object) -> None:
    console.run(attention.Options, attention.main, [str(word) for word in words])


def refusal(capsys, *words: object) -> str:
    with pytest.raises(SystemExit) as left:
        run(*words)
    said = capsys.readouterr().err
    assert left.value.code == 2, said
    assert said.count("error:") == 1, said
    return " ".join(said.split())


@pytest.fixture(scope="module")
def written(trained) -> Path:
    run("--checkpoint", trained, "--split", "val", "--remove", 1, 3, "--draws", 2)
    return trained.parent / "attention-val"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_report_refers_to_all_written_files(written):
    text = (written / "report.md").read_text()
    assert text.startswith("# What the model looks at: the rendered benchmark, val split\n")
    assert "\n- Accuracy without random frames: " in text
    assert sorted(re.findall(r"\]\((\w+)\.png\)", text)) == PICTURES
    for name in PICTURES:
        with Image.open(written / f"{name}.png") as image:
            assert min(image.size) > 350
    assert sorted(path.stem for path in written.glob("*.csv")) == TABLES
    assert all(f"`{name}.csv`" in text for name in TABLES)
    assert len(list(written.iterdir())) == len(PICTURES) + len(TABLES) + 2


def test_page_shows_every_figure_and_table_without_another_file(written):
    page = (written / "report.html").read_text()
    assert "<h1>What the model looks at: the rendered benchmark, val split</h1>" in page
    assert sorted(re.findall(r'<figure id="(\w+)">', page)) == PICTURES
    assert page.count("<figcaption>") == page.count('<svg role="img" aria-label="') == len(PICTURES)
    assert page.count("<table>") == 2
    body = page[page.index("<body>") :]
    assert not re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', body), "nothing is read from a disk or a network"
    assert ">1 (" in body
    assert body.count("data:image/png;base64,") >= 3, "the film strips are in the page"


def test_tables_agree_with_one_another(written):
    clips, removal = rows(written / "clips.csv"), rows(written / "removal.csv")
    assert [row["clip"] for row in clips] == [f"val-{index:05d}" for index in range(5)]
    for row in removal:
        if row["measure"] == "probability" and row["frames_removed"] != "mean":
            for side in ("attended", row["control"]):
                mean = sum(float(clip[f"without_{row['frames_removed']}_{side}"]) for clip in clips) / len(clips)
                column = "attended_removed" if side == "attended" else "control_removed"
                assert float(row[column]) == pytest.approx(mean, abs=1e-5)
    by_name = {(row["measure"], row["control"], row["frames_removed"]): float(row["difference"]) for row in removal}
    assert len(by_name) == 2 * 3 * 3
    for measure, control in {(measure, control) for measure, control, _ in by_name}:
        mean = (by_name[measure, control, "1"] + by_name[measure, control, "3"]) / 2
        assert by_name[measure, control, "mean"] == pytest.approx(mean, abs=1e-5)
    over_time = rows(written / "attention_over_time.csv")
    assert len(over_time) == (1 + 5) * 2 * 2 * attention_report.BINS
    for layer, head in {(row["layer"], row["head"]) for row in over_time}:
        of_all = [float(row["attention"]) for row in over_time
                  if (row["action"], row["layer"], row["head"]) == ("all", layer, head)]  # fmt: skip
        assert sum(of_all) / len(of_all) == pytest.approx(1.0, abs=1e-4)
    distances = rows(written / "attention_by_distance.csv")
    assert [int(row["distance_frames"]) for row in distances[:7]] == [-3, -2, -1, 0, 1, 2, 3]


def test_attention_prints_the_result_and_the_report_path(trained, written, capsys):
    run("--checkpoint", trained, "--split", "val", "--remove", 2, "--draws", 1, "--out", written.parent / "other")
    shown = " ".join(capsys.readouterr().out.split())
    assert "Accuracy without random frames: " in shown
    assert "A frame in block P attends " in shown
    assert all(f"{written.parent}/other/report.{kind}" in shown.replace(" ", "") for kind in ("md", "html"))


def test_attention_of_a_feature_model_shows_its_frames(tmp_path, cache):
    frozen = {"model.backbone.weights": "rendered", "model.backbone.trained": False, "data.augment.views": 0}
    config = tiny_config(**CLIPS, **frozen)
    run("--checkpoint", save(tmp_path / "checkpoint", config), "--split", "val", "--remove", 1, "--draws", 1)
    assert (tmp_path / "attention-val" / "strips.png").is_file()


def test_blocks_without_attention_are_named(tmp_path, cache, capsys):
    both = save(tmp_path / "both", tiny_config(**CLIPS, **{"model.pose.block": "lstm", "model.action.block": "mean"}))
    said = refusal(capsys, "--checkpoint", both, "--split", "val", "--out", tmp_path / "none")
    assert "This model has no attention: block P is 'lstm' and block A 'mean'." in said
    assert not (tmp_path / "none").exists()
    one = save(tmp_path / "one", tiny_config(**CLIPS, **{"model.action.block": "identity"}))
    run("--checkpoint", one, "--split", "val", "--remove", 1, "--draws", 1, "--out", tmp_path / "pose")
    text = (tmp_path / "pose" / "report.md").read_text()
    assert "- Block A has no attention, so there is no action token" in text
    assert sorted(path.name for path in (tmp_path / "pose").iterdir()) == [
        "attention_by_distance.csv", "attention_by_distance.png", "report.html", "report.md"]  # fmt: skip
    other = save(tmp_path / "other", tiny_config(**CLIPS, **{"model.pose.block": "lstm"}))
    run("--checkpoint", other, "--split", "val", "--remove", 1, "--draws", 1, "--out", tmp_path / "action")
    text = (tmp_path / "action" / "report.md").read_text()
    assert "- Block P has no attention: it does not weigh the frames of its window." in text
    assert "attention_by_distance" not in text


def test_one_frame_in_block_p_has_no_distances(tmp_path, cache):
    single = save(tmp_path / "checkpoint", tiny_config(**CLIPS, **{"model.pose.window": 1}))
    run("--checkpoint", single, "--split", "val", "--remove", 1, "--draws", 1)
    assert "- Block P sees one frame at a time" in (tmp_path / "attention-val" / "report.md").read_text()


def test_bound_is_named_beside_the_numbers(tmp_path, cache):
    given = save(tmp_path / "checkpoint", tiny_config(**CLIPS, **{"model.action.given": ["object"]}))
    run("--checkpoint", given, "--split", "val", "--remove", 1, "--draws", 1)
    assert "**Block A got the true object" in (tmp_path / "attention-val" / "report.md").read_text()


def test_mistakes_are_one_sentence(trained, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    mistakes = [
        (["--split", "vall"], "Available: train, val, test. Did you mean 'val'?"),
        (["--split", "val", "--remove", "0"], "--remove must list numbers of frames from 1, each once; got 0."),
        (["--split", "val", "--remove", "2", "50"], "--remove must leave a frame: got 2, 50, and the longest window"),
        (["--split", "val", "--draws", "0"], "--draws must be 1 or more; got 0."),
        (["--split", "val", "--data", tmp_path / "none"], "does not exist"),
        (["--split", "val", "--out", tmp_path / "file"], "--out must be a folder; "),
        (["--split", "val", "--set", "train.precison=fp32"], "mean 'train.precision'?"),
    ]
    for words, message in mistakes:
        assert message in refusal(capsys, "--checkpoint", trained, *words)
    assert "expected a checkpoint.json" in refusal(capsys, "--checkpoint", tmp_path / "none", "--split", "val")
