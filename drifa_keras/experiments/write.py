"""Tables as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import datetime
import io
from collections.abc import Sequence
from pathlib import Path

from drifa_keras.configs import Experiment
from drifa_keras.experiments.results import Outcome
from drifa_keras.experiments.statistics import interval_95, mean_and_interval
from drifa_keras.experiments.steps import read_steps
from drifa_keras.experiments.tables import Row, TaskTable, task_tables
from drifa_keras.runs import write_text

_NONE = "-"


def write_tables(
    experiment: Experiment, outcomes: Sequence[Outcome], out: str | Path, command: str
) -> dict[str, Path]:
    """Writes `<out>/<name>.md`, `.csv` and `.tex`; `name` is the experiment's.

    Args:
        experiment: The experiment.
        outcomes: Of its cells; they need not be done.
        out: The folder.
        command: What makes this table, for its caption.

    Returns:
        Ending to path.
    """
    out = Path(out)
    tables = task_tables(experiment, outcomes, read_steps(experiment, out))
    out.mkdir(parents=True, exist_ok=True)
    texts = {
        "md": to_markdown(experiment, tables, outcomes, command),
        "csv": to_csv(tables),
        "tex": to_latex(experiment, tables, outcomes, command),
    }
    return {
        ending: write_text(out / f"{experiment.name}.{ending}", text)
        for ending, text in texts.items()
    }


def to_markdown(
    experiment: Experiment,
    tables: Sequence[TaskTable],
    outcomes: Sequence[Outcome],
    command: str,
) -> str:
    """The tables with all that has to be said of them."""
    lines = [f"# {experiment.title or experiment.name}", ""]
    for table in tables:
        lines += [f"## {_heading(table)}", "", *_markdown(*_scores(table)), ""]
        if partners := _partners(table):
            lines += [*_markdown(*partners), ""]
    lines += ["## How to read this", ""]
    lines += [f"- {remark}" for remark in _remarks(experiment, tables, outcomes)]
    lines += ["", *(f"- {line}" for line in _origin(outcomes, command)), ""]
    return "\n".join(lines)


def to_latex(
    experiment: Experiment,
    tables: Sequence[TaskTable],
    outcomes: Sequence[Outcome],
    command: str,
) -> str:
    """The tables for LaTeX with the package booktabs; the remarks are comments."""
    remarks = [
        *_remarks(experiment, tables, outcomes),
        *_origin(outcomes, command),
    ]
    lines = [f"% {remark}" for remark in remarks]
    for table in tables:
        title = f"{experiment.title or experiment.name}. {_heading(table)}"
        lines += _latex(f"{title}.", *_scores(table))
        if partners := _partners(table):
            lines += _latex(f"{title}, with a modality blank.", *partners)
    return "\n".join(lines) + "\n"


def to_csv(tables: Sequence[TaskTable]) -> str:
    """One line a row of a table, with all digits; scores are shares, not per cent."""
    lines = [
        {"dataset": table.dataset, "task": table.task, **_record(table, row)}
        for table in tables
        for row in table.rows
    ]
    columns = list({name: None for line in lines for name in line})
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _record(table, row):
    """The columns of a row in the CSV file."""
    record = {
        "row": row.name,
        "kind": "network" if row.trained else "baseline",
        "seeds": len(row.values[table.metrics[0]]) if row.trained else "",
    }
    for metric in table.metrics:
        values = list(row.values[metric].values())
        low, high = (interval_95(values) if values else None) or ("", "")
        record |= {
            metric: mean_and_interval(values)[0] if values else "",
            f"{metric}_low": low,
            f"{metric}_high": high,
        }
        if metric in row.paper:
            record[f"{metric}_paper"] = row.paper[metric] / 100
    for name in ("p_value", "parameters", "multiply_adds", "seconds_per_step"):
        record[name] = getattr(row, name)
    record["spread_over_partners"] = row.spread
    for modality, found in row.without.items():
        values = list(found.values())
        record[f"without_{modality}"] = mean_and_interval(values)[0]
    return record


def _heading(table):
    return f"{table.dataset}: {table.task.replace('_', ' ')}, {table.images:,} images"


def _scores(table: TaskTable) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the scores."""
    published = [m for m in table.metrics if any(m in row.paper for row in table.rows)]
    header = [
        "network",
        "seeds",
        *(name.replace("_", " ") for name in table.metrics),
        "p",
        "parameters (M)",
        "multiply-adds (M)",
        "ms/step",
    ]
    if published:
        names = " / ".join(name.replace("_", " ") for name in published)
        header.append(f"paper, own splits: {names}")
    rows = []
    for row in table.rows:
        cells = [row.name, _seeds(table, row)]
        cells += [_percent(row.values[name].values()) for name in table.metrics]
        cells.append("best" if row.best else _p_value(row.p_value))
        cells += [
            _NONE if value is None else f"{value * scale:.{digits}f}"
            for value, scale, digits in (
                (row.parameters, 1e-6, 2),
                (row.multiply_adds, 1e-6, 1),
                (row.seconds_per_step, 1e3, 0),
            )
        ]
        if published:
            figures = [row.paper.get(name) for name in published]
            shown = " / ".join(_NONE if f is None else f"{f:g}" for f in figures)
            cells.append(shown if row.paper else _NONE)
        rows.append(cells)
    return header, rows


def _partners(table: TaskTable) -> tuple[list[str], list[list[str]]] | None:
    """Header and rows of what happens without a modality."""
    modalities = list({m: None for row in table.rows for m in row.without})
    if not modalities:
        return None
    first = table.metrics[0]
    drawn = any(row.spread is not None for row in table.rows)
    header = [f"network: {first.replace('_', ' ')}", "all images"]
    if drawn:
        header.append("sd over partners")
    for modality in modalities:
        header += [f"{modality} blank", "difference"]
    rows = []
    for row in table.rows:
        if not row.trained:
            continue
        values = row.values[first]
        cells = [row.name, _percent(values.values())]
        if drawn:
            cells.append(_NONE if row.spread is None else f"{100 * row.spread:.2f}")
        for modality in modalities:
            found = row.without.get(modality, {})
            differences = [found[seed] - values[seed] for seed in found]
            cells += [_percent(found.values()), _percent(differences, sign="+")]
        rows.append(cells)
    return header, rows


def _remarks(experiment, tables, outcomes):
    """What a reader has to know, one sentence or two each."""
    metric = experiment.metrics[0].replace("_", " ")
    done = {outcome.cell.seed for outcome in outcomes if outcome.state == "done"}
    seeds = [seed for seed in experiment.seeds if seed in done] or experiment.seeds
    yield (
        f"Per cent: the mean over the seeds {', '.join(map(str, seeds))} ± "
        "half of its 95 % interval (Student's t). That is how far another training "
        "leads elsewhere; all networks see the same test images, whose choice is not "
        "part of it. Baselines have no seed."
    )
    yield (
        f"p: paired t-test over the seeds (n in the column) of the {metric} against "
        "the network marked best, two-sided, with Holm's correction within a table. "
        "The best is found in the same figures, which favours it."
    )
    if any(row.paper for table in tables for row in table.rows):
        yield (
            "paper, own splits: what the paper prints, on splits of its own in which "
            "images of one lesion, slide or patient straddle. Not to be compared with "
            "the other columns."
        )
    if tables and all(table.in_turns for table in tables):
        yield (
            "ms/step: median time of a training step, all networks of a data set in "
            "turns, on one batch in memory (`--time`)."
        )
    else:
        yield (
            "ms/step: median time of a training step in these runs (`seconds_per_step` "
            "of history.csv), loading included, beside whatever else the machine did. "
            "`--time` compares them."
        )
    if any(row.spread is not None for table in tables for row in table.rows):
        yield (
            "The other modality shows an unrelated patient, drawn at random: it cannot "
            "tell of this task. All images: mean over draws of partners; sd over "
            "partners: over those draws; blank: an image of zeros in its place. What "
            "a network keeps with a blank partner does not come from the partner; what "
            "it loses may be no more than that it was not trained on blanks."
        )
    elif any(row.without for table in tables for row in table.rows):
        yield "Blank: an image of zeros in the place of that modality, at test time."
    yield from experiment.notes
    states = {}
    for outcome in outcomes:
        if outcome.state in ("running", "interrupted", "waiting"):
            states[outcome.state] = states.get(outcome.state, 0) + 1
    if states:
        counts = ", ".join(f"{count} {state}" for state, count in states.items())
        yield f"Not complete: {counts}."
    for outcome in outcomes:
        if outcome.state == "failed":
            yield f"Failed: {outcome.cell.name}: {outcome.reason}"


def _origin(outcomes, command):
    """Where the figures come from."""
    made = {
        "backend": set(),
        "machine": set(),
        "versions": set(),
    }
    for outcome in outcomes:
        if outcome.resolved:
            resolved = outcome.resolved
            made["backend"].add(resolved["backend"])
            made["machine"].add(resolved["machine"])
            versions = resolved["versions"].items()
            made["versions"].add(", ".join(f"{name} {v}" for name, v in versions))
    yield f"Command: `{command}`"
    yield f"Date: {datetime.date.today().isoformat()}"
    for name, values in made.items():
        if values:
            yield f"{name.capitalize()}: {' | '.join(sorted(values))}"


def _seeds(table: TaskTable, row: Row) -> str:
    if not row.trained:
        return _NONE
    count = len(row.values[table.metrics[0]])
    return str(count) if count == row.cells else f"{count} of {row.cells}"


def _percent(values, sign="") -> str:
    values = list(values)
    if not values:
        return _NONE
    mean, half = mean_and_interval(values)
    text = f"{100 * mean:{sign}.1f}"
    return text if half is None else f"{text} ± {100 * half:.1f}"


def _p_value(value) -> str:
    if value is None:
        return _NONE
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _markdown(header, rows):
    """Lines of a table whose columns stand under each other as plain text, too."""
    header, *rows = ([_escaped(cell) for cell in line] for line in (header, *rows))
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    yield _markdown_line(header, widths)
    marks = [":" + "-" * (widths[0] + 1), *("-" * (w + 1) + ":" for w in widths[1:])]
    yield f"|{'|'.join(marks)}|"
    for row in rows:
        yield _markdown_line(row, widths)


def _markdown_line(cells, widths):
    first, *others = zip(cells, widths, strict=True)
    texts = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
    return f"| {' | '.join(texts)} |"


def _escaped(text):
    return text.replace("|", r"\|")


def _latex(title, header, rows):
    yield from (
        "",
        r"\begin{table}",
        rf"\caption{{{_tex(title)}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
        r"\toprule",
        _tex_line(header),
        r"\midrule",
        *map(_tex_line, rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    )


_TEX = {character: "\\" + character for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "<": "$<$",
}


def _tex(text):
    return "".join(_TEX.get(character, character) for character in text)


def _tex_line(cells):
    return " & ".join(map(_tex, cells)) + r" \\"
