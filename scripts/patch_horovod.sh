#!/usr/bin/env bash
# Patches the source of Horovod before it is built. A patch whose place isn't there is left out, and that is said: what it
# was made for may be gone, too.
#
#   scripts/patch_horovod.sh SOURCE [GPU_OPERATIONS]
#
# - Horovod 0.28.1 asks CMake for C++14; torch 2.13's headers need C++17.
# - The thread of its Gloo that watches sockets asks again without pause while another thread writes to one: where ranks
#   share a host's cores, it keeps the writer off its core (docs/decisions/014).
# - horovodrun puts `[0]<stdout>:` before all that rank 0, which speaks for all, has to say: only other ranks' lines say
#   whose they are (docs/decisions/021).
# - Without GPU_OPERATIONS it would build against the CUDA toolkit all the same where torch is a CUDA build and there is any
#   trace of one.
set -euo pipefail
source=${1:?usage: scripts/patch_horovod.sh SOURCE [GPU_OPERATIONS]}
gpu_operations=${2:-}

# usage: patch WHAT FILE WANTED SED_SCRIPT. WANTED says to people what the script looks for.
patch() {
    local file=$source/$2 because="there is no $2"
    if [ -f "$file" ]; then
        if sed "$4" "$file" >"$file.patched" && ! cmp -s "$file" "$file.patched"; then
            mv "$file.patched" "$file"
            return 0
        fi
        rm "$file.patched"
        because="$2 has no $3"
    fi
    echo "warning: the build of Horovod goes on without $1, because $because" >&2
    return 1
}

for file in CMakeLists.txt horovod/torch/CMakeLists.txt; do
    patch "C++17 in $file" "$file" "line 'CMAKE_CXX_STANDARD 14'" 's/CMAKE_CXX_STANDARD 14/CMAKE_CXX_STANDARD 17/' || true
done
pair=third_party/gloo/gloo/transport/tcp/pair.cc
if patch "a yield in Gloo's thread, which makes ranks on one host faster" "$pair" "'if (!lock) {' after 'std::try_to_lock'" \
    '/std::try_to_lock/{n;s/if (!lock) {/&\n    std::this_thread::yield();/}'; then
    sed -i '1i #include <thread>' "$source/$pair"
fi
patch "rank 0's lines as they are, without [0]<stdout>: before them" horovod/runner/common/util/safe_shell_exec.py \
    "line 'if index is not None and prefix is not None:'" \
    's/if index is not None and prefix is not None:/if index and prefix is not None:/' || true
if [ -z "$gpu_operations" ]; then
    patch "torch's CUDA taken for none" cmake/Modules/FindPytorch.cmake "'(CUDA_HOME is not None)'" \
        's/(CUDA_HOME is not None)/(False)/' || true
fi
