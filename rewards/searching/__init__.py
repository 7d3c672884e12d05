"""The search's door to the rewards: workflows run and graded for it, and a search for every problem by itself."""
