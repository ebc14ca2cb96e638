"""Training metanetworks."""
