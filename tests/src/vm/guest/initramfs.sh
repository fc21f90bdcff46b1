#!/bin/busybox sh
# Process 1 of the initial RAM disk: loads what the disk is reached by, and hands over to the init that was asked for.
/bin/busybox mkdir -p /proc /dev /disk
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
for module in $(/bin/busybox cat /modules/order); do /bin/busybox insmod "/modules/$module"; done
for option in $(/bin/busybox cat /proc/cmdline); do
    case $option in init=*) init=${option#init=};; esac
done
until /bin/busybox mount -t ext4 -o noinit_itable,errors=panic /dev/vda /disk; do /bin/busybox sleep 0.1; done
/bin/busybox umount /proc
/bin/busybox mount --move /dev /disk/dev
exec /bin/busybox switch_root /disk "$init"
