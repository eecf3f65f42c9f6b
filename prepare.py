"""Make or check data: python prepare.py task=synthetic_faces layout=lapa count=2000 out=... (see --help)."""

from __future__ import annotations

import hydra
from omegaconf import DictConfig

from conf.schema import CONF
from engine.door import answers, enter


@hydra.main(version_base="1.3", config_path="conf", config_name="prepare")
@answers
def main(config: DictConfig) -> None:
    from datamodules.preparation import prepare

    prepare(config)


KEYS = [line.partition(":")[0] for line in (CONF / "prepare.yaml").read_text().splitlines() if line[:1].isalpha()]
"""The settings of this door, for the nearest right one to a mistyped key."""


if __name__ == "__main__":
    enter(main, KEYS)
