"""``python -m irbench`` is the command ``irbench``."""

from irbench.cli import main

raise SystemExit(main())
