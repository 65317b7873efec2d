"""Helpers for models, images and arguments."""
