import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from pyarrow import fs

import object_stores
from cluster import launch
from cluster.preflight import __main__ as command
from cluster.preflight import check as preflight
from cluster.preflight import probe
from cluster.preflight.faults import Fault, Requirements
from cluster.preflight.nodes import Node
from cluster.storage import open_uri
from htt.config import BackboneConfig, override
from htt.errors import CheckpointError, ClusterError, ConfigError
from htt.testing import tiny_config
from tune import ablate, search

ROOT = Path(__file__).resolve().parents[3]
ALONE = Node("f1", "laptop", "127.0.0.1", 0.0)
RACK = [Node("f1", "a", "10.0.0.1", 0.0), Node("f2", "b", "10.0.0.2", 2.0)]


def fault(machine, check="disk", found="0.2 GB free"):
    return Fault(machine, check, found, "1.0 GB", "Free some space.")


def with_root(root):
    return override(tiny_config(), {"data.root": root})


def test_raise_faults_writes_one_fault_as_sentence():
    with pytest.raises(ClusterError) as caught:
        preflight.raise_faults([fault("a")])
    assert str(caught.value) == ("a is not ready. disk: 0.2 GB free; expected 1.0 GB. Free some space.")
    assert caught.value.exit_code == 2
    preflight.raise_faults([])


def test_raise_faults_groups_equal_faults_in_table():
    faults = [fault("a"), fault("b"), fault("b", found="[0.1] GB free"), fault("a"), fault("c", "GPUs")]
    with pytest.raises(ClusterError) as caught:
        preflight.raise_faults(faults)
    first, head, *rows = str(caught.value).splitlines()
    assert first == "The machines are not ready; 5 faults:"
    assert head.split() == ["Machine", "Check", "Found", "Expected", "Remedy"]
    assert [re.split(r"  +", row)[:3] for row in rows] == [
        ["a and b", "disk", "0.2 GB free"],
        ["b", "disk", "[0.1] GB free"],
        ["c", "GPUs", "0.2 GB free"],
    ]


def test_table_fits_given_width():
    text = preflight.table([fault("machine-with-a-long-name", found="word " * 30)], width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("word") == 30


def test_requirements_list_each_root_once():
    configs = [with_root("/a"), with_root("/b"), with_root("/a"), tiny_config()]
    required = preflight.requirements(configs, RACK, storage="s3://bucket/runs/x", workers=2, gpus=0.0)
    assert required == Requirements(roots=("/a", "/b"), storage="s3://bucket/runs/x", gpus=False, gloo=True)


@pytest.mark.parametrize(
    ("machines", "workers", "gpus", "expected"),
    [
        (RACK, 2, 0.0, (False, True)),
        (RACK, 1, 0.0, (False, False)),
        (RACK, 2, 0.5, (True, False)),
        (RACK, None, None, (True, False)),
        (RACK[:1], None, None, (False, False)),
        ([RACK[0], Node("f3", "c", "10.0.0.3", 0.0)], None, None, (False, True)),
        ([ALONE, ALONE], 2, 0.0, (False, False)),
    ],
)
def test_requirements_check_gpus_and_gloo_only_if_used(machines, workers, gpus, expected):
    required = preflight.requirements([tiny_config()], machines, storage="runs", workers=workers, gpus=gpus)
    assert (required.gpus, required.gloo) == expected


def test_requirements_make_storage_path_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert preflight.requirements([tiny_config()], [ALONE], storage="runs/x").storage == str(tmp_path / "runs/x")


@pytest.mark.parametrize("name", ["data.root", "--storage"])
def test_requirements_refuse_password_without_showing_it(name):
    places = {"data.root": "s3://bucket/data", "--storage": "s3://bucket/runs", name: "s3://KEY:hush@bucket/x"}
    with pytest.raises(ConfigError, match=f"{name} must not contain a password, key or token") as refused:
        preflight.requirements([with_root(places["data.root"])], RACK, storage=places["--storage"])
    assert "hush" not in str(refused.value)


@pytest.fixture
def worker(monkeypatch, tmp_path, cache):
    """Return a function that starts a worker on a given machine with given code, after the first check."""
    place = {"id": "f9", "rank": 0}
    monkeypatch.setattr(preflight.nodes, "nodes", lambda: RACK)
    monkeypatch.setattr(preflight.nodes, "this_node", lambda: place["id"])
    context = SimpleNamespace(get_local_rank=lambda: place["rank"])
    monkeypatch.setattr("ray.train.get_context", lambda: context)
    monkeypatch.setattr("cluster.revision.digests", lambda: {"htt/model.py": place.get("code", "1")})
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").touch()
    begins = preflight.worker_check(tiny_config(), storage=str(tmp_path), mark="run/config.yaml", workers=2, gpus=1.0)

    def begin(**where):
        place.update(where)
        pickle.loads(pickle.dumps(begins))()

    return begin


def test_worker_check_runs_on_machine_that_joined_later(worker, tmp_path):
    worker()
    with pytest.raises(ClusterError, match=r" is not ready\. code: htt/model\.py differs, commit"):
        worker(code="2")
    worker(code="2", id="f2")  # checked by the driver at the start
    worker(id="f9", rank=1)  # checked by the first worker of that machine
    (tmp_path / "run" / "config.yaml").unlink()
    with pytest.raises(ClusterError, match=r"storage: .* does not contain the file that the driver wrote"):
        worker(code="1", rank=0)


def test_marked_removes_mark_and_new_folders(tmp_path):
    folder = tmp_path / "runs" / "x"
    with preflight.marked(str(folder)) as mark:
        assert [path.name for path in folder.iterdir()] == [mark]
    assert list(tmp_path.iterdir()) == []


def test_marked_keeps_other_files(tmp_path):
    folder = tmp_path / "runs" / "x"
    with preflight.marked(str(folder)):
        (folder / "other").touch()
    assert [path.name for path in folder.iterdir()] == ["other"]


@pytest.mark.parametrize("place", ["/dev/null/runs", "nonsense://runs", None])
def test_marked_yields_none_if_not_writable(place):
    with preflight.marked(place) as mark:
        assert mark is None


@pytest.fixture
def alone(monkeypatch, tmp_path):
    monkeypatch.setattr(preflight.nodes, "nodes", lambda: [ALONE])
    monkeypatch.setattr(preflight.nodes, "this_node", lambda: ALONE.id)
    monkeypatch.chdir(tmp_path)


def check(storage, **options):
    preflight.check([tiny_config()], storage=str(storage), **{"workers": 1, "gpus": 0.0, **options})


def test_check_of_ready_machine_prints_nothing(alone, tmp_path, capsys):
    check(tmp_path / "runs" / "x")
    assert capsys.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_check_reports_unwritable_storage(alone, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ClusterError, match=r"laptop is not ready\. storage: .*Not a directory.*Set --storage"):
        check(tmp_path / "file" / "runs")


def test_check_reports_full_disk(alone, tmp_path, monkeypatch):
    monkeypatch.setattr(probe.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 5, 4))
    with pytest.raises(
        ClusterError, match=r"laptop is not ready\. disk: 0\.0 GB free for .*expected 1\.0 GB\. Free some"
    ):
        check(tmp_path)


def test_check_reports_gpus_that_torch_does_not_find(alone, tmp_path, monkeypatch):
    monkeypatch.setattr(preflight.nodes, "nodes", lambda: [Node("f1", "laptop", "127.0.0.1", 1.0)])
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    check(tmp_path)  # requests no GPU
    with pytest.raises(
        ClusterError, match=r"GPUs: torch \S+ finds 0; expected the 1 that Ray may allocate\. Install torch"
    ):
        check(tmp_path, gpus=0.5)


def test_ready_message_counts_machines_and_gpus():
    with_data = preflight.ready_message(RACK, Requirements(roots=("/a",)))
    assert with_data == "2 machines, 2 GPUs: same code and versions, data and storage reachable."
    assert (
        preflight.ready_message([ALONE], Requirements())
        == "1 machine, 0 GPUs: same code and versions, storage reachable."
    )


def test_preflight_refuses_both_preset_and_config(capsys):
    from htt import console

    with pytest.raises(SystemExit) as caught:
        console.run(command.Options, command.main, ["--preset", "quick", "--config", "best.yaml"])
    assert caught.value.code == 2
    assert "Expected at most one of --config FILE and --preset NAME; got both" in capsys.readouterr().err


PROGRAM = """
import sys
from pathlib import Path
from ray.cluster_utils import Cluster
from cluster import connect
from cluster.preflight import __main__ as command
from cluster.preflight import check as preflight
from cluster.preflight import nodes
from htt import console
from htt.config import BackboneConfig, override
from htt.testing import tiny_config
from tune import ablate, search

work, other = Path(sys.argv[1]), sys.argv[2]
nodes.START_S = nodes.CHECKS_S = 600.0  # enough on a loaded machine
small = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
cluster = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
config = override(tiny_config(), {"data.root": str(work / "shards")})

def look(storage, gpus):
    try:
        preflight.check([config], storage=str(storage), workers=1, gpus=gpus)
    except preflight.ClusterError as error:
        console.out.print(str(error), markup=False)
    console.out.print("---")

with connect.connect(cluster.address):
    twin = cluster.add_node(**small)
    look(work / "runs", 0.0)
    cluster.remove_node(twin)
    environment = {"PYTHONPATH": other, "HTT_CACHE": "/dev/null/cache"}
    cluster.add_node(**small, num_gpus=1, env_vars=environment)
    look(work / "runs", 1.0)
    nodes.START_S = 0.001
    look(work / "runs", 0.0)
    nodes.START_S = connect.REACH_S = 600.0
    console.out.print([report.error for report in nodes.gather(nodes.nodes(), {"gpus": False})], markup=False)
    console.out.print("---")
    arguments = ["--address", cluster.address, "--storage", str(work / "runs"), "--json"]
    try:
        console.run(command.Options, command.main, arguments)
    except SystemExit as left:
        print("left with", left.code)
cluster.shutdown()
"""


@pytest.fixture
def copy(tmp_path):
    """Return a copy of the project with an edited file."""
    other = tmp_path / "other"
    for room in ("htt", "tune", "cluster"):
        shutil.copytree(ROOT / room, other / room, ignore=shutil.ignore_patterns("__pycache__"))
    with (other / "htt" / "hand.py").open("a") as file:
        file.write("# edited\n")
    return other


@pytest.fixture
def shards(tmp_path):
    from htt.data.shards import manifest

    shard = manifest.Shard(file="train-0.arrow", bytes=3, sha256="0" * 64, clips=1, frames=8)
    size = {"hands": 2, "width": 64, "height": 36, "quality": 92}
    made = manifest.Manifest(
        source="noise", actions=[], objects=[], pixels="", splits={"train": [shard]}, wanted={}, **size
    )
    manifest.write(tmp_path / "shards", made)
    (tmp_path / "shards" / "train-0.arrow").write_bytes(b"abc")


@pytest.fixture
def answer(tmp_path, copy, shards):
    """Return the parts of the output of PROGRAM, and its errors."""
    names = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "HTT_CACHE")
    env = {name: value for name, value in os.environ.items() if name not in names}
    short = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # a socket's path is 107 bytes at most
    env |= {"PYTHONPATH": str(ROOT), "RAY_TMPDIR": short, "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    env["RAY_raylet_start_wait_time_s"] = "600"  # enough on a loaded machine
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), str(copy)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path, check=False)
    finally:
        shutil.rmtree(short, ignore_errors=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("---\n"), done.stderr


@pytest.mark.ray
def test_preflight_names_all_faults_of_a_differing_machine(answer):
    (twins, other, silent, failing, plain), error = answer
    assert twins == "2 machines, 0 GPUs: same code and versions, data and storage reachable.\n"

    first, _, *rows = other.splitlines()
    assert first == "The machines are not ready; 3 faults:"
    cells = [re.split(r"  +", row)[:3] for row in rows if not row.startswith(" ")]
    assert [row[1] for row in cells] == ["cache", "code", "GPUs"]
    assert len({row[0] for row in cells}) == 1
    assert "htt/hand.py differs" in other
    assert "Not a directory: '/dev/null/cache'" in " ".join(other.split())
    assert re.search(r"torch \S+ finds 0 +the 1 that Ray may allocate", other)

    assert silent.count("no answer within 0.001 s") == 1  # one row for both machines

    assert failing.strip() == "[\"KeyError: 'cache'\", \"KeyError: 'cache'\"]"

    *printed, left = plain.splitlines()
    said = json.loads("\n".join(printed))
    assert left == "left with 2"
    assert [fault["check"] for fault in said["faults"]] == ["cache", "code", "GPUs"]
    assert len(said["machines"]) == 2
    assert all(-2 < least <= most < 2 for least, most in (each["clock_s"] for each in said["machines"]))
    assert "The machines are not ready" in error


def test_marked_leaves_bucket_unchanged(tmp_path, monkeypatch):
    for name, value in object_stores.CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    store = object_stores.Store(tmp_path).start()
    try:
        storage = store.uri("runs/x")
        with preflight.marked(storage) as mark:
            assert mark is not None
            assert probe.use_storage(storage, mark)
        assert not probe.use_storage(storage, mark)
        system, path = open_uri(store.uri(""))
        found = system.get_file_info(fs.FileSelector(path, recursive=True))
        assert [entry.path for entry in found if entry.type == fs.FileType.File] == []
        with preflight.marked(store.uri("runs", bucket="none")) as mark:
            assert mark is None
    finally:
        store.kill()


def test_check_backbones_refuses_missing_weights(tmp_path):
    random, gone = BackboneConfig(name="resnet_tiny"), BackboneConfig(name="resnet_tiny", weights=f"{tmp_path}/no.pth")
    preflight.check_backbones([random, random])
    preflight.check_backbones([gone, random], one_is_enough=True)
    for backbones, enough in (([random, gone], False), ([gone], True)):
        with pytest.raises(CheckpointError, match=r"No such file of weights: .*no\.pth"):
            preflight.check_backbones(backbones, one_is_enough=enough)


def test_commands_check_weights_before_starting_ray(tmp_path, refused):
    weights = f"model.backbone.weights={tmp_path}/no.pth"
    commands = [
        (launch, ["--preset", "quick", "--set", weights]),
        (search, ["--set", weights]),
        (ablate, ["--study", "cues", "--preset", "quick", "--set", weights]),
    ]
    for script, words in commands:
        said = refused(script, *words, cwd=tmp_path)
        assert "No such file of weights" in said
        assert "Starting on" not in said
    assert not list(tmp_path.glob("runs/*"))
