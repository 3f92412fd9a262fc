"""Mesa-optimisation in Transformers: von Oswald et al. (2024), arXiv 2309.05858v2."""
