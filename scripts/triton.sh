#!/usr/bin/env bash
# The real Triton Inference Server without a container. Its own environment, .venv-triton, holds the server alone; the
# models run in .venv.
#   scripts/triton.sh setup          makes .venv-triton; does nothing when it is up to date
#   scripts/triton.sh serve [FLAG]   serves model_repo; flags are tritonserver's
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3.11}
home=.venv-triton

setup() {
  local wanted
  wanted=$(sha256sum <requirements/triton.txt)
  if [ "$(cat $home/.trunkline 2>/dev/null)" = "$wanted" ]; then return; fi
  echo "triton: installing the server into $home"
  rm -rf $home
  "$python" -m venv $home
  $home/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements/triton.txt
  # The backend's folder as Triton wants it: the library, and the one stub that fits our Python.
  local packages server
  packages=$($home/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  server=$packages/pytriton/tritonserver
  mkdir -p $home/backends/python
  cp "$server"/backends/python/*.{so,py} "$server/python_backend_stubs/3.11/triton_python_backend_stub" $home/backends/python/
  ln -s "$server/bin/tritonserver" $home/tritonserver
  ln -s "$packages/nvidia_pytriton.libs" $home/libraries
  printf '%s' "$wanted" >$home/.trunkline
}

serve() {
  if [ ! -x $home/tritonserver ]; then
    echo "triton: there is no server in $home: make triton" >&2
    exit 2
  fi
  local libpython
  libpython=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR"))')
  export LD_LIBRARY_PATH="$PWD/$home/libraries:$libpython${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
  export PATH="$PWD/.venv/bin:$PATH" # the python models run in the environment that comes first
  exec $home/tritonserver --model-repository "$PWD/model_repo" --backend-directory "$PWD/$home/backends" "$@"
}

case "${1:-}" in
  setup) setup ;;
  serve) shift; serve "$@" ;;
  *) sed -n '2,5p' "$0" >&2; exit 2 ;;
esac
