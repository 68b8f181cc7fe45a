#!/bin/sh
# Installs a lock list's packages: packages.sh cpu|cuda|torch PYTHON [options of uv pip install]
set -eu
variant=$1
python=$2
shift 2
with_torch=requirements-dataflow.lock
case $variant in
  cpu)
    uv pip install --python "$python" --no-deps "$@" -r requirements-worker.lock
    ;;
  torch)
    # Beside those of cpu, what prepares networks. PyTorch's CPU builds have the same version numbers and need none of
    # the CUDA libraries.
    grep -Ev '^(nvidia-|cuda-|triton==)' "$with_torch" > torch.txt
    uv pip install --python "$python" --no-deps --torch-backend cpu "$@" -r torch.txt
    ;;
  cuda)
    uv pip install --python "$python" --no-deps "$@" -r "$with_torch"
    ;;
  *)
    echo "VARIANT is cpu, torch or cuda, not $variant" >&2
    exit 2
    ;;
esac
