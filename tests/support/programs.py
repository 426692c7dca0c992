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
