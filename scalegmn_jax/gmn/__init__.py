"""Graph metanetworks: layers, and the metanetworks composed of them."""
