"""YAML text within bounds: what makes a small file endless or ambiguous is refused in a sentence."""

import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htt import yaml_text
from htt.config import read
from htt.errors import ConfigError, shown

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "\n".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]" for before, name in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "anchors and aliases (& and *) are not supported; write the values out"),
        ("optim: {lr: 0.1}\noptim: {lr: 0.2}\n", "duplicate key 'optim'; remove one"),
        ("config: {optim: {lr: 0.1, lr: 0.2}}", "duplicate key 'lr'; remove one"),
        ("[" * 5_000, "more than 40 nested levels"),
        ("a: " * 100, "must be YAML"),
        ("!!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("? [a]\n: 1", "found unhashable key"),
        ("a: \x1b[31m", "must be YAML"),
    ],
    ids=["aliases", "a section twice", "a key twice", "deep", "colons", "tag", "key", "escape"],
)
def test_load_refuses_in_a_short_sentence_at_once(tmp_path, text, message):
    file = tmp_path / "best.yaml"
    file.write_text(text)
    began = time.process_time()
    with pytest.raises(ConfigError) as caught:
        read(file)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 500
    assert time.process_time() - began < 10


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x00\x01\x02", "must be YAML"),
        (b"optim: {lr: \xff}", "must be a readable YAML file; 'utf-8' codec can't decode"),
        (b"a" * 5_000_000, "must be a YAML file of at most 4 MB; it is larger"),
        (b"", "expected a mapping of sections, got None"),
        (b"PAR1", "expected a mapping of sections, got 'PAR1'"),
    ],
)
def test_read_refuses_what_is_no_text(tmp_path, content, message):
    file = tmp_path / "best.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read(file)
    assert message in str(caught.value)


def test_read_refuses_a_folder_and_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="must be a readable YAML file; Is a directory"):
        read(tmp_path)
    with pytest.raises(ConfigError, match="must be a readable YAML file; No such file"):
        read(tmp_path / "none.yaml")


def test_read_finds_a_file_below_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "best.yaml").write_text("optim: {lr: 0.5}\n")
    assert read("~/best.yaml").optim.lr == 0.5


@pytest.mark.parametrize("text", ["2024-13-45", "9" * 5_000, "x: 2024-13-45"])
def test_load_gives_no_raw_error_of_python(text):
    with pytest.raises(ConfigError, match="must be YAML"):
        yaml_text.load(text, "it")


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=60)
@given(PLAIN)
def test_load_gives_back_what_dump_wrote(plain):
    assert yaml_text.load(yaml_text.dump(plain), "it") == plain


def test_dump_writes_no_aliases():
    one = ["hands"]
    text = yaml_text.dump({"first": one, "second": one})
    assert yaml_text.load(text, "it") == {"first": ["hands"], "second": ["hands"]}


def test_load_words_keeps_the_text_of_every_scalar():
    found = yaml_text.load_words("[010, 1:30, 1e-4, 2024-13-45, yes, ~, .nan, '7']", "it")
    assert found == ["010", "1:30", "1e-4", "2024-13-45", "yes", "~", ".nan", "7"]
    assert [type(each) for each in found] == [yaml_text.Word] * 7 + [str]


@pytest.mark.parametrize(
    ("value", "said"),
    [("a b", "'a b'"), (math.inf, "inf"), (2**70, "1180591620717411303424"), (["hands"], "['hands']")],
)
def test_shown_is_pythons_notation(value, said):
    assert shown(value) == said


@pytest.mark.parametrize(
    "value", ["x" * 10**6, 10**50_000, [["x" * 99] * 99] * 99, {"a": [list(range(10**5))] * 9}], ids="abcd"
)
def test_shown_is_at_most_200_characters(value):
    assert 10 < len(shown(value)) <= 200


@pytest.mark.parametrize("text", ["\x85", "a\u2028b", "\u2029"])
def test_dump_escapes_line_breaks_of_unicode(text):
    plain = {text: [text]}
    assert yaml_text.load(yaml_text.dump(plain), "it") == plain
