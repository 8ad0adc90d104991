"""`python3 -m chucky` is the command `chucky`."""

from chucky.cli import main

raise SystemExit(main())
