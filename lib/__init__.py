"""The kernels, models and data behind the chapters of the book."""
