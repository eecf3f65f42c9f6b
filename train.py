"""Train an experiment: python train.py experiment=mtl_lapa_1pct (see --help)."""

from __future__ import annotations

from typing import Any

import hydra
from omegaconf import DictConfig

from engine.door import answers, enter


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
@answers
def main(config: DictConfig) -> list[dict[str, Any]]:
    from engine.training import train

    return train(config)


if __name__ == "__main__":
    enter(main)
