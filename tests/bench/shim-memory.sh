#!/bin/bash
# Prints the memory of N shims beside that of N conmons, each with a sleeping container of runc (as root):
#   tests/bench/shim-memory.sh [N] [SHIM]
# The measure is the proportional set size: private pages whole, shared ones by the share of those that map them.
# The containers run while it is taken; everything is ended and removed at the end, also after a failure.
set -euo pipefail

count=${1:-20}
shim=$(realpath "${2:-target/release/evenkeel-shim}")
for program in "$shim" conmon runc busybox python3; do
    command -v "$program" >/dev/null || { echo "missing: $program" >&2; exit 2; }
done

directory=$(mktemp -d /tmp/evenkeel-shim-memory.XXXXXX)
name=$(basename "$directory")
clean_up() {
    # conmon ends its file without a line end.
    for file in "$directory"/*/*.pid; do kill -KILL "$(cat "$file")" 2>/dev/null || true; done
    for id in $(ls "$directory/oci" 2>/dev/null); do runc --root "$directory/oci" delete --force "$id" || true; done
    for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/*; do
        find "$hierarchy/$name" -depth -type d -exec rmdir {} + 2>/dev/null || true
    done
    rm -rf "$directory"
}
trap clean_up EXIT

mkdir -p "$directory"/rootfs/{bin,proc,dev}
cp "$(command -v busybox)" "$directory/rootfs/bin/busybox"

bundle() { # kind number
    local bundle="$directory/$1-$2"
    mkdir -p "$bundle"
    cat >"$bundle/config.json" <<-JSON
	{"ociVersion": "1.0.2",
	 "process": {"user": {"uid": 0, "gid": 0}, "args": ["/bin/busybox", "sleep", "10000"], "cwd": "/"},
	 "root": {"path": "$directory/rootfs", "readonly": true},
	 "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}, {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}],
	 "linux": {"cgroupsPath": "/$name/$1-$2", "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "network"}]}}
	JSON
    echo "$bundle"
}

proportional_set_size() { # kind, then its pids one a line on standard input
    local sum=0 pids=0 pss
    while read -r pid; do
        pss=$(awk '$1 == "Pss:" { print $2 }' "/proc/$pid/smaps_rollup")
        sum=$((sum + pss)) pids=$((pids + 1))
    done
    awk -v kind="$1" -v sum="$sum" -v pids="$pids" \
        'BEGIN { printf "%-14s %4d processes  %8.3f MiB each\n", kind, pids, sum / pids / 1024 }'
}

for number in $(seq "$count"); do
    bundle=$(bundle shim "$number")
    cat >"$bundle/shim.json" <<-JSON
	{"id": "$name-shim-$number", "runtime": ["runc", "--root", "$directory/oci"], "bundle": "$bundle",
	 "status": "$bundle/status.json", "socket": "$bundle/shim.sock",
	 "log": {"path": "$bundle/log", "maxSize": 1048576, "maxFiles": 2},
	 "restart": {"policy": "always", "maxRetries": null, "initialMs": 100, "maxMs": 1000, "resetMs": 10000},
	 "stop": {"signal": 9, "timeoutMs": 1000}, "health": null, "cgroups": []}
	JSON
    "$shim" "$bundle/shim.json"
    sed 's/.*"shimPid":\([0-9]*\).*/\1/' "$bundle/status.json" >"$bundle/shim.pid"
    # conmon ships no client that asks a socket.
    python3 - "$bundle/shim.sock" <<-'PYTHON'
	import json, socket, sys
	connection = socket.socket(socket.AF_UNIX)
	connection.connect(sys.argv[1])
	connection.sendall(b'{"request": "start"}\n')
	error = json.loads(connection.makefile().readline())["error"]
	sys.exit(error)
	PYTHON

    bundle=$(bundle conmon "$number")
    conmon --cid "$name-conmon-$number" --cuuid "$name-conmon-$number" --name "conmon-$number" \
        --runtime "$(command -v runc)" --runtime-arg --root --runtime-arg "$directory/oci" \
        --bundle "$bundle" --log-path "$bundle/log" --exit-dir "$bundle" --socket-dir-path "$bundle" \
        --conmon-pidfile "$bundle/conmon.pid" --container-pidfile "$bundle/init.id"
done
sleep 12 # what a shim keeps for the first ten seconds of a run is gone by then

for file in "$directory"/shim-*/shim.pid; do echo "$(cat "$file")"; done | proportional_set_size evenkeel-shim
for file in "$directory"/conmon-*/conmon.pid; do echo "$(cat "$file")"; done | proportional_set_size conmon
