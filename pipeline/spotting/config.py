"""Settings of the text spotters: frozen models, loaded from YAML without importing an engine."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from pipeline.section import DatasetName, Filled, Number, Section, Whole


class _Spotter(Section):
    name: DatasetName = Field("main", description="of the dataset; decides no word")
    gate: Filled | None = Field(
        None, description="file of `parrotscope gate`: images in which it holds text for very unlikely are skipped"
    )


class RapidOCRConfig(_Spotter):
    """PP-OCRv6 tiny and small on OpenVINO with RapidOCR's post-processing, the default spotter; nothing is fetched."""

    engine: Literal["rapidocr"] = "rapidocr"
    first_side: Whole = Field(
        800,
        ge=32,
        le=4096,
        description="pixels the detector sees along a side; smaller images are enlarged by 15 % at most",
    )
    longest_side: Whole = Field(
        1280,
        ge=32,
        le=4096,
        description="pixels it sees along a side where text is low; no more than first_side: never",
    )
    low_line: Number = Field(
        10, ge=0, description="pixels of height, at first_side, below which a quarter of the lines makes text low"
    )
    recognition_side: Whole = Field(
        2000, ge=32, le=8192, description="pixels along the longest side of the image that lines are cut from"
    )
    pixel_threshold: Number = Field(0.3, ge=0, le=1, description="text probability of a pixel that is text")
    box_threshold: Number = Field(
        0.25, ge=0, le=1, description="mean text probability of a region that is a line (RapidOCR: 0.5)"
    )
    unclip_ratio: Number = Field(
        1.6, gt=0, le=4, description="a region grows by its area over its perimeter times this"
    )
    text_score: Number = Field(
        0.7, ge=0, le=1, description="mean character confidence of a line that is kept (RapidOCR: 0.5)"
    )
    read_again_below: Number = Field(
        0.95, ge=0, le=1, description="mean character confidence below which the small model reads a line again"
    )
    read_again_from: Number = Field(
        0.5, ge=0, le=1, description="and from which; with less the tiny model's reading stays, for text_score to drop"
    )
    precision: Literal["auto", "bf16", "fp32"] = Field("auto", description="auto: bf16 on CPUs that have it, else fp32")


class EasyOCRConfig(_Spotter):
    """EasyOCR: CRAFT and a CRNN, with settings for small web images where its own are for scanned pages."""

    engine: Literal["easyocr"] = "easyocr"
    languages: tuple[str, ...] = Field(
        ("en",),
        min_length=1,
        description="EasyOCR's codes; they choose the recogniser (en: ASCII and the euro sign)",
    )
    model_directory: Path | None = Field(
        None, description="where the weights are; null: $EASYOCR_MODULE_PATH/model, else ~/.EasyOCR/model"
    )
    download: bool = Field(False, description="fetch weights that are not there")
    min_size: Whole = Field(6, ge=0, description="boxes no longer than this many pixels are dropped (EasyOCR: 20)")
    mag_ratio: Number = Field(
        2.0, gt=0, le=8, description="the detector sees the image this many times larger (EasyOCR: 1)"
    )
    canvas_size: Whole = Field(
        1280,
        ge=32,
        le=4096,
        description="but at most this many pixels along a side (EasyOCR: 2560, 6 GB of memory)",
    )
    text_threshold: Number = Field(0.7, ge=0, le=1)
    low_text: Number = Field(0.4, ge=0, le=1)
    link_threshold: Number = Field(0.4, ge=0, le=1)
    batch_pixels: Whole | None = Field(
        None,
        ge=1,
        description="pixels a network gets at once, but one image at least, for 0.6 KB of memory each; decides no "
        "word; null: 200,000 on a CPU, 8 million on a GPU",
    )


class TesseractConfig(_Spotter):
    """Tesseract: the program and its models are installed apart. Made for printed pages, it misses much in photos."""

    engine: Literal["tesseract"] = "tesseract"
    languages: tuple[Annotated[str, Field(pattern=r"^\w[\w-]*(/\w[\w-]*)?$")], ...] = Field(
        ("eng",), min_length=1, description="Tesseract's codes, as eng or script/Latin; each is read by its own model"
    )
    model_directory: Path | None = Field(
        None, description="where the .traineddata files are; null: $TESSDATA_PREFIX, else Tesseract's own"
    )
    page_segmentation: Literal[1, 3, 4, 5, 6, 11, 12] = Field(
        11, description="Tesseract's --psm; 11: text anywhere, in no order; its own 3 expects a page and misses much"
    )
    magnification: Number = Field(
        4.0, gt=0, le=8, description="it sees the image this many times larger: it reads best at 300 dpi"
    )
    longest_side: Whole = Field(
        1600, ge=32, le=32_767, description="but at most this many pixels along a side; larger images are shrunk"
    )
    min_confidence: Number = Field(0.8, ge=0, le=1, description="of a word that is kept")
    time_limit: Number = Field(60.0, gt=0, description="seconds until an image counts as failed; decides no word")


class CustomConfig(_Spotter):
    """A spotter of the user's own: `target(threads=..., device=..., **settings)` makes it."""

    engine: Literal["custom"] = "custom"
    target: str = Field(pattern=r"^[\w.]+:[\w.]+$", description="import path, package.module:Class")
    settings: dict[str, Any] = Field(default_factory=dict)


SpotterConfig = Annotated[
    RapidOCRConfig | EasyOCRConfig | TesseractConfig | CustomConfig, Field(discriminator="engine")
]
