"""The identity of a set in the specs of jobs: the digest of its content, or why it is unknown.

Reads the manifest of a set, or its files; writes nothing.

Try: ``python -c "from irbench.data import sets; from irbench.plan import contents
print(contents.spec(sets.get('photos'), 'data'))"``
"""

from __future__ import annotations

from irbench.core import records
from irbench.core.errors import Unavailable
from irbench.data import sets
from irbench.data.sets import DatasetEntry


def spec(entry: DatasetEntry, data_root: str) -> dict:
    """Return the spec of a set's own job: ``dataset`` (as in all specs), ``count``, ``names`` (the
    digest of the names of its images, None if unknown), ``data_root``.

    A missing set does not stop the run: its spec holds the reason instead of a digest. When the
    set arrives, the digest replaces the reason, so that all jobs that depend on it run again.

    Args:
        entry: the set.
        data_root: the config's.

    Raises:
        UserError: a manifest cannot be read.
    """
    try:
        rows = sets.manifest(entry)
        role = "input" if entry.paired else "hr"
        names = [row.name for row in rows if row.role == role]
        count, digest = len(names), records.digest_of_names(names)
        found = {"name": entry.name, "sha256": sets.digest(entry, rows)}
    except Unavailable as error:
        found, count = {"name": entry.name, "sha256": None, "reason": str(error)}, entry.count
        digest = None
    return {"dataset": found, "count": count, "names": digest, "data_root": data_root}
