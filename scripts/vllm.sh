#!/usr/bin/env bash
# vLLM has an environment of its own: it wants other versions than the rest, and fills gigabytes.
#   scripts/vllm.sh setup          makes .venv-vllm, pinned by requirements/vllm.txt; does nothing when it is up to date
#   scripts/vllm.sh test [FLAG]    the same, and runs the tests of the engine vllm in it; flags are pytest's
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3.11}
stamp=.venv-vllm/.trunkline

setup() {
  local wanted
  wanted=$(sha256sum <requirements/vllm.txt | cut -d' ' -f1)
  if [ "$(cat $stamp 2>/dev/null)" = "$wanted" ]; then return; fi
  if ! command -v "$python" >/dev/null; then
    echo "vllm: $python not found. Trunkline runs on Python 3.11; install it, or name it: make PYTHON=/path/to/python3.11" >&2
    exit 2
  fi
  [ -x .venv-vllm/bin/python ] || "$python" -m venv .venv-vllm
  echo "vllm: installing into .venv-vllm; this takes a few minutes the first time"
  install() { .venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check "$@"; }
  install -c requirements/vllm.txt torch
  # The list is complete. What vLLM names beside it are builds for GPUs (torchvision, torchaudio, torchcodec, triton),
  # which fail to import on a CPU.
  install --no-deps -r requirements/vllm.txt
  printf '%s' "$wanted" >"$stamp"
}

case "${1:-}" in
  setup) setup ;;
  test)
    shift
    setup
    export OMP_NUM_THREADS=1
    exec .venv-vllm/bin/python -m pytest tests/vllm "$@"
    ;;
  *) sed -n '3,4p' "$0" >&2; exit 2 ;;
esac
