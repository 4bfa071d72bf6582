#!/usr/bin/env bash
# Makes .venv with everything that `make demo` and `make test` need, pinned. Does nothing when it is up to date.
set -euo pipefail
cd "$(dirname "$0")/.."

extras=${1:-agent,models}
python=${PYTHON:-python3.11}
stamp=".venv/.trunkline-$(printf '%s' "$extras" | tr ',' '-')"
wanted=$(cat pyproject.toml requirements/constraints.txt | sha256sum | cut -d' ' -f1)

if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then exit 0; fi

if ! command -v "$python" >/dev/null; then
  echo "setup: $python not found. Trunkline runs on Python 3.11; install it, or name it: make PYTHON=/path/to/python3.11" >&2
  exit 2
fi
[ -x .venv/bin/python ] || "$python" -m venv .venv

echo "setup: installing into .venv ($extras); this takes a few minutes the first time"
# torch first: its pinned CPU build satisfies what others ask for, so that no GPU build is pulled in.
.venv/bin/python -m pip install --quiet --disable-pip-version-check -c requirements/constraints.txt torch
.venv/bin/python -m pip install --quiet --disable-pip-version-check -c requirements/constraints.txt -e ".[$extras]"
printf '%s' "$wanted" > "$stamp"
echo "setup: done"
