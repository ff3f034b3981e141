"""The decoder blocks of any decoder-only model: the one place that knows how architectures differ."""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedModel

from bench.activations import device_of
from bench.errors import ModelError

# Relative to the largest logit. In float32 only experts that sort tokens move an earlier position at all, by 1e-7,
# while the weakest two-way attention seen (a small BERT with random weights) moves it by 1e-3.
_CAUSAL_TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


def find_blocks(model: PreTrainedModel) -> nn.ModuleList:
    """The list of blocks that the residual stream passes through, first to last.

    The rule: under the decoder (`get_decoder()`), the module list as long as the configuration's
    `num_hidden_layers`; lists inside the blocks, such as experts, do not count. It holds for every decoder-only
    architecture tried, whatever it calls its list.

    Raises:
        ModelError: no list fits, or more than one.
    """
    config = model.config.get_text_config(decoder=True)
    n_layers = getattr(config, "num_hidden_layers", None)
    decoder: nn.Module = model.get_decoder()
    lists = {name: module for name, module in decoder.named_modules() if isinstance(module, nn.ModuleList)}
    fitting = {name: blocks for name, blocks in lists.items() if len(blocks) == n_layers}
    outermost = [name for name in fitting if not any(name.startswith(f"{outer}.") for outer in fitting)]
    if len(outermost) == 1:
        return fitting[outermost[0]]
    found = ", ".join(f"{name} ({len(blocks)})" for name, blocks in lists.items()) or "none"
    problem = "no list of modules has" if not outermost else "more than one list of modules has"
    raise ModelError(
        f"cannot tell the decoder blocks of {type(model).__name__}: {problem} the length num_hidden_layers={n_layers}; "
        f"lists found: {found}"
    )


def check_causal(model: PreTrainedModel, name: str) -> None:
    """See that no position looks at later ones: another last token must leave the earlier logits alone.

    Raises:
        ModelError: it does not, or the logits are not numbers.
    """
    vocabulary = model.get_input_embeddings().num_embeddings
    parameter = next(model.parameters())
    one = torch.arange(6, device=device_of(model)) % vocabulary
    other = one.clone()
    other[-1] = (one[-1] + 1) % vocabulary
    with torch.inference_mode():
        logits = model(input_ids=torch.stack((one, other))).logits.float()  # (2, n_positions, n_vocabulary)
    if not bool(torch.isfinite(logits).all()):
        raise ModelError(f"{name} answers with NaN or infinite logits; its weights or its dtype cannot be used")
    change = (logits[0, :-1] - logits[1, :-1]).abs().max()
    if change > _CAUSAL_TOLERANCE[parameter.dtype] * logits.abs().max():
        raise ModelError(
            f"{name} is not a causal model: its positions see later tokens; expected a decoder-only language model, "
            f"such as GPT-2, Llama or Pythia"
        )
