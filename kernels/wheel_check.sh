#!/usr/bin/env bash
# Builds the wheel, installs it alone into a clean environment and runs tests/ops there.
#
#   kernels/wheel_check.sh PYTHON [TORCH]
#
# PYTHON is the interpreter of the tested environment, which builds the wheel and lends its packages. With TORCH, a version such as
# 2.12.1+cpu, the clean environment gets a torch of its own before them: a CPU build, and nothing that it depends on, so no CUDA
# package. TORCH_INDEX names the package index that has it; empty, pip looks where it is set up to look.
set -euo pipefail

python=$(realpath --no-symlinks "$1") torch=${2:-}
case "$torch" in
  "" | *+cpu) ;;
  *)
    echo "wheel_check.sh: TORCH must be a CPU build, such as 2.12.1+cpu, got $torch; other builds need CUDA packages" >&2
    exit 2
    ;;
esac
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" -m pip wheel --quiet --no-deps --build-constraint constraints.txt --wheel-dir "$work/dist" .
"$python" -m venv "$work/clean"
clean=$work/clean/bin/python
"$clean" -m pip install --quiet --no-deps --no-index "$work"/dist/graphrec-*.whl
if [ -n "$torch" ]; then
  "$clean" -m pip install --quiet --no-deps ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "torch==$torch"
fi
# The clean environment holds graphrec and perhaps torch; the other packages come after them on the path.
site='import sysconfig; print(sysconfig.get_paths()["purelib"])'
"$python" -c "$site" > "$("$clean" -c "$site")/lent.pth"
# A copy, because beside the repository's own tests lies its source, which would be imported instead of the wheel.
cp -r tests/ops "$work/ops"
cd "$work"
clean/bin/graphrec --version
"$clean" - "$torch" <<'PYTHON'
import sys

import torch

import graphrec
from graphrec import ops

assert "/clean/" in graphrec.__file__, f"imported {graphrec.__file__}, not the wheel"
assert ops.backend() != "reference", "the wheel holds no native library"
assert sys.argv[1] in ("", torch.__version__), f"imported torch {torch.__version__}, not {sys.argv[1]}"
assert not sys.argv[1] or "/clean/" in torch.__file__, f"imported {torch.__file__}, not the torch of the clean environment"
print(f"the wheel imports and runs on the backend {ops.backend()} with torch {torch.__version__}")
PYTHON
"$clean" -m pytest -q -p no:cacheprovider ops
