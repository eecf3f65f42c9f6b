"""Masks of images: python predict.py input=photos/ (see --help)."""

from __future__ import annotations

import hydra
from omegaconf import DictConfig

from deploy.settings import PredictionSettings
from engine.entry_point import keep_user_errors, run_main
from engine.settings import fields, paths


@hydra.main(version_base="1.3", config_path="conf", config_name="predict")
@keep_user_errors
def main(config: DictConfig) -> None:
    from deploy.prediction import predict

    predict(config)


if __name__ == "__main__":
    run_main(
        main,
        [name for name, _ in fields(PredictionSettings)],
        after_interruption="starts again; what is written stays",
        paths=paths(PredictionSettings),
    )
