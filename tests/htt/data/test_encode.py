"""The command that encodes a data set: its folder, and the next command it prints."""

import itertools
import shlex

import pytest

from htt.config import Config, override, parse_set
from htt.data.encode import Options, main
from htt.data.prepare import prepare
from htt.registry import preset
from htt.testing import tiny_config
from htt.training import encoding


@pytest.mark.parametrize("views", [0, 1])
def test_encode_prints_next_command_that_works_with_any_preset(tmp_path, capsys, cache, views):
    frames, out = prepare(tiny_config()), tmp_path / "features of mine"
    main(Options(data=str(frames), out=str(out), backbone="resnet_tiny", weights="rendered", views=views, workers=1))
    words = shlex.split(capsys.readouterr().out.splitlines()[-1])
    values = parse_set([word for option, word in itertools.pairwise(words) if option == "--set"])
    for base in (Config(), preset("quick")):
        assert encoding.data_folder(override(base, values)) == out
