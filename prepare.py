"""Make or check data: python prepare.py task=synthetic_faces layout=lapa count=2000 out=... (see --help)."""

from __future__ import annotations

import hydra
from omegaconf import DictConfig, OmegaConf

from engine.entry_point import keep_user_errors, run_main
from engine.settings import CONF, flatten

PATHS = ("out", "source", "templates", "landmark_model", "finder_model", "root", "a", "b")
"""Settings of conf/prepare.yaml that are paths."""


@hydra.main(version_base="1.3", config_path="conf", config_name="prepare")
@keep_user_errors
def main(config: DictConfig) -> None:
    from curation.preparation import prepare

    prepare(config)


if __name__ == "__main__":
    settings = OmegaConf.to_container(OmegaConf.load(CONF / "prepare.yaml"), resolve=False)
    run_main(main, flatten(settings), paths=PATHS)  # type: ignore[arg-type]
