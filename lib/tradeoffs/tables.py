"""What the paper's figures print or show, to compare with."""

from __future__ import annotations

# Switch points printed at the dashed lines of Figs. 1 and 2: (model, experiment, scale)
SWITCH = {
    ("GPT-4o mini", "pain", "quantitative"): 0.55,
    ("Claude 3.5 Sonnet", "pain", "quantitative"): 2.86,
    ("GPT-4o", "pain", "quantitative"): 3.15,
    ("Command R+", "pain", "quantitative"): 6.05,
    ("Llama 3.1 405b", "pain", "quantitative"): 10.37,
    ("Command R+", "pleasure", "quantitative"): 4.09,
    ("GPT-4o", "pleasure", "quantitative"): 5.44,
}

# Words printed at the dashed lines of the qualitative panels; GPT-4o and Claude 3 Opus share a line
WORDS = {
    ("Command R+", "pain", "qualitative"): "extremely intense",
    ("GPT-4o mini", "pleasure", "qualitative"): "mild",
    ("Command R+", "pleasure", "qualitative"): "intense",
    ("GPT-4o", "pleasure", "qualitative"): "intense",
    ("Claude 3 Opus", "pleasure", "qualitative"): "intense",
}

SLOPE = -2.79  # b1 of Claude 3.5 Sonnet, pain, quantitative: the one coefficient that is quoted

# Edges of shaded bands where they are wide enough to be read off: level, lower, upper
BANDS = {
    ("Llama 3.1 405b", "pain", "quantitative"): (9.5, 0.586, 0.760),
    ("Command R+", "pain", "quantitative"): (6.5, 0.263, 0.427),
    ("Command R+", "pleasure", "quantitative"): (2.5, 0.576, 0.667),
}

# "Switched after a critical threshold" (abstract): the models that it names
TRADE_OFF = ("Claude 3.5 Sonnet", "Command R+", "GPT-4o", "GPT-4o mini")

# What 1,800 replies cost in a published replication with eight later models, US dollars (2026)
COST = {
    "Llama 3.1 70B": 0.11,
    "GLM 5.2": 0.58,
    "DeepSeek v4 pro": 0.87,
    "Hermes 3 70B": 1.25,
    "GPT-5.6": 2.67,
    "Claude Opus 4.8": 3.22,
    "Kimi K3": 11.0,
    "Gemini 3.1 pro": 14.0,
}
