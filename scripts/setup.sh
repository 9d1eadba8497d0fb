#!/usr/bin/env bash
# Makes .venv with the pinned environment: Python packages, FBGEMM for the installed torch, Horovod built from source; makes
# its Spark quiet; and compiles the kernels, so that no first run waits for them.
#
#   scripts/setup.sh [VENV]
#
# Does nothing when .venv was made from the same pins before. What the machine lacks is named in one line before anything
# is made, with what to install.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}
python=${PYTHON:-python3.11}

fail() {
    echo "error: $1" >&2
    exit 2
}

stamp=$venv/.complete-$(cat setup.cfg requirements.lock scripts/{setup.sh,build_horovod.sh,patch_horovod.sh,prepare_spark.py,usual_classes.py} \
    conf/spark/log4j2.properties | sha256sum | cut -c1-16)

# --- What the machine lacks: each check adds what is missing, and the Debian package that has it.
missing=() packages=()
lacks() {
    missing+=("$1")
    case " ${packages[*]} " in *" $2 "*) ;; *) packages+=("$2") ;; esac
}
java_version() {
    local java
    if [ -n "${JAVA_HOME:-}" ]; then java=$JAVA_HOME/bin/java; else java=$(command -v java || true); fi
    [ -n "$java" ] && "$java" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1 || true
}
install_java() {
    local log
    log=$(mktemp "${TMPDIR:-/tmp}/esmm_spark-apt.XXXXXX")
    echo "Java 17 not found: installing Debian's openjdk-17-jre-headless, or 21 where there is no 17 ..." >&2
    { apt-get update && { apt-get install -y --no-install-recommends openjdk-17-jre-headless \
        || apt-get install -y --no-install-recommends openjdk-21-jre-headless; }; } >"$log" 2>&1 \
        || fail "no Java could be installed (see $log): install Java 17 and run again"
    case $(java_version) in 17 | 21) ;; *) fail "Java $(java_version) is still the first in PATH: set JAVA_HOME to Java 17" ;; esac
    rm -f "$log"
}
check_java() {
    local version
    version=$(java_version)
    case $version in 17 | 21) return ;; esac # what Spark 4 runs on
    if [ -z "${JAVA_HOME:-}" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        install_java
    else
        lacks "Java 17 (found ${JAVA_HOME:+JAVA_HOME=$JAVA_HOME with }${version:-none})" openjdk-17-jre-headless
    fi
}
# Python.h is asked for where there is a Python 3.11 that may have it.
check_python() {
    local found
    found=$("$python" --version 2>/dev/null || python3 --version 2>/dev/null || true)
    case $found in
        "Python 3.11."*) ;;
        *) lacks "Python 3.11 with venv and Python.h (found ${found:-none})" "python3.11-venv python3.11-dev"; return ;;
    esac
    "$python" -c 'import venv, ensurepip' 2>/dev/null || lacks "venv of $python" python3.11-venv
    check_headers
}
# Horovod is built from source: by a compiler that works, against Python.h.
check_headers() {
    local include
    command -v g++ >/dev/null || return 0
    echo 'int main() {}' | g++ -x c++ -fsyntax-only - 2>/dev/null || fail "$(command -v g++) can't compile an empty program: mend it"
    include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    echo '#include <Python.h>' | g++ -x c++ -fsyntax-only -I"$include" - 2>/dev/null \
        || lacks "Python.h of $python (looked in $include)" python3.11-dev
}
check_tools() {
    local tool
    for tool in g++ make; do
        command -v "$tool" >/dev/null || lacks "$tool" build-essential
    done
}

check_java
[ -e "$stamp" ] || { check_python; check_tools; }
if [ ${#missing[@]} -gt 0 ]; then
    list=$(printf ', %s' "${missing[@]}")
    hint=
    case " ${packages[*]} " in *python3.11*) hint=' (or set PYTHON=/path/to/python3.11)' ;; esac
    fail "missing: ${list:2}: on Debian 12 apt-get install ${packages[*]}$hint"
fi
[ -e "$stamp" ] && exit 0

# --- The environment.
echo "setting up $venv ..." >&2
log=$(mktemp "${TMPDIR:-/tmp}/esmm_spark-setup.XXXXXX")
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
quietly "$venv/bin/python" scripts/prepare_spark.py
quietly "$venv/bin/python" scripts/compile_kernels.py
rm -f "$log"
touch "$stamp"
