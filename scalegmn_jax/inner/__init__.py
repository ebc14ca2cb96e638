"""Training and evaluation of target networks."""
