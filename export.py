"""A trained network as one file for other runtimes: python export.py checkpoint=segment-0123456789ab (see --help)."""

from __future__ import annotations

import hydra
from omegaconf import DictConfig

from deploy.settings import ExportSettings
from engine.entry_point import answers, enter
from engine.settings import fields


@hydra.main(version_base="1.3", config_path="conf", config_name="export")
@answers
def main(config: DictConfig) -> None:
    from deploy.export import export

    export(config)


if __name__ == "__main__":
    enter(main, [name for name, _ in fields(ExportSettings)], again="begins again")
