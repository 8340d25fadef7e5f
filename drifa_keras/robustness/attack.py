"""What all attacks share: how they are called."""

from __future__ import annotations

import dataclasses

import numpy as np

from drifa_keras.robustness._checks import check_count, check_loss
from drifa_keras.robustness._problem import Best, Problem
from drifa_keras.robustness._victim import victim_of


@dataclasses.dataclass(frozen=True)
class Attack:
    """A search for small changes of images that make a classifier err.

    Subclasses are dataclasses of the settings of a search; a call runs it.

    Args:
        restarts: How often the search is begun anew for what has not fooled the
            classifier yet.
    """

    restarts: int = dataclasses.field(default=1, kw_only=True)

    def __post_init__(self):
        for name in ("restarts", "steps", "queries"):
            if hasattr(self, name):
                check_count(name, getattr(self, name))
        if hasattr(self, "loss"):
            check_loss(self.loss)

    def __call__(
        self,
        model,
        x,
        y,
        eps: float,
        *,
        modalities=None,
        tasks=None,
        norm: str = "linf",
        draws: int = 1,
        straight_through: bool = False,
        bounds: tuple[float, float] = (0.0, 255.0),
        batch_size: int = 32,
        seed: int = 0,
    ):
        """Attacks images.

        Args:
            model: A `MultimodalModel`, whose logits are attacked, or a Functional
                model or Sequential with any number of inputs, which returns logits
                `(batch, classes)` of one or several tasks. It may be random at
                inference; no weight, statistic or seed of it moves.
            x: Images `(n, height, width, channels)` with values within `bounds`: a
                dict keyed by the names of the inputs, a list in their order, or the
                one array of a model with one input. An image of zeros is an absent
                one and stays so.
            y: Integer labels `(n,)`, a dict keyed by task where there are several
                tasks; -1 where unknown.
            eps: Largest change: for `"linf"` as a share of `bounds`, from 0 to 1, such
                as 4/255; for `"l2"` the Euclidean norm of the change of all images of
                a sample, with pixels scaled to 0..1.
            modalities: Names of the inputs that are changed; all, jointly, by default.
            tasks: Names of the tasks that are attacked, by the sum of their losses, in
                which a task that is wrong beyond doubt rests while another is not;
                all by default.
            norm: `"linf"` or `"l2"`.
            draws: For a random model, number of draws that every gradient and loss is
                the mean of (expectation over transformation: Athalye et al., ICML
                2018). A fixed model is asked once.
            straight_through: Whether gradients pass the clips in random layers of
                `drifa_keras.layers` as if they were not there.
            bounds: Lowest and highest value of a pixel.
            batch_size: Images at a time.
            seed: Seed of all that is random, the draws included.

        Returns:
            Changed images, float32, in the structure of `x`. Those that fool the
            classifier in more tasks come before those with a higher loss.

        Raises:
            ValueError: If images, labels, names or numbers are not usable, or the
                model returns probabilities.
        """
        problem = Problem(
            victim_of(model, straight_through),
            x,
            y,
            eps,
            modalities=modalities,
            tasks=tasks,
            norm=norm,
            draws=draws,
            bounds=bounds,
            batch_size=batch_size,
            seed=seed,
        )
        images = problem.images(self.search(problem))
        if isinstance(x, dict):
            return images
        images = list(images.values())
        return images if isinstance(x, (list, tuple)) else images[0]

    def require(self, problem: Problem) -> None:
        """Raises a `ValueError` if the attack is not for such a problem."""
        if getattr(self, "loss", None) == "dlr":
            problem.require_three_classes()

    def search(self, problem: Problem) -> np.ndarray:
        """Returns changed images, `(n, numbers)`."""
        self.require(problem)
        best = Best(problem)
        if problem.eps > 0:
            for _ in range(self.restarts):
                rows = np.flatnonzero(best.left(np.arange(len(problem))))
                if len(rows):
                    self.climb(problem, rows, best)
        return best.vectors

    def climb(self, problem: Problem, rows: np.ndarray, best: Best) -> None:
        """Searches once over, for some images, and tells `best` what was found."""
        raise NotImplementedError
