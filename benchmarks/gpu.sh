#!/bin/sh
# A GPU in one command; benchmarks/gpu.py explains both uses.
#   benchmarks/gpu.sh check --out FOLDER [--data IMAGES]
#   benchmarks/gpu.sh train MODEL PROTOCOL MINUTES --out FOLDER --data IMAGES
# PYTHON names the interpreter (python3 by default). Nothing is installed or downloaded: the package
# is imported from this checkout. Pure Python packages that the interpreter lacks can lie in a folder
# that PYTHONPATH names.
here=$(cd "$(dirname "$0")" && pwd) || exit 2
exec "${PYTHON:-python3}" "$here/gpu.py" "$@"
