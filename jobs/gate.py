"""The job `gate`: learn a text gate from the spotted part of a run, and say what it would save and miss."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.console import printable, say
from pipeline.datasets import Dataset, embeddings_of, spotted_of
from pipeline.folder import Folder
from pipeline.gate.file import Gate, to_bytes
from pipeline.gate.rows import draw_rows
from pipeline.gate.training import CONFIDENCE, learn
from pipeline.run import Run

SUFFIX = ".json"


def run_gate(url: str, recall: float, name: str | None, output: str | None, console: Console) -> None:
    """Learn a gate from a run and write its file.

    Args:
        url: folder or URL of the run.
        recall: share of the images with text that it has to let through.
        name: of the spotted dataset; None: that of run.yaml.
        output: file or URL to write; None: RUN/gate.json.
        console: where to print.

    Raises:
        ValueError: the output is no .json: it could replace a part of a run.
        RunError: there is no run, or one of its parts is damaged.
        GateError: there is too little to learn from, or the text was itself spotted through a gate.
    """
    output = output or f"{url.rstrip('/')}/gate{SUFFIX}"
    if not output.endswith(SUFFIX):
        raise ValueError(f"{output!r} does not end in {SUFFIX}, and a gate is JSON.")
    run = Run(url)
    config = run.config()
    embeddings, spotted = embeddings_of(config), Dataset("spotted", name) if name else spotted_of(config)
    gate = learn(draw_rows(run, embeddings, spotted), recall)
    folder, slash, file = output.rpartition("/")
    Folder(folder or slash or ".").write_bytes(to_bytes(gate), file)
    _print(gate, f"Text gate learnt from {embeddings} and {spotted} of {url}", console)
    say(console, f"Use it by `--set spotting.gate={output}`, for text of another name than {spotted}.")


def _print(gate: Gate, title: str, console: Console) -> None:
    rows, seen = gate.rows, gate.measured
    table = Table("", "", title=Text(printable(title)), title_justify="left", show_header=False)
    table.columns[1].justify = "right"
    for part in ("training", "choosing", "measuring"):
        table.add_row(f"Images for {part}, with text among them", f"{rows[part]:,}, {rows[f'{part}_with_text']:,}")
    left_out = f"{rows['without_embedding']:,}, {rows['spotting_failed']:,}"
    table.add_row("Left out: without embedding, spotting failed", left_out)
    table.add_row(f"Recall that was asked for, with {CONFIDENCE:.0%} confidence", f"{gate.wanted_recall:.2%}")
    table.add_row("Recall of images with text, on held-out images", f"{seen.recall:.2%}")
    table.add_row("  its 95 % interval", f"{seen.recall_low_95:.2%} to {seen.recall_high_95:.2%}")
    table.add_row("Recall of their words", f"{seen.word_recall:.2%}")
    table.add_row("Images that are not spotted: the saving", f"{seen.skipped:.2%}")
    console.print(table)
