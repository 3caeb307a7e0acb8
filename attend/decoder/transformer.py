"""The Transformer: causal self-attention over the words, and the last block looks at the image."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attend.attention.attention import Look, Memory
from attend.attention.select import Expected, Policy
from attend.decoder.protocol import Ask, Dropout, Inputs, Places, Word, dropped, mapped, start_embedding

SOFT = Expected()
WIDER = 4
"""Width of the feed-forward layer, in units of H."""


class Block(nn.Module):
    """x + SelfAttention(LN x), then + W z if the block reads the image, then x + W_2 gelu(W_1 LN x).

    If the block ``asks``, attention is asked with LN x of its own.
    """

    def __init__(self, hidden: int, heads: int, features: int | None, asks: bool) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.mix, self.out = nn.LayerNorm(hidden), nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
        self.query = nn.LayerNorm(hidden) if asks else None
        self.context = None if features is None else nn.Linear(features, hidden)
        self.norm_wide, self.widen = nn.LayerNorm(hidden), nn.Linear(hidden, WIDER * hidden)
        self.narrow = nn.Linear(WIDER * hidden, hidden)

    def projections(self, x: Tensor) -> list[Tensor]:
        """Query, key and value of each head: x (N, R, T, H) -> (N, R, heads, T, H / heads)."""
        parts = self.mix(self.norm(x)).chunk(3, dim=-1)
        return [part.unflatten(-1, (self.heads, -1)).transpose(2, 3) for part in parts]

    def mixed(self, x: Tensor, query: Tensor, keys: Tensor, values: Tensor, causal: bool) -> Tensor:
        """x + SelfAttention: (N, R, T, H)."""
        seen = F.scaled_dot_product_attention(query, keys, values, is_causal=causal)
        return x + self.out(seen.transpose(2, 3).flatten(3))

    def wide(self, x: Tensor) -> Tensor:
        """x + the feed-forward layer: (..., H)."""
        return x + self.narrow(F.gelu(self.widen(self.norm_wide(x))))


class Transformer(nn.Module):
    """x = W_e (sqrt(E) embedding(y)) + position -> pre-norm blocks -> readout of LN x.

    After self-attention a block that looks asks attention with LN x, and x + W z goes on. There are three ways:

    - last: the last block looks. Nothing that a later word reads depends on the glimpse.
    - every: all blocks look, with the same scores. The blocks before the last read the expected context.
    - shared: the first block looks, and all blocks read what it selects, a glimpse for instance. So later words may
      depend on it.

    Given captions need no loop over time, unless blocks share glimpses.

    Args:
        features: D.
        vocabulary: V.
        embedding: E.
        hidden: H, the width of the blocks.
        blocks: of self-attention.
        heads: of each block; they divide H.
        looks: last, every or shared.
        embedding_range: r of U(-r, r).

    Source: Vaswani et al. (2017), section 3. Differs: layer normalisation comes before each layer (Xiong et al., 2020);
    gelu for relu; attention to the image is ours (any score, soft or hard), in the last block alone or as above; sines
    stand before cosines; embeddings and logits are not tied; dropout acts on embeddings and before the logits alone.
    """

    def __init__(
        self,
        features: int,
        vocabulary: int,
        embedding: int = 512,
        hidden: int = 512,
        *,
        blocks: int = 2,
        heads: int = 8,
        looks: str = "last",
        embedding_range: float = 0.1,
    ) -> None:
        super().__init__()
        self.hidden, self.looks = hidden, looks
        self.at_once = (Expected,) if looks == "shared" else (Policy,)
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.words = nn.Linear(embedding, hidden)
        asks = {"last": [blocks - 1], "every": range(blocks), "shared": [0]}[looks]
        reads = asks if looks == "last" else range(blocks)
        self.blocks = nn.ModuleList(
            Block(hidden, heads, features if n in reads else None, n in asks) for n in range(blocks)
        )
        self.norm = nn.LayerNorm(hidden)
        self.logits = nn.Linear(hidden, vocabulary)
        start_embedding(self.embedding, embedding_range)
        waves = 10_000.0 ** (-torch.arange(0, hidden, 2) / hidden)
        self.register_buffer("waves", waves, persistent=False)

    def memory(self, memory: Memory, words: int = 0, *, readout: bool = False) -> Memory:
        """W a_i as values if the last block alone reads them and that is less work."""
        if self.looks != "last" and not readout:
            return memory
        return mapped(memory, self.blocks[-1].context.weight, words, readout=readout)

    def inputs(self, words: Tensor, place: Tensor, drop: Dropout | None = None) -> Inputs:
        """embedding(y) (M, E), and W_e (sqrt(E) embedding(y)) + (sin, cos)(place waves) (M, H)."""
        drop = drop or Dropout()
        embedded = dropped(self.embedding(words), drop.words)
        angles = place[..., None] * self.waves
        position = torch.cat([angles.sin(), angles.cos()], dim=-1)[..., : self.hidden].to(embedded.dtype)
        return Inputs(embedded, self.words(embedded * embedded.shape[-1] ** 0.5) + position, drop.hidden, drop.deep)

    def start(self, memory: Memory, rows: int) -> tuple:
        """Keys and values (N, R, heads, 0, H / heads) of each block."""
        heads = self.blocks[0].heads
        none = memory.features.new_zeros(len(memory.features), rows, heads, 0, self.hidden // heads)
        return tuple((none, none) for _ in self.blocks)

    def step(self, state: tuple, drive: Tensor, look: Ask) -> tuple[tuple, Word]:
        """One word further: the keys and values of the word join those of the words before it."""
        after: list[tuple[Tensor, Tensor]] = []

        def mix(block: Block, x: Tensor) -> Tensor:
            query, *new = block.projections(x)
            after.append(tuple(torch.cat(both, dim=3) for both in zip(state[len(after)], new, strict=True)))
            return block.mixed(x, query, *after[-1], causal=False)

        x, query, found = self._stream(drive[:, :, None], mix, look)
        if self.looks == "shared" and found is not None:
            return tuple(after), Word(x.squeeze(2), found.context, None, found)
        return tuple(after), self.word((x.squeeze(2), query.squeeze(2)), look)

    def states(self, memory: Memory, inputs: Inputs, places: Places, look: Ask) -> tuple:
        """x before the last block reads the image, and the query of the look that it reads: (N, C, T, H) each."""

        def mix(block: Block, x: Tensor) -> Tensor:
            return block.mixed(x, *block.projections(x), causal=True)

        return self._stream(places.unpack(inputs.drive), mix, look)[:2]

    def word(self, state: tuple, look: Ask) -> Word:
        """The readout reads x and z."""
        x, query = state
        found = look(query)
        return Word(x, found.context, None, found)

    def _stream(self, x: Tensor, mix, look: Ask) -> tuple[Tensor, Tensor, Look | None]:
        """x (N, R, T, H) up to where the last block reads the image, the query of that look, and the look before it."""
        found = query = None
        for block in self.blocks[:-1]:
            x = mix(block, x)
            if block.query is not None:
                query = block.query(x)
                found = look(query.flatten(1, 2), SOFT if self.looks == "every" else None)
            if block.context is not None:
                x = x + block.context(found.context).view(x.shape)
            x = block.wide(x)
        x, last = mix(self.blocks[-1], x), self.blocks[-1].query
        return x, query if last is None else last(x), found

    def readout(self, inputs: Inputs, hidden: Tensor, context: Tensor, projected: bool = False) -> Tensor:
        """The rest of the last block, and logits L_o LN x: (..., H), (..., D) -> (..., V)."""
        last = self.blocks[-1]
        x = last.wide(hidden + (context + last.context.bias if projected else last.context(context)))
        return self.logits(dropped(self.norm(x), inputs.drop_hidden))
