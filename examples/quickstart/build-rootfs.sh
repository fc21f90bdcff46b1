#!/bin/sh
# Builds rootfs.tar.gz beside this script: a root file system of Debian's static busybox (package busybox-static) and a page.
# It needs no privilege, and the same busybox gives the same bytes.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
busybox=${BUSYBOX:-/bin/busybox}
if ! "$busybox" --list 2>/dev/null | grep -qx httpd; then
	echo "build-rootfs.sh: $busybox is missing or has no httpd: apt-get install busybox-static" >&2
	exit 1
fi

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
umask 022
mkdir -p "$root/bin" "$root/etc" "$root/dev" "$root/proc" "$root/sys" "$root/run" "$root/tmp" "$root/srv" \
	"$root/usr/share/page"
chmod 0755 "$root"
chmod 1777 "$root/tmp"

cp "$busybox" "$root/bin/busybox"
chmod 0755 "$root/bin/busybox"
"$busybox" --list | while read -r applet; do
	[ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
done

printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$root/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
cat >"$root/usr/share/page/index.html" <<'PAGE'
<!doctype html>
<title>evenkeel</title>
<h1>On an even keel.</h1>
<p>This page comes from a container that a directory of manifests describes.</p>
PAGE

# Written beside the result and renamed, so that no half tarball is ever seen.
tar --create --directory "$root" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner . |
	gzip -n >"$here/rootfs.tar.gz.new"
mv "$here/rootfs.tar.gz.new" "$here/rootfs.tar.gz"
