"""Text of others comes out as it is, wherever it is shown, and does nothing there."""

import csv
import html
import io
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from htt import text

WORDS = st.lists(
    st.one_of(
        st.sampled_from("\\`*_[]()<>|&#~$!+-=.:@{}'\"\x1b\x07\r\n\u202e "),
        st.sampled_from(["[red]", "[/]", "<b>", "&lt;", "``", "~~", "1. ", "- ", "http://a.b"]),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=12,
).map("".join)
MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def plain(words):
    return " ".join(text.printable(words).split())


@settings(deadline=None, max_examples=300)
@given(WORDS)
def test_escaped_text_means_itself_in_markdown(words):
    page = MARKDOWN.render(text.escaped(words)).strip()
    assert html.unescape(page.removeprefix("<p>").removesuffix("</p>")) == html.unescape(html.escape(plain(words)))
    assert re.findall(r"<(?!/?p>)", page) == []


@settings(deadline=None, max_examples=300)
@given(WORDS)
def test_code_holds_any_text(words):
    if plain(words):
        page = MARKDOWN.render(f"Asked by {text.code(words)}.").strip()
        assert page == f"<p>Asked by <code>{html.escape(plain(words)).replace('&#x27;', chr(39))}</code>.</p>"


@settings(deadline=None, max_examples=100)
@given(WORDS)
def test_block_holds_any_text(words):
    page = MARKDOWN.render(f"{text.block(words)}\n\nend")
    assert page.endswith("</code></pre>\n<p>end</p>\n")


@settings(deadline=None, max_examples=200)
@given(WORDS)
def test_printable_removes_only_control_characters(words):
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text.printable(words))
    assert text.printable(words) == "".join(letter for letter in words if text.printable(letter))


def test_printable_shows_bytes_that_are_no_characters():
    assert text.printable("caf\udce9") == "caf\\udce9"


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("=1+1", "'=1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        (" +cmd|' /C calc'!A0", "' +cmd|' /C calc'!A0"),
        ("-x", "'-x"),
        ("\t=1", "'\t=1"),
        ("-3.5", "-3.5"),
        ("+1e-4", "+1e-4"),
        (-3.5, "-3.5"),
        (float("nan"), ""),
        ("a\x1b[31m,b", "a[31m,b"),
        ("= \n", "'= \n"),
    ],
)
def test_csv_text_cell_is_never_a_formula(cell, written):
    assert list(csv.reader(io.StringIO(text.csv(["head"], [[cell, "x"]])))) == [["head"], [written, "x"]]


@pytest.mark.parametrize(("number", "said"), [(0, "0 clips"), (1, "1 clip"), (1175, "1,175 clips")])
def test_plural_counts_in_words(number, said):
    assert text.plural(number, "clip") == said


@pytest.mark.parametrize(
    ("words", "tex"),
    [
        ("a_b & 5 %", r"a\_b \& 5 \%"),
        ("−3 < x", "$-$3 $<$ x"),
        ("\\{#$}", r"\textbackslash{}\{\#\$\}"),
        ("~^", r"\textasciitilde{}\textasciicircum{}"),
        ("σ² ≥ 5 µm, 90°", r"$\sigma$$^{2}$ $\geq$ 5 $\mu$m, 90$^{\circ}$"),
        ("déjà “vu” – …", "déjà ``vu'' -- \\dots{}"),
        ("中 Ð", "U+4E2D U+00D0"),
    ],
)
def test_latex_escapes_special_and_unknown_letters(words, tex):
    assert text.latex(words) == tex


def test_latex_names_of_greek_letters_are_unique():
    names = [text.latex(letter) for letter in "αβγδεζηθικλμνξπρςστυφχψωϕΓΔΘΛΞΠΣΥΦΨΩ"]
    assert len(set(names)) == len(names)
    assert text.latex("λ Λ") == r"$\lambda$ $\Lambda$"
