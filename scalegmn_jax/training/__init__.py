"""Training of metanetworks: objectives, optimizer, loop and checkpoints."""
