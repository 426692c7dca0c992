"""Images: one that is there, or a file that is uploaded under a name.

Source: Glance's API v2.
"""

from __future__ import annotations

import os
from typing import Final

from openstack.connection import Connection
from openstack.image.v2.image import Image

from nfvhost.errors import PreconditionError
from nfvhost.model.vnf import DiskFormat, VnfImage
from nfvhost.openstack.connect import asking
from nfvhost.openstack.marks import VNF_KEY, is_marked, tags

_FORMATS: Final = {
    ".raw": DiskFormat.RAW,
    ".img": DiskFormat.RAW,
    ".qcow2": DiskFormat.QCOW2,
    ".iso": DiskFormat.ISO,
    ".vmdk": DiskFormat.VMDK,
    ".vdi": DiskFormat.VDI,
    ".vhd": DiskFormat.VHD,
}


def ensure_image(cloud: Connection, image: VnfImage, vnf: str) -> tuple[Image, bool]:
    """The image, ready to boot, and whether it was uploaded just now.

    An upload that was cut off is done again. PreconditionError where there is neither an image nor a file.
    """
    where = f"image {image.name}"
    with asking("Glance", where=where):
        found = [one for one in cloud.image.images(name=image.name) if isinstance(one, Image)]
        ready = [one for one in found if one.status == "active"]
        if ready:
            return ready[0], False
        if image.file is None:
            what = f"is {found[0].status}" if found else "is not there"
            raise PreconditionError(
                what, where=where, hint="say `file:` to upload one; `openstack image list` shows all"
            )
        size = _size(image.file)
        for old in found:
            if is_marked(old.tags):
                old.delete(cloud.image)
        made = Image.new(
            name=image.name,
            disk_format=str(_format(image)),
            container_format="bare",
            tags=tags(vnf),
            **dict(image.properties),
            **{VNF_KEY: vnf},
        )
        made.create(cloud.image)
        with open(image.file, "rb") as content:
            made.data = content
            made.upload(cloud.image)
        made.fetch(cloud.image)
        if made.status != "active" or made.size != size:
            raise PreconditionError(f"is {made.status} with {made.size} of {size} bytes after its upload", where=where)
        return made, True


def delete_images(cloud: Connection, vnf: str) -> tuple[str, ...]:
    """The names of the images that were uploaded for a VNF, which are gone then."""
    with asking("Glance"):
        found = [one for one in cloud.image.images(tag=tags(vnf)) if isinstance(one, Image) and is_marked(one.tags)]
        for one in found:
            one.delete(cloud.image)
    return tuple(one.name for one in found)


def _format(image: VnfImage) -> DiskFormat:
    """As the document says, or as the file's name ends."""
    if image.disk_format is not None:
        return image.disk_format
    return _FORMATS.get(os.path.splitext(image.file or "")[1].lower(), DiskFormat.QCOW2)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError as error:
        raise PreconditionError(f"cannot be read: {error.strerror}", where=path) from error
