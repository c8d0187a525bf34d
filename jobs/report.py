"""The job `report`: a run as one HTML page."""

from datetime import date
from functools import partial

from rich.console import Console

from jobs.console import printable, say
from jobs.table1 import coverage
from pipeline import open_run
from pipeline.datasets import Dataset, profiles_named
from pipeline.figures.drawn import draw_figures
from pipeline.figures.style import footer_line
from pipeline.fingerprint import software
from pipeline.folder import Folder
from pipeline.report.gallery import GallerySettings, make_gallery
from pipeline.report.page import Report, render, settings_of
from pipeline.report.pictures import picture
from pipeline.report.rejects import rejects_by_reason
from pipeline.run import Run
from pipeline.tables.clusters import cluster_tables
from pipeline.tables.comparison import compare
from pipeline.tables.of_run import centroids_to_merge, spotter_name, whole_profiles
from pipeline.tables.sensitivity import SpotterAccuracy
from pipeline.tables.table1 import check_identities, table1

SUFFIX = ".html"


def run_report(url: str, name: str, output: str | None, settings: GallerySettings, console: Console) -> None:
    """Write the report of the profiles `name` of a run.

    Args:
        url: folder or URL of the run.
        name: of the profiles dataset.
        output: file or URL to write; None: RUN/report.html for `main`, RUN/report-NAME.html for others.
        settings: of the gallery.
        console: where to print.

    Raises:
        ValueError: no dataset can have that name, or the output is no .html: it could replace a part of a run.
        RunError: there are no profiles of that name, or they lack a column.
        IdentityError: Table 1 contradicts itself.
    """
    run, dataset = Run(url), profiles_named(name)
    output = output or f"{url.rstrip('/')}/report{'' if name == 'main' else f'-{name}'}{SUFFIX}"
    if not output.endswith(SUFFIX):
        raise ValueError(f"{output!r} does not end in {SUFFIX}: a report is a page.")
    folder, slash, file = output.rpartition("/")
    page = render(gather(run, dataset, settings)).encode()
    Folder(folder or slash or ".").write_bytes(page, file)
    say(console, f"{output}: {len(page) / 1e6:.1f} MB, to be opened in a browser; it needs no network.")


def gather(run: Run, dataset: Dataset, settings: GallerySettings) -> Report:
    """Everything the page tells."""
    profiles, config = whole_profiles(run, dataset), run.config()
    opened = open_run(run.url, dataset.name)
    found = table1(profiles)
    check_identities(found)
    clusters = cluster_tables(profiles)
    centroids, reason = centroids_to_merge(run, config, dataset, clusters)
    footer = partial(footer_line, printable(run.url), found.images, spotter_name(config))
    config_text, made_with = settings_of(run)
    known, done = run.shards(), run.done(dataset)
    return Report(
        url=printable(run.url),
        profiles=str(dataset),
        made=f"Made {date.today():%Y-%m-%d} by parrotscope {software().get('parrotscope', '')}.",
        facts=list(filter(None, [*coverage(run, dataset), reason])),
        table=compare(found, profiles, SpotterAccuracy()),
        figures=list(map(picture, draw_figures(profiles, found, clusters, centroids, footer))),
        gallery=make_gallery(opened, profiles, clusters.clusters.table, settings),
        settings=settings,
        rejects=rejects_by_reason(opened),
        shards={"known": len(known), "profiled": len(done), "set aside with an error": len(run.failed())},
        config=config_text,
        software=made_with,
    )
