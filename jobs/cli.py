"""The command line: `parrotscope COMMAND`. It holds no science and loads heavy modules only where needed."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from jobs.console import make_console, say
from jobs.session import session
from jobs.told import told
from pipeline import schema
from pipeline.compaction import ROWS
from pipeline.config import DEFAULT_METADATA, Config
from pipeline.config_file import ConfigError, load

app = typer.Typer(
    help="What is really in my image–text data? A profiler for webdataset shards.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
console = make_console()


def _named(place: str | None) -> str | None:
    """Refuse the empty name that an unset shell variable gives: it would be the working folder."""
    if place is not None and not place.strip():
        raise typer.BadParameter("the name is blank")
    return place


ConfigPath = Annotated[str, typer.Argument(help="YAML file, or the name of a preset in configs/")]
RunPath = Annotated[str, typer.Argument(help="Folder or URL of a run", callback=_named)]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="section.key=value, over the file; may be repeated")]
Partial = Annotated[bool, typer.Option(help="Fit clusters although shards are pending")]
ShowFlagged = Annotated[bool, typer.Option("--show-flagged", help="Show what NSFW or punsafe metadata flags, blurred")]
Blur = Annotated[bool, typer.Option("--blur", help="Blur all images")]


class Only(StrEnum):
    """Which models an extract pass holds."""

    CLIP = "clip"
    SPOT = "spot"


class Command(StrEnum):
    """The commands that run on a cluster."""

    PROFILE = "profile"
    EXTRACT = "extract"
    CLUSTER = "cluster"
    REPROFILE = "reprofile"


@app.command()
def profile(config: ConfigPath, overrides: Overrides = None, partial: Partial = False) -> None:
    """Run the chain: extract, cluster, profile; then print Table 1. Same command again resumes."""
    with _job(config, overrides) as settings:
        from jobs.chain import run_chain

        run_chain(settings, console, partial)
        _print_table1(settings)


@app.command()
def extract(
    config: ConfigPath,
    overrides: Overrides = None,
    only: Annotated[Only | None, typer.Option(help="Hold one model: embeddings, or spotted text")] = None,
) -> None:
    """Read the shards once: samples, rejects, embeddings, spotted text."""
    with _job(config, overrides) as settings:
        from jobs.extract import PARTS, run_extract

        run_extract(settings, console, PARTS if only is None else (only.value,))


@app.command()
def cluster(config: ConfigPath, overrides: Overrides = None, partial: Partial = False) -> None:
    """Fit PCA and k-means on a sample of the embeddings."""
    with _job(config, overrides) as settings:
        from jobs.cluster import run_cluster

        run_cluster(settings, console, partial)


@app.command()
def reprofile(config: ConfigPath, overrides: Overrides = None) -> None:
    """Make profiles from what is extracted: a new threshold or clustering without spotting again."""
    with _job(config, overrides) as settings:
        from jobs.profile import run_profile

        run_profile(settings, console)
        _print_table1(settings)


@app.command()
def submit(
    config: ConfigPath,
    address: Annotated[str, typer.Option(envvar="RAY_API_SERVER_ADDRESS", help="Of the dashboard: http://host:8265")],
    job: Annotated[Command, typer.Option(help="Command of the chain")] = Command.PROFILE,
    overrides: Overrides = None,
    only: Annotated[Only | None, typer.Option(help="Of extract: hold one model")] = None,
    partial: Partial = False,
    shared_disk: Annotated[bool, typer.Option("--shared-disk", help="The nodes see this machine's paths")] = False,
    wait: Annotated[bool, typer.Option(help="Follow the logs until the job ends")] = True,
) -> None:
    """Run a job on a Ray cluster by its job API: code and configuration go along, logs and status come back."""
    if (only and job is not Command.EXTRACT) or (partial and job not in (Command.PROFILE, Command.CLUSTER)):
        raise typer.BadParameter(f"{job} takes no {'--only' if only else '--partial'}")
    with told():
        from jobs.submit import run_submit

        command = [job, *(["--only", only] if only else []), *(["--partial"] if partial else [])]
        status = run_submit(command, config, overrides or (), address, shared_disk, wait, console)
    raise typer.Exit(status)


@app.command()
def status(run: RunPath) -> None:
    """Say what of a run is done, pending and failed, and why."""
    from jobs.status import print_status

    with told():
        print_status(run, console)


@app.command()
def table1(
    run: RunPath,
    name: Annotated[str, typer.Option(help="Name of the profiles")] = "main",
    truth: Annotated[Path | None, typer.Option(help="truth.parquet of demo shards, for comparison")] = None,
) -> None:
    """Print Table 1 of Parrot Captions for a run, beside the published LAION-2B column."""
    from jobs.table1 import print_table1

    with told():
        print_table1(run, name, truth, console)


@app.command()
def tables(
    run: RunPath,
    name: Annotated[str, typer.Option(help="Name of the profiles")] = "main",
    folder: Annotated[str | None, typer.Option(help="Where to write; default: RUN/tables", callback=_named)] = None,
    sensitivity: Annotated[float | None, typer.Option(help="Share of images with text the spotter finds")] = None,
    specificity: Annotated[float | None, typer.Option(help="Share of images without text it leaves alone")] = None,
    word_recall: Annotated[float | None, typer.Option(help="Share of words it reads")] = None,
    sheets: Annotated[bool, typer.Option(help="Draw contact sheets, of images read from the shards")] = True,
) -> None:
    """Write the papers' tables and figures for a run, beside the published values; print Table 1."""
    with told():
        from jobs.tables import run_tables
        from pipeline.tables.sensitivity import SpotterAccuracy

        accuracy = SpotterAccuracy(sensitivity, specificity, word_recall)
        run_tables(run, name, folder, accuracy, console, sheets)


@app.command()
def report(
    run: RunPath,
    name: Annotated[str, typer.Option(help="Name of the profiles")] = "main",
    output: Annotated[
        str | None, typer.Option(help="File or URL, *.html; default: RUN/report.html", callback=_named)
    ] = None,
    clusters: Annotated[int, typer.Option(min=0, max=500, help="Clusters in the gallery")] = 24,
    images: Annotated[int, typer.Option(min=1, max=100, help="Images of each")] = 8,
    show_flagged: ShowFlagged = False,
    blur: Blur = False,
) -> None:
    """Write one HTML page to look at: numbers, figures, images with their spotted words, rejects, configuration."""
    with told():
        from jobs.report import run_report
        from pipeline.report.gallery import GallerySettings

        run_report(run, name, output, GallerySettings(clusters, images, show_flagged, blur), console)


@app.command()
def explore(
    run: RunPath,
    name: Annotated[str, typer.Option(help="Name of the profiles")] = "main",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of the page, on 127.0.0.1")] = 8501,
    show_flagged: ShowFlagged = False,
    blur: Blur = False,
) -> None:
    """Serve a page on this machine to search a run's samples and look at them."""
    with told():
        from jobs.explore import run_explore
        from pipeline.report.gallery import GallerySettings

        run_explore(run, name, port, GallerySettings(show_flagged=show_flagged, blur=blur), console)


@app.command()
def compact(
    run: RunPath,
    dataset: Annotated[list[str] | None, typer.Option(help="kind/name; may be repeated. Default: the profiles")] = None,
    profiles: Annotated[str | None, typer.Option(help="Profiles whose clusters give the order. Default: main")] = None,
    rows: Annotated[int, typer.Option(min=1, help="Rows of a new file, at least")] = ROWS,
    float32: Annotated[bool, typer.Option("--float32", help="Widen embeddings for readers without float16")] = False,
    anew: Annotated[bool, typer.Option("--anew", help="Forget the datasets' compacted files first")] = False,
) -> None:
    """Join the parts of datasets into large files sorted by cluster, beside them; readers prefer those."""
    with told():
        from pipeline.run import Run

        with session(Run(run).config().resources):
            from jobs.compact import run_compact

            run_compact(run, dataset or (), profiles, rows, float32, anew, console)


@app.command()
def gate(
    run: RunPath,
    recall: Annotated[
        float, typer.Option(min=0.5, max=0.9999, help="Share of images with text to let through")
    ] = 0.995,
    spotted: Annotated[str | None, typer.Option(help="Name of the spotted text. Default: that of run.yaml")] = None,
    output: Annotated[
        str | None, typer.Option(help="File or URL, *.json; default: RUN/gate.json", callback=_named)
    ] = None,
) -> None:
    """Learn from a spotted run which images can be skipped for want of text, and say what that saves and misses."""
    with told():
        from jobs.gate import run_gate

        run_gate(run, recall, spotted, output, console)


@app.command()
def query(
    run: RunPath,
    sql: Annotated[str, typer.Argument(help="One SELECT over profiles, words, rejects, shards, clusters")],
    name: Annotated[str, typer.Option(help="Name of the profiles")] = "main",
    form: Annotated[
        Literal["table", "csv", "json", "parquet"] | None,
        typer.Option("--format", help="Default: by the suffix of --output, else a table"),
    ] = None,
    output: Annotated[str | None, typer.Option(help="File or URL for all rows; default: standard output")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows that a table shows")] = 40,
    memory: Annotated[
        str | None, typer.Option(help="Memory of the query, as 4GB. Default: 80 % of the machine's")
    ] = None,
) -> None:
    """Ask a run one SELECT statement. It reads the run and nothing else, and changes nothing."""
    with told():
        from jobs.query import run_query

        run_query(run, sql, name, form, output, limit, memory, console)


@app.command(name="schema")
def print_schema() -> None:
    """Print every column of every dataset: type, unit, meaning."""
    datasets = {
        "shards": schema.SHARDS,
        "samples": (*schema.SAMPLES, *schema.metadata_columns(DEFAULT_METADATA)),
        "rejects": schema.REJECTS,
        "embeddings (d = 512)": schema.embeddings(512),
        "spotted": schema.SPOTTED_TEXT,
        "profiles": (*schema.PROFILES, *schema.metadata_columns(DEFAULT_METADATA)),
        "of the view profiles": (schema.CLUSTER_PERCENTILE,),
        "view words": schema.WORDS,
        "view clusters": schema.CLUSTERS,
    }
    with told():
        for title, columns in datasets.items():
            table = Table("column", "type", "unit", "null", "meaning", title=title, title_justify="left")
            for column in columns:
                null = "may be" if column.nullable else ""
                table.add_row(column.name, str(column.type), column.unit, null, column.meaning)
            console.print(table)
        say(console, "reject reasons: " + ", ".join(schema.RejectReason))


@app.command()
def demo(folder: Annotated[Path, typer.Argument(help="Where to draw them")] = Path("demo")) -> None:
    """Draw the demo shards with their truth beside them."""
    from pipeline.demo.shards import draw_demo

    with told():
        draw_demo(folder)
        say(console, f"demo shards and their truth: {folder}")


@app.command()
def quickstart() -> None:
    """Draw the demo shards, run the chain on a local Ray, print Table 1 beside the truth."""
    with told():
        from jobs.quickstart import TRUTH, prepare_demo, say_next

        prepare_demo(console)
    with _job("quickstart", None) as settings:
        from jobs.chain import run_chain

        run_chain(settings, console)
        _print_table1(settings, TRUTH)
        say_next(settings, console)


@contextmanager
def _job(config: str, overrides: list[str] | None) -> Iterator[Config]:
    """The configuration, inside a Ray session."""
    with told():
        settings = load(config, overrides or ())
        if "memory" in settings.run.partition("://")[0].split("::"):
            raise ConfigError(f"run: {settings.run} is within one process, and jobs have many: name a folder or a URL.")
        with session(settings.resources):
            yield settings


def _print_table1(settings: Config, truth: Path | None = None) -> None:
    from jobs.table1 import print_table1

    print_table1(settings.run, settings.profile.name, truth, console)


def main() -> None:
    """Entry point of the console command."""
    app()


if __name__ == "__main__":
    main()
