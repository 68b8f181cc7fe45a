#!/bin/sh
# Installs the lock list's packages: packages.sh cpu|cuda PYTHON [options of uv pip install]
set -eu
variant=$1
python=$2
shift 2
list=requirements-dataflow.lock
case $variant in
  cpu)
    # PyTorch's CPU builds have the same version numbers and need none of the CUDA libraries.
    grep -Ev '^(nvidia-|cuda-|triton==)' "$list" > cpu.txt
    uv pip install --python "$python" --no-deps --torch-backend cpu "$@" -r cpu.txt
    ;;
  cuda)
    uv pip install --python "$python" --no-deps "$@" -r "$list"
    ;;
  *)
    echo "VARIANT is cpu or cuda, not $variant" >&2
    exit 2
    ;;
esac
