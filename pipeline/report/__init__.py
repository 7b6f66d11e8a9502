"""Figures, report.html, and the comparison of two runs."""
