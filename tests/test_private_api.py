"""Private or undocumented parts of Ray and Optuna that this project uses: each must exist in the installed version.

No public equivalent exists for any of them. If one of these tests fails after an upgrade, adapt the file that it names.
"""

import importlib
import inspect

import pytest
from optuna.storages.journal import JournalFileSymlinkLock
from ray.tune.experiment import Experiment

from tune.searchers.generator import SPEC
from tune.searchers.optuna_study import LOCK_SUFFIX

CONTROLLER, CHECKPOINTS = "ray.tune.execution.tune_controller:TuneController", "ray.train._internal.checkpoint_manager:"
SNAPSHOT = "ray.train.v2._internal.execution.checkpoint.checkpoint_manager:_CheckpointManagerState"
USES = [
    # file that uses it, owner, attributes or parameters, reason
    ("tune/execution/controller.py", CONTROLLER, "_trials _trial_metadata on_step_end", "drops ended trials"),
    ("tune/execution/controller.py", CONTROLLER, "_stopped_trials _failed_trials _live_trials", "drops ended trials"),
    ("tune/execution/controller.py", CONTROLLER, "_trials_to_cache _trial_to_actor", "drops ended trials"),
    ("tune/execution/controller.py", "ray.tune.tune", "TuneController", "replaces the controller"),
    ("tune/execution/ray_errors.py", "ray.air.execution._internal.actor_manager:RayActorManager",
     "_actor_task_failed", "fails one trial, not the search, for an unknown error"),
    ("tune/execution/ray_errors.py", "ray.air.execution._internal.actor_manager:RayActorManager._actor_task_failed",
     "tracked_actor_task exception", "fails one trial, not the search, for an unknown error"),
    ("tune/execution/restore.py", f"{CHECKPOINTS}_CheckpointManager", "checkpoint_config", "chooses a checkpoint"),
    ("tune/execution/restore.py", "ray.train._internal.session:_TrainingResult", "checkpoint metrics",
     "chooses a checkpoint"),
    ("tune/execution/restore.py", "ray.tune.experiment:Trial", "storage run_metadata on_checkpoint checkpoint",
     "chooses a checkpoint"),
    ("tune/execution/restore.py", "ray.train._internal.storage:StorageContext",
     "storage_filesystem trial_fs_path current_checkpoint_index", "chooses a checkpoint"),
    ("tune/execution/messages.py", "ray.tune.experiment:Trial", "get_pickled_error get_error error_file last_result",
     "finds the error of a trial"),
    ("tune/execution/trainable.py", "ray.tune.integration.ray_train:TuneReportCallback.after_report",
     "run_context metrics checkpoint", "marks an epoch without a needed metric as failed"),
    ("tune/execution/trainable.py", "ray.tune.integration.ray_train", "CHECKPOINT_PATH_KEY", "reports a checkpoint"),
    ("tune/execution/trainable.py", "ray.tune.experiment:Experiment", "get_trainable_name", "resumes older runs"),
    ("tune/searchers/generator.py", "ray.tune.experiment:Trial", f"config trial_id experiment_tag {' '.join(SPEC)}",
     "names trials by the searcher"),
    ("tune/searchers/generator.py", "ray.tune.experiment:Trial", "stopping_criterion placement_group_factory",
     "names trials by the searcher"),
    ("tune/searchers/generator.py", "ray.tune.search:SearchGenerator", "create_trial_if_possible set_finished",
     "names trials by the searcher"),
    ("tune/searchers/generator.py", "ray.tune.search:SearchGenerator", "is_finished get_state set_state",
     "lets a restored run have more trials"),
    ("tune/searchers/generator.py", "ray.tune.search:ConcurrencyLimiter", "live_trials max_concurrent",
     "looks for no name while no trial may start"),
    ("tune/searchers/generator.py", "ray.tune.search:Searcher", "save_to_dir restore_from_dir", "saves no state"),
    ("tune/searchers/scheduler.py", "ray.tune.schedulers:ASHAScheduler",
     "on_trial_add on_trial_result on_trial_remove set_search_properties", "restores the rungs"),
    ("tune/searchers/recent_tpe.py", "optuna.samplers._tpe.sampler:_split_trials", "study trials n_below",
     "bounds the cost of TPE"),
    ("tune/searchers/recent_tpe.py", "optuna:Study._get_trials", "deepcopy states use_cache", "bounds the cost of TPE"),
    ("tune/searchers/recent_tpe.py", "optuna.samplers:TPESampler", "_search_space", "bounds the cost of TPE"),
    ("tune/searchers/optuna_journal.py", "optuna.storages.journal:JournalFileBackend", "_file_path append_logs",
     "cuts a journal back after a failed append"),
    ("cluster/trainer.py", SNAPSHOT, "checkpoint_results checkpoint_report_indices latest_checkpoint_result",
     "rewrites Ray Train's truncated list of checkpoints"),
    ("cluster/trainer.py", SNAPSHOT, "current_report_index pending_training_results pending_validation_specs",
     "rewrites Ray Train's truncated list of checkpoints"),
    ("cluster/connect.py", "ray._private.authentication.authentication_token_setup",
     "maybe_enable_token_auth_if_token_available", "sends the token to a cluster at an address"),
    ("htt/heartbeat.py", "ray._private.worker", "_global_node global_worker", "notices a dead Ray"),
    ("htt/heartbeat.py", "ray._private.node:Node", "dead_processes", "notices a dead Ray"),
    ("htt/parallel.py", "ray._private.ray_logging", "stdout_deduplicator stderr_deduplicator",
     "prints no messages of other machines"),
]  # fmt: skip


def lacking(owner, attributes):
    """Return what the installed version lacks of an owner, "module" or "module:name.name", or None."""
    module, _, path = owner.partition(":")
    try:
        found = importlib.import_module(module)
        for name in filter(None, path.split(".")):
            found = getattr(found, name)
    except (ImportError, AttributeError):
        return owner
    known = set(dir(found)) | set(getattr(found, "model_fields", ()))
    if callable(found):
        known |= set(inspect.signature(found).parameters)
    source = inspect.getsource(found)
    missing = [name for name in attributes.split() if name not in known and f"self.{name}" not in source]
    return f"{', '.join(missing)} of {owner}" if missing else None


@pytest.mark.parametrize(("file", "owner", "attributes", "reason"), USES)
def test_installed_version_has_private_api(file, owner, attributes, reason):
    missing = lacking(owner, attributes)
    assert missing is None, f"{file} {reason} by private API that the installed version lacks: {missing}."


def test_missing_private_api_is_named():
    assert lacking("ray.no_such_module:Trial", "x") == "ray.no_such_module:Trial"
    assert lacking("ray.tune.experiment:NoSuchTrial", "x") == "ray.tune.experiment:NoSuchTrial"
    assert lacking("ray.tune.experiment:Trial", "config no_such") == "no_such of ray.tune.experiment:Trial"


def test_experiment_has_the_settings_that_a_trial_takes():
    spec = Experiment("canary", lambda config: None).spec
    missing = {*SPEC, "run", "config", "stop", "resources_per_trial"} - set(spec)
    assert not missing, f"tune/searchers/generator.py reads settings that Experiment.spec lacks: {missing}."


def test_optuna_names_the_lock_of_a_journal_as_expected(tmp_path):
    journal = tmp_path / "journal"
    journal.touch()
    lock = JournalFileSymlinkLock(str(journal))
    assert lock.acquire()
    try:
        found = (tmp_path / f"journal{LOCK_SUFFIX}").is_symlink()
        assert found, "tune/searchers/optuna_study.py removes stale locks by a name that Optuna does not use."
    finally:
        lock.release()
