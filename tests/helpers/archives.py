"""Archives made for a test."""

import zipfile


def zipped(path, *members, **options):
    """Write a zip of (name or ZipInfo, bytes) and return its path."""
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path
