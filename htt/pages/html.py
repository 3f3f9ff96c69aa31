"""A report as Markdown with pictures beside it, and as one self-contained HTML page.

The page is HTML by markdown-it of the same Markdown, in the template ``page.html``: no other files, light and dark
colours, print style, and a few lines of script that sort tables. HTML in the Markdown is shown literally.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import jinja2
from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from htt.files import write_text
from htt.pages import style
from htt.pages.table import Table
from htt.text import escaped

REPORT, PAGE = "report.md", "report.html"
HERE = Path(__file__).parent
_NO_BREAK = re.compile(r"(?<=\d) (?=%|mm\b|points\b)|(?<=\w:) (?=\S{1,6}(?:,|$))")
"""Space between a number and its unit, or a name and its short value, where a line must not break."""


@dataclass(frozen=True)
class Picture:
    """A figure with its caption and its alternative text."""

    name: str
    """File name without extension."""
    figure: Figure
    caption: str
    """Inline Markdown."""
    alternative: str

    def markdown(self) -> str:
        """Return the picture as Markdown, from a PNG file in the same folder."""
        return f"![{escaped(self.alternative)}]({self.name}.png)\n\n*{self.caption}*"

    def svg(self) -> Markup:
        """Return the picture as an SVG element."""
        return Markup(style.svg(self.figure, self.name, self.alternative))


@dataclass(frozen=True)
class Image:
    """A picture that the folder of the report holds already, with its caption and its alternative text."""

    path: Path
    caption: str
    """Inline Markdown."""
    alternative: str

    @property
    def name(self) -> str:
        """File name without extension."""
        return self.path.stem

    def markdown(self) -> str:
        """Return the picture as Markdown, from the PNG file in the same folder."""
        return f"![{escaped(self.alternative)}]({self.path.name})\n\n*{self.caption}*"

    def svg(self) -> Markup:
        """Return the picture as an element of a page, with the pixels in it."""
        data = base64.b64encode(self.path.read_bytes()).decode("ascii")
        return Markup('<img alt="{}" src="data:image/png;base64,{}">').format(self.alternative, data)


Part: TypeAlias = "str | Table[Any] | Picture | Image"
"""Part of a report; text is one block of Markdown."""


def publish(folder: Path, title: str, parts: Sequence[Part]) -> None:
    """Write ``report.html``, ``report.md`` and the pictures of ``report.md``, each file atomically.

    Raises:
        StorageError: the disk is full or not writable.
    """
    for part in parts:
        if isinstance(part, Picture):
            style.save_png(part.figure, folder / f"{part.name}.png")
    write_text(folder / REPORT, markdown(title, parts))
    write_text(folder / PAGE, page(title, parts))


def markdown(title: str, parts: Sequence[Part]) -> str:
    """Return the report as Markdown."""
    blocks = (part if isinstance(part, str) else part.markdown() for part in parts)
    return "\n\n".join([f"# {title}", *blocks]) + "\n"


def page(title: str, parts: Sequence[Part]) -> str:
    """Return the report as an HTML page."""
    template = _PAGES.get_template("page.html")
    style, script = (Markup((HERE / name).read_text(encoding="utf-8")) for name in ("page.css", "page.js"))
    return template.render(title=title, parts=parts, style=style, script=script)


def _unbroken(text: str) -> str:
    return _NO_BREAK.sub("\u00a0", text)


def _breakable(text: str) -> Markup:
    """Return a table head that may break at the dots of paths, or many of them make a table too wide."""
    return Markup(re.sub(r"(?<=\w)([._])(?=\w)", r"\1<wbr>", str(escape(text))))


_MARKDOWN = MarkdownIt("zero", {"html": False}).enable(
    ["heading", "list", "fence", "blockquote", "backticks", "emphasis", "escape"]
)
_MARKDOWN.add_render_rule("text", lambda _, tokens, index, *__: escapeHtml(_unbroken(tokens[index].content)))
_PAGES = jinja2.Environment(loader=jinja2.FileSystemLoader(HERE), autoescape=True, undefined=jinja2.StrictUndefined)
_PAGES.filters |= {
    "markdown": lambda text: Markup(_MARKDOWN.render(text).rstrip("\n")),
    "inline": lambda text: Markup(_MARKDOWN.renderInline(text)),
    "unbroken": _unbroken,
    "breakable": _breakable,
}
