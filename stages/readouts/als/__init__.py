"""Alternating least squares from sufficient statistics."""
