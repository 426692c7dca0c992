#!/usr/bin/env bash
# vm_compute.sh start STATE PACKAGES PYTHON PF PORT… | stop PF: in the machine under test, what makes it a compute host of a cloud
# whose control plane is outside. It runs the programs of the host below QEMU, whose files it has by 9p, on its own
# kernel, switch and devices, and reaches the control plane's ports by QEMU's gateway. All it makes is below /run.
set -euo pipefail
tree=/run/compute/tree host=/run/compute/host

unit() {
    local name=$1
    shift
    # An end in peace takes them a minute, and nothing of theirs is kept.
    systemd-run --quiet --collect --unit="compute-$name" --property=KillSignal=SIGKILL \
        --setenv=PATH="$packages/bin:/usr/sbin:/usr/bin:/sbin:/bin" "$@"
}

start() {
    state=$1 packages=$2 python=$3 pf=$4
    shift 4
    modprobe -a 9pnet_virtio 9p
    mkdir -p $tree $host
    mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=512000 host $host
    for folder in bin sbin lib lib64 lib32; do
        [ ! -L $host/$folder ] || ln -s usr/$folder $tree/$folder
    done
    bind /usr $host
    bind "$packages" $host
    [[ $python/ = /usr/* ]] || bind "$python" $host
    for folder in dev sys proc; do
        mkdir $tree/$folder
        mount --rbind /$folder $tree/$folder
        # What is unmounted there stays mounted here.
        mount --make-rslave $tree/$folder
    done
    for folder in run var tmp; do
        mkdir $tree/$folder
        mount -t tmpfs tmpfs $tree/$folder
    done
    mkdir -p $tree/var/{lib,log,cache} $tree/run/{libvirt,lock} "$tree$state"/{nova,neutron,instances,lock,log,hugepages}
    ln -s /run $tree/var/run
    bind /run/openvswitch ''
    bind /run/udev ''
    mount -t hugetlbfs -o pagesize=1G hugetlbfs "$tree$state/hugepages"
    configure
    for port in "$@"; do
        systemd-run --quiet --unit="compute-port-$port" --socket-property=ListenStream="127.0.0.1:$port" \
            /usr/lib/systemd/systemd-socket-proxyd "10.0.2.2:$port"
    done
    unit libvirtd chroot $tree /usr/sbin/libvirtd -f /etc/libvirt/libvirtd.conf -p /run/libvirtd.pid
    until [ -S $tree/run/libvirt/libvirt-sock ]; do sleep 0.2; done
    # The directory of drop-ins is the machine's own, with what nfvhost has put there.
    bind /etc/nova/nova-compute.conf.d ''
    unit nova chroot $tree "$packages/bin/nova-compute" --config-file /etc/nova/nova.conf --config-dir /etc/nova/compute \
        --config-dir /etc/nova/nova-compute.conf.d
    unit sriov chroot $tree "$packages/bin/neutron-sriov-nic-agent" --config-file /etc/neutron/neutron.conf \
        --config-dir /etc/neutron/machine
}

# bind FOLDER ROOT: the folder below that root, in the same place of the tree.
bind() {
    mkdir -p "$tree$1"
    mount --bind "$2$1" "$tree$1"
}

# What the control plane has been told, and what is this machine's.
configure() {
    local one netdev
    mkdir -p $tree/etc
    for one in nova neutron libvirt passwd group ssl ld.so.cache ld.so.conf ld.so.conf.d alternatives nsswitch.conf hosts \
        host.conf services protocols os-release; do
        [ ! -e $host/etc/$one ] || cp -a $host/etc/$one $tree/etc/
    done
    cp /etc/machine-id /etc/hostname $tree/etc/
    mkdir $tree/etc/neutron/machine
    netdev=$(ls "/sys/bus/pci/devices/$pf/net")
    ip link set "$netdev" up
    # An emulated machine takes its time.
    cat >$tree/etc/nova/compute/95-machine.conf <<END
[DEFAULT]
host = $(hostname)
rpc_response_timeout = 300
vif_plugging_timeout = 300
END
    cat >$tree/etc/neutron/machine/machine.conf <<END
[DEFAULT]
host = $(hostname)
rpc_response_timeout = 300
[sriov_nic]
physical_device_mappings = physnet2:$netdev
END
}

stop() {
    # 5: one of them has ended meanwhile, and is known no more.
    systemctl stop 'compute-*' || [ $? = 5 ]
    awk '$2 ~ "^/run/compute/" { print $2 }' /proc/mounts | tac | xargs --no-run-if-empty --max-args=1 umount --lazy
    rm -rf --one-file-system /run/compute
    ip link set "$(ls "/sys/bus/pci/devices/$1/net")" down
}

"$@"
