#!/usr/bin/env bash
# Generates the package `trunkline` from protos/. With --check: fails when the committed code differs, or when the
# contracts break what the latest commit on the main branch promised.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"

out=.
if [ "${1:-}" = --check ]; then
  out=$(mktemp -d)
  trap 'rm -rf "$out"' EXIT
fi

python -m grpc_tools.protoc -Iprotos --python_out="$out" --grpc_python_out="$out" \
  --mypy_out=quiet:"$out" --mypy_grpc_out=quiet:"$out" protos/trunkline/v1/*.proto

if [ "$out" != . ]; then
  for made in "$out"/trunkline/v1/*; do
    if ! cmp -s "$made" "trunkline/v1/$(basename "$made")"; then
      echo "protos: trunkline/v1/$(basename "$made") is stale; run: make protos" >&2
      exit 1
    fi
  done
  # buf reads the repository itself; before the first release there is nothing older to compare with.
  if tag=$(git describe --tags --abbrev=0 2>/dev/null); then
    buf breaking protos --against ".git#tag=$tag,subdir=protos"
  elif git rev-parse --verify -q HEAD~1 >/dev/null && git cat-file -e HEAD~1:protos/buf.yaml 2>/dev/null; then
    buf breaking protos --against ".git#ref=HEAD~1,subdir=protos"
  fi
fi
