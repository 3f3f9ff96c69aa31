"""One Ray for all tests of a session, and a training that needs no torch."""

import dataclasses

import pytest

from project import environment


@pytest.fixture(scope="module")
def local_ray():
    from cluster import connect

    patch = pytest.MonkeyPatch()
    patch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    patch.delenv("OMP_NUM_THREADS", raising=False)  # Ray sets it to the CPUs a worker was given
    try:
        with connect.connect(cpus=2) as connection:
            yield connection
    finally:
        patch.undo()


@pytest.fixture
def driver(tmp_path):
    """Start the command line of a search or study, in a process of its own; what is left of it at the end is killed."""
    from driven import Drivers

    drivers = Drivers(tmp_path)
    yield drivers
    drivers.kill()


@pytest.fixture
def search(tmp_path):
    """A search with the stand-in training; give it options as keywords."""
    from rich.console import Console

    from fake_training import SPACE, TRAINING
    from tune.execution import search as search_execution
    from tune.experiments.space import Space
    from tune.experiments.spec import SearchSpec
    from tune.searchers import warm_start

    def run(space=SPACE, training=TRAINING, *, resume=False, points=(), runs=tmp_path, **options):
        assignments = {"runtime.cache": str(tmp_path / "events"), **options.pop("assignments", {})}
        spec = SearchSpec(**{"space": "fake", "name": "run", "trials": 6, **options}).over(space, assignments)
        points = warm_start.points(points, Space(spec.domains), spec.config())
        spec = dataclasses.replace(spec, points=tuple(points))
        with (tmp_path / "shown").open("a") as file:
            show = Console(file=file, width=200)
            return search_execution.run(spec, runs=runs, resume=resume, training=training, show=show)

    return run


@pytest.fixture
def ablate(tmp_path):
    """A study with the stand-in training; give it options as keywords."""
    from rich.console import Console

    from fake_training import BASE, TRAINING
    from htt.config import Config, override
    from tune.execution import plan
    from tune.execution import study as study_execution
    from tune.experiments.spec import StudySpec
    from tune.experiments.study import Study

    def run(variants, seeds=range(2), training=TRAINING, values=None, *, resume=False, runs=tmp_path, **options):
        changes = {**BASE, "optim.lr": 1e-3, "runtime.cache": str(tmp_path / "events"), **(values or {})}
        study = Study(
            "Which?", variants, next(iter(variants)), seeds=seeds, metrics=("hand_error_mm", "action_accuracy")
        )
        base = override(Config(), changes).model_dump(mode="json")
        spec = StudySpec(**{"name": "study", "study_name": "fake", "study": study, "base": base, **options})
        made = plan.plan(spec, runs=runs, resume=resume)
        with (tmp_path / "shown").open("a") as file:
            return study_execution.run(made, training=training, show=Console(file=file, width=200))

    return run
