"""A sweep as Kubernetes jobs, against a stand-in that speaks the API and runs the jobs right here.

It shows that the profile is accepted and that a job finds checkout, Python and environment by what
its specification says alone. It does not show images, volumes and scheduling.
"""

import base64
import json
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import test_house

import chapters

for plugin in ("snakemake_executor_plugin_kubernetes", "snakemake_storage_plugin_fs"):
    pytest.importorskip(plugin, reason="pip install -e '.[cluster]'")
if not shutil.which("rsync"):
    pytest.skip("no rsync, which the storage plugin calls", allow_module_level=True)
house = test_house.house
GPU = "nvidia.com/gpu"


class Cluster(BaseHTTPRequestHandler):
    """The five kinds of request that the plugin makes."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = body["metadata"]["name"]
        if self.path.endswith("/secrets"):
            self.server.secrets[name] = body.get("data", {})
        else:
            container = body["spec"]["template"]["spec"]["containers"][0]
            asked = container["resources"]
            if asked["requests"].get(GPU) != asked.get("limits", {}).get(GPU):
                return self.answer({"message": f"limits: {GPU} must equal its request"}, 422)
            self.server.specifications.append(body["spec"]["template"]["spec"])
            self.server.processes[name] = self.start(name, container)
        self.answer(body, 201)

    def start(self, name: str, container: dict) -> subprocess.Popen:
        workdir = self.server.workdir / name
        workdir.mkdir()
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(workdir)}
        for variable in container["env"]:
            where = variable["valueFrom"]["secretKeyRef"]
            value = self.server.secrets[where["name"]][where["key"]]
            environment[variable["name"]] = base64.b64decode(value).decode()
        command = container["command"] + container["args"]
        command = [word.replace(container["workingDir"], str(workdir)) for word in command]
        with (workdir / "pod.log").open("wb") as log:
            return subprocess.Popen(command, cwd=workdir, env=environment, stdout=log, stderr=log)

    def do_GET(self):
        if "/pods" in self.path:
            return self.answer({"items": []})
        code = self.server.processes[self.path.split("/")[-2]].poll()
        status = {None: {"active": 1}, 0: {"succeeded": 1}}.get(code, {"failed": 1})
        self.answer({"status": status})

    def do_DELETE(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer({})

    def answer(self, body: dict, code: int = 200):
        text = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    with ThreadingHTTPServer(("127.0.0.1", 0), Cluster) as server:
        server.workdir = tmp_path / "pods"
        server.workdir.mkdir()
        server.secrets, server.processes, server.specifications = {}, {}, []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        config = {
            "clusters": [{"name": "c", "cluster": {"server": address}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "users": [{"name": "u", "user": {}}],
            "current-context": "c",
        }
        (tmp_path / "kubeconfig").write_text(json.dumps(config))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        yield server
        server.shutdown()
        for process in server.processes.values():
            process.wait()


def test_a_sweep_runs_as_jobs_on_a_shared_volume(house, cluster, tmp_path, monkeypatch):
    root = house.rename(tmp_path / "volume")
    monkeypatch.setattr(chapters, "ROOT", root)
    profile = root / "profiles" / "kubernetes" / "config.yaml"
    text = profile.read_text().replace("/your/volume/executable-papers/.venv", sys.prefix)
    text = text.replace("/your/volume/executable-papers", str(root))
    profile.write_text(text + "seconds-between-status-checks: 1\n")
    for command in ["init -q", "add -A"]:
        subprocess.run(["git", *command.split()], cwd=root, check=True)
    request = [
        "--profile",
        "kubernetes",
        "--scale",
        "paper",
        "--seeds",
        "0 1",
        "--chapters",
        "beta",
    ]
    done = test_house.run(root, *request)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 chapter runs done" in done.stdout
    assert chapters.current("beta", "paper", 0) and chapters.current("beta", "paper", 1)
    assert "2 of 2 chapter runs are up to date" in test_house.run(root, *request).stdout
    assert len(cluster.specifications) == 2
    container = cluster.specifications[0]["containers"][0]
    limits = container["resources"]["limits"]
    assert (limits["cpu"], limits["memory"], limits[GPU]) == ("2000m", "16000M", "1")
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts["your-claim"] == "/your/volume"
