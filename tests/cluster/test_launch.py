"""The command line of a final training: what it refuses, before Ray is there."""

import pytest

from cluster import launch

MISTAKES = {
    "no such configuration": (["--config", "none.yaml"], "must be a readable YAML file"),
    "no configuration": ([], "name it with --config FILE or with --preset NAME"),
    "two configurations": (
        ["--config", "none.yaml", "--preset", "quick"],
        "name it with --config FILE or with --preset",
    ),
    "nothing to resume": (["--preset", "quick", "--resume", "--name", "x"], "needs a run that was started"),
    "a resumed run without a name": (["--preset", "quick", "--resume"], "--resume needs the --name of the run"),
    "no such backbone": (["--preset", "quick", "--set", "model.backbone.name=resnet19"], "there is no 'resnet19'"),
    "no such cluster": (
        ["--preset", "quick", "--address", "127.0.0.1:1"],
        "A Ray cluster must answer at '127.0.0.1:1'",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence_and_leaves_nothing(refused, tmp_path, mistake):
    words, message = MISTAKES[mistake]
    assert message in refused(launch, *words, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []
