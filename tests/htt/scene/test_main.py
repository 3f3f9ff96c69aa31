import numpy as np
import pytest
from matplotlib.image import imread

from htt.scene import ACTIONS
from htt.scene.__main__ import SHOWN, main


def test_main_draws_joints_unless_plain(tmp_path, capsys):
    sheets = []
    for name, options in (("joints.png", []), ("plain.png", ["--plain"])):
        path = tmp_path / name
        main(["--sheet", str(path), "--actions", "0", "22", "--columns", "2", "--width", "64", *options])
        said = capsys.readouterr().out
        assert said.startswith("Rendering: 2/2 clips, ")
        assert said.endswith(f"{path}: 2 clips\n")
        sheets.append(imread(path))
    assert sheets[0].shape == sheets[1].shape
    assert sheets[0].shape[1] == 128
    assert np.abs(sheets[0] - sheets[1]).max() > 0.3, "bones are drawn over the picture"


def test_default_sheet_shows_every_verb():
    assert {name.rsplit(" ", 1)[0] for name in SHOWN} == {name.rsplit(" ", 1)[0] for name in ACTIONS}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--actions", "36"], "invalid choice"),
        (["--width", "10"], "width must be 16 px or more; got 10"),
        (["--columns", "0"], "invalid choice"),
    ],
)
def test_main_refuses_invalid_options(tmp_path, capsys, options, message):
    with pytest.raises(SystemExit) as ended:
        main(["--sheet", str(tmp_path / "sheet.png"), *options])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
