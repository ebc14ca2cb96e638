"""Speed of the library, compared with the limits of the machine."""
