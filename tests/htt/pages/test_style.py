import pytest

from htt.pages import style


def test_figure_names_are_cut_and_dollars_escaped():
    assert style.wrapped("one two", 4) == "one\ntwo"
    assert style.wrapped("a " * 100, 10, lines=2).endswith("…")
    assert style.wrapped("$5 and $6") == r"\$5 and \$6"
    assert style.wrapped("") == ""


def test_png_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    figure = style.canvas(2.0)
    figure.add_subplot()
    style.save_png(figure, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    before = (tmp_path / "a.png").read_bytes()
    monkeypatch.setattr(type(figure), "savefig", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(Exception, match="the disk is full"):
        style.save_png(figure, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
