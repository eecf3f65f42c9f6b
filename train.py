"""Train an experiment: python train.py experiment=mtl_lapa_1pct (see --help)."""

from __future__ import annotations

from typing import Any

import hydra
from omegaconf import DictConfig

from engine.entry_point import keep_user_errors, run_main
from engine.settings import fields, paths
from stages.command import Command
from stages.groups import TRAINER_ARGUMENTS


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
@keep_user_errors
def main(config: DictConfig) -> list[dict[str, Any]]:
    if config.predict_to is not None:
        from deploy.labelling import train_and_label

        return train_and_label(config)
    from stages.command import train

    return train(config)


if __name__ == "__main__":
    keys = [name for name, _ in fields(Command)]
    addable = {f"trainer.{name}" for name in TRAINER_ARGUMENTS} - {*keys}
    run_main(main, [*keys, *sorted(addable)], addable=addable, paths=paths(Command))
