"""Problems: the row type, embedded and user sources, and domain mixing."""
