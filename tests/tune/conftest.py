"""One Ray for all tests of a file, and searches and studies whose training needs no torch."""

import dataclasses
import shutil

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


@pytest.fixture(scope="session")
def search_in():
    """Return a function of a folder that returns ``search`` for it."""
    return searching


@pytest.fixture
def search(tmp_path):
    """Search with the stand-in training, one trial at a time; give it options as keywords."""
    return searching(tmp_path)


@pytest.fixture(scope="module")
def searched(local_ray, tmp_path_factory):
    """A folder in which a search has ended, for tests that only read it, and its outcome."""
    folder = tmp_path_factory.mktemp("searched")
    return folder, searching(folder)(trials=8, seed=1, max_concurrent=2)


@pytest.fixture
def finished(searched, tmp_path):
    """The ended search in this test's folder, to be resumed there with ``search``."""
    shutil.copytree(searched[0], tmp_path, dirs_exist_ok=True)


def searching(folder):
    from rich.console import Console

    from fake_training import SPACE, TRAINING
    from tune.execution import search as search_execution
    from tune.experiments.space import Space
    from tune.experiments.spec import SearchSpec
    from tune.searchers import warm_start

    def run(space=SPACE, training=TRAINING, *, resume=False, points=(), runs=folder, **options):
        assignments = {"runtime.cache": str(folder / "events"), **options.pop("assignments", {})}
        # A trial at a time needs one actor; each takes seconds to start.
        options = {"space": "fake", "name": "run", "trials": 6, "max_concurrent": 1, **options}
        spec = SearchSpec(**options).over(space, assignments)
        points = warm_start.points(points, Space(spec.domains), spec.config())
        spec = dataclasses.replace(spec, points=tuple(points))
        with (folder / "shown").open("a") as file:
            show = Console(file=file, width=200)
            return search_execution.run(spec, runs=runs, resume=resume, training=training, show=show)

    return run


@pytest.fixture
def ablate(tmp_path):
    """Study with the stand-in training, one trial at a time; give it options as keywords."""
    from rich.console import Console

    from fake_training import BASE, TRAINING
    from htt.config import Config, override
    from tune.execution import plan, tuning
    from tune.experiments.spec import StudySpec
    from tune.experiments.study import Study

    def run(
        variants,
        seeds=range(2),
        training=TRAINING,
        values=None,
        *,
        metrics=("hand_error_mm", "action_accuracy"),
        resume=False,
        runs=tmp_path,
        **options,
    ):
        changes = {**BASE, "optim.lr": 1e-3, "runtime.cache": str(tmp_path / "events"), **(values or {})}
        study = Study("Which?", variants, next(iter(variants)), seeds=seeds, metrics=metrics)
        base = override(Config(), changes).model_dump(mode="json")
        options = {"name": "study", "study_name": "fake", "max_concurrent": 1, **options}
        made = plan.plan(StudySpec(study=study, base=base, **options), runs=runs, resume=resume)
        with (tmp_path / "shown").open("a") as file:
            return tuning.run(made, training=training, show=Console(file=file, width=200))

    return run
