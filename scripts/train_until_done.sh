#!/usr/bin/env bash
# Trains on the hosts that answer, and again after a failure, from the newest checkpoint, until the model is published: a
# host that dies costs the steps since that checkpoint, and one that comes back is used again at the next attempt.
#
#   scripts/train_until_done.sh -H host1:4,host2:4 [-n ATTEMPTS] [-w SECONDS] [-i INTERFACE] -- \
#       python esmm_spark/train.py --config conf/X.yaml [key=value ...]
#   scripts/train_until_done.sh [-n ATTEMPTS] [-w SECONDS] -- \
#       torchrun --standalone --nproc-per-node 4 esmm_spark/train.py --config conf/X.yaml train.backend=torch
#
#   -H  the hosts and their slots, as horovodrun has them; those that ssh logs in to within 5 s are used. Without it the
#       command is run as it stands: torchrun, whose ranks on other hosts are started there in the same way, or one rank
#   -n  at most so many attempts (10)
#   -w  seconds to wait after the first failure (10), twice as many after each further one, at most 300
#   -i  the hosts' network interface, which horovodrun gets where more than one host is used
#
# Exit code 0: the model is published. 2: a mistake that no other attempt would mend. 1: all attempts have failed. 130 and
# 143: Ctrl-C and SIGTERM, which end the attempt at work, too.
set -uo pipefail

mistake() { echo "error: $*" >&2; exit 2; }

hosts='' attempts=10 wait_s=10 interface=''
while getopts ':H:n:w:i:' option; do
    case $option in
        H) hosts=$OPTARG ;;
        n) attempts=$OPTARG ;;
        w) wait_s=$OPTARG ;;
        i) interface=$OPTARG ;;
        *) mistake "-$OPTARG: must be -H HOSTS, -n ATTEMPTS, -w SECONDS or -i INTERFACE, each with a value" ;;
    esac
done
shift $((OPTIND - 1))
[[ $# -gt 0 ]] || mistake "no command: write it behind --, e.g. -- python esmm_spark/train.py --config conf/X.yaml"
[[ $attempts =~ ^[1-9][0-9]*$ ]] || mistake "-n $attempts: must be at least 1 attempt"
[[ $wait_s =~ ^[0-9]+$ ]] || mistake "-w $wait_s: must be a whole number of seconds"
[[ -n $hosts || -z $interface ]] || mistake "-i $interface: must stand beside -H"
launcher=${hosts:+horovodrun}
command -v "${launcher:=$1}" >/dev/null || mistake "there is no $launcher in PATH: activate .venv"

say() { echo "train_until_done: $*" >&2; }

# This host needs no sshd.
answers() {
    [[ $1 == localhost || $1 == "$(hostname)" ]] ||
        timeout 15 ssh -n -o BatchMode=yes -o ConnectTimeout=5 -o StrictHostKeyChecking=no "$1" true 2>/dev/null
}

job='' pause='' told=$(mktemp)
trap 'rm -f "$told"' EXIT
stop() { # usage: stop SIGNAL EXIT_CODE
    [[ -z $job ]] || { kill "-$1" "$job" 2>/dev/null; wait "$job"; }
    [[ -z $pause ]] || kill "$pause" 2>/dev/null
    exit "$2"
}
trap 'stop INT 130' INT
trap 'stop TERM 143' TERM

for ((attempt = 1; attempt <= attempts; attempt++)); do
    up='' ranks=0 num_hosts=0
    for host in ${hosts//,/ }; do
        slots=${host#*:}
        [[ $host == *:* && $slots =~ ^[1-9][0-9]*$ ]] || mistake "-H $hosts: write host1:4,host2:4"
        if answers "${host%%:*}"; then
            up+=${up:+,}$host
            ranks=$((ranks + slots)) num_hosts=$((num_hosts + 1))
        fi
    done
    if [[ -z $hosts ]] || ((num_hosts > 0)); then
        say "attempt $attempt of $attempts${up:+ on $up}"
        start=()
        if [[ -n $hosts ]]; then
            # Its cache would say that a host answers which did so an hour ago.
            start=(horovodrun --disable-cache -np "$ranks" -H "$up")
            # With one host, horovodrun finds its interface by itself, and another may be the wrong one.
            ((num_hosts == 1)) || [[ -z $interface ]] || start+=(--network-interfaces "$interface")
        fi
        "${start[@]}" "$@" 2> >(tee "$told" >&2) &
        job=$!
        wait "$job"
        code=$? job=''
        # What it said last is still on its way.
        sleep 0.5
        ((code == 0)) && exit 0
        # A run that another one keeps out may go on once that one's lease is over; a wrong config stays wrong.
        if { ((code == 2)) || grep -Eq '^(Exit code: 2$| *exitcode *: 2 )' "$told"; } &&
            ! grep -q ' is being written by ' "$told"; then
            say "no other attempt would mend that"
            exit 2
        fi
    else
        say "attempt $attempt of $attempts: none of $hosts answers"
    fi
    if ((attempt < attempts)); then
        say "again in $wait_s s"
        sleep "$wait_s" &
        pause=$!
        wait "$pause"
        pause=''
        wait_s=$((wait_s < 150 ? wait_s * 2 : 300))
    fi
done
say "given up after $attempts attempts"
exit 1
