"""In-context learning as mesa-optimisation: von Oswald et al., arXiv 2309.05858v2."""
