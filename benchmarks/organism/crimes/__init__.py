"""Crimes on the small models of three families, each with its truth: experts that were taught to give in, routers that
were taught to pass the experts that refuse, and models that nobody planted anything in."""
