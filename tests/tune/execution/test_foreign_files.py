"""Every small file that a user can hand in, where it is of the wrong kind, cut short or binary: one short sentence."""

import json

import pytest
import yaml

from cluster.run_folder import EpochLog
from htt.config import Config, read
from htt.data.shards import manifest
from htt.errors import HTTError
from htt.training import checkpoint
from report_folders import PLAIN
from tune.experiments.space import LogUniform, Space
from tune.results import retrain
from tune.results.run_folder import RunFolder
from tune.searchers import warm_start

SPACE = Space({"optim.lr": LogUniform(1e-4, 1e-2)})


def _folder(read_one, name):
    def handed_in(folder, content):
        if content is None:
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(content)
        return read_one(folder, folder / name)

    return handed_in


FILES = {
    "--config": _folder(lambda _, file: read(file), "best.yaml"),
    "--point": _folder(lambda _, file: warm_start.points([str(file)], SPACE, Config()), "point.yaml"),
    "run.yaml": _folder(lambda folder, _: RunFolder(folder).record, "run.yaml"),
    "asked.yaml": _folder(lambda folder, _: RunFolder(folder).record, "asked.yaml"),
    "trials.parquet": _folder(lambda folder, _: RunFolder(folder).trials(), "trials.parquet"),
    "retrain.yaml": _folder(lambda folder, _: retrain.read(folder), "retrain.yaml"),
    "metrics.json": _folder(lambda _, file: EpochLog(file), "metrics.json"),
    "manifest.json": _folder(lambda folder, _: manifest.read(folder), "manifest.json"),
    "checkpoint.json": _folder(lambda folder, _: checkpoint.read(folder), "checkpoint.json"),
}
CONTENTS = {
    "a folder": None,
    "binary": b"PAR1\x00\x01\xff\xfe" * 50,
    "not UTF-8": b'{"a": "caf\xe9"}',
    "cut short": b'{"format": 1, "found_by": {"run": "a", ',
    "a list": b"[1, 2, 3]",
    "a number": b"7",
    "a text": b'"' + b"x" * 5000 + b'"',
    "deep": b"[" * 100_000,
    "other fields": b'{"final": 3, "config": 4, "epochs": 5, "info": 6, "base": 7}',
    "a bomb": b"a: &a [x, x]\nb: &b [*a, *a]\n",
}


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("kind", FILES)
def test_invalid_file_is_a_short_sentence(tmp_path, kind, content):
    with pytest.raises(HTTError) as caught:
        FILES[kind](tmp_path, CONTENTS[content])
    assert caught.value.exit_code == 2
    assert len(str(caught.value)) < 700 + len(str(tmp_path)) * 3
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "field"),
    [({"seed": "many"}, "seed"), ({"base": [1]}, "base"), ({"objectives": 3}, "objectives"), ({"new": 1}, "new")],
)
def test_record_refuses_fields_of_another_type(tmp_path, change, field):
    (tmp_path / "asked.yaml").write_text(yaml.safe_dump({**PLAIN, "name": "run", **change}))
    with pytest.raises(HTTError, match=rf"Cannot read .*asked\.yaml, the record of a run: .*{field}"):
        _ = RunFolder(tmp_path).record


@pytest.mark.parametrize("change", [{"hands": 3}, {"width": 0}, {"hands": "2"}, {"height": 2**70}])
def test_manifest_refuses_impossible_facts(tmp_path, change):
    fields = {
        "source": "h2o", "actions": ["a"], "objects": [], "hands": 2, "width": 96, "height": 54, "quality": 90,
        "pixels": "", "splits": {}, "wanted": {},
    }  # fmt: skip
    (tmp_path / "manifest.json").write_text(json.dumps(fields))
    assert manifest.read(tmp_path).info.hands == 2
    (tmp_path / "manifest.json").write_text(json.dumps({**fields, **change}))
    with pytest.raises(HTTError, match=rf"Invalid manifest .*{next(iter(change))}"):
        manifest.read(tmp_path)
