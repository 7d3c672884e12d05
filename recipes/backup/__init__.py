"""`--backup_url`: copies of a run elsewhere, written while it trains."""
