#!/bin/bash
# Prints how long evenkeel takes to pull and unpack an image of a few hundred megabytes, beside skopeo, which only copies, and
# beside skopeo with one tar for each layer, which is the same work (as root):
#   tests/bench/pull.sh [PROGRAM] [ROUNDS]
# The layers are Debian packages, downloaded once into target/bench-packages; the registry is docker-registry on 127.0.0.1.
# Nothing fails on time: read the ratios.
set -euo pipefail

program=$(realpath "${1:-target/release/evenkeel}")
rounds=${2:-3}
packages=(libllvm14 golang-1.19-go openjdk-17-jre-headless llvm-14-dev gcc-12 git golang-1.19-src perl-modules-5.36)
for needed in "$program" skopeo docker-registry dpkg-deb apt-get; do
    command -v "$needed" >/dev/null || { echo "missing: $needed" >&2; exit 2; }
done

cache=target/bench-packages
directory=$(mktemp -d /tmp/evenkeel-pull.XXXXXX)
registry=
clean_up() {
    [ -z "$registry" ] || kill "$registry" 2>/dev/null || true
    rm -rf "$directory"
}
trap clean_up EXIT

mkdir -p "$cache" "$directory/layout/blobs/sha256"
for package in "${packages[@]}"; do
    compgen -G "$cache/${package}_*.deb" >/dev/null || (cd "$cache" && apt-get download -q "$package" >/dev/null)
done

blob() { # file, media type: moves the file into the layout and prints its descriptor
    local digest size
    digest=$(sha256sum "$1" | cut -d' ' -f1) size=$(stat -c %s "$1")
    mv "$1" "$directory/layout/blobs/sha256/$digest"
    printf '{"mediaType": "%s", "digest": "sha256:%s", "size": %s}' "$2" "$digest" "$size"
}

layers='' diff_ids='' unpacked=0
for package in "${packages[@]}"; do
    dpkg-deb --fsys-tarfile "$cache/${package}"_*.deb >"$directory/layer"
    unpacked=$((unpacked + $(stat -c %s "$directory/layer")))
    diff_ids+="${diff_ids:+, }\"sha256:$(sha256sum "$directory/layer" | cut -d' ' -f1)\""
    gzip -6 "$directory/layer"
    layers+="${layers:+, }$(blob "$directory/layer.gz" application/vnd.oci.image.layer.v1.tar+gzip)"
done
architecture=$(dpkg --print-architecture)
echo "{\"os\": \"linux\", \"architecture\": \"$architecture\", \"rootfs\": {\"type\": \"layers\", \"diff_ids\": [$diff_ids]}}" \
    >"$directory/config"
config=$(blob "$directory/config" application/vnd.oci.image.config.v1+json)
manifest_type=application/vnd.oci.image.manifest.v1+json
echo "{\"schemaVersion\": 2, \"mediaType\": \"$manifest_type\", \"config\": $config, \"layers\": [$layers]}" >"$directory/manifest"
manifest=$(blob "$directory/manifest" "$manifest_type")
echo '{"imageLayoutVersion": "1.0.0"}' >"$directory/layout/oci-layout"
echo "{\"schemaVersion\": 2, \"manifests\": [${manifest%\}}, \"annotations\": {\"org.opencontainers.image.ref.name\": \"1\"}}]}" \
    >"$directory/layout/index.json"

port=$((20000 + RANDOM % 10000))
cat >"$directory/registry.yml" <<YAML
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $directory/storage}}
http: {addr: 127.0.0.1:$port}
YAML
docker-registry serve "$directory/registry.yml" >"$directory/registry.log" 2>&1 &
registry=$!
until (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do sleep 0.1; kill -0 "$registry"; done
reference=127.0.0.1:$port/large:1
skopeo --insecure-policy copy --quiet --preserve-digests --dest-tls-verify=false "oci:$directory/layout:1" "docker://$reference"
cat >"$directory/image.yaml" <<YAML
apiVersion: evenkeel/v1
kind: Image
metadata: {name: large}
spec: {reference: $reference}
YAML

copy() { # skopeo into a new layout
    skopeo --insecure-policy copy --quiet --src-tls-verify=false "docker://$reference" "oci:$1:1"
}
evenkeel() {
    "$program" --root "$directory/run-$1/root" --run "$directory/run-$1/run" apply -f "$directory/image.yaml" >/dev/null 2>&1
}
skopeo_only() { copy "$directory/run-$1"; }
skopeo_and_tar() {
    copy "$directory/run-$1"
    for blob in "$directory/run-$1"/blobs/sha256/*; do
        [ "$(head -c2 "$blob" | od -An -tx1)" = " 1f 8b" ] || continue
        mkdir "$blob.d"
        tar -xzf "$blob" -C "$blob.d" --same-owner --xattrs
    done
}
measure() { # kind: prints the median of the rounds, in seconds
    for round in $(seq "$rounds"); do
        sync
        local start=$EPOCHREALTIME
        "$1" "$1-$round"
        awk -v start="$start" -v end="$EPOCHREALTIME" 'BEGIN { printf "%.3f\n", end - start }'
        rm -rf "$directory/run-$1-$round"
    done | sort -n | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'
}

size=$(du -sm "$directory/layout" | cut -f1)
printf '%d layers, %d MiB compressed, %d MiB unpacked; medians of %d rounds\n' \
    "${#packages[@]}" "$size" "$((unpacked >> 20))" "$rounds"
ours=$(measure evenkeel) alone=$(measure skopeo_only) both=$(measure skopeo_and_tar)
awk -v ours="$ours" -v alone="$alone" -v both="$both" 'BEGIN {
    printf "%-36s %8.2f s\n", "evenkeel apply (pull and unpack)", ours
    printf "%-36s %8.2f s   ratio %.2f\n", "skopeo copy (pull only)", alone, ours / alone
    printf "%-36s %8.2f s   ratio %.2f\n", "skopeo copy, then tar of each layer", both, ours / both
}'
