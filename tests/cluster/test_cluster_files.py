"""Cluster files: Ray's own code reads each; for AWS it also starts the machines, in a simulation.

KubeRay's schema is no part of Ray; its file is read by Ray's autoscaler, and held against the fields we use as the
operator's Go types (v1) have them.
"""

import ast
import re
from pathlib import Path

import jsonschema
import pytest
import yaml
from packaging.requirements import Requirement
from ray.autoscaler._private import commands, util
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

ROOT = Path(__file__).resolve().parents[2]
FILES = ("cluster.yaml", "cluster/deploy/on_premises.yaml", "cluster/deploy/gcp.yaml")
TOKEN = "~/.ray/auth_token"


def load(name):
    return yaml.safe_load((ROOT / name).read_text())


def pins():
    lines = (ROOT / "cluster" / "deploy" / "requirements.txt").read_text().splitlines()
    return {pin.name: pin for pin in (Requirement(line) for line in lines if line and not line.startswith("#"))}


def project():
    """Return the project table of ``pyproject.toml``."""
    return pytest.importorskip("tomllib").loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(params=FILES)
def name(request):
    return request.param


@pytest.fixture
def prepared(name):
    """Return a file as `ray up` reads it, with the values that Ray adds."""
    return util.prepare_config(load(name))


class TestEach:
    def test_cluster_file_is_valid(self, name, prepared):
        if name == "cluster.yaml":
            pytest.skip("Ray asks AWS first what a machine has; see TestAws")
        util.validate_config(prepared)

    def test_validate_config_refuses_unknown_field(self, prepared):
        with pytest.raises(jsonschema.ValidationError, match="min_workerz"):
            util.validate_config({**prepared, "min_workerz": 1})

    def test_cluster_file_mounts_token_without_containing_it(self, name, prepared):
        assert prepared["file_mounts"][TOKEN] == TOKEN
        assert not re.search(r"RAY_AUTH_TOKEN=|[0-9a-f]{32}", (ROOT / name).read_text())

    def test_head_and_workers_run_the_same_setup(self, prepared):
        ways = {key: prepared[f"{key}_setup_commands"] for key in ("head", "worker")}
        assert all(way[0] == "bash ~/htt_platform/cluster/deploy/setup.sh python3.12" for way in ways.values())
        assert ways["worker"] == ways["head"][:1]

    def test_dashboard_listens_on_localhost_only(self, prepared):
        start = " ".join(prepared["head_start_ray_commands"])
        assert "--dashboard-host=127.0.0.1" in start
        assert "0.0.0.0" not in start
        assert "--disable-usage-stats" in start

    def test_worker_start_commands_join_the_head(self, prepared):
        assert prepared["worker_start_ray_commands"][0] == "ray stop"
        assert "--address=$RAY_HEAD_IP:6379" in prepared["worker_start_ray_commands"][1]
        assert "--port=6379" in " ".join(prepared["head_start_ray_commands"])

    def test_file_mounts_exist(self, prepared):
        sent = {remote: local for remote, local in prepared["file_mounts"].items() if remote != TOKEN}
        assert {f"~/htt_platform/{local}": local for local in ("htt", "tune", "cluster")} == sent
        assert all((ROOT / local).is_dir() for local in sent.values())

    def test_settings_have_comments(self, name):
        """Check for a comment above each setting or above its first line; the head explains how workers start."""
        lines = (ROOT / name).read_text().splitlines()
        tops = [i for i, line in enumerate(lines) if line[:1].isalpha()]
        told = [
            i for i in tops if lines[i - 1].startswith("#") or lines[i + 1].strip().startswith("#") or inner(lines, i)
        ]
        assert [lines[i] for i in tops if i not in told] == ["worker_start_ray_commands:"]


def inner(lines, index):
    """Return True if the first nested setting needs no comment and the next one has its own."""
    return lines[index + 1].strip().startswith(("type:", "gpu:")) and lines[index + 2].strip().startswith("#")


class TestOnPremises:
    def test_on_premises_keeps_all_machines_running(self):
        file = load("cluster/deploy/on_premises.yaml")
        prepared = util.prepare_config(file)
        kind = prepared["available_node_types"]["local.cluster.node"]
        there = len(file["provider"]["worker_ips"])
        assert (kind["min_workers"], kind["max_workers"], prepared["max_workers"]) == (there, there, there)

    def test_on_premises_does_not_count_head_as_worker(self):
        assert (
            "RAY_enable_autoscaler_v2=0 ray start --head"
            in load("cluster/deploy/on_premises.yaml")["head_start_ray_commands"][1]
        )

    def test_on_premises_puts_user_settings_first(self):
        text = (ROOT / "cluster/deploy/on_premises.yaml").read_text()
        first, rest = text.split("# ---- the rest")
        edited = ("cluster_name", "head_ip", "worker_ips", "ssh_user", "ssh_private_key", "setup.sh python")
        assert all(word in first and f"{word}:" not in rest for word in edited)
        assert len([line for line in first.splitlines() if line and not line.lstrip().startswith("#")]) == 10

    def test_on_premises_is_bootstrapped_by_ray(self):
        bootstrapped = commands._bootstrap_config(load("cluster/deploy/on_premises.yaml"), no_config_cache=True)
        assert bootstrapped["provider"]["head_ip"] == "192.0.2.11"


@pytest.mark.parametrize("name", ["cluster.yaml", "cluster/deploy/gcp.yaml"])
def test_cloud_files_reserve_head_and_scale_workers_from_zero(name):
    prepared = util.prepare_config(load(name))
    head, gpu = (prepared["available_node_types"][kind] for kind in ("head", "gpu"))
    assert (head["resources"]["CPU"], head["max_workers"]) == (0, 0)
    assert (gpu["min_workers"], gpu["max_workers"]) == (0, prepared["max_workers"])


def test_gcp_uses_spot_machines_for_workers_only():
    kinds = load("cluster/deploy/gcp.yaml")["available_node_types"]
    wanted = {key: value for entry in kinds["gpu"]["node_config"]["scheduling"] for key, value in entry.items()}
    assert wanted["provisioningModel"] == "SPOT"
    assert wanted["onHostMaintenance"] == "TERMINATE"
    assert "scheduling" not in kinds["head"]["node_config"]
    assert kinds["gpu"]["resources"]["GPU"] == 1


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    """Simulated AWS with the roles of ``cluster/deploy/aws_roles.yaml``, and a home folder for the key pair."""
    boto3, moto = pytest.importorskip("boto3"), pytest.importorskip("moto")
    region = load("cluster.yaml")["provider"]["region"]
    from moto.ec2.models import instance_types

    kinds = [kind["node_config"]["InstanceType"] for kind in load("cluster.yaml")["available_node_types"].values()]
    known = {kind: instance_types.INSTANCE_TYPES[kind] for kind in kinds}
    with moto.mock_aws(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(instance_types, "INSTANCE_TYPES", known)  # the other 900 take Ray most of a minute to read
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        boto3.client("cloudformation", region_name=region).create_stack(
            StackName="htt",
            TemplateBody=(ROOT / "cluster" / "deploy" / "aws_roles.yaml").read_text(),
            Parameters=[{"ParameterKey": "Bucket", "ParameterValue": "my-bucket"}],
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        yield lambda service: boto3.client(service, region_name=region)


@pytest.fixture(scope="module")
def bootstrapped(cloud):
    """Return the AWS file after `ray up` has completed it, with an image ID."""
    text = (ROOT / "cluster.yaml").read_text()
    image = cloud("ec2").describe_images()["Images"][0]["ImageId"]
    config = yaml.safe_load(text.replace("ami-00000000000000000", image))
    return commands._bootstrap_config(config, no_config_cache=True)


class TestAws:
    def test_aws_bootstrap_finds_resources_of_machines(self, bootstrapped):
        kinds = bootstrapped["available_node_types"]
        assert kinds["head"]["resources"]["CPU"] == 0
        assert (kinds["gpu"]["resources"]["CPU"], kinds["gpu"]["resources"]["GPU"]) == (4, 1)

    def test_aws_bootstrap_makes_key_readable_by_user_only(self, bootstrapped):
        key = Path(bootstrapped["auth"]["ssh_private_key"])
        assert key.is_file()
        assert key.stat().st_mode & 0o077 == 0

    def test_aws_starts_on_demand_head_and_spot_workers(self, bootstrapped, cloud):
        from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

        provider = AWSNodeProvider(bootstrapped["provider"], bootstrapped["cluster_name"])
        for kind in ("head", "gpu"):
            node = bootstrapped["available_node_types"][kind]["node_config"]
            provider.create_node(dict(node), {"ray-node-type": kind, "ray-user-node-type": kind}, 1)
        found = cloud("ec2").describe_instances()["Reservations"]
        machines = {machine["InstanceType"]: machine for one in found for machine in one["Instances"]}
        head, worker = machines["m7i.large"], machines["g6.xlarge"]
        assert "InstanceLifecycle" not in head
        assert worker["InstanceLifecycle"] == "spot"
        profiles = [machine["IamInstanceProfile"]["Arn"].rpartition("/")[2] for machine in (head, worker)]
        assert profiles == ["htt-head", "htt-worker"]
        assert {machine["MetadataOptions"]["HttpTokens"] for machine in (head, worker)} == {"required"}

    def test_aws_worker_role_allows_bucket_only(self, cloud):
        iam = cloud("iam")
        attached = iam.list_attached_role_policies(RoleName="htt-worker")["AttachedPolicies"]
        assert [policy["PolicyName"] for policy in attached] == ["htt-bucket"]
        assert iam.list_role_policies(RoleName="htt-worker")["PolicyNames"] == []
        version = iam.get_policy_version(PolicyArn=attached[0]["PolicyArn"], VersionId="v1")["PolicyVersion"]
        allowed = version["Document"]["Statement"]
        assert {rule["Resource"] for rule in allowed} == {"arn:aws:s3:::my-bucket", "arn:aws:s3:::my-bucket/*"}
        assert all(action.startswith("s3:") for rule in allowed for action in rule["Action"])

    @pytest.fixture
    def of_the_head(self, cloud):
        written = cloud("iam").get_role_policy(RoleName="htt-head", PolicyName="workers")["PolicyDocument"]
        return ast.literal_eval(written)["Statement"]  # moto keeps it as Python writes it

    def test_aws_head_role_stops_and_tags_machines_of_clusters_only(self, of_the_head):
        """Tags are set at the start of a machine, or on machines of a cluster (``set_node_tags`` of Ray's provider)."""
        stops = [rule for rule in of_the_head if "ec2:TerminateInstances" in rule["Action"]]
        assert [rule["Condition"] for rule in stops] == [{"StringLike": {"ec2:ResourceTag/ray-cluster-name": "*"}}]
        tags = [rule for rule in of_the_head if any(action.startswith("ec2:Create") for action in rule["Action"])]
        assert [rule["Condition"] for rule in tags] == [
            {"StringEquals": {"ec2:CreateAction": "RunInstances"}},
            {"StringLike": {"ec2:ResourceTag/ray-cluster-name": "*"}},
        ]
        assert tags[1]["Resource"].endswith(":instance/*")
        assert all("*" not in action.replace("Describe*", "") for rule in of_the_head for action in rule["Action"])

    def test_aws_head_role_passes_worker_role_only(self, cloud, of_the_head):
        rules = of_the_head
        worker = cloud("iam").get_role(RoleName="htt-worker")["Role"]["Arn"]
        assert [rule["Resource"] for rule in rules if "iam:PassRole" in rule["Action"]] == [worker]


TEXT, COUNT = {"type": "string"}, {"type": "integer", "minimum": 0}


def fields(required, **more):
    """Return a matcher of an object with exactly these fields."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(required),
        "properties": {**required, **more},
    }


QUANTITIES = {"type": "object", "additionalProperties": TEXT}
CONTAINER = fields(
    {"name": TEXT, "image": TEXT, "resources": fields({"requests": QUANTITIES, "limits": QUANTITIES})},
    ports={"type": "array", "items": fields({"containerPort": COUNT, "name": TEXT})},
    volumeMounts={"type": "array", "items": fields({"name": TEXT, "mountPath": TEXT})},
)
POD = fields(
    {"containers": {"type": "array", "minItems": 1, "items": CONTAINER}},
    tolerations={"type": "array", "items": fields({"key": TEXT, "operator": TEXT, "effect": TEXT})},
    volumes={"type": "array", "items": fields({"name": TEXT, "emptyDir": fields({"medium": TEXT, "sizeLimit": TEXT})})},
)
GROUP = {"rayStartParams": QUANTITIES, "template": fields({"spec": POD})}
WORKERS = fields({**GROUP, "groupName": TEXT, "minReplicas": COUNT, "maxReplicas": COUNT}, replicas=COUNT)
SPECS = {
    "RayCluster": fields(
        {
            "rayVersion": TEXT,
            "authOptions": fields({"mode": {"const": "token"}}),
            "headGroupSpec": fields(GROUP, serviceType={"const": "ClusterIP"}),
            "workerGroupSpecs": {"type": "array", "items": WORKERS},
        },
        enableInTreeAutoscaling={"type": "boolean"},
        autoscalerOptions=fields({}, idleTimeoutSeconds=COUNT, upscalingMode={"enum": ["Default", "Conservative"]}),
    ),
    "RayJob": fields(
        {"entrypoint": TEXT, "clusterSelector": fields({"ray.io/cluster": TEXT})},
        entrypointNumCpus=COUNT,
        backoffLimit=COUNT,
    ),
}


class TestKubernetes:
    @pytest.fixture
    def objects(self):
        text = (ROOT / "cluster" / "deploy" / "kuberay.yaml").read_text()
        return {one["kind"]: one for one in yaml.safe_load_all(text)}

    @pytest.mark.parametrize("kind", SPECS)
    def test_kuberay_objects_have_fields_of_the_operator(self, objects, kind):
        named = fields({"name": TEXT, "namespace": TEXT})
        whole = {"apiVersion": {"const": "ray.io/v1"}, "kind": {"const": kind}, "metadata": named, "spec": SPECS[kind]}
        jsonschema.validate(objects[kind], fields(whole))

    def test_kuberay_file_is_read_by_autoscaler(self, objects):
        derived = _derive_autoscaling_config_from_ray_cr(objects["RayCluster"])
        head, gpu = (derived["available_node_types"][kind] for kind in ("headgroup", "gpu"))
        assert head["resources"]["CPU"] == 0
        assert (gpu["resources"]["CPU"], gpu["resources"]["GPU"]) == (4, 1)
        assert (gpu["min_workers"], gpu["max_workers"], derived["idle_timeout_minutes"]) == (1, 8, 10)

    def test_kuberay_job_selects_the_cluster(self, objects):
        assert (
            objects["RayJob"]["spec"]["clusterSelector"]["ray.io/cluster"] == objects["RayCluster"]["metadata"]["name"]
        )
        namespaces = {one["metadata"]["namespace"] for one in objects.values()}
        assert len(namespaces) == 1

    def test_kuberay_ray_version_equals_the_pinned_version(self, objects):
        assert str(pins()["ray"].specifier) == f"=={objects['RayCluster']['spec']['rayVersion']}"
        assert "bash cluster/deploy/setup.sh python3.12" in (ROOT / "cluster" / "deploy" / "Dockerfile").read_text()


class TestPins:
    def test_requirements_pin_dependencies_within_bounds(self):
        wanted = [Requirement(line) for line in project()["dependencies"]]
        assert set(pins()) == {one.name for one in wanted}
        for one in wanted:
            (pin,) = pins()[one.name].specifier
            assert pin.operator == "=="
            assert one.specifier.contains(pin.version), one.name
            assert pins()[one.name].extras == one.extras

    @pytest.mark.parametrize(("name", "cloud"), [("cluster.yaml", "aws"), ("cluster/deploy/gcp.yaml", "gcp")])
    def test_cloud_packages_are_pinned_within_bounds(self, name, cloud):
        (command,) = load(name)["head_setup_commands"]
        package, _, version = command.split()[-1].partition("==")
        bounds = Requirement(project()["optional-dependencies"][cloud][0])
        assert bounds.name == package
        assert bounds.specifier.contains(version)
