"""Commands of a scratch machine: small and real, on the files of its tree alone."""

from __future__ import annotations

from typing import Final

MODPROBE: Final = r"""
remove=
[ "$1" != -r ] || { remove=1; shift; }
name=$(echo "$1" | tr - _)
modules=$tree/proc/modules
if [ "$remove" ]; then
    grep -v "^$name " "$modules" > "$modules.new" || :
    cat "$modules.new" > "$modules"
    rm "$modules.new"
    exit
fi
grep -q "^$name " "$modules" || echo "$name 16384 0 - Live 0x0000000000000000" >> "$modules"
"""

# grub-mkconfig and 10_linux in short: the files are sourced by sh itself.
UPDATE_GRUB: Final = r"""
set +u
. "$tree/etc/default/grub"
for one in "$tree"/etc/default/grub.d/*.cfg; do
    [ ! -e "$one" ] || . "$one"
done
menu=$tree/boot/grub/grub.cfg
kernel="/boot/vmlinuz-6.1.0-13-amd64 root=UUID=1234 ro"
{
    echo "### BEGIN /etc/grub.d/10_linux ###"
    echo "menuentry 'Linux' {"
    printf '\tlinux\t%s\n' "$kernel $GRUB_CMDLINE_LINUX $GRUB_CMDLINE_LINUX_DEFAULT"
    echo "}"
    echo "menuentry 'Linux (recovery mode)' {"
    printf '\tlinux\t%s\n' "$kernel single $GRUB_CMDLINE_LINUX"
    echo "}"
    echo "### END /etc/grub.d/10_linux ###"
    echo "### BEGIN /etc/grub.d/30_os-prober ###"
    printf '\tlinux\t%s\n' "/boot/vmlinuz-other root=/dev/sdb1"
    echo "### END /etc/grub.d/30_os-prober ###"
} > "$menu.new"
cat "$menu.new" > "$menu"
rm "$menu.new"
"""

# grubby-bls of grubby 8.40-69 (update_bls_fragment and update_args) for --update-kernel=ALL: what is added replaces all
# of its name; $kernelopts in GRUB's environment stands for the entries that name it; /etc/default/grub is written too
# unless told not to, and /etc/kernel/cmdline always, made of the oldest entry where it is not there.
GRUBBY: Final = r"""
removed= added= etc=1
for one in "$@"; do
    case $one in
    --remove-args=*) removed=${one#*=} ;;
    --args=*) added=${one#*=} ;;
    --update-kernel=ALL) ;;
    --no-etc-grub-update) etc= ;;
    *) echo "unknown option $one" >&2; exit 1 ;;
    esac
done
update() {
    kept=
    for word in $1; do
        drop=
        for one in $removed; do
            case $one in
            *=*) [ "$word" != "$one" ] || drop=1 ;;
            *) case $word in "$one"|"$one"=*) drop=1 ;; esac ;;
            esac
        done
        for one in $added; do
            case $word in "${one%%=*}"|"${one%%=*}"=*) drop=1 ;; esac
        done
        [ "$drop" ] || kept="$kept $word"
    done
    echo $kept $added
}
rewrite() { # file, what a line begins with, what it is to be
    text=$(sed "s|^$2.*|$3|" "$1"; echo .)
    printf %s "${text%.}" > "$1"
}
grub=$tree/etc/default/grub
if [ "$etc" ] && [ -e "$grub" ]; then
    old=$(set +u; . "$grub"; echo $GRUB_CMDLINE_LINUX)
    [ ! "$old" ] || rewrite "$grub" GRUB_CMDLINE_LINUX "GRUB_CMDLINE_LINUX=\"$(update "$old")\""
fi
environment=$tree/boot/grub2/grubenv
kernelopts=$(sed -n 's/^kernelopts=//p' "$environment" 2>/dev/null || :)
for entry in "$tree"/boot/loader/entries/*.conf; do
    options=$(sed -n 's/^options[ \t]*//p' "$entry")
    oldest=${oldest-$options}
    case " $options " in
    *' $kernelopts '*) ;;
    *) rewrite "$entry" options "options $(update "$options")" ;;
    esac
done
[ ! "$kernelopts" ] || rewrite "$environment" kernelopts= "kernelopts=$(update "$kernelopts")"
cmdline=$tree/etc/kernel/cmdline
if [ ! -f "$cmdline" ]; then
    mkdir -p "$tree/etc/kernel"
    echo "$oldest" | sed "s|[$]kernelopts|$kernelopts|" > "$cmdline"
fi
read -r old < "$cmdline"
update "$old" > "$cmdline"
"""

KERNEL_INSTALL: Final = r"""
[ "$1" = add ]
mkdir -p "$tree/boot/loader/entries"
options=$(cat "$tree/etc/kernel/cmdline" 2>/dev/null || sed 's/BOOT_IMAGE=[^ ]* //' "$tree/proc/cmdline")
entry=$tree/boot/loader/entries/0123-$2.conf
printf 'title Linux\nversion %s\noptions %s\nlinux %s\n' "$2" "$(echo $options)" "$3" > "$entry"
"""

# systemd with irqbalance alone: it is started with what its EnvironmentFile= say, as pid 700.
IRQBALANCE_SYSTEMCTL: Final = r"""
case "$1 ${2-}" in
"daemon-reload ") ;;
"try-restart irqbalance.service")
    environ=$tree/proc/700/environ
    [ -e "$environ" ] || exit 0
    files=$tree/etc/default/irqbalance
    [ ! -e "$tree/etc/systemd/system/irqbalance.service.d/zz-nfvhost.conf" ] ||
        files="$files $tree/etc/nfvhost/irqbalance.env"
    { echo LANG=C; cat $files | grep '^IRQBALANCE_' || :; } | tr '\n' '\0' > "$environ"
    ;;
*) echo "Unknown command verb $*." >&2; exit 1 ;;
esac
"""

# systemd that starts a slice: its group is made, with cpusets where the group above has turned them on.
SLICE_SYSTEMCTL: Final = r"""
case "$1 ${2-}" in
"daemon-reload ") ;;
"start machine.slice")
    group=$tree/sys/fs/cgroup
    mkdir "$group/machine.slice"
    if grep -q cpuset "$group/cgroup.subtree_control"; then
        sed -n 's/^AllowedCPUs=//p' "$tree/etc/systemd/system/machine.slice.d/zz-nfvhost.conf" \
            > "$group/machine.slice/cpuset.cpus"
        cp "$group/machine.slice/cpuset.cpus" "$group/machine.slice/cpuset.cpus.effective"
        echo member > "$group/machine.slice/cpuset.cpus.partition"
    fi
    ;;
*) echo "Unknown command verb $*." >&2; exit 1 ;;
esac
"""
