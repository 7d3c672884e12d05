"""A run: its command, what it shows while it goes on, and the files that it leaves."""
