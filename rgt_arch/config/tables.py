"""The keys that BasicSR 1.4.2 and RGTModel read, by section and by the class that reads them, and their reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, NamedTuple, get_args

from rgt_arch.config.loading import KeyPath
from rgt_arch.config.schema import FilePath, Key, limits, own_keys
from rgt_arch.config.settings import LoggerSettings, Tile, TrainSettings, ValSettings, read_keys

# Keys of early BasicSR versions (its EDSR files of 2020 have them) and their names in 1.4.2.
RENAMED = {
    "use_flip": "use_hflip",
    "pretrain_model_g": "pretrain_network_g",
    "pretrain_model_d": "pretrain_network_d",
    "strict_load": "strict_load_g",
}
# Keys that other projects have at the top level, and what to do instead.
INSTEAD = {
    "use_amp": "set train:amp (bf16 or fp16) instead",
    "crop_border": "set crop_border of each metric in val:metrics",
    "print_network": "remove it: the network is always logged",
}
_Backend = Literal["nccl", "gloo", "cpu:gloo,cuda:nccl", "mpi", "ucc", "xccl", "hccl"]
_TRAIN_EXAMPLE = "with total_iter, optim_g, scheduler and pixel_opt in it"
_Kernel = Literal["iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso"]


def _twice(keys: Mapping[str, Key], **second: Any) -> dict[str, Key]:
    """Return the keys of the first degradation and, with the suffix 2, those of the second, with its own defaults."""
    again = {f"{name}2": replace(spec, default=second.get(name, spec.default)) for name, spec in keys.items()}
    return {**keys, **again}


_TOP = {
    "name": Key(str, "name of the run: its folder under experiments/ or results/", "always", example="my_run"),
    "model_type": Key(str, "model class; RGTModel, or one of BasicSR's", "always", example="RGTModel"),
    "scale": Key(int, "upscaling factor, handed to every data set", low=1, example="4"),
    "num_gpu": Key(int | Literal["auto"], "GPUs; 0 is the CPU, auto takes all", "always", low=0, example="auto"),
    "manual_seed": Key(int | None, "random seed; drawn at random when left out", low=0, high=2**32 - 2**16),
    "datasets": Key(dict, "train, val, val_2, test_1, ...", "always", example="with train, or test_1, in it"),
    "network_g": Key(dict, "the network: type, then its arguments", "always", example="{type: RGT}"),
    "path": Key(dict | None, "weights to start from, state to resume"),
    "train": Key(dict, "optimiser, schedule and losses", "train", example=_TRAIN_EXAMPLE),
    "val": Key(dict | None, "validation or test settings"),
    "logger": Key(dict, "when to log and to save", "train", example="{print_freq: 100, save_checkpoint_freq: 5000}"),
    "dist_params": Key(dict | None, "backend and port of distributed runs"),
    "find_unused_parameters": Key(
        bool, "for DistributedDataParallel; left out: true if patches are too small for RG-SA"
    ),
}
_TOP_GAN = {"network_d": Key(dict, "the discriminator", "train", example="{type: VGGStyleDiscriminator}")}
QUEUE = {"real": 180, "photo": 0}
"""Default of queue_size by RealRGTModel's `degradation`; BasicSR's models have that of `real`."""
_DEGRADATION = {  # the defaults, which RealRGTModel has, are those of Real-ESRGAN's option files
    "resize_prob": Key(
        list[float],
        "how often images go up, down, or keep their size",
        "degrade",
        low=0,
        count=3,
        default=[0.2, 0.7, 0.1],
    ),
    "resize_range": Key(list[float], "smallest and largest factor", "degrade", above=0, count=2, default=[0.15, 1.5]),
    "gaussian_noise_prob": Key(
        float, "how often noise is Gaussian; else it is Poisson", "degrade", low=0, high=1, default=0.5
    ),
    "noise_range": Key(
        list[float], "smallest and largest sigma of Gaussian noise, of 255", "degrade", low=0, count=2, default=[1, 30]
    ),
    "poisson_scale_range": Key(
        list[float], "smallest and largest factor of Poisson noise", "degrade", low=0, count=2, default=[0.05, 3]
    ),
    "gray_noise_prob": Key(float, "how often noise is grey", "degrade", low=0, high=1, default=0.4),
    "jpeg_range": Key(
        list[float], "smallest and largest JPEG quality", "degrade", low=0, high=100, count=2, default=[30, 95]
    ),
}
_SECOND = {
    "resize_prob": [0.3, 0.4, 0.3],
    "resize_range": [0.3, 1.2],
    "noise_range": [1, 25],
    "poisson_scale_range": [0.05, 2.5],
}
_REAL = {
    **_twice(_DEGRADATION, **_SECOND),
    "second_blur_prob": Key(float, "how often there is a second blur", "degrade", low=0, high=1, default=0.8),
    "gt_size": Key(int, "side of HR training patches", "degrade", low=1, example="256"),
    "queue_size": Key(int, "pairs kept to mix degradations, at least a batch", low=1, default=QUEUE["real"]),
}
_REAL_BASICSR = {"high_order_degradation": Key(bool, "false: train on the pairs of the data set", default=True)}
_REAL_NET = {"gt_usm": Key(bool, "sharpen the HR image", "degrade", example="true")}
_REAL_GAN = {
    "l1_gt_usm": Key(bool, "sharpen the HR image of the pixel loss", "train", example="true"),
    "percep_gt_usm": Key(bool, "sharpen the HR image of the perceptual loss", "train", example="true"),
    "gan_gt_usm": Key(bool, "sharpen the HR image of the adversarial loss", "train", example="false"),
}
REAL_ONLY = _REAL.keys() - {"gt_size", "queue_size"}
"""Keys that `degradation: photo` does not read."""
DEGRADATION = {
    "degradation": Key(
        Literal["real", "photo"],
        "real: Real-ESRGAN's, of second order; photo: mild, of cameras and the web, which reads none of the keys below "
        "except gt_size, queue_size and gt_usm",
        default="real",
    ),
    **{name: replace(spec, required="") for name, spec in _REAL.items()},
    "queue_size": Key(
        int,
        f"pairs kept to mix degradations; 0: none. Left out: {QUEUE['real']} for real, {QUEUE['photo']} for photo",
        low=0,
    ),
    "gt_usm": Key(bool, "sharpen the HR image", default=False),
}
"""Keys that RealRGTModel reads at the top level."""
_DIST_PARAMS = {
    "backend": Key(_Backend | None, "nccl on GPUs, gloo on CPUs"),
    "port": Key(int, "port of the first process", low=1, high=65535),
    "timeout": Key(float | None, "seconds that processes wait for each other", low=1),
}
_PATH = {
    "pretrain_network_g": Key(FilePath | None, "weights to start from or to test: a file, or a name of `rgt weights`"),
    "strict_load_g": Key(bool, "false: skip weights that are missing or of another size (×2 weights for ×4)"),
    "param_key_g": Key(str | None, "params or params_ema: which weights of the file"),
    "resume_state": Key(FilePath | None, "training state to go on from (--auto_resume finds the latest)"),
    "ignore_resume_networks": Key(list[str] | None, "networks that a resumed run does not load"),
    "experiments_root": Key(str | None, "folder of a training run; left out: experiments/NAME"),
    "results_root": Key(str | None, "folder of a test; left out: results/NAME"),
}
_PATH_GAN = {
    "pretrain_network_d": Key(FilePath | None, "weights of the discriminator"),
    "strict_load_d": Key(bool, "false: skip discriminator weights that do not fit"),
    "param_key_d": Key(str | None, "which weights of the discriminator file"),
}
_TRAIN = {
    "total_iter": Key(int, "optimiser steps", "train", low=1, example="500000"),
    "warmup_iter": Key(int, "linear warm-up steps; -1 is none", low=-1),
    "ema_decay": Key(float, "decay of the averaged weights; 0 is none", low=0, high=1),
    "optim_g": Key(dict, "optimiser: type, then its arguments", "train", example="{type: Adam, lr: 2e-4}"),
    "scheduler": Key(
        dict, "learning-rate schedule", "train", example="{type: MultiStepLR, milestones: [250000, 400000], gamma: 0.5}"
    ),
    "pixel_opt": Key(dict | None, "pixel loss"),
    "perceptual_opt": Key(dict | None, "perceptual loss"),
}
_TRAIN_GAN = {
    "optim_d": Key(dict, "optimiser of the discriminator", "train", example="{type: Adam, lr: 1e-4}"),
    "gan_opt": Key(dict, "adversarial loss", "train", example="{type: GANLoss, gan_type: vanilla, loss_weight: 0.1}"),
    "ldl_opt": Key(dict | None, "locally discriminative loss"),
    "net_d_iters": Key(int, "train the generator every N steps", low=1),
    "net_d_init_iters": Key(int, "steps before the generator is trained", low=0),
}
_WANDB = {"project": Key(str | None, "project name; ~ is off"), "resume_id": Key(str | None, "run to go on with")}
_DATASET = {
    "name": Key(str, "name for logs and result folders", "always", example="Set5"),
    "type": Key(str, "dataset class", "always", example="PairedImageDataset"),
    "task": Key(str, "name of the task in official RGT files; not read"),
    "io_backend": Key(dict, "where the images come from", "always", example="{type: disk}"),
    "scale": Key(int, "set by BasicSR from the top-level scale", low=1),
    "use_shuffle": Key(bool, "not read: BasicSR always shuffles"),
    "num_worker_per_gpu": Key(int, "loader processes per GPU", "train", low=0, example="4"),
    "batch_size_per_gpu": Key(int, "images per GPU and step", "train", low=1, example="8"),
    "dataset_enlarge_ratio": Key(float, "how often the images come in an epoch", above=0),
    "prefetch_mode": Key(Literal["cpu", "cuda"] | None, "~, cpu or cuda"),
    "num_prefetch_queue": Key(int, "batches that prefetch_mode: cpu holds", low=1),
    "pin_memory": Key(bool, "page-locked memory, for fast copies to the GPU"),
    "persistent_workers": Key(bool, "not read: loader processes stay for the whole run"),
}
_BACKEND = {"type": Key(Literal["disk", "lmdb"], "disk or lmdb", "always", example="disk")}
_LMDB = {  # arguments of BasicSR's LmdbBackend (utils/file_client.py)
    "readonly": Key(bool, "open without writing"),
    "lock": Key(bool, "take LMDB's lock"),
    "readahead": Key(bool, "let the system read ahead"),
}
_AUGMENT = {
    "use_hflip": Key(bool, "horizontal flips", "train", example="true"),
    "use_rot": Key(bool, "rotations by 90 degrees", "train", example="true"),
}
_NORMALISE = {
    "mean": Key(list[float] | None, "subtracted from both images"),
    "std": Key(list[float] | None, "both images are divided by it", above=0),
}
_PAIRS = {
    "dataroot_gt": Key(FilePath, "folder or .lmdb of HR images", "always", example="datasets/DF2K/HR"),
    "dataroot_lq": Key(FilePath, "folder or .lmdb of LR images", "always", example="datasets/DF2K/LR"),
    "filename_tmpl": Key(str, "LR name from HR name, without ending: '{}x4'"),
    "gt_size": Key(int, "side of HR training patches", "train", low=1, example="256"),
    **_AUGMENT,
    **_NORMALISE,
}
_PAIRED = {
    "meta_info_file": Key(FilePath | None, "text file with one HR name a line"),
    "color": Key(Literal["y", "rgb", "n"] | None, "y: the Y channel alone; else colours"),
}
_SINGLE = {
    "dataroot_lq": Key(FilePath, "folder or .lmdb of images", "always", example="datasets/single"),
    "meta_info_file": Key(FilePath, "text file with one name a line"),
    "color": Key(Literal["y", "rgb", "n"] | None, "y: the Y channel alone; else colours"),
}
_REAL_PAIRED = {"meta_info": Key(FilePath | None, "text file with 'HR name, LR name' a line")}
_BICUBIC = {
    "dataroot_gt": Key(FilePath, "folder, sub-folders too, or .lmdb of HR", "always", example="datasets/photos"),
    **{name: spec for name, spec in (_PAIRS | _PAIRED).items() if name in ("gt_size", "meta_info_file", "color")},
    **_AUGMENT,
}
_REALESRGAN = {
    "dataroot_gt": Key(FilePath, "folder or .lmdb of HR images", "always", example="datasets/DF2K"),
    "meta_info": Key(FilePath | None, "text file with one HR name a line; left out: all images of the folder"),
    "gt_size": Key(int, "not read here: the model's top-level gt_size is", low=1),
}
_KINDS: tuple[_Kernel, ...] = get_args(_Kernel)
KERNELS = _twice(
    {
        "blur_kernel_size": Key(int, "not read: kernels have 7 to 21 pixels a side", low=1, default=21),
        "kernel_list": Key(list[_Kernel], "kinds of blur", default=list(_KINDS)),
        "kernel_prob": Key(
            list[float], "how often each of kernel_list is drawn", low=0, default=[0.45, 0.25, 0.12, 0.03, 0.12, 0.03]
        ),
        "blur_sigma": Key(list[float], "smallest and largest blur width", low=0, count=2, default=[0.2, 3]),
        "betag_range": Key(list[float], "range of generalized shapes", low=0, count=2, default=[0.5, 4]),
        "betap_range": Key(list[float], "range of plateau shapes", low=0, count=2, default=[1, 2]),
        "sinc_prob": Key(float, "how often a sinc filter is the blur", low=0, high=1, default=0.1),
    },
    blur_sigma=[0.2, 1.5],
) | {"final_sinc_prob": Key(float, "how often a sinc filter comes last", low=0, high=1, default=0.8)}
"""Keys of the blur kernels of RealESRGANDataset, with the defaults of Real-ESRGAN's option files."""
ARGUMENTS = {  # of PyTorch's, BasicSR's and our classes; their defaults do not show all types and limits
    "milestones": Key(list[int], "", "always", low=0, example="[250000, 400000]"),
    "periods": Key(list[int], "", "always", low=1, example="[500000]"),
    "gamma": Key(float, low=0),
    "eta_min": Key(float, low=0),
    "crop_border": Key(int, "", "always", low=0, example="4"),
    "metric": Key(str, "", "always", example="lpips"),
    "options": Key(dict | None),
    "input_order": Key(Literal["HWC", "CHW"]),
    "reduction": Key(Literal["mean", "sum"]),
    "criterion": Key(Literal["l1", "l2", "fro"]),
    "vgg_type": Key(Literal["vgg19", "vgg16", "vgg13", "vgg11", "vgg19_bn", "vgg16_bn", "vgg13_bn", "vgg11_bn"]),
    "layer_weights": Key(dict, "", "always", example="{conv5_4: 1}"),
    "gan_type": Key(Literal["vanilla", "lsgan", "wgan", "wgan_softplus", "hinge"], "", "always", example="vanilla"),
}


class Table(NamedTuple):
    """Keys of one section, as one class reads them."""

    path: KeyPath
    """The section; "*" is any data set."""
    owner: str
    """The model, data set or backend that reads the keys; "" for keys that are always read."""
    keys: Mapping[str, Key]


ANY_DATASET: KeyPath = ("datasets", "*")
_IO: KeyPath = (*ANY_DATASET, "io_backend")
SET_BY_BASICSR: Mapping[KeyPath, tuple[str, ...]] = {  # utils/options.py:100-178
    (): ("is_train", "auto_resume", "dist", "rank", "world_size", "root_path"),
    ANY_DATASET: ("phase",),
    ("path",): ("models", "training_states", "log", "visualization"),
}
TABLES = (
    Table((), "", _TOP),
    Table(ANY_DATASET, "PairedImageDataset", {**_PAIRS, **_PAIRED}),
    Table(ANY_DATASET, "SingleImageDataset", {**_SINGLE, **_NORMALISE}),
    Table(ANY_DATASET, "RealESRGANPairedDataset", {**_PAIRS, **_REAL_PAIRED}),
    Table(ANY_DATASET, "BicubicDataset", _BICUBIC),
    Table(ANY_DATASET, "RealESRGANDataset", {**_REALESRGAN, **_AUGMENT, **KERNELS}),
    Table(ANY_DATASET, "", _DATASET),
    Table(_IO, "", _BACKEND),
    Table(_IO, "lmdb", _LMDB),
    Table(("path",), "SRModel", _PATH),
    Table(("train",), "SRModel", {**_TRAIN, **own_keys(TrainSettings)}),
    Table(("val",), "SRModel", own_keys(ValSettings)),
    Table(("train",), "RGTModel", own_keys(TrainSettings, "RGTModel")),
    Table(("val",), "RGTModel", own_keys(ValSettings, "RGTModel")),
    Table(("val", "tile"), "RGTModel", own_keys(Tile)),
    Table(("logger",), "RGTModel", own_keys(LoggerSettings, "RGTModel")),
    Table((), "SRGANModel", _TOP_GAN),
    Table(("path",), "SRGANModel", _PATH_GAN),
    Table(("train",), "SRGANModel", _TRAIN_GAN),
    Table((), "RealRGTModel", DEGRADATION),
    Table(
        (),
        "RealRGTGANModel",
        {name: replace(spec, required="", text=f"{spec.text}; left out: gt_usm") for name, spec in _REAL_GAN.items()},
    ),
    Table((), "RealESRNetModel", {**_REAL, **_REAL_BASICSR, **_REAL_NET}),
    Table((), "RealESRGANModel", {**_REAL, **_REAL_BASICSR, **_REAL_GAN}),
    Table(("logger",), "", own_keys(LoggerSettings)),
    Table(("logger", "wandb"), "", _WANDB),
    Table(("dist_params",), "", _DIST_PARAMS),
)
# Classes whose keys are all in the tables; the last two read the keys of their parents.
KNOWN_OWNERS = {table.owner for table in TABLES} | {"SwinIRModel", "ESRGANModel"}


def describe_options() -> str:
    """Return all keys of TABLES as Markdown tables.

    Arguments of networks, losses, metrics, optimisers and schedulers are documented in their classes.
    """
    return "\n".join(_block(table) for table in TABLES)


def table_title(table: Table) -> str:
    """Return the heading of a table: its section, and the class that reads it."""
    section = f"`{':'.join(table.path)}`" if table.path else "Top level"
    if table.path[:1] == ANY_DATASET[:1]:
        every = " of every type" if table.path == ANY_DATASET else ""
        return section + (f" of type {table.owner}" if table.owner else every)
    return section + (f", read by {table.owner}" if table.owner else "")


def _block(table: Table) -> str:
    rows = [f"| `{name}` | {_values(key)} | {_needed(key)} | {key.text} |" for name, key in table.keys.items()]
    head = [f"### {table_title(table)}", "", "| key | takes | needed, or default | what for |", "|---|---|---|---|"]
    return "\n".join([*head, *rows, ""])


def degradation_values(opt: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of DEGRADATION in `opt`, else their defaults. Raises UsageError with key and value."""
    return {name: spec.default for name, spec in DEGRADATION.items()} | read_keys(DEGRADATION, opt)


def place_of(key: str) -> str:
    """Return the first place of a key as messages write it (val:save_img), or ""."""
    path = next((table.path for table in TABLES if key in table.keys), None)
    return "" if path is None else ":".join((*path, key)).replace("*", "train")


def _needed(key: Key) -> str:
    default = str(key.default).lower() if isinstance(key.default, bool) else key.default
    return key.required.replace("degrade", "train") or ("" if default is None else str(default))


def _values(key: Key) -> str:
    text = ", ".join(key.choices)
    if not text or key.kind == "names":
        text = f"{key.kind}: {text}" if text else key.kind
    if key.count is not None:
        text = f"{key.count} {text}"
    if key.low is not None and key.high is None:
        text += f" ≥ {key.low:g}"
    elif limits(key):
        text += f" {limits(key).removeprefix('from ')}"
    return f"{text}, `~`" if key.nullable else text
