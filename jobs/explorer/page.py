"""The explorer: what is looked for on the left, samples with their outlined words on the right, page by page.

Streamlit runs it from the top after every change. Nothing that a user types becomes SQL or Markdown, and samples are
HTML of the report's template, which escapes all that is theirs.
"""

import json
import sys

import streamlit as st

from pipeline import open_run
from pipeline.datasets import profiles_named
from pipeline.query.open_run import OpenRun
from pipeline.report.captions import visible
from pipeline.report.gallery import GallerySettings, fetch_cards
from pipeline.report.page import render_cards
from pipeline.report.search import CLASSES, ORDERS, Search, count, find
from pipeline.run import Run
from pipeline.secrets import without_secrets
from pipeline.tables.sheets import NOTHING_KNOWN, unsafe_condition

SIDE = 400
"""Pixels of an image's longest side."""

PAGE_SIZES = (12, 24, 48)


@st.cache_resource
def opened(url: str, name: str) -> tuple[OpenRun, str, int]:
    """The run, the SQL of what metadata flags, and the highest cluster."""
    run = open_run(url, name)
    last = run.sql("SELECT max(cluster_id) AS cluster FROM profiles").arrow()["cluster"][0].as_py()
    columns = Run(url).dataset(profiles_named(name)).schema.names
    return run, unsafe_condition(columns), last or 0


def ask(last_cluster: int) -> Search:
    """What is looked for, by the fields on the left."""
    with st.sidebar:
        caption = st.text_input("Words in the caption", max_chars=200)
        word = st.text_input("A word in the image", max_chars=200)
        cluster = st.number_input("Cluster", 0, last_cluster, None, placeholder="all", help="Images alike to CLIP")
        classes = st.multiselect(
            "Text", CLASSES, placeholder="all", help="none; text, none of it in the caption; co_emb: some of it"
        )
        low, high = st.columns(2)
        scores = (
            low.number_input("CLIP score from", -1.0, 1.0, None, 0.05, "%.3f", help="How well image and caption fit"),
            high.number_input("to", -1.0, 1.0, None, 0.05, "%.3f"),
        )
        rates = st.slider("CoTR (%)", 0, 100, (0, 100), help="Share of the caption's words that are in the image")
        order = st.selectbox("Order", list(ORDERS))
    # All the way open, the slider takes in images without a rate, whose spotting failed.
    cotr = (rates[0] / 100 if rates[0] else None, rates[1] / 100 if rates[1] < 100 else None)
    return Search(caption, word, cluster, classes or CLASSES, scores, cotr, order)


def main(url: str, name: str, show_flagged: bool, blur: bool) -> None:
    st.set_page_config(page_title="parrotscope explore", layout="wide")
    run, unsafe, last_cluster = opened(url, name)
    search = ask(last_cluster)
    left_out = None if show_flagged else unsafe
    found = count(run, search, left_out)
    st.subheader("Samples")
    place, of, size = st.columns([2, 2, 1], vertical_alignment="bottom")
    most = size.selectbox("On a page", PAGE_SIZES)
    pages = max(1, -(-found // most))
    # A key of the search: a new one begins at its first page.
    page = place.number_input("Page", 1, pages, 1, key=f"page {search} {most}")
    of.text(f"of {pages:,}: {found:,} samples")
    names = find(run, search, left_out, (page - 1) * most, most)
    cards = fetch_cards(run, names, unsafe, GallerySettings(show_flagged=show_flagged, blur=blur), SIDE)
    if names:
        st.html(render_cards([cards[name] for name in names]))
    st.text("Outlined in blue: words of the image that are in the caption; in green: its other words.")
    st.text(visible(f"{without_secrets(url)}, profiles/{name}"))
    if unsafe != NOTHING_KNOWN and not show_flagged:
        st.text("Images that NSFW or punsafe metadata flags are left out. Others may be offensive, too.")


try:
    main(**json.loads(sys.argv[1]))
except (ValueError, RuntimeError, OSError) as error:
    st.text(visible(without_secrets(str(error))))
