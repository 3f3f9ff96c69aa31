import html
import re
from operator import itemgetter

import pytest

from htt.pages import html as page
from htt.pages.html import Picture
from htt.pages.style import canvas
from htt.pages.table import Column, Table
from htt.text import block, escaped

NASTY = 'a*b* `c` <script> |d| [e](f) ![g](h) _i_ j_k \\l & &amp; "m" 50 % http://n.o ~~p~~'


def picture(name="some-figure"):
    figure = canvas(2.0)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="#000000")
    axes.set_title("cost $5 & more")
    return Picture(name, figure, "What `it` is.", 'A line with "quotes" & <marks>')


PAIRS = Table(
    [Column("", itemgetter(0), "a.name", number=False), Column("", itemgetter(1), "value")],
    [("x", "1.5 mm"), ("y", "–")],
)
PARTS = [
    "Said.",
    "> **Beware** of `this`.",
    "## Head",
    "- one\n- two",
    block("a < b", "yaml"),
    PAIRS,
]


def test_markdown_becomes_html():
    assert page.markdown("Title", PARTS) == (
        "# Title\n\nSaid.\n\n> **Beware** of `this`.\n\n## Head\n\n- one\n- two\n\n```yaml\na < b\n```\n\n"
        "| a.name | value |\n| --- | ---: |\n| x | 1.5 mm |\n| y | – |\n"
    )


def test_page_has_the_parts_of_the_markdown():
    text = page.page("Title & more", PARTS)
    assert text.startswith("<!DOCTYPE html>")
    assert "<title>Title &amp; more</title>" in text
    assert "<h1>Title &amp; more</h1>" in text
    assert "<blockquote>\n<p><strong>Beware</strong> of <code>this</code>.</p>\n</blockquote>" in text
    assert text.count("<blockquote>") == 1
    assert "<h2>Head</h2>" in text
    assert "<li>one</li>" in text
    assert '<pre><code class="language-yaml">a &lt; b\n</code></pre>' in text
    assert '<th>a.<wbr>name</th><th class="number">value</th>' in text
    assert '<td>x</td><td class="number">1.5\u00a0mm</td>' in text


@pytest.mark.parametrize("template", ["{}", "> {}", "- {}", "**{}**", "## {}"])
def test_escaped_text_is_literal_on_the_page(template):
    text = page.page("t", [template.format(escaped(NASTY))])
    body = text[text.index("</h1>") + 5 : text.index("</main>")]
    tags = set(re.findall(r"<(\w+)", body))
    assert tags <= {"p", "blockquote", "ul", "li", "strong", "h2"}
    assert html.unescape(re.sub(r"<[^>]*>", "", body)).replace("\u00a0", " ").strip() == NASTY


@pytest.mark.parametrize("markup", ["<script>alert(1)</script>", "[a](javascript:b)", "![a](b)", "<b>", "<!-- -->"])
def test_unescaped_markup_becomes_text(markup):
    text = page.page(markup, [markup, f"- {markup}", Table([Column("", str, markup)], [markup])])
    body = text[text.index("</style>") :]
    assert "<script" not in body
    assert "<b>" not in body
    assert "<!--" not in body
    assert "href=" not in body
    assert "<img" not in body


def test_figure_is_inline_with_caption_and_alternative():
    text = page.page("t", [picture()])
    assert 'role="img" aria-label="A line with &quot;quotes&quot; &amp; &lt;marks&gt;"' in text
    assert "<figcaption>What <code>it</code> is.</figcaption>" in text
    assert ">cost $5 &amp; more</text>" in text, "text is text"
    assert "#000000" not in text[text.index("<svg") :], "ink takes the page's colour"
    assert "<?xml" not in text
    assert "<metadata" not in text


def test_ids_of_two_figures_differ():
    text = page.page("t", [picture(), picture("other-figure")])
    names = re.findall(r'\bid="([^"]+)"', text)
    assert len(names) == len(set(names)) > 10
    used = re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', text)
    assert {a or b for a, b in used} <= set(names)


def test_markdown_picture_is_a_file_beside_it():
    assert '![A line with "quotes" & \\<marks\\>](some-figure.png)' in page.markdown("t", [picture()])
