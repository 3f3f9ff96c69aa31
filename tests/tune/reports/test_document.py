import html
import re

import pytest

from tune.reports import document
from tune.reports import html as page
from tune.reports.document import Code, Heading, Listing, Picture, Table, Text, escaped
from tune.reports.figures.style import canvas

NASTY = 'a*b* `c` <script> |d| [e](f) _g_ h_i \\j & "k" 50 %'


def picture():
    figure = canvas(2.0)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="#000000")
    axes.set_title("cost $5 & more")
    return Picture("some-figure", figure, "What it *is*.", 'A line with "quotes" & <marks>')


PARTS = [
    Text("Said."),
    Text("**Beware** of `this`.", warns=True),
    Heading("Head"),
    Listing(["one", "two"]),
    Code("a < b", "yaml"),
    Table(["name", "value"], [["x", "1.5 mm"], ["y", "–"]]),
]


def test_markdown():
    assert document.markdown("Title", PARTS) == (
        "# Title\n\nSaid.\n\n> **Beware** of `this`.\n\n## Head\n\n- one\n- two\n\n```yaml\na < b\n```\n\n"
        "| name | value |\n| --- | ---: |\n| x | 1.5 mm |\n| y | – |\n"
    )


def test_a_page_says_the_same():
    text = page.text("Title & more", PARTS)
    assert text.startswith("<!DOCTYPE html>")
    assert "<title>Title &amp; more</title>" in text
    assert '<p class="warning"><strong>Beware</strong> of <code>this</code>.</p>' in text
    assert "<li>one</li>" in text
    assert "<pre><code>a &lt; b</code></pre>" in text
    assert '<td>x</td><td class="number">1.5\u00a0mm</td>' in text


def test_escaped_text_means_itself_on_the_page():
    shown = page.inline(escaped(NASTY))
    assert "<" not in shown.replace("&lt;", "")
    assert html.unescape(shown).replace("\u00a0", " ") == NASTY


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ("12", True),
        ("−3.1 points", True),
        ("31.2 to 40.1 %", True),
        ("\\< 0.001", True),
        ("–", True),
        ("1.2 M", True),
        ("1e-05", True),
        ("16 frames", False),
        ("2d", False),
        ("better", False),
    ],
)
def test_columns_of_numbers_are_known(cell, number):
    assert Table(["head"], [[cell]]).numeric() == [number]


def test_columns_of_every_unit_stand_to_the_right():
    numbers = [["8.372 ms", "95.1 MB", "1.2e-05 nats"], ["12.8 ms", "1231.0 MB", "-"]]
    assert Table(["Latency", "Memory", "Loss"], numbers).numeric() == [True] * 3


def test_table_that_folds_is_whole_within_80_columns():
    heads = ["trial", *(f"model.part.number_{number}" for number in range(7))]
    rows = [[str(trial), *(f"value_{trial}_{number}" for number in range(7))] for trial in range(9, 12)]
    text = document.markdown("t", [Table(heads, rows, folds=True)])
    assert max(map(len, text.splitlines())) <= 80
    assert all(text.count(cell) == 1 for row in rows for cell in row[1:])
    assert (
        len(re.findall(r"^\|    10 \|", text, re.MULTILINE))
        == len(re.findall(r"^\| trial \|", text, re.MULTILINE))
        == 3
    )
    assert text.count("| ----: | --") == 3
    wide = [["1", "x" * 200, "2"]]
    assert "x" * 200 in document.markdown("t", [Table(["a", "b", "c"], wide, folds=True)]), "a cell is never cut"


def test_a_table_without_rows_is_a_table():
    assert Table(["head"], []).numeric() == [False]
    assert "<tbody>" in page.text("t", [Table(["head"], [])])


def test_a_picture_is_drawn_in_the_page_with_caption_and_alternative():
    text = page.text("t", [picture()])
    assert 'role="img" aria-label="A line with &quot;quotes&quot; &amp; &lt;marks&gt;"' in text
    assert "<figcaption>What it *is*.</figcaption>" in text
    assert ">cost $5 &amp; more</text>" in text, "text is text"
    assert "#000000" not in text[text.index("<svg") :], "ink takes the page's colour"
    assert "<?xml" not in text
    assert "<metadata" not in text


def test_names_in_two_figures_of_a_page_differ():
    first, second = picture(), picture()
    object.__setattr__(second, "name", "other-figure")
    text = page.text("t", [first, second])
    names = re.findall(r'\bid="([^"]+)"', text)
    assert len(names) == len(set(names)) > 10
    used = re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', text)
    assert {a or b for a, b in used} <= set(names)


def test_the_picture_of_markdown_is_a_file_beside_it():
    assert '![A line with "quotes" & \\<marks\\>](some-figure.png)' in document.markdown("t", [picture()])
