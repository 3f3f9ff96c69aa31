"""The log of a run: what Ray and the project say, in its folder and not on the terminal."""

import logging

from htt import console, driver_log


def test_written_holds_what_ray_and_the_project_say(tmp_path, capsys):
    ray = logging.getLogger("ray.tune.somewhere")
    with driver_log.off_screen(), driver_log.written(tmp_path):
        ray.info("a trial began")
        ray.error("a trial failed")
        console.out.print("trial 1 ended")
        console.err.print("the store is away")
    ray.info("after it")
    said = (tmp_path / driver_log.FILE).read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in said] == [
        "INFO ray.tune.somewhere: a trial began",
        "ERROR ray.tune.somewhere: a trial failed",
        "INFO htt: trial 1 ended",
        "WARNING htt: the store is away",
    ]
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("trial 1 ended\n", "the store is away\n")


def test_written_goes_on_in_the_log_of_before(tmp_path):
    for word in ("first", "again"):
        with driver_log.written(tmp_path):
            console.out.print(word)
    assert [line.split()[-1] for line in (tmp_path / driver_log.FILE).read_text().splitlines()] == ["first", "again"]


def test_written_costs_nothing_where_the_folder_takes_no_file(tmp_path, capsys):
    with driver_log.written(tmp_path / "nowhere"):
        console.out.print("on")
    assert capsys.readouterr().out == "on\n"


def test_off_screen_gives_rays_log_back():
    logger = logging.getLogger("ray")
    before = (logger.handlers[:], logger.level, logger.propagate)
    with driver_log.off_screen():
        files = [one for one in logger.handlers if isinstance(one, logging.FileHandler | logging.NullHandler)]
        assert logger.handlers == files, "pytest has one of its own"
    assert (logger.handlers, logger.level, logger.propagate) == before
