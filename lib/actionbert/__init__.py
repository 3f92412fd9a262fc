"""ActionBert, user interfaces read with user actions: He et al. (2021), arXiv 2012.12350v2."""
