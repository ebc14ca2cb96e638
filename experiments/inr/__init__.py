"""Implicit neural representations that two experiments share."""
