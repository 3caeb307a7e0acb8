# %% [markdown]
# # Attention in your own model
#
# This notebook builds a small model with soft and with hard attention in plain PyTorch. The model looks at a picture
# twice and then gives one answer. You see how to put attention into a decoder of your own, how hard attention learns
# although sampling has no gradient, where both models look, and how to prove that the gradient is right.
#
# [The page](../attention-in-your-own-model.md) of the same name has a shorter program, with one look. This notebook
# runs in less than two minutes on two processor cores.

# %%
import matplotlib.pyplot as plt
import torch
from matplotlib.patches import Rectangle
from torch import nn
from torch.nn import functional as F

from attend.attention import AdditiveScore, Argmax, Attention, Expected, Forced, Sample
from attend.estimators import reinforce_loss

torch.set_num_threads(1)  # these tensors are small: one thread is fastest
BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#777777"  # soft, hard, even weights

# %% [markdown]
# ## A task that needs two looks
#
# A picture has a grid of 3 x 3 cells with a digit in each. Two digits are underlined. The task is to add them, so there
# are 19 possible answers, 0 to 18. A model that cannot tell which digits are underlined has to guess.

# %%
FONT = "75557 26227 71747 71717 55711 74717 74757 71111 75757 75717"  # an octal number is a row of three pixels
DIGITS = torch.tensor([[int(bit) for row in digit for bit in f"{int(row):03b}"] for digit in FONT.split()])


def pictures(count):
    """Noisy cells (N, 9, 18), each a digit of 15 pixels and an underline of 3, and the sum of the two digits (N,)."""
    digits, where = torch.randint(10, (count, 9)), torch.rand(count, 9).argsort(1)[:, :2]
    underline = F.one_hot(where, 9).sum(1)[..., None].expand(-1, -1, 3)
    cells = torch.cat([DIGITS[digits], underline], -1)
    return cells + 0.2 * torch.randn(cells.shape), digits.gather(1, where).sum(1)


def draw(axes, cells, weights=None, colour=BLUE):
    """A picture; a frame around each cell is as opaque as its weight is large."""
    image, cells = torch.zeros(3, 3, 9, 5), cells.view(3, 3, 6, 3)
    image[:, :, 1:6, 1:4], image[:, :, 7, 1:4] = cells[:, :, :5], cells[:, :, 5]
    axes.imshow(image.transpose(1, 2).reshape(27, 15), cmap="gray_r", vmin=0, vmax=1.2)
    axes.set(xticks=[], yticks=[])
    for cell, weight in enumerate([] if weights is None else weights.tolist()):
        row, column = divmod(cell, 3)
        corner = (5 * column - 0.1, 9 * row - 0.1)
        axes.add_patch(Rectangle(corner, 4.2, 8.2, fill=False, edgecolor=colour, linewidth=3, alpha=weight))


torch.manual_seed(0)
cells, sums = pictures(5)
figure, row = plt.subplots(1, 5, figsize=(7.5, 3), layout="constrained")
for axes, picture, answer in zip(row, cells, sums, strict=True):
    draw(axes, picture)
    axes.set_title(f"answer {answer}", fontsize=10)
plt.show()

# %% [markdown]
# ## Score, simplex, select
#
# Attention is three steps. The score says how well each location fits a query. The simplex map turns scores into
# weights that sum to one. The policy selects the context. Soft and hard attention differ in the policy alone:
# `Expected` takes the mean under the weights, `Sample` draws one location.
#
# The letters of the shapes: N pictures, R rows of each picture (captions or samples), L locations, D features, H units
# of the query. `memory` is computed once per picture, and then attention is called as often as the decoder likes.

# %%
attention = Attention(AdditiveScore(features=18, hidden=16), features=18)
memory = attention.memory(cells)  # (N, L, D)
query = torch.randn(5, 1, 16)  # (N, R, H)
for policy in (Expected(), Sample(torch.rand(5, 1))):
    look = attention(memory, query, policy)
    print(type(policy).__name__, "weights", tuple(look.weights.shape), "context", tuple(look.context.shape), end=" ")
    print("glimpse", None if look.glimpse is None else look.glimpse.flatten().tolist())

# %% [markdown]
# ## A decoder that looks twice
#
# The decoder is a GRU. Its state is the query, and it reads the context of each look. Nothing in it depends on the kind
# of attention: the policies come in as an argument. A learned vector per cell says where a cell is.


# %%
class Adder(nn.Module):
    def __init__(self, look="learned", features=32, hidden=64):
        super().__init__()
        self.cell, self.place = nn.Linear(18, features), nn.Parameter(torch.randn(9, features))
        self.attention = Attention(AdditiveScore(features, hidden, width=32), features, look=look)
        self.start, self.decoder = nn.Parameter(torch.randn(hidden)), nn.GRUCell(features, hidden)
        self.answer = nn.Sequential(nn.Linear(hidden, 64), nn.ReLU(), nn.Linear(64, 19))

    def forward(self, cells, policies, samples=1):
        """Logits (N, K, 19) and the looks, one for each policy."""
        memory, looks = self.attention.memory(self.cell(cells) + self.place), []
        state = self.start.expand(len(cells), samples, -1)
        for policy in policies:
            look = self.attention(memory, state, policy)
            state = self.decoder(look.context.flatten(0, 1), state.flatten(0, 1)).view_as(state)
            looks.append(look)
        return self.answer(state), looks


# %% [markdown]
# ## Two losses
#
# The cost of a sample is -log p(answer) in nats. Soft attention minimises it directly. Hard attention minimises its
# mean over samples of two glimpses. `reinforce_loss` takes the cost of every sample, (N, K), and the log-probability of
# every glimpse, (N, K, 2). Each sample is compared with the other samples of its picture (leave-one-out).


# %%
def cost(logits, sums):
    return F.cross_entropy(logits.transpose(1, 2), sums[:, None].expand(logits.shape[:2]), reduction="none")


def soft_loss(model, cells, sums):
    logits, _ = model(cells, [Expected(), Expected()])
    return cost(logits, sums).squeeze(1)


def hard_loss(model, cells, sums, samples=8):
    noise = torch.rand(2, len(cells), samples)
    logits, looks = model(cells, [Sample(noise[0]), Sample(noise[1])], samples)
    return reinforce_loss(cost(logits, sums), torch.stack([look.log_prob for look in looks], -1))


# %% [markdown]
# ## Train
#
# Three models: even weights, which cannot learn where to look, soft attention and hard attention. At test time hard
# attention looks at the location with the largest weight.


# %%
def train(model, loss, policy, steps=600):
    """Train, and return the share of correct answers (in percent) on new pictures after every 50 steps."""
    optimiser, correct = torch.optim.Adam(model.parameters(), lr=0.005), []
    for step in range(1, steps + 1):
        optimiser.zero_grad()
        loss(model, *pictures(128)).mean().backward()
        optimiser.step()
        if step % 50 == 0:
            cells, sums = pictures(1000)
            logits, _ = model(cells, [policy, policy])
            correct.append(100 * (logits[:, 0].argmax(-1) == sums).float().mean().item())
    return correct


torch.manual_seed(0)
models = {"even weights": Adder(look="uniform"), "soft": Adder(), "hard": Adder()}
curves = {
    "even weights": train(models["even weights"], soft_loss, Expected()),
    "soft": train(models["soft"], soft_loss, Expected()),
    "hard": train(models["hard"], hard_loss, Argmax()),
}
for name, correct in curves.items():
    print(f"{name}: {correct[-1]:.0f} percent correct")

# %%
figure, axes = plt.subplots(figsize=(5.5, 3), layout="constrained")
for (name, correct), colour in zip(curves.items(), (GREY, BLUE, VERMILION), strict=True):
    axes.plot(range(50, 601, 50), correct, color=colour, label=name, marker="o", markersize=3)
axes.set(xlabel="steps of 128 pictures", ylabel="correct answers (%)", ylim=(0, 100))
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# ## Where do they look?
#
# The frames show the weights. Soft attention may divide a look between two cells. Hard attention reads one cell per
# look, so it has to look at the underlined digits one after the other. Nobody told it in which order.

# %%
torch.manual_seed(1)
cells, sums = pictures(4)
figure, grid = plt.subplots(2, 8, figsize=(11, 4.4), layout="constrained")
rows = (("soft", Expected(), BLUE), ("hard", Argmax(), VERMILION))
for row, (name, policy, colour) in zip(grid, rows, strict=True):
    with torch.no_grad():
        logits, looks = models[name](cells, [policy, policy])
    for place, axes in enumerate(row):
        picture, time = divmod(place, 2)
        draw(axes, cells[picture], looks[time].weights[picture, 0], colour)
        answer = f"{logits[picture, 0].argmax()} (true {sums[picture]})"
        axes.set_title("look 1" if time == 0 else f"look 2: {answer}", fontsize=8)
    row[0].set_ylabel(name, fontsize=11, color=colour)
plt.show()

# %% [markdown]
# ## Is the gradient right?
#
# A wrong estimator often trains, only worse. So prove it: in expectation the gradient of `reinforce_loss` must equal
# the gradient of the expected cost. Both are finite sums. A picture has 9 x 9 paths of two glimpses, and two samples
# have 81 x 81 pairs of paths. `Forced` sends the model along a given path.

# %%
ONE, TWO = (torch.cartesian_prod(*[torch.arange(9)] * count) for count in (2, 4))
model, (cells, sums) = Adder().double(), pictures(1)
cells = cells.double()


def along(path):
    """Costs (N, K) and log-probabilities (N, K, 2) of given glimpses (N, K, 2)."""
    count, samples = path.shape[:2]
    logits, looks = model(cells.expand(count, -1, -1), [Forced(path[..., 0]), Forced(path[..., 1])], samples)
    return cost(logits, sums.expand(count)), torch.stack([look.log_prob for look in looks], -1)


costs, log_probs = along(ONE[None])
exact = (log_probs.sum(-1).exp() * costs).sum()

costs, log_probs = along(TWO.view(-1, 2, 2))
probability = log_probs.sum((1, 2)).exp().detach()
expected = (probability * reinforce_loss(costs, log_probs)).sum()

parameters = dict(model.named_parameters())
gradients = [torch.autograd.grad(value, list(parameters.values())) for value in (exact, expected)]
for name, one, other in zip(parameters, *gradients, strict=True):
    print(f"{name:26} size {one.norm():.1e}   relative difference {(one - other).norm() / one.norm():.0e}")

# %% [markdown]
# The differences are rounding errors of float64. They stay as small with any baseline that does not depend on the
# glimpse: try `baseline=None`, or a number. Put the whole cost of a sample, `costs`, in as the baseline: the score part
# vanishes, and the difference is no longer small.
#
# ## Where to go from here
#
# - Another score (`DotScore`, `BilinearScore`) or map (`Attention(..., simplex=sparsemax)`): one argument.
# - A convolutional encoder: `maps.flatten(2).transpose(1, 2)` makes features (N, L, D) of its feature maps.
# - A cost for each step: pass costs (N, K, T), and each glimpse is charged with the costs from its own step on.
# - Gradients without sampling, or with a relaxed sample: [the page](../attention-in-your-own-model.md) has them.
# - Which estimator suits: [which estimator should I use](which_estimator.py).
