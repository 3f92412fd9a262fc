"""A Transformer of ActionBert's size in Hugging Face's library: `with_transformers.py FOLDER`.

BertModel on tokens that are embedded already, the squares of its outputs as a loss, AdamW.
"""

import torch
from actionbert_task import HEADS, LAYERS, LENGTH, RATE, WIDTH, Task
from meter import Meter
from transformers import BertConfig, BertModel

torch.set_num_threads(1)
torch.manual_seed(0)
embedded = torch.from_numpy(Task().embedded)
model = BertModel(
    BertConfig(
        vocab_size=8, hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        intermediate_size=4 * WIDTH, max_position_embeddings=LENGTH, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    ),
    add_pooling_layer=False,
)  # fmt: skip
optimiser = torch.optim.AdamW(model.parameters(), lr=RATE)


def step():
    optimiser.zero_grad()
    model(inputs_embeds=embedded).last_hidden_state.square().mean().backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()


meter = Meter("transformers")
while meter.again(lambda: 0.0):
    for _ in range(10):
        step()
