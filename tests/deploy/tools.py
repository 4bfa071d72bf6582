"""The tools of .venv-deploy, and what the tests here do with them."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "trunkline"
HOME = ROOT / ".venv-deploy"
# Schemas of KEDA's, the Prometheus Operator's, cert-manager's and the Gateway API's resources. They are not part of the
# repository; elsewhere than beside it, TRUNKLINE_CRD_SCHEMAS says where.
CRDS = Path(os.environ.get("TRUNKLINE_CRD_SCHEMAS", ROOT.parent / "shared" / "schemas"))
OLDEST, NEWEST = "1.29", "1.37"  # of Kubernetes; docs/kubernetes.md
RUN_S = 120

Object = dict[str, Any]


class ToolError(Exception):
    """A tool failed; the message is its output."""


@dataclass(frozen=True)
class Tools:
    """Paths of executables in .venv-deploy."""

    home: Path = HOME / "bin"

    @property
    def helm(self) -> Path:
        return self.home / "helm"

    @property
    def kubectl(self) -> Path:
        return self.home / "kubectl"

    @property
    def python(self) -> Path:
        return self.home / "python"

    @property
    def compose(self) -> Path:
        """`docker-compose`, Compose's own: `config` needs no engine."""
        return self.home / "docker-compose"

    @property
    def hadolint(self) -> Path:
        return self.home / "hadolint"

    @property
    def yamllint(self) -> Path:
        return self.home / "yamllint"

    def template(
        self,
        *options: str,
        values: Object | None = None,
        kubernetes: str = NEWEST,
        release: str = "trunkline",
        namespace: str = "voice",
    ) -> list[Object]:
        """The chart's objects. Raises ToolError with what Helm says."""
        command: list[str | Path] = [
            self.helm,
            "template",
            release,
            CHART,
            "--namespace",
            namespace,
            "--kube-version",
            kubernetes,
        ]
        given = "" if values is None else yaml.safe_dump(values)
        text = run(*command, *options, *(("--values", "-") if given else ()), given=given)
        return [item for item in yaml.load_all(text, Loader=yaml.CSafeLoader) if item]

    def validate(self, objects: list[Object], *versions: str) -> list[str]:
        """What is wrong with the objects, for the oldest and the newest Kubernetes or the versions named."""
        command = [str(self.python), str(Path(__file__).with_name("validate.py"))]
        for version in versions or (OLDEST, NEWEST):
            command += ["--kubernetes", version]
        if CRDS.is_dir():
            command += ["--crds", str(CRDS)]
        else:
            custom = {"keda.sh/v1alpha1", "monitoring.coreos.com/v1", "cert-manager.io/v1"}
            for api in sorted(custom | {"gateway.networking.k8s.io/v1"}):
                command += ["--without", api]
        text = yaml.safe_dump_all(objects)
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=RUN_S)
        if done.returncode not in (0, 1) or done.stderr:
            raise ToolError(done.stderr)
        return done.stdout.splitlines()


def run(*command: str | Path, given: str = "", cwd: Path = ROOT, environment: dict[str, str] | None = None) -> str:
    """What a command writes to stdout. Raises ToolError where it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        timeout=RUN_S,
        env=environment,
    )
    if done.returncode:
        raise ToolError(done.stderr + done.stdout)
    return done.stdout
