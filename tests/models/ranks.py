"""One process of a run for test_ranks.py: `python ranks.py FOLDER`, with torchrun's environment variables.

Validates folders of images, trains an RGT two steps on its share of a fixed batch and one on a broken image, and writes
what it got to FOLDER/WORLD_SIZE-RANK.json.
"""

import json
import os
import sys
from pathlib import Path

import torch

import rgt_arch  # noqa: F401 - makes BasicSR importable
from rgt_arch.errors import UserError
from rgt_arch.models.rgt_model import RGTModel


def main(folder: Path) -> None:
    from basicsr.data import build_dataloader, build_dataset

    torch.set_num_threads(1)
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if world_size > 1:
        torch.distributed.init_process_group("gloo")
    opt = json.loads((folder / "options.json").read_text())
    opt |= {"dist": world_size > 1, "rank": rank, "world_size": world_size}
    torch.manual_seed(0)
    model = RGTModel(opt)
    results = []
    for name in ("five", "one"):
        data = json.loads((folder / f"{name}.json").read_text())
        loader = build_dataloader(build_dataset(data), data, num_gpu=0, dist=opt["dist"])
        model.validation(loader, 0, None, True)
        results.append(model.metric_results)
    random = torch.Generator().manual_seed(1)
    batch = {"lq": torch.rand(4, 3, 12, 16, generator=random), "gt": torch.rand(4, 3, 24, 32, generator=random)}
    reductions: list[int] = []
    for iteration in (1, 2):
        model.feed_data({key: value[rank::world_size] for key, value in batch.items()})
        if world_size > 1 and iteration == 1:
            model.net_g.register_comm_hook(reductions, count_reductions)
        model.optimize_parameters(iteration)
    weights = [param.double().sum().item() for param in model.net_g.parameters()]
    found = {"log": model.log_dict, "results": results, "weights": weights, "reductions": sum(reductions)}
    found["best"] = model.best_metric_results
    if rank == world_size - 1:
        batch["gt"][rank, 0, 0, 0] = float("inf")
    model.feed_data({key: value[rank::world_size] for key, value in batch.items()} | {"lq_path": [f"{rank}.png"]})
    try:
        model.optimize_parameters(3)
    except UserError as error:
        found["refusal"] = str(error)
    found["kept"] = weights == [param.double().sum().item() for param in model.net_g.parameters()]
    (folder / f"{world_size}-{rank}.json").write_text(json.dumps(found))
    if world_size > 1:
        torch.distributed.destroy_process_group()


def count_reductions(reductions: list[int], bucket: torch.distributed.GradBucket) -> torch.futures.Future[torch.Tensor]:
    from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

    reductions.append(1)
    return allreduce_hook(torch.distributed.group.WORLD, bucket)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
