"""Quality of an operator against networks and steps of training."""
