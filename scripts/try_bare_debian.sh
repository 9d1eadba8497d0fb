#!/usr/bin/env bash
# Tries README's first commands where nothing is installed: a minimal Debian 12 in a folder. As root, with debootstrap.
#
#   scripts/try_bare_debian.sh FOLDER make       the Debian, without any of our packages
#   scripts/try_bare_debian.sh FOLDER messages   what a user without root reads there before and while things get installed
#   scripts/try_bare_debian.sh FOLDER packages   the packages that README names
#   scripts/try_bare_debian.sh FOLDER demo       `make demo` as root, in a checkout whose path has a space
#   scripts/try_bare_debian.sh FOLDER dockerfile the steps of Dockerfile after `make`: all of its stages in this one Debian
#   scripts/try_bare_debian.sh FOLDER delete     unmounts and deletes it
#
# What this machine needs to get packages goes in through the environment:
#   DEBIAN_MIRROR   where debootstrap takes Debian from (its own default)
#   PIP_CONFIG      a file that becomes /etc/pip.conf
#   WHEELS          folders that pip.conf names, separated by colons: mounted, read-only, at the same paths
#   CA_BUNDLE       certificates for pip (installing Java there rewrites /etc/ssl/certs)
#   NUM_GROUPS      the demo's size
# Takes 2 GB and, with the demo, 15 minutes on two cores.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:?usage: scripts/try_bare_debian.sh FOLDER make|messages|packages|demo|dockerfile|delete}
checkout="/home/someone/a folder/esmm_spark"

fail() {
    echo "error: $1" >&2
    exit 2
}
[ "$(id -u)" = 0 ] || fail "chroot needs root"

# The list stands in README alone.
readme_packages() { sed -n 's/^ *apt-get install \(python3.11-venv .*\)/\1/p' "$here/README.md" | head -n 1; }

inside() { # USER COMMAND: runs it in the checkout there
    mounted
    chroot "$folder" /usr/bin/env -i HOME="$([ "$1" = root ] && echo /root || echo "/home/$1")" LANG=C.UTF-8 TERM=dumb \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive \
        ${CA_BUNDLE:+PIP_CERT=/etc/pip-ca.pem SSL_CERT_FILE=/etc/pip-ca.pem} ${NUM_GROUPS:+NUM_GROUPS="$NUM_GROUPS"} \
        setpriv --reuid="$1" --regid="$1" --init-groups bash -c "cd '$checkout' && $2"
}

mounted() {
    local wheels path
    mountpoint -q "$folder/proc" || mount -t proc proc "$folder/proc"
    mountpoint -q "$folder/dev" || mount --bind /dev "$folder/dev"
    # Not with all that is mounted below: terminals and shared memory are what is needed.
    for path in /dev/pts /dev/shm; do
        mountpoint -q "$folder$path" || mount --bind "$path" "$folder$path"
    done
    IFS=: read -ra wheels <<<"${WHEELS:-}"
    for path in "${wheels[@]}"; do
        mkdir -p "$folder$path"
        mountpoint -q "$folder$path" || mount --bind -o ro "$path" "$folder$path"
    done
}

unmounted() {
    # The innermost first.
    findmnt -rno TARGET | grep -F "$(realpath "$folder")/" | sort -r | while read -r path; do umount "$path"; done || true
}

make_debian() {
    [ -e "$folder/etc/debian_version" ] || debootstrap --variant=minbase bookworm "$folder" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"}
    cp /etc/resolv.conf "$folder/etc/resolv.conf"
    # As Debian's installer does: Java and Gloo ask for the host's own name.
    printf '127.0.0.1 localhost\n127.0.1.1 %s\n' "$(hostname)" >"$folder/etc/hosts"
    [ -z "${PIP_CONFIG:-}" ] || cp "$PIP_CONFIG" "$folder/etc/pip.conf"
    [ -z "${CA_BUNDLE:-}" ] || cp "$CA_BUNDLE" "$folder/etc/pip-ca.pem"
    chroot "$folder" id someone >/dev/null 2>&1 || chroot "$folder" useradd --create-home --user-group someone
    mkdir -p "$folder$checkout"
    # What a fresh clone would have, uncommitted changes included.
    git -C "$here" ls-files -z --cached --others --exclude-standard | (cd "$here" && xargs -0 cp --parents -t "$folder$checkout")
    chroot "$folder" chown -R someone:someone "/home/someone"
}

# Each run of setup must end with exit code 2, one line, and no .venv.
says() { # TITLE EXPECTED COMMAND
    local told code=0
    told=$(inside someone "$3" 2>&1) || code=$?
    printf '%s:\n  %s\n' "$1" "$told"
    [ "$code" = 2 ] && [ "$(wc -l <<<"$told")" = 1 ] && [[ $told == *"$2"* ]] || fail "expected exit code 2 and one line with: $2"
}

messages() {
    local setup=scripts/setup.sh
    says "nothing installed" "apt-get install openjdk-17-jre-headless python3.11-venv python3.11-dev build-essential" "$setup"
    install_packages openjdk-17-jre-headless
    inside root "mkdir -p /tmp/newer && printf '#!/bin/sh\necho Python 3.12.1\n' >/tmp/newer/python3 && chmod +x /tmp/newer/python3"
    says "only Python 3.12" "(found Python 3.12.1)" "PATH=/tmp/newer:\$PATH $setup"
    install_packages python3.11-venv
    says "no compiler" "missing: g++, make: on Debian 12 apt-get install build-essential" "$setup"
    install_packages build-essential
    says "no Python.h" "apt-get install python3.11-dev" "$setup"
    says "no Java" "missing: Java 17 (found JAVA_HOME=/nowhere with none)" "JAVA_HOME=/nowhere $setup"
}

# Stages share one file system here, so that what one copies from another is there already.
dockerfile() {
    local instruction rest user=root workdir=/ sources
    local -a environment=()
    while read -r instruction rest; do
        case $instruction in
            "" | "#"*) ;;
            FROM) user=root workdir=/ ;;
            USER) user=$rest ;;
            WORKDIR) workdir=$rest ;;
            ENV) environment+=("$rest") ;;
            CMD) ;;
            COPY)
                case $rest in --from=*) continue ;; esac
                sources=${rest#--chown=* } sources=${sources% *}
                echo "COPY $rest"
                git -C "$here" ls-files -z --cached --others --exclude-standard -- $sources \
                    | (cd "$here" && xargs -0 cp --parents -t "$folder$workdir")
                chroot "$folder" chown -R "$user:$user" "$workdir"
                ;;
            RUN)
                echo "RUN $rest"
                checkout=$workdir inside "$user" "${environment[*]:+export ${environment[*]} && }$rest"
                ;;
            *) fail "Dockerfile: $instruction is not known here" ;;
        esac
    done < <(sed -e ':join' -e '/\\$/{N;s/\\\n *//;b join' -e '}' "$here/Dockerfile")
}

install_packages() { inside root "apt-get update -qq && apt-get install -qq -y --no-install-recommends $* >/dev/null 2>&1"; }

case ${2:-} in
    make) make_debian ;;
    messages) messages ;;
    packages) install_packages "$(readme_packages)" ;;
    demo) inside root "time make demo" ;;
    dockerfile) dockerfile ;;
    delete) unmounted && rm -rf --one-file-system "$folder" ;;
    *) fail "what is to be done: make, messages, packages, demo, dockerfile or delete" ;;
esac
