#!/usr/bin/env bash
# Prints the path of a Horovod wheel built against the torch of the given Python, building it when the cache has none.
#
#   scripts/build_horovod.sh PYTHON
#
# The source is patched before the build (patch_horovod.sh). The wheel is cached outside the tree ($ESMM_SPARK_CACHE, else
# $XDG_CACHE_HOME/esmm_spark, else ~/.cache/esmm_spark), under a name made of everything it was built against and of both
# scripts: a second checkout takes it from there.
set -euo pipefail

python=${1:?usage: scripts/build_horovod.sh PYTHON}
version=0.28.1

# With a GPU at hand Horovod moves tensors with NCCL, else with Gloo alone, also where torch is its CUDA build: that is
# what pip brings to most machines without a GPU. HOROVOD_GPU_OPERATIONS=NCCL asks for it on a build host without one.
has_gpu=$("$python" -c 'import torch; print("yes" if torch.cuda.is_available() else "")')
gpu_operations=${HOROVOD_GPU_OPERATIONS:-${has_gpu:+NCCL}}
build_for=$("$python" -c 'import sys, torch; print(f"cp{sys.version_info[0]}{sys.version_info[1]}-torch{torch.__version__}")')${gpu_operations:+-$gpu_operations}
scripts=$(cd "$(dirname "$0")" && pwd)
recipe=$(cat "$scripts"/{build,patch}_horovod.sh | sha256sum | cut -c1-8)
machine=$(uname -m)
cache=${ESMM_SPARK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/esmm_spark}/horovod-$version-$build_for-$machine-$recipe

if wheel=$(ls "$cache"/horovod-*.whl 2>/dev/null); then
    echo "$wheel"
    exit 0
fi

for tool in g++ make; do
    command -v "$tool" >/dev/null || {
        echo "error: $tool not found, Horovod is built from source: install it (Debian: apt-get install build-essential)" >&2
        exit 2
    }
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
log=$(mktemp "${TMPDIR:-/tmp}/esmm_spark-horovod.XXXXXX")
# A space in a path breaks Horovod's Makefiles: they get the environment by another name.
prefix=$("$python" -c 'import sys; print(sys.prefix)')
case $prefix in *" "*) ln -s "$prefix" "$work/venv"; python=$work/venv/bin/python ;; esac

build() {
    # CMake 4 refuses Horovod's third-party projects; it is needed for this build alone.
    "$python" -m pip install --target "$work/tools" "cmake==3.31.10"
    "$python" -m pip download --no-deps --no-binary :all: --no-build-isolation -d "$work" "horovod==$version"
    tar -xzf "$work/horovod-$version.tar.gz" -C "$work"
    local source=$work/horovod-$version gpu_flags=()
    # What it leaves out is for people to read.
    "$scripts/patch_horovod.sh" "$source" "$gpu_operations" 2>&3
    if [ -n "$gpu_operations" ]; then gpu_flags=("HOROVOD_GPU_OPERATIONS=$gpu_operations"); fi
    env PATH="$work/tools/bin:$PATH" PYTHONPATH="$work/tools" \
        HOROVOD_WITH_PYTORCH=1 HOROVOD_WITH_GLOO=1 HOROVOD_WITHOUT_MPI=1 \
        HOROVOD_WITHOUT_TENSORFLOW=1 HOROVOD_WITHOUT_MXNET=1 "${gpu_flags[@]}" \
        "$python" -m pip wheel --no-deps --no-build-isolation -w "$work/wheel" "$source"
}

echo "building Horovod $version for $build_for (about two minutes, once per machine) ..." >&2
exec 3>&2
# Not `build || ...`: there it would go on after a command that failed.
set +e
(set -e && build) >"$log" 2>&1
failed=$?
set -e
if [ "$failed" != 0 ]; then
    # What the compiler said stands hundreds of lines before the log's end.
    { grep -E '(^|[: ])error: |CMake Error' "$log" | grep -v subprocess-exited-with-error | head -n 5 | grep . || tail -n 20 "$log"; } \
        | cut -c1-400 >&2
    echo "error: Horovod $version did not build: its first errors are above, the whole log is in $log" >&2
    exit 1
fi
rm -f "$log"
# A rename within one file system is atomic: two checkouts that build at the same time never see half a wheel.
mkdir -p "$cache"
wheel_name=$(basename "$work"/wheel/horovod-*.whl)
cp "$work/wheel/$wheel_name" "$cache/.$wheel_name.$$"
mv "$cache/.$wheel_name.$$" "$cache/$wheel_name"
echo "$cache/$wheel_name"
