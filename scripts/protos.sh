#!/usr/bin/env bash
# Generates the package `trunkline` from protos/.
#   --check     fails when the committed code is stale, or when the contracts break those of the last release
#   --release   declares today's contracts released: later ones are checked against them
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
released=protos/released.binpb

if [ "${1:-}" = --release ]; then
  buf build protos -o "$released"
  exit
fi

out=.
if [ "${1:-}" = --check ]; then
  out=$(mktemp -d)
  trap 'rm -rf "$out"' EXIT
fi
python -m grpc_tools.protoc -Iprotos --python_out="$out" --grpc_python_out="$out" \
  --mypy_out=quiet:"$out" --mypy_grpc_out=quiet:"$out" protos/trunkline/v1/*.proto
[ "$out" != . ] || exit 0

for made in "$out"/trunkline/v1/*; do
  name=trunkline/v1/$(basename "$made")
  if ! cmp -s "$made" "$name"; then
    echo "protos: $name is stale; run: make protos" >&2
    exit 1
  fi
done
buf breaking protos --against "$released"
