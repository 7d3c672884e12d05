"""Training: the trainer, what happens between its steps, the problems it sees and the held-out evaluation."""
