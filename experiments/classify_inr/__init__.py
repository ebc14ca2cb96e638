"""Classification of images by the weights of their INRs."""
