"""`python -m moe_safety`."""

from moe_safety.cli import main

raise SystemExit(main())
