"""Which terms does the readout need: the previous word, the state, the context?

    attend run deep_output [--data DIR]      on the built-in world, or on photographs (DIR as for flickr8k)

Deep output with all three terms, with one of them left out, and a linear readout of the state alone.

Source: Xu et al. (2015), equation 7; the linear readout is that of popular tutorials.

Not measured yet: 30 runs; the quickstart's five take 7 to 8 minutes on two cores; none was timed on a GPU.
"""

from attend.experiments.ablations.base import ablation

ROWS = {
    "deep": {},
    "no-word": {"decoder.readout_word": False},
    "no-hidden": {"decoder.readout_hidden": False},
    "no-context": {"decoder.readout_context": False},
    "linear": {"decoder.readout": "linear"},
}

experiment = ablation("deep_output", soft=ROWS, hard=ROWS)
