#!/usr/bin/env bash
# Makes .venv with the pinned environment: Python packages, FBGEMM for the installed torch, Horovod built from source; and
# compiles training's kernels, so that a first run doesn't wait for them.
#
#   scripts/setup.sh [VENV]
#
# Does nothing when .venv was made from the same pins before. A missing prerequisite is one line that says what to install.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}

fail() {
    echo "error: $1" >&2
    exit 2
}

stamp=$venv/.complete-$(cat setup.cfg requirements.lock scripts/setup.sh scripts/build_horovod.sh | sha256sum | cut -c1-16)
find_java() {
    if [ -n "${JAVA_HOME:-}" ]; then echo "$JAVA_HOME/bin/java"; else command -v java || true; fi
}
java_version() {
    local java
    java=$(find_java)
    [ -n "$java" ] && "$java" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1
}

# Spark 4 runs on Java 17 and 21.
if [ "$(java_version || true)" != 17 ] && [ "$(java_version || true)" != 21 ]; then
    if [ -z "${JAVA_HOME:-}" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "Java not found: installing Debian's openjdk-17-jre-headless, or 21 where there is no 17 ..." >&2
        { apt-get update && { apt-get install -y --no-install-recommends openjdk-17-jre-headless \
            || apt-get install -y --no-install-recommends openjdk-21-jre-headless; }; } >/tmp/esmm_spark-apt.log 2>&1 \
            || fail "no Java could be installed (see /tmp/esmm_spark-apt.log): install Java 17 and run again"
    else
        fail "Spark needs Java 17, found ${JAVA_HOME:+JAVA_HOME=$JAVA_HOME with }$(java_version || true)$( [ -n "$(java_version || true)" ] || echo none): install it (Debian: apt-get install openjdk-17-jre-headless)"
    fi
fi
[ -e "$stamp" ] && exit 0

python=${PYTHON:-python3.11}
command -v "$python" >/dev/null || fail "$python not found: install Python 3.11 (Debian: apt-get install python3.11-venv) or set PYTHON=/path/to/python3.11"
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
    || fail "$("$python" --version) found, 3.11 needed (petastorm needs distutils, which later ones lack): set PYTHON=/path/to/python3.11"
"$python" -c 'import venv, ensurepip' 2>/dev/null || fail "$python has no venv: install it (Debian: apt-get install python3.11-venv)"
command -v g++ >/dev/null || fail "g++ not found, Horovod is built from source: install it (Debian: apt-get install build-essential)"

echo "setting up $venv ..." >&2
log=$(mktemp /tmp/esmm_spark-setup.XXXXXX)
quietly() {
    "$@" >>"$log" 2>&1 || {
        tail -n 20 "$log" >&2
        fail "'$*' failed, the whole log is in $log"
    }
}
# A venv that was killed while it was made has a python but no pip.
"$venv/bin/python" -m pip --version >/dev/null 2>&1 || quietly "$python" -m venv --clear "$venv"
rm -f "$venv"/.complete-*
quietly "$venv/bin/python" -m pip install -c requirements.lock setuptools wheel
quietly "$venv/bin/python" -m pip install --no-build-isolation -c requirements.lock -e '.[dev]'
# FBGEMM's requirements name a torch nightly; the pinned pair was tried together. The CPU package serves torch's CUDA
# build, too, where there is no GPU.
if "$venv/bin/python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then fbgemm=fbgemm-gpu; else fbgemm=fbgemm-gpu-cpu; fi
quietly "$venv/bin/python" -m pip install --no-deps "$fbgemm==1.8.0"
wheel=$(scripts/build_horovod.sh "$venv/bin/python")
# In any case: one of the same version may be there that was built another way. Then what it requires.
quietly "$venv/bin/python" -m pip install --no-deps --force-reinstall "$wheel"
quietly "$venv/bin/python" -m pip install -c requirements.lock "$wheel"
quietly "$venv/bin/python" -m pip check
quietly "$venv/bin/python" scripts/compile_kernels.py
rm -f "$log"
touch "$stamp"
