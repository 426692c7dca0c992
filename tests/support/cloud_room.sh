#!/usr/bin/env bash
# cloud_room.sh COMMAND…: runs it in a network, mounts and process numbers of its own, so that a cloud's fixed ports meet
# nobody else's, and everything that was started ends with the command, however it ends. Needs root.
set -euo pipefail
pool=/proc/sys/vm/nr_hugepages
pages=$(cat $pool)
room=$(mktemp -d --tmpdir nfvhost-cloud-XXXXXX)
trap 'echo "$pages" >$pool; rmdir "$room"' EXIT
# bash stays, as process 1, to bury what daemons leave: libvirt takes an unburied QEMU for a running one.
unshare --net --mount --pid --fork --kill-child --mount-proc --propagation private -- \
    env NFVHOST_CLOUD_ROOM="$room" bash -c 'ip link set lo up; "$@"; exit $?' room "$@"
