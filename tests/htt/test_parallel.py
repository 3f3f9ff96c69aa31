"""One map over items: in order, bounded, with the errors of the function as they are."""

import math
import sys
from collections.abc import Iterator

import pytest

from htt import parallel

SQRT = "^(expected a nonnegative input|math domain error)"


def _squares(count: int, **options: object) -> Iterator[int]:
    return parallel.map(lambda item: item * item, range(count), title="Squaring", unit="numbers", **options)  # type: ignore[arg-type]


def test_one_worker_needs_no_ray(capsys: pytest.CaptureFixture[str]) -> None:
    before = "ray" in sys.modules
    assert list(_squares(5, workers=1)) == [0, 1, 4, 9, 16]
    assert ("ray" in sys.modules) == before


def test_nothing_to_do() -> None:
    assert list(_squares(0)) == []


def test_works_only_as_it_is_asked() -> None:
    begun: list[int] = []
    results = parallel.map(lambda item: begun.append(item), range(9), title="", unit="", workers=1)
    next(results)
    next(results)
    assert begun == [0, 1]


def test_amounts_are_shown_as_a_rate(capsys: pytest.CaptureFixture[str]) -> None:
    list(_squares(4, workers=1, amount=int, of="frames", done=6))
    shown = capsys.readouterr().out
    assert "Squaring" in shown
    assert "10/10 numbers" in shown
    assert "frames/s" in shown


def test_an_error_arrives_as_it_is() -> None:
    with pytest.raises(ValueError, match=SQRT):
        list(parallel.map(math.sqrt, [1.0, -1.0], title="", unit="", workers=1))


@pytest.mark.ray
class TestOnRay:
    """Several workers."""

    def test_in_order_and_stopped_at_the_end(self, capfd: pytest.CaptureFixture[str]) -> None:
        import ray

        assert list(_squares(20, workers=2)) == [item * item for item in range(20)]
        assert not ray.is_initialized()
        shown = capfd.readouterr()
        assert shown.err == ""
        assert shown.out.count("\n") <= 2

    def test_uses_the_ray_that_runs_and_leaves_it(self) -> None:
        import ray

        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
        try:
            assert list(_squares(5)) == [0, 1, 4, 9, 16]
            assert ray.is_initialized()
            with pytest.raises(ValueError, match=SQRT):
                list(parallel.map(math.sqrt, [1.0, -1.0, 2.0], title="", unit="", workers=2))
            inside = ray.remote(num_cpus=2)(lambda: list(parallel.map(abs, [-1, -2], title="", unit="")))
            assert ray.get(inside.remote(), timeout=30) == [1, 2]
            results = _squares(50, workers=2)
            assert next(results) == 0
            results.close()  # type: ignore[attr-defined]
        finally:
            ray.shutdown()


def test_off_a_terminal_a_line_says_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(parallel, "LINE_EVERY_S", 0.0)
    list(_squares(3, workers=1, done=1))
    assert "Squaring: 2/4 numbers" in capsys.readouterr().out
