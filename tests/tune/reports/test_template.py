from operator import itemgetter

import pytest
from jinja2 import FileSystemLoader, UndefinedError
from markupsafe import Markup

from htt.pages.html import Picture
from htt.pages.table import Column, Table
from tune.reports import template

PAIRS = Table([Column("", itemgetter(0), "a.name", number=False)], [("x",)])


def test_template_values_are_literal_and_markup_is_kept(tmp_path, monkeypatch):
    (tmp_path / "some.md").write_text(
        "{{ foreign }} {{ code(foreign) }} {{ trusted }}\n\n\n\n{{ part(table) }}\n"
        "{% filter paragraph %}\none\n{% if trusted %}\ntwo {{ foreign }}.\n{% endif %}\n{% endfilter %}\n"
        "{% call picture('name', none, foreign) %}\nof\n{{ foreign }}\n{% endcall %}\n> end\n"
    )
    monkeypatch.setattr(template._REPORTS, "loader", FileSystemLoader(tmp_path))
    foreign = "*a*\n# b \x000\x00"
    parts = template.fill("some.md", foreign=foreign, trusted=Markup("**c**"), table=PAIRS)
    text = "\\*a\\* # b 0"
    assert parts == [
        f"{text} `*a* # b 0` **c**", PAIRS, f"one two {text}.", Picture("name", None, f"of {text}", foreign), "> end",
    ]  # fmt: skip


def test_template_names_existing_values_only(tmp_path, monkeypatch):
    (tmp_path / "some.md").write_text("{{ unknown }}")
    monkeypatch.setattr(template._REPORTS, "loader", FileSystemLoader(tmp_path))
    with pytest.raises(UndefinedError, match="'unknown' is undefined"):
        template.fill("some.md")
