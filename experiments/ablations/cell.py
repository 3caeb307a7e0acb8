"""Is it better to feed the context to the recurrent network, or to add it to its output?

    attend run cell [--data DIR]      on the built-in world, or on photographs (DIR as for flickr8k)

An LSTM reads the context; a GRU reads words alone, and what attention finds is added to its output. The GRU has neither
gate nor deep output, so the LSTM stands here with and without them.

Source: Xu et al. (2015) for the LSTM, the preset `gru-residual` for the other, whose scores are additive here.

Not measured yet: 18 runs; the quickstart's five take 7 to 8 minutes on two cores; none was timed on a GPU.
"""

from attend.experiments.ablations.base import ablation

PLAIN = {"decoder.gate": "none", "decoder.readout": "linear"}
ROWS = {"lstm": {}, "lstm-plain": PLAIN, "gru-residual": PLAIN | {"decoder.cell": "gru-residual"}}

experiment = ablation("cell", soft=ROWS, hard=ROWS)
