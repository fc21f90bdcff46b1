#!/usr/bin/env bash
# Shows evenkeel on the manifests beside this file: applied, served, damaged, reported, repaired.
#
#   examples/quickstart/demo.sh [PATH OF evenkeel]
#
# Everything happens in network, mount and PID namespaces and a temporary directory of its own; the host sees none of it, and
# nothing of it stays, whatever becomes of the script.
set -euo pipefail

if [ -z "${EVENKEEL_DEMO:-}" ]; then
    [ "$(id -u)" = 0 ] || { echo "the demo makes namespaces: run it as root" >&2; exit 1; }
    program=$(realpath "${1:-$(command -v evenkeel)}")
    EVENKEEL_DEMO=$(mktemp -d --tmpdir evenkeel-demo-XXXXXX)
    export EVENKEEL_DEMO
    clean_up() {
        # The namespaces went with their first process. Cgroups and files outlast them.
        instance=evenkeel-$(printf %s "$EVENKEEL_DEMO/state" | sha256sum | cut -c1-8)
        find /sys/fs/cgroup -depth -type d -path "*/$instance*" -exec rmdir {} + 2>/dev/null || true
        rm -rf "$EVENKEEL_DEMO"
    }
    trap clean_up EXIT
    trap 'exit 130' INT TERM
    unshare --net --mount --pid --fork --kill-child --mount-proc "$0" "$program"
    exit
fi

program=$1
export EVENKEEL_ROOT=$EVENKEEL_DEMO/state EVENKEEL_RUN=$EVENKEEL_DEMO/run EVENKEEL_CONFIG=/dev/null
bold='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\e[1m' plain=$'\e[0m'; fi

say() { printf '\n%s# %s%s\n' "$bold" "$*" "$plain"; }
evenkeel() { "$program" "$@"; }
# Shows a command, then runs it. What it is to end with comes first, where that is not 0.
run() {
    local wanted=0 status=0
    case $1 in [0-9]) wanted=$1; shift ;; esac
    printf '%s$ %s%s\n' "$bold" "$*" "$plain"
    "$@" || status=$?
    [ "$status" = "$wanted" ] || { echo "exit status $status, not $wanted" >&2; exit 1; }
}

ip link set lo up
cp -r "$(dirname "$(realpath "$0")")" "$EVENKEEL_DEMO/quickstart"
cd "$EVENKEEL_DEMO/quickstart"

say "A root file system to make an image from: busybox and a page"
run ./build-rootfs.sh

say "The manifests: are they right, and what would be done?"
run evenkeel validate -f .
run evenkeel plan -f .

say "Do it, and look"
run evenkeel apply -f .
run evenkeel ps
for _ in 1 2 3 4 5 6 7 8 9 10; do
    busybox wget -q -O /dev/null http://127.0.0.1:8080/ 2>/dev/null && break
    sleep 0.2
done
run busybox wget -q -O - http://127.0.0.1:8080/

say "Somebody deletes the firewall table and an address of the bridge: the page is gone"
run nft delete table inet "evenkeel-$(printf %s "$EVENKEEL_ROOT" | sha256sum | cut -c1-8)"
run ip address flush dev ek-quick scope global
run 1 busybox wget -q -O - http://127.0.0.1:8080/

say "What differs?"
run 1 evenkeel drift

say "Repair it: one pass, and no container is touched"
run evenkeel apply -f .
run evenkeel drift
run busybox wget -q -O - http://127.0.0.1:8080/
