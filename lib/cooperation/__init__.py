"""How selfish learners come to cooperate: Meulemans et al. (2024), arXiv 2410.18636v2."""
