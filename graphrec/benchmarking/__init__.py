"""Measure models side by side: a grid of data sets, models and seeds, each cell in a fresh process."""
