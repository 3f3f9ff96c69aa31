"""Settings that keep Ray Tune from printing and from handling signals."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator

from htt import driver_log

TUNE_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # trials.parquet replaces the loggers
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the recorder installs its own
    "TUNE_GLOBAL_CHECKPOINT_S": "2",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_RESULT_BUFFER_LENGTH": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress Ray's tables, warnings and deprecation messages; the project's own display replaces them."""
    before = {name: os.environ.get(name) for name in TUNE_SETTINGS}
    os.environ.update(TUNE_SETTINGS)
    try:
        with driver_log.off_screen(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, old in before.items():
            os.environ.pop(name, None)
            if old is not None:
                os.environ[name] = old
