"""One module a domain: the answer in a text, and its tier."""
