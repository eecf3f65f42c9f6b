"""Make or check data: python prepare.py task=synthetic_faces layout=lapa count=2000 out=... (see --help)."""

from __future__ import annotations

import hydra
from omegaconf import DictConfig, OmegaConf

from engine.entry_point import answers, enter
from engine.settings import CONF, flatten


@hydra.main(version_base="1.3", config_path="conf", config_name="prepare")
@answers
def main(config: DictConfig) -> None:
    from curation.preparation import prepare

    prepare(config)


if __name__ == "__main__":
    settings = OmegaConf.to_container(OmegaConf.load(CONF / "prepare.yaml"), resolve=False)
    enter(main, flatten(settings))  # type: ignore[arg-type]
