"""Reports from Markdown templates (``tune/reports/*.md``), whose values are escaped."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from htt.evaluation.metric_table import METRICS
from htt.pages.html import Image, Part, Picture
from htt.text import block, code, escaped, plural
from tune.reports import format as fmt


def fill(template: str, **values: Any) -> list[Part]:
    """Return the parts of a report from its Markdown template; values are escaped unless they are ``Markup``.

    ``{{ part(table) }}`` places a table, ``{% call picture(name, figure, alternative) %}`` a picture with a caption,
    ``{% call image(path, alternative) %}`` one of a PNG file in the run folder.
    """
    parts: list[Part] = []

    def place(part: Part) -> Markup:
        parts.append(part)
        return Markup(f"\n\n\0{len(parts) - 1}\0\n\n")  # no text of others contains \0: see htt.text.printable

    def picture(name: str, figure: Figure, alternative: str, caller: Callable[[], str]) -> Markup:
        return place(Picture(name, figure, _paragraph(caller()).strip(), alternative))

    def image(path: Path, alternative: str, caller: Callable[[], str]) -> Markup:
        return place(Image(path, _paragraph(caller()).strip(), alternative))

    text = _REPORTS.get_template(template).render(values, part=place, picture=picture, image=image)
    blocks = (re.sub(r"\n{3,}", "\n\n", block).strip("\n") for block in re.split("\0", text))
    return [parts[int(block)] if number % 2 else block for number, block in enumerate(blocks) if block]


def _paragraph(text: str) -> Markup:
    """Return Markdown as one paragraph, on one line."""
    return Markup(" ".join(text.split()) + "\n\n")


def _finalize(value: object) -> Markup:
    """Return a value of a Markdown template as Markdown that shows it literally."""
    return value if isinstance(value, Markup) else Markup(escaped(str(value)))


_REPORTS = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    finalize=_finalize,
    trim_blocks=True,
    lstrip_blocks=True,
)
_REPORTS.filters |= {
    "paragraph": _paragraph,
    "bullet": lambda text: Markup(f"- {' '.join(text.split())}\n"),
    "title_of": lambda metric: METRICS[metric].title,
}
_REPORTS.globals |= {
    "METRICS": METRICS,
    "fmt": fmt,
    "plural": plural,
    "code": lambda text: Markup(code(text)),
    "codes": lambda texts: Markup(", ".join(map(code, texts))),
    "block": lambda *text: Markup(block(*text)),
}
