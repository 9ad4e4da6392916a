"""``python -m grokphase`` is the command line."""

from grokphase.cli import main

raise SystemExit(main())
