"""The keys that BasicSR 1.4.2 and RGTModel read, as one set of tables; `describe_options` prints them."""

from __future__ import annotations

from dataclasses import replace

from rgt_arch.config.schema import Key

_BACKENDS = ("nccl", "gloo", "cpu:gloo,cuda:nccl", "mpi", "ucc", "xccl", "hccl")

# Keys of early BasicSR versions (its EDSR files of 2020 carry them) and what 1.4.2 calls them.
RENAMED = {
    "use_flip": "use_hflip",
    "pretrain_model_g": "pretrain_network_g",
    "pretrain_model_d": "pretrain_network_d",
    "strict_load": "strict_load_g",
}

TOP = {
    "name": Key("text", "name of the run: its folder under experiments/ or results/", "always", example="name: my_run"),
    "model_type": Key("text", "model class; RGTModel, or one of BasicSR's", "always", example="model_type: RGTModel"),
    "scale": Key("integer", "upscaling factor, handed to every data set", low=1, example="scale: 4"),
    "num_gpu": Key("count or auto", "GPUs; 0 is the CPU, auto takes all", "always", low=0, example="num_gpu: auto"),
    "manual_seed": Key(
        "integer", "random seed; drawn at random when left out", nullable=True, low=0, high=2**32 - 2**16
    ),
    "datasets": Key(
        "section",
        "data sets: train, val, val_2, test_1, ...",
        "always",
        example="datasets: with train, or test_1, in it",
    ),
    "network_g": Key("section", "the network: type, then its arguments", "always", example="network_g: {type: RGT}"),
    "path": Key("section", "weights to start from, state to resume", nullable=True),
    "train": Key(
        "section",
        "optimiser, schedule and losses",
        "train",
        example="train: with total_iter, optim_g, scheduler and pixel_opt in it",
    ),
    "val": Key("section", "validation or test settings", nullable=True),
    "logger": Key(
        "section",
        "how often to log and to save",
        "train",
        example="logger: {print_freq: 100, save_checkpoint_freq: 5000}",
    ),
    "dist_params": Key("section", "backend and port of distributed runs", nullable=True),
    "find_unused_parameters": Key(
        "boolean", "handed to DistributedDataParallel; left out: true if patches are too small for RG-SA"
    ),
}

DIST_PARAMS = {
    "backend": Key("text", "nccl on GPUs, gloo on CPUs", nullable=True, choices=_BACKENDS),
    "port": Key("integer", "port of the first process", low=1, high=65535),
    "timeout": Key("number", "seconds that processes wait for each other", nullable=True, low=1),
}

PATH = {
    "pretrain_network_g": Key(
        "path", "weights to start from or to test: a file, or a name that `rgt weights` lists", nullable=True
    ),
    "strict_load_g": Key("boolean", "false: skip weights that are missing or of another size (×2 weights for ×4)"),
    "param_key_g": Key("text", "params or params_ema: which weights of the file", nullable=True),
    "resume_state": Key("path", "training state to go on from (--auto_resume finds the latest)", nullable=True),
    "ignore_resume_networks": Key("names", "networks that a resumed run does not load", nullable=True),
}
PATH_D = {
    "pretrain_network_d": Key("path", "weights of the discriminator", nullable=True),
    "strict_load_d": Key("boolean", "false: skip discriminator weights that do not fit"),
    "param_key_d": Key("text", "which weights of the discriminator file", nullable=True),
}

TRAIN = {
    "total_iter": Key("integer", "optimiser steps", "train", low=1, example="total_iter: 500000"),
    "warmup_iter": Key("integer", "linear warm-up steps; -1 is none", low=-1),
    "ema_decay": Key("number", "decay of the averaged weights; 0 is none", low=0, high=1),
    "optim_g": Key(
        "section", "optimiser: type, then its arguments", "train", example="optim_g: {type: Adam, lr: 2e-4}"
    ),
    "scheduler": Key(
        "section",
        "learning-rate schedule",
        "train",
        example="scheduler: {type: MultiStepLR, milestones: [250000, 400000], gamma: 0.5}",
    ),
    "pixel_opt": Key("section", "pixel loss", nullable=True),
    "perceptual_opt": Key("section", "perceptual loss", nullable=True),
}
TRAIN_RGT = {
    "init": Key("text", "weights to start from: interpolation, or random", nullable=True, choices=("interpolation",)),
    "amp": Key("text", "mixed precision: bf16 or fp16", nullable=True, choices=("bf16", "fp16")),
    "grad_clip": Key("number", "largest norm of the gradient", nullable=True, low=1e-12),
    "accumulate": Key("integer", "micro-batches per optimiser step; each loader batch is split into so many", low=1),
    "nan_patience": Key(
        "integer", "steps in a row with a loss or gradient that is not finite that end the run; 10 if left out", low=1
    ),
}
TRAIN_GAN = {
    "optim_d": Key("section", "optimiser of the discriminator", "train", example="optim_d: {type: Adam, lr: 1e-4}"),
    "gan_opt": Key("section", "adversarial loss", nullable=True),
    "ldl_opt": Key("section", "locally discriminative loss", nullable=True),
    "net_d_iters": Key("integer", "train the generator every so many steps", low=1),
    "net_d_init_iters": Key("integer", "steps before the generator is trained", low=0),
}

VAL = {
    "val_freq": Key("integer", "validate every so many steps", "train", low=1, example="val_freq: 5000"),
    "save_img": Key("boolean", "write the images", "always", example="save_img: false"),
    "suffix": Key("text", "ending of image names in a test; ~ is the name of the run", nullable=True),
    "pbar": Key("boolean", "show a progress bar"),
    "metrics": Key("section", "metrics by any name: type, then their arguments", nullable=True),
}
VAL_RGT = {
    "use_chop": Key("boolean", "the official code's fixed 200-pixel pieces (tile is better)"),
    "tile": Key("section", "{size, overlap} in LR pixels: tiles with blended seams, for little memory", nullable=True),
    "self_ensemble": Key("boolean", "average over the 8 flips and rotations (RGT+)"),
}
TILE = {
    "size": Key("integer", "side of a tile in LR pixels, overlap included", "always", low=16, example="size: 256"),
    "overlap": Key("integer", "pixels shared by neighbours, in LR pixels", low=0, example="overlap: 32"),
}

LOGGER = {
    "print_freq": Key("integer", "log every so many steps", "train", low=1, example="print_freq: 100"),
    "save_checkpoint_freq": Key(
        "integer", "save every so many steps", "train", low=1, example="save_checkpoint_freq: 5000"
    ),
    "use_tb_logger": Key("boolean", "write TensorBoard files; true if left out"),
    "csv": Key("boolean", "write losses and validation metrics to experiments/NAME/metrics.csv, a value a row"),
    "wandb": Key("section", "Weights & Biases; needs use_tb_logger: true", nullable=True),
}
LOGGER_RGT = {
    "keep_checkpoints": Key("integer", "how many checkpoints to keep, the newest; ~ is all", nullable=True, low=1),
    "keep_best": Key(
        "text", "a metric of val:metrics: the best weights on the first val data set are net_g_best.pth", nullable=True
    ),
}
WANDB = {
    "project": Key("text", "project name; ~ is off", nullable=True),
    "resume_id": Key("text", "run to go on with", nullable=True),
}

IO_BACKEND = {
    "type": Key("text", "disk or lmdb", "always", choices=("disk", "lmdb", "memcached"), example="type: disk"),
}
# Arguments that BasicSR's LmdbBackend and MemcachedBackend take (utils/file_client.py).
IO_BACKEND_LMDB = {
    "readonly": Key("boolean", "open without writing"),
    "lock": Key("boolean", "take LMDB's lock"),
    "readahead": Key("boolean", "let the system read ahead"),
}
IO_BACKEND_MEMCACHED = {
    "server_list_cfg": Key("path", "list of servers", "always", example="server_list_cfg: servers.conf"),
    "client_cfg": Key("path", "settings of the client", "always", example="client_cfg: client.conf"),
    "sys_path": Key("path", "folder that the client's module is in", nullable=True),
}

DATASET = {
    "name": Key("text", "name for logs and result folders", "always", example="name: Set5"),
    "type": Key("text", "dataset class", "always", example="type: PairedImageDataset"),
    "task": Key("text", "what the official RGT files call their job; not read"),
    "io_backend": Key("section", "where the images come from", "always", example="io_backend: {type: disk}"),
    "scale": Key("integer", "set by BasicSR from the top-level scale", low=1),
    "use_shuffle": Key("boolean", "not read: BasicSR always shuffles"),
    "num_worker_per_gpu": Key("integer", "loader processes per GPU", "train", low=0, example="num_worker_per_gpu: 4"),
    "batch_size_per_gpu": Key("integer", "images per GPU and step", "train", low=1, example="batch_size_per_gpu: 8"),
    "dataset_enlarge_ratio": Key("number", "repeat the images so often in an epoch", low=1e-6),
    "prefetch_mode": Key("text", "~, cpu or cuda", nullable=True, choices=("cpu", "cuda")),
    "num_prefetch_queue": Key("integer", "batches that prefetch_mode: cpu holds", low=1),
    "pin_memory": Key("boolean", "page-locked memory, for fast copies to the GPU"),
    "persistent_workers": Key("boolean", "keep loader processes between epochs"),
}
_NORMALISE = {
    "mean": Key("numbers", "subtracted from both images", nullable=True),
    "std": Key("numbers", "both images are divided by it", nullable=True, low=1e-6),
}
_AUGMENT = {
    "use_hflip": Key("boolean", "horizontal flips", "train", example="use_hflip: true"),
    "use_rot": Key("boolean", "rotations by 90 degrees", "train", example="use_rot: true"),
}
_PAIRS = {
    "dataroot_gt": Key("path", "folder or .lmdb of HR images", "always", example="dataroot_gt: datasets/DF2K/HR"),
    "dataroot_lq": Key("path", "folder or .lmdb of LR images", "always", example="dataroot_lq: datasets/DF2K/LR"),
    "filename_tmpl": Key("text", "LR name from HR name, without ending: '{}x4'"),
    "gt_size": Key("integer", "side of HR training patches", "train", low=1, example="gt_size: 256"),
    **_AUGMENT,
    **_NORMALISE,
}
_KERNEL_NAMES = ("iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso")
_KERNELS = {
    "blur_kernel_size": Key("integer", "not read: kernels have 7 to 21 pixels a side", "train", low=1, example="21"),
    "kernel_list": Key("names", "kinds of blur", "train", choices=_KERNEL_NAMES, example="[iso, aniso]"),
    "kernel_prob": Key("numbers", "how often each of kernel_list is drawn", "train", low=0, example="[0.6, 0.4]"),
    "blur_sigma": Key("numbers", "smallest and largest width of a blur", "train", low=0, count=2, example="[0.2, 3]"),
    "betag_range": Key("numbers", "range of generalized kernels' shapes", "train", low=0, count=2, example="[0.5, 4]"),
    "betap_range": Key("numbers", "range of plateau kernels' shapes", "train", low=0, count=2, example="[1, 2]"),
    "sinc_prob": Key("number", "how often a sinc filter is the blur", "train", low=0, high=1, example="0.1"),
}


def _kernels(order: str) -> dict[str, Key]:
    """The keys of the first ("") or second ("2") blur."""
    return {f"{name}{order}": replace(key, example=f"{name}{order}: {key.example}") for name, key in _KERNELS.items()}


DATASETS: dict[str, dict[str, Key]] = {
    "PairedImageDataset": {
        **_PAIRS,
        "meta_info_file": Key("path", "text file with one HR name a line", nullable=True),
        "color": Key("text", "y: the Y channel alone", nullable=True),
    },
    "SingleImageDataset": {
        "dataroot_lq": Key("path", "folder or .lmdb of images", "always", example="dataroot_lq: datasets/single"),
        "meta_info_file": Key("path", "text file with one name a line"),
        "color": Key("text", "y: the Y channel alone", nullable=True),
        **_NORMALISE,
    },
    "RealESRGANPairedDataset": {
        **_PAIRS,
        "meta_info": Key("path", "text file with 'HR name, LR name' a line", nullable=True),
    },
    "RealESRGANDataset": {
        "dataroot_gt": Key("path", "folder or .lmdb of HR images", "always", example="dataroot_gt: datasets/DF2K"),
        "meta_info": Key("path", "text file with one HR name a line"),
        "gt_size": Key("integer", "not read here: the model's top-level gt_size is", low=1),
        **_AUGMENT,
        **_kernels(""),
        **_kernels("2"),
        "final_sinc_prob": Key(
            "number", "how often a sinc filter comes last", "train", low=0, high=1, example="final_sinc_prob: 0.8"
        ),
    },
}

_DEGRADATION = {
    name + order: key
    for order in ("", "2")
    for name, key in {
        "resize_prob": Key("numbers", "how often images go up, down, or keep their size", low=0, count=3),
        "resize_range": Key("numbers", "smallest and largest factor", low=1e-3, count=2),
        "gaussian_noise_prob": Key("number", "how often noise is Gaussian; else it is Poisson", low=0, high=1),
        "noise_range": Key("numbers", "smallest and largest sigma of Gaussian noise, of 255", low=0, count=2),
        "poisson_scale_range": Key("numbers", "smallest and largest factor of Poisson noise", low=0, count=2),
        "gray_noise_prob": Key("number", "how often noise is grey", low=0, high=1),
        "jpeg_range": Key("numbers", "smallest and largest JPEG quality", low=0, high=100, count=2),
    }.items()
}
_REAL_TOP = {
    **_DEGRADATION,
    "second_blur_prob": Key("number", "how often there is a second blur", low=0, high=1),
    "gt_size": Key("integer", "side of HR training patches", low=1),
    "queue_size": Key("integer", "pairs kept to mix degradations", low=1),
    "high_order_degradation": Key("boolean", "false: train on the pairs of the data set"),
}
_NETWORK_D = {
    "network_d": Key("section", "the discriminator", "train", example="network_d: {type: VGGStyleDiscriminator}")
}

# Arguments of PyTorch's, BasicSR's and our classes whose values their defaults do not tell.
ARGUMENTS = {
    "milestones": Key("integers", required="always", low=0, example="milestones: [250000, 400000]"),
    "periods": Key("integers", required="always", low=1, example="periods: [500000]"),
    "gamma": Key("number", low=0),
    "eta_min": Key("number", low=0),
    "crop_border": Key("integer", required="always", low=0, example="crop_border: 4"),
    "input_order": Key("text", choices=("HWC", "CHW")),
    "reduction": Key("text", choices=("mean", "sum")),
    "criterion": Key("text", choices=("l1", "l2", "fro")),
    "layer_weights": Key("section", required="always", example="layer_weights: {conv5_4: 1}"),
    "gan_type": Key(
        "text",
        required="always",
        choices=("vanilla", "lsgan", "wgan", "wgan_softplus", "hinge"),
        example="gan_type: vanilla",
    ),
}

# What each model class reads on top of its parents in the same table: class -> section -> keys.
MODELS: dict[str, dict[str, dict[str, Key]]] = {
    "SRModel": {"": {}, "path": PATH, "train": TRAIN, "val": VAL},
    "SwinIRModel": {},
    "RGTModel": {"train": TRAIN_RGT, "val": VAL_RGT, "logger": LOGGER_RGT},
    "SRGANModel": {"": _NETWORK_D, "path": PATH_D, "train": TRAIN_GAN},
    "ESRGANModel": {},
    "RealESRNetModel": {"": {**_REAL_TOP, "gt_usm": Key("boolean", "sharpen the HR image")}},
    "RealESRGANModel": {
        "": {**_REAL_TOP, **{f"{loss}_gt_usm": Key("boolean") for loss in ("l1", "percep", "gan")}},
    },
}
