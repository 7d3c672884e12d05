"""The parts of the studies of learning, of teams and of replay: settings, rows, pages, and what runs them."""
