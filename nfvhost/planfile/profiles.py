"""Profiles: those of files, and those that come with nfvhost."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import nfvhost
from nfvhost.errors import DocumentError
from nfvhost.planfile import v1
from nfvhost.planfile.file import read_text
from nfvhost.planfile.names import nearest
from nfvhost.planfile.sets import apply_sets
from nfvhost.planfile.versions import open_document

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nfvhost.model.profile import Profile

DEFAULT_PROFILE: Final = "home"
_ENDINGS: Final = (".yaml", ".yml", ".json")
_SHIPPED: Final = os.path.join(os.path.dirname(os.path.abspath(nfvhost.__file__)), "plans")


def shipped_profiles(folder: str = _SHIPPED) -> dict[str, str]:
    """The profiles that come with nfvhost: name -> path. DocumentError where their folder cannot be read."""
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".yaml"))
    except OSError as error:
        raise DocumentError(
            f"the profiles of nfvhost itself cannot be read: {error.strerror}",
            where=folder,
            hint="install nfvhost where this user may read it, or name a file with --profile FILE",
        ) from error
    return {name.removesuffix(".yaml"): os.path.join(folder, name) for name in names}


def profile_path(name: str) -> str:
    """The file that `--profile` means: a path, or the name of one that comes with nfvhost."""
    if "/" in name or name.endswith(_ENDINGS):
        return name
    shipped = shipped_profiles()
    if name in shipped:
        return shipped[name]
    if os.path.exists(name):
        return name
    close = nearest(name, tuple(shipped))
    known = f"there are: {', '.join(shipped)}; or a file, with its .yaml"
    raise DocumentError(
        "there is no profile of that name",
        where=f"--profile {name}",
        hint=f"did you mean {close}? {known}" if close else known,
    )


def load_profile(path: str, *, sets: Sequence[str] = ()) -> Profile:
    """The profile in a file, or the shipped one of that name, with single values set (`pmd.cores=2`).

    DocumentError with all its problems.
    """
    place = profile_path(path)
    return load_profile_text(read_text(place), os.path.basename(place) if place != path else path, sets=sets)


def load_profile_text(text: str, where: str, *, sets: Sequence[str] = ()) -> Profile:
    """The profile in a text; `where` names the text in problems."""
    body, problems = open_document(text, where=where, kind="Profile")
    body, wrong = apply_sets(body, sets)
    problems += wrong
    profile = v1.read_profile(body, problems)
    if problems or profile is None:
        raise DocumentError.of(tuple(problems))
    return profile


def default_profile(*, sets: Sequence[str] = ()) -> Profile:
    """The profile `home`, which fits a machine that nobody thought about yet."""
    return load_profile(DEFAULT_PROFILE, sets=sets)
