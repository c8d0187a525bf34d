"""Loading a CLIP model: open_clip's name and weights, device and precision, with an error that says what to do."""

import hashlib
import json
import logging
import os
import pickle
import warnings
from pathlib import Path

import open_clip
import torch
from huggingface_hub import constants, get_session

from pipeline.config import ClipConfig
from pipeline.weights import local_file, one_at_a_time

EMBEDDED = Path(__file__).parent / "demo" / "embedded_clip"
"""Folder of the embedded CLIP: config.json and model.safetensors."""

HUB_TIMEOUT = 5.0
"""Seconds after which the model hub counts as out of reach."""


class ClipError(RuntimeError):
    """The CLIP model cannot be used as configured; the message says why and what to do."""


def resolve_device(device: str) -> str:
    """`auto` becomes cuda where there is one, else cpu.

    Raises:
        ClipError: cuda is asked for and absent.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ClipError("clip.device is cuda, but torch sees no CUDA device here.")
    return device


def resolve_precision(precision: str, device: str) -> str:
    """`auto` becomes fp16 on a GPU, bf16 on a CPU with bf16 instructions, else fp32.

    Raises:
        ClipError: the machine does not have the precision in hardware.
    """
    bf16 = _cpu_has_bf16() if device == "cpu" else torch.cuda.is_bf16_supported()
    if precision == "auto":
        if device == "cuda":
            return "fp16"
        return "bf16" if bf16 else "fp32"
    if precision == "fp16" and device == "cpu":
        raise ClipError("clip.precision fp16 needs a GPU; this process runs on the CPU.")
    if precision == "bf16" and not bf16:
        raise ClipError(
            "clip.precision is bf16 (as the run resolved it, if the config says auto), "
            "and this machine has no bf16 instructions."
        )
    return precision


def _cpu_has_bf16() -> bool:
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return False
    return not flags.isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})


def resolve_model(config: ClipConfig) -> tuple[str, str]:
    """open_clip's name of the model, and its tag or the path of its checkpoint, copied here where it is elsewhere.

    Raises:
        ClipError: there is no such model, tag or file, or the two do not fit each other.
    """
    if config.model == "embedded":
        if config.pretrained not in (None, "openai") or config.model_config_file:
            raise ClipError(
                "clip.model embedded brings its own weights: leave out clip.pretrained and clip.model_config_file."
            )
        return _register(EMBEDDED / "config.json", "parrotscope-embedded"), str(EMBEDDED / "model.safetensors")
    name, pretrained = config.model, _here("pretrained", config.pretrained)
    if config_file := _here("model_config_file", config.model_config_file):
        name = _register(Path(config_file), config.model)
    if open_clip.get_model_config(name) is None:
        raise ClipError(
            f"open_clip knows no model {name!r}; see open_clip.list_models(), "
            "or give a model config in clip.model_config_file."
        )
    if not pretrained:
        raise ClipError(f"clip.pretrained is empty: name a tag of {name} or the path of a checkpoint.")
    model_gelu = bool(open_clip.get_model_config(name).get("quick_gelu", False))
    if os.path.isfile(pretrained):
        if not model_gelu and _named_quick_gelu(Path(pretrained)):
            raise _activation_mismatch(name, pretrained, model_gelu)
        return name, pretrained
    tags = open_clip.list_pretrained_tags_by_model(name)
    tag = open_clip.get_pretrained_cfg(name, pretrained)
    if not tag:
        raise ClipError(
            f"clip.pretrained {pretrained!r} is neither a file nor a tag of {name} (tags: {', '.join(tags) or 'none'})."
        )
    if bool(tag.get("quick_gelu", False)) != model_gelu:
        raise _activation_mismatch(name, pretrained, model_gelu)
    return name, pretrained


def _here(key: str, place: str | None) -> str | None:
    """What `clip.key` names; a file at a URL is copied to this node."""
    try:
        return place and local_file(place)
    except (OSError, ValueError, ImportError) as error:
        raise ClipError(f"clip.{key} cannot be fetched: {error}") from error


def _named_quick_gelu(checkpoint: Path) -> bool:
    """Whether file or hub repository have the name of weights trained with QuickGELU; weights bear no trace of it."""
    names = [checkpoint.name, *(part for part in checkpoint.parts if part.startswith("models--"))]
    return any(mark in name.lower() for name in names for mark in ("openai", "quickgelu"))


def _activation_mismatch(name: str, pretrained: str, model_gelu: bool) -> ClipError:
    other = name.removesuffix("-quickgelu") if model_gelu else f"{name}-quickgelu"
    return ClipError(
        f"{name} and its weights {pretrained!r} differ in QuickGELU: the weights would run with the "
        f"wrong activation. Use clip.model: {other}."
    )


def _register(config_file: Path, name: str) -> str:
    """Make an open_clip model config known under a name of its own."""
    if not config_file.is_file():
        raise ClipError(f"The open_clip model config {config_file} is not there.")
    try:
        config = json.loads(config_file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ClipError(f"The open_clip model config {config_file} is not JSON: {error}.") from error
    if not isinstance(config, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= config.keys():
        raise ClipError(f"{config_file} is no open_clip model config (embed_dim, vision_cfg, text_cfg).")
    # open_clip.add_model_config would take the file's name, and read the file again at its every call.
    open_clip.factory._MODEL_CONFIGS[name] = config
    return name


def load_model(name: str, pretrained: str) -> torch.nn.Module:
    """The model in float32 on the CPU; in seconds a clear error where its weights are out of reach."""
    tag = not os.path.isfile(pretrained)
    if tag and not _hub_in_reach():
        # Cached weights still load; without this a missing file costs a minute of retries.
        constants.HF_HUB_OFFLINE = True
    # open_clip logs on the root logger what the error below says better.
    logging.disable(logging.ERROR)
    try:
        if tag:
            fetch_weights(name, pretrained)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            model: torch.nn.Module = open_clip.create_model(
                name, pretrained, precision="fp32", device="cpu", weights_only=True
            )
            return model
    except Exception as error:
        if tag:
            raise ClipError(
                f"The weights of {name}, tag {pretrained!r}, are not in {constants.HF_HUB_CACHE} and cannot be "
                "fetched from the model hub. Fetch them where there is a network, and copy that folder or "
                "pass the checkpoint's path as clip.pretrained."
            ) from error
        if isinstance(error, pickle.UnpicklingError) or "TorchScript" in str(error):
            # Without torch's own text: it advises to run the code in the file.
            raise ClipError(
                f"{pretrained} is damaged, a TorchScript archive, or holds pickled objects. Only plain state dicts "
                "are loaded (.safetensors, or .pt saved by torch.save of tensors alone): convert it where you "
                "trust it, e.g. with open_clip."
            ) from None
        reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(":.")
        raise ClipError(f"{pretrained} is no checkpoint of {name}: {reason[:300]}.") from error
    finally:
        logging.disable(logging.NOTSET)


def fetch_weights(name: str, tag: str) -> str:
    """Path of open_clip's weights, downloaded if they are not there: some by open_clip itself, which locks nothing."""
    with one_at_a_time(f"{name}--{tag}".replace("/", "--")):
        return str(open_clip.download_pretrained(open_clip.get_pretrained_cfg(name, tag)))


def _hub_in_reach() -> bool:
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=HUB_TIMEOUT)
    except Exception:  # noqa: BLE001 - whatever the network's reason, the answer is no
        return False
    return True


def weights_digest(model: torch.nn.Module) -> str:
    """128-bit blake2b of all parameters and buffers, in float32 as loaded: the same for a tag and its file."""
    hasher = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(model.state_dict().items()):
        hasher.update(f"{name} {tuple(tensor.shape)}".encode())
        hasher.update(tensor.contiguous().numpy().tobytes())
    return hasher.hexdigest()
