"""A folder is a registry."""

import email
import subprocess
import sys

import pytest

from htt import registry
from htt.config import Config, override
from htt.errors import ConfigError


def test_a_packages_modules_are_its_plugins():
    assert "message" in registry.names(email)
    assert not [name for name in registry.names(email) if name.startswith("_")]
    assert registry.load(email, "message").__name__ == "email.message"


def test_an_unknown_name_lists_those_there_are():
    with pytest.raises(ConfigError, match=r"got 'mesage'. There are: .*utils. Did you mean 'message'\?"):
        registry.load(email, "mesage")


def test_every_name_of_a_configuration_is_checked_at_once():
    registry.check_plugins(Config())
    registry.check_plugins(override(Config(), {"model.backbone.name": "facebook/dinov2-small"}))
    wrong = {"model.pose.block": "transfomer", "data.source": "h3o", "model.backbone.name": "resnet19"}
    with pytest.raises(ConfigError) as caught:
        registry.check_plugins(override(Config(), wrong))
    assert caught.value.faults == [
        "data.source: there is no 'h3o'. There are: fpha, h2o, synthetic. Did you mean 'h2o'?",
        "model.backbone.name: there is no 'resnet19'. There are: resnet18, resnet_tiny. Did you mean 'resnet18'?",
        "model.pose.block: there is no 'transfomer'. There are: identity, lstm, mean, transformer. "
        "Did you mean 'transformer'?",
    ]


def test_checking_names_imports_no_plugin():
    code = "import sys; from htt import registry, config; registry.check_plugins(config.Config()); "
    subprocess.run([sys.executable, "-c", code + "assert 'torch' not in sys.modules"], check=True)
