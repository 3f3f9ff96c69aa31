"""Valid files pass; each kind of damage is found and named, together with all others."""

import json
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htt.errors import DataError
from htt.submission import check as checks
from htt.submission.check import check
from htt.submission.form import H2O_TEST, LABELS, POSES, Expected

WANTED = Expected({"1": range(3), "2": range(7, 12), "3": range(40, 41)})
ANY = Expected({"1": None, "2": None, "3": None}, total=9)
LABEL_FILE = Path(__file__).parents[2] / "golden" / "h2o_labels" / "action_test.txt"


def labels():
    return {"modality": "RGB", "1": 1, "2": 36, "3": 1}


def poses():
    frames = {clip: [f"{number:06d}.txt" for number in numbers] for clip, numbers in WANTED.frames.items()}
    return {"modality": "RGB", **{clip: {name: [0.25] * 126 for name in names} for clip, names in frames.items()}}


def bare(folder, content, name=POSES):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def zipped(folder, members, method=zipfile.ZIP_DEFLATED):
    path = folder / "answer.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content if isinstance(content, str | bytes) else json.dumps(content))
    return path


def faults(path, expected=WANTED):
    return check(path, expected).faults


def test_check_accepts_valid_file_and_describes_content(tmp_path):
    for path, holds in (
        (bare(tmp_path, poses()), "hand_poses.json: 3 clips, 9 frames"),
        (zipped(tmp_path, [(POSES, poses())]), "hand_poses.json: 3 clips, 9 frames"),
        (bare(tmp_path, labels(), LABELS), "action_labels.json: 3 clips, 2 different actions"),
    ):
        for expected in (WANTED, ANY):
            found = check(path, expected)
            assert (found.holds, found.faults) == (holds, [])
            if path.name != LABELS and holds.startswith(POSES):
                assert ("the numbers of the frames" in found.checked) == (expected is WANTED)
                assert ("the numbers of the frames, except for gaps" in found.unchecked) == (expected is ANY)


def test_h2o_test_split_equals_its_label_file(tmp_path):
    rows = [line.split() for line in LABEL_FILE.read_text().splitlines()[1:]]
    assert {row[0] for row in rows} == set(H2O_TEST.frames)
    assert {row[0]: range(int(row[2]), int(row[3]) + 1) for row in rows} == H2O_TEST.frames
    assert sum(map(len, H2O_TEST.frames.values())) == H2O_TEST.total
    answer = {"modality": "RGB", **{row[0]: 7 for row in rows}}
    assert faults(bare(tmp_path, answer, LABELS), H2O_TEST) == []
    del answer["17"], answer["18"], answer["200"]
    assert faults(bare(tmp_path, answer, LABELS), H2O_TEST) == ["missing: clips 17-18, 200"]


LABEL_DAMAGE = {
    "modality is no text": (
        lambda c: c.update(modality=5),
        '"modality" must be a text that names the input of the pre',
    ),
    "modality is empty": (lambda c: c.update(modality=" "), "the predictions, such as \"RGB\"; got ' '"),
    "modality is missing": (lambda c: c.pop("modality"), 'the predictions, such as "RGB"; it is missing'),
    "a clip is missing": (lambda c: c.pop("2"), "missing: clip 2"),
    "a clip is unknown": (lambda c: c.update({"243": 1}), "unexpected: clip 243"),
    "a clip has another name": (lambda c: c.update({"01": 1}), "unexpected: clip '01'"),
    "an action is 0": (lambda c: c.update({"1": 0}), "an action must be a whole number of 1 to 36, not 0: clip 1"),
    "an action is 37": (lambda c: c.update({"1": 37}), "an action must be a whole number of 1 to 36, not 37: clip 1"),
    "an action is a fraction": (lambda c: c.update({"3": 5.0}), "a whole number of 1 to 36, not 5.0: clip 3"),
    "an action is true": (lambda c: c.update({"3": True}), "a whole number of 1 to 36, not true: clip 3"),
    "an action is a word": (lambda c: c.update({"3": "5"}), "a whole number of 1 to 36, not '5': clip 3"),
    "an action is a list": (lambda c: c.update({"3": [5]}), "a whole number of 1 to 36, not a list of 1: clip 3"),
}

FRAME = "000008.txt"


def _number(value):
    return lambda c: c["2"].update({FRAME: [0.25] * 125 + [value]})


POSE_DAMAGE = {
    "modality is no text": LABEL_DAMAGE["modality is no text"],
    "a clip is missing": (lambda c: c.pop("1"), "missing: clip 1"),
    "a clip is unknown": (lambda c: c.update({"9": {"000000.txt": [0.0] * 126}}), "unexpected: clip 9"),
    "a clip is no object": (lambda c: c.update({"3": [1, 2]}), "an object of frames, not a list of 2: clip 3"),
    "a frame is missing": (lambda c: c["2"].pop("000010.txt"), "missing: clip 2: frame 10"),
    "a frame is unknown": (lambda c: c["2"].update({"000012.txt": [0.0] * 126}), "unexpected: clip 2: frame 12"),
    "a frame has another name": (
        lambda c: c["2"].update({"8.txt": []}), "a frame's name must be six digits and .txt: clip 2: frame '8.txt'"
    ),
    "a number is missing": (lambda c: c["2"].update({FRAME: [0.25] * 125}), "126 numbers, not 125: clip 2: frame 8"),
    "there is one hand": (lambda c: c["2"].update({FRAME: [0.25] * 63}), "126 numbers, not 63: clip 2: frame 8"),
    "a frame is no list": (lambda c: c["2"].update({FRAME: {"x": 1}}), "not an object of 1: clip 2: frame 8"),
    "a number is NaN": (_number(float("nan")), "numbers must be finite, not nan: clip 2: frame 8"),
    "a number is infinite": (_number(float("-inf")), "numbers must be finite, not -inf: clip 2: frame 8"),
    "a number is a word": (_number("0.25"), "numbers must be finite, not '0.25': clip 2: frame 8"),
    "a number is null": (_number(None), "numbers must be finite, not null: clip 2: frame 8"),
    "a number is true": (_number(True), "numbers must be finite, not true: clip 2: frame 8"),
    "a number is a list": (_number([1]), "numbers must be finite, not a list of 1: clip 2: frame 8"),
    "a number is beyond 32 bits": (_number(10**400), "numbers must be finite, not 1000"),
}  # fmt: skip


@pytest.mark.parametrize("name", LABEL_DAMAGE)
def test_check_names_only_the_damage_of_labels(tmp_path, name):
    damage, says = LABEL_DAMAGE[name]
    content = labels()
    damage(content)
    (found,) = faults(bare(tmp_path, content, LABELS))
    assert says in found


@pytest.mark.parametrize("name", POSE_DAMAGE)
def test_check_names_only_the_damage_of_poses(tmp_path, name):
    damage, says = POSE_DAMAGE[name]
    content = poses()
    damage(content)
    (found,) = faults(zipped(tmp_path, [(POSES, content)]))
    assert says in found


SINGLE = {
    name for name in POSE_DAMAGE if "number" not in name and name not in ("there is one hand", "a frame is no list")
}
PARTS = [*({name} for name in sorted(SINGLE)), set(POSE_DAMAGE) - SINGLE]
"""Sets of damages that exclude one another."""


@settings(deadline=None)
@given(st.data())
def test_check_names_several_damages_at_once(tmp_path_factory, data):
    """Check any number of damages, at most one of each set, in any order."""
    chosen = [data.draw(st.sampled_from(sorted(part))) for part in PARTS if data.draw(st.booleans())]
    content = poses()
    for name in data.draw(st.permutations(chosen)):
        POSE_DAMAGE[name][0](content)
    found = faults(bare(tmp_path_factory.mktemp("damage"), content))
    expected = [POSE_DAMAGE[name][1] for name in chosen]
    assert len(found) == len(expected)
    assert all(any(says in line for line in found) for says in expected)


@pytest.mark.parametrize(("metres", "says"), [(433.0, "in metres; the median"), (0.04, "relative to the wrist")])
def test_check_names_wrong_unit_or_origin_of_coordinates(tmp_path, metres, says):
    content = poses()
    for clip in WANTED.frames:
        content[clip] = dict.fromkeys(content[clip], [metres / 3**0.5] * 126)
    (found,) = faults(bare(tmp_path, content))
    assert says in found
    content["1"]["000000.txt"] = [0.25] * 126
    assert len(faults(bare(tmp_path, content))) == 1


def test_check_accepts_any_modality_and_shows_it(tmp_path):
    content = {**poses(), "modality": "hand+obj"}
    found = check(bare(tmp_path, content), WANTED)
    assert found.faults == []
    assert "whether the server accepts the modality 'hand+obj'" in found.unchecked


def test_check_requires_consecutive_frames_without_known_numbers(tmp_path):
    content = poses()
    del content["2"]["000009.txt"], content["2"]["000010.txt"]
    content["3"] = {}
    assert faults(bare(tmp_path, content), ANY) == [
        "missing: clip 2: frames 9-10",
        "a clip must have frames: clip 3",
        "expected 9 frames in all, got 6",
    ]


def test_check_joins_equal_faults_of_many_frames(tmp_path):
    expected = Expected({"7": range(2_000)})
    content = {"modality": "RGB", "7": {f"{number:06d}.txt": [0.0] * 125 for number in range(2_000) if number % 500}}
    assert faults(bare(tmp_path, content), expected) == [
        "a frame must have 126 numbers, not 125: clip 7: frames 1-499, 501-999, 1001-1499, 1501-1999",
        "missing: clip 7: frames 0, 500, 1000, 1500",
    ]


def test_check_handles_gap_of_a_million_frames(tmp_path):
    content = {"modality": "RGB", "1": {"000000.txt": [0.25] * 126, "999999.txt": [0.25] * 126}}
    assert faults(bare(tmp_path, content), Expected({"1": None})) == ["missing: clip 1: frames 1-999998"]


def test_check_names_repeated_keys(tmp_path):
    text = '{"modality": "RGB", "1": 4, "2": 5, "1": 6, "3": 7, "1": 8, "modality": "RGB"}'
    assert faults(bare(tmp_path, text, LABELS)) == [
        "the file has 'modality' more than once",
        "the file has '1' more than once",
    ]
    frames = '{"000000.txt": [], "000000.txt": []}'
    found = faults(bare(tmp_path, f'{{"modality": "RGB", "1": {frames}}}'), Expected({"1": range(1)}))
    assert found[0] == "clip '1' has '000000.txt' more than once"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "invalid JSON: Expecting value"),
        ('{"modality": "RGB", "1": 3', "invalid JSON: Expecting"),
        ("[1, 2]", "its JSON must be an object; got a list of 2"),
        ("7", "its JSON must be an object; got 7"),
        ("[" * 100_000, "invalid JSON: "),
        ('{"1": ' + "9" * 5000 + "}", "invalid JSON: Exceeds the limit"),
    ],
)
def test_check_refuses_text_that_is_no_json_object(tmp_path, text, says):
    (found,) = faults(bare(tmp_path, text))
    assert found.startswith(says)


def test_check_refuses_bytes_that_are_no_text(tmp_path):
    (tmp_path / LABELS).write_bytes(b'{"modality": "RGB\xff"}')
    (found,) = faults(tmp_path / LABELS)
    assert found.startswith("invalid JSON: 'utf-8' codec can't decode byte 0xff")


def test_check_names_wrong_member_names_and_checks_content(tmp_path):
    content = labels()
    content["1"] = 99
    assert faults(zipped(tmp_path, [("labels.json", content)])) == [
        "the JSON must be named action_labels.json or hand_poses.json; it is named 'labels.json'",
        "an action must be a whole number of 1 to 36, not 99: clip 1",
    ]
    assert faults(bare(tmp_path, poses(), "mine.json")) == [
        "the JSON must be named action_labels.json or hand_poses.json; it is named 'mine.json'"
    ]
    assert faults(zipped(tmp_path, [("__MACOSX/x", b""), (LABELS, labels()), (POSES, poses())])) == [
        "a zip must have one member; beside 'action_labels.json' there is '__MACOSX/x', 'hand_poses.json'"
    ]


def test_check_refuses_invalid_zip(tmp_path):
    path = tmp_path / "answer.zip"
    path.write_text(json.dumps(labels()))
    assert faults(path) == ["cannot unpack the zip: File is not a zip file"]
    zipped(tmp_path, [])
    assert faults(path) == ["a zip must have one member, this one is empty"]
    zipped(tmp_path, [(LABELS, labels())], zipfile.ZIP_LZMA)
    assert faults(path) == ["a zip must be stored or deflated; this one has another compression"]


@settings(deadline=None)
@given(st.data())
def test_check_handles_zip_damaged_anywhere(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damage")
    path = zipped(folder, [(LABELS, labels())])
    raw = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(raw) - 1), max_size=4)):
        raw[place] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    found = check(path, WANTED)
    assert found.faults or json.loads(zipfile.ZipFile(path).read(LABELS)) == labels()


def test_check_bounds_memory_for_zip_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "LARGEST_BYTES", 2**20)
    path = zipped(tmp_path, [(POSES, bytes(2**26))])
    assert path.stat().st_size < 2**17
    tracemalloc.start()
    found = faults(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == ["its JSON must have at most 1 MiB; it has more"]
    assert peak < 2**23


def test_check_refuses_too_many_values_or_members(tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "MOST_VALUES", 1000)
    assert faults(bare(tmp_path, "[" + "[]," * 1000 + "[]]")) == [
        "its JSON must have at most 1,000 values; it has more"
    ]
    monkeypatch.setattr(checks, "MOST_MEMBERS", 10)
    path = zipped(tmp_path, [(str(number), b"") for number in range(20)])
    assert faults(path) == ["a zip must have one member, this one has thousands"]


def test_check_reports_unreadable_file(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"Cannot read --check .*: No such file"):
        check(tmp_path / "answer.zip", WANTED)
    with pytest.raises(DataError, match=r"Cannot read --check .*: Is a directory"):
        check(tmp_path, WANTED)
    monkeypatch.setattr(checks, "LARGEST_BYTES", 10)
    with pytest.raises(DataError, match="has at most 0 MiB"):
        check(bare(tmp_path, labels(), LABELS), WANTED)


def test_check_prints_no_control_characters(tmp_path):
    content = {**labels(), "\x1b[2J\ud800": 1, "3": "\x1b[31m" + "x" * 1000}
    for line in faults(bare(tmp_path, content, LABELS)):
        assert line.isascii()
        assert line.isprintable()
        assert len(line) < 150
