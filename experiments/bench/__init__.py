"""How fast the library is, and how fast it could be on this machine."""
