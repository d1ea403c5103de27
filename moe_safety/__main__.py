from moe_safety.cli import main

raise SystemExit(main())
