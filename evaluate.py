"""Score a trained parser on any data set: python evaluate.py checkpoint=... dataset=lapa root=... (see --help)."""

from __future__ import annotations

from typing import Any

import hydra
from omegaconf import DictConfig

from engine.entry_point import keep_user_errors, run_main
from engine.settings import fields, paths
from stages.evaluation import EvaluationSettings


@hydra.main(version_base="1.3", config_path="conf", config_name="evaluate")
@keep_user_errors
def main(config: DictConfig) -> list[dict[str, Any]]:
    from stages.evaluation import evaluate

    return evaluate(config)


if __name__ == "__main__":
    run_main(main, [name for name, _ in fields(EvaluationSettings)], paths=paths(EvaluationSettings))
