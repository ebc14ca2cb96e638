"""Graph metanetworks: layers, and the networks made of them."""
