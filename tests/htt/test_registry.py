"""A folder is a registry."""

import email
import importlib
import subprocess
import sys

import pytest

from htt import registry
from htt.config import Config, override
from htt.errors import ConfigError


def test_names_lists_the_public_modules_of_a_package():
    assert "message" in registry.names(email)
    assert not [name for name in registry.names(email) if name.startswith("_")]
    assert registry.load(email, "message").__name__ == "email.message"


def test_load_of_unknown_name_lists_available_ones():
    with pytest.raises(ConfigError, match=r"No 'mesage' in email. Available: .*utils. Did you mean 'message'\?"):
        registry.load(email, "mesage")


def test_check_plugins_names_all_unknown_plugins_at_once():
    registry.check_plugins(Config())
    registry.check_plugins(override(Config(), {"model.backbone.name": "facebook/dinov2-small"}))
    wrong = {"model.pose.block": "transfomer", "data.source": "h3o", "model.backbone.name": "resnet19"}
    with pytest.raises(ConfigError) as caught:
        registry.check_plugins(override(Config(), wrong))
    assert caught.value.faults == [
        "data.source: no such plug-in 'h3o'. Available: fpha, frames, h2o, synthetic. Did you mean 'h2o'?",
        "model.backbone.name: no such plug-in 'resnet19'. Available: none, resnet18, resnet_tiny. "
        "Did you mean 'resnet18'?",
        "model.pose.block: no such plug-in 'transfomer'. Available: identity, lstm, mean, transformer. "
        "Did you mean 'transformer'?",
    ]


def test_checking_names_imports_no_plugin():
    code = "import sys; from htt import registry, config; registry.check_plugins(config.Config()); "
    subprocess.run([sys.executable, "-c", code + "assert 'torch' not in sys.modules"], check=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SPACE = dict(\n", r"Cannot import .*broken\.py: line 1: SyntaxError"),
        ("x = 1\nSPACE = Spaec()\n", r"broken\.py: line 2: NameError: name 'Spaec' is not defined"),
        ("import no_such_module\n", r"line 1: ModuleNotFoundError: No module named 'no_such_module'"),
        ("SPAEC = {}\n", r"broken\.py: expected SPACE of type dict, got None"),
        ("SPACE = 'x' * 1000\n", r"broken\.py: expected SPACE of type dict, got 'xxx[x']*…"),
        (
            "from tune.experiments.space import Uniform\nSPACE = Uniform(2, 1)\n",
            r"line 2: Uniform must go from a low end to a",
        ),
    ],
)
def test_value_of_a_broken_plugin_raises_config_error(tmp_path, monkeypatch, text, message):
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "__init__.py").write_text("")
    (tmp_path / "plugins" / "broken.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    package = importlib.import_module("plugins")
    try:
        with pytest.raises(ConfigError, match=message):
            registry.value(package, "broken", "SPACE", dict)
    finally:
        sys.modules.pop("plugins", None)
        sys.modules.pop("plugins.broken", None)
