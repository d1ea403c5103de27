"""What judges share whose model runs here."""
