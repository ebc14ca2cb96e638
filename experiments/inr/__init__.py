"""Code that the experiments on implicit neural representations share."""
