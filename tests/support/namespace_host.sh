#!/usr/bin/env bash
# The first process of one host; `namespace_hosts.py` starts it in namespaces of its own.
#
#     namespace_host.sh NAME HOSTS_FILE PRIVATE -- SHARED
#
# PRIVATE folders are empty here and nobody else's; SHARED ones can be read where they lie, also
# below a private one; of the rest of the machine's disk nothing can be written. With this process
# all others of the host end, and with the last of them its file systems and its network.
set -euo pipefail
name=$1 hosts_file=$2
shift 2
private=() shared=() opened=()
while [ "$1" != -- ]; do private+=("$1"); shift; done
shift

mount --make-rprivate /
for folder in "$@"; do
  exec {descriptor}< "$folder"
  shared+=("$folder") opened+=("$descriptor")
done
exec {hosts}< "$hosts_file"
while read -r folder; do
  case $folder in /proc* | /sys* | /dev*) ;; *) mount -o remount,bind,ro "$folder" ;; esac
done < <(findmnt --noheadings --raw --output TARGET)
for folder in "${private[@]}"; do
  mount -t tmpfs -o mode=1777 "private-$name" "$folder"
done
for index in "${!shared[@]}"; do
  mkdir -p "${shared[index]}"
  mount --no-canonicalize --bind "/proc/self/fd/${opened[index]}" "${shared[index]}"
  mount -o remount,bind,ro "${shared[index]}"
  exec {opened[index]}<&-
done
cat <&"$hosts" > /run/hosts
mount --bind /run/hosts /etc/hosts
echo "# nobody to ask" > /run/resolv.conf  # gRPC would wait for a name server that is out of reach
mount --bind /run/resolv.conf "$(readlink -f /etc/resolv.conf)"
mount -t sysfs sysfs /sys  # shows the interfaces of this host
hostname "$name"
ip link set lo up
cd /tmp
echo ready
sleep infinity &
wait  # and bury whatever has lost its parent
