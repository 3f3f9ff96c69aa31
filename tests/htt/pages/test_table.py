import re
from operator import itemgetter

from htt.pages.table import Column, Table, csv


def columns(heads, **options):
    """A table of text columns, whose rows are lists of cells."""
    return [Column("", itemgetter(place), head, number=place == 0) for place, head in enumerate(heads)]


def test_folding_table_fits_80_columns():
    heads = ["trial", *(f"model.part.number_{number}" for number in range(7))]
    rows = [[str(trial), *(f"value_{trial}_{number}" for number in range(7))] for trial in range(9, 12)]
    text = Table(columns(heads), rows, folds=True).markdown()
    assert max(map(len, text.splitlines())) <= 80
    assert all(text.count(cell) == 1 for row in rows for cell in row[1:])
    of_trial = re.findall(r"^\|    10 \|", text, re.MULTILINE)
    assert len(of_trial) == len(re.findall(r"^\| trial \|", text, re.MULTILINE)) == 3
    assert text.count("| ----: | --") == 3
    wide = [["1", "x" * 200, "2"]]
    assert "x" * 200 in Table(columns(["a", "b", "c"]), wide, folds=True).markdown(), "a cell is never cut"


def test_table_without_rows_has_heads():
    empty = Table([Column("", str, "head")], [])
    assert empty.markdown() == "| head |\n| ---: |"
    assert empty.terminal(None).split() == ["head"]


def test_markup_in_cells_and_heads_is_escaped():
    table = Table([Column("", str, "a|b", number=False)], ["<b> | `c`"])
    assert table.markdown() == "| a\\|b |\n| --- |\n| \\<b\\> \\| \\`c\\` |"
    assert r"a\textbar{}b \\" in table.latex("50 %", "label")
    assert r"\caption{50 \%}" in table.latex("50 %", "label")


def test_columns_are_aligned_by_type():
    table = Table(
        [Column("", itemgetter(0), "name", number=False), Column("", itemgetter(1), "value")], [("12", "none")]
    )
    assert table.markdown().splitlines()[1] == "| --- | ---: |"
    assert r"\begin{tabular}{lr}" in table.latex("", "")
    assert table.terminal(None).splitlines() == ["name  value", "12     none"]


def test_columns_of_dashes_are_dropped_on_request():
    table = Table([Column("", str, "a"), Column("b", lambda _: "", "b")], ["1", "2"])
    assert [column.title for column in table.filled().shown] == ["a"]
    assert [column.title for column in table.select("b", "c", "a").shown] == ["b", "a"]


def test_csv_has_program_columns_and_formulas_as_text():
    ends = [Column("low", lambda row: row, "both"), Column("high", lambda row: row + 1.5)]
    table = Table([Column("name", lambda _: "=1+1"), *ends, Column("", str, "shown alone")], [1.0, float("nan")])
    assert csv([table, table]).splitlines() == ["name,low,high", "'=1+1,1.0,2.5", "'=1+1,,", "'=1+1,1.0,2.5", "'=1+1,,"]
