"""Report as one self-contained HTML page: no other files, no script, light and dark colours, print style."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from tune.reports import document
from tune.reports.document import Code, Heading, Listing, Part, Picture, Table, Text
from tune.reports.figures import style
from tune.results.run_folder import RunFolder, write_text

STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #5b6470; --line: #d5dae0; --paper: #ffffff; --tint: #f4f6f8;
  --warn: #9a5b00; --warn-tint: #fff6e5; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ec; --soft: #a2acb8; --line: #3a424b; --paper: #14181c;
  --tint: #1d2329; --warn: #f0b357; --warn-tint: #2b2414; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 80rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 1rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .75rem; padding-bottom: .25rem; border-bottom: 1px solid var(--line); }
p, ul { max-width: 46rem; overflow-wrap: anywhere; }
code, pre { font-family: ui-monospace, "SF Mono", Consolas, "DejaVu Sans Mono", monospace; font-size: .875em; }
code { background: var(--tint); padding: .1em .3em; border-radius: 3px; }
pre { background: var(--tint); padding: .75rem 1rem; border-radius: 6px; overflow-x: auto; }
pre code { background: none; padding: 0; font-size: 1em; }
.warning { border-left: 4px solid var(--warn); background: var(--warn-tint); padding: .6rem 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .84rem; margin: .5rem 0; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .35rem .55rem .35rem 0; border-bottom: 1px solid var(--line); }
th { border-bottom: 2px solid var(--soft); vertical-align: bottom; font-weight: 600; }
td { min-width: 7rem; }
.number { min-width: 0; text-align: right; }
td.number { white-space: nowrap; }
figure { margin: 1.5rem 0 2rem; }
figure svg { fill: currentColor; display: block; height: auto; max-width: 100%; min-width: 34rem; }
figcaption { color: var(--soft); font-size: .9rem; max-width: 46rem; margin-top: .5rem; }
@media print { :root { --ink: #000; --soft: #444; --line: #bbb; --paper: #fff; --tint: #f4f4f4; }
  @page { size: A4 landscape; margin: 12mm; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  table { font-size: 7.5pt; } td { min-width: 0; } .wide { overflow: visible; }
  figure svg { min-width: 0; max-height: 150mm; width: auto; }
  figure, tr, pre { break-inside: avoid; } h2 { break-after: avoid; } }
"""
_TOGETHER = re.compile(r"(?<=\d) (?=%|mm\b|points\b)|(?<=\w:) (?=\S{1,6}(?:,|$))")
"""Space between a number and its unit, or a name and its short value, where a line must not break."""
_INLINE = re.compile(
    r"\\(.)|(?P<fence>`+)(?!`)(?P<code>.+?)(?<!`)(?P=fence)(?!`)|\*\*(?P<bold>.+?)\*\*|(?P<rest>[^\\`*]+|.)", re.DOTALL
)


def publish(folder: RunFolder, title: str, parts: Sequence[Part]) -> None:
    """Write ``report.html``, ``report.md`` and the pictures of ``report.md``, each file atomically.

    Raises:
        StorageError: the disk is full or not writable.
    """
    for part in parts:
        if isinstance(part, Picture):
            style.save_png(part.figure, folder.path / f"{part.name}.png")
    write_text(folder.report, document.markdown(title, parts))
    write_text(folder.path / "report.html", text(title, parts))


def text(title: str, parts: Sequence[Part]) -> str:
    """Return the whole page."""
    body = "\n".join(_part(part) for part in parts)
    head = f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>"
    view = '<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">'
    icon = '<link rel="icon" href="data:,">'  # an empty icon, so that browsers request none
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{view}\n{icon}\n{head}\n</head>\n'
        f"<body>\n<main>\n<h1>{html.escape(title)}</h1>\n{body}\n</main>\n</body>\n</html>\n"
    )


def inline(words: str) -> str:
    """Return inline Markdown as HTML."""
    return "".join(_inline(found[1], found["code"], found["bold"], found["rest"]) for found in _INLINE.finditer(words))


def _inline(literal: str | None, code: str | None, bold: str | None, rest: str | None) -> str:
    if code is not None:
        code = code[1:-1] if code.startswith(" ") and code.endswith(" ") else code
        return f"<code>{html.escape(code)}</code>"
    if bold is not None:
        return f"<strong>{inline(bold)}</strong>"
    return html.escape(literal if literal is not None else _TOGETHER.sub("\u00a0", rest or ""))


def _part(part: Part) -> str:
    if isinstance(part, Heading):
        return f"<h2>{inline(part.text)}</h2>"
    if isinstance(part, Text):
        return f'<p class="warning">{inline(part.text)}</p>' if part.warns else f"<p>{inline(part.text)}</p>"
    if isinstance(part, Listing):
        return "<ul>\n" + "\n".join(f"<li>{inline(item)}</li>" for item in part.items) + "\n</ul>"
    if isinstance(part, Code):
        return f"<pre><code>{html.escape(part.text)}</code></pre>"
    if isinstance(part, Table):
        return _table(part)
    return _picture(part)


def _table(table: Table) -> str:
    kinds = [' class="number"' if numeric else "" for numeric in table.numeric()]

    def row(cells: Sequence[str], tag: str) -> str:
        shown = [inline(cell) for cell in cells]
        if tag == "th":  # paths may break at dots, or many of them make a table too wide
            shown = [re.sub(r"(?<=\w)([._])(?=\w)", r"\1<wbr>", cell) for cell in shown]
        return "<tr>" + "".join(f"<{tag}{kind}>{cell}</{tag}>" for cell, kind in zip(shown, kinds, strict=True))

    rows = "\n".join(row(cells, "td") + "</tr>" for cells in table.rows)
    heads = row(table.heads, "th") + "</tr>"
    # tabindex makes a scrolling part reachable by keyboard
    return (
        f'<div class="wide" tabindex="0">\n<table>\n<thead>{heads}</thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n</div>'
    )


def _picture(picture: Picture) -> str:
    drawing = style.svg(picture.figure, picture.name, picture.alternative)
    caption = f"<figcaption>{inline(picture.caption)}</figcaption>"
    return f'<figure id="{picture.name}">\n<div class="wide" tabindex="0">\n{drawing}\n</div>\n{caption}\n</figure>'
