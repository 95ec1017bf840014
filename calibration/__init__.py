"""From measurements to profiles."""
