"""Images on which target networks are trained and measured."""
