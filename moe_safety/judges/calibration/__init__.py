"""How far judges agree, with one another and with people."""
