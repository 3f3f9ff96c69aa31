"""Preemption notices, from a metadata server like those of AWS and Google Cloud."""

import http.server
import json
import subprocess
import threading
from datetime import datetime, timedelta, timezone

import pytest

from cluster import preemption
from htt.errors import ClusterError


class Metadata(http.server.BaseHTTPRequestHandler):
    """Metadata service of one machine."""

    def do_PUT(self):
        self.answer("secret" if self.path == "/latest/api/token" else None)

    def do_GET(self):
        self.server.asked += 1
        if (
            self.path == "/latest/meta-data/spot/instance-action"
            and self.headers["X-aws-ec2-metadata-token"] != "secret"
        ):
            self.send_error(401)
        elif self.path.startswith("/computeMetadata/") and self.headers["Metadata-Flavor"] != "Google":
            self.send_error(403)
        else:
            self.answer(self.server.says(self.path, self.server.asked))

    def answer(self, text):
        if text is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def metadata():
    """Metadata server; ``says(path, count)`` is its answer to the query number ``count``."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    server.asked, server.says = 0, lambda path, count: None
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_aws_returns_remaining_time_once_announced(metadata):
    ends = datetime.now(timezone.utc) + timedelta(seconds=120)
    action = json.dumps({"action": "terminate", "time": ends.strftime("%Y-%m-%dT%H:%M:%SZ")})
    metadata.says = lambda path, count: action if count > 3 and path.endswith("instance-action") else None
    assert preemption.aws(metadata.url) is None
    left_s = preemption.wait(lambda: preemption.aws(metadata.url), poll_s=0.01)
    assert metadata.asked == 4
    assert 112 < left_s <= 115


def test_gcp_reads_preempted_flag(metadata):
    metadata.says = lambda path, count: {1: "FALSE", 2: "TRUE"}[count] if path.endswith("/preempted") else None
    assert preemption.wait(lambda: preemption.gcp(metadata.url), poll_s=0.01) == 25
    assert metadata.asked == 2


def test_wait_retries_when_cloud_does_not_answer(metadata):
    answers = iter([ConnectionRefusedError(), TimeoutError(), 3.0])

    def look():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert preemption.wait(look, poll_s=0.0) == 0.0


def test_wait_reports_refusal_once_and_polls_less_often(metadata, monkeypatch, capsys):
    pauses, codes = [], iter([403, 403, 403])
    monkeypatch.setattr("time.sleep", pauses.append)

    def answer(self):
        code = next(codes, None)
        self.send_error(code) if code else self.answer("TRUE")

    monkeypatch.setattr(Metadata, "do_GET", answer)
    assert preemption.wait(lambda: preemption.gcp(metadata.url), poll_s=5.0) == 25
    assert pauses == [60.0] * 3
    said = capsys.readouterr().err
    assert said.count("metadata service answers with HTTP Error 403") == 1
    assert "queried every 60 s" in said


def test_wait_retries_after_invalid_answers(capsys):
    answers = iter([json.JSONDecodeError("no", "<html>", 0), KeyError("time"), 3.0])

    def look():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert preemption.wait(look, poll_s=0.0) == 0.0
    assert capsys.readouterr().err.count("metadata service answers with") == 1


@pytest.fixture
def ray_says(monkeypatch):
    """Replace ``ray drain-node``: set its exit codes, and record the time and arguments of each call."""
    told, clock, codes = [], [0.0], iter([0])

    def run(words, check):
        told.append((clock[0], words))
        return subprocess.CompletedProcess(words, next(codes))

    def says(*left):
        nonlocal codes
        codes = iter(left)
        return told

    monkeypatch.setattr("subprocess.run", run)
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    monkeypatch.setattr("time.sleep", lambda pause_s: clock.__setitem__(0, clock[0] + pause_s))
    return says


def test_main_drains_this_node_with_remaining_time(ray_says, monkeypatch, capsys):
    told = ray_says(0)
    monkeypatch.setitem(preemption.CLOUDS, "aws", lambda: 120.5)
    preemption.main(preemption.Options())
    ((_, words),) = told
    assert words[:2] == ["ray", "drain-node"]
    assert words[-2:] == ["--deadline-remaining-seconds", "115"]
    assert "stops this machine in 116 s" in capsys.readouterr().out


def test_drain_retries_with_remaining_time(ray_says):
    told = ray_says(1, 1, 0)
    preemption.drain(60.0)
    assert [(at_s, words[-1]) for at_s, words in told] == [(0.0, "60"), (5.0, "55"), (10.0, "50")]


def test_drain_retries_until_deadline_and_raises(ray_says):
    told = ray_says(*[1] * 100)
    with pytest.raises(ClusterError, match=r"`ray drain-node` failed with exit code 1 in every attempt"):
        preemption.drain(12.0)
    assert [at_s for at_s, _ in told] == [0.0, 5.0, 10.0]
