"""A folder is a registry."""

import email

import pytest

from htt import registry
from htt.errors import ConfigError


def test_a_packages_modules_are_its_plugins():
    assert "message" in registry.names(email)
    assert not [name for name in registry.names(email) if name.startswith("_")]
    assert registry.load(email, "message").__name__ == "email.message"


def test_an_unknown_name_lists_those_there_are():
    with pytest.raises(ConfigError, match=r"got 'mesage'. There are: .*utils. Did you mean 'message'\?"):
        registry.load(email, "mesage")
