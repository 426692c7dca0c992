"""systemd as far as a scratch machine needs it."""

from __future__ import annotations

from typing import Final

# install_info_symlink_wants and remove_marked_symlinks of src/shared/install.c: links into the folder of the target,
# which goes with its last link; systemd reads all units again behind either, as behind daemon-reload ($tree/run/seen).
# `show` tells what $tree/run/units/<unit> says; a unit without it never ran.
SYSTEMCTL: Final = r"""# asks: show
units=$tree/etc/systemd/system
verb=$1
shift
reload() {
    rm -f "$tree"/run/seen/*
    for file in "$units"/*.service; do
        [ ! -f "$file" ] || cp "$file" "$tree/run/seen/"
    done
}
case $verb in
daemon-reload) reload ;;
enable | disable)
    for unit in "$@"; do
        [ "$unit" != --now ] || continue
        [ -f "$units/$unit" ] || { echo "Failed to $verb unit: Unit file $unit does not exist." >&2; exit 1; }
        for target in $(sed -n 's/^WantedBy=//p' "$units/$unit"); do
            wants=$units/$target.wants
            if [ $verb = enable ]; then
                mkdir -p "$wants"
                ln -sf "/etc/systemd/system/$unit" "$wants/$unit"
            else
                rm -f "$wants/$unit"
                rmdir "$wants" 2>/dev/null || :
            fi
        done
    done
    reload
    ;;
reset-failed) rm -f "$tree/run/units/$1" ;;
show)
    shift
    for unit in "$@"; do
        echo "Id=$unit"
        cat "$tree/run/units/$unit" 2>/dev/null || printf 'ActiveState=inactive\nResult=success\nExecMainStatus=0\n'
        stale=no
        [ ! -e "$tree/run/seen/$unit" ] || cmp -s "$tree/run/seen/$unit" "$units/$unit" || stale=yes
        printf 'NeedDaemonReload=%s\n\n' $stale
    done
    ;;
*) echo "Unknown command verb $verb." >&2; exit 1 ;;
esac
"""
