"""How many answers of a classifier survive every attack."""

from __future__ import annotations

import dataclasses
import itertools
import math
import zlib
from collections.abc import Callable, MutableMapping, Sequence

import numpy as np
from keras import tree

from drifa_keras.gradients import in_batches
from drifa_keras.robustness._checks import check_count, check_eps
from drifa_keras.robustness._problem import Problem
from drifa_keras.robustness._victim import victim_of
from drifa_keras.robustness.apgd import APGD
from drifa_keras.robustness.attack import Attack
from drifa_keras.robustness.gradient_attacks import BIM, FGSM, MIFGSM, PGD
from drifa_keras.robustness.random_noise import RandomNoise
from drifa_keras.robustness.square import Square

LIGHT = {
    "PGD-20": PGD(20),
    "APGD-CE-100": APGD("ce", 100),
    "Square-500": Square(500),
}
FULL = {
    "PGD-20x5": PGD(20, restarts=5),
    "FGSM": FGSM(),
    "BIM-10": BIM(10),
    "MI-FGSM-10": MIFGSM(10),
    "PGD-100": PGD(100),
    "APGD-CE-100": APGD("ce", 100),
    "APGD-DLR-100": APGD("dlr", 100),
    "Square-5000": Square(5000),
}

# Steps of PGD along which accuracy is followed, and an eps that erases any image.
_STEPS = (1, 2, 5, 10, 20, 50)
_HUGE = 0.5
# What a comparison of two accuracies may be off by chance: so much, or two images.
_TOLERANCE = 0.02


def evaluate(
    model,
    x,
    y,
    eps: Sequence[float] = (1 / 255, 2 / 255, 4 / 255, 8 / 255),
    attacks: dict[str, Attack] | None = None,
    *,
    draws: Sequence[int] = (1, 5, 10),
    votes: int = 10,
    each_task: bool = False,
    each_modality: bool = False,
    check_at: float | None = 4 / 255,
    surrogate=None,
    bounds: tuple[float, float] = (0.0, 255.0),
    batch_size: int = 32,
    seed: int = 0,
    outcomes: MutableMapping[str, np.ndarray] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> dict:
    """Scores a classifier under attack, and looks for signs of masked gradients.

    The classifier answers with the class of the highest probability; one that is
    random at inference, with that of the mean of `votes` draws, which are not those
    that the attack saw. Only what is answered rightly is attacked; accuracies count
    all images. An image survives in the union only if it survives every attack, also
    those with a smaller `eps`.

    A classifier can seem robust because attacks fail for reasons of their own. The
    checks hold where it is as it should be:

    - `steps`: more steps of PGD do not raise the accuracy;
    - `eps`: neither does a larger change (but with one step, which may overshoot);
    - `unbounded`: with half the range of the pixels, PGD leaves nothing;
    - `single step`: FGSM is not stronger than PGD;
    - `gradient free`: nor is the Square attack;
    - `transfer`: nor are images made against `surrogate`;
    - `random noise`: nor is noise of the same size;
    - `zero gradients`: at most one image in a hundred has no gradient at all;
    - `straight through`: PGD whose gradients pass clips is not stronger (random
      classifiers);
    - `frozen`: with the draw known to the attack, the accuracy is what its randomness
      does not add (random classifiers; a figure, not a verdict).

    Accuracies may be off by two points, or by two images where those are more.

    Reference: Athalye et al., *Obfuscated Gradients Give a False Sense of Security*,
    ICML 2018; Carlini et al., *On Evaluating Adversarial Robustness*, 2019; Croce and
    Hein, ICML 2020.

    Args:
        model: As for `Attack.__call__`.
        x: Images.
        y: Labels, -1 where unknown.
        eps: Largest changes in the maximum norm, as shares of `bounds`.
        attacks: Name to attack; PGD of 20 steps, APGD of 100 with the cross-entropy
            and Square of 500 queries by default.
        draws: For a random classifier, numbers of draws behind each gradient or answer
            that an attack sees (EOT). The first attack is made with each of them, to
            show where more no longer help, the others with the most.
        votes: Draws behind each answer of a random classifier.
        each_task: Whether to attack every task by itself beside their sum.
        each_modality: Whether to change every modality by itself, too. A change of
            one is also one of all, so that it counts in the union.
        check_at: The change at which the checks are made; `None` leaves them out.
        surrogate: Another classifier of the same inputs, for the check `transfer`.
        bounds: Lowest and highest value of a pixel.
        batch_size: Images at a time.
        seed: Seed of all that is random.
        outcomes: Mapping that keeps the outcome of every attack; what is there is not
            computed again. Pass one that lives on disk to go on after an interruption.
        progress: Called with the number of attacks that are done, of all, and the
            name of the next.

    Returns:
        A JSON-able dict: the settings; for each of the `tasks` the number of `images`,
        the share of the most frequent class (`majority`: whoever always answers it
        cannot be attacked), `clean` accuracy, `attacks` (each with `attack`, `eps`,
        `aim`, `changed`, `draws` and `accuracy`), `union` (for each `eps`) and `steps`;
        and `checks`. An accuracy is a dict of `value` and its 95 % Wilson `interval`;
        for a random classifier also `single`, the mean accuracy of one draw, and
        `spread`, its standard deviation.

    Raises:
        ValueError: As `Attack.__call__`.
    """
    sizes = sorted(check_eps(size, "linf") for size in eps)
    attacks = LIGHT if attacks is None else attacks
    trial = _Trial(
        Problem(victim_of(model), x, y, 0.0, bounds=bounds, batch_size=batch_size),
        model,
        surrogate,
        check_count("votes", votes),
        seed,
        {} if outcomes is None else outcomes,
    )
    draws = sorted({check_count("draws", k) for k in draws}) if trial.is_random else [1]
    main = [
        _Cell(attack, size, k, task=task, modality=modality, name=name)
        for size in sizes
        for task in _alone(trial.tasks, each_task)
        for modality in _alone(trial.modalities, each_modality)
        for number, (name, attack) in enumerate(attacks.items())
        for k in (draws[-1:] if number else draws)
    ]
    checks = {}
    if check_at is not None:
        at = check_eps(check_at, "linf")
        checks = _check_cells(at, draws, trial.is_random, surrogate is not None)
    cells = [*main, *tree.flatten(checks)]
    for cell in cells:
        cell.attack.require(trial.problem)
    for number, cell in enumerate(cells):
        if progress is not None:
            progress(number, len(cells), str(cell))
        trial.run(cell)
    if progress is not None:
        progress(len(cells), len(cells), "")
    report = {
        "images": len(trial.problem),
        "eps": sizes,
        "norm": "linf",
        "bounds": list(bounds),
        "random": trial.is_random,
        "draws": draws,
        "votes": votes if trial.is_random else 1,
        "attacks": {name: repr(attack) for name, attack in attacks.items()},
        "seed": seed,
        "check_at": check_at,
        "tasks": {},
        "checks": [],
    }
    for task in trial.tasks:
        report["tasks"][task] = {
            "images": int((trial.problem.labels[task] >= 0).sum()),
            "majority": _majority(trial.problem.labels[task]),
            "clean": trial.accuracy(trial.clean, task),
            "attacks": [
                {
                    "attack": cell.name,
                    "eps": cell.eps,
                    "aim": cell.task or "all",
                    "changed": cell.modality or "all",
                    "draws": cell.draws,
                    "accuracy": trial.accuracy(trial.run(cell), task),
                }
                for cell in main
            ],
            "union": [
                {"eps": size, "accuracy": trial.union(main, size, task)}
                for size in sizes
            ],
        }
        if checks and report["tasks"][task]["images"]:
            report["tasks"][task]["steps"] = [
                {
                    "steps": cell.attack.steps,
                    "accuracy": trial.accuracy(trial.run(cell), task),
                }
                for cell in checks["steps"]
            ]
            report["checks"] += _verdicts(trial, task, main, checks)
    return report


@dataclasses.dataclass(frozen=True)
class _Cell:
    """One attack of a plan.

    Attributes:
        attack, eps, draws: What is run.
        task: The only task that is attacked, or `None`.
        modality: The only input that is changed, or `None`.
        variant: `"straight through"`, `"frozen"`, `"transfer"` or nothing.
        name: What the report calls the attack.
    """

    attack: Attack
    eps: float
    draws: int
    task: str | None = None
    modality: str | None = None
    variant: str = ""
    name: str = dataclasses.field(default="", compare=False)

    def __str__(self):
        aim = f", {self.task} alone" if self.task else ""
        part = f", {self.modality} alone" if self.modality else ""
        draws = f", {self.draws} draws" if self.draws > 1 else ""
        eps = f"{self.eps * 255:g}/255"
        return f"{self.variant} {self.attack} eps {eps}{aim}{part}{draws}".strip()


class _Trial:
    """A classifier and images, and what attacks made of them.

    An outcome is an array `(answers, tasks, images)` of 0 and 1: whether the answer is
    right, first that of the mean of all draws, then those of single draws.
    """

    def __init__(self, problem, model, surrogate, votes, seed, outcomes):
        self.problem, self.model, self.surrogate = problem, model, surrogate
        self.is_random = problem.is_random
        self.tasks, self.modalities = list(problem.labels), list(problem.shapes)
        self._votes = votes if self.is_random else 1
        self._seed, self._outcomes = seed, outcomes
        self.clean = self._kept(
            "clean",
            lambda rng: self._answers(problem.clean, problem, rng, problem.victim),
        )

    def run(self, cell: _Cell) -> np.ndarray:
        """The outcome of an attack, which is run if it is not known."""
        return self._kept(str(cell), lambda rng: self._attack(cell, rng))

    def accuracy(self, outcome, task) -> dict:
        """Accuracy of a task over all its images, with its 95 % interval."""
        known = self.problem.labels[task] >= 0
        right = outcome[:, self.tasks.index(task), known]
        found = _share(right[0])
        if len(right) > 1:
            single = right[1:].mean(axis=1)
            found |= {"single": float(single.mean()), "spread": float(single.std())}
        return found

    def union(self, cells, eps, task) -> dict:
        """Accuracy of what survives every attack of at most `eps`."""
        number, known = self.tasks.index(task), self.problem.labels[task] >= 0
        right = self.clean[0, number, known] > 0
        for cell in cells:
            if cell.eps <= eps:
                right &= self.run(cell)[0, number, known] > 0
        return _share(right)

    def without_gradient(self, task) -> float:
        """Share of the clean images whose gradient is zero everywhere."""
        problem = self._against(victim_of(self.model), 0.0, tasks=[task])
        rows = np.flatnonzero(problem.labels[task] >= 0)
        if not len(rows):
            return 0.0
        gradient = problem.assess(problem.clean[rows], rows).gradient
        return float((gradient == 0).all(axis=1).mean())

    def _attack(self, cell, rng):
        judge = victim_of(self.model)
        if cell.variant == "frozen":
            judge = judge.frozen(int(rng.integers(2**31)))
        victim = judge
        if cell.variant == "straight through":
            victim = victim_of(self.model, straight_through=True)
        if cell.variant == "transfer":
            victim = victim_of(self.surrogate)
        problem = self._against(
            victim,
            cell.eps,
            tasks=None if cell.task is None else [cell.task],
            modalities=None if cell.modality is None else [cell.modality],
            draws=cell.draws,
            seed=int(rng.integers(2**31)),
        )
        vectors = cell.attack.search(problem)
        return self.clean[:1] * self._answers(vectors, problem, rng, judge)

    def _against(self, victim, eps, **options):
        """The problem, with the labels of what is answered rightly alone."""
        given = self.problem
        right = dict(zip(self.tasks, self.clean[0] > 0, strict=True))
        labels = {
            task: np.where(right[task], labels, -1)
            for task, labels in given.labels.items()
        }
        return Problem(
            victim,
            given.images(given.clean),
            labels,
            eps,
            bounds=(given.low, given.high),
            batch_size=given.batch_size,
            **options,
        )

    def _answers(self, vectors, problem, rng, judge):
        images = problem.images(vectors)
        drawn = [
            in_batches(
                lambda batch: judge.probabilities(batch, int(rng.integers(2**31))),
                images,
                batch_size=problem.batch_size,
                ever_other=True,
            )
            for _ in range(self._votes)
        ]
        answers = [tree.map_structure(lambda *p: np.mean(p, axis=0), *drawn)]
        if self.is_random:
            answers += drawn
        return np.array(
            [
                [p[task].argmax(axis=1) == self.problem.labels[task] for task in p]
                for p in answers
            ],
            "uint8",
        )

    def _kept(self, key, make):
        if key not in self._outcomes:
            words = [self._seed, zlib.crc32(key.encode())]
            self._outcomes[key] = make(np.random.default_rng(words))
        return self._outcomes[key]


def _alone(names, each):
    """All names jointly, and where it is asked for each by itself."""
    return [None, *(names if each and len(names) > 1 else ())]


def _check_cells(eps, draws, random, transfer):
    """What the checks need to know, by their names."""
    many = draws[-1]
    cells = {
        "steps": [_Cell(PGD(steps), eps, many) for steps in _STEPS],
        # From the clean image: a random start so far off is lost in one colour.
        "unbounded": _Cell(PGD(50, random_start=False), _HUGE, many),
        "single step": _Cell(FGSM(), eps, many),
        "gradient free": _Cell(Square(500), eps, many),
        "random noise": _Cell(RandomNoise(restarts=10), eps, many),
    }
    if transfer:
        cells["transfer"] = _Cell(PGD(20), eps, 1, variant="transfer")
    if random:
        for variant in ("straight through", "frozen"):
            cells[variant] = _Cell(PGD(20), eps, many, variant=variant)
    return cells


def _verdicts(trial, task, main, checks):
    """The checks of a task: what was measured, and whether it is as it should be."""

    def value(cell):
        return trial.accuracy(trial.run(cell), task)["value"]

    def verdict(check, measured, holds):
        return {"check": check, "task": task, "value": measured, "holds": holds}

    images = int((trial.problem.labels[task] >= 0).sum())
    tolerance = max(_TOLERANCE, 2 / max(images, 1))
    by_steps = [value(cell) for cell in checks["steps"]]
    strongest = min(by_steps)
    rises = [0.0]
    for cell in main:
        if getattr(cell.attack, "steps", None) == 1:
            continue  # one long step may overshoot
        larger = [
            other for other in main if cell == dataclasses.replace(other, eps=cell.eps)
        ]
        rises += [value(o) - value(cell) for o in larger if o.eps > cell.eps]
    rise = max(later - sooner for sooner, later in itertools.pairwise(by_steps))
    verdicts = [
        verdict("steps", rise, rise <= tolerance),
        verdict("eps", max(rises), max(rises) <= tolerance),
    ]
    left = value(checks["unbounded"])
    verdicts.append(verdict("unbounded", left, left <= tolerance))
    for check in ("single step", "gradient free", "transfer", "random noise"):
        if check in checks:
            gap = value(checks[check]) - strongest
            verdicts.append(verdict(check, gap, gap >= -tolerance))
    share = trial.without_gradient(task)
    verdicts.append(verdict("zero gradients", share, share <= 0.01))
    if "frozen" in checks:
        gap = value(checks["straight through"]) - strongest
        verdicts.append(verdict("straight through", gap, gap >= -tolerance))
        verdicts.append(verdict("frozen", value(checks["frozen"]), None))
    return verdicts


def _majority(labels) -> float | None:
    """The share of the most frequent class."""
    known = labels[labels >= 0]
    return float(np.bincount(known).max() / len(known)) if len(known) else None


def _share(right) -> dict:
    """The share of what is right, with its 95 % Wilson interval."""
    n, z = len(right), 1.959964
    if not n:
        return {"value": None, "interval": None}
    share = float(np.mean(right))
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return {
        "value": share,
        "interval": [max(0.0, middle - half), min(1.0, middle + half)],
    }
